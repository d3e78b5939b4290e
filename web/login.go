package web

import (
	"encoding/json"
	"net/http"
	"strings"

	"presenced/identity"
	"presenced/presence"
)

func (s *Site) loginRoutes(mux *http.ServeMux) {
	mux.HandleFunc("POST /login", s.postLogin)
	mux.HandleFunc("POST /logout", s.postLogout)
}

// loginForm is what the sign-in form shows.
type loginForm struct {
	Next  string // local path to show afterwards
	Email string // as typed before
	Error string // why it was refused before
	Dev   bool
}

func (s *Site) newLoginForm(r *http.Request) loginForm {
	next := ""
	if n := r.URL.Query().Get("next"); n != "" {
		next = localPath(n)
	}
	return loginForm{Next: next, Dev: s.cfg.Dev}
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

// verify asks who it is.
func (s *Site) verify(r *http.Request, c credentials) (identity.Identity, error) {
	if c.Assertion == "" {
		return identity.Identity{}, &Error{Status: http.StatusBadRequest, Errno: 12, Text: "A token is needed to sign in."}
	}
	if c.Email != "" {
		email, err := presence.NormalEmail(c.Email)
		if err != nil {
			return identity.Identity{}, bad("That is not an e-mail address.")
		}
		c.Email = email
	}
	id, err := s.cfg.Verifier.Verify(r.Context(), c.Email, c.Assertion)
	if err != nil {
		return identity.Identity{}, err
	}
	id.Email, err = presence.NormalEmail(id.Email)
	return id, err
}

func (s *Site) postLogin(w http.ResponseWriter, r *http.Request) {
	c, err := readCredentials(r)
	var id identity.Identity
	if err == nil {
		id, err = s.verify(r, c)
	}
	if err == nil && id.Device != "" {
		err = errDeviceToken
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

// home is where somebody gets who has just signed in and did not want anything else.
const home = "/"

// errDeviceToken: who has the token of one device must not get at all that the person may do.
var errDeviceToken = &Error{Status: http.StatusUnauthorized, Errno: 34,
	Text: "This token is for one device only. To sign in here you need one for yourself."}

// refuseLogin shows the form again and says why.
func (s *Site) refuseLogin(w http.ResponseWriter, r *http.Request, c credentials, err error) {
	e := asError(err)
	if wantsJSON(r) || e.Status >= http.StatusInternalServerError {
		s.fail(w, r, err)
		return
	}
	form := loginForm{Email: c.Email, Error: e.Text, Dev: s.cfg.Dev}
	if c.Next != "" {
		form.Next = localPath(c.Next)
	}
	s.renderStatus(w, r, e.Status, "front", s.frontData("", form))
}

func (s *Site) postLogout(w http.ResponseWriter, r *http.Request) {
	if err := s.sessions.Destroy(r.Context()); err != nil {
		s.fail(w, r, err)
		return
	}
	if wantsJSON(r) {
		s.reply(w, result{"OK"})
		return
	}
	s.see(w, r, "/")
}
