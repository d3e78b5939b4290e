package wsbridge

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/presence/errno"
)

// channel is what a conn has beside where an app is on the other side: a link in place of a session. Reader,
// writer, limits and liveness are those of a device. A goroutine of its own waits for the link, so that the writer
// need not.
type channel struct {
	c       *conn                         // immutable, as are id, gone and address
	id      string                        // of the app, as the URL has it; it may be anything
	gone    chan struct{}                 // closed by the reader when it leaves
	address string                        // of the peer
	link    atomic.Pointer[presence.Link] // set once, by the reader, with wmu held

	out gate // what stands in front of the socket; used by who holds wmu, and by the library

	asked   uint64        // guarded by wmu: number of the last notice that has a ping behind it
	arrived atomic.Uint64 // number of the last notice that has arrived, as a pong said
	told    uint64        // owned by the writer: up to here the link knows

	mail mail
}

// desk is what a writer works with.
type desk struct {
	updates []presence.Update
	buf     []byte // frames
}

const (
	flushAt  = 64 << 10  // bytes of frames after which they are written
	keepDesk = 256 << 10 // bytes of a buffer that is used again
)

// channels are the apps that are connected, for those who look for one.
type channels struct {
	mu  sync.Mutex
	all map[*channel]struct{} // guarded by mu
}

func (cs *channels) enter(ch *channel) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.all == nil {
		cs.all = make(map[*channel]struct{})
	}
	cs.all[ch] = struct{}{}
}

func (cs *channels) leave(ch *channel) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.all, ch)
}

// of returns the app's.
func (cs *channels) of(app string) (list []*channel) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for ch := range cs.all {
		if ch.id == app {
			list = append(list, ch)
		}
	}
	return list
}

// gate is the way out of an app's socket, which two use: the library, and the writer of many frames at once. It
// sees to it that nothing follows a close frame, also one that the library answers with (RFC 6455 §5.5.1).
type gate struct {
	*socket

	mu   sync.Mutex
	shut bool // guarded by mu: a close frame went out
}

// Write is for the library, which writes a control frame as a whole.
func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(p) >= 2 && p[0] == 0x88 && int(p[1]) == len(p)-2 {
		g.shut = true
	}
	return g.Conn.Write(p)
}

// writeFramesLocked sends count frames that openFrame and closeFrame made, in one write. wmu is held.
func (g *gate) writeFramesLocked(frames []byte, count int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended || g.shut {
		return net.ErrClosed
	}
	g.b.stats.framesOut.Add(uint64(count))
	g.SetWriteDeadline(g.b.deadline())
	_, err := g.Conn.Write(frames)
	return err
}

// identify links the app and answers. The answer comes before the snapshot: the writer needs wmu.
func (ch *channel) identify(r *request) error {
	c := ch.c
	if !ch.accepts(r.key) {
		return ch.wrongKey()
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.ended { // Shutdown was faster
		return &Error{Errno: errno.GoingAway}
	}
	l, err := c.b.cfg.Hub.Link(ch.id, presence.SocketLink)
	if errors.Is(err, presence.ErrConflict) || errors.Is(err, presence.ErrTooMany) {
		c.b.nudge(ch.id)
	}
	if err != nil {
		return coreError(err)
	}
	ch.link.Store(l)
	l.SetAddress(ch.address)
	c.b.apps.enter(ch)
	c.b.stats.apps.Add(1)
	if !ch.accepts(r.key) { // changed in between
		return &Error{Errno: errno.Invalid}
	}
	c.SetReadDeadline(time.Time{})
	c.b.table.watch(c, fixedBeat(c.b.ticks(c.b.cfg.Heartbeat)))
	if err := c.writeLocked(appendOK(nil, r, nil)); err != nil {
		return err
	}
	c.b.spawn(ch.watch)
	return nil
}

// wrongKey is the answer to one. It is quick to check, so a good one is heard whatever failed at its address.
func (ch *channel) wrongKey() error {
	c, why := ch.c, errors.New("the key of an app")
	if wait, ok := c.b.cfg.Attempts.Allow(c.from.addr()); !ok {
		return c.tooMany(wait)
	}
	c.b.cfg.Attempts.Refused(c.from.addr(), &identity.Error{Kind: identity.Invalid, Cause: why})
	return &Error{Errno: errno.Invalid, Cause: why}
}

// nudge pings an app's sockets: one that is dead gives way to the next that comes.
func (b *Bridge) nudge(app string) {
	for _, ch := range b.apps.of(app) {
		b.table.nudge(ch.c, b.tick.Load(), b.patience)
		ch.c.kick()
	}
}

// accepts checks a key, against the app's and the one before it where that is still good. An app that does not exist,
// a disabled one and one without a key take the same way, and as long, as a wrong key.
func (ch *channel) accepts(key string) bool {
	b := ch.c.b
	app, known := b.cfg.Hub.App(ch.id)
	known = known && !app.Disabled
	good := false
	for _, want := range app.APIKeys(b.cfg.Now()) {
		real := known && want != ""
		if !real {
			want = b.decoy
		}
		same := sameSecret(key, want)
		good = good || same && real
	}
	return good
}

// sameSecret compares in a time that depends on neither's content.
func sameSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

// watch starts the writer whenever the link has something, until the conn is gone.
func (ch *channel) watch() {
	wake := ch.link.Load().Wake()
	for {
		select {
		case <-wake:
			ch.c.kick()
		case <-ch.gone:
			return
		}
	}
}

// leave ends the link. It is called by the reader, once.
func (ch *channel) leave() {
	close(ch.gone)
	if l := ch.link.Load(); l != nil {
		l.Close()
		ch.c.b.apps.leave(ch)
		ch.c.b.stats.apps.Add(-1)
	}
}

// refused notes an error for the app's developer. What a stranger does is not the app's.
func (ch *channel) refused(e *Error) {
	if l := ch.link.Load(); l != nil && e.Errno != errno.Replaced && e.Errno != errno.GoingAway {
		l.Refused("errno "+strconv.Itoa(int(e.Errno)), strings.TrimSuffix(e.Errno.String()+": "+e.Detail, ": "))
	}
}

// carryOut does what an app asks for, and answers it.
func (ch *channel) carryOut(r *request) error {
	answer, freed := []byte("{}"), false
	switch r.kind {
	case authFrame: // once more
		if !ch.accepts(r.key) {
			return &Error{Errno: errno.Invalid}
		}
		answer = appendOK(nil, r, nil)
	case ackFrame:
		freed = ch.confirm(r.refs)
		answer = appendOK(nil, r, nil)
	case notifyFrame:
		size, err := ch.notify(r.notes)
		if err != nil {
			return coreError(err)
		}
		answer = appendQueued(nil, r, size)
	}
	if freed {
		defer ch.c.kick()
	}
	ch.c.wmu.Lock()
	defer ch.c.wmu.Unlock()
	return ch.c.writeLocked(answer)
}

// notify hands notifications on, all or none, and waits until they are accepted. It returns how many wait for the
// last one's user then.
func (ch *channel) notify(notes []presence.Addressed) (size int, err error) {
	l := ch.link.Load()
	for i := range notes {
		n := &notes[i]
		n.From = l.App().Component + n.From
		if n.Source == "" {
			n.Source = l.App().Name
		}
	}
	d, err := l.NotifyAll(notes)
	if err != nil {
		return 0, err
	}
	if err := d.Wait(); err != nil {
		return 0, err
	}
	return d.Waiting()
}

// confirm takes an ack: what it names is removed. freed: others may go now.
func (ch *channel) confirm(refs []string) (freed bool) {
	ids, freed := ch.mail.ack(refs)
	ch.link.Load().Delivered(ids)
	return freed
}

// pongTo reports whether the pong to the ping behind notice mark is news. The link is told by the writer.
func (ch *channel) pongTo(mark uint32) bool {
	old := ch.arrived.Load()
	news := old&^(1<<32-1) | uint64(mark)
	if news <= old {
		return false
	}
	ch.arrived.Store(news)
	return true
}

// drain does all there is to write to the app.
func (ch *channel) drain() (err error) {
	l := ch.link.Load()
	if l == nil {
		return nil
	}
	if up := ch.arrived.Load(); up > ch.told {
		ch.told = up
		if err := l.Told(up); err != nil {
			ch.c.log(coreError(err)) // it is told again with the next connection
		}
	}
	d := ch.c.b.desks.Get().(*desk)
	defer func() {
		clear(d.updates)
		if cap(d.buf) <= keepDesk {
			ch.c.b.desks.Put(d)
		}
	}()
	for more := true; more && err == nil; {
		more, err = ch.batch(l, d)
	}
	return err
}

// batch writes what there is, as much as goes into one write. more: there may be more.
func (ch *channel) batch(l *presence.Link, d *desk) (more bool, err error) {
	c := ch.c
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.ended { // the reader is taking the conn down
		return false, nil
	}
	if c.flags.And(^flagPing)&flagPing != 0 {
		c.b.stats.pings.Add(1)
		if err := c.pingLocked(nil); err != nil {
			return false, err
		}
	}
	if r := l.Reconnect(); r != nil {
		if err := c.writeLocked(appendReconnect(nil, r)); err != nil {
			return false, err
		}
	}
	ended := l.Ended() // before Take: behind an end there is nothing new
	if more, err = ch.updates(l, d); err != nil || more {
		return more, err
	}
	if ended != presence.Alive {
		c.finishLocked(c.b.dated(endError(ended)).last(nil, false))
		c.interrupt()
	}
	return false, nil
}

// updates writes what the link has to tell, and a ping behind notices: they are kept until its pong says that they
// have arrived. more: there may be more. wmu is held.
func (ch *channel) updates(l *presence.Link, d *desk) (more bool, err error) {
	var frames int
	var last uint64 // notice
	d.buf = d.buf[:0]
	take := func(u *presence.Update) {
		if b, ok := ch.append(d.buf, l.App(), u); ok {
			d.buf = b
			frames++
		}
		if u.Kind == presence.Unsubscribed {
			last = max(last, u.ID)
		}
	}
	for _, u := range ch.mail.released() {
		take(&u)
	}
	for more = true; more && len(d.buf) < flushAt; {
		n := l.Take(d.updates)
		for i := range n {
			take(&d.updates[i])
		}
		more = n > 0
	}
	if frames == 0 {
		return more, nil
	}
	ch.c.b.stats.updates.Add(uint64(frames))
	if err := ch.out.writeFramesLocked(d.buf, frames); err != nil || last <= ch.asked {
		return more, err
	}
	ch.asked = last
	return more, ch.c.pingLocked(strconv.AppendUint(nil, uint64(uint32(last)), 10))
}

// append appends the frame that tells of an update; false: there is none, now or ever.
func (ch *channel) append(b []byte, app *presence.App, u *presence.Update) ([]byte, bool) {
	b, at := openFrame(b)
	switch u.Kind {
	case presence.Presence:
		b = appendStatus(b, u)
	case presence.Unsubscribed:
		ch.link.Load().Delivered(ch.mail.forget(u.Local))
		b = appendUnsubscribed(b, u)
	case presence.Receipt:
		b = appendReceipt(b, u, app)
	case presence.FromDevice:
		if !ch.mail.offer(u) {
			return b[:at], false
		}
		b = appendMessage(b, u)
	default:
		return b[:at], false
	}
	return closeFrame(b, at), true
}
