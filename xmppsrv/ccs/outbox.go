package ccs

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// outbox is where everybody puts what the writer is to write. Answers are bounded by places, messages by who adds
// them: see spacious.
type outbox struct {
	c      *conn
	stall  atomic.Int64  // time.Duration that a write may take
	places chan struct{} // one for each answer that is not written
	room   chan struct{} // one slot: the writer has taken what waited
	dead   chan struct{} // closed when nothing is written any more
	wake   chan struct{} // one slot

	mu      sync.Mutex
	buf     []byte // guarded by mu
	answers int    // guarded by mu: how many of those with a place are in buf
	owed    int    // guarded by mu: their bytes
	why     end    // guarded by mu: end the stream behind buf
	over    bool   // guarded by mu: dead is closed, or about to be
}

func newOutbox(c *conn, stall time.Duration) *outbox {
	o := &outbox{c: c, places: make(chan struct{}, window), room: make(chan struct{}, 1), dead: make(chan struct{}), wake: make(chan struct{}, 1)}
	o.stall.Store(int64(stall))
	return o
}

// place waits until there is room for one more answer, which may repeat most of a stanza; false: there never will be.
// It is the reader's.
func (o *outbox) place() bool {
	select {
	case o.places <- struct{}{}:
	case <-o.dead:
		return false
	}
	for o.owes() >= maxAnswers {
		select {
		case <-o.room:
		case <-o.dead:
			return false
		}
	}
	return true
}

// owes counts the bytes of answers that the writer has not taken.
func (o *outbox) owes() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.owed
}

// add appends what is to be written.
func (o *outbox) add(b []byte) { o.append(b, 0) }

// answer is add for what has a place.
func (o *outbox) answer(b []byte) { o.append(b, 1) }

func (o *outbox) append(b []byte, places int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return
	}
	o.buf = append(o.buf, b...)
	if o.answers += places; places > 0 {
		o.owed += len(b)
	}
	o.ring()
}

func (o *outbox) ring() { signal(o.wake) }

// signal fills a channel of one slot.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// spacious reports whether messages may be added.
func (o *outbox) spacious() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf) < maxOutbox && !o.over
}

// hurry gives a peer that does not read little time from now on.
func (o *outbox) hurry() {
	o.stall.Store(min(o.stall.Load(), int64(finalWrite)))
	o.c.SetWriteDeadline(time.Now().Add(finalWrite))
}

// finish ends the stream behind what was added. The first reason counts.
func (o *outbox) finish(why end) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.why == notEnded {
		o.why = why
	}
	o.ring()
}

// run writes until the stream is to end, or cannot go on, and returns why.
func (o *outbox) run(space func()) end {
	var buf []byte
	for {
		var answers int
		var why end
		buf, answers, why = o.take(buf)
		if err := o.write(buf); err != nil {
			return o.die(writeEnd(err, why))
		}
		for range answers {
			<-o.places
		}
		switch {
		case len(buf) > 0:
			if len(buf) >= maxOutbox/2 {
				space()
			}
		case why != notEnded:
			return o.die(o.last(why))
		default:
			<-o.wake
		}
	}
}

// take exchanges what is there for a slice that is empty.
func (o *outbox) take(buf []byte) (full []byte, answers int, why end) {
	if cap(buf) > 2*maxAnswers { // what is rare is not kept
		buf = nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	full, answers = o.buf, o.answers
	o.buf, o.answers, o.owed = buf[:0], 0, 0
	signal(o.room)
	return full, answers, o.why
}

func (o *outbox) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), maxWrite)
		o.c.SetWriteDeadline(time.Now().Add(time.Duration(o.stall.Load())))
		if _, err := o.c.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func writeEnd(err error, why end) end {
	switch {
	case why == endGone:
		return endGone
	case errors.Is(err, os.ErrDeadlineExceeded):
		return endStalled
	}
	return endGone
}

// last writes the last words.
func (o *outbox) last(why end) end {
	if why == endGone {
		return why
	}
	o.c.SetWriteDeadline(time.Now().Add(finalWrite))
	if _, err := o.c.Write(appendEnd(nil, why)); err != nil && why == endClosed {
		return endGone
	}
	return why
}

// die notes that nothing is written any more.
func (o *outbox) die(why end) end {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	close(o.dead)
	return why
}
