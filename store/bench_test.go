package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"presenced/presence"
)

// floorLog is the least that durable enqueueing can cost: records one behind the other in a file that has its size
// already, one fdatasync for all who wait. No index, no deleting, no reading. It wraps around when it is full.
type floorLog struct {
	f     *os.File
	delay time.Duration // added to each sync
	wake  chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	buf     []byte // guarded by mu
	next    *presence.Commit
	closed  bool
	commits int // owned by run until done
}

const floorSize = 16 << 20

func openFloor(b *testing.B, delay time.Duration) *floorLog {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for at := int64(0); at < floorSize; at += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros, at); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	l := &floorLog{f: f, delay: delay, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run()
	return l
}

func (l *floorLog) append(key uint64, payload []byte) *presence.Commit {
	l.mu.Lock()
	first := l.next == nil
	if first {
		l.next = presence.NewCommit()
	}
	c := l.next
	l.buf = binary.LittleEndian.AppendUint32(l.buf, uint32(len(payload)))
	l.buf = binary.LittleEndian.AppendUint32(l.buf, crc32.ChecksumIEEE(payload))
	l.buf = binary.LittleEndian.AppendUint64(l.buf, key)
	l.buf = append(l.buf, payload...)
	l.mu.Unlock()
	if first {
		l.signal()
	}
	return c
}

func (l *floorLog) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *floorLog) run() {
	defer close(l.done)
	var spare []byte
	var at int64
	for range l.wake {
		for {
			l.mu.Lock()
			buf, c, closed := l.buf, l.next, l.closed
			l.buf, l.next = spare[:0], nil
			l.mu.Unlock()
			spare = buf
			if c == nil {
				if closed {
					return
				}
				break
			}
			if at+int64(len(buf)) > floorSize {
				at = 0
			}
			_, err := l.f.WriteAt(buf, at)
			if err == nil {
				err = syscall.Fdatasync(int(l.f.Fd()))
			}
			at += int64(len(buf))
			time.Sleep(l.delay)
			l.commits++
			c.Resolve(err)
			runtime.Gosched() // as the store does: who comes again joins the next commit
		}
	}
}

func (l *floorLog) close(b *testing.B) {
	b.Helper()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
	<-l.done
	if err := l.f.Close(); err != nil {
		b.Fatal(err)
	}
}

// together runs n pieces of work from so many goroutines, each waiting for its own commit before the next.
func together(b *testing.B, waiting, n int, work func(worker, i int) error) (took time.Duration) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for w := range waiting {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := work(w, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

const benchUsers = 20_000

// benchLoad is a payload of 200 bytes for one of 20,000 users.
type benchLoad struct {
	emails  []string
	payload string
	raw     []byte
	now     time.Time
}

func newBenchLoad() *benchLoad {
	l := &benchLoad{raw: make([]byte, 200), now: time.Now()}
	for i := range l.raw {
		l.raw[i] = 'a' + byte(i%26)
	}
	l.payload = string(l.raw)
	for i := range benchUsers {
		l.emails = append(l.emails, fmt.Sprintf("user%05d@example.org", i))
	}
	return l
}

func (l *benchLoad) notification(i int) *presence.Notification {
	return &presence.Notification{Email: l.emails[(i*7919)%benchUsers], App: "chat", PUID: "abcdefghijklmnopqrstuvwxyz", Ref: "n1",
		Message: l.payload, Time: l.now, Expires: l.now.Add(time.Hour)}
}

func openBench(b *testing.B, o Options) *Store {
	b.Helper()
	s, err := Open(filepath.Join(b.TempDir(), "data"), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// BenchmarkEnqueue shows durable enqueues a second beside the floor of the same run, and how many share a commit. The
// names say how many callers wait at a time, and how much slower each sync is made.
func BenchmarkEnqueue(b *testing.B) {
	for _, delay := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond} {
		for _, waiting := range []int{1, 64, 512, 4096} {
			b.Run(fmt.Sprintf("sync=+%s/waiting=%d", delay, waiting), func(b *testing.B) { benchEnqueue(b, waiting, delay) })
		}
	}
}

func benchEnqueue(b *testing.B, waiting int, delay time.Duration) {
	load := newBenchLoad()
	floor := openFloor(b, delay)
	atFloor := together(b, waiting, b.N, func(_, i int) error { return floor.append(uint64(i), load.raw).Wait() })
	floor.close(b)

	s := openBench(b, Options{SyncDelay: delay})
	b.ReportAllocs()
	b.ResetTimer()
	took := together(b, waiting, b.N, func(_, i int) error { return s.Enqueue(load.notification(i)).Wait() })
	b.StopTimer()
	b.ReportMetric(float64(b.N)/took.Seconds(), "enqueues/s")
	b.ReportMetric(float64(b.N)/atFloor.Seconds(), "floor/s")
	b.ReportMetric(atFloor.Seconds()/took.Seconds(), "of_floor")
	b.ReportMetric(float64(b.N)/float64(s.Stats().Commits), "msgs/commit")
	b.ReportMetric(float64(b.N)/float64(floor.commits), "floor_msgs/commit")
}

// BenchmarkDeliver is the whole life of a notification: enqueue, read, confirm, each durable before the next.
func BenchmarkDeliver(b *testing.B) {
	for _, waiting := range []int{1, 64, 512, 4096} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			load := newBenchLoad()
			s := openBench(b, Options{})
			b.ReportAllocs()
			b.ResetTimer()
			took := together(b, waiting, b.N, func(w, i int) error {
				n := load.notification(w)
				if err := s.Enqueue(n).Wait(); err != nil {
					return err
				}
				ns, err := s.Pending(n.Email, "phone", n.Seq-1, 1)
				if err != nil || len(ns) != 1 {
					return fmt.Errorf("pending %v, %w", ns, err)
				}
				return s.Confirm(n.Email, "phone", []uint64{n.Seq}).Wait()
			})
			b.ReportMetric(float64(b.N)/took.Seconds(), "delivered/s")
			b.ReportMetric(2*float64(b.N)/float64(s.Stats().Commits), "ops/commit")
		})
	}
}

// BenchmarkOpen shows what a start costs with so many waiting, and what the index takes in memory.
func BenchmarkOpen(b *testing.B) {
	const waiting = 100_000
	load := newBenchLoad()
	path := filepath.Join(b.TempDir(), "data")
	s, err := Open(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	var last *presence.Commit
	for i := range waiting {
		last = s.Enqueue(load.notification(i))
	}
	if err := last.Wait(); err != nil {
		b.Fatal(err)
	}
	size := s.Stats().FileSize
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	var heap uint64
	for b.Loop() {
		before := liveHeap()
		s, err := Open(path, Options{})
		if err != nil {
			b.Fatal(err)
		}
		heap = liveHeap() - before
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/waiting, "ns/record")
	b.ReportMetric(float64(heap)/waiting, "B/record")
	b.ReportMetric(float64(size)/waiting, "file_B/record")
}

func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkAfterDrain is one enqueue at a time in a file that was full and was emptied.
func BenchmarkAfterDrain(b *testing.B) {
	load := newBenchLoad()
	now := newClock()
	s := openBench(b, Options{Now: now.now, Limits: presence.Limits{QueuePerApp: 1 << 20}})
	var last *presence.Commit
	for i := range 200_000 {
		n := load.notification(i)
		n.Expires = now.now().Add(time.Second)
		last = s.Enqueue(n)
	}
	if err := last.Wait(); err != nil {
		b.Fatal(err)
	}
	now.advance(time.Hour)
	if n, err := s.Sweep(now.now(), 1<<30); n != 200_000 || err != nil {
		b.Fatal(n, err)
	}
	for i := 0; b.Loop(); i++ {
		n := load.notification(i)
		n.Expires = now.now().Add(time.Hour)
		if err := s.Enqueue(n).Wait(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSweep shows how long one caller's enqueues take while 200,000 that have expired are swept, beside the same
// caller's when nothing is.
func BenchmarkSweep(b *testing.B) {
	const expired = 200_000
	for range b.N {
		now := newClock()
		s := openBench(b, Options{Now: now.now})
		expire(s, now.now(), expired, func(err error) {
			if err != nil {
				b.Fatal(err)
			}
		})
		now.advance(time.Hour)
		one := func(took []time.Duration) []time.Duration {
			at := time.Now()
			n := &presence.Notification{Email: "ann@example.org", App: "chat", Message: "x", Time: now.now(), Expires: now.now().Add(time.Hour)}
			if err := s.Enqueue(n).Wait(); err != nil {
				b.Fatal(err)
			}
			return append(took, time.Since(at))
		}
		var idle, busy []time.Duration
		for range 2000 {
			idle = one(idle)
		}
		done := make(chan error, 1)
		go func() {
			_, err := s.Sweep(now.now(), 1<<30)
			done <- err
		}()
		for sweeping := true; sweeping; {
			busy = one(busy)
			select {
			case err := <-done:
				if err != nil {
					b.Fatal(err)
				}
				sweeping = false
			default:
			}
		}
		slices.Sort(idle)
		slices.Sort(busy)
		for name, took := range map[string][]time.Duration{"idle": idle, "sweeping": busy} {
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), name+"_p50_us")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), name+"_p99_us")
		}
		b.ReportMetric(float64(busy[len(busy)-1])/float64(idle[len(idle)-1]), "worst_x_idle")
		b.ReportMetric(0, "ns/op")
	}
}
