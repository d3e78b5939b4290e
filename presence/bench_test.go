package presence_test

import (
	"fmt"
	"testing"
	"time"

	"presenced/presence"
)

// record is the floor of fan-out: what must be touched for each app, of the size of the real one, and the
// app's list that it has to stand in.
type record struct {
	app    *floorApp
	next   *record
	_      [32]byte
	state  uint64
	queued bool
}

type floorApp struct {
	head *record
	_    [120]byte
}

// BenchmarkFanout changes one device that n apps may see, and lets each app take it. Beside it the floor: the
// same number of records in a plain slice, marked and listed for their apps. The metric x_floor is the ratio for each app.
//
// With watched somebody looks at everything that happens, as a server's history does.
func BenchmarkFanout(b *testing.B) {
	for _, apps := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("apps=%d", apps), func(b *testing.B) { benchmarkFanout(b, apps, false) })
	}
	b.Run("apps=10/watched", func(b *testing.B) { benchmarkFanout(b, 10, true) })
}

func benchmarkFanout(b *testing.B, apps int, watched bool) {
	f := newFixture(b)
	defer f.close()
	if watched {
		defer f.hub.Watch("").Close()
	}
	links := make([]*presence.Link, apps)
	for i := range links {
		id := fmt.Sprint("app", i)
		f.app(id)
		f.allow("ann@example.org", id)
		links[i] = f.link(id)
	}
	s := f.online("ann@example.org", "phone")
	buf := make([]presence.Update, 8)
	for _, l := range links {
		l.Take(buf)
	}
	states := [2]presence.Status{presence.Unavailable, presence.Online}
	var marking time.Duration
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		if s.Publish(states[i&1], time.Time{}) != nil {
			b.Fatal("publish")
		}
		marking += time.Since(start)
		for _, l := range links {
			if l.Take(buf) != 1 {
				b.Fatal("an app was not told")
			}
		}
	}
	b.StopTimer()
	perApp := float64(marking.Nanoseconds()) / float64(b.N) / float64(apps)
	floor := floorOfFanout(apps, b.N)
	b.ReportMetric(perApp, "ns/app")
	b.ReportMetric(floor, "floor-ns/app")
	b.ReportMetric(perApp/floor, "x_floor")
}

// floorOfFanout marks and takes n records, rounds times, with no lock and no atomic, and returns the
// nanoseconds of marking for each.
func floorOfFanout(n, rounds int) float64 {
	records := make([]*record, n)
	for i := range records {
		records[i] = &record{app: new(floorApp)}
	}
	var marking time.Duration
	for i := range rounds {
		start := time.Now()
		for _, r := range records {
			r.state = uint64(i)
			if !r.queued {
				r.queued, r.next = true, r.app.head
				r.app.head = r
			}
		}
		marking += time.Since(start)
		for _, r := range records {
			r.app.head, r.queued = nil, false
		}
	}
	return float64(marking.Nanoseconds()) / float64(rounds) / float64(n)
}

// BenchmarkTake is what an app's writer pays for each device of a large snapshot.
func BenchmarkTake(b *testing.B) {
	f := newFixture(b)
	defer f.close()
	f.app("chat")
	const users = 1000
	sessions := make([]*presence.Session, users)
	for i := range sessions {
		email := fmt.Sprintf("u%d@example.org", i)
		f.allow(email, "chat")
		sessions[i] = f.online(email, "phone")
	}
	l := f.link("chat")
	buf := make([]presence.Update, 64)
	for l.Take(buf) > 0 {
	}
	states := [2]presence.Status{presence.Unavailable, presence.Online}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		for _, s := range sessions {
			if s.Publish(states[i&1], time.Time{}) != nil {
				b.Fatal("publish")
			}
		}
		got := 0
		for n := l.Take(buf); n > 0; n = l.Take(buf) {
			got += n
		}
		if got != users {
			b.Fatalf("took %d", got)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/users, "ns/stanza")
}
