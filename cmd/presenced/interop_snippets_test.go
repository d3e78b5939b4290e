//go:build interop

package main

import (
	"fmt"
	"html"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/gorilla/websocket"

	"presenced/presence"
)

// TestInteropSnippets runs the three programs of an app's page as they are printed there, right after its secrets were
// made: each connects, sees her, and what it sends reaches her device.
func TestInteropSnippets(t *testing.T) {
	needPeers(t)
	g := startTest(t, testConfig(t))
	dev := newBrowser(t, g)
	dev.post("/login", "email", "dev@example.org", "assertion", "dev")
	dev.post("/myapps", "name", "Chat", "domain", "chat.example.org")
	if _, err := g.hub.EditApp("chat", func(a *presence.App) error { a.Verified, a.Disabled = a.Created, false; return nil }); err != nil {
		t.Fatal(err)
	}
	page := dev.post("/myapps/chat/rotate", "overlap", "0s")
	if _, err := g.hub.Allow(presence.Grant{Email: "ann@example.org", App: "chat", Notify: true}, presence.ByUser); err != nil {
		t.Fatal(err)
	}
	phone := dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", "phone", "dev")
	dir := t.TempDir()
	modules, err := filepath.Abs(filepath.Join(interopDir, "node_modules"))
	if err == nil {
		err = os.Symlink(modules, filepath.Join(dir, "node_modules"))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []struct{ id, file, program string }{
		{"slixmpp", "app.py", python}, {"xmppjs", "app.mjs", "node"}, {"websocket", "socket.mjs", "node"},
	} {
		t.Run(s.id, func(t *testing.T) {
			code := regexp.MustCompile(fmt.Sprintf(`(?s)<pre [^>]*id="%s"[^>]*><code>(.*?)</code>`, s.id)).FindStringSubmatch(page)
			if code == nil {
				t.Fatal("the page has no such program")
			}
			if err := os.WriteFile(filepath.Join(dir, s.file), []byte(html.UnescapeString(code[1])), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(s.program, s.file)
			cmd.Dir = dir
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() {
				cmd.Process.Kill()
				cmd.Wait()
			}()
			phone.t = t
			phone.next("Good to see you")
		})
	}
}
