package presence

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Upstream is a message from a device to an app.
type Upstream struct {
	Seq     uint64 // given by the store, growing
	Email   string
	Device  string
	App     string
	PUID    string // of the grant it came through
	ByEmail bool   // the app knows the user by e-mail
	Tag     string // the device's name for the app
	Ref     string // the device's id for it
	Data    []byte // one JSON object
	Time    time.Time
	Expires time.Time
}

// Upstreams keeps messages for apps that are away, in order for each app.
type Upstreams interface {
	// PutUpstream keeps m durably under the next number, which it writes to m.Seq. ErrFull: max of the same
	// user wait for the app.
	PutUpstream(m *Upstream, max int) error
	// UpstreamOf returns those of the app with Seq > after that have not expired, in order, at most max.
	UpstreamOf(app string, after uint64, max int) ([]Upstream, error)
	// RemoveUpstream removes those that are there; the commit need not be waited for.
	RemoveUpstream(app string, seqs []uint64) *Commit
	// PurgeUpstream removes all of the user to app ("": to any).
	PurgeUpstream(email, app string) error
}

const (
	maxUnacked    = 1024 // messages that a link has handed out and not heard of
	upstreamBatch = 64   // read at once
	freshFor      = 2 * time.Second
)

// Send passes a message to an app that the user granted. It returns when the message is on disk, or with
// TTL 0 was handed to whoever is connected for the app; negative: the default. ErrStranger: there is no
// such app for this user; ErrFull, ErrTooLarge, ErrTTL, ErrBadValue, ErrStorage.
func (s *Session) Send(app, ref string, data []byte, ttl time.Duration) error {
	h, email := s.hub, s.dev.user.email
	if ttl < 0 {
		ttl = h.cfg.Limits.TTLDefault
	}
	switch {
	case len(data) > h.cfg.Limits.NotificationBytes:
		return ErrTooLarge
	case ttl > h.cfg.Limits.TTLMax:
		return ErrTTL
	case len(ref) > maxRef:
		return fmt.Errorf("%w: id is too long", ErrBadValue)
	}
	st := h.stripe(email)
	st.RLock() // no revoke comes between the grant and the message
	defer st.RUnlock()
	g, ok, err := h.cfg.Store.Grant(email, app)
	if err != nil {
		return storage(err)
	}
	now := h.cfg.Now().UTC()
	a := h.apps.get(app)
	if !ok || a == nil || g.Ended(now) {
		return ErrStranger
	}
	m := &Upstream{Email: email, Device: s.dev.id, App: app, PUID: g.PUID, ByEmail: g.Address == ByEmail,
		Tag: h.tagUnder(&g, s.dev.id), Ref: ref, Data: data, Time: now, Expires: now.Add(ttl)}
	if ttl == 0 {
		h.passOn(a, &g, m)
		return nil
	}
	if err := h.cfg.Store.PutUpstream(m, h.cfg.Limits.UpstreamPerApp); err != nil {
		return upstreamError(err)
	}
	h.noteSent(m.Seq)
	if l := a.carrier(email); l != nil {
		l.mail.Store(true)
		l.ring()
	}
	return nil
}

// noteSent notes the lowest number that this hub has given.
func (h *Hub) noteSent(seq uint64) {
	for {
		first := h.firstSent.Load()
		if first <= seq || h.firstSent.CompareAndSwap(first, seq) {
			return
		}
	}
}

// passOn hands a message with TTL 0 to the app if it is there, and else forgets it.
func (h *Hub) passOn(a *app, stored *Grant, m *Upstream) {
	l := a.carrier(m.Email)
	if l == nil {
		return
	}
	sh := h.shard(m.Email)
	sh.mu.Lock()
	g := h.grantLikeLocked(sh, a, stored)
	sh.mu.Unlock()
	l.pushLetter(letter{g, Update{Kind: FromDevice, Tag: m.Tag, Ref: m.Ref, Data: m.Data, Since: m.Time}})
}

// takeMessages hands out messages from the store for which this link is the carrier, and which no other open link has
// handed out. What another has handed out before it ended comes again: nobody said that it arrived.
func (l *Link) takeMessages(dst []Update) (n int) {
	if l.recount.Swap(false) {
		l.fetched, l.cursor, l.anew = nil, 0, true
		l.mail.Store(true)
	}
	for n < len(dst) && l.room() {
		if len(l.fetched) == 0 {
			if !l.fetch() {
				break
			}
			continue
		}
		m := l.fetched[0]
		l.fetched = l.fetched[1:]
		now := l.hub.cfg.Now() // it may have waited here for room
		if !m.Expires.After(now) || l.app.carrier(m.Email) != l || l.app.othersHave(l, m.Seq) || !l.handOut(m.Seq) {
			continue
		}
		u := &dst[n]
		n++
		*u = Update{Kind: FromDevice, ByEmail: m.ByEmail, Local: m.PUID, Tag: m.Tag, Ref: m.Ref, Data: m.Data,
			ID: m.Seq, Since: m.Time, Delayed: now.Sub(m.Time) > freshFor,
			Again: l.app.handed.add(m.Seq) || m.Seq < l.hub.firstSent.Load()}
		if m.ByEmail {
			u.Local = m.Email
		}
	}
	return n
}

// fetch reads the next messages; false: there are none, or the store does not answer.
func (l *Link) fetch() bool {
	if !l.mail.Swap(false) {
		return false
	}
	// What another link has handed out is either noted there still when that is looked at, or it was removed before
	// this reads.
	l.app.mail.Lock()
	defer l.app.mail.Unlock()
	if c := l.app.removing; c != nil && (l.anew || len(l.app.links()) > 1) {
		_ = c.Wait() // if it failed they are there still, and come again
	}
	l.anew = false
	ms, err := l.hub.cfg.Store.UpstreamOf(l.app.id, l.cursor, upstreamBatch)
	if err != nil || len(ms) == 0 {
		return false // after a failure the next message, or link, tries again
	}
	l.cursor = ms[len(ms)-1].Seq
	l.mail.Store(true)
	// Those that are handed out are left out now: by the time of their turn they may be acknowledged.
	l.fetched = slices.DeleteFunc(ms, func(m Upstream) bool { return l.has(m.Seq) || l.app.othersHave(l, m.Seq) })
	return true
}

// has reports whether the link has handed the message out and not heard of it.
func (l *Link) has(seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, has := l.unacked[seq]
	return has
}

// Waits reports whether a message that was handed out, and that its owner has not told the app, is still to be told: it
// has neither expired nor was it removed. Where the store does not answer it is.
func (l *Link) Waits(id uint64) bool {
	ms, err := l.hub.cfg.Store.UpstreamOf(l.app.id, id-1, 1)
	return err != nil || len(ms) > 0 && ms[0].Seq == id
}

// room reports whether another message may be handed out before those before it are acknowledged.
func (l *Link) room() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.unacked) < maxUnacked
}

// othersHave reports whether another open link has handed the message out and not heard of it: if that one ends it
// comes again.
func (a *app) othersHave(l *Link, seq uint64) bool {
	return slices.ContainsFunc(a.links(), func(o *Link) bool {
		return o != l && o.has(seq)
	})
}

// handOut notes a message as handed out; false: it was already.
func (l *Link) handOut(seq uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, again := l.unacked[seq]; again {
		return false
	}
	if l.unacked == nil {
		l.unacked = make(map[uint64]struct{})
	}
	l.unacked[seq] = struct{}{}
	return true
}

// handedOut remembers which messages an app has been handed by any of its connections, so that one which comes again
// is marked. It forgets what the app acknowledged, and in the end those that expired or whose grant ended: of the two
// halves the older is dropped when the newer is full. What a hub before this one handed out nobody knows, so all
// messages from before its start count as handed out.
type handedOut struct {
	mu         sync.Mutex
	newer, old map[uint64]struct{} // guarded by mu: Seq, at most maxHanded each
}

const maxHanded = 1 << 16

// add reports whether it was there already.
func (o *handedOut) add(seq uint64) (again bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, a := o.newer[seq]
	_, b := o.old[seq]
	if len(o.newer) >= maxHanded {
		o.old, o.newer = o.newer, nil
	}
	if o.newer == nil {
		o.newer = make(map[uint64]struct{})
	}
	o.newer[seq] = struct{}{}
	return a || b
}

func (o *handedOut) remove(seqs []uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, seq := range seqs {
		delete(o.newer, seq)
		delete(o.old, seq)
	}
}

// Delivered says that the app has the messages with these Update.IDs: they are removed. It does not wait
// for the disk.
func (l *Link) Delivered(ids []uint64) {
	if len(ids) == 0 {
		return
	}
	l.mu.Lock()
	wasFull := len(l.unacked) >= maxUnacked
	ids = slices.DeleteFunc(slices.Clone(ids), func(id uint64) bool {
		_, mine := l.unacked[id]
		return !mine
	})
	l.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	l.app.mail.Lock()
	l.app.removing = l.hub.cfg.Store.RemoveUpstream(l.app.id, ids)
	l.app.handed.remove(ids)
	l.mu.Lock() // only now, so that a recount does not hand them out again
	for _, id := range ids {
		delete(l.unacked, id)
	}
	l.mu.Unlock()
	l.app.mail.Unlock()
	if wasFull {
		l.ring()
	}
}

// upstreamError keeps refusals and wraps the rest.
func upstreamError(err error) error {
	if errors.Is(err, ErrFull) {
		return err
	}
	return storage(err)
}
