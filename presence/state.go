package presence

import "time"

// Phase is where a device's connection is.
type Phase uint8

const (
	Absent    Phase = iota // no connection, nothing held
	Attached               // a session is open
	Lingering              // the connection was lost; what it said is held until State.Until
)

// moment is a time in Unix milliseconds, 0 for none: a third of a time.Time, for records kept by the million.
type moment int64

func momentOf(t time.Time) moment {
	if t.IsZero() {
		return 0
	}
	return moment(t.UnixMilli())
}

func (m moment) time() time.Time {
	if m == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(m)).UTC()
}

// State is everything that decides what apps may see of a device.
type State struct {
	Phase  Phase
	Status Status
	Since  moment // of the last change of Status
	Idle   moment // since when the person is idle; 0: not
	Until  moment // Status is held until then unless it is told again; 0: it stands
}

// Input is what can happen to a device.
type Input struct {
	Kind   InputKind
	Status Status        // InputPublish
	Idle   moment        // InputPublish
	Linger time.Duration // InputAttach, InputLost
}

// InputKind names an Input.
type InputKind uint8

const (
	InputAttach  InputKind = iota // a session was opened, maybe in place of another
	InputPublish                  // the device told its status
	InputLost                     // its connection ended by itself
	InputEnd                      // it was ended on purpose: no linger
	InputTick                     // time has passed
)

// Step is the whole of a device's behaviour: a pure function of the state, what happens, and the time. It
// reports whether what apps may see has changed.
//
// A new session does not speak for the device until it tells a status; what the older one said is held for
// the linger time, so that neither a change of network nor a replaced socket flaps (PROTOCOL §1).
func Step(s State, e Input, now moment) (State, bool) {
	before := s
	switch e.Kind {
	case InputAttach:
		if s.Status != Offline && s.Until == 0 {
			s.Until = now + moment(e.Linger.Milliseconds())
		}
		s.Phase = Attached
	case InputPublish:
		s.Status, s.Idle, s.Until = e.Status, e.Idle, 0
	case InputLost:
		s.Phase = Lingering
		if s.Until == 0 {
			s.Until = now + moment(e.Linger.Milliseconds())
		}
	case InputEnd:
		s.Phase, s.Status = Absent, Offline
	}
	if s.Until != 0 && now >= s.Until {
		s.Status = Offline
	}
	if s.Status == Offline {
		s.Idle, s.Until = 0, 0
		if s.Phase == Lingering {
			s.Phase = Absent
		}
	}
	if s.Status != before.Status {
		s.Since = now
	}
	return s, s.Status != before.Status || s.Idle != before.Idle
}
