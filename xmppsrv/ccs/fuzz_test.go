package ccs_test

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"
)

// FuzzStream sends arbitrary bytes to a real server in each state of a stream: nothing panics or hangs, and all that comes
// back is well-formed.
func FuzzStream(f *testing.F) {
	for state := range byte(4) {
		for _, s := range []string{
			openStream, auth("chat", apiKey), bind, "</stream:stream>", "<!-- -->",
			message(`{"to":"p1","message_id":"m","data":{"a":"b"},"delivery_receipt_requested":true}`) + "</stream:stream>",
			message(`{"to":"p1","message_id":"m","message_type":"ack"}`) + message(`{}`),
			"<iq type='get' id='1' to='a'><ping xmlns='urn:xmpp:ping'/></iq><presence/><message type='error'/>",
			"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/><response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>=</response>",
		} {
			f.Add(state, []byte(s))
		}
	}
	g := start(f, func(c *setup) { c.HandshakeTimeout = patience })
	g.allow("ann@example.org", "p1")
	g.device("ann@example.org", "phone")
	f.Fuzz(func(t *testing.T, state byte, data []byte) {
		g := *g
		g.t = t
		s := g.dial()
		defer s.c.Close()
		switch state % 4 {
		case 1:
			s.send(openStream)
			s.header()
			s.want(mechanisms)
		case 2:
			s.send(openStream)
			s.header()
			s.want(mechanisms)
			s.send(auth("chat", apiKey))
			s.want(success)
			s.restart()
			s.want(features)
		case 3:
			s.login("chat")
		}
		from := s.raw.Len()
		go func() {
			s.c.SetWriteDeadline(time.Now().Add(patience))
			s.c.Write(data)
			s.c.CloseWrite()
		}()
		if _, err := io.Copy(io.Discard, io.TeeReader(s.c, &s.raw)); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("%q: %v", data, err)
		}
		said := s.raw.String()
		if state%4 != 0 {
			said = openStream + said[from:]
		}
		d := xml.NewDecoder(strings.NewReader(said))
		for {
			if _, err := d.RawToken(); err == io.EOF {
				break
			} else if err != nil && !strings.Contains(err.Error(), "unexpected EOF") {
				t.Fatalf("%q: %v in %q", data, err, said)
			}
			if d.InputOffset() == int64(len(said)) {
				break
			}
		}
	})
}
