package web

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/presence/errno"
)

func (s *Site) loginRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /login", s.postLogin)
	mux.HandleFunc("POST /logout", s.postLogout)
	mux.HandleFunc("GET /login/oidc/{name}", s.startOIDC)
	mux.HandleFunc("GET /login/oidc/{name}/callback", s.endOIDC)
	mux.HandleFunc("POST "+deviceLoginPath, s.postDevice)
}

// home is where somebody gets who has just signed in and did not want anything else.
const home = dashboardPath

// errDeviceToken: who has the token of one device must not get at all that the person may do.
var errDeviceToken = &Error{Status: http.StatusUnauthorized, Errno: errno.Invalid,
	Text: "This token is for one device only. To sign in here you need one for yourself."}

// loginForm is what the sign-in form shows.
type loginForm struct {
	Next    string // local path to show afterwards
	Email   string // as typed before
	Error   string // why it was refused before
	Dev     bool
	Issuers []link // a button each
}

// newLoginForm makes one that leads to next, if that is a path of ours.
func (s *Site) newLoginForm(next string) loginForm {
	f := loginForm{Dev: s.cfg.Dev}
	if next != "" {
		f.Next = localPath(next)
	}
	for _, o := range s.cfg.OIDC {
		f.Issuers = append(f.Issuers, link{Path: issuerPath(o.Name(), f.Next), Text: o.Name()})
	}
	return f
}

// credentials are what somebody signs in with.
type credentials struct {
	Email     string `json:"email"`
	Assertion string `json:"assertion"`
	Device    string `json:"device"` // of /login/device
	Next      string `json:"-"`
}

func readCredentials(r *http.Request) (c credentials, err error) {
	if sendsJSON(r) {
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			return c, formError(err)
		}
	} else {
		if err := readForm(r); err != nil {
			return c, err
		}
		c = credentials{r.PostForm.Get("email"), r.PostForm.Get("assertion"), r.PostForm.Get("device"), r.PostForm.Get("next")}
	}
	c.Email, c.Assertion = strings.TrimSpace(c.Email), strings.TrimSpace(c.Assertion)
	return c, nil
}

// verify asks who it is, unless too many from that address could not say.
func (s *Site) verify(r *http.Request, c credentials) (identity.Identity, error) {
	if c.Assertion == "" {
		return identity.Identity{}, &Error{Status: http.StatusBadRequest, Errno: errno.MissingField, Text: "A token is needed to sign in."}
	}
	if c.Email != "" {
		email, err := presence.NormalEmail(c.Email)
		if err != nil {
			return identity.Identity{}, bad("That is not an e-mail address.")
		}
		c.Email = email
	}
	v, retry := s.cfg.Attempts.Ask(s.clientAddr(r), s.cfg.Verifier)
	id, err := v.Verify(r.Context(), c.Email, c.Assertion)
	if err != nil && retry > 0 {
		return identity.Identity{}, errTooManyTries(retry)
	}
	return s.judge(r, id, err)
}

// judge counts a verification that failed against the address it comes from.
func (s *Site) judge(r *http.Request, id identity.Identity, err error) (identity.Identity, error) {
	if err == nil {
		id.Email, err = presence.NormalEmail(id.Email)
		return id, err
	}
	s.cfg.Attempts.Refused(s.clientAddr(r), err)
	return identity.Identity{}, err
}

// errTooManyTries is for an address above the limit of failures.
func errTooManyTries(retry time.Duration) error {
	return &Error{Status: http.StatusTooManyRequests, Errno: errno.SlowDown, Retry: max(retry, time.Second),
		Text: "Too many tries from your network have failed. Please wait a moment."}
}

func (s *Site) postLogin(w http.ResponseWriter, r *http.Request) {
	c, err := readCredentials(r)
	var id identity.Identity
	if err == nil {
		id, err = s.verify(r, c)
	}
	if err == nil {
		err = s.signIn(r.Context(), id)
	}
	switch {
	case err != nil:
		s.refuseLogin(w, r, c, err)
	case wantsJSON(r):
		s.reply(w, struct {
			Email string `json:"email"`
		}{id.Email})
	case c.Next == "":
		s.see(w, r, home)
	default:
		s.see(w, r, c.Next)
	}
}

// refuseLogin shows the form again and says why.
func (s *Site) refuseLogin(w http.ResponseWriter, r *http.Request, c credentials, err error) {
	e := asError(err)
	if wantsJSON(r) || e.Status >= http.StatusInternalServerError {
		s.fail(w, r, err)
		return
	}
	setRetry(w, e)
	form := s.newLoginForm(c.Next)
	form.Email, form.Error = c.Email, e.Text
	s.renderStatus(w, r, e.Status, "front", s.frontData("", form))
}

// postLogout ends this session. With the field everywhere it ends all sessions of its user, with devices
// also the connections of her devices, and revokes what they identify with.
func (s *Site) postLogout(w http.ResponseWriter, r *http.Request) {
	err := readForm(r)
	if err == nil && (r.PostForm.Has("everywhere") || r.PostForm.Has("devices")) {
		err = s.leaveEverywhere(r, r.PostForm.Has("devices"))
	}
	if err == nil {
		err = s.sessions.Destroy(r.Context())
	}
	switch {
	case err != nil:
		s.fail(w, r, err)
	case wantsJSON(r):
		s.reply(w, result{"OK"})
	default:
		s.see(w, r, "/")
	}
}

func (s *Site) leaveEverywhere(r *http.Request, devices bool) error {
	email, err := s.user(r)
	if err != nil {
		return err
	}
	if email == "" {
		return errSignedOut
	}
	// Sessions first: a page that is a device signs it in again by its session.
	if err := s.cfg.Store.EndSessions(email); err != nil {
		return storageError(err)
	}
	if !devices {
		return nil
	}
	return s.endDevices(email)
}

// endDevices revokes every token of the user and ends the connections of her devices.
func (s *Site) endDevices(email string) error {
	revoked, err := s.cfg.Store.RevokeTokens(email, "")
	for i := range revoked {
		s.cfg.Hub.EndCredential(email, identity.CredentialOf(revoked[i].Hash))
	}
	s.cfg.Hub.Kick(email, "")
	return storageError(err)
}
