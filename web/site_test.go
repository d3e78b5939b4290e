package web

import (
	"net/http"
	"strings"
	"testing"
)

// TestFrontPageSaysHowToConnect, with the addresses that are true here.
func TestFrontPageSaysHowToConnect(t *testing.T) {
	for origin, socket := range map[string]string{
		"http://127.0.0.1:8080": "ws://127.0.0.1:8080/presence", "https://presence.example.org": "wss://presence.example.org/presence",
	} {
		h := newHouse(t, func(c *Config) { c.Origin, c.Dev = origin, false })
		h.browser().get("/").want(http.StatusOK).has(`new WebSocket("`+socket+`")`, "127.0.0.1:5347", "push.example.org", "v1")
	}
}

// TestEscaping: not even the configuration gets markup into the page.
func TestEscaping(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Domain = "<script>alert(1)</script>" })
	h.browser().get("/").hasNot("<script>alert")
}

// TestPolicy: every answer is protected, and no page holds a script or a style.
func TestPolicy(t *testing.T) {
	b := newHouse(t).browser()
	for _, path := range []string{"/", "/nothing", "/static/style.css", "/static/nothing"} {
		a := b.get(path)
		policy := a.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'",
			"base-uri 'none'", "form-action 'self';"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: policy %q lacks %s", path, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"} {
			if got := a.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q", path, name, got)
			}
		}
		if !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
			continue
		}
		a.hasNot("<style", " style=", "<script>", " onclick")
		if a.Header.Get("Cache-Control") != "no-store" && !strings.HasPrefix(path, "/static/") {
			t.Errorf("%s: Cache-Control %q", path, a.Header.Get("Cache-Control"))
		}
	}
}

func TestOnlyWhatThereIs(t *testing.T) {
	b := newHouse(t).browser()
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/", 200}, {"HEAD", "/", 200}, {"POST", "/", 405}, {"GET", "/index.html", 404}, {"GET", "/presence/", 404},
		{"GET", "/login", 405}, {"GET", "/logout", 405},
	} {
		a := b.do(tt.method, tt.path, "", "").want(tt.status)
		if tt.status == 405 && a.Header.Get("Allow") == "" {
			t.Errorf("%s %s does not say what is allowed", tt.method, tt.path)
		}
		if tt.status >= 400 && !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
			t.Errorf("%s %s answers %s", tt.method, tt.path, a.Header.Get("Content-Type"))
		}
	}
}
