package wsbridge

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"pgregory.net/rapid"
)

// The bucket agrees with counting: in any span of time no more than burst + rate × span are let through,
// and who waits as long as told is let through.
func TestBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perSecond := rapid.Float64Range(0.1, 1000).Draw(t, "rate")
		burst := rapid.IntRange(1, 50).Draw(t, "burst")
		r := newRates(perSecond, burst)
		var b bucket
		var now int64
		var passed []int64
		for range rapid.IntRange(1, 200).Draw(t, "frames") {
			now += rapid.Int64Range(0, 3*r.every).Draw(t, "pause")
			wait, ok := r.pay(&b, now)
			if !ok {
				if wait <= 0 {
					t.Fatalf("wait %v", wait)
				}
				if rapid.Bool().Draw(t, "obey") {
					now += int64(wait)
					if _, ok := r.pay(&b, now); !ok {
						t.Fatal("refused after waiting as told")
					}
					passed = append(passed, now)
				}
				continue
			}
			passed = append(passed, now)
		}
		for i := range passed {
			for j := i; j < len(passed); j++ {
				if n, most := j-i+1, int64(burst)+(passed[j]-passed[i])/r.every; int64(n) > most {
					t.Fatalf("%d in %v", n, time.Duration(passed[j]-passed[i]))
				}
			}
		}
	})
}

func TestNoRateNoLimit(t *testing.T) {
	r := newRates(0, 1)
	var b bucket
	for range 10000 {
		if _, ok := r.pay(&b, 0); !ok || !r.bear(&b, 0, true) {
			t.Fatal("limited")
		}
	}
}

func TestClientAddr(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct{ remote, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"192.0.2.1:5", "203.0.113.9", "192.0.2.1"}, // nobody we trust says so
		{"10.0.0.1:5", "203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:5", "6.6.6.6, 203.0.113.9", "203.0.113.9"},
		{"10.0.0.1:5", "6.6.6.6, 203.0.113.9 ,10.1.1.1", "203.0.113.9"},
		{"10.0.0.1:5", "10.2.2.2", "10.2.2.2"},
		{"10.0.0.1:5", "6.6.6.6, junk", "10.0.0.1"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"[fd00::1%eth0]:5", "2001:db8::1", "2001:db8::1"},
		{"[::ffff:10.0.0.1]:5", "203.0.113.9", "203.0.113.9"},
		{"@", "203.0.113.9", "::"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{}}
		for h := range strings.SplitSeq(c.forwarded, " ,") { // also as several headers
			r.Header.Add("X-Forwarded-For", h)
		}
		if got := clientAddr(r, trusted); got.String() != c.want {
			t.Errorf("%s, %q: %s, want %s", c.remote, c.forwarded, got, c.want)
		}
	}
}

// Every conn is looked at when it is due and not before, wherever it stands, and slots are used again.
func TestSweep(t *testing.T) {
	var tab table
	var readers sync.WaitGroup
	conns := make([]*conn, 2*chunkSlots+1)
	for i := range conns {
		conns[i] = &conn{serial: uint32(i)}
		tab.enter(conns[i], 1, &readers)
	}
	looked := func(now uint32) (serials []uint32) {
		tab.sweep(now, func(c *conn, seen uint32) uint32 {
			serials = append(serials, c.serial)
			return now + 10
		})
		return serials
	}
	if got := looked(1000); got != nil {
		t.Fatalf("looked at %v, nobody is watched", got)
	}
	for _, i := range []int{0, chunkSlots, 2 * chunkSlots} {
		tab.watch(conns[i], 5)
	}
	if got := looked(1001); len(got) != 3 {
		t.Fatalf("looked at %v", got)
	}
	if got := looked(1010); got != nil {
		t.Fatalf("looked at %v too early", got)
	}
	tab.leave(conns[0].slot)
	tab.hasten(conns[0].slot)
	if got := looked(1011); len(got) != 2 {
		t.Fatalf("looked at %v", got)
	}
	again := &conn{serial: 7}
	tab.enter(again, 1012, &readers)
	if again.slot != conns[0].slot || len(tab.chunks) != 3 {
		t.Error("the slot is not used again")
	}
	tab.close()
	if tab.enter(&conn{}, 1, &readers) {
		t.Error("let in after the end")
	}
}

// Those who came together are not pinged together for ever, and never later than agreed.
func TestJitter(t *testing.T) {
	seen := map[uint32]int{}
	for serial := range uint32(1000) {
		j := jitter(120, serial)
		if j < 105 || j > 120 {
			t.Fatalf("jitter(120) = %d", j)
		}
		seen[j]++
	}
	if len(seen) < 15 {
		t.Errorf("%d different beats", len(seen))
	}
	if jitter(1, 5) != 1 {
		t.Error("a beat of no tick")
	}
}

// A conn that grows costs each idle device; think before you raise this.
func TestConnIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(conn{}); size > 144 { // an allocator's size class
		t.Errorf("a conn has %d bytes", size)
	}
	if size := unsafe.Sizeof(slot{}); size != 16 {
		t.Errorf("a slot has %d bytes", size)
	}
}
