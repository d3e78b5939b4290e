package presence_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"presenced/presence"
)

func TestPauseEndsByItself(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	f.online("ann@example.org", "phone")
	expect(t, chat, "online "+g.PUID)
	start := f.clock.Now()
	f.must(f.hub.Pause("ann@example.org", "chat", start.Add(time.Hour), presence.ByUser))
	expect(t, chat, "offline "+g.PUID)
	f.pass(time.Hour - time.Second)
	expect(t, chat)
	if s, err := f.hub.Sight(grantOf(f, "ann@example.org", "chat")); err != nil || s.Shown || !s.Paused || !s.Change.Equal(start.Add(time.Hour)) {
		t.Errorf("%+v %v", s, err)
	}
	f.pass(time.Second)
	expect(t, chat, "online "+g.PUID)
	if now := grantOf(f, "ann@example.org", "chat"); now.Paused || now.PausedUntil != nil {
		t.Errorf("still %+v", now)
	}

	f.must(f.hub.Pause("ann@example.org", "chat", f.clock.Now().Add(time.Hour), presence.ByUser))
	f.must(f.hub.Pause("ann@example.org", "chat", f.clock.Now().Add(2*time.Hour), presence.ByUser)) // longer
	expect(t, chat, "offline "+g.PUID)
	f.pass(time.Hour)
	expect(t, chat)
	f.must(f.hub.SetPaused("ann@example.org", "chat", false, presence.ByUser)) // earlier
	expect(t, chat, "online "+g.PUID)
	f.must(f.hub.Pause("ann@example.org", "chat", f.clock.Now().Add(time.Hour), presence.ByUser))
	f.must(f.hub.Pause("ann@example.org", "chat", time.Time{}, presence.ByUser)) // for good
	expect(t, chat, "offline "+g.PUID)
	f.pass(24 * time.Hour)
	expect(t, chat)

	if err := f.hub.Pause("ann@example.org", "chat", f.clock.Now(), presence.ByUser); !errors.Is(err, presence.ErrBadValue) {
		t.Errorf("a pause until now: %v", err)
	}
	if err := f.hub.Pause("bob@example.org", "chat", time.Time{}, presence.ByUser); !errors.Is(err, presence.ErrNoGrant) {
		t.Errorf("a pause of nothing: %v", err)
	}
	audit, err := f.store.AuditOf("ann@example.org", 3)
	if err != nil || len(audit) != 3 || audit[0].What != "pause" || audit[0].Detail != "" || audit[1].Detail == "" || audit[2].What != "resume" {
		t.Errorf("%+v %v", audit, err)
	}
}

// A pause over the edge of a window ends when both say so, and one that ends in a closed window shows nothing.
func TestPauseAndWindow(t *testing.T) {
	f := newFixture(t) // noon
	defer f.close()
	f.app("chat")
	noon := f.clock.Now()
	w, err := presence.ParseWindow("13:00-14:00")
	f.must(err)
	g, err := f.hub.Allow(presence.Grant{Email: "ann@example.org", App: "chat", Windows: []presence.Window{w}}, presence.ByUser)
	f.must(err)
	chat := f.link("chat")
	f.online("ann@example.org", "phone")
	for _, c := range []struct {
		pause time.Duration // from noon of a day
		want  []time.Duration
	}{
		{30 * time.Minute, []time.Duration{time.Hour, 2 * time.Hour}},
		{90 * time.Minute, []time.Duration{90 * time.Minute, 2 * time.Hour}},
		{2 * time.Hour, nil},
		{150 * time.Minute, nil},
		{25*time.Hour + 30*time.Minute, nil},
	} {
		f.must(f.hub.Pause("ann@example.org", "chat", noon.Add(c.pause), presence.ByUser))
		s, err := f.hub.Sight(grantOf(f, "ann@example.org", "chat"))
		f.must(err)
		change := noon.Add(25 * time.Hour)
		switch {
		case c.want != nil:
			change = noon.Add(c.want[0])
		case c.pause > 25*time.Hour:
			change = noon.Add(c.pause)
		}
		if s.Shown || !s.Change.Equal(change) {
			t.Errorf("pause until noon+%v: %+v, want a change at %v", c.pause, s, change)
		}
		for i, at := range c.want {
			f.pass(noon.Add(at).Sub(f.clock.Now()) - time.Millisecond)
			expect(t, chat)
			f.pass(time.Millisecond)
			expect(t, chat, [2]string{"online ", "offline "}[i]+g.PUID)
		}
		noon = noon.Add(24 * time.Hour)
		f.pass(noon.Sub(f.clock.Now()))
		expect(t, chat)
	}
}

func grantOf(f *fixture, email, app string) *presence.Grant {
	f.t.Helper()
	g, _, err := f.store.Grant(email, app)
	f.must(err)
	return &g
}

// To an app somebody invisible looks exactly like somebody who said offline at the same moment: in what it is
// told and in what it asks.
func TestInvisibleLooksLikeOffline(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.app("later")
	ann, bob := "ann@example.org", "bob@example.org"
	names := map[string]string{f.allow(ann, "chat").PUID: "she", f.allow(bob, "chat").PUID: "she"}
	chat := f.link("chat")
	annPhone, bobPhone := f.online(ann, "phone"), f.online(bob, "phone")
	take(chat)
	see := func() (told, probed [2][]presence.Update) {
		t.Helper()
		sort := func(u presence.Update) presence.Update {
			u.Local, u.Tag = names[u.Local], ""
			return u
		}
		for _, u := range take(chat) {
			i := 0
			if u.Local == grantOf(f, bob, "chat").PUID {
				i = 1
			}
			told[i] = append(told[i], sort(u))
		}
		for i, email := range []string{ann, bob} {
			ups, err := chat.Probe(presence.Peer{PUID: grantOf(f, email, "chat").PUID})
			f.must(err)
			for _, u := range ups {
				probed[i] = append(probed[i], sort(u))
			}
		}
		return told, probed
	}
	same := func(what string) {
		t.Helper()
		told, probed := see()
		if !reflect.DeepEqual(told[0], told[1]) || !reflect.DeepEqual(probed[0], probed[1]) {
			t.Errorf("%s: told %+v and %+v, probed %+v and %+v", what, told[0], told[1], probed[0], probed[1])
		}
	}
	f.clock.add(time.Second)
	f.must(f.hub.SetInvisible(ann, true, time.Time{}, presence.ByUser))
	f.must(bobPhone.Publish(presence.Offline, time.Time{}))
	same("gone")
	f.clock.add(time.Minute)
	f.must(annPhone.Publish(presence.Unavailable, time.Time{})) // unseen
	same("a change")
	annPhone.Close()
	bobPhone.Close()
	f.pass(time.Minute)
	same("disconnected")
	annPhone = f.online(ann, "phone") // comes while invisible
	f.online(ann, "desk")
	same("connected again")

	// A grant that she makes now is hidden too, and receipts are withheld.
	late, later := f.allow(ann, "later"), f.link("later")
	expect(t, later)
	d, err := later.Notify(presence.Peer{PUID: late.PUID}, presence.Message{Ref: "r", Receipt: true, TTL: -1, Message: "hello"})
	f.must(err)
	f.must(d.Wait())
	w := f.hub.Watch(ann)
	annPhone.Confirm([]uint64{expectMail(t, f, annPhone, "hello")[0].Seq})
	<-w.Wake() // it was confirmed, and the receipt would be there
	expectSeen(t, w, "delivered later phone r user")
	expect(t, later)

	f.must(f.hub.SetInvisible(ann, false, time.Time{}, presence.ByUser))
	expect(t, later, "online "+late.PUID, "online "+late.PUID)
	if got := said(chat); len(got) != 2 {
		t.Errorf("visible again: %q", got)
	}
}

func TestInvisibleForAWhile(t *testing.T) {
	dir := t.TempDir()
	f := newFixtureAt(t, dir)
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	start := f.clock.Now()
	f.must(f.hub.SetInvisible("ann@example.org", true, start.Add(time.Hour), presence.ByUser)) // she is not there yet
	f.close()
	f = newFixtureAt(t, dir) // it is noon again
	defer f.close()
	chat := f.link("chat")
	phone := f.online("ann@example.org", "phone")
	expect(t, chat)
	if s, err := f.hub.Sight(&g); err != nil || s.Shown || !s.Invisible || !s.Change.Equal(start.Add(time.Hour)) {
		t.Errorf("%+v %v", s, err)
	}
	f.pass(time.Hour)
	expect(t, chat, "online "+g.PUID)
	f.must(f.hub.SetInvisible("ann@example.org", true, f.clock.Now().Add(time.Hour), presence.ByUser))
	f.must(f.hub.Pause("ann@example.org", "chat", f.clock.Now().Add(2*time.Hour), presence.ByUser))
	expect(t, chat, "offline "+g.PUID)
	f.pass(90 * time.Minute)
	expect(t, chat)
	f.pass(30 * time.Minute)
	expect(t, chat, "online "+g.PUID)
	phone.Close()
	if err := f.hub.SetInvisible("ann@example.org", true, f.clock.Now(), presence.ByUser); !errors.Is(err, presence.ErrBadValue) {
		t.Errorf("until now: %v", err)
	}
	if err := f.hub.SetInvisible("nobody@example.org", true, time.Time{}, presence.ByUser); !errors.Is(err, presence.ErrNoUser) {
		t.Errorf("nobody: %v", err)
	}
}

func TestDisabledUserIsOut(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	phone := f.online("ann@example.org", "phone")
	f.must(f.store.Commit("cookie", []byte("x"), f.clock.Now().Add(time.Hour)))
	f.must(f.store.BindSession("cookie", "ann@example.org"))
	expect(t, chat, "online "+g.PUID)
	f.must(f.hub.SetDisabled("ann@example.org", true, presence.ByAdmin))
	expect(t, chat, "offline "+g.PUID)
	if phone.Ended() != presence.EndRemoved {
		t.Errorf("her session: %v", phone.Ended())
	}
	if _, ok, _ := f.store.Find("cookie"); ok {
		t.Error("her web session goes on")
	}
	for range 2 { // in memory still, and not
		if _, err := f.hub.Attach(presence.Attach{Email: "ann@example.org", Device: "phone", Ready: f.ready}); !errors.Is(err, presence.ErrCredential) {
			t.Errorf("attach: %v", err)
		}
		take(chat)
		f.pass(time.Minute)
	}
	if st := f.hub.Stats(); st.Users != 0 {
		t.Errorf("%d users are in memory", st.Users)
	}
	f.must(f.hub.SetDisabled("ann@example.org", false, presence.ByAdmin))
	f.online("ann@example.org", "phone")
	expect(t, chat, "online "+g.PUID)
	if err := f.hub.SetDisabled("nobody@example.org", true, presence.ByAdmin); !errors.Is(err, presence.ErrNoUser) {
		t.Errorf("nobody: %v", err)
	}
}

// Who is removed and comes again by the same name is somebody new, neither disabled nor invisible.
func TestRemovedUserComesAgainAsSomebodyNew(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow("ann@example.org", "chat")
	chat := f.link("chat") // takes nothing, so that she stays in memory
	f.online("ann@example.org", "phone")
	f.must(f.hub.SetInvisible("ann@example.org", true, time.Time{}, presence.ByUser))
	f.must(f.hub.SetDisabled("ann@example.org", true, presence.ByAdmin))
	f.must(f.hub.RemoveUser("ann@example.org", presence.ByAdmin))
	f.must(f.store.RemoveUser("ann@example.org"))
	g := f.allow("ann@example.org", "chat")
	f.online("ann@example.org", "phone")
	if got := said(chat); !contains(got, "online "+g.PUID) {
		t.Errorf("%q", got)
	}
}
