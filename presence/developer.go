package presence

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// AddApp registers a new app. What is left out is filled in: an ID from the name that nobody has, Secret, APIKey,
// Conflict, Created. ErrExists: its ID, or its component domain, is another app's; ErrBadValue wraps what Check says.
func (h *Hub) AddApp(a App) (App, error) {
	h.apps.changing.Lock()
	defer h.apps.changing.Unlock()
	if _, taken := h.App(a.ID); taken {
		return App{}, fmt.Errorf("%w: app %s", ErrExists, a.ID)
	}
	if a.ID == "" {
		a.ID = h.freeAppID(a.Name)
	}
	if a.Secret == "" {
		a.Secret = NewSecret()
	}
	if a.APIKey == "" {
		a.APIKey = NewSecret()
	}
	if a.Conflict == "" {
		a.Conflict = Replace
	}
	if a.Redirects == nil {
		a.Redirects = []string{}
	}
	return h.putAppLocked(a)
}

// EditApp changes an app: edit gets the present one, and nobody else changes it meanwhile. An error of edit is
// returned and nothing is changed. ErrNoApp; else as PutApp.
func (h *Hub) EditApp(id string, edit func(*App) error) (App, error) {
	h.apps.changing.Lock()
	defer h.apps.changing.Unlock()
	a, ok := h.App(id)
	if !ok {
		return App{}, ErrNoApp
	}
	a.Redirects = slices.Clone(a.Redirects)
	if err := edit(&a); err != nil {
		return App{}, err
	}
	a.ID = id
	return h.putAppLocked(a)
}

// Rotate gives the app a new secret and a new API key; the present ones are good for as long as overlap says.
func (a *App) Rotate(now time.Time, overlap time.Duration) {
	a.OldSecret, a.OldAPIKey, a.OldSecretUntil = "", "", time.Time{}
	if overlap > 0 {
		a.OldSecret, a.OldAPIKey, a.OldSecretUntil = a.Secret, a.APIKey, now.Add(overlap).UTC()
	}
	a.Secret, a.APIKey = NewSecret(), NewSecret()
}

// MaxOverlap is how long a secret may be good beside the new one.
const MaxOverlap = 30 * 24 * time.Hour

// Secrets are the handshake secret and, while there is one, the one before it, else "".
func (a *App) Secrets(now time.Time) [2]string {
	if now.Before(a.OldSecretUntil) {
		return [2]string{a.Secret, a.OldSecret}
	}
	return [2]string{a.Secret, ""}
}

// APIKeys is Secrets for the API key.
func (a *App) APIKeys(now time.Time) [2]string {
	if now.Before(a.OldSecretUntil) {
		return [2]string{a.APIKey, a.OldAPIKey}
	}
	return [2]string{a.APIKey, ""}
}

// NewSecret makes a random secret of at least 128 bits, in capital letters and digits.
func NewSecret() string { return rand.Text() + rand.Text() }

// freeAppID makes an appid of the app's name, with a random end if it is taken.
func (h *Hub) freeAppID(name string) string {
	base := slug(name)
	id := base
	for {
		if _, taken := h.App(id); !taken {
			return id
		}
		id = base + "-" + strings.ToLower(rand.Text()[:4])
	}
}

const maxSlug = 48

// slug is the name in the letters of an appid: lower case, anything else becomes one hyphen.
func slug(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case b.Len() >= maxSlug:
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	if s := strings.Trim(b.String(), "-"); s != "" {
		return s
	}
	return "app"
}

// AppStats is what the developer of an app may know of how it does.
type AppStats struct {
	Connections []Connection      `json:"connections"` // oldest first
	Queue       int               `json:"queue"`       // notifications that wait for devices
	Dropped     uint64            `json:"dropped"`     // notifications discarded since the start because so many waited for their user
	Upstream    int               `json:"upstream"`    // messages from devices that wait for the app, at most 1,000 are counted
	Refused     map[string]uint64 `json:"refused"`     // what was refused since the start, by reason
	LastErrors  []AppError        `json:"last_errors"` // newest first, at most 20
}

// Connection is one of an app's.
type Connection struct {
	Kind    string    `json:"kind"` // component, websocket, ccs (one for all of an app's)
	Address string    `json:"address,omitempty"`
	Since   time.Time `json:"since"`
	Away    bool      `json:"away,omitempty"` // it is lost and may be resumed
}

// AppError is something that was refused.
type AppError struct {
	Time   time.Time `json:"time"`
	Reason string    `json:"reason"`
	Detail string    `json:"detail,omitempty"`
}

// Bounds of what is kept of an app's refusals.
const (
	maxReasons   = 128 // kinds of them; the reasons are the edges' own words, so there are fewer
	maxAppErrors = 20
	maxDetail    = 200 // bytes
	maxCounted   = 1000
)

// troubles is what was refused of one app.
type troubles struct {
	mu    sync.Mutex
	count map[string]uint64 // guarded by mu
	last  []AppError        // guarded by mu: a ring, once it is full
	next  int               // guarded by mu: where the next one goes
}

func (t *troubles) note(e AppError) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count == nil {
		t.count = make(map[string]uint64)
	}
	if _, known := t.count[e.Reason]; known || len(t.count) < maxReasons {
		t.count[e.Reason]++
	}
	if len(t.last) < maxAppErrors {
		t.last = append(t.last, e)
		return
	}
	t.last[t.next] = e
	t.next = (t.next + 1) % maxAppErrors
}

func (t *troubles) into(s *AppStats) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for reason, n := range t.count {
		s.Refused[reason] = n
	}
	for i := range t.last {
		s.LastErrors = append(s.LastErrors, t.last[(t.next+len(t.last)-1-i)%len(t.last)])
	}
}

// Refused notes that something of the app was refused, or ended its connection: reason is a word of the edge's, of
// which there are few; detail is for the app's developer and has nothing that the app does not know.
func (l *Link) Refused(reason, detail string) {
	if len(detail) > maxDetail {
		detail = strings.ToValidUTF8(detail[:maxDetail], "")
	}
	l.app.troubles.note(AppError{Time: l.hub.cfg.Now().UTC(), Reason: reason, Detail: detail})
}

// SetAddress says where the link's connection comes from, and that it is there from now on.
func (l *Link) SetAddress(address string) {
	l.place.Store(&place{address, l.hub.cfg.Now().UTC()})
}

type place struct {
	address string
	since   time.Time
}

// AppStats tells how an app does. ErrNoApp, ErrStorage.
func (h *Hub) AppStats(id string) (AppStats, error) {
	a := h.apps.get(id)
	if a == nil {
		return AppStats{}, ErrNoApp
	}
	s := AppStats{Connections: []Connection{}, Refused: map[string]uint64{}, LastErrors: []AppError{}}
	for _, l := range a.links() {
		s.Connections = append(s.Connections, l.connection())
	}
	a.troubles.into(&s)
	var err error
	if s.Queue, err = h.waitingFrom(id); err != nil {
		return AppStats{}, err
	}
	s.Dropped = h.cfg.Store.Overflowed(id) + h.unseen.overflowed(id)
	ms, err := h.cfg.Store.UpstreamOf(id, 0, maxCounted)
	s.Upstream = len(ms)
	return s, storage(err)
}

func (l *Link) connection() Connection {
	c := Connection{Kind: "component", Away: l.detached()}
	switch l.kind {
	case SocketLink:
		c.Kind = "websocket"
	case CCSLink:
		c.Kind = "ccs"
	}
	if p := l.place.Load(); p != nil {
		c.Address, c.Since = p.address, p.since
	}
	return c
}
