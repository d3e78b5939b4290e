package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"presenced/presence"
)

// childEnv makes the test binary play a second process instead of running tests.
const childEnv = "STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childEnv) {
	case "hold":
		childHold(os.Args[1])
	case "load":
		childLoad(os.Args[1])
	default:
		goleak.VerifyTestMain(m)
	}
}

// clock is a time that only tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time // guarded by mu
}

func newClock() *clock { return &clock{t: time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// bed is a store with a clock, and the way to open it again.
type bed struct {
	*Store
	t     testing.TB
	clock *clock
	o     Options
}

func newBed(t testing.TB, o Options) *bed {
	t.Helper()
	b := &bed{t: t, clock: newClock(), o: o}
	b.o.Now = b.clock.now
	b.open(filepath.Join(t.TempDir(), "presenced.db"))
	t.Cleanup(func() {
		if err := b.CheckConsistency(); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bed) open(path string) {
	b.t.Helper()
	s, err := Open(path, b.o)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Store = s
}

func (b *bed) reopen() {
	b.t.Helper()
	b.must(b.CheckConsistency())
	b.must(b.Close())
	b.open(b.path)
	b.must(b.CheckConsistency())
}

func (b *bed) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// note is a notification that lives for an hour.
func (b *bed) note(email, app, text string) *presence.Notification {
	now := b.clock.now()
	return &presence.Notification{Email: email, App: app, Message: text, Time: now, Expires: now.Add(time.Hour)}
}

// put enqueues and waits.
func (b *bed) put(ns ...*presence.Notification) {
	b.t.Helper()
	for _, n := range ns {
		b.must(b.Enqueue(n).Wait())
	}
}

// texts returns what waits for the device, as words.
func (b *bed) texts(email, device string) string {
	b.t.Helper()
	ns, err := b.Pending(email, device, 0, 1000)
	b.must(err)
	var words []string
	for _, n := range ns {
		words = append(words, n.Message)
	}
	return strings.Join(words, " ")
}

func (b *bed) wantTexts(email, device, want string) {
	b.t.Helper()
	if got := b.texts(email, device); got != want {
		b.t.Errorf("waiting for %s on %q: %q, want %q", email, device, got, want)
	}
}

// together runs f while the committer is held, so that all it hands in becomes one group.
func (b *bed) together(f func()) {
	b.writing.Lock()
	defer b.writing.Unlock()
	f()
}

func (b *bed) wantErr(err, want error, text string) {
	b.t.Helper()
	if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), text) {
		b.t.Errorf("error %v, want %v with %q", err, want, text)
	}
}
