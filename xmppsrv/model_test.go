package xmppsrv_test

import (
	"encoding/xml"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"presenced/presence"
)

// model is what is true, kept beside a gateway and judged from outside: by the stanzas that leave, as bytes on the
// sockets of two apps, and nothing else.
type model struct {
	*gateway
	rt      *rapid.T
	path    string
	now     time.Time
	apps    map[string]*modelApp
	devices map[string]*modelDevice   // by "user/device"
	grants  map[string]presence.Grant // by "user/app"
}

type modelApp struct {
	*comp                   // nil: it is away
	knows map[string]string // by address, tag included: what was said last on this stream
	asked map[string]bool   // by user: it waits for an answer
	owed  map[string]int    // answers and ends that it was not told, by "type address"
}

type modelDevice struct {
	session *presence.Session
	status  presence.Status
	lost    time.Time // since when nobody speaks for it; zero: somebody does
}

var (
	people  = []string{"ann@example.org", "bob@example.org"}
	gadgets = []string{"phone", "desk"}
	readers = []string{"chat", "mail"}
)

const modelLinger = 10 * time.Second

func (m *model) pick(label string, from []string) string {
	return rapid.SampledFrom(from).Draw(m.rt, label)
}

// open starts the gateway, for the first time or again.
func (m *model) open(t *testing.T) {
	m.gateway = start(t, func(s *setup) { s.Path, s.Clock, s.Now, s.Linger = m.path, m.clock, m.clock, modelLinger })
	m.srv.SnapshotWait(250 * time.Millisecond) // apps that only listen are part of it
	m.app("mail", presence.Replace)
}

func (m *model) clock() time.Time { return m.now }

// address is the one under which an app knows the user of a grant.
func address(g presence.Grant) string {
	if g.Address == presence.ByEmail {
		return strings.ReplaceAll(g.Email, "@", `\40`) + "@" + domain
	}
	return g.PUID + "@" + domain
}

// truth is what the app may see now: statuses by address.
func (m *model) truth(app string) map[string]string {
	seen := map[string]string{}
	for _, user := range people {
		g, ok := m.grants[user+"/"+app]
		if !ok || !g.Shown(m.now) {
			continue
		}
		for _, id := range gadgets {
			d := m.devices[user+"/"+id]
			if d.status == presence.Offline {
				continue
			}
			if g.NoDevices && d.status < m.best(user) {
				continue // all as one: the best
			}
			tokens, err := m.hub.Addresses(user, id)
			m.must(err)
			_, tag, _ := strings.Cut(tokens[app], "/")
			seen[address(g)+"/"+tag] = map[presence.Status]string{presence.Online: "online", presence.Unavailable: "away"}[d.status]
		}
	}
	return seen
}

// best is the status of the user's most reachable device.
func (m *model) best(user string) (st presence.Status) {
	for _, id := range gadgets {
		st = max(st, m.devices[user+"/"+id].status)
	}
	return st
}

// stanza is as much of a presence as the model looks at.
type seenPresence struct {
	XMLName xml.Name
	From    string `xml:"from,attr"`
	To      string `xml:"to,attr"`
	Type    string `xml:"type,attr"`
	Show    string `xml:"show"`
}

// hear judges one stanza.
func (m *model) hear(id string, a *modelApp, stanza string) {
	var p seenPresence
	if err := xml.Unmarshal([]byte(stanza), &p); err != nil || p.XMLName.Local != "presence" {
		m.rt.Fatalf("%s got %s (%v)", id, stanza, err)
	}
	switch p.Type {
	case "subscribed", "unsubscribed":
		if a.owed[p.Type+" "+p.From]--; a.owed[p.Type+" "+p.From] < 0 {
			m.rt.Fatalf("%s: %s by %s, which nobody said", id, p.Type, p.From)
		}
		for who := range a.knows {
			if p.Type == "unsubscribed" && strings.HasPrefix(who, p.From+"/") {
				m.rt.Fatalf("%s: unsubscribed by %s while %s is %s to it", id, p.From, who, a.knows[who])
			}
		}
	case "unavailable":
		if a.knows[p.From] == "" {
			m.rt.Fatalf("%s: a second end of %s, or of one that it did not see: %s", id, p.From, stanza)
		}
		delete(a.knows, p.From)
	case "":
		now := "online"
		if p.Show != "" {
			now = p.Show
		}
		if now != m.truth(id)[p.From] {
			m.rt.Fatalf("%s: %s is said to be %s, true is %q", id, p.From, now, m.truth(id)[p.From])
		}
		if a.knows[p.From] == now {
			m.rt.Fatalf("%s: told twice that %s is %s", id, p.From, now)
		}
		a.knows[p.From] = now
	default:
		m.rt.Fatalf("%s got %s", id, stanza)
	}
}

// settle reads what every app has been sent, judges it, and compares what the apps know now with what is true.
func (m *model) settle() {
	for _, id := range readers {
		a := m.apps[id]
		if a.comp == nil {
			continue
		}
		for range 2 { // an answer may overtake what waits to be taken, the next one not
			m.fenced(id, a)
		}
		truth := m.truth(id)
		for who, st := range truth {
			if a.knows[who] != st {
				m.rt.Fatalf("%s believes that %s is %q, true is %s", id, who, a.knows[who], st)
			}
		}
		if len(a.knows) != len(truth) {
			m.rt.Fatalf("%s believes %v, true is %v", id, a.knows, truth)
		}
		for what, n := range a.owed {
			if n != 0 {
				m.rt.Fatalf("%s: %d times not told: %s", id, n, what)
			}
		}
	}
}

// fenced sends a ping and judges what comes before its answer.
func (m *model) fenced(id string, a *modelApp) {
	a.send("<iq from='" + a.name + "' to='" + domain + "' id='settled' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
	for s := a.next(); !strings.Contains(s, "id='settled'"); s = a.next() {
		m.hear(id, a, s)
	}
}

// crash ends an app's connection, and waits until the gateway knows; what was written before that is lost, and what
// the app knew is nothing any more.
func (m *model) crash(id string) {
	a := m.apps[id]
	if a.comp == nil {
		return
	}
	w := m.hub.Watch("")
	defer w.Close()
	a.c.Close()
	a.comp, a.knows = nil, map[string]string{}
	late := time.After(patience)
	var events [8]presence.Event
	for {
		n, _ := w.Take(events[:])
		for _, e := range events[:n] {
			if e.Kind == presence.Unlinked && e.App == id {
				return
			}
		}
		if n > 0 {
			continue
		}
		select {
		case <-w.Wake():
		case <-late:
			m.rt.Fatalf("nobody noticed that %s is gone", id)
		}
	}
}

func (m *model) join(id string) {
	a := m.apps[id]
	if a.comp == nil {
		a.comp = m.connect(id)
		a.hello()
	}
}

// endGrant is the end of a grant that the app is told of.
func (m *model) endGrant(user, app string) {
	m.apps[app].owed["unsubscribed "+address(m.grants[user+"/"+app])]++
	delete(m.grants, user+"/"+app)
}

// fades is a device for which nobody speaks from now on.
func (m *model) fades(d *modelDevice) {
	if d.status != presence.Offline && d.lost.IsZero() {
		d.lost = m.now
	}
}

// pass lets time go by; what lingered long enough has gone.
func (m *model) pass(d time.Duration) {
	m.now = m.now.Add(d)
	for _, dev := range m.devices {
		if !dev.lost.IsZero() && m.now.Sub(dev.lost) >= modelLinger {
			dev.status, dev.lost = presence.Offline, time.Time{}
		}
	}
	m.hub.Advance(m.now)
}

func (m *model) actions(t *testing.T) map[string]func(*rapid.T) {
	pair := func() (string, string) { return m.pick("user", people), m.pick("app", readers) }
	return map[string]func(*rapid.T){
		"attach": func(*rapid.T) {
			user, id := m.pick("user", people), m.pick("device", gadgets)
			d := m.devices[user+"/"+id]
			s, err := m.hub.Attach(presence.Attach{Email: user, Device: id, Ready: presence.NewReady()})
			m.must(err)
			d.session = s
			m.fades(d) // what the older one said holds until the new one speaks, and not for ever
		},
		"publish": func(rt *rapid.T) {
			d := m.devices[m.pick("user", people)+"/"+m.pick("device", gadgets)]
			if d.session != nil {
				d.status = presence.Status(rapid.IntRange(0, 2).Draw(rt, "status"))
				d.lost = time.Time{}
				m.must(d.session.Publish(d.status, time.Time{}))
			}
		},
		"lose": func(*rapid.T) {
			d := m.devices[m.pick("user", people)+"/"+m.pick("device", gadgets)]
			if d.session != nil {
				d.session.Close()
				d.session = nil
				m.fades(d)
			}
		},
		"allow": func(rt *rapid.T) {
			user, app := pair()
			g := presence.Grant{Email: user, App: app, Notify: true}
			if rapid.Bool().Draw(rt, "window") {
				g.Windows = []presence.Window{{From: "12:00", To: "12:20"}, {From: "12:40", To: "13:00"}}
			}
			g.NoStatus, g.NoDevices = rapid.IntRange(0, 4).Draw(rt, "status") == 0, rapid.Bool().Draw(rt, "devices")
			had, asked := m.grants[user+"/"+app], m.apps[app].asked[user]
			g.Paused = had.Paused
			g, err := m.hub.Allow(g, presence.ByUser)
			m.must(err)
			if had.PUID != "" && address(had) != address(g) {
				m.endGrant(user, app)
			}
			if asked {
				m.apps[app].owed["subscribed "+address(g)]++
				delete(m.apps[app].asked, user)
			}
			m.grants[user+"/"+app] = g
		},
		"deny": func(*rapid.T) {
			user, app := pair()
			_, granted := m.grants[user+"/"+app]
			err := m.hub.Answer(presence.Answer{Email: user, App: app}, presence.ByUser)
			switch {
			case granted:
				m.endGrant(user, app)
			case m.apps[app].asked[user]:
				m.apps[app].owed["unsubscribed "+address(presence.Grant{Email: user, Address: presence.ByEmail})]++
			case err == nil:
				m.rt.Fatal("nothing was denied")
			}
			delete(m.apps[app].asked, user)
		},
		"revoke": func(*rapid.T) {
			user, app := pair()
			if _, ok := m.grants[user+"/"+app]; ok {
				m.must(m.hub.Revoke(user, app, presence.ByUser))
				m.endGrant(user, app)
			}
		},
		"pause": func(rt *rapid.T) {
			user, app := pair()
			if g, ok := m.grants[user+"/"+app]; ok {
				g.Paused = rapid.Bool().Draw(rt, "paused")
				m.must(m.hub.SetPaused(user, app, g.Paused, presence.ByUser))
				m.grants[user+"/"+app] = g
			}
		},
		"ask": func(*rapid.T) {
			user, app := pair()
			a := m.apps[app]
			if a.comp == nil {
				return
			}
			defer func() { m.fenced(app, a) }() // a crash would swallow it
			to := address(presence.Grant{Email: user, Address: presence.ByEmail})
			a.send("<presence from='" + a.name + "' to='" + to + "' type='subscribe'/>")
			switch g, granted := m.grants[user+"/"+app]; {
			case granted && g.Address == presence.ByEmail:
				a.owed["subscribed "+to]++
			case !granted:
				a.asked[user] = true
			}
		},
		"window":         func(rt *rapid.T) { m.pass(time.Duration(rapid.IntRange(1, 25).Draw(rt, "minutes")) * time.Minute) },
		"linger":         func(*rapid.T) { m.pass(modelLinger) },
		"moment":         func(*rapid.T) { m.pass(time.Second) },
		"app comes":      func(*rapid.T) { m.join(m.pick("app", readers)) },
		"app crashes":    func(*rapid.T) { m.crash(m.pick("app", readers)) },
		"gateway starts": func(*rapid.T) { m.restart(t) },
		"":               func(*rapid.T) { m.settle() },
	}
}

// restart ends the gateway and starts another on its file. Nobody is there then.
func (m *model) restart(t *testing.T) {
	if rapid.IntRange(0, 3).Draw(m.rt, "really") > 0 {
		return
	}
	for _, id := range readers {
		m.crash(id)
	}
	m.stop()
	for _, d := range m.devices {
		*d = modelDevice{}
	}
	m.open(t)
}

// TestModel drives random histories of grants, denials, revokes, pauses, windows, connections and crashes, with two
// apps and two users of two devices each, and judges every stanza that leaves: nothing outside an active grant
// (promise 2), and every end exactly once (promise 3).
func TestModel(t *testing.T) {
	dir, run := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := &model{rt: rt, path: filepath.Join(dir, strconv.Itoa(run)), now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC),
			apps: map[string]*modelApp{}, devices: map[string]*modelDevice{}, grants: map[string]presence.Grant{}}
		m.open(t)
		defer func() {
			for _, a := range m.apps {
				if a.comp != nil {
					a.c.Close()
				}
			}
			m.stop()
		}()
		for _, id := range readers {
			m.apps[id] = &modelApp{knows: map[string]string{}, asked: map[string]bool{}, owed: map[string]int{}}
			m.join(id)
		}
		for _, user := range people {
			m.must(m.db.PutUser(presence.User{Email: user}))
			for _, id := range gadgets {
				m.devices[user+"/"+id] = &modelDevice{}
			}
		}
		rt.Repeat(m.actions(t))
	})
}
