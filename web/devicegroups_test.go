package web

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"presenced/identity"
	"presenced/presence"
)

// asApp is an app server with GCM's headers.
func (h *house) asApp(id, key string) *browser {
	b := h.browser()
	b.header.Set("Authorization", "key="+key)
	b.header.Set("project_id", id)
	return b
}

func (h *house) allow(email, app, puid string) {
	h.t.Helper()
	if _, err := h.hub.Allow(presence.Grant{Email: email, App: app, PUID: puid, Address: presence.ByPUID, Notify: true}, presence.ByUser); err != nil {
		h.t.Fatal(err)
	}
}

// The calls, answers and errors of GCM's device groups, to the letter.
func TestDeviceGroupCalls(t *testing.T) {
	h := newHouse(t)
	h.app("chat")
	h.app("other")
	for i := range 25 {
		h.allow(fmt.Sprintf("u%d@example.org", i), "chat", fmt.Sprint("p", i))
	}
	app := h.asApp("chat", "chat-key")
	const path = "/fcm/notification"
	say := func(b *browser, path, body string, status int, want string) {
		t.Helper()
		a := b.do("POST", path, "application/json", body)
		a.t = t
		if a.want(status); strings.TrimSpace(a.body) != want || a.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s (%s), want %s", body, a.body, a.Header.Get("Content-Type"), want)
		}
	}
	refused := func(text string) string { return `{"error":"` + text + `"}` }
	var made struct{ Notification_key string }
	app.do("POST", "/gcm/notification", "application/json",
		`{"operation":"create","notification_key_name":"Chris","registration_ids":["P0@push.example.org","p1","p1","nobody","no token!"]}`).want(200).json(&made)
	key := `{"notification_key":"` + made.Notification_key + `"}`
	members := func() (list []string) {
		t.Helper()
		g, err := h.hub.DeviceGroup("chat", "Chris")
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range g.Members {
			list = append(list, p.String())
		}
		return list
	}
	if got := fmt.Sprint(members()); got != "[p0 p1]" || !strings.HasPrefix(made.Notification_key, presence.GroupPrefix) {
		t.Errorf("%s with %s", made.Notification_key, got)
	}
	change := func(op, name, key, ids string) string {
		return `{"operation":"` + op + `","notification_key_name":"` + name + `","notification_key":"` + key + `","registration_ids":[` + ids + `]}`
	}
	var many []string
	for i := range 21 {
		many = append(many, fmt.Sprintf(`"p%d"`, i))
	}
	k := made.Notification_key
	for _, c := range []struct {
		body, want string
		status     int
	}{
		{change("create", "Chris", "", `"p2"`), refused("notification_key already exists"), 400},
		{change("create", "Eve", "", `"nobody","p1/none"`), refused("no valid registration ids"), 400},
		{change("create", "Eve", "", ``), refused("no valid registration ids"), 400},
		{change("create", "", "", `"p2"`), refused("notification_key_name must be 1 to 256 bytes"), 400},
		{change("create", "Eve", "", strings.Join(many, ",")), refused("more than 20 registration ids"), 400},
		{change("add", "Chris", k, `"p2","p3"`), key, 200},
		{change("add", "", k, `"p4"`), key, 200}, // the name need not be said
		{change("add", "Eve", k, `"p5"`), refused("notification_key_name doesn't match the group name of the notification_key"), 400},
		{change("add", "Chris", "group:none", `"p5"`), refused("notification_key not found"), 400},
		{change("add", "Chris", k, `"nobody"`), refused("no valid registration ids"), 400},
		{change("add", "Chris", k, strings.Join(many[4:], ",")), refused("more than 20 registration ids"), 400},
		{change("remove", "Chris", k, `"p2","p3","p9"`), key, 200},
		{change("rename", "Chris", k, `"p2"`), refused("operation must be create, add or remove"), 400},
		{`[]`, refused("the body is not the JSON that is expected"), 400},
		{`{"operation":"create","registration_ids":"p1"}`, refused("the body is not the JSON that is expected"), 400},
	} {
		say(app, path, c.body, c.status, c.want)
	}
	if got := fmt.Sprint(members()); got != "[p0 p1 p4]" {
		t.Errorf("%s", got)
	}
	get := func(b *browser, name string, status int, want string) {
		t.Helper()
		if a := b.get(path + "?notification_key_name=" + name).want(status); strings.TrimSpace(a.body) != want {
			t.Errorf("%s, want %s", a.body, want)
		}
	}
	get(app, "Chris", 200, key)
	get(app, "Eve", 400, refused("notification_key not found"))

	// Another app has nothing of it, not even by the key.
	other := h.asApp("other", "other-key")
	get(other, "Chris", 400, refused("notification_key not found"))
	say(other, path, change("add", "Chris", k, `"p1"`), 400, refused("notification_key not found"))
	say(other, path, change("create", "Chris", "", `"p1"`), 400, refused("no valid registration ids"))

	// With its last member the group is gone.
	say(app, path, change("remove", "Chris", k, `"p0","p1","p4"`), 200, key)
	get(app, "Chris", 400, refused("notification_key not found"))
	if err := h.store.CheckConsistency(); err != nil {
		t.Error(err)
	}
}

// Who is not the app is told nothing else, and is counted with those who fail at other doors.
func TestDeviceGroupsAreTheApps(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Attempts = identity.NewAttempts(c.Now) })
	h.app("chat")
	off := h.app("off")
	off.Disabled = true
	if err := h.hub.PutApp(off); err != nil {
		t.Fatal(err)
	}
	h.allow("ann@example.org", "chat", "p1")
	for _, c := range []struct{ id, key string }{
		{"chat", "wrong"}, {"chat", ""}, {"", "chat-key"}, {"other", "chat-key"}, {"none", "none-key"}, {"off", "off-key"}, {"chat", "off-key"},
	} {
		a := h.asApp(c.id, c.key).do("POST", "/gcm/notification", "application/json", `{"operation":"create","notification_key_name":"n","registration_ids":["p1"]}`)
		if a.want(http.StatusUnauthorized); a.body != `{"error":"Unauthorized"}`+"\n" {
			t.Errorf("%+v: %s", c, a.body)
		}
	}
	for i := 0; ; i++ {
		a := h.asApp("chat", "wrong").get("/fcm/notification?notification_key_name=n")
		if a.StatusCode == http.StatusTooManyRequests {
			break
		}
		if a.want(http.StatusUnauthorized); i > 1000 {
			t.Fatal("no end")
		}
	}
	for _, id := range []string{"chat", "none"} {
		if a := h.asApp(id, "wrong").get("/fcm/notification").want(http.StatusTooManyRequests); a.Header.Get("Retry-After") == "" {
			t.Error("not told when to come again")
		}
	}
	h.asApp("chat", "chat-key").get("/fcm/notification?notification_key_name=n").want(http.StatusBadRequest) // a good one is heard
}
