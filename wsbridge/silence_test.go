package wsbridge_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"presenced/wsbridge"
)

// wire is a device of bare bytes.
type wire struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

// wire connects a device of bare bytes, over TLS where the server has it, and says hello as ann's phone.
func (f *fixture) wire(conn net.Conn, hello string) *wire {
	f.t.Helper()
	w := &wire{f.t, conn, bufio.NewReader(conn)}
	f.t.Cleanup(func() { conn.Close() })
	f.must(conn.SetDeadline(time.Now().Add(3 * patience)))
	fmt.Fprint(w, "GET /presence HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	resp, err := http.ReadResponse(w.r, nil)
	f.must(err)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		f.t.Fatal(resp.Status)
	}
	w.Write(masked(hello))
	w.frame()
	return w
}

// frame reads one frame of the server: its first byte and what is in it.
func (w *wire) frame() (first byte, payload []byte) {
	w.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(w.r, head[:]); err != nil {
		w.t.Fatal(err)
	}
	n := int(head[1])
	if n == 126 {
		var size [2]byte
		if _, err := io.ReadFull(w.r, size[:]); err != nil {
			w.t.Fatal(err)
		}
		n = int(size[0])<<8 | int(size[1])
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(w.r, payload); err != nil {
		w.t.Fatal(err)
	}
	return head[0], payload
}

// pong answers a ping.
func (w *wire) pong(payload []byte) {
	f := masked(string(payload))
	f[0] = 0x8a
	w.Write(f)
}

// On an idle socket there is nothing between heartbeats, and a heartbeat is one ping of two bytes: what comes behind
// the answer to hello is compared byte for byte.
func TestIdleSocketIsSilent(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.HeartbeatMin, c.PongTimeout = time.Millisecond, 500*time.Millisecond })
	chat := f.app("chat")
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	f.must(err)
	w := f.wire(conn, `{"type":"hello","email":"ann@example.org","assertion":"dev","device":"phone","status":"online","heartbeat":0.05}`)
	chat.expect("online")
	const beats = 10
	for range beats {
		var got [2]byte
		if _, err := io.ReadFull(w.r, got[:]); err != nil || !bytes.Equal(got[:], []byte{0x89, 0}) {
			t.Fatalf("heard %x: %v", got, err)
		}
		if w.r.Buffered() != 0 {
			t.Fatal("more than a ping")
		}
		w.pong(nil)
	}
	s := f.bridge.Stats()
	if s.Pings < beats || s.FramesOut != 1 { // the answer to hello
		t.Errorf("%d pings, %d frames", s.Pings, s.FramesOut)
	}
	chat.quiet()
}

// A device that lets the gateway choose is asked less often as long as it answers, and is told; after a silent death
// it is asked more often again.
func TestHeartbeatAdapts(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) {
		c.Heartbeat, c.HeartbeatMin, c.HeartbeatMax, c.PongTimeout = 200*time.Millisecond, 100*time.Millisecond, 10*time.Second, 500*time.Millisecond
	})
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	f.must(err)
	w := f.wire(conn, `{"type":"hello","email":"ann@example.org","assertion":"dev","device":"phone","adapt":true}`)
	pings := 0
	for {
		first, payload := w.frame()
		if first == 0x81 {
			if string(payload) != `{"heartbeat":1}` { // in seconds
				t.Fatalf("heard %s", payload)
			}
			break
		}
		pings++
		w.pong(payload)
	}
	if pings < 4 {
		t.Errorf("longer after %d pings", pings)
	}
	longer := f.bridge.HeartbeatOf(ann, "phone")
	if longer != 300*time.Millisecond {
		t.Errorf("the heartbeat is %v", longer)
	}
	for first, _ := w.frame(); first != 0x88; { // it answers no more
		first, _ = w.frame()
	}
	f.until("the death is noted", func() bool { return f.bridge.Stats().Timeouts == 1 })
	conn, err = net.Dial("tcp", f.server.Listener.Addr().String())
	f.must(err)
	f.wire(conn, `{"type":"hello","email":"ann@example.org","assertion":"dev","device":"phone","adapt":true}`)
	if got := f.bridge.HeartbeatOf(ann, "phone"); got != longer*2/3 {
		t.Errorf("after the death it is %v", got)
	}
}

// A device that says {} by itself a little before it is asked is as good as one that answers.
func TestHeartbeatOfBrowsers(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) {
		c.Heartbeat, c.HeartbeatMin, c.HeartbeatMax, c.PongTimeout = 10*time.Second, time.Second/10, 20*time.Second, 300*time.Millisecond
	})
	conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
	f.must(err)
	w := f.wire(conn, `{"type":"hello","email":"ann@example.org","assertion":"dev","device":"phone","adapt":true,"heartbeat":0.3}`)
	before := f.bridge.HeartbeatOf(ann, "phone")
	for told := false; !told; {
		f.until("the page has been idle", func() bool { return f.bridge.SilenceOf(ann, "phone") >= before*4/5 })
		w.Write(masked("{}"))
		for heard := false; !heard; {
			first, payload := w.frame()
			if heard = string(payload) == "{}"; first == 0x89 {
				w.pong(payload)
			}
			told = told || string(payload) == `{"heartbeat":1}`
		}
	}
	if got := f.bridge.HeartbeatOf(ann, "phone"); got <= before {
		t.Errorf("%v has become %v", before, got)
	}
}

// A device that notices by itself that its connection is dead, and comes back from the same network, is a silent
// death too; one that comes back while the older connection was just heard is not.
func TestHeartbeatOfTheDeaf(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) {
		c.Heartbeat, c.HeartbeatMin, c.PongTimeout = 2*time.Second, 100*time.Millisecond, 500*time.Millisecond
	})
	come := func() *wire {
		conn, err := net.Dial("tcp", f.server.Listener.Addr().String())
		f.must(err)
		return f.wire(conn, `{"type":"hello","email":"ann@example.org","assertion":"dev","device":"phone"}`)
	}
	come()
	w := come()
	if got := f.bridge.HeartbeatOf(ann, "phone"); got != 2*time.Second {
		t.Errorf("after a quick change it is %v", got)
	}
	for first, _ := w.frame(); first != 0x89; {
		first, _ = w.frame()
	}
	come() // the ping was lost
	if got := f.bridge.HeartbeatOf(ann, "phone"); got >= 2*time.Second {
		t.Errorf("after a silence it is %v", got)
	}
}
