package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"presenced/presence"
)

const (
	ann    = "ann@example.org"
	landed = "https://chat.example.org/granted"
)

// addApp registers an app; change may set it up otherwise.
func (h *house) addApp(id string, change ...func(*presence.App)) presence.App {
	h.t.Helper()
	a := presence.App{ID: id, Name: "Chat", Component: id + ".example.org", Secret: "s", APIKey: "key-of-" + id,
		Description: "Shows your friends that you are there.", Conflict: presence.Replace, Redirects: []string{landed}}
	for _, f := range change {
		f(&a)
	}
	if err := h.hub.PutApp(a); err != nil {
		h.t.Fatal(err)
	}
	return a
}

// grant returns the stored one.
func (h *house) grant(email, app string) (presence.Grant, bool) {
	h.t.Helper()
	g, ok, err := h.store.Grant(email, app)
	if err != nil {
		h.t.Fatal(err)
	}
	return g, ok
}

func (h *house) wantGrant(email, app string) presence.Grant {
	h.t.Helper()
	g, ok := h.grant(email, app)
	if !ok {
		h.t.Fatalf("%s has not granted %s", email, app)
	}
	return g
}

func (h *house) wantNoGrant(email, app string) {
	h.t.Helper()
	if g, ok := h.grant(email, app); ok {
		h.t.Fatalf("there is a grant: %+v", g)
	}
}

func TestDoorhangerTellsWhatIsAsked(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	ann := h.signedIn(ann)
	ann.get("/grant/chat?redirect="+url.QueryEscape(landed)).want(http.StatusOK).has(
		"May <bdi>Chat</bdi> see when you are there?", "chat.example.org", "Not verified", "Shows your friends that you are there.",
		"Whether you are online, away or offline", "Send you notifications", "See since when you have been idle",
		`name="allow"`, `name="disallow"`, `value="`+landed+`"`, "never learns your e-mail")
	ann.get("/grant/nobody").want(http.StatusNotFound).has("no such app")
}

// TestAllowAsThePrototypeDid: a bare form allows at any time, with notifications, and leads back with the name.
func TestAllowAsThePrototypeDid(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	a := b.post("/grant/chat", "redirect", landed, "allow", "")
	g := h.wantGrant(ann, "chat")
	a.wantTo(landed + "?Presence-UID=" + g.PUID)
	if !g.Notify || g.Idle || len(g.Windows) != 0 || g.Until != nil || g.Address != presence.ByPUID {
		t.Errorf("granted %+v", g)
	}
	b.post("/grant/chat", "redirect", landed, "disallow", "").wantTo(landed)
	h.wantNoGrant(ann, "chat")
	b.post("/grant/chat", "redirect", landed, "disallow", "").wantTo(landed) // nothing to end: still no
}

func TestGrantWithoutRedirectSaysWhatWasDone(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	b.post("/grant/chat", "allow", "yes").wantTo("/grant/chat?done=allowed")
	b.get("/grant/chat?done=denied").hasNot("cannot see you") // it says what is so, not what the address says
	b.get("/grant/chat?done=allowed").want(http.StatusOK).has("<bdi>Chat</bdi> may see you now")
	b.post("/grant/chat", "disallow", "yes").wantTo("/grant/chat?done=denied")
	b.get("/grant/chat?done=allowed").hasNot("may see you now")
	b.get("/grant/chat?done=denied").has("cannot see you")
}

// TestTerms: what a person sets in the form is what is stored, and what she sees when she comes back.
func TestTerms(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	lastDay := h.now.Now().AddDate(0, 1, 0).Format(dateForm)
	form := []string{"when", "windows", "idle", "on", "tz", "Europe/Paris", "until", lastDay,
		"days-1", "mon", "days-1", "tue", "from-1", "21:00", "to-1", "02:00", "from-2", "", "to-2", "",
		"days-3", "sun", "from-3", "10:00", "to-3", "00:00", "allow", "yes"}
	b.post("/grant/chat", form...).want(http.StatusSeeOther)
	g := h.wantGrant(ann, "chat")
	windows := []presence.Window{{Days: []string{"mon", "tue"}, From: "21:00", To: "02:00"}, {Days: []string{"sun"}, From: "10:00", To: "00:00"}}
	if g.Notify || !g.Idle || g.TZ != "Europe/Paris" || !slices.EqualFunc(g.Windows, windows, func(a, b presence.Window) bool { return a.String() == b.String() }) {
		t.Errorf("granted %+v", g)
	}
	paris, _ := time.LoadLocation("Europe/Paris")
	if end := g.Until.In(paris); end.Hour() != 0 || end.AddDate(0, 0, -1).Format(dateForm) != lastDay {
		t.Errorf("ends %v, want the midnight after %s", end, lastDay)
	}
	page := b.get("/grant/chat").want(http.StatusOK).has("What <bdi>Chat</bdi> may see", `value="Europe/Paris"`, `value="`+lastDay+`"`, "Stop sharing",
		`name="days-1" value="mon" aria-label="Monday" checked`, `name="from-1" value="21:00"`, `name="to-2" value="00:00"`, `name="from-3" value=""`)
	if fields := formOf(page.body); fields.Has("notify") || !fields.Has("idle") || fields.Get("when") != "windows" {
		t.Errorf("the page shows %v", fields)
	}
	// Saving what is shown changes nothing, and a bare allow changes nothing either.
	again := formOf(page.body)
	again.Set("allow", "yes")
	b.do("POST", "/grant/chat", "application/x-www-form-urlencoded", again.Encode()).want(http.StatusSeeOther)
	b.post("/grant/chat", "allow", "").want(http.StatusSeeOther)
	if after := h.wantGrant(ann, "chat"); after.PUID != g.PUID || !after.Until.Equal(*g.Until) || len(after.Windows) != 2 || after.Notify {
		t.Errorf("saved as shown: %+v, was %+v", after, g)
	}
	b.post("/grant/chat", "when", "always", "from-1", "21:00", "to-1", "22:00", "notify", "on", "allow", "yes").want(http.StatusSeeOther)
	if g := h.wantGrant(ann, "chat"); len(g.Windows) != 0 || g.Until != nil || !g.Notify || g.Idle {
		t.Errorf("at any time: %+v", g)
	}
}

// TestPartsOfPresence: what the form shows can be left out and taken in again; a form that does not know of it changes
// nothing of it.
func TestPartsOfPresence(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	send := func(status, devices bool) {
		t.Helper()
		page := b.get("/grant/chat").want(http.StatusOK).has("Whether you are online, away or offline", "Each of your devices, under a made-up name")
		fields := formOf(page.body)
		for name, on := range map[string]bool{"status": status, "devices": devices} {
			if fields[name] = []string{"off"}; on {
				fields.Add(name, "on")
			}
		}
		fields.Set("allow", "yes")
		b.do("POST", "/grant/chat", "application/x-www-form-urlencoded", fields.Encode()).want(http.StatusSeeOther)
		if g := h.wantGrant(ann, "chat"); g.NoStatus == status || g.NoDevices == devices {
			t.Errorf("status %v, devices %v: granted %+v", status, devices, g)
		}
		shown := formOf(b.get("/grant/chat").want(http.StatusOK).body)
		if slices.Contains(shown["status"], "on") != status || slices.Contains(shown["devices"], "on") != devices {
			t.Errorf("status %v, devices %v: the page shows %v", status, devices, shown)
		}
	}
	if fields := formOf(b.get("/grant/chat").body); !slices.Contains(fields["status"], "on") || !slices.Contains(fields["devices"], "on") {
		t.Errorf("at first the page shows %v", fields)
	}
	send(true, false)
	b.get("/dashboard").want(http.StatusOK).has("Sees your devices as one.")
	b.post("/grant/chat", "when", "always", "notify", "on", "allow", "yes").want(http.StatusSeeOther)
	if g := h.wantGrant(ann, "chat"); !g.NoDevices {
		t.Errorf("a form without the boxes: %+v", g)
	}
	send(false, true)
	b.get("/dashboard").want(http.StatusOK).has("Does not see whether you are there.", "does not see you")
	b.get("/grant/chat?done=allowed").want(http.StatusOK).has("It does not see whether you are there")
	send(true, true)
}

// TestUntilStaysToTheSecond: an end that was set elsewhere is not moved by looking at it and saving.
func TestUntilStaysToTheSecond(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	until := h.now.Now().Add(100*time.Hour + 17*time.Second).UTC()
	if _, err := h.hub.Allow(presence.Grant{Email: ann, App: "chat", Until: &until, TZ: "Asia/Tokyo", Notify: true}, presence.ByAdmin); err != nil {
		t.Fatal(err)
	}
	b := h.signedIn(ann)
	form := formOf(b.get("/grant/chat").body)
	form.Set("allow", "yes")
	b.do("POST", "/grant/chat", "application/x-www-form-urlencoded", form.Encode()).want(http.StatusSeeOther)
	if g := h.wantGrant(ann, "chat"); g.Until == nil || !g.Until.Equal(until) {
		t.Errorf("ends %v, want %v", g.Until, until)
	}
}

// TestWrongTermsChangeNothing, and the form comes back as it was filled in.
func TestWrongTermsChangeNothing(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	yesterday := h.now.Now().AddDate(0, 0, -2).Format(dateForm)
	for name, tt := range map[string]struct {
		fields []string
		says   string
	}{
		"half a row":    {[]string{"when", "windows", "from-1", "21:00", "to-1", ""}, "both a beginning and an end"},
		"days alone":    {[]string{"when", "windows", "days-1", "mon", "from-1", "", "to-1", ""}, "both a beginning and an end"},
		"no row":        {[]string{"when", "windows"}, "at least one span"},
		"no time":       {[]string{"when", "windows", "from-1", "25:00", "to-1", "x<b>"}, "no span of time"},
		"zone":          {[]string{"when", "always", "tz", "Mars/Olympus"}, "time zone is not known"},
		"zone of a box": {[]string{"when", "always", "tz", "Local"}, "time zone is not known"},
		"zone path":     {[]string{"when", "always", "tz", "../../etc/passwd"}, "time zone is not known"},
		"past":          {[]string{"when", "always", "until", yesterday}, "over already"},
		"no date":       {[]string{"when", "always", "until", "soon"}, "not a date"},
	} {
		t.Run(name, func(t *testing.T) {
			a := b.post("/grant/chat", append(tt.fields, "redirect", landed, "allow", "yes")...)
			a.want(http.StatusUnprocessableEntity).has(tt.says, `role="alert"`).hasNot("x<b>")
			shown := formOf(a.body)
			for i := 0; i < len(tt.fields); i += 2 {
				if tt.fields[i+1] != "" && shown.Get(tt.fields[i]) != tt.fields[i+1] {
					t.Errorf("%s is %q in the form now", tt.fields[i], shown.Get(tt.fields[i]))
				}
			}
			if shown.Get("redirect") != landed {
				t.Error("the way back is lost")
			}
		})
	}
	h.wantNoGrant(ann, "chat")
	b.post("/grant/chat", "allow", "yes", "disallow", "yes").want(http.StatusBadRequest)
	b.post("/grant/chat").want(http.StatusBadRequest)
	h.wantNoGrant(ann, "chat")
}

// TestManyTimes: a grant with as many windows as can be is shown whole, in a page that is not too heavy.
func TestManyTimes(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	g := presence.Grant{Email: ann, App: "chat", Notify: true, TZ: "UTC"}
	for range maxRows {
		g.Windows = append(g.Windows, presence.Window{Days: []string{"mon"}, From: "10:00", To: "24:00"})
	}
	if _, err := h.hub.Allow(g, presence.ByAdmin); err != nil {
		t.Fatal(err)
	}
	b := h.signedIn(ann)
	form := formOf(b.get("/grant/chat").want(http.StatusOK).body)
	form.Set("allow", "yes")
	b.do("POST", "/grant/chat", "application/x-www-form-urlencoded", form.Encode()).want(http.StatusSeeOther)
	if got := h.wantGrant(ann, "chat"); len(got.Windows) != maxRows || !got.Shown(time.Date(2026, 3, 2, 23, 59, 0, 0, time.UTC)) || got.Shown(time.Date(2026, 3, 3, 0, 1, 0, 0, time.UTC)) {
		t.Errorf("saved as shown: %d windows, %+v", len(got.Windows), got.Windows)
	}
}

// TestPendingRequestIsSettledOnThePage: the app hears of the answer, and the page says what it knows already.
func TestPendingRequestIsSettledOnThePage(t *testing.T) {
	for _, answer := range []string{"allow", "disallow"} {
		h := newHouse(t)
		h.addApp("chat")
		b := h.signedIn(ann)
		l, err := h.hub.Link("chat", presence.ComponentLink)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Subscribe(presence.Peer{Email: ann}, "bob@chat.example.org", "Bob wants to chat with you."); err != nil {
			t.Fatal(err)
		}
		b.get("/grant/chat").has("Bob wants to chat with you.", "knows your e-mail address already")
		b.post("/grant/chat", answer, "yes").want(http.StatusSeeOther)
		if rs, err := h.hub.RequestsOf(ann); err != nil || len(rs) != 0 {
			t.Errorf("%s: still waiting: %v %v", answer, rs, err)
		}
		want := presence.Subscribed
		if answer == "disallow" {
			want = presence.Unsubscribed
		}
		if u := h.take(l); u.Kind != want || u.To != "bob@chat.example.org" {
			t.Errorf("%s: the app hears %+v", answer, u)
		}
		l.Close()
	}
}

// take waits for the next thing that an app is told.
func (h *house) take(l *presence.Link) presence.Update {
	h.t.Helper()
	var us [1]presence.Update
	for {
		if n := l.Take(us[:]); n > 0 {
			return us[0]
		}
		select {
		case <-l.Wake():
		case <-h.t.Context().Done():
			h.t.Fatal("the app hears nothing")
		}
	}
}

// TestSwitchedOffApp can be refused and revoked, not allowed.
func TestSwitchedOffApp(t *testing.T) {
	h := newHouse(t)
	app := h.addApp("chat")
	b := h.signedIn(ann)
	b.post("/grant/chat", "allow", "").want(http.StatusSeeOther)
	app.Disabled = true
	if err := h.hub.PutApp(app); err != nil {
		t.Fatal(err)
	}
	b.get("/grant/chat").want(http.StatusOK).has("switched off", `name="disallow"`).hasNot(`name="allow"`)
	b.post("/grant/chat", "allow", "").want(http.StatusForbidden)
	b.post("/grant/chat", "disallow", "").want(http.StatusSeeOther)
	h.wantNoGrant(ann, "chat")
}

func TestRevoke(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	for _, next := range []string{"", "/grant/chat", "https://evil.example.org/"} {
		b.post("/grant/chat", "allow", "").want(http.StatusSeeOther)
		b.get("/revoke/chat").want(http.StatusMethodNotAllowed)
		h.wantGrant(ann, "chat")
		switch a := b.post("/revoke/chat", "next", next); next {
		case "":
			a.want(http.StatusOK)
			if strings.TrimSpace(a.body) != `{"result":"OK"}` || a.Header.Get("Content-Type") != "application/json" {
				t.Errorf("revoke answers %s %s", a.Header.Get("Content-Type"), a.body)
			}
		case "/grant/chat":
			a.wantTo(next)
		default:
			a.wantTo("/")
		}
		h.wantNoGrant(ann, "chat")
	}
	b.post("/revoke/chat").want(http.StatusNotFound)
	b.post("/revoke/nobody").want(http.StatusNotFound)
	h.browser().post("/revoke/chat").want(http.StatusUnauthorized)
}

func TestGetApps(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	h.addApp("other")
	h.browser().get("/getApps").want(http.StatusUnauthorized)
	b := h.signedIn(ann)
	if a := b.get("/getApps").want(http.StatusOK); strings.TrimSpace(a.body) != `{"apps":[]}` {
		t.Errorf("no apps: %s", a.body)
	}
	b.post("/grant/chat", "allow", "").want(http.StatusSeeOther)
	h.signedIn("bob@example.org").post("/grant/other", "allow", "").want(http.StatusSeeOther)
	b.get("/getApps").has(`"name":"Chat"`, `"uid":"chat"`, `"puid":"`+h.wantGrant(ann, "chat").PUID+`"`, `"shown":true`, `"windows":[]`).hasNot("other")
}

// TestGrantWithoutSession: a page leads to the sign-in form and back; a form is refused.
func TestGrantWithoutSession(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.browser()
	path := "/grant/chat?redirect=" + url.QueryEscape(landed)
	a := b.get(path).wantTo("/?next=" + url.QueryEscape(path))
	form := formOf(b.get(a.Header.Get("Location")).want(http.StatusOK).body)
	b.post("/grant/chat", "allow", "").want(http.StatusUnauthorized)
	b.post("/login", "email", ann, "assertion", "dev", "next", form.Get("next")).wantTo(path)
	b.get(path).want(http.StatusOK).has("May <bdi>Chat</bdi>")
	h.wantNoGrant(ann, "chat")
}
