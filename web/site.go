package web

import (
	"bytes"
	"crypto/cipher"
	"embed"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"

	"presenced/identity"
	"presenced/presence"
)

//go:embed pages static
var files embed.FS

// Config is what a Site is made of. Origin, Hub, Store, Verifier, Attempts, Log and Now are needed.
type Config struct {
	Origin         string // public origin, such as https://presence.example.org, without a path
	Domain         string // the gateway's own XMPP domain
	Component      string // address for components; "": none without TLS
	Version        string
	Hub            *presence.Hub
	Store          Store
	Verifier       identity.Verifier
	Attempts       *identity.Attempts // who failed to sign in too often; shared with the other doors
	OIDC           []*identity.OIDC   // issuers that have a button in the sign-in form
	Admins         []string           // e-mails in lower case of those who may open /admin
	Dev            bool               // the assertion "dev" is good: only loopback may be the host, and the sign-in form says so
	Sidebar        string             // frame-ancestors of /sidebar; "": nobody may frame it
	TrustedProxies []netip.Prefix     // whose X-Forwarded-For counts
	Fetch          Fetcher            // looks at the sites of apps; nil: nobody can prove one
	PrivateSites   bool               // Fetch goes to private addresses too, and a site may have a port
	Log            *slog.Logger
	Now            func() time.Time
	SessionLife    time.Duration // of a sign-in; 0: two weeks
	DeviceLife     time.Duration // of a token from /login/device; 0: ninety days
}

// Store is what the pages need of the disk, beside what the hub keeps. Each part is with its user.
type Store interface {
	Sessions
	Tokens
	Grants
	Mine
	Accounts
	Everybody
}

const (
	sessionLife = 14 * 24 * time.Hour
	deviceLife  = 90 * 24 * time.Hour
	maxBody     = 64 << 10 // bytes of a form; see http.MaxBytesReader
)

// Site serves the pages. All its methods are safe for concurrent use.
type Site struct {
	cfg      Config // immutable, like all up to done
	host     string // of Origin, with its port
	mux      *http.ServeMux
	handler  http.Handler // mux behind protection and sessions
	pages    map[string]*template.Template
	static   map[string]asset
	nav      []link
	sessions *scs.SessionManager
	flows    cipher.AEAD // seals what a browser carries through a sign-in at an issuer
	streams  streams
	done     chan struct{} // closed by Close

	registering sync.Mutex // held while a developer's apps are counted and one is added
	checkers    checkers
	close       sync.Once
}

// link is an entry of the navigation of those who are signed in.
type link struct {
	Path, Text string
	Admin      bool // only for admins
}

// New reads templates and static files. Its errors are mistakes in those, or an Origin that is none.
func New(c Config) (*Site, error) {
	if c.SessionLife == 0 {
		c.SessionLife = sessionLife
	}
	if c.DeviceLife == 0 {
		c.DeviceLife = deviceLife
	}
	origin, err := url.Parse(c.Origin)
	if err != nil {
		return nil, err
	}
	s := &Site{cfg: c, host: origin.Host, mux: http.NewServeMux(), done: make(chan struct{})}
	if s.static, err = loadStatic(); err != nil {
		return nil, err
	}
	if s.pages, err = s.loadPages(); err != nil {
		return nil, err
	}
	s.sessions = s.newSessions()
	if s.flows, err = newSeal(); err != nil {
		return nil, err
	}
	s.routes()
	guard := http.NewCrossOriginProtection()
	if err := guard.AddTrustedOrigin(c.Origin); err != nil {
		return nil, err
	}
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, errCrossOrigin) }))
	s.handler = s.sessions.LoadAndSave(markSession(guard.Handler(http.HandlerFunc(s.dispatch))))
	return s, nil
}

// routes registers everything. Each part of the site has one function here.
func (s *Site) routes() {
	s.mux.HandleFunc("GET /static/{name}", s.getStatic)
	s.frontRoutes(s.mux)
	s.loginRoutes(s.mux)
	s.consentRoutes(s.mux)
	s.grantRoutes(s.mux)
	s.dashboardRoutes(s.mux)
	s.myappsRoutes(s.mux)
	s.apiRoutes(s.mux)
	s.adminRoutes(s.mux)
}

// Close ends the streams that are open; what is asked later is still answered. It may be called more than once.
func (s *Site) Close() { s.close.Do(func() { close(s.done) }) }

// Done is closed by Close: a handler that stays must end then.
func (s *Site) Done() <-chan struct{} { return s.done }

// ServeHTTP answers any request: with a page, with JSON, or with an error in the form that was asked for.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.protect(w.Header())
	if !s.ourHost(r.Host) {
		s.fail(w, r, errWrongHost)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, bodyLimit(r.URL.Path))
	if r.URL.Path != notesPath { // its callers are apps, which have no session
		readFirst(r)
	}
	if strings.HasPrefix(r.URL.Path, "/static/") {
		s.mux.ServeHTTP(w, r) // the same for everybody: no session
		return
	}
	w.Header().Set("Cache-Control", "no-store") // pages are personal
	s.handler.ServeHTTP(w, r)
}

// bodyLimit is how many bytes a body may have: one of many notifications has more than a form.
func bodyLimit(path string) int64 {
	if path == notesPath {
		return maxNotesBody
	}
	return maxBody
}

const notesPath = apiRoot + "/notifications"

// readFirst reads the body before anybody asks who sent it: else a request could be begun while its session is good,
// and be carried out when its body ends, long after she signed out everywhere.
func readFirst(r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	b, err := io.ReadAll(r.Body)
	r.Body = readBefore{bytes.NewReader(b), err, r.Body}
}

// readBefore is a body that was read, up to its end or to an error, which comes behind it.
type readBefore struct {
	*bytes.Reader
	err error // nil: the end
	io.Closer
}

func (b readBefore) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF && b.err != nil {
		err = b.err
	}
	return n, err
}

// WriteTo is not the Reader's, which knows nothing of the error.
func (b readBefore) WriteTo(w io.Writer) (int64, error) {
	n, err := b.Reader.WriteTo(w)
	if err == nil {
		err = b.err
	}
	return n, err
}

// dispatch is the mux, with what it refuses by itself in our form.
func (s *Site) dispatch(w http.ResponseWriter, r *http.Request) {
	h, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	refusal := refusal{header: http.Header{}}
	h.ServeHTTP(&refusal, r)
	if allow := refusal.header.Get("Allow"); allow != "" {
		w.Header().Set("Allow", allow)
		s.fail(w, r, errMethod)
		return
	}
	s.fail(w, r, errNotFound)
}

// refusal takes only the header of what the mux would have answered.
type refusal struct{ header http.Header }

func (r *refusal) Header() http.Header         { return r.header }
func (r *refusal) Write(b []byte) (int, error) { return len(b), nil }
func (r *refusal) WriteHeader(int)             {}

// ourHost tells whether a request meant us. Links are made from Origin only, so for most this does not matter; but
// under Dev, reaching loopback is all the authority there is, and another site's name that was pointed at
// loopback (DNS rebinding) must not lend it to that site's pages.
func (s *Site) ourHost(host string) bool {
	if !s.cfg.Dev || strings.EqualFold(host, s.host) {
		return true
	}
	u := url.URL{Host: host}
	if strings.EqualFold(u.Hostname(), "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr.IsLoopback()
}

// isAdmin tells who may see /admin.
func (s *Site) isAdmin(email string) bool { return email != "" && slices.Contains(s.cfg.Admins, email) }

// secure: cookies and headers of a site that is reached by https.
func (s *Site) secure() bool { return strings.HasPrefix(s.cfg.Origin, "https://") }

// socketURL is where devices connect: ws for an origin of http, wss for https.
func (s *Site) socketURL() string {
	return "ws" + strings.TrimPrefix(s.cfg.Origin, "http") + "/presence"
}
