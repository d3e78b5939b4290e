package wsbridge

import (
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"
)

// Bounds of a door.
const (
	doorBurst    = 100 * time.Millisecond // worth of logins that come in at once
	doorRoom     = 2 * time.Second        // the longest wait; who would wait longer is sent away
	doorShare    = 4                      // one address has this part of the places where others wait too
	doorHomes    = 4096                   // addresses are told apart by so many buckets; two may share one
	doorFarthest = 5 * time.Minute        // nobody is told to come back later than this
	doorHands    = 4                      // logins at work at the same time, for each processor
	doorPatience = 50 * time.Millisecond  // a login that works for longer is waiting for somebody else
)

// door bounds the logins of all devices together, because a login costs a thousand times what a frame costs: the
// devices that are connected must not wait while twenty thousand others come back. It gives every login a moment at
// which it may begin, evenly spaced at the rate. Who would have to wait for longer than the room holds is sent away,
// with a moment to come back that is evenly spaced too. Beside that it bounds how many logins are at work at the same time,
// which is what counts where they are dearer than the rate expects.
//
// Where the rate is not reached nobody is looked at. Where it is, one address gets a quarter of the room, so that who
// connects all day long does not keep others out. Safe for concurrent use; the zero value lets everybody in.
type door struct {
	every int64         // nanoseconds of one login; 0: no limit. Immutable, as are the next three
	seed  maphash.Seed  //
	hands chan struct{} // has room for those at work
	shut  chan struct{} // closed by close: nobody waits any more

	mu    sync.Mutex // guards what follows
	line  queue      // of all
	homes []queue    // of those from the same addresses, at a share of the rate
}

// queue is two moments, in nanoseconds of the bridge's clock: when the next one comes in, and when the next one who is
// sent away may come back.
type queue struct{ next, back int64 }

func newDoor(perSecond float64) *door {
	d := &door{shut: make(chan struct{})}
	if perSecond > 0 {
		d.every = int64(float64(time.Second) / perSecond)
		d.seed = maphash.MakeSeed()
		d.hands = make(chan struct{}, doorHands*runtime.GOMAXPROCS(0))
		d.homes = make([]queue, doorHomes)
	}
	return d
}

// ask takes a place for a login from an address. ok: it may begin after wait; else it may come back after wait.
func (d *door) ask(from address, now int64) (wait time.Duration, ok bool) {
	if d.every == 0 {
		return 0, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	home := &d.homes[maphash.Comparable(d.seed, from)%doorHomes]
	home.next, d.line.next = max(home.next, now), max(d.line.next, now)
	wait = max(time.Duration(d.line.next-now)-doorBurst, 0)
	switch {
	case wait > 0 && home.next-now > int64(doorRoom):
		return home.sendAway(d.every*doorShare, now), false
	case wait > doorRoom:
		return d.line.sendAway(d.every, now), false
	}
	d.line.next += d.every
	home.next = min(home.next+d.every*doorShare, now+2*int64(doorRoom))
	return wait, true
}

// sendAway tells the next one when to come back: when the room is empty, and then one after the other.
func (q *queue) sendAway(every, now int64) time.Duration {
	q.back = max(q.back, now+int64(doorRoom)) + every
	if far := q.back - now; far <= int64(doorFarthest) {
		return time.Duration(far)
	}
	q.back -= every
	return doorFarthest/2 + rand.N(doorFarthest/2)
}

// pass waits for the moment at which a login begins, and for a hand. ok is false when the door was closed meanwhile; else
// done must be called when the login is done.
func (d *door) pass(wait time.Duration) (done func(), ok bool) {
	if d.every == 0 {
		return func() {}, true
	}
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-d.shut:
			return nil, false
		}
	}
	select {
	case d.hands <- struct{}{}:
	case <-d.shut:
		return nil, false
	}
	free := sync.OnceFunc(func() { <-d.hands })
	late := time.AfterFunc(doorPatience, free)
	return func() { late.Stop(); free() }, true
}

// close lets nobody wait any more. It is called once.
func (d *door) close() { close(d.shut) }
