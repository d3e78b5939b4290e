package wsbridge

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// learner is a bridge that only learns, with these limits in ticks of a second.
func learner(least, usual, most int) *Bridge {
	every := func(n int) time.Duration { return time.Duration(n) * time.Second }
	return newBridge(Config{Heartbeat: every(usual), HeartbeatMin: every(least), HeartbeatMax: every(most), PongTimeout: 10 * time.Second})
}

// On a network that forgets connections which are silent for longer than it likes, a device that lets us choose ends
// up near that after a few deaths, and hardly dies after that; and never leaves the limits.
func TestHeartbeatFindsWhatHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := learner(30, 120, 1800)
		likes := uint32(rapid.IntRange(30, 4000).Draw(t, "likes"))
		const place, beats = 7, 4000
		var every beat
		deaths, late := 0, 0
		hello := func() { every = b.startBeat(place, &request{adapt: true}) }
		hello()
		for i := range beats {
			if n := every.ticks(); n < 30 || n > 1800 {
				t.Fatalf("a heartbeat of %d", n)
			}
			if every.ticks() > likes {
				if deaths++; i > beats/4 {
					late++
				}
				b.known.put(place, b.shorter(every))
				hello()
				continue
			}
			every = count(b, place, every)
		}
		if reached := every.ticks(); 2*reached < min(likes, 1800) && reached < likes*2/3 {
			t.Errorf("%d where %d would do", reached, likes)
		}
		if deaths > 80 || late > 60 {
			t.Errorf("%d deaths, %d of them late, for %d", deaths, late, likes)
		}
	})
}

// count is countHeld without a conn.
func count(b *Bridge, place uint64, every beat) beat {
	if every += beatHeld; every.held() >= enoughHeld {
		every = b.longer(place, every)
	}
	return every
}

// What is in force follows from what the device asked for and what is known of it where it is.
func TestHeartbeatStarts(t *testing.T) {
	const unknown, bad, good = 1, 2, 3
	b := learner(30, 120, 1800)
	b.known.put(bad, b.shorter(beatGiven.withTicks(120)))
	b.known.put(good, survived{best: 900})
	for _, c := range []struct {
		place uint64
		r     request
		mode  beat
		want  uint32
	}{
		{unknown, request{}, beatGiven, 120},
		{bad, request{}, beatGiven, 80},
		{good, request{}, beatGiven, 120}, // it was not asked to be more
		{unknown, request{heartbeat: 300}, beatFixed, 300},
		{bad, request{heartbeat: 300}, beatFixed, 300}, // the device's own choice stands
		{good, request{heartbeat: 5}, beatFixed, 30},
		{unknown, request{adapt: true}, beatAdapt, 120},
		{unknown, request{adapt: true, heartbeat: 300}, beatAdapt, 300},
		{bad, request{adapt: true, heartbeat: 300}, beatAdapt, 80},
		{good, request{adapt: true}, beatAdapt, 900},
	} {
		got := b.startBeat(c.place, &c.r)
		if got&beatMode != c.mode || got.ticks() != c.want || got.held() != 0 {
			t.Errorf("%d, %+v: %d of mode %d", c.place, c.r, got.ticks(), got>>30)
		}
	}
	every := b.startBeat(bad, &request{})
	for range 100 {
		every = count(b, bad, every)
	}
	if every.ticks() != 80 || b.startBeat(bad, &request{}).ticks() != 120 {
		t.Errorf("%d while it is connected, then %d: want 80, 120", every.ticks(), b.startBeat(bad, &request{}).ticks())
	}
}

// What is remembered of strangers is bounded.
func TestHeartbeatsKnownAreBounded(t *testing.T) {
	var k known
	for i := range uint64(5 * maxKnown) {
		k.put(i, survived{best: uint32(i)})
		if n := len(k.newer) + len(k.old); n > 2*maxKnown {
			t.Fatalf("%d are known", n)
		}
	}
	if k.get(5*maxKnown-1).best == 0 || k.get(0).best != 0 {
		t.Error("the wrong ones are forgotten")
	}
}

func (b beat) GoString() string { return fmt.Sprintf("%d/%d", b.ticks(), b.held()) }
