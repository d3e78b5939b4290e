package wsbridge_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"presenced/presence"
	"presenced/wsbridge"
)

// FuzzSocket sends anything to the real bridge: in each state of a socket, as text frames (cut at each
// newline) or as bare bytes. What comes back must be whole frames that say something of the contract, the
// socket must end, and another device must not notice.
func FuzzSocket(f *testing.F) {
	for _, s := range []string{
		"{}", "{}\n{}\n", `{"status":"online"}`, `{"email":"ann@example.org","assertion":"dev","status":"offline"}` + "\n" + `{"type":"ack","ids":["n1"]}`,
		`{"type":"hello","email":"ann@example.org","assertion":"dev","ack":true,"heartbeat":30}`, `{"type":"send","app":"chat","id":1,"data":{}}`,
		"\x81\x80\x00\x00\x00\x00", "\x89\x81\x00\x00\x00\x001", "\x8a\x81\x00\x00\x00\x001", "\x88\x82\x00\x00\x00\x00\x03\xe8", "\x01\x80\x00\x00\x00\x00\x80\x80\x00\x00\x00\x00",
		"\x82\x80\x00\x00\x00\x00", "\xff\xff", "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00",
	} {
		for state := range states {
			f.Add(byte(state), true, []byte(s))
			f.Add(byte(state), false, []byte(s))
		}
	}
	fix := newFixture(f, func(c *wsbridge.Config) { c.Rate = 1000 })
	chat := fix.app("chat")
	bob := fix.dial()
	bob.say(`{"email":"bob@example.org","assertion":"dev","status":"online"}`)
	bob.expect(okay)
	f.Fuzz(func(t *testing.T, state byte, framed bool, input []byte) {
		if len(input) > 1<<16 {
			return
		}
		fix.t, bob.t = t, t
		defer func() { fix.t, bob.t = f, f }()
		d, err := chat.link.Notify(presence.Peer{PUID: chat.puids[ann]}, presence.Message{Message: "m", TTL: -1, Collapse: "k"})
		fix.must(err)
		fix.must(d.Wait())
		out := converse(t, fix, "/", states[int(state)%len(states)], framed, input)
		checkServerFrames(t, out)
		bob.say(`{}`)
		bob.expect(`{}`)
		fix.until("only bob is left", func() bool { return fix.bridge.Stats().Sockets == 1 })
		fix.clock.add(time.Minute) // bob may go on for ever
	})
}

// FuzzChannel is FuzzSocket for sockets of an app, with a component of the same app beside, which must not notice.
func FuzzChannel(f *testing.F) {
	for _, s := range []string{
		"{}", `{"action":"auth","token":"k"}`, `{"key":"k"}` + "\n" + `{"action":"ack","ids":["m",1]}`, `[]`, `[{"UID":"x","message":"m","action":"a"}]`,
		`{"action":"notify","uid":"ann","source":"s","message":"m","url":"u","id":1,"device":"d","data":[],"ttl":0,"collapse_key":"c","priority":"high"}`,
		`{"action":"notify","uid":"x"` + "\n" + `{"action":7}`, "\x81\x80\x00\x00\x00\x00", "\x8a\x81\x00\x00\x00\x001", "\x88\x82\x00\x00\x00\x00\x03\xe8", "\x82\x80\x00\x00\x00\x00",
	} {
		f.Add(false, true, []byte(s))
		f.Add(true, true, []byte(s))
		f.Add(true, false, []byte(s))
	}
	fix := newFixture(f, func(c *wsbridge.Config) { c.Rate = 1000 })
	chat := fix.app("chat")
	phone := fix.online("phone")
	chat.expect("online")
	n := 0
	f.Fuzz(func(t *testing.T, known, framed bool, input []byte) {
		if len(input) > 1<<16 {
			return
		}
		fix.t, phone.t = t, t
		defer func() { fix.t, phone.t = f, f }()
		if n++; n%50 == 0 {
			chat.link.Take(make([]presence.Update, 64)) // receipts
		}
		phone.say(`{"type":"send","app":"chat","id":"m","ttl":0,"data":{}}`)
		phone.expect(`{"result":"OK","id":"m","type":"send"}`)
		state := ""
		if known {
			state = `{"key":"k"}`
		}
		checkServerFrames(t, converse(t, fix, "/myapps/chat", state, framed, input))
		phone.say(`{}`)
		phone.expect(`{}`)
		fix.until("only the phone is left", func() bool { return fix.bridge.Stats().Sockets == 1 })
		fix.clock.add(time.Minute)
	})
}

// states are what a socket has said before.
var states = []string{
	``,
	`{"email":"ann@example.org","assertion":"dev","status":"online"}`,
	`{"type":"hello","email":"ann@example.org","assertion":"dev","ack":true}`,
}

// converse says all that on a new socket and returns what it heard until the end.
func converse(t *testing.T, f *fixture, path, state string, framed bool, input []byte) []byte {
	c, err := net.Dial("tcp", f.server.Listener.Addr().String())
	f.must(err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	f.must(err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp.Status)
	}
	var say []byte
	if state != "" {
		say = masked(state)
	}
	if framed {
		for line := range bytes.SplitSeq(input, []byte("\n")) {
			say = append(say, masked(string(line))...)
		}
	} else {
		say = append(say, input...)
	}
	go func() {
		c.Write(say)
		c.(*net.TCPConn).CloseWrite()
	}()
	out, err := io.ReadAll(r)
	if n, ok := err.(net.Error); ok && n.Timeout() {
		t.Fatalf("%s %v %q: the socket does not end", state, framed, input)
	}
	return out
}

// checkServerFrames checks that b is a row of whole frames of a server, the last one maybe cut by a reset.
func checkServerFrames(t *testing.T, b []byte) {
	for len(b) >= 2 {
		op, size, head := b[0], int(b[1]), 2
		if size == 126 && len(b) >= 4 {
			size, head = int(binary.BigEndian.Uint16(b[2:])), 4
		}
		if size > 126 && head == 2 || len(b) < head+size {
			return
		}
		body := b[head : head+size]
		b = b[head+size:]
		switch op {
		case 0x81:
			var m map[string]any
			if err := json.Unmarshal(body, &m); err != nil {
				t.Fatalf("heard %q: %v", body, err)
			}
		case 0x88:
			if len(body) >= 2 {
				checkClose(t, int(binary.BigEndian.Uint16(body)))
			}
			if len(b) > 0 {
				t.Fatalf("%q comes behind a close frame", b)
			}
		case 0x89, 0x8a:
		default:
			t.Fatalf("frame %#x", op)
		}
	}
}

func checkClose(t *testing.T, code int) {
	ours := []int{1002, 1003, 1009, 4001, 4029, 4500, 4530, 4534}
	if !slices.Contains(ours, code) && !(code >= 1000 && code < 1015 || code >= 3000 && code < 5000) { // or the peer's own
		t.Fatalf("closed with %d", code)
	}
}
