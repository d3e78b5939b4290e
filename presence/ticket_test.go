package presence_test

import (
	"errors"
	"testing"
	"time"

	"presenced/presence"
)

const ann = "ann@example.org"

// comeBack attaches ann's device by a ticket.
func (f *fixture) comeBack(device, ticket string) (*presence.Session, error) {
	return f.hub.Attach(presence.Attach{Email: ann, Device: device, Ticket: ticket, Ready: f.ready})
}

// signIn attaches ann's device with a credential and puts it online.
func (f *fixture) signIn(device, credential string, lasts time.Duration) *presence.Session {
	f.t.Helper()
	s, err := f.hub.Attach(presence.Attach{Email: ann, Device: device, Credential: credential, Expires: f.clock.Now().Add(lasts), Ready: f.ready})
	f.must(err)
	f.must(s.Publish(presence.Online, time.Time{}))
	return s
}

// A device that changes networks comes back by its ticket, before or after we know that it has gone, as often as it
// has to; the apps notice nothing.
func TestTicket(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow(ann, "chat")
	chat := f.link("chat")
	first := f.signIn("phone", "secret", time.Hour)
	expect(t, chat, "online "+f.puid(ann, "chat"))
	ticket := first.Ticket()
	second, err := f.comeBack("phone", ticket)
	f.must(err)
	if first.Ended() != presence.EndReplaced || second.Ticket() != ticket || first.Ticket() != ticket {
		t.Errorf("the older session: %v; tickets %s, %s, want %s", first.Ended(), first.Ticket(), second.Ticket(), ticket)
	}
	first.Close()
	second.Close()
	f.pass(linger - time.Millisecond)
	third, err := f.comeBack("phone", ticket)
	f.must(err)
	f.must(third.Publish(presence.Online, time.Time{}))
	f.pass(10 * linger)
	expect(t, chat)
	third.Close()
	f.pass(linger)
	expect(t, chat, "offline "+f.puid(ann, "chat"))
	if _, err := f.comeBack("phone", ticket); !errors.Is(err, presence.ErrTicket) {
		t.Errorf("after the linger time: %v", err)
	}
}

// What ends a session for good ends its ticket, whether the connection is there or has just been lost.
func TestTicketEnds(t *testing.T) {
	for name, end := range map[string]func(*fixture){
		"revoked":  func(f *fixture) { f.hub.EndCredential(ann, "secret") },
		"kicked":   func(f *fixture) { f.hub.Kick(ann, "phone") },
		"all":      func(f *fixture) { f.hub.Kick(ann, "") },
		"removed":  func(f *fixture) { f.must(f.hub.RemoveUser(ann, presence.ByAdmin)) },
		"disabled": func(f *fixture) { f.must(f.hub.SetDisabled(ann, true, presence.ByAdmin)) },
		"disabled and enabled": func(f *fixture) {
			f.must(f.hub.SetDisabled(ann, true, presence.ByAdmin))
			f.must(f.hub.SetDisabled(ann, false, presence.ByAdmin))
		},
		"expired":         func(f *fixture) { f.clock.add(time.Hour) },
		"signed in again": func(f *fixture) { f.signIn("phone", "other", time.Hour).Close() },
	} {
		for _, lost := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				f := newFixture(t)
				defer f.close()
				f.must(f.store.PutUser(presence.User{Email: ann}))
				s := f.signIn("phone", "secret", time.Hour)
				ticket := s.Ticket()
				if lost {
					s.Close()
				}
				end(f)
				s.Close()
				if _, err := f.comeBack("phone", ticket); !errors.Is(err, presence.ErrTicket) {
					t.Errorf("lost %v: %v", lost, err)
				}
			})
		}
	}
}

// A ticket is good for one device, and nothing is one by chance.
func TestTicketIsForOneDevice(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	phone, desk := f.signIn("phone", "secret", time.Hour), f.signIn("desk", "secret", time.Hour)
	ticket := phone.Ticket()
	nothing := "aaaaaaaaaaaaaaaaaaaaaaaaaa" // as from a session without one
	for _, c := range []struct{ device, ticket string }{
		{"desk", ticket}, {"other", ticket}, {"desk", nothing}, {"phone", nothing}, {"phone", ticket[:25]}, {"phone", ticket + "a"},
	} {
		if _, err := f.comeBack(c.device, c.ticket); !errors.Is(err, presence.ErrTicket) {
			t.Errorf("%s by %s: %v", c.device, c.ticket, err)
		}
	}
	if phone.Ended() != presence.Alive || desk.Ended() != presence.Alive {
		t.Error("a session was ended by a ticket that is not good")
	}
	if again, err := f.comeBack("phone", ticket); err != nil || again.Device() != "phone" {
		t.Errorf("the right one: %v", err)
	}
}

// The session that came by a ticket ends with the credential of the first.
func TestTicketKeepsTheCredential(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	s := f.signIn("phone", "secret", time.Hour)
	second, err := f.comeBack("phone", s.Ticket())
	f.must(err)
	f.pass(time.Hour)
	if second.Ended() != presence.EndExpired {
		t.Errorf("when the first one's credential expires: %v", second.Ended())
	}
	s = f.signIn("phone", "secret", time.Hour)
	second, err = f.comeBack("phone", s.Ticket())
	f.must(err)
	if f.hub.EndCredential(ann, "secret"); second.Ended() != presence.EndExpired {
		t.Errorf("when it is revoked: %v", second.Ended())
	}
}

func (f *fixture) puid(email, app string) string {
	f.t.Helper()
	g, ok, err := f.store.Grant(email, app)
	f.must(err)
	if !ok {
		f.t.Fatal("no grant")
	}
	return g.PUID
}
