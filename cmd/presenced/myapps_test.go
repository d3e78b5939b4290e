package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/websocket"

	"presenced/identity/browseridtest"
)

// TestDeveloperRegistersAndConnects: the whole walk of a developer, through HTTP, against a site of hers on loopback:
// she registers, proves, a user allows, her app connects over both channels with what the page gave her.
func TestDeveloperRegistersAndConnects(t *testing.T) {
	var proof atomic.Value
	proof.Store("")
	theirs := browseridtest.Start("localhost")
	defer theirs.Close()
	theirs.Handle("localhost", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/__presence" {
			fmt.Fprintln(w, proof.Load())
		}
	})
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, theirs.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(t)
	cfg.Identity.BrowserID.AllowPrivate, cfg.Identity.BrowserID.CAFile = true, ca
	g := startTest(t, cfg)
	dev := newBrowser(t, g)
	dev.post("/login", "email", "dev@example.org", "assertion", "dev")
	_, port, _ := strings.Cut(theirs.Addr(), ":")
	page := dev.post("/myapps", "name", "Chat", "domain", "localhost:"+port, "component", "chat.localhost", "redirects", "http://127.0.0.1/granted")
	secrets := regexp.MustCompile(`<dd><code>([A-Z0-9]{40,})</code>`).FindAllStringSubmatch(page, -1)
	token := regexp.MustCompile(`<pre tabindex="0"><code>([A-Z0-9]+)</code>`).FindStringSubmatch(page)
	if len(secrets) != 2 || token == nil {
		t.Fatalf("the page has %q and %q\n%s", secrets, token, page)
	}
	app := credentials{AppID: "chat", Component: "chat.localhost", Secret: secrets[0][1], APIKey: secrets[1][1]}
	proof.Store(token[1])
	if page = dev.post("/validate_app", "app", "chat"); !strings.Contains(page, "It is proven") {
		t.Fatalf("not proven:\n%s", page)
	}
	ann := newBrowser(t, g)
	ann.post("/login", "email", "ann@example.org", "assertion", "dev")
	ann.post("/grant/chat", "allow", "yes")
	phone := dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", "phone", "dev")
	socket := dialAppSocket(t, g, app.AppID, app.APIKey)
	online := socket.wantStatus("online")
	comp := dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)
	comp.until("<presence from='" + online.UID + "@localhost/" + online.Device + "'")
	socket.say(`{"action":"notify","uid":%q,"message":"Good to see you"}`, online.UID)
	socket.want("OK", func(f appFrame) bool { return f.Result == "OK" })
	phone.next("Good to see you")
	socket.say(`{"action":"notify","uid":"nobody","message":"m"}`)
	socket.want("60", func(f appFrame) bool { return f.Errno == 60 })
	fmt.Fprint(comp, "<message from='bot@chat.localhost' to='nobody@localhost' id='m'><body>m</body></message>")
	comp.until("</message>")
	page = dev.get("/myapps/chat")
	for _, want := range []string{"XMPP from", "WebSocket from", "errno 60", "service-unavailable", g.addrs()["xmpp"][len("127.0.0.1:"):], "/myapps/chat"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

// webBrowser follows redirects and keeps cookies.
type webBrowser struct {
	t    *testing.T
	base string
	http.Client
}

func newBrowser(t *testing.T, g *gateway) *webBrowser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &webBrowser{t, "http://" + g.addrs()["http"], http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}}
}

func (b *webBrowser) get(path string) string {
	b.t.Helper()
	resp, err := b.Client.Get(b.base + path)
	return b.body(resp, err)
}

func (b *webBrowser) post(path string, fields ...string) string {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	resp, err := b.PostForm(b.base+path, form)
	return b.body(resp, err)
}

func (b *webBrowser) body(resp *http.Response, err error) string {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.t.Fatalf("%s %s: %s, %v\n%s", resp.Request.Method, resp.Request.URL, resp.Status, err, text)
	}
	return string(text)
}
