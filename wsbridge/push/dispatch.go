package push

import (
	"container/heap"
	"errors"
	"time"

	"presenced/presence"
)

// maxTrying bounds the users whose failures are remembered. Who does not fit in is found again by the next look at
// everybody.
const maxTrying = 1 << 16

// desk is the dispatcher's own state.
type desk struct {
	p       *Pusher
	free    int             // workers
	users   map[string]*job // those who are worked on, or have to wait
	retries retries         // users by when to look at them again; may hold some who are no more due
	scan    time.Time       // when to look at everybody
	looking bool            // at everybody
	timer   *time.Timer
}

// job is one user's wake-ups. It belongs to a worker while busy is set, but for again, to the dispatcher else.
type job struct {
	email string
	fails map[string]failure // by device; "": the store's. Those that have to be looked at again
	busy  bool               // the dispatcher's, as are the next two
	again bool               // something has happened meanwhile
	next  time.Time          // when to look again; zero: never
	lined time.Time          // when it comes up in desk.retries; zero: it does not
}

// failure is a device that could not be woken, or was woken a moment ago: each time that it has to be done again at once,
// the pause is longer.
type failure struct {
	endpoint string
	count    int
	until    time.Time // not before
}

func (p *Pusher) dispatch() {
	defer p.owner.Done()
	d := &desk{p: p, free: p.cfg.Workers, users: map[string]*job{}, timer: time.NewTimer(0)}
	defer p.workers.Wait()
	defer d.timer.Stop()
	p.line.Lost() // the look at everybody comes when those who come back by themselves have
	d.scan = time.Now().Add(p.cfg.Grace)
	for d.step() {
	}
}

// step waits for something to happen and does what can be done then; false: it is over.
func (d *desk) step() bool {
	var wake <-chan struct{}
	var found <-chan string
	if d.free > 0 { // else those have to wait, where they are
		wake, found = d.p.line.Wake(), d.p.found
	}
	select {
	case <-d.p.ctx.Done():
		return false
	case j := <-d.p.done:
		d.finish(j)
	case email := <-found:
		d.begin(email)
	case <-d.p.scanned:
		d.looking = false
	case <-wake:
	case <-d.timer.C:
	}
	d.fill()
	return true
}

// fill gives the workers that are free something to do, and sets the timer.
func (d *desk) fill() {
	now := time.Now()
	for d.free > 0 && (d.beginLined() || d.beginDue(now)) {
		if d.free > 0 { // in turn, so that neither keeps the other waiting
			d.beginDue(now)
		}
	}
	if d.p.line.Lost() {
		d.scan = now
	}
	if !d.looking && !d.scan.After(now) {
		d.looking, d.scan = true, now.Add(d.p.cfg.Every)
		d.p.workers.Add(1)
		go d.p.lookAtAll()
	}
	d.setTimer(now)
}

// beginLined begins with the first in the line, if there is one.
func (d *desk) beginLined() bool {
	email, ok := d.p.line.Next()
	if ok {
		d.begin(email)
	}
	return ok
}

// beginDue begins with the next who is to be looked at again, if there is one.
func (d *desk) beginDue(now time.Time) bool {
	for len(d.retries) > 0 && !d.retries[0].at.After(now) {
		due := heap.Pop(&d.retries).(retry)
		j := d.users[due.email]
		if j == nil || !j.lined.Equal(due.at) {
			continue // it was lined up anew
		}
		if j.lined = (time.Time{}); !j.busy {
			d.begin(due.email)
			return true
		}
	}
	return false
}

// setTimer sets it to what is due next, unless something else has to happen before that.
func (d *desk) setTimer(now time.Time) {
	at := now.Add(d.p.cfg.Every)
	if !d.looking && d.scan.Before(at) {
		at = d.scan
	}
	if d.free > 0 && len(d.retries) > 0 && d.retries[0].at.Before(at) {
		at = d.retries[0].at
	}
	d.timer.Reset(at.Sub(now))
}

// begin has a worker look at a user, or look again if one does.
func (d *desk) begin(email string) {
	j := d.users[email]
	switch {
	case j == nil:
		j = &job{email: email, fails: map[string]failure{}}
		d.users[email] = j
	case j.busy:
		j.again = true
		return
	}
	j.busy, j.again = true, false
	d.free--
	d.p.workers.Add(1)
	go func() {
		defer d.p.workers.Done()
		d.p.look(j)
		d.p.done <- j
	}()
}

// finish takes a user back from a worker.
func (d *desk) finish(j *job) {
	d.free++
	j.busy = false
	j.next = j.earliest()
	switch {
	case j.again:
		d.begin(j.email)
	case j.next.IsZero() || len(d.users) > maxTrying || len(d.retries) > 2*maxTrying:
		delete(d.users, j.email)
	case !j.next.Equal(j.lined):
		heap.Push(&d.retries, retry{j.next, j.email})
		j.lined = j.next
	}
	d.p.counters.trying.Store(int64(len(d.users) - d.p.cfg.Workers + d.free))
}

// earliest is when something may be tried again; zero: nothing is to be.
func (j *job) earliest() (at time.Time) {
	for _, f := range j.fails {
		if at.IsZero() || f.until.Before(at) {
			at = f.until
		}
	}
	return at
}

// lookAtAll lines up everybody who can be woken.
func (p *Pusher) lookAtAll() {
	defer p.workers.Done()
	last := ""
	err := p.cfg.Store.EachPush(func(s presence.PushSubscription) error {
		if s.Email == last {
			return nil
		}
		last = s.Email
		select {
		case p.found <- s.Email:
			return nil
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	})
	if err != nil && !errors.Is(err, p.ctx.Err()) {
		p.cfg.Log.Error("looking who has to be woken", "error", err)
	}
	p.scanned <- struct{}{}
}

// retry is when to look at a user again.
type retry struct {
	at    time.Time
	email string
}

type retries []retry

func (r retries) Len() int           { return len(r) }
func (r retries) Less(i, j int) bool { return r[i].at.Before(r[j].at) }
func (r retries) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }

// Push is for container/heap.
func (r *retries) Push(x any) { *r = append(*r, x.(retry)) }

// Pop is for container/heap.
func (r *retries) Pop() any {
	old := *r
	last := old[len(old)-1]
	*r = old[:len(old)-1]
	return last
}
