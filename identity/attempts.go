package identity

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

const (
	attemptBurst     = 50          // failures at once
	attemptEvery     = time.Second // then one in this time
	attemptAddresses = 1 << 16     // remembered; about 4 MB
	attemptLines     = 20          // in the log, a second
	attemptSpan      = attemptBurst * attemptEvery
)

// Attempts limits failed identification for each network address (IPv6: each /64, because one customer has
// all of it): 50 at once, then one a second. What succeeds costs nothing. The limit is no wall against
// guessing, which 130 random bits are; it bounds what a stranger can make us compute, fetch and log. So somebody
// else behind the same address who shows what is quick to check gets in all the same, see [Attempts.Ask].
//
// Failures are logged with their address and reason, never with what was tried, 20 lines a second at most.
//
// It remembers 65,536 addresses that failed lately; one more, and another is forgotten. Safe for concurrent
// use; a nil *Attempts does not limit.
type Attempts struct {
	Log   *slog.Logger // nil: nothing is logged; not to be changed while in use, like Quick
	Quick Verifier     // what costs no more than a look, and cannot be guessed; nil: nothing

	now func() time.Time // immutable

	mu     sync.Mutex
	full   map[netip.Addr]time.Time // guarded by mu: when the address has its whole burst again
	second time.Time                // guarded by mu: in which lines are counted
	lines  int                      // guarded by mu
}

// NewAttempts makes one; now is its clock.
func NewAttempts(now func() time.Time) *Attempts {
	return &Attempts{now: now, full: make(map[netip.Addr]time.Time)}
}

// Allow reports whether addr may try now; else retryAfter says when.
func (a *Attempts) Allow(addr netip.Addr) (retryAfter time.Duration, ok bool) {
	if a == nil {
		return 0, true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	full, known := a.full[network(addr)]
	if !known {
		return 0, true
	}
	wait := full.Sub(a.now()) - (attemptSpan - attemptEvery)
	return max(wait, 0), wait <= 0
}

// Ask returns who is to be asked about somebody at addr: all, or Quick while the address may not try. Then retryAfter is
// not 0 and says when it may, which is the answer to whom Quick does not know; that is no failed attempt.
func (a *Attempts) Ask(addr netip.Addr, all Verifier) (v Verifier, retryAfter time.Duration) {
	retryAfter, ok := a.Allow(addr)
	switch {
	case ok:
		return all, 0
	case a.Quick == nil:
		return Chain(), retryAfter
	}
	return a.Quick, retryAfter
}

// Refused notes that a Verifier refused addr with err: it logs that, and counts it where it [Counts].
func (a *Attempts) Refused(addr netip.Addr, err error) {
	if a == nil || !Counts(err) {
		return
	}
	a.Failed(addr)
	if a.Log != nil && a.mayLog() {
		a.Log.Info("identification failed", "address", addr.Unmap(), "kind", KindOf(err).String(), "error", err)
	}
}

// mayLog takes a line from this second's.
func (a *Attempts) mayLog() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.now(); now.Sub(a.second) >= time.Second {
		a.second, a.lines = now, 0
	}
	a.lines++
	return a.lines <= attemptLines
}

// Failed counts an attempt of addr that failed.
func (a *Attempts) Failed(addr netip.Addr) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	key, now := network(addr), a.now()
	full, known := a.full[key]
	if !known && len(a.full) >= attemptAddresses {
		a.forgetLocked(now)
	}
	if full.Before(now) {
		full = now
	}
	if full = full.Add(attemptEvery); full.Sub(now) > attemptSpan { // several at the same moment
		full = now.Add(attemptSpan)
	}
	a.full[key] = full
}

// forgetLocked makes room: of a few, who has its burst again, or else the one that has most of it. To be forgotten
// while being limited, an address needs to have made far more others fail than it gains.
func (a *Attempts) forgetLocked(now time.Time) {
	const look = 16
	var victim netip.Addr
	var least time.Time
	n := 0
	for addr, full := range a.full { // in random order
		if !full.After(now) {
			delete(a.full, addr)
		} else if !victim.IsValid() || full.Before(least) {
			victim, least = addr, full
		}
		if n++; n == look {
			break
		}
	}
	if len(a.full) >= attemptAddresses {
		delete(a.full, victim)
	}
}

// network is what failures are counted by.
func network(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		p, _ := addr.Prefix(64)
		return p.Addr()
	}
	return addr
}

// Counts reports whether this error of a Verifier counts as a failed attempt: not where nobody could tell,
// unless it was the assertion that named whom to ask.
func Counts(err error) bool {
	var e *Error
	return err != nil && (KindOf(err) != Unavailable || errors.As(err, &e) && e.Named)
}
