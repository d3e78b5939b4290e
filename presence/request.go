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
		release()
		h.tellSubscribed(l, &g, from)
		return nil
	}
	if !errors.Is(err, ErrStranger) || p.Email == "" {
		return storageOnly(err)
	}
	return h.ask(l.app, p.Email, from, purpose)
}

// storageOnly forgets refusals that must not be told.
func storageOnly(err error) error {
	if errors.Is(err, ErrStorage) {
		return err
	}
	return nil
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

// ask keeps a request and shows it to the user's devices.
func (h *Hub) ask(a *app, email, from, purpose string) error {
	meta := a.meta.Load()
	if purpose == "" {
		purpose = meta.Description
	}
	if r := []rune(purpose); len(r) > maxPurpose {
		purpose = string(r[:maxPurpose])
	}
	st := h.stripe(email)
	st.Lock()
	defer st.Unlock()
	if _, ok, err := h.cfg.Store.Grant(email, a.id); ok || err != nil {
		return storage(err) // under another address: to this one she is a stranger
	}
	kept, err := h.cfg.Store.PutRequest(Request{Email: email, App: a.id, Name: meta.Name, Purpose: purpose,
		From: from, Time: h.cfg.Now().UTC()}, h.cfg.Limits.RequestsPerUser)
	if err != nil {
		return storage(err)
	}
	if kept {
		h.eachAttached(email, "", func(s *Session) { s.signal(flagRequests) })
	}
	return nil
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
		return h.endGrants([]Grant{g}, "unsubscribe", ByApp, true)
	}
	if !errors.Is(err, ErrStranger) || p.Email == "" {
		return storageOnly(err)
	}
	defer h.lockStripes([]string{p.Email})()
	if _, ok, err := h.cfg.Store.Request(p.Email, l.app.id); !ok || err != nil {
		return storage(err)
	}
	return storage(h.cfg.Store.RemoveRequest(p.Email, l.app.id, nil, nil))
}

// Answer is what a user says to an app that asked, or about one that she allowed.
type Answer struct {
	Email, App string
	Allow      bool
	Windows    []Window
	TZ         string
	Until      *time.Time
	Notify     *bool // nil: as it is, or true
	Idle       *bool // nil: as it is, or false
}

// Answer allows or denies: a waiting request, or a present grant, which it changes or revokes. ErrStranger:
// there is neither, whatever else exists; ErrBadValue.
func (h *Hub) Answer(a Answer, by Actor) error {
	g, granted, err := h.cfg.Store.Grant(a.Email, a.App)
	if err != nil {
		return storage(err)
	}
	_, asked, err := h.cfg.Store.Request(a.Email, a.App)
	if err != nil {
		return storage(err)
	}
	app := h.apps.get(a.App)
	switch {
	case app == nil || !granted && !asked:
		return ErrStranger
	case a.Allow:
		return h.answerYes(a, g, by)
	case granted:
		return h.Revoke(a.Email, a.App, by)
	}
	return h.answerNo(app, a.Email, by)
}

func (h *Hub) answerYes(a Answer, old Grant, by Actor) error {
	g := Grant{Email: a.Email, App: a.App, Windows: a.Windows, TZ: a.TZ, Until: a.Until, Notify: true, Paused: old.Paused}
	if old.PUID != "" {
		g.Notify, g.Idle = old.Notify, old.Idle
	}
	if a.Notify != nil {
		g.Notify = *a.Notify
	}
	if a.Idle != nil {
		g.Idle = *a.Idle
	}
	_, err := h.Allow(g, by)
	return err
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
func (h *Hub) settleRequest(g *Grant) error {
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
	return nil
}
