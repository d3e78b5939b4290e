package presence

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// LinkKind tells the two edges of an app apart: conflict policies work within a kind.
type LinkKind uint8

const (
	ComponentLink LinkKind = iota
	SocketLink
	// CCSLink is one for all CCS connections of an app: it gets messages and receipts, but neither presence nor
	// notices, which that wire has no words for. It conflicts with none.
	CCSLink
	linkKinds = iota
)

// Kind of an Update.
type Kind uint8

const (
	Presence     Kind = iota // Status of one device
	Subscribed               // the user allowed the app
	Unsubscribed             // the grant ended
	Receipt                  // a device confirmed the notification Ref
	FromDevice               // a message from a device
)

// Peer is a user, and maybe one of her devices, as an app names them: by PUID or by e-mail, never both.
type Peer struct {
	PUID  string
	Email string // in key form
	Tag   string // of the device; "": none named
}

// Update is one thing an app is told. Which fields count depends on Kind. Strings are shared and immutable.
type Update struct {
	Kind    Kind
	ByEmail bool      // Local is an e-mail, to be escaped on the wire, else a PUID
	Delayed bool      // not news: the snapshot, the answer to a probe, a message that had to wait
	Status  Status    // Presence
	Local   string    // the user
	Tag     string    // Presence, FromDevice: the device; "": the bare address
	Since   time.Time // Presence: of the last change; FromDevice: when it was sent; Receipt: when the device confirmed
	Idle    time.Time // Presence: zero if not idle or not granted
	Ref     string    // Receipt: the app's id of the notification; FromDevice: the device's of the message
	To      string    // Receipt, Subscribed, Unsubscribed: the address at the app that asked, if one did
	ID      uint64    // Subscribed, Unsubscribed: for Told; FromDevice: for Delivered; 0: nothing is kept of it
	Data    []byte    // FromDevice: one JSON object
	Device  string    // Receipt: the tag of the device that confirmed
	Again   bool      // FromDevice: the app may have had it before
}

// Link is the handle of one connection of an app. Take is for one goroutine at a time; everything else is
// safe for concurrent use.
type Link struct {
	head   atomic.Pointer[view] // the list of what changed, newest first; any shard pushes, Take swaps it out
	wake   chan struct{}
	ended  atomic.Uint32 // an End, written once
	bye    atomic.Bool   // its owner closed it
	kind   LinkKind      // immutable, as are the next four
	serial uint64        // which of the app's links it is
	hub    *Hub
	app    *app
	meta   *App // as it was when the link was made
	place  atomic.Pointer[place]

	away atomic.Bool // its connection is gone, or has not begun; written under app.linking
	held atomic.Bool // Take gives presence only

	// taking is held in Take, and by relink over what is owned by Take. Order: app.linking > taking > shard.
	taking   sync.Mutex
	kept     []Notice   // owned by Take: what happened while the app was away
	keptUpTo uint64     // owned by Take: the ID of the last of them that was read with it
	taken    *view      // owned by Take: swapped out, oldest first
	aside    aside      // owned by Take: what was before that in the list, and is not told while the link is held
	fetched  []Upstream // owned by Take: read from the store, not handed out
	cursor   uint64     // owned by Take: the last Seq read
	anew     bool       // owned by Take: it begins from the first again
	turn     bool       // owned by Take: whose turn it is to be first
	sentAway bool       // owned by Take: Reconnect was returned

	mail    atomic.Bool // there may be messages in the store
	recount atomic.Bool // links came or went: who is responsible for which messages has changed

	mu      sync.Mutex
	letters []letter            // guarded by mu: at most Limits.LinkPending
	size    int                 // guarded by mu: bytes of letters, at most maxLetterBytes
	notices int                 // guarded by mu: pushed and not taken
	orphans int                 // guarded by mu: views since the list was empty that outlived their device
	handed  []Notice            // guarded by mu: handed out and not told, with the store's IDs
	told    uint64              // guarded by mu: how many were told before them
	unacked map[uint64]struct{} // guarded by mu: Seq of messages handed out, at most maxUnacked; nil: none
}

// maxLetterBytes bounds what waits in memory for one link; beyond it the link ends with EndOverflow.
const maxLetterBytes = 1 << 20

// letter is what goes to an app through memory only: a receipt, or a message with TTL 0.
type letter struct {
	grant *grant
	u     Update // without Local and ByEmail
}

// size is how much memory it takes, about.
func (le *letter) size() int { return 256 + len(le.u.Ref) + len(le.u.To) + len(le.u.Data) }

// Link registers a connection of the app and snapshots what it may see; the first Take should wait until
// the peer is ready, and what changes meanwhile is part of the snapshot. By the app's conflict policy the
// older links of the kind end with EndReplaced, or this call fails with ErrConflict, or they share the
// users; those in beside do not count, nor, where a newer one is refused, those that are detached. Errors:
// ErrNoApp (also disabled), ErrConflict, ErrTooMany, ErrDraining, ErrStorage.
func (h *Hub) Link(id string, kind LinkKind, beside ...*Link) (*Link, error) {
	return h.link(id, kind, false, beside)
}

// LinkHeld is Link for a connection that may be about to go on in place of an older one, see [Link.Yield]: until
// [Link.Open] Take hands out presence and nothing else, and where connections share an app it gets no users
// before [Link.Join], unless there is nobody else.
func (h *Hub) LinkHeld(id string, kind LinkKind, beside ...*Link) (*Link, error) {
	return h.link(id, kind, true, beside)
}

func (h *Hub) link(id string, kind LinkKind, held bool, beside []*Link) (*Link, error) {
	a := h.apps.get(id)
	if a == nil {
		return nil, ErrNoApp
	}
	a.linking.Lock()
	defer a.linking.Unlock()
	if h.closed.Load() || kind == SocketLink && h.drain.Load() != nil {
		return nil, ErrDraining
	}
	meta := a.meta.Load()
	if meta.Disabled {
		return nil, ErrNoApp
	}
	older := slices.DeleteFunc(slices.Clone(a.links()), func(l *Link) bool {
		return l.kind != kind || kind == CCSLink || slices.Contains(beside, l) || meta.Conflict != Replace && l.detached()
	})
	switch {
	case meta.Conflict == Reject && len(older) > 0:
		return nil, ErrConflict
	case meta.Conflict == Share && len(older) >= h.cfg.Limits.LinksPerApp:
		return nil, ErrTooMany
	}
	l := &Link{hub: h, app: a, kind: kind, meta: meta, wake: make(chan struct{}, 1), serial: a.nextSerial()}
	l.SetAddress("")
	l.held.Store(held)
	l.away.Store(held && l.shares())
	if meta.Conflict != Share {
		for _, old := range older {
			h.endLinkLocked(old, EndReplaced)
		}
	}
	h.relink(a, nil, nil, func() { a.setLinks(append(slices.Clone(a.links()), l)) })
	if err := l.readNotices(); err != nil {
		h.endLinkLocked(l, EndRemoved)
		return nil, storage(err)
	}
	h.tell(Event{Kind: Linked, App: id})
	return l, nil
}

// readNotices reads what happened while the app was away. Where connections share an app the first does: what
// comes later is handed from one to the other.
func (l *Link) readNotices() (err error) {
	a := l.app
	if l.kind == CCSLink {
		return nil
	}
	if l.shares() && slices.ContainsFunc(a.links(), func(o *Link) bool { return o != l && o.kind == l.kind }) {
		return nil
	}
	if l.kept, err = l.hub.cfg.Store.NoticesOf(a.id, maxKept); err != nil {
		return err
	}
	l.kept = slices.DeleteFunc(l.kept, func(n Notice) bool { return !l.hears(&n) })
	if n := len(l.kept); n > 0 {
		l.keptUpTo = l.kept[n-1].ID // a notice that was pushed as well is not told twice
		if l.shares() {
			a.readUpTo[l.kind].Store(l.keptUpTo)
		}
	}
	return nil
}

// hears reports whether the link is told of the notice. Answers to what a component asked are for components:
// they are not said over a socket, and one that is there does not keep them from the next component.
func (l *Link) hears(n *Notice) bool {
	return l.kind == ComponentLink || l.kind == SocketLink && n.Kind == Unsubscribed && n.To == ""
}

// Reconnect is what a socket is to be told once when the server drains: when to come back. nil: nothing, or it
// was returned before. It belongs to who calls Take.
func (l *Link) Reconnect() *Reconnect {
	if l.sentAway {
		return nil
	}
	r := l.hub.Draining()
	l.sentAway = r != nil
	return r
}

// maxKept bounds the notices read for one connection; the rest come with the next.
const maxKept = 65536

// endLink ends a link and forgets its views.
func (h *Hub) endLink(l *Link, why End) {
	l.app.linking.Lock()
	defer l.app.linking.Unlock()
	h.endLinkLocked(l, why)
}

// endLinkLocked is endLink with the app's linking held.
func (h *Hub) endLinkLocked(l *Link, why End) {
	l.end(why)
	if !slices.Contains(l.app.links(), l) {
		return
	}
	h.relink(l.app, l, nil, func() { l.app.removeLink(l) })
	h.tell(Event{Kind: Unlinked, App: l.app.id, Detail: l.goodbye()})
}

func (l *Link) end(why End) {
	if l.ended.CompareAndSwap(uint32(Alive), uint32(why)) {
		l.ring()
	}
}

func (l *Link) ring() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// App returns the app as it was when the link was made.
func (l *Link) App() *App { return l.meta }

// Wake fires when Take may have something, or the link ended. It has one slot.
func (l *Link) Wake() <-chan struct{} { return l.wake }

// Take fills dst with what the app is to be told, oldest first, and returns how many. 0: nothing now. It
// reads each device's state at this moment and allocates nothing. After the link ended with EndShutdown it
// goes on until it is empty; after any other end it returns 0.
func (l *Link) Take(dst []Update) int {
	l.taking.Lock()
	defer l.taking.Unlock()
	if e := l.Ended(); e != Alive && e != EndShutdown {
		return 0
	}
	if l.held.Load() {
		return l.takeViews(dst)
	}
	n := l.takeKept(dst)
	// Neither presence nor messages starve the other: they take turns in being first.
	if l.turn = !l.turn; l.turn {
		n += l.takeViews(dst[n:])
	}
	n += l.takeLetters(dst[n:])
	n += l.takeMessages(dst[n:])
	return n + l.takeViews(dst[n:])
}

// takeViews takes what the list has: presence, and the ends of grants behind it.
func (l *Link) takeViews(dst []Update) (n int) {
	for n < len(dst) {
		v := l.pop()
		if v == nil {
			l.noOrphans()
			break
		}
		if v.kind != Presence {
			l.noticeTaken()
			if v.extra != 0 && uint64(v.extra) <= l.keptUpTo && !v.news {
				continue
			}
		}
		if v.render(&dst[n]) {
			l.number(&dst[n])
			n++
		}
		if v.kind == Presence && v.device.status() == Offline {
			l.hub.reap(v)
		}
	}
	return n
}

// number gives a notice the number by which Told knows it: they count up as they are handed out.
func (l *Link) number(u *Update) {
	if u.Kind != Presence && u.ID != 0 {
		l.mu.Lock()
		l.handed = append(l.handed, Notice{ID: u.ID, App: l.app.id, Kind: u.Kind, Local: u.Local, ByEmail: u.ByEmail, To: u.To})
		u.ID = l.told + uint64(len(l.handed))
		l.mu.Unlock()
	}
}

// pop returns the oldest view of the list, free to be pushed again; nil: there is none to be told now.
func (l *Link) pop() *view {
	held := l.held.Load()
	if l.taken == nil || !held && l.aside.first != nil {
		l.absorb()
	}
	v := l.taken
	for ; v != nil && held && l.aside.wants(v); v = l.taken {
		l.taken = v.next
		l.aside.add(v)
	}
	if v == nil {
		return nil
	}
	l.taken, v.next = v.next, nil
	// Before the device is read: a change from here on queues the view again.
	v.silent = atomic.AndUint32(&v.state, ^viewQueued)&viewMoved != 0
	return v
}

// absorb makes all that there is the list of what is taken, oldest first.
func (l *Link) absorb() {
	var fresh *view
	for v := l.head.Swap(nil); v != nil; {
		v.next, fresh, v = fresh, v, v.next
	}
	end := &l.taken
	for *end != nil {
		end = &(*end).next
	}
	*end = fresh
	if l.aside.first != nil {
		l.aside.last.next, l.taken = l.taken, l.aside.first
		l.aside = aside{}
	}
}

// aside is what a held link does not tell yet: notices, and what comes behind one of the same user.
type aside struct {
	first, last *view
	of          map[string]struct{} // the users
}

func (a *aside) wants(v *view) bool {
	_, of := a.of[v.grant.owner.email]
	return of || v.kind != Presence
}

func (a *aside) add(v *view) {
	if v.next = nil; a.first == nil {
		a.first, a.of = v, make(map[string]struct{})
	} else {
		a.last.next = v
	}
	a.last = v
	a.of[v.grant.owner.email] = struct{}{}
}

// reap forgets the view of a device that has gone, now that the app was told.
func (h *Hub) reap(v *view) {
	d := v.device
	sh := h.shard(d.user.email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if atomic.LoadUint32(&v.state)&viewQueued != 0 || d.status() != Offline {
		return // it came back
	}
	if i := slices.Index(d.views, v); i >= 0 {
		if d.views = slices.Delete(d.views, i, i+1); len(d.views) == 0 {
			d.views = nil
			sh.releaseLocked(d)
		}
	}
}

func (l *Link) takeKept(dst []Update) (n int) {
	for n < len(dst) && len(l.kept) > 0 {
		k := l.kept[0]
		dst[n] = Update{Kind: k.Kind, ByEmail: k.ByEmail, Local: k.Local, To: k.To, ID: k.ID}
		l.number(&dst[n])
		l.kept = l.kept[1:]
		n++
	}
	return n
}

func (l *Link) takeLetters(dst []Update) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := 0
	for ; n < len(dst) && i < len(l.letters); i++ {
		le := &l.letters[i]
		if le.grant.is(grantEnded) {
			continue
		}
		dst[n] = le.u
		dst[n].ByEmail, dst[n].Local = le.grant.byEmail, le.grant.local()
		n++
	}
	for j := range i {
		l.size -= l.letters[j].size()
	}
	l.letters = slices.Delete(l.letters, 0, i)
	return n
}

// pushNotice queues the end of a grant behind its devices. The user's shard is locked.
func (l *Link) pushNotice(g *grant, n *Notice) {
	l.queueNotice(&view{grant: g, link: l, kind: n.Kind, tag: n.To, extra: moment(n.ID)})
}

func (l *Link) queueNotice(v *view) {
	l.mu.Lock()
	l.notices++
	over := l.notices > l.hub.cfg.Limits.LinkPending
	l.mu.Unlock()
	if over {
		l.end(EndOverflow) // the notice is kept and comes with the next connection
		return
	}
	l.push(v)
}

// keepOrphan counts a view whose device is no longer kept for its sake; too many end the link.
func (l *Link) keepOrphan() {
	l.mu.Lock()
	l.orphans++
	over := l.orphans > l.hub.cfg.Limits.LinkPending
	l.mu.Unlock()
	if over {
		l.end(EndOverflow)
	}
}

// noOrphans starts the count anew: the list is empty.
func (l *Link) noOrphans() {
	l.mu.Lock()
	l.orphans = 0
	l.mu.Unlock()
}

func (l *Link) noticeTaken() {
	l.mu.Lock()
	l.notices--
	l.mu.Unlock()
}

// pushLetter adds a letter. Where too much waits the link ends, but for one of CCS: none of its connections is to end
// because they read too little, so the oldest are forgotten.
func (l *Link) pushLetter(le letter) {
	l.mu.Lock()
	if l.kind == CCSLink && l.overLocked(&le) {
		l.forgetLettersLocked()
	}
	over := l.overLocked(&le)
	if !over {
		l.letters = append(l.letters, le)
		l.size += le.size()
	}
	l.mu.Unlock()
	if over {
		l.end(EndOverflow)
		return
	}
	l.ring()
}

// overLocked reports whether there is no room for one more letter.
func (l *Link) overLocked(le *letter) bool {
	return len(l.letters) >= l.hub.cfg.Limits.LinkPending || l.size+le.size() > maxLetterBytes
}

// forgetLettersLocked drops the oldest quarter.
func (l *Link) forgetLettersLocked() {
	n := (len(l.letters) + 3) / 4
	for i := range l.letters[:n] {
		l.size -= l.letters[i].size()
	}
	l.letters = slices.Delete(l.letters, 0, n)
}

// Told says that every Subscribed and Unsubscribed up to this Update.ID has reached the app, so that they
// are not kept for the next connection.
func (l *Link) Told(id uint64) error {
	l.mu.Lock()
	n := 0
	if id > l.told {
		n = min(int(id-l.told), len(l.handed))
	}
	ids := make([]uint64, n)
	for i := range ids {
		ids[i] = l.handed[i].ID
	}
	l.handed = slices.Delete(l.handed, 0, n)
	l.told += uint64(n)
	l.mu.Unlock()
	if n == 0 {
		return nil
	}
	return storage(l.hub.cfg.Store.DropNotices(l.app.id, ids))
}

// Ended tells whether and why the hub ended the link.
func (l *Link) Ended() End { return End(l.ended.Load()) }

// Close ends the link because its connection did. Closing twice, or after it ended, changes nothing.
func (l *Link) Close() {
	l.bye.Store(l.Ended() == Alive)
	l.hub.endLink(l, EndReplaced)
}

// goodbye is why it ended, for those who look.
func (l *Link) goodbye() string {
	if l.bye.Load() {
		return "closed"
	}
	return l.Ended().String()
}
