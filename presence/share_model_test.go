package presence_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"presenced/presence"
)

// shareModel is model for an app whose connections share it. What the connections were told together is the truth
// about everybody whenever one of them is there and nothing waits.
type shareModel struct {
	*model
	all  []*modelLink
	last map[string]presence.Status // by "puid/tag": what was told last, by whomever
}

type modelLink struct {
	*presence.Link
	detached bool
	held     bool
	knows    map[string]presence.Status // by "puid/tag": what it was told last
	name     string
}

// hear checks one update against the truth, and what the app was told.
func (m *shareModel) hear(l *modelLink, u presence.Update) {
	key := u.Local + "/" + u.Tag
	g, active := m.grantOf("chat", u.Local)
	switch u.Kind {
	case presence.Unsubscribed:
		if l.held {
			m.t.Fatalf("%s: held, it was told of the end of %s", l.name, u.Local)
		}
		if m.answers["chat/no/"+u.Local]--; m.answers["chat/no/"+u.Local] < 0 {
			m.t.Fatalf("%s: unsubscribed from %s, which nobody said, or it was told", l.name, u.Local)
		}
		for k, st := range m.last {
			if strings.HasPrefix(k, u.Local+"/") && st != presence.Offline {
				m.t.Fatalf("%s: unsubscribed while %s is still %v to the app", l.name, k, st)
			}
		}
		m.must(l.Told(u.ID))
	case presence.Presence:
		if u.Status != presence.Offline && (!active || !slices.Contains(m.visible(g), u.Status)) {
			m.t.Fatalf("%s: told that %s is %v; active %v, visible %v", l.name, key, u.Status, active, m.visible(g))
		}
		if known, ok := l.knows[key]; ok && u.Status == known && u.Status == m.last[key] && !u.Delayed {
			m.t.Fatalf("%s: told twice that %s is %v", l.name, key, u.Status)
		}
		m.last[key], l.knows[key] = u.Status, u.Status
	}
}

func (m *shareModel) take(l *modelLink, max int) int {
	if l.detached {
		return 0
	}
	buf := make([]presence.Update, max)
	n := l.Take(buf)
	for _, u := range buf[:n] {
		m.hear(l, u)
	}
	return n
}

func (m *shareModel) settle() {
	speaks, holds := false, false
	for _, l := range m.all {
		for m.take(l, 2) > 0 {
		}
		speaks, holds = speaks || !l.detached, holds || l.held
	}
	if !speaks || holds {
		return
	}
	got := map[string][]presence.Status{}
	for key, st := range m.last {
		if st != presence.Offline {
			name := key[:strings.LastIndexByte(key, '/')]
			got[name] = append(got[name], st)
		}
	}
	for _, g := range m.grants {
		if g.App == "chat" {
			have := got[local(g)]
			delete(got, local(g))
			slices.Sort(have)
			if want := m.visible(g); !slices.Equal(have, want) {
				m.t.Fatalf("the app knows %v of %s, true is %v", have, g.Email, want)
			}
		}
	}
	if len(got) > 0 {
		m.t.Fatalf("the app still sees %v", got)
	}
	for key, n := range m.answers {
		if strings.HasPrefix(key, "chat/no/") && n > 0 {
			m.t.Fatalf("%d times %s was not told", n, key)
		}
	}
}

// pick returns one of the links that are as wanted; nil: there is none.
func (m *shareModel) pick(label string, wanted func(*modelLink) bool) *modelLink {
	var of []*modelLink
	for _, l := range m.all {
		if wanted(l) {
			of = append(of, l)
		}
	}
	if len(of) == 0 {
		return nil
	}
	return rapid.SampledFrom(of).Draw(m.t, label)
}

func (m *shareModel) drop(l *modelLink) {
	m.all = slices.DeleteFunc(m.all, func(o *modelLink) bool { return o == l })
	if len(m.all) == 0 {
		clear(m.last) // who comes next begins anew
	}
}

func (m *shareModel) add(made func(string, presence.LinkKind, ...*presence.Link) (*presence.Link, error), held bool) {
	if len(m.all) >= 5 {
		return
	}
	l, err := made("chat", presence.ComponentLink)
	m.must(err)
	m.all = append(m.all, &modelLink{Link: l, held: held, knows: map[string]presence.Status{}, name: fmt.Sprint("link ", len(m.all))})
}

func (m *shareModel) actions() map[string]func(*rapid.T) {
	as := m.model.actions()
	for _, name := range []string{"unlink", "disable", "invisible", "jump", "pause for", "late goodbye", "withdraw"} {
		delete(as, name) // the rest is the same for who shares and who does not: TestModel
	}
	any := func(*modelLink) bool { return true }
	as["link"] = func(*rapid.T) { m.add(m.hub.Link, false) }
	as["link held"] = func(*rapid.T) { m.add(m.hub.LinkHeld, true) }
	as["join"] = func(*rapid.T) {
		if l := m.pick("link", func(l *modelLink) bool { return l.held }); l != nil {
			l.Join()
		}
	}
	as["open"] = func(*rapid.T) {
		if l := m.pick("link", func(l *modelLink) bool { return l.held }); l != nil {
			l.Open()
			l.held = false
		}
	}
	as["detach"] = func(*rapid.T) {
		if l := m.pick("link", func(l *modelLink) bool { return !l.detached && !l.held }); l != nil {
			l.Detach()
			l.detached = true
		}
	}
	as["resume"] = func(*rapid.T) {
		from, to := m.pick("from", func(l *modelLink) bool { return l.held }), m.pick("to", func(l *modelLink) bool { return l.detached })
		if from != nil && to != nil {
			from.Yield(to.Link)
			m.drop(from)
			to.detached = false
		}
	}
	as["close"] = func(*rapid.T) {
		if l := m.pick("link", any); l != nil {
			l.Close()
			m.drop(l)
		}
	}
	as["take"] = func(t *rapid.T) {
		if l := m.pick("link", any); l != nil {
			m.take(l, rapid.IntRange(1, 3).Draw(t, "max"))
		}
	}
	as[""] = func(t *rapid.T) {
		if rapid.IntRange(0, 4).Draw(t, "settle") == 0 {
			m.settle()
		}
	}
	return as
}

// The promises of the package for connections that share an app, while they come, go, are away and come back.
func TestShareModel(t *testing.T) {
	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		f := newFixtureAt(t, subdir(t, dir, run))
		defer f.close()
		m := &shareModel{last: map[string]presence.Status{}, model: &model{fixture: f, t: rt, apps: []string{"chat"}, devices: map[string]*modelDevice{},
			grants: map[string]presence.Grant{}, asked: map[string]bool{}, answers: map[string]int{}, links: map[string]*presence.Link{},
			knows: map[string]map[string]presence.Status{}, users: map[string]*presence.User{}}}
		for _, a := range m.apps {
			m.must(m.hub.PutApp(presence.App{ID: a, Name: a, Component: a + ".example", Secret: "s", APIKey: "k", Conflict: presence.Share}))
		}
		for _, u := range modelUsers {
			m.users[u] = &presence.User{Email: u}
			m.must(m.store.PutUser(*m.users[u]))
		}
		rt.Repeat(m.actions())
		m.settle()
		for _, user := range modelUsers {
			m.hub.Kick(user, "")
		}
		m.pass(time.Hour)
		for _, d := range m.devices {
			m.step(d, presence.Input{Kind: presence.InputEnd})
		}
		m.settle()
		for len(m.all) > 0 {
			m.all[0].Close()
			m.drop(m.all[0])
		}
		if st := m.hub.Stats(); st.Users != 0 {
			rt.Fatalf("everybody has left and %d users are in memory", st.Users)
		}
	})
}
