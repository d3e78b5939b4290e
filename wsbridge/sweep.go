package wsbridge

import (
	"sync"
	"sync/atomic"
	"time"
)

// slot is a socket's place in the table that is swept for liveness: 16 bytes instead of a timer.
type slot struct {
	conn *conn         // guarded by the table; nil: free
	seen atomic.Uint32 // tick in which bytes last arrived
	due  uint32        // guarded by the table: tick in which the conn is to be looked at
}

const chunkSlots = 1024

// table holds the slots of all sockets. Slots never move, so that a reader can note in its own that bytes
// arrived without a lock.
type table struct {
	mu     sync.Mutex
	chunks []*[chunkSlots]slot
	free   []*slot
	closed bool // nobody comes in any more
}

// enter gives c a slot and counts its reader, unless the table is closed. c is not looked at before watch.
func (t *table) enter(c *conn, now uint32, readers *sync.WaitGroup) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	readers.Add(1)
	if len(t.free) == 0 {
		t.growLocked()
	}
	s := t.free[len(t.free)-1]
	t.free = t.free[:len(t.free)-1]
	s.conn, s.due = c, never
	s.seen.Store(now)
	c.slot = s
	return true
}

func (t *table) growLocked() {
	chunk := new([chunkSlots]slot)
	t.chunks = append(t.chunks, chunk)
	for i := range chunk {
		t.free = append(t.free, &chunk[len(chunk)-1-i])
	}
}

func (t *table) leave(s *slot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s.conn, s.due = nil, never
	t.free = append(t.free, s)
}

// hasten makes the next sweep look at the slot's conn.
func (t *table) hasten(s *slot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.conn != nil {
		s.due = 0
	}
}

// each calls f for every conn, a chunk at a time; those that come or go meanwhile may be missed.
func (t *table) each(f func(*conn)) {
	for i := 0; ; i++ {
		t.mu.Lock()
		if i == len(t.chunks) {
			t.mu.Unlock()
			return
		}
		for j := range t.chunks[i] {
			if c := t.chunks[i][j].conn; c != nil {
				f(c)
			}
		}
		t.mu.Unlock()
	}
}

// sweep looks at every conn that is due: look returns when to look again. A slot that is not due costs its
// 16 bytes, in order.
func (t *table) sweep(now uint32, look func(c *conn, seen uint32) (due uint32)) {
	for i := 0; ; i++ {
		t.mu.Lock()
		if i == len(t.chunks) {
			t.mu.Unlock()
			return
		}
		for j := range t.chunks[i] {
			if s := &t.chunks[i][j]; s.due <= now && s.conn != nil {
				s.due = look(s.conn, s.seen.Load())
			}
		}
		t.mu.Unlock()
	}
}

func (t *table) isClosed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// never is a tick that does not come: at one a second it is 136 years away.
const never = ^uint32(0)

// pulse is the liveness of one conn.
type pulse struct {
	beat   atomic.Uint32 // a beat
	pinged uint32        // tick of a ping that waits for a sign of life; 0: none. Guarded by the table
}

func (p *pulse) load() beat { return beat(p.beat.Load()) }

// watch makes the sweep look after c, with this heartbeat. Called by the reader.
func (t *table) watch(c *conn, every beat) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.pulse.beat.Store(uint32(every))
	c.slot.due = 0
}

// heard returns when a conn was heard last; false: it has left.
func (t *table) heard(c *conn) (seen uint32, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return c.slot.seen.Load(), c.slot.conn == c
}

// nudge pings c at the next chance, unless it was heard in this tick; where no sign of life comes it ends.
func (t *table) nudge(c *conn, now, patience uint32) {
	if t.expect(c, now, patience) {
		c.flags.Or(flagPing)
	}
}

// expect is nudge for a ping that is on its way already. false: there is another one before it.
func (t *table) expect(c *conn, now, patience uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := c.slot.conn == c && c.pulse.pinged == 0
	if first {
		c.pulse.pinged, c.slot.due = now, now+patience
	}
	return first
}

// look decides what is due for an identified conn which was last heard in the tick seen. It is called by
// the sweep, with the table locked, and does not block.
func (b *Bridge) look(c *conn, seen uint32) (due uint32) {
	now, p := b.tick.Load(), &c.pulse
	if c.flags.And(^flagRetry)&flagRetry != 0 {
		c.kick()
	}
	if p.pinged > seen {
		if now < p.pinged+b.patience {
			return p.pinged + b.patience
		}
		b.stats.timeouts.Add(1)
		silent := p.load()
		b.spawn(func() { c.expire(silent) })
		return never
	}
	p.pinged = 0
	if beat := jitter(p.load().ticks(), uint32(c.serial)+now); now < seen+beat {
		return seen + beat
	}
	p.pinged = now
	c.flags.Or(flagPing)
	if s := c.session.Load(); s != nil {
		s.Awake() // for the ping
	}
	c.kick()
	return now + b.patience
}

// jitter shortens a heartbeat by up to an eighth, so that those who came together are not pinged together
// for ever.
func jitter(beat, salt uint32) uint32 {
	mixed := uint64(salt * 2654435761) // golden ratio, Knuth 6.4
	return max(beat-uint32(uint64(beat/8+1)*mixed>>32), 1)
}

// ticks turns d into ticks, rounded up, at least 1.
func (b *Bridge) ticks(d time.Duration) uint32 {
	return uint32(max((d+b.every-1)/b.every, 1))
}
