package wsbridge

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"presenced/identity"
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

// debts are what is owed between the two sides: they exist for a moment only.
type debts struct {
	open    []uint64 // Seq of the last items written, not confirmed; empty in ack mode
	arrived int      // so many of them have arrived, as a pong said
	pinged  bool     // the peer wants a pong
	payload string   // with this
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

// identify verifies the assertion, attaches the device and answers. The answer comes before whatever waits
// for the device: the session's writer needs wmu.
func (c *conn) identify(r *request) error {
	if c.app != nil {
		return c.app.identify(r)
	}
	a := presence.Attach{Email: r.email, Device: r.device, Ticket: r.ticket, Ready: c.b.ready, Tag: c}
	if a.Device == "" {
		a.Device = presence.DefaultDevice
	}
	if err := c.b.checkPush(r); err != nil {
		return err
	}
	err := error(presence.ErrTicket)
	if r.ticket != "" {
		err = c.attach(r, a)
	}
	if !errors.Is(err, presence.ErrTicket) || r.assertion == "" {
		return err
	}
	id, e := c.verify(a.Email, a.Device, r.assertion)
	if e != nil {
		return e
	}
	a.Ticket, a.Credential, a.Expires = "", id.Credential, id.Expires
	return c.attach(r, a)
}

// attach makes the conn the device's, and answers.
func (c *conn) attach(r *request, a presence.Attach) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.ended { // Shutdown was faster
		return &Error{Errno: errno.GoingAway}
	}
	older := c.b.cfg.Hub.Attached(a.Email, a.Device)
	s, err := c.b.cfg.Hub.Attach(a)
	if err != nil {
		return coreError(err)
	}
	c.session.Store(s)
	if a.Ticket == "" {
		c.proof = c.b.hash(r.assertion)
	}
	c.b.noteDeaf(c, older)
	c.b.stats.devices.Add(1)
	c.SetReadDeadline(time.Time{})
	c.b.table.watch(c, c.b.startBeat(c.place(), r))
	return c.carryOutLocked(r)
}

// verify asks who the assertion speaks for, and wants it to be this e-mail on this device. A token of
// another device is as good as none. From an address from which too much was refused lately, only what is quick to
// check is heard.
func (c *conn) verify(email, device, assertion string) (identity.Identity, *Error) {
	verifier, wait := c.b.cfg.Attempts.Ask(c.from.addr(), c.b.cfg.Verifier)
	ctx, cancel := context.WithTimeout(c.b.ctx, c.b.cfg.IdentifyTimeout)
	defer cancel()
	id, err := verifier.Verify(ctx, email, assertion)
	switch {
	case err != nil:
	case id.Email != email:
		err = &identity.Error{Kind: identity.Email}
	case id.Device != "" && id.Device != device:
		err = &identity.Error{Kind: identity.Invalid, Cause: errors.New("the token is of another device")}
	default:
		return id, nil
	}
	if wait > 0 {
		return identity.Identity{}, c.tooMany(wait)
	}
	c.b.cfg.Attempts.Refused(c.from.addr(), err)
	return id, identityError(err)
}

// tooMany refuses an address to wait; where it is not identified, that ends the socket, so that waiting costs
// us nothing.
func (c *conn) tooMany(wait time.Duration) *Error {
	e := &Error{Errno: errno.SlowDown, Retry: wait, Cause: errors.New("too many failed attempts from this address")}
	if c.session.Load() == nil {
		e.Close = closeSlowDown
	}
	return e
}

// hash is what is kept of an assertion to know it again. 32 bits are enough: a device that found another
// with the same hash would only be taken for itself.
func (b *Bridge) hash(assertion string) uint32 { return uint32(maphash.String(b.seed, assertion)) }

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

// reverify checks that a frame comes from the socket's identity. The assertion that was verified last is
// free; a new one is verified and takes its place.
func (c *conn) reverify(r *request) error {
	s := c.session.Load()
	if r.email != "" && r.email != s.Email() || r.device != "" && r.device != s.Device() {
		return &Error{Errno: errno.OtherIdentity}
	}
	if r.assertion == "" {
		return nil
	}
	proof := c.b.hash(r.assertion)
	if proof == c.proof {
		return nil
	}
	id, e := c.verify(s.Email(), s.Device(), r.assertion)
	if e != nil {
		return e
	}
	if err := s.Renew(id.Credential, id.Expires); err != nil {
		return coreError(err)
	}
	c.proof = proof
	return nil
}

// addresses fills in the device's tokens at those of the apps that the user allows, if any are asked for.
func (c *conn) addresses(g *greeting, apps []string) error {
	if apps == nil {
		return nil
	}
	s := c.session.Load()
	all, err := c.b.cfg.Hub.Addresses(s.Email(), s.Device())
	if err != nil {
		return coreError(err)
	}
	g.addresses = make(map[string]string)
	for _, app := range apps {
		if token, ok := all[app]; ok {
			g.addresses[app] = token
		}
	}
	return nil
}

func (c *conn) greeting(resumable bool) *greeting {
	g := &greeting{
		session:   c.b.sessionID(c.serial),
		device:    c.session.Load().Device(),
		heartbeat: c.b.seconds(c.pulse.load()),
		time:      c.b.cfg.Now(),
		pushKey:   c.b.pushKey(),
	}
	if resumable {
		g.ticket = c.session.Load().Ticket()
	}
	return g
}

// sessionID names a socket, the same at every hello. It is derived because there is no room to keep it.
func (b *Bridge) sessionID(serial uint32) string {
	h := sha256.Sum256(binary.BigEndian.AppendUint32(b.key[:], serial))
	return strings.ToLower(base32.StdEncoding.EncodeToString(h[:10]))
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

// lastWords is what is written before a connection ends.
type lastWords struct {
	e     *Error
	frame []byte // "": none
	code  int
}

func (w *lastWords) Error() string { return w.e.Error() }
func (w *lastWords) Unwrap() error { return w.e }

// last turns an error into the last words of a connection: the reply, and the close that goes with it.
func (e *Error) last(r *request, first bool) *lastWords {
	code := e.closes(first)
	if code == 0 {
		code = closeGoingAway
	}
	return &lastWords{e: e, frame: appendKO(nil, r, e), code: code}
}

// end is for others than the reader: it writes the last words and makes the reader leave.
func (c *conn) end(e *Error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.finishLocked(e.last(nil, !c.identified()))
	c.interrupt()
}

// turnAway ends a conn that came while the bridge was closing and has no reader.
func (c *conn) turnAway() {
	c.wmu.Lock()
	c.finishLocked((&Error{Errno: errno.GoingAway}).last(nil, true))
	c.wmu.Unlock()
	c.hangUp()
}

// expire ends a conn that gave no sign of life within this heartbeat. Where a writer is stuck in it there is nobody to tell.
func (c *conn) expire(silent beat) {
	c.b.died(c, silent)
	if !c.wmu.TryLock() {
		c.Conn.Close()
		return
	}
	defer c.wmu.Unlock()
	c.endLocked(nil, closeTimeout, "no sign of life")
	c.interrupt()
}

// finishLocked writes last words, once. wmu is held.
func (c *conn) finishLocked(w *lastWords) {
	if !c.ended {
		c.log(w.e)
		c.endLocked(w.frame, w.code, w.e.Errno.String())
	}
}

// leave is the end of the reader, and of the conn: the session is closed first, so that what its end means
// to others does not wait for the peer.
func (c *conn) leave(err error) {
	if s := c.session.Load(); s != nil {
		s.Close()
		c.b.stats.devices.Add(-1)
	}
	if c.app != nil {
		c.app.leave()
	}
	c.farewell(err)
	c.b.table.leave(c.slot)
	c.b.from.leave(c.from)
	c.b.stats.sockets.Add(-1)
	c.b.readers.Done()
}

// farewell tells the peer why, if that is possible, and closes the connection.
func (c *conn) farewell(err error) {
	if closedByPeer(err) {
		c.Conn.Close()
		return
	}
	var last *lastWords
	c.wmu.Lock()
	switch {
	case errors.As(err, &last):
		c.finishLocked(last)
	case errors.Is(err, errTooLarge):
		c.finishLocked(errTooLarge.last(nil, false))
	case errors.Is(err, errBinary):
		c.endLocked(nil, closeBinary, "text frames only")
	}
	c.ended = true
	c.wmu.Unlock()
	c.hangUp()
}

// log counts an error and notes it: our own faults loudly, a device's only for who looks for them.
func (c *conn) log(e *Error) {
	c.b.stats.errnos[e.Errno].Add(1)
	level := slog.LevelDebug
	if e.Errno.Ours() {
		level = slog.LevelError
	}
	to, app := "to a device", slog.Attr{}
	if c.app != nil {
		c.app.refused(e)
		to, app = "to an app", slog.String("app", c.app.id)
	}
	c.b.log.Log(context.Background(), level, to, "socket", c.serial, app, "error", e)
}
