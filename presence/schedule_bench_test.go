package presence_test

import (
	"container/heap"
	"fmt"
	"testing"
	"time"

	"presenced/presence"
)

// BenchmarkSchedule has a million grants of present users with windows, in as many shapes as there are minutes to open
// at, and asks: what does one change of a grant cost when it is due, what does a look at the clock cost when nothing is, and
// how long does it take when all of them are due at the same moment. Beside it the floor: the same number of times in
// one plain heap.
func BenchmarkSchedule(b *testing.B) {
	for _, grants := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("grants=%d", grants), func(b *testing.B) { benchmarkSchedule(b, grants, false) })
		b.Run(fmt.Sprintf("grants=%d/at_once", grants), func(b *testing.B) { benchmarkSchedule(b, grants, true) })
	}
}

func benchmarkSchedule(b *testing.B, grants int, atOnce bool) {
	const perUser = 10
	f := newFixture(b)
	defer f.close()
	for i := range perUser {
		f.app(fmt.Sprint("app", i))
	}
	day := f.clock.Now().Truncate(24 * time.Hour)
	for u := 0; u < grants/perUser; {
		var gs []presence.Grant
		for ; len(gs) < 10_000 && u < grants/perUser; u++ {
			email := fmt.Sprintf("user%06d@example.org", u)
			for i := range perUser {
				gs = append(gs, presence.Grant{Email: email, App: fmt.Sprint("app", i), TZ: "Europe/Paris", Windows: []presence.Window{windowOf(u, atOnce)}})
			}
		}
		f.must(f.hub.Import(gs, presence.ByAdmin))
	}
	for u := range grants / perUser {
		f.online(fmt.Sprintf("user%06d@example.org", u), "phone")
	}
	f.hub.Advance(f.clock.Now())
	flips, flipping, longest, ticks, ticking := 0, time.Duration(0), time.Duration(0), 0, time.Duration(0)
	for b.Loop() { // a day of minutes, two looks at each: one with something due, one without
		day = day.Add(24 * time.Hour)
		for m := range 24 * 60 {
			now := day.Add(time.Duration(m) * time.Minute)
			start := time.Now()
			f.hub.Advance(now)
			took := time.Since(start)
			flipping += took
			longest = max(longest, took)
			start = time.Now()
			f.hub.Advance(now.Add(time.Second))
			ticking += time.Since(start)
			ticks++
		}
		flips += 2 * grants
	}
	b.ReportMetric(float64(flipping.Nanoseconds())/float64(flips), "ns/flip")
	b.ReportMetric(floorOfSchedule(grants), "floor-ns/flip")
	b.ReportMetric(float64(ticking.Nanoseconds())/float64(ticks), "ns/idle-tick")
	b.ReportMetric(float64(longest.Milliseconds()), "ms/longest")
}

// windowOf opens at one of 1440 minutes, or all at nine.
func windowOf(user int, atOnce bool) presence.Window {
	from, to := user%1440, (user+480)%1440
	if atOnce {
		from, to = 9*60, 17*60
	}
	return presence.Window{From: fmt.Sprintf("%02d:%02d", from/60, from%60), To: fmt.Sprintf("%02d:%02d", to/60, to%60)}
}

// times is a heap of nothing but times.
type times []int64

func (t times) Len() int           { return len(t) }
func (t times) Less(i, j int) bool { return t[i] < t[j] }
func (t times) Swap(i, j int)      { t[i], t[j] = t[j], t[i] }
func (t *times) Push(x any)        { *t = append(*t, x.(int64)) }
func (t *times) Pop() any          { panic("not used") }

// floorOfSchedule takes the first of n times and puts it where it is due next, until all had their turn twice, and returns
// the nanoseconds for each.
func floorOfSchedule(n int) float64 {
	t := make(times, n)
	for i := range t {
		t[i] = int64(i % 1440)
	}
	heap.Init(&t)
	start := time.Now()
	for range 2 * n {
		t[0] += 720
		heap.Fix(&t, 0)
	}
	return float64(time.Since(start).Nanoseconds()) / float64(2*n)
}
