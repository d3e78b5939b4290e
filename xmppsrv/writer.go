package xmppsrv

import (
	"errors"
	"io"
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
	Probe(presence.Peer) ([]presence.Update, error)
}

// sink is what the writer needs of a net.Conn.
type sink interface {
	io.Writer
	SetWriteDeadline(time.Time) error
}

// writer is the only one that writes to a session's connection. All fields belong to its goroutine, or are
// immutable.
type writer struct {
	conn  sink
	src   source
	out   *outbox
	enc   *encoder
	stall time.Duration // how long a write may take
	count *counters

	updates []presence.Update
	buf     []byte // what the next write takes
	answers []byte // fetched from the outbox; changes places with its buffer
	probes  []probe
	pending uint64   // updates in buf
	told    uint64   // highest Update.ID of a notice in buf
	carried []uint64 // Update.ID of the messages in buf
	tellErr error    // the last failure of Told: the notice comes again with the next connection
}

func newWriter(c sink, src source, out *outbox, enc *encoder, stall time.Duration, count *counters) *writer {
	return &writer{conn: c, src: src, out: out, enc: enc, stall: stall, count: count, updates: make([]presence.Update, takeSlice)}
}

// run writes until the stream ends, writes why, and returns it. The first Take waits until first is closed, at
// most snapshotWait. closing ends the stream as EndShutdown does.
func (w *writer) run(first, closing <-chan struct{}) end {
	w.await(first, closing)
	for {
		worked, why, err := w.round(isClosed(closing))
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return endStalled
		case err != nil:
			return endGone
		case why != notEnded:
			return w.finish(why)
		case worked:
			continue
		}
		select {
		case <-w.src.Wake():
		case <-w.out.wake:
		case <-closing:
		}
	}
}

// await waits for the first element after the handshake, since a <resume/> would take the place of the snapshot.
func (w *writer) await(first, closing <-chan struct{}) {
	t := time.NewTimer(snapshotWait)
	defer t.Stop()
	for {
		select {
		case <-first:
			return
		case <-t.C:
			return
		case <-closing:
			return
		case <-w.out.wake: // the stream ended without an element
			return
		case <-w.src.Wake():
			if w.src.Ended() != presence.Alive {
				return
			}
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

// round writes all that there is to write now: first the updates that were there when the answers were fetched,
// then the answers. It reports whether there was any, and whether the stream is to end.
func (w *writer) round(closing bool) (worked bool, why end, err error) {
	ended := w.src.Ended() // before Take: behind an end there is nothing new
	w.answers, w.probes, why = w.out.take(w.answers, w.probes)
	worked = len(w.answers)+len(w.probes) > 0
	var took, drained bool
	if why != endGone { // who has gone would not see them; answers are for who has only shut its side
		if took, drained, err = w.takeUpdates(); err != nil {
			return false, 0, err
		}
	}
	if err := w.putAnswers(); err != nil {
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

// takeUpdates fetches updates, and writes when there is enough; drained is false if it stopped for the answers'
// sake.
func (w *writer) takeUpdates() (took, drained bool, err error) {
	for range maxRounds {
		for len(w.buf) < flushAt {
			n := w.src.Take(w.updates)
			if n == 0 {
				return took, true, nil
			}
			took = true
			for i := range n {
				u := &w.updates[i]
				w.buf = w.enc.update(w.buf, u)
				w.mark(u)
			}
			w.pending += uint64(n)
		}
		if err := w.flush(); err != nil {
			return took, false, err
		}
	}
	return took, false, nil
}

// mark notes what is to be said of an update once it is written.
func (w *writer) mark(u *presence.Update) {
	switch {
	case u.ID == 0:
	case u.Kind == presence.FromDevice:
		w.carried = append(w.carried, u.ID)
	default:
		w.told = max(w.told, u.ID)
	}
}

// putAnswers appends the answers, with those to probes in their places.
func (w *writer) putAnswers() error {
	if len(w.probes) == 0 && len(w.buf) == 0 {
		w.buf, w.answers = w.answers, w.buf
		return nil
	}
	from := 0
	for i := range w.probes {
		p := &w.probes[i]
		w.buf = append(w.buf, w.answers[from:p.at]...)
		w.buf = w.answer(w.buf, p)
		from = p.at
		if len(w.buf) >= flushAt {
			if err := w.flush(); err != nil {
				return err
			}
		}
	}
	w.buf = append(w.buf, w.answers[from:]...)
	clear(w.probes)
	return nil
}

// flush writes what is there, and then says that it was told.
func (w *writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	w.conn.SetWriteDeadline(time.Now().Add(w.stall))
	if _, err := w.conn.Write(w.buf); err != nil {
		return err
	}
	w.count.updates.Add(w.pending)
	w.pending = 0
	w.buf = w.buf[:0]
	if cap(w.buf) > 4*flushAt {
		w.buf = nil
	}
	w.src.Delivered(w.carried)
	w.carried = w.carried[:0]
	if w.told > 0 {
		if err := w.src.Told(w.told); err != nil {
			w.tellErr = err
		}
		w.told = 0
	}
	return nil
}

// finish writes the stream error and the closing tag.
func (w *writer) finish(why end) end {
	w.conn.SetWriteDeadline(time.Now().Add(min(finalWrite, w.stall)))
	if _, err := w.conn.Write(appendEnd(w.buf[:0], why)); err != nil && why == endClosed {
		return endGone
	}
	return why
}

// answer appends what a probe is to be told. It runs between two Takes, so what comes behind it is newer.
func (w *writer) answer(dst []byte, p *probe) []byte {
	us, err := w.src.Probe(p.peer)
	switch {
	case errors.Is(err, presence.ErrStranger):
		return appendPresence(dst, "unsubscribed", bareOf(p.to), p.from, p.id) // RFC 6121 §4.3.2: from the bare address
	case err != nil:
		return appendError(dst, "presence", p.from, p.to, p.id, refusalOf(err), nil)
	}
	for i := range us {
		dst = w.enc.answer(dst, &us[i], p.from, p.id)
	}
	return dst
}
