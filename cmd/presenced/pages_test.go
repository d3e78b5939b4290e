package main

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"presenced/identity/oidctest"
)

// person is somebody at a browser, on the pages of a gateway.
type person struct {
	t      *testing.T
	origin string
	client *http.Client
}

func visit(t *testing.T, g *gateway) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	return &person{t, g.origin, &http.Client{Jar: jar, Transport: transport, Timeout: patience,
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			if r.URL.Hostname() != "127.0.0.1" {
				return http.ErrUseLastResponse // the app's own site, which is not there
			}
			return nil
		}}}
}

// get follows redirects, but not to an app's site.
func (p *person) get(path string) (*http.Response, string) {
	p.t.Helper()
	resp, err := p.client.Get(p.origin + path)
	return p.read(resp, err)
}

func (p *person) post(path string, form url.Values) (*http.Response, string) {
	p.t.Helper()
	resp, err := p.client.PostForm(p.origin+path, form)
	return p.read(resp, err)
}

func (p *person) read(resp *http.Response, err error) (*http.Response, string) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp, string(body)
}

// TestConsentOnThePages: she allows an app in her browser, its component sees her come, she revokes, it sees her go.
func TestConsentOnThePages(t *testing.T) {
	cfg := testConfig(t)
	g := startTest(t, cfg)
	var app credentials
	const landed = "https://chat.example.org/granted?lang=en"
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example.org", "--redirect", landed)
	chat := dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)
	ann := visit(t, g)

	door := "/grant/" + app.AppID + "?redirect=" + url.QueryEscape(landed)
	_, page := ann.get(door) // leads to the sign-in form
	next := regexp.MustCompile(`name="next" value="([^"]+)"`).FindStringSubmatch(page)
	if next == nil {
		t.Fatalf("no sign-in form:\n%s", page)
	}
	_, page = ann.post("/login", url.Values{"email": {"ann@example.org"}, "assertion": {"dev"}, "next": {door}})
	if !strings.Contains(page, "May <bdi>Chat</bdi> see when you are there?") {
		t.Fatalf("no doorhanger:\n%s", page)
	}
	resp, _ := ann.post("/grant/"+app.AppID, url.Values{"redirect": {landed}, "when": {"always"}, "notify": {"on"}, "allow": {"yes"}})
	to, err := resp.Location()
	if err != nil || resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to.String(), landed+"&Presence-UID=") {
		t.Fatalf("allowed: %s to %v, %v", resp.Status, to, err)
	}
	puid := to.Query().Get("Presence-UID")

	dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", "phone", "dev")
	who := regexp.QuoteMeta(puid+"@"+cfg.Domain) + `/[^>]*>`
	chat.until(`<presence[^>]*from=['"]` + who)
	resp, body := ann.post("/revoke/"+app.AppID, nil)
	if resp.StatusCode != http.StatusOK || strings.TrimSpace(body) != `{"result":"OK"}` {
		t.Errorf("revoke: %s %s", resp.Status, body)
	}
	gone := chat.until(`<presence[^>]*type=['"]unsubscribed['"][^>]*>`)
	if !strings.Contains(gone, "unavailable") {
		t.Errorf("before unsubscribed it hears %q", gone)
	}
}

// TestSignInOutlivesARestart: sessions are in the data file.
func TestSignInOutlivesARestart(t *testing.T) {
	cfg := testConfig(t)
	g := startTest(t, cfg)
	ann := visit(t, g)
	ann.post("/login", url.Values{"email": {"ann@example.org"}, "assertion": {"dev"}})
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg.HTTP.Listen = g.addrs()["http"]
	startTest(t, cfg)
	if resp, body := ann.get("/getApps"); resp.StatusCode != http.StatusOK {
		t.Errorf("after the restart: %s %s", resp.Status, body)
	}
	var got map[string]any
	onData(t, cfg, &got, "user", "show", "ann@example.org")
	onData(t, cfg, &got, "user", "remove", "ann@example.org")
	if resp, _ := ann.get("/getApps"); resp.Request.URL.Path == "/getApps" && resp.StatusCode == http.StatusOK {
		t.Error("a removed user is still signed in")
	}
}

// TestSignInAtAConfiguredIssuer, and the way back to where she wanted to go.
func TestSignInAtAConfiguredIssuer(t *testing.T) {
	issuer := oidctest.Start(oidctest.Options{ClientSecret: "s3cret"})
	t.Cleanup(issuer.Close)
	issuer.SignIn("ann@example.org")
	cfg := testConfig(t)
	cfg.Identity.OIDC = []OIDCConfig{{Name: "work", Issuer: issuer.URL, ClientID: oidctest.DefaultClient, ClientSecret: "s3cret",
		Algorithms: defaultAlgorithms()}}
	g := startTest(t, cfg)
	ann := visit(t, g)
	if _, page := ann.get("/"); !strings.Contains(page, "Sign in with work") {
		t.Errorf("no button:\n%s", page)
	}
	resp, body := ann.get("/login/oidc/work?next=" + url.QueryEscape("/getApps"))
	if resp.Request.URL.Path != "/getApps" || strings.TrimSpace(body) != `{"apps":[]}` {
		t.Errorf("ends at %s: %s", resp.Request.URL, body)
	}
}

// TestPagesAreServedWhileDraining, like everything else.
func TestPagesAreServedWhileDraining(t *testing.T) {
	cfg := testConfig(t)
	cfg.Shutdown.Drain = duration("1h")
	g := startTest(t, cfg)
	d := dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", "phone", "dev")
	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop() }()
	d.read() // reconnect
	if resp, _ := visit(t, g).get("/"); resp.StatusCode != http.StatusOK {
		t.Errorf("while draining: %s", resp.Status)
	}
	d.Close()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Stop does not return")
	}
}
