package presence

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Message is a notification as an app sends it.
type Message struct {
	Ref      string // its id, for the receipt
	From     string // the address at the app that sent it
	Receipt  bool
	Source   string
	Message  string
	Action   string
	Data     []byte        // one JSON value, or nil
	TTL      time.Duration // negative: the default; 0: now or never
	Collapse string
	High     bool
	Dry      bool // accepted or refused as usual, and then forgotten
}

const (
	maxRef      = 1024 // bytes, of Message.Ref
	maxCollapse = 256  // bytes
	maxAddress  = 3071 // bytes, of Message.From: RFC 7622 §3.1
)

// Notify accepts a notification for the peer, or refuses it: ErrStranger, ErrNotAllowed, ErrTooLarge,
// ErrTTL, ErrBadValue, ErrEnded. The caller must Wait for the Delivery; in the order of the calls is best.
func (l *Link) Notify(p Peer, m Message) (*Delivery, error) {
	if l.Ended() != Alive {
		return nil, ErrEnded
	}
	h := l.hub
	g, release, err := h.findGrant(l.app, p)
	if err != nil {
		return nil, h.refuse(err, l.app.id, "")
	}
	defer release()
	device := ""
	if p.Tag != "" {
		if device, err = h.deviceOf(&g, p.Tag); err != nil {
			return nil, h.refuse(err, l.app.id, "")
		}
	}
	return h.notify(&g, device, m)
}

// Allowed reports whether the user allows the app, as far as the store can tell: when it does not answer she does.
func (l *Link) Allowed(p Peer) bool {
	_, release, err := l.hub.findGrant(l.app, p)
	if err == nil {
		release()
	}
	return !errors.Is(err, ErrStranger)
}

// Addressed is a notification and whom it is for.
type Addressed struct {
	To Peer
	Message
}

// NotifyAll is Notify for several, in their order: all are accepted or none, and then the error is that of the
// first that is refused. all must not be empty.
func (l *Link) NotifyAll(all []Addressed) (*Delivery, error) {
	if l.Ended() != Alive {
		return nil, ErrEnded
	}
	h := l.hub
	gs, release, err := h.findGrants(l.app, all)
	if err != nil {
		return nil, h.refuse(err, l.app.id, "")
	}
	defer release()
	ns := make([]*Notification, len(all))
	for i := range all {
		device := ""
		if tag := all[i].To.Tag; tag != "" {
			if device, err = h.deviceOf(&gs[i], tag); err != nil {
				return nil, h.refuse(err, l.app.id, "")
			}
		}
		if ns[i], err = h.compose(&gs[i], device, all[i].Message); err != nil {
			return nil, err
		}
	}
	return h.enqueueAll(ns), nil
}

// enqueueAll hands notifications on. Those that never touch the disk wait for the others.
func (h *Hub) enqueueAll(ns []*Notification) *Delivery {
	d := &Delivery{hub: h, n: ns[len(ns)-1], all: ns}
	var lasting []*Notification
	for _, n := range ns {
		if n.isLasting() {
			lasting = append(lasting, n)
		}
	}
	h.notified.Add(uint64(len(ns)))
	if len(lasting) > 0 {
		d.commit = h.cfg.Store.EnqueueAll(lasting)
	}
	return d
}

// NotifyUser is Notify for an administrator: to a user by e-mail, on behalf of the app that she granted.
// device "": all of hers. ErrNoGrant in place of ErrStranger.
func (h *Hub) NotifyUser(app, email, device string, m Message) (*Delivery, error) {
	if h.apps.get(app) == nil {
		return nil, ErrNoApp
	}
	st := h.stripe(email)
	st.RLock()
	defer st.RUnlock()
	g, ok, err := h.cfg.Store.Grant(email, app)
	if err != nil {
		return nil, h.refuse(storage(err), app, email)
	}
	if !ok || g.Ended(h.cfg.Now()) {
		return nil, h.refuse(ErrNoGrant, app, "")
	}
	if device != "" {
		if err := CheckDevice(device); err != nil {
			return nil, h.refuse(fmt.Errorf("%w: %w", ErrBadValue, err), app, email)
		}
	}
	return h.notify(&g, device, m)
}

// refuse counts and shows a refusal; email "": nobody's, because the peer is a stranger to the app.
func (h *Hub) refuse(err error, app, email string) error {
	h.refused.Add(1)
	h.tell(Event{Kind: Refused, Email: email, App: app, Detail: whyRefused(err), By: ByApp})
	return err
}

// whyRefused is a refusal in a word or two, the same for all of a kind.
func whyRefused(err error) string {
	for _, r := range []struct {
		err error
		why string
	}{
		{ErrStranger, "no such user"}, {ErrNoGrant, "no such user"}, {ErrNotAllowed, "not allowed"}, {ErrTooLarge, "too large"},
		{ErrTTL, "ttl"}, {ErrBadValue, "bad value"}, {ErrStorage, "storage"},
	} {
		if errors.Is(err, r.err) {
			return r.why
		}
	}
	return "other"
}

// notify hands an allowed notification on. The user's stripe is held for reading, so a revoke's purge comes
// behind it.
func (h *Hub) notify(g *Grant, device string, m Message) (*Delivery, error) {
	n, err := h.compose(g, device, m)
	if err != nil {
		return nil, err
	}
	d := &Delivery{hub: h, n: n}
	switch {
	case m.Dry:
		return d, nil
	case n.isLasting():
		d.commit = h.cfg.Store.Enqueue(n)
	default:
		d.live = true
	}
	h.notified.Add(1)
	return d, nil
}

// compose makes the notification, if the grant and the limits allow it.
func (h *Hub) compose(g *Grant, device string, m Message) (*Notification, error) {
	if err := h.checkMessage(g, &m); err != nil {
		return nil, h.refuse(err, g.App, g.Email)
	}
	now := h.cfg.Now().UTC()
	return &Notification{Email: g.Email, Device: device, App: g.App, PUID: g.PUID, Ref: m.Ref, From: m.From,
		Receipt: m.Receipt, Source: m.Source, Message: m.Message, Action: m.Action, Data: m.Data,
		High: m.High, Collapse: m.Collapse, Time: now, Expires: now.Add(m.TTL)}, nil
}

// isLasting reports whether the notification waits where nobody is there; else it never touches the disk.
func (n *Notification) isLasting() bool { return n.Expires.After(n.Time) }

func (h *Hub) checkMessage(g *Grant, m *Message) error {
	if !g.Notify {
		return ErrNotAllowed
	}
	if m.TTL < 0 {
		m.TTL = h.cfg.Limits.TTLDefault
	}
	size := Notification{Source: m.Source, Message: m.Message, Action: m.Action, Data: m.Data}
	switch {
	case m.TTL > h.cfg.Limits.TTLMax:
		return ErrTTL
	case size.Size() > h.cfg.Limits.NotificationBytes:
		return ErrTooLarge
	case len(m.Ref) > maxRef || len(m.Collapse) > maxCollapse || len(m.From) > maxAddress:
		return ErrBadValue
	}
	return nil
}

// deviceOf finds the device that goes by a tag; "": any, where the app sees no single ones. ErrStranger: none does.
func (h *Hub) deviceOf(g *Grant, tag string) (string, error) {
	if g.NoDevices {
		if h.tagUnder(g, "") == tag {
			return "", nil
		}
		return "", ErrStranger
	}
	for _, id := range h.presentDevices(g.Email) {
		if h.tag(g.PUID, id) == tag {
			return id, nil
		}
	}
	for settled := false; ; settled = true {
		kept, err := h.cfg.Store.DevicesOf(g.Email)
		if err != nil {
			return "", storage(err)
		}
		for _, d := range kept {
			if h.tag(g.PUID, d.ID) == tag {
				return d.ID, nil
			}
		}
		if settled {
			return "", ErrStranger
		}
		h.settle() // one that came and left a moment ago is neither here nor there yet
	}
}

// settle waits until the devices that came or went before are on disk, or could not be written.
func (h *Hub) settle() {
	for _, c := range []*Commit{h.lastCame.Load(), h.lastGone.Load()} {
		if c != nil {
			_ = c.Wait()
		}
	}
}

func (h *Hub) presentDevices(email string) (ids []string) {
	sh := h.shard(email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if u := sh.users[email]; u != nil {
		for d := u.devices; d != nil; d = d.next {
			ids = append(ids, d.id)
		}
	}
	return ids
}

// giveLive hands a notification that never touches the disk to whoever is there.
func (h *Hub) giveLive(n *Notification) {
	n.Seq = transientSeq | h.transient.Add(1)
	live := transient{*n, new(atomic.Bool)}
	h.eachAttached(n.Email, n.Device, func(s *Session) { s.giveLiveLocked(live) })
}

func (h *Hub) wakeUser(n *Notification) {
	h.eachAttached(n.Email, n.Device, func(s *Session) { s.newMail(n.High) })
}

// eachAttached calls f under the shard's lock for the user's sessions, or the one on device.
func (h *Hub) eachAttached(email, device string, f func(*Session)) {
	sh := h.shard(email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	u := sh.users[email]
	if u == nil {
		return
	}
	for d := u.devices; d != nil; d = d.next {
		if d.session != nil && (device == "" || d.id == device) {
			f(d.session)
		}
	}
}

// Delivery is a notification on its way to the disk, or several that are accepted together.
type Delivery struct {
	hub    *Hub
	commit *Commit // nil: nothing to wait for
	n      *Notification
	all    []*Notification // of several: all, n is the last; nil: n alone
	live   bool            // n never touches the disk, and waits for nothing but its turn
}

// Wait blocks until the notification is accepted: it is on disk, and the user's devices are woken, or it has TTL 0 and is
// handed to whoever is there. It must be called once; what waits in the order of the calls of Notify reaches the devices
// in that order. ErrStorage: it was not accepted.
func (d *Delivery) Wait() error {
	if d.commit != nil {
		if err := d.commit.Wait(); err != nil {
			return storage(err)
		}
	}
	switch {
	case d.all != nil:
		for _, n := range d.all {
			d.pass(n)
		}
	case d.commit != nil || d.live:
		d.pass(d.n)
	}
	return nil
}

// pass hands an accepted notification to whoever is there.
func (d *Delivery) pass(n *Notification) {
	if n.isLasting() {
		d.hub.noteQueued(n)
		d.hub.wakeUser(n)
	} else {
		d.hub.giveLive(n)
	}
	d.hub.tellNotified(n)
	d.hub.urge(n)
}

func (h *Hub) tellNotified(n *Notification) {
	h.tell(Event{Kind: Notified, Email: n.Email, App: n.App, Device: n.Device, Detail: n.Ref, By: ByApp})
}

// Waiting counts, after Wait, what waits for the (last) recipient from the app, as far as the app may know: what a
// device that it does not see has taken counts as waiting. ErrStorage.
func (d *Delivery) Waiting() (int, error) {
	return d.hub.waitingFor(unseenKey{d.n.App, d.n.Email, d.n.PUID})
}

// receiptBacklog bounds the confirmations on their way to the disk; beyond it a device that confirms waits.
const receiptBacklog = 4096

// receiptJob is a confirmation whose receipts go out when it is on disk.
type receiptJob struct {
	conf *Confirmation  // nil: live holds what was confirmed
	live []Notification //
	by   string         // the device
	at   time.Time      // when it confirmed
	seen []*grant       // through which an app saw the device then
}

// Confirm takes note that the device has these notifications, known by their Seq: they are removed and
// receipts go out. Unknown ones are ignored. It does not wait for the disk, unless very much is on the way.
func (s *Session) Confirm(seqs []uint64) {
	h := s.hub
	job := receiptJob{by: s.dev.id, at: h.cfg.Now().UTC(), seen: h.seenThrough(s.dev)}
	if i := slices.IndexFunc(seqs, func(q uint64) bool { return q&transientSeq != 0 }); i >= 0 {
		live := job
		if live.live = s.confirmLive(seqs); len(live.live) > 0 {
			h.queueReceipts(live)
		}
		seqs = slices.DeleteFunc(slices.Clone(seqs), func(q uint64) bool { return q&transientSeq != 0 })
	}
	if len(seqs) > 0 {
		_ = h.noteUnseen(s, seqs, job.seen) // where the store fails the app is told a smaller size
		job.conf = h.cfg.Store.Confirm(s.dev.user.email, s.dev.id, seqs)
		h.queueReceipts(job)
	}
}

func (h *Hub) queueReceipts(j receiptJob) {
	h.receiptsMu.RLock()
	defer h.receiptsMu.RUnlock()
	if !h.closed.Load() {
		h.receipts <- j
	}
}

// sendReceipts waits for confirmations in order and tells the apps that asked. It ends when receipts is closed.
func (h *Hub) sendReceipts() {
	defer h.working.Done()
	for j := range h.receipts {
		confirmed := j.live
		if j.conf != nil {
			if j.conf.Wait() != nil {
				continue // still queued: the device gets it again, and confirms again
			}
			confirmed = j.conf.Removed
		}
		h.confirmed.Add(uint64(len(confirmed)))
		for i := range confirmed {
			n := &confirmed[i]
			if n.Receipt {
				h.sendReceipt(&j, n)
			}
			h.tell(Event{Kind: Delivered, Email: n.Email, App: n.App, Device: j.by, Detail: n.Ref, By: ByUser})
		}
	}
}

// sendReceipt tells the app, unless presence was hidden from it when the device confirmed: a receipt is
// presence (XEP-0184 §8).
func (h *Hub) sendReceipt(j *receiptJob, n *Notification) {
	for _, g := range j.seen {
		if g.app.id == n.App && g.puid == n.PUID {
			g.pushLetter(Update{Kind: Receipt, Ref: n.Ref, To: n.From, Device: g.tag(h, j.by), Since: j.at})
		}
	}
}

// seenThrough returns the grants that show the device at this moment.
func (h *Hub) seenThrough(d *device) (gs []*grant) {
	sh := h.shard(d.user.email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, g := range d.user.grants {
		if !g.is(grantHidden) && g.deviceLocked(d).status() != Offline {
			gs = append(gs, g)
		}
	}
	return gs
}
