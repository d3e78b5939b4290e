package xmppsrv_test

import (
	"fmt"
	"math"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"presenced/presence"
	"presenced/xmppsrv"
)

const (
	sm     = "xmlns='urn:xmpp:sm:3'"
	ask    = "<r " + sm + "/>"
	enable = "<enable " + sm + " resume='true'/>"
)

func ack(h uint32) string { return fmt.Sprintf("<a %s h='%d'/>", sm, h) }

func resume(id string, h uint32) string {
	return fmt.Sprintf("<resume %s previd='%s' h='%d'/>", sm, id, h)
}

func resumed(id string, h uint32) string {
	return fmt.Sprintf("<resumed %s previd='%s' h='%d'/>", sm, id, h)
}

func failed(cond string) string {
	return "<failed " + sm + "><" + cond + " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
}

var notFound = failed("item-not-found")

func tooHigh(h, sent uint32) string {
	return "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>" +
		"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>More stanzas were acknowledged than sent</text>" +
		fmt.Sprintf("<handled-count-too-high %s h='%d' send-count='%d'/></stream:error></stream:stream>", sm, h, sent)
}

const pong = "<iq from='gw.example' to='chat.example' id='1' type='result'/>"

func pingOf(app string) string {
	return "<iq from='" + app + "' to='gw.example' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
}

var ping = pingOf("chat.example")

func note(id string) string {
	return "<message from='chat.example' to='p1@gw.example' id='" + id + "'><body>" + id + "</body></message>"
}

var enabledAs = regexp.MustCompile(`^<enabled xmlns='urn:xmpp:sm:3' id='([A-Z2-7]{26})' resume='true' max='300'/>$`)

// enable begins stream management and returns the id to resume it by.
func (c *comp) enable() (id string) {
	c.t.Helper()
	c.send(enable)
	m := enabledAs.FindStringSubmatch(c.next())
	if m == nil {
		c.t.Fatalf("got %q", c.raw.String())
	}
	return m[1]
}

// cut ends the connection without a word and waits until the gateway has noticed.
func (c *comp) cut() {
	c.t.Helper()
	n := strings.Count(c.g.log.String(), "component left")
	c.c.Close()
	c.g.logsTimes("component left", n+1)
}

// resume connects for the app and asks for a session as the first thing.
func (g *gateway) resume(app, id string, h uint32) *comp {
	g.t.Helper()
	p := g.connect(app)
	p.send(resume(id, h))
	return p
}

func TestEnable(t *testing.T) {
	g := start(t)
	for _, c := range []struct{ in, out string }{
		{"<enable " + sm + "/>", "<enabled " + sm + "/>"},
		{"<enable " + sm + " resume='false'/>", "<enabled " + sm + "/>"},
		{"<enable " + sm + " resume='0' max='10'/>", "<enabled " + sm + "/>"},
		{enable, "<enabled " + sm + " id='ID' resume='true' max='300'/>"},
		{"<enable " + sm + " resume='1'/>", "<enabled " + sm + " id='ID' resume='true' max='300'/>"},
		{"<enable " + sm + " resume='true' max='60'/>", "<enabled " + sm + " id='ID' resume='true' max='60'/>"},
		{"<enable " + sm + " resume='true' max='3600'/>", "<enabled " + sm + " id='ID' resume='true' max='300'/>"},
		{"<enable " + sm + " resume='true' max='0'/>", "<enabled " + sm + " id='ID' resume='true' max='300'/>"},
		{"<enable " + sm + " resume='true' max='soon'/>", "<enabled " + sm + " id='ID' resume='true' max='300'/>"},
	} {
		p := g.connect("chat")
		p.send(c.in)
		if got := maskID(p.next()); got != c.out {
			t.Errorf("%s: got %s", c.in, got)
		}
		p.send(ask)
		p.want(ack(0))
		p.send("</stream:stream>")
		p.ends("</stream:stream>")
	}
}

// h is what has been handled since <enable/>: stanzas, whatever became of them, and nothing else.
func TestHandledCount(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	p := g.connect("chat")
	p.send(ping)
	p.want(pong)
	p.enable()
	h := uint32(0)
	for _, c := range []struct {
		in, out string
		n       uint32
	}{
		{"", "", 0},
		{" \n", "", 0},
		{ack(0), "", 0},
		{"<presence from='chat.example' to='gw.example'/>", "", 1},
		{"<message from='chat.example' to='p1@gw.example'/>", "", 1},
		{note("a"), "", 1},
		{note("a") + note("b") + note("c"), "", 3},
		{"<iq from='chat.example' to='gw.example' id='1' type='result'/>", "", 1},
		{"<message from='chat.example' to='else.example' type='error'/>", "", 1},
		{"<message from='chat.example' to='a b'><body>x</body></message>", "<message from='a b' to='chat.example' type='error'>" +
			stanzaError("modify", "jid-malformed", "The 'to' is not an address") + "</message>", 1},
		{"<message from='chat.example' to='nobody@gw.example'><body>x</body></message>",
			"<message from='nobody@gw.example' to='chat.example' type='error'>" + stanzaError("cancel", "service-unavailable", "") + "</message>", 1},
		{ping, pong, 1},
	} {
		p.send(c.in + ask)
		if c.out != "" {
			p.wantStanzas(c.out)
		}
		h += c.n
		p.wantStanzas(ack(h))
	}
}

// wantStanzas is want without the gateway's <r/>s.
func (c *comp) wantStanzas(elements ...string) {
	c.t.Helper()
	for _, w := range elements {
		got := c.next()
		for got == ask {
			got = c.next()
		}
		if got != w {
			c.t.Fatalf("got  %s\nwant %s", got, w)
		}
	}
}

// An <r/> is answered when all before it is on disk.
func TestHandledMeansOnDisk(t *testing.T) {
	g := start(t, func(c *setup) { c.Store.SyncDelay = 40 * time.Millisecond })
	g.allow("ann@example.org", "p1")
	p := g.connect("chat")
	p.enable()
	for i := range uint32(3) {
		p.send(note("a") + ask)
		p.send(note("a") + ask) // it comes when the first is on its way already
		h := uint32(0)
		for range 2 {
			h = number(hAttr, p.next())
			if got, err := g.db.Pending("ann@example.org", "", 0, 10); err != nil || len(got) < int(h) {
				t.Fatalf("%d are acknowledged and %d are on disk (%v)", h, len(got), err)
			}
		}
		if h != 2*i+2 {
			t.Fatalf("h is %d at the end", h)
		}
	}
	p.send(note("b") + "<presence from='chat.example' to='gw.example'/>" + ask + ask + ping)
	p.want(pong) // nobody waits behind the disk
	p.wantStanzas(ack(9), ack(9))
}

// What the gateway sends is counted, asked for and freed.
func TestOutputIsAcknowledged(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	p := g.connect("chat")
	p.enable()
	from := sender(p.next()) // the snapshot is counted
	p.want(ask)
	p.send(ack(1))
	g.must(ann.Publish(presence.Unavailable, time.Time{}))
	away := "<presence from='" + from + "' to='chat.example'><show>away</show></presence>"
	p.want(away, ask)
	p.send(ping) // not acknowledged: no other <r/> until then
	p.want(pong)
	p.send(ack(2))
	p.want(ask)
	p.send(ack(3) + ack(3) + ping)
	p.want(pong, ask)
	p.send(ack(5))
	p.ends(ack(2) + tooHigh(5, 4))
}

// A component that never sleeps is asked now and then.
func TestAskedAfterMany(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	p.enable()
	p.send(strings.Repeat(ping, 4*xmppsrv.AskAfter))
	asked, sent := 0, 0
	for sent < 4*xmppsrv.AskAfter {
		switch got := p.next(); got {
		case ask:
			asked++
		case pong:
			sent++
		default:
			t.Fatalf("got %s", got)
		}
	}
	if asked < 3 || asked > 8 {
		t.Errorf("asked %d times in %d stanzas", asked, sent)
	}
}

func TestMisuse(t *testing.T) {
	again := failed("unexpected-request")
	for _, c := range []struct {
		name, in string
		out      []string
		end      string // "": it goes on
	}{
		{"ask before enable", ask, []string{again}, ""},
		{"ack before enable", ack(0), []string{again}, ""},
		{"resume without previd", "<resume " + sm + " h='0'/>", []string{failed("bad-request")}, ""},
		{"resume without h", "<resume " + sm + " previd='x'/>", []string{failed("bad-request")}, ""},
		{"resume with another h", "<resume " + sm + " previd='x' h='-1'/>", []string{failed("bad-request")}, ""},
		{"resume of nothing", resume("x", 0), []string{notFound}, ""},
		{"enable twice", "<enable " + sm + "/><enable " + sm + "/>", []string{"<enabled " + sm + "/>", again},
			streamError("policy-violation", "Stream management is enabled already")},
		{"resume after enable", "<enable " + sm + "/>" + resume("x", 0), []string{"<enabled " + sm + "/>", again}, ""},
		{"ack without h", "<enable " + sm + "/><a " + sm + "/>", []string{"<enabled " + sm + "/>"},
			streamError("bad-format", "The 'h' must be a number below 2^32")},
		{"ack with words", "<enable " + sm + "/><a " + sm + " h='one'/>", []string{"<enabled " + sm + "/>"},
			streamError("bad-format", "The 'h' must be a number below 2^32")},
		{"ack of 2^32", "<enable " + sm + "/><a " + sm + " h='4294967296'/>", []string{"<enabled " + sm + "/>"},
			streamError("bad-format", "The 'h' must be a number below 2^32")},
		{"ack of too much", "<enable " + sm + "/>" + ack(1), []string{"<enabled " + sm + "/>"}, tooHigh(1, 0)},
		{"an answer of the gateway's", "<enabled " + sm + "/>", nil, streamError("unsupported-stanza-type", "Only presence, message and iq are understood")},
		{"an older version", "<enable xmlns='urn:xmpp:sm:2'/>", nil, streamError("unsupported-stanza-type", "Only presence, message and iq are understood")},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t)
			p := g.connect("chat")
			p.send(c.in)
			p.want(c.out...)
			if c.end != "" {
				p.ends(c.end)
				return
			}
			p.fence()
		})
	}
}

// Nothing is lost and nothing comes twice over a cut; what changed meanwhile comes behind what was sent before it.
func TestResume(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	p := g.connect("chat")
	id := p.enable()
	snapshot := p.next()
	from := sender(snapshot)
	p.want(ask)
	g.must(ann.Publish(presence.Unavailable, time.Time{}))
	away := "<presence from='" + from + "' to='chat.example'><show>away</show></presence>"
	p.want(away)
	g.must(ann.Send("chat", "m1", []byte(`{"n":1}`), -1))
	m1 := "<message from='" + from + "' to='chat.example' id='m1'><json xmlns='urn:xmpp:json:0'>{\"n\":1}</json></message>"
	p.want(m1)
	p.send(note("a") + ping + ack(1))
	p.wantStanzas(pong)
	p.cut()

	for _, st := range []presence.Status{presence.Online, presence.Offline, presence.Online} { // merged
		g.must(ann.Publish(st, time.Time{}))
	}
	g.must(ann.Send("chat", "m2", []byte(`{"n":2}`), -1))
	p = g.resume("chat", id, 2)
	p.want(resumed(id, 2), m1, pong)
	news := []string{p.next(), p.next()} // presence and messages take turns in being first
	slices.Sort(news)
	m2 := strings.ReplaceAll(strings.ReplaceAll(m1, "m1", "m2"), `"n":1`, `"n":2`)
	if want := []string{m2, "<presence from='" + from + "' to='chat.example'/>"}; !slices.Equal(news, want) {
		t.Errorf("news is %q, want %q", news, want)
	}
	p.want(ask)
	p.send(ack(6) + note("b") + ask)
	p.want(ack(3))
	p.cut()

	p = g.resume("chat", id, 6)
	p.want(resumed(id, 3))
	p.send(ask)
	p.want(ack(3))
	p.send("</stream:stream>")
	p.ends("</stream:stream>")
	for _, n := range []int{0, 1} { // what was acknowledged does not come again
		q := g.connect("chat")
		q.send(resume(id, 6))
		q.want(notFound)
		if n == 0 {
			q.next() // the snapshot
			q.fence()
			q.cut()
		}
	}
	if s := g.srv.Stats(); s.Resumed != 2 {
		t.Errorf("%d resumed", s.Resumed)
	}
}

// Answers that could not be written are not lost: what was asked was acknowledged.
func TestResumeBringsAnswers(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	id := p.enable()
	p.send(strings.Repeat(ping, 100) + note("x") + "<message") // and half a stanza
	p.cut()
	p = g.resume("chat", id, 0)
	p.want(resumed(id, 101))
	for range 100 {
		p.want(pong)
	}
	p.want("<message from='p1@gw.example' to='chat.example' id='x' type='error'>" + stanzaError("cancel", "service-unavailable", "") + "</message>")
	p.want(ask)
	p.fence()
}

func TestResumeTooLate(t *testing.T) {
	var late atomic.Int64
	g := start(t, func(c *setup) { c.Now = func() time.Time { return time.Now().Add(time.Duration(late.Load())) } })
	p := g.connect("chat")
	id := p.enable()
	p.cut()
	late.Store(int64(299 * time.Second))
	p = g.resume("chat", id, 0)
	p.want(resumed(id, 0))
	p.cut()
	late.Add(int64(301 * time.Second))
	p = g.resume("chat", id, 0)
	p.want(notFound)
	p.fence()
	p.enable()
}

// Whoever does not come back is forgotten, and what was not acknowledged comes to who comes next.
func TestExpiry(t *testing.T) {
	g := start(t, func(c *setup) { c.ResumeTimeout = 100 * time.Millisecond })
	g.app("other", presence.Replace)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	p := g.connect("chat")
	p.send(enable)
	p.next()
	g.must(ann.Send("chat", "m1", []byte(`{"n":1}`), -1))
	var from string
	for !strings.Contains(from, "m1") {
		from = p.next()
	}
	q := g.connect("other")
	q.send(enable)
	q.next()
	p.cut()
	q.cut()
	g.logsTimes("session expired", 2)
	if s := g.srv.Stats(); s.Kept != 0 || g.hub.Stats().Links != 0 {
		t.Errorf("%d are kept, %d links", s.Kept, g.hub.Stats().Links)
	}
	p = g.connect("chat")
	p.hello()
	p.next() // the snapshot
	p.want(again(from))
	p.fence()
}

// A newer connection gets the session of the one that it replaced, in place of the snapshot.
func TestResumeAfterConflict(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	p := g.connect("chat")
	id := p.enable()
	snapshot := p.next()
	p.want(ask)
	newer := g.connect("chat")
	p.ends(streamError("conflict", "Replaced by a new connection"))
	newer.send(resume(id, 0))
	newer.want(resumed(id, 0), snapshot, ask)
	g.must(ann.Publish(presence.Unavailable, time.Time{}))
	newer.want("<presence from='" + sender(snapshot) + "' to='chat.example'><show>away</show></presence>")
	newer.fence()
	if s := g.srv.Stats(); s.Sessions != 1 || s.Kept != 0 || g.hub.Stats().Links != 1 {
		t.Errorf("%d sessions, %d kept, %d links", s.Sessions, s.Kept, g.hub.Stats().Links)
	}
}

// Any other first element ends the older session; what it did not acknowledge comes again.
func TestOtherFirstElementEndsTheOlderSession(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	for i, first := range []string{"<presence from='chat.example' to='gw.example'/>", enable, resume("unknown", 0)} {
		p := g.connect("chat")
		id := p.enable()
		ref := fmt.Sprint("m", i)
		g.must(ann.Send("chat", ref, []byte(`{}`), -1))
		for !strings.Contains(p.next(), ref) {
		}
		newer := g.connect("chat")
		newer.send(first)
		if i > 0 {
			newer.next() // what becomes of it
		}
		newer.next() // the snapshot
		message := newer.next()
		for message == ask { // between the two, or not
			message = newer.next()
		}
		if !strings.Contains(message, ref) {
			t.Errorf("%s: got %s", first, message)
		}
		if first != enable {
			newer.send(resume(id, 0))
			newer.want(notFound)
			newer.fence()
		} else {
			newer.send(ack(2))
		}
		newer.send("</stream:stream>")
		newer.rest()
	}
}

// Who says nothing gets the snapshot, and may still resume.
func TestLateResume(t *testing.T) {
	g := start(t)
	g.srv.SnapshotWait(snapshotSoon)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	p := g.connect("chat")
	id := p.enable()
	first := p.next()
	newer := g.connect("chat")
	g.must(ann.Publish(presence.Unavailable, time.Time{}))
	if s := newer.next(); !strings.Contains(s, "<show>away</show><delay ") {
		t.Errorf("got %s", s)
	}
	newer.send(resume(id, 0))
	newer.want(resumed(id, 0), first, "<presence from='"+sender(first)+"' to='chat.example'><show>away</show></presence>", ask)
	newer.fence()
}

func TestResumeOfAnotherApp(t *testing.T) {
	g := start(t)
	g.app("other", presence.Replace)
	p := g.connect("chat")
	id := p.enable()
	q := g.resume("other", id, 0)
	q.want(notFound)
	q.send(pingOf("other.example"))
	q.want(strings.ReplaceAll(pong, "chat.example", "other.example"))
	p.fence()
	p.cut()
	q.send(resume(id, 0))
	q.want(notFound)
	p = g.resume("chat", id, 1)
	p.want(resumed(id, 1))
}

// Who resumes again takes over from the connection that had resumed.
func TestResumeTwice(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	id := p.enable()
	p.send(ping)
	p.want(pong)
	for range 3 {
		q := g.resume("chat", id, 0)
		q.want(resumed(id, 1), pong, ask)
		q.send(resume(id, 0))
		q.want(failed("unexpected-request"))
		q.send("<enable " + sm + "/>")
		q.want(failed("unexpected-request"))
		q.ends(streamError("policy-violation", "Stream management is enabled already"))
		q = g.connect("chat")
		q.send(resume(id, 0)) // it broke the rules
		q.want(notFound)
		id = q.enable()
		q.send(ping)
		q.want(pong)
	}
	p = g.resume("chat", id, 1)
	p.want(resumed(id, 1))
	q := g.resume("chat", id, 1)
	p.ends(streamError("conflict", "Replaced by a new connection"))
	q.want(resumed(id, 1))
}

func TestResumeAfterRestart(t *testing.T) {
	data := ""
	g := start(t, func(c *setup) { data = c.Path })
	g.allow("ann@example.org", "p1")
	p := g.connect("chat")
	id := p.enable()
	p.send(note("a") + ping)
	p.want(pong, ask)
	go g.stop()
	p.ends(ack(2) + streamError("system-shutdown", "The server is going away"))
	g.stop()
	g = start(t, func(c *setup) { c.Path = data })
	p = g.resume("chat", id, 0)
	p.want(notFound)
	p.enable()
	if got, err := g.db.Pending("ann@example.org", "", 0, 10); err != nil || len(got) != 1 {
		t.Errorf("%d on disk (%v)", len(got), err)
	}
}

// What is handled is told before a stream ends for good.
func TestLastAck(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	for _, c := range []struct{ in, out string }{
		{"</stream:stream>", "</stream:stream>"},
		{note("a") + "</stream:stream>", ack(1) + "</stream:stream>"},
		{note("a") + ask + ping + "</stream:stream>", ""},
		{note("a") + ping + "<!-- -->", ""},
	} {
		p := g.connect("chat")
		id := p.enable()
		p.send(c.in)
		got := p.rest()
		if c.out != "" && got != c.out || strings.Contains(c.in, "ping") && !strings.Contains(got, ack(2)) {
			t.Errorf("%s: got %s", c.in, got)
		}
		p = g.resume("chat", id, 0)
		p.want(notFound)
		p.fence()
	}
}

// What breaks without a rule being broken can be resumed.
func TestUncleanEnds(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	id := p.enable()
	p.send("<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
	p.ends("</stream:stream>")
	p = g.resume("chat", id, 0)
	p.want(resumed(id, 0))
	p.c.(*net.TCPConn).CloseWrite() // no closing tag
	p.ends("</stream:stream>")
	p = g.resume("chat", id, 0)
	p.want(resumed(id, 0))
	p.c.(*net.TCPConn).SetLinger(0) // a reset
	p.cut()
	p = g.resume("chat", id, 0)
	p.want(resumed(id, 0))
}

// Without resume='true' stream management ends with its connection.
func TestNotResumable(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	p := g.connect("chat")
	p.send("<enable " + sm + "/>")
	p.want("<enabled " + sm + "/>")
	p.next()
	p.want(ask)
	g.must(ann.Send("chat", "m1", []byte(`{}`), -1))
	message := p.next()
	p.cut()
	if s := g.srv.Stats(); s.Kept != 0 || g.hub.Stats().Links != 0 {
		t.Errorf("%d are kept, %d links", s.Kept, g.hub.Stats().Links)
	}
	p = g.connect("chat")
	p.send("<enable " + sm + "/>")
	p.want("<enabled " + sm + "/>")
	p.next()
	p.want(again(message), ask) // it was never acknowledged
	p.send(ack(2))
	p.fence()
	older := p
	p = g.connect("chat")
	if got := older.rest(); !strings.HasSuffix(got, streamError("conflict", "Replaced by a new connection")) {
		t.Errorf("ended with %s", got)
	}
	p.hello()
	p.next()
	p.fence() // it was
}

// The counts go over 2^32 in both directions.
func TestCountsWrap(t *testing.T) {
	g := start(t)
	g.srv.CountFrom(math.MaxUint32 - 2)
	p := g.connect("chat")
	id := p.enable()
	p.send(strings.Repeat(ping, 5) + ask)
	for range 5 {
		p.wantStanzas(pong)
	}
	p.wantStanzas(ack(2))
	p.send(ack(math.MaxUint32))
	p.cut()
	p = g.resume("chat", id, 0)
	p.want(resumed(id, 2), pong, pong, ask)
	p.send(ack(1) + ping)
	p.want(pong)
	p.cut()
	p = g.resume("chat", id, math.MaxUint32)
	p.want(notFound) // what lies between was acknowledged and is gone
	id = p.enable()
	p.send(strings.Repeat(ping, 5))
	p.want(pong)
	p.cut()
	p = g.resume("chat", id, 3)
	p.ends(tooHigh(3, 2))
	p = g.resume("chat", id, 2)
	p.want(notFound) // who counts wrongly has nothing to go on with
	p.fence()
}

// A revoke that the app did not see reaches it behind what was on its way.
func TestRevokedWhileAway(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.device("ann@example.org", "phone")
	p := g.connect("chat")
	id := p.enable()
	snapshot := p.next()
	p.cut()
	g.must(g.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	p = g.resume("chat", id, 0)
	gone := "<presence from='p1@gw.example' to='chat.example' type='unsubscribed'/>"
	p.want(resumed(id, 0), snapshot, "<presence from='"+sender(snapshot)+"' to='chat.example' type='unavailable'/>", gone, ask)
	p.cut() // not acknowledged, so not told
	p = g.connect("chat")
	p.hello()
	p.want(gone)
	p.fence()
}

func TestAppDisabledWhileAway(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	id := p.enable()
	p.cut()
	a, _ := g.hub.App("chat")
	a.Disabled = true
	g.must(g.hub.PutApp(a))
	a.Disabled = false
	g.must(g.hub.PutApp(a))
	p = g.resume("chat", id, 0)
	p.want(notFound)
	p.fence()
}

// Who takes what it is given and never acknowledges is given no more, and dropped in the end; it can come back.
func TestPeerThatNeverAcknowledges(t *testing.T) {
	g := start(t, func(c *setup) { c.PingInterval = 150 * time.Millisecond })
	g.srv.PongWait(2 * time.Second) // what it sends must be in time
	p := g.connect("chat")
	id := p.enable()
	p.send(ping)
	p.want(pong, ask)
	for {
		p.send(" ") // a sign of life is no acknowledgement
		got := p.next()
		if strings.Contains(got, "<ping ") {
			continue
		}
		if got != strings.TrimSuffix(streamError("connection-timeout", "No acknowledgement in time"), "</stream:stream>") {
			t.Errorf("got %s", got)
		}
		break
	}
	p.ends("</stream:stream>")
	p = g.resume("chat", id, 1)
	if got := p.next(); got != resumed(id, 1) {
		t.Errorf("got %s", got)
	}
}

// A connection that is stuck does not hold up who resumes its session.
func TestResumeFromStalled(t *testing.T) {
	g := start(t)
	p := g.dial()
	g.must(p.c.(*net.TCPConn).SetReadBuffer(4096))
	p.handshake()
	id := p.enable()
	stall(p)
	q := g.resume("chat", id, 0)
	q.t = t
	got := q.next()
	if !strings.HasPrefix(got, "<resumed "+sm+" previd='"+id+"' h='") {
		t.Fatalf("got %s", got)
	}
	for range number(hAttr, got) { // whatever was asked is answered
		got := q.next()
		for got == ask {
			got = q.next()
		}
		if !strings.Contains(got, "disco#info") {
			t.Fatalf("got %s", got)
		}
	}
	q.send(ping)
	q.wantStanzas(pong)
}

// A dead older connection refuses a newer one only as long as a ping takes.
func TestRejectPingsTheOlder(t *testing.T) {
	g := start(t, func(c *setup) { c.PingInterval = time.Minute })
	g.srv.PongWait(50 * time.Millisecond)
	g.app("solo", presence.Reject)
	older := g.connect("solo")
	id := older.enable()
	refused := g.dial()
	refused.name = "solo.example"
	refused.open()
	refused.send("<handshake>" + refused.digest(secret) + "</handshake>")
	refused.ends(streamError("conflict", "This component is connected already"))
	older.wantPing() // and does not answer
	older.want(ask)
	older.ends(streamError("connection-timeout", "No answer to a ping"))
	g.logs("reason=silent")
	p := g.resume("solo", id, 1)
	p.want(resumed(id, 0))
	p.send(strings.ReplaceAll(ping, "chat.example", "solo.example"))
	p.want(strings.ReplaceAll(pong, "chat.example", "solo.example"))
	p.cut()
	g.connect("solo") // a kept session refuses nobody
}

// Each of the connections that share an app has its own session.
func TestShare(t *testing.T) {
	g := start(t)
	g.app("team", presence.Share)
	a, b := g.connect("team"), g.connect("team")
	ida, idb := a.enable(), b.enable()
	ping, pong := pingOf("team.example"), strings.ReplaceAll(pong, "chat.example", "team.example")
	a.send(ping + ping)
	a.wantStanzas(pong, pong)
	a.cut()
	b.send(ping)
	b.wantStanzas(pong)
	c := g.connect("team") // lives beside them
	c.send(ping)
	c.want(pong)
	a = g.resume("team", ida, 1)
	a.want(resumed(ida, 2), pong, ask)
	b.cut()
	b = g.resume("team", idb, 1)
	b.wantStanzas(resumed(idb, 1))
	c.send(ping)
	c.want(pong)
}

// Receipts reach the session that is resumed, also those that went to the new connection before it was.
func TestShareResumesWithReceipts(t *testing.T) {
	g := start(t)
	g.app("team", presence.Share)
	p := g.connect("team")
	id := p.enable()
	const users = 16
	var devices [users]*presence.Session
	for i := range users {
		email := fmt.Sprintf("u%d@example.org", i)
		_, err := g.hub.Allow(presence.Grant{Email: email, App: "team", PUID: fmt.Sprint("p", i), Address: presence.ByPUID, Notify: true}, presence.ByUser)
		g.must(err)
		devices[i] = g.device(email, "phone")
		p.send(fmt.Sprintf("<message from='team.example' to='p%d@gw.example' id='r%d'><body>x</body><request xmlns='urn:xmpp:receipts'/></message>", i, i))
	}
	p.send(ask)
	for p.next() != ack(users) {
	}
	p.cut()
	g.allow("ann@example.org", "p")
	ann := g.device("ann@example.org", "phone")
	watch := g.connect("chat")
	watch.enable()
	watch.send("<message from='chat.example' to='p@gw.example' id='r0'><body>x</body><request xmlns='urn:xmpp:receipts'/></message>" + ask)
	for watch.next() != ack(1) {
	}
	q := g.connect("team")
	for _, d := range append(devices[:], ann) {
		out, err := d.Next(10)
		g.must(err)
		d.Confirm([]uint64{out.Notifications[0].Seq})
	}
	for !strings.Contains(watch.next(), "<received ") { // they go out one after the other, and this is the last
	}
	q.send(resume(id, 0))
	got := make(map[uint32]bool)
	for received := regexp.MustCompile(`<received xmlns='urn:xmpp:receipts' id='r(\d+)'/>`); len(got) < users; {
		if s := q.next(); received.MatchString(s) {
			n := number(received, s)
			if got[n] {
				t.Fatalf("receipt %d came twice", n)
			}
			got[n] = true
		}
	}
}

// Sessions without a connection take no room from those with one: who comes back finds its own. Only their own number
// is bounded.
func TestShareMakesRoom(t *testing.T) {
	g := start(t)
	g.app("team", presence.Share)
	most := presence.DefaultLimits().LinksPerApp
	ids := make([]string, most+1)
	for i := range ids {
		p := g.connect("team")
		ids[i] = p.enable()
		p.cut()
	}
	if n := g.srv.Stats().Kept; n != most {
		t.Errorf("%d are kept", n)
	}
	g.logs("session dropped")
	p := g.connect("team")
	p.send(resume(ids[0], 0))
	p.want(notFound) // it had waited longest
	for range most - 1 {
		g.connect("team")
	}
	g.refusedTooMany("team")
	p.send("</stream:stream>")
	p.rest()
	p = g.connect("team")
	p.send(resume(ids[1], 0))
	p.want(resumed(ids[1], 0))
}

func (g *gateway) refusedTooMany(app string) {
	g.t.Helper()
	p := g.dial()
	p.name = app + ".example"
	p.open()
	p.send("<handshake>" + p.digest(secret) + "</handshake>")
	p.ends(streamError("resource-constraint", "Too many connections of this component"))
}

// Where connections share an app a dead one refuses a newer one only as long as a ping takes, too.
func TestShareLimitPingsTheOlder(t *testing.T) {
	g := start(t, func(c *setup) { c.PingInterval = time.Minute; c.Limits.LinksPerApp = 2 })
	g.srv.PongWait(time.Second) // within which the living one must answer
	g.app("team", presence.Share)
	dead, alive := g.connect("team"), g.connect("team")
	g.refusedTooMany("team")
	alive.wantPing()
	alive.fence()
	dead.wantPing() // and does not answer
	dead.ends(streamError("connection-timeout", "No answer to a ping"))
	g.logs("reason=silent")
	alive.fence()
	g.connect("team").fence()
}

// What is kept without a connection is bounded in bytes, for all apps together; the oldest goes.
func TestKeptBytesAreBounded(t *testing.T) {
	g := start(t)
	g.srv.MaxKept(3 << 10)
	var ids [3]string
	for i := range ids {
		app := fmt.Sprint("app", i)
		g.app(app, presence.Replace)
		p := g.connect(app)
		ids[i] = p.enable()
		for range 20 { // more than a KB of answers, that are not acknowledged
			p.send(pingOf(app + ".example"))
			p.wantStanzas(strings.ReplaceAll(pong, "chat.example", app+".example"))
		}
		p.cut()
	}
	if n := g.srv.Stats().Kept; n != 2 {
		t.Errorf("%d are kept", n)
	}
	p := g.connect("app0")
	p.send(resume(ids[0], 0))
	p.want(notFound)
	p = g.connect("app2")
	p.send(resume(ids[2], 0))
	p.want(resumed(ids[2], 20))
}

// worker is one of the connections of the app team, with stream management.
type worker struct {
	*comp
	id       string // of its session
	received uint32 // stanzas
}

func (g *gateway) worker() *worker {
	p := g.connect("team")
	return &worker{comp: p, id: p.enable()}
}

// heard reads up to the answer to a ping, and returns what else came, in short words: "away p01", "m1", "unsubscribed p01".
func (w *worker) heard() (words []string) {
	w.t.Helper()
	w.send(pingOf("team.example"))
	return w.upToPong()
}

func (w *worker) upToPong() (words []string) {
	w.t.Helper()
	for {
		s := w.next()
		if strings.HasPrefix(s, "<r ") || strings.HasPrefix(s, "<a ") {
			continue
		}
		w.received++
		switch {
		case strings.HasPrefix(s, "<iq "):
			return words
		case strings.HasPrefix(s, "<message "):
			words = append(words, regexp.MustCompile(` id='([^']*)'`).FindStringSubmatch(s)[1])
		default:
			what := "online"
			for _, w := range []string{"away", "unavailable", "unsubscribed"} {
				if strings.Contains(s, w) {
					what = w
				}
			}
			words = append(words, what+" "+strings.SplitN(sender(s), "@", 2)[0])
		}
	}
}

func (w *worker) resume(ours uint32) {
	w.t.Helper()
	w.comp = w.g.resume("team", w.id, w.received)
	w.want(resumed(w.id, ours))
}

// A worker that has lost its connection loses its users to those that are there, at once. Back again it goes on where
// it was: it is told what is not so any more, and nothing twice.
func TestShareMovesUsersAtOnce(t *testing.T) {
	g := start(t)
	g.app("team", presence.Share)
	const users = 20
	phones, emails := map[string]*presence.Session{}, map[string]string{}
	a, b := g.worker(), g.worker()
	a.heard()
	b.heard()
	for i := range users {
		email, puid := fmt.Sprintf("u%d@example.org", i), fmt.Sprintf("p%02d", i)
		_, err := g.hub.Allow(presence.Grant{Email: email, App: "team", PUID: puid, Notify: true}, presence.ByUser)
		g.must(err)
		phones[puid], emails[puid] = g.device(email, "phone"), email
	}
	ofA := a.heard()
	if n := len(b.heard()); len(ofA)+n != users || len(ofA) < 4 {
		t.Fatalf("%d and %d of %d", len(ofA), n, users)
	}
	slices.Sort(ofA)
	puid := func(i int) string { return strings.TrimPrefix(ofA[i], "online ") }
	gone, away, revoked := puid(0), puid(1), puid(2)
	g.must(phones[gone].Send("team", "m1", []byte(`{}`), -1))
	if got := a.heard(); !slices.Equal(got, []string{"m1"}) {
		t.Errorf("before the cut: %q", got)
	}
	a.received -= 2 // the message and the ping's answer are lost on the way
	a.cut()
	moved := b.heard()
	if slices.Sort(moved); !slices.Equal(moved, ofA) {
		t.Errorf("moved: %q, to move: %q", moved, ofA)
	}
	g.must(phones[gone].Publish(presence.Offline, time.Time{}))
	g.must(phones[away].Publish(presence.Unavailable, time.Time{}))
	g.must(g.hub.Revoke(emails[revoked], "team", presence.ByUser))
	g.must(phones[gone].Send("team", "m2", []byte(`{}`), -1))
	got := b.heard()
	slices.Sort(got)
	if want := []string{"away " + away, "m2", "unavailable " + gone, "unavailable " + revoked, "unsubscribed " + revoked}; !slices.Equal(got, want) {
		t.Errorf("while the first is away the second is told %q, want %q", got, want)
	}
	a.resume(3)
	got = append(a.upToPong(), a.heard()...) // what was lost, and what is new
	if len(got) == 0 || got[0] != "m1" {
		t.Fatalf("the first is told %q", got)
	}
	slices.Sort(got)
	if want := []string{"away " + away, "m1", "unavailable " + gone, "unavailable " + revoked}; !slices.Equal(got, want) {
		t.Errorf("back again the first is told %q, want %q", got, want)
	}
	if got := b.heard(); len(got) != 0 {
		t.Errorf("and the second %q", got)
	}
	g.must(phones[away].Publish(presence.Online, time.Time{}))
	if got := a.heard(); !slices.Equal(got, []string{"online " + away}) {
		t.Errorf("news: %q", got)
	}
}

// A <resume/> that comes after the snapshot has begun doubles nothing that waits: messages and notices are held back.
func TestLateResumeDoublesNoMessage(t *testing.T) {
	for _, c := range []presence.Conflict{presence.Replace, presence.Reject, presence.Share} {
		t.Run(string(c), func(t *testing.T) {
			g := start(t)
			g.srv.SnapshotWait(snapshotSoon)
			g.app("team", c)
			for _, puid := range []string{"p1", "p2", "p3"} {
				_, err := g.hub.Allow(presence.Grant{Email: puid + "@example.org", App: "team", PUID: puid, Notify: true}, presence.ByUser)
				g.must(err)
			}
			ann := g.device("p1@example.org", "phone")
			w := g.worker()
			w.heard()
			g.must(ann.Send("team", "m1", []byte(`{}`), -1))
			g.must(g.hub.Revoke("p2@example.org", "team", presence.ByUser))
			got := w.heard()
			slices.Sort(got)
			if want := []string{"m1", "unsubscribed p2"}; !slices.Equal(got, want) {
				t.Fatalf("got %q", got)
			}
			w.received -= 3
			w.cut()
			g.must(ann.Send("team", "now1", []byte(`{}`), 0))
			late := g.connect("team")
			g.must(ann.Send("team", "now2", []byte(`{}`), 0))
			g.must(ann.Send("team", "m2", []byte(`{}`), -1))
			g.must(g.hub.Revoke("p3@example.org", "team", presence.ByUser))
			if s := late.next(); !strings.Contains(s, "<delay ") { // the snapshot has begun
				t.Errorf("got %s", s)
			}
			late.send(resume(w.id, w.received))
			w.comp = late
			w.want(resumed(w.id, 2))
			got = append(w.upToPong(), w.heard()...) // what was lost, and what is new
			slices.Sort(got)
			if want := []string{"m1", "m2", "now1", "now2", "unsubscribed p2", "unsubscribed p3"}; !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// Who neither resumes nor says anything else is asked whether it is there, and gets everything; the older session ends.
func TestSilentNewcomerGetsEverything(t *testing.T) {
	g := start(t)
	g.srv.SnapshotWait(snapshotSoon)
	g.srv.HoldWait(400 * time.Millisecond)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	p := g.connect("chat")
	id := p.enable()
	p.next() // the snapshot
	g.must(ann.Send("chat", "m1", []byte(`{}`), -1))
	for !strings.Contains(p.next(), "m1") {
	}
	p.cut()
	newer := g.connect("chat")
	newer.next()
	newer.wantPing()
	newer.send("<iq type='result' id='x' to='gw.example' from='chat.example'/>")
	if s := newer.next(); !strings.Contains(s, "m1") {
		t.Errorf("got %s", s)
	}
	newer.send(resume(id, 1))
	newer.want(notFound)
}

// A connection that broke before it could resume is told nothing that would be lost.
func TestDeadNewcomerSwallowsNothing(t *testing.T) {
	g := start(t)
	g.srv.SnapshotWait(snapshotSoon)
	g.srv.HoldWait(time.Second) // within which the living one must resume
	g.srv.PongWait(time.Second) // and before twice of it the dead one must be seen to be dead
	g.app("team", presence.Share)
	_, err := g.hub.Allow(presence.Grant{Email: "ann@example.org", App: "team", PUID: "p1", Notify: true}, presence.ByUser)
	g.must(err)
	ann := g.device("ann@example.org", "phone")
	w := g.worker()
	w.heard()
	w.cut()
	dead := g.connect("team") // its <resume/> does not arrive
	g.must(ann.Send("team", "m1", []byte(`{}`), -1))
	if s := dead.rest(); strings.Contains(s, "m1") || !strings.Contains(s, "No answer to a ping") {
		t.Errorf("the dead one got %s", s)
	}
	w.resume(1)
	if got := w.heard(); !slices.Equal(got, []string{"m1"}) {
		t.Errorf("got %q", got)
	}
}

// again is a message from a device as it comes when it may have come before.
func again(message string) string {
	return strings.TrimSuffix(message, "</message>") + "<again xmlns='urn:presenced:upstream:0'/></message>"
}
