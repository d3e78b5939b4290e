package web

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"presenced/identity"
	"presenced/identity/browseridtest"
	"presenced/presence"
)

const dev = "dev@example.org"

// withSites is a house that looks at the sites of a small internet.
func withSites(t *testing.T, domains ...string) (*house, *browseridtest.World) {
	t.Helper()
	w := browseridtest.Start(domains...)
	t.Cleanup(w.Close)
	proxy, err := url.Parse(w.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	f := identity.NewFetcher(identity.FetchConfig{Roots: w.Roots(), Proxy: http.ProxyURL(proxy)})
	return newHouse(t, func(c *Config) { c.Fetch, c.Admins = f, []string{"root@example.org"} }), w
}

// register registers an app and returns the path of its page.
func (b *browser) register(name, domain string, more ...string) string {
	b.h.t.Helper()
	a := b.post("/myapps", append([]string{"name", name, "domain", domain}, more...)...).want(http.StatusSeeOther)
	return a.Header.Get("Location")
}

var codeText = regexp.MustCompile(`<dd><code>([A-Z0-9]{40,})</code>`)

// TestDeveloperWalk: register, prove the domain, connect with what the page shows, rotate, switch off, remove.
func TestDeveloperWalk(t *testing.T) {
	h, world := withSites(t, "chat.example")
	b := h.signedIn(dev)
	b.get("/myapps").want(http.StatusOK).has("None yet.", `action="/myapps"`)
	path := b.register("Chat <b>", "chat.example", "component", "xmpp.chat.example", "description", "Shows friends.",
		"redirects", "https://chat.example/granted\r\nhttps://www.chat.example/too", "conflict", "share")
	page := b.get(path).want(http.StatusOK).has("Chat &lt;b&gt;", "Domain not proven", "https://chat.example/__presence").hasNot("<b>")
	secrets := codeText.FindAllStringSubmatch(page.body, -1)
	app, ok := h.hub.App("chat-b")
	if !ok || len(secrets) != 2 || secrets[0][1] != app.Secret || secrets[1][1] != app.APIKey {
		t.Fatalf("%v of %+v", secrets, app)
	}
	if !app.Disabled || app.Owner != dev || app.Site != "chat.example" || app.Conflict != presence.Share || len(app.Redirects) != 2 {
		t.Errorf("%+v", app)
	}
	b.get(path).hasNot(app.Secret, app.APIKey).has("APP_SECRET") // once
	b.get("/myapps").has("Domain not proven", "xmpp.chat.example")

	// Not yet proven: it cannot be switched on.
	b.post("/activate_app", "app", app.ID, "activate", "yes").want(http.StatusForbidden)
	b.post("/validate_app", "app", app.ID).want(http.StatusUnprocessableEntity).has("status 404", app.Proof)
	proof := "nothing"
	world.Handle("chat.example", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == ProofPath {
			fmt.Fprintln(w, "# my apps\n"+proof)
		}
	})
	b.post("/validate_app", "app", app.ID).want(http.StatusTooManyRequests)
	h.now.pass(checkEvery)
	b.post("/validate_app", "app", app.ID).want(http.StatusUnprocessableEntity).has("token is not in it")
	proof = app.Proof
	h.now.pass(checkEvery)
	b.post("/validate_app", "app", app.ID).wantTo(path)
	if app, _ = h.hub.App(app.ID); app.Disabled || app.Verified.IsZero() {
		t.Fatalf("%+v", app)
	}
	h.signedIn(ann).get("/grant/" + app.ID).has("Verified domain")

	// It connects; the page tells how it does.
	l, err := h.hub.Link(app.ID, presence.SocketLink)
	if err != nil {
		t.Fatal(err)
	}
	l.SetAddress("192.0.2.7")
	l.Refused("errno 60", "no such app for this user <i>")
	b.get(path).has("192.0.2.7", "errno 60", "&lt;i&gt;", "xmpp.chat.example", "WebSocket").hasNot("<i>")
	b.get("/myapps").has("1 connected")

	// New secrets with an overlap, then changes, off, and gone.
	b.post(path+"/rotate", "overlap", "24h").wantTo(path)
	now, _ := h.hub.App(app.ID)
	if now.Secret == app.Secret || now.OldSecret != app.Secret || now.OldAPIKey != app.APIKey || !now.OldSecretUntil.Equal(h.now.Now().Add(24*time.Hour)) {
		t.Errorf("%+v", now)
	}
	b.get(path).has(now.Secret, now.APIKey, "are good until")
	if l.Ended() != presence.Alive {
		t.Error("it was cut off")
	}
	b.post(path, "name", "Chat", "redirects", "https://chat.example/new", "conflict", "reject").wantTo(path)
	b.post(path, "name", "Chat", "redirects", "https://evil.example/", "conflict", "reject").want(http.StatusUnprocessableEntity).has("evil.example")
	if now, _ = h.hub.App(app.ID); now.Name != "Chat" || now.Conflict != presence.Reject || strings.Join(now.Redirects, " ") != "https://chat.example/new" {
		t.Errorf("%+v", now)
	}
	b.post("/activate_app", "app", app.ID, "deactivate", "yes").wantTo(path)
	if now, _ = h.hub.App(app.ID); !now.Disabled || l.Ended() == presence.Alive {
		t.Errorf("%+v", now)
	}
	b.post("/activate_app", "app", app.ID, "activate", "yes").wantTo(path)
	b.post(path + "/remove").want(http.StatusBadRequest)
	b.post(path+"/remove", "sure", "yes").wantTo("/myapps")
	b.get(path).want(http.StatusNotFound)
}

// TestOthersSeeNothing: of another's app nobody hears more than of one that does not exist.
func TestOthersSeeNothing(t *testing.T) {
	h, _ := withSites(t)
	path := h.signedIn(dev).register("Chat", "chat.example")
	h.addApp("admins")
	eve := h.signedIn("eve@example.org")
	for _, id := range []string{"chat", "admins"} {
		for _, c := range []struct {
			path, nobody string
			fields       []string
		}{
			{"/myapps/" + id, "/myapps/nobody", []string{"name", "x"}},
			{"/myapps/" + id + "/rotate", "/myapps/nobody/rotate", nil},
			{"/myapps/" + id + "/remove", "/myapps/nobody/remove", []string{"sure", "yes"}},
			{"/validate_app", "/validate_app", []string{"app", id}},
			{"/activate_app", "/activate_app", []string{"app", id, "activate", "1"}},
		} {
			got := eve.post(c.path, c.fields...).want(http.StatusNotFound)
			unknown := append([]string(nil), c.fields...)
			for i, f := range unknown {
				if f == id {
					unknown[i] = "nobody"
				}
			}
			want := eve.post(c.nobody, unknown...).want(http.StatusNotFound)
			if got.body != want.body {
				t.Errorf("%s differs from %s:\n%s\n%s", c.path, c.nobody, got.body, want.body)
			}
		}
		eve.get("/myapps/" + id).want(http.StatusNotFound)
	}
	eve.get("/myapps").has("None yet.")
	h.browser().get(path).want(http.StatusSeeOther) // to the sign-in form
	h.browser().post("/myapps", "name", "x", "domain", "x.example").want(http.StatusUnauthorized)
	h.signedIn("root@example.org").get(path).want(http.StatusOK)
	h.signedIn("root@example.org").get("/myapps/admins").want(http.StatusOK)
}

func TestRegistrationRefuses(t *testing.T) {
	h, _ := withSites(t)
	b := h.signedIn(dev)
	b.register("First", "first.example")
	for _, c := range []struct {
		fields []string
		want   string
	}{
		{[]string{"name", "", "domain", "a.example"}, "name must be"},
		{[]string{"name", "A", "domain", "localhost"}, "must be a name"},
		{[]string{"name", "A", "domain", "192.0.2.1"}, "must be a name"},
		{[]string{"name", "A", "domain", "a.example:8443"}, "must be a name"},
		{[]string{"name", "A", "domain", "a.example/x"}, "must be a name"},
		{[]string{"name", "A", "domain", "user@a.example"}, "must be a name"},
		{[]string{"name", "A", "domain", "a.example", "component", "b.example"}, "end in .a.example"},
		{[]string{"name", "A", "domain", "a.example", "component", "xa.example"}, "end in .a.example"},
		{[]string{"name", "A", "domain", "example.org", "component", "push.example.org"}, "own domain"},
		{[]string{"name", "A", "domain", "first.example"}, "Another app has"},
		{[]string{"name", "A", "domain", "a.example", "redirects", "http://a.example/"}, "not an https address"},
		{[]string{"name", "A", "domain", "a.example", "redirects", "https://b.example/"}, "not an https address"},
		{[]string{"name", "A", "domain", "a.example", "redirects", "https://a.example@b.example/"}, "not an https address"},
		{[]string{"name", "A", "domain", "a.example", "redirects", "javascript:alert(1)"}, "not an https address"},
		{[]string{"name", "A", "domain", "a.example", "redirects", strings.Repeat("https://a.example/ ", 17)}, "At most 16"},
		{[]string{"name", "A", "domain", "a.example", "url", "http://a.example/"}, "not an https address"},
		{[]string{"name", "A", "domain", "a.example", "conflict", "fight"}, "replace, reject, share"},
		{[]string{"name", "A", "domain", "a.example", "description", strings.Repeat("d", 513)}, "at most 512"},
	} {
		a := b.post("/myapps", c.fields...)
		if a.StatusCode != http.StatusUnprocessableEntity || !strings.Contains(a.body, c.want) {
			t.Errorf("%q: %s, lacks %q", c.fields, a.Status, c.want)
		}
	}
	b.register("Dev", "dev.example", "redirects", "http://127.0.0.1:3000/granted") // in dev mode
	for i := range maxOwnApps - 2 {
		b.register("More", fmt.Sprintf("more%d.example", i))
	}
	b.post("/myapps", "name", "A", "domain", "a.example").want(http.StatusUnprocessableEntity).has("20 apps already")
	b.get("/myapps").hasNot(`id="register"`)
}

// TestNobodyKeepsTheNameOfAnother: what is not proven is free after a day.
func TestNobodyKeepsTheNameOfAnother(t *testing.T) {
	h, _ := withSites(t)
	h.signedIn("squatter@example.org").register("Mine", "chat.example")
	b := h.signedIn(dev)
	b.post("/myapps", "name", "Chat", "domain", "chat.example").want(http.StatusUnprocessableEntity)
	h.now.pass(unprovenFor)
	b = h.signedIn(dev)
	b.register("Chat", "chat.example")
	if a, ok := h.hub.AppByComponent("chat.example"); !ok || a.Owner != dev {
		t.Errorf("%+v", a)
	}
}

// TestAdministratorHasTheLastWord over an app that she switched off.
func TestAdministratorHasTheLastWord(t *testing.T) {
	h, _ := withSites(t)
	b := h.signedIn(dev)
	b.register("Chat", "chat.example")
	if _, err := h.hub.EditApp("chat", func(a *presence.App) error { a.Verified, a.Held = h.now.Now(), true; return nil }); err != nil {
		t.Fatal(err)
	}
	b.post("/activate_app", "app", "chat", "activate", "1").want(http.StatusForbidden).has("administrator")
	h.signedIn("root@example.org").post("/activate_app", "app", "chat", "activate", "1").want(http.StatusSeeOther)
}

// TestProgramsRegisterToo, with JSON for an answer.
func TestProgramsRegisterToo(t *testing.T) {
	h, _ := withSites(t)
	b := h.signedIn(dev)
	b.header.Set("Accept", "application/json")
	b.post("/myapps", "name", "Chat", "domain", "chat.example").want(http.StatusOK).has(`"appid":"chat"`, `"secret":"`, `"api_key":"`, `"proof":"`)
	b.post("/validate_app", "app", "chat").want(http.StatusUnprocessableEntity).has(`"errno":13`)
	b.post("/myapps/chat/rotate", "overlap", "1s").want(http.StatusOK).has(`"secret":"`)
	b.post("/myapps/chat/remove").want(http.StatusOK).has(`{"result":"OK"}`)
}

// TestProofIsNotFetchedFromInside: the safe fetcher goes to no address of ours.
func TestProofIsNotFetchedFromInside(t *testing.T) {
	h := newHouse(t, func(c *Config) {
		none := func(*http.Request) (*url.URL, error) { return nil, nil }
		c.Fetch = identity.NewFetcher(identity.FetchConfig{Proxy: none, Timeout: time.Second})
	})
	b := h.signedIn(dev)
	b.register("Chat", "rebound.localhost")
	b.post("/validate_app", "app", "chat").want(http.StatusUnprocessableEntity)
}

func TestShows(t *testing.T) {
	for file, want := range map[string]bool{
		"TOKEN": true, " TOKEN\r\n": true, "A\nTOKEN\nB": true, "TOKENS": false, "TOKE": false, "": false, "token": false,
		strings.Repeat("x ", maxProofWords) + "TOKEN": false,
	} {
		if got := shows([]byte(file), "TOKEN"); got != want {
			t.Errorf("%.20q: %v", file, got)
		}
	}
	if shows([]byte(""), "") {
		t.Error("no token is shown by nothing")
	}
}

// TestRegisterAfterAMistake: a field that was left empty stays empty, and what it stands for follows the others.
func TestRegisterAfterAMistake(t *testing.T) {
	h, _ := withSites(t)
	b := h.signedIn(dev)
	again := b.post("/myapps", "name", "Chat", "domain", "nodots").want(http.StatusUnprocessableEntity)
	fields := formOf(again.body)
	if got := fields.Get("component"); got != "" {
		t.Errorf("the form comes back with the component domain %q", got)
	}
	b.register("Chat", "chat.example", "component", fields.Get("component"))
	if app, ok := h.hub.App("chat"); !ok || app.Component != "chat.example" {
		t.Errorf("%+v", app)
	}
}
