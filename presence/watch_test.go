package presence_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"presenced/presence"
)

// watched is what a watch has, in short words: "status phone online", "grant chat pause user".
func watched(w *presence.Watch) (words []string) {
	buf := make([]presence.Event, 5)
	for n, _ := w.Take(buf); n > 0; n, _ = w.Take(buf) {
		for _, e := range buf[:n] {
			s := fmt.Sprint(e.Kind, " ", e.App, " ", e.Device, " ", e.Detail, " ", e.By)
			if e.Kind == presence.DeviceStatus {
				s = fmt.Sprint(e.Kind, " ", e.Device, " ", e.Status)
			}
			words = append(words, strings.Join(strings.Fields(s), " "))
		}
	}
	return words
}

func expectSeen(t *testing.T, w *presence.Watch, want ...string) {
	t.Helper()
	if got := watched(w); !slices.Equal(got, want) {
		t.Errorf("seen:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func TestWatchShowsWhatHappens(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	all, ann, bob := f.hub.Watch(""), f.hub.Watch("ann@example.org"), f.hub.Watch("bob@example.org")
	f.must(f.store.PutUser(presence.User{Email: "ann@example.org"}))
	chat := f.link("chat")
	f.must(chat.Subscribe(presence.Peer{Email: "ann@example.org"}, "chat.example", "to chat"))
	f.must(f.hub.Answer(presence.Answer{Email: "ann@example.org", App: "chat"}, presence.ByUser))
	f.must(chat.Subscribe(presence.Peer{Email: "ann@example.org"}, "chat.example", ""))
	f.must(f.hub.Answer(presence.Answer{Email: "ann@example.org", App: "chat", Allow: true}, presence.ByUser))
	phone := f.online("ann@example.org", "phone")
	f.must(phone.Publish(presence.Online, time.Time{})) // nothing new
	f.must(phone.Publish(presence.Unavailable, time.Time{}))
	peer := presence.Peer{Email: "ann@example.org"}
	d, err := chat.Notify(peer, presence.Message{Ref: "r1", TTL: -1})
	f.must(err)
	f.must(d.Wait())
	<-ann.Wake()
	phone.Confirm([]uint64{expectMail(t, f, phone, "")[0].Seq})
	waitFor(t, ann, "delivered chat phone r1 user", // the receipts' own goroutine tells it
		"requested chat to chat app", "answered chat deny user", "requested chat app",
		"answered chat allow user", "grant chat allow user",
		"status phone online", "status phone unavailable", "notified chat r1 app")
	d, err = chat.Notify(peer, presence.Message{Ref: "r2"})
	f.must(err)
	f.must(d.Wait())
	f.must(f.hub.Pause("ann@example.org", "chat", f.clock.Now().Add(time.Minute), presence.ByUser))
	f.pass(time.Minute)
	f.must(f.hub.SetInvisible("ann@example.org", true, time.Time{}, presence.ByUser))
	f.must(f.hub.SetInvisible("ann@example.org", false, time.Time{}, presence.ByUser))
	if _, err := chat.Notify(peer, presence.Message{Ref: "r3", Message: strings.Repeat("x", 5000)}); err == nil {
		t.Error("accepted")
	}
	phone.Close()
	f.pass(linger)
	f.must(f.hub.Revoke("ann@example.org", "chat", presence.ByAdmin))
	if _, err := chat.Notify(peer, presence.Message{Ref: "r4"}); err == nil {
		t.Error("accepted")
	}
	f.must(f.hub.SetDisabled("ann@example.org", true, presence.ByAdmin))
	f.must(f.hub.RemoveUser("ann@example.org", presence.ByAdmin))
	rest := []string{"notified chat r2 app", "grant chat pause user", "grant chat shown system",
		"user invisible user", "user visible user", "refused chat too large app", "gone phone",
		"grant chat revoke admin", "user disabled admin", "user removed admin"}
	expectSeen(t, ann, rest...)
	chat.Close()
	expectSeen(t, bob)
	everything := watched(all)
	for _, want := range slices.Concat(rest, []string{"linked chat", "refused chat no such user app", "unlinked chat closed"}) {
		if !slices.Contains(everything, want) {
			t.Errorf("the watch of everything has no %q: %q", want, everything)
		}
	}
}

// waitFor waits until the watch has shown last, behind want.
func waitFor(t *testing.T, w *presence.Watch, last string, want ...string) {
	t.Helper()
	var got []string
	for !slices.Contains(got, last) {
		if got = append(got, watched(w)...); !slices.Contains(got, last) {
			<-w.Wake()
		}
	}
	if want = append(want, last); !slices.Equal(got, want) {
		t.Errorf("seen:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// A watcher that does not look loses the oldest and is told how many; nobody waits for it.
func TestWatchLosesWhatNobodyTakes(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	phone := f.attach("ann@example.org", "phone")
	ann, all := f.hub.Watch("ann@example.org"), f.hub.Watch("")
	say := func(times int) {
		for i := range times {
			f.must(phone.Publish([2]presence.Status{presence.Online, presence.Unavailable}[i%2], time.Time{}))
		}
	}
	say(1000)
	buf := make([]presence.Event, 10_000)
	if n, lost := ann.Take(buf); n != 256 || lost != 744 || buf[0].Status != presence.Online || buf[255].Status != presence.Unavailable {
		t.Errorf("took %d, lost %d, from %v to %v", n, lost, buf[0].Status, buf[255].Status)
	}
	if n, lost := all.Take(buf); n != 1000 || lost != 0 {
		t.Errorf("everything: took %d, lost %d", n, lost)
	}
	say(10)
	if n, lost := ann.Take(buf[:4]); n != 4 || lost != 0 {
		t.Errorf("took %d, lost %d", n, lost)
	}
	say(250)
	if n, lost := ann.Take(buf); n != 256 || lost != 0 {
		t.Errorf("took %d, lost %d", n, lost)
	}
	say(10)
	ann.Close()
	ann.Close()
	if n, _ := ann.Take(buf); n != 0 {
		t.Errorf("took %d after the end", n)
	}
	say(10)
	all.Close()
	if n := testing.AllocsPerRun(100, func() { say(2) }); n != 0 {
		t.Errorf("%v allocations with nobody looking", n)
	}
}

// With somebody looking a change allocates no more than without.
func TestWatchAllocatesNothing(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	phone := f.online("ann@example.org", "phone")
	defer f.hub.Watch("ann@example.org").Close()
	defer f.hub.Watch("").Close()
	if n := testing.AllocsPerRun(10_000, func() {
		f.must(phone.Publish(presence.Unavailable, time.Time{}))
		f.must(phone.Publish(presence.Online, time.Time{}))
	}); n != 0 {
		t.Errorf("%v allocations for two changes", n)
	}
}

// Watchers come, look and go while everything happens.
func TestWatchersComeAndGo(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow("ann@example.org", "chat")
	phone := f.online("ann@example.org", "phone")
	var busy sync.WaitGroup
	for _, email := range []string{"", "ann@example.org", "bob@example.org"} {
		busy.Go(func() {
			buf := make([]presence.Event, 100)
			for range 200 {
				w := f.hub.Watch(email)
				n, _ := w.Take(buf)
				for _, e := range buf[:n] {
					if email != "" && e.Email != email {
						t.Errorf("%s sees %+v", email, e)
					}
				}
				w.Close()
			}
		})
	}
	for i := range 2000 {
		f.must(phone.Publish([2]presence.Status{presence.Online, presence.Unavailable}[i%2], time.Time{}))
		if i%100 == 0 {
			f.must(f.hub.SetPaused("ann@example.org", "chat", i%200 == 0, presence.ByUser))
		}
	}
	busy.Wait()
}
