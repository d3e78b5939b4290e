package xmppsrv

import "fmt"

// outgoing is what is on its way to the component: bytes, and where each stanza in them ends. Without stream
// management a stanza leaves it when it was written, with it when it was acknowledged. It belongs to one writer at a
// time (see ledger) and has no bound of its own: the writer stops filling it.
type outgoing struct {
	buf     []byte // what is before from is done with
	from    int    // where the oldest entry begins
	written int    // up to here it was written to the connection
	mark    int    // up to here it is in entries

	entries []entry
	head    int // the oldest

	total       uint64 // bytes ever
	past        uint64 // stanzas ever acknowledged
	sent, acked uint32 // stanzas, modulo 2^32 (XEP-0198 §4)
}

// entry is one element in an outgoing.
type entry struct {
	id   uint64 // notice, message: the Update's
	size uint32 // bytes
	kind entryKind
}

type entryKind uint8

const (
	plain   entryKind = iota // a stanza of which nothing is kept elsewhere
	nonza                    // no stanza: neither counted nor repeated (XEP-0198 §4)
	notice                   // for Link.Told
	message                  // for Link.Delivered
)

// heard is what is to be said of stanzas that have arrived.
type heard struct {
	told    uint64   // for Link.Told; 0: nothing
	carried []uint64 // for Link.Delivered
}

// seal makes an entry of what was appended to buf since the last one.
func (o *outgoing) seal(kind entryKind, id uint64) {
	o.entries = append(o.entries, entry{id: id, size: uint32(len(o.buf) - o.mark), kind: kind})
	o.total += uint64(len(o.buf) - o.mark)
	o.mark = len(o.buf)
	if kind != nonza {
		o.sent++
	}
}

// unwritten is what is to be written next.
func (o *outgoing) unwritten() []byte { return o.buf[o.written:] }

// bytes is how much there is, written and not.
func (o *outgoing) bytes() int { return len(o.buf) - o.from }

// unacked is how many stanzas there are.
func (o *outgoing) unacked() uint32 { return o.sent - o.acked }

// countError is an h that is higher than what was sent.
type countError struct{ h, sent uint32 }

func (e *countError) Error() string { return fmt.Sprintf("h is %d, %d stanzas were sent", e.h, e.sent) }

// check compares an h with what was sent: *countError if it is higher. stale: it is lower than one before, which there
// may have been.
func (o *outgoing) check(h uint32) (stale bool, err error) {
	if h-o.acked <= o.unacked() {
		return false, nil
	}
	if before := o.acked - h; before >= 1<<31 || uint64(before) > o.past {
		return false, &countError{h, o.sent}
	}
	return true, nil
}

// free forgets the oldest n stanzas, and the nonzas around them that were written; what is to be said of them is
// added to to.
func (o *outgoing) free(n uint32, to *heard) {
	for ; o.head < len(o.entries); o.head++ {
		e := &o.entries[o.head]
		if e.kind == nonza && o.from+int(e.size) > o.written || e.kind != nonza && n == 0 {
			break
		}
		switch e.kind {
		case notice:
			to.told = max(to.told, e.id)
		case message:
			to.carried = append(to.carried, e.id)
		}
		if e.kind != nonza {
			n--
			o.acked++
			o.past++
		}
		o.from += int(e.size)
	}
	o.written = max(o.written, o.from)
	o.compact()
}

// compact gives up the memory of what is done with.
func (o *outgoing) compact() {
	switch {
	case o.head == len(o.entries):
		rare := cap(o.buf) > 4*flushAt && len(o.buf) < cap(o.buf)/8 // it was bigger once
		o.buf, o.entries = o.buf[:0], o.entries[:0]
		if rare {
			o.buf, o.entries = nil, nil
		}
	case o.from > flushAt && o.from > len(o.buf)/2:
		o.buf = o.buf[:copy(o.buf, o.buf[o.from:])]
		o.entries = o.entries[:copy(o.entries, o.entries[o.head:])]
	default:
		return
	}
	o.written -= o.from
	o.mark -= o.from
	o.from, o.head = 0, 0
}

// rewind makes the next connection get all stanzas that there are, and no nonza.
func (o *outgoing) rewind() {
	kept, at, to := o.entries[:0], o.from, 0
	for _, e := range o.entries[o.head:] {
		if e.kind != nonza {
			to += copy(o.buf[to:], o.buf[at:at+int(e.size)])
			kept = append(kept, e)
		}
		at += int(e.size)
	}
	o.buf, o.entries = o.buf[:to], kept
	o.from, o.head, o.written, o.mark = 0, 0, 0, to
}
