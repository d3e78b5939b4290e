package xmppsrv

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"time"

	"presenced/presence"
)

// roll is who is connected, and what is kept of those who were: the sessions, and the ledgers that can be resumed.
// It alone says who holds a ledger. An app has one that is kept beside one that is in use, or where connections share
// it as many of either as the hub allows links. What is kept is bounded for an app and for all.
type roll struct {
	srv *Server

	mu       sync.Mutex
	closed   bool                  // guarded by mu
	serial   uint64                // guarded by mu: of the last session
	sessions map[*session]struct{} // guarded by mu
	ledgers  map[string]*ledger    // guarded by mu: by id
	timer    *time.Timer           // guarded by mu: one for all; nil: never needed
}

// join makes a link for an app that has shown who it is. What can be resumed is not ended by it; who refuses it, by
// the app's policy, has to show that it is alive: a dead one gives way. The link is held if there is anything that it
// may be about to resume.
func (r *roll) join(app presence.App) (*presence.Link, error) {
	link, there := r.srv.cfg.Hub.Link, r.resumable(app.ID)
	if len(there) > 0 {
		link = r.srv.cfg.Hub.LinkHeld
	}
	if app.Conflict != presence.Replace {
		there = nil
	}
	l, err := link(app.ID, presence.ComponentLink, there...)
	if errors.Is(err, presence.ErrConflict) || errors.Is(err, presence.ErrTooMany) {
		r.nudge(app.ID)
	}
	return l, err
}

// resumable are the links of the app's ledgers. A new connection that replaces the older one leaves them to be resumed;
// where it may be refused those that have a connection count, and the hub knows which.
func (r *roll) resumable(app string) (ls []*presence.Link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, led := range r.ofLocked(app) {
		ls = append(ls, led.link)
	}
	return ls
}

// ofLocked returns an app's ledgers, the one that was held last at the end.
func (r *roll) ofLocked(app string) (of []*ledger) {
	for _, led := range r.ledgers {
		if led.link.App().ID == app {
			of = append(of, led)
		}
	}
	slices.SortFunc(of, func(a, b *ledger) int { return cmp.Compare(a.serial, b.serial) })
	return of
}

// nudge pings the app's connections.
func (r *roll) nudge(app string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.sessions {
		if s.appID == app {
			s.c.nudge()
		}
	}
}

// displace gives a new link its number, and ends the connections that it replaces; what can be resumed is kept.
func (r *roll) displace(l *presence.Link) (serial uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.serial++
	if l.App().Conflict == presence.Replace && l.Ended() == presence.Alive {
		for s := range r.sessions {
			if s.appID == l.App().ID {
				s.stop(endReplaced) // also where it does not read: it would stay as long as a write may take
			}
		}
	}
	return r.serial
}

func (r *roll) enter(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sessions[s] = struct{}{}
}

// open enters a new ledger, held by s; false: nobody will be able to resume it.
func (r *roll) open(led *ledger, s *session) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	led.holder, led.serial = s, s.serial
	r.ledgers[led.id] = led
	return true
}

// claim makes s the holder of its app's ledger id, of which the component has had h stanzas, and ends the connection
// that holds it. nil: there is no such ledger, or not any more; nor is there behind an h that cannot be true.
// *countError: it is too high.
func (r *roll) claim(id string, h uint32, s *session) (*ledger, error) {
	for {
		r.mu.Lock()
		led := r.ledgers[id]
		if led == nil || led.link.App().ID != s.appID || s.began.Ended() != presence.Alive {
			r.mu.Unlock()
			return nil, nil
		}
		if old, free := led.holder, led.free; old != nil {
			r.mu.Unlock()
			old.stop(endReplaced)
			<-free
			continue
		}
		stale, err := led.out.check(h)
		over := err != nil || stale || led.link.Ended() != presence.Alive || !r.srv.cfg.Now().Before(led.expires)
		if over {
			r.removeLocked(led)
		} else {
			led.holder, led.serial, led.free = s, s.serial, make(chan struct{})
		}
		r.mu.Unlock()
		if over {
			led.link.Close()
			led = nil
		}
		return led, err
	}
}

// keep is leave for a session whose ledger is to be kept; false: it is not, since it ended, or was ended.
func (r *roll) keep(s *session) bool {
	r.mu.Lock()
	led := s.led
	if led.gone || led.link.Ended() != presence.Alive || r.srv.isClosing() {
		r.mu.Unlock()
		return false
	}
	delete(r.sessions, s)
	led.holder = nil
	led.expires = r.srv.cfg.Now().Add(led.keep)
	over := r.makeRoomLocked(s.appID)
	close(led.free)
	r.armLocked()
	r.mu.Unlock()
	for _, led := range over {
		led.link.Close()
		r.srv.cfg.Log.Info("session dropped", "app", led.link.App().ID)
	}
	return true
}

// makeRoomLocked removes kept ledgers, those first whose connection was the oldest, until the app does not have too
// many and all together do not take too much memory.
func (r *roll) makeRoomLocked(app string) (over []*ledger) {
	var kept []*ledger
	bytes, own := 0, 0
	for _, led := range r.ledgers {
		if led.holder != nil {
			continue
		}
		kept = append(kept, led)
		bytes += led.out.bytes()
		if led.link.App().ID == app {
			own++
		}
	}
	slices.SortFunc(kept, func(a, b *ledger) int { return cmp.Compare(a.serial, b.serial) })
	for _, led := range kept {
		mine := led.link.App().ID == app
		if !(mine && own > maxKeptOfApp) && bytes <= r.srv.maxKept {
			continue
		}
		r.removeLocked(led)
		over = append(over, led)
		bytes -= led.out.bytes()
		if mine {
			own--
		}
	}
	return over
}

// leave forgets a session, and its ledger.
func (r *roll) leave(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
	if s.led != nil && s.led.id != "" {
		r.removeLocked(s.led)
		if s.led.holder == s {
			s.led.holder = nil
			close(s.led.free)
		}
	}
}

// removeLocked takes a ledger out. Its link is left to close.
func (r *roll) removeLocked(led *ledger) {
	led.gone = true
	delete(r.ledgers, led.id)
}

// supersede is called behind the first element of s, or when it has been waited for long enough: the older sessions of
// the app end, but for one that it has resumed. What they had not acknowledged comes again, as far as it is kept on disk. Where connections share an app
// they do not care for each other.
func (r *roll) supersede(s *session) {
	r.mu.Lock()
	var old []*ledger
	if s.began.App().Conflict != presence.Share && s.began.Ended() == presence.Alive {
		for _, led := range r.ofLocked(s.appID) {
			if led.serial < s.serial {
				r.removeLocked(led)
				old = append(old, led)
			}
		}
	}
	held := make([]*session, len(old))
	for i, led := range old {
		held[i] = led.holder
	}
	r.mu.Unlock()
	for i, led := range old {
		if held[i] != nil {
			held[i].stop(endReplaced) // it closes the link
		} else {
			led.link.Close()
		}
	}
}

// armLocked sets the timer to when the first ledger expires.
func (r *roll) armLocked() {
	var first time.Time
	for _, led := range r.ledgers {
		if led.holder == nil && (first.IsZero() || led.expires.Before(first)) {
			first = led.expires
		}
	}
	if first.IsZero() || r.closed {
		return
	}
	in := max(first.Sub(r.srv.cfg.Now()), time.Millisecond)
	if r.timer == nil {
		r.timer = time.AfterFunc(in, r.expire)
		return
	}
	r.timer.Reset(in)
}

// expire ends the ledgers that were kept for too long.
func (r *roll) expire() {
	if !r.srv.begin() {
		return
	}
	defer r.srv.streaming.Done()
	r.mu.Lock()
	now := r.srv.cfg.Now()
	over := r.takeKeptLocked(func(l *ledger) bool { return !now.Before(l.expires) })
	r.armLocked()
	r.mu.Unlock()
	for _, led := range over {
		led.link.Close()
		r.srv.cfg.Log.Info("session expired", "app", led.link.App().ID)
	}
}

// takeKeptLocked removes the kept ledgers that match.
func (r *roll) takeKeptLocked(match func(*ledger) bool) (taken []*ledger) {
	for _, led := range r.ledgers {
		if led.holder == nil && match(led) {
			r.removeLocked(led)
			taken = append(taken, led)
		}
	}
	return taken
}

// close ends all that is kept; nothing is kept from here on.
func (r *roll) close() {
	r.mu.Lock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	kept := r.takeKeptLocked(func(*ledger) bool { return true })
	r.mu.Unlock()
	for _, led := range kept {
		led.link.Close()
	}
}

// kept is how many ledgers wait to be resumed.
func (r *roll) kept() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, led := range r.ledgers {
		if led.holder == nil {
			n++
		}
	}
	return n
}
