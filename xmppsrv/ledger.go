package xmppsrv

import (
	"sync"
	"time"

	"presenced/presence"
)

// ledger is what the two sides of a stream owe each other since <enable/> (XEP-0198): the session that survives its
// connection. At any time it is held by one session, whose three goroutines share it as said below, or by none:
// then it is kept, until it is resumed, or ended, or its time is over. Who holds it is the roll's to say.
type ledger struct {
	id   string         // by which it is resumed, unguessable; "": it cannot be; immutable
	keep time.Duration  // how long it can be resumed; immutable
	link *presence.Link // open as long as the ledger is; immutable

	in  incoming
	out outgoing // owned by the holder's writer; while nobody holds it, guarded by roll.mu

	holder  *session      // guarded by roll.mu; nil: kept
	serial  uint64        // guarded by roll.mu: that of the last holder
	free    chan struct{} // guarded by roll.mu: closed when the holder lets go
	gone    bool          // guarded by roll.mu: it is not in the roll any more
	expires time.Time     // guarded by roll.mu: while it is kept
}

// incoming counts what the component sent. The reader adds, the settler settles, all three goroutines tell.
type incoming struct {
	mu       sync.Mutex
	received uint32 // guarded by mu: stanzas, modulo 2^32
	flying   int    // guarded by mu: notifications among them that are not settled
	settled  uint32 // guarded by mu: while some fly, all up to this one are handled
	told     uint32 // guarded by mu: the last h that was told

	asks  int       // guarded by mu: <r/> that wait for what flies
	since time.Time // guarded by mu: the first of them, or the last answer
}

// startAt sets both counts, before anything is counted.
func (l *ledger) startAt(n uint32) {
	l.in.received, l.in.told = n, n
	l.out.sent, l.out.acked = n, n
}

// took counts a stanza that is handled.
func (i *incoming) took() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.received++
}

// fly counts a notification that is on its way to the disk, and returns its number.
func (i *incoming) fly() uint32 {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.flying == 0 {
		i.settled = i.received
	}
	i.flying++
	i.received++
	return i.received
}

// settle says that notification n is on disk or refused, and so all before it.
func (i *incoming) settle(n uint32) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.flying--
	i.settled = n
}

// h is how many stanzas are handled (XEP-0198 §4): all, or those up to the last that is settled. It counts as told.
func (i *incoming) h() uint32 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.hLocked()
}

func (i *incoming) hLocked() uint32 {
	i.told = i.received
	if i.flying > 0 {
		i.told = i.settled
	}
	return i.told
}

// ask is for an <r/>: h if all before it is handled. Else the answer has to wait, and is counted as open.
func (i *incoming) ask() (h uint32, now bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.flying == 0 {
		return i.hLocked(), true
	}
	if i.asks++; i.asks == 1 {
		i.since = time.Now()
	}
	return 0, false
}

// answer is the h for the oldest open <r/>.
func (i *incoming) answer() uint32 {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.asks--
	i.since = time.Now()
	return i.hLocked()
}

// overdue is in how long the answer to an <r/> will have been open for ackWait; false: none is open.
func (i *incoming) overdue(now time.Time) (in time.Duration, open bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.since.Add(ackWait).Sub(now), i.asks > 0
}

// remind is the h to tell when an answer is overdue. The answer itself still follows; until then this is repeated.
func (i *incoming) remind(now time.Time) uint32 {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.since = now
	return i.hLocked()
}

// news is the h that a component should know before its stream ends; false: it knows.
func (i *incoming) news() (h uint32, is bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	was := i.told
	h = i.hLocked()
	return h, h != was
}
