package xmppsrv

import (
	"math"
	"time"
)

// Acknowledgements in both directions, as far as they are the writer's (XEP-0198 §4).

// ask sends an <r/> when much was sent since the last, or when there is nothing more to send now and all that was
// asked for has been acknowledged, or the last one was long ago. It also tells what is handled when the answer to
// an <r/> of the component's is overdue.
func (w *writer) ask(quiet bool) error {
	if w.led == nil || w.passive {
		return nil
	}
	now := time.Now()
	if in, open := w.led.in.overdue(now); open && in <= 0 {
		w.o.buf = appendAck(w.o.buf, w.led.in.remind(now))
		w.o.seal(nonza, 0)
	}
	r := &w.request
	if !r.progress.IsZero() && now.Sub(r.progress) >= w.grace {
		return &streamError{why: endUnanswered}
	}
	fresh := w.o.sent - r.asked
	switch {
	case w.o.unacked() == 0:
		return nil
	case fresh >= askAfter || fresh > 0 && w.o.total-r.bytes >= flushAt:
	case fresh > 0 && quiet && r.progress.IsZero():
	case !r.progress.IsZero() && now.Sub(r.last) >= askAgain:
	default:
		return nil
	}
	w.o.buf = append(w.o.buf, "<r xmlns='"+nsSM+"'/>"...)
	w.o.seal(nonza, 0)
	if r.asked, r.bytes, r.last = w.o.sent, w.o.total, now; r.progress.IsZero() {
		r.progress = now
	}
	return nil
}

// due is how long the writer may sleep before ask has something to do; the most there is: until it is woken.
func (w *writer) due() time.Duration {
	if w.led == nil {
		return math.MaxInt64
	}
	now := time.Now()
	first := time.Duration(math.MaxInt64)
	if in, open := w.led.in.overdue(now); open {
		first = in
	}
	if r := &w.request; !r.progress.IsZero() {
		first = min(first, r.progress.Add(w.grace).Sub(now), r.last.Add(askAgain).Sub(now))
	}
	return max(first, time.Millisecond)
}
