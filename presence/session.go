package presence

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// End is why a handle ended; the zero value: it has not.
type End uint8

const (
	Alive       End = iota
	EndReplaced     // a newer connection took its place
	EndKicked       // an administrator or the user disconnected it
	EndExpired      // the credential expired or was revoked
	EndRemoved      // the user or the app is gone, or she was disabled
	EndDisabled     // the app was disabled or its secret changed
	EndDraining     // the server goes away (session)
	EndShutdown     // the server goes away (link)
	EndOverflow     // it did not take what it was given
	EndChanged      // the app's policy for its connections was changed (link)
)

var endNames = [...]string{"alive", "replaced", "kicked", "expired", "removed", "disabled", "draining", "shutdown", "overflow", "changed"}

func (e End) String() string { return endNames[e] }

// Attach describes a device that comes.
type Attach struct {
	Email      string // confirmed, in key form
	Device     string
	Credential string    // opaque; EndCredential matches it
	Expires    time.Time // of the credential; zero: never
	Ticket     string    // in place of these two, what Session.Ticket gave: the new session stands on what the older one did
	Ready      *Ready    // where the session announces that it has something to write
	Tag        any       // the edge's own; the hub does not look at it
}

// Session is the handle of one connected device. Next is for one goroutine at a time; everything else is
// safe for concurrent use.
type Session struct {
	hub        *Hub    // immutable, as are the next five
	dev        *device //
	ready      *Ready
	tag        any
	credential uint64 // its mark. Guarded by the shard
	attached   moment
	expires    moment        // of the credential; 0: never. Guarded by the shard
	cursor     uint64        // owned by Next: the last Seq handed out
	more       *more         // guarded by the shard; nil: nothing of it
	flags      atomic.Uint32 // what Next has to look at
	ended      atomic.Uint32 // an End, written once
	quiet      atomic.Uint32 // a Quiet
	queued     bool          // guarded by ready.mu
}

// more is what few sessions have.
type more struct {
	live    transients
	ticket  ticket    // zero: none. Guarded by the shard
	dropped []Dropped // told and not confirmed. Guarded by the shard
	forget  *Commit   // of what was confirmed of it; nil: nothing was. Guarded by the shard
}

const (
	flagMail uint32 = 1 << iota
	flagReconnect
	flagEnd
	flagRequests
	flagAwake // what waits for a quiet device is told too
)

// transients are the notifications with TTL 0 of one session: they never touch the disk. Guarded by mu.
type transients struct {
	mu      sync.Mutex
	waiting []transient // at most maxTransients, then the oldest goes
	sent    []transient // handed out, not confirmed, without contents; at most maxTransients
}

// transient is a notification with TTL 0 in one session.
type transient struct {
	Notification
	done *atomic.Bool // shared by all sessions that got it: one of them has confirmed
}

const maxTransients = 100

// Attach registers the device and returns its session; an older session of the same device ends with
// EndReplaced, its presence goes on. The new session is on its Ready queue at once, to drain what waits.
// Errors: ErrSockets, ErrCredential, ErrTicket, ErrDraining, ErrBadValue, ErrStorage.
func (h *Hub) Attach(a Attach) (*Session, error) {
	if h.closed.Load() || h.drain.Load() != nil {
		return nil, ErrDraining
	}
	if err := CheckDevice(a.Device); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadValue, err)
	}
	// The stripe is held so that no grant changes between reading it and knowing the user.
	st := h.stripe(a.Email)
	st.RLock()
	defer st.RUnlock()
	now := h.now()
	if a.Ticket != "" && !h.knowsTicket(&a, now) { // before anything is read for a stranger
		return nil, ErrTicket
	}
	s := &Session{hub: h, ready: a.Ready, tag: a.Tag, credential: CredentialMark(a.Credential),
		attached: now, expires: momentOf(a.Expires)}
	isNew, err := h.attach(s, a, now)
	if err != nil {
		return nil, err
	}
	if isNew {
		h.lastCame.Store(h.cfg.Store.PutDevice(a.Email, DeviceRecord{ID: a.Device, Seen: now.time()}))
	}
	s.signal(flagMail | flagRequests | flagAwake)
	return s, nil
}

// attach puts the session in its place. Who is not in memory is read from the store first, without the
// shard's lock; she may come or leave meanwhile. Called under her stripe.
func (h *Hub) attach(s *Session, a Attach, now moment) (isNew bool, err error) {
	sh := h.shard(a.Email)
	var kept stored
	for read := false; ; read = true {
		sh.mu.Lock()
		if read || sh.users[a.Email] != nil {
			isNew, err = h.attachLocked(sh, s, a, kept, now)
			h.unlock(sh)
			return isNew, err
		}
		sh.mu.Unlock()
		if kept, err = h.readUser(a.Email); err != nil {
			return false, err
		}
	}
}

// stored is what the store knows of a user and the core needs while she is there.
type stored struct {
	user   User // the zero one where she is unknown
	grants []Grant
}

func (h *Hub) readUser(email string) (s stored, err error) {
	if s.user, _, err = h.cfg.Store.User(email); err == nil {
		s.grants, err = h.cfg.Store.GrantsOf(email)
	}
	return s, storage(err)
}

// userLocked returns the user, made from what is stored if she was not in memory.
func (h *Hub) userLocked(sh *shard, email string, kept stored, now moment) *user {
	u := sh.users[email]
	if u == nil {
		u = &user{email: email, veil: kept.user.veil(now.time()), barred: kept.user.Disabled}
		for i := range kept.grants {
			if g := h.newGrantLocked(sh, u, &kept.grants[i], now); g != nil {
				u.grants = append(u.grants, g)
			}
		}
		sh.users[email] = u
	}
	return u
}

func (h *Hub) attachLocked(sh *shard, s *Session, a Attach, kept stored, now moment) (isNew bool, err error) {
	if h.closed.Load() { // Close has passed here already, or will find the session
		return false, ErrDraining
	}
	if a.Ticket != "" {
		old, ok := sh.redeemLocked(&a, now)
		if !ok {
			return false, ErrTicket
		}
		s.credential, s.expires, s.more = old.credential, old.expires, &more{ticket: old.ticket}
	}
	if h.revoked.has(s.credential) { // the same for EndCredential
		return false, ErrCredential
	}
	if u := sh.users[a.Email]; kept.user.Disabled || u != nil && u.barred {
		return false, ErrCredential
	}
	u := h.userLocked(sh, a.Email, kept, now)
	d := u.device(a.Device)
	all, attached := u.countDevices()
	if (d == nil || d.session == nil) && attached >= h.cfg.Limits.SocketsPerUser {
		return false, ErrSockets
	}
	if d == nil {
		if all >= h.cfg.Limits.DevicesPerUser {
			h.makeRoomLocked(sh, u, now)
		}
		isNew = true
		d = &device{id: a.Device, user: u, next: u.devices}
		d.word.Store(pack(Absent, Offline, 0))
		u.devices = d
	}
	isNew = isNew || d.phase() == Absent // it is in memory for links only: who asks when it was last here must hear of now
	if old := d.session; old != nil {
		old.finish(EndReplaced)
	}
	s.dev, d.session = d, s
	sh.lost.forget(a.Email, func(t *lostSession) bool { return t.device == a.Device })
	h.stepLocked(sh, d, Input{Kind: InputAttach}, now)
	return isNew, nil
}

// makeRoomLocked forgets a device of the user that is not attached: she has as many as are kept. What links
// have still to be told of it stays with them, and counts against them, not against her.
func (h *Hub) makeRoomLocked(sh *shard, u *user, now moment) {
	var last *device // the list has the newest first
	for d := u.devices; d != nil; d = d.next {
		if d.session == nil {
			last = d
		}
	}
	if last == nil {
		return
	}
	h.stepLocked(sh, last, Input{Kind: InputEnd}, now)
	for _, v := range last.views {
		v.link.keepOrphan()
	}
	u.unlinkDevice(last)
	sh.users[u.email] = u // the step may have released both
}

// Publish sets the device's status; idle is since when its person is idle, zero if she is not. ErrEnded.
func (s *Session) Publish(st Status, idle time.Time) error {
	h, now := s.hub, s.hub.now()
	sh := h.shard(s.dev.user.email)
	sh.mu.Lock()
	defer h.unlock(sh)
	if s.dev.session != s {
		return ErrEnded
	}
	h.published.Add(1)
	h.stepLocked(sh, s.dev, Input{Kind: InputPublish, Status: st, Idle: momentOf(idle)}, now)
	s.tellIfLoud()
	return nil
}

// Renew changes when the session's credential ends, after a new one was verified. ErrEnded, ErrCredential.
func (s *Session) Renew(credential string, expires time.Time) error {
	h := s.hub
	sh := h.shard(s.dev.user.email)
	sh.mu.Lock()
	defer h.unlock(sh)
	if s.dev.session != s {
		return ErrEnded
	}
	fresh := CredentialMark(credential)
	if h.revoked.has(fresh) {
		return ErrCredential
	}
	s.credential, s.expires = fresh, momentOf(expires)
	h.stepLocked(sh, s.dev, Input{Kind: InputTick}, h.now())
	return nil
}

// Outbox is what a session has to say to its device now, in this order.
type Outbox struct {
	Requests      []Request      // all that wait for the user's answer
	Dropped       []Dropped      // for ConfirmDropped
	Notifications []Notification // oldest first
	Reconnect     *Reconnect
	End           End  // not Alive: say why and close
	More          bool // call Next again when this is written
}

// Reconnect asks a device to come back, about so much later.
type Reconnect struct {
	After  time.Duration
	Reason string
}

// Next returns what is to be written, with at most max notifications (0: none now, what waits stays); an
// empty Outbox if nothing is. Each
// notification is returned once in a session. ErrStorage: try again later.
func (s *Session) Next(max int) (Outbox, error) {
	var o Outbox
	flags := s.due()
	if flags&flagEnd != 0 {
		o.End = s.Ended()
		return o, nil
	}
	if flags&flagReconnect != 0 {
		o.Reconnect = s.hub.Draining()
	}
	if flags&flagRequests != 0 {
		var err error
		if o.Requests, err = s.hub.RequestsOf(s.dev.user.email); err != nil {
			s.flags.Or(flags)
			return o, err
		}
	}
	if flags&flagMail == 0 {
		return o, nil
	}
	if max <= 0 {
		s.flags.Or(flagMail | flagAwake)
		return o, nil
	}
	if err := s.mail(&o, max); err != nil {
		s.flags.Or(flagMail | flagAwake)
		return o, storage(err)
	}
	return o, nil
}

// mail fills in notifications in the order in which they were accepted: those from the disk, and those that never touch
// it.
func (s *Session) mail(o *Outbox, max int) (err error) {
	q, email := s.hub.cfg.Store, s.dev.user.email
	kept, err := q.Pending(email, s.dev.id, s.cursor, max)
	if err != nil {
		return err
	}
	if o.Dropped, err = s.tellDropped(); err != nil {
		return err
	}
	o.Notifications = s.withLive(kept, max)
	for i := range o.Notifications {
		if seq := o.Notifications[i].Seq; seq&transientSeq == 0 {
			s.cursor = seq
		}
	}
	if len(o.Notifications) == max {
		o.More = true
		s.flags.Or(flagMail | flagAwake)
	}
	o.Notifications = s.keepGranted(o.Notifications)
	return nil
}

// keepGranted leaves out what came through a grant that is no more: what waited in memory, and what a crash in
// the middle of a revoke has left on disk, which is removed.
func (s *Session) keepGranted(ns []Notification) []Notification {
	var stale []uint64
	sh := s.hub.shard(s.dev.user.email)
	sh.mu.Lock()
	ns = slices.DeleteFunc(ns, func(n Notification) bool {
		g := s.dev.user.grant(n.App)
		gone := g == nil || g.puid != n.PUID
		if gone && n.Seq&transientSeq == 0 {
			stale = append(stale, n.Seq)
		}
		return gone
	})
	sh.mu.Unlock()
	if len(stale) > 0 {
		s.hub.cfg.Store.Confirm(s.dev.user.email, s.dev.id, stale)
	}
	return ns
}

// giveLiveLocked hands a notification with TTL 0 to the session, unless it would have to wait. The shard is locked.
func (s *Session) giveLiveLocked(n transient) {
	if !n.High && s.isQuiet() {
		return
	}
	t := &s.moreLocked().live
	t.mu.Lock()
	t.waiting = appendBounded(t.waiting, n)
	t.mu.Unlock()
	s.signal(flagMail | flagAwake)
}

func (s *Session) moreLocked() *more {
	if s.more == nil {
		s.more = new(more)
	}
	return s.more
}

// tellDropped returns what was discarded and the device was not told in this session.
func (s *Session) tellDropped() ([]Dropped, error) {
	h, email := s.hub, s.dev.user.email
	if !h.cfg.Store.HasDropped(email) || s.knowsDropped() {
		return nil, nil
	}
	ds, err := h.cfg.Store.Dropped(email)
	if len(ds) == 0 || err != nil {
		return nil, err
	}
	sh := h.shard(email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s.moreLocked().dropped = ds
	return ds, nil
}

// knowsDropped reports whether the device was told, until that is confirmed and forgotten.
func (s *Session) knowsDropped() bool {
	sh := s.hub.shard(s.dev.user.email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.more == nil {
		return false
	}
	if c := s.more.forget; c != nil && c.Ended() {
		s.more.dropped, s.more.forget = nil, nil
	}
	return s.more.dropped != nil
}

// ConfirmDropped takes note that the device knows what [Outbox].Dropped said; until then the next session says it again. It
// does not wait for the disk.
func (s *Session) ConfirmDropped() {
	email := s.dev.user.email
	sh := s.hub.shard(email)
	sh.mu.Lock()
	var told []Dropped
	if s.more != nil && s.more.forget == nil {
		told = s.more.dropped
	}
	sh.mu.Unlock()
	if told == nil {
		return
	}
	c := s.hub.cfg.Store.ForgetDropped(email, told)
	sh.mu.Lock()
	s.more.forget = c
	sh.mu.Unlock()
}

// withLive puts those that never touch the disk between those that come from there, and returns the first of all, at
// most max.
func (s *Session) withLive(kept []Notification, max int) []Notification {
	t := s.liveOnes()
	if t == nil {
		return kept
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		return kept
	}
	n := min(max, len(kept)+len(t.waiting))
	out := make([]Notification, 0, n)
	for len(out) < n {
		if len(kept) > 0 && (len(t.waiting) == 0 || !t.waiting[0].Time.Before(kept[0].Time)) {
			out, kept = append(out, kept[0]), kept[1:]
		} else {
			out = append(out, t.takeLocked())
		}
	}
	return out
}

// takeLocked takes the oldest that waits, and remembers of it what a receipt needs.
func (t *transients) takeLocked() Notification {
	l := t.waiting[0]
	t.waiting = slices.Delete(t.waiting, 0, 1)
	n := l.Notification
	l.Notification = Notification{Seq: n.Seq, Email: n.Email, App: n.App, PUID: n.PUID, Ref: n.Ref, From: n.From, Receipt: n.Receipt}
	t.sent = appendBounded(t.sent, l)
	return n
}

func (s *Session) confirmLive(seqs []uint64) (confirmed []Notification) {
	t := s.liveOnes()
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent = slices.DeleteFunc(t.sent, func(l transient) bool {
		hit := slices.Contains(seqs, l.Seq)
		if hit && l.done.CompareAndSwap(false, true) {
			confirmed = append(confirmed, l.Notification)
		}
		return hit
	})
	return confirmed
}

func (s *Session) liveOnes() *transients {
	sh := s.hub.shard(s.dev.user.email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.more == nil {
		return nil
	}
	return &s.more.live
}

func appendBounded(list []transient, n transient) []transient {
	if len(list) >= maxTransients {
		list = slices.Delete(list, 0, 1)
	}
	return append(list, n)
}

// Close ends the session because its connection did. If it is still the device's present one the device
// lingers, or goes offline at once where it said so. Closing twice, or after it ended, changes nothing.
func (s *Session) Close() {
	h, now := s.hub, s.hub.now()
	sh := h.shard(s.dev.user.email)
	sh.mu.Lock()
	defer h.unlock(sh)
	if s.dev.session == s { // unregister only yourself
		s.dev.session = nil
		h.keepTicketLocked(sh, s, now)
		h.stepLocked(sh, s.dev, Input{Kind: InputLost}, now)
	}
}

// endSessionLocked ends a session from inside: its device goes at once or, where only the credential ended,
// lingers (PROTOCOL §1).
func (h *Hub) endSessionLocked(sh *shard, s *Session, why End, now moment) {
	s.finish(why)
	s.dev.session = nil
	kind := InputEnd
	if why == EndExpired {
		kind = InputLost
	}
	h.stepLocked(sh, s.dev, Input{Kind: kind}, now)
}

// Ended tells whether and why the hub ended the session.
func (s *Session) Ended() End { return End(s.ended.Load()) }

func (s *Session) finish(why End) {
	if s.ended.CompareAndSwap(uint32(Alive), uint32(why)) {
		s.signal(flagEnd)
	}
}

// Tag returns what Attach was given.
func (s *Session) Tag() any { return s.tag }

// Credential is the mark of what the session stands on now.
func (s *Session) Credential() uint64 {
	sh := s.hub.shard(s.dev.user.email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return s.credential
}

// CredentialMark is what is kept of a credential to know it again, the same at any time. Of two with one mark, which
// nobody can make, one is taken for the other.
func CredentialMark(credential string) uint64 {
	sum := sha256.Sum256([]byte(credential))
	return binary.BigEndian.Uint64(sum[:])
}

// Email and Device identify the session.
func (s *Session) Email() string  { return s.dev.user.email }
func (s *Session) Device() string { return s.dev.id }

func (s *Session) signal(flag uint32) {
	s.flags.Or(flag)
	s.ready.put(s)
}

// Ready collects sessions that have something to write, each at most once, for the edge that owns it.
type Ready struct {
	mu   sync.Mutex
	list []*Session // guarded by mu
	wake chan struct{}
}

// NewReady makes an empty queue.
func NewReady() *Ready { return &Ready{wake: make(chan struct{}, 1)} }

// Wake fires when there may be something to take.
func (r *Ready) Wake() <-chan struct{} { return r.wake }

func (r *Ready) put(s *Session) {
	r.mu.Lock()
	if !s.queued {
		s.queued = true
		r.list = append(r.list, s)
	}
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Take appends the waiting sessions to dst and forgets them.
func (r *Ready) Take(dst []*Session) []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.list {
		s.queued = false
	}
	dst = append(dst, r.list...)
	clear(r.list)
	r.list = r.list[:0]
	return dst
}
