package presence

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a Hub is made of. Store, Now and Limits are needed; Key should be the same at every start.
type Config struct {
	Store  Store
	Now    func() time.Time // the only clock
	Key    [32]byte         // secret from which device tags are derived
	Limits Limits
	Linger time.Duration // how long a lost device is held before it counts as offline; 0: not at all
}

// Hub is the switchboard: it knows who is present and who may know, and hands out a [Session] for each
// device and a [Link] for each connection of an app. All methods are safe for concurrent use.
type Hub struct {
	cfg     Config // immutable
	placing placing
	shards  [shardCount]shard
	stripes [stripeCount]sync.RWMutex // order changes of a user's grants against their use; held over I/O
	changes atomic.Uint64             // of grants; counted with the stripe held for writing

	apps     registry
	unseen   unseen
	watchers watchers
	zones    zones

	alarm    chan struct{}
	nextWake atomic.Int64 // moment that Advance last announced
	advanced moment       // owned by Advance: when it was, see noteTime
	until    atomic.Int64 // moment of the earliest Grant.Until in the store; maxMoment if none
	drain    atomic.Pointer[curfew]
	lastGone atomic.Pointer[Commit] // the last departure on its way to the disk
	lastCame atomic.Pointer[Commit] // the same of arrivals
	urgent   atomic.Pointer[Urgent] // nil: nobody asks
	revoked  revoked
	closed   atomic.Bool

	receipts   chan receiptJob // closed by Close
	receiptsMu sync.RWMutex    // held for reading while sending on receipts
	working    sync.WaitGroup  // the receipts goroutine

	firstSent                               atomic.Uint64 // the lowest number of a message that a device sent to this hub
	transient                               atomic.Uint64 // numbers of notifications with TTL 0
	published, notified, confirmed, refused atomic.Uint64
}

const stripeCount = 256

// New loads the apps and returns a hub with nobody there.
func New(c Config) (*Hub, error) {
	h := &Hub{
		cfg:      c,
		placing:  placing{maphash.MakeSeed()},
		alarm:    make(chan struct{}, 1),
		receipts: make(chan receiptJob, receiptBacklog),
	}
	for i := range h.shards {
		h.shards[i].users = make(map[string]*user)
		h.shards[i].due.Store(int64(maxMoment))
	}
	h.nextWake.Store(int64(maxMoment))
	h.firstSent.Store(math.MaxUint64)
	apps, err := c.Store.Apps()
	if err != nil {
		return nil, fmt.Errorf("loading apps: %w", err)
	}
	h.apps.load(apps)
	if err := h.loadUntil(); err != nil {
		return nil, fmt.Errorf("loading grants: %w", err)
	}
	h.working.Add(1)
	go h.sendReceipts()
	return h, nil
}

func (h *Hub) shard(email string) *shard { return &h.shards[h.placing.of(email)%shardCount] }
func (h *Hub) stripe(email string) *sync.RWMutex {
	return &h.stripes[h.stripeIndex(email)]
}
func (h *Hub) stripeIndex(email string) int { return int(h.placing.of(email) >> 32 % stripeCount) }
func (h *Hub) now() moment                  { return momentOf(h.cfg.Now()) }

// storage wraps a store's error so that edges know it from a refusal.
func storage(err error) error {
	if err == nil || errors.Is(err, ErrStorage) || errors.Is(err, ErrExists) || errors.Is(err, ErrBadValue) || errors.Is(err, ErrFull) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStorage, err)
}

// stepLocked runs one event through the state machine, fans out what changed, keeps the timer right, and
// forgets the device if it has gone.
func (h *Hub) stepLocked(sh *shard, d *device, e Input, now moment) {
	e.Linger = h.cfg.Linger
	before := d.stateLocked()
	s, changed := Step(before, e, now)
	d.setStateLocked(s)
	h.setDueLocked(sh, d, s.Until)
	if changed {
		if before.Status == Offline && s.Status != Offline {
			h.addViewsLocked(d)
			h.showQueuesLocked(d.user)
		}
		fanoutLocked(d)
		if d.user.whole != nil {
			h.stepWholeLocked(d.user, now)
		}
	}
	if before.Status != s.Status {
		h.tellStatus(d, s.Status)
	}
	d.departLocked(sh, before, s, now, h.urgent.Load() != nil)
	sh.releaseLocked(d)
}

// departLocked notes what has to be done about a device that went, when the shard is released.
func (d *device) departLocked(sh *shard, before, s State, now moment, urgent bool) {
	left := departure{email: d.user.email, absent: urgent && before.Phase != Absent && s.Phase == Absent}
	if before.Status != Offline && s.Status == Offline {
		left.record = d.recordLocked(now)
	}
	if left.absent || left.record.ID != "" {
		sh.left = append(sh.left, left)
	}
}

// setDueLocked takes over State.Until and sets the device's timer, by it or by the end of its credential.
func (h *Hub) setDueLocked(sh *shard, d *device, until moment) {
	due := until
	if d.session != nil && d.session.expires != 0 && (due == 0 || d.session.expires < due) {
		due = d.session.expires
	}
	if sh.setLocked(&d.timer, due, d, nil); due != 0 {
		d.timer.until = until
	}
	h.ringBefore(due)
}

// tellStatus shows a device's new status to those who look.
func (h *Hub) tellStatus(d *device, st Status) {
	if h.watchers.count.Load() == 0 {
		return
	}
	kind := DeviceStatus
	if st == Offline {
		kind = DeviceGone
	}
	h.tell(Event{Kind: kind, Email: d.user.email, Device: d.id, Status: st})
}

// recordLocked says when each app saw the device go. What it did while it was hidden from an app changes
// nothing for that app.
func (d *device) recordLocked(now moment) DeviceRecord {
	gone := make(map[string]time.Time, len(d.user.grants))
	for _, g := range d.user.grants {
		flipped := moment(g.flipped.Load())
		switch {
		case !g.is(grantHidden):
			gone[g.app.id] = now.time()
		case d.up < flipped:
			gone[g.app.id] = flipped.time()
		}
	}
	return DeviceRecord{ID: d.id, Seen: now.time(), Gone: gone}
}

// curfew is what a hub that drains knows of the time after it.
type curfew struct {
	over   time.Time     // when it serves no more
	spread time.Duration // from then on; within it everybody comes back
	reason string
}

// reconnect is what one of those who have to go is told: a moment of his own behind the end, so that nobody comes
// back to a closed door, and not all in one instant.
func (d *curfew) reconnect(now time.Time) *Reconnect {
	return &Reconnect{After: max(d.over.Sub(now), 0) + rand.N(max(d.spread, 0)+1), Reason: d.reason}
}

// Drain asks every session, and every link that asks Reconnect, to come back at a random moment within spread, behind
// the time that the hub still serves; until then serving goes on. New Attach calls, and new links of kind SocketLink,
// fail with ErrDraining.
func (h *Hub) Drain(serve, spread time.Duration, reason string) {
	h.drain.Store(&curfew{over: h.cfg.Now().Add(serve), spread: spread, reason: reason})
	h.eachSession(func(_ *shard, s *Session) { s.signal(flagReconnect) })
	for _, a := range h.apps.all() {
		for _, l := range a.links() {
			l.ring()
		}
	}
}

// Dismiss ends some sessions, at most n, as Close does with all. It is for a hub that drains, so that the ends do not
// come in one moment.
func (h *Hub) Dismiss(n int) {
	now := h.now()
	for i := range h.shards {
		if n <= 0 {
			return
		}
		n -= h.dismissShard(&h.shards[i], n, now)
	}
}

func (h *Hub) dismissShard(sh *shard, most int, now moment) (n int) {
	sh.mu.Lock()
	defer h.unlock(sh)
	for _, u := range sh.users {
		for d := u.devices; d != nil && n < most; {
			next := d.next // the step may unlink d
			if d.session != nil {
				n++
				h.endSessionLocked(sh, d.session, EndDraining, now)
			}
			d = next
		}
	}
	return n
}

// Draining is what somebody who comes now is to be told: when to come back, another time at each call; nil: the hub
// does not drain.
func (h *Hub) Draining() *Reconnect {
	if d := h.drain.Load(); d != nil {
		return d.reconnect(h.cfg.Now())
	}
	return nil
}

// Close ends every session (EndDraining) without linger, then every link (EndShutdown) behind what it still
// has to be told. Handles stay usable until their owner closes them.
func (h *Hub) Close() {
	if h.closed.Swap(true) {
		return
	}
	now := h.now()
	for i := range h.shards {
		h.closeShard(&h.shards[i], now)
	}
	for _, a := range h.apps.all() {
		for _, l := range a.links() {
			l.end(EndShutdown)
		}
	}
	h.receiptsMu.Lock()
	close(h.receipts)
	h.receiptsMu.Unlock()
	h.working.Wait()
}

func (h *Hub) closeShard(sh *shard, now moment) {
	sh.mu.Lock()
	defer h.unlock(sh)
	for _, u := range sh.users {
		h.endDevicesLocked(sh, u, EndDraining, now)
	}
}

// endDevicesLocked ends all of a user's sessions, and the lingers. Tickets are the caller's.
func (h *Hub) endDevicesLocked(sh *shard, u *user, why End, now moment) {
	for d := u.devices; d != nil; {
		next := d.next // the step may unlink d
		if d.session != nil {
			h.endSessionLocked(sh, d.session, why, now)
		} else {
			h.stepLocked(sh, d, Input{Kind: InputEnd}, now)
		}
		d = next
	}
}

// eachSession calls f for every attached session under its shard's lock.
func (h *Hub) eachSession(f func(*shard, *Session)) {
	for i := range h.shards {
		sh := &h.shards[i]
		sh.mu.Lock()
		for _, u := range sh.users {
			for d := u.devices; d != nil; d = d.next {
				if d.session != nil {
					f(sh, d.session)
				}
			}
		}
		sh.mu.Unlock()
	}
}

// Kick ends the user's sessions on device ("": on all) with EndKicked and returns how many.
func (h *Hub) Kick(email, device string) int {
	h.forgetTickets(email, func(t *lostSession) bool { return device == "" || t.device == device })
	return h.endSessions(email, EndKicked, func(s *Session) bool { return device == "" || s.dev.id == device })
}

// EndCredential ends the user's sessions that were attached with this credential (EndExpired). Who has
// verified it already and attaches in the next moments is refused with ErrCredential.
func (h *Hub) EndCredential(email, credential string) int {
	c := CredentialMark(credential)
	h.revoked.add(c, h.cfg.Now())
	h.forgetTickets(email, func(t *lostSession) bool { return t.credential == c })
	return h.endSessions(email, EndExpired, func(s *Session) bool { return s.credential == c })
}

func (h *Hub) endSessions(email string, why End, which func(*Session) bool) (n int) {
	sh, now := h.shard(email), h.now()
	sh.mu.Lock()
	defer h.unlock(sh)
	u := sh.users[email]
	if u == nil {
		return 0
	}
	for d := u.devices; d != nil; {
		next := d.next
		if s := d.session; s != nil && which(s) {
			n++
			h.endSessionLocked(sh, s, why, now)
		}
		d = next
	}
	return n
}

// revoked remembers for a while which credentials were revoked: longer than it takes from verifying one to
// attaching with it.
type revoked struct {
	mu   sync.Mutex
	when map[uint64]time.Time // guarded by mu
}

const rememberRevoked = time.Minute

func (r *revoked) add(credential uint64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.when == nil {
		r.when = make(map[uint64]time.Time)
	}
	for c, t := range r.when {
		if now.Sub(t) > rememberRevoked {
			delete(r.when, c)
		}
	}
	r.when[credential] = now
}

func (r *revoked) has(credential uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.when[credential]
	return ok
}
