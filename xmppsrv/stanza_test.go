package xmppsrv_test

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"presenced/presence"
)

func stanzaError(kind, cond, text string) string {
	s := "<error type='" + kind + "'><" + cond + " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
	if text != "" {
		s += "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>" + text + "</text>"
	}
	return s + "</error>"
}

var fromAttr = regexp.MustCompile(` from='([^']*)'`)

func sender(stanza string) string {
	if m := fromAttr.FindStringSubmatch(stanza); m != nil {
		return m[1]
	}
	return ""
}

var stampAttr = regexp.MustCompile(`(stamp|since)='\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ'`)

func maskTime(s string) string { return stampAttr.ReplaceAllString(s, "$1='T'") }

func TestPresence(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	p := g.connect("chat")
	p.fence()
	ann := g.device("ann@example.org", "phone")
	first := p.next()
	from := sender(first)
	if !regexp.MustCompile(`^p1@gw\.example/[a-z2-7]+$`).MatchString(from) {
		t.Fatalf("from %q", from)
	}
	if first != "<presence from='"+from+"' to='chat.example'/>" {
		t.Errorf("got %s", first)
	}
	g.must(ann.Publish(presence.Unavailable, time.Time{}))
	p.want("<presence from='" + from + "' to='chat.example'><show>away</show></presence>")
	g.must(ann.Publish(presence.Offline, time.Time{}))
	p.want("<presence from='" + from + "' to='chat.example' type='unavailable'/>")
	g.must(ann.Publish(presence.Online, time.Time{}))
	p.want("<presence from='" + from + "' to='chat.example'/>")
	ann.Close()
	p.want("<presence from='" + from + "' to='chat.example' type='unavailable'/>")
	p.fence()
}

func TestIdle(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1", func(g *presence.Grant) { g.Idle = true })
	ann := g.device("ann@example.org", "phone")
	p := g.connect("chat")
	p.hello()
	from := sender(p.next())
	g.must(ann.Publish(presence.Unavailable, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
	p.want("<presence from='" + from + "' to='chat.example'><show>away</show><idle xmlns='urn:xmpp:idle:1' since='2026-01-02T03:04:05Z'/></presence>")
}

// The snapshot has a delay; what changes afterwards has none.
func TestSnapshot(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.allow("bob@example.org", "", func(g *presence.Grant) { g.Address = presence.ByEmail })
	g.allow("eve@example.org", "p3")
	ann, bob := g.device("ann@example.org", "phone"), g.device("bob@example.org", "phone")
	p := g.connect("chat")
	p.hello()
	got := map[string]string{}
	for range 2 {
		s := p.next()
		got[strings.Split(sender(s), "/")[0]] = s
	}
	for _, who := range []string{"p1@gw.example", `bob\40example.org@gw.example`} {
		want := "<presence from='" + sender(got[who]) + "' to='chat.example'><delay xmlns='urn:xmpp:delay' from='gw.example' stamp='T'/></presence>"
		if maskTime(got[who]) != want {
			t.Errorf("got  %s\nwant %s", got[who], want)
		}
	}
	g.must(ann.Publish(presence.Offline, time.Time{}))
	p.want("<presence from='" + sender(got["p1@gw.example"]) + "' to='chat.example' type='unavailable'/>")
	g.must(bob.Publish(presence.Unavailable, time.Time{}))
	p.want("<presence from='" + sender(got[`bob\40example.org@gw.example`]) + "' to='chat.example'><show>away</show></presence>")
	p.fence()
}

// Nothing comes before the first element, or a quarter of a second; what changes meanwhile comes once.
func TestSnapshotWaits(t *testing.T) {
	g := start(t)
	g.srv.SnapshotWait(snapshotSoon)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	p := g.connect("chat") // and silence: a component that only listens gets its snapshot too
	g.must(ann.Publish(presence.Unavailable, time.Time{}))
	s := p.next()
	if !strings.Contains(s, "<show>away</show>") || !strings.Contains(s, "<delay ") {
		t.Errorf("got %s", s)
	}
	p.fence()
}

func TestConsent(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	p.fence()
	g.device("ann@example.org", "phone")
	g.allow("ann@example.org", "p1")
	s := p.next()
	if strings.Contains(s, "type='subscribed'") {
		if s != "<presence from='p1@gw.example' to='chat.example' type='subscribed'/>" {
			t.Errorf("got %s", s)
		}
		s = p.next()
	}
	g.must(g.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	p.want("<presence from='"+sender(s)+"' to='chat.example' type='unavailable'/>",
		"<presence from='p1@gw.example' to='chat.example' type='unsubscribed'/>")
	p.fence()
}

// An end of consent that the app did not hear of comes when it is back, once.
func TestConsentEndsWhileAway(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.must(g.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	p := g.connect("chat")
	p.hello()
	for { // maybe subscribed first
		if s := p.next(); s == "<presence from='p1@gw.example' to='chat.example' type='unsubscribed'/>" {
			break
		} else if s != "<presence from='p1@gw.example' to='chat.example' type='subscribed'/>" {
			t.Fatalf("got %s", s)
		}
	}
	p.fence()
	again := g.connect("chat")
	again.fence()
	again.fence()
}

func probe(to string) string {
	return "<presence from='bot@chat.example' to='" + to + "' id='q' type='probe'/>"
}

func TestProbe(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	p := g.connect("chat")
	p.hello()
	full := sender(p.next())
	online := "<presence from='" + full + "' to='bot@chat.example' id='q'><delay xmlns='urn:xmpp:delay' from='gw.example' stamp='T'/></presence>"
	for _, to := range []string{"p1@gw.example", "P1@GW.example", full} {
		p.send(probe(to))
		if got := maskTime(p.next()); got != online {
			t.Errorf("%s: got  %s\nwant %s", to, got, online)
		}
	}
	p.send(probe("p1@gw.example/none"))
	none := "<presence from='p1@gw.example/none' to='bot@chat.example' id='q' type='unavailable'><delay xmlns='urn:xmpp:delay' from='gw.example' stamp='T'/></presence>"
	if got := maskTime(p.next()); got != none {
		t.Errorf("got  %s\nwant %s", got, none)
	}
	g.must(ann.Publish(presence.Offline, time.Time{}))
	p.want("<presence from='" + full + "' to='chat.example' type='unavailable'/>")
	p.send(probe(full))
	gone := "<presence from='" + full + "' to='bot@chat.example' id='q' type='unavailable'><delay xmlns='urn:xmpp:delay' from='gw.example' stamp='T'/></presence>"
	if got := maskTime(p.next()); got != gone {
		t.Errorf("got  %s\nwant %s", got, gone)
	}
	p.fence()
}

// A fence behind a probe comes behind its answer.
func TestAnswersKeepTheirOrder(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	ping := "<iq from='chat.example' to='gw.example' id='%d' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
	var all strings.Builder
	for i := range 50 {
		fmt.Fprintf(&all, ping, i)
		all.WriteString(probe("nobody@gw.example"))
	}
	p.send(all.String())
	for i := range 50 {
		p.want(fmt.Sprintf("<iq from='gw.example' to='chat.example' id='%d' type='result'/>", i),
			"<presence from='nobody@gw.example' to='bot@chat.example' id='q' type='unsubscribed'/>")
	}
}

func TestSubscribe(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.device("ann@example.org", "phone")
	bob := g.device("bob@example.org", "phone")
	p := g.connect("chat")
	p.hello()
	p.next() // ann, by her PUID
	subscription := "<presence from='bot@chat.example/x' to='%s' id='s' type='%s'><status>To chat &amp; so on</status></presence>"
	p.send(fmt.Sprintf(subscription, "p1@gw.example/tag", "subscribe"))
	p.want("<presence from='p1@gw.example' to='bot@chat.example' type='subscribed'/>")
	for _, nobody := range []string{"nobody@gw.example", `nobody\40example.org@gw.example`} {
		p.send(fmt.Sprintf(subscription, nobody, "subscribe"))
		p.send(fmt.Sprintf(subscription, nobody, "unsubscribe"))
	}
	p.fence()

	p.send(fmt.Sprintf(subscription, `bob\40example.org@gw.example`, "subscribe"))
	p.fence() // it waits for bob
	rs, err := g.hub.RequestsOf("bob@example.org")
	if err != nil || len(rs) != 1 || rs[0].Purpose != "To chat & so on" {
		t.Fatalf("bob is asked %+v, %v", rs, err)
	}
	g.must(g.hub.Answer(presence.Answer{Email: "bob@example.org", App: "chat"}, presence.ByUser))
	p.want(`<presence from='bob\40example.org@gw.example' to='bot@chat.example' type='unsubscribed'/>`)
	p.send(fmt.Sprintf(subscription, `bob\40example.org@gw.example`, "subscribe"))
	p.fence()
	g.must(g.hub.Answer(presence.Answer{Email: "bob@example.org", App: "chat", Allow: true}, presence.ByUser))
	p.want(`<presence from='bob\40example.org@gw.example' to='bot@chat.example' type='subscribed'/>`)
	g.must(bob.Publish(presence.Online, time.Time{}))
	full := sender(p.next())
	p.send(fmt.Sprintf(subscription, `bob\40example.org@gw.example`, "unsubscribe"))
	p.want("<presence from='"+full+"' to='chat.example' type='unavailable'/>",
		`<presence from='bob\40example.org@gw.example' to='chat.example' type='unsubscribed'/>`)
	p.fence()
}

// A device's message reaches the app, and what was sent while it was away comes when it is back, once.
func TestFromDevice(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	g.must(ann.Send("chat", "m1", []byte(`{"text":"hello"}`), -1))
	p := g.connect("chat")
	p.hello()
	full := sender(p.next())
	want := func(id, text string) {
		t.Helper()
		p.want("<message from='" + full + "' to='chat.example' id='" + id + "'><body>" + text + `</body><json xmlns='urn:xmpp:json:0'>{"text":"` + text + `"}</json></message>`)
	}
	want("m1", "hello")
	g.must(ann.Send("chat", "m2", []byte(`{"text":"again"}`), -1))
	want("m2", "again")
	p.fence()
	p.c.Close()
	p = g.connect("chat")
	p.hello()
	p.next()
	p.fence()
}

// Presence that needs no answer gets none.
func TestPresenceWithoutAnswer(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	p := g.connect("chat")
	for _, to := range []string{"p1@gw.example", "nobody@gw.example", "gw.example", "elsewhere.example", "a b"} {
		for _, typ := range []string{"", " type='unavailable'", " type='error'", " type='subscribed'", " type='unsubscribed'"} {
			p.send("<presence from='chat.example' to='" + to + "' id='x'" + typ + "/>")
		}
	}
	p.send("<presence from='chat.example' to='gw.example' type='probe'/>")
	p.fence()
	p.send("<presence from='chat.example' to='p1@gw.example' id='x' type='dance'/>")
	p.want("<presence from='p1@gw.example' to='chat.example' id='x' type='error'>" + stanzaError("modify", "bad-request", "The type is not one of this kind of stanza") + "</presence>")
}

// message is a message to p1 with this inside.
func message(inside string) string {
	return "<message from='bob@chat.example/desk' to='p1@gw.example' id='n1'>" + inside + "</message>"
}

// What a message becomes.
var notifications = []struct {
	name, in string
	want     presence.Notification
}{
	{"body", message("<body>hi &amp; bye</body>"), presence.Notification{Source: "bob@chat.example", Message: "hi & bye"}},
	{"chat", "<message from='bob@chat.example' to='p1@gw.example' type='chat'><body>hi</body></message>", presence.Notification{Source: "bob@chat.example", Message: "hi"}},
	{"unknown type", "<message from='bob@chat.example' to='p1@gw.example' type='dance'><body>hi</body></message>", presence.Notification{Source: "bob@chat.example", Message: "hi"}},
	{"nick", message("<nick xmlns='http://jabber.org/protocol/nick'>Bob</nick><body>hi</body>"), presence.Notification{Source: "Bob", Message: "hi"}},
	{"url", message("<x xmlns='jabber:x:oob'><url>http://e/?a&amp;b</url></x>"), presence.Notification{Source: "bob@chat.example", Action: "http://e/?a&b"}},
	{"json", message(`<json xmlns='urn:xmpp:json:0'> {"a":"&lt;"} </json>`), presence.Notification{Source: "bob@chat.example", Data: []byte(`{"a":"<"}`)}},
	{"body in languages", message("<body xml:lang='de'>hallo</body><body>hi</body><body xml:lang='fr'>salut</body>"), presence.Notification{Source: "bob@chat.example", Message: "hi"}},
	{"options", message("<body>hi</body><notify xmlns='urn:presenced:notify:0' ttl='60' collapse='k' priority='high'/>"), presence.Notification{Source: "bob@chat.example", Message: "hi", Collapse: "k", High: true}},
	{"empty options", message("<body>hi</body><notify xmlns='urn:presenced:notify:0' ttl='' collapse='' priority='normal'/>"), presence.Notification{Source: "bob@chat.example", Message: "hi"}},
	{"no-store", message("<body>hi</body><no-store xmlns='urn:xmpp:hints'/>"), presence.Notification{Source: "bob@chat.example", Message: "hi"}},
	{"headline", "<message from='bob@chat.example' to='p1@gw.example' type='headline'><body>hi</body></message>", presence.Notification{Source: "bob@chat.example", Message: "hi"}},
	{"receipt", message("<body>hi</body><request xmlns='urn:xmpp:receipts'/>"), presence.Notification{Source: "bob@chat.example", Message: "hi", Receipt: true}},
	{"receipt without id", "<message from='bob@chat.example' to='p1@gw.example'><body>hi</body><request xmlns='urn:xmpp:receipts'/></message>", presence.Notification{Source: "bob@chat.example", Message: "hi"}},
	{"upper case in the address", "<message from='bob@chat.example' to='P1@gw.EXAMPLE'><body>hi</body></message>", presence.Notification{Source: "bob@chat.example", Message: "hi"}},
}

// take waits for the session's next notification.
func take(t testing.TB, ready *presence.Ready, s *presence.Session) presence.Notification {
	t.Helper()
	for {
		out, err := s.Next(1)
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Notifications) > 0 {
			return out.Notifications[0]
		}
		select {
		case <-ready.Wake():
			ready.Take(nil)
		case <-time.After(patience):
			t.Fatal("no notification came")
		}
	}
}

func TestNotifications(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ready := presence.NewReady()
	ann, err := g.hub.Attach(presence.Attach{Email: "ann@example.org", Device: "phone", Ready: ready})
	g.must(err)
	g.must(ann.Publish(presence.Online, time.Time{}))
	p := g.connect("chat")
	p.hello()
	from := sender(p.next())
	for _, c := range notifications {
		t.Run(c.name, func(t *testing.T) {
			p.t = t
			p.send(c.in)
			n := take(t, ready, ann)
			if n.Source != c.want.Source || n.Message != c.want.Message || n.Action != c.want.Action ||
				string(n.Data) != string(c.want.Data) || n.Collapse != c.want.Collapse || n.High != c.want.High || n.Receipt != c.want.Receipt {
				t.Errorf("got  %+v\nwant %+v", n, c.want)
			}
			ann.Confirm([]uint64{n.Seq})
			if n.Receipt {
				p.want("<message from='p1@gw.example' to='bob@chat.example/desk'><received xmlns='urn:xmpp:receipts' id='n1'/></message>")
			}
			p.fence()
		})
	}
	p.send("<message from='bob@chat.example' to='" + from + "'><body>only here</body></message>")
	if n := take(t, ready, ann); n.Device != "phone" {
		t.Errorf("for %q", n.Device)
	}
}

func TestNotificationWaits(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "", func(g *presence.Grant) { g.Address = presence.ByEmail })
	p := g.connect("chat")
	p.send(`<message from='bob@chat.example' to='Ann\40example.org@gw.example' id='1'><body>later</body></message>`)
	p.send("</stream:stream>") // the gateway's closing tag comes when the message is on disk
	p.ends("</stream:stream>")
	ready := presence.NewReady()
	ann, err := g.hub.Attach(presence.Attach{Email: "ann@example.org", Device: "phone", Ready: ready})
	g.must(err)
	if n := take(t, ready, ann); n.Message != "later" {
		t.Errorf("got %+v", n)
	}
}

// Messages that come back.
var refusedMessages = []struct{ name, in, kind, cond, text string }{
	{"unknown user", strings.Replace(message("<body>x</body>"), "p1@", "nobody@", 1), "cancel", "service-unavailable", ""},
	{"unknown device", strings.Replace(message("<body>x</body>"), "p1@gw.example", "p1@gw.example/none", 1), "cancel", "service-unavailable", ""},
	{"the gateway", strings.Replace(message("<body>x</body>"), "p1@", "", 1), "cancel", "service-unavailable", ""},
	{"groupchat", strings.Replace(message("<body>x</body>"), " id=", " type='groupchat' id=", 1), "cancel", "service-unavailable", ""},
	{"no notifications allowed", strings.Replace(message("<body>x</body>"), "p1@", "mute@", 1), "cancel", "not-allowed", "The user allows no notifications"},
	{"too large", message("<body>" + strings.Repeat("x", 4097) + "</body>"), "modify", "policy-violation", "The notification is too large"},
	{"ttl too large", message("<body>x</body><notify xmlns='urn:presenced:notify:0' ttl='2419201'/>"), "modify", "not-acceptable", "The ttl is out of range"},
	{"ttl beyond all", message("<body>x</body><notify xmlns='urn:presenced:notify:0' ttl='99999999999999999999'/>"), "modify", "not-acceptable", "The ttl is out of range"},
	{"negative ttl", message("<body>x</body><notify xmlns='urn:presenced:notify:0' ttl='-1'/>"), "modify", "not-acceptable", "The ttl is out of range"},
	{"ttl that is no number", message("<body>x</body><notify xmlns='urn:presenced:notify:0' ttl='soon'/>"), "modify", "bad-request", "An option of notify is not understood"},
	{"unknown priority", message("<body>x</body><notify xmlns='urn:presenced:notify:0' priority='max'/>"), "modify", "bad-request", "An option of notify is not understood"},
	{"collapse too long", message("<body>x</body><notify xmlns='urn:presenced:notify:0' collapse='" + strings.Repeat("k", 300) + "'/>"), "modify", "bad-request", "A value of the notification is not allowed"},
	{"ttl with a sign", message("<body>x</body><notify xmlns='urn:presenced:notify:0' ttl='+5'/>"), "modify", "bad-request", "An option of notify is not understood"},
	{"deep JSON", message("<json xmlns='urn:xmpp:json:0'>" + strings.Repeat(`{"[\\"":[`, 33) + strings.Repeat("]}", 33) + "</json>"), "modify", "bad-request", "The content of json is not JSON, or nested too deep"},
	{"no JSON", message("<json xmlns='urn:xmpp:json:0'>{</json>"), "modify", "bad-request", "The content of json is not JSON, or nested too deep"},
	{"elsewhere", strings.Replace(message("<body>x</body>"), "gw.example", "else.example", 1), "cancel", "remote-server-not-found", "There is nothing but this gateway's own domain here"},
	{"subdomain", strings.Replace(message("<body>x</body>"), "gw.example", "a.gw.example", 1), "cancel", "remote-server-not-found", "There is nothing but this gateway's own domain here"},
	{"no address", strings.Replace(message("<body>x</body>"), "p1@", "p 1@", 1), "modify", "jid-malformed", "The 'to' is not an address"},
}

var toAttr = regexp.MustCompile(` to='([^']*)'`)

func TestRefusedMessages(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.allow("mute@example.org", "mute", func(g *presence.Grant) { g.Notify = false })
	p := g.connect("chat")
	for _, c := range refusedMessages {
		t.Run(c.name, func(t *testing.T) {
			p.t = t
			p.send(c.in)
			to := toAttr.FindStringSubmatch(c.in)[1]
			p.want("<message from='" + to + "' to='bob@chat.example/desk' id='n1' type='error'>" + stanzaError(c.kind, c.cond, c.text) + "</message>")
			p.fence()
			p.send(strings.Replace(strings.Replace(c.in, " type='groupchat'", "", 1), " id=", " type='error' id=", 1)) // an error is never answered
			p.fence()
		})
	}
}

// What cannot be written to the disk comes back, also when the disk says so only later.
func TestStorageFails(t *testing.T) {
	g := start(t, func(c *setup) { c.Store.MaxSize = 1 << 20 })
	g.allow("ann@example.org", "p1")
	p := g.connect("chat")
	back := "<message from='p1@gw.example' to='bob@chat.example/desk' id='n1' type='error'>" +
		stanzaError("wait", "resource-constraint", "The storage is not available") + "</message>"
	big := message("<body>" + strings.Repeat("x", 4000) + "</body><notify xmlns='urn:presenced:notify:0' ttl='60'/>")
	for i := range 60 { // more users than fit
		g.allow(fmt.Sprintf("u%d@example.org", i), fmt.Sprintf("u%d", i))
	}
	for range 100 {
		for i := range 60 {
			p.send(strings.Replace(big, "p1@", fmt.Sprintf("u%d@", i), 1))
		}
		p.send("<iq from='chat.example' to='gw.example' id='sync' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
		for s := p.next(); !strings.Contains(s, " id='sync' "); s = p.next() {
			if strings.Replace(s, sender(s), "p1@gw.example", 1) != back {
				t.Fatalf("got %s", s)
			}
			return
		}
	}
	t.Error("nothing came back")
}

// Messages with nothing in them for a person get no answer, whoever they are for.
func TestMessagesThatSayNothing(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	p := g.connect("chat")
	for _, inside := range []string{
		"", "<composing xmlns='http://jabber.org/protocol/chatstates'/>", "<received xmlns='urn:xmpp:receipts' id='1'/>", "<body/>",
		"<x xmlns='jabber:x:oob'/>", "<nick xmlns='http://jabber.org/protocol/nick'>B</nick>", "<body xmlns='urn:other'>x</body>",
	} {
		for _, to := range []string{"p1@", "nobody@", ""} {
			p.send(strings.Replace(message(inside), "p1@", to, 1))
		}
	}
	p.fence()
	if w, err := g.db.Waiting("ann@example.org"); err != nil || len(w) != 0 {
		t.Errorf("waiting: %v %v", w, err)
	}
}

func iq(to, typ, id, inside string) string {
	return "<iq from='a@chat.example/x' to='" + to + "' type='" + typ + "'" + id + ">" + inside + "</iq>"
}

const id1 = " id='i&amp;1'"

// What is asked and what the answer is; R stands for the head of a result, E for that of an error.
var queries = []struct{ name, in, want string }{
	{"ping", iq(domain, "get", id1, "<ping xmlns='urn:xmpp:ping'/>"), "R/>"},
	{"version", iq(domain, "get", id1, "<query xmlns='jabber:iq:version'/>"), "R><query xmlns='jabber:iq:version'><name>Presenced</name><version>1.2.3</version></query></iq>"},
	{"items", iq(domain, "get", id1, "<query xmlns='http://jabber.org/protocol/disco#items'/>"), "R><query xmlns='http://jabber.org/protocol/disco#items'></query></iq>"},
	{"info of a node", iq(domain, "get", id1, "<query xmlns='http://jabber.org/protocol/disco#info' node='a&amp;b'/>"),
		"E><query xmlns='http://jabber.org/protocol/disco#info' node='a&amp;b'/>" + stanzaError("cancel", "item-not-found", "There is no such node") + "</iq>"},
	{"items of a node", iq(domain, "get", id1, "<query xmlns='http://jabber.org/protocol/disco#items' node='n'/>"),
		"E><query xmlns='http://jabber.org/protocol/disco#items' node='n'/>" + stanzaError("cancel", "item-not-found", "There is no such node") + "</iq>"},
	{"unknown", iq(domain, "get", id1, "<query xmlns='urn:x'/>"), "E>" + stanzaError("cancel", "service-unavailable", "") + "</iq>"},
	{"set", iq(domain, "set", id1, "<query xmlns='urn:x'/>"), "E>" + stanzaError("cancel", "service-unavailable", "") + "</iq>"},
	{"no payload", iq(domain, "get", id1, ""), "E>" + stanzaError("modify", "bad-request", "An iq must be get or set with one payload, result or error") + "</iq>"},
	{"two payloads", iq(domain, "get", id1, "<ping xmlns='urn:xmpp:ping'/><ping xmlns='urn:xmpp:ping'/>"), "E>" + stanzaError("modify", "bad-request", "An iq must be get or set with one payload, result or error") + "</iq>"},
	{"no type", iq(domain, "", id1, "<ping xmlns='urn:xmpp:ping'/>"), "E>" + stanzaError("modify", "bad-request", "An iq must be get or set with one payload, result or error") + "</iq>"},
	{"elsewhere", iq("else.example", "get", id1, "<ping xmlns='urn:xmpp:ping'/>"), "E>" + stanzaError("cancel", "remote-server-not-found", "There is nothing but this gateway's own domain here") + "</iq>"},
	{"a resource of the gateway", iq(domain+"/r", "get", id1, "<ping xmlns='urn:xmpp:ping'/>"), "E>" + stanzaError("cancel", "service-unavailable", "") + "</iq>"},
	{"a user", iq("p1@"+domain, "get", id1, "<ping xmlns='urn:xmpp:ping'/>"), "E>" + stanzaError("cancel", "service-unavailable", "") + "</iq>"},
}

func TestQueries(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	p := g.connect("chat")
	for _, c := range queries {
		t.Run(c.name, func(t *testing.T) {
			p.t = t
			p.send(c.in)
			head := "<iq from='" + toAttr.FindStringSubmatch(c.in)[1] + "' to='a@chat.example/x'" + id1
			want := strings.NewReplacer("R", head+" type='result'", "E", head+" type='error'").Replace(c.want[:1]) + c.want[1:]
			if got := p.next(); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			p.fence() // answered once
		})
	}
	p.t = t
	p.send(iq(domain, "get", "", "<ping xmlns='urn:xmpp:ping'/>"))
	p.want("<iq from='gw.example' to='a@chat.example/x' id='' type='error'>" + stanzaError("modify", "bad-request", "An iq must have an id") + "</iq>") // RFC 6120 §8.3.1
}

func TestVersionIsSwitchable(t *testing.T) {
	g := start(t, func(c *setup) { c.ShowVersion = false })
	p := g.connect("chat")
	p.send(iq(domain, "get", " id='1'", "<query xmlns='jabber:iq:version'/>"))
	p.want("<iq from='gw.example' to='a@chat.example/x' id='1' type='error'>" + stanzaError("cancel", "service-unavailable", "") + "</iq>")
	p.send(iq(domain, "get", " id='1'", "<query xmlns='http://jabber.org/protocol/disco#info'/>"))
	if s := p.next(); strings.Contains(s, "jabber:iq:version") {
		t.Errorf("got %s", s)
	}
}

// Results and errors are never answered.
func TestResultsAreNotAnswered(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	for _, to := range []string{domain, "nobody@" + domain, "else.example", "a b"} {
		p.send(iq(to, "result", id1, "") + iq(to, "error", id1, "<query xmlns='urn:x'/>") + iq(to, "result", "", ""))
	}
	p.fence()
}

// gloox and libstrophe leave out the from where they answer a ping. Nothing else may.
func TestAnswersWithoutFrom(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	p.send("<iq to='gw.example' id='1' type='result'/><iq to='gw.example' id='1' type='error'><query xmlns='urn:x'/></iq>")
	p.fence()
	p.send("<iq to='gw.example' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
	p.ends(streamError("improper-addressing", "A stanza must have a 'from'"))
}

func TestDiscoInfo(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	p.send(iq(domain, "get", " id='1'", "<query xmlns='http://jabber.org/protocol/disco#info'/>"))
	got := p.next()
	for _, f := range []string{
		"<identity category='server' type='im' name='Presenced'/>",
		"<feature var='http://jabber.org/protocol/disco#info'/>", "<feature var='http://jabber.org/protocol/disco#items'/>",
		"<feature var='urn:xmpp:ping'/>", "<feature var='jabber:iq:version'/>", "<feature var='jabber:iq:last'/>", "<feature var='urn:xmpp:time'/>", "<feature var='msgoffline'/>",
		`<feature var='jid\20escaping'/>`,
	} {
		if !strings.Contains(got, f) {
			t.Errorf("%s is missing in %s", f, got)
		}
	}
	p.send(iq(domain, "get", " id='1'", "<query xmlns='jabber:iq:last'/>"))
	if got := p.next(); !regexp.MustCompile(`<query xmlns='jabber:iq:last' seconds='\d+'/></iq>$`).MatchString(got) {
		t.Errorf("got %s", got)
	}
	p.send(iq(domain, "get", " id='1'", "<time xmlns='urn:xmpp:time'/>"))
	if got := p.next(); !regexp.MustCompile(`<tzo>\+00:00</tzo><utc>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ</utc></time></iq>$`).MatchString(got) {
		t.Errorf("got %s", got)
	}
}

// Whoever may not know about a user gets the same bytes for every kind of user.
func TestParity(t *testing.T) {
	g := start(t)
	g.app("other", presence.Replace)
	g.allow("ann@example.org", "p1") // to chat, which is somebody else
	g.must(g.hub.Revoke(g.revoked("rev@example.org"), "other", presence.ByUser))
	g.device("ann@example.org", "phone")
	p := g.connect("other")
	p.hello()
	for range 2 { // what other was told of its own, revoked grant
		if s := p.next(); !strings.Contains(s, "rev@") && !strings.Contains(s, "revoked1@") {
			t.Fatalf("got %s", s)
		} else if strings.Contains(s, "'unsubscribed'") {
			break
		}
	}
	p.fence()
	strangers := []string{
		"p1", "p2", "revoked1", `ann\40example.org`, `nobody\40example.org`, `rev\40example.org`, "not_a_puid!", "ü",
	}
	for _, c := range []struct{ name, stanza string }{
		{"message", "<message from='a@other.example' to='%s' id='1'><body>x</body></message>"},
		{"message with a receipt", "<message from='a@other.example' to='%s' id='1'><body>x</body><request xmlns='urn:xmpp:receipts'/></message>"},
		{"message for now", "<message from='a@other.example' to='%s' id='1'><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>"},
		{"chat state", "<message from='a@other.example' to='%s' id='1'><active xmlns='http://jabber.org/protocol/chatstates'/></message>"},
		{"probe", "<presence from='a@other.example' to='%s' id='1' type='probe'/>"},
		{"subscribe", "<presence from='a@other.example' to='%s' id='1' type='subscribe'/>"},
		{"ping", "<iq from='a@other.example' to='%s' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"},
		{"info", "<iq from='a@other.example' to='%s' id='1' type='get'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"},
		{"items", "<iq from='a@other.example' to='%s' id='1' type='get'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>"},
		{"version", "<iq from='a@other.example' to='%s' id='1' type='get'><query xmlns='jabber:iq:version'/></iq>"},
		{"last activity", "<iq from='a@other.example' to='%s' id='1' type='get'><query xmlns='jabber:iq:last'/></iq>"},
		{"vCard", "<iq from='a@other.example' to='%s' id='1' type='get'><vCard xmlns='vcard-temp'/></iq>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.t = t
			for _, resource := range []string{"", "/tag"} {
				seen := map[string][]string{}
				for _, local := range strangers {
					p.send(fmt.Sprintf(c.stanza, local+"@gw.example"+resource))
					p.send("<iq from='other.example' to='gw.example' id='end' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
					var answer string
					for s := p.next(); !strings.Contains(s, " id='end' "); s = p.next() {
						answer += s
					}
					answer = strings.ReplaceAll(answer, local, "LOCAL")
					seen[answer] = append(seen[answer], local)
				}
				if len(seen) != 1 {
					t.Errorf("strangers get different answers: %q", seen)
				}
			}
		})
	}
}

// To an app that was allowed, who is hidden by a pause or a window is who has gone: the same bytes for everything it
// may ask, but for names and times.
func TestHiddenIsGone(t *testing.T) {
	g := start(t)
	now := time.Now().UTC()
	hours := func(from, to int) presence.Window {
		at := func(h int) string { return now.Add(time.Duration(h)*time.Hour).Format("15") + ":00" }
		return presence.Window{From: at(from), To: at(to)}
	}
	p := g.connect("chat")
	p.fence()
	tags := map[string]string{} // of those who came and went, as far as the app could see
	hear := func() (who string) {
		s := p.next()
		from := sender(s)
		who = from[:strings.IndexByte(from, '@')]
		if strings.Contains(s, "unavailable") {
			tags[who] = from[strings.IndexByte(from, '/')+1:]
		}
		return who
	}
	for _, who := range []string{"gone", "paused", "window"} {
		g.allow(who+"@example.org", who)
		d := g.device(who+"@example.org", "phone")
		for hear() != who { // until it came
		}
		switch who {
		case "gone":
			g.must(d.Publish(presence.Offline, time.Time{}))
		case "paused":
			g.must(g.hub.SetPaused("paused@example.org", "chat", true, presence.ByUser))
		case "window":
			g.allow("window@example.org", "window", func(gr *presence.Grant) { gr.Windows = []presence.Window{hours(6, 8)} })
		}
	}
	for len(tags) < 3 {
		hear()
	}
	p.fence()
	for _, c := range []struct{ name, stanza string }{
		{"probe", "<presence from='a@chat.example' to='%s' id='1' type='probe'/>"},
		{"subscribe", "<presence from='a@chat.example' to='%s' id='1' type='subscribe'/>"},
		{"message", "<message from='a@chat.example' to='%s' id='1'><body>x</body><request xmlns='urn:xmpp:receipts'/></message>"},
		{"message for now", "<message from='a@chat.example' to='%s' id='1'><body>x</body><no-store xmlns='urn:xmpp:hints'/></message>"},
		{"ping", "<iq from='a@chat.example' to='%s' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"},
		{"info", "<iq from='a@chat.example' to='%s' id='1' type='get'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"},
		{"items", "<iq from='a@chat.example' to='%s' id='1' type='get'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>"},
		{"version", "<iq from='a@chat.example' to='%s' id='1' type='get'><query xmlns='jabber:iq:version'/></iq>"},
		{"last activity", "<iq from='a@chat.example' to='%s' id='1' type='get'><query xmlns='jabber:iq:last'/></iq>"},
		{"vCard", "<iq from='a@chat.example' to='%s' id='1' type='get'><vCard xmlns='vcard-temp'/></iq>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p.t = t
			for _, full := range []bool{false, true} {
				seen := map[string][]string{}
				for who, tag := range tags {
					to := who + "@gw.example"
					if full {
						to += "/" + tag
					}
					p.send(fmt.Sprintf(c.stanza, to))
					p.send("<iq from='chat.example' to='gw.example' id='end' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
					var answer string
					for s := p.next(); !strings.Contains(s, " id='end' "); s = p.next() {
						answer += maskTime(s)
					}
					answer = strings.NewReplacer(who, "LOCAL", tag, "TAG").Replace(answer)
					seen[answer] = append(seen[answer], who)
				}
				if len(seen) != 1 {
					t.Errorf("hidden is not gone: %q", seen)
				}
			}
		})
	}
}

// revoked makes a grant for other that is to be revoked and returns the e-mail.
func (g *gateway) revoked(email string) string {
	g.t.Helper()
	_, err := g.hub.Allow(presence.Grant{Email: email, App: "other", PUID: "revoked1", Address: presence.ByPUID, Notify: true}, presence.ByUser)
	g.must(err)
	return email
}

// BenchmarkComponentInput sends pings as fast as they are answered: the way in, and out again, over loopback.
func BenchmarkComponentInput(b *testing.B) {
	g := start(b)
	p := g.connect("chat")
	p.fence()
	ping := "<iq from='chat.example' to='gw.example' id='12345678' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
	pong := len("<iq from='gw.example' to='chat.example' id='12345678' type='result'/>")
	block := []byte(strings.Repeat(ping, 500))
	b.ReportAllocs()
	b.ResetTimer()
	read := make(chan error)
	p.c.SetReadDeadline(time.Time{})
	go func() {
		_, err := io.CopyN(io.Discard, p.c, int64(b.N)*int64(pong))
		read <- err
	}()
	for left := b.N; left > 0; left -= 500 {
		if _, err := p.c.Write(block[:min(left, 500)*len(ping)]); err != nil {
			b.Fatal(err)
		}
	}
	g.must(<-read)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "stanzas/s")
}
