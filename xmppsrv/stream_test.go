package xmppsrv_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"presenced/identity"
	"presenced/presence"
)

// ourHeader is the gateway's header with its id masked.
func ourHeader(from string) string {
	return "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' from='" + from + "' id='ID'>"
}

var idAttr = regexp.MustCompile(` id='[A-Z2-7]{26}'`)

func maskID(s string) string { return idAttr.ReplaceAllString(s, " id='ID'") }

const (
	accept  = "xmlns='jabber:component:accept'"
	streams = "xmlns:stream='http://etherx.jabber.org/streams'"
)

// What a peer sends on a new connection, and all the bytes that it gets.
var openings = []struct{ name, in, from, end string }{
	{"wrong namespace", "<stream:stream xmlns='jabber:client' " + streams + " to='chat.example'>", domain,
		streamError("invalid-namespace", "This server speaks jabber:component:accept (XEP-0114)")},
	{"the other half of XEP-0114", "<stream:stream xmlns='jabber:component:connect' " + streams + " to='chat.example'>", domain,
		streamError("invalid-namespace", "This server speaks jabber:component:accept (XEP-0114)")},
	{"no default namespace", "<stream:stream " + streams + " to='chat.example'>", domain,
		streamError("invalid-namespace", "This server speaks jabber:component:accept (XEP-0114)")},
	{"wrong stream namespace", "<stream:stream " + accept + " xmlns:stream='urn:x' to='chat.example'>", domain,
		streamError("invalid-namespace", "This server speaks jabber:component:accept (XEP-0114)")},
	{"no stream", "<stream:feature " + accept + " " + streams + " to='chat.example'>", domain,
		streamError("bad-format", "A stream header was expected")},
	{"undeclared prefix", "<stream:stream " + accept + " to='chat.example'>", domain,
		streamError("not-well-formed", "The XML is not well-formed")},
	{"no to", "<stream:stream " + accept + " " + streams + ">", domain,
		streamError("improper-addressing", "The stream header must name the component's domain in &apos;to&apos;")},
	{"empty to", "<stream:stream " + accept + " " + streams + " to=''>", domain,
		streamError("improper-addressing", "The stream header must name the component's domain in &apos;to&apos;")},
	{"to with a local part", "<stream:stream " + accept + " " + streams + " to='a@chat.example'>", domain,
		streamError("improper-addressing", "The stream header must name the component's domain in &apos;to&apos;")},
	{"to that is no address", "<stream:stream " + accept + " " + streams + " to='a b'>", domain,
		streamError("improper-addressing", "The stream header must name the component's domain in &apos;to&apos;")},
	{"http", "GET / HTTP/1.1\r\n", domain, streamError("not-well-formed", "The XML is not well-formed")},
	{"another encoding", "<?xml version='1.0' encoding='latin1'?>", domain, streamError("unsupported-encoding", "Only UTF-8 is allowed")},
	{"doctype", "<!DOCTYPE stream>", domain, streamError("restricted-xml", "Comments, processing instructions, DTDs and entities are not allowed")},
	{"comment", "<!-- hello -->", domain, streamError("restricted-xml", "Comments, processing instructions, DTDs and entities are not allowed")},
	{"too long", "<stream:stream " + strings.Repeat(" ", 20_000), domain, streamError("policy-violation", "The stanza is too big")},
	{"stanza before the handshake", fmt.Sprintf(openStream, "chat.example") + "<message from='chat.example' to='gw.example'/>", "chat.example",
		streamError("not-authorized", "A handshake must come first")},
	{"handshake of another namespace", fmt.Sprintf(openStream, "chat.example") + "<handshake xmlns='urn:x'/>", "chat.example",
		streamError("not-authorized", "A handshake must come first")},
	{"bad secret", fmt.Sprintf(openStream, "chat.example") + "<handshake>0123</handshake>", "chat.example",
		streamError("not-authorized", "The handshake was not accepted")},
	{"malformed instead of the handshake", fmt.Sprintf(openStream, "chat.example") + "</x>", "chat.example",
		streamError("not-well-formed", "The XML is not well-formed")},
	{"closed before the handshake", fmt.Sprintf(openStream, "chat.example") + "</stream:stream>", "chat.example", "</stream:stream>"},
	{"closed with the header", strings.TrimSuffix(fmt.Sprintf(openStream, "chat.example"), ">") + "/>", "chat.example", "</stream:stream>"},
}

func TestOpenings(t *testing.T) {
	g := start(t)
	for _, c := range openings {
		t.Run(c.name, func(t *testing.T) {
			p := g.dial()
			p.t = t
			p.send(c.in + " and more that nobody reads")
			all, _ := io.ReadAll(p.c)
			want := ourHeader(c.from) + strings.ReplaceAll(c.end, "&apos;", "'")
			if got := maskID(string(all)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// An unknown domain, a wrong secret, a disabled app and another app's secret look the same.
func TestNobodyLearnsWhichDomainsExist(t *testing.T) {
	g := start(t)
	off := presence.App{ID: "off", Name: "off", Component: "off.example", Secret: secret, Conflict: presence.Replace, Disabled: true}
	g.must(g.hub.PutApp(off))
	for _, c := range []struct{ name, domain, secret string }{
		{"unknown domain", "none.example", secret},
		{"wrong secret", "chat.example", "wrong"},
		{"empty secret", "chat.example", ""},
		{"disabled app", "off.example", secret},
		{"the gateway's own domain", domain, secret},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := g.dial()
			p.t = t
			p.name = c.domain
			p.open()
			p.send("<handshake>" + p.digest(c.secret) + "</handshake>")
			p.ends(streamError("not-authorized", "The handshake was not accepted"))
			if got := maskID(p.raw.String()); !strings.HasPrefix(got, ourHeader(c.domain)) {
				t.Errorf("header: %s", got)
			}
		})
	}
	if n := g.srv.Stats().Ended["bad-handshake"]; n != 5 {
		t.Errorf("%d bad handshakes counted", n)
	}
}

// Nor by how much work it is to refuse them.
func TestRefusingTakesTheSameWork(t *testing.T) {
	g := start(t)
	g.must(g.hub.PutApp(presence.App{ID: "off", Name: "off", Component: "off.example", Secret: secret, Conflict: presence.Replace, Disabled: true}))
	const id = "AAAAAAAAAAAAAAAAAAAAAAAAAA"
	wrong := strings.Repeat("0", 40)
	work := func(domain string) float64 {
		return testing.AllocsPerRun(100, func() {
			if g.srv.Authenticate(domain, id, wrong) {
				t.Fatal("accepted")
			}
		})
	}
	want := work("chat.example")
	if want == 0 {
		t.Fatal("no digest was made of a wrong secret")
	}
	for _, domain := range []string{"none.example", "off.example", "gw.example"} {
		if got := work(domain); got != want {
			t.Errorf("%s takes %v allocations, a wrong secret %v", domain, got, want)
		}
	}
	sum := sha1.Sum([]byte(id + secret))
	if right := hex.EncodeToString(sum[:]); !g.srv.Authenticate("chat.example", id, right) || g.srv.Authenticate("off.example", id, right) {
		t.Error("the right digest")
	}
}

// The ways in which libraries open their streams.
func TestHandshakes(t *testing.T) {
	g := start(t)
	for _, c := range []struct{ name, header, open, shut string }{
		{"plain", fmt.Sprintf(openStream, "chat.example"), "<handshake>", "</handshake>"},
		{"declaration, double quotes", `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + strings.ReplaceAll(fmt.Sprintf(openStream, "chat.example"), "'", `"`), "<handshake>", "</handshake>"},
		{"another prefix", "<s:stream xmlns='jabber:component:accept' xmlns:s='http://etherx.jabber.org/streams' to='chat.example'>", "<handshake>", "</handshake>"},
		{"version and language", strings.TrimSuffix(fmt.Sprintf(openStream, "chat.example"), ">") + " version='1.0' xml:lang='en'>", "<handshake>", "</handshake>"},
		{"upper case in the domain", fmt.Sprintf(openStream, "Chat.EXAMPLE"), "<handshake>", "</handshake>"},
		{"dot behind the domain", fmt.Sprintf(openStream, "chat.example."), "<handshake>", "</handshake>"},
		{"explicit namespace", fmt.Sprintf(openStream, "chat.example"), "<handshake xmlns='jabber:component:accept'>", "</handshake>"},
		{"white space", fmt.Sprintf(openStream, "chat.example") + "\n ", "<handshake>\n", "\n</handshake>"},
	} {
		for _, upper := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, upper), func(t *testing.T) {
				p := g.dial()
				p.t = t
				for _, b := range []byte(c.header) { // each byte in a packet of its own
					p.send(string(b))
				}
				p.header()
				digest := p.digest(secret)
				if upper {
					digest = strings.ToUpper(digest)
				}
				p.send(c.open + digest + c.shut)
				p.want("<handshake/>")
				if got := maskID(p.raw.String()); got != ourHeader("chat.example")+"<handshake/>" {
					t.Errorf("got %s", got)
				}
				p.fence()
			})
		}
	}
}

func TestStreamIDsAreUnique(t *testing.T) {
	g := start(t)
	seen := make(map[string]bool)
	for range 20 {
		p := g.dial()
		p.open()
		if seen[p.id] || len(p.id) < 16 {
			t.Fatalf("id %q", p.id)
		}
		seen[p.id] = true
		p.send("</stream:stream>")
		p.ends("</stream:stream>")
	}
}

func TestSlowHandshake(t *testing.T) {
	g := start(t, func(c *setup) { c.HandshakeTimeout = 50 * time.Millisecond })
	p := g.dial() // says nothing
	p.header()
	p.ends(streamError("connection-timeout", "No handshake in time"))
	p = g.dial() // says too little
	p.open()
	p.send("<handshake>")
	p.ends(streamError("connection-timeout", "No handshake in time"))
}

// What an identified component sends, and how its stream ends.
var endings = []struct{ name, in, end string }{
	{"closing tag", "</stream:stream>", "</stream:stream>"},
	{"closing tag behind white space", " \n</stream:stream>", "</stream:stream>"},
	{"missing from", "<message to='x@gw.example'/>", streamError("improper-addressing", "A stanza must have a 'from'")},
	{"empty from", "<message from='' to='x@gw.example'/>", streamError("improper-addressing", "A stanza must have a 'from'")},
	{"missing to", "<message from='chat.example'/>", streamError("improper-addressing", "A stanza must have a 'to'")},
	{"missing to of an iq", "<iq from='chat.example' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>", streamError("improper-addressing", "A stanza must have a 'to'")},
	{"foreign from", "<presence from='other.example' to='x@gw.example'/>", streamError("invalid-from", "A stanza's 'from' must be at the component's own domain")},
	{"from a subdomain", "<presence from='a@b.chat.example' to='x@gw.example'/>", streamError("invalid-from", "A stanza's 'from' must be at the component's own domain")},
	{"from the gateway", "<presence from='gw.example' to='x@gw.example'/>", streamError("invalid-from", "A stanza's 'from' must be at the component's own domain")},
	{"from that is no address", "<presence from='a b@chat.example' to='x@gw.example'/>", streamError("improper-addressing", "A stanza's 'from' must be an address")},
	{"from with the domain in the resource", "<presence from='other.example/@chat.example' to='x@gw.example'/>", streamError("invalid-from", "A stanza's 'from' must be at the component's own domain")},
	{"unknown element", "<hello from='chat.example' to='gw.example'/>", streamError("unsupported-stanza-type", "Only presence, message and iq are understood")},
	{"stanza of another namespace", "<message xmlns='urn:x' from='chat.example' to='gw.example'/>", streamError("unsupported-stanza-type", "Only presence, message and iq are understood")},
	{"stanza of a client's stream", "<message xmlns='jabber:client' from='chat.example' to='gw.example'/>", streamError("invalid-namespace", "Stanzas of this stream are in jabber:component:accept (XEP-0114)")},
	{"stanza of a server's stream", "<iq xmlns='jabber:server' from='chat.example' to='gw.example' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>", streamError("invalid-namespace", "Stanzas of this stream are in jabber:component:accept (XEP-0114)")},
	{"second header", strings.Replace(openStream, "%s", "chat.example", 1), streamError("unsupported-stanza-type", "The stream is open already")},
	{"second handshake", "<handshake/>", streamError("unsupported-stanza-type", "Only presence, message and iq are understood")},
	{"stream error", "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>", "</stream:stream>"},
	{"comment", "<!-- x -->", streamError("restricted-xml", "Comments, processing instructions, DTDs and entities are not allowed")},
	{"instruction", "<?x y?>", streamError("restricted-xml", "Comments, processing instructions, DTDs and entities are not allowed")},
	{"DTD", "<!DOCTYPE a [<!ENTITY b 'c'>]>", streamError("restricted-xml", "Comments, processing instructions, DTDs and entities are not allowed")},
	{"entity", "<message from='chat.example' to='gw.example'><body>&nbsp;</body></message>", streamError("restricted-xml", "Comments, processing instructions, DTDs and entities are not allowed")},
	{"malformed", "<message from='chat.example' to='gw.example'></iq>", streamError("not-well-formed", "The XML is not well-formed")},
	{"bad UTF-8", "<message from='chat.example' to='gw.example'>\xff</message>", streamError("not-well-formed", "The XML is not well-formed")},
	{"undeclared prefix", "<x:message from='chat.example' to='gw.example'/>", streamError("not-well-formed", "The XML is not well-formed")},
	{"duplicate attribute", "<message from='chat.example' to='gw.example' to='gw.example'/>", streamError("not-well-formed", "The XML is not well-formed")},
	{"text", "hello", streamError("bad-format", "Text is not allowed between stanzas")},
	{"too big", "<message from='chat.example' to='gw.example'><body>" + strings.Repeat("x", 65536), streamError("policy-violation", "The stanza is too big")},
	{"too deep", strings.Repeat("<message>", 65), streamError("policy-violation", "The stanza is nested too deeply")},
	{"too many attributes", "<message" + attributes(65) + "/>", streamError("policy-violation", "An element has too many attributes")},
}

func attributes(n int) (s string) {
	for i := range n {
		s += fmt.Sprintf(" a%d=''", i)
	}
	return s
}

func TestEndings(t *testing.T) {
	g := start(t)
	for _, c := range endings {
		t.Run(c.name, func(t *testing.T) {
			p := g.connect("chat")
			p.t = t
			p.fence()
			p.send(c.in)
			if !strings.HasPrefix(c.name, "too") {
				p.send(strings.Repeat("<x>unread", 1000))
			}
			p.ends(c.end)
		})
	}
}

// Answers to what came before an error are written before it.
func TestAnswersComeBeforeTheError(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	ping := "<iq from='chat.example' to='gw.example' id='1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
	p.send(ping + ping + "<!--")
	pong := "<iq from='gw.example' to='chat.example' id='1' type='result'/>"
	p.want(pong, pong)
	p.ends(streamError("restricted-xml", "Comments, processing instructions, DTDs and entities are not allowed"))
}

func TestStanzaAsBigAsAllowed(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	head, tail := "<message from='chat.example' to='nobody@gw.example' id='1'><body>", "</body></message>"
	p.send(head + strings.Repeat("x", 65536-len(head)-len(tail)) + tail)
	p.want("<message from='nobody@gw.example' to='chat.example' id='1' type='error'>" + stanzaError("cancel", "service-unavailable", "") + "</message>")
	p.fence()
}

func TestReplaced(t *testing.T) {
	g := start(t)
	older := g.connect("chat")
	older.fence()
	newer := g.connect("chat")
	older.ends(streamError("conflict", "Replaced by a new connection"))
	newer.fence()
	if n := g.srv.Stats().Sessions; n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestRejected(t *testing.T) {
	g := start(t)
	g.app("solo", presence.Reject)
	older := g.connect("solo")
	newer := g.dial()
	newer.name = "solo.example"
	newer.open()
	newer.send("<handshake>" + newer.digest(secret) + "</handshake>")
	newer.ends(streamError("conflict", "This component is connected already"))
	older.wantPing() // is it alive?
	older.fence()
	older.send("</stream:stream>")
	older.ends("</stream:stream>")
	g.logs("reason=closed")
	g.connect("solo").fence()
}

func TestDisabled(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	a, _ := g.hub.App("chat")
	a.Disabled = true
	g.must(g.hub.PutApp(a))
	p.ends(streamError("not-authorized", "The app was disabled or its secret changed"))
}

// Each connection goes by the policy under which it came.
func TestPolicyChanged(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	id := p.enable()
	a, _ := g.hub.App("chat")
	a.Conflict = presence.Share
	g.must(g.hub.PutApp(a))
	p.ends(streamError("reset", "The policy for this app's connections was changed"))
	p = g.connect("chat")
	p.send(resume(id, 0))
	p.want(notFound)
}

func TestRemoved(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	g.must(g.hub.RemoveApp("chat", presence.ByAdmin))
	got := p.rest()
	if !strings.Contains(got, "<not-authorized ") || !strings.HasSuffix(got, "</stream:stream>") {
		t.Errorf("ended with %s", got)
	}
}

// A component hears first that everybody went, and then why.
func TestShutdown(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.device("ann@example.org", "phone")
	p := g.connect("chat")
	p.hello()
	from := sender(p.next())
	waiting := g.dial()
	waiting.open()
	waiting.c.SetReadDeadline(time.Now().Add(patience))
	go g.stop()
	p.want("<presence from='" + from + "' to='chat.example' type='unavailable'/>")
	p.ends(streamError("system-shutdown", "The server is going away"))
	waiting.ends(streamError("system-shutdown", "The server is going away"))
	g.stop()
	if _, err := net.Dial("tcp", g.addr); err == nil {
		t.Error("the listener is still there")
	}
}

// A server that is shut down without its hub says so too, and Shutdown cuts who does not read.
func TestShutdownWithStalledPeer(t *testing.T) {
	g := start(t)
	p := g.connect("chat")
	stall(p)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := g.srv.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("Shutdown: %v", err)
	}
	if n := g.srv.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// stall makes the gateway wait in a write: the peer asks and does not read, until nothing has moved any more for several
// times in a row, each of which gave the gateway the processor.
func stall(p *comp) {
	p.t.Helper()
	question := strings.Repeat("<iq from='chat.example' to='gw.example' id='12345678' type='get'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>", 500)
	sent := uint64(0)
	for still := 0; still < 6; {
		for off := 0; off < len(question) && still < 6; {
			p.c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			n, err := io.WriteString(p.c, question[off:])
			off += n
			out := p.g.srv.Stats().BytesOut
			if still++; err == nil || n > 0 || out != sent {
				still = 0
			}
			sent = out
		}
	}
}

// Who asks without reading is not read from, is dropped in the end, and harms nobody.
func TestPeerThatDoesNotRead(t *testing.T) {
	g := start(t, func(c *setup) { c.PingInterval = time.Second })
	g.app("other", presence.Replace)
	g.allow("ann@example.org", "p1")
	_, err := g.hub.Allow(presence.Grant{Email: "ann@example.org", App: "other", PUID: "o1", Address: presence.ByPUID}, presence.ByUser)
	g.must(err)
	stall(g.connect("chat"))
	other := g.connect("other")
	other.alive = true
	other.fence()
	ann := g.device("ann@example.org", "phone")
	from := sender(other.next())
	if !strings.HasPrefix(from, "o1@") {
		t.Errorf("from %s", from)
	}
	g.must(ann.Publish(presence.Unavailable, time.Time{}))
	other.want("<presence from='" + from + "' to='other.example'><show>away</show></presence>")
	g.logs("reason=stalled")
	if n := g.srv.Stats().Ended["stalled"]; n != 1 {
		t.Errorf("%d drops are counted", n)
	}
}

// A component whose old connection is stuck is back at once.
func TestReplacedWhileStalled(t *testing.T) {
	g := start(t)
	stall(g.connect("chat"))
	p := g.connect("chat")
	p.fence()
	g.logs("reason=replaced")
	if n := g.srv.Stats().Sessions; n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestSilentPeerIsPingedAndDropped(t *testing.T) {
	g := start(t, func(c *setup) { c.PingInterval = 60 * time.Millisecond })
	p := g.connect("chat")
	p.wantPing()
	p.ends(streamError("connection-timeout", "No answer to a ping"))
}

// Any byte is a sign of life, and the answer to a ping is not answered.
func TestAnySignOfLife(t *testing.T) {
	for _, c := range []struct{ name, sign string }{
		{"white space", " "},
		{"answer", "<iq from='chat.example' to='gw.example' id='%s' type='result'/>"},
		{"error", "<iq from='chat.example' to='gw.example' id='%s' type='error'/>"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := start(t, func(c *setup) { c.PingInterval = 100 * time.Millisecond })
			g.srv.PongWait(patience)
			p := g.connect("chat")
			for range 3 {
				ping := p.next()
				if !strings.Contains(ping, "urn:xmpp:ping") {
					t.Fatalf("got %s", ping)
				}
				p.send(strings.ReplaceAll(c.sign, "%s", idAttr.FindString(ping)[5:31]))
			}
			p.alive = true
			p.fence()
		})
	}
}

func TestTooManyWithoutHandshake(t *testing.T) {
	g := start(t, func(c *setup) { c.MaxWaitingPerAddress = 2 })
	a, b := g.dial(), g.dial()
	a.open()
	b.open()
	c := g.dial()
	c.header()
	c.ends(streamError("policy-violation", "Too many streams without a handshake from this address"))
	a.send("<handshake>" + a.digest(secret) + "</handshake>")
	a.want("<handshake/>")
	a.fence()
	g.connect("chat").fence() // there is room again
}

func TestTooManyWithoutHandshakeInAll(t *testing.T) {
	g := start(t, func(c *setup) { c.MaxWaiting = 1 })
	a := g.dial()
	a.open()
	c := g.dial()
	c.header()
	c.ends(streamError("resource-constraint", "Too many streams without a handshake"))
	if s := g.srv.Stats(); s.Waiting != 1 || s.Ended["too-many-waiting"] != 1 {
		t.Errorf("%+v", s)
	}
}

// Where too many handshakes failed there is another answer to wrong ones, for a while; good ones are heard.
func TestTooManyFailedHandshakes(t *testing.T) {
	begin, skew := time.Now(), new(atomic.Int64)
	g := start(t, func(c *setup) {
		c.Attempts = identity.NewAttempts(func() time.Time { return begin.Add(time.Duration(skew.Load())) })
		c.Attempts.Log = c.Log
	})
	try := func(domain, secret string) *comp {
		c := g.dial()
		c.name = domain
		c.open()
		c.send("<handshake>" + c.digest(secret) + "</handshake>")
		return c
	}
	for i := range 50 {
		try([]string{"chat.example", "none.example"}[i%2], "wrong").ends(streamError("not-authorized", "The handshake was not accepted"))
	}
	for _, domain := range []string{"chat.example", "none.example"} {
		try(domain, "wrong").ends(streamError("policy-violation", "Too many attempts from this address have failed"))
	}
	try("chat.example", secret).want("<handshake/>")
	skew.Add(int64(time.Second))
	try("chat.example", "wrong").ends(streamError("not-authorized", "The handshake was not accepted"))
	if !strings.Contains(g.log.String(), `msg="identification failed" address=127.0.0.1`) {
		t.Error("nothing was logged")
	}
}
