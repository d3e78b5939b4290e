package presence

import (
	"fmt"
	"time"
)

// How a user hides without ending a grant: a pause of one, being invisible to all. To an app both look like going
// offline.

// Users holds what the core has to know of a user beside her grants.
type Users interface {
	User(email string) (User, bool, error)
	// ChangeUser writes a user who is known and appends the audit, all or nothing. ErrNoUser.
	ChangeUser(u User, audit []AuditEntry) error
	// EndSessions ends her sessions on the web pages.
	EndSessions(email string) error
}

// Pause hides presence from an app without ending the grant, until the moment comes; zero: until SetPaused resumes
// it. It may change when a pause ends. ErrNoGrant; ErrBadValue: the moment is past.
func (h *Hub) Pause(email, app string, until time.Time, by Actor) error {
	if !until.IsZero() && !until.After(h.cfg.Now()) {
		return fmt.Errorf("%w: until is in the past", ErrBadValue)
	}
	return h.pause(email, app, true, until, by)
}

// SetPaused pauses until it is called again to resume. ErrNoGrant.
func (h *Hub) SetPaused(email, app string, paused bool, by Actor) error {
	return h.pause(email, app, paused, time.Time{}, by)
}

func (h *Hub) pause(email, app string, paused bool, until time.Time, by Actor) error {
	defer h.lockStripes([]string{email})()
	g, ok, err := h.cfg.Store.Grant(email, app)
	if err != nil {
		return storage(err)
	}
	if !ok || g.Ended(h.cfg.Now()) {
		return ErrNoGrant
	}
	now := h.cfg.Now().UTC()
	g.Settle(now)
	was := g.pause()
	if g.Paused, g.PausedUntil = paused, nil; paused && !until.IsZero() {
		until = until.UTC()
		g.PausedUntil = &until
	}
	if g.pause() == was {
		return nil
	}
	what := "resume"
	if paused {
		what = "pause"
	}
	audit := []AuditEntry{{Time: now, Email: email, App: app, What: what, By: by, Detail: untilText(until)}}
	if err := h.cfg.Store.PutGrants([]Grant{g}, audit); err != nil {
		return storage(err)
	}
	h.changes.Add(1)
	h.applyGrant(&g, momentOf(now))
	h.tell(Event{Kind: GrantChanged, Email: email, App: app, Detail: what, By: by})
	return nil
}

// untilText is how an audit tells an end.
func untilText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return "until " + t.UTC().Format(time.RFC3339)
}

// SetInvisible hides her from every app, those that she grants later too, or shows her again; her grants stay as
// they are, and receipts are withheld as under a pause. With a moment it ends by itself; zero: when it is told.
// ErrNoUser; ErrBadValue: the moment is past.
func (h *Hub) SetInvisible(email string, on bool, until time.Time, by Actor) error {
	now := h.cfg.Now().UTC()
	if on && !until.IsZero() && !until.After(now) {
		return fmt.Errorf("%w: until is in the past", ErrBadValue)
	}
	if !on {
		until = time.Time{}
	}
	return h.changeUser(email, by, func(u *User) (what, detail string) {
		was := u.veil(now)
		if u.Invisible, u.InvisibleUntil = on, until; !until.IsZero() {
			u.InvisibleUntil = until.UTC()
		}
		switch {
		case u.veil(now) == was:
			return "", ""
		case on:
			return "invisible", untilText(until)
		}
		return "visible", ""
	})
}

// SetDisabled ends her sessions, of devices (EndRemoved) and on the web pages, and refuses new ones; or lets her in
// again. Her grants and tokens stay. ErrNoUser.
func (h *Hub) SetDisabled(email string, disabled bool, by Actor) error {
	err := h.changeUser(email, by, func(u *User) (what, detail string) {
		if u.Disabled == disabled {
			return "", ""
		}
		if u.Disabled = disabled; disabled {
			return "disabled", ""
		}
		return "enabled", ""
	})
	if err != nil || !disabled {
		return err
	}
	return storage(h.cfg.Store.EndSessions(email))
}

// changeUser writes what edit changes in a user, unless it says that nothing did, and brings it to memory.
func (h *Hub) changeUser(email string, by Actor, edit func(*User) (what, detail string)) error {
	defer h.lockStripes([]string{email})()
	u, ok, err := h.cfg.Store.User(email)
	if err != nil {
		return storage(err)
	}
	if !ok {
		return ErrNoUser
	}
	what, detail := edit(&u)
	if what == "" {
		return nil
	}
	now := h.cfg.Now().UTC()
	if err := h.cfg.Store.ChangeUser(u, []AuditEntry{{Time: now, Email: email, What: what, By: by, Detail: detail}}); err != nil {
		return storage(err)
	}
	h.applyUser(&u, momentOf(now))
	h.tell(Event{Kind: UserChanged, Email: email, Detail: what, By: by})
	return nil
}

// applyUser brings a written user to memory, if she is there. Called under her stripe.
func (h *Hub) applyUser(stored *User, now moment) {
	sh := h.shard(stored.Email)
	sh.mu.Lock()
	defer h.unlock(sh)
	if stored.Disabled {
		sh.lost.forget(stored.Email, nil)
	}
	u := sh.users[stored.Email]
	if u == nil {
		return
	}
	u.veil, u.barred = stored.veil(now.time()), stored.Disabled
	for _, g := range u.grants {
		h.flipLocked(sh, g, now)
	}
	if u.barred {
		h.endDevicesLocked(sh, u, EndRemoved, now)
	}
}

// veil is until when she is invisible; 0: she is not, maxMoment: until she says so.
func (u *User) veil(now time.Time) moment {
	switch {
	case !u.Hidden(now):
		return 0
	case u.InvisibleUntil.IsZero():
		return maxMoment
	}
	return momentOf(u.InvisibleUntil)
}

// Sight is how a grant stands at a moment: what its app sees, and for how long.
type Sight struct {
	now  time.Time      // when it was looked at
	zone *time.Location // the grant's

	Shown     bool      // presence is visible, if there is any
	NoStatus  bool      // presence is no part of the grant
	Paused    bool      // by a pause of the grant
	Invisible bool      // because the user is invisible to all
	Change    time.Time // when Shown changes by itself; zero: never
}

// Sight tells how a grant stands now.
func (h *Hub) Sight(g *Grant) (Sight, error) {
	u, _, err := h.cfg.Store.User(g.Email)
	if err != nil {
		return Sight{}, storage(err)
	}
	now := h.cfg.Now()
	zone, err := h.zones.load(g.TZ)
	if err != nil {
		zone = time.UTC
	}
	s := Sight{now: now, zone: zone, Paused: g.pause() > momentOf(now), Invisible: u.Hidden(now), NoStatus: g.NoStatus}
	s.Shown, s.Change = g.sight(now, u.veil(now), h.zones.load)
	return s, nil
}

// String says it in a few words, on the clocks of the grant's zone: "shown", "shown until 23:00", "hidden until
// mon 21:00", "paused until 2027-01-31 09:00", "paused", "invisible",
// "no status".
func (s Sight) String() string {
	word := "shown"
	switch {
	case s.NoStatus:
		word = "no status"
	case s.Invisible:
		word = "invisible"
	case s.Paused:
		word = "paused"
	case !s.Shown:
		word = "hidden"
	}
	if s.Change.IsZero() {
		return word
	}
	return word + " until " + clockText(s.Change.In(s.zone), s.now.In(s.zone))
}

// clockText is a moment to come as people say it: 23:00 within a day, mon 21:00 within a week, else with the date.
// What is not on the minute is rounded up to it.
func clockText(t, now time.Time) string {
	if short := t.Truncate(time.Minute); short.Before(t) {
		t = short.Add(time.Minute)
	}
	switch d := t.Sub(now); {
	case d < 24*time.Hour:
		return t.Format("15:04")
	case d < 7*24*time.Hour:
		return weekdays[t.Weekday()] + t.Format(" 15:04")
	}
	return t.Format("2006-01-02 15:04")
}
