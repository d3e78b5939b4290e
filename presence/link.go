package presence

import (
	"math/rand/v2"
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
	Since   time.Time // Presence: of the last change; FromDevice: when it was sent
	Idle    time.Time // Presence: zero if not idle or not granted
	Ref     string    // Receipt: the app's id of the notification; FromDevice: the device's of the message
	To      string    // Receipt, Subscribed, Unsubscribed: the address at the app that asked, if one did
	ID      uint64    // Subscribed, Unsubscribed: for Told; FromDevice: for Delivered; 0: nothing is kept of it
	Data    []byte    // FromDevice: one JSON object
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

	kept     []Notice   // owned by Take: what happened while the app was away
	keptUpTo uint64     // owned by Take: the ID of the last of them
	taken    *view      // owned by Take: swapped out, oldest first
	fetched  []Upstream // owned by Take: read from the store, not handed out
	cursor   uint64     // owned by Take: the last Seq read
	turn     bool       // owned by Take: whose turn it is to be first
	sentAway bool       // owned by Take: Reconnect was returned

	mail    atomic.Bool // there may be messages in the store
	recount atomic.Bool // links came or went: who is responsible for which messages has changed

	mu      sync.Mutex
	letters []letter            // guarded by mu: at most Limits.LinkPending
	notices int                 // guarded by mu: pushed and not taken
	orphans int                 // guarded by mu: views since the list was empty that outlived their device
	handed  []uint64            // guarded by mu: the store's IDs of notices handed out and not told
	told    uint64              // guarded by mu: how many were told before them
	unacked map[uint64]struct{} // guarded by mu: Seq of messages handed out, at most maxUnacked; nil: none
}

// letter is what goes to an app through memory only: a receipt, or a message with TTL 0.
type letter struct {
	grant *grant
	u     Update // without Local and ByEmail
}

// Link registers a connection of the app and snapshots what it may see; the first Take should wait until
// the peer is ready, and what changes meanwhile is part of the snapshot. By the app's conflict policy the
// older links of the kind end with EndReplaced, or this call fails with ErrConflict, or they share the
// users; those in beside do not count. Errors: ErrNoApp (also disabled), ErrConflict, ErrTooMany,
// ErrDraining, ErrStorage.
func (h *Hub) Link(id string, kind LinkKind, beside ...*Link) (*Link, error) {
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
		return l.kind != kind || slices.Contains(beside, l)
	})
	switch {
	case meta.Conflict == Reject && len(older) > 0:
		return nil, ErrConflict
	case meta.Conflict == Share && len(older) >= h.cfg.Limits.LinksPerApp:
		return nil, ErrTooMany
	}
	l := &Link{hub: h, app: a, kind: kind, meta: meta, wake: make(chan struct{}, 1), serial: a.nextSerial()}
	if meta.Conflict != Share {
		for _, old := range older {
			h.endLinkLocked(old, EndReplaced)
		}
	}
	a.setLinks(append(slices.Clone(a.links()), l)) // from here on who comes makes views for l
	var err error
	if l.kept, err = h.cfg.Store.NoticesOf(id, maxKept); err != nil {
		h.endLinkLocked(l, EndRemoved)
		return nil, storage(err)
	}
	l.kept = slices.DeleteFunc(l.kept, func(n Notice) bool { return !l.hears(&n) })
	if n := len(l.kept); n > 0 {
		l.keptUpTo = l.kept[n-1].ID // a notice that was pushed as well is not told twice
	}
	h.relink(a)
	h.tell(Event{Kind: Linked, App: id})
	l.ring()
	return l, nil
}

// hears reports whether the link is told of the notice. Answers to what a component asked are for components:
// they are not said over a socket, and one that is there does not keep them from the next component.
func (l *Link) hears(n *Notice) bool {
	return l.kind == ComponentLink || n.Kind == Unsubscribed && n.To == ""
}

// Reconnect is what a socket is to be told once when the server drains: when to come back. nil: nothing, or it
// was returned before. It belongs to who calls Take.
func (l *Link) Reconnect() *Reconnect {
	r := l.hub.drain.Load()
	if r == nil || l.sentAway {
		return nil
	}
	l.sentAway = true
	return &Reconnect{After: rand.N(r.After + 1), Reason: r.Reason}
}

// maxKept bounds the notices read for one connection; the rest come with the next.
const maxKept = 65536

// relink gives every device that is there the views that the app's open links should have of it, and no
// others, shard by shard. New ones make up the snapshot.
func (h *Hub) relink(a *app) {
	links := a.links()
	for _, l := range links {
		l.recount.Store(true)
		l.mail.Store(true)
		l.ring()
	}
	for i := range h.shards {
		sh := &h.shards[i]
		sh.mu.Lock()
		for _, u := range sh.users {
			g := u.grant(a.id)
			if g == nil {
				continue
			}
			sh.dropViewsLocked(u, func(v *view) bool {
				stray := v.grant == g && !(slices.Contains(links, v.link) && a.concerns(v.link, u.email))
				if stray {
					v.moveLocked()
				}
				return stray
			})
			for d := u.devices; d != nil; d = d.next {
				if d.status() == Offline {
					continue
				}
				for _, l := range links {
					if a.concerns(l, u.email) {
						h.snapshotLocked(d, g, l)
					}
				}
			}
		}
		sh.mu.Unlock()
	}
}

// snapshotLocked shows a device to a link that has no view of it.
func (h *Hub) snapshotLocked(d *device, g *grant, l *Link) {
	if v, isNew := h.addViewLocked(d, g, l); isNew {
		v.news = false
		l.push(v)
	}
}

// endLink ends a link and forgets its views.
func (h *Hub) endLink(l *Link, why End) {
	l.app.linking.Lock()
	defer l.app.linking.Unlock()
	h.endLinkLocked(l, why)
}

// endLinkLocked is endLink with the app's linking held.
func (h *Hub) endLinkLocked(l *Link, why End) {
	l.end(why)
	links := l.app.links()
	if !slices.Contains(links, l) {
		return
	}
	l.app.setLinks(slices.DeleteFunc(slices.Clone(links), func(o *Link) bool { return o == l }))
	h.relink(l.app)
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
	if e := l.Ended(); e != Alive && e != EndShutdown {
		return 0
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
			if v.extra != 0 && uint64(v.extra) <= l.keptUpTo {
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
		l.handed = append(l.handed, u.ID)
		u.ID = l.told + uint64(len(l.handed))
		l.mu.Unlock()
	}
}

// pop returns the oldest view of the list, free to be pushed again.
func (l *Link) pop() *view {
	if l.taken == nil {
		for v := l.head.Swap(nil); v != nil; { // turn it round: oldest first
			v.next, l.taken, v = l.taken, v, v.next
		}
	}
	v := l.taken
	if v != nil {
		l.taken, v.next = v.next, nil
		// Before the device is read: a change from here on queues the view again.
		v.silent = atomic.AndUint32(&v.state, ^viewQueued)&viewMoved != 0
	}
	return v
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
	l.letters = slices.Delete(l.letters, 0, i)
	return n
}

// pushNotice queues the end of a grant behind its devices. The user's shard is locked.
func (l *Link) pushNotice(g *grant, n *Notice) {
	l.mu.Lock()
	l.notices++
	over := l.notices > l.hub.cfg.Limits.LinkPending
	l.mu.Unlock()
	if over {
		l.end(EndOverflow) // the notice is kept and comes with the next connection
		return
	}
	l.push(&view{grant: g, link: l, kind: n.Kind, tag: n.To, extra: moment(n.ID)})
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

func (l *Link) pushLetter(le letter) {
	l.mu.Lock()
	over := len(l.letters) >= l.hub.cfg.Limits.LinkPending
	if !over {
		l.letters = append(l.letters, le)
	}
	l.mu.Unlock()
	if over {
		l.end(EndOverflow)
		return
	}
	l.ring()
}

// Told says that every Subscribed and Unsubscribed up to this Update.ID has reached the app, so that they
// are not kept for the next connection.
func (l *Link) Told(id uint64) error {
	l.mu.Lock()
	n := 0
	if id > l.told {
		n = min(int(id-l.told), len(l.handed))
	}
	ids := slices.Clone(l.handed[:n])
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
