package web

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"presenced/presence"
	"presenced/presence/errno"
)

func (s *Site) grantRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /grant/{app}", s.signedIn(s.getGrant))
	mux.HandleFunc("POST /grant/{app}", s.signedIn(s.postGrant))
}

// errRedirect shows nothing of the address: it may be anybody's making.
var errRedirect = &Error{Status: http.StatusBadRequest, Errno: errno.BadValue,
	Text: "The app that sent you here wants you back at an address that is not registered for it. " +
		"Nothing was changed, and you were not sent there."}

// errAppOff: an app that is switched off can lose what it has, but get nothing new.
var errAppOff = &Error{Status: http.StatusForbidden, Errno: errno.NoApp, Text: "This app is switched off at the moment, so it cannot be allowed anything."}

// doorhanger is the data of pages/grant.html.
type doorhanger struct {
	App      appFacts
	Email    string
	Return   returnTo
	Action   string // where the form goes
	Exists   bool   // it may see her already
	Paused   bool
	ByEmail  bool // it knows her by her e-mail, because it asked with it
	Terms    terms
	Zones    []string
	Today    string
	Error    string // why the form was not taken
	Settled  string // "allowed" or "denied": what was just done, where no app waits for her
	FillZone bool   // the browser's zone is better than the one in the form
}

// appFacts are what a user has to know of an app.
type appFacts struct {
	ID, Name, Domain string
	Verified         bool   // the domain is proven to be its
	Vouched          bool   // the administrator set it up
	Purpose          string // in its own words
	Off              bool
}

func (s *Site) getGrant(w http.ResponseWriter, r *http.Request, email string) {
	d, _, err := s.openDoor(r, email, r.URL.Query()["redirect"])
	if err != nil {
		s.fail(w, r, err)
		return
	}
	d.Settled = r.URL.Query().Get("done")
	s.showDoor(w, r, http.StatusOK, d)
}

// showDoor renders the doorhanger. Its form may lead to the app's address, and to no other.
func (s *Site) showDoor(w http.ResponseWriter, r *http.Request, status int, d *doorhanger) {
	s.setPolicy(w.Header(), policy{formAction: d.Return.source()})
	s.renderStatus(w, r, status, "grant", d)
}

// openDoor gathers what is to be decided.
func (s *Site) openDoor(r *http.Request, email string, redirects []string) (*doorhanger, *presence.App, error) {
	app, ok := s.cfg.Hub.App(r.PathValue("app"))
	if !ok {
		return nil, nil, presence.ErrNoApp
	}
	to, err := chooseReturn(redirects, app.Redirects)
	if err != nil {
		return nil, nil, err
	}
	g, exists, err := s.cfg.Store.Grant(email, app.ID)
	if err != nil {
		return nil, nil, storageError(err)
	}
	now := s.cfg.Now()
	if exists = exists && !g.Ended(now); !exists {
		g = presence.Grant{Notify: true}
	}
	purpose, asked, err := s.purposeOf(&app, email)
	if err != nil {
		return nil, nil, err
	}
	d := &doorhanger{
		App: factsOf(&app, purpose), Email: email, Return: to, Exists: exists, Paused: g.Paused,
		ByEmail: g.Address == presence.ByEmail || !exists && asked, Terms: newTerms(g), Zones: someZones(),
		Today: now.UTC().Format(dateForm), FillZone: !exists,
	}
	d.Action = "/grant/" + url.PathEscape(app.ID)
	return d, &app, nil
}

// purposeOf is what the app says it wants: in its request if one waits, else at its registration.
func (s *Site) purposeOf(app *presence.App, email string) (purpose string, asked bool, err error) {
	rs, err := s.cfg.Hub.RequestsOf(email)
	if err != nil {
		return "", false, err
	}
	for _, r := range rs {
		if r.App == app.ID {
			return r.Purpose, true, nil
		}
	}
	return app.Description, false, nil
}

func factsOf(app *presence.App, purpose string) appFacts {
	f := appFacts{ID: app.ID, Name: plain(app.Name), Domain: app.Component, Purpose: plain(purpose), Off: app.Disabled,
		Vouched: app.Owner == ""}
	if app.Site != "" && !app.Verified.IsZero() {
		f.Domain, f.Verified = app.Site, true
	}
	return f
}

// plain leaves out what is not seen but changes what is: control characters, and those that turn the direction of
// text around.
func plain(text string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c):
			return ' '
		case unicode.In(c, unicode.C) && c != zeroWidthJoiner: // which makes one picture of several
			return -1
		}
		return c
	}, text)
}

const zeroWidthJoiner = '\u200d'

// postGrant carries out the answer: allow with the terms of the form, or disallow. A form that names no terms allows
// as it is, or with notifications at any time where there was nothing.
func (s *Site) postGrant(w http.ResponseWriter, r *http.Request, email string) {
	if err := readForm(r); err != nil {
		s.fail(w, r, err)
		return
	}
	d, app, err := s.openDoor(r, email, r.Form["redirect"])
	if err != nil {
		s.fail(w, r, err)
		return
	}
	allow, deny := r.PostForm.Has("allow"), r.PostForm.Has("disallow")
	switch {
	case allow == deny:
		err = bad("Either allow or disallow is needed.")
	case deny:
		err = s.deny(app, email)
	default:
		s.allow(w, r, d, app)
		return
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.leave(w, r, d, "denied", d.Return.URL)
}

// deny ends the grant, or answers the request, or does nothing where there is neither.
func (s *Site) deny(app *presence.App, email string) error {
	err := s.cfg.Hub.Answer(presence.Answer{Email: email, App: app.ID, Allow: false}, presence.ByUser)
	if errors.Is(err, presence.ErrStranger) {
		return nil
	}
	return err
}

// errTerms wraps what is wrong with a form; it is shown in it.
type errTerms struct{ error }

func (s *Site) allow(w http.ResponseWriter, r *http.Request, d *doorhanger, app *presence.App) {
	if app.Disabled {
		s.fail(w, r, errAppOff)
		return
	}
	typed := r.PostForm.Has("when")
	if typed {
		d.Terms, d.FillZone = readTerms(r.PostForm, d.Terms), false
	}
	g, err := s.cfg.Hub.Edit(d.Email, app.ID, presence.ByUser, func(g *presence.Grant, _ bool) error {
		if !typed {
			return nil
		}
		if err := d.Terms.lay(g, s.cfg.Now()); err != nil {
			return errTerms{err}
		}
		return nil
	})
	var wrong errTerms
	switch {
	case errors.As(err, &wrong):
		d.Error = wrong.Error()
		s.showDoor(w, r, http.StatusUnprocessableEntity, d)
	case err != nil:
		s.fail(w, r, err)
	case d.Return.URL == "":
		s.leave(w, r, d, "allowed", "")
	default:
		s.leave(w, r, d, "allowed", d.Return.withPUID(g.PUID))
	}
}

// leave sends the browser to the app, or where none waits to a page that says what was done.
func (s *Site) leave(w http.ResponseWriter, r *http.Request, d *doorhanger, what, to string) {
	if to == "" {
		s.see(w, r, d.Action+"?done="+what)
		return
	}
	if wantsJSON(r) {
		s.reply(w, struct {
			Result   string `json:"result"`
			Redirect string `json:"redirect"`
		}{"OK", to})
		return
	}
	w.Header().Set("Location", to) // not http.Redirect, which rewrites it
	w.WriteHeader(http.StatusSeeOther)
}
