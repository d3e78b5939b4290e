package web

import (
	"sync"
	"time"
)

type limitKind int

const (
	limitPerson limitKind = iota
	limitApp
)

const (
	// How many calls at once, and then how often. Only who was recognised is counted.
	personBurst, personEvery = 100, 100 * time.Millisecond
	appBurst, appEvery       = 1000, 5 * time.Millisecond
	limitNames               = 1 << 16 // credentials remembered
)

// apiLimit is a token bucket for each credential. It is safe for concurrent use.
type apiLimit struct {
	now func() time.Time // immutable

	mu   sync.Mutex
	full map[string]time.Time // guarded by mu: when the credential has its whole burst again
}

func newAPILimit(now func() time.Time) *apiLimit {
	return &apiLimit{now: now, full: make(map[string]time.Time)}
}

// allow counts a call; where it is refused, after says when the next one is not.
func (l *apiLimit) allow(name string, kind limitKind) (after time.Duration, ok bool) {
	burst, every := time.Duration(personBurst), personEvery
	if kind == limitApp {
		burst, every = appBurst, appEvery
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	full := l.full[name]
	if full.Before(now) {
		full = now
	}
	if wait := full.Sub(now) - (burst-1)*every; wait > 0 {
		return wait, false
	}
	if len(l.full) >= limitNames {
		l.forgetLocked(now)
	}
	l.full[name] = full.Add(every)
	return 0, true
}

// forgetLocked makes room: those that have their burst again, or else anybody, who has it then.
func (l *apiLimit) forgetLocked(now time.Time) {
	for name, full := range l.full {
		if !full.After(now) {
			delete(l.full, name)
		}
	}
	for name := range l.full {
		if len(l.full) < limitNames {
			break
		}
		delete(l.full, name)
	}
}
