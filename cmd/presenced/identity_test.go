package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"presenced/identity/browseridtest"
	"presenced/identity/oidctest"
)

// journal is a log that a test reads.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{} // closed when there is more, by wait's order; nil: nobody waits
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.more != nil {
		close(j.more)
		j.more = nil
	}
	return j.text.Write(p)
}

// wait returns when want was logged. One at a time.
func (j *journal) wait(t *testing.T, want string) {
	t.Helper()
	late := time.After(patience)
	for {
		j.mu.Lock()
		text, more := j.text.String(), make(chan struct{})
		j.more = more
		j.mu.Unlock()
		if strings.Contains(text, want) {
			return
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("%q was not logged:\n%s", want, text)
		}
	}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// TestIdentityFromTheFile: issuers that a file names are believed, through their own authorities; what they vouched
// for ends when they said.
func TestIdentityFromTheFile(t *testing.T) {
	issuer := oidctest.Start(oidctest.Options{TLS: true})
	defer issuer.Close()
	world := browseridtest.Start()
	defer world.Close()
	idp, user := browseridtest.NewKey("RS256"), browseridtest.NewKey("DS128")
	world.Publish("127.0.0.1", browseridtest.Support(idp))
	dir := t.TempDir()
	for name, text := range map[string][]byte{"oidc.pem": issuer.CertPEM(), "browserid.pem": world.CertPEM(), "p.toml": fmt.Appendf(nil, `
data = %q
[http]
listen = "127.0.0.1:0"
[xmpp]
listen = ""
[admin]
listen = ""
[[identity.oidc]]
name = "corp"
issuer = %q
client_id = "presenced"
domains = ["example.org"]
ca_file = %q
[identity.browserid]
enabled = true
trusted_issuers = [%q]
allow_private = true
ca_file = %q
`, filepath.Join(dir, "data"), issuer.URL, filepath.Join(dir, "oidc.pem"), world.Addr(), filepath.Join(dir, "browserid.pem"))} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, from, err := loadConfig(filepath.Join(dir, "p.toml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.Validate(from); err != nil {
		t.Fatal(err)
	}
	log := new(journal)
	g, err := startGateway(cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	if len(g.oidc) != 1 || g.oidc[0].Name() != "corp" {
		t.Errorf("issuers for the pages: %v", g.oidc)
	}

	url := "ws://" + g.addrs()["http"]
	bundle := func(audience string) string {
		return browseridtest.Bundle{Issuer: world.Addr(), IdP: idp, User: user, Email: "ann@example.org",
			Audience: audience, Now: time.Now(), For: 5 * time.Second}.String()
	}
	soon := issuer.Token(oidctest.Claims{"exp": time.Now().Add(5 * time.Second).Unix()})
	one := dialDevice(t, websocket.Dialer{}, url, "ann@example.org", "oidc", soon)
	two := dialDevice(t, websocket.Dialer{}, url, "ann@example.org", "browserid", bundle(g.origin))
	var refused []string
	for errno, assertion := range map[int]string{
		31: issuer.Token(oidctest.Claims{"exp": time.Now().Add(-2 * time.Minute).Unix()}),
		32: bundle("https://elsewhere.example"),
		33: issuer.Token(oidctest.Claims{"iss": "https://elsewhere.example"}),
		34: flipped(soon),
		35: issuer.Token(oidctest.Claims{"email_verified": false}),
	} {
		refused = append(refused, assertion)
		conn, _, err := websocket.DefaultDialer.Dial(url+"/presence", nil)
		if err != nil {
			t.Fatal(err)
		}
		d := &device{t, conn}
		d.send(map[string]any{"email": "ann@example.org", "assertion": assertion, "status": "online"})
		d.wantEnd(errno, 4534)
	}
	one.wantEnd(31, 4534)
	two.wantEnd(31, 4534)

	text := log.String()
	if n := strings.Count(text, `msg="identification failed" address=127.0.0.1`); n != len(refused) {
		t.Errorf("%d failed attempts are logged, want %d:\n%s", n, len(refused), text)
	}
	for _, assertion := range refused {
		for part := range strings.FieldsFuncSeq(assertion, func(r rune) bool { return r == '.' || r == '~' }) {
			if len(part) > 20 && strings.Contains(text, part) {
				t.Errorf("the log has a part of an assertion:\n%s", text)
			}
		}
	}
}

// flipped is a token whose signature does not fit.
func flipped(token string) string {
	b := []byte(token)
	b[len(b)-9] ^= 'A' ^ 'B'
	if at := b[len(b)-9]; !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", rune(at)) {
		b[len(b)-9] = 'A'
	}
	return string(b)
}

// TestIssuerIsNotNeededToStart: a gateway starts without its issuers, and says so to who comes.
func TestIssuerIsNotNeededToStart(t *testing.T) {
	issuer := oidctest.Start(oidctest.Options{})
	token := issuer.Token(nil)
	issuer.Close()
	cfg := testConfig(t)
	cfg.Identity.OIDC = []OIDCConfig{{Name: "corp", Issuer: issuer.URL, ClientID: oidctest.DefaultClient, Algorithms: defaultAlgorithms()}}
	g := startTest(t, cfg)
	conn, _, err := websocket.DefaultDialer.Dial("ws://"+g.addrs()["http"]+"/presence", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d := &device{t, conn}
	d.send(map[string]any{"email": "ann@example.org", "assertion": token, "status": "online"})
	if f := d.read(); f.Errno != 91 {
		t.Errorf("%+v", f)
	}
	d.send(map[string]any{"type": "hello", "email": "ann@example.org", "assertion": "dev"}) // others are not held up
	if f := d.read(); f.Result != "OK" {
		t.Errorf("%+v", f)
	}
}
