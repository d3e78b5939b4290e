package web

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"presenced/identity/oidctest"
	"presenced/presence"
)

// The prototype of 2013 had sixteen holes. Each has its test here by its number; where the hole was in
// another place than the pages, the test is about the core that closes it, and closedElsewhere names those at
// the edge.

// closedElsewhere are tests of other packages that hold a hole shut, by its number.
func closedElsewhere() map[int][]string {
	return map[int][]string{
		1:  {"wsbridge TestFirstFrames", "wsbridge TestTooLateToIdentify", "wsbridge TestNewAssertionRenews"},
		2:  {"wsbridge TestAppChannelAuth", "wsbridge TestAppChannelTooLate", "xmppsrv TestHandshakes", "xmppsrv TestOpenings"},
		3:  {"wsbridge TestAppChannelAuth", "xmppsrv TestNobodyLearnsWhichDomainsExist", "xmppsrv TestParity"},
		4:  {"wsbridge TestAppChannelStrangers", "xmppsrv TestAppsAreApart"},
		5:  {"wsbridge TestAppChannelSnapshotAndChanges", "xmppsrv TestAddress"},
		6:  {"wsbridge TestAppChannelNotifies", "wsbridge TestAppend"},
		7:  {"presence TestRefusals", "store TestOldestGoesWhenFullAndIsCounted", "store TestOfTwoConfirmsOneCounts"},
		8:  {"identity TestIDToken", "identity TestAudienceIsAnOrigin", "identity TestBundle"},
		9:  {"identity TestNoBundle", "identity TestForgedIDTokens", "wsbridge TestRefusedFrames"},
		10: {"presence TestLastStateWinsWhileTheAppIsSlow"},
		11: {"presence TestNewerSocketReplacesAndTheOlderOnesLossIsNothing", "presence TestModel", "wsbridge TestLostSocketLingers"},
		12: {"presence TestSnapshotThenChanges", "wsbridge TestNotificationsWaitForTheDevice", "wsbridge TestNoSignOfLife",
			"wsbridge TestAppChannelSnapshotAndChanges", "store TestExpiredIsNeitherDeliveredNorCountedNorInTheWay", "xmppsrv TestSilentPeerIsPingedAndDropped"},
		13: {"wsbridge TestAppChannelRevoke", "presence TestRevokeSaysGoneThenUnsubscribedAndForgetsTheQueue", "presence TestRevokeWhileAwayIsKept"},
		16: {"cmd/presenced TestValidateRules"},
	}
}

// TestHolesClosedElsewhere: the tests that are named above exist.
func TestHolesClosedElsewhere(t *testing.T) {
	sources := map[string]string{}
	for hole, names := range closedElsewhere() {
		for _, name := range names {
			pkg, test, _ := strings.Cut(name, " ")
			if _, read := sources[pkg]; !read {
				sources[pkg] = testSources(t, pkg)
			}
			if !strings.Contains(sources[pkg], "\nfunc "+test+"(t *testing.T)") {
				t.Errorf("hole %d: there is no %s in %s", hole, test, pkg)
			}
		}
	}
}

func testSources(t *testing.T, pkg string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", pkg, "*_test.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no tests in %s: %v", pkg, err)
	}
	var all strings.Builder
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}

// link connects an app to the hub.
func (h *house) link(app string) *presence.Link {
	h.t.Helper()
	l, err := h.hub.Link(app, presence.ComponentLink)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(l.Close)
	return l
}

// attach connects a device and sets its status.
func (h *house) attach(email, device string, st presence.Status) *presence.Session {
	h.t.Helper()
	s, err := h.hub.Attach(presence.Attach{Email: email, Device: device, Ready: presence.NewReady()})
	if err == nil {
		err = s.Publish(st, time.Time{})
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// wantNothing checks that an app has not been told anything that it did not take.
func (h *house) wantNothing(l *presence.Link) {
	h.t.Helper()
	var us [1]presence.Update
	if n := l.Take(us[:]); n > 0 {
		h.t.Errorf("the app hears %+v", us[0])
	}
}

// Hole 1: who a device said it was, it was. Nobody is anybody without an assertion that names her.
func TestHole01NobodyIsBelievedAsSent(t *testing.T) {
	h := newHouse(t)
	token := h.tokenFor("bob@example.org", "")
	for _, assertion := range []string{"", "anything", token, ann} {
		if a := h.browser().post("/login", "email", ann, "assertion", assertion); a.StatusCode < 400 {
			t.Errorf("assertion %q: %s", assertion, a.Status)
		}
		body := `{"email":"ann@example.org","assertion":"` + assertion + `","device":"d"}`
		if a := h.browser().postJSON("/login/device", body); a.StatusCode < 400 {
			t.Errorf("a device with assertion %q: %s", assertion, a.Status)
		}
	}
}

// Hole 2: an app spoke before it had proven who it is. Here its key is no key to anything of the pages either.
func TestHole02AppsProveWhoTheyAre(t *testing.T) {
	h := newHouse(t)
	app := h.addApp("chat")
	for _, key := range []string{app.APIKey, app.Secret} {
		h.browser().post("/login", "email", ann, "assertion", key).want(http.StatusUnauthorized)
		b := h.browser()
		b.header.Set("Authorization", "Bearer "+key)
		b.get("/getApps").want(http.StatusUnauthorized)
	}
}

// Hole 3: an app that nobody knew saw everyone.
func TestHole03UnknownAppsSeeNobody(t *testing.T) {
	h := newHouse(t)
	if _, err := h.hub.Link("welp", presence.SocketLink); err == nil {
		t.Error("an unknown app is linked")
	}
	b := h.signedIn(ann)
	b.get("/grant/welp").want(http.StatusNotFound)
	b.post("/grant/welp", "allow", "yes").want(http.StatusNotFound)
	h.wantNoGrant(ann, "welp")
}

// Hole 4: a grant to one app was a grant to all.
func TestHole04AGrantIsForOneApp(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	h.addApp("other")
	chat, other := h.link("chat"), h.link("other")
	h.signedIn(ann).post("/grant/chat", "allow", "").want(http.StatusSeeOther)
	phone := h.attach(ann, "phone", presence.Online)
	defer phone.Close()
	if u := h.take(chat); u.Kind != presence.Presence || u.Status != presence.Online {
		t.Errorf("the app that was allowed hears %+v", u)
	}
	h.wantNothing(other)
	puid := h.wantGrant(ann, "chat").PUID
	for _, p := range []presence.Peer{{PUID: puid}, {Email: ann}} {
		if got, err := other.Probe(p); err == nil {
			t.Errorf("the other app sees %+v", got)
		}
	}
}

// Hole 5: the app got the e-mail in place of the name made for it.
func TestHole05TheEmailStaysHere(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	chat := h.link("chat")
	b := h.signedIn(ann)
	to := b.post("/grant/chat", "redirect", landed, "allow", "").Header.Get("Location")
	phone := h.attach(ann, "phone", presence.Online)
	defer phone.Close()
	u := h.take(chat)
	back, err := url.Parse(to)
	if err != nil || back.Query().Get(puidParam) != u.Local || u.ByEmail {
		t.Errorf("told %+v, and sent to %s", u, to)
	}
	for _, told := range []string{to, u.Local, u.Tag} {
		if strings.Contains(told, "ann") || strings.Contains(told, "example.org/") && told != to || strings.Contains(told, "phone") {
			t.Errorf("the app learns %q", told)
		}
	}
}

// Hole 6: the key of an app went to the devices of its users.
func TestHole06KeysOfAppsAreShownToNobody(t *testing.T) {
	h := newHouse(t)
	app := h.addApp("chat", func(a *presence.App) { a.Secret, a.APIKey = "very-secret", "very-key" })
	chat := h.link("chat")
	b := h.signedIn(ann)
	b.post("/grant/chat", "allow", "").want(http.StatusSeeOther)
	for _, path := range []string{"/", "/grant/chat", "/grant/chat?done=allowed", "/getApps"} {
		b.get(path).hasNot(app.Secret, app.APIKey)
	}
	phone := h.attach(ann, "phone", presence.Online)
	defer phone.Close()
	d, err := chat.Notify(presence.Peer{PUID: h.wantGrant(ann, "chat").PUID}, presence.Message{Message: "hello", TTL: 0})
	if err == nil {
		err = d.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	o, err := phone.Next(10)
	if err != nil || len(o.Notifications) != 1 {
		t.Fatalf("%+v %v", o, err)
	}
	n := o.Notifications[0]
	if all := n.Source + n.Message + n.Action + n.From + string(n.Data) + n.App; strings.Contains(all, "very-") {
		t.Errorf("the device gets %q", all)
	}
}

// Hole 7: anybody could send anything to any e-mail.
func TestHole07NotificationsNeedAGrant(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	h.addApp("other")
	chat, other := h.link("chat"), h.link("other")
	b := h.signedIn(ann)
	b.post("/grant/chat", "when", "always", "allow", "").want(http.StatusSeeOther) // without notifications
	puid := h.wantGrant(ann, "chat").PUID
	for name, send := range map[string]func() error{
		"by e-mail": func() error {
			_, err := chat.Notify(presence.Peer{Email: ann}, presence.Message{Message: "x"})
			return err
		},
		"not allowed": func() error {
			_, err := chat.Notify(presence.Peer{PUID: puid}, presence.Message{Message: "x"})
			return err
		},
		"another app": func() error {
			_, err := other.Notify(presence.Peer{PUID: puid}, presence.Message{Message: "x"})
			return err
		},
		"another's email": func() error {
			_, err := other.Notify(presence.Peer{Email: ann}, presence.Message{Message: "x"})
			return err
		},
	} {
		if err := send(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Hole 8: an assertion made for any other site was good here.
func TestHole08AssertionsAreForThisSite(t *testing.T) {
	h, issuer := withIssuer(t)
	for _, audience := range []any{"another-client", "*", []string{"another-client"}, "", nil} {
		token := issuer.Token(oidctest.Claims{"aud": audience})
		a := h.browser().postJSON("/login", `{"assertion":"`+token+`"}`)
		if a.StatusCode != http.StatusUnauthorized || cookieOf(a) != nil {
			t.Errorf("audience %v: %s", audience, a.Status)
		}
	}
	h.browser().postJSON("/login", `{"assertion":"`+issuer.Token(nil)+`"}`).want(http.StatusOK).has(ann)
}

// Hole 9: a bad assertion was an error of the server.
func TestHole09BadSignInIsNoCrash(t *testing.T) {
	h, _ := withIssuer(t)
	for _, assertion := range []string{"", "\x00", "\xff\xfe", "a~b", "a.b.c", "....", "eyJhbGciOiJub25lIn0.e30.", strings.Repeat("~", 5000), "é", "{}", "null"} {
		for _, email := range []string{"", ann, "@", "ann@", "\x00@x", "\xff@x", strings.Repeat("a", 500) + "@x"} {
			a := h.browser().post("/login", "email", email, "assertion", assertion)
			if a.StatusCode != http.StatusUnauthorized && a.StatusCode != http.StatusBadRequest {
				t.Errorf("email %q, assertion %q: %s", email, assertion, a.Status)
			}
		}
	}
	for _, body := range []string{"", "{", "[]", "null", `"x"`, `{"email":1}`, `{"email":{},"assertion":[]}`, "\xff"} {
		if a := h.browser().postJSON("/login", body); a.StatusCode != http.StatusBadRequest {
			t.Errorf("body %q: %s", body, a.Status)
		}
	}
}

// Hole 10: one change was told to one subscriber and broke for the next.
func TestHole10EveryAppHearsEveryChange(t *testing.T) {
	h := newHouse(t)
	b := h.signedIn(ann)
	var links []*presence.Link
	for _, id := range []string{"one", "two", "three"} {
		h.addApp(id)
		links = append(links, h.link(id))
		b.post("/grant/"+id, "allow", "").want(http.StatusSeeOther)
	}
	phone := h.attach(ann, "phone", presence.Online)
	for _, l := range links {
		if u := h.take(l); u.Status != presence.Online {
			t.Errorf("%s hears %+v", l.App().ID, u)
		}
	}
	if err := phone.Publish(presence.Unavailable, time.Time{}); err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if u := h.take(l); u.Status != presence.Unavailable {
			t.Errorf("%s hears %+v", l.App().ID, u)
		}
	}
	phone.Close()
}

// Hole 11: one device that left took the others with it, and said so twice.
func TestHole11DevicesAreTheirOwn(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	chat := h.link("chat")
	h.signedIn(ann).post("/grant/chat", "allow", "").want(http.StatusSeeOther)
	phone, desk := h.attach(ann, "phone", presence.Online), h.attach(ann, "desk", presence.Online)
	tags := []string{h.take(chat).Tag, h.take(chat).Tag}
	if err := phone.Publish(presence.Offline, time.Time{}); err != nil {
		t.Fatal(err)
	}
	phone.Close()
	if u := h.take(chat); u.Status != presence.Offline || !slices.Contains(tags, u.Tag) {
		t.Errorf("the app hears %+v", u)
	}
	h.wantNothing(chat)
	got, err := chat.Probe(presence.Peer{PUID: h.wantGrant(ann, "chat").PUID})
	if err != nil || !slices.ContainsFunc(got, func(u presence.Update) bool { return u.Status == presence.Online }) {
		t.Errorf("the other device is gone: %+v %v", got, err)
	}
	desk.Close()
}

// Hole 12: an app that connected saw nobody until somebody moved, and what it missed was lost.
func TestHole12WhoComesLaterMissesNothing(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	b.post("/grant/chat", "allow", "").want(http.StatusSeeOther)
	phone := h.attach(ann, "phone", presence.Online)
	defer phone.Close()
	chat := h.link("chat")
	if u := h.take(chat); u.Status != presence.Online || !u.Delayed {
		t.Errorf("the snapshot is %+v", u)
	}
	chat.Close()
	b.post("/revoke/chat").want(http.StatusOK)
	if u := h.take(h.link("chat")); u.Kind != presence.Unsubscribed {
		t.Errorf("after the return it hears %+v", u)
	}
}

// Hole 13: a link revoked, any site could, and the app was not told.
func TestHole13RevokeIsAPostOfOursAndTheAppIsTold(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	chat := h.link("chat")
	b := h.signedIn(ann)
	b.post("/grant/chat", "allow", "").want(http.StatusSeeOther)
	phone := h.attach(ann, "phone", presence.Online)
	defer phone.Close()
	h.take(chat)
	b.get("/revoke/chat").want(http.StatusMethodNotAllowed)
	b.post("/revoke/other").refused(http.StatusNotFound, 60, "")
	h.browser().post("/revoke/chat").refused(http.StatusUnauthorized, 30, "")
	b.header.Set("Sec-Fetch-Site", "cross-site")
	b.post("/revoke/chat").want(http.StatusForbidden)
	h.wantNothing(chat)
	b.header = http.Header{}
	b.post("/revoke/chat").want(http.StatusOK)
	if u := h.take(chat); u.Kind != presence.Presence || u.Status != presence.Offline {
		t.Errorf("first it hears %+v", u)
	}
	if u := h.take(chat); u.Kind != presence.Unsubscribed {
		t.Errorf("then it hears %+v", u)
	}
}

// Hole 14: each visit made a new name; it went to whatever address was given, with a broken query; and the page named
// another app.
func TestHole14TheGrantPage(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat", func(a *presence.App) { a.Name, a.Redirects = "Talk", []string{"https://talk.example.org/cb?lang=en"} })
	b := h.signedIn(ann)
	b.get("/grant/chat").has("<bdi>Talk</bdi>").hasNot("ChatRoom")
	var names []string
	for range 3 {
		to, err := url.Parse(b.post("/grant/chat", "redirect", "https://talk.example.org/cb?lang=en", "allow", "").Header.Get("Location"))
		if err != nil || to.Query().Get("lang") != "en" || strings.Count(to.String(), "?") != 1 {
			t.Errorf("sent to %s", to)
		}
		names = append(names, to.Query().Get(puidParam))
	}
	if names[0] == "" || names[0] != names[1] || names[1] != names[2] {
		t.Errorf("names %v", names)
	}
	b.post("/grant/chat", "redirect", "https://evil.example.org/", "allow", "").want(http.StatusBadRequest)
	b.post("/grant/none", "redirect", "https://talk.example.org/cb?lang=en", "allow", "").want(http.StatusNotFound)
	b.post("/revoke/chat").want(http.StatusOK)
	b.post("/grant/chat", "allow", "").want(http.StatusSeeOther)
	if h.wantGrant(ann, "chat").PUID == names[0] {
		t.Error("the name is the same after a revoke")
	}
}

// Hole 15: the domain of an app was never looked at, and apps were found by a name that others had too.
func TestHole15AppsAreKnownByTheirIDAndSayWhatIsProven(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	h.addApp("chat2") // of the same name
	b := h.signedIn(ann)
	b.get("/grant/chat2").has("chat2.example.org", "Not verified").hasNot("Verified domain")
	h.addApp("claimed", func(a *presence.App) { a.Owner, a.Site = "dev@example.org", "claimed.example.org" })
	b.get("/grant/claimed").has("Not verified").hasNot("administrator", "Verified domain")
	h.addApp("proven", func(a *presence.App) {
		a.Owner, a.Site, a.Verified = "dev@example.org", "example.org", h.now.Now()
		a.Component = "proven.example.org"
	})
	b.get("/grant/proven").has("Verified domain", `<span class="domain">example.org</span>`).hasNot("Not verified")
	b.get("/grant/Chat").want(http.StatusNotFound)
	b.post("/grant/chat2", "allow", "").want(http.StatusSeeOther)
	h.wantNoGrant(ann, "chat")
	h.wantGrant(ann, "chat2")
}

// Hole 16: the page for administrators was open to all, and so were its events.
func TestHole16AdministratorsOnly(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Admins = []string{"root@example.org"} })
	for _, path := range []string{"/admin", "/admin/events", "/_admin"} {
		for _, b := range []*browser{h.browser(), h.signedIn(ann)} {
			if a := b.get(path); a.StatusCode == http.StatusOK {
				t.Errorf("%s is open", path)
			}
		}
	}
	called := 0
	page := h.site.sessions.LoadAndSave(markSession(h.site.adminOnly(func(http.ResponseWriter, *http.Request, string) { called++ })))
	for email, want := range map[string]int{ann: 0, "root@example.org": 1} {
		called = 0
		serveAs(t, h, page, email)
		if called != want {
			t.Errorf("%s gets through %d times, want %d", email, called, want)
		}
	}
}
