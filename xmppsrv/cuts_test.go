package xmppsrv_test

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"presenced/presence"
)

const (
	cutNotes    = 3000 // notifications to the device
	cutMessages = 1000 // messages from it, each with a change of presence
	cuts        = 100
)

// A component that uses stream management loses nothing and gets nothing twice, however often and wherever its
// connection is cut.
func TestNothingIsLostOverCuts(t *testing.T) {
	g := start(t, func(c *setup) { c.Limits.QueuePerApp, c.Limits.UpstreamPerApp = cutNotes, cutMessages })
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	proxy := newCutter(t, g.addr)
	c := &resumer{t: t, g: g, addr: proxy.Addr().String()}
	var device sync.WaitGroup
	device.Go(func() {
		for i := range cutMessages {
			status := presence.Unavailable
			if i%2 == 0 {
				status = presence.Online
			}
			g.must(ann.Publish(status, time.Time{}))
			g.must(ann.Send("chat", fmt.Sprint("m", i), []byte(`{}`), -1))
		}
	})
	for i := 0; !c.done(); i++ {
		if i < cuts {
			proxy.next(cut{after: 500 + rand.Int64N(4000), half: rand.N(3) == 0, reset: rand.N(3) == 0})
		} else {
			proxy.next(cut{after: math.MaxInt64})
		}
		c.connect(i)
	}
	device.Wait()
	c.check()
	kept, err := g.db.Pending("ann@example.org", "", 0, cutNotes+1)
	g.must(err)
	if len(kept) != cutNotes {
		t.Errorf("%d of %d notifications are on disk", len(kept), cutNotes)
	}
	for i, n := range kept {
		if n.Ref != fmt.Sprint("n", i) {
			t.Fatalf("notification %d on disk is %s", i, n.Ref)
		}
	}
	t.Logf("%d connections, %d resumed, %d stanzas in, %d out", c.connections, c.resumptions, c.received, c.sent)
	if c.resumptions < cuts/2 {
		t.Errorf("resumed %d times", c.resumptions)
	}
}

// cutter is a proxy that ends each connection after some bytes. (It is not toxiproxy: that leaves goroutines behind for
// a connection which it cuts while there is more to come.)
type cutter struct {
	net.Listener
	upstream string
	running  sync.WaitGroup

	mu   sync.Mutex
	cut  cut         // guarded by mu: of the next connection
	open []io.Closer // guarded by mu: what a cut has left
}

// cut says how a connection ends.
type cut struct {
	after int64 // bytes in both directions
	half  bool  // the gateway is not told: its side stays open, and nobody reads from it
	reset bool
}

func newCutter(t testing.TB, upstream string) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &cutter{Listener: l, upstream: upstream}
	p.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(c.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.mu.Lock()
		for _, c := range p.open {
			c.Close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

func (p *cutter) next(c cut) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = c
}

func (p *cutter) serve(component *net.TCPConn) {
	defer component.Close()
	up, err := net.Dial("tcp", p.upstream)
	if err != nil {
		return
	}
	gateway := up.(*net.TCPConn)
	p.mu.Lock()
	c := p.cut
	p.open = append(p.open, gateway)
	p.mu.Unlock()
	var pumps sync.WaitGroup
	end := sync.OnceFunc(func() {
		if c.reset {
			component.SetLinger(0)
			gateway.SetLinger(0)
		}
		component.Close()
		if !c.half {
			gateway.Close()
		}
		gateway.SetReadDeadline(time.Unix(1, 0))
	})
	var left atomic.Int64
	left.Store(c.after)
	pump := func(to, from net.Conn) {
		defer end()
		for buf := make([]byte, 1024); ; {
			n, err := from.Read(buf)
			over := -left.Add(int64(-n))
			if _, werr := to.Write(buf[:max(0, n-max(0, int(over)))]); err != nil || werr != nil || over >= 0 {
				return
			}
		}
	}
	pumps.Go(func() { pump(gateway, component) })
	pumps.Go(func() { pump(component, gateway) })
	pumps.Wait()
}

// resumer is a component that keeps the books of XEP-0198 and comes back as often as it must.
type resumer struct {
	t    *testing.T
	g    *gateway
	addr string
	id   string // of the session; "": none yet

	connections, resumptions int

	mu       sync.Mutex
	sent     uint32 // notifications that were sent at least once
	acked    uint32 // by the gateway
	received uint32 // stanzas
	messages int    // in order
	state    string // of the device, as it was told last
}

func (c *resumer) done() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked == cutNotes && c.messages == cutMessages && strings.Contains(c.state, "away")
}

// check is for the end.
func (c *resumer) check() {
	if c.received < cutMessages || c.messages != cutMessages {
		c.t.Errorf("%d messages in %d stanzas", c.messages, c.received)
	}
}

// connect serves one connection until it breaks or nothing is left to do.
func (c *resumer) connect(n int) {
	nc, err := net.Dial("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	p := &comp{g: c.g, t: c.t, c: nc, name: "chat.example"}
	p.d = xml.NewDecoder(io.TeeReader(nc, &p.raw))
	c.connections++
	if !c.open(p) {
		return
	}
	var sending sync.WaitGroup
	sending.Go(func() { c.send(nc) })
	for !c.done() {
		s, err := p.read()
		if err != nil {
			if e, ok := err.(net.Error); ok && e.Timeout() {
				c.t.Fatalf("connection %d hangs: %d sent, %d acknowledged, %d messages, %s", n, c.sent, c.acked, c.messages, c.state)
			}
			break
		}
		c.take(nc, s)
	}
	nc.Close()
	sending.Wait()
}

var (
	streamID = regexp.MustCompile(` id='([A-Z2-7]+)'`)
	hAttr    = regexp.MustCompile(` h='(\d+)'`)
	refAttr  = regexp.MustCompile(` id='m(\d+)'`)
)

// open does the handshake and enables or resumes; false: the connection broke.
func (c *resumer) open(p *comp) bool {
	if _, err := fmt.Fprintf(p.c, openStream, p.name); err != nil {
		return false
	}
	for opened := false; !opened; {
		tok, err := p.d.Token()
		if err != nil {
			return false
		}
		_, opened = tok.(xml.StartElement)
	}
	sum := sha1.Sum([]byte(streamID.FindStringSubmatch(p.raw.String())[1] + secret))
	first := enable
	if c.id != "" {
		first = resume(c.id, c.received)
	}
	if _, err := io.WriteString(p.c, "<handshake>"+hex.EncodeToString(sum[:])+"</handshake>"+first); err != nil {
		return false
	}
	for _, want := range []string{"<handshake/>", ""} {
		s, err := p.read()
		switch m := enabledAs.FindStringSubmatch(s); {
		case err != nil:
			return false
		case s == want:
		case m != nil && c.id == "":
			c.id = m[1]
		case strings.HasPrefix(s, "<resumed ") && c.id != "":
			c.acked = number(hAttr, s)
			c.resumptions++
		default:
			c.t.Fatalf("got %s", s)
		}
	}
	return true
}

func number(r *regexp.Regexp, s string) uint32 {
	n, err := strconv.ParseUint(r.FindStringSubmatch(s)[1], 10, 32)
	if err != nil {
		panic(err)
	}
	return uint32(n)
}

// send sends what the gateway does not have, from the first.
func (c *resumer) send(nc net.Conn) {
	c.mu.Lock()
	next := c.acked
	c.mu.Unlock()
	for ; next < cutNotes; next++ {
		s := note(fmt.Sprint("n", next))
		if next%16 == 15 || next == cutNotes-1 {
			s += ask
		}
		if _, err := io.WriteString(nc, s); err != nil {
			return
		}
		c.mu.Lock()
		c.sent = max(c.sent, next+1)
		c.mu.Unlock()
	}
	io.WriteString(nc, ask)
}

// take notes what came.
func (c *resumer) take(nc net.Conn, s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s == ask:
		io.WriteString(nc, ack(c.received)) // if it fails, so will the next read
		return
	case strings.HasPrefix(s, "<a "):
		c.acked = number(hAttr, s)
		return
	case strings.HasPrefix(s, "<message "):
		if n := number(refAttr, s); int(n) != c.messages {
			c.t.Fatalf("message %d came after %d", n, c.messages)
		}
		c.messages++
	case strings.HasPrefix(s, "<presence "):
		_, state, _ := strings.Cut(s, " to=")
		state, _, _ = strings.Cut(state, "<delay")
		if state == c.state {
			c.t.Fatalf("%s came twice", s)
		}
		c.state = state
	default:
		c.t.Fatalf("got %s", s)
	}
	c.received++
}
