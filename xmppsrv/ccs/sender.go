package ccs

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"presenced/presence"
	"presenced/xmppsrv/gcm"
)

// sender is an app with its connections. Its dispatcher is the goroutine that takes from the link.
type sender struct {
	srv  *Server
	app  string // immutable
	link *presence.Link
	wake chan struct{} // one slot: a session came or went, or has room again

	mu       sync.Mutex
	sessions []*session          // guarded by mu; replaced as a whole when one goes
	messages []waiting           // guarded by mu: taken from the link, oldest first; it hands out a bounded number
	receipts []waiting           // guarded by mu: the same, at most maxHeld and what sessions leave behind
	empty    time.Time           // guarded by mu: since when there is no session
	lost     map[print]time.Time // guarded by mu: accepted, and nobody was told; the last maxLate
	targets  targets             // guarded by mu
	fanouts  int                 // guarded by mu: messages to topics on their way

	detached bool // owned by the dispatcher: the link knows that there is no session
}

// waiting is an update that needs a session.
type waiting struct {
	u   presence.Update
	not *session // which had it already and said nothing
}

// join makes the session one of the app's. key is what it logged in with. ErrTooMany, and what Hub.Link says.
func (s *Server) join(sess *session, app presence.App, key string) error {
	s.joining.Lock()
	defer s.joining.Unlock()
	now, ok := s.cfg.Hub.App(app.ID)
	if !ok || !s.isKey(&now, key) { // changed in between
		return presence.ErrNoApp
	}
	s.mu.Lock()
	send := s.senders[app.ID]
	s.mu.Unlock()
	if send != nil && send.count() >= s.cfg.MaxConnections {
		return presence.ErrTooMany
	}
	fresh := send == nil
	if fresh {
		link, err := s.cfg.Hub.Link(app.ID, presence.CCSLink)
		if err != nil {
			return err
		}
		send = &sender{srv: s, app: app.ID, link: link, wake: make(chan struct{}, 1), lost: make(map[print]time.Time),
			targets: targets{burst: float64(s.cfg.TargetBurst), rate: s.cfg.TargetRate, list: make(map[string]bucket)}}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		if fresh {
			send.link.Close()
		}
		return presence.ErrDraining
	}
	s.serials++
	sess.serial, sess.send = s.serials, send
	s.conns[sess.c] = sess
	send.enter(sess)
	send.link.SetAddress(sess.c.RemoteAddr().String()) // the newest's
	if fresh {
		s.senders[app.ID] = send
		s.running.Add(1)
		go func() {
			defer s.running.Done()
			send.run()
		}()
	}
	return nil
}

func (s *sender) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// enter adds a session. What others have had for long without a word goes to it too.
func (s *sender) enter(sess *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, older := range s.sessions {
		s.holdLocked(older.giveBack(s.srv.takeOver), older)
	}
	s.sessions = append(s.sessions, sess)
	s.ring()
}

// leave takes what a session leaves behind: updates without acknowledgement, and messages that were accepted without
// it having been told.
func (s *sender) leave(sess *session) {
	back := sess.giveUp()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = slices.DeleteFunc(slices.Clone(s.sessions), func(o *session) bool { return o == sess })
	s.holdLocked(back, sess)
	now := s.srv.cfg.Now()
	for _, p := range sess.out.unsaid() {
		if len(s.lost) >= maxLate {
			s.forgetOldestLocked()
		}
		s.lost[p] = now
	}
	if len(s.sessions) == 0 {
		s.empty = now
	}
	s.ring()
}

// forgetOldestLocked makes room for one more message that was lost: many servers never send theirs again.
func (s *sender) forgetOldestLocked() {
	var oldest print
	for p, at := range s.lost {
		if was, ok := s.lost[oldest]; !ok || at.Before(was) {
			oldest = p
		}
	}
	delete(s.lost, oldest)
}

// holdLocked puts updates that a session had before those that wait.
func (s *sender) holdLocked(list []presence.Update, not *session) {
	var ms, rs []waiting
	for _, u := range list {
		if u.Kind == presence.Receipt {
			rs = append(rs, waiting{u, not})
		} else {
			ms = append(ms, waiting{u, not})
		}
	}
	s.messages, s.receipts = append(ms, s.messages...), append(rs, s.receipts...)
}

func (s *sender) ring() { signal(s.wake) }

// context is what a message to devices does not say itself. An app may be renamed at any time.
func (s *sender) context() gcm.Context {
	app, _ := s.srv.cfg.Hub.App(s.app)
	return gcm.Context{Domain: s.srv.cfg.Domain, Source: app.Name}
}

// wasLost reports whether this very message was accepted on a connection that broke before that could be said. It is
// forgotten with it.
func (s *sender) wasLost(p print) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, was := s.lost[p]
	delete(s.lost, p)
	return was
}

// mayReach reports whether the app may send one more to this target now.
func (s *sender) mayReach(target string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.targets.take(target, s.srv.cfg.Now())
}

// beginFanout counts a message to topics in, if there are not too many.
func (s *sender) beginFanout() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := s.fanouts < s.srv.maxFanouts
	if ok {
		s.fanouts++
	}
	return ok
}

func (s *sender) endFanout() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fanouts--
}

// run hands out what the link has until the link or the sender ends.
func (s *sender) run() {
	alarm := time.NewTimer(s.srv.cfg.KeepSender)
	defer alarm.Stop()
	defer s.link.Close()
	buf := make([]presence.Update, takeSlice)
	for {
		if why := s.link.Ended(); why != presence.Alive {
			s.end(cmp.Or(linkEnds[why], endInternal))
			return
		}
		if s.dispatch(buf) {
			continue
		}
		if s.retire() {
			return
		}
		alarm.Reset(s.srv.cfg.KeepSender)
		select {
		case <-s.link.Wake():
		case <-s.wake:
		case <-alarm.C:
		}
	}
}

// end ends all sessions because the link did, and the sender with them.
func (s *sender) end(why end) {
	s.srv.joining.Lock()
	defer s.srv.joining.Unlock()
	s.srv.forget(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sess := range s.sessions {
		sess.stop(why)
	}
}

// retire ends a sender that had no session for long enough, or whose server is closing, and reports it.
func (s *sender) retire() bool {
	s.srv.joining.Lock()
	defer s.srv.joining.Unlock()
	s.mu.Lock()
	over := len(s.sessions) == 0 && (s.srv.leaving() || s.srv.cfg.Now().Sub(s.empty) >= s.srv.cfg.KeepSender)
	s.mu.Unlock()
	if over {
		s.srv.forget(s)
	}
	return over
}

func (s *Server) forget(send *sender) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.senders[send.app] == send {
		delete(s.senders, send.app)
	}
}

// dispatch takes what the link has, as long as not too much waits, and hands out what waits, as far as there is room. It
// reports whether there may be more at once.
func (s *sender) dispatch(buf []presence.Update) (more bool) {
	s.mu.Lock()
	nobody, full := len(s.sessions) == 0, len(s.messages) > maxHeld || len(s.receipts) > maxHeld
	s.mu.Unlock()
	if nobody != s.detached { // so that messages go to the app's other connections, if it has any
		if s.detached = nobody; nobody {
			s.link.Detach()
		} else {
			s.link.Join()
		}
	}
	if nobody {
		return false
	}
	n := 0
	if !full {
		n = s.link.Take(buf)
	}
	for i := range n {
		u := &buf[i]
		if !s.late(u) && (u.Kind == presence.FromDevice || u.Kind == presence.Receipt && u.To == "") { // the others are a component's
			s.place(u)
		}
	}
	// Only now, though what waits comes first: the link has looked at what is stored before that is acknowledged.
	moved := s.handOut()
	return n > 0 || full && moved
}

// place hands one update to a session, or lets it wait.
func (s *sender) place(u *presence.Update) {
	if !s.blocked(u.Kind) {
		if sess := s.choose(u, nil); sess != nil && sess.offer(u) {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.Kind == presence.Receipt {
		s.receipts = append(s.receipts, waiting{u: *u})
	} else {
		s.messages = append(s.messages, waiting{u: *u})
	}
}

// blocked reports whether others of the kind wait already.
func (s *sender) blocked(k presence.Kind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k == presence.Receipt {
		return len(s.receipts) > 0
	}
	return len(s.messages) > 0
}

// handOut hands out what waits, until there is no room, and reports whether it did any.
func (s *sender) handOut() (moved bool) {
	for _, list := range []*[]waiting{&s.receipts, &s.messages} {
		for {
			s.mu.Lock()
			if len(*list) == 0 {
				s.mu.Unlock()
				break
			}
			w := (*list)[0]
			s.mu.Unlock()
			sess := s.choose(&w.u, w.not)
			if sess == nil {
				break
			}
			if !s.valid(&w.u) {
				s.link.Delivered([]uint64{w.u.ID}) // it gives its place to another
			} else if !sess.offer(&w.u) {
				continue // it has just ended
			}
			s.mu.Lock()
			s.dropLocked(list, &w.u)
			s.mu.Unlock()
			moved = true
		}
	}
	return moved
}

// dropLocked takes an update off a list. Others may have been put before it meanwhile.
func (s *sender) dropLocked(list *[]waiting, u *presence.Update) {
	i := slices.IndexFunc(*list, func(w waiting) bool {
		return w.u.ID == u.ID && w.u.Ref == u.Ref && w.u.Local == u.Local && w.u.Since.Equal(u.Since) && w.u.Device == u.Device
	})
	if i >= 0 {
		*list = slices.Delete(*list, i, i+1)
	}
}

// valid reports whether an update that had to wait may still be told: the user has not revoked the app meanwhile, it has
// not expired, and what is for now is not late.
func (s *sender) valid(u *presence.Update) bool {
	if s.late(u) || u.ID != 0 && !s.link.Waits(u.ID) {
		return false
	}
	p := presence.Peer{PUID: u.Local}
	if u.ByEmail {
		p = presence.Peer{Email: u.Local}
	}
	return s.link.Allowed(p)
}

// late reports whether an update was for now, and now is over.
func (s *sender) late(u *presence.Update) bool {
	return u.Kind == presence.FromDevice && u.ID == 0 && s.srv.cfg.Now().Sub(u.Since) > freshFor
}

// choose returns the session for an update: always the same one for a user as long as it has room and none comes or
// goes (rendezvous hashing), so that her messages keep their order. nil: none has room. not is the last choice.
func (s *sender) choose(u *presence.Update, not *session) (best *session) {
	s.mu.Lock()
	sessions := s.sessions
	s.mu.Unlock()
	var most uint64
	user := maphash.String(s.srv.seed, u.Local)
	for _, sess := range sessions {
		if sess == not && len(sessions) > 1 {
			continue
		}
		if w := weight(user, sess.serial); (best == nil || w > most) && sess.room(u.Kind) {
			best, most = sess, w
		}
	}
	return best
}

// weight is finished as in splitmix64, so that near serials differ everywhere.
func weight(user, serial uint64) uint64 {
	w := user ^ serial*0x9e3779b97f4a7c15
	w ^= w >> 32
	w *= 0xd6e8feb86659fd93
	w ^= w >> 32
	w *= 0xd6e8feb86659fd93
	return w ^ w>>32
}
