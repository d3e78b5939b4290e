package web

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"presenced/identity"
	"presenced/presence"
	"presenced/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// house is a site over a real store and a real hub, served on loopback.
type house struct {
	t     *testing.T
	site  *Site
	store *store.Store
	hub   *presence.Hub
	url   string
	now   *clock
}

// clock is the time of a test, which passes only when it says so.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// newHouse opens a site in dev mode; change may set it up otherwise.
func newHouse(t *testing.T, change ...func(*Config)) *house {
	t.Helper()
	h := &house{t: t, now: &clock{now: time.Now().Truncate(time.Second)}}
	var err error
	h.store, err = store.Open(filepath.Join(t.TempDir(), "presenced.db"),
		store.Options{Now: h.now.Now, Limits: presence.DefaultLimits(), Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	h.hub, err = presence.New(presence.Config{Store: h.store, Now: h.now.Now, Key: h.store.Key(), Limits: presence.DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	c := Config{
		Origin: "http://" + server.Listener.Addr().String(), Domain: "push.example.org", Component: "127.0.0.1:5347",
		Version: "v1", Hub: h.hub, Store: h.store, Dev: true, Log: slog.New(slog.DiscardHandler), Now: h.now.Now,
		Verifier: identity.Chain(identity.NewToken(h.store, h.now.Now), identity.Dev{}),
	}
	for _, f := range change {
		f(&c)
	}
	if h.site, err = New(c); err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = h.site
	server.Start()
	h.url = server.URL
	t.Cleanup(func() {
		h.site.Close()
		server.Close()
		h.hub.Close()
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// browser is somebody who looks at the site, with cookies; it does not follow redirects by itself.
type browser struct {
	h      *house
	client *http.Client
	header http.Header // sent with each request
}

func (h *house) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	return &browser{h: h, header: http.Header{}, client: &http.Client{Jar: jar, Transport: transport, Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// signedIn is a browser of somebody who has signed in.
func (h *house) signedIn(email string) *browser {
	h.t.Helper()
	b := h.browser()
	b.post("/login", "email", email, "assertion", "dev").want(http.StatusSeeOther)
	return b
}

// answer is what came back, read whole.
type answer struct {
	t *testing.T
	*http.Response
	body string
}

func (b *browser) do(method, path, kind, body string) *answer {
	b.h.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, b.h.url+path, strings.NewReader(body))
	if err != nil {
		b.h.t.Fatal(err)
	}
	for name, values := range b.header {
		req.Header[name] = values
	}
	if host := b.header.Get("Host"); host != "" {
		req.Host = host
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := b.client.Do(req)
	if err != nil {
		b.h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.h.t.Fatal(err)
	}
	return &answer{b.h.t, resp, string(text)}
}

func (b *browser) get(path string) *answer { b.h.t.Helper(); return b.do("GET", path, "", "") }

// post sends a form of names and values.
func (b *browser) post(path string, fields ...string) *answer {
	b.h.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return b.do("POST", path, "application/x-www-form-urlencoded", form.Encode())
}

func (b *browser) postJSON(path, body string) *answer {
	b.h.t.Helper()
	return b.do("POST", path, "application/json", body)
}

func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.StatusCode != status {
		a.t.Fatalf("%s %s: %s, want %d\n%s", a.Request.Method, a.Request.URL, a.Status, status, a.body)
	}
	return a
}

// wantTo checks where a redirect leads.
func (a *answer) wantTo(location string) *answer {
	a.t.Helper()
	a.want(http.StatusSeeOther)
	if got := a.Header.Get("Location"); got != location {
		a.t.Fatalf("%s %s leads to %q, want %q", a.Request.Method, a.Request.URL, got, location)
	}
	return a
}

func (a *answer) has(texts ...string) *answer {
	a.t.Helper()
	for _, text := range texts {
		if !strings.Contains(a.body, text) {
			a.t.Errorf("%s %s lacks %q:\n%s", a.Request.Method, a.Request.URL, text, a.body)
		}
	}
	return a
}

func (a *answer) hasNot(texts ...string) *answer {
	a.t.Helper()
	for _, text := range texts {
		if strings.Contains(a.body, text) {
			a.t.Errorf("%s %s has %q:\n%s", a.Request.Method, a.Request.URL, text, a.body)
		}
	}
	return a
}
