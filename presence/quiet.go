package presence

// Quiet is when a device wants to be left alone. A notification of normal priority waits then, on disk as always,
// until the device is awake anyway: because one of high priority or anything else is said to it (that some were
// discarded, too), or because of itself, see [Session.Awake]. Then all that waits goes along, in order.
//
// One with TTL 0 may not wait, so to a quiet device it is as if nobody was there.
type Quiet uint32

const (
	QuietNever Quiet = iota // all that comes is told at once: what unavailable means by itself (PROTOCOL §1)
	QuietAway               // while its status is unavailable
	QuietNow
)

// SetQuiet changes when the session is quiet; at first it is never. What waits and need not any more is told.
func (s *Session) SetQuiet(q Quiet) {
	s.quiet.Store(uint32(q))
	s.tellIfLoud()
}

// tellIfLoud has what waits told, unless the session is quiet still.
func (s *Session) tellIfLoud() {
	if !s.isQuiet() && s.flags.Load()&flagMail != 0 {
		s.ready.put(s)
	}
}

// Awake says that the device is awake at this moment, because it said something by itself or is asked for a sign of
// life: what waits is told now.
func (s *Session) Awake() {
	if Quiet(s.quiet.Load()) != QuietNever {
		s.signal(flagAwake)
	}
}

// isQuiet reports whether what may wait waits now.
func (s *Session) isQuiet() bool {
	switch Quiet(s.quiet.Load()) {
	case QuietNow:
		return true
	case QuietAway:
		return s.dev.status() == Unavailable
	}
	return false
}

// newMail tells the session that something waits for its device.
func (s *Session) newMail(high bool) {
	switch {
	case high, s.hub.cfg.Store.HasDropped(s.dev.user.email): // it has to hear of those that were discarded
		s.signal(flagMail | flagAwake)
	case s.isQuiet():
		s.flags.Or(flagMail)
		s.tellIfLoud() // it may have changed in between
	default:
		s.signal(flagMail)
	}
}

// due takes the flags of what is to be told now. What may wait stays, where that is all and the session is quiet.
func (s *Session) due() uint32 {
	for {
		flags := s.flags.Swap(0)
		if flags != flagMail || !s.isQuiet() {
			return flags
		}
		s.flags.Or(flagMail)
		if s.isQuiet() { // else it has changed in between, and whoever did that saw no mail
			return 0
		}
	}
}
