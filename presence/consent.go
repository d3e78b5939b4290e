package presence

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// endBatch is how many grants end in one commit.
const endBatch = 256

// Allow writes a grant, new or changed. An empty PUID is filled: with the present one if the grant exists,
// else a new one. The app sees at once what it may see now. ErrNoApp; ErrBadValue wraps what Check says.
func (h *Hub) Allow(g Grant, by Actor) (Grant, error) {
	gs := []Grant{g}
	err := h.Import(gs, by)
	return gs[0], err
}

// Edit changes a grant, or makes one: edit gets the present one, or a new one with notifications, and nobody
// else changes it meanwhile. An error of edit is returned and nothing is changed. Else as Allow.
func (h *Hub) Edit(email, app string, by Actor, edit func(g *Grant, exists bool) error) (Grant, error) {
	defer h.lockStripes([]string{email})()
	g, ok, err := h.cfg.Store.Grant(email, app)
	if err != nil {
		return Grant{}, storage(err)
	}
	if ok && g.Ended(h.cfg.Now()) {
		ok = false
	}
	if !ok {
		g = Grant{Email: email, App: app, Notify: true}
	}
	if err := edit(&g, ok); err != nil {
		return Grant{}, err
	}
	gs := []Grant{g}
	err = h.importLocked(gs, by)
	return gs[0], err
}

// Import is Allow for many in one commit; it fills in what each of gs left out. A grant that comes with
// another PUID than the present one ends that one: its address is no more.
func (h *Hub) Import(gs []Grant, by Actor) error {
	emails := make([]string, len(gs))
	for i := range gs {
		emails[i] = gs[i].Email
	}
	defer h.lockStripes(emails)()
	return h.importLocked(gs, by)
}

// importLocked is Import with the stripes held.
func (h *Hub) importLocked(gs []Grant, by Actor) error {
	now := h.cfg.Now().UTC()
	audit := make([]AuditEntry, len(gs))
	var replaced []Grant
	for i := range gs {
		old, what, err := h.completeGrant(&gs[i], now)
		if err != nil {
			return fmt.Errorf("grant of %s to %s: %w", gs[i].Email, gs[i].App, err)
		}
		if old != nil {
			replaced = append(replaced, *old)
		}
		audit[i] = AuditEntry{Time: now, Email: gs[i].Email, App: gs[i].App, What: what, By: by, Detail: gs[i].leftOut()}
	}
	if err := h.cfg.Store.PutGrants(gs, audit); err != nil {
		return storage(err)
	}
	h.changes.Add(1)
	err := h.endReplaced(replaced, momentOf(now))
	for i := range gs { // they hold, whatever fails from here on
		h.noteUntil(gs[i].Until)
		err = errors.Join(err, h.settleRequest(&gs[i], by))
		h.applyGrant(&gs[i], momentOf(now))
		h.tell(Event{Kind: GrantChanged, Email: gs[i].Email, App: gs[i].App, Detail: audit[i].What, By: by})
	}
	return err
}

// endReplaced ends grants whose address another has taken over: what waits came through them, and their
// apps hear that they ended.
func (h *Hub) endReplaced(old []Grant, now moment) error {
	if len(old) == 0 {
		return nil
	}
	err := h.purge(old)
	for i := range old {
		n := old[i].notice(Unsubscribed)
		err = errors.Join(err, storage(h.cfg.Store.PutNotice(&n)))
		h.dropGrant(&old[i], &n, now)
	}
	return err
}

// purge removes what waits in both directions under the grants.
func (h *Hub) purge(gs []Grant) error {
	var last *Commit
	for i := range gs {
		last = h.cfg.Store.Purge(gs[i].Email, gs[i].App)
	}
	if err := last.Wait(); err != nil {
		return storage(err)
	}
	for i := range gs {
		if err := h.cfg.Store.PurgeUpstream(gs[i].Email, gs[i].App); err != nil {
			return storage(err)
		}
	}
	return nil
}

// completeGrant fills in what was left out from the present grant or anew, and says what the write is, and
// which grant it replaces under another address, if it does.
func (h *Hub) completeGrant(g *Grant, now time.Time) (replaced *Grant, what string, err error) {
	if h.apps.get(g.App) == nil {
		return nil, "", ErrNoApp
	}
	old, exists, err := h.cfg.Store.Grant(g.Email, g.App)
	if err != nil {
		return nil, "", storage(err)
	}
	g.Settle(now)
	g.PUID = strings.ToLower(g.PUID) // the local part of an address is folded: RFC 7622 §3.3
	what = "allow"
	if exists && !old.Ended(now) && (g.PUID == "" || g.PUID == old.PUID) {
		what, g.PUID, g.Created = "change", old.PUID, old.Created
		if g.Address == "" {
			g.Address = old.Address
		}
	}
	if exists && (g.PUID != old.PUID || g.Address != "" && g.Address != old.Address) {
		replaced = &old
	}
	if g.PUID == "" {
		g.PUID = NewPUID()
	}
	if g.Address == "" {
		if g.Address, err = h.newAddress(g.Email, g.App); err != nil {
			return nil, "", err
		}
	}
	if g.Created.IsZero() {
		g.Created = now
	}
	if err := g.Check(); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrBadValue, err)
	}
	if g.Ended(now) {
		return nil, "", fmt.Errorf("%w: until is in the past", ErrBadValue)
	}
	return replaced, what, nil
}

// newAddress is the form in which an app will know a user: as it asked, else by PUID.
func (h *Hub) newAddress(email, app string) (AddressKind, error) {
	_, asked, err := h.cfg.Store.Request(email, app)
	if asked {
		return ByEmail, nil
	}
	return ByPUID, storage(err)
}

// applyGrant brings a written grant to memory, if its user is there. Called under her stripe.
func (h *Hub) applyGrant(g *Grant, now moment) {
	sh := h.shard(g.Email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	u := sh.users[g.Email]
	if u == nil {
		return
	}
	if old := u.grant(g.App); old != nil {
		same := old.puid == g.PUID && old.byEmail == (g.Address == ByEmail)
		if same && old.whole == g.NoDevices {
			h.setGrantLocked(sh, old, g, now)
			return
		}
		notice := &Notice{Kind: Unsubscribed} // another address: the old one ends
		if same {
			notice = nil // only what was seen through it does
		}
		h.endGrantLocked(sh, old, notice, now)
		if sh.users[g.Email] != u { // only waiting to tell of the old one
			return
		}
	}
	fresh := h.newGrantLocked(sh, u, g, now)
	if fresh == nil {
		return
	}
	u.grants = append(u.grants, fresh)
	for d := fresh.firstLocked(); d != nil; d = d.next {
		if d.status() != Offline {
			for _, l := range fresh.app.links() {
				if fresh.app.concerns(l, u.email) {
					v, _ := h.addViewLocked(d, fresh, l)
					l.push(v)
				}
			}
		}
	}
}

// newGrantLocked makes the memory form of a grant; nil: its app does not exist.
func (h *Hub) newGrantLocked(sh *shard, u *user, stored *Grant, now moment) *grant {
	a := h.apps.get(stored.App)
	if a == nil {
		return nil
	}
	g := &grant{app: a, puid: stored.PUID, owner: u, byEmail: stored.Address == ByEmail, whole: stored.NoDevices, muted: stored.NoStatus,
		hours: stored.hours(h.weekLocked(sh, stored)), paused: stored.pause()}
	if g.whole {
		u.needWholeLocked()
	}
	g.setLocked(grantIdle, stored.Idle)
	g.flipped.Store(int64(g.hours.lastLocked(now, momentOf(stored.Created))))
	hidden, next := g.lookLocked(now)
	g.setLocked(grantHidden, hidden)
	h.scheduleLocked(sh, g, next, now)
	return g
}

// setGrantLocked changes a grant in place: its address and so its views stay.
func (h *Hub) setGrantLocked(sh *shard, g *grant, stored *Grant, now moment) {
	g.hours, g.paused, g.muted = stored.hours(h.weekLocked(sh, stored)), stored.pause(), stored.NoStatus
	idle := g.setLocked(grantIdle, stored.Idle)
	if !h.flipLocked(sh, g, now) && idle {
		pushGrantLocked(g)
	}
}

// flipLocked makes the grant hidden or shown as it has to be now and sets its next timer; it reports
// whether that was a change.
func (h *Hub) flipLocked(sh *shard, g *grant, now moment) bool {
	hidden, next := g.lookLocked(now)
	changed := hidden != g.is(grantHidden)
	if changed {
		flipped := now
		for d := g.firstLocked(); hidden && d != nil; d = d.next {
			if d.status() != Offline { // who came in this millisecond came before
				flipped = max(flipped, d.up+1)
			}
		}
		g.flipped.Store(int64(flipped)) // before hidden: see view.visible
		g.setLocked(grantHidden, hidden)
		pushGrantLocked(g)
		h.showQueuesLocked(g.owner)
	}
	h.scheduleLocked(sh, g, next, now)
	return changed
}

// flipAndTellLocked is flipLocked for a change that nobody made.
func (h *Hub) flipAndTellLocked(sh *shard, g *grant, now moment) {
	if !h.flipLocked(sh, g, now) {
		return
	}
	what := "shown"
	if g.is(grantHidden) {
		what = "hidden"
	}
	h.tell(Event{Kind: GrantChanged, Email: g.owner.email, App: g.app.id, Detail: what, By: BySystem})
}

// scheduleLocked sets the grant's timer; due 0: it does nothing by itself.
func (h *Hub) scheduleLocked(sh *shard, g *grant, due, now moment) {
	if due != 0 && due <= now {
		due = now + 1
	}
	sh.setLocked(&g.timer, due, nil, g)
	h.ringBefore(due)
}

func pushGrantLocked(g *grant) {
	for d := g.firstLocked(); d != nil; d = d.next {
		for _, v := range d.views {
			if v.grant == g {
				v.link.push(v)
			}
		}
	}
}

// endGrantLocked ends a grant in memory: gone from each device, then the notice, in this order on each link.
func (h *Hub) endGrantLocked(sh *shard, g *grant, n *Notice, now moment) {
	g.flipped.Store(int64(now))
	g.setLocked(grantEnded, true)
	pushGrantLocked(g)
	if n != nil {
		g.pushNotice(n)
	}
	sh.stopLocked(&g.timer)
	u := g.owner
	u.grants = slices.DeleteFunc(u.grants, func(o *grant) bool { return o == g })
	sh.dropViewsLocked(u, func(v *view) bool { return v.grant == g })
	u.dropWholeLocked()
}

// Revoke ends a grant: Offline for each visible device, then Unsubscribed; what waits is removed. ErrNoGrant.
func (h *Hub) Revoke(email, app string, by Actor) error {
	g, ok, err := h.cfg.Store.Grant(email, app)
	if err != nil {
		return storage(err)
	}
	if !ok {
		return ErrNoGrant
	}
	n, err := h.endGrants([]Grant{g}, ending{what: "revoke", by: by, tell: true})
	if n == 0 && err == nil {
		return ErrNoGrant // somebody was faster
	}
	return err
}

// ending is how grants end.
type ending struct {
	what string // for the audit
	by   Actor
	tell bool // the app
	due  bool // only those whose Until has come
}

// endGrants ends those of the grants that are still as they were read, in one commit, and returns how many.
// First what waits is removed, so that a crash between leaves a grant without a queue and never a queue
// without a grant.
func (h *Hub) endGrants(gs []Grant, e ending) (int, error) {
	emails := make([]string, len(gs))
	for i := range gs {
		emails[i] = gs[i].Email
	}
	defer h.lockStripes(emails)()
	now := h.cfg.Now().UTC()
	gs, err := h.stillThere(gs, e, now)
	if err != nil || len(gs) == 0 {
		return 0, err
	}
	audit := make([]AuditEntry, len(gs))
	var notices []Notice
	for i := range gs {
		audit[i] = AuditEntry{Time: now, Email: gs[i].Email, App: gs[i].App, What: e.what, By: e.by}
		if e.tell {
			notices = append(notices, gs[i].notice(Unsubscribed))
		}
	}
	if err := h.purge(gs); err != nil {
		return 0, err
	}
	if err := h.cfg.Store.RemoveGrants(gs, audit, notices); err != nil {
		return 0, storage(err)
	}
	h.changes.Add(1)
	for i := range gs {
		var n *Notice
		if e.tell {
			n = &notices[i]
		}
		h.dropGrant(&gs[i], n, momentOf(now))
		h.tell(Event{Kind: GrantChanged, Email: gs[i].Email, App: gs[i].App, Detail: e.what, By: e.by})
	}
	return len(gs), nil
}

// stillThere reads the grants again under their stripes and keeps those that are the same ones. An app that
// asked keeps its address in it, so the PUID tells.
func (h *Hub) stillThere(gs []Grant, e ending, now time.Time) (same []Grant, err error) {
	for i := range gs {
		g, ok, err := h.cfg.Store.Grant(gs[i].Email, gs[i].App)
		if err != nil {
			return nil, storage(err)
		}
		if ok && g.PUID == gs[i].PUID && (!e.due || g.Ended(now)) {
			same = append(same, g)
		}
	}
	return same, nil
}

func (g *Grant) notice(k Kind) Notice {
	if g.Address == ByEmail {
		return Notice{App: g.App, Kind: k, Local: g.Email, ByEmail: true}
	}
	return Notice{App: g.App, Kind: k, Local: g.PUID}
}

// dropGrant takes an ended grant out of memory and tells the app's links.
func (h *Hub) dropGrant(stored *Grant, n *Notice, now moment) {
	sh := h.shard(stored.Email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if u := sh.users[stored.Email]; u != nil {
		if g := u.grant(stored.App); g != nil {
			h.endGrantLocked(sh, g, n, now)
			return
		}
	}
	if a := h.apps.get(stored.App); a != nil && n != nil { // nobody is there: only the notice
		g := &grant{app: a, puid: stored.PUID, owner: &user{email: stored.Email}, byEmail: n.ByEmail}
		g.pushNotice(n)
	}
}

// RemoveUser revokes all her grants and ends her sessions (EndRemoved); removing what the store keeps of
// her beside is the caller's.
func (h *Hub) RemoveUser(email string, by Actor) error {
	gs, err := h.cfg.Store.GrantsOf(email)
	if err != nil {
		return storage(err)
	}
	if err := h.leaveDeviceGroups(gs); err != nil { // while it is known by which names
		return err
	}
	_, err = h.endGrants(gs, ending{what: "revoke", by: by, tell: true})
	sh := h.shard(email)
	sh.mu.Lock()
	defer h.unlock(sh)
	sh.lost.forget(email, nil)
	if u := sh.users[email]; u != nil {
		u.veil, u.barred = 0, false // who comes by this name again is somebody new
		h.endDevicesLocked(sh, u, EndRemoved, h.now())
	}
	h.tell(Event{Kind: UserChanged, Email: email, Detail: "removed", By: by})
	return err
}

// lockStripes takes the stripes of the users, in one order whoever asks, and returns their release.
func (h *Hub) lockStripes(emails []string) (release func()) {
	idx := make([]int, len(emails))
	for i, e := range emails {
		idx[i] = h.stripeIndex(e)
	}
	slices.Sort(idx)
	idx = slices.Compact(idx)
	for _, i := range idx {
		h.stripes[i].Lock()
	}
	return func() {
		for _, i := range idx {
			h.stripes[i].Unlock()
		}
	}
}

// loadUntil reads when the next grant ends.
func (h *Hub) loadUntil() error {
	t, ok, err := h.cfg.Store.NextUntil()
	if err != nil {
		return err
	}
	due := maxMoment
	if ok {
		due = momentOf(t)
	}
	h.until.Store(int64(due))
	return nil
}

func (h *Hub) noteUntil(t *time.Time) {
	if t == nil {
		return
	}
	at := momentOf(*t)
	for {
		old := h.until.Load()
		if int64(at) >= old || h.until.CompareAndSwap(old, int64(at)) {
			break
		}
	}
	h.ringBefore(at)
}

// endDue ends the grants whose Until has come. Who is present was hidden by her own timer already.
func (h *Hub) endDue(now time.Time) error {
	h.until.Store(int64(maxMoment)) // noteUntil lowers it again while this reads
	for {
		gs, err := h.cfg.Store.EndedGrants(now, endBatch)
		if err == nil {
			_, err = h.endGrants(gs, ending{what: "ended", by: BySystem, tell: true, due: true})
		}
		if err != nil {
			h.noteUntil(&now)
			return storage(err)
		}
		if len(gs) < endBatch {
			break
		}
	}
	t, ok, err := h.cfg.Store.NextUntil()
	if ok {
		h.noteUntil(&t)
	}
	return err
}

// findGrant returns the active grant that the peer names for this app, with its user's stripe held for
// reading until release is called: nobody revokes it meanwhile. ErrStranger: there is none, for whatever
// reason.
func (h *Hub) findGrant(a *app, p Peer) (g Grant, release func(), err error) {
	if (p.PUID == "") == (p.Email == "") {
		return Grant{}, nil, ErrStranger
	}
	changes := h.changes.Load()
	g, ok, err := h.readGrant(a, p)
	if !ok || err != nil {
		return Grant{}, nil, orStranger(err)
	}
	st := h.stripe(g.Email)
	st.RLock()
	if h.changes.Load() != changes { // read before the lock, so maybe stale
		if g, ok, err = h.readGrant(a, p); !ok || err != nil {
			st.RUnlock()
			return Grant{}, nil, orStranger(err)
		}
	}
	return g, st.RUnlock, nil
}

// findGrants is findGrant for several peers, with the stripes of all of them held. Of those the app does not know it
// returns the zero Grant.
func (h *Hub) findGrants(a *app, all []Peer) (gs []Grant, release func(), err error) {
	for {
		changes := h.changes.Load()
		if gs, err = h.readGrants(a, all); err != nil {
			return nil, nil, err
		}
		release = h.shareStripes(gs)
		if h.changes.Load() == changes {
			return gs, release, nil
		}
		again, err := h.readGrants(a, all) // read before the lock, so maybe stale
		if err != nil {
			release()
			return nil, nil, err
		}
		if slices.EqualFunc(gs, again, func(x, y Grant) bool { return x.Email == y.Email }) {
			return again, release, nil
		}
		release()
	}
}

func (h *Hub) readGrants(a *app, all []Peer) ([]Grant, error) {
	gs := make([]Grant, len(all))
	for i, p := range all {
		if (p.PUID == "") == (p.Email == "") {
			continue
		}
		g, ok, err := h.readGrant(a, p)
		if err != nil {
			return nil, storage(err)
		}
		if ok {
			gs[i] = g
		}
	}
	return gs, nil
}

// shareStripes takes the stripes of the grants' users for reading, each once and in the order of lockStripes.
func (h *Hub) shareStripes(gs []Grant) (release func()) {
	idx := make([]int, len(gs))
	for i := range gs {
		idx[i] = h.stripeIndex(gs[i].Email)
	}
	slices.Sort(idx)
	idx = slices.Compact(idx)
	for _, i := range idx {
		h.stripes[i].RLock()
	}
	return func() {
		for _, i := range idx {
			h.stripes[i].RUnlock()
		}
	}
}

// readGrant looks the peer up under the kind of address that it was given, and no other.
func (h *Hub) readGrant(a *app, p Peer) (g Grant, ok bool, err error) {
	kind := ByEmail
	if p.PUID != "" {
		kind = ByPUID
		g, ok, err = h.cfg.Store.GrantByPUID(a.id, p.PUID)
	} else {
		g, ok, err = h.cfg.Store.Grant(p.Email, a.id)
	}
	return g, ok && g.Address == kind && !g.Ended(h.cfg.Now()), err
}

func orStranger(err error) error {
	if err != nil {
		return storage(err)
	}
	return ErrStranger
}
