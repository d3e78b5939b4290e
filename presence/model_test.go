package presence_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"presenced/presence"
)

// model is what must be true, in the plainest form: no sharing, no laziness, no locks.
type model struct {
	*fixture
	t        *rapid.T
	apps     []string
	devices  map[string]*modelDevice // by "user/device"
	grants   map[string]presence.Grant
	asked    map[string]bool // requests that wait, by "user/app"
	answers  map[string]int  // told to the app and not heard yet, by "app/kind/local": at most so many are to come
	links    map[string]*presence.Link
	knows    map[string]map[string]presence.Status // by app, then "puid/tag": what the app was told
	sessions []*presence.Session                   // all ever made, the replaced ones too
	users    map[string]*presence.User
	watches  map[string]*presence.Watch // by user
	shown    map[string]presence.Status // by "user/device": what the watches told
}

type modelDevice struct {
	state   presence.State
	session *presence.Session
}

var (
	modelUsers   = []string{"ann@example.org", "bob@example.org"}
	modelDevices = []string{"phone", "desk"}
)

func (m *model) device(user, id string) *modelDevice {
	key := user + "/" + id
	if m.devices[key] == nil {
		m.devices[key] = &modelDevice{}
	}
	return m.devices[key]
}

func (m *model) step(d *modelDevice, e presence.Input) {
	e.Linger = linger
	d.state, _ = presence.Step(d.state, e, presence.Moment(m.clock.Now()))
}

func (m *model) draw(label string, from []string) string {
	return rapid.SampledFrom(from).Draw(m.t, label)
}

// local is the address under which the app knows the user of a grant.
func local(g presence.Grant) string {
	if g.Address == presence.ByEmail {
		return g.Email
	}
	return g.PUID
}

// visible are the statuses that the app may see of the user now, sorted.
func (m *model) visible(g presence.Grant) (sts []presence.Status) {
	if !g.Shown(m.clock.Now()) || m.users[g.Email].Hidden(m.clock.Now()) {
		return nil
	}
	for _, id := range modelDevices {
		if d := m.device(g.Email, id); d.state.Status != presence.Offline {
			sts = append(sts, d.state.Status)
		}
	}
	slices.Sort(sts)
	if g.NoDevices && len(sts) > 1 {
		return sts[len(sts)-1:] // all as one: the best
	}
	return sts
}

func (m *model) grantOf(app, name string) (presence.Grant, bool) {
	for _, g := range m.grants {
		if g.App == app && local(g) == name {
			return g, true
		}
	}
	return presence.Grant{}, false
}

// hear checks one update against the truth and what the app knew.
func (m *model) hear(app string, u presence.Update) {
	knows, key := m.knows[app], u.Local+"/"+u.Tag
	g, active := m.grantOf(app, u.Local)
	switch u.Kind {
	case presence.Subscribed:
		if m.answers[app+"/yes/"+u.Local]--; m.answers[app+"/yes/"+u.Local] < 0 {
			m.t.Fatalf("%s: subscribed to %s, which nobody said", app, u.Local)
		}
		m.must(m.links[app].Told(u.ID))
	case presence.Unsubscribed:
		if m.answers[app+"/no/"+u.Local]--; m.answers[app+"/no/"+u.Local] < 0 {
			m.t.Fatalf("%s: unsubscribed from %s, which nobody said", app, u.Local)
		}
		if active && g.Address == presence.ByPUID {
			m.t.Fatalf("%s: unsubscribed from %s, which holds", app, u.Local)
		}
		for k, st := range knows {
			if k[:len(u.Local)+1] == u.Local+"/" && st != presence.Offline {
				m.t.Fatalf("%s: unsubscribed while %s is still %v to it", app, k, st)
			}
		}
		if err := m.links[app].Told(u.ID); err != nil {
			m.t.Fatal(err)
		}
	case presence.Presence:
		if u.Status == knows[key] {
			m.t.Fatalf("%s: told twice that %s is %v", app, key, u.Status)
		}
		if u.Status != presence.Offline && (!active || !slices.Contains(m.visible(g), u.Status)) {
			m.t.Fatalf("%s: told that %s is %v; active %v, visible %v", app, key, u.Status, active, m.visible(g))
		}
		knows[key] = u.Status
	}
}

func (m *model) take(app string, max int) (n int) {
	l := m.links[app]
	if l == nil {
		return 0
	}
	buf := make([]presence.Update, max)
	n = l.Take(buf)
	for _, u := range buf[:n] {
		m.hear(app, u)
	}
	return n
}

// look takes what the watches have: each shows its own user, and of each of her devices what is true.
func (m *model) look() {
	buf := make([]presence.Event, 7)
	for user, w := range m.watches {
		for n, lost := w.Take(buf); n > 0; n, lost = w.Take(buf) {
			if lost > 0 {
				clear(m.shown) // whoever it was about
			}
			for _, e := range buf[:n] {
				if e.Email != user {
					m.t.Fatalf("the watch of %s shows %+v", user, e)
				}
				if e.Kind == presence.DeviceStatus || e.Kind == presence.DeviceGone {
					m.shown[user+"/"+e.Device] = e.Status
				}
			}
		}
	}
	for key, st := range m.shown {
		if m.devices[key].state.Status != st {
			m.t.Fatalf("%s was shown as %v and is %v", key, st, m.devices[key].state.Status)
		}
	}
}

// settle takes all and compares what each linked app knows with what is true.
func (m *model) settle() {
	m.look()
	for app, l := range m.links {
		if l == nil {
			continue
		}
		for m.take(app, 2) > 0 {
		}
		got := map[string][]presence.Status{}
		for key, st := range m.knows[app] {
			if st != presence.Offline {
				name := key[:strings.LastIndexByte(key, '/')]
				got[name] = append(got[name], st)
			}
		}
		for _, g := range m.grants {
			if g.App != app {
				continue
			}
			have := got[local(g)]
			delete(got, local(g))
			slices.Sort(have)
			if want := m.visible(g); !slices.Equal(have, want) {
				m.t.Fatalf("%s knows %v of %s, true is %v", app, have, g.Email, want)
			}
		}
		if len(got) > 0 {
			m.t.Fatalf("%s still sees %v", app, got)
		}
	}
}

func (m *model) allow(t *rapid.T) {
	user, app := m.draw("user", modelUsers), m.draw("app", m.apps)
	g := presence.Grant{Email: user, App: app, Notify: true, Paused: rapid.Bool().Draw(t, "paused"),
		NoStatus: rapid.IntRange(0, 4).Draw(t, "status") == 0, NoDevices: rapid.Bool().Draw(t, "devices")}
	if rapid.Bool().Draw(t, "window") {
		g.Windows = []presence.Window{{From: "12:00", To: "12:30"}, {From: "13:00", To: "13:30"}}
	}
	if rapid.IntRange(0, 3).Draw(t, "until") == 0 {
		until := m.clock.Now().Add(20 * time.Minute)
		g.Until = &until
	}
	g, err := m.hub.Allow(g, presence.ByUser)
	m.must(err)
	m.grants[user+"/"+app] = g
	m.answered(user, app, g)
}

// answered notes that a grant has answered the request that waited, if one did.
func (m *model) answered(user, app string, g presence.Grant) {
	if m.asked[user+"/"+app] {
		delete(m.asked, user+"/"+app)
		m.answers[app+"/yes/"+local(g)]++
	}
}

func (m *model) forget(key string) {
	g := m.grants[key]
	m.answers[g.App+"/no/"+local(g)]++
	delete(m.grants, key)
}

func (m *model) pass(d time.Duration) {
	m.fixture.pass(d)
	m.passed()
}

// passed does in the model what is due.
func (m *model) passed() {
	for _, d := range m.devices {
		m.step(d, presence.Input{Kind: presence.InputTick})
	}
	for key, g := range m.grants {
		if g.Ended(m.clock.Now()) {
			m.forget(key)
		}
	}
}

func (m *model) actions() map[string]func(*rapid.T) {
	pick := func() (*modelDevice, string, string) {
		user, id := m.draw("user", modelUsers), m.draw("device", modelDevices)
		return m.device(user, id), user, id
	}
	return map[string]func(*rapid.T){
		"attach": func(t *rapid.T) {
			d, user, id := pick()
			if m.users[user].Disabled {
				if _, err := m.hub.Attach(presence.Attach{Email: user, Device: id, Ready: m.ready}); !errors.Is(err, presence.ErrCredential) {
					t.Fatalf("a disabled user attaches: %v", err)
				}
				return
			}
			d.session = m.attach(user, id)
			m.sessions = append(m.sessions, d.session)
			m.step(d, presence.Input{Kind: presence.InputAttach})
		},
		"publish": func(t *rapid.T) {
			d, _, _ := pick()
			st := presence.Status(rapid.IntRange(0, 2).Draw(t, "status"))
			if d.session != nil {
				m.must(d.session.Publish(st, time.Time{}))
				m.step(d, presence.Input{Kind: presence.InputPublish, Status: st})
			}
		},
		"lose": func(t *rapid.T) {
			if d, _, _ := pick(); d.session != nil {
				d.session.Close()
				d.session = nil
				m.step(d, presence.Input{Kind: presence.InputLost})
			}
		},
		"late goodbye": func(t *rapid.T) {
			for _, s := range m.sessions {
				if s.Ended() != presence.Alive {
					s.Close()
				}
			}
		},
		"kick": func(t *rapid.T) {
			d, user, id := pick()
			m.hub.Kick(user, id)
			if d.session != nil {
				d.session = nil
				m.step(d, presence.Input{Kind: presence.InputEnd})
			}
		},
		"allow": m.allow,
		"revoke": func(t *rapid.T) {
			user, app := m.draw("user", modelUsers), m.draw("app", m.apps)
			if _, ok := m.grants[user+"/"+app]; ok {
				m.must(m.hub.Revoke(user, app, presence.ByUser))
				m.forget(user + "/" + app)
			}
		},
		"ask": func(t *rapid.T) {
			user, app := m.draw("user", modelUsers), m.draw("app", m.apps)
			if m.links[app] == nil {
				return
			}
			m.must(m.links[app].Subscribe(presence.Peer{Email: user}, app+".example", ""))
			switch g, granted := m.grants[user+"/"+app]; {
			case granted && g.Address == presence.ByEmail:
				m.answers[app+"/yes/"+user]++
			case !granted:
				m.asked[user+"/"+app] = true
			}
		},
		"answer": func(t *rapid.T) {
			user, app, yes := m.draw("user", modelUsers), m.draw("app", m.apps), rapid.Bool().Draw(t, "yes")
			_, granted := m.grants[user+"/"+app]
			err := m.hub.Answer(presence.Answer{Email: user, App: app, Allow: yes}, presence.ByUser)
			switch asked := m.asked[user+"/"+app]; {
			case !granted && !asked:
				if !errors.Is(err, presence.ErrStranger) {
					t.Fatalf("an answer to nothing: %v", err)
				}
			case yes:
				m.must(err)
				g, _, err := m.store.Grant(user, app)
				m.must(err)
				m.grants[user+"/"+app] = g
				m.answered(user, app, g)
			case granted:
				m.must(err)
				m.forget(user + "/" + app)
			default:
				m.must(err)
				delete(m.asked, user+"/"+app)
				m.answers[app+"/no/"+user]++
			}
		},
		"withdraw": func(t *rapid.T) {
			user, app := m.draw("user", modelUsers), m.draw("app", m.apps)
			if m.links[app] == nil {
				return
			}
			m.must(m.links[app].Unsubscribe(presence.Peer{Email: user}))
			if g, ok := m.grants[user+"/"+app]; ok && g.Address == presence.ByEmail {
				m.forget(user + "/" + app)
			} else if !ok {
				delete(m.asked, user+"/"+app)
			}
		},
		"pause": func(t *rapid.T) {
			user, app, p := m.draw("user", modelUsers), m.draw("app", m.apps), rapid.Bool().Draw(t, "paused")
			if g, ok := m.grants[user+"/"+app]; ok {
				m.must(m.hub.SetPaused(user, app, p, presence.ByUser))
				g.Paused, g.PausedUntil = p, nil
				m.grants[user+"/"+app] = g
			}
		},
		"pause for": func(t *rapid.T) {
			user, app := m.draw("user", modelUsers), m.draw("app", m.apps)
			until := m.clock.Now().Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "minutes")) * time.Minute)
			if g, ok := m.grants[user+"/"+app]; ok {
				m.must(m.hub.Pause(user, app, until, presence.ByUser))
				g.Paused, g.PausedUntil = true, &until
				m.grants[user+"/"+app] = g
			}
		},
		"invisible": func(t *rapid.T) {
			u := m.users[m.draw("user", modelUsers)]
			u.Invisible, u.InvisibleUntil = rapid.Bool().Draw(t, "on"), time.Time{}
			if n := rapid.IntRange(0, 40).Draw(t, "minutes"); u.Invisible && n > 0 {
				u.InvisibleUntil = m.clock.Now().Add(time.Duration(n) * time.Minute)
			}
			m.must(m.hub.SetInvisible(u.Email, u.Invisible, u.InvisibleUntil, presence.ByUser))
		},
		"disable": func(t *rapid.T) {
			u := m.users[m.draw("user", modelUsers)]
			u.Disabled = rapid.IntRange(0, 2).Draw(t, "enable") == 0
			m.must(m.hub.SetDisabled(u.Email, u.Disabled, presence.ByAdmin))
			for _, id := range modelDevices {
				if d := m.device(u.Email, id); u.Disabled {
					d.session = nil
					m.step(d, presence.Input{Kind: presence.InputEnd})
				}
			}
		},
		"jump": func(t *rapid.T) { // as after a suspend: all at once
			m.clock.add(time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute)
			m.hub.Advance(m.clock.Now())
			m.passed()
		},
		"link": func(t *rapid.T) {
			app := m.draw("app", m.apps)
			m.links[app] = m.link(app)
			m.knows[app] = map[string]presence.Status{}
		},
		"unlink": func(t *rapid.T) {
			app := m.draw("app", m.apps)
			if m.links[app] != nil {
				m.links[app].Close()
				m.links[app] = nil
			}
		},
		"take": func(t *rapid.T) { m.take(m.draw("app", m.apps), rapid.IntRange(1, 3).Draw(t, "max")) },
		"pass": func(t *rapid.T) {
			m.pass(rapid.SampledFrom([]time.Duration{time.Second, linger, 10 * time.Minute, 31 * time.Minute}).Draw(t, "time"))
		},
		"": func(t *rapid.T) {
			if rapid.IntRange(0, 4).Draw(t, "settle") == 0 {
				m.settle()
			}
		},
	}
}

// Promises 1 and 2 of the package, over random histories: an app is told what is true and allowed, never
// the same twice, and when everybody has left nobody is kept.
func TestModel(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		f := newFixtureAt(t, subdir(t, dir, run))
		defer f.close()
		m := &model{fixture: f, t: rt, apps: []string{"chat", "mail"}, devices: map[string]*modelDevice{}, grants: map[string]presence.Grant{},
			asked: map[string]bool{}, answers: map[string]int{}, links: map[string]*presence.Link{}, knows: map[string]map[string]presence.Status{},
			users: map[string]*presence.User{}, watches: map[string]*presence.Watch{}, shown: map[string]presence.Status{}}
		for _, a := range m.apps {
			m.app(a)
		}
		for _, u := range modelUsers { // whom nobody knows nobody can ask
			m.users[u] = &presence.User{Email: u}
			m.must(m.store.PutUser(*m.users[u]))
			m.watches[u] = m.hub.Watch(u)
		}
		rt.Repeat(m.actions())
		m.settle()
		for _, user := range modelUsers {
			m.hub.Kick(user, "")
		}
		m.pass(time.Hour)
		for d := range maps.Values(m.devices) {
			m.step(d, presence.Input{Kind: presence.InputEnd})
		}
		m.settle()
		if st := m.hub.Stats(); st.Users != 0 {
			rt.Fatalf("everybody has left and %d users are in memory", st.Users)
		}
	})
}

func subdir(t *testing.T, dir string, n int) string {
	sub := filepath.Join(dir, strconv.Itoa(n))
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	return sub
}
