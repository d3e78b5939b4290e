package xmppsrv

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"presenced/presence"
)

// An outgoing against a plain list: what is written, what is told, and what comes again.
func TestOutgoing(t *testing.T) {
	type elem struct {
		text string
		kind entryKind
		id   uint64
	}
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.SampledFrom([]uint32{0, 1<<32 - 5}).Draw(t, "start")
		o := outgoing{sent: start, acked: start}
		var list []elem // what is not acknowledged, nonzas included
		var h heard
		var carried []uint64
		told, id := uint64(0), uint64(0)
		unwritten := ""
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					id++
					e := elem{fmt.Sprintf("<%d%s/>", id, strings.Repeat("x", rapid.SampledFrom([]int{0, 10, 5000, 5000}).Draw(t, "size"))),
						rapid.SampledFrom([]entryKind{plain, nonza, notice, message}).Draw(t, "kind"), id}
					o.buf = append(o.buf, e.text...)
					o.seal(e.kind, e.id)
					list = append(list, e)
					unwritten += e.text
				}
			},
			"write": func(t *rapid.T) {
				n := rapid.IntRange(0, len(unwritten)).Draw(t, "n")
				if got := string(o.unwritten()); got != unwritten {
					t.Fatalf("unwritten: %d bytes, want %d", len(got), len(unwritten))
				}
				o.written, unwritten = o.written+n, unwritten[n:]
			},
			"ack": func(t *rapid.T) {
				whole, size := 0, len(unwritten) // stanzas that are written
				for _, e := range slices.Backward(list) {
					if size <= 0 && e.kind != nonza {
						whole++
					}
					size -= len(e.text)
				}
				n := rapid.IntRange(0, whole).Draw(t, "n")
				for left := n; left > 0; list = list[1:] {
					switch e := list[0]; e.kind {
					case nonza:
						continue
					case notice:
						told = e.id
					case message:
						carried = append(carried, e.id)
					}
					left--
				}
				o.free(uint32(n), &h)
			},
			"rewind": func(t *rapid.T) {
				list = slices.DeleteFunc(list, func(e elem) bool { return e.kind == nonza })
				unwritten = ""
				for _, e := range list {
					unwritten += e.text
				}
				o.rewind()
			},
			"": func(t *rapid.T) {
				stanzas := uint32(0)
				for _, e := range list {
					if e.kind != nonza {
						stanzas++
					}
				}
				if o.unacked() != stanzas || h.told != told || !slices.Equal(h.carried, carried) {
					t.Fatalf("%d stanzas, told %d, %v; want %d, %d, %v", o.unacked(), h.told, h.carried, stanzas, told, carried)
				}
				if stale, err := o.check(o.sent); stale || err != nil {
					t.Fatalf("all that was sent: %v %v", stale, err)
				}
				if _, err := o.check(o.sent + 1); !errors.As(err, new(*countError)) {
					t.Fatalf("more than was sent: %v", err)
				}
				if stale, err := o.check(o.acked - uint32(o.past)); stale != (o.past > 0) || err != nil {
					t.Fatalf("less than was acknowledged: %v %v", stale, err)
				}
				if _, err := o.check(o.acked - uint32(o.past) - 1); !errors.As(err, new(*countError)) {
					t.Fatalf("less than was ever acknowledged: %v", err)
				}
				for _, more := range []uint32{1 << 30, 1 << 31, 1<<31 + 1, 1<<31 + 1<<30} {
					if _, err := o.check(o.sent + more); !errors.As(err, new(*countError)) {
						t.Fatalf("%d more than was sent: %v", more, err)
					}
				}
			},
		})
	})
}

// managed makes a writer with stream management.
func managed(t *testing.T, to sink, src source) (*writer, *ledger) {
	t.Helper()
	w := testWriter(to, src)
	led := &ledger{}
	w.out.turn(&turn{led: led})
	return w, led
}

// until runs rounds until there is nothing to do, and returns why the stream is to end.
func until(t *testing.T, w *writer) end {
	t.Helper()
	for {
		worked, why, err := w.round(false)
		if err != nil {
			return w.failed(err)
		}
		if !worked || why != notEnded {
			return why
		}
	}
}

// What is not acknowledged is bounded: nothing more is taken then, and when acknowledgements come it goes on.
func TestUnacknowledgedIsBounded(t *testing.T) {
	const n = 3 * maxUnacked
	src := newSupply(n, *samplePresence())
	src.end = presence.Alive
	var rec record
	w, led := managed(t, &rec, src)
	taken := 0
	for range 20 {
		if why := until(t, w); why != notEnded {
			t.Fatal(why)
		}
		if b := led.out.bytes(); b > maxUnackedBytes+takeSlice*300 || led.out.unacked() > maxUnacked+takeSlice {
			t.Fatalf("%d stanzas of %d bytes are kept", led.out.unacked(), b)
		}
		if led.out.sent != uint32(n-src.left) || strings.Count(rec.String(), "<presence ") != n-src.left {
			t.Fatalf("%d were taken, %d counted", n-src.left, led.out.sent)
		}
		if got := n - src.left; got == taken && src.left > 0 {
			t.Fatalf("it does not go on after %d", got)
		}
		if n := led.out.sent - w.request.asked; n > askAfter {
			t.Fatalf("nobody was asked about %d", n)
		}
		taken = n - src.left
		w.out.acknowledge(led.out.sent - 100) // all but some
	}
	if src.left > 0 || cap(led.out.buf) > 4*maxUnackedBytes {
		t.Errorf("%d are left, %d bytes of memory", src.left, cap(led.out.buf))
	}
}

// Who leaves is told everything, acknowledged or not.
func TestNothingIsHeldBackAtTheEnd(t *testing.T) {
	src := newSupply(3*maxUnacked, *samplePresence())
	w, _ := managed(t, &record{}, src)
	if why := until(t, w); why != endShutdown || src.left != 0 {
		t.Errorf("ended with %v, %d are left", why, src.left)
	}
}

// Who asks without end and never acknowledges the answers is dropped.
func TestUnacknowledgedAnswersAreBounded(t *testing.T) {
	src := newSupply(0, *samplePresence())
	src.end = presence.Alive
	w, led := managed(t, &record{}, src)
	answer := strings.Repeat("x", 1000)
	for i := range 2 * mostUnackedBytes / len(answer) {
		w.out.add(func(dst []byte) []byte { return append(dst, answer...) })
		if why := until(t, w); why != notEnded {
			if why != endUnacked || i*len(answer) < mostUnackedBytes*9/10 {
				t.Errorf("ended with %v after %d bytes", why, i*len(answer))
			}
			return
		}
	}
	t.Errorf("%d bytes are kept", led.out.bytes())
}

// Messages and notices are told of when they are acknowledged, not when they are written.
func TestToldWhenAcknowledged(t *testing.T) {
	src := newSupply(3, presence.Update{Kind: presence.Unsubscribed, Local: "p2", ID: 7},
		presence.Update{Kind: presence.FromDevice, Local: "p2", ID: 3, Data: []byte("{}")}, *samplePresence())
	src.end = presence.Alive
	w, _ := managed(t, &record{}, src)
	for i, want := range [][]uint64{nil, {7}, {7, 3}, {7, 3}} {
		w.out.acknowledge(uint32(i))
		until(t, w)
		if !slices.Equal(src.told, want) {
			t.Errorf("after %d: told %v", i, src.told)
		}
	}
}

// What is repeated is not asked for at once again and again: a component that acknowledges some of it gets time.
func TestAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSupply(10, *samplePresence())
		src.end = presence.Alive
		var rec record
		w, _ := managed(t, &rec, src)
		w.grace = time.Minute
		asked := func() int { return strings.Count(rec.String(), "<r ") }
		for i := range uint32(9) {
			w.out.acknowledge(i)
			if until(t, w); asked() != 1 {
				t.Fatalf("asked %d times after %d", asked(), i)
			}
		}
		time.Sleep(w.due())
		if until(t, w); asked() != 2 {
			t.Errorf("asked %d times after a while", asked())
		}
		w.out.acknowledge(10)
		if until(t, w); asked() != 2 || w.due() != math.MaxInt64 {
			t.Errorf("asked %d times, and again in %v", asked(), w.due())
		}
	})
}

// Who leaves an <r/> without an answer in the time there is, is dropped; any <a/> gives it that time again, also one that
// says that it got no further.
func TestGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSupply(3, *samplePresence())
		src.end = presence.Alive
		w, _ := managed(t, &record{}, src)
		w.grace = time.Minute
		for _, i := range []uint32{0, 1, 1, 1, 2} {
			w.out.acknowledge(i)
			if why := until(t, w); why != notEnded {
				t.Fatalf("%v after %d", why, i)
			}
			time.Sleep(w.grace - time.Second)
		}
		if why := until(t, w); why != notEnded {
			t.Fatal(why)
		}
		time.Sleep(time.Second)
		if why := until(t, w); why != endUnanswered {
			t.Errorf("ended with %v", why)
		}
	})
}

// A disk that hangs does not leave a component without an answer: it hears what is handled, and the rest when it is.
func TestAnswerThatIsOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := newSupply(0, *samplePresence())
		src.end = presence.Alive
		var rec record
		w, led := managed(t, &rec, src)
		until(t, w)
		heard := func() string { _, after, _ := strings.Cut(rec.String(), "/>"); return after }
		led.in.took()
		n := led.in.fly()
		led.in.took()
		if _, now := led.in.ask(); now {
			t.Fatal("the answer does not wait")
		}
		if until(t, w); heard() != "" || w.due() != ackWait {
			t.Fatalf("wrote %s, and wants to look again in %v", heard(), w.due())
		}
		want := ""
		for range 2 {
			time.Sleep(w.due())
			want += string(appendAck(nil, 1))
			if until(t, w); heard() != want {
				t.Fatalf("wrote %s", heard())
			}
		}
		led.in.settle(n)
		if h := led.in.answer(); h != 3 || w.due() != math.MaxInt64 {
			t.Errorf("h is %d, and it wants to look again in %v", h, w.due())
		}
	})
}

// What is handled is told in order: a notification that is on disk does not vouch for the one behind it.
func TestHandledInOrder(t *testing.T) {
	var in incoming
	in.took()
	first := in.fly()
	in.took()
	second := in.fly()
	in.took()
	for _, c := range []struct {
		settles, h uint32
	}{{0, 1}, {first, 2}, {second, 5}} {
		if c.settles != 0 {
			in.settle(c.settles)
		}
		if h := in.h(); h != c.h {
			t.Errorf("h is %d after notification %d, want %d", h, c.settles, c.h)
		}
	}
}

// willing is a sink that acknowledges all at once.
type willing struct {
	bytes int64
	out   *outbox
	o     *outgoing
}

func (p *willing) SetWriteDeadline(time.Time) error { return nil }
func (p *willing) Write(b []byte) (int, error) {
	p.bytes += int64(len(b))
	p.out.acknowledge(p.o.sent)
	return len(b), nil
}

// BenchmarkManagedOutput writes presences with stream management, to nobody; its floor is the same without.
func BenchmarkManagedOutput(b *testing.B) {
	run := func(b *testing.B, manage bool) {
		b.ReportAllocs()
		src := newSupply(b.N, *samplePresence())
		p := &willing{}
		w := testWriter(p, src)
		led := &ledger{}
		p.out, p.o = w.out, &led.out
		if manage {
			w.out.turn(&turn{led: led})
		} else {
			p.o = &w.own
		}
		b.ResetTimer()
		if why := w.run(closedChan(), nil); why != endShutdown {
			b.Fatal(why)
		}
		b.SetBytes(p.bytes / int64(b.N))
	}
	b.Run("managed", func(b *testing.B) { run(b, true) })
	b.Run("floor", func(b *testing.B) { run(b, false) })
}
