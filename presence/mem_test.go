package presence_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"presenced/presence"
)

// BenchmarkMemory reports what the core keeps for each present user with one device, and what each of her
// grants adds, in bytes of heap.
func BenchmarkMemory(b *testing.B) {
	const users, grants = 20_000, 5
	f := newFixture(b)
	defer f.close()
	for b.Loop() {
		before := f.heap()
		sessions := make([]*presence.Session, users)
		for i := range sessions {
			sessions[i] = f.online(fmt.Sprintf("user%06d@example.org", i), presence.DefaultDevice)
			f.ready.Take(nil)
		}
		bare := f.heap() - before
		for _, s := range sessions {
			s.Close()
		}
		f.pass(time.Hour)
		for g := range grants {
			f.app(fmt.Sprint("app", g))
		}
		for i := range users {
			gs := make([]presence.Grant, grants)
			for g := range gs {
				gs[g] = presence.Grant{Email: fmt.Sprintf("user%06d@example.org", i), App: fmt.Sprint("app", g)}
			}
			f.must(f.hub.Import(gs, presence.ByAdmin))
		}
		before = f.heap()
		for i := range sessions {
			sessions[i] = f.online(fmt.Sprintf("user%06d@example.org", i), presence.DefaultDevice)
			f.ready.Take(nil)
		}
		granted := f.heap() - before
		b.ReportMetric(float64(bare)/users, "B/device")
		b.ReportMetric(float64(granted-bare)/users/grants, "B/grant")
		runtime.KeepAlive(sessions)
	}
}

// heap is what is in use when everything is on disk and nothing waits for that.
func (f *fixture) heap() int64 {
	f.must(f.store.PutUser(presence.User{Email: "barrier@example.org"}))
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
