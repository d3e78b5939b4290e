package presence

import (
	"errors"
	"slices"
	"strings"
	"time"
)

// Request is an app's wish to see a user, kept until she answers. It is keyed by (Email, App): an app asks
// with the e-mail that it knew already, and that becomes its address for her.
type Request struct {
	Email   string    `json:"email"`
	App     string    `json:"appid"`
	Name    string    `json:"name"`    // of the app
	Purpose string    `json:"purpose"` // at most maxPurpose characters
	From    string    `json:"from"`    // the address at the app that asked
	Time    time.Time `json:"time"`
}

const maxPurpose = 512 // characters

// Requests keeps what waits for a user's answer.
type Requests interface {
	RequestsOf(email string) ([]Request, error) // oldest first
	Request(email, app string) (Request, bool, error)
	// PutRequest keeps r unless its user is unknown, the app has one waiting with her already, or max are
	// waiting: then it changes nothing and returns false.
	PutRequest(r Request, max int) (bool, error)
	// RemoveRequest forgets one and keeps the notice, if there is one, in the same commit.
	RemoveRequest(email, app string, audit []AuditEntry, n *Notice) error
}

// Subscribe is an app's wish to see the peer (RFC 6121 §3.1). If she allowed it already the app is told so
// at once; if it named an e-mail her request waits for an answer. Nothing else is ever told: whoever does
// not exist is as silent as who has not answered. The answer goes to from, a bare address at the app.
func (l *Link) Subscribe(p Peer, from, purpose string) error {
	if l.Ended() != Alive {
		return ErrEnded
	}
	h := l.hub
	g, release, err := h.findGrant(l.app, p)
	if err == nil {
		h.tellSubscribed(l, &g, from)
		release()
		return h.keepRequest(Request{Email: p.Email + p.PUID, App: l.app.id}, false)
	}
	if !errors.Is(err, ErrStranger) {
		return err
	}
	return h.ask(l.app, p, from, purpose)
}

// keepRequest hands a request to the store, which commits whether it keeps it or not: how long that takes
// tells nobody who exists or who has granted. It reports a failure of the store.
func (h *Hub) keepRequest(r Request, wanted bool) error {
	most := 0
	if wanted {
		most = h.cfg.Limits.RequestsPerUser
	}
	kept, err := h.cfg.Store.PutRequest(r, most)
	if kept {
		h.eachAttached(r.Email, "", func(s *Session) { s.signal(flagRequests) })
		h.tell(Event{Kind: Requested, Email: r.Email, App: r.App, Detail: r.Purpose, By: ByApp})
	}
	return storage(err)
}

// tellSubscribed answers a request for what is allowed already (RFC 6121 §3.1.3).
func (h *Hub) tellSubscribed(l *Link, stored *Grant, to string) {
	sh := h.shard(stored.Email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	n := stored.notice(Subscribed)
	n.To = to
	l.pushNotice(h.grantLikeLocked(sh, l.app, stored), &n)
}

// grantLikeLocked is the grant in memory, or one like it where its user is not there.
func (h *Hub) grantLikeLocked(sh *shard, a *app, stored *Grant) *grant {
	if u := sh.users[stored.Email]; u != nil {
		if g := u.grant(stored.App); g != nil && g.puid == stored.PUID {
			return g
		}
	}
	return &grant{app: a, puid: stored.PUID, owner: &user{email: stored.Email}, byEmail: stored.Address == ByEmail}
}

// ask keeps a request and shows it to the user's devices, if she is one and has not granted the app already
// under another address: to this one she is a stranger.
func (h *Hub) ask(a *app, p Peer, from, purpose string) error {
	meta := a.meta.Load()
	if purpose == "" {
		purpose = meta.Description
	}
	if r := []rune(purpose); len(r) > maxPurpose {
		purpose = string(r[:maxPurpose])
	}
	email := p.Email + p.PUID
	st := h.stripe(email)
	st.Lock()
	defer st.Unlock()
	_, granted, err := h.cfg.Store.Grant(email, a.id)
	if err != nil {
		return storage(err)
	}
	return h.keepRequest(Request{Email: email, App: a.id, Name: meta.Name, Purpose: purpose, From: from,
		Time: h.cfg.Now().UTC()}, p.Email != "" && !granted)
}

// Unsubscribe ends the grant on the app's own wish (RFC 6121 §3.3), or takes its request back. Who is a
// stranger is not told so.
func (l *Link) Unsubscribe(p Peer) error {
	if l.Ended() != Alive {
		return ErrEnded
	}
	h := l.hub
	g, release, err := h.findGrant(l.app, p)
	if err == nil {
		release()
		_, err = h.endGrants([]Grant{g}, ending{what: "unsubscribe", by: ByApp, tell: true})
		return err
	}
	if !errors.Is(err, ErrStranger) {
		return err
	}
	email := p.Email + p.PUID
	defer h.lockStripes([]string{email})()
	return storage(h.cfg.Store.RemoveRequest(email, l.app.id, nil, nil)) // it commits also where there is none
}

// Answer is what a user says to an app that asked, or about one that she allowed. What is left out stays as
// it is; of a new grant it is always, for ever, with status, devices and notifications, without idle times.
type Answer struct {
	Email, App string
	Allow      bool
	Windows    []Window // nil: left out; empty: always
	TZ         string   // "": left out
	Until      *time.Time
	Notify     *bool
	Idle       *bool
	Status     *bool // false: Grant.NoStatus
	Devices    *bool // false: Grant.NoDevices
}

// Answer allows or denies: a waiting request, or a present grant, which it changes or revokes. ErrStranger:
// there is neither, whatever else exists; ErrBadValue.
func (h *Hub) Answer(a Answer, by Actor) error {
	app := h.apps.get(a.App)
	if app == nil {
		return ErrStranger
	}
	if a.Allow {
		_, err := h.Edit(a.Email, a.App, by, func(g *Grant, exists bool) error {
			_, asked, err := h.cfg.Store.Request(a.Email, a.App)
			if err != nil || !exists && !asked {
				return orStranger(err)
			}
			a.lay(g)
			return nil
		})
		return err
	}
	err := h.Revoke(a.Email, a.App, by)
	if errors.Is(err, ErrNoGrant) {
		return h.answerNo(app, a.Email, by)
	}
	return err
}

// lay changes in the grant what the answer names.
func (a *Answer) lay(g *Grant) {
	if a.Windows != nil {
		g.Windows = a.Windows
	}
	if a.TZ != "" {
		g.TZ = a.TZ
	}
	if a.Until != nil {
		g.Until = a.Until
	}
	if a.Notify != nil {
		g.Notify = *a.Notify
	}
	if a.Idle != nil {
		g.Idle = *a.Idle
	}
	if a.Status != nil {
		g.NoStatus = !*a.Status
	}
	if a.Devices != nil {
		g.NoDevices = !*a.Devices
	}
}

// answerNo denies a request: the app hears `unsubscribed`, as after a revoke.
func (h *Hub) answerNo(a *app, email string, by Actor) error {
	defer h.lockStripes([]string{email})()
	r, asked, err := h.cfg.Store.Request(email, a.id)
	if !asked || err != nil {
		return orStranger(err) // somebody was faster
	}
	n := Notice{App: a.id, Kind: Unsubscribed, Local: email, ByEmail: true, To: r.From}
	audit := []AuditEntry{{Time: h.cfg.Now().UTC(), Email: email, App: a.id, What: "deny", By: by}}
	if err := h.cfg.Store.RemoveRequest(email, a.id, audit, &n); err != nil {
		return storage(err)
	}
	h.pushToLinks(a, &Grant{Email: email, App: a.id, Address: ByEmail}, &n)
	h.tell(Event{Kind: Answered, Email: email, App: a.id, Detail: "deny", By: by})
	return nil
}

// pushToLinks queues a notice on the app's links.
func (h *Hub) pushToLinks(a *app, stored *Grant, n *Notice) {
	sh := h.shard(stored.Email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	h.grantLikeLocked(sh, a, stored).pushNotice(n)
}

// RequestsOf lists what waits for the user's answer, oldest first.
func (h *Hub) RequestsOf(email string) ([]Request, error) {
	rs, err := h.cfg.Store.RequestsOf(email)
	slices.SortStableFunc(rs, func(a, b Request) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.App, b.App)
	})
	return rs, storage(err)
}

// settleRequest makes an allowed request an answer: the app is told `subscribed`, before presence. Called
// under the stripe, before the grant comes to memory.
func (h *Hub) settleRequest(g *Grant, by Actor) error {
	r, asked, err := h.cfg.Store.Request(g.Email, g.App)
	if err != nil || !asked {
		return storage(err)
	}
	n := g.notice(Subscribed)
	n.To = r.From
	if err := h.cfg.Store.RemoveRequest(g.Email, g.App, nil, &n); err != nil {
		return storage(err)
	}
	if a := h.apps.get(g.App); a != nil {
		h.pushToLinks(a, g, &n)
	}
	h.tell(Event{Kind: Answered, Email: g.Email, App: g.App, Detail: "allow", By: by})
	return nil
}
