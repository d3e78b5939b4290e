package presence_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"presenced/presence"
)

func expect(t *testing.T, l *presence.Link, want ...string) {
	t.Helper()
	if d := cmp.Diff(want, said(l)); d != "" {
		t.Errorf("the app was told (-want +got):\n%s", d)
	}
}

// One comes and goes: the app that was allowed sees it, the other does not.
func TestOneComesAndGoes(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.app("other")
	g := f.allow("ann@example.org", "chat")
	chat, other := f.link("chat"), f.link("other")

	s := f.attach("ann@example.org", "phone")
	expect(t, chat)
	f.must(s.Publish(presence.Online, time.Time{}))
	expect(t, chat, "online "+g.PUID)
	f.must(s.Publish(presence.Unavailable, time.Time{}))
	f.must(s.Publish(presence.Unavailable, time.Time{}))
	expect(t, chat, "unavailable "+g.PUID)
	s.Close()
	f.pass(linger - time.Millisecond)
	expect(t, chat)
	f.pass(time.Millisecond)
	expect(t, chat, "offline "+g.PUID)
	s.Close()
	f.pass(time.Hour)
	expect(t, chat)
	expect(t, other)
	if st := f.hub.Stats(); st.Users != 0 {
		t.Errorf("%d users are still in memory", st.Users)
	}
}

func TestLastStateWinsWhileTheAppIsSlow(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	s := f.online("ann@example.org", "phone")
	for range 1000 {
		f.must(s.Publish(presence.Unavailable, time.Time{}))
		f.must(s.Publish(presence.Online, time.Time{}))
	}
	f.must(s.Publish(presence.Unavailable, time.Time{}))
	expect(t, chat, "unavailable "+g.PUID)
	for range 100 { // comes and goes many times: nothing, for it is as it was
		f.must(s.Publish(presence.Offline, time.Time{}))
		s.Close()
		s = f.attach("ann@example.org", "phone")
		f.must(s.Publish(presence.Unavailable, time.Time{}))
	}
	expect(t, chat)
}

func TestSnapshotThenChanges(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	ga, gb := f.allow("ann@example.org", "chat"), f.allow("bob@example.org", "chat")
	f.online("ann@example.org", "phone")
	bob := f.online("bob@example.org", "phone")
	chat := f.link("chat")
	f.must(bob.Publish(presence.Unavailable, time.Time{})) // before the first Take: part of the snapshot
	got := said(chat)
	if len(got) != 2 || !contains(got, "online "+ga.PUID+" delayed") || !contains(got, "unavailable "+gb.PUID+" delayed") {
		t.Errorf("snapshot %q", got)
	}
	f.must(bob.Publish(presence.Online, time.Time{}))
	expect(t, chat, "online "+gb.PUID)
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

func TestNewerSocketReplacesAndTheOlderOnesLossIsNothing(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	old := f.online("ann@example.org", "phone")
	expect(t, chat, "online "+g.PUID)
	newer := f.online("ann@example.org", "phone")
	if old.Ended() != presence.EndReplaced {
		t.Errorf("the older session: %v", old.Ended())
	}
	if err := old.Publish(presence.Offline, time.Time{}); !errors.Is(err, presence.ErrEnded) {
		t.Errorf("the older session publishes: %v", err)
	}
	old.Close()
	f.pass(time.Hour)
	expect(t, chat)
	if newer.Ended() != presence.Alive {
		t.Errorf("the newer session: %v", newer.Ended())
	}
}

func TestRevokeSaysGoneThenUnsubscribedAndForgetsTheQueue(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	f.online("ann@example.org", "phone")
	f.online("ann@example.org", "desk")
	said(chat)
	d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Message: "hi", TTL: -1})
	f.must(err)
	f.must(d.Wait())
	f.must(f.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	expect(t, chat, "offline "+g.PUID, "offline "+g.PUID, "unsubscribed "+g.PUID)
	if w, err := f.store.Waiting("ann@example.org"); err != nil || len(w) != 0 {
		t.Errorf("after revoke %v waits, %v", w, err)
	}
	if _, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Message: "hi"}); !errors.Is(err, presence.ErrStranger) {
		t.Errorf("notify after revoke: %v", err)
	}
	again := f.allow("ann@example.org", "chat")
	if again.PUID == g.PUID {
		t.Error("the PUID is the same after revoke and grant again")
	}
	expect(t, chat, "online "+again.PUID, "online "+again.PUID)
}

// A revoke while the app is away reaches it when it returns, before presence, until it was told.
func TestRevokeWhileAwayIsKept(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g, other := f.allow("ann@example.org", "chat"), f.allow("bob@example.org", "chat")
	f.online("bob@example.org", "phone")
	f.must(f.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	first := f.link("chat")
	expect(t, first, "unsubscribed "+g.PUID, "online "+other.PUID+" delayed")
	first.Close() // it never said that it got it
	second := f.link("chat")
	ups := take(second)
	if len(ups) != 2 || ups[0].Kind != presence.Unsubscribed {
		t.Fatalf("second connection: %+v", ups)
	}
	f.must(second.Told(ups[0].ID))
	second.Close()
	expect(t, f.link("chat"), "online "+other.PUID+" delayed")
}

func TestWindowAndPauseLookLikeGoingOffline(t *testing.T) {
	f := newFixture(t) // it is noon, UTC
	defer f.close()
	f.app("chat")
	w, err := presence.ParseWindow("13:00-14:00")
	f.must(err)
	g, err := f.hub.Allow(presence.Grant{Email: "ann@example.org", App: "chat", Notify: true, Windows: []presence.Window{w}}, presence.ByUser)
	f.must(err)
	chat := f.link("chat")
	f.online("ann@example.org", "phone")
	expect(t, chat)
	f.pass(time.Hour)
	ups := take(chat)
	if len(ups) != 1 || ups[0].Status != presence.Online || !ups[0].Since.Equal(f.clock.Now()) {
		t.Fatalf("the window opens: %+v", ups)
	}
	f.must(f.hub.SetPaused("ann@example.org", "chat", true, presence.ByUser))
	expect(t, chat, "offline "+g.PUID)
	f.must(f.hub.SetPaused("ann@example.org", "chat", false, presence.ByUser))
	expect(t, chat, "online "+g.PUID)
	f.pass(time.Hour)
	expect(t, chat, "offline "+g.PUID)
	closed := f.clock.Now()
	f.pass(time.Hour)
	p, err := chat.Probe(presence.Peer{PUID: g.PUID})
	if err != nil || len(p) != 1 || p[0].Status != presence.Offline || !p[0].Since.Equal(closed) {
		t.Errorf("probe after the window: %+v, %v", p, err)
	}
}

func TestUntilEndsTheGrantForWhoIsThereAndWhoIsNot(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	until := f.clock.Now().Add(time.Hour)
	var puids []string
	for _, e := range []string{"ann@example.org", "bob@example.org"} {
		g, err := f.hub.Allow(presence.Grant{Email: e, App: "chat", Until: &until}, presence.ByUser)
		f.must(err)
		puids = append(puids, g.PUID)
	}
	chat := f.link("chat")
	f.online("ann@example.org", "phone")
	expect(t, chat, "online "+puids[0])
	f.pass(time.Hour)
	got := said(chat)
	if len(got) != 3 || got[0] != "offline "+puids[0] || !contains(got, "unsubscribed "+puids[0]) || !contains(got, "unsubscribed "+puids[1]) {
		t.Errorf("at the end: %q", got)
	}
	if _, ok, err := f.store.Grant("bob@example.org", "chat"); ok || err != nil {
		t.Errorf("the grant is still there: %v %v", ok, err)
	}
}

func TestNotificationsReachNowAndLater(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	send := func(p presence.Peer, text string) {
		t.Helper()
		d, err := chat.Notify(p, presence.Message{Ref: text, Message: text, Receipt: true, TTL: -1})
		f.must(err)
		f.must(d.Wait())
	}
	peer := presence.Peer{PUID: g.PUID}
	send(peer, "one") // nobody is there
	phone := f.online("ann@example.org", "phone")
	expectMail(t, f, phone, "one")
	send(peer, "two")
	expectMail(t, f, phone, "two")
	phone.Close() // it confirmed nothing
	again := f.online("ann@example.org", "phone")
	ns := expectMail(t, f, again, "one", "two")
	again.Confirm([]uint64{ns[0].Seq, ns[0].Seq, 424242})
	waitReceipts(t, chat, "receipt one")
	again.Close()
	desk := f.online("ann@example.org", "desk")
	expectMail(t, f, desk, "two")
}

// What never touches the disk does not overtake what has to, nor is it overtaken.
func TestOrderOfAllThatIsAccepted(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat, phone := f.link("chat"), f.online("ann@example.org", "phone")
	var ds []*presence.Delivery
	for i := range 7 {
		f.clock.add(time.Microsecond)
		ttl := time.Hour
		if i%2 == 1 {
			ttl = 0
		}
		d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Message: fmt.Sprint(i), TTL: ttl})
		f.must(err)
		ds = append(ds, d)
	}
	f.must(ds[0].Wait())
	if o, err := phone.Next(1); err != nil || len(o.Notifications) != 1 || o.Notifications[0].Message != "0" {
		t.Fatalf("%+v, %v", o.Notifications, err)
	}
	for _, d := range ds[1:] {
		f.must(d.Wait())
	}
	expectMail(t, f, phone, "1", "2", "3", "4", "5", "6")
}

// expectMail drains what the sessions have to say and compares it with what this one should get.
func expectMail(t *testing.T, f *fixture, s *presence.Session, want ...string) []presence.Notification {
	t.Helper()
	var got []string
	var all []presence.Notification
	for {
		o, err := s.Next(2)
		f.must(err)
		for _, n := range o.Notifications {
			got, all = append(got, n.Message), append(all, n)
		}
		if !o.More {
			break
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("mail (-want +got):\n%s", d)
	}
	return all
}

// waitReceipts takes until the wanted words have come; the test's time limit is the only other way out.
func waitReceipts(t *testing.T, l *presence.Link, want ...string) {
	t.Helper()
	var got []string
	for len(got) < len(want) {
		for _, w := range said(l) {
			if len(w) > 7 && w[:7] == "receipt" {
				got = append(got, w)
			}
		}
		if len(got) < len(want) {
			<-l.Wake()
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("receipts (-want +got):\n%s", d)
	}
}

func TestReceiptsAreWithheldWhilePresenceIsHidden(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	phone := f.online("ann@example.org", "phone")
	send := func(text string, ttl time.Duration) []uint64 {
		d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Ref: text, Message: text, Receipt: true, TTL: ttl})
		f.must(err)
		f.must(d.Wait())
		return []uint64{expectMail(t, f, phone, text)[0].Seq}
	}
	f.must(f.hub.SetPaused("ann@example.org", "chat", true, presence.ByUser))
	phone.Confirm(send("hidden", -1))
	phone.Confirm(send("hidden live", 0))
	f.must(f.hub.SetPaused("ann@example.org", "chat", false, presence.ByUser))
	f.must(phone.Publish(presence.Offline, time.Time{}))
	phone.Confirm(send("said offline", -1))
	f.must(phone.Publish(presence.Online, time.Time{}))
	phone.Confirm(send("seen live", 0))
	phone.Confirm(send("seen", -1))
	waitReceipts(t, chat, "receipt seen live", "receipt seen")
}

func TestDeviceIsNamedByItsTagAndOnlyForItsApp(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.app("other")
	g, o := f.allow("ann@example.org", "chat"), f.allow("ann@example.org", "other")
	chat, other := f.link("chat"), f.link("other")
	phone, desk := f.online("ann@example.org", "phone"), f.online("ann@example.org", "desk")
	tags := map[string]bool{}
	for _, u := range append(take(chat), take(other)...) {
		tags[u.Tag] = true
	}
	if len(tags) != 4 {
		t.Fatalf("two devices for two apps have the tags %v", tags)
	}
	f.must(desk.Publish(presence.Unavailable, time.Time{}))
	tag := take(chat)[0].Tag
	d, err := chat.Notify(presence.Peer{PUID: g.PUID, Tag: tag}, presence.Message{Message: "desk only", TTL: -1})
	f.must(err)
	f.must(d.Wait())
	expectMail(t, f, phone)
	expectMail(t, f, desk, "desk only")
	for _, p := range []presence.Peer{{PUID: o.PUID}, {PUID: g.PUID, Tag: "aaaaaaaaaaaaaaaa"}, {Email: "ann@example.org"}, {}, {PUID: "nobody"}} {
		if _, err := chat.Notify(p, presence.Message{Message: "x", TTL: -1}); !errors.Is(err, presence.ErrStranger) {
			t.Errorf("notify %+v: %v", p, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	mute, err := f.hub.Allow(presence.Grant{Email: "bob@example.org", App: "chat"}, presence.ByUser)
	f.must(err)
	chat := f.link("chat")
	long := make([]byte, 4097)
	for _, c := range []struct {
		puid string
		m    presence.Message
		want error
	}{
		{g.PUID, presence.Message{Message: string(long), TTL: -1}, presence.ErrTooLarge},
		{g.PUID, presence.Message{Message: "x", TTL: 673 * time.Hour}, presence.ErrTTL},
		{mute.PUID, presence.Message{Message: "x", TTL: -1}, presence.ErrNotAllowed},
		{g.PUID, presence.Message{Ref: strings.Repeat("r", 1025), TTL: -1}, presence.ErrBadValue},
		{g.PUID, presence.Message{Collapse: strings.Repeat("c", 257), TTL: -1}, presence.ErrBadValue},
		{g.PUID, presence.Message{From: strings.Repeat("f", 3072), TTL: -1}, presence.ErrBadValue},
		{g.PUID, presence.Message{Message: string(long[1:]), TTL: 672 * time.Hour, Dry: true,
			Ref: strings.Repeat("r", 1024), Collapse: strings.Repeat("c", 256), From: strings.Repeat("f", 3071)}, nil},
	} {
		if _, err := chat.Notify(presence.Peer{PUID: c.puid}, c.m); !errors.Is(err, c.want) {
			t.Errorf("%v, want %v", err, c.want)
		}
	}
	if err := f.hub.PutApp(presence.App{ID: "twin", Name: "twin", Component: "chat.example", Secret: "s", Conflict: presence.Replace}); !errors.Is(err, presence.ErrExists) {
		t.Errorf("a second app for the domain: %v", err)
	}
	for i := range f.limits().SocketsPerUser {
		f.attach("eve@example.org", fmt.Sprint("d", i))
	}
	if _, err := f.hub.Attach(presence.Attach{Email: "eve@example.org", Device: "more", Ready: f.ready}); !errors.Is(err, presence.ErrSockets) {
		t.Errorf("one socket too many: %v", err)
	}
	f.attach("eve@example.org", "d0") // replaces, so it is none too many
}

func (f *fixture) limits() presence.Limits { return presence.DefaultLimits() }

func TestConflictPolicies(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	first := f.link("chat")
	second := f.link("chat")
	if first.Ended() != presence.EndReplaced || second.Ended() != presence.Alive {
		t.Errorf("replace: %v, %v", first.Ended(), second.Ended())
	}
	app, _ := f.hub.App("chat")
	app.Conflict = presence.Reject
	f.must(f.hub.PutApp(app))
	if second.Ended() != presence.EndChanged {
		t.Errorf("another policy: %v", second.Ended())
	}
	second = f.link("chat")
	if _, err := f.hub.Link("chat", presence.ComponentLink); !errors.Is(err, presence.ErrConflict) {
		t.Errorf("reject: %v", err)
	}
	app.Disabled = true
	f.must(f.hub.PutApp(app))
	if _, err := f.hub.Link("chat", presence.ComponentLink); second.Ended() != presence.EndDisabled || !errors.Is(err, presence.ErrNoApp) {
		t.Errorf("disabled: %v, %v", second.Ended(), err)
	}
}

func TestEndsOfSessions(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	kicked := f.online("ann@example.org", "phone")
	said(chat)
	if n := f.hub.Kick("ann@example.org", ""); n != 1 || kicked.Ended() != presence.EndKicked {
		t.Errorf("kick: %d, %v", n, kicked.Ended())
	}
	expect(t, chat, "offline "+g.PUID)
	s, err := f.hub.Attach(presence.Attach{Email: "ann@example.org", Device: "phone", Ready: f.ready, Credential: "c", Expires: f.clock.Now().Add(time.Minute)})
	f.must(err)
	f.must(s.Publish(presence.Online, time.Time{}))
	said(chat)
	f.pass(time.Minute)
	if s.Ended() != presence.EndExpired {
		t.Errorf("expired: %v", s.Ended())
	}
	expect(t, chat) // through the linger
	f.pass(linger)
	expect(t, chat, "offline "+g.PUID)
	s, err = f.hub.Attach(presence.Attach{Email: "ann@example.org", Device: "phone", Ready: f.ready, Credential: "c"})
	f.must(err)
	if n := f.hub.EndCredential("ann@example.org", "other"); n != 0 {
		t.Errorf("another credential ended %d sessions", n)
	}
	if n := f.hub.EndCredential("ann@example.org", "c"); n != 1 || s.Ended() != presence.EndExpired {
		t.Errorf("revoked credential: %d, %v", n, s.Ended())
	}
}

// A server that stops says goodbye for everybody, once, before the links end.
func TestCloseTellsEveryoneIsGone(t *testing.T) {
	f := newFixture(t)
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	s := f.online("ann@example.org", "phone")
	said(chat)
	f.hub.Drain(time.Second, 2*time.Second, "restart")
	if o, err := s.Next(10); err != nil || o.Reconnect == nil || o.Reconnect.After < time.Second || o.Reconnect.After > 3*time.Second {
		t.Errorf("draining: %+v %v", o, err)
	}
	if _, err := f.hub.Attach(presence.Attach{Email: "ann@example.org", Device: "x", Ready: f.ready}); !errors.Is(err, presence.ErrDraining) {
		t.Errorf("attach while draining: %v", err)
	}
	f.close()
	if s.Ended() != presence.EndDraining || chat.Ended() != presence.EndShutdown {
		t.Errorf("%v, %v", s.Ended(), chat.Ended())
	}
	expect(t, chat, "offline "+g.PUID)
}

// Sessions of a server that stops may end a few at a time, each as at the end.
func TestDismiss(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow("user0@example.org", "chat")
	chat := f.link("chat")
	all := []*presence.Session{f.online("user0@example.org", "desk")}
	for i := range 9 {
		all = append(all, f.online(fmt.Sprintf("user%d@example.org", i), "phone"))
	}
	f.hub.Drain(time.Second, 0, "restart")
	left := len(all)
	for _, n := range []int{-1, 0, 4, 5, 6} {
		f.hub.Dismiss(n)
		left = max(left-max(n, 0), 0)
		ended := 0
		for _, s := range all {
			if s.Ended() == presence.EndDraining {
				ended++
			}
		}
		if ended != len(all)-left || f.hub.Stats().Sessions != left {
			t.Errorf("after %d: %d have ended, %d are there, want %d", n, ended, f.hub.Stats().Sessions, left)
		}
	}
	if lost := f.hub.Stats().Lingering; lost != 0 {
		t.Errorf("%d linger", lost)
	}
	for _, u := range take(chat) {
		if u.Status != presence.Offline {
			t.Errorf("the app was told %+v", u)
		}
	}
}

// What is remembered of a device answers a probe also after a restart.
func TestProbeAfterRestart(t *testing.T) {
	dir := t.TempDir()
	f := newFixtureAt(t, dir)
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	p, err := chat.Probe(presence.Peer{PUID: g.PUID})
	if err != nil || len(p) != 1 || p[0].Status != presence.Offline || p[0].Tag != "" {
		t.Errorf("nobody ever came: %+v %v", p, err)
	}
	f.clock.add(time.Minute)
	s := f.online("ann@example.org", "phone")
	tag := take(chat)[0].Tag
	p, err = chat.Probe(presence.Peer{PUID: g.PUID, Tag: tag})
	if err != nil || len(p) != 1 || p[0].Status != presence.Online || !p[0].Delayed {
		t.Errorf("she is there: %+v %v", p, err)
	}
	f.clock.add(time.Minute)
	f.must(s.Publish(presence.Offline, time.Time{}))
	s.Close()
	went := f.clock.Now()
	f.close()
	f = newFixtureAt(t, dir)
	defer f.close()
	f.clock.add(time.Hour)
	p, err = f.link("chat").Probe(presence.Peer{PUID: g.PUID})
	if err != nil || len(p) != 1 || p[0].Tag != tag || !p[0].Since.Equal(went) {
		t.Errorf("after the restart: %+v %v, want %s since %v", p, err, tag, went)
	}
}

// An app asks, the user answers: the RFC 6121 subscription, by the e-mail that the app knew.
func TestAskAndAnswer(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	chat := f.link("chat")
	ann := presence.Peer{Email: "ann@example.org"}
	f.must(chat.Subscribe(ann, "bot@chat.example", "before she exists")) // as silent as any
	phone := f.online("ann@example.org", "phone")
	expectRequests(t, f, phone)
	f.must(chat.Subscribe(ann, "bot@chat.example", "to chat"))
	f.must(chat.Subscribe(ann, "bot@chat.example", "again")) // one is waiting already
	expectRequests(t, f, phone, "chat: to chat")
	expectRequests(t, f, f.attach("ann@example.org", "desk"), "chat: to chat")
	expect(t, chat)

	f.must(f.hub.Answer(presence.Answer{Email: "ann@example.org", App: "chat"}, presence.ByUser))
	expect(t, chat, "unsubscribed ann@example.org")
	f.must(chat.Subscribe(ann, "bot@chat.example", "please"))
	f.must(f.hub.Answer(presence.Answer{Email: "ann@example.org", App: "chat", Allow: true}, presence.ByUser))
	expect(t, chat, "subscribed ann@example.org", "online ann@example.org")
	f.must(chat.Subscribe(ann, "bot@chat.example", "already"))
	expect(t, chat, "subscribed ann@example.org")
	if rs, err := f.hub.RequestsOf("ann@example.org"); err != nil || len(rs) != 0 {
		t.Errorf("after the answer %v waits, %v", rs, err)
	}
	g, _, err := f.store.Grant("ann@example.org", "chat")
	f.must(err)
	if err := chat.Subscribe(presence.Peer{PUID: g.PUID}, "chat.example", ""); err != nil {
		t.Error(err)
	}
	expect(t, chat) // by the PUID she is a stranger here
	f.must(chat.Unsubscribe(ann))
	expect(t, chat, "offline ann@example.org", "unsubscribed ann@example.org")
	if err := f.hub.Answer(presence.Answer{Email: "ann@example.org", App: "chat", Allow: true}, presence.ByUser); !errors.Is(err, presence.ErrStranger) {
		t.Errorf("an answer to nothing: %v", err)
	}
}

func expectRequests(t *testing.T, f *fixture, s *presence.Session, want ...string) {
	t.Helper()
	o, err := s.Next(10)
	f.must(err)
	var got []string
	for _, r := range o.Requests {
		got = append(got, r.App+": "+r.Purpose)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("requests (-want +got):\n%s", d)
	}
}

// An answer that is given while the app is away reaches it when it returns, before presence.
func TestAnswerWhileTheAppIsAway(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.online("ann@example.org", "phone")
	chat := f.link("chat")
	f.must(chat.Subscribe(presence.Peer{Email: "ann@example.org"}, "chat.example", ""))
	chat.Close()
	f.must(f.hub.Answer(presence.Answer{Email: "ann@example.org", App: "chat", Allow: true}, presence.ByUser))
	expect(t, f.link("chat"), "subscribed ann@example.org", "online ann@example.org delayed")
}

// An app that comes when an answer is on disk and not told yet has it from there, and is not told a second time: not by
// the same connection, nor where connections share the app by the one that has the user.
func TestAnswerWhileTheAppComes(t *testing.T) {
	for policy, come := range map[presence.Conflict]int{presence.Replace: 1, presence.Share: 8} {
		t.Run(string(policy), func(t *testing.T) {
			between := new(betweenStore)
			f := newFixtureOn(t, func(s presence.Store) presence.Store { between.Store = s; return between })
			defer f.close()
			f.app("chat")
			app, _ := f.hub.App("chat")
			app.Conflict = policy
			f.must(f.hub.PutApp(app))
			f.attach("ann@example.org", "phone")
			asks := f.link("chat")
			f.must(asks.Subscribe(presence.Peer{Email: "ann@example.org"}, "chat.example", ""))
			asks.Close()
			var links []*presence.Link
			between.kept = func() {
				for range come {
					links = append(links, f.link("chat"))
				}
			}
			f.must(f.hub.Answer(presence.Answer{Email: "ann@example.org", App: "chat"}, presence.ByUser))
			expect(t, links[0], "unsubscribed ann@example.org")
			for _, l := range links[1:] {
				expect(t, l)
			}
		})
	}
}

// betweenStore calls kept between the commit of an answer and the return from it.
type betweenStore struct {
	presence.Store
	kept func()
}

func (s *betweenStore) RemoveRequest(email, app string, audit []presence.AuditEntry, n *presence.Notice) error {
	err := s.Store.RemoveRequest(email, app, audit, n)
	if n != nil {
		s.kept()
	}
	return err
}

// A message from a device reaches the app now, or when it returns, once.
func TestUpstream(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	phone := f.online("ann@example.org", "phone")
	send := func(ref string, ttl time.Duration, want error) {
		t.Helper()
		if err := phone.Send("chat", ref, []byte(`{"text":"hi"}`), ttl); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", ref, err, want)
		}
	}
	send("now or never", 0, nil) // nobody is there
	send("one", -1, nil)
	send("short", time.Minute, nil)
	f.clock.add(time.Minute)
	chat := f.link("chat")
	send("two", -1, nil)
	send("live", 0, nil)
	got := messages(chat)
	if len(got) != 3 || got[0].Ref != "live" || got[1].Ref != "one" || !got[1].Delayed || got[2].Ref != "two" || got[2].Local != g.PUID || got[2].Tag == "" || got[1].Again || got[2].Again {
		t.Fatalf("the app was told %+v", got)
	}
	if again := messages(chat); len(again) != 0 {
		t.Errorf("told again: %+v", again)
	}
	chat.Delivered([]uint64{got[1].ID, 4242})
	second := f.link("chat") // nobody said that it has the other one
	if got = messages(second); len(got) != 1 || got[0].Ref != "two" || !got[0].Again {
		t.Errorf("the next connection was told %+v", got)
	}
	second.Delivered([]uint64{got[0].ID})
	if got = messages(f.link("chat")); len(got) != 0 {
		t.Errorf("the third connection was told %+v", got)
	}
	if err := phone.Send("other", "x", nil, -1); !errors.Is(err, presence.ErrStranger) {
		t.Errorf("to an app that she did not allow: %v", err)
	}
}

// A message that was not acknowledged comes again after a restart too, and says that the app may know it.
// What expires between being read and being handed out is not handed out.
func TestUpstreamExpires(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow("ann@example.org", "chat")
	phone := f.attach("ann@example.org", "phone")
	for i := range 3 {
		f.must(phone.Send("chat", fmt.Sprint(i), []byte(`{}`), time.Second))
	}
	chat, one := f.link("chat"), make([]presence.Update, 1)
	if n := chat.Take(one); n != 1 || one[0].Ref != "0" || !chat.Waits(one[0].ID) {
		t.Fatalf("%d: %+v", n, one)
	}
	f.clock.add(time.Second)
	if n := chat.Take(one); n != 0 || chat.Waits(one[0].ID) {
		t.Errorf("%d are handed out too late, or the first waits still: %+v", n, one)
	}
}

func TestUpstreamAfterRestart(t *testing.T) {
	dir := t.TempDir()
	f := newFixtureAt(t, dir)
	f.app("chat")
	f.allow("ann@example.org", "chat")
	f.must(f.online("ann@example.org", "phone").Send("chat", "one", []byte(`{}`), -1))
	if got := messages(f.link("chat")); len(got) != 1 || got[0].Again {
		t.Errorf("at first: %+v", got)
	}
	f.close()
	f = newFixtureAt(t, dir)
	defer f.close()
	f.must(f.online("ann@example.org", "phone").Send("chat", "two", []byte(`{}`), -1))
	got := messages(f.link("chat"))
	if len(got) != 2 || got[0].Ref != "one" || !got[0].Again || got[1].Again {
		t.Errorf("after the restart: %+v", got)
	}
}

// What a full queue discards is counted for the device and for the app; what a device takes unseen looks the same.
func TestOverflowIsSeenByBothSides(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.app("mail")
	chat, most := f.link("chat"), f.limits().QueuePerApp
	g := f.allow("ann@example.org", "chat")
	send := func(n int) {
		for range n {
			d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Message: "hi", TTL: -1})
			f.must(err)
			f.must(d.Wait())
		}
	}
	dropped := func(app string) uint64 {
		st, err := f.hub.AppStats(app)
		f.must(err)
		return st.Dropped
	}
	send(most + 3)
	if got := dropped("chat"); got != 3 || dropped("mail") != 0 {
		t.Errorf("the app is told of %d, another of %d", got, dropped("mail"))
	}
	phone := f.attach("ann@example.org", "phone")
	o, err := phone.Next(2 * most)
	f.must(err)
	if len(o.Dropped) != 1 || o.Dropped[0] != (presence.Dropped{App: "chat", Count: 3}) {
		t.Errorf("the device is told of %+v", o.Dropped)
	}
	var seqs []uint64
	for i := range o.Notifications {
		seqs = append(seqs, o.Notifications[i].Seq)
	}
	phone.Confirm(seqs)
	send(2)
	o, err = phone.Next(2 * most)
	f.must(err)
	phone.Confirm([]uint64{o.Notifications[0].Seq, o.Notifications[1].Seq})
	if got := dropped("chat"); got != 5 {
		t.Errorf("while a device that it does not see takes them the app is told of %d, want 5", got)
	}
}

func messages(l *presence.Link) (ms []presence.Update) {
	for _, u := range take(l) {
		if u.Kind == presence.FromDevice {
			ms = append(ms, u)
		}
	}
	return ms
}

func TestUpstreamIsBoundedAndEndsWithTheGrant(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow("ann@example.org", "chat")
	phone := f.online("ann@example.org", "phone")
	for range f.limits().UpstreamPerApp {
		f.must(phone.Send("chat", "m", []byte(`{}`), time.Hour))
	}
	if err := phone.Send("chat", "one too many", []byte(`{}`), -1); !errors.Is(err, presence.ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	f.clock.add(time.Hour)
	f.must(phone.Send("chat", "there is room again", []byte(`{}`), -1))
	f.must(f.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	f.allow("ann@example.org", "chat")
	if got := messages(f.link("chat")); len(got) != 0 {
		t.Errorf("after revoke and grant again: %+v", got)
	}
	f.must(f.store.CheckConsistency())
}

// Connections that share an app share its users: each is told by one of them, and by another when that
// one leaves.
func TestShare(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.must(f.hub.PutApp(presence.App{ID: "chat", Name: "chat", Component: "chat.example", Secret: "s", APIKey: "k", Conflict: presence.Share}))
	const users = 60
	sessions := map[string]*presence.Session{}
	for i := range users {
		email := fmt.Sprintf("u%d@example.org", i)
		sessions[f.allow(email, "chat").PUID] = f.online(email, "phone")
	}
	a, b := f.link("chat"), f.link("chat")
	ua, ub := seen(a), seen(b)
	if len(ua)+len(ub) != users || len(ua) < users/5 || len(ub) < users/5 {
		t.Fatalf("%d and %d of %d users", len(ua), len(ub), users)
	}
	for puid, s := range sessions {
		f.must(s.Publish(presence.Unavailable, time.Time{}))
		f.must(s.Send("chat", puid, []byte(`{}`), -1))
		mine, other := a, b
		if !ua[puid] {
			mine, other = b, a
		}
		if got := take(mine); len(got) != 2 || got[0].Local != puid || got[1].Local != puid || got[0].Kind == got[1].Kind {
			t.Fatalf("of %s its link was told %+v", puid, got)
		}
		if got := take(other); len(got) != 0 {
			t.Fatalf("of %s the other link was told %+v", puid, got)
		}
	}
	a.Close()
	moved := seen(b)
	for puid := range ua {
		if !moved[puid] {
			t.Errorf("%s did not move to the connection that stayed", puid)
		}
		delete(moved, puid)
	}
	if len(moved) != 0 {
		t.Errorf("told again of %v", moved)
	}
	c := f.link("chat")
	if len(seen(c)) == 0 {
		t.Error("the newcomer shares nothing")
	}
	var last error
	for range f.limits().LinksPerApp {
		_, last = f.hub.Link("chat", presence.ComponentLink)
	}
	if !errors.Is(last, presence.ErrTooMany) {
		t.Errorf("one connection too many: %v", last)
	}
}

// seen takes all and returns whom presence was about; messages are confirmed on the way.
func seen(l *presence.Link) map[string]bool {
	who := map[string]bool{}
	for _, u := range take(l) {
		if u.Kind == presence.Presence {
			who[u.Local] = true
		}
	}
	return who
}

// A link that is kept beside a newer one goes on, until its owner lets it go.
func TestLinkBeside(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	old := f.link("chat")
	phone := f.online("ann@example.org", "phone")
	newer, err := f.hub.Link("chat", presence.ComponentLink, old)
	f.must(err)
	f.must(phone.Publish(presence.Unavailable, time.Time{}))
	if old.Ended() != presence.Alive {
		t.Fatalf("the kept link ended: %v", old.Ended())
	}
	expect(t, old, "unavailable "+g.PUID)
	expect(t, newer, "unavailable "+g.PUID+" delayed")
	newer.Close()
	f.must(phone.Publish(presence.Online, time.Time{}))
	expect(t, old, "online "+g.PUID)
}

// The rest are stories of faults that were there once.

// A revoke that comes second ends nothing, least of all a grant that was given in between.
func TestRevokeEndsOnlyWhatItSaw(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	for range 50 {
		f.allow("ann@example.org", "chat")
		var both sync.WaitGroup
		var ended atomic.Int32
		for range 2 {
			both.Go(func() {
				if f.hub.Revoke("ann@example.org", "chat", presence.ByUser) == nil {
					ended.Add(1)
				}
			})
		}
		both.Wait()
		if ended.Load() != 1 {
			t.Fatalf("%d of two revokes ended the grant", ended.Load())
		}
	}
	if ns, err := f.store.NoticesOf("chat", 1000); err != nil || len(ns) != 50 {
		t.Errorf("%d notices for 50 revokes, %v", len(ns), err)
	}
}

// An Until that is moved in time does not end the grant.
func TestUntilCanBeMoved(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	until := f.clock.Now().Add(time.Hour)
	g, err := f.hub.Allow(presence.Grant{Email: "ann@example.org", App: "chat", Until: &until}, presence.ByUser)
	f.must(err)
	later := until.Add(time.Hour)
	g.Until = &later
	_, err = f.hub.Allow(g, presence.ByUser)
	f.must(err)
	f.pass(time.Hour)
	if _, ok, _ := f.store.Grant("ann@example.org", "chat"); !ok {
		t.Fatal("the grant ended at its old time")
	}
	f.pass(time.Hour)
	if _, ok, _ := f.store.Grant("ann@example.org", "chat"); ok {
		t.Fatal("the grant did not end at its new time")
	}
}

// A device that waits to be drained and does not confirm still learns that it is over.
func TestNextWithoutRoomTellsTheEnd(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	phone := f.online("ann@example.org", "phone")
	d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Message: "hi", TTL: -1})
	f.must(err)
	f.must(d.Wait())
	if o, err := phone.Next(0); err != nil || len(o.Notifications) != 0 || o.More {
		t.Errorf("no room: %+v, %v", o, err)
	}
	expectMail(t, f, phone, "hi")
	f.hub.Kick("ann@example.org", "phone")
	if o, err := phone.Next(0); err != nil || o.End != presence.EndKicked {
		t.Errorf("the end: %+v, %v", o, err)
	}
}

// A probe speaks of what the app could see: not of who only connected, not of what happened while hidden.
func TestProbeTellsNothingThatWasHidden(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	probe := func(want string) {
		t.Helper()
		us, err := chat.Probe(presence.Peer{PUID: g.PUID})
		f.must(err)
		var got []string
		for _, u := range us {
			named := "bare"
			if u.Tag != "" {
				named = "device"
			}
			got = append(got, fmt.Sprintf("%s %v %s", named, u.Status, u.Since.Format("15:04")))
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("at %s: %q, want %q", f.clock.Now().Format("15:04"), s, want)
		}
	}
	f.pass(time.Minute)
	quiet := f.attach("ann@example.org", "phone") // 12:01, and says nothing
	probe("bare offline 12:00")
	quiet.Close()
	probe("bare offline 12:00")
	f.pass(time.Minute)
	phone := f.online("ann@example.org", "phone") // 12:02
	probe("device online 12:02")
	f.pass(time.Minute)
	f.must(phone.Publish(presence.Offline, time.Time{})) // 12:03
	f.pass(time.Hour)
	probe("device offline 12:03")
	phone.Close() // 13:03
	probe("device offline 12:03")
	phone = f.online("ann@example.org", "phone")
	f.pass(time.Minute)
	f.must(f.hub.SetPaused("ann@example.org", "chat", true, presence.ByUser)) // 13:04
	for range 3 {                                                             // whatever she does now
		f.pass(time.Minute)
		probe("device offline 13:04")
		f.must(phone.Publish(presence.Unavailable, time.Time{}))
		f.pass(time.Minute)
		probe("device offline 13:04")
		phone.Close()
		f.pass(time.Minute)
		probe("device offline 13:04")
		phone = f.online("ann@example.org", "phone")
	}
	f.must(f.hub.SetPaused("ann@example.org", "chat", false, presence.ByUser))
	probe("device online " + f.clock.Now().Format("15:04"))
	phone.Close()
	f.pass(linger)
	f.must(f.hub.SetPaused("ann@example.org", "chat", true, presence.ByUser))
	probe("device offline " + f.clock.Now().Format("15:04"))
}

// What shows itself when a pause ends is news, whether it was there when the app came or not.
func TestResumeLooksTheSameForAll(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	f.must(f.hub.SetPaused("ann@example.org", "chat", true, presence.ByUser))
	f.online("ann@example.org", "phone")
	chat := f.link("chat")
	expect(t, chat)
	f.online("ann@example.org", "desk")
	f.must(f.hub.SetPaused("ann@example.org", "chat", false, presence.ByUser))
	expect(t, chat, "online "+g.PUID, "online "+g.PUID)
}

// A receipt does not wait until presence is quiet.
func TestReceiptsDoNotStarve(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	var phones []*presence.Session
	var g presence.Grant
	for i := range 4 {
		email := fmt.Sprintf("u%d@example.org", i)
		g = f.allow(email, "chat")
		phones = append(phones, f.online(email, "phone"))
	}
	chat := f.link("chat")
	buf := make([]presence.Update, 2)
	for chat.Take(buf) > 0 {
	}
	d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Ref: "r", Message: "hi", Receipt: true, TTL: 0})
	f.must(err)
	f.must(d.Wait())
	phones[3].Confirm([]uint64{expectMail(t, f, phones[3], "hi")[0].Seq})
	<-chat.Wake()
	states := [2]presence.Status{presence.Unavailable, presence.Online}
	for i := range 100_000 {
		for _, p := range phones {
			f.must(p.Publish(states[i&1], time.Time{}))
		}
		for _, u := range buf[:chat.Take(buf)] {
			if u.Kind == presence.Receipt {
				return
			}
		}
	}
	t.Error("the receipt never came")
}

// A notification for now that several devices confirm makes one receipt, as any other.
func TestOneReceiptForOneNotification(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	phone, desk := f.online("ann@example.org", "phone"), f.online("ann@example.org", "desk")
	for _, ttl := range []time.Duration{0, -1} {
		d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Ref: "r", Message: "hi", Receipt: true, TTL: ttl})
		f.must(err)
		f.must(d.Wait())
		for _, s := range []*presence.Session{phone, desk} {
			s.Confirm([]uint64{expectMail(t, f, s, "hi")[0].Seq})
		}
	}
	f.hub.Close() // behind all receipts
	defer f.store.Close()
	n := 0
	for _, w := range said(chat) {
		if w == "receipt r" {
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d receipts for two notifications", n)
	}
}

// An allow that is refused leaves everything as it was.
func TestRefusedAllowLosesNothing(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g, other := f.allow("ann@example.org", "chat"), f.allow("bob@example.org", "chat")
	chat := f.link("chat")
	d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Message: "hi", TTL: -1})
	f.must(err)
	f.must(d.Wait())
	g.PUID = other.PUID
	if _, err := f.hub.Allow(g, presence.ByAdmin); !errors.Is(err, presence.ErrExists) || errors.Is(err, presence.ErrStorage) {
		t.Errorf("another user's PUID: %v", err)
	}
	expectMail(t, f, f.online("ann@example.org", "phone"), "hi")
}

// A grant that comes with a new PUID ends the old address, also for who is not there.
func TestNewPUIDEndsTheOldAddress(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Message: "hi", TTL: -1})
	f.must(err)
	f.must(d.Wait())
	_, err = f.hub.Allow(presence.Grant{Email: "ann@example.org", App: "chat", PUID: "NEW", Notify: true}, presence.ByAdmin)
	f.must(err)
	expect(t, chat, "unsubscribed "+g.PUID)
	phone := f.online("ann@example.org", "phone")
	expectMail(t, f, phone)
	expect(t, chat, "online new")
	_, err = f.hub.Allow(presence.Grant{Email: "ann@example.org", App: "chat", PUID: "newer", Notify: true}, presence.ByAdmin)
	f.must(err)
	expect(t, chat, "offline new", "unsubscribed new", "online newer")
}

// Told forgets what was handed out, whatever numbers it has in the store.
func TestToldForgetsOnlyWhatWasHandedOut(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	for _, e := range []string{"ann@example.org", "bob@example.org"} {
		f.allow(e, "chat")
		f.must(f.hub.Revoke(e, "chat", presence.ByUser))
	}
	chat := f.link("chat")
	buf := make([]presence.Update, 1)
	if chat.Take(buf) != 1 {
		t.Fatal("no notice")
	}
	f.must(chat.Told(buf[0].ID + 1000))
	if ns, err := f.store.NoticesOf("chat", 10); err != nil || len(ns) != 1 {
		t.Errorf("%d notices are kept, one was handed out of two; %v", len(ns), err)
	}
}

// A user who is removed while her device lingers does not come back with its end.
func TestRemovedUserStaysRemoved(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow("ann@example.org", "chat")
	f.online("ann@example.org", "phone").Close()
	f.must(f.hub.RemoveUser("ann@example.org", presence.ByAdmin))
	f.must(f.store.RemoveUser("ann@example.org"))
	f.pass(time.Hour)
	f.must(f.store.PutUser(presence.User{Email: "bob@example.org"})) // behind whatever is on its way
	if _, known, err := f.store.User("ann@example.org"); known || err != nil {
		t.Errorf("she is back: %v, %v", known, err)
	}
}

// An answer changes what it names and leaves the rest.
func TestAnswerKeepsWhatItLeavesOut(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	w, err := presence.ParseWindow("21:00-23:00")
	f.must(err)
	_, err = f.hub.Allow(presence.Grant{Email: "ann@example.org", App: "chat", Notify: true, Windows: []presence.Window{w}, TZ: "Europe/Paris"}, presence.ByUser)
	f.must(err)
	no := false
	f.must(f.hub.Answer(presence.Answer{Email: "ann@example.org", App: "chat", Allow: true, Notify: &no}, presence.ByUser))
	g, _, err := f.store.Grant("ann@example.org", "chat")
	f.must(err)
	if len(g.Windows) != 1 || g.TZ != "Europe/Paris" || g.Notify {
		t.Errorf("the grant is %+v", g)
	}
	f.must(f.hub.Answer(presence.Answer{Email: "ann@example.org", App: "chat", Allow: true, Windows: []presence.Window{}}, presence.ByUser))
	if g, _, _ = f.store.Grant("ann@example.org", "chat"); len(g.Windows) != 0 || g.Notify {
		t.Errorf("the grant is %+v", g)
	}
}

// A credential that is revoked between being verified and being used lets nobody in.
func TestRevokedCredentialDoesNotAttach(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.hub.EndCredential("ann@example.org", "c")
	if _, err := f.hub.Attach(presence.Attach{Email: "ann@example.org", Device: "phone", Credential: "c", Ready: f.ready}); !errors.Is(err, presence.ErrCredential) {
		t.Errorf("attach: %v", err)
	}
	s := f.attach("ann@example.org", "phone")
	if err := s.Renew("c", time.Time{}); !errors.Is(err, presence.ErrCredential) {
		t.Errorf("renew: %v", err)
	}
}

// Asking costs the store the same whoever is asked for: how long it takes tells nothing.
func TestAskingCostsTheSameForAll(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	granted := f.allow("ann@example.org", "chat")
	f.must(f.store.PutUser(presence.User{Email: "bob@example.org"}))
	chat := f.link("chat")
	commits := func(do func() error) uint64 {
		before := f.store.Stats().Commits
		f.must(do())
		return f.store.Stats().Commits - before
	}
	for _, p := range []presence.Peer{{PUID: granted.PUID}, {PUID: "nobody"}, {Email: "ann@example.org"}, {Email: "bob@example.org"},
		{Email: "bob@example.org"}, {Email: "nobody@example.org"}} {
		if n := commits(func() error { return chat.Subscribe(p, "chat.example", "") }); n != 1 {
			t.Errorf("subscribe to %+v: %d commits", p, n)
		}
	}
	for _, p := range []presence.Peer{{PUID: "nobody"}, {Email: "ann@example.org"}, {Email: "bob@example.org"}, {Email: "bob@example.org"}, {Email: "nobody@example.org"}} {
		if n := commits(func() error { return chat.Unsubscribe(p) }); n != 1 {
			t.Errorf("unsubscribe from %+v: %d commits", p, n)
		}
	}
}

// An app that takes nothing costs its users nothing: a user may come with ever new devices.
func TestDeafAppDoesNotLockUsersOut(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	deaf := f.link("chat")
	f.online("ann@example.org", "stays")
	known := map[string]presence.Status{}
	for i := range 200 {
		s := f.online("ann@example.org", fmt.Sprint("device", i))
		if i < 10 { // from here on the app is deaf
			hearAll(t, deaf, known)
		}
		s.Close()
	}
	if st := f.hub.Stats(); st.Sessions+st.Lingering > f.limits().DevicesPerUser {
		t.Errorf("%d devices are held", st.Sessions+st.Lingering)
	}
	f.pass(time.Hour)
	hearAll(t, deaf, known)
	there := 0
	for _, st := range known {
		if st != presence.Offline {
			there++
		}
	}
	if there != 1 || len(known) != 11 || !strings.HasPrefix(slices.Collect(maps.Keys(known))[0], g.PUID) {
		t.Errorf("the app knows %d devices, %d of them there: %v", len(known), there, known)
	}
	f.hub.Kick("ann@example.org", "")
	hearAll(t, deaf, known)
	if st := f.hub.Stats(); st.Users != 0 {
		t.Errorf("%d users are in memory", st.Users)
	}
}

// A pause is not lost to a change of the same grant.
func TestPauseSurvivesChanges(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow("ann@example.org", "chat")
	yes := true
	for range 50 {
		var both sync.WaitGroup
		both.Go(func() { f.must(f.hub.SetPaused("ann@example.org", "chat", true, presence.ByUser)) })
		both.Go(func() {
			f.must(f.hub.Answer(presence.Answer{Email: "ann@example.org", App: "chat", Allow: true, Idle: &yes}, presence.ByUser))
		})
		both.Wait()
		if g, _, _ := f.store.Grant("ann@example.org", "chat"); !g.Paused {
			t.Fatal("the pause was lost")
		}
		f.must(f.hub.SetPaused("ann@example.org", "chat", false, presence.ByUser))
	}
}

// What waits in memory for a device goes with the grant, as what waits on disk does.
func TestRevokeForgetsWhatIsOnlyInMemory(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	phone := f.online("ann@example.org", "phone")
	d, err := chat.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Message: "now", TTL: 0})
	f.must(err)
	f.must(d.Wait())
	f.must(f.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	expectMail(t, f, phone)
}
