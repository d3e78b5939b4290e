package presence

import "time"

// Advance does what is due at now (lingers that ran out, windows that open or close, pauses that are over, grants
// and sessions that end) and returns when it wants to be called next, at the latest. Call it from one goroutine,
// again whenever Alarm fires.
//
// Now may jump. Forward, what was passed over did not happen: a window that opened and closed meanwhile shows
// nothing. Back by more than stepBack, everything is looked at again; by less, what is stays as it is until the clock
// has caught up, so that a clock which is set right now and then makes nobody flicker.
func (h *Hub) Advance(now time.Time) (next time.Time) {
	h.nextWake.Store(int64(maxMoment)) // whatever is set from here on rings the alarm
	m := momentOf(now)
	h.noteTime(m)
	for i := range h.shards {
		if sh := &h.shards[i]; moment(sh.due.Load()) <= m {
			h.fire(sh, m)
		}
	}
	retry := maxMoment
	if moment(h.until.Load()) <= m {
		if err := h.endDue(now); err != nil {
			retry = m + moment(untilRetry.Milliseconds())
		}
	}
	earliest := min(retry, moment(h.until.Load()))
	if retry != maxMoment {
		earliest = retry
	}
	for i := range h.shards {
		earliest = min(earliest, moment(h.shards[i].due.Load()))
	}
	h.nextWake.Store(int64(earliest))
	sleep := maxSleep
	if earliest == maxMoment {
		sleep = idleSleep
	}
	return min(earliest, m+moment(sleep.Milliseconds())).time()
}

const (
	maxSleep   = 500 * time.Millisecond // while something is due some time: a clock that jumps, or a machine that slept, is noticed after this long
	idleSleep  = time.Minute            // while nothing is
	untilRetry = 5 * time.Second        // after the store failed to end grants
	stepBack   = 5 * time.Second        // what a clock may be set back and be waited for
	fireSlice  = 256                    // timers that fire with the shard locked, before others may have it
)

// noteTime looks whether the clock was set back.
func (h *Hub) noteTime(now moment) {
	last := h.advanced
	if now >= last || last-now > moment(stepBack.Milliseconds()) {
		h.advanced = now
	}
	if last-now > moment(stepBack.Milliseconds()) {
		for i := range h.shards {
			h.rewind(&h.shards[i], now)
		}
	}
}

// rewind does anew what was decided at a time that is to come again: what is due, and what windows say. Lingers are
// as long as they ever were.
func (h *Hub) rewind(sh *shard, now moment) {
	sh.mu.Lock()
	defer h.unlock(sh)
	longest := now + moment(h.cfg.Linger.Milliseconds())
	for _, u := range sh.users {
		for _, g := range u.grants {
			h.flipAndTellLocked(sh, g, now)
		}
		for d := u.devices; d != nil; d = d.next {
			if until := d.untilLocked(); until > longest {
				h.setDueLocked(sh, d, longest)
			}
		}
	}
}

// Alarm fires when something is due earlier than Advance last said.
func (h *Hub) Alarm() <-chan struct{} { return h.alarm }

// ringBefore wakes whoever drives Advance if at is earlier than it knows.
func (h *Hub) ringBefore(at moment) {
	if at != 0 && int64(at) < h.nextWake.Load() {
		select {
		case h.alarm <- struct{}{}:
		default:
		}
	}
}

// fire runs the shard's timers that are due.
func (h *Hub) fire(sh *shard, now moment) {
	for h.fireSome(sh, now) {
	}
}

// fireSome runs some of them and reports whether there are more.
func (h *Hub) fireSome(sh *shard, now moment) (more bool) {
	sh.mu.Lock()
	defer h.unlock(sh)
	for n := 0; len(sh.timers) > 0 && sh.timers[0].at <= now; n++ {
		if n == fireSlice {
			return true
		}
		if t := sh.timers[0].timer; t.device != nil {
			h.tickLocked(sh, t.device, now)
		} else {
			h.flipAndTellLocked(sh, t.grant, now)
		}
	}
	return false
}

// tickLocked does what is due for a device and sets its next timer.
func (h *Hub) tickLocked(sh *shard, d *device, now moment) {
	if s := d.session; s != nil && s.expires != 0 && s.expires <= now {
		h.endSessionLocked(sh, s, EndExpired, now)
	}
	h.stepLocked(sh, d, Input{Kind: InputTick}, now)
}
