package presence

import (
	"slices"
	"sync/atomic"
)

// Connections of a kind that share an app. Of each user one of them is told, chosen by hash from those that are
// there; while none is, those whose connection may come back collect for it. Who is told of a user knows the truth
// about her, whoever was told before: what the one before had not told, and what it had told and is not so any
// more, moves with her.

// concerns reports whether the link is told of the user.
func (a *app) concerns(l *Link, email string) bool {
	return l.kind != CCSLink && (!l.shares() || a.chosen(email, l.kind) == l)
}

// shares reports whether the link has only some of the app's users.
func (l *Link) shares() bool { return l.kind != CCSLink && l.meta.Conflict == Share }

// chosen is the link of the kind that is told of the user where they share the app; few users move when one comes
// or goes (rendezvous hashing). nil: there is none.
func (a *app) chosen(email string, kind LinkKind) (best *Link) {
	var most uint64
	for _, l := range a.links() {
		if l.kind != kind {
			continue
		}
		w := l.weight(email)
		switch away := l.away.Load(); {
		case best == nil, best.away.Load() && !away, best.away.Load() == away && w > most:
			best, most = l, w
		}
	}
	return best
}

func (l *Link) weight(email string) uint64 {
	w := l.hub.placing.of(email) ^ l.serial*0x9e3779b97f4a7c15
	w ^= w >> 32 // finished as in splitmix64, so that near serials differ everywhere
	w *= 0xd6e8feb86659fd93
	w ^= w >> 32
	w *= 0xd6e8feb86659fd93
	return w ^ w>>32
}

// carrier is the one link that takes the user's messages: the newest component, or of those that share the
// chosen one; without a component that is there the newest socket or CCS that is, and without that one that may come
// back. nil: the app is away.
func (a *app) carrier(email string) (best *Link) {
	for _, l := range a.links() {
		if (l.kind == CCSLink || a.concerns(l, email)) && (best == nil || l.rank() >= best.rank()) {
			best = l
		}
	}
	return best
}

func (l *Link) rank() int {
	switch {
	case l.away.Load():
		return 0
	case l.kind != ComponentLink:
		return 1
	}
	return 2
}

// detached reports whether the link is without its connection; one that is to begin counts as connected.
func (l *Link) detached() bool { return l.away.Load() && !l.held.Load() }

// Detach says that the connection is gone and may be resumed: until [Link.Yield] names this link, others of the
// app that are there get its users, and what it had for them and not handed out. What it had handed out stays its
// own until it ends. Nobody may be in Take.
func (l *Link) Detach() { l.setAway(true) }

// Join ends what [Hub.LinkHeld] began as far as presence is concerned: the link gets its share of the users.
func (l *Link) Join() {
	if l.away.Load() {
		l.setAway(false)
	}
}

// Open is Join, and from here on Take hands out everything.
func (l *Link) Open() {
	l.Join()
	if l.held.CompareAndSwap(true, false) {
		l.ring()
	}
}

// Held reports whether Take hands out presence only.
func (l *Link) Held() bool { return l.held.Load() }

func (l *Link) setAway(away bool) {
	a := l.app
	a.linking.Lock()
	defer a.linking.Unlock()
	if !slices.Contains(a.links(), l) {
		return
	}
	if l.shares() {
		l.hub.relink(a, nil, nil, func() { l.away.Store(away) })
	} else {
		l.away.Store(away)
		a.recount()
	}
}

// Yield ends the link because its connection goes on as that of to, which was detached: to has its users back, and
// what l was to hand out and no other link will. Only who takes from l may call it.
func (l *Link) Yield(to *Link) {
	a := l.app
	a.linking.Lock()
	defer a.linking.Unlock()
	l.end(EndReplaced)
	l.hub.relink(a, l, to, func() {
		to.away.Store(false)
		a.removeLink(l)
	})
}

// recount makes every link look for messages anew: who is responsible for which has changed.
func (a *app) recount() {
	for _, l := range a.links() {
		l.recount.Store(true)
		l.mail.Store(true)
		l.ring()
	}
}

// shift is one change of which links an app has, and which of them are there. While it is made nobody takes from one of
// its links, so that nobody sees half of it.
type shift struct {
	hub   *Hub
	app   *app
	gone  *Link // has just ended; nil: none
	heir  *Link // takes what gone had and nobody else tells; nil: nobody. Where links share who is chosen does
	share bool
}

// relink gives every device that is there the views that the app's open links should have of it, and no
// others, shard by shard, after change has changed them. New ones make up the snapshot. gone ends by it, heir goes on
// in its place; either may be nil. The app's linking is held.
func (h *Hub) relink(a *app, gone, heir *Link, change func()) {
	s := shift{hub: h, app: a, gone: gone, heir: heir}
	var sides []*Link
	stop := func(l *Link) {
		if !slices.Contains(sides, l) {
			sides = append(sides, l)
			s.share = s.share || l.shares()
			l.taking.Lock()
		}
	}
	for _, l := range a.links() {
		stop(l)
	}
	change()
	for _, l := range a.links() {
		stop(l) // the new one
	}
	defer func() {
		for _, l := range sides {
			l.taking.Unlock()
		}
	}()
	a.recount()
	s.moveLists(sides) // before presence, so that it comes behind what was said of its user before
	for i := range h.shards {
		sh := &h.shards[i]
		sh.mu.Lock()
		for _, u := range sh.users {
			if g := u.grant(a.id); g != nil {
				s.moveUserLocked(sh, u, g)
			}
		}
		sh.mu.Unlock()
	}
	s.moveLists(sides) // what was still queued by who had looked before
	for _, l := range sides {
		s.moveNotices(l)
		s.moveLetters(l)
	}
}

// owner is the link that tells of the user from now on, in place of those of its kind that told before; nil: none.
func (s *shift) owner(email string, kind LinkKind) *Link {
	switch {
	case s.share:
		return s.app.chosen(email, kind)
	case s.heir != nil && s.heir.kind == kind:
		return s.heir
	}
	return nil
}

// leaves reports whether the link hands nothing out from now on.
func (s *shift) leaves(l *Link) bool { return l == s.gone || s.share && l.away.Load() }

// moveUserLocked gives each of the user's devices the right views.
func (s *shift) moveUserLocked(sh *shard, u *user, g *grant) {
	for d := g.firstLocked(); d != nil; {
		next := d.next
		owed := s.sortViewsLocked(d, g)
		for _, l := range s.app.links() {
			told := Offline
			if l == s.owner(u.email, l.kind) {
				told = owed[l.kind]
			}
			if s.app.concerns(l, u.email) && (d.status() != Offline || told != Offline) {
				s.hub.snapshotLocked(d, g, l, told)
			}
		}
		if len(d.views) == 0 {
			d.views = nil
			sh.releaseLocked(d)
		}
		d = next
	}
}

// sortViewsLocked takes the views off the device that links should not have of it, and returns what, for each
// kind, one that told of it until now had told. A link that may come back keeps its view, silent, and goes on where it was.
func (s *shift) sortViewsLocked(d *device, g *grant) (owed [linkKinds]Status) {
	links := s.app.links()
	d.views = slices.DeleteFunc(d.views, func(v *view) bool {
		if v.grant != g {
			return false
		}
		here := slices.Contains(links, v.link)
		if here && s.app.concerns(v.link, d.user.email) {
			if !v.link.away.Load() { // else others may have told more since, see snapshotLocked
				v.returnLocked()
			}
			return false
		}
		owed[v.link.kind] = max(owed[v.link.kind], v.leaveLocked())
		return !here || atomic.LoadUint32(&v.state)&viewParked == 0
	})
	return owed
}

// snapshotLocked shows a device to a link that has no view of it. told is what the app has been told by another
// link: where this one has told nothing, it tells what is true now in any case.
func (h *Hub) snapshotLocked(d *device, g *grant, l *Link, told Status) {
	v, isNew := h.addViewLocked(d, g, l)
	if isNew {
		v.news = false
	}
	if told != Offline { // if the link is away: it answers for what was told, until another does
		v.returnLocked()
	}
	owes := told != Offline && v.known() == Offline
	if owes {
		v.told = v.told&heard | owing | uint8(told)
	}
	if isNew || owes {
		l.push(v)
	}
}

// moveLists takes out of the links' lists what another link is to tell.
func (s *shift) moveLists(sides []*Link) {
	if !s.share && s.heir == nil {
		return
	}
	for _, l := range sides {
		l.absorb()
		for v := l.taken; v != nil; v = v.next {
			s.bringBack(v)
		}
	}
	for _, l := range sides {
		to := &l.taken
		for v := l.taken; v != nil; v = v.next {
			if s.staysListed(v) {
				*to, to = v, &v.next
			}
		}
		*to = nil
	}
}

// bringBack lets a view on a list that is no device's any more speak again, if its link is to tell it again. It is done
// before others are moved, so that they need not tell the same.
func (s *shift) bringBack(v *view) {
	if v.kind != Presence || atomic.LoadUint32(&v.state)&viewParked == 0 {
		return
	}
	email := v.grant.owner.email
	sh := s.hub.shard(email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.owner(email, v.link.kind) == v.link && !sh.hasViewLocked(v) {
		v.returnLocked()
	}
}

// staysListed moves a view of a list, or a notice, to the link that is to tell it; true: it is to stay where it is.
// Devices' own views are not moved: moveUserLocked makes new ones.
func (s *shift) staysListed(v *view) bool {
	email, stays := v.grant.owner.email, v.link != s.gone
	owner := s.owner(email, v.link.kind)
	if !s.share && stays {
		return true
	}
	sh := s.hub.shard(email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch {
	case v.kind != Presence:
		if owner == v.link {
			return true
		}
		if s.share && owner != nil {
			v.link.noticeTaken()
			owner.queueNotice(&view{grant: v.grant, link: owner, kind: v.kind, tag: v.tag, extra: v.extra, news: true})
			return false
		}
	case sh.hasViewLocked(v):
	case owner == v.link: // it was so before, and what was dropped stays so, but for what bringBack did
	default: // the grant has ended, or the device is forgotten
		told := v.leaveLocked()
		if s.share && owner != nil && told != Offline && !owner.lists(v.device, v.grant) {
			owner.push(&view{device: v.device, grant: v.grant, link: owner, tag: v.tag, kind: Presence, told: owing | uint8(told)})
		}
	}
	return stays
}

// lists reports whether a view of the device through the grant is on the list, and speaks. The shard and taking are locked.
func (l *Link) lists(d *device, g *grant) bool {
	for _, v := range []*view{l.taken, l.head.Load()} {
		for ; v != nil; v = v.next {
			if v.device == d && v.grant == g && atomic.LoadUint32(&v.state)&viewMoved == 0 {
				return true
			}
		}
	}
	return false
}

// hasViewLocked reports whether the view is one of a device that is there.
func (sh *shard) hasViewLocked(v *view) bool {
	u := v.device.user
	return sh.users[u.email] == u && (u.whole == v.device || u.device(v.device.id) == v.device) && slices.Contains(v.device.views, v)
}

// moveNotices hands on the notices that the link has from the store, those it had handed out only if it has ended.
func (s *shift) moveNotices(from *Link) {
	if !s.share || !s.leaves(from) {
		return
	}
	var all []Notice
	if from == s.gone {
		from.mu.Lock()
		all, from.handed = from.handed, nil
		from.mu.Unlock()
	}
	all = append(all, from.kept...)
	from.kept = nil
	for _, n := range all {
		if owner := s.app.chosen(n.Local, from.kind); owner != nil {
			owner.kept = append(owner.kept, n)
		}
	}
}

// moveLetters hands on what goes through memory. Where links do not share each has had its own receipts.
func (s *shift) moveLetters(from *Link) {
	if !s.leaves(from) {
		return
	}
	from.mu.Lock()
	all := from.letters
	from.letters, from.size = nil, 0
	from.mu.Unlock()
	for _, le := range all {
		if owner := s.owner(le.grant.owner.email, from.kind); owner != nil && (s.share || le.u.Kind == FromDevice) {
			owner.pushLetter(le)
		}
	}
}

// leaveLocked silences a view because another link tells of its device, for good unless its own link may come back. It
// returns what the view had told: once.
func (v *view) leaveLocked() (told Status) {
	state := atomic.LoadUint32(&v.state)
	switch moved := state&viewMoved != 0; {
	case !v.link.away.Load():
		atomic.AndUint32(&v.state, ^viewParked)
	case !moved:
		atomic.OrUint32(&v.state, viewParked)
	}
	if atomic.OrUint32(&v.state, viewMoved)&viewMoved != 0 {
		return Offline
	}
	return v.known()
}

// returnLocked lets a view speak again. If its device has changed meanwhile it tells what is so now in any case: the app
// may have heard something else from another link in between. Nobody takes from the link.
func (v *view) returnLocked() {
	const parkedAndQueued = viewParked | viewQueued
	if atomic.AndUint32(&v.state, ^(viewMoved|viewParked))&parkedAndQueued == parkedAndQueued && v.known() != Offline {
		v.told |= owing
	}
}
