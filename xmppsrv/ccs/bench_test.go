package ccs_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"presenced/presence"
)

const benchDevices = 100

// stopwatch collects how long something took, from its acceptance.
type stopwatch struct {
	mu    sync.Mutex
	begun map[string]time.Time // by message id
	took  []time.Duration
}

func (w *stopwatch) begin(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun[id] = time.Now()
}

func (w *stopwatch) end(id string) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if at, ok := w.begun[id]; ok {
		w.took = append(w.took, now.Sub(at))
		delete(w.begun, id)
	}
}

func (w *stopwatch) report(b *testing.B) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.took) == 0 {
		return
	}
	slices.Sort(w.took)
	for name, p := range map[string]int{"p50-ms": 50, "p99-ms": 99} {
		b.ReportMetric(float64(w.took[len(w.took)*p/100].Microseconds())/1000, name)
	}
}

// timedStore notes when a notification is accepted: the moment its commit ends. Over CCS they come one by one too.
type timedStore struct {
	presence.Store
	watch *stopwatch
}

func (s *timedStore) Enqueue(n *presence.Notification) *presence.Commit {
	return s.timed(s.Store.Enqueue(n), n.Ref)
}

func (s *timedStore) EnqueueAll(ns []*presence.Notification, once *presence.Once) *presence.Commit {
	return s.timed(s.Store.EnqueueAll(ns, once), ns[0].Ref)
}

func (s *timedStore) timed(c *presence.Commit, id string) *presence.Commit {
	out := presence.NewCommit()
	go func() {
		err := c.Wait()
		s.watch.begin(id)
		out.Resolve(err)
	}()
	return out
}

// BenchmarkDownstream is one CCS connection over TLS with a window of 100 messages, each with 64 bytes of data and for
// another of 100 users: whose devices are connected and confirm (a copy of the frame goes over a socket of loopback, as it
// does to a device), or who are away, so that it stays on disk. The floor is the same without CCS: the core is asked
// directly, 100 at a time. p50 and p99 are from the acceptance to the bytes on the device's socket, of those connected.
func BenchmarkDownstream(b *testing.B) {
	for _, connected := range []bool{true, false} {
		name := map[bool]string{true: "connected", false: "away"}[connected]
		b.Run(name+"/ccs", func(b *testing.B) {
			w := newWorld(b, connected)
			s := w.g.connect()
			s.c.SetReadDeadline(time.Time{})
			w.measure(b, func(n int) { w.overCCS(s, n) })
		})
		b.Run(name+"/floor", func(b *testing.B) {
			w := newWorld(b, connected)
			l, err := w.g.hub.Link("chat", presence.CCSLink)
			w.g.must(err)
			defer l.Close()
			w.measure(b, func(n int) { w.directly(l, n) })
		})
	}
}

// world is what is behind the measured part.
type world struct {
	g     *gateway
	watch *stopwatch
	got   atomic.Int64 // notifications that devices have
	stop  chan struct{}
	done  sync.WaitGroup
	timed bool
}

func newWorld(b *testing.B, connected bool) *world {
	w := &world{watch: &stopwatch{begun: map[string]time.Time{}}, stop: make(chan struct{}), timed: connected}
	w.g = start(b, func(c *setup) {
		c.TargetBurst, c.TargetRate, c.Limits.QueuePerApp, c.Log = 1<<30, 100, 1<<20, nil
		if connected {
			c.Store = func(s presence.Store) presence.Store { return &timedStore{s, w.watch} }
		}
	})
	for i := range benchDevices {
		email := fmt.Sprintf("u%d@example.org", i)
		w.g.allow(email, fmt.Sprint("p", i))
		if connected {
			w.attach(b, email)
		}
	}
	b.Cleanup(func() {
		close(w.stop)
		w.done.Wait()
	})
	return w
}

// attach is a device whose frames go over a socket.
func (w *world) attach(b *testing.B, email string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.g.must(err)
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	w.g.must(err)
	in, err := l.Accept()
	w.g.must(err)
	d := w.g.device(email, "phone")
	w.done.Go(func() {
		io.Copy(io.Discard, in)
		in.Close()
	})
	w.done.Go(func() {
		defer out.Close()
		for {
			o, err := d.Next(100)
			w.g.must(err)
			var seqs []uint64
			for _, n := range o.Notifications {
				fmt.Fprintf(out, `{"notifications":[{"id":%q,"source":%q,"data":%s}]}`, n.ID(), n.Source, n.Data)
				w.watch.end(n.Ref)
				seqs = append(seqs, n.Seq)
			}
			if len(seqs) > 0 {
				d.Confirm(seqs)
				w.got.Add(int64(len(seqs)))
				continue
			}
			select {
			case <-d.ready.Wake():
				d.ready.Take(nil)
			case <-w.stop:
				return
			}
		}
	})
}

// measure runs b.N messages, and waits until connected devices have them.
func (w *world) measure(b *testing.B, send func(n int)) {
	b.ResetTimer()
	send(b.N)
	if w.timed {
		for w.got.Load() < int64(b.N) {
			time.Sleep(100 * time.Microsecond)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "notifications/s")
	w.watch.report(b)
}

const benchData = `{"text":"0123456789012345678901234567890123456789012345678901"}`

// overCCS keeps 100 messages unanswered.
func (w *world) overCCS(s *server, n int) {
	window := make(chan struct{}, 100)
	answered := make(chan error, 1)
	go func() {
		d := xml.NewDecoder(s.c)
		for left := n; left > 0; {
			tok, err := d.RawToken()
			if err != nil {
				answered <- err
				return
			}
			if text, ok := tok.(xml.CharData); ok && strings.HasPrefix(string(text), `{"message_type":"ack"`) {
				left--
				<-window
			} else if ok {
				answered <- fmt.Errorf("answered %s", text)
				return
			}
		}
		answered <- nil
	}()
	var buf []byte
	for i := range n {
		window <- struct{}{}
		buf = fmt.Appendf(buf[:0], `<message id=""><gcm xmlns="google:mobile:data">{"to":"p%d","message_id":"m%d","data":%s}</gcm></message>`,
			i%benchDevices, i, benchData)
		if _, err := s.c.Write(buf); err != nil {
			w.g.t.Fatal(err)
		}
	}
	w.g.must(<-answered)
}

// directly asks the core, 100 messages before the first is waited for.
func (w *world) directly(l *presence.Link, n int) {
	flying := make(chan *presence.Delivery, 100)
	settled := make(chan error, 1)
	go func() {
		for d := range flying {
			if err := d.Wait(); err != nil {
				settled <- err
				return
			}
		}
		settled <- nil
	}()
	for i := range n {
		d, err := l.Notify(presence.Peer{PUID: fmt.Sprint("p", i%benchDevices)},
			presence.Message{Ref: fmt.Sprint("m", i), Source: "Chat", TTL: -1, Data: []byte(benchData)})
		w.g.must(err)
		flying <- d
	}
	close(flying)
	w.g.must(<-settled)
}
