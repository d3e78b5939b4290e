package ccs_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"presenced/identity"
)

// Whatever a client calls us and itself, and whom it wants to act as, it is let in by its id and key; and it hears its
// own words again.
func TestLogin(t *testing.T) {
	g := start(t)
	for _, c := range []struct{ name, to, from, authcid, resource, jid string }{
		{"bare sender id", " to='gcm.googleapis.com'", "gcm.googleapis.com", "chat", "", "chat@gcm.googleapis.com/"},
		{"FCM", " to='fcm.googleapis.com'", "fcm.googleapis.com", "chat@fcm.googleapis.com", "", "chat@fcm.googleapis.com/"},
		{"no to", "", "gw.example", "chat", "", "chat@gw.example/"},
		{"a to that is no domain", " to='FCM XMPP Client &quot;Connection&quot; Server'", "FCM XMPP Client &quot;Connection&quot; Server", "chat@gcm.googleapis.com", "Smack", "chat@gcm.googleapis.com/Smack#"},
		{"a domain that is none", " to='gw.example'", "gw.example", "chat@gw.example/x", "", "chat@gw.example/"},
		{"a resource that is none", "", "gw.example", "chat", "a b", "chat@gw.example/"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := g.dial()
			open := "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'" + c.to + " version='1.0'>"
			s.send(open)
			if h := s.header(); !strings.HasPrefix(h, `<stream:stream from="`+c.from+`" id="`) ||
				!strings.HasSuffix(h, `" version="1.0" xmlns:stream="http://etherx.jabber.org/streams" xmlns="jabber:client">`) {
				t.Errorf("the header is %s", h)
			}
			s.want(mechanisms)
			message := base64.StdEncoding.EncodeToString([]byte("any" + c.authcid + "\x00" + c.authcid + "\x00" + apiKey))
			s.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + message + "</auth>")
			s.want(success)
			s.restartTo(open)
			s.want(features)
			s.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>" + c.resource + "</resource></bind></iq>")
			if jid := s.bound(); !strings.HasPrefix(jid, c.jid) || len(jid) != len(c.jid)+16 {
				t.Errorf("bound to %s, want %s", jid, c.jid)
			}
		})
	}
}

// How streams are turned away before anybody is known.
func TestRefusedLogins(t *testing.T) {
	g := start(t)
	g.app("off")
	off, _ := g.hub.App("off")
	off.Disabled = true
	g.must(g.hub.PutApp(off))
	keyless := off
	keyless.ID, keyless.Component, keyless.APIKey, keyless.Disabled = "keyless", "keyless.example", "", false
	g.must(g.hub.PutApp(keyless))
	failure := func(cond string) string {
		return `<failure xmlns="urn:ietf:params:xml:ns:xmpp-sasl"><` + cond + `/></failure>`
	}
	sasl := func(mech, text string) string {
		return "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='" + mech + "'>" + text + "</auth>"
	}
	for name, c := range map[string]struct{ in, out string }{
		"wrong key":            {auth("chat", "wrong-key"), failure("not-authorized")},
		"unknown sender":       {auth("nobody", apiKey), failure("not-authorized")},
		"disabled":             {auth("off", apiKey), failure("not-authorized")},
		"app without a key":    {auth("keyless", ""), failure("not-authorized")},
		"empty key":            {auth("chat", ""), failure("not-authorized")},
		"half a key":           {auth("chat", apiKey[:5]), failure("not-authorized")},
		"the domain alone":     {auth("@gcm.googleapis.com", apiKey), failure("not-authorized")},
		"no NUL":               {sasl("PLAIN", "Y2hhdA=="), failure("malformed-request")},
		"no base64":            {sasl("PLAIN", "%%%"), failure("incorrect-encoding")},
		"nothing":              {sasl("PLAIN", "="), failure("malformed-request")},
		"another mechanism":    {sasl("X-OAUTH2", "eA=="), failure("invalid-mechanism")},
		"abort":                {sasl("PLAIN", "") + "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", `<challenge xmlns="urn:ietf:params:xml:ns:xmpp-sasl"/>` + failure("aborted")},
		"three times":          {auth("chat", "wrong-key") + auth("chat", "wrong-key") + auth("chat", "wrong-key"), strings.Repeat(failure("not-authorized"), 3) + streamError("policy-violation", "Too many attempts")},
		"message before":       {message("{}"), streamError("not-authorized", "SASL and then a resource must come first")},
		"STARTTLS":             {"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", streamError("not-authorized", "SASL and then a resource must come first")},
		"not well-formed":      {"<a></b>", streamError("not-well-formed", "The XML is not well-formed")},
		"a comment":            {"<!-- -->", streamError("restricted-xml", "Comments, processing instructions, DTDs and entities are not allowed")},
		"too big before login": {"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + strings.Repeat("x", 10_000), streamError("policy-violation", "The stanza is too big")},
	} {
		t.Run(name, func(t *testing.T) {
			s := g.dial()
			s.send(openStream)
			s.header()
			s.want(mechanisms)
			s.send(c.in)
			if !strings.Contains(c.out, "stream:error") {
				s.send("</stream:stream>")
				c.out += "</stream:stream>"
			}
			s.ends(c.out)
		})
	}
}

// A second try may be right, and one without an initial response is asked for it.
func TestSecondTry(t *testing.T) {
	g := start(t)
	s := g.dial()
	s.send(openStream)
	s.header()
	s.want(mechanisms)
	s.send(auth("chat", "wrong-key"))
	s.want(`<failure xmlns="urn:ietf:params:xml:ns:xmpp-sasl"><not-authorized/></failure>`)
	s.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>")
	s.want(`<challenge xmlns="urn:ietf:params:xml:ns:xmpp-sasl"/>`)
	s.send("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>" + plain("chat", apiKey) + "</response>")
	s.want(success)
	s.restart()
	s.want(features)
	s.send("<presence/><iq type='get' id='1' to='gcm.googleapis.com'><ping xmlns='urn:xmpp:ping'/></iq>" + bind)
	s.want(`<iq type="error" to="gcm.googleapis.com" from="gcm.googleapis.com" id="1"><error type="cancel"><not-allowed xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></error></iq>`)
	s.bound()
}

// How streams end once there is a header.
func TestHeaders(t *testing.T) {
	g := start(t)
	for name, c := range map[string]struct{ in, out string }{
		"server namespace": {"<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'>", "invalid-namespace"},
		"component":        {"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='chat.example'>", "invalid-namespace"},
		"no stream":        {"<stream xmlns='jabber:client'>", "invalid-namespace"},
		"another element":  {"<stream:flow xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>", "bad-format"},
		"HTTP":             {"GET / HTTP/1.1\r\n\r\n", "not-well-formed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := g.dial()
			s.send(c.in)
			s.header()
			if got := s.next(); !strings.HasPrefix(got, "<stream:error><"+c.out+" ") {
				t.Errorf("got %s, want %s", got, c.out)
			}
			s.ends("</stream:stream>")
		})
	}
}

// The header that closes itself is the end of the stream.
func TestSelfClosingHeader(t *testing.T) {
	g := start(t)
	s := g.dial()
	s.send(strings.Replace(openStream, "'1.0'>", "'1.0'/>", 1))
	s.header()
	s.want(mechanisms)
	s.ends("</stream:stream>")
}

// TLS comes with the first byte; who speaks without it gets nothing.
func TestNoTLS(t *testing.T) {
	g := start(t)
	c, err := net.Dial("tcp", g.addr)
	g.must(err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprint(c, openStream)
	b := make([]byte, 512)
	n, _ := c.Read(b)
	if strings.Contains(string(b[:n]), "stream") {
		t.Errorf("without TLS: %q", b[:n])
	}
}

// Who does not log in is not waited for, whether he speaks or not.
func TestSlowLogin(t *testing.T) {
	g := start(t, func(c *setup) { c.HandshakeTimeout = time.Second }) // TLS has to be done by then
	s := g.dial()
	s.send(openStream)
	s.header()
	s.want(mechanisms)
	s.ends(streamError("connection-timeout", "No login in time"))
}

// Connections of a sender, streams without login: all are bounded, and the others notice nothing.
func TestBounds(t *testing.T) {
	g := start(t, func(c *setup) { c.MaxConnections, c.MaxWaitingPerAddress = 2, 1 })
	in := func() *server { // one that is no longer among those without login
		s := g.connect()
		g.eventually("nobody waits", func() bool { return g.srv.Stats().Waiting == 0 })
		return s
	}
	one, two := in(), in()
	three := g.dial()
	three.send(openStream)
	three.header()
	three.want(mechanisms)
	three.send(auth("chat", apiKey))
	three.want(success)
	three.restart()
	three.want(features)
	four := g.dial()
	four.header()
	four.ends(streamError("policy-violation", "Too many streams without a login from this address"))
	three.send(bind)
	three.want(`<iq type="error" id="b"><error type="wait"><resource-constraint xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></error></iq>`)
	three.ends(streamError("resource-constraint", "Too many connections of this sender"))
	one.fence()
	two.send("</stream:stream>")
	two.ends("</stream:stream>")
	g.eventually("one is left", func() bool { return g.srv.Stats().Sessions == 1 })
	g.connect().fence()
}

// Everything a client asks has one answer: pings and session are carried out, the rest is not.
func TestQueries(t *testing.T) {
	g := start(t)
	s := g.connect()
	stanza := ` xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></error></iq>`
	for _, c := range []struct{ in, out string }{
		{"<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>", `<iq type="result" id="s"/>`},
		{"<iq type='set' id='s' to='gcm.googleapis.com'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
			`<iq type="result" to="` + s.jid + `" from="gcm.googleapis.com" id="s"/>`},
		{"<iq from='" + s.jid + "' to='localhost' id='c2s1' type='get'><ping xmlns='urn:xmpp:ping'/></iq>", `<iq type="result" to="` + s.jid + `" from="localhost" id="c2s1"/>`},
		{"<iq type='get' id='p'><ping xmlns='urn:xmpp:ping'/></iq>", `<iq type="result" id="p"/>`},
		{"<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>", `<iq type="error" id="r"><error type="cancel"><service-unavailable` + stanza},
		{"<iq type='get' id='d' to='gcm.googleapis.com'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>",
			`<iq type="error" to="` + s.jid + `" from="gcm.googleapis.com" id="d"><error type="cancel"><service-unavailable` + stanza},
		{bind, `<iq type="error" id="b"><error type="cancel"><service-unavailable` + stanza},
		{"<iq type='get'><query xmlns='x'/></iq>", `<iq type="error" id=""><error type="modify"><bad-request` + stanza},
		{"<iq type='get' id='e'/>", `<iq type="error" id="e"><error type="modify"><bad-request` + stanza},
		{"<iq type='result' id='x'/><iq type='error' id='y'/><presence xml:lang='en'><show></show><status></status></presence>", ""},
		{"<message type='error' id='z'><gcm xmlns='google:mobile:data'>{}</gcm></message>", ""},
		{"<message id='c' type='chat'><body>hi</body></message>",
			`<message id="c" type="error" to="` + s.jid + `"><error code="503" type="cancel"><service-unavailable xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/></error></message>`},
	} {
		s.send(c.in)
		if c.out != "" {
			s.want(c.out)
		}
		s.fence()
	}
	s.send("<enable xmlns='urn:xmpp:sm:3'/>")
	s.ends(streamError("unsupported-stanza-type", "Only presence, message and iq are understood"))
}

// An app that is disabled or removed loses its connections; one whose key changed cannot come back.
func TestDisabled(t *testing.T) {
	g := start(t)
	one, two := g.connect(), g.connect()
	app, _ := g.hub.App("chat")
	app.Disabled = true
	g.must(g.hub.PutApp(app))
	for _, s := range []*server{one, two} {
		s.ends(streamError("not-authorized", "The app was disabled or its key changed"))
	}
	app.Disabled = false
	g.must(g.hub.PutApp(app))
	three := g.connect()
	g.must(g.hub.RemoveApp("chat", "admin"))
	three.ends(streamError("not-authorized", "The app was removed"))
}

// Thousands of connections of one sender are one link; each works.
func TestManyConnections(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	var all []*server
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range 8 {
		wg.Go(func() {
			for range 8 {
				s := g.connect()
				mu.Lock()
				all = append(all, s)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i, s := range all {
		id := fmt.Sprint("m", i)
		s.gcm(`{"to":"` + ann.token + `","message_id":"` + id + `","data":{"i":"` + id + `"}}`)
		s.want(ack(ann.token, id))
		if n := ann.one(); n.Ref != id {
			t.Fatalf("%+v", n)
		}
	}
	if st := g.srv.Stats(); st.Sessions != 64 || st.Senders != 1 || g.hub.Stats().Links != 1 {
		t.Errorf("%+v, %+v", st, g.hub.Stats())
	}
}

// While keys overlap both are good, and a rotation without overlap ends what came in by the old one.
func TestKeysOverlap(t *testing.T) {
	g := start(t)
	s := g.connect()
	app, _ := g.hub.App("chat")
	app.OldAPIKey, app.OldSecret, app.OldSecretUntil = app.APIKey, app.Secret, g.clock.Now().Add(time.Hour)
	app.APIKey = "the-new-key"
	g.must(g.hub.PutApp(app))
	s.fence()
	g.connect().fence()
	fresh := g.dial()
	fresh.send(openStream)
	fresh.header()
	fresh.want(mechanisms)
	fresh.send(auth("chat", "the-new-key"))
	fresh.want(success)
	g.clock.add(2 * time.Hour)
	old := g.dial()
	old.send(openStream)
	old.header()
	old.want(mechanisms)
	old.send(auth("chat", apiKey))
	old.want(`<failure xmlns="urn:ietf:params:xml:ns:xmpp-sasl"><not-authorized/></failure>`)
	app.APIKey = "another-key"
	g.must(g.hub.PutApp(app))
	s.ends(streamError("not-authorized", "The app was disabled or its key changed"))
}

// Where too many logins failed there is another answer to wrong keys, for a while, and the same to all of them; good keys
// are heard, and elsewhere nothing changes. Nothing of what was shown is logged.
func TestTooManyFailedLogins(t *testing.T) {
	begin, skew := time.Now(), new(atomic.Int64)
	g := start(t, func(c *setup) {
		c.Attempts = identity.NewAttempts(func() time.Time { return begin.Add(time.Duration(skew.Load())) })
		c.Attempts.Log = c.Log
	})
	try := func(id, key string) string {
		s := g.dial()
		s.send(openStream)
		s.header()
		s.want(mechanisms)
		s.send(auth(id, key))
		return s.next()
	}
	for i := range 50 {
		if got := try([]string{"chat", "nobody"}[i%2], "wrong-key"); !strings.Contains(got, "<not-authorized/>") {
			t.Fatalf("%d: %s", i, got)
		}
	}
	for _, id := range []string{"chat", "nobody"} {
		s := g.dial()
		s.send(openStream)
		s.header()
		s.want(mechanisms)
		s.send(auth(id, "wrong-key"))
		s.ends(`<failure xmlns="urn:ietf:params:xml:ns:xmpp-sasl"><temporary-auth-failure/></failure>` +
			streamError("policy-violation", "Too many attempts from this address have failed"))
	}
	g.connect().fence()
	g.from = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}
	if got := try("chat", "wrong-key"); !strings.Contains(got, "<not-authorized/>") {
		t.Error(got)
	}
	g.from = nil
	skew.Add(int64(time.Second))
	if got := try("chat", "wrong-key"); !strings.Contains(got, "<not-authorized/>") {
		t.Error(got)
	}
	if n := strings.Count(g.log.String(), `msg="identification failed" address=127.0.0.1`); n == 0 || n > 51 {
		t.Errorf("%d failures were logged", n)
	}
}
