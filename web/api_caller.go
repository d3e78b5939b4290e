package web

import (
	"context"
	"net/http"
	"strings"

	"presenced/identity"
	"presenced/presence"
	"presenced/presence/errno"
	"presenced/web/account"
)

// caller is who makes a request: a person or an app.
type caller struct {
	name   string // of the credential, for the limit
	email  string // of a person
	scopes []string
	token  *presence.Token // nil: a person by her session on the pages, or an app
	app    *presence.App
	voice  *presence.Caller
}

func (c *caller) kind() limitKind {
	if c.app != nil {
		return limitApp
	}
	return limitPerson
}

var (
	errNoToken  = &Error{Status: http.StatusUnauthorized, Errno: errno.NotIdentified, Text: "A token is needed: Authorization: Bearer TOKEN."}
	errBadToken = &Error{Status: http.StatusUnauthorized, Errno: errno.Invalid, Text: "This token is not known, or was revoked. Those for one device are not for this API."}
	errOldToken = &Error{Status: http.StatusUnauthorized, Errno: errno.Expired, Text: "This token has expired."}
)

// recognise finds out who calls. Where there is an Authorization header nothing else counts, so that a cookie never
// lends its rights to a request that came with a token.
func (a *api) recognise(r *http.Request) (*caller, error) {
	if h := r.Header.Get("Authorization"); h != "" {
		return a.bearer(r, h)
	}
	email, err := a.site.user(r)
	switch {
	case err != nil:
		return nil, err
	case email == "":
		return nil, errNoToken
	}
	c := &caller{name: email, email: email, scopes: account.Scopes()}
	return c, a.checkUser(email)
}

// bearer reads RFC 6750 §2.1. A secret that is wrong counts against the address that it came from.
func (a *api) bearer(r *http.Request, header string) (*caller, error) {
	scheme, secret, _ := strings.Cut(header, " ")
	secret = strings.TrimSpace(secret)
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return nil, errNoToken
	}
	addr := a.site.clientAddr(r)
	v, wait := a.site.cfg.Attempts.Ask(addr, a.site.cfg.Verifier)
	c, err := a.holder(r.Context(), v, secret)
	switch {
	case err != errBadToken && err != errOldToken:
		return c, err
	case wait > 0:
		return nil, &Error{Status: http.StatusTooManyRequests, Errno: errno.SlowDown, Text: "Too many wrong tokens from this address.", Retry: wait}
	}
	a.site.cfg.Attempts.Failed(addr)
	return nil, err
}

// holder is whose secret it is; v is asked where it is an assertion.
func (a *api) holder(ctx context.Context, v identity.Verifier, secret string) (*caller, error) {
	hash := identity.HashSecret(secret)
	name := identity.CredentialOf(hash)
	t, ok, err := a.site.cfg.Store.LookupAPIToken(hash)
	switch {
	case err != nil:
		return nil, storageError(err)
	case ok && t.Expired(a.site.cfg.Now()):
		return nil, errOldToken
	case ok:
		return &caller{name: name, email: t.Email, scopes: t.Scopes, token: &t}, a.checkUser(t.Email)
	}
	app, ok := a.site.cfg.Hub.AppByKey(secret)
	if !ok {
		return a.person(ctx, v, secret)
	}
	voice, err := a.site.cfg.Hub.Caller(app.ID)
	if err != nil {
		return nil, errBadToken // switched off meanwhile
	}
	return &caller{name: name, app: &app, voice: voice}, nil
}

// person is whose assertion it is: what signs her in to the pages may do here what she may do there. One for a single
// device may not.
func (a *api) person(ctx context.Context, v identity.Verifier, assertion string) (*caller, error) {
	id, err := v.Verify(ctx, "", assertion)
	if err != nil {
		switch identity.KindOf(err) {
		case identity.Expired:
			return nil, errOldToken
		case identity.Unavailable:
			return nil, storageError(err)
		}
		return nil, errBadToken
	}
	if id.Device != "" {
		return nil, errBadToken
	}
	if id.Email, err = presence.NormalEmail(id.Email); err != nil {
		return nil, errBadToken
	}
	t := presence.Token{Hash: identity.HashSecret(assertion), Email: id.Email, Scopes: account.Scopes(), Expires: id.Expires}
	return &caller{name: id.Credential, email: id.Email, scopes: t.Scopes, token: &t}, a.checkUser(id.Email)
}

// checkUser: who is disabled gets nowhere with what was made before.
func (a *api) checkUser(email string) error {
	u, _, err := a.site.cfg.Store.User(email)
	switch {
	case err != nil:
		return storageError(err)
	case u.Disabled:
		return errDisabled
	}
	return nil
}
