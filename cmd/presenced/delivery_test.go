package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gorilla/websocket"

	"presenced/presence"
)

// What an app can rely on does not depend on how it speaks: the same stories are told over every channel.

// posted is a notification as a story has it. Empty fields are left out.
type posted struct {
	to, id, text       string
	ttl, key, priority string
	receipt            bool
}

// channel is one way for an app to notify.
type channel struct {
	source string                // what the device is told, for what counts against the size
	post   func(n posted) string // "" when it was accepted, else why not
	heard  func(id string)       // waits for a receipt; nil: this way has none
}

// channels are all ways, each opened for an app of its own.
var channels = map[string]func(*testing.T, *gateway, credentials) channel{
	"component":       byComponent,
	"component, gcm":  byComponentGCM,
	"CCS":             byCCS,
	"WebSocket":       bySocket,
	"HTTP":            byHTTP,
	"HTTP, in a list": byHTTPList,
}

// stories are what must be the same. Each has a user of its own.
var stories = []struct {
	name string
	tell func(*delivery)
}{
	{"now or never", (*delivery).nowOrNever},
	{"overflow", (*delivery).overflow},
	{"collapse", (*delivery).collapse},
	{"quiet", (*delivery).quiet},
	{"in the background", (*delivery).background},
	{"refusals", (*delivery).refusals},
	{"one device", (*delivery).oneDevice},
	{"the same again", (*delivery).again},
	{"receipts", (*delivery).receipts},
}

func TestDeliveryIsTheSame(t *testing.T) {
	cfg := testConfig(t)
	cfg.CCS.TLSCert, cfg.CCS.TLSKey = writeCertificate(t, t.TempDir(), "ccs")
	cfg.CCS.Listen = "127.0.0.1:0"
	g := startTest(t, cfg)
	n := 0
	for name, open := range channels {
		n++
		var app credentials
		onData(t, cfg, &app, "app", "add", fmt.Sprint("Chat", n), "--component", fmt.Sprintf("chat%d.example.org", n))
		c := open(t, g, app)
		for i, s := range stories {
			t.Run(name+"/"+s.name, func(t *testing.T) {
				d := &delivery{t: t, g: g, app: app.AppID, via: c, email: fmt.Sprintf("u%d.%d@example.org", n, i)}
				d.puid = d.allow(d.email, true)
				s.tell(d)
			})
		}
	}
}

// delivery is one story with one user over one channel.
type delivery struct {
	t                *testing.T
	g                *gateway
	app, email, puid string
	via              channel
}

func (d *delivery) allow(email string, notify bool) (puid string) {
	d.t.Helper()
	g, err := d.g.hub.Allow(presence.Grant{Email: email, App: d.app, Notify: notify}, presence.ByUser)
	if err != nil {
		d.t.Fatal(err)
	}
	return g.PUID
}

// post sends to the user, or to whom the notification names, and wants it accepted.
func (d *delivery) post(n posted) {
	d.t.Helper()
	if n.to == "" {
		n.to = d.puid
	}
	if n.id == "" {
		n.id = n.text
	}
	if why := d.via.post(n); why != "" {
		d.t.Fatalf("%+v was refused: %s", n, why)
	}
}

// waiting counts what waits for the user.
func (d *delivery) waiting() int {
	d.t.Helper()
	counts, err := d.g.store.Waiting(d.email)
	if err != nil {
		d.t.Fatal(err)
	}
	return counts[d.app]
}

// phone is a device that acknowledges when it is told to.
type phone struct {
	device
	token string
}

func (d *delivery) connect(id string) *phone {
	d.t.Helper()
	conn, _, err := websocket.DefaultDialer.DialContext(d.t.Context(), "ws://"+d.g.addrs()["http"]+"/presence", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	p := &phone{device: device{d.t, conn}}
	p.send(map[string]any{"type": "hello", "email": d.email, "device": id, "assertion": "dev", "status": "online", "ack": true, "apps": []string{d.app}})
	var hello struct{ Addresses map[string]string }
	if err := p.ReadJSON(&hello); err != nil || hello.Addresses[d.app] == "" {
		d.t.Fatalf("hello: %+v, %v", hello, err)
	}
	p.token = hello.Addresses[d.app]
	return p
}

// leave ends a device's connection, and waits until the gateway knows.
func (d *delivery) leave(p *phone, id string) {
	d.t.Helper()
	p.Close()
	waitFor(d.t, "the device is gone", func() bool { return d.g.hub.Attached(d.email, id) == nil })
}

// until reads frames up to one with the wanted text as its last notification, and returns all texts and ids.
func (p *phone) until(text string) (texts, ids []string) {
	p.t.Helper()
	for len(texts) == 0 || texts[len(texts)-1] != text {
		for _, n := range p.read().Notifications {
			texts, ids = append(texts, n.Message), append(ids, n.ID)
		}
	}
	return texts, ids
}

// told wants just these notifications to come, in this order, and acknowledges them.
func (p *phone) told(want ...string) {
	p.t.Helper()
	texts, ids := p.until(want[len(want)-1])
	if !slices.Equal(texts, want) {
		p.t.Fatalf("told %q, want %q", texts, want)
	}
	p.acked(ids)
}

func (p *phone) acked(ids []string) {
	p.t.Helper()
	p.send(map[string]any{"type": "ack", "ids": ids})
	p.answered()
}

// answered wants an answer and nothing before it.
func (p *phone) answered() {
	p.t.Helper()
	if f := p.read(); f.Result != "OK" || len(f.Notifications) > 0 {
		p.t.Fatalf("%+v came before the answer", f)
	}
}

// silent wants that nothing came: an ack of nothing, which is no reason to wake up, is answered first.
func (p *phone) silent() {
	p.t.Helper()
	p.acked([]string{})
}

func (d *delivery) nowOrNever() {
	stored := d.g.store.Stats().Enqueued
	d.post(posted{text: "never", ttl: "0"})
	p := d.connect("phone")
	p.silent()
	d.post(posted{text: "now", ttl: "0"})
	p.told("now")
	if n := d.g.store.Stats().Enqueued - stored; n != 0 || d.waiting() != 0 {
		d.t.Errorf("%d came to disk, %d wait", n, d.waiting())
	}
	d.post(posted{text: "lost", ttl: "0"})
	p.until("lost") // and is not acknowledged
	d.leave(p, "phone")
	d.connect("phone").silent()
}

func (d *delivery) overflow() {
	var want []string
	for i := range 103 {
		d.post(posted{text: fmt.Sprint("n", i)})
		if i >= 3 {
			want = append(want, fmt.Sprint("n", i))
		}
	}
	p := d.connect("phone")
	if f := p.read(); len(f.Dropped) != 1 || f.Dropped[0].App != d.app || f.Dropped[0].Count != 3 {
		d.t.Errorf("the device was told %+v first, want that 3 were dropped", f)
	}
	p.told(want...)
	if st, err := d.g.hub.AppStats(d.app); err != nil || st.Dropped != 3 {
		d.t.Errorf("the app is told of %d, %v, want 3", st.Dropped, err)
	}
}

func (d *delivery) collapse() {
	for _, n := range []posted{{text: "a1", key: "a"}, {text: "b1", key: "b"}, {text: "c1", key: "c"}, {text: "d1", key: "d"},
		{text: "plain"}, {text: "a2", key: "a"}, {text: "e1", key: "e"}} {
		d.post(n)
	}
	d.connect("phone").told("c1", "d1", "plain", "a2", "e1") // a2 came for a1, e1 for b1
}

func (d *delivery) quiet() {
	p := d.connect("phone")
	p.send(map[string]any{"type": "quiet", "quiet": true})
	p.answered()
	d.post(posted{text: "waits"})
	d.post(posted{text: "cannot wait", ttl: "0"})
	p.silent()
	d.post(posted{text: "urgent", priority: "high"})
	p.told("waits", "urgent")
	d.post(posted{text: "urgent now", priority: "high", ttl: "0"})
	p.told("urgent now")
	d.post(posted{text: "normal", priority: "normal"})
	p.silent()
	p.send(map[string]any{"type": "quiet", "quiet": false})
	p.answered()
	p.told("normal")
}

func (d *delivery) background() {
	p := d.connect("phone")
	p.send(map[string]any{"type": "quiet", "quiet": "unavailable"})
	p.answered()
	d.post(posted{text: "at once"})
	p.told("at once")
	p.send(map[string]any{"status": "unavailable"})
	p.answered()
	d.post(posted{text: "waits"})
	p.silent()
	p.send(map[string]any{"status": "online"})
	p.answered()
	p.told("waits")
}

func (d *delivery) refusals() {
	muted := d.allow("muted."+d.email, false)
	room := 4096 - len(d.via.source)
	for _, c := range []struct {
		n    posted
		want string
	}{
		{posted{text: strings.Repeat("x", room)}, ""},
		{posted{text: strings.Repeat("x", room+1)}, "too large"},
		{posted{text: "x", ttl: "2419200"}, ""},
		{posted{text: "x", ttl: "2419201"}, "ttl"},
		{posted{text: "x", ttl: "-1"}, "ttl"},
		{posted{text: "x", key: strings.Repeat("k", 256)}, ""},
		{posted{text: "x", key: strings.Repeat("k", 257)}, "bad value"},
		{posted{text: "x", to: "nobody"}, "stranger"},
		{posted{text: "x", to: d.puid + "/nodevice"}, "stranger"},
		{posted{text: "x", to: muted}, "not allowed"},
	} {
		if c.n.id = "m"; c.n.to == "" {
			c.n.to = d.puid
		}
		if got := d.via.post(c.n); got != c.want {
			d.t.Errorf("%.80s: %q, want %q", fmt.Sprintf("%+v", c.n), got, c.want)
		}
	}
	if n := d.waiting(); n != 3 {
		d.t.Errorf("%d wait, want 3", n)
	}
}

func (d *delivery) oneDevice() {
	p, desk := d.connect("phone"), d.connect("desk")
	d.post(posted{to: desk.token, text: "for the desk"})
	desk.told("for the desk")
	d.leave(desk, "desk")
	d.post(posted{to: desk.token, text: "later"})
	p.silent()
	d.post(posted{text: "for all"})
	p.told("for all")
	waitFor(d.t, "only the desk's waits", func() bool { return d.waiting() == 1 })
	d.connect("desk").told("later")
}

func (d *delivery) again() {
	p := d.connect("phone")
	d.post(posted{text: "first"})
	d.post(posted{text: "instant", ttl: "0"})
	d.post(posted{text: "last"})
	texts, ids := p.until("last")
	if !slices.Equal(texts, []string{"first", "instant", "last"}) {
		d.t.Errorf("told %q", texts)
	}
	d.leave(p, "phone") // it acknowledged nothing
	texts, again := d.connect("phone").until("last")
	if !slices.Equal(texts, []string{"first", "last"}) || again[0] != ids[0] || again[1] != ids[2] {
		d.t.Errorf("again %q as %q, first as %q", texts, again, ids)
	}
}

func (d *delivery) receipts() {
	if d.via.heard == nil {
		return
	}
	p := d.connect("phone")
	for _, ttl := range []string{"", "0"} {
		d.post(posted{text: "hello", id: "r" + ttl, ttl: ttl, receipt: true})
		p.told("hello")
		d.via.heard("r" + ttl)
	}
}

// puidAndTag are the parts of a token.
func puidAndTag(token string) (puid, tag string) {
	puid, tag, _ = strings.Cut(token, "/")
	return puid, tag
}

// conditions are what a component is told, in the words of the stories.
var conditions = map[string]string{"policy-violation": "too large", "not-acceptable": "ttl", "bad-request": "bad value",
	"service-unavailable": "stranger", "not-allowed": "not allowed"}

func byComponent(t *testing.T, g *gateway, app credentials) channel {
	c := dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)
	fmt.Fprint(c, "<enable xmlns='urn:xmpp:sm:3'/>")
	c.until("<enabled[^>]*>")
	n := 0
	condition := regexp.MustCompile(`<([a-z-]+) xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'`)
	return channel{"Bot", func(p posted) string {
		request := ""
		if p.receipt {
			request = "<request xmlns='urn:xmpp:receipts'/>"
		}
		puid, tag := puidAndTag(p.to)
		to := strings.TrimSuffix(puid+"@localhost/"+tag, "/")
		n++
		fmt.Fprintf(c, "<message from='bot@%s' to='%s' id='%s'><body>%s</body><nick xmlns='http://jabber.org/protocol/nick'>Bot</nick>"+
			"<notify xmlns='urn:presenced:notify:0' ttl='%s' collapse='%s' priority='%s'/>%s</message><r xmlns='urn:xmpp:sm:3'/>",
			app.Component, to, p.id, p.text, p.ttl, p.key, p.priority, request)
		if refused := condition.FindStringSubmatch(c.until(fmt.Sprintf("<a [^>]*h='%d'[^>]*>", n))); refused != nil {
			return conditions[refused[1]]
		}
		return ""
	}, func(id string) { c.until("<received xmlns='urn:xmpp:receipts' id='" + id + "'/></message>") }}
}

// gcmJSON is a notification as servers of Google's time wrote it.
func gcmJSON(n posted) string {
	m := map[string]any{"to": n.to, "message_id": n.id, "priority": "normal", "notification": map[string]string{"body": n.text}}
	for field, value := range map[string]string{"time_to_live": n.ttl, "collapse_key": n.key, "priority": n.priority} {
		if value != "" {
			m[field] = value
		}
	}
	if n.receipt {
		m["delivery_receipt_requested"] = true
	}
	b, _ := json.Marshal(m)
	return string(b)
}

// gcmOutcome reads an ack or nack.
func gcmOutcome(answer string) string {
	for mark, why := range map[string]string{"MESSAGE_TOO_BIG": "too large", "INVALID_TTL": "ttl", "INVALID_VALUE": "bad value",
		"Unregistered token": "stranger", "allows no notifications": "not allowed"} {
		if strings.Contains(answer, `"message_type":"nack"`) && strings.Contains(answer, mark) {
			return why
		}
	}
	if !strings.Contains(answer, `"message_type":"ack"`) {
		return answer
	}
	return ""
}

func byComponentGCM(t *testing.T, g *gateway, app credentials) channel {
	c := dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)
	return channel{app.Name, func(n posted) string {
		fmt.Fprintf(c, "<message from='bot@%s' to='localhost'><gcm xmlns='google:mobile:data'>%s</gcm></message>", app.Component, gcmJSON(n))
		return gcmOutcome(c.until("</gcm></message>"))
	}, func(id string) { c.until("<received xmlns='urn:xmpp:receipts' id='" + id + "'/></message>") }}
}

func byCCS(t *testing.T, g *gateway, app credentials) channel {
	c := dialCCS(t, g.addrs()["ccs"], app.AppID, app.APIKey)
	return channel{app.Name, func(n posted) string {
		c.gcm(gcmJSON(n))
		return gcmOutcome(c.wait("</message>"))
	}, func(id string) { c.wait(`"message_id":"dr2:` + id + `"`); c.wait("</message>") }}
}

// fields are a notification in the JSON of the WebSocket and of the API.
func (n posted) fields() map[string]any {
	puid, tag := puidAndTag(n.to)
	m := map[string]any{"uid": puid, "message": n.text, "source": "Bot"}
	for field, value := range map[string]string{"device": tag, "collapse_key": n.key, "priority": n.priority} {
		if value != "" {
			m[field] = value
		}
	}
	if n.ttl != "" {
		m["ttl"] = json.Number(n.ttl)
	}
	return m
}

// errnoOutcome is what an errno and its detail say.
func errnoOutcome(errno int, detail string) string {
	switch {
	case errno == 0:
		return ""
	case errno == 42:
		return "too large"
	case errno == 13 && detail == "ttl":
		return "ttl"
	case errno == 13:
		return "bad value"
	case errno == 60 && detail != "":
		return "not allowed"
	case errno == 60:
		return "stranger"
	}
	return fmt.Sprint("errno ", errno)
}

func bySocket(t *testing.T, g *gateway, app credentials) channel {
	a := dialAppSocket(t, g, app.AppID, app.APIKey)
	return channel{"Bot", func(n posted) string {
		m := n.fields()
		m["action"] = "notify"
		if n.receipt {
			m["id"] = n.id
		}
		b, _ := json.Marshal(m)
		a.say("%s", b)
		f := a.next()
		for f.Result == "" { // presence
			f = a.next()
		}
		return errnoOutcome(f.Errno, f.Detail)
	}, func(id string) {
		for f := a.next(); f.Receipt.ID != id; f = a.next() {
		}
	}}
}

func byHTTP(t *testing.T, g *gateway, app credentials) channel {
	return channel{source: "Bot", post: func(n posted) string { return postHTTP(t, g, app, n.fields()) }}
}

func byHTTPList(t *testing.T, g *gateway, app credentials) channel {
	return channel{source: "Bot", post: func(n posted) string {
		return postHTTP(t, g, app, map[string]any{"notifications": []any{n.fields()}})
	}}
}

func postHTTP(t *testing.T, g *gateway, app credentials, body any) string {
	t.Helper()
	b, _ := json.Marshal(body)
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://"+g.addrs()["http"]+"/api/v1/notifications", strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+app.APIKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var problem struct {
		Errno int
		Field string
	}
	if err != nil || resp.StatusCode != http.StatusAccepted && json.Unmarshal(text, &problem) != nil {
		t.Fatalf("%s: %s, %v", resp.Status, text, err)
	}
	detail := problem.Field
	if resp.StatusCode == http.StatusForbidden {
		detail = "notifications"
	}
	return errnoOutcome(problem.Errno, detail)
}
