package presence_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"presenced/presence"
)

// few is a fixture whose links are given up when more than n things wait for them.
func few(t *testing.T, n int) *fixture {
	t.Helper()
	return openFixture(t, t.TempDir(), func(l *presence.Limits) { l.LinkPending = n }, nil)
}

// The ends of grants that an app does not take end its link, beyond the bound and not before; they are kept, and the
// next connection has them all.
func TestNoticesAreBounded(t *testing.T) {
	f := few(t, 3)
	defer f.close()
	f.app("chat")
	var ended []string
	end := func() {
		email := fmt.Sprintf("u%d@example.org", len(ended))
		g := f.allow(email, "chat")
		f.attach(email, "phone")
		f.must(f.hub.Revoke(email, "chat", presence.ByUser))
		ended = append(ended, "unsubscribed "+g.PUID)
	}
	chat := f.link("chat")
	for range 3 {
		end()
	}
	expect(t, chat, ended...)
	for range 3 {
		end()
	}
	if chat.Ended() != presence.Alive {
		t.Fatalf("as many as may wait ended the link: %v", chat.Ended())
	}
	end()
	if chat.Ended() != presence.EndOverflow {
		t.Fatalf("one more: %v", chat.Ended())
	}
	expect(t, f.link("chat"), ended...) // those that were handed out too: nobody said that they had arrived
}

// Devices that a user no longer has, and that a deaf app was not told of, count against its link.
func TestOrphansAreBounded(t *testing.T) {
	f := few(t, 3)
	defer f.close()
	f.app("chat")
	f.allow(ann, "chat")
	for i := range f.limits().DevicesPerUser { // and the next takes the place of the one that was lost first
		f.online(ann, fmt.Sprint("old", i)).Close()
	}
	chat := f.link("chat")
	come := func(n int) {
		for i := range n {
			f.online(ann, fmt.Sprintf("new%d-%d", f.clock.Now().Unix(), i)).Close()
		}
		f.clock.add(time.Second)
	}
	come(3)
	take(chat)
	come(3)
	if chat.Ended() != presence.Alive {
		t.Fatalf("as many as may be left ended the link: %v", chat.Ended())
	}
	come(1)
	if chat.Ended() != presence.EndOverflow {
		t.Errorf("one more: %v", chat.Ended())
	}
}

// A message that was not handed out ends with its grant, and what was handed out makes room.
func TestLettersEndWithTheGrantAndMakeRoom(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow(ann, "chat")
	f.allow("bob@example.org", "chat")
	chat, phone, other := f.link("chat"), f.online(ann, "phone"), f.online("bob@example.org", "phone")
	big := []byte(fmt.Sprintf("%4000q", "x"))
	for range 4 {
		for range 100 {
			f.must(phone.Send("chat", "r", big, 0))
		}
		if n := len(messages(chat)); n != 100 || chat.Ended() != presence.Alive {
			t.Fatalf("%d of 100 messages, and then %v", n, chat.Ended())
		}
	}
	f.must(phone.Send("chat", "ann's", []byte(`{}`), 0))
	f.must(other.Send("chat", "bob's", []byte(`{}`), 0))
	f.must(f.hub.Revoke(ann, "chat", presence.ByUser))
	if ms := messages(chat); len(ms) != 1 || ms[0].Ref != "bob's" {
		t.Errorf("handed out behind the end of ann's grant: %+v", ms)
	}
}

// What was told is forgotten in steps, by the numbers that count on.
func TestToldInSteps(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	for i := range 5 {
		email := fmt.Sprintf("u%d@example.org", i)
		f.allow(email, "chat")
		f.must(f.hub.Revoke(email, "chat", presence.ByUser))
	}
	chat := f.link("chat")
	us := take(chat)
	for i, u := range us {
		if u.ID != uint64(i+1) {
			t.Errorf("notice %d has number %d", i, u.ID)
		}
	}
	for _, step := range []struct {
		told uint64
		left int
	}{{2, 3}, {2, 3}, {1, 3}, {3, 2}, {5, 0}, {9, 0}} {
		f.must(chat.Told(step.told))
		if ns, err := f.store.NoticesOf("chat", 10); err != nil || len(ns) != step.left {
			t.Errorf("told up to %d: %d are kept, want %d; %v", step.told, len(ns), step.left, err)
		}
	}
}

// A link that is held tells of users in their order: neither the end of a grant nor what comes behind it of the same
// user, before it is opened; of other users it goes on.
func TestHeldLinkKeepsOrder(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	old, bob := f.allow(ann, "chat"), f.allow("bob@example.org", "chat")
	f.online(ann, "phone")
	desk := f.online("bob@example.org", "desk")
	chat, err := f.hub.LinkHeld("chat", presence.ComponentLink)
	f.must(err)
	got := said(chat)
	slices.Sort(got)
	want := []string{"online " + bob.PUID + " delayed", "online " + old.PUID + " delayed"}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("the snapshot: %q", got)
	}
	f.must(f.hub.Revoke(ann, "chat", presence.ByUser))
	expect(t, chat, "offline "+old.PUID)
	again := f.allow(ann, "chat")
	f.must(desk.Publish(presence.Unavailable, time.Time{}))
	expect(t, chat, "unavailable "+bob.PUID)
	chat.Open()
	expect(t, chat, "unsubscribed "+old.PUID, "online "+again.PUID)
}

// A socket hears of the end of a grant and not of answers to what a component asked, and leaves those to it.
func TestSocketsHearNoAnswers(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow(ann, "chat")
	f.must(f.store.PutUser(presence.User{Email: "bob@example.org"}))
	c := f.link("chat")
	f.must(c.Subscribe(presence.Peer{Email: "bob@example.org"}, "room@chat.example", ""))
	c.Close()
	f.must(f.hub.Answer(presence.Answer{Email: "bob@example.org", App: "chat"}, presence.ByUser))
	f.must(f.hub.Revoke(ann, "chat", presence.ByUser))
	socket, err := f.hub.Link("chat", presence.SocketLink)
	f.must(err)
	expect(t, socket, "unsubscribed "+g.PUID)
	f.must(socket.Told(1))
	expect(t, f.link("chat"), "unsubscribed bob@example.org")
}

// When the hub drains, a link is told once to come back, and wakes for it.
func TestReconnectOnce(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	socket, err := f.hub.Link("chat", presence.SocketLink)
	f.must(err)
	take(socket)
	select {
	case <-socket.Wake():
	default:
	}
	if r := socket.Reconnect(); r != nil {
		t.Errorf("nothing drains, and it is told %+v", r)
	}
	f.hub.Drain(10*time.Second, 0, "update")
	select {
	case <-socket.Wake():
	default:
		t.Error("it was not woken")
	}
	if r := socket.Reconnect(); r == nil || r.After != 10*time.Second || r.Reason != "update" {
		t.Errorf("told %+v", r)
	}
	if r := socket.Reconnect(); r != nil {
		t.Errorf("told again: %+v", r)
	}
	if _, err := f.hub.Link("chat", presence.SocketLink); err != presence.ErrDraining {
		t.Errorf("a new socket: %v", err)
	}
	f.link("chat") // components may come until the end
}
