package identity

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

const (
	issuerTimeout = 5 * time.Second // for one request to an issuer
	issuerBytes   = 1 << 20         // of one answer
	issuerAge     = 24 * time.Hour  // how long its endpoints are believed
	issuerRetry   = 5 * time.Second // how long it is not asked again after it did not answer
)

// OIDCConfig is what an OIDC is made of. Name, Issuer and ClientID are needed.
type OIDCConfig struct {
	Name         string         // short, unique, fit for a URL's path
	Issuer       string         // https URL, or http on loopback
	ClientID     string         // also the audience
	ClientSecret string         // "": a public client
	Domains      []string       // of the e-mails it may confirm; none: any
	Algorithms   []string       // none: RS256, ES256, EdDSA
	Roots        *x509.CertPool // nil: the system's
	Now          func() time.Time
}

// OIDC is one OpenID Connect issuer: a Verifier of its ID tokens, and its side of the code flow. It talks to
// the issuer when first needed, never before, and again when that failed: an issuer that is away for a while
// keeps nothing from starting. Safe for concurrent use.
type OIDC struct {
	cfg    OIDCConfig    // immutable, as are the next two
	client *http.Client  // bounded in time and bytes; follows no redirect
	turn   chan struct{} // a mutex that can be waited for with a context: who has it talks to the issuer

	mu      sync.Mutex
	found   *provider // guarded by mu; immutable once set
	foundAt time.Time // guarded by mu
	failed  error     // guarded by mu: why the last discovery failed
	failAt  time.Time // guarded by mu
	keys    keyring   // guarded by mu
}

// provider is an issuer as its discovery document describes it.
type provider struct {
	*oidc.Provider
	jwks string
	auth oauth2.AuthStyle
}

// NewOIDC makes one; it does no I/O.
func NewOIDC(c OIDCConfig) *OIDC {
	if c.Now == nil {
		c.Now = time.Now
	}
	if len(c.Algorithms) == 0 {
		c.Algorithms = []string{oidc.RS256, oidc.ES256, oidc.EdDSA}
	}
	return &OIDC{cfg: c, turn: make(chan struct{}, 1), client: &http.Client{
		Timeout:       issuerTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: bounded{&http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    issuerTimeout,
			DisableKeepAlives:      true, // minutes pass between two requests
			MaxResponseHeaderBytes: outHeaders,
		}},
	}}
}

// bounded limits the bodies of answers to issuerBytes; a longer one is an error.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, issuerBytes)
	}
	return resp, err
}

// Name is the issuer's short name, as configured.
func (o *OIDC) Name() string { return o.cfg.Name }

// Issuer is the issuer's URL, as configured.
func (o *OIDC) Issuer() string { return o.cfg.Issuer }

// AuthURL is where a browser is sent to sign in: the code flow with PKCE (S256). state, nonce and pkceVerifier
// are the caller's random secrets, kept in the browser's session until [OIDC.Exchange]; pkceVerifier has 43 to
// 128 characters of the unreserved ones (oauth2.GenerateVerifier makes one). It asks the issuer for its
// endpoints when they are not known; Unavailable when it does not answer.
func (o *OIDC) AuthURL(ctx context.Context, state, nonce, pkceVerifier, redirectURL string) (string, error) {
	p, err := o.provider(ctx)
	if err != nil {
		return "", err
	}
	return o.flow(p, redirectURL).AuthCodeURL(state, oidc.Nonce(nonce), oauth2.S256ChallengeOption(pkceVerifier)), nil
}

// Exchange turns the code that the browser brought back into an identity. The caller has compared state
// already; nonce, pkceVerifier and redirectURL are those given to [OIDC.AuthURL]. Fails with an *[Error].
func (o *OIDC) Exchange(ctx context.Context, code, pkceVerifier, nonce, redirectURL string) (Identity, error) {
	p, err := o.provider(ctx)
	if err != nil {
		return Identity{}, err
	}
	tok, err := o.flow(p, redirectURL).Exchange(oidc.ClientContext(ctx, o.client), code, oauth2.VerifierOption(pkceVerifier))
	if err != nil {
		return Identity{}, exchangeError(err)
	}
	raw, _ := tok.Extra("id_token").(string)
	if raw == "" {
		return Identity{}, &Error{Kind: Invalid, Cause: errors.New("the issuer gave no ID token")}
	}
	t, err := o.verify(ctx, p, raw)
	switch {
	case err != nil:
		return Identity{}, err
	case nonce == "" || subtle.ConstantTimeCompare([]byte(t.nonce), []byte(nonce)) != 1:
		return Identity{}, &Error{Kind: Invalid, Cause: errors.New("the nonce is not the one that was sent")}
	case t.AccessTokenHash != "" && t.VerifyAccessToken(tok.AccessToken) != nil:
		return Identity{}, &Error{Kind: Invalid, Cause: errors.New("the access token is not the ID token's")}
	}
	if t.email == "" { // the issuer tells it only where it is asked. OIDC Core §5.4
		if err := o.askUser(ctx, p, t, tok); err != nil {
			return Identity{}, err
		}
	}
	return o.identity("", t, raw)
}

// exchangeError sorts what the token endpoint may answer, without what it said: a code or a secret may stand in that.
func exchangeError(err error) error {
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.Response.StatusCode < http.StatusInternalServerError {
		return &Error{Kind: Invalid, Cause: fmt.Errorf("the issuer refused the code: status %d, %q",
			refused.Response.StatusCode, refused.ErrorCode)}
	}
	if errors.As(err, &refused) {
		err = fmt.Errorf("the issuer's token endpoint: status %d", refused.Response.StatusCode)
	}
	return &Error{Kind: Unavailable, Cause: err}
}

// askUser takes the e-mail from the issuer's userinfo endpoint.
func (o *OIDC) askUser(ctx context.Context, p *provider, t *idToken, tok *oauth2.Token) error {
	if p.UserInfoEndpoint() == "" {
		return nil
	}
	info, err := p.UserInfo(oidc.ClientContext(ctx, o.client), oauth2.StaticTokenSource(tok))
	if err != nil {
		return &Error{Kind: Unavailable, Cause: errors.New("the issuer does not tell the e-mail")}
	}
	if info.Subject != t.Subject {
		return &Error{Kind: Invalid, Cause: errors.New("userinfo is about somebody else")}
	}
	t.email, t.emailVerified = info.Email, info.EmailVerified
	return nil
}

// flow is the code flow with this issuer.
func (o *OIDC) flow(p *provider, redirectURL string) *oauth2.Config {
	e := p.Endpoint()
	e.AuthStyle = p.auth
	return &oauth2.Config{ClientID: o.cfg.ClientID, ClientSecret: o.cfg.ClientSecret, Endpoint: e,
		RedirectURL: redirectURL, Scopes: []string{oidc.ScopeOpenID, "email"}}
}

// Verify accepts an ID token of this issuer for this client; one of another issuer is Unrecognised. Its
// session ends when the token expires.
func (o *OIDC) Verify(ctx context.Context, email, assertion string) (Identity, error) {
	if iss, ok := peekIssuer(assertion); !ok || iss != o.cfg.Issuer {
		return Identity{}, refuse(Unrecognised)
	}
	p, err := o.provider(ctx)
	if err != nil {
		return Identity{}, err
	}
	t, err := o.verify(ctx, p, assertion)
	if err != nil {
		return Identity{}, err
	}
	return o.identity(email, t, assertion)
}

// issuers routes an ID token to the one who issued it.
type issuers []*OIDC

// Issuers is a Verifier of the ID tokens of several issuers. An ID token of any other is refused with Issuer.
func Issuers(list ...*OIDC) Verifier { return issuers(slices.Clone(list)) }

func (v issuers) Verify(ctx context.Context, email, assertion string) (Identity, error) {
	iss, ok := peekIssuer(assertion)
	if !ok {
		return Identity{}, refuse(Unrecognised)
	}
	refused := error(&Error{Kind: Issuer, Cause: fmt.Errorf("an ID token of %.100q", iss)})
	for _, o := range v {
		if o.cfg.Issuer != iss {
			continue
		}
		id, err := o.Verify(ctx, email, assertion)
		if err == nil || KindOf(err) != Audience { // one issuer may be there twice, for two clients
			return id, err
		}
		refused = err
	}
	return Identity{}, refused
}

// provider returns the issuer's endpoints, discovered when they are not known or old. OIDC Discovery §4
func (o *OIDC) provider(ctx context.Context) (*provider, error) {
	if p, ok, err := o.known(); ok {
		return p, err
	}
	if err := o.take(ctx); err != nil {
		return nil, err
	}
	defer o.leave()
	if p, ok, err := o.known(); ok { // somebody was faster
		return p, err
	}
	p, err := o.discover(ctx)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil {
		o.found, o.foundAt, o.failed = p, o.cfg.Now(), nil
		return p, nil
	}
	if ctx.Err() == nil {
		o.failed, o.failAt = err, o.cfg.Now()
	}
	if o.found != nil { // what was right yesterday is better than nothing
		return o.found, nil
	}
	return nil, err
}

// known returns what is known of the issuer, if that is to be used: its endpoints, or that it failed just now.
func (o *OIDC) known() (p *provider, ok bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.cfg.Now()
	if o.found != nil && now.Sub(o.foundAt) < issuerAge {
		return o.found, true, nil
	}
	if o.failed != nil && now.Sub(o.failAt) < issuerRetry {
		if o.found != nil {
			return o.found, true, nil
		}
		return nil, true, o.failed
	}
	return nil, false, nil
}

// take waits for the turn to talk to the issuer; leave gives it back.
func (o *OIDC) take(ctx context.Context) error {
	select {
	case o.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &Error{Kind: Unavailable, Cause: ctx.Err()}
	}
}

func (o *OIDC) leave() { <-o.turn }

// discover asks for the discovery document.
func (o *OIDC) discover(ctx context.Context) (*provider, error) {
	found, err := oidc.NewProvider(oidc.ClientContext(ctx, o.client), o.cfg.Issuer)
	if err != nil {
		return nil, &Error{Kind: Unavailable, Cause: shortened(err)}
	}
	var doc struct {
		JWKS  string   `json:"jwks_uri"`
		Token string   `json:"token_endpoint"`
		Auth  string   `json:"authorization_endpoint"`
		Info  string   `json:"userinfo_endpoint"`
		Ways  []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := found.Claims(&doc); err != nil {
		return nil, &Error{Kind: Unavailable, Cause: err}
	}
	for _, u := range []string{doc.JWKS, doc.Token, doc.Auth, doc.Info} {
		if u != "" && CheckIssuer(u) != nil {
			return nil, &Error{Kind: Unavailable, Cause: errors.New("the issuer names an endpoint that is not https")}
		}
	}
	return &provider{Provider: found, jwks: doc.JWKS, auth: o.authStyle(doc.Ways)}, nil
}

// authStyle is how the client shows its secret: in the header unless the issuer wants it otherwise, never by
// trial, because a code is good for one try. OIDC Discovery §3, OIDC Core §9
func (o *OIDC) authStyle(ways []string) oauth2.AuthStyle {
	if o.cfg.ClientSecret == "" || len(ways) > 0 && !slices.Contains(ways, "client_secret_basic") {
		return oauth2.AuthStyleInParams
	}
	return oauth2.AuthStyleInHeader
}

// shortened bounds what an issuer can put into our log.
func shortened(err error) error {
	const most = 300
	if s := err.Error(); len(s) > most {
		return errors.New(s[:most] + "...")
	}
	return err
}

// CheckIssuer reports what is wrong with the URL of an issuer, or of one of its endpoints: it is https, or http
// on loopback, and has no user name. OIDC Discovery §2
func CheckIssuer(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.User != nil || u.Fragment != "":
		return fmt.Errorf("%q is not an https URL", s)
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q is not an https URL (http is for loopback only)", s)
}

func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.Unmap().IsLoopback()
}

// get fetches a document of the issuer.
func (o *OIDC) get(ctx context.Context, u string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, err
	}
	resp, err := o.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", resp.StatusCode)
	}
	return io.ReadAll(resp.Body)
}
