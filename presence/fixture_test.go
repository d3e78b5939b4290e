package presence_test

import (
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"presenced/presence"
	"presenced/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is the test's time; it moves only when told.
type clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// fixture is a hub on a real store in a temporary folder.
type fixture struct {
	t     testing.TB
	clock *clock
	store *store.Store
	hub   *presence.Hub
	ready *presence.Ready
}

const linger = 10 * time.Second

func newFixture(t testing.TB) *fixture { return newFixtureAt(t, t.TempDir()) }

func newFixtureAt(t testing.TB, dir string) *fixture {
	t.Helper()
	return openFixture(t, dir, nil, nil)
}

// newFixtureOn is newFixture with something between the hub and the store.
func newFixtureOn(t testing.TB, wrap func(presence.Store) presence.Store) *fixture {
	t.Helper()
	return openFixture(t, t.TempDir(), nil, wrap)
}

// openFixture makes a fixture with other limits, or something between the hub and the store; both may be nil.
func openFixture(t testing.TB, dir string, limit func(*presence.Limits), wrap func(presence.Store) presence.Store) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: &clock{now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}, ready: presence.NewReady()}
	limits := presence.DefaultLimits()
	if limit != nil {
		limit(&limits)
	}
	var err error
	f.store, err = store.Open(filepath.Join(dir, "presenced.db"), store.Options{Now: f.clock.Now, Limits: limits, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var under presence.Store = f.store
	if wrap != nil {
		under = wrap(f.store)
	}
	f.hub, err = presence.New(presence.Config{Store: under, Now: f.clock.Now, Key: f.store.Key(), Limits: limits, Linger: linger})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) close() {
	f.hub.Close()
	if err := f.store.Close(); err != nil {
		f.t.Error(err)
	}
}

// pass lets time go by and does what is due at each moment of it.
func (f *fixture) pass(d time.Duration) {
	end := f.clock.Now().Add(d)
	for {
		next := f.hub.Advance(f.clock.Now())
		if next.After(end) {
			break
		}
		f.clock.add(next.Sub(f.clock.Now()))
	}
	f.clock.add(end.Sub(f.clock.Now()))
	f.hub.Advance(end)
}

func (f *fixture) app(id string) {
	f.t.Helper()
	f.must(f.hub.PutApp(presence.App{ID: id, Name: id, Component: id + ".example", Secret: "s", APIKey: "k", Conflict: presence.Replace}))
}

func (f *fixture) allow(email, app string) presence.Grant {
	f.t.Helper()
	g, err := f.hub.Allow(presence.Grant{Email: email, App: app, Notify: true}, presence.ByAdmin)
	f.must(err)
	return g
}

func (f *fixture) attach(email, device string) *presence.Session {
	f.t.Helper()
	s, err := f.hub.Attach(presence.Attach{Email: email, Device: device, Ready: f.ready})
	f.must(err)
	return s
}

func (f *fixture) online(email, device string) *presence.Session {
	f.t.Helper()
	s := f.attach(email, device)
	f.must(s.Publish(presence.Online, time.Time{}))
	return s
}

func (f *fixture) link(app string) *presence.Link {
	f.t.Helper()
	l, err := f.hub.Link(app, presence.ComponentLink)
	f.must(err)
	return l
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// take drains the link, a few updates at a time.
func take(l *presence.Link) (all []presence.Update) {
	buf := make([]presence.Update, 3)
	for n := l.Take(buf); n > 0; n = l.Take(buf) {
		all = append(all, buf[:n]...)
	}
	return all
}

// said is what take brought, in short words: "online puid", "unsubscribed puid".
func said(l *presence.Link) (words []string) {
	for _, u := range take(l) {
		switch u.Kind {
		case presence.Presence:
			w := u.Status.String() + " " + u.Local
			if u.Delayed {
				w += " delayed"
			}
			words = append(words, w)
		case presence.Subscribed:
			words = append(words, "subscribed "+u.Local)
		case presence.Unsubscribed:
			words = append(words, "unsubscribed "+u.Local)
		case presence.Receipt:
			words = append(words, "receipt "+u.Ref)
		}
	}
	return words
}
