package wsbridge

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"presenced/presence"
)

// someUpdates are what an app is told most: presence of many users.
func someUpdates() []presence.Update {
	us := make([]presence.Update, batchItems)
	for i := range us {
		us[i] = presence.Update{Kind: presence.Presence, Status: presence.Status(i % 3), Tag: "abcdefghijklmnop",
			Local: fmt.Sprintf("mfzwk4tboqqgc3tboqqgc3%04d", i), Since: time.Date(2030, 5, 1, 12, 0, i%60, 0, time.UTC)}
	}
	return us
}

// benchChannel is a channel on one end of a connection over loopback whose other end is read and thrown away.
func benchChannel(tb testing.TB) (*channel, *desk) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(io.Discard, far)
		far.Close()
	}()
	tb.Cleanup(func() { near.Close(); <-done })
	b := newBridge(Config{})
	ch := &channel{id: "chat"}
	c := &conn{app: ch}
	c.b, c.Conn, ch.c, ch.out.socket = b, near, c, &c.socket
	return ch, &desk{updates: someUpdates()}
}

// write writes one batch as the writer does.
func (ch *channel) write(tb testing.TB, d *desk, app *presence.App) {
	d.buf = d.buf[:0]
	for len(d.buf) < flushAt {
		for i := range d.updates {
			d.buf, _ = ch.append(d.buf, app, &d.updates[i])
		}
	}
	if err := ch.out.writeFramesLocked(d.buf, len(d.updates)); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkAppOutput is presence on its way to an app over the WebSocket, beside writing the same bytes. It is the
// component's BenchmarkComponentOutput on this channel.
func BenchmarkAppOutput(b *testing.B) {
	app := &presence.App{Component: "chat.example"}
	var perStatus float64
	for _, floor := range []bool{true, false} {
		name := map[bool]string{true: "floor", false: "channel"}[floor]
		b.Run(name, func(b *testing.B) {
			ch, d := benchChannel(b)
			ch.write(b, d, app)
			frames := bytes.Count(d.buf, []byte(`{"status"`))
			b.ReportAllocs()
			b.SetBytes(int64(len(d.buf)))
			for b.Loop() {
				if !floor {
					ch.write(b, d, app)
				} else if _, err := ch.c.Conn.Write(d.buf); err != nil {
					b.Fatal(err)
				}
			}
			ns := float64(b.Elapsed().Nanoseconds()) / float64(b.N*frames)
			b.ReportMetric(ns, "ns/status")
			if floor {
				perStatus = ns
			} else if perStatus > 0 {
				b.ReportMetric(ns/perStatus, "x_floor")
			}
		})
	}
}

func TestStatusAllocatesNothing(t *testing.T) {
	ch, d := benchChannel(t)
	app := &presence.App{Component: "chat.example"}
	ch.write(t, d, app)
	if n := testing.AllocsPerRun(10, func() { ch.write(t, d, app) }); n > 0 {
		t.Errorf("%v allocations for %d statuses", n, len(d.updates))
	}
}

// Frames made without the library are what it reads.
func TestFramesOfAllSizes(t *testing.T) {
	var b []byte
	sizes := []int{0, 1, 125, 126, 127, 65535, 65536, 70000}
	for _, n := range sizes {
		var at int
		b, at = openFrame(b)
		for i := range n {
			b = append(b, byte('a'+i%26))
		}
		b = closeFrame(b, at)
	}
	var got []int
	for len(b) > 0 {
		if b[0] != 0x81 {
			t.Fatalf("a frame begins with %#x", b[0])
		}
		n, head := int(b[1]), 2
		switch n {
		case 126:
			n, head = int(b[2])<<8|int(b[3]), 4
		case 127:
			n, head = int(b[6])<<24|int(b[7])<<16|int(b[8])<<8|int(b[9]), 10
		}
		for i, c := range b[head : head+n] {
			if c != byte('a'+i%26) {
				t.Fatalf("byte %d of %d is %c", i, n, c)
			}
		}
		got, b = append(got, n), b[head+n:]
	}
	if diff := cmp.Diff(sizes, got); diff != "" {
		t.Error(diff)
	}
}
