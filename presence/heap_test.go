package presence

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// The heap has the earliest in front and knows where each timer is, whatever is set, moved and stopped.
func TestTimerHeap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var sh shard
		timers := make([]*timer, 20)
		at := make([]moment, len(timers))
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				i := rapid.IntRange(0, len(timers)-1).Draw(t, "timer")
				at[i] = moment(rapid.IntRange(0, 30).Draw(t, "at")) // 0 stops it
				sh.setLocked(&timers[i], at[i], nil, nil)
			},
			"": func(t *rapid.T) {
				first, n := maxMoment, 0
				for i, tm := range timers {
					if (tm == nil) != (at[i] == 0) {
						t.Fatalf("timer %d is there: %t, for %d", i, tm != nil, at[i])
					}
					if tm == nil {
						continue
					}
					n++
					first = min(first, at[i])
					if d := sh.timers[tm.index]; d.timer != tm || d.at != at[i] {
						t.Fatalf("timer %d is not where it says", i)
					}
				}
				if moment(sh.due.Load()) != first && n > 0 || n != len(sh.timers) || n > 0 && sh.timers[0].at != first {
					t.Fatalf("due at %d of %d, want %d of %d", sh.due.Load(), len(sh.timers), first, n)
				}
				sorted := slices.IsSortedFunc(drained(slices.Clone(sh.timers)), func(a, b moment) int { return int(a - b) })
				if !sorted {
					t.Fatal("not in order")
				}
				for i, d := range sh.timers { // drained has moved them
					d.timer.index = i
				}
			},
		})
	})
}

// drained takes all out, in the order of the heap.
func drained(h timerHeap) (all []moment) {
	for len(h) > 0 {
		all = append(all, h[0].at)
		h.remove(0)
	}
	return all
}
