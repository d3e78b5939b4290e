package web

import (
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// serve answers one request on a site with these facts.
func serve(t *testing.T, c Config, method, path string) (*http.Response, string) {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(body)
}

// TestFrontPageSaysHowToConnect, with the addresses that are true here.
func TestFrontPageSaysHowToConnect(t *testing.T) {
	for origin, socket := range map[string]string{
		"http://127.0.0.1:8080": "ws://127.0.0.1:8080/presence", "https://presence.example.org": "wss://presence.example.org/presence",
	} {
		c := Config{Origin: origin, Domain: "push.example.org", Component: "127.0.0.1:5347", Version: "v1"}
		resp, body := serve(t, c, "GET", "/")
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
			t.Errorf("%s %s", resp.Status, resp.Header.Get("Content-Type"))
		}
		for _, want := range []string{`new WebSocket("` + socket + `")`, "127.0.0.1:5347", "push.example.org", "v1"} {
			if !strings.Contains(body, want) {
				t.Errorf("the page lacks %q:\n%s", want, body)
			}
		}
	}
}

// TestEscaping: not even the configuration gets markup into the page.
func TestEscaping(t *testing.T) {
	_, body := serve(t, Config{Origin: "http://x", Domain: "<script>alert(1)</script>"}, "GET", "/")
	if strings.Contains(body, "<script") {
		t.Error(body)
	}
}

// TestPolicy: every answer is protected, and the one style that the policy allows is the one on the page.
func TestPolicy(t *testing.T) {
	for _, path := range []string{"/", "/nothing"} {
		resp, body := serve(t, Config{Origin: "http://x"}, "GET", path)
		policy := resp.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: policy %q lacks %s", path, policy, want)
			}
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(body); style != nil {
			sum := sha256.Sum256([]byte(style[1]))
			if hash := base64.StdEncoding.EncodeToString(sum[:]); !strings.Contains(policy, hash) {
				t.Errorf("the policy %q forbids the page's own style %s", policy, hash)
			}
		} else if path == "/" {
			t.Error("no style found")
		}
	}
}

func TestOnlyWhatThereIs(t *testing.T) {
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"POST", "/", 405}, {"GET", "/index.html", 404}, {"GET", "/presence/", 404},
	} {
		if resp, _ := serve(t, Config{Origin: "http://x"}, tt.method, tt.path); resp.StatusCode != tt.status {
			t.Errorf("%s %s: %s", tt.method, tt.path, resp.Status)
		}
	}
}
