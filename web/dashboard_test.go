package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"presenced/identity"
	"presenced/presence"
)

const (
	me      = "ann@example.org"
	another = "bob@example.org"
)

// putApp registers an app, and lets her be seen by it where g is there.
func (h *house) putApp(id, name string, grants ...presence.Grant) {
	h.t.Helper()
	err := h.hub.PutApp(presence.App{ID: id, Name: name, Component: id + ".example", Secret: "very-secret", APIKey: "very-secret-key",
		Conflict: presence.Replace, Description: "To <b>ring</b> you"})
	if err != nil {
		h.t.Fatal(err)
	}
	for _, g := range grants {
		g.App = id
		if _, err := h.hub.Allow(g, presence.ByUser); err != nil {
			h.t.Fatal(err)
		}
	}
}

// request lets an app ask for her.
func (h *house) request(app, email, purpose string) {
	h.t.Helper()
	l, err := h.hub.Link(app, presence.ComponentLink)
	if err == nil {
		defer l.Close()
		err = l.Subscribe(presence.Peer{Email: email}, "bot@"+app+".example", purpose)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) token(email, device string) (secret string, hash [32]byte) {
	h.t.Helper()
	secret = identity.NewSecret()
	hash = identity.HashSecret(secret)
	if err := h.store.PutTokens([]presence.Token{{Hash: hash, Email: email, Device: device, Created: h.now.Now()}}); err != nil {
		h.t.Fatal(err)
	}
	return secret, hash
}

func (h *house) grantOf(email, app string) (presence.Grant, bool) {
	h.t.Helper()
	g, ok, err := h.store.Grant(email, app)
	if err != nil {
		h.t.Fatal(err)
	}
	return g, ok
}

func TestDashboardShowsWhatThereIs(t *testing.T) {
	h := newHouse(t)
	h.putApp("tea", "Tea & Talk", presence.Grant{Email: me, Notify: true, Windows: []presence.Window{{Days: []string{"mon", "tue"}, From: "21:00", To: "23:00"}}, TZ: "Europe/Paris"})
	h.putApp("calls", "Calls", presence.Grant{Email: me, Idle: true})
	h.putApp("news", "News")
	h.request("news", me, `Because <script>alert("x")</script>`)
	h.attach(me, "phone", presence.Unavailable)
	b := h.signedIn(me)
	page := b.get("/dashboard").want(http.StatusOK)
	page.has(`<span class="badge unavailable">Away</span>`, "Tea &amp; Talk", "Mon, Tue 21:00–23:00", "tea.example", "May not send notifications.",
		"Sees since when you have been idle.", "Calls", "phone", "1 app asks to see you", "Because &lt;script&gt;", "/dashboard/requests/news",
		"You allowed Calls to see you", "<svg", `id="t-week-tea"`, "Europe/Paris")
	page.hasNot("very-secret", `alert("x")`, " style=", "onclick=")
	if n := len(page.body); n > 60_000 {
		t.Errorf("%d bytes", n)
	}
	small := b.get("/sidebar").want(http.StatusOK)
	small.has("Tea &amp; Talk", "1 app asks to see you", `name="next" value="/sidebar"`)
	small.hasNot("Erase", "<svg", "What happened")

	app := b.get("/dashboard/apps/tea").want(http.StatusOK)
	app.has("What <bdi>Tea &amp; Talk</bdi> saw", "You allowed Tea", `id="t-week-tea"`)
	app.hasNot("allowed Calls", `id="t-week-calls"`)
	for _, path := range []string{"/dashboard/apps/nothing", "/dashboard/apps/news"} { // which only asked
		b.get(path).want(http.StatusNotFound)
	}

	bob := h.signedIn(another)
	bob.get("/dashboard").want(http.StatusOK).hasNot("Tea", "Calls", "phone", "News")
	bob.get("/dashboard/apps/tea").want(http.StatusNotFound)
}

// TestPartsAreTheSame: what a script asks for alone is what the whole page has.
func TestPartsAreTheSame(t *testing.T) {
	h := newHouse(t)
	h.putApp("tea", "Tea", presence.Grant{Email: me})
	h.putApp("news", "News")
	h.request("news", me, "")
	h.attach(me, "phone", presence.Online)
	b := h.signedIn(me)
	page := b.get("/dashboard").want(http.StatusOK)
	for part := range dashboardParts {
		a := b.get("/dashboard?part=" + part).want(http.StatusOK)
		if body := strings.TrimSpace(a.body); body == "" || !strings.Contains(page.body, body) {
			t.Errorf("%s is not what the page has: %s", part, body)
		}
		a.hasNot("<html")
	}
	b.get("/dashboard?part=apps&small=1").want(http.StatusOK).has(`value="/sidebar"`)
	b.get("/dashboard?part=everything").want(http.StatusNotFound)
	h.browser().get("/dashboard?part=apps").wantTo("/?next=" + "%2Fdashboard%3Fpart%3Dapps")
}

// TestDashboardIsBounded: with as much as anybody can have, a page is no more than a page may weigh.
func TestDashboardIsBounded(t *testing.T) {
	h := newHouse(t)
	if err := h.store.PutUser(presence.User{Email: me, Created: h.now.Now().AddDate(0, -1, 0)}); err != nil {
		t.Fatal(err)
	}
	var windows []presence.Window
	for i := range 32 {
		windows = append(windows, presence.Window{From: fmt.Sprintf("%02d:%02d", i/2, i%2*30), To: fmt.Sprintf("%02d:%02d", i/2, i%2*30+15)})
	}
	for i := range 120 {
		h.putApp(fmt.Sprintf("app-%03d-%s", i, strings.Repeat("x", 40)), strings.Repeat("Long & <name> ", 9),
			presence.Grant{Email: me, Windows: windows, TZ: "America/New_York",
				NoStatus: i%2 == 0, NoDevices: true})
	}
	var activity []presence.Event
	for i := range 1000 {
		at := h.now.Now().Add(time.Duration(i-1000) * 9 * time.Minute)
		activity = append(activity, presence.Event{Time: at, Kind: presence.DeviceStatus, Email: me, Device: "phone", Status: presence.Status(i % 3)})
	}
	if err := h.store.AppendActivity(activity); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		app := fmt.Sprintf("asks-%d", i)
		h.putApp(app, strings.Repeat("&", 100))
		h.request(app, me, strings.Repeat("<&>", 170))
	}
	for i := range 50 { // as many tokens as one may have
		h.token(me, fmt.Sprintf("device-%02d", i))
		h.token(me, "")
	}
	b := h.signedIn(me)
	for part := range dashboardParts {
		t.Logf("%s: %d bytes", part, len(b.get("/dashboard?part="+part).want(http.StatusOK).body))
	}
	page := b.get("/dashboard").want(http.StatusOK)
	if n := len(page.body); n > maxPage {
		t.Errorf("%d bytes", n)
	}
	page.has("The next of 120 apps", "?apps=15", "?devices=12", "?before=")
	b.get("/dashboard?apps=110&week=-1&devices=48").want(http.StatusOK).hasNot("?apps=125", "?devices=60")
	b.get("/dashboard?apps=-1&week=99999999999&before=x").want(http.StatusOK)
}

func TestBeInvisible(t *testing.T) {
	h := newHouse(t)
	b := h.signedIn("new@example.org") // who has nothing yet
	user := func() presence.User {
		u, _, err := h.store.User("new@example.org")
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	b.post("/dashboard/invisible", "for", "hour").wantTo("/dashboard")
	if u := user(); !u.Invisible || !u.InvisibleUntil.Equal(h.now.Now().Add(time.Hour)) {
		t.Errorf("for an hour: %+v", u)
	}
	b.get("/dashboard").has("Invisible</span> No app sees you until")
	b.post("/dashboard/invisible", "for", "off", "next", "/sidebar").wantTo("/sidebar")
	if u := user(); u.Invisible {
		t.Errorf("off: %+v", u)
	}
	b.post("/dashboard/invisible", "for", "always", "next", "//evil.example").wantTo("/dashboard")
	if u := user(); !u.Invisible || !u.InvisibleUntil.IsZero() {
		t.Errorf("always: %+v", u)
	}
	b.post("/dashboard/invisible").want(http.StatusBadRequest)
	b.post("/dashboard/invisible", "for", "tomorrow").want(http.StatusSeeOther)
	if u := user(); !u.InvisibleUntil.Equal(tomorrow(h.now.Now(), time.UTC)) {
		t.Errorf("until tomorrow: %+v", u)
	}
	evil := h.signedIn("new@example.org")
	evil.header.Set("Sec-Fetch-Site", "cross-site")
	evil.post("/dashboard/invisible", "for", "off").want(http.StatusForbidden)
	if !user().Invisible {
		t.Error("another site's form made her visible")
	}
}

func TestPauseResumeRevoke(t *testing.T) {
	h := newHouse(t)
	h.putApp("tea", "Tea", presence.Grant{Email: me, TZ: "Europe/Paris"}, presence.Grant{Email: another})
	b := h.signedIn(me)
	b.post("/dashboard/apps/tea/pause", "for", "hour").wantTo("/dashboard")
	if g, _ := h.grantOf(me, "tea"); !g.Paused || !g.PausedUntil.Equal(h.now.Now().Add(time.Hour)) {
		t.Errorf("for an hour: %+v", g)
	}
	b.get("/dashboard").has("paused until", "/dashboard/apps/tea/resume")
	b.post("/dashboard/apps/tea/pause", "for", "tomorrow").want(http.StatusSeeOther)
	if g, _ := h.grantOf(me, "tea"); !g.PausedUntil.Equal(tomorrow(h.now.Now(), zone(t, "Europe/Paris"))) {
		t.Errorf("until tomorrow: %v", g.PausedUntil)
	}
	b.post("/dashboard/apps/tea/pause", "for", "always").want(http.StatusSeeOther)
	if g, _ := h.grantOf(me, "tea"); !g.Paused || g.PausedUntil != nil {
		t.Errorf("always: %+v", g)
	}
	b.post("/dashboard/apps/tea/resume").want(http.StatusSeeOther)
	if g, _ := h.grantOf(me, "tea"); g.Paused {
		t.Errorf("resumed: %+v", g)
	}
	b.post("/dashboard/apps/tea/revoke", "next", "/sidebar").wantTo("/sidebar")
	if _, ok := h.grantOf(me, "tea"); ok {
		t.Error("revoked, and still there")
	}
	for _, what := range []string{"pause", "resume", "revoke"} {
		b.post("/dashboard/apps/tea/"+what, "for", "hour").want(http.StatusNotFound)
		b.get("/dashboard/apps/tea/" + what).want(http.StatusMethodNotAllowed)
		h.browser().post("/dashboard/apps/tea/"+what, "for", "hour").want(http.StatusUnauthorized)
	}
	if g, ok := h.grantOf(another, "tea"); !ok || g.Paused {
		t.Error("that was another user's")
	}
	b.get("/dashboard/apps/tea").want(http.StatusOK).has("It may not see you now.", "You ended what Tea may see")
}

func TestAnswerOnThePage(t *testing.T) {
	h := newHouse(t)
	h.attach(me, "phone", presence.Online)
	for _, app := range []string{"tea", "talk"} {
		h.putApp(app, app)
		h.request(app, me, "please")
	}
	b := h.signedIn(me)
	b.post("/dashboard/requests/tea").want(http.StatusBadRequest)
	b.post("/dashboard/requests/tea", "answer", "allow").wantTo("/dashboard")
	b.post("/dashboard/requests/talk", "answer", "deny").wantTo("/dashboard")
	if g, ok := h.grantOf(me, "tea"); !ok || g.Address != presence.ByEmail {
		t.Errorf("allowed: %+v", g)
	}
	if _, ok := h.grantOf(me, "talk"); ok {
		t.Error("denied, and allowed")
	}
	b.get("/dashboard").hasNot("asks to see you", "ask to see you")
	// A form that was open since then neither revokes what was allowed nor allows what nobody asks for.
	b.post("/dashboard/requests/tea", "answer", "deny").want(http.StatusNotFound)
	b.post("/dashboard/requests/talk", "answer", "allow").want(http.StatusNotFound)
	if _, ok := h.grantOf(me, "tea"); !ok {
		t.Error("an old form revoked it")
	}
}

func TestDevices(t *testing.T) {
	h := newHouse(t)
	phone := h.attach(me, "phone", presence.Online)
	other := h.attach(another, "phone", presence.Online)
	secret, _ := h.token(me, "phone")
	_, everywhere := h.token(me, "")
	_, bobs := h.token(another, "")
	verifier := identity.NewToken(h.store, h.now.Now)
	b := h.signedIn(me)

	b.post("/dashboard/devices/phone/rename", "name", ` My "phone" `+"\u202e").wantTo("/dashboard")
	b.get("/dashboard").has(`<bdi>My &#34;phone&#34;</bdi>`, "good for more than one device")
	b.post("/dashboard/devices/phone/rename", "name", strings.Repeat("x", 500)).want(http.StatusBadRequest)
	b.post("/dashboard/devices/tablet/rename", "name", "x").want(http.StatusNotFound)

	b.post("/dashboard/devices/phone/signout").wantTo("/dashboard")
	if phone.Ended() != presence.EndKicked {
		t.Errorf("the session ended with %v", phone.Ended())
	}
	if _, err := verifier.Verify(context.Background(), me, secret); err == nil {
		t.Error("the token is still good")
	}
	b.post("/dashboard/devices/phone/remove").wantTo("/dashboard")
	b.get("/dashboard?part=devices").hasNot("phone")
	if other.Ended() != presence.Alive {
		t.Error("that was another user's device")
	}

	b.post("/dashboard/tokens/" + fmt.Sprintf("%x", bobs) + "/revoke").want(http.StatusNotFound)
	b.post("/dashboard/tokens/nonsense/revoke").want(http.StatusNotFound)
	b.post("/dashboard/tokens/" + strings.Repeat("00", 100) + "/revoke").want(http.StatusNotFound)
	b.post("/dashboard/tokens/" + fmt.Sprintf("%x", everywhere) + "/revoke").wantTo("/dashboard")
	if ts, err := h.store.TokensOf(me); err != nil || len(ts) != 0 {
		t.Errorf("left: %v %v", ts, err)
	}
}

func TestExport(t *testing.T) {
	h := newHouse(t)
	h.putApp("tea", "Tea", presence.Grant{Email: me, Notify: true})
	h.attach(another, "phone", presence.Online)
	h.putApp("news", "News")
	h.request("news", me, "please")
	secret, hash := h.token(me, "tablet")
	d, err := h.hub.NotifyUser("tea", me, "", presence.Message{Message: "Tea is ready", TTL: -1})
	if err == nil {
		err = d.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	h.attach(me, "tablet", presence.Online)
	h.putPush(me, "tablet")
	if err := h.store.AppendActivity([]presence.Event{{Time: h.now.Now(), Kind: presence.Notified, Email: me, App: "tea"}}); err != nil {
		t.Fatal(err)
	}
	a := h.signedIn(me).get("/dashboard/export").want(http.StatusOK)
	if got := a.Header.Get("Content-Disposition"); !strings.HasPrefix(got, "attachment") {
		t.Error(got)
	}
	var x struct {
		Email string

		Grants, Requests, Tokens, Notifications, Audit, Activity, Devices, Push []map[string]any
	}
	if err := json.Unmarshal([]byte(a.body), &x); err != nil {
		t.Fatal(err)
	}
	if x.Email != me || len(x.Grants) != 1 || len(x.Requests) != 1 || len(x.Tokens) != 1 || len(x.Notifications) != 1 ||
		x.Notifications[0]["message"] != "Tea is ready" || len(x.Audit) != 1 || len(x.Activity) != 1 {
		t.Errorf("%s", a.body)
	}
	if len(x.Push) != 1 || x.Push[0]["device"] != "tablet" || x.Push[0]["service"] != "https://push.example.net" {
		t.Errorf("push: %+v", x.Push)
	}
	a.hasNot("/secret-path", "its-secret", "very-secret", secret, fmt.Sprintf("%x", hash), another)
	h.browser().get("/dashboard/export").want(http.StatusSeeOther)
}

// putPush says where a device that is known can be woken.
func (h *house) putPush(email, device string) {
	h.t.Helper()
	err := h.store.PutPush(presence.PushSubscription{Email: email, Device: device, Endpoint: "https://push.example.net/secret-path", P256DH: "its-secret", Auth: "its-secret"})
	if err != nil {
		h.t.Fatal(err)
	}
}

func TestEraseEverything(t *testing.T) {
	h := newHouse(t)
	h.putApp("tea", "Tea", presence.Grant{Email: me}, presence.Grant{Email: another})
	phone := h.attach(me, "phone", presence.Online)
	h.putPush(me, "phone")
	secret, _ := h.token(me, "phone")
	b, elsewhere, bob := h.signedIn(me), h.signedIn(me), h.signedIn(another)
	for _, typed := range []string{"", another, "ann"} {
		b.post("/dashboard/erase", "email", typed).want(http.StatusUnprocessableEntity)
	}
	if phone.Ended() != presence.Alive {
		t.Fatal("ended, though nothing was confirmed")
	}
	b.post("/dashboard/erase", "email", " Ann@Example.org ").wantTo("/")
	if phone.Ended() == presence.Alive {
		t.Error("the device is connected")
	}
	if _, err := identity.NewToken(h.store, h.now.Now).Verify(context.Background(), me, secret); err == nil {
		t.Error("the token is good")
	}
	b.get("/dashboard").want(http.StatusSeeOther)
	elsewhere.get("/dashboard").want(http.StatusSeeOther)
	x, err := h.site.export(me)
	if err != nil || len(x.Audit)+len(x.Activity)+len(x.Grants)+len(x.Devices)+len(x.Push) != 0 || !x.Created.IsZero() {
		t.Errorf("left: %+v %v", x, err)
	}
	bob.get("/dashboard").want(http.StatusOK).has("Tea")
}

// TestSidebarMayBeFramed, and nothing else may.
func TestSidebarMayBeFramed(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Sidebar = "https://intranet.example" })
	b := h.signedIn(me)
	for path, want := range map[string]string{"/sidebar": "frame-ancestors https://intranet.example", "/dashboard": "frame-ancestors 'none'"} {
		a := b.get(path).want(http.StatusOK)
		if got := a.Header.Get("Content-Security-Policy"); !strings.Contains(got, want) {
			t.Errorf("%s: %s", path, got)
		}
		if framed := a.Header.Get("X-Frame-Options") == ""; framed != (path == "/sidebar") {
			t.Errorf("%s: X-Frame-Options %q", path, a.Header.Get("X-Frame-Options"))
		}
	}
	newHouse(t).signedIn(me).get("/sidebar").want(http.StatusOK)
}

// TestBrowserZone: the times on the page are the browser's, and a cookie that says nonsense changes nothing.
func TestBrowserZone(t *testing.T) {
	h := newHouse(t)
	h.putApp("tea", "Tea", presence.Grant{Email: me})
	for cookie, want := range map[string]string{
		"": "UTC", "Asia%2FKathmandu": "Asia/Kathmandu", "Asia/Kathmandu": "Asia/Kathmandu", "Local": "UTC", "../../etc/passwd": "UTC", "%zz": "UTC",
	} {
		b := h.signedIn(me)
		b.header.Set("Cookie", "tz="+cookie)
		if got := b.get("/dashboard?part=week").want(http.StatusOK); !strings.Contains(got.body, `<span class="hint">`+want+`</span>`) {
			t.Errorf("%q: not %s: %s", cookie, want, got.body)
		}
	}
}

// listener reads a stream of events.
type listener struct {
	t     *testing.T
	lines chan string // closed when the stream ends
	resp  *http.Response
	stop  context.CancelFunc
}

func (b *browser) listen(want int) *listener {
	b.h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "GET", b.h.url+"/events", nil)
	if err != nil {
		b.h.t.Fatal(err)
	}
	client := *b.client
	client.Timeout = 0
	resp, err := client.Do(req)
	if err != nil {
		b.h.t.Fatal(err)
	}
	l := &listener{b.h.t, make(chan string, 1000), resp, cancel}
	if resp.StatusCode != want {
		b.h.t.Fatalf("events: %s", resp.Status)
	}
	go func() {
		defer close(l.lines)
		defer resp.Body.Close()
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			l.lines <- s.Text()
		}
	}()
	b.h.t.Cleanup(l.leave)
	return l
}

func (l *listener) leave() {
	l.stop()
	for range l.lines {
	}
}

const patience = 60 * time.Second

// hear waits for an event and returns its parts.
func (l *listener) hear() string {
	l.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line, ok := <-l.lines:
			if !ok {
				l.t.Fatal("the stream ended")
			}
			if parts, ok := strings.CutPrefix(line, "data: "); ok {
				return parts
			}
		case <-limit:
			l.t.Fatal("nothing is heard")
		}
	}
}

// ends waits for the end of the stream and fails if anything is told before.
func (l *listener) ends() {
	l.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line, ok := <-l.lines:
			if !ok {
				return
			}
			if strings.HasPrefix(line, "data:") {
				l.t.Errorf("heard %q", line)
			}
		case <-limit:
			l.t.Fatal("the stream does not end")
		}
	}
}

func TestEventsTellWhatChanged(t *testing.T) {
	h := newHouse(t)
	h.putApp("tea", "Tea", presence.Grant{Email: me})
	h.putApp("news", "News")
	l, bob := h.signedIn(me).listen(http.StatusOK), h.signedIn(another).listen(http.StatusOK)
	if got := l.resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Error(got)
	}
	phone := h.attach(me, "phone", presence.Online)
	if got := l.hear(); got != "devices status" {
		t.Errorf("she came, and %q changed", got)
	}
	if got := l.hear(); got != "timeline week" {
		t.Errorf("then it was recorded, and %q changed", got)
	}
	h.request("news", me, "")
	if got := l.hear(); got != "requests" {
		t.Errorf("an app asked, and %q changed", got)
	}
	l.hear()
	if err := h.hub.SetPaused(me, "tea", true, presence.ByUser); err != nil {
		t.Fatal(err)
	}
	if got := l.hear(); got != "apps requests status" {
		t.Errorf("an app was paused, and %q changed", got)
	}
	phone.Close()
	h.attach(another, "tablet", presence.Online)
	if got := bob.hear(); got != "devices status" { // the first that he hears: nothing of hers
		t.Errorf("he heard %q", got)
	}
}

// TestEventsOutliveTheServersTimes: what the server allows for a request is not for a stream.
func TestEventsOutliveTheServersTimes(t *testing.T) {
	h := newHouse(t)
	b := h.signedIn(me)
	short := httptest.NewUnstartedServer(h.site)
	short.Config.ReadTimeout, short.Config.WriteTimeout = streamGather/2, streamGather/2
	short.Start()
	t.Cleanup(func() { h.site.Close(); short.Close() })
	there := *h
	there.url, b.h = short.URL, &there
	l := b.listen(http.StatusOK)
	h.attach(me, "phone", presence.Online)
	if l.hear(); l.hear() != "timeline week" { // told so long after the event, and later than the server would allow
		t.Error("something else is told")
	}
}

func TestEventsEnd(t *testing.T) {
	h := newHouse(t)
	b, out := h.signedIn(me), h.signedIn(me)
	stays, goes := b.listen(http.StatusOK), out.listen(http.StatusOK)
	out.post("/logout").want(http.StatusSeeOther)
	h.attach(me, "phone", presence.Online) // who has signed out hears nothing of it
	goes.ends()
	stays.hear()
	h.site.Close()
	for range stays.lines {
	}
	h.browser().get("/events").want(http.StatusSeeOther)
}

func TestEventsAreBounded(t *testing.T) {
	h := newHouse(t)
	b := h.signedIn(me)
	var open []*listener
	for range streamsPerUser {
		open = append(open, b.listen(http.StatusOK))
	}
	b.listen(http.StatusTooManyRequests)
	h.signedIn(another).listen(http.StatusOK)
	for _, l := range open {
		l.leave()
	}
	for range 1000 { // they leave when the server notices
		h.site.streams.mu.Lock()
		n := h.site.streams.byUser[me]
		h.site.streams.mu.Unlock()
		if n == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	b.listen(http.StatusOK)
}

// timed is a connection whose deadline passes as soon as something was written under it.
type timed struct {
	*httptest.ResponseRecorder
	fresh bool // the deadline was set behind the last flush
}

func (c *timed) SetWriteDeadline(time.Time) error { c.fresh = true; return nil }
func (c *timed) FlushError() error                { c.fresh = false; return nil }

// A stream that nothing was told on for long ends as it should: there is time to write its end.
func TestStreamEndsWell(t *testing.T) {
	for _, path := range []string{"/events", "/admin/events"} {
		h := newHouse(t, withAdmin)
		r := httptest.NewRequest("GET", path, nil)
		ctx, cancel := context.WithCancel(r.Context())
		cancel()
		conn := &timed{ResponseRecorder: httptest.NewRecorder()}
		serve := h.site.getEvents
		if path != "/events" {
			serve = h.site.adminEvents
		}
		serve(conn, r.WithContext(ctx), ann)
		if conn.Body.Len() == 0 || !conn.fresh {
			t.Errorf("%s: %d bytes, time for the end %v", path, conn.Body.Len(), conn.fresh)
		}
	}
}
