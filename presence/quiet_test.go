package presence_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"presenced/presence"
)

// refs are what the session says now, by the apps' ids.
func refs(t *rapid.T, s *presence.Session, max int) (got []string) {
	for more := true; more; {
		o, err := s.Next(max)
		if err != nil {
			t.Fatal(err)
		}
		for i := range o.Notifications {
			got = append(got, o.Notifications[i].Ref)
		}
		more = o.More
	}
	return got
}

// quietModel is what must be true of one device's notifications: nothing is told to it while it is quiet but for what
// is urgent, then all is, in order, and nothing is lost.
type quietModel struct {
	waiting []quietItem
	told    int // the first so many of waiting were told in this session
	quiet   presence.Quiet
	status  presence.Status
	awake   bool // something is said to it anyway
}

type quietItem struct {
	ref, collapse string
	expires       time.Time
	live          bool
}

func (m *quietModel) isQuiet() bool {
	return m.quiet == presence.QuietNow || m.quiet == presence.QuietAway && m.status == presence.Unavailable
}

// add puts a notification behind the others, in place of those that it replaces.
func (m *quietModel) add(it quietItem, high bool) {
	if it.live && !high && m.isQuiet() {
		return
	}
	m.awake = m.awake || high || it.live
	m.remove(func(o quietItem) bool { return it.collapse != "" && o.collapse == it.collapse })
	m.waiting = append(m.waiting, it)
}

func (m *quietModel) remove(which func(quietItem) bool) {
	for i := len(m.waiting) - 1; i >= 0; i-- {
		if which(m.waiting[i]) {
			m.waiting = slices.Delete(m.waiting, i, i+1)
			if i < m.told {
				m.told--
			}
		}
	}
}

// next is what the device has to be told now, whether it is on disk or never touches it.
func (m *quietModel) next(now time.Time) (want []string) {
	m.remove(func(o quietItem) bool { return !o.live && !now.Before(o.expires) })
	if m.isQuiet() && !m.awake {
		return nil
	}
	m.awake = false
	for _, it := range m.waiting[m.told:] {
		want = append(want, it.ref)
	}
	m.remove(func(o quietItem) bool { return o.live })
	m.told = len(m.waiting)
	return want
}

func TestQuietModel(t *testing.T) {
	dir, run := t.TempDir(), 0
	outer := t
	rapid.Check(t, func(t *rapid.T) {
		run++
		f := newFixtureAt(outer, subdir(outer, dir, run))
		defer f.close()
		f.app("chat")
		chat, g := f.link("chat"), f.allow("ann@example.org", "chat")
		m := &quietModel{status: presence.Online}
		s := f.online("ann@example.org", "phone")
		refs(t, s, 64)
		n := 0
		t.Repeat(map[string]func(*rapid.T){
			"notify": func(t *rapid.T) {
				n++
				it := quietItem{ref: fmt.Sprint(n), collapse: rapid.SampledFrom([]string{"", "", "", "a", "b"}).Draw(t, "collapse")}
				ttl := rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour}).Draw(t, "ttl")
				high := rapid.IntRange(0, 4).Draw(t, "high") == 0
				if it.live = ttl == 0; it.live {
					it.collapse = ""
				}
				it.expires = f.clock.add(time.Microsecond).Add(ttl)
				m.add(it, high)
				d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Ref: it.ref, TTL: ttl, Collapse: it.collapse, High: high})
				f.must(err)
				f.must(d.Wait())
			},
			"quiet": func(t *rapid.T) {
				m.quiet = presence.Quiet(rapid.IntRange(0, 2).Draw(t, "quiet"))
				s.SetQuiet(m.quiet)
			},
			"publish": func(t *rapid.T) {
				m.status = presence.Status(rapid.IntRange(0, 2).Draw(t, "status"))
				f.must(s.Publish(m.status, time.Time{}))
			},
			"awake": func(*rapid.T) {
				m.awake = m.awake || m.quiet != presence.QuietNever
				s.Awake()
			},
			"time": func(*rapid.T) { f.pass(40 * time.Second) },
			"next": func(t *rapid.T) {
				max := rapid.IntRange(1, 5).Draw(t, "max")
				want := m.next(f.clock.Now())
				if got := refs(t, s, max); !slices.Equal(got, want) {
					t.Fatalf("told %v, want %v", got, want)
				}
			},
			"again": func(t *rapid.T) { // nothing was confirmed: all of it comes with the next session
				m.remove(func(o quietItem) bool { return o.live })
				m.quiet, m.told, m.awake = presence.QuietNever, 0, true
				s = f.attach("ann@example.org", "phone")
				f.must(s.Publish(m.status, time.Time{}))
			},
		})
	})
}

// A quiet device is told of nothing that may wait, and is not even looked at for it.
func TestQuietIsNotEvenReady(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	chat, g := f.link("chat"), f.allow("ann@example.org", "chat")
	phone, desk := f.online("ann@example.org", "phone"), f.online("ann@example.org", "desk")
	for _, s := range []*presence.Session{phone, desk} {
		if _, err := s.Next(64); err != nil {
			t.Fatal(err)
		}
	}
	phone.SetQuiet(presence.QuietNow)
	f.ready.Take(nil)
	send := func(high bool, want ...*presence.Session) {
		t.Helper()
		d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Message: "hi", TTL: -1, High: high})
		f.must(err)
		f.must(d.Wait())
		got := f.ready.Take(nil)
		if len(got) != len(want) {
			t.Fatalf("%d sessions are ready, want %d", len(got), len(want))
		}
		for _, s := range want {
			if !slices.Contains(got, s) {
				t.Errorf("the session of %s is not ready", s.Device())
			}
		}
	}
	send(false, desk)
	send(true, phone, desk)
	o, err := phone.Next(64)
	f.must(err)
	if len(o.Notifications) != 2 || o.Notifications[0].High || !o.Notifications[1].High {
		t.Errorf("with the urgent one comes %+v", o.Notifications)
	}
}
