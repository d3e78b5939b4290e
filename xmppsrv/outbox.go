package xmppsrv

import (
	"sync"

	"presenced/presence"
)

// outbox is where the reader and the settler put what the writer is to write. It is bounded: who adds waits while
// it is full, so a peer that asks and does not read is not read from.
type outbox struct {
	wake chan struct{} // one slot: there is something to take

	mu       sync.Mutex
	room     sync.Cond
	in       batch // guarded by mu
	probes   int   // guarded by mu: in in
	released bool  // guarded by mu: nobody waits for room any more
	urgent   bool  // guarded by mu: something was put that waits for nothing
}

// batch is what the writer takes at once.
type batch struct {
	buf   []byte // of the items
	items []item
	ack   uint32 // the component's last <a/>
	acked bool   // there was one
	why   end    // end the stream behind all this; notEnded: go on
}

// item is one thing to do, in its place among the others: to write bytes, to answer a probe, to take a turn.
type item struct {
	from, to int // in the buffer
	nonza    bool
	prompt   bool // it comes before updates that were there already
	probe    *probe
	turn     *turn
}

// probe is a question about a user that the writer answers.
type probe struct {
	peer     presence.Peer
	from, to string // of the question, as they came
	id       string
}

// turn is where stream management begins: with a new ledger, or with one that is resumed.
type turn struct {
	led     *ledger
	resumed bool
	h       uint32 // resumed: what the component has handled
	ours    uint32 // resumed: what we have
}

func newOutbox() *outbox {
	o := &outbox{wake: make(chan struct{}, 1)}
	o.room.L = &o.mu
	return o
}

// add appends an answer, which is one stanza, when there is room.
func (o *outbox) add(f func(dst []byte) []byte) { o.put(f, item{}, true) }

// urge is add without waiting for room; for the few things whose number is bounded by others.
func (o *outbox) urge(f func(dst []byte) []byte) {
	o.mu.Lock()
	o.urgent = true
	o.mu.Unlock()
	o.put(f, item{}, false)
}

// nonza appends an element that is no stanza.
func (o *outbox) nonza(f func(dst []byte) []byte) { o.put(f, item{nonza: true}, true) }

// ask puts a probe in the place of an answer.
func (o *outbox) ask(p *probe) { o.put(nil, item{probe: p}, true) }

// fail appends a <failed/>, which no update comes before.
func (o *outbox) fail(f func(dst []byte) []byte) { o.put(f, item{nonza: true, prompt: true}, true) }

// turn puts a turn behind what was added. No update comes before it either.
func (o *outbox) turn(t *turn) { o.put(nil, item{turn: t, prompt: true}, false) }

func (o *outbox) put(f func([]byte) []byte, it item, wait bool) {
	o.mu.Lock()
	for wait && !o.released && (len(o.in.buf) >= maxAnswers || o.probes >= maxProbes) {
		o.room.Wait()
	}
	it.from = len(o.in.buf)
	if f != nil {
		o.in.buf = f(o.in.buf)
	}
	it.to = len(o.in.buf)
	if it.probe != nil {
		o.probes++
	}
	o.in.items = append(o.in.items, it)
	o.mu.Unlock()
	o.ring()
}

// acknowledge notes an <a/>; the last one counts.
func (o *outbox) acknowledge(h uint32) {
	o.mu.Lock()
	o.in.ack, o.in.acked = h, true
	o.mu.Unlock()
	o.ring()
}

// finish asks the writer to end the stream behind what was added. The first reason counts.
func (o *outbox) finish(why end) {
	o.mu.Lock()
	if o.in.why == notEnded {
		o.in.why = why
	}
	o.mu.Unlock()
	o.ring()
}

// ended is the reason of finish, notEnded if there is none yet.
func (o *outbox) ended() end {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.in.why
}

// presses reports whether the writer must not wait any more: something was urged, or the stream is to end.
func (o *outbox) presses() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.urgent || o.in.why != notEnded
}

func (o *outbox) ring() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// take exchanges what is there for empty slices of spent, to be filled next.
func (o *outbox) take(spent batch) batch {
	clear(spent.items)
	o.mu.Lock()
	defer o.mu.Unlock()
	full := o.in
	o.in = batch{buf: spent.buf[:0], items: spent.items[:0], why: full.why}
	o.probes = 0
	o.room.Broadcast()
	return full
}

// release lets everybody go who waits for room, from now on: the reader has been told to end, and what it has read
// is bounded.
func (o *outbox) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.released = true
	o.room.Broadcast()
}
