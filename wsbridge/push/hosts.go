package push

import (
	"sync"
	"time"
)

const (
	silentAfter = 3           // attempts in a row without an answer, and a push service counts as silent
	maxSilence  = time.Minute // until a silent one is tried again, at most
	maxSilent   = 1024        // push services remembered; above, any is forgotten
)

// hosts remembers which push services do not answer. Whoever uses one of these waits in line for it, and does not keep a
// worker from those whose push service does. Safe for concurrent use.
type hosts struct {
	first   time.Duration // pause of one that has just become silent; immutable, as is the next
	timeout time.Duration // of an attempt

	mu     sync.Mutex
	silent map[string]silence // guarded by mu; by host and port, at most maxSilent
}

// silence is a push service that did not answer lately.
type silence struct {
	count int       // attempts in a row
	until time.Time // no attempt before, where count is at least silentAfter
}

// ask says how long to wait before an attempt; 0: it may be made now. Of those who use a silent push service one finds
// out whether it answers again, and the others wait meanwhile.
func (h *hosts) ask(host string, now time.Time) (wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.silent[host]
	if s.count < silentAfter {
		return 0
	}
	if wait = s.until.Sub(now); wait > 0 {
		return wait
	}
	s.until = now.Add(h.timeout)
	h.silent[host] = s
	return 0
}

// note is told what came of an attempt.
func (h *hosts) note(host string, answered bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, known := h.silent[host]
	if answered {
		delete(h.silent, host)
		return
	}
	if !known && len(h.silent) >= maxSilent {
		for other := range h.silent {
			delete(h.silent, other)
			break
		}
	}
	s.count++
	s.until = now.Add(min(maxSilence, h.first<<min(max(s.count-silentAfter, 0), 10)))
	h.silent[host] = s
}
