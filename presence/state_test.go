package presence

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

const testLinger = 10 * time.Second

func genInput(t *rapid.T) Input {
	return Input{
		Kind:   InputKind(rapid.IntRange(0, int(InputTick)).Draw(t, "kind")),
		Status: Status(rapid.IntRange(0, 2).Draw(t, "status")),
		Idle:   moment(rapid.Int64Range(0, 3).Draw(t, "idle")),
		Linger: time.Duration(rapid.SampledFrom([]int64{0, int64(testLinger)}).Draw(t, "linger")),
	}
}

// Whatever happens in whatever order, the state stays sound and time alone ends what is not held.
func TestStepKeepsItsInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s State
		now := moment(1_000_000)
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			now += moment(rapid.Int64Range(0, 15_000).Draw(t, "pass"))
			before, e := s, genInput(t)
			var changed bool
			s, changed = Step(s, e, now)
			if changed != (s.Status != before.Status || s.Idle != before.Idle) {
				t.Fatalf("%+v -%+v-> %+v says changed=%v", before, e, s, changed)
			}
			if s.Status == Offline && (s.Idle != 0 || s.Until != 0 || s.Phase == Lingering) {
				t.Fatalf("%+v -%+v-> %+v: offline holds something", before, e, s)
			}
			if s.Phase == Absent && s.Status != Offline && e.Kind != InputPublish && e.Kind != InputTick {
				t.Fatalf("%+v -%+v-> %+v: absent and not offline", before, e, s)
			}
			if s.Until != 0 && s.Until <= now {
				t.Fatalf("%+v -%+v-> %+v at %d: overdue", before, e, s, now)
			}
			if s.Status != before.Status && s.Since != now || s.Status == before.Status && s.Since != before.Since {
				t.Fatalf("%+v -%+v-> %+v at %d: since is wrong", before, e, s, now)
			}
		}
	})
}

func TestStepLife(t *testing.T) {
	type step struct {
		at    moment
		e     Input
		want  Status
		phase Phase
	}
	ms := moment(testLinger.Milliseconds())
	ev := func(k InputKind) Input { return Input{Kind: k, Linger: testLinger} }
	say := func(st Status) Input { return Input{Kind: InputPublish, Status: st} }
	for name, life := range map[string][]step{
		"hello without a status shows nothing": {
			{1, ev(InputAttach), Offline, Attached}, {2, ev(InputLost), Offline, Absent}},
		"a lost socket is held, then gone": {
			{1, ev(InputAttach), Offline, Attached}, {2, say(Online), Online, Attached}, {3, ev(InputLost), Online, Lingering},
			{2 + ms, ev(InputTick), Online, Lingering}, {3 + ms, ev(InputTick), Offline, Absent}},
		"who said offline does not linger": {
			{1, ev(InputAttach), Offline, Attached}, {2, say(Online), Online, Attached}, {3, say(Offline), Offline, Attached},
			{4, ev(InputLost), Offline, Absent}},
		"coming back in time does not flap": {
			{1, ev(InputAttach), Offline, Attached}, {2, say(Unavailable), Unavailable, Attached}, {3, ev(InputLost), Unavailable, Lingering},
			{4, ev(InputAttach), Unavailable, Attached}, {5, say(Unavailable), Unavailable, Attached}, {5 + 2*ms, ev(InputTick), Unavailable, Attached}},
		"coming back and saying nothing ends it in the end": {
			{1, ev(InputAttach), Offline, Attached}, {2, say(Online), Online, Attached}, {3, ev(InputLost), Online, Lingering},
			{4, ev(InputAttach), Online, Attached}, {3 + ms, ev(InputTick), Offline, Attached}},
		"a replaced socket keeps the presence": {
			{1, ev(InputAttach), Offline, Attached}, {2, say(Online), Online, Attached}, {3, ev(InputAttach), Online, Attached},
			{4, say(Online), Online, Attached}, {4 + 2*ms, ev(InputTick), Online, Attached}},
		"a kick is at once": {
			{1, ev(InputAttach), Offline, Attached}, {2, say(Online), Online, Attached}, {3, ev(InputEnd), Offline, Absent}},
	} {
		t.Run(name, func(t *testing.T) {
			var s State
			for i, st := range life {
				s, _ = Step(s, st.e, st.at)
				if s.Status != st.want || s.Phase != st.phase {
					t.Fatalf("step %d: %+v, want status %v phase %v", i, s, st.want, st.phase)
				}
			}
		})
	}
}
