package wsbridge

import (
	"strconv"

	"presenced/presence"
)

// kick starts the conn's writer, or makes the one that is there look again.
func (c *conn) kick() {
	if c.flags.Or(flagRunning|flagAgain)&flagRunning == 0 {
		c.b.work.Add(1)
		go c.writer()
	}
}

// writer writes while there is something to write, then ends: an idle conn has none. There is one at a time.
func (c *conn) writer() {
	defer c.b.work.Done()
	for {
		c.flags.And(^flagAgain)
		c.drain()
		for f := c.flags.Load(); f&flagAgain == 0; f = c.flags.Load() {
			if c.flags.CompareAndSwap(f, f&^flagRunning) {
				return
			}
		}
	}
}

// drain does all there is to do. Between batches it lets the reader answer.
func (c *conn) drain() {
	err := c.answerPing()
	if c.app != nil && err == nil {
		err = c.app.drain()
	}
	if s := c.session.Load(); s != nil && err == nil {
		c.confirmArrived()
		w := outbox{c: c, framer: framer{prefix: notificationsPrefix, max: c.b.cfg.MaxFrame}}
		for more := true; more && err == nil; {
			more, err = w.batch(s)
		}
	}
	if err != nil {
		c.interrupt() // the connection is broken: the reader takes it down
	}
}

// answerPing pays the peer its pong.
func (c *conn) answerPing() error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.mu.Lock()
	d := c.debts
	owed := d != nil && d.pinged
	var payload string
	if owed {
		payload, d.pinged, d.payload = d.payload, false, ""
		c.forgive()
	}
	c.mu.Unlock()
	if !owed {
		return nil
	}
	return c.pongLocked(payload)
}

// outbox is one writer's work on its conn.
type outbox struct {
	c      *conn
	framer framer
	seqs   []uint64 // of the items in the framer
	urgent bool     // one of these, or of those before, is of high priority, and no ping is behind it yet
}

// batch writes one batch. more: there is another.
func (w *outbox) batch(s *presence.Session) (more bool, err error) {
	c := w.c
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.ended { // the reader is taking the conn down
		return false, nil
	}
	if err := c.beatLocked(); err != nil {
		return false, err
	}
	items := batchItems
	if c.full() {
		items = 0 // no more of them, but it may be told to go
	}
	o, err := s.Next(items)
	if err != nil {
		c.log(coreError(err))
		c.flags.Or(flagRetry)
		c.b.table.hasten(c.slot)
	}
	return o.More, w.write(&o)
}

// beatLocked sends a ping that is due, and tells the device of a longer heartbeat. wmu is held.
func (c *conn) beatLocked() error {
	flags := c.flags.And(^(flagPing | flagHeld))
	if flags&flagHeld != 0 {
		if every := c.countHeld(); every != 0 {
			if err := c.writeLocked(appendHeartbeat(nil, c.b.seconds(every))); err != nil {
				return err
			}
		}
	}
	if flags&flagPing == 0 {
		return nil
	}
	c.b.stats.pings.Add(1)
	return c.pingLocked(nil)
}

// write encodes what the session said. wmu is held.
func (w *outbox) write(o *presence.Outbox) error {
	if err := w.requests(o.Requests); err != nil {
		return err
	}
	if len(o.Dropped) > 0 {
		if err := w.c.dropLocked(o.Dropped); err != nil {
			return err
		}
	}
	for i := range o.Notifications {
		if err := w.framer.add(appendNotification(w.framer.begin(), &o.Notifications[i]), w.emit); err != nil {
			return err
		}
		w.seqs = append(w.seqs, o.Notifications[i].Seq)
		w.urgent = w.urgent || o.Notifications[i].High
	}
	if !o.More {
		if err := w.framer.flush(w.emit); err != nil {
			return err
		}
	}
	if o.Reconnect != nil {
		if err := w.c.writeLocked(appendReconnect(nil, o.Reconnect)); err != nil {
			return err
		}
	}
	if o.End != presence.Alive {
		w.c.finishLocked(w.c.b.dated(endError(o.End)).last(nil, false))
		w.c.interrupt()
	}
	return nil
}

// dropLocked writes what was discarded, and a ping behind it. wmu is held.
func (c *conn) dropLocked(ds []presence.Dropped) error {
	if err := c.writeLocked(appendDropped(nil, ds)); err != nil {
		return err
	}
	c.mu.Lock()
	ack := c.ack
	c.mu.Unlock()
	if ack {
		c.flags.Or(flagDropping)
		return c.pingLocked([]byte(droppedPing))
	}
	mark, _ := c.note([]uint64{droppedSeq})
	return c.pingLocked(strconv.AppendUint(nil, uint64(mark), 10))
}

// requests writes the apps that wait for the user's answer.
func (w *outbox) requests(rs []presence.Request) error {
	f := framer{prefix: requestsPrefix, max: w.c.b.cfg.MaxFrame}
	write := func(frame []byte, _ int) error { return w.c.writeLocked(frame) }
	for i := range rs {
		if err := f.add(appendRequest(f.begin(), &rs[i]), write); err != nil {
			return err
		}
	}
	return f.flush(write)
}

// emit writes a frame of notifications and, where no ack will confirm them, a ping behind it: its pong says
// that the device has everything up to there. What is urgent has a ping in any case, and a device that does not answer
// it is gone: it must not keep the others, or what wakes it, from being asked until its heartbeat is over.
func (w *outbox) emit(frame []byte, items int) error {
	c := w.c
	if err := c.writeLocked(frame); err != nil {
		return err
	}
	c.b.stats.items.Add(uint64(items))
	mark, ack := c.note(w.seqs[:items])
	w.seqs = append(w.seqs[:0], w.seqs[items:]...)
	if ack && !w.urgent {
		return nil
	}
	var payload []byte
	if !ack {
		payload = strconv.AppendUint(nil, uint64(mark), 10)
	}
	if w.urgent {
		w.urgent = false
		c.b.table.expect(c, c.b.tick.Load(), c.b.patience)
	}
	return c.pingLocked(payload)
}

// note counts items that were written and, but for ack mode, keeps them until a pong confirms them. mark
// names the last of them in a ping.
func (c *conn) note(seqs []uint64) (mark uint32, ack bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent += uint32(len(seqs))
	if !c.ack {
		d := c.debt()
		d.open = append(d.open, seqs...)
	}
	return c.sent, c.ack
}

// full reports whether so many items wait for their pong that no more are sent.
func (c *conn) full() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.debts != nil && len(c.debts.open) >= maxOpen
}
