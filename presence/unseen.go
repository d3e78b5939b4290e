package presence

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// unseen is what devices confirmed while the app could not see them. A receipt is withheld then, and the size of the
// queue that an app is told must not say it either: to the app such a notification waits still, until it sees one of
// the user's devices, which takes all that waits. So from the first such notification on, a queue that nobody takes from
// is kept in mind: what waited then, and all that came since.
type unseen struct {
	any atomic.Bool // there is something in of

	mu    sync.Mutex
	of    map[unseenKey]belief // guarded by mu
	count int                  // guarded by mu: ghosts in of, at most maxGhosts
	over  map[string]uint64    // guarded by mu: by app, how many a full queue would have discarded
}

type unseenKey struct{ app, email, puid string }

// belief is a queue as its app needs to believe in it. Of what came up to a number nothing else waits, whatever does.
type belief struct {
	queue []ghost // not empty
	upTo  uint64
}

// ghost is a notification that is gone, as far as its app needs to believe in it.
type ghost struct {
	seq           uint64
	time, expires time.Time
	collapse      string
	device        string
}

// maxGhosts bounds the memory; beyond it all are forgotten.
const maxGhosts = 1 << 18

func ghostOf(n *Notification) ghost { return ghost{n.Seq, n.Time, n.Expires, n.Collapse, n.Device} }

// add puts notifications into the queue of k; begin: also if nothing is kept in mind of it yet.
func (u *unseen) add(k unseenKey, begin bool, now time.Time, l *Limits, gs ...ghost) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, known := u.of[k]; !known && !begin {
		return
	}
	if u.of == nil || u.count >= maxGhosts {
		u.of, u.count = make(map[unseenKey]belief), 0
	}
	u.any.Store(true)
	b := u.of[k]
	if begin { // with all that waits: what is believed to be gone already stays so
		gs = slices.DeleteFunc(gs, func(g ghost) bool { return g.seq <= b.upTo })
	}
	for _, g := range gs {
		b.upTo = max(b.upTo, g.seq)
	}
	queue, cut := lineUp(append(slices.Clone(b.queue), gs...), now, l)
	if cut > 0 {
		if u.over == nil {
			u.over = make(map[string]uint64)
		}
		u.over[k.app] += cut
	}
	u.count += len(queue) - len(b.queue)
	if u.of[k] = (belief{queue, b.upTo}); len(queue) == 0 {
		delete(u.of, k)
	}
}

// forget is for when the app may know the truth.
func (u *unseen) forget(g *grant) {
	if !u.any.Load() {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	k := unseenKey{g.app.id, g.owner.email, g.puid}
	u.count -= len(u.of[k].queue)
	delete(u.of, k)
	u.any.Store(len(u.of) > 0)
}

// overflowed is what an app has to believe of its queues beside the truth.
func (u *unseen) overflowed(app string) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.over[app]
}

// belief returns what the app believes of a queue; without ghosts that is the truth.
func (u *unseen) belief(k unseenKey) belief {
	if !u.any.Load() {
		return belief{}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	b := u.of[k]
	b.queue = slices.Clone(b.queue)
	return b
}

// showQueuesLocked is called when a device comes, or a grant is shown: apps that see the user know the truth.
func (h *Hub) showQueuesLocked(u *user) {
	if !h.unseen.any.Load() || !u.isThere() {
		return
	}
	for _, g := range u.grants {
		if !g.is(grantHidden) {
			h.unseen.forget(g)
		}
	}
}

// isThere reports whether a device of hers is not offline.
func (u *user) isThere() bool {
	for d := u.devices; d != nil; d = d.next {
		if d.status() != Offline {
			return true
		}
	}
	return false
}

// noteUnseen notes what of seqs came from apps that do not see the device, before it is removed. seen are those that
// do.
func (h *Hub) noteUnseen(s *Session, seqs []uint64, seen []*grant) error {
	for _, g := range seen {
		h.unseen.forget(g)
	}
	email, app := s.dev.user.email, h.hiddenApps(s.dev, seen)
	waiting, err := h.cfg.Store.Waiting(email)
	if err != nil || !slices.ContainsFunc(app, func(id string) bool { return waiting[id] > 0 }) {
		return storage(err)
	}
	gone := map[unseenKey][]ghost{}
	err = h.eachPending(email, 0, func(n *Notification) {
		if slices.Contains(app, n.App) {
			k := unseenKey{n.App, n.Email, n.PUID}
			gone[k] = append(gone[k], ghostOf(n))
		}
	})
	for k, gs := range gone {
		if slices.ContainsFunc(gs, func(g ghost) bool { return slices.Contains(seqs, g.seq) }) {
			h.unseen.add(k, true, h.cfg.Now(), &h.cfg.Limits, gs...)
		}
	}
	return err
}

// noteQueued notes what was accepted, where the app believes in a queue that is not.
func (h *Hub) noteQueued(n *Notification) {
	if h.unseen.any.Load() {
		h.unseen.add(unseenKey{n.App, n.Email, n.PUID}, false, h.cfg.Now(), &h.cfg.Limits, ghostOf(n))
	}
}

// hiddenApps are those whose grant does not show the device.
func (h *Hub) hiddenApps(d *device, seen []*grant) (apps []string) {
	sh := h.shard(d.user.email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, g := range d.user.grants {
		if !slices.Contains(seen, g) {
			apps = append(apps, g.app.id)
		}
	}
	return apps
}

// eachPending calls f for what waits for the user with a number behind after.
func (h *Hub) eachPending(email string, after uint64, f func(*Notification)) error {
	const batch = 64
	for {
		ns, err := h.cfg.Store.Pending(email, "", after, batch)
		if err != nil {
			return storage(err)
		}
		for i := range ns {
			after = ns[i].Seq
			f(&ns[i])
		}
		if len(ns) < batch {
			return nil
		}
	}
}

// waitingFor counts what waits from an app for a user, as far as the app may know. What was removed before the one
// is read is among the other.
func (h *Hub) waitingFor(k unseenKey) (int, error) {
	waiting, err := h.cfg.Store.Waiting(k.email)
	before := h.unseen.belief(k)
	if err != nil || len(before.queue) == 0 {
		return waiting[k.app], storage(err)
	}
	var behind []ghost
	err = h.eachPending(k.email, before.upTo, func(n *Notification) {
		if n.App == k.app {
			behind = append(behind, ghostOf(n))
		}
	})
	if err != nil {
		return 0, err
	}
	b := h.unseen.belief(k)
	behind = slices.DeleteFunc(behind, func(g ghost) bool { return g.seq <= b.upTo })
	queue, _ := lineUp(append(b.queue, behind...), h.cfg.Now(), &h.cfg.Limits)
	return len(queue), nil
}

// waitingFrom is waitingFor for all of an app's users.
func (h *Hub) waitingFrom(app string) (int, error) {
	n, err := h.cfg.Store.WaitingFrom(app)
	if err != nil {
		return 0, storage(err)
	}
	for _, k := range h.unseen.keysOf(app) {
		waiting, err := h.cfg.Store.Waiting(k.email)
		if err != nil {
			return 0, storage(err)
		}
		all, err := h.waitingFor(k)
		if err != nil {
			return 0, err
		}
		n += all - waiting[app]
	}
	return n, nil
}

func (u *unseen) keysOf(app string) (keys []unseenKey) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for k := range u.of {
		if k.app == app {
			keys = append(keys, k)
		}
	}
	return keys
}

// lineUp puts all, in the order of their numbers, in a queue that nobody takes from, and returns what of it waits now,
// and how many were cut off because it was full. What expired has its effect: it took the place of others when it came.
func lineUp(all []ghost, now time.Time, l *Limits) (queue []ghost, cut uint64) {
	slices.SortFunc(all, func(a, b ghost) int { return cmp.Compare(a.seq, b.seq) })
	for _, g := range slices.CompactFunc(all, func(a, b ghost) bool { return a.seq == b.seq }) {
		same := func(o ghost) bool { return o.collapse == g.collapse && o.device == g.device }
		queue = waitingAt(queue, g.time)
		keys := collapseKeys(queue)
		switch {
		case g.collapse == "":
		case slices.ContainsFunc(queue, same):
			queue = slices.DeleteFunc(queue, same)
		case len(keys) >= l.CollapseKeys && !slices.Contains(keys, g.collapse):
			queue = slices.DeleteFunc(queue, func(o ghost) bool { return o.collapse == keys[0] })
		}
		if len(queue) >= l.QueuePerApp {
			queue = slices.Delete(queue, 0, 1)
			cut++
		}
		queue = append(queue, g)
	}
	return waitingAt(queue, now), cut
}

// waitingAt is what of a queue has not expired at that moment.
func waitingAt(queue []ghost, now time.Time) []ghost {
	return slices.DeleteFunc(queue, func(g ghost) bool { return !now.Before(g.expires) })
}

// collapseKeys are a queue's collapse keys, each once, that of the oldest first.
func collapseKeys(queue []ghost) (keys []string) {
	for _, g := range queue {
		if g.collapse != "" && !slices.Contains(keys, g.collapse) {
			keys = append(keys, g.collapse)
		}
	}
	return keys
}
