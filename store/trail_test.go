package store

import (
	"encoding/binary"
	"testing"
	"time"

	"presenced/presence"
)

func once(trail, mark uint64) *presence.Once {
	o := &presence.Once{Trail: trail}
	binary.BigEndian.PutUint64(o.Mark[:], mark)
	return o
}

// send stores one notification under a mark and reports whether it was known.
func (b *bed) send(trail, mark uint64) bool {
	b.t.Helper()
	o := once(trail, mark)
	b.must(b.EnqueueAll([]*presence.Notification{b.note(ann, "chat", "x")}, o).Wait())
	return o.Again
}

// known reports whether a connection that has sent nothing yet would be told that it was sent.
func (b *bed) known(mark uint64) bool { return b.Sent(once(1<<62, mark)) }

func TestSentOnceOverAnotherConnection(t *testing.T) {
	b := newBed(t, Options{})
	for range 2 { // twice over one connection is meant twice
		if b.send(1, 7) {
			t.Error("known on its own connection")
		}
	}
	if !b.send(2, 7) || b.send(2, 8) || !b.send(3, 7) {
		t.Error("not known on another connection, or one of another content is")
	}
	b.Note(once(3, 9))
	if !b.known(9) {
		t.Error("what is only noted is not known")
	}
	if n := b.Stats().Waiting; n != 3 {
		t.Errorf("%d wait", n)
	}
	b.reopen()
	if !b.send(1, 7) || b.known(9) {
		t.Error("after a restart what is on disk is not known, or what is not is")
	}
	b.must(b.CheckConsistency())
}

// Two of the same group: the second is known.
func TestSentTwiceInOneCommit(t *testing.T) {
	b := newBed(t, Options{})
	first, second := once(1, 7), once(2, 7)
	var c *presence.Commit
	b.together(func() {
		b.EnqueueAll([]*presence.Notification{b.note(ann, "chat", "x")}, first)
		c = b.EnqueueAll([]*presence.Notification{b.note(ann, "chat", "x")}, second)
	})
	b.must(c.Wait())
	if first.Again || !second.Again || b.Stats().Waiting != 1 {
		t.Errorf("%+v, %+v, %d wait", first, second, b.Stats().Waiting)
	}
}

func TestSettledIsForgotten(t *testing.T) {
	b := newBed(t, Options{})
	b.send(1, 7)
	b.send(2, 8)
	b.Settle(1)
	b.Settle(3)
	if b.known(7) || !b.known(8) {
		t.Error("the wrong one was forgotten")
	}
	b.reopen()
	if b.known(7) || !b.known(8) {
		t.Error("it came back")
	}
}

func TestTrailsAreBounded(t *testing.T) {
	b := newBed(t, Options{})
	var last *presence.Commit
	for i := range uint64(3 * trailEach) {
		if last = b.EnqueueAll(nil, once(1, i)); i%100 == 99 { // a peer's window
			b.must(last.Wait())
		}
	}
	if !b.known(3*trailEach-1) || !b.known(2*trailEach) || b.trails.count > 2*trailEach {
		t.Errorf("%d of one connection are remembered, and not the last", b.trails.count)
	}
	for i := range uint64(trailAll) {
		last = b.EnqueueAll(nil, once(2+i, 1<<32+i))
	}
	b.must(last.Wait())
	if b.trails.count > trailAll || !b.known(1<<32+trailAll-1) || b.known(3*trailEach-1) {
		t.Errorf("%d are remembered in all, and not the last", b.trails.count)
	}
	b.must(b.CheckConsistency())
	b.clock.advance(trailLife - time.Second)
	if _, err := b.Sweep(b.clock.now(), 10_000); err != nil || !b.known(1<<32+trailAll-1) {
		t.Errorf("forgotten too early, %v", err)
	}
	b.clock.advance(time.Second)
	if b.known(1<<32 + trailAll - 1) {
		t.Error("remembered for longer than promised")
	}
	for {
		n, err := b.Sweep(b.clock.now(), 10_000)
		b.must(err)
		if n == 0 {
			break
		}
	}
	if b.trails.count != 0 || len(b.trails.marks) != 0 || len(b.trails.each) != 0 {
		t.Errorf("%d are remembered", b.trails.count)
	}
	b.must(b.CheckConsistency())
}

// What could not be written was not sent.
func TestFailedCommitLeavesNoTrail(t *testing.T) {
	b := newBed(t, Options{MaxSize: 1 << 20})
	o := once(1, 7)
	big := b.note(ann, "chat", string(make([]byte, 2<<20)))
	if err := b.EnqueueAll([]*presence.Notification{big}, o).Wait(); err == nil {
		t.Fatal("it fitted")
	}
	if b.known(7) {
		t.Error("it is remembered")
	}
	b.must(b.CheckConsistency())
}
