package web

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"presenced/presence"
	"presenced/web/account"
)

const root = "root@example.org"

// withAdmin is a site with one administrator.
func withAdmin(c *Config) { c.Admins = []string{root} }

// people are known to the gateway.
func (h *house) people(emails ...string) {
	h.t.Helper()
	for _, email := range emails {
		if err := h.store.PutUser(presence.User{Email: email, Created: h.now.Now()}); err != nil {
			h.t.Fatal(err)
		}
	}
}

// adminPaths are the administrators' pages.
func adminPaths() []string {
	return []string{"/admin", "/admin/events", "/admin/apps", "/admin/users", "/admin/users/" + url.PathEscape(ann)}
}

// TestAdminIsNothingToOthers: whoever is not named gets what an address gets that does not exist.
func TestAdminIsNothingToOthers(t *testing.T) {
	nobody, named := newHouse(t), newHouse(t, withAdmin)
	named.people(ann)
	for _, path := range adminPaths() {
		nobody.browser().get(path).want(404)
		nobody.signedIn(root).get(path).want(404)
		named.signedIn(ann).get(path).want(404)
		named.browser().get(path).wantTo("/?next=" + url.QueryEscape(path))
	}
	for _, path := range []string{"/admin/users/" + ann + "/disable", "/admin/users/" + ann + "/remove", "/admin/apps/chat/disable"} {
		nobody.signedIn(root).post(path).want(404)
		named.signedIn(ann).post(path, "email", ann).want(404)
		named.browser().post(path).want(401)
		b := named.signedIn(root)
		b.header.Set("Sec-Fetch-Site", "cross-site")
		b.post(path, "email", ann).want(403)
	}
	if u, ok, err := named.store.User(ann); err != nil || !ok || u.Disabled {
		t.Errorf("%v %v %+v", err, ok, u)
	}
	named.signedIn(ann).get("/").hasNot("/admin")
	named.signedIn(root).get("/").has(`href="/admin"`)
}

// TestAdminUsers: found, looked at, disconnected, switched off and on, removed, all with forms, and each act in her audit.
func TestAdminUsers(t *testing.T) {
	h := newHouse(t, withAdmin)
	h.addApp("chat")
	h.people(ann, bob, root)
	b := h.signedIn(root)
	phone, desk := h.device(ann, "phone", presence.Online), h.device(ann, "desk", presence.Online)
	if _, err := h.hub.Allow(presence.Grant{Email: ann, App: "chat", Notify: true}, presence.ByUser); err != nil {
		t.Fatal(err)
	}
	d, err := h.hub.NotifyUser("chat", ann, "", presence.Message{Source: "x", Message: "very private words", TTL: -1})
	if err == nil {
		err = d.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	b.get("/admin").want(200).has("Notifications waiting", "<dd>1</dd>", "/static/admin.js").hasNot("private words", ann)
	b.get("/admin/users").want(200).has(ann, bob, root)
	b.get("/admin/users?q=ANN").want(200).has(ann).hasNot(bob)
	b.get("/admin/users?q=%3Cscript%3E").want(200).hasNot("<script>").has("Nobody")
	page := "/admin/users/" + url.PathEscape(ann)
	b.get(page).want(200).has("phone", "desk", "Disconnect phone").hasNot("private words", "Chat", "chat")

	b.post(page+"/disconnect", "device", "phone").wantTo(page)
	if phone.Ended() != presence.EndKicked || desk.Ended() != presence.Alive {
		t.Errorf("the phone ended with %v, the desk with %v", phone.Ended(), desk.Ended())
	}
	b.post(page + "/disconnect").wantTo(page)
	if desk.Ended() != presence.EndKicked {
		t.Errorf("the desk ended with %v", desk.Ended())
	}
	hers := h.signedIn(ann)
	hers.get("/dashboard").want(200)
	b.post(page + "/disable").wantTo(page)
	if a := hers.get("/dashboard"); a.StatusCode == 200 {
		t.Error("who is switched off still sees her dashboard")
	}
	b.get(page).has("Switch on")
	b.post(page + "/enable").wantTo(page)
	b.post(page + "/explode").want(404)

	audit, err := h.store.AuditOf(ann, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range audit {
		if e.By == presence.ByAdmin {
			got = append(got, strings.TrimSpace(e.What+" "+e.Detail))
		}
	}
	if s := strings.Join(got, ", "); s != "enabled, disabled, disconnect, disconnect phone" {
		t.Errorf("her audit says by admin: %s", s)
	}

	b.post(page+"/remove", "email", bob).want(422)
	b.post(page+"/remove", "email", ann).wantTo("/admin/users")
	if _, ok, _ := h.store.User(ann); ok {
		t.Error("she is still there")
	}
	b.get(page).want(404)
	mine := "/admin/users/" + url.PathEscape(root)
	b.get(mine).want(200).has("This is you")
	b.post(mine + "/disable").want(409)
	b.post(mine+"/remove", "email", root).want(409)
}

// TestAdminFindsOneOfMany: pages follow each other and miss nobody.
func TestAdminFindsOneOfMany(t *testing.T) {
	h := newHouse(t, withAdmin)
	var want []string
	for _, c := range "abcdefghij" {
		for _, d := range "abcdefghijk" {
			email := string(c) + string(d) + "@many.example"
			want = append(want, email)
			if err := h.store.PutUser(presence.User{Email: email}); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := h.signedIn(root)
	path, seen := "/admin/users?q=many.", 0
	for path != "" {
		a := b.get(path).want(200)
		for seen < len(want) && strings.Contains(a.body, want[seen]) {
			seen++
		}
		_, rest, more := strings.Cut(a.body, `<a class="button" href="`)
		path = ""
		if more {
			path, _, _ = strings.Cut(rest, `"`)
			path = strings.ReplaceAll(path, "&amp;", "&")
		}
	}
	if seen != len(want) {
		t.Errorf("%d of %d were shown", seen, len(want))
	}
}

// TestAdminApps: shown with what is connected, and switched.
func TestAdminApps(t *testing.T) {
	h := newHouse(t, withAdmin)
	h.addApp("chat", func(a *presence.App) { a.Name = "<b>Chat</b>" })
	b := h.signedIn(root)
	link, err := h.hub.Link("chat", presence.SocketLink)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	b.get("/admin/apps").want(200).has("1 connected", "chat.example.org", "&lt;b&gt;").hasNot("key-of-chat", "<b>Chat")
	b.post("/admin/apps/chat/disable").wantTo("/admin/apps")
	if link.Ended() != presence.EndDisabled {
		t.Errorf("the app's connection: %v", link.Ended())
	}
	b.get("/admin/apps").has("Switch on")
	b.post("/admin/apps/chat/enable").wantTo("/admin/apps")
	b.post("/admin/apps/nothing/enable").want(404)
	b.post("/admin/apps/chat/explode").want(404)
	if a, _ := h.hub.App("chat"); a.Disabled {
		t.Error("still off")
	}
}

// follow opens the live events; lines come until ctx ends.
func (b *browser) events(ctx context.Context, accept string) *bufio.Scanner {
	b.h.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", b.h.url+"/admin/events", nil)
	if err != nil {
		b.h.t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := b.client.Do(req)
	if err != nil {
		b.h.t.Fatal(err)
	}
	b.h.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != 200 {
		b.h.t.Fatal(resp.Status)
	}
	s := bufio.NewScanner(resp.Body)
	for s.Scan() {
		if strings.Contains(s.Text(), "hello") || strings.HasPrefix(s.Text(), "What happens") {
			return s
		}
	}
	b.h.t.Fatal("no greeting")
	return nil
}

// TestAdminEvents: what happens is seen as it happens, as events and as text, without a word of a notification.
func TestAdminEvents(t *testing.T) {
	h := newHouse(t, withAdmin)
	h.addApp("chat")
	b := h.signedIn(root)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events, text := b.events(ctx, "text/event-stream"), b.events(ctx, "text/html")

	h.device(ann, "phone", presence.Online)
	if _, err := h.hub.Allow(presence.Grant{Email: ann, App: "chat", Notify: true}, presence.ByUser); err != nil {
		t.Fatal(err)
	}
	d, err := h.hub.NotifyUser("chat", ann, "", presence.Message{Source: "x", Message: "very private words", Action: "https://private.example", TTL: -1})
	if err == nil {
		err = d.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for (!seen["status"] || !seen["grant"] || !seen["notified"]) && events.Scan() {
		if strings.Contains(events.Text(), "private") {
			t.Error(events.Text())
		}
		var e struct{ Kind, Email, Device, AppID string }
		if line, ok := strings.CutPrefix(events.Text(), "data: "); ok {
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			seen[e.Kind] = true
		}
	}
	for text.Scan() {
		if strings.Contains(text.Text(), "private") {
			t.Error(text.Text())
		}
		if strings.Contains(text.Text(), "notified "+ann) {
			break
		}
	}
	if events.Err() != nil || text.Err() != nil {
		t.Fatal(events.Err(), text.Err())
	}

	// It ends with the session.
	b.post("/logout").want(303)
	h.device(ann, "desk", presence.Online)
	for events.Scan() {
		if strings.Contains(events.Text(), "desk") {
			t.Error("told after she signed out")
		}
	}
	if ctx.Err() != nil {
		t.Error("the stream goes on without a session")
	}
}

// TestManyEvents are no flood: the newest are kept and the others are counted.
func TestManyEvents(t *testing.T) {
	h := newHouse(t)
	w := h.hub.Watch("")
	defer w.Close()
	st := &eventStream{stream: &stream{site: h.site, watch: w}}
	phone := h.device(ann, "phone", presence.Online)
	const n = 500
	for i := range n {
		if err := phone.Publish(presence.Status(1+i%2), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	st.take()
	if len(st.last) != eventsAtOnce || st.lost == 0 {
		t.Errorf("%d kept, %d lost", len(st.last), st.lost)
	}
}

// TestNobodysEmail: no page, and no answer of the API, shows the e-mail of a user to another user or to an app that did
// not ask with it.
func TestNobodysEmail(t *testing.T) {
	h, k := newHouse(t, withAdmin), readContract(t)
	h.app("chat")
	const secret = "very.secret.person@hidden.example"
	hers := h.program(t, k, h.apiToken(secret))
	var g account.Grant
	hers.call("PUT", "/grants/chat", `{}`).want(200).json(&g)
	h.device(secret, "phone", presence.Online)
	b := h.signedIn(bob)
	h.device(bob, "phone", presence.Online)
	if _, err := h.hub.Allow(presence.Grant{Email: bob, App: "chat", Notify: true}, presence.ByUser); err != nil {
		t.Fatal(err)
	}
	look := func(a *answer) {
		t.Helper()
		all := a.body
		for name, values := range a.Header {
			all += name + strings.Join(values, " ")
		}
		if strings.Contains(strings.ToLower(all), "hidden.example") || strings.Contains(all, "very.secret") {
			t.Errorf("%s %s tells: %s", a.Request.Method, a.Request.URL, all)
		}
	}
	esc := url.PathEscape(secret)
	for _, path := range append(adminPaths(), "/", "/dashboard", "/sidebar", "/dashboard/export", "/dashboard/apps/chat", "/grant/chat",
		"/getApps", "/myapps", "/admin/users/x", "/nothing", "/?next=/x") {
		look(b.get(path))
	}
	party := strings.NewReplacer("{device}", "phone", "{party}", g.PUID, "{appid}", "chat", "{email}", "nobody@example.org", "{token}", strings.Repeat("0", 64))
	for _, who := range []*program{{t, k, b}, h.program(t, k, h.apiToken(bob)), h.program(t, k, "chat-key")} {
		for _, rt := range (&api{}).routes() {
			method, path, _ := strings.Cut(rt.pattern, " ")
			body := map[string]string{
				"POST /notifications": `{"uid":"` + g.PUID + `","message":"x"}`, "POST /requests": `{"email":"nobody@example.org"}`,
			}[rt.pattern]
			if body == "" && method != "GET" && method != "DELETE" {
				body = `{}`
			}
			if method == "DELETE" && strings.Contains(path, "party") {
				continue // it would end what is looked at
			}
			look(who.call(method, party.Replace(path), body))
		}
	}
	look((&program{t, k, b}).get("/grants/" + esc[:4]))
}
