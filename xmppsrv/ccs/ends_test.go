package ccs_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"presenced/presence"
)

// Draining is said once; what comes behind it is refused, what is under way is finished, and nobody new gets in.
func TestDraining(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	s := g.connect()
	g.must(ann.Send("chat", "up", []byte(`{}`), -1))
	s.want(upstream(ann.token, "up", `{}`))
	s.gcm(`{"to":"p1","message_id":"m-1","delivery_receipt_requested":true}`)
	s.want(ack("p1", "m-1"))
	g.srv.Drain()
	g.srv.Drain()
	s.want(control)
	for _, fields := range []string{"", `,"dry_run":true`} {
		s.gcm(`{"to":"p1","message_id":"m-2"` + fields + `}`)
		s.want(nack("p1", "m-2", "CONNECTION_DRAINING", "Connection draining"))
	}
	s.gcm(`{"to":"p1"}`)
	if e := s.next(); !strings.Contains(e, `type="error"`) {
		t.Error(e)
	}
	g.must(ann.Send("chat", "later", []byte(`{}`), -1)) // for the next connection
	ann.one()
	if p := parse(t, s.next()); p.ID != "dr2:m-1" {
		t.Errorf("%+v", p)
	}
	s.gcm(ackUp(ann.token, "up"))
	s.fence()
	if c, err := net.Dial("tcp", g.addr); err == nil {
		c.Close()
		t.Error("who comes new is let in")
	}
	g.eventually("it is acknowledged", func() bool {
		ms, err := g.db.UpstreamOf("chat", 0, 10)
		g.must(err)
		return len(ms) == 1 && ms[0].Ref == "later"
	})
	g.stop()
	s.ends("</stream:stream>")
}

// A server that closes its stream gets the answers that are due; so does one that is shut down.
func TestAnswersBeforeTheEnd(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	s := g.connect()
	var in, out strings.Builder
	for i := range 50 {
		in.WriteString(message(fmt.Sprintf(`{"to":"p1","message_id":"m%d"}`, i)))
		out.WriteString(ack("p1", fmt.Sprint("m", i)))
	}
	s.send(in.String() + "</stream:stream>")
	s.ends(out.String() + "</stream:stream>")
}

// Shutdown waits for nobody who does not read.
func TestShutdownWithStalledPeer(t *testing.T) {
	g := start(t, func(c *setup) { c.Pipes = newPipes() })
	s := g.connect()
	s.send("<iq type='get' id='0' to='gcm.googleapis.com'><ping xmlns='urn:xmpp:ping'/></iq>") // nobody reads the answer
	g.hub.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := g.srv.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("Shutdown: %v", err)
	}
}

// While one connection does not read, the others of the app and other apps go on.
func TestStalledPeerCostsNobody(t *testing.T) {
	g := start(t, func(c *setup) { c.Limits.UpstreamPerApp = 10_000 })
	g.app("other")
	stalled := g.connect()
	_ = stalled
	live := g.connect()
	const users = 20
	big := `{"x":"` + strings.Repeat("x", 4000) + `"}`
	for u := range users {
		email := fmt.Sprintf("u%d@example.org", u)
		g.allow(email, fmt.Sprint("p", u))
		d := g.device(email, "phone")
		for i := range 15 {
			g.must(d.Send("chat", fmt.Sprint(i), []byte(big), -1))
		}
	}
	// The stalled one takes its window, then its users' messages come here.
	for range users*15 - 100 {
		p := parse(t, live.next())
		live.gcm(ackUp(p.From, p.ID))
	}
	o := g.dial()
	o.login("other")
	o.fence()
}

// Connections are cut at random while both sides send. Nothing is lost; what comes twice has the same id.
func TestNothingIsLostOverCuts(t *testing.T) {
	g := start(t, func(c *setup) { c.Limits.UpstreamPerApp, c.Limits.QueuePerApp = 10_000, 10_000 })
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	const n = 400
	ups, downs := make(map[string]int), make(map[string]int)
	ids := make(map[string]string) // notification id → message id
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range n {
			g.must(ann.Send("chat", fmt.Sprint("u", i), []byte(`{}`), -1))
		}
	})
	wg.Go(func() {
		for len(downs) < n {
			for _, m := range ann.mail() {
				if old, again := ids[m.ID()]; again && old != m.Ref {
					t.Errorf("%s is %s and %s", m.ID(), old, m.Ref)
				}
				ids[m.ID()] = m.Ref
				downs[m.Ref]++
				ann.Confirm([]uint64{m.Seq})
			}
		}
	})
	rng := rand.New(rand.NewPCG(1, 2))
	waiting := make(map[string]bool)
	for i := range n {
		waiting[fmt.Sprint("d", i)] = true
	}
	cuts := 0
	for len(waiting) > 0 || len(ups) < n {
		s := g.connect()
		for id := range waiting { // everything that is unanswered, as the window allows
			s.gcm(`{"to":"p1","message_id":"` + id + `","data":{"id":"` + id + `"}}`)
			if rng.IntN(50) == 0 {
				break
			}
		}
		for range 1 + rng.IntN(80) {
			s.c.SetReadDeadline(time.Now().Add(200 * time.Millisecond)) // there may be no more to come: a cut as well
			if len(waiting) == 0 && len(ups) == n {
				break
			}
			e, err := s.read()
			if err != nil || e == "" {
				break
			}
			switch p := parse(t, e); p.Type {
			case "ack":
				delete(waiting, p.ID)
			case "":
				ups[p.ID]++
				if rng.IntN(10) > 0 {
					s.gcm(ackUp(p.From, p.ID))
				}
			default:
				t.Fatalf("%s", e)
			}
		}
		s.c.NetConn().(*net.TCPConn).SetLinger(0) // a reset, not a goodbye
		s.c.NetConn().Close()
		cuts++
	}
	wg.Wait()
	if len(ups) != n || len(downs) != n || cuts < 5 {
		t.Errorf("%d up, %d down, %d cuts", len(ups), len(downs), cuts)
	}
	t.Logf("%d cuts; %d messages up for %d, %d notifications for %d; %d were sent again and known",
		cuts, sum(ups), n, sum(downs), n, g.srv.Stats().Repeated)
}

func sum(m map[string]int) (n int) {
	for _, c := range m {
		n += c
	}
	return n
}

// slowStore holds commits back until it is told.
type slowStore struct {
	presence.Store
	hold  chan struct{}
	asked atomic.Int32
}

func (s *slowStore) Enqueue(n *presence.Notification) *presence.Commit {
	s.asked.Add(1)
	c, out := s.Store.Enqueue(n), presence.NewCommit()
	go func() {
		<-s.hold
		out.Resolve(c.Wait())
	}()
	return out
}

// A message that was accepted while its connection broke is acknowledged when it is sent again, and delivered once.
// Its id alone does not make it the same.
func TestSentAgain(t *testing.T) {
	hold := make(chan struct{})
	g := start(t, func(c *setup) {
		c.Store = func(s presence.Store) presence.Store { return &slowStore{Store: s, hold: hold} }
	})
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	s := g.connect()
	again := `{"to":"p1","message_id":"m","data":{"a":"1"}}`
	s.gcm(again)
	s.fence() // it has been read
	s.c.NetConn().Close()
	g.eventually("the break is noticed", func() bool { return g.srv.Doubts() == 1 })
	other := g.connect() // so that the sender has somebody
	close(hold)
	g.eventually("it is gone", func() bool { return g.srv.Stats().Sessions == 1 })
	other.gcm(again)
	other.want(ack("p1", "m"))
	other.gcm(`{"to":"p1","message_id":"m","data":{"a":"2"}}`)
	other.want(ack("p1", "m"))
	other.gcm(again) // and once more it is one of its own
	other.want(ack("p1", "m"))
	var got []string
	for len(got) < 3 {
		for _, n := range ann.mail() {
			got = append(got, string(n.Data))
		}
	}
	if strings.Join(got, "") != `{"a":"1"}{"a":"2"}{"a":"1"}` {
		t.Errorf("delivered %q", got)
	}
	if g.srv.Stats().Repeated != 1 {
		t.Errorf("%+v", g.srv.Stats())
	}
}

// What a connection has had for long without a word comes to a newer one.
func TestTakeOver(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	g.srv.TakeOverAfter(0)
	s := g.connect()
	g.must(ann.Send("chat", "m", []byte(`{}`), -1))
	s.want(upstream(ann.token, "m", `{}`)) // and it hangs
	next := g.connect()
	next.want(upstream(ann.token, "m", `{}`))
	next.gcm(ackUp(ann.token, "m"))
	next.fence()
	s.gcm(ackUp(ann.token, "m")) // too late, and no harm
	s.fence()
}
