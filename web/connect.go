package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"presenced/presence"
	"presenced/web/account"
)

const (
	connectPath = "/dashboard/connect"
	forEver     = "ever" // or until it is revoked
)

// connectRoutes are the page on which a person makes a token, for a device or for a program.
func (s *Site) connectRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+connectPath, s.page("connect", s.getConnect))
	mux.HandleFunc("POST "+connectPath, s.signedIn(s.postConnect))
}

// scopeChoice is what a program may be allowed, in words.
type scopeChoice struct{ Scope, Text string }

// scopeChoices are all scopes, in the order of the page.
var scopeChoices = []scopeChoice{
	{account.DevicesRead, "See my devices"},
	{account.DevicesWrite, "Rename, sign out and remove my devices, hide me"},
	{account.GrantsRead, "See which apps may see me"},
	{account.GrantsWrite, "Let apps see me, pause and revoke that"},
	{account.RequestsRead, "See which apps ask"},
	{account.RequestsWrite, "Answer them"},
	{account.TokensRead, "See which tokens there are"},
	{account.TokensWrite, "Make tokens like itself, and take any back"},
	{account.AuditRead, "See what happened"},
	{account.AppsRead, "See the apps that I develop"},
	{account.AppsWrite, "Register, change and remove such apps, make new secrets for them"},
}

// lives are the choices of how long a token is good.
var lives = []overlap{{"720h", "A month"}, {"8760h", "A year"}, {forEver, "Until I take it back"}}

const connectHint = "A device is 1 to 64 characters of A-Z a-z 0-9 . _ -"

// connectForm is what was typed.
type connectForm struct {
	For    string // device or program
	Device string
	Name   string
	Scopes []string
	Life   string
	Error  string
}

// Has reports whether a scope was ticked.
func (f *connectForm) Has(scope string) bool { return slices.Contains(f.Scopes, scope) }

// connectPage is the data of pages/connect.html.
type connectPage struct {
	Form   connectForm
	Scopes []scopeChoice
	Lives  []overlap
	Made   *madeView // shown once
	API    string    // where programs go
}

// madeView is a token that was just made.
type madeView struct {
	account.MadeToken
	Until string // "": for ever
	Hello string // the first frame of a device; "": it is for programs
}

func (s *Site) getConnect(*http.Request, string) (any, error) {
	return s.connectPage(connectForm{Life: lives[1].Value}), nil
}

func (s *Site) connectPage(form connectForm) *connectPage {
	return &connectPage{Form: form, Scopes: scopeChoices, Lives: lives, API: s.cfg.Origin + apiRoot}
}

// helloOf is what a device with this token says first.
func helloOf(m *account.MadeToken) string {
	if len(m.Scopes) > 0 {
		return ""
	}
	frame := struct {
		Type      string `json:"type"`
		Email     string `json:"email"`
		Device    string `json:"device"`
		Assertion string `json:"assertion"`
		Status    string `json:"status"`
	}{"hello", m.Email, m.Device, m.Secret, "online"}
	text, err := json.Marshal(frame)
	if err != nil {
		return "" // strings always marshal
	}
	return string(text)
}

func (s *Site) postConnect(w http.ResponseWriter, r *http.Request, email string) {
	if err := readForm(r); err != nil {
		s.fail(w, r, err)
		return
	}
	form := connectForm{For: r.PostForm.Get("for"), Device: strings.TrimSpace(r.PostForm.Get("device")),
		Name: strings.TrimSpace(plain(r.PostForm.Get("name"))), Scopes: compact(r.PostForm["scope"]), Life: r.PostForm.Get("life")}
	made, err := s.connect(r, email, &form)
	switch {
	case err == nil && wantsJSON(r):
		s.reply(w, made)
	case err == nil:
		s.showMade(w, r, email, made)
	case isOurs(err), errors.Is(err, errSignedOut), wantsJSON(r):
		s.fail(w, r, err)
	default:
		form.Error = asError(err).Text
		s.renderStatus(w, r, http.StatusUnprocessableEntity, "connect", s.connectPage(form))
	}
}

// showMade shows a token in the answer to the form itself: to lead elsewhere and show it there, it would have to be kept.
func (s *Site) showMade(w http.ResponseWriter, r *http.Request, email string, m account.MadeToken) {
	p := s.connectPage(connectForm{Life: lives[1].Value})
	p.Made = &madeView{MadeToken: m, Hello: helloOf(&m)}
	if m.Expires != nil {
		b, err := s.newBoard(r, email)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		p.Made.Until = b.at(*m.Expires)
	}
	s.render(w, r, "connect", p)
}

// connect makes the token that a form asks for.
func (s *Site) connect(r *http.Request, email string, f *connectForm) (m account.MadeToken, err error) {
	n, err := f.token(s.cfg.Now())
	if err == nil {
		err = s.limitToken(r, &n)
	}
	if err != nil {
		return m, err
	}
	return s.makeToken(email, n, func() bool { return s.holds(r, email) }, errSignedOut)
}

// token is what the form asks for.
func (f *connectForm) token(now time.Time) (n account.NewToken, err error) {
	if !slices.ContainsFunc(lives, func(l overlap) bool { return l.Value == f.Life }) {
		return n, bad("Please say how long the token is to be good.")
	}
	if f.Life != forEver {
		d, err := time.ParseDuration(f.Life)
		if err != nil {
			return n, err
		}
		n.Expires = now.Add(d)
	}
	switch {
	case f.For == "device" && presence.CheckDevice(f.Device) != nil:
		return n, bad(connectHint)
	case f.For == "device":
		n.Device = f.Device
	case f.For != "program":
		return n, bad("Please say whether it is for a device or for a program.")
	case f.Name == "" || utf8.RuneCountInString(f.Name) > maxDeviceName:
		return n, bad("Please give the program a name, of 64 characters at most.")
	case len(f.Scopes) == 0:
		return n, bad("Please choose what the program may do.")
	default:
		n.Name, n.Scopes = f.Name, f.Scopes
	}
	return n, nil
}

// limitToken keeps a token from living longer than the one that its maker signed in with, if that one expires.
func (s *Site) limitToken(r *http.Request, n *account.NewToken) error {
	limit, err := s.tokenLimit(r)
	if err == nil && !limit.IsZero() && (n.Expires.IsZero() || n.Expires.After(limit)) {
		n.Expires = limit
	}
	return err
}

// makeToken makes a token for who holds what she came with, and takes it back with the error ended if that ended
// meanwhile: who signs out everywhere ends sessions first and revokes tokens then, and what came between is seen here.
func (s *Site) makeToken(email string, n account.NewToken, holds func() bool, ended error) (account.MadeToken, error) {
	m, err := s.desk().MakeToken(email, n)
	switch {
	case errors.Is(err, presence.ErrFull):
		return m, errTokens
	case err != nil || holds():
		return m, err
	}
	hash, _ := tokenHash(m.Hash)
	_, _, err = s.cfg.Store.RevokeToken(hash)
	return m, errors.Join(ended, storageError(err))
}
