package xmppsrv_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// FuzzStream sends arbitrary bytes to a real server in each state of a stream: nothing panics or hangs, and all
// that comes back is well-formed.
func FuzzStream(f *testing.F) {
	header := fmt.Sprintf(openStream, "chat.example")
	for _, c := range openings {
		f.Add(byte(0), byte(7), []byte(c.in))
	}
	for _, c := range endings {
		if len(c.in) < 4096 {
			f.Add(byte(1), byte(0), []byte(c.in))
			f.Add(byte(2), byte(0), []byte(c.in))
		}
	}
	for _, c := range queries {
		f.Add(byte(2), byte(3), []byte(c.in))
		f.Add(byte(3), byte(3), []byte(c.in+ask))
	}
	for _, c := range []string{enable, "<enable " + sm + "/>", ask, ack(0), ack(1), ack(1 << 31), resume("x", 0), resume("x", 1<<32-1)} {
		for state := range byte(fuzzStates) {
			f.Add(state, byte(0), []byte(ping+c))
			f.Add(state, byte(5), []byte(c+note("a")+ask+c+"</stream:stream>"))
		}
	}
	for _, c := range refusedMessages {
		if len(c.in) < 4096 {
			f.Add(byte(2), byte(100), []byte(c.in+"</stream:stream>"))
		}
	}
	f.Add(byte(0), byte(1), []byte(header+"<handshake/>"))
	f.Add(byte(2), byte(9), []byte(probe("p1@gw.example")+probe("nobody@gw.example/x")+strings.Replace(probe("p1@gw.example"), "probe", "subscribe", 1)))

	commandFrom := "<iq from='root@chat.example' to='gw.example' id='c' type='set'>" + commandNS
	f.Add(byte(2), byte(0), []byte(commandFrom+"node='urn:t#list'/></iq>"+disco("root@chat.example", "items", commandsNode)))
	f.Add(byte(2), byte(0), []byte(commandFrom+"node='greet' sessionid='x' action='next'>"+submit("who", "Ann")+"</command></iq>"))

	g := start(f, withCommands(twoCommands()), func(c *setup) { c.PingInterval, c.HandshakeTimeout = patience, patience })
	g.allow("ann@example.org", "p1")
	g.device("ann@example.org", "phone")
	f.Fuzz(func(t *testing.T, state, piece byte, data []byte) {
		g := *g
		g.t = t
		p := g.dial()
		defer p.c.Close()
		switch state % fuzzStates {
		case 1:
			p.open()
		case 2:
			p.handshake()
		case 3: // with stream management
			p.handshake()
			p.enable()
		case 4: // in place of one that is cut
			p.handshake()
			id := p.enable()
			p.c.Close()
			p = g.resume("chat", id, 0)
			defer p.c.Close()
		case 5: // beside one that can be resumed
			p.handshake()
			id := p.enable()
			p = g.connect("chat")
			defer p.c.Close()
			data = bytes.ReplaceAll(data, []byte("previd='x'"), []byte("previd='"+id+"'"))
		}
		from := p.raw.Len()
		go func() {
			for b := data; len(b) > 0; {
				n := len(b)
				if piece > 0 {
					n = min(n, int(piece))
				}
				if _, err := p.c.Write(b[:n]); err != nil {
					break
				}
				b = b[n:]
			}
			p.c.(*net.TCPConn).CloseWrite()
		}()
		rest, err := io.ReadAll(p.c)
		if err, ok := err.(net.Error); ok && err.Timeout() {
			t.Fatalf("the server does not end the stream after %q: %q", data, rest)
		}
		wellFormed(t, append(bytes.Clone(p.raw.Bytes()[:from]), append(p.raw.Bytes()[from:], rest...)...))
	})
}

const fuzzStates = 6

// wellFormed checks what came of a stream, which may have been cut.
func wellFormed(t *testing.T, out []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(out))
	for {
		_, err := d.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			if !strings.Contains(err.Error(), "unexpected EOF") {
				t.Fatalf("%v in %q", err, out)
			}
			return
		}
	}
}

// A stream that is cut anywhere leaves nothing behind.
func TestCutAnywhere(t *testing.T) {
	g := start(t)
	all := "<message from='chat.example' to='nobody@gw.example' id='1'><body>&amp;<![CDATA[x]]></body></message></stream:stream>"
	for i := range len(all) {
		p := g.connect("chat")
		p.send(all[:i])
		p.c.(*net.TCPConn).CloseWrite()
		p.c.SetReadDeadline(time.Now().Add(patience))
		p.rest()
		p.c.Close()
	}
	g.connect("chat").fence()
}
