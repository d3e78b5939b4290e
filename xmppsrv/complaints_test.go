package xmppsrv_test

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"presenced/presence"
)

// What people suffer from at other servers, told as it should go. docs/xmpp.md has the whole list, and the tests for
// those that are covered elsewhere.

// crash ends a component's connection as the end of its process does: with a reset, and no closing tag.
func (c *comp) crash() {
	c.t.Helper()
	if err := c.c.(*net.TCPConn).SetLinger(0); err != nil {
		c.t.Fatal(err)
	}
	c.c.Close()
}

// conflicts tries to connect and wants to be refused, because another connection is there.
func (g *gateway) conflicts(app string) {
	g.t.Helper()
	p := g.dial()
	p.name = app + ".example"
	p.open()
	p.send("<handshake>" + p.digest(secret) + "</handshake>")
	p.ends(streamError("conflict", "This component is connected already"))
}

// A component that crashed leaves nothing in its own way, again and again.
func TestCrashedComponentComesBack(t *testing.T) {
	for _, c := range []presence.Conflict{presence.Replace, presence.Reject} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			g := start(t)
			g.app("chat", c)
			for n := range uint64(3) {
				p := g.connect("chat")
				p.fence()
				p.crash()
				g.ended("gone", n+1)
			}
			g.connect("chat").fence()
		})
	}
}

// ended waits until n streams have ended in this way.
func (g *gateway) ended(why string, n uint64) {
	g.t.Helper()
	late := time.After(patience)
	for {
		_, more := g.log.now() // before looking: the end is counted, then logged
		if g.srv.Stats().Ended[why] >= n {
			return
		}
		select {
		case <-more:
		case <-late:
			g.t.Fatalf("not %d streams ended as %s", n, why)
		}
	}
}

// Where the newer connection is refused, one that is dead without having said so is in the way only until a ping has
// found out.
func TestDeadConnectionIsPingedAway(t *testing.T) {
	g := start(t, func(c *setup) { c.PingInterval = 500 * time.Millisecond })
	g.app("solo", presence.Reject)
	dead := g.connect("solo") // never says anything again
	g.conflicts("solo")
	g.ended("silent", 1)
	g.connect("solo").fence()
	if got := dead.rest(); !strings.HasSuffix(got, streamError("connection-timeout", "No answer to a ping")) {
		t.Errorf("the dead one was told %s", got)
	}
}

// One connection speaks for one name: two apps that see the same user see nothing of each other, neither her address
// nor her device's.
func TestAppsAreApart(t *testing.T) {
	g := start(t)
	g.app("other", presence.Replace)
	g.allow("ann@example.org", "p1")
	_, err := g.hub.Allow(presence.Grant{Email: "ann@example.org", App: "other", PUID: "o1", Address: presence.ByPUID, Notify: true}, presence.ByUser)
	g.must(err)
	chat, other := g.connect("chat"), g.connect("other")
	chat.fence()
	other.fence()
	g.device("ann@example.org", "phone")
	fromChat, fromOther := sender(chat.next()), sender(other.next())
	_, tagChat, _ := strings.Cut(fromChat, "/")
	_, tagOther, _ := strings.Cut(fromOther, "/")
	if !strings.HasPrefix(fromChat, "p1@") || !strings.HasPrefix(fromOther, "o1@") || tagChat == tagOther {
		t.Errorf("the apps know her as %s and %s", fromChat, fromOther)
	}
	for _, theirs := range []string{"p1@gw.example", fromChat, "o1@gw.example/" + tagChat} {
		other.send("<message from='other.example' to='" + theirs + "' id='1'><body>x</body></message>")
		other.want("<message from='" + theirs + "' to='other.example' id='1' type='error'>" + stanzaError("cancel", "service-unavailable", "") + "</message>")
	}
	chat.fence() // nothing of that came here
	other.send("<message from='chat.example' to='o1@gw.example'><body>x</body></message>")
	other.ends(streamError("invalid-from", "A stanza's 'from' must be at the component's own domain"))
	chat.fence()
}

// A gateway that goes says that everybody went; when it is back, the app's knowledge is right without asking, and the
// device has the address that it had.
func TestRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	g := start(t, func(c *setup) { c.Path = path })
	g.allow("ann@example.org", "p1")
	g.device("ann@example.org", "phone")
	p := g.connect("chat")
	p.hello()
	full := sender(p.next())
	go g.stop()
	p.want("<presence from='" + full + "' to='chat.example' type='unavailable'/>")
	p.ends(streamError("system-shutdown", "The server is going away"))
	g.stop()

	g = start(t, func(c *setup) { c.Path = path })
	p = g.connect("chat")
	p.hello()
	p.fence() // nobody is there, and nobody is told to be
	p.send(probe(full))
	gone := "<presence from='" + full + "' to='bot@chat.example' id='q' type='unavailable'><delay xmlns='urn:xmpp:delay' from='gw.example' stamp='T'/></presence>"
	if got := maskTime(p.next()); got != gone {
		t.Errorf("got  %s\nwant %s", got, gone)
	}
	g.device("ann@example.org", "phone")
	p.want("<presence from='" + full + "' to='chat.example'/>")
	p.fence()
}

// An address that is no good any more says so at the next message, so that the sender cleans up; it says no more than
// one that never was.
func TestRevokedAddressIsRefused(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	p := g.connect("chat")
	p.send(message("<body>x</body>"))
	p.fence() // accepted
	g.must(g.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	for s := p.next(); !strings.Contains(s, "'unsubscribed'"); s = p.next() {
	}
	for _, to := range []string{"p1@gw.example", "p2@gw.example"} {
		p.send(strings.Replace(message("<body>x</body>"), "p1@gw.example", to, 1))
		p.want("<message from='" + to + "' to='bob@chat.example/desk' id='n1' type='error'>" + stanzaError("cancel", "service-unavailable", "") + "</message>")
	}
	p.fence()
}

// What nobody here knows is no reason to refuse what everybody knows.
func TestForeignExtensionsAreNoHarm(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	p := g.connect("chat")
	foreign := "<privilege xmlns='urn:xmpp:privilege:2'><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' to='a@b'>" +
		"<body>not this</body></message></forwarded></privilege><x:y xmlns:x='urn:x' x:z='1'>text</x:y>"
	p.send(message(foreign + "<body>this</body>" + foreign))
	p.send("<presence from='chat.example' to='p1@gw.example'>" + foreign + "</presence>")
	p.send(strings.Replace(probe("p1@gw.example"), "/>", ">"+foreign+"</presence>", 1))
	if s := p.next(); !strings.Contains(s, "type='unavailable'") {
		t.Errorf("the probe got %s", s)
	}
	p.fence()
	ready := presence.NewReady()
	ann, err := g.hub.Attach(presence.Attach{Email: "ann@example.org", Device: "phone", Ready: ready})
	g.must(err)
	if n := take(t, ready, ann); n.Message != "this" || n.Source != "bob@chat.example" {
		t.Errorf("got %+v", n)
	}
}

// Two workers of an app share its users: each user's stanzas go to one of them, an answer to the one that asked, and
// when one leaves the other is told of its users.
func TestWorkersShareAnApp(t *testing.T) {
	g := start(t)
	g.app("work", presence.Share)
	const users = 20
	for i := range users {
		email, puid := fmt.Sprintf("u%d@example.org", i), fmt.Sprintf("p%02d", i)
		_, err := g.hub.Allow(presence.Grant{Email: email, App: "work", PUID: puid, Notify: true}, presence.ByUser)
		g.must(err)
	}
	a, b := g.connect("work"), g.connect("work")
	ask := func(p *comp, id string) {
		p.send("<iq from='work.example' to='gw.example' id='" + id + "' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
	}
	heard := func(p *comp) (who []string) {
		t.Helper()
		ask(p, "end")
		for s := p.next(); !strings.Contains(s, "id='end'"); s = p.next() {
			who = append(who, sender(s)[:3])
		}
		return who
	}
	if len(heard(a))+len(heard(b)) != 0 {
		t.Fatal("presence of nobody")
	}
	var phones []*presence.Session
	for i := range users {
		phones = append(phones, g.device(fmt.Sprintf("u%d@example.org", i), "phone"))
	}
	ofA, ofB := heard(a), heard(b)
	if len(ofA)+len(ofB) != users || len(ofA) == 0 || len(ofB) == 0 {
		t.Fatalf("%d users: %q and %q", users, ofA, ofB)
	}
	for i, p := range phones { // who is whose stays so, and in order
		g.must(p.Publish(presence.Unavailable, time.Time{}))
		g.must(p.Send("work", fmt.Sprint("m", i), []byte("{}"), -1))
	}
	for _, w := range []struct {
		p   *comp
		own []string
	}{{a, ofA}, {b, ofB}} {
		got := heard(w.p)
		slices.Sort(got)
		want := slices.Concat(w.own, w.own)
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("a worker heard of %q, its users are %q", got, w.own)
		}
	}
	a.c.Close()
	var moved []string
	for len(moved) < len(ofA) {
		moved = append(moved, sender(b.next())[:3])
	}
	slices.Sort(moved)
	if slices.Sort(ofA); !slices.Equal(moved, ofA) {
		t.Errorf("%q moved, %q had to", moved, ofA)
	}
	if more := heard(b); len(more) != 0 {
		t.Errorf("and %q", more)
	}
}
