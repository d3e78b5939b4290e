package wsbridge

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"presenced/presence"
	"presenced/presence/errno"
)

// conn is a device's connection, or an app's: then it has a channel, and no session ever. Until it is identified
// its frames go to greet, then to handle. It is small because most of them are idle devices: 144 bytes.
//
// Its reader is a goroutine that reads one frame, handles it and starts the next reader: what handling needs
// of stack is given back, and who waits holds only what waiting needs.
type conn struct {
	socket

	from    address                          // immutable
	app     *channel                         // immutable; nil: a device's
	session atomic.Pointer[presence.Session] // set once, by the reader, with wmu held
	limits  bucket                           // owned by the reader
	serial  uint32                           // immutable
	proof   uint32                           // owned by the reader: hash of the assertion that was verified last
	pulse   pulse

	flags atomic.Uint32
	sent  uint32     // guarded by mu: items written; in ack mode, less one for each ack
	mu    sync.Mutex // taken behind wmu, and held while confirming
	debts *debts     // guarded by mu; nil: none
}

const (
	flagRunning  uint32 = 1 << iota // a writer is there
	flagAgain                       // it has to look once more
	flagPing                        // it has to send a ping
	flagRetry                       // the store failed: the sweep has to start it
	flagHeld                        // the heartbeat has held
	flagDropping                    // a ping with droppedPing went out
	flagDropped                     // and its pong came
)

// A frame that tells what was discarded is known by a pong to have arrived: as an item of this number, or in ack mode,
// where items wait for none, by a ping of its own.
const (
	droppedSeq  = 0
	droppedPing = "dropped"
)

// Bounds of a writer.
const (
	batchItems = 64  // taken from the session at once
	maxOpen    = 512 // items written and not confirmed by a pong; more wait
)

// wait is a conn's reader: it waits for a frame, and nearly always that is all it does. It stands at the
// bottom of a fresh stack with as little above it as can be, so that waiting fits into the smallest stack
// there is (2 KB); BenchmarkIdleDevice shows when it no longer does.
func (c *conn) wait() {
	frame, err := c.next()
	c.arrived(frame, err)
}

// arrived handles what the reader waited for and starts the next reader, or takes the conn down.
func (c *conn) arrived(frame io.Reader, err error) {
	handle := c.handle
	if !c.identified() {
		handle = c.greet
		if isTimeout(err) {
			err = (&Error{Errno: errno.NotIdentified, Detail: "too late"}).last(nil, true)
		}
	}
	c.confirmArrived()
	if err == nil {
		err = c.admit(frame, handle)
	}
	if err != nil {
		c.leave(err)
		return
	}
	go c.wait()
}

// admit receives a frame, at once but for one by which a device may identify itself: that waits for its moment, or the
// device for its own.
func (c *conn) admit(frame io.Reader, handle func([]byte) error) error {
	if c.app != nil || c.identified() {
		return c.receive(frame, handle)
	}
	if c.b.cfg.Hub.Draining() != nil {
		return c.receive(frame, c.sendAway(&Error{Errno: errno.GoingAway}))
	}
	wait, ok := c.b.door.ask(c.from, c.b.elapsed())
	if !ok {
		c.b.stats.sentAway.Add(1)
		return c.receive(frame, c.sendAway(&Error{Errno: errno.SlowDown, Retry: wait, Close: closeSlowDown}))
	}
	c.b.stats.waiting.Add(1)
	defer c.b.stats.waiting.Add(-1)
	done, ok := c.b.door.pass(wait)
	if !ok {
		return c.receive(frame, c.sendAway(&Error{Errno: errno.GoingAway}))
	}
	defer done()
	if wait > 0 {
		c.readUntil(time.Now().Add(c.b.cfg.IdentifyTimeout)) // it was us who took the time
	}
	return c.receive(frame, handle)
}

// readUntil sets the deadline for reading, unless somebody is ending the conn.
func (c *conn) readUntil(t time.Time) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !c.ended {
		c.SetReadDeadline(t)
	}
}

// sendAway handles the first frame of a device that is not let in, whatever the frame says.
func (c *conn) sendAway(e *Error) func(frame []byte) error {
	return func(frame []byte) error {
		r, bad := c.decode(frame)
		if bad != nil {
			return c.refuse(&r, bad.asFirst(), true)
		}
		return c.settle(&r, e, true)
	}
}

// identified reports whether the peer has shown who it is.
func (c *conn) identified() bool {
	if c.app != nil {
		return c.app.link.Load() != nil
	}
	return c.session.Load() != nil
}

// receive reads a frame and handles it.
func (c *conn) receive(r io.Reader, handle func(frame []byte) error) error {
	buf := c.b.buffers.Get().(*[]byte)
	defer c.b.buffers.Put(buf)
	frame, err := c.read(r, *buf)
	if err != nil {
		return err
	}
	return handle(frame)
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// greet handles a frame of a device that is not identified. It returns an error only where the connection
// is to end.
func (c *conn) greet(frame []byte) error {
	r, e := c.decode(frame)
	if e == nil && !r.identifies() {
		e = &Error{Errno: errno.NotIdentified}
	}
	if e != nil {
		return c.refuse(&r, e.asFirst(), true)
	}
	return c.settle(&r, c.identify(&r), true)
}

// handle handles a frame of an identified device. It returns an error only where the connection is to end.
func (c *conn) handle(frame []byte) error {
	r, e := c.decode(frame)
	if s := c.session.Load(); s != nil && r.kind != ackFrame { // an ack is no reason to wake up for more
		defer s.Awake()
	}
	if e != nil {
		return c.refuse(&r, e, false)
	}
	return c.settle(&r, c.carryOut(&r), false)
}

// settle answers what came of a request, if it was refused. Other errors are the connection's own.
func (c *conn) settle(r *request, err error, first bool) error {
	var e *Error
	switch {
	case errors.Is(err, presence.ErrEnded):
		return nil // the writer says why, and ends the connection
	case errors.As(err, &e):
		return c.refuse(r, c.b.dated(e), first)
	}
	return err
}

// refuse answers a request that was not carried out; first: by a device that is not identified. It returns
// last words where the connection is to end.
func (c *conn) refuse(r *request, e *Error, first bool) error {
	if e.closes(first) != 0 {
		return e.last(r, first)
	}
	if first && e.Close != stayOpen {
		// Our own trouble: the device may try again, for as long as it was asked to wait and a bit.
		c.SetReadDeadline(time.Now().Add(e.Retry + c.b.cfg.IdentifyTimeout))
	}
	c.log(e)
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.writeLocked(appendKO(nil, r, e))
}

// decode reads a frame and takes what it costs from the socket's limits.
func (c *conn) decode(frame []byte) (request, *Error) {
	c.b.stats.framesIn.Add(1)
	decode := decodeFrame
	if c.app != nil {
		decode = decodeAppFrame
	}
	r, e := decode(frame)
	if e == nil && r.free() {
		return r, c.bear(r.kind == ackFrame && c.owed())
	}
	if wait, ok := c.rates().pay(&c.limits, c.b.elapsed()); !ok {
		e = &Error{Errno: errno.SlowDown, Retry: wait}
		if !c.rates().bear(&c.limits, c.b.elapsed(), true) {
			e.Close = closeSlowDown
		}
	}
	return r, e
}

// rates are the limits of the conn's kind.
func (c *conn) rates() *rates {
	if c.app != nil {
		return &c.b.appRates
	}
	return &c.b.rates
}

// bear takes a free frame from the socket's patience, unless it was owed to us.
func (c *conn) bear(owed bool) *Error {
	if owed || c.rates().bear(&c.limits, c.b.elapsed(), false) {
		return nil
	}
	return &Error{Errno: errno.SlowDown, Retry: time.Second, Close: closeSlowDown}
}

// owed reports whether an ack answers a notification: there is one ack for each item that was sent.
func (c *conn) owed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ack || c.sent == 0 {
		return false
	}
	c.sent--
	return true
}

// carryOut does what an identified peer asks for, and answers it.
func (c *conn) carryOut(r *request) error {
	if c.app != nil {
		return c.app.carryOut(r)
	}
	switch r.kind {
	case sendFrame:
		if err := c.session.Load().Send(r.app, r.ref, r.data, r.ttl); err != nil {
			return coreError(err)
		}
	case consentFrame:
		if err := c.answer(r); err != nil {
			return err
		}
	case subscribeFrame:
		if err := c.session.Load().Subscribe(r.app, r.topic); err != nil {
			return coreError(err)
		}
	case unsubscribeFrame:
		if err := c.session.Load().Unsubscribe(r.app, r.topic); err != nil {
			return coreError(err)
		}
	case statusFrame, helloFrame:
		if err := c.b.checkPush(r); err != nil {
			return err
		}
		if err := c.reverify(r); err != nil {
			return err
		}
	case ackFrame:
		c.confirmAcked(r.seqs)
	case quietFrame:
		c.session.Load().SetQuiet(r.quiet)
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.carryOutLocked(r)
}

// answer takes the user's word about an app that asked, or that she allowed.
func (c *conn) answer(r *request) error {
	a := *r.answer
	a.Email, a.App = c.session.Load().Email(), r.app
	if err := c.b.cfg.Hub.Answer(a, presence.ByUser); err != nil {
		return coreError(err)
	}
	return nil
}

// carryOutLocked takes over a hello's options, publishes a status, and answers. wmu is held.
func (c *conn) carryOutLocked(r *request) error {
	if err := c.keepPush(r); err != nil {
		return err
	}
	if r.hasStatus {
		if err := c.session.Load().Publish(r.status, c.idle(r)); err != nil {
			return coreError(err)
		}
	}
	var g *greeting
	if r.kind == helloFrame {
		c.setMode(r.ack)
		c.session.Load().SetQuiet(r.quiet)
		c.b.table.watch(c, c.b.startBeat(c.place(), r))
		g = c.greeting(r.resumable)
		if err := c.addresses(g, r.apps); err != nil {
			return err
		}
	}
	if r.kind == heartbeatFrame {
		c.held()
		return c.writeLocked([]byte("{}"))
	}
	return c.writeLocked(appendOK(nil, r, g))
}

// idle is since when the person is idle; a device whose clock is ahead means now.
func (c *conn) idle(r *request) time.Time {
	if now := c.b.cfg.Now(); r.idleSince.After(now) {
		return now
	}
	return r.idleSince
}
