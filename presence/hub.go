package presence

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
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
	transient                               atomic.Uint64 // numbers of notifications with TTL 0; it begins with the time, so that none comes twice
	trails                                  atomic.Uint64 // the last one's number
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
	h.transient.Store(uint64(c.Now().UnixNano()) &^ transientSeq)
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
	if err == nil || errors.Is(err, ErrStorage) || errors.Is(err, ErrExists) || errors.Is(err, ErrBadValue) || errors.Is(err, ErrFull) || errors.Is(err, ErrNoGroup) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrStorage, err)
}

// Advance does what is due at now (lingers that ran out, windows that open or close, pauses that are over, grants
// and sessions that end) and returns when it wants to be called next, at the latest. Call it from one goroutine,
// again whenever Alarm fires.
//
// Now may jump. Forward, what was passed over did not happen: a window that opened and closed meanwhile shows
// nothing. Back by more than stepBack, everything is looked at again; by less, what is stays as it is until the clock
// has caught up, so that a clock which is set right now and then makes nobody flicker.
func (h *Hub) Advance(now time.Time) (next time.Time) {
	h.nextWake.Store(int64(maxMoment)) // whatever is set from here on rings the alarm
	m := momentOf(now)
	h.noteTime(m)
	for i := range h.shards {
		if sh := &h.shards[i]; moment(sh.due.Load()) <= m {
			h.fire(sh, m)
		}
	}
	retry := maxMoment
	if moment(h.until.Load()) <= m {
		if err := h.endDue(now); err != nil {
			retry = m + moment(untilRetry.Milliseconds())
		}
	}
	earliest := min(retry, moment(h.until.Load()))
	if retry != maxMoment {
		earliest = retry
	}
	for i := range h.shards {
		earliest = min(earliest, moment(h.shards[i].due.Load()))
	}
	h.nextWake.Store(int64(earliest))
	sleep := maxSleep
	if earliest == maxMoment {
		sleep = idleSleep
	}
	return min(earliest, m+moment(sleep.Milliseconds())).time()
}

const (
	maxSleep   = 500 * time.Millisecond // while something is due some time: a clock that jumps, or a machine that slept, is noticed after this long
	idleSleep  = time.Minute            // while nothing is
	untilRetry = 5 * time.Second        // after the store failed to end grants
	stepBack   = 5 * time.Second        // what a clock may be set back and be waited for
	fireSlice  = 256                    // timers that fire with the shard locked, before others may have it
)

// noteTime looks whether the clock was set back.
func (h *Hub) noteTime(now moment) {
	last := h.advanced
	if now >= last || last-now > moment(stepBack.Milliseconds()) {
		h.advanced = now
	}
	if last-now > moment(stepBack.Milliseconds()) {
		for i := range h.shards {
			h.rewind(&h.shards[i], now)
		}
	}
}

// rewind does anew what was decided at a time that is to come again: what is due, and what windows say. Lingers are
// as long as they ever were.
func (h *Hub) rewind(sh *shard, now moment) {
	sh.mu.Lock()
	defer h.unlock(sh)
	longest := now + moment(h.cfg.Linger.Milliseconds())
	for _, u := range sh.users {
		for _, g := range u.grants {
			h.flipAndTellLocked(sh, g, now)
		}
		for d := u.devices; d != nil; d = d.next {
			if until := d.untilLocked(); until > longest {
				h.setDueLocked(sh, d, longest)
			}
		}
	}
}

// Alarm fires when something is due earlier than Advance last said.
func (h *Hub) Alarm() <-chan struct{} { return h.alarm }

// ringBefore wakes whoever drives Advance if at is earlier than it knows.
func (h *Hub) ringBefore(at moment) {
	if at != 0 && int64(at) < h.nextWake.Load() {
		select {
		case h.alarm <- struct{}{}:
		default:
		}
	}
}

// fire runs the shard's timers that are due.
func (h *Hub) fire(sh *shard, now moment) {
	for h.fireSome(sh, now) {
	}
}

// fireSome runs some of them and reports whether there are more.
func (h *Hub) fireSome(sh *shard, now moment) (more bool) {
	sh.mu.Lock()
	defer h.unlock(sh)
	for n := 0; len(sh.timers) > 0 && sh.timers[0].at <= now; n++ {
		if n == fireSlice {
			return true
		}
		if t := sh.timers[0].timer; t.device != nil {
			h.tickLocked(sh, t.device, now)
		} else {
			h.flipAndTellLocked(sh, t.grant, now)
		}
	}
	return false
}

// tickLocked does what is due for a device and sets its next timer.
func (h *Hub) tickLocked(sh *shard, d *device, now moment) {
	if s := d.session; s != nil && s.expires != 0 && s.expires <= now {
		h.endSessionLocked(sh, s, EndExpired, now)
	}
	h.stepLocked(sh, d, Input{Kind: InputTick}, now)
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

// endDevicesLocked ends all of a user's sessions, and the lingers.
func (h *Hub) endDevicesLocked(sh *shard, u *user, why End, now moment) {
	sh.lost.forget(u.email, nil)
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

// Stats are counts for the metrics and for status; gauges unless said otherwise.
type Stats struct {
	Users, Sessions, Lingering int
	Links                      int // of connections that are there
	Apps                       int
	// Counters since start.
	Published, Notified, Confirmed, Refused uint64
}

// Stats counts; it takes each shard's lock for a moment.
func (h *Hub) Stats() Stats {
	s := Stats{
		Published: h.published.Load(), Notified: h.notified.Load(),
		Confirmed: h.confirmed.Load(), Refused: h.refused.Load(),
	}
	for i := range h.shards {
		sh := &h.shards[i]
		sh.mu.Lock()
		s.Users += len(sh.users)
		for _, u := range sh.users {
			for d := u.devices; d != nil; d = d.next {
				switch d.phase() {
				case Attached:
					s.Sessions++
				case Lingering:
					s.Lingering++
				}
			}
		}
		sh.mu.Unlock()
	}
	for _, a := range h.apps.all() {
		s.Apps++
		for _, l := range a.links() {
			if !l.detached() {
				s.Links++
			}
		}
	}
	return s
}

// DeviceInfo describes a device for lists.
type DeviceInfo struct {
	Email    string    `json:"email"`
	Device   string    `json:"device"`
	Name     string    `json:"name,omitempty"` // what she calls it; only in the list of one user
	Status   string    `json:"status"`         // as published; offline if none
	State    string    `json:"state"`          // connected, lingering, gone
	Since    time.Time `json:"since,omitzero"`
	Attached time.Time `json:"attached,omitzero"`
}

// Devices lists the devices of one user, remembered ones too; with email "" all those present.
func (h *Hub) Devices(email string) ([]DeviceInfo, error) {
	var list []DeviceInfo
	for i := range h.shards {
		sh := &h.shards[i]
		if email != "" && sh != h.shard(email) {
			continue
		}
		sh.mu.Lock()
		for _, u := range sh.users {
			for d := u.devices; d != nil; d = d.next {
				if d.phase() != Absent && (email == "" || u.email == email) {
					list = append(list, d.infoLocked())
				}
			}
		}
		sh.mu.Unlock()
	}
	if email != "" {
		kept, err := h.cfg.Store.DevicesOf(email)
		if err != nil {
			return nil, storage(err)
		}
		for _, r := range kept {
			if !slices.ContainsFunc(list, func(d DeviceInfo) bool { return d.Device == r.ID }) {
				list = append(list, DeviceInfo{Email: email, Device: r.ID, Status: "offline", State: "gone", Since: r.Seen})
			}
			i := slices.IndexFunc(list, func(d DeviceInfo) bool { return d.Device == r.ID })
			list[i].Name = r.Name
		}
	}
	slices.SortFunc(list, func(a, b DeviceInfo) int {
		return strings.Compare(a.Email+"\x00"+a.Device, b.Email+"\x00"+b.Device)
	})
	return list, nil
}

// onlineSlice is how many users EachOnline holds at once.
const onlineSlice = 1024

// EachOnline calls f with the e-mail of each user that has a connected device, in order, until f returns an error,
// which it returns. It reads a slice at a time: who comes or goes meanwhile may be there or not.
func (h *Hub) EachOnline(f func(email string) error) error {
	for after := ""; ; {
		slice := h.onlineAfter(after, onlineSlice)
		for _, email := range slice {
			if err := f(email); err != nil {
				return err
			}
		}
		if len(slice) < onlineSlice {
			return nil
		}
		after = slice[len(slice)-1]
	}
}

// onlineAfter returns the first users behind after, at most max, in order.
func (h *Hub) onlineAfter(after string, max int) (first []string) {
	cut := func() {
		if slices.Sort(first); len(first) > max {
			first = first[:max]
		}
	}
	for i := range h.shards {
		sh := &h.shards[i]
		sh.mu.Lock()
		for email, u := range sh.users {
			if _, attached := u.countDevices(); attached > 0 && email > after {
				if first = append(first, email); len(first) >= 2*max {
					cut()
				}
			}
		}
		sh.mu.Unlock()
	}
	cut()
	return first
}

func (d *device) infoLocked() DeviceInfo {
	st, since := unpack(d.word.Load())
	info := DeviceInfo{Email: d.user.email, Device: d.id, Status: st.String(), State: "lingering", Since: since.time()}
	if d.session != nil {
		info.State, info.Attached = "connected", d.session.attached.time()
	}
	return info
}

// Attached returns the session of a device; nil: it has none.
func (h *Hub) Attached(email, device string) *Session {
	sh := h.shard(email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if u := sh.users[email]; u != nil {
		if d := u.device(device); d != nil {
			return d.session
		}
	}
	return nil
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
