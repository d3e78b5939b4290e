package xmppsrv_test

import (
	"context"
	"encoding/xml"
	"io"
	"net"
	"testing"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp"
	"mellium.im/xmpp/component"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"presenced/presence"
)

// A component written with mellium.im/xmpp: handshake, presence in, ping, message out, error in.
func TestMelliumComponent(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ready := presence.NewReady()
	ann, err := g.hub.Attach(presence.Attach{Email: "ann@example.org", Device: "phone", Ready: ready})
	g.must(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	nc, err := net.Dial("tcp", g.addr)
	g.must(err)
	s, err := component.NewSession(ctx, jid.MustParse("chat.example"), []byte(secret), nc)
	g.must(err)

	stanzas := make(chan xml.StartElement, 16)
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(xmpp.HandlerFunc(func(r xmlstream.TokenReadEncoder, start *xml.StartElement) error {
			stanzas <- start.Copy()
			_, err := xmlstream.Copy(xmlstream.Discard(), r)
			return err
		}))
	}()
	next := func() (typ, from string) {
		t.Helper()
		select {
		case e := <-stanzas:
			for _, a := range e.Attr {
				switch a.Name.Local {
				case "type":
					typ = a.Value
				case "from":
					from = a.Value
				}
			}
			return e.Name.Local + " " + typ, from
		case <-time.After(patience):
			t.Fatal("nothing came")
		}
		return "", ""
	}

	g.must(s.Send(ctx, xmlstream.Wrap(xmlstream.Wrap(nil, xml.StartElement{Name: xml.Name{Space: "urn:xmpp:ping", Local: "ping"}}),
		xml.StartElement{Name: xml.Name{Local: "iq"}, Attr: attrs("from", "chat.example", "to", domain, "type", "get", "id", "p")})))
	if what, from := next(); what != "iq result" || from != domain {
		t.Errorf("got %s from %s", what, from)
	}
	g.must(ann.Publish(presence.Online, time.Time{}))
	what, from := next()
	if j, err := jid.Parse(from); what != "presence " || err != nil || j.Localpart() != "p1" || j.Domainpart() != domain {
		t.Errorf("got %s from %s", what, from)
	}
	send := func(to string) {
		t.Helper()
		g.must(s.Send(ctx, stanza.Message{ID: "m", From: jid.MustParse("bot@chat.example"), To: jid.MustParse(to)}.Wrap(
			xmlstream.Wrap(xmlstream.Token(xml.CharData("hello")), xml.StartElement{Name: xml.Name{Local: "body"}}))))
	}
	send(from)
	if n := take(t, ready, ann); n.Message != "hello" || n.Source != "bot@chat.example" {
		t.Errorf("got %+v", n)
	}
	send("nobody@" + domain)
	if what, from := next(); what != "message error" || from != "nobody@"+domain {
		t.Errorf("got %s from %s", what, from)
	}
	g.must(s.Close())
	if err := <-served; err != nil && err != io.EOF {
		t.Errorf("Serve: %v", err)
	}
	nc.Close()
}

func attrs(pairs ...string) (as []xml.Attr) {
	for i := 0; i < len(pairs); i += 2 {
		as = append(as, xml.Attr{Name: xml.Name{Local: pairs[i]}, Value: pairs[i+1]})
	}
	return as
}
