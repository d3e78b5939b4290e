package xmppsrv

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"presenced/presence"
)

// supply is a source that has the same updates again and again, left times in all; then it ends.
type supply struct {
	unit []presence.Update
	at   int
	left int
	wake chan struct{}
	told []uint64
	end  presence.End
}

func newSupply(n int, unit ...presence.Update) *supply {
	s := &supply{unit: unit, left: n, wake: make(chan struct{}, 1), end: presence.EndShutdown}
	s.wake <- struct{}{}
	return s
}

func (s *supply) Wake() <-chan struct{}  { return s.wake }
func (s *supply) Join()                  {}
func (s *supply) Yield(*presence.Link)   { s.Close() }
func (s *supply) Ended() presence.End    { return s.end }
func (s *supply) Told(id uint64) error   { s.told = append(s.told, id); return nil }
func (s *supply) Close()                 { s.left, s.end = 0, presence.EndReplaced }
func (s *supply) Delivered(ids []uint64) { s.told = append(s.told, ids...) }
func (s *supply) Take(dst []presence.Update) int {
	n := min(len(dst), s.left)
	for i := range n {
		dst[i] = s.unit[s.at]
		if s.at++; s.at == len(s.unit) {
			s.at = 0
		}
	}
	s.left -= n
	return n
}

func (s *supply) Probe(p presence.Peer) ([]presence.Update, error) {
	switch {
	case p.PUID == "storage":
		return nil, fmt.Errorf("%w: disk", presence.ErrStorage)
	case p.PUID != "p1" || p.Tag == "none":
		return nil, presence.ErrStranger
	}
	return []presence.Update{{Local: "p1", Tag: "a", Status: presence.Online}, {Local: "p1", Tag: "b", Status: presence.Offline}}, nil
}

// record is a sink that keeps what is written.
type record struct {
	strings.Builder
	writes int
	err    error
}

func (r *record) SetWriteDeadline(time.Time) error { return nil }
func (r *record) Write(p []byte) (int, error) {
	r.writes++
	if r.err != nil {
		return 0, r.err
	}
	return r.Builder.Write(p)
}

func testWriter(to sink, src source) *writer {
	return newWriter(to, src, newOutbox(), newEncoder("gw.example", "chat.example"), time.Minute, &counters{})
}

func closedChan() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Updates come before the answers that were there with them, probes are answered in their place, and the end
// comes last, behind all that the link has still to tell.
func TestWriterOrder(t *testing.T) {
	src := newSupply(3, presence.Update{Local: "p1", Tag: "a", Status: presence.Online},
		presence.Update{Kind: presence.Unsubscribed, Local: "p2", ID: 7}, presence.Update{Kind: presence.Subscribed, Local: "p3", ID: 5})
	var rec record
	w := testWriter(&rec, src)
	text := func(s string) func([]byte) []byte { return func(dst []byte) []byte { return append(dst, s...) } }
	w.out.add(text("<one/>"))
	for _, id := range []string{"p1", "none", "storage"} {
		w.out.ask(&probe{peer: presence.Peer{PUID: id}, from: "bot@chat.example", to: id + "@gw.example"})
	}
	w.out.add(text("<two/>"))
	w.out.add(text("<three/>"))
	if why := w.finish(w.run(closedChan(), nil)); why != endShutdown {
		t.Errorf("ended with %v", why)
	}
	want := strings.Join([]string{
		"<presence from='p1@gw.example/a' to='chat.example'/>",
		"<presence from='p2@gw.example' to='chat.example' type='unsubscribed'/>",
		"<presence from='p3@gw.example' to='chat.example' type='subscribed'/>",
		"<one/>",
		"<presence from='p1@gw.example/a' to='bot@chat.example'/>",
		"<presence from='p1@gw.example/b' to='bot@chat.example' type='unavailable'/>",
		"<presence from='none@gw.example' to='bot@chat.example' type='unsubscribed'/>",
		string(appendError(nil, "presence", "bot@chat.example", "storage@gw.example", "", refuseStorage, nil)),
		"<two/>",
		"<three/>",
		string(appendEnd(nil, endShutdown, nil)),
	}, "\n")
	if got := strings.ReplaceAll(rec.String(), "><", ">\n<"); got != strings.ReplaceAll(want, "><", ">\n<") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if len(src.told) != 1 || src.told[0] != 7 {
		t.Errorf("told %v", src.told)
	}
}

// What could not be written is not told.
func TestWriterTellsOnlyWhatWasWritten(t *testing.T) {
	for _, c := range []struct {
		err  error
		want end
	}{{os.ErrDeadlineExceeded, endStalled}, {io.ErrClosedPipe, endGone}} {
		src := newSupply(1, presence.Update{Kind: presence.Unsubscribed, Local: "p2", ID: 7})
		if why := testWriter(&record{err: c.err}, src).run(closedChan(), nil); why != c.want {
			t.Errorf("%v: ended with %v", c.err, why)
		}
		if len(src.told) != 0 {
			t.Errorf("told %v", src.told)
		}
	}
}

// Much is written in few writes, and answers get their turn while updates never end.
func TestWriterCoalesces(t *testing.T) {
	src := newSupply(100_000, *samplePresence())
	var rec record
	w := testWriter(&rec, src)
	w.out.add(func(dst []byte) []byte { return append(dst, "<answer/>"...) })
	w.run(closedChan(), nil)
	if each := rec.Len() / rec.writes; each < flushAt/2 {
		t.Errorf("%d writes of %d bytes", rec.writes, each)
	}
	if at := strings.Index(rec.String(), "<answer/>"); at < 0 || at > 2*maxTurn {
		t.Errorf("the answer comes after %d bytes", at)
	}
}

func TestWriterEnds(t *testing.T) {
	for from, want := range linkEnds {
		src := newSupply(0, presence.Update{})
		src.end = from
		var rec record
		w := testWriter(&rec, src)
		if why := w.finish(w.run(make(chan struct{}), nil)); why != want {
			t.Errorf("%v: ended with %v", from, why)
		}
		if rec.String() != string(appendEnd(nil, want, nil)) {
			t.Errorf("%v: wrote %s", from, rec.String())
		}
	}
}

// Who adds to a full outbox waits for the writer, and is let go when the writer is gone.
func TestOutboxIsBounded(t *testing.T) {
	o := newOutbox()
	big := func(dst []byte) []byte { return append(dst, make([]byte, maxAnswers)...) }
	o.add(big)
	added := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		o.add(big)
		close(added)
	})
	o.urge(func(dst []byte) []byte { return append(dst, 'x') }) // has no need to wait
	select {
	case <-added:
		t.Fatal("there was room beyond the bound")
	default:
	}
	got := o.take(batch{})
	<-added
	if len(got.buf) != maxAnswers+1 || len(got.items) != 2 {
		t.Errorf("%d bytes in %d items", len(got.buf), len(got.items))
	}
	waiting.Go(func() { o.ask(&probe{}) })
	o.release()
	waiting.Wait()
	o.add(big)
	if got := o.take(got); len(got.buf) != 2*maxAnswers || len(got.items) != 3 {
		t.Errorf("a released outbox has %d bytes in %d items", len(got.buf), len(got.items))
	}
}

// pipe is a TCP connection over loopback whose other end throws away what comes, and tells when it is through.
func pipe(b *testing.B) (net.Conn, <-chan int64) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	read := make(chan int64)
	go func() {
		defer peer.Close()
		buf, sum := make([]byte, 256<<10), int64(0)
		for {
			n, err := peer.Read(buf)
			if sum += int64(n); err != nil {
				read <- sum
				return
			}
		}
	}()
	return c, read
}

// BenchmarkComponentOutput writes presence to components over loopback, each with a writer of its own, and beside it
// the same bytes in large blocks over as many connections. of_floor is the ratio.
func BenchmarkComponentOutput(b *testing.B) {
	for _, n := range []int{1, 10} {
		b.Run(fmt.Sprint("components=", n), func(b *testing.B) { benchmarkOutput(b, n) })
	}
}

func benchmarkOutput(b *testing.B, components int) {
	b.ReportAllocs()
	unit := make([]presence.Update, 1024)
	for i := range unit {
		unit[i] = *samplePresence()
		unit[i].Local = fmt.Sprintf("mfzwk4tboqqgc3tboqqgc3%04d", i)
		unit[i].Status = presence.Status(i % 3)
	}
	e := newEncoder("gateway.example.org", "app.example.org")
	var block []byte
	perBlock := 0
	for len(block) < flushAt {
		block = e.update(block, &unit[perBlock%len(unit)])
		perBlock++
	}
	each := b.N/components + 1
	writers := make([]*writer, components)
	pipes := make([]net.Conn, components)
	reads := make([]<-chan int64, components)
	for i := range writers {
		pipes[i], reads[i] = pipe(b)
		writers[i] = newWriter(pipes[i], newSupply(each, unit...), newOutbox(), e, time.Minute, &counters{})
	}
	first := closedChan()
	b.ResetTimer()
	ours, bytes := together(pipes, reads, func(i int) {
		if why := writers[i].run(first, nil); why != endShutdown {
			b.Error(why)
		}
	})
	b.StopTimer()
	for i := range pipes {
		pipes[i], reads[i] = pipe(b)
	}
	plain, sum := together(pipes, reads, func(i int) {
		for sent := int64(0); sent < bytes/int64(components); sent += int64(len(block)) {
			if _, err := pipes[i].Write(block); err != nil && !errors.Is(err, net.ErrClosed) {
				b.Error(err)
			}
		}
	})
	rate := float64(each*components) / ours.Seconds()
	floor := float64(sum) / float64(len(block)) * float64(perBlock) / plain.Seconds()
	b.ReportMetric(rate, "stanzas/s")
	b.ReportMetric(rate/floor, "of_floor")
	b.SetBytes(bytes / int64(b.N))
}

// together runs write for every connection at once, closes them, and returns how long it took until all was read,
// and how much that was.
func together(pipes []net.Conn, reads []<-chan int64, write func(i int)) (took time.Duration, bytes int64) {
	begin := time.Now()
	var all sync.WaitGroup
	for i := range pipes {
		all.Go(func() {
			write(i)
			pipes[i].Close()
		})
	}
	for _, read := range reads {
		bytes += <-read
	}
	all.Wait()
	return time.Since(begin), bytes
}
