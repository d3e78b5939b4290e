package ccs

import "time"

// targets remembers how often an app sent to whom, as token buckets; a rate of 0 does not limit. It is bounded: of a target that is not in the
// list nothing is held against anybody.
type targets struct {
	burst, rate float64
	list        map[string]bucket
}

type bucket struct {
	left float64
	at   time.Time
}

// take uses one of the target's tokens; false: there is none.
func (t *targets) take(target string, now time.Time) bool {
	if t.rate == 0 {
		return true
	}
	b, known := t.list[target]
	if !known {
		if len(t.list) >= maxTargets {
			t.makeRoom(now)
		}
		b = bucket{t.burst, now}
	}
	b.left = min(t.burst, b.left+now.Sub(b.at).Seconds()*t.rate)
	b.at = now
	ok := b.left >= 1
	if ok {
		b.left--
	}
	t.list[target] = b
	return ok
}

// makeRoom forgets those that are full again, and if there are none, a few of the others.
func (t *targets) makeRoom(now time.Time) {
	for target, b := range t.list {
		if b.left+now.Sub(b.at).Seconds()*t.rate >= t.burst {
			delete(t.list, target)
		}
	}
	for target := range t.list {
		if len(t.list) < maxTargets*3/4 {
			return
		}
		delete(t.list, target)
	}
}
