//go:build interop

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"presenced/identity/browseridtest"
)

// personaRequest and personaAnswer are what testdata/browserid/bundles.js takes and gives.
type (
	personaRequest struct {
		Issuer   string `json:"issuer"`
		Email    string `json:"email"`
		Audience string `json:"audience"`
		Now      int64  `json:"now"`
		IdP      string `json:"idp"`
		User     string `json:"user"`
		Count    int    `json:"count"`
	}
	personaAnswer struct {
		Support json.RawMessage
		Bundles []string
	}
)

// persona has Persona's own library make bundles with fresh keys.
func persona(t *testing.T, q personaRequest) (a personaAnswer) {
	t.Helper()
	in, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "bundles.js")
	cmd.Dir = filepath.Join("..", "..", "testdata", "browserid")
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &a)
	}
	if err != nil {
		t.Fatalf("%v; testdata/interop/README.md says how to install browserid-crypto", err)
	}
	return a
}

// TestInteropBrowserID: devices identify themselves with assertions that Persona's own library makes, at a gateway
// that reads the support document of their domain through a proxy.
func TestInteropBrowserID(t *testing.T) {
	const domain, email = "idp.example.net", "tarek@idp.example.net"
	world := browseridtest.Start(domain)
	defer world.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, world.CertPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := buildPresenced(t)
	for _, pair := range []struct {
		idp, user string
		count     int // enough for signatures that are a byte short, one in 256
		errno     int // 0: good
	}{
		{"RS256", "DS128", 3, 0}, {"RS256", "RS256", 300, 0}, {"DS256", "DS256", 3, 0}, {"DS128", "RS256", 3, 0},
		{"RS256", "RS128", 1, 34}, {"RS128", "DS128", 1, 33}, {"RS256", "RS64", 1, 34},
	} {
		t.Run(pair.idp+" "+pair.user, func(t *testing.T) {
			s := newSite(t, bin, "HTTPS_PROXY="+world.Proxy, "NO_PROXY=", "PRESENCED_IDENTITY_BROWSERID_ENABLED=true",
				"PRESENCED_IDENTITY_BROWSERID_CA_FILE="+ca, "PRESENCED_DEVICE_RATE=0")
			g := s.serve()
			url, origin := "ws://"+g.http, "http://"+g.http
			make := func(audience string, now time.Time, count int) []string {
				a := persona(t, personaRequest{domain, email, audience, now.UnixMilli(), pair.idp, pair.user, count})
				world.Publish(domain, string(a.Support))
				return a.Bundles
			}
			wants := func(bundle string, errno int) {
				t.Helper()
				conn, _, err := websocket.DefaultDialer.Dial(url+"/presence", nil)
				if err != nil {
					t.Fatal(err)
				}
				d := &device{t, conn}
				d.send(map[string]any{"email": email, "assertion": bundle, "status": "online"})
				d.wantEnd(errno, 4534)
			}
			now := time.Now().Add(-time.Second)
			if pair.errno != 0 {
				wants(make(origin, now, 1)[0], pair.errno)
				g.stop()
				return
			}
			bundles := make(origin, now, pair.count)
			wants(bundles[0][:len(bundles[0])-4]+"AAAA", 34)
			d := dialDevice(t, websocket.Dialer{}, url, email, "phone", bundles[0])
			for _, b := range bundles[1:] {
				d.send(map[string]any{"email": email, "assertion": b, "status": "online"})
				if f := d.read(); f.Result != "OK" {
					t.Fatalf("%+v: %s", f, b)
				}
			}
			if pair.user == "DS128" {
				wants(make("https://elsewhere.example", now, 1)[0], 32)
				wants(make(origin, now.Add(-6*time.Minute), 1)[0], 31)
			}
			g.stop()
		})
	}
}
