package xmppsrv

import (
	"errors"
	"io"
	"math"
	"os"
	"time"

	"presenced/presence"
)

// source is what the writer needs of a *presence.Link. It is an interface so that the writer can be measured with
// nothing behind it.
type source interface {
	Wake() <-chan struct{}
	Take([]presence.Update) int
	Told(id uint64) error
	Delivered(ids []uint64)
	Ended() presence.End
	Join()
	Yield(to *presence.Link)
	Probe(presence.Peer) ([]presence.Update, error)
	Close()
}

// sink is what the writer needs of a net.Conn.
type sink interface {
	io.Writer
	SetWriteDeadline(time.Time) error
}

// writer is the only one that writes to a session's connection. All fields belong to its goroutine, and once that
// has ended to the session's; or they are immutable.
type writer struct {
	conn     sink
	out      *outbox
	enc      *encoder
	stall    time.Duration // how long a write may take
	grace    time.Duration // how long the component may leave an <r/> without an <a/>
	snapshot time.Duration // how long the first element is waited for before presence begins
	count    *counters

	src source
	led *ledger   // nil: no stream management
	o   *outgoing // where stanzas go: own, or the ledger's
	own outgoing

	updates []presence.Update
	batch   batch // fetched from the outbox
	next    int   // the first item of it that is not done
	heard   heard
	pending uint64 // updates that are not written
	passive bool   // nothing is written any more, only noted in the ledger
	torn    bool   // the last thing written is not whole, so nothing can follow
	cause   error  // of the end, where there is one to tell
	tellErr error  // the last failure of Told: the notice comes again with the next connection

	request request

	urges []urge    // done one after the other while the first element does not come
	urged time.Time // when the last was; zero: none
}

type urge struct {
	in time.Duration // after the one before
	do func()
}

// request is what has been asked with <r/>.
type request struct {
	asked    uint32    // outgoing.sent when it was sent last
	bytes    uint64    // outgoing.total then
	last     time.Time // when that was
	progress time.Time // since when no <a/> came though asked; zero: nothing is open
}

func newWriter(c sink, src source, out *outbox, enc *encoder, stall time.Duration, count *counters) *writer {
	w := &writer{conn: c, src: src, out: out, enc: enc, stall: stall, grace: 2 * stall, snapshot: snapshotWait, count: count,
		updates: make([]presence.Update, takeSlice)}
	w.o = &w.own
	return w
}

// run writes until the stream is to end and returns why; the last words are left to say. The first Take waits until
// first is closed, at most for w.snapshot. closing ends the stream as EndShutdown does.
func (w *writer) run(first, closing <-chan struct{}) end {
	w.await(first, closing)
	alarm := time.NewTimer(w.stall)
	defer alarm.Stop()
	for {
		late := w.urge(first)
		worked, why, err := w.round(isClosed(closing))
		switch {
		case err != nil:
			return w.failed(err)
		case why != notEnded:
			return why
		case worked:
			continue
		}
		if wait := min(w.due(), late); wait < math.MaxInt64 {
			alarm.Reset(wait)
		}
		select {
		case <-w.src.Wake():
		case <-w.out.wake:
		case <-closing:
		case <-alarm.C:
		}
	}
}

// urge does what is due while the first element does not come, and returns in how long to look again.
func (w *writer) urge(first <-chan struct{}) time.Duration {
	if isClosed(first) {
		w.urges = nil
	}
	for len(w.urges) > 0 {
		u, now := w.urges[0], time.Now()
		if w.urged.IsZero() {
			w.urged = now
		}
		if in := w.urged.Add(u.in).Sub(now); in > 0 {
			return in
		}
		w.urges, w.urged = w.urges[1:], now
		u.do()
	}
	return math.MaxInt64
}

// await waits until the first element after the handshake was dealt with, since a <resume/> takes the place of the
// snapshot.
func (w *writer) await(first, closing <-chan struct{}) {
	t := time.NewTimer(w.snapshot)
	defer t.Stop()
	defer func() {
		if !isClosed(first) { // else it has joined, or resumes
			w.src.Join()
		}
	}()
	for w.src.Ended() == presence.Alive && !w.out.presses() {
		select {
		case <-first:
			return
		case <-t.C:
			return
		case <-closing:
			return
		case <-w.out.wake:
		case <-w.src.Wake():
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// failed says which end an error is.
func (w *writer) failed(err error) end {
	var se *streamError
	switch {
	case errors.As(err, &se):
		w.cause = se.cause
		return se.why
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return endGone
	}
	if why := w.out.ended(); why == endReplaced || why == endSilent { // the write was cut short for it
		return why
	}
	return endStalled
}

// round writes all that there is to write now: first the updates that were there when the answers were fetched,
// then the answers. Only where stream management begins, or does not, that and what is before it comes first. It
// reports whether there was any, and whether the stream is to end.
func (w *writer) round(closing bool) (worked bool, why end, err error) {
	w.batch, w.next = w.out.take(w.batch), 0
	why, worked = w.batch.why, len(w.batch.items) > 0
	if err := w.put(w.prompt()); err != nil {
		return false, 0, err
	}
	if err := w.acknowledged(); err != nil {
		return false, 0, err
	}
	ended := w.src.Ended() // before Take: behind an end there is nothing new
	leaving := closing || ended == presence.EndShutdown
	var took, drained bool
	if why == notEnded { // who has closed the stream, or is gone, may not see them
		if took, drained, err = w.takeUpdates(leaving); err != nil {
			return false, 0, err
		}
	}
	if err := w.put(len(w.batch.items)); err != nil {
		return false, 0, err
	}
	if err := w.ask(drained || w.full()); err != nil {
		return false, 0, err
	}
	if err := w.flush(); err != nil {
		return false, 0, err
	}
	switch {
	case why != notEnded:
	case ended == presence.EndShutdown || closing && ended == presence.Alive:
		if drained {
			why = endShutdown
		}
	case ended != presence.Alive:
		why = linkEnds[ended]
		if why == notEnded {
			why = endInternal
		}
	}
	return worked || took, why, nil
}

// prompt is how many items there are up to the last that is.
func (w *writer) prompt() int {
	for i := len(w.batch.items); i > 0; i-- {
		if w.batch.items[i-1].prompt {
			return i
		}
	}
	return 0
}

// takeUpdates fetches updates, and writes when there is enough; drained is false if it stopped for the answers'
// sake, or because too much is not acknowledged, which is no reason for who is leaving.
func (w *writer) takeUpdates(leaving bool) (took, drained bool, err error) {
	for from := w.o.total; w.o.total-from < maxTurn; {
		if w.full() && !leaving {
			return took, false, nil
		}
		n := w.src.Take(w.updates)
		if n == 0 {
			return took, true, nil
		}
		took = true
		for i := range n {
			u := &w.updates[i]
			w.o.buf = w.enc.update(w.o.buf, u)
			w.o.seal(kindOf(u), u.ID)
		}
		w.pending += uint64(n)
		if err := w.pace(); err != nil {
			return took, false, err
		}
	}
	return took, false, nil
}

// pace asks and writes while there is more to come, when there is enough for it.
func (w *writer) pace() error {
	if w.led != nil && w.o.sent-w.request.asked >= askAfter {
		if err := w.ask(false); err != nil {
			return err
		}
	}
	if len(w.o.unwritten()) < flushAt {
		return nil
	}
	return w.flush()
}

// full reports whether so much is not acknowledged that no more is taken.
func (w *writer) full() bool {
	return w.led != nil && (w.o.unacked() >= maxUnacked || w.o.bytes() >= maxUnackedBytes)
}

// kindOf says what is to be told of an update when it has arrived.
func kindOf(u *presence.Update) entryKind {
	switch {
	case u.ID == 0:
		return plain
	case u.Kind == presence.FromDevice:
		return message
	}
	return notice
}

// put does what the items of the batch up to n ask for.
func (w *writer) put(n int) error {
	for w.next < n {
		it := &w.batch.items[w.next]
		switch {
		case it.turn != nil:
			if err := w.turn(it.turn); err != nil {
				return err // not taken: collect does it
			}
		case it.probe != nil:
			w.answer(it.probe)
		default:
			w.o.buf = append(w.o.buf, w.batch.buf[it.from:it.to]...)
			kind := plain
			if it.nonza {
				kind = nonza
			}
			w.o.seal(kind, 0)
		}
		w.next++
		if err := w.pace(); err != nil {
			return err
		}
	}
	if w.led != nil && !w.passive && w.o.bytes() > mostUnackedBytes {
		return &streamError{why: endUnacked}
	}
	return nil
}

// turn begins stream management: from here on stanzas are counted and kept until they are acknowledged. Where an
// older stream is resumed, what it had sent and the component does not have comes first, and its link goes on.
func (w *writer) turn(t *turn) error {
	if t.resumed {
		w.src.Yield(t.led.link) // nothing is taken from it any more; and who reads that it has resumed has its users
		w.own.buf = appendResumed(w.own.buf, t.led.id, t.ours)
		w.own.seal(nonza, 0)
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.led, w.o = t.led, &t.led.out
	if !t.resumed {
		w.o.buf = appendEnabled(w.o.buf, t.led)
		w.o.seal(nonza, 0)
	} else {
		w.o.rewind()
		w.src = t.led.link
		w.o.free(t.h-w.o.acked, &w.heard)
		w.tell()
	}
	w.request = request{asked: w.o.acked, bytes: w.o.total - uint64(w.o.bytes())}
	return nil
}

// acknowledged frees what the component says it has (XEP-0198 §4).
func (w *writer) acknowledged() error {
	if !w.batch.acked {
		return nil
	}
	h := w.batch.ack
	stale, err := w.o.check(h)
	if err != nil {
		return &streamError{endTooHigh, err}
	}
	if !stale {
		w.o.free(h-w.o.acked, &w.heard)
		w.tell()
	}
	w.request.progress = time.Time{} // who answers is there, also if it got no further
	if int32(w.request.asked-w.o.acked) > 0 {
		w.request.progress = time.Now()
	}
	return nil
}

// tell says what has arrived.
func (w *writer) tell() {
	w.src.Delivered(w.heard.carried)
	w.heard.carried = w.heard.carried[:0]
	if w.heard.told > 0 {
		if err := w.src.Told(w.heard.told); err != nil {
			w.tellErr = err
		}
		w.heard.told = 0
	}
}

// flush writes what is there. Without stream management that is all one can know, and it counts as arrived.
func (w *writer) flush() error {
	if w.passive {
		return nil
	}
	for len(w.o.unwritten()) > 0 {
		b := w.o.unwritten()
		b = b[:min(len(b), maxWrite)]
		w.conn.SetWriteDeadline(time.Now().Add(w.stall))
		n, err := w.conn.Write(b)
		if err != nil {
			w.torn = w.torn || n > 0
			return err
		}
		w.o.written += n
		w.torn = len(w.o.unwritten()) > 0 // maybe within a stanza
	}
	w.count.updates.Add(w.pending)
	w.pending = 0
	if w.led != nil {
		w.o.free(0, &w.heard) // nonzas
		return nil
	}
	w.o.free(w.o.unacked(), &w.heard)
	w.tell()
	return nil
}

// collect notes in the outgoing, without writing, what is left in the outbox once nobody adds to it any more.
func (w *writer) collect() {
	w.passive = true
	defer func() { w.passive = false }()
	_ = w.put(len(w.batch.items)) // it fails only in writing
	w.batch, w.next = w.out.take(w.batch), 0
	_ = w.put(len(w.batch.items))
	_ = w.acknowledged() // if it is too high, it is of no use here
}

// last writes what collect has left, and for a component that counts what was handled since it was last told.
func (w *writer) last() {
	if w.led != nil {
		if h, is := w.led.in.news(); is {
			w.o.buf = appendAck(w.o.buf, h)
			w.o.seal(nonza, 0)
		}
	}
	w.stall = min(finalWrite, w.stall)
	if !w.torn && w.flush() != nil {
		w.torn = true
	}
}

// finish writes the stream error and the closing tag, if they can follow what was written. It touches nothing of
// the ledger's.
func (w *writer) finish(why end) end {
	if w.torn || why == endStalled {
		return why
	}
	w.conn.SetWriteDeadline(time.Now().Add(min(finalWrite, w.stall)))
	if _, err := w.conn.Write(appendEnd(nil, why, w.cause)); err != nil && why == endClosed {
		return endGone
	}
	return why
}

// answer appends what a probe is to be told. It runs between two Takes, so what comes behind it is newer.
func (w *writer) answer(p *probe) {
	us, err := w.src.Probe(p.peer)
	switch {
	case errors.Is(err, presence.ErrStranger):
		w.o.buf = appendPresence(w.o.buf, "unsubscribed", bareOf(p.to), p.from, p.id) // RFC 6121 §4.3.2: from the bare address
		w.o.seal(plain, 0)
	case err != nil:
		w.o.buf = appendError(w.o.buf, "presence", p.from, p.to, p.id, refusalOf(err), nil)
		w.o.seal(plain, 0)
	}
	for i := range us {
		w.o.buf = w.enc.answer(w.o.buf, &us[i], p.from, p.id)
		w.o.seal(plain, 0)
	}
}
