package presence

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"slices"
	"time"
)

// ticket is the secret by which a device comes back after a change of network without signing in again: 128 random
// bits, kept in memory only, for one device.
type ticket [16]byte

var ticketText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (t ticket) matches(text string) bool {
	return t != ticket{} && subtle.ConstantTimeCompare([]byte(ticketText.EncodeToString(t[:])), []byte(text)) == 1
}

// Ticket returns what Attach takes in place of a credential, the same at each call and for those that come by it. It
// is good while this session, or one that came by it, is the device's; when its connection is lost, for the linger
// time; and never longer than the credential, or after it was revoked, the device kicked, or the user removed.
func (s *Session) Ticket() string {
	sh := s.hub.shard(s.dev.user.email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	m := s.moreLocked()
	if m.ticket == (ticket{}) {
		rand.Read(m.ticket[:]) // never fails (crypto/rand)
	}
	return ticketText.EncodeToString(m.ticket[:])
}

// lostSession is what is kept of a session with a ticket when its connection is gone.
type lostSession struct {
	device     string
	ticket     ticket
	credential uint64
	expires    moment // of the credential; 0: never
	until      moment // when it is forgotten
}

// tickets are the lost sessions of a shard. Guarded by the shard.
type tickets struct {
	of    map[string][]lostSession // by e-mail, at most one for each device
	order []lostOrder              // when to forget them, first first; at most maxLost
}

type lostOrder struct {
	email string
	until moment
}

// maxLost bounds the lost sessions of a shard; who is lost beyond it signs in again.
const maxLost = 4096

// knowsTicket reports whether Attach may go on.
func (h *Hub) knowsTicket(a *Attach, now moment) bool {
	sh := h.shard(a.Email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	_, ok := sh.redeemLocked(a, now)
	return ok
}

// redeemLocked finds the session to which the ticket belongs, the device's present one or a lost one.
func (sh *shard) redeemLocked(a *Attach, now moment) (old lostSession, ok bool) {
	if u := sh.users[a.Email]; u != nil {
		if d := u.device(a.Device); d != nil && d.session != nil && d.session.more != nil {
			s := d.session
			old = lostSession{a.Device, s.more.ticket, s.credential, s.expires, maxMoment}
		}
	}
	if i := slices.IndexFunc(sh.lost.of[a.Email], func(t lostSession) bool { return t.device == a.Device }); old.until == 0 && i >= 0 {
		old = sh.lost.of[a.Email][i]
	}
	ok = old.ticket.matches(a.Ticket) && now < old.until && (old.expires == 0 || now < old.expires)
	return old, ok
}

// keepTicketLocked is called when a session's connection is lost.
func (h *Hub) keepTicketLocked(sh *shard, s *Session, now moment) {
	sh.lost.tidy(now)
	if s.more == nil || s.more.ticket == (ticket{}) || h.cfg.Linger <= 0 || len(sh.lost.order) >= maxLost {
		return
	}
	email, device := s.dev.user.email, s.dev.id
	sh.lost.forget(email, func(t *lostSession) bool { return t.device == device })
	if sh.lost.of == nil {
		sh.lost.of = make(map[string][]lostSession)
	}
	until := now + moment(h.cfg.Linger/time.Millisecond)
	sh.lost.of[email] = append(sh.lost.of[email], lostSession{device, s.more.ticket, s.credential, s.expires, until})
	sh.lost.order = append(sh.lost.order, lostOrder{email, until})
}

// tidy forgets those whose time is over.
func (t *tickets) tidy(now moment) {
	n := 0
	for ; n < len(t.order) && t.order[n].until <= now; n++ {
		t.forget(t.order[n].email, func(l *lostSession) bool { return l.until <= now })
	}
	t.order = slices.Delete(t.order, 0, n)
}

// forget removes the user's that match; nil: all.
func (t *tickets) forget(email string, match func(*lostSession) bool) {
	list := slices.DeleteFunc(t.of[email], func(l lostSession) bool { return match == nil || match(&l) })
	if len(list) == 0 {
		delete(t.of, email)
		return
	}
	t.of[email] = list
}

func (h *Hub) forgetTickets(email string, match func(*lostSession) bool) {
	sh := h.shard(email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.lost.forget(email, match)
}
