package presence

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

const shardCount = 64

// shard holds the users whose e-mail hashes to it.
type shard struct {
	mu     sync.Mutex
	users  map[string]*user // guarded by mu
	timers timerHeap        // guarded by mu
	weeks  map[string]*week // guarded by mu: windows by what they say, see Hub.weekLocked
	lost   tickets          // guarded by mu: of sessions whose connection is gone
	left   []departure      // guarded by mu: to be remembered when mu is released, see Hub.unlock
	due    atomic.Int64     // moment of the earliest timer, maxMoment if none; written under mu
	_      [8]byte          // keeps neighbours' locks on other cache lines
}

// departure is a device that went offline, or lost its connection for good.
type departure struct {
	email  string
	record DeviceRecord // as the store is to remember it; zero: that it went offline is known already
	absent bool         // nothing of it is held any more
}

// unlock releases the shard and then, with no lock held, has the store remember who went, and
// looks what they missed.
func (h *Hub) unlock(sh *shard) {
	left := sh.left
	sh.left = nil
	sh.mu.Unlock()
	for i := range left {
		if left[i].record.ID != "" {
			h.lastGone.Store(h.cfg.Store.PutDevice(left[i].email, left[i].record))
		}
		if left[i].absent {
			h.urgeLeft(left[i].email)
		}
	}
}

const maxMoment = moment(1<<63 - 1)

// user is somebody who is present. Guarded by her shard's mu.
type user struct {
	email   string   // immutable
	grants  []*grant // all her active grants
	devices *device  // linked list, at most Limits.DevicesPerUser
	whole   *device  // see whole.go; nil: no grant shows her so
	veil    moment   // until when she is invisible to all; 0: not, maxMoment: until she says so
	barred  bool     // she is disabled: nobody signs in as her
}

// device is one of a present user's devices. It stays in memory while it is attached or lingering, or
// while a link has not yet been told that it is gone.
type device struct {
	id      string        // immutable
	user    *user         // immutable
	next    *device       // guarded by the shard
	session *Session      // guarded by the shard; nil: none
	views   []*view       // guarded by the shard
	timer   *timer        // guarded by the shard; nil: nothing is due
	up      moment        // guarded by the shard; since when it is not offline, whatever has changed meanwhile
	word    atomic.Uint64 // see pack; written under the shard's lock, read by links without it
	idle    atomic.Int64  // the same: State.Idle
}

// pack puts what links read of a device into one word, so that they read it without a lock, and its phase.
func pack(p Phase, st Status, since moment) uint64 {
	return uint64(since)<<4 | uint64(p)<<2 | uint64(st)
}

func unpack(w uint64) (Status, moment) { return Status(w & 3), moment(w >> 4) }

func (d *device) stateLocked() State {
	st, since := unpack(d.word.Load())
	return State{Phase: d.phase(), Status: st, Since: since, Idle: moment(d.idle.Load()), Until: d.untilLocked()}
}

func (d *device) untilLocked() moment {
	if d.timer == nil {
		return 0
	}
	return d.timer.until
}

// setStateLocked takes over a state but for Until, which is in the timer.
func (d *device) setStateLocked(s State) {
	if s.Status != Offline && d.status() == Offline {
		d.up = s.Since
	}
	d.idle.Store(int64(s.Idle))
	d.word.Store(pack(s.Phase, s.Status, s.Since))
}

func (d *device) phase() Phase { return Phase(d.word.Load() >> 2 & 3) }

func (d *device) status() Status {
	st, _ := unpack(d.word.Load())
	return st
}

// grant is a Grant of a present user, ready for use.
type grant struct {
	app   *app   // immutable
	puid  string // immutable
	owner *user  // immutable

	byEmail bool          // immutable
	whole   bool          // immutable: it shows no single devices, see whole.go
	flags   atomic.Uint32 // written under the shard's lock, read by links without it
	flipped atomic.Int64  // the same: moment at which it was last hidden or shown, or from which the app may know

	hours  hours  // guarded by the shard
	timer  *timer // guarded by the shard; nil: nothing is due
	paused moment // guarded by the shard; until when; 0: not, maxMoment: until she resumes it
	muted  bool   // guarded by the shard; presence is no part of it
}

// Flags of a grant.
const (
	grantEnded  uint32 = 1 << iota // revoked: hidden for good
	grantHidden                    // by a window, a pause, her being invisible, or because presence is no part of it
	grantIdle                      // idle times are shown
)

func (g *grant) is(flag uint32) bool { return g.flags.Load()&flag != 0 }

// setLocked sets or clears the flag and reports whether that was a change.
func (g *grant) setLocked(flag uint32, on bool) bool {
	old := g.flags.Load()
	if on {
		g.flags.Store(old | flag)
	} else {
		g.flags.Store(old &^ flag)
	}
	return old&flag != 0 != on
}

// lookLocked tells whether the grant has to be hidden at now, and when to look again (0: never).
func (g *grant) lookLocked(now moment) (hidden bool, next moment) {
	if g.muted {
		return true, 0
	}
	if held := max(g.paused, g.owner.veil); held == maxMoment {
		return true, 0
	} else if held > now {
		return true, held
	}
	open, next := g.hours.atLocked(now)
	return !open, next
}

// local is the address's local part: the PUID, or the e-mail to be escaped.
func (g *grant) local() string {
	if g.byEmail {
		return g.owner.email
	}
	return g.puid
}

func (u *user) device(id string) *device {
	for d := u.devices; d != nil; d = d.next {
		if d.id == id {
			return d
		}
	}
	return nil
}

func (u *user) grant(app string) *grant {
	for _, g := range u.grants {
		if g.app.id == app {
			return g
		}
	}
	return nil
}

func (u *user) countDevices() (all, attached int) {
	for d := u.devices; d != nil; d = d.next {
		all++
		if d.session != nil {
			attached++
		}
	}
	return all, attached
}

func (u *user) unlinkDevice(gone *device) {
	for p := &u.devices; *p != nil; p = &(*p).next {
		if *p == gone {
			*p = gone.next
			return
		}
	}
}

// releaseLocked forgets a device, and its user, if nothing needs them any more.
func (sh *shard) releaseLocked(d *device) {
	if d.phase() != Absent || len(d.views) != 0 {
		return
	}
	if d.timer != nil {
		sh.stopLocked(&d.timer)
	}
	u := d.user
	u.unlinkDevice(d)
	if u.devices == nil && (u.whole == nil || len(u.whole.views) == 0) && sh.users[u.email] == u {
		delete(sh.users, u.email)
		for _, g := range u.grants {
			sh.stopLocked(&g.timer)
		}
	}
}

// timer is one thing that is due: a device's (linger, end of credential) or a grant's (window, end of a pause).
type timer struct {
	until  moment // of a device: State.Until
	index  int    // in the heap
	device *device
	grant  *grant
}

// setLocked makes *t fire at the moment, or not at all if at is 0.
func (sh *shard) setLocked(t **timer, at moment, d *device, g *grant) {
	switch {
	case at == 0:
		sh.stopLocked(t)
		return
	case *t == nil:
		*t = &timer{device: d, grant: g}
		sh.timers.push(due{at, *t})
	case sh.timers[(*t).index].at != at:
		sh.timers.move((*t).index, at)
	}
	sh.noteDueLocked()
}

func (sh *shard) stopLocked(t **timer) {
	if *t != nil {
		sh.timers.remove((*t).index)
		*t = nil
		sh.noteDueLocked()
	}
}

func (sh *shard) noteDueLocked() {
	at := maxMoment
	if len(sh.timers) > 0 {
		at = sh.timers[0].at
	}
	sh.due.Store(int64(at))
}

// due is a timer in its heap, with its moment beside it: to compare two touches neither timer.
type due struct {
	at    moment
	timer *timer
}

// timerHeap has what is due first in front. Like container/heap, with the comparison in place: a great many windows
// that open at the same moment are mostly work of this heap.
type timerHeap []due

func (h timerHeap) put(i int, d due) { h[i], d.timer.index = d, i }

func (h timerHeap) up(i int, d due) {
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].at <= d.at {
			break
		}
		h.put(i, h[parent])
		i = parent
	}
	h.put(i, d)
}

func (h timerHeap) down(i int, d due) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1].at < h[child].at {
			child++
		}
		if d.at <= h[child].at {
			break
		}
		h.put(i, h[child])
		i = child
	}
	h.put(i, d)
}

func (h timerHeap) move(i int, at moment) {
	if d := (due{at, h[i].timer}); at < h[i].at {
		h.up(i, d)
	} else {
		h.down(i, d)
	}
}

func (h *timerHeap) push(d due) {
	*h = append(*h, d)
	h.up(len(*h)-1, d)
}

func (h *timerHeap) remove(i int) {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = due{}
	*h = old[:len(old)-1]
	if i < len(*h) {
		if last.at < old[i].at {
			h.up(i, last)
		} else {
			h.down(i, last)
		}
	}
}

// placing spreads users over shards and stripes.
type placing struct{ seed maphash.Seed }

func (p placing) of(email string) uint64 { return maphash.String(p.seed, email) }
