package xmppsrv

import (
	"sync"

	"presenced/presence"
)

// outbox is where the reader and the settler put what the writer is to write. It is bounded: who adds waits while
// it is full, so a peer that asks and does not read is not read from.
type outbox struct {
	wake chan struct{} // one slot: there is something to take

	mu     sync.Mutex
	room   sync.Cond
	buf    []byte  // guarded by mu
	probes []probe // guarded by mu; in order of at
	why    end     // guarded by mu: end the stream behind all this; notEnded: go on
	dead   bool    // guarded by mu: the writer is gone
}

// probe is a question about a user that the writer answers in its place among the other answers.
type probe struct {
	at       int // offset in the buffer
	peer     presence.Peer
	from, to string // of the question, as they came
	id       string
}

func newOutbox() *outbox {
	o := &outbox{wake: make(chan struct{}, 1)}
	o.room.L = &o.mu
	return o
}

// add appends an answer, when there is room. It does nothing once the writer is gone.
func (o *outbox) add(f func(dst []byte) []byte) { o.put(f, nil, true) }

// urge is add without waiting for room; for the few things whose number is bounded by others.
func (o *outbox) urge(f func(dst []byte) []byte) { o.put(f, nil, false) }

// ask puts a probe in the place of an answer.
func (o *outbox) ask(p *probe) { o.put(nil, p, true) }

func (o *outbox) put(f func([]byte) []byte, p *probe, wait bool) {
	o.mu.Lock()
	for wait && !o.dead && (len(o.buf) >= maxAnswers || len(o.probes) >= maxProbes) {
		o.room.Wait()
	}
	if !o.dead {
		if f != nil {
			o.buf = f(o.buf)
		}
		if p != nil {
			p.at = len(o.buf)
			o.probes = append(o.probes, *p)
		}
	}
	o.mu.Unlock()
	o.ring()
}

// finish asks the writer to end the stream behind what was added.
func (o *outbox) finish(why end) {
	o.mu.Lock()
	o.why = why
	o.mu.Unlock()
	o.ring()
}

func (o *outbox) ring() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take exchanges what is there for two empty slices to be filled next.
func (o *outbox) take(buf []byte, probes []probe) ([]byte, []probe, end) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf, buf = buf[:0], o.buf
	o.probes, probes = probes[:0], o.probes
	o.room.Broadcast()
	return buf, probes, o.why
}

// kill lets everybody go who waits for room; what they add is dropped.
func (o *outbox) kill() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead = true
	o.buf, o.probes = nil, nil
	o.room.Broadcast()
}
