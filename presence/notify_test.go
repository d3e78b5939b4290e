package presence_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"presenced/presence"
)

// tagsOf are the tags of a user's devices for the app of a link that was told of nothing yet, by who came first.
func tagsOf(t *testing.T, l *presence.Link, n int) (tags []string) {
	t.Helper()
	for _, u := range take(l) {
		tags = append(tags, u.Tag)
	}
	if len(tags) != n {
		t.Fatalf("the app sees %d devices, want %d", len(tags), n)
	}
	return tags
}

// A notification for one device waits for that device, also while it is away and another of hers is there; one that
// does not wait reaches that device only.
func TestOneDeviceOfSeveral(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow(ann, "chat")
	chat := f.link("chat")
	sessions := []*presence.Session{f.online(ann, "first"), f.online(ann, "second"), f.online(ann, "third")}
	tags := tagsOf(t, chat, 3)
	tell := func(tag string, m presence.Message) {
		t.Helper()
		d, err := chat.Notify(presence.Peer{PUID: g.PUID, Tag: tag}, m)
		f.must(err)
		f.must(d.Wait())
	}
	tell(tags[1], presence.Message{Message: "now", TTL: 0})
	expectMail(t, f, sessions[0])
	expectMail(t, f, sessions[1], "now")
	expectMail(t, f, sessions[2])
	for _, s := range sessions {
		s.Close()
	}
	f.pass(time.Minute)
	tell(tags[1], presence.Message{Message: "later", TTL: -1})
	tell(tags[2], presence.Message{Message: "now or never", TTL: 0})
	expectMail(t, f, f.attach(ann, "first"))
	expectMail(t, f, f.attach(ann, "third"))
	expectMail(t, f, f.attach(ann, "second"), "later")
}

// Several notifications are accepted together or not at all, those that never touch the disk too, and are counted.
func TestNotifyAll(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g, bob := f.allow(ann, "chat"), f.allow("bob@example.org", "chat")
	chat, phone := f.link("chat"), f.online(ann, "phone")
	tag := tagsOf(t, chat, 1)[0]
	say := func(to presence.Peer, text string, ttl time.Duration) presence.Addressed {
		return presence.Addressed{To: to, Message: presence.Message{Message: text, TTL: ttl}}
	}
	d, err := chat.NotifyAll([]presence.Addressed{
		say(presence.Peer{PUID: g.PUID}, "one", -1), say(presence.Peer{PUID: g.PUID, Tag: tag}, "now", 0),
		say(presence.Peer{PUID: bob.PUID}, "bob's", -1), say(presence.Peer{PUID: g.PUID}, "two", -1),
	})
	f.must(err)
	f.must(d.Wait())
	if n, err := d.Waiting(); n != 2 || err != nil {
		t.Errorf("%d wait for the last one's user, %v", n, err)
	}
	if n := f.hub.Stats().Notified; n != 4 {
		t.Errorf("%d were counted", n)
	}
	got := map[string]bool{}
	for _, n := range drain(f, phone) {
		got[n.Message] = true
	}
	if len(got) != 3 || !got["one"] || !got["now"] || !got["two"] {
		t.Errorf("ann's phone has %v", got)
	}
	expectMail(t, f, f.attach("bob@example.org", "phone"), "bob's")
	for want, bad := range map[error]presence.Addressed{
		presence.ErrStranger: say(presence.Peer{PUID: "nobody"}, "x", -1),
		presence.ErrTTL:      say(presence.Peer{PUID: g.PUID}, "x", 673*time.Hour),
	} {
		refused := f.hub.Stats().Refused
		if _, err := chat.NotifyAll([]presence.Addressed{say(presence.Peer{PUID: g.PUID}, "never", -1), bad}); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
		if n := f.hub.Stats().Refused - refused; n != 1 {
			t.Errorf("%v: %d were counted as refused", want, n)
		}
	}
	if _, err := chat.NotifyAll([]presence.Addressed{say(presence.Peer{PUID: g.PUID, Tag: "aaaaaaaaaaaaaaaa"}, "x", -1)}); !errors.Is(err, presence.ErrStranger) {
		t.Errorf("a device that is not hers: %v", err)
	}
	expectMail(t, f, f.attach(ann, "desk"), "one", "two") // not confirmed, and nothing of what was refused
	chat.Close()
	if _, err := chat.NotifyAll([]presence.Addressed{say(presence.Peer{PUID: g.PUID}, "x", -1)}); !errors.Is(err, presence.ErrEnded) {
		t.Errorf("over a link that has ended: %v", err)
	}
}

// drain takes all that a session has to say.
func drain(f *fixture, s *presence.Session) (all []presence.Notification) {
	f.t.Helper()
	for more := true; more; {
		o, err := s.Next(2)
		f.must(err)
		all, more = append(all, o.Notifications...), o.More
	}
	return all
}

// An administrator notifies a user by name where a grant allows it, and one device of hers if that is named.
func TestNotifyUser(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	until := f.clock.Now().Add(time.Hour)
	_, err := f.hub.Allow(presence.Grant{Email: ann, App: "chat", Notify: true, Until: &until}, presence.ByUser)
	f.must(err)
	phone, desk := f.attach(ann, "phone"), f.attach(ann, "desk")
	m := presence.Message{Message: "hello", TTL: -1}
	d, err := f.hub.NotifyUser("chat", ann, "desk", m)
	f.must(err)
	f.must(d.Wait())
	expectMail(t, f, phone)
	expectMail(t, f, desk, "hello")
	for _, c := range []struct {
		app, email, device string
		want               error
	}{
		{"mail", ann, "", presence.ErrNoApp}, {"chat", "bob@example.org", "", presence.ErrNoGrant}, {"chat", ann, "a b", presence.ErrBadValue},
	} {
		if _, err := f.hub.NotifyUser(c.app, c.email, c.device, m); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	f.clock.add(time.Hour)
	if _, err := f.hub.NotifyUser("chat", ann, "", m); !errors.Is(err, presence.ErrNoGrant) {
		t.Errorf("when the grant has ended, and nobody noticed yet: %v", err)
	}
}

// A grant that has ended by its time is over, whether somebody noticed yet or not: who allows the app again allows a
// stranger, to whom the old address says nothing.
func TestAllowedAgainBehindItsEnd(t *testing.T) {
	for _, noticed := range []bool{true, false} {
		t.Run(fmt.Sprint("noticed ", noticed), func(t *testing.T) {
			f := newFixture(t)
			defer f.close()
			f.app("chat")
			until := f.clock.Now().Add(time.Hour)
			old, err := f.hub.Allow(presence.Grant{Email: ann, App: "chat", Notify: true, Until: &until}, presence.ByUser)
			f.must(err)
			f.online(ann, "phone")
			chat := f.link("chat")
			before := tagsOf(t, chat, 1)[0]
			f.clock.add(time.Hour)
			if noticed {
				f.hub.Advance(f.clock.Now())
			}
			again, err := f.hub.Allow(presence.Grant{Email: ann, App: "chat", Notify: true}, presence.ByUser)
			f.must(err)
			if again.PUID == old.PUID {
				t.Error("the address is the same")
			}
			for _, u := range take(chat) {
				if u.Kind == presence.Presence && (u.Local == old.PUID) != (u.Tag == before) {
					t.Errorf("the device is %s/%s, was %s/%s", u.Local, u.Tag, old.PUID, before)
				}
			}
			if _, err := chat.Notify(presence.Peer{PUID: old.PUID}, presence.Message{Message: "x", TTL: -1}); !errors.Is(err, presence.ErrStranger) {
				t.Errorf("to the old address: %v", err)
			}
		})
	}
}

// A device that is back and says nothing yet holds what it said until the linger is over; the credential that ends
// before that ends the session at its own time.
func TestCredentialEndsWithinTheLinger(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.online(ann, "phone").Close()
	s, err := f.hub.Attach(presence.Attach{Email: ann, Device: "phone", Expires: f.clock.Now().Add(linger / 2), Ready: f.ready})
	f.must(err)
	f.pass(linger/2 - time.Millisecond)
	if s.Ended() != presence.Alive {
		t.Errorf("before: %v", s.Ended())
	}
	f.pass(time.Millisecond)
	if s.Ended() != presence.EndExpired {
		t.Errorf("at the end: %v", s.Ended())
	}
}
