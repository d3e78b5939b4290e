package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"presenced/presence"
	"presenced/presence/errno"
)

// errStranger is all that an app hears of a user who does not exist, never granted it, or revoked. It is one value, so
// that nothing of the reason can get into it.
var errStranger = &Error{Status: http.StatusNotFound, Errno: errno.NoApp, Text: "There is no such user for this app."}

// strange hides why a user is none for the app.
func strange(err error) error {
	for _, e := range []error{presence.ErrStranger, presence.ErrNoGrant, presence.ErrNoUser} {
		if errors.Is(err, e) {
			return errStranger
		}
	}
	return err
}

// seenDevice is one of a user's devices, as an app may see it.
type seenDevice struct {
	Device string    `json:"device"`
	Status string    `json:"status"`
	Since  time.Time `json:"since"`
	Idle   time.Time `json:"idle_since,omitzero"`
}

// seenGrant is a user, as an app may see her.
type seenGrant struct {
	UID     string       `json:"uid"`
	Status  string       `json:"status"`
	Devices []seenDevice `json:"devices"`
}

// peerOf is whom the app means: a PUID, or the e-mail under which it asked. What is neither is a stranger.
func peerOf(uid string) presence.Peer {
	if !strings.Contains(uid, "@") {
		return presence.Peer{PUID: uid}
	}
	email, err := presence.NormalEmail(uid)
	if err != nil {
		email = uid
	}
	return presence.Peer{Email: email}
}

// see asks the core what the app may see of a user: the same as a probe tells a component, and the same where presence
// is hidden as where everybody is offline.
func (c *appCall) see(p presence.Peer) (seenGrant, error) {
	updates, err := c.voice.Probe(p)
	if err != nil {
		return seenGrant{}, strange(err)
	}
	v := seenGrant{Devices: []seenDevice{}}
	best := presence.Offline
	for _, u := range updates {
		v.UID, best = u.Local, max(best, u.Status)
		if u.Tag != "" {
			v.Devices = append(v.Devices, seenDevice{u.Tag, u.Status.String(), u.Since.UTC(), utcOrZero(u.Idle)})
		}
	}
	v.Status = best.String()
	return v, nil
}

func utcOrZero(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

func (c *appCall) getGrant() (any, error) { return c.see(peerOf(c.r.PathValue("party"))) }

// listGrants goes by PUID, which says nothing about anybody.
func (c *appCall) listGrants() (any, error) {
	limit, after, err := paging(c.r)
	if err != nil {
		return nil, err
	}
	stored, err := c.site.cfg.Store.GrantsOfApp(c.meta.ID, after, limit+1)
	if err != nil {
		return nil, storageError(err)
	}
	p := page[seenGrant]{Items: []seenGrant{}}
	for i, g := range stored {
		if i == limit {
			onwards(&p, c.r, c.header, stored[limit-1].PUID)
			break
		}
		peer := presence.Peer{PUID: g.PUID}
		if g.Address == presence.ByEmail {
			peer = presence.Peer{Email: g.Email}
		}
		switch v, err := c.see(peer); {
		case err == error(errStranger): // it ended, or ends at this moment
		case err != nil:
			return nil, err
		default:
			p.Items = append(p.Items, v)
		}
	}
	return p, nil
}

func (c *appCall) giveBack() (any, error) {
	return nil, quiet(c.voice.GiveBack(peerOf(c.r.PathValue("party"))))
}

// quiet drops what would tell whether there is such a user.
func quiet(err error) error {
	if strange(err) == error(errStranger) || errors.Is(err, presence.ErrBadValue) {
		return nil
	}
	return err
}

func (c *appCall) ask() (any, error) {
	var b struct {
		Email   string `json:"email"`
		Purpose string `json:"purpose"`
	}
	if err := decode(c.r, &b); err != nil {
		return nil, err
	}
	if b.Email == "" {
		return nil, missingField("email")
	}
	email, err := presence.NormalEmail(b.Email)
	if err != nil {
		return nil, badField("email", "is not an e-mail address")
	}
	if len([]rune(b.Purpose)) > 512 {
		return nil, badField("purpose", "has more than 512 characters")
	}
	err = c.voice.Ask(presence.Peer{Email: email}, c.meta.Component, b.Purpose)
	return result{"OK"}, quiet(err)
}

func (c *appCall) takeBack() (any, error) {
	email, err := presence.NormalEmail(c.r.PathValue("email"))
	if err != nil {
		return nil, badField("email", "is not an e-mail address")
	}
	return nil, quiet(c.voice.GiveBack(presence.Peer{Email: email}))
}

// note is a notification in a body.
type note struct {
	UID      string          `json:"uid"`
	Device   string          `json:"device"`
	Source   string          `json:"source"`
	Message  string          `json:"message"`
	Action   string          `json:"action"`
	Data     json.RawMessage `json:"data"`
	TTL      maybe[int64]    `json:"ttl"`
	Collapse string          `json:"collapse_key"`
	Priority string          `json:"priority"`
}

const (
	maxNotes     = 100
	maxNotesBody = 1 << 20 // bytes of a body with several
	maxSeconds   = 1 << 32 // what fits a time.Duration; the core knows the real limit
)

// message is the note as the core takes it.
func (n *note) message(app *presence.App) (m presence.Message, err error) {
	m = presence.Message{Source: n.Source, Message: n.Message, Action: n.Action, TTL: -1, Collapse: n.Collapse}
	if m.Source == "" {
		m.Source = app.Name
	}
	if n.UID == "" {
		return m, missingField("uid")
	}
	switch n.Priority {
	case "", "normal":
	case "high":
		m.High = true
	default:
		return m, badField("priority", "is neither normal nor high")
	}
	if n.TTL.Set {
		if n.TTL.Null || n.TTL.V < 0 || n.TTL.V > maxSeconds {
			return m, badField("ttl", "is out of range")
		}
		m.TTL = time.Duration(n.TTL.V) * time.Second
	}
	if len(n.Data) > 0 && string(n.Data) != "null" {
		m.Data = n.Data
	}
	return m, nil
}

// readNotes reads one notification, or several.
func readNotes(b []byte) (notes []note, several bool, err error) {
	var names map[string]json.RawMessage
	if json.Unmarshal(b, &names) == nil && names["notifications"] != nil {
		var list struct {
			Notifications []note `json:"notifications"`
		}
		if err := strict(b, &list); err != nil {
			return nil, true, err
		}
		if n := len(list.Notifications); n == 0 || n > maxNotes {
			return nil, true, badField("notifications", "has to have 1 to 100 of them")
		}
		return list.Notifications, true, nil
	}
	notes = make([]note, 1)
	return notes, false, strict(b, &notes[0])
}

// sentNotes is the answer to POST /notifications.
type sentNotes struct {
	Result    string `json:"result"`
	Accepted  int    `json:"accepted"`
	QueueSize int    `json:"queue_size"`
}

func (c *appCall) notify() (any, error) {
	body, err := readBody(c.r)
	if err != nil {
		return nil, err
	}
	key := c.r.Header.Get("Idempotency-Key")
	if len(key) > 255 {
		return nil, badField("Idempotency-Key", "has more than 255 bytes")
	}
	return c.once.do(c.meta.ID, key, body, func() (any, error) { return c.send(body) })
}

func (c *appCall) send(body []byte) (any, error) {
	notes, several, err := readNotes(body)
	if err != nil {
		return nil, err
	}
	calls := make([]presence.Addressed, len(notes))
	for i := range notes {
		m, err := notes[i].message(&c.meta)
		if err != nil {
			return nil, atIndex(err, i, several)
		}
		to := peerOf(notes[i].UID)
		to.Tag = notes[i].Device
		calls[i] = presence.Addressed{To: to, Message: m}
	}
	d, err := c.voice.NotifyAll(calls)
	if err != nil {
		return nil, refusedNote(err)
	}
	if err := d.Wait(); err != nil {
		return nil, err
	}
	n, err := d.Waiting()
	return sentNotes{"OK", len(notes), n}, err
}

// refusedNote says what is wrong with a notification that the core refused.
func refusedNote(err error) error {
	switch {
	case errors.Is(err, presence.ErrTTL):
		return badField("ttl", "is out of range")
	case errors.Is(err, presence.ErrNotAllowed):
		return &Error{Status: http.StatusForbidden, Kind: "not-allowed", Errno: errno.NoApp, Text: "The user does not allow this app to send notifications."}
	case errors.Is(err, presence.ErrTooLarge):
		return &Error{Status: http.StatusRequestEntityTooLarge, Errno: errno.PayloadSize, Text: "Source, message, action and data have too many bytes together."}
	case errors.Is(err, presence.ErrBadValue):
		return badField("collapse_key", "is too long")
	}
	return strange(err)
}

// atIndex says which one it was, if there were several.
func atIndex(err error, i int, several bool) error {
	if !several {
		return err
	}
	e := *asError(err)
	e.Index = &i
	return &e
}

// queued is the answer to GET /queue.
type queued struct {
	QueueSize int    `json:"queue_size"`
	Dropped   uint64 `json:"dropped"`
	Upstream  int    `json:"upstream"`
}

func (c *appCall) getQueue() (any, error) {
	s, err := c.site.cfg.Hub.AppStats(c.meta.ID)
	return queued{s.Queue, s.Dropped, s.Upstream}, err
}
