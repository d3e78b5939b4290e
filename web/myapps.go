package web

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/presence/errno"
)

// Fetcher fetches what a stranger's domain shows; see [identity.Fetcher], which is safe to use for that.
type Fetcher interface {
	Get(ctx context.Context, rawURL string) (identity.Document, error)
}

// Bounds of what a developer may have.
const (
	maxOwnApps     = 20
	maxOwnRedirect = 16
	unprovenFor    = 24 * time.Hour  // how long a component domain is kept for an app whose site is not proven
	checkEvery     = 3 * time.Second // at least, between two looks at a developer's sites
	maxCheckers    = 4096            // developers who looked lately
	maxProofWords  = 1000            // of a proof file that are looked at
)

// ProofPath is where a site shows the tokens of its apps.
const ProofPath = "/__presence"

func (s *Site) myappsRoutes(mux *http.ServeMux) {
	s.nav = append(s.nav, link{Path: "/myapps", Text: "My apps"})
	mux.HandleFunc("GET /myapps", s.page("myapps", s.getMyApps))
	mux.HandleFunc("POST /myapps", s.signedIn(s.postMyApp))
	mux.HandleFunc("GET /myapps/{app}", s.page("myapp", s.getMyApp))
	mux.HandleFunc("POST /myapps/{app}", s.signedIn(s.postEdit))
	mux.HandleFunc("POST /myapps/{app}/rotate", s.signedIn(s.postRotate))
	mux.HandleFunc("POST /myapps/{app}/remove", s.act(s.postRemove))
	mux.HandleFunc("POST /validate_app", s.signedIn(s.postValidate))
	mux.HandleFunc("POST /activate_app", s.act(s.postActivate))
}

// checkers is who looked at her sites lately. Safe for concurrent use.
type checkers struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu: by e-mail
}

// may notes a look, or says how long to wait with it.
func (c *checkers) may(email string, now time.Time) (wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wait := c.last[email].Add(checkEvery).Sub(now); wait > 0 {
		return wait
	}
	if c.last == nil || len(c.last) >= maxCheckers {
		c.last = make(map[string]time.Time)
	}
	c.last[email] = now
	return 0
}

// appForm is what a developer fills in.
type appForm struct {
	Name, Site, Description, URL string
	Component                    string // "": the site's host
	Redirects                    string // one a line
	Conflict                     string
	Error                        string // why it was not taken
}

func readAppForm(f url.Values) appForm {
	one := func(name string) string { return strings.TrimSpace(f.Get(name)) }
	a := appForm{Name: one("name"), Site: strings.ToLower(one("domain")), Component: strings.ToLower(one("component")),
		Description: one("description"), URL: one("url"), Redirects: strings.Join(f["redirects"], "\n"), Conflict: one("conflict")}
	if a.Conflict == "" {
		a.Conflict = string(presence.Replace)
	}
	return a
}

// into lays the form over an app. Its errors are for the form.
func (f *appForm) into(s *Site, a *presence.App) error {
	a.Name, a.Description, a.URL, a.Conflict = f.Name, f.Description, f.URL, presence.Conflict(f.Conflict)
	a.Redirects = strings.Fields(f.Redirects)
	if len(a.Redirects) > maxOwnRedirect {
		return complaint(fmt.Sprintf("At most %d addresses to come back to.", maxOwnRedirect))
	}
	for _, r := range a.Redirects {
		if !s.isRedirectOf(r, a.Site) {
			return complaint(fmt.Sprintf("%s is not an https address at %s or beneath it.", r, a.Site))
		}
	}
	if a.URL != "" && !s.isRedirectOf(a.URL, a.Site) {
		return complaint(fmt.Sprintf("%s is not an https address at %s or beneath it.", a.URL, a.Site))
	}
	return nil
}

// isRedirectOf reports whether users may be sent to the address after they allowed an app of that site.
func (s *Site) isRedirectOf(address, site string) bool {
	if _, err := parseReturn(address); err != nil || len(address) > maxNext {
		return false
	}
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	host := strings.ToLower(u.Hostname())
	if u.Scheme == "https" {
		return isBeneath(host, hostOf(site))
	}
	addr, err := netip.ParseAddr(host)
	return s.cfg.Dev && u.Scheme == "http" && (host == "localhost" || err == nil && addr.IsLoopback())
}

// isBeneath reports whether domain is site or ends in it.
func isBeneath(domain, site string) bool {
	return domain == site || strings.HasSuffix(domain, "."+site)
}

// myApps is the data of pages/myapps.html.
type myApps struct {
	Apps []ownApp
	Form appForm
	Full bool // no more may be registered
	Most int
}

// ownApp is an app in the list.
type ownApp struct {
	ID, Name, Component string
	State               string // proven, on: see stateOf
	Connected           int
}

func stateOf(a *presence.App) string {
	switch {
	case a.Owner != "" && a.Verified.IsZero():
		return "not proven"
	case a.Disabled:
		return "off"
	}
	return "on"
}

// appsOf are the apps that a developer registered.
func (s *Site) appsOf(email string) (list []presence.App) {
	for _, a := range s.cfg.Hub.Apps() {
		if a.Owner == email {
			list = append(list, a)
		}
	}
	return list
}

func (s *Site) getMyApps(_ *http.Request, email string) (any, error) {
	return s.myApps(email, appForm{Conflict: string(presence.Replace)})
}

func (s *Site) myApps(email string, form appForm) (*myApps, error) {
	m := &myApps{Form: form, Most: maxOwnApps}
	for _, a := range s.appsOf(email) {
		stats, err := s.cfg.Hub.AppStats(a.ID)
		if err != nil && !errors.Is(err, presence.ErrNoApp) {
			return nil, err
		}
		m.Apps = append(m.Apps, ownApp{a.ID, plain(a.Name), a.Component, stateOf(&a), len(stats.Connections)})
	}
	m.Full = len(m.Apps) >= maxOwnApps
	return m, nil
}

// newCredentials is what a program gets that registers an app, or changes its secrets.
type newCredentials struct {
	AppID     string `json:"appid"`
	Name      string `json:"name"`
	Component string `json:"component"`
	Secret    string `json:"secret"`
	APIKey    string `json:"api_key"`
	Proof     string `json:"proof,omitempty"` // what is to be shown at the domain
}

// postMyApp registers an app. It is off until its domain is proven.
func (s *Site) postMyApp(w http.ResponseWriter, r *http.Request, email string) {
	if err := readForm(r); err != nil {
		s.fail(w, r, err)
		return
	}
	form := readAppForm(r.PostForm)
	a, err := s.register(email, &form)
	switch {
	case err == nil:
		s.showSecrets(w, r, &a)
	case isOurs(err) || wantsJSON(r):
		s.fail(w, r, err)
	default:
		form.Error = asError(err).Text
		page, failed := s.myApps(email, form)
		if failed != nil {
			s.fail(w, r, failed)
			return
		}
		s.renderStatus(w, r, http.StatusUnprocessableEntity, "myapps", page)
	}
}

// isOurs tells what a form cannot do better.
func isOurs(err error) bool { return asError(err).Status >= http.StatusInternalServerError }

func (s *Site) register(email string, form *appForm) (presence.App, error) {
	s.registering.Lock()
	defer s.registering.Unlock()
	component := first(form.Component, hostOf(form.Site))
	a := presence.App{Owner: email, Site: form.Site, Component: component, Disabled: true, Proof: rand.Text()}
	switch {
	case len(s.appsOf(email)) >= maxOwnApps:
		return a, bad(fmt.Sprintf("You have %d apps already. Remove one first.", maxOwnApps))
	case !s.isSite(form.Site):
		return a, bad("The domain must be a name such as chat.example.org.")
	case !isBeneath(component, hostOf(form.Site)):
		return a, bad("The component's domain must be " + hostOf(form.Site) + " or end in ." + hostOf(form.Site) + ".")
	case component == s.cfg.Domain:
		return a, bad("That is this gateway's own domain.")
	}
	if err := form.into(s, &a); err != nil {
		return a, bad(err.Error())
	}
	if err := s.freeComponent(a.Component); err != nil {
		return a, err
	}
	added, err := s.cfg.Hub.AddApp(a)
	if errors.Is(err, presence.ErrExists) {
		return a, &Error{Status: http.StatusConflict, Errno: errno.BadValue, Text: "Another app has the component domain " + a.Component + ".", Cause: err}
	}
	return added, err
}

// isSite reports whether a domain can be proven: it has a name that certificates are made for.
func (s *Site) isSite(site string) bool {
	if !s.cfg.PrivateSites {
		return strings.Contains(site, ".") && isHostName(site)
	}
	host, port, hasPort := strings.Cut(site, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	return isHostName(host) && (!hasPort || err == nil && n > 0)
}

// hostOf is a site without its port.
func hostOf(site string) string {
	host, _, _ := strings.Cut(site, ":")
	return host
}

// isHostName reports whether a certificate could be made for it: an IP address proves nothing about a domain.
func isHostName(domain string) bool {
	_, err := netip.ParseAddr(domain)
	u, bogus := url.Parse("https://" + domain + "/")
	return err != nil && bogus == nil && u.Hostname() == domain && !strings.HasPrefix(domain, ".") && !strings.HasSuffix(domain, ".")
}

// freeComponent removes an app that holds the domain and never proved that it may: nobody can keep the name of another.
func (s *Site) freeComponent(domain string) error {
	held, ok := s.cfg.Hub.AppByComponent(domain)
	if !ok || held.Owner == "" || !held.Verified.IsZero() || s.cfg.Now().Sub(held.Created) < unprovenFor {
		return nil
	}
	return s.cfg.Hub.RemoveApp(held.ID, presence.BySystem)
}

// showSecrets tells a new app's secrets, once: at the next look at its page, or in the answer to a program.
func (s *Site) showSecrets(w http.ResponseWriter, r *http.Request, a *presence.App) {
	if wantsJSON(r) {
		c := newCredentials{a.ID, a.Name, a.Component, a.Secret, a.APIKey, ""}
		if a.Verified.IsZero() {
			c.Proof = a.Proof
		}
		s.reply(w, c)
		return
	}
	s.sessions.Put(r.Context(), shownOnce(a.ID), a.Secret+" "+a.APIKey)
	s.see(w, r, pathOf(a.ID))
}

func shownOnce(app string) string { return "secrets of " + app }
func pathOf(app string) string    { return "/myapps/" + url.PathEscape(app) }

// ownApp is the app that a request is about, if it is the developer's, or she is an admin. Else there is none.
func (s *Site) ownApp(id, email string) (presence.App, error) {
	a, ok := s.cfg.Hub.App(id)
	if !ok || a.Owner != email && !s.isAdmin(email) {
		return presence.App{}, presence.ErrNoApp
	}
	return a, nil
}

// editApp changes an app of the developer's.
func (s *Site) editApp(id, email string, edit func(*presence.App) error) (presence.App, error) {
	if _, err := s.ownApp(id, email); err != nil {
		return presence.App{}, err
	}
	return s.cfg.Hub.EditApp(id, func(a *presence.App) error {
		if a.Owner != email && !s.isAdmin(email) {
			return presence.ErrNoApp
		}
		return edit(a)
	})
}

// postEdit changes what is not proven: name, texts, redirects, policy.
func (s *Site) postEdit(w http.ResponseWriter, r *http.Request, email string) {
	if err := readForm(r); err != nil {
		s.fail(w, r, err)
		return
	}
	form, id := readAppForm(r.PostForm), r.PathValue("app")
	_, err := s.editApp(id, email, func(a *presence.App) error {
		if a.Owner == "" {
			return bad("The administrator of this gateway keeps this app.")
		}
		if err := form.into(s, a); err != nil {
			return bad(err.Error())
		}
		return nil
	})
	switch {
	case err == nil && wantsJSON(r):
		s.reply(w, result{"OK"})
	case err == nil:
		s.see(w, r, pathOf(id))
	case errors.Is(err, presence.ErrNoApp) || isOurs(err) || wantsJSON(r):
		s.fail(w, r, err)
	default:
		form.Error = asError(err).Text
		s.showOwn(w, r, http.StatusUnprocessableEntity, email, &form, "")
	}
}

// overlaps are the choices of how long old secrets stay good.
var overlaps = []overlap{{"0s", "At once"}, {"1h", "After an hour"}, {"24h", "After a day"}, {"168h", "After a week"}}

type overlap struct{ Value, Text string }

func (s *Site) postRotate(w http.ResponseWriter, r *http.Request, email string) {
	if err := readForm(r); err != nil {
		s.fail(w, r, err)
		return
	}
	keep, err := time.ParseDuration(first(r.PostForm.Get("overlap"), "0s"))
	if err != nil || keep < 0 || keep > presence.MaxOverlap {
		s.fail(w, r, bad("The overlap must be a duration of 0s to 720h."))
		return
	}
	a, err := s.editApp(r.PathValue("app"), email, func(a *presence.App) error {
		a.Rotate(s.cfg.Now(), keep)
		return nil
	})
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.showSecrets(w, r, &a)
}

func first(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func (s *Site) postRemove(r *http.Request, email string) (string, error) {
	a, err := s.ownApp(r.PathValue("app"), email)
	if err != nil {
		return "", err
	}
	if r.PostForm.Get("sure") == "" && !wantsJSON(r) {
		return "", bad("Tick the box to say that you are sure: every grant of this app ends with it.")
	}
	return "/myapps", s.cfg.Hub.RemoveApp(a.ID, presence.ByApp)
}

// formApp is the app that a form names.
func formApp(r *http.Request) string { return first(r.PostForm.Get("app"), r.PostForm.Get("appid")) }

func (s *Site) postActivate(r *http.Request, email string) (string, error) {
	on, off := r.PostForm.Has("activate"), r.PostForm.Has("deactivate")
	if on == off {
		return "", bad("Either activate or deactivate is needed.")
	}
	a, err := s.editApp(formApp(r), email, func(a *presence.App) error {
		return s.setActive(a, on, email)
	})
	return pathOf(a.ID), err
}

// setActive switches an app on or off for its owner, or for an admin.
func (s *Site) setActive(a *presence.App, on bool, email string) error {
	if on && a.Owner != "" && a.Verified.IsZero() {
		return &Error{Status: http.StatusForbidden, Errno: errno.BadValue, Kind: "not-proven", Text: "Prove first that " + a.Site + " is yours."}
	}
	if on && a.Held && !s.isAdmin(email) {
		return &Error{Status: http.StatusForbidden, Errno: errno.BadValue, Kind: "held", Text: "The administrator of this gateway switched this app off."}
	}
	a.Disabled, a.Held = !on, a.Held && !on
	return nil
}

// postValidate looks whether the site shows the app's token. The first time that it does, the app is switched on.
func (s *Site) postValidate(w http.ResponseWriter, r *http.Request, email string) {
	if err := readForm(r); err != nil {
		s.fail(w, r, err)
		return
	}
	id := formApp(r)
	a, err := s.ownApp(id, email)
	if err == nil {
		err = s.validate(r.Context(), &a, email)
	}
	var unproven *Error
	switch {
	case err == nil && wantsJSON(r):
		s.reply(w, result{"OK"})
	case err == nil:
		s.see(w, r, pathOf(id))
	case errors.As(err, &unproven) && unproven.Status == http.StatusUnprocessableEntity && !wantsJSON(r):
		r.SetPathValue("app", id)
		s.showOwn(w, r, unproven.Status, email, nil, unproven.Text)
	default:
		s.fail(w, r, err)
	}
}

func (s *Site) validate(ctx context.Context, a *presence.App, email string) error {
	if a.Owner == "" || s.cfg.Fetch == nil {
		return bad("This gateway does not look at the sites of apps.")
	}
	if wait := s.checkers.may(email, s.cfg.Now()); wait > 0 {
		return &Error{Status: http.StatusTooManyRequests, Errno: errno.SlowDown, Text: "Please wait a few seconds before the next look.", Retry: wait}
	}
	doc, err := s.cfg.Fetch.Get(ctx, "https://"+a.Site+ProofPath)
	if err != nil {
		return &Error{Status: http.StatusUnprocessableEntity, Errno: errno.BadValue, Text: whyNoProof(a.Site, err), Cause: err}
	}
	if !shows(doc.Body, a.Proof) {
		return &Error{Status: http.StatusUnprocessableEntity, Errno: errno.BadValue, Text: "https://" + a.Site + ProofPath + " is there, but this app's token is not in it."}
	}
	_, err = s.editApp(a.ID, email, func(now *presence.App) error {
		if now.Site != a.Site || now.Proof != a.Proof {
			return bad("The app was changed meanwhile.")
		}
		if now.Verified.IsZero() && !now.Held {
			now.Disabled = false
		}
		now.Verified = s.cfg.Now().UTC()
		return nil
	})
	return err
}

// whyNoProof says why a site could not be looked at, without what it answered.
func whyNoProof(site string, err error) string {
	var f *identity.FetchError
	address := "https://" + site + ProofPath
	if !errors.As(err, &f) {
		return address + " could not be fetched."
	}
	switch f.Reason {
	case identity.FetchStatus:
		return fmt.Sprintf("%s answered with status %d; it must be 200, and no redirect.", address, f.Status)
	case identity.FetchTooLarge:
		return address + " is too large."
	case identity.FetchRefused:
		return address + " is not fetched: only public addresses are looked at."
	}
	return address + " could not be reached over HTTPS with a certificate that is trusted."
}

// shows reports whether the token is one of the words of a file. It takes as long wherever the word is, and whatever the
// others are.
func shows(file []byte, token string) bool {
	found := 0
	words := strings.Fields(string(file))
	for _, word := range words[:min(len(words), maxProofWords)] {
		found |= subtle.ConstantTimeCompare([]byte(word), []byte(token))
	}
	return found == 1 && token != ""
}

// ownAppPage is the data of pages/myapp.html.
type ownAppPage struct {
	App       presence.App // without secrets
	State     string
	Proven    bool
	ProofURL  string
	Secret    string // shown once; "": not now
	APIKey    string
	OldUntil  string
	Stats     presence.AppStats
	Refused   []refusals
	Form      appForm
	Policies  []overlap
	Overlaps  []overlap
	GrantURL  string
	Snippets  []snippet
	Unproven  string // why the last look failed
	Component string // address for components
	Domain    string
}

type refusals struct {
	Reason string
	Count  uint64
}

func (s *Site) getMyApp(r *http.Request, email string) (any, error) {
	return s.ownPage(r, email, nil, "")
}

func (s *Site) showOwn(w http.ResponseWriter, r *http.Request, status int, email string, form *appForm, unproven string) {
	page, err := s.ownPage(r, email, form, unproven)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.renderStatus(w, r, status, "myapp", page)
}

func (s *Site) ownPage(r *http.Request, email string, form *appForm, unproven string) (*ownAppPage, error) {
	a, err := s.ownApp(r.PathValue("app"), email)
	if err != nil {
		return nil, err
	}
	p := &ownAppPage{State: stateOf(&a), Proven: !a.Verified.IsZero(), ProofURL: "https://" + a.Site + ProofPath,
		Overlaps: overlaps, Unproven: unproven, Component: s.cfg.Component, Domain: s.cfg.Domain,
		GrantURL: s.cfg.Origin + "/grant/" + url.PathEscape(a.ID),
		Policies: []overlap{{"replace", "The newer one replaces the older"}, {"reject", "The newer one is refused"}, {"share", "They share the users"}}}
	if p.Stats, err = s.cfg.Hub.AppStats(a.ID); err != nil {
		return nil, err
	}
	for reason, n := range p.Stats.Refused {
		p.Refused = append(p.Refused, refusals{reason, n})
	}
	slices.SortFunc(p.Refused, func(a, b refusals) int { return strings.Compare(a.Reason, b.Reason) })
	if once := s.sessions.PopString(r.Context(), shownOnce(a.ID)); once != "" {
		p.Secret, p.APIKey, _ = strings.Cut(once, " ")
	}
	if s.cfg.Now().Before(a.OldSecretUntil) {
		p.OldUntil = a.OldSecretUntil.UTC().Format(time.RFC3339)
	}
	if form == nil {
		form = &appForm{Name: a.Name, Description: a.Description, URL: a.URL, Conflict: string(a.Conflict), Redirects: strings.Join(a.Redirects, "\n")}
	}
	p.Form = *form
	p.Snippets = s.snippets(&a, p.Secret, p.APIKey)
	a.Secret, a.APIKey, a.OldSecret, a.OldAPIKey = "", "", "", ""
	a.Name, a.Description = plain(a.Name), plain(a.Description)
	p.App = a
	return p, nil
}
