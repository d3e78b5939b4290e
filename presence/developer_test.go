package presence_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"presenced/presence"
)

func TestAddAppFillsIn(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	long := strings.Repeat("long ", 40)
	for i, c := range []struct{ name, id string }{
		{"Chat", "chat"}, {"My  Chat!", "my-chat"}, {"--x--", "x"}, {"Ünder", "nder"}, {"日本", "app"}, {"a.b_c", "a-b-c"},
		{long[:100], strings.TrimSuffix(strings.Repeat("long-", 10), "-")[:48]},
	} {
		a, err := f.hub.AddApp(presence.App{Name: c.name, Component: fmt.Sprintf("c%d.example", i)})
		if err != nil || a.ID != c.id || len(a.Secret) < 26 || len(a.APIKey) < 26 || a.Secret == a.APIKey || a.Conflict != presence.Replace || a.Created.IsZero() {
			t.Errorf("%q: %+v, %v", c.name, a, err)
		}
	}
	again, err := f.hub.AddApp(presence.App{Name: "Chat", Component: "again.example"})
	if err != nil || !strings.HasPrefix(again.ID, "chat-") {
		t.Errorf("%+v, %v", again, err)
	}
	for _, a := range []presence.App{{Name: "Chat", Component: "again.example"}, {ID: "chat", Name: "C", Component: "other.example"}} {
		if _, err := f.hub.AddApp(a); !errors.Is(err, presence.ErrExists) {
			t.Errorf("%+v: %v", a, err)
		}
	}
	if _, err := f.hub.AddApp(presence.App{Name: "Chat", Component: "No Domain"}); !errors.Is(err, presence.ErrBadValue) {
		t.Error(err)
	}
}

// The old secrets are good for the overlap, and who is connected stays connected; without an overlap neither.
func TestRotateWithOverlap(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	a, err := f.hub.AddApp(presence.App{Name: "Chat", Component: "chat.example"})
	f.must(err)
	comp, err := f.hub.Link(a.ID, presence.ComponentLink)
	f.must(err)
	sock, err := f.hub.Link(a.ID, presence.SocketLink)
	f.must(err)
	rotate := func(overlap time.Duration) presence.App {
		t.Helper()
		b, err := f.hub.EditApp(a.ID, func(b *presence.App) error { b.Rotate(f.clock.Now(), overlap); return nil })
		f.must(err)
		return b
	}
	b := rotate(time.Hour)
	if s := b.Secrets(f.clock.Now()); s[0] == a.Secret || s[1] != a.Secret {
		t.Error(s)
	}
	if k := b.APIKeys(f.clock.Now().Add(time.Hour)); k[0] == a.APIKey || k[1] != "" {
		t.Error(k)
	}
	if comp.Ended() != presence.Alive || sock.Ended() != presence.Alive {
		t.Errorf("the component is %v, the socket %v", comp.Ended(), sock.Ended())
	}
	rotate(0)
	if comp.Ended() != presence.EndDisabled || sock.Ended() != presence.EndDisabled {
		t.Errorf("the component is %v, the socket %v", comp.Ended(), sock.Ended())
	}
}

func TestAppStats(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	a, err := f.hub.AddApp(presence.App{Name: "Chat", Component: "chat.example"})
	f.must(err)
	g, err := f.hub.Allow(presence.Grant{Email: "ann@example.org", App: a.ID, Notify: true}, presence.ByUser)
	f.must(err)
	l, err := f.hub.Link(a.ID, presence.SocketLink)
	f.must(err)
	l.SetAddress("192.0.2.1")
	d, err := l.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Message: "m", TTL: -1})
	f.must(err)
	f.must(d.Wait())
	for i := range 30 {
		l.Refused(fmt.Sprint("reason ", i%2), strings.Repeat("é", i*10))
	}
	for i := range 1000 {
		l.Refused(fmt.Sprint("many ", i), "")
	}
	s, err := f.hub.AppStats(a.ID)
	f.must(err)
	if len(s.Connections) != 1 || s.Connections[0].Kind != "websocket" || s.Connections[0].Address != "192.0.2.1" || s.Connections[0].Since.IsZero() {
		t.Errorf("%+v", s.Connections)
	}
	if s.Queue != 1 || s.Refused["reason 0"] != 15 || len(s.Refused) != 128 || len(s.LastErrors) != 20 || s.LastErrors[0].Reason != "many 999" {
		t.Errorf("%d wait, %d reasons, %d errors, %+v", s.Queue, len(s.Refused), len(s.LastErrors), s.LastErrors[0])
	}
	l.Close()
	if s, _ = f.hub.AppStats(a.ID); len(s.Connections) != 0 {
		t.Errorf("%+v", s.Connections)
	}
	if _, err := f.hub.AppStats("nobody"); !errors.Is(err, presence.ErrNoApp) {
		t.Error(err)
	}
}
