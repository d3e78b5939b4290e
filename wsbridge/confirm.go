package wsbridge

import (
	"slices"
	"strconv"
)

// debts are what is owed between the two sides: they exist for a moment only.
type debts struct {
	open    []uint64 // Seq of the last items written, not confirmed; empty in ack mode
	arrived int      // so many of them have arrived, as a pong said
	pinged  bool     // the peer wants a pong
	payload string   // with this
}

// setMode chooses how notifications are confirmed from now on: by acks, or by pongs. What was sent under
// the other one and is not confirmed stays in the queue, for the next session.
func (c *conn) setMode(ack bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ack != ack {
		c.ack = ack
		if d := c.debts; d != nil {
			d.open, d.arrived = nil, 0
			c.forgive()
		}
	}
}

// confirmAcked handles an ack; it counts only in ack mode.
func (c *conn) confirmAcked(seqs []uint64) {
	c.mu.Lock()
	ack := c.ack
	c.mu.Unlock()
	if ack && len(seqs) > 0 {
		c.session.Load().Confirm(seqs)
	}
}

// onPing takes note of the peer's ping; the writer answers it, only the latest where there are several
// (RFC 6455 §5.5.3). Like onPong it is called inside of a read that goes on waiting, so it stays shallow:
// stack that grows here would not be given back.
func (c *conn) onPing(payload string) error {
	c.in = 0
	if e := c.bear(false); e != nil {
		return e.last(nil, !c.identified())
	}
	c.mu.Lock()
	c.debt().pinged, c.debts.payload = true, payload
	c.mu.Unlock()
	if s := c.session.Load(); s != nil {
		c.held()
		s.Awake()
	}
	c.kick()
	return nil
}

// onPong takes note of what was written in front of the ping that is answered here. The writer confirms it,
// or the next frame if that comes first.
func (c *conn) onPong(payload string) error {
	c.in = 0
	c.held()
	if payload == droppedPing && c.flags.And(^flagDropping)&flagDropping != 0 {
		c.flags.Or(flagDropped)
		c.kick()
		return nil
	}
	if n, err := strconv.ParseUint(payload, 10, 32); err == nil && c.pongTo(uint32(n)) {
		c.kick()
		return nil
	}
	if e := c.bear(false); e != nil {
		return e.last(nil, !c.identified())
	}
	return nil
}

// pongTo reports whether the pong to the ping behind item mark is news.
func (c *conn) pongTo(mark uint32) bool {
	if c.app != nil {
		return c.app.pongTo(mark)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.debts
	if d == nil {
		return false
	}
	behind := c.sent - mark // items written behind that ping
	if uint64(behind)+uint64(d.arrived) >= uint64(len(d.open)) {
		return false
	}
	d.arrived = len(d.open) - int(behind)
	return true
}

// confirmArrived confirms what pongs said. mu is held meanwhile, so that whoever comes later knows that it is
// done.
func (c *conn) confirmArrived() {
	if c.flags.Load()&flagDropped != 0 && c.flags.And(^flagDropped)&flagDropped != 0 {
		c.session.Load().ConfirmDropped()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.debts
	if d == nil || d.arrived == 0 {
		return
	}
	arrived := d.open[:d.arrived:d.arrived]
	if slices.Contains(arrived, droppedSeq) {
		c.session.Load().ConfirmDropped()
	}
	c.session.Load().Confirm(arrived)
	d.open = d.open[d.arrived:]
	d.arrived = 0
	c.forgive()
}

// debt returns the debts, made if there are none. mu is held.
func (c *conn) debt() *debts {
	if c.debts == nil {
		c.debts = new(debts)
	}
	return c.debts
}

// forgive drops the debts if nothing is owed any more. mu is held.
func (c *conn) forgive() {
	if d := c.debts; d != nil && len(d.open) == 0 && !d.pinged {
		c.debts = nil
	}
}
