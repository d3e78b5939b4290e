package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"presenced/web/account"
)

// askAPI makes one call of the API and reads the answer into out.
func askAPI(t *testing.T, g *gateway, secret, method, path, body string, status int, out any) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+g.addrs()["http"]+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%s %s: %s %v, want %d\n%s", method, path, resp.Status, err, status, text)
	}
	if out != nil {
		if err := json.Unmarshal(text, out); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
	return string(text)
}

// TestAPIOfAWholeGateway: a token from the command line, a grant through the API, which the command line shows as the
// same thing; the app notifies by HTTP and a real device gets it.
func TestAPIOfAWholeGateway(t *testing.T) {
	cfg := testConfig(t)
	cfg.Admins = []string{"Root@Example.org"}
	g := startTest(t, cfg)
	var app credentials
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example.org")
	var all, few newToken
	onData(t, cfg, &all, "user", "token", "ann@example.org", "--scope", "all", "--name", "scripts")
	onData(t, cfg, &few, "user", "token", "ann@example.org", "--scope", "devices:read", "--expires", "1h")

	var granted account.Grant
	askAPI(t, g, few.Token, "PUT", "/api/v1/grants/chat", `{}`, 403, nil)
	askAPI(t, g, all.Token, "PUT", "/api/v1/grants/chat", `{"windows":[{"days":["mon"],"from":"21:00","to":"23:00"}],"tz":"Europe/Paris"}`, 200, &granted)
	var shown []account.Grant
	onData(t, cfg, &shown, "grant", "list", "ann@example.org")
	if len(shown) != 1 || shown[0].PUID != granted.PUID || shown[0].TZ != "Europe/Paris" || len(shown[0].Windows) != 1 || shown[0].Name != "Chat" {
		t.Errorf("the command line shows %+v, the API %+v", shown, granted)
	}
	askAPI(t, g, all.Token, "PATCH", "/api/v1/grants/chat", `{"windows":[]}`, 200, nil)

	phone := dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", "phone", "dev")
	askAPI(t, g, app.APIKey, "POST", "/api/v1/notifications", `{"uid":"`+granted.PUID+`","message":"over HTTP"}`, 202, nil)
	if f := phone.read(); len(f.Notifications) != 1 || f.Notifications[0].Message != "over HTTP" {
		t.Errorf("the device got %+v", f)
	}
	if text := askAPI(t, g, app.APIKey, "GET", "/api/v1/grants", "", 200, nil); !strings.Contains(text, `"online"`) || strings.Contains(text, "ann@") {
		t.Errorf("the app sees %s", text)
	}

	// A token for the API is none for a device, nor for the pages; a device's is none for the API.
	var device newToken
	onData(t, cfg, &device, "user", "token", "ann@example.org", "--device", "phone")
	askAPI(t, g, device.Token, "GET", "/api/v1/devices", "", 401, nil)
	var plain struct{ Token string } // but one that signs her in to the pages does here what she may do there
	onData(t, cfg, &plain, "user", "token", "ann@example.org")
	askAPI(t, g, plain.Token, "GET", "/api/v1/me", "", 200, nil)
	askAPI(t, g, "", "POST", "/login", `{"email":"ann@example.org","assertion":"`+all.Token+`"}`, 401, nil)

	// What is exported comes back as what it was.
	code, lines, stderr := cliTest(t, nil, "export", "--data", cfg.Data)
	if code != 0 || !strings.Contains(lines, `"scopes":["devices:read"]`) || !strings.Contains(lines, `"name":"scripts"`) {
		t.Errorf("%d %s\n%s", code, stderr, lines)
	}

	askAPI(t, g, all.Token, "POST", "/api/v1/devices/phone/sign-out", "", 200, nil)
	phone.wantEnd(50, 4500)
	var gone map[string]any
	onData(t, cfg, &gone, "user", "token", "revoke", "ann@example.org")
	askAPI(t, g, all.Token, "GET", "/api/v1/me", "", 401, nil)

	// The administrator of the configuration, however it is written there, and nobody else.
	for email, want := range map[string]int{"root@example.org": 200, "ann@example.org": 404} {
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		browser := &http.Client{Jar: jar}
		for _, step := range []struct {
			send func() (*http.Response, error)
			want int
		}{
			{func() (*http.Response, error) {
				return browser.Post("http://"+g.addrs()["http"]+"/login", "application/json", strings.NewReader(`{"email":"`+email+`","assertion":"dev"}`))
			}, 200},
			{func() (*http.Response, error) { return browser.Get("http://" + g.addrs()["http"] + "/admin") }, want},
		} {
			resp, err := step.send()
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != step.want {
				t.Errorf("%s: %s, want %d", email, resp.Status, step.want)
			}
		}
		browser.CloseIdleConnections()
	}
}
