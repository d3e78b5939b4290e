package wsbridge_test

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"presenced/presence"
	"presenced/wsbridge"
)

// BenchmarkIdleDay measures what goes over a device's connection for each thing that happens to it, both ways, on TLS
// 1.3 over loopback: packets as the kernel counts them, those that only acknowledge included, and bytes with the
// headers of IPv4 and TCP. The floor is one byte there and one back on a bare TLS connection. docs/battery.md makes
// a day of it.
//
//	go test -run xxx -bench IdleDay -benchtime 1x ./wsbridge
func BenchmarkIdleDay(b *testing.B) {
	b.Run("floor", benchFloor)
	for _, c := range []struct {
		name, hello string
		what        func(*day)
	}{
		{"heartbeat/ping", `,"heartbeat":0.3`, func(d *day) { d.pong(d.until(0x89)) }},
		{"heartbeat/{}", "", func(d *day) { d.ask("{}") }},
		{"presence", "", func(d *day) { d.ask(`{"status":"unavailable"}`) }},
		{"notification/pong", "", func(d *day) { d.notify(1); d.until(0x81); d.pong(d.until(0x89)) }},
		{"notification/ack", `,"ack":true`, func(d *day) { d.notify(1); d.ack() }},
		{"notifications/10", `,"ack":true`, func(d *day) {
			for range 10 {
				d.notify(1)
				d.ack()
				settle()
			}
		}},
		{"notifications/10 quiet", `,"ack":true,"quiet":true`, func(d *day) { d.notify(10); d.ask("{}"); d.ack() }},
	} {
		b.Run(c.name, func(b *testing.B) { benchDay(b, c.hello, c.what) })
	}
	b.Run("reconnect", func(b *testing.B) { benchReconnect(b, func(string) string { return `"assertion":"dev"` }) })
	b.Run("reconnect/resume", func(b *testing.B) {
		benchReconnect(b, func(ticket string) string { return `"resume":"` + ticket + `"` })
	})
}

const (
	dayRounds = 10
	perPacket = 20 + 32 // bytes of headers: IPv4, and TCP with timestamps
)

// traffic is what went over a connection, both ways.
type traffic struct{ bytes, packets float64 }

// usedBy reads it from the kernel.
func usedBy(b *testing.B, c *net.TCPConn) (t traffic) {
	b.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			b.Fatal(err)
		}
		t.packets = float64(info.Segs_in + info.Segs_out)
		t.bytes = float64(info.Bytes_sent+info.Bytes_received) + perPacket*t.packets
	})
	return t
}

func (t traffic) report(b *testing.B, n int) {
	b.ReportMetric(t.bytes/float64(n), "wire_B/op")
	b.ReportMetric(t.packets/float64(n), "packets/op")
	b.ReportMetric(0, "ns/op")
}

// settle waits until the kernel has sent the acknowledgement that it delays: between two things that happen to an
// idle device are minutes.
func settle() { time.Sleep(60 * time.Millisecond) }

// measure reports what each of some rounds of what costs on the connection.
func measure(b *testing.B, c *net.TCPConn, what func()) {
	var sum traffic
	for range b.N * dayRounds {
		settle()
		before := usedBy(b, c)
		what()
		settle()
		after := usedBy(b, c)
		sum.bytes += after.bytes - before.bytes
		sum.packets += after.packets - before.packets
	}
	sum.report(b, b.N*dayRounds)
}

// day is a device on a TLS connection, and an app that notifies it.
type day struct {
	*wire
	tcp  *net.TCPConn
	chat *service
}

// secure serves the bridge by TLS; the certificate is that of net/http/httptest.
func (f *fixture) secure() *httptest.Server {
	s := httptest.NewUnstartedServer(f.server.Config.Handler)
	s.StartTLS()
	f.t.Cleanup(s.Close)
	return s
}

func dialTLS(b *testing.B, addr string) (*net.TCPConn, *tls.Conn) {
	b.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	return c.(*net.TCPConn), tls.Client(c, &tls.Config{InsecureSkipVerify: true})
}

func (f *fixture) day(b *testing.B, s *httptest.Server, chat *service, hello string) *day {
	tcp, conn := dialTLS(b, s.Listener.Addr().String())
	return &day{f.wire(conn, `{"type":"hello","email":"ann@example.org","device":"phone",`+hello+`}`), tcp, chat}
}

func benchDay(b *testing.B, hello string, what func(*day)) {
	f := newFixture(b, func(c *wsbridge.Config) { c.HeartbeatMin, c.PongTimeout = time.Millisecond, 300*time.Millisecond })
	d := f.day(b, f.secure(), f.app("chat"), `"assertion":"dev"`+hello)
	measure(b, d.tcp, func() { what(d) })
}

func benchFloor(b *testing.B) {
	s := newFixture(b).secure()
	l, err := tls.Listen("tcp", "127.0.0.1:0", s.TLS)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			io.Copy(c, c)
		}
	}()
	tcp, conn := dialTLS(b, l.Addr().String())
	defer conn.Close()
	r := bufio.NewReader(conn)
	trip := func() {
		conn.Write([]byte{1})
		if _, err := r.ReadByte(); err != nil {
			b.Fatal(err)
		}
	}
	trip()
	measure(b, tcp, trip)
}

// benchReconnect measures a new connection, from its first packet to the answer to hello.
func benchReconnect(b *testing.B, proof func(ticket string) string) {
	f := newFixture(b)
	s, chat := f.secure(), f.app("chat")
	f.day(b, s, chat, `"resume":true,"assertion":"dev"`)
	var sum traffic
	for range b.N * dayRounds {
		ticket := f.hub.Attached(ann, "phone").Ticket()
		d := f.day(b, s, chat, proof(ticket))
		settle()
		u := usedBy(b, d.tcp)
		sum.bytes += u.bytes
		sum.packets += u.packets
	}
	sum.report(b, b.N*dayRounds)
}

// until reads up to a frame of this kind and returns what is in it.
func (d *day) until(kind byte) []byte {
	for {
		if first, payload := d.frame(); first == kind {
			return payload
		}
	}
}

func (d *day) ask(frame string) {
	d.Write(masked(frame))
	d.until(0x81)
}

// ack reads a frame of notifications and confirms them.
func (d *day) ack() {
	var n struct{ Notifications []item }
	if err := json.Unmarshal(d.until(0x81), &n); err != nil || len(n.Notifications) == 0 {
		d.t.Fatal("no notifications: ", err)
	}
	ids := ""
	for _, i := range n.Notifications {
		ids += `,"` + i.ID + `"`
	}
	d.ask(`{"type":"ack","ids":[` + ids[1:] + `]}`)
}

// notify sends notifications with 100 bytes of text.
func (d *day) notify(n int) {
	for i := range n {
		d.chat.send(ann, presence.Message{Source: "Chat", Message: fmt.Sprintf("%0100d", i), TTL: -1})
	}
}
