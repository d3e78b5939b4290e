package presence_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"presenced/presence"
)

const maxUrgent = 8192 // as the line has it

// The line holds each user once and no more than so many; who does not fit in is not forgotten in silence.
func TestUrgentLineIsBounded(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	line := f.hub.Urgent()
	if !line.Lost() || line.Lost() {
		t.Error("at the start everybody has to be looked at, once")
	}
	var gs []presence.Grant
	for i := range maxUrgent + 1 {
		gs = append(gs, presence.Grant{Email: fmt.Sprintf("user%05d@example.org", i), App: "chat", PUID: fmt.Sprint("p", i), Notify: true})
	}
	f.must(f.hub.Import(gs, presence.ByAdmin))
	link := f.link("chat")
	var all []presence.Addressed
	for i := range gs {
		all = append(all, presence.Addressed{To: presence.Peer{PUID: gs[i].PUID}, Message: presence.Message{Message: "x", TTL: time.Hour, High: true}})
	}
	send := func(all []presence.Addressed) {
		t.Helper()
		d, err := link.NotifyAll(all)
		f.must(err)
		f.must(d.Wait())
	}
	send(all[:maxUrgent])
	send(all[:10])
	if line.Lost() {
		t.Error("some did not fit in")
	}
	send(all[maxUrgent:])
	if !line.Lost() || line.Lost() {
		t.Error("one too many, and it is not told once")
	}
	for i := range maxUrgent {
		if email, ok := line.Next(); !ok || email != gs[i].Email {
			t.Fatalf("%d: %q %t", i, email, ok)
		}
	}
	if email, ok := line.Next(); ok {
		t.Errorf("%q too", email)
	}
	send(all[:1])
	select {
	case <-line.Wake():
	default:
		t.Error("it does not wake")
	}
	line.Next()
	line.Close()
	send(all[:1])
	if _, ok := line.Next(); ok {
		t.Error("a closed line goes on")
	}
}

// Who misses what, and when it was there last: also of a device that is in memory only because an app has not been told
// yet that it is gone.
func TestMissed(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow("ann@example.org", "chat")
	slow := f.link("chat") // it takes nothing
	line := f.hub.Urgent()
	f.online("ann@example.org", "phone").Close()
	f.pass(linger)
	went := f.clock.Now()
	missed := func(want ...presence.Missed) {
		t.Helper()
		got, err := f.hub.Missed("ann@example.org", []string{"desk", "phone"})
		f.must(err)
		if !slices.Equal(got, want) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	missed()
	notify := func(device string, high bool, ttl time.Duration) {
		t.Helper()
		d, err := f.hub.NotifyUser("chat", "ann@example.org", device, presence.Message{Message: "x", TTL: ttl, High: high})
		f.must(err)
		f.must(d.Wait())
	}
	notify("", false, time.Hour)
	notify("", true, 0)
	missed()
	notify("phone", true, time.Hour)
	until := f.clock.Now().Add(time.Hour)
	missed(presence.Missed{Device: "phone", Until: until, Seen: went})
	notify("", true, 2*time.Hour)
	missed(presence.Missed{Device: "desk", Until: until.Add(time.Hour)}, presence.Missed{Device: "phone", Until: until.Add(time.Hour), Seen: went})
	if email, ok := line.Next(); !ok || email != "ann@example.org" {
		t.Errorf("%q %t in the line", email, ok)
	}

	f.clock.add(time.Second)
	desk := f.attach("ann@example.org", "desk") // says nothing
	missed(presence.Missed{Device: "phone", Until: until, Seen: went})
	phone := f.attach("ann@example.org", "phone")
	missed()
	desk.Close()
	phone.Close()
	back := f.clock.Now()
	missed(presence.Missed{Device: "desk", Until: until.Add(time.Hour), Seen: back}, presence.Missed{Device: "phone", Until: until.Add(time.Hour), Seen: back})
	if email, ok := line.Next(); !ok || email != "ann@example.org" {
		t.Errorf("%q %t in the line, when they have gone", email, ok)
	}
	f.pass(3 * time.Hour)
	missed()
	slow.Close()
}
