package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"presenced/presence"
	"presenced/store"
)

// openHub opens a data file in a new folder and a hub on it.
func openHub(t *testing.T, now func() time.Time) (*store.Store, *presence.Hub) {
	t.Helper()
	st, err := store.Open(filepath.Join(t.TempDir(), "presenced.db"), store.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	hub, err := presence.New(presence.Config{Store: st, Now: now, Limits: presence.DefaultLimits()})
	if err != nil {
		t.Fatal(err)
	}
	return st, hub
}

// wallClock is a clock on the wall that somebody sets.
type wallClock struct {
	mu     sync.Mutex
	offset time.Duration // guarded by mu
}

func (c *wallClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *wallClock) set(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += by
}

// A window opens and closes within a second of the moment on the wall, although the timers' clock has gone on by
// nothing: as after a sleep, and when the clock is set.
func TestWindowsFollowTheClockOnTheWall(t *testing.T) {
	clock := &wallClock{}
	st, hub := openHub(t, clock.now)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(hub.PutApp(presence.App{ID: "chat", Name: "Chat", Component: "chat.example.org", Secret: "s", APIKey: "k", Conflict: presence.Replace}))
	at := clock.now().UTC()
	clock.set(time.Date(at.Year(), at.Month(), at.Day(), 12, 30, 0, 0, time.UTC).Sub(at))
	_, err := hub.Allow(presence.Grant{Email: "ann@example.org", App: "chat", Windows: []presence.Window{{From: "15:00", To: "16:00"}}}, presence.ByUser)
	must(err)
	link, err := hub.Link("chat", presence.ComponentLink)
	must(err)
	s, err := hub.Attach(presence.Attach{Email: "ann@example.org", Device: "phone", Ready: presence.NewReady()})
	must(err)
	must(s.Publish(presence.Online, time.Time{}))
	ctx, cancel := context.WithCancel(context.Background())
	var driving sync.WaitGroup
	driving.Go(func() { drive(ctx, hub, clock.now, func(time.Time) time.Duration { return time.Hour }) })
	buf := make([]presence.Update, 4)
	for link.Take(buf) > 0 {
	}
	for _, step := range []struct {
		by   time.Duration
		want presence.Status
	}{
		{3 * time.Hour, presence.Online},    // asleep until 15:30
		{time.Hour, presence.Offline},       // 16:30
		{-time.Hour, presence.Online},       // back to 15:30
		{-time.Hour, presence.Offline},      // 14:30
		{25 * time.Hour, presence.Online},   // tomorrow 15:30
		{-30 * time.Hour, presence.Offline}, // 9:30
	} {
		clock.set(step.by)
		n := 0
		for n == 0 {
			select {
			case <-link.Wake():
			case <-time.After(patience):
				t.Fatalf("set by %v: told nothing", step.by)
			}
			n = link.Take(buf)
		}
		if n != 1 || buf[0].Status != step.want {
			t.Errorf("set by %v: told %+v, want %v", step.by, buf[:n], step.want)
		}
	}
	cancel()
	driving.Wait()
	hub.Close()
	must(st.Close())
}

func TestHistoryReachesTheStore(t *testing.T) {
	st, hub := openHub(t, time.Now)
	if err := st.PutUser(presence.User{Email: "ann@example.org"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := hub.Watch("")
	var keeping sync.WaitGroup
	keeping.Go(func() { keepHistory(ctx, w, st, slog.New(slog.DiscardHandler)) })
	s, err := hub.Attach(presence.Attach{Email: "ann@example.org", Device: "phone", Ready: presence.NewReady()})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 600 { // more than a slice
		if err := s.Publish([2]presence.Status{presence.Online, presence.Unavailable}[i%2], time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	cancel() // at once: what is left is written at the end
	keeping.Wait()
	es, err := st.ActivityOf("ann@example.org", time.Time{}, 1000)
	if err != nil || len(es) != 600 || es[0].Status != presence.Unavailable || es[0].Device != "phone" {
		t.Errorf("%d events, %v", len(es), err)
	}
	hub.Close()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// slowStore takes note of what it is given, or fails.
type slowStore struct {
	mu    sync.Mutex
	sizes []int // guarded by mu, as what follows
	fail  bool
}

// taken are the sizes until now; from here on it begins anew.
func (s *slowStore) taken(fail bool) (sizes []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sizes, s.sizes, s.fail = s.sizes, nil, fail
	return sizes
}

func (s *slowStore) AppendActivity(es []presence.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes = append(s.sizes, len(es))
	if s.fail {
		return errors.New("no")
	}
	return nil
}

// It looks once a second, writes in slices, and neither a flood nor a store that fails makes it grow.
func TestHistoryIsBounded(t *testing.T) {
	st, hub := openHub(t, time.Now)
	s, err := hub.Attach(presence.Attach{Email: "ann@example.org", Device: "phone", Ready: presence.NewReady()})
	if err != nil {
		t.Fatal(err)
	}
	say := func(times int) {
		for i := range times {
			if err := s.Publish([2]presence.Status{presence.Online, presence.Unavailable}[i%2], time.Time{}); err != nil {
				t.Error(err)
			}
		}
	}
	w := hub.Watch("")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		kept := &slowStore{}
		go keepHistory(ctx, w, kept, slog.New(slog.DiscardHandler))
		synctest.Wait()
		say(20_000) // the ring has 8192
		time.Sleep(historyEvery)
		synctest.Wait()
		if got := kept.taken(false); len(got) != historyMost || got[0] != historySlice {
			t.Errorf("in the first second: %v", got)
		}
		time.Sleep(historyEvery)
		synctest.Wait()
		if got := kept.taken(true); len(got) != historyMost {
			t.Errorf("in the second: %v", got)
		}
		say(600)
		time.Sleep(3 * historyEvery)
		synctest.Wait()
		if got, want := fmt.Sprint(kept.taken(true)), "[256 256 88]"; got != want {
			t.Errorf("a store that fails was asked %v, want %v", got, want)
		}
		cancel()
		synctest.Wait()
	})
	hub.Close()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}
