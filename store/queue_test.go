package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

const ann, bob = "ann@example.org", "bob@example.org"

func TestNotificationWaitsAndIsConfirmed(t *testing.T) {
	b := newBed(t, Options{})
	n := &presence.Notification{
		Email: ann, Device: "phone", App: "chat", PUID: "p1", Ref: "r1", From: "bob@chat.example.org", Receipt: true,
		Source: "bob", Message: "héllo <&> \x00", Action: "https://example.org", Data: []byte(`{"a":[1,2]}`), High: true,
		Collapse: "k", Time: b.clock.now(), Expires: b.clock.now().Add(time.Hour),
	}
	b.put(n)
	for range 2 {
		got, err := b.Pending(ann, "phone", 0, 10)
		b.must(err)
		if want := []presence.Notification{*n}; !reflect.DeepEqual(got, want) {
			t.Fatalf("pending %+v, want %+v", got, want)
		}
		b.reopen()
	}
	c := b.Confirm(ann, "phone", []uint64{n.Seq, n.Seq, n.Seq + 7})
	b.must(c.Wait())
	want := presence.Notification{Seq: n.Seq, Email: ann, App: "chat", PUID: "p1", Ref: "r1", From: "bob@chat.example.org", Receipt: true}
	if len(c.Removed) != 1 || !reflect.DeepEqual(c.Removed[0], want) {
		t.Errorf("removed %+v, want %+v", c.Removed, want)
	}
	b.wantTexts(ann, "phone", "")
	b.reopen()
	b.wantTexts(ann, "phone", "")
	n2 := b.note(ann, "chat", "next")
	b.put(n2)
	if n2.Seq <= n.Seq {
		t.Errorf("number %d was given after %d although the queue was empty at the restart", n2.Seq, n.Seq)
	}
}

func TestEmptyDataStaysApartFromNone(t *testing.T) {
	b := newBed(t, Options{})
	none, empty := b.note(ann, "chat", "none"), b.note(ann, "chat", "empty")
	empty.Data = []byte{}
	b.put(none, empty)
	got, err := b.Pending(ann, "", 0, 10)
	b.must(err)
	if got[0].Data != nil || got[1].Data == nil {
		t.Errorf("data %v and %v, want nil and empty", got[0].Data, got[1].Data)
	}
}

func TestPendingIsForTheDeviceInOrderAndBounded(t *testing.T) {
	b := newBed(t, Options{})
	for i, device := range []string{"", "phone", "desk", "", "phone"} {
		n := b.note(ann, "chat", fmt.Sprint(i))
		n.Device = device
		b.put(n)
	}
	b.put(b.note(bob, "chat", "bob's"))
	b.wantTexts(ann, "phone", "0 1 3 4")
	b.wantTexts(ann, "desk", "0 2 3")
	b.wantTexts(ann, "other", "0 3")
	b.wantTexts(ann, "", "0 1 2 3 4")
	b.wantTexts("nobody@example.org", "", "")
	all, err := b.Pending(ann, "phone", 0, 2)
	b.must(err)
	rest, err := b.Pending(ann, "phone", all[1].Seq, 100)
	b.must(err)
	if len(all) != 2 || all[1].Message != "1" || len(rest) != 2 || rest[0].Message != "3" {
		t.Errorf("in two parts: %v, then %v", all, rest)
	}
}

// TestPendingGoesOnBehindWhatIsGone plays the moment in which a record is deleted and still in the index.
func TestPendingGoesOnBehindWhatIsGone(t *testing.T) {
	b := newBed(t, Options{})
	for i := range 6 {
		b.put(b.note(ann, "chat", fmt.Sprint(i)))
	}
	all, err := b.Pending(ann, "", 0, 10)
	b.must(err)
	b.together(func() {
		gone := map[uint64][]byte{}
		b.must(b.db.Update(func(tx *bbolt.Tx) error {
			for _, n := range []presence.Notification{all[0], all[2]} {
				gone[n.Seq] = bytes.Clone(inQueue.of(tx).Get(be64(n.Seq)))
				b.must(inQueue.of(tx).Delete(be64(n.Seq)))
			}
			return nil
		}))
		got, err := b.Pending(ann, "", 0, 3)
		b.must(err)
		if want := []presence.Notification{all[1], all[3], all[4]}; !reflect.DeepEqual(got, want) {
			t.Errorf("pending %v, want %v", seqsOf(got), seqsOf(want))
		}
		b.must(b.db.Update(func(tx *bbolt.Tx) error {
			for seq, v := range gone {
				b.must(inQueue.of(tx).Put(be64(seq), v))
			}
			return nil
		}))
	})
}

func TestConfirmOnlyOnesOwn(t *testing.T) {
	b := newBed(t, Options{})
	forDesk, forAnyone, bobs := b.note(ann, "chat", "desk"), b.note(ann, "chat", "any"), b.note(bob, "chat", "bob")
	forDesk.Device = "desk"
	b.put(forDesk, forAnyone, bobs)
	c := b.Confirm(ann, "phone", []uint64{bobs.Seq, forAnyone.Seq, forDesk.Seq, 999, 0})
	b.must(c.Wait())
	if len(c.Removed) != 1 || c.Removed[0].Seq != forAnyone.Seq {
		t.Errorf("removed %+v", c.Removed)
	}
	b.wantTexts(ann, "", "desk")
	b.wantTexts(bob, "", "bob")
	b.must(b.Confirm(ann, "phone", nil).Wait())
}

func TestOfTwoConfirmsOneCounts(t *testing.T) {
	b := newBed(t, Options{})
	n := b.note(ann, "chat", "x")
	b.put(n)
	var c1, c2 *presence.Confirmation
	b.together(func() {
		c1 = b.Confirm(ann, "phone", []uint64{n.Seq})
		c2 = b.Confirm(ann, "desk", []uint64{n.Seq})
	})
	b.must(c1.Wait())
	b.must(c2.Wait())
	if len(c1.Removed) != 1 || len(c2.Removed) != 0 {
		t.Errorf("removed %v and %v, want the first alone", c1.Removed, c2.Removed)
	}
}

func TestOldestGoesWhenFullAndIsCounted(t *testing.T) {
	b := newBed(t, Options{Limits: presence.Limits{QueuePerApp: 3}})
	for i := range 5 {
		b.put(b.note(ann, "chat", fmt.Sprint(i)))
	}
	b.put(b.note(ann, "mail", "m"))
	b.wantTexts(ann, "", "2 3 4 m")
	b.reopen()
	if !b.HasDropped(ann) || b.HasDropped(bob) {
		t.Error("who has dropped ones is not known after a restart")
	}
	ds, err := b.Dropped(ann)
	b.must(err)
	if want := []presence.Dropped{{App: "chat", Count: 2}}; !slices.Equal(ds, want) {
		t.Errorf("dropped %v, want %v", ds, want)
	}
	b.put(b.note(ann, "chat", "more"))
	b.must(b.ForgetDropped(ann, ds).Wait()) // what has come since is not forgotten
	b.must(b.ForgetDropped(ann, ds).Wait()) // nor when another device was told as well
	b.reopen()
	ds, err = b.Dropped(ann)
	b.must(err)
	if want := []presence.Dropped{{App: "chat", Count: 1}}; !slices.Equal(ds, want) {
		t.Errorf("dropped %v, want %v", ds, want)
	}
	b.must(b.ForgetDropped(ann, ds).Wait())
	if b.HasDropped(ann) {
		t.Error("what was told is not forgotten")
	}
	b.reopen()
	if ds, err := b.Dropped(ann); err != nil || ds != nil || b.HasDropped(ann) {
		t.Errorf("dropped again: %v, %v", ds, err)
	}
}

func TestCollapseReplacesAndKeysAreBounded(t *testing.T) {
	b := newBed(t, Options{Limits: presence.Limits{CollapseKeys: 2}})
	keyed := func(app, key, text string) {
		n := b.note(ann, app, text)
		n.Collapse = key
		b.put(n)
	}
	keyed("chat", "a", "a1")
	b.put(b.note(ann, "chat", "plain"))
	keyed("chat", "b", "b1")
	keyed("mail", "a", "mail-a")
	keyed("chat", "a", "a2")
	b.wantTexts(ann, "", "plain b1 mail-a a2")
	b.reopen()
	keyed("chat", "c", "c1")
	b.wantTexts(ann, "", "plain mail-a a2 c1")
	if b.HasDropped(ann) {
		t.Error("what a collapse key took away was counted as dropped")
	}
}

// One key for two devices is two notifications: neither device loses its own to the other. They are one key all the
// same, and what makes room for a fifth key takes all of the oldest.
func TestCollapseIsForOneDevice(t *testing.T) {
	b := newBed(t, Options{Limits: presence.Limits{CollapseKeys: 2}})
	keyed := func(device, key, text string) {
		n := b.note(ann, "chat", text)
		n.Device, n.Collapse = device, key
		b.put(n)
	}
	keyed("phone", "a", "phone-a1")
	keyed("desk", "a", "desk-a1")
	keyed("", "a", "all-a1")
	b.wantTexts(ann, "phone", "phone-a1 all-a1")
	b.reopen()
	keyed("phone", "a", "phone-a2")
	keyed("", "a", "all-a2")
	b.wantTexts(ann, "phone", "phone-a2 all-a2")
	b.wantTexts(ann, "desk", "desk-a1 all-a2")
	keyed("desk", "b", "desk-b1")
	b.wantTexts(ann, "", "desk-a1 phone-a2 all-a2 desk-b1")
	keyed("phone", "c", "phone-c1")
	b.wantTexts(ann, "", "desk-b1 phone-c1")
	b.must(b.CheckConsistency())
}

func TestExpiredIsNeitherDeliveredNorCountedNorInTheWay(t *testing.T) {
	b := newBed(t, Options{Limits: presence.Limits{QueuePerApp: 2, CollapseKeys: 1}})
	short := func(text string) *presence.Notification {
		n := b.note(ann, "chat", text)
		n.Expires = b.clock.now().Add(time.Second)
		return n
	}
	keyed := short("k")
	keyed.Collapse = "k"
	late := short("late")
	late.Expires = b.clock.now()
	b.put(short("s"), keyed, late)
	b.wantTexts(ann, "", "s k")
	b.clock.advance(time.Second)
	b.wantTexts(ann, "", "")
	if w, _ := b.Waiting(ann); len(w) != 0 || b.Stats().Waiting != 0 {
		t.Errorf("waiting %v, %d, although all is expired", w, b.Stats().Waiting)
	}
	other := b.note(ann, "chat", "2")
	other.Collapse = "other"
	b.put(b.note(ann, "chat", "1"), other)
	b.wantTexts(ann, "", "1 2")
	if b.HasDropped(ann) {
		t.Error("an expired one was counted as dropped")
	}
}

func TestSweepDeletesInSlices(t *testing.T) {
	b := newBed(t, Options{Limits: presence.Limits{QueuePerApp: 10_000}})
	var last *presence.Commit
	for i := range 2500 {
		n := b.note(fmt.Sprintf("u%d@example.org", i%700), "chat", "x")
		if i%5 == 0 {
			n.Expires = n.Time.Add(48 * time.Hour)
		}
		last = b.Enqueue(n)
	}
	b.must(last.Wait())
	sweep := func(max, want int) {
		t.Helper()
		before := b.Stats().Commits
		n, err := b.Sweep(b.clock.now(), max)
		b.must(err)
		commits := b.Stats().Commits - before
		if n != want || int(commits) != (want+slice-1)/slice {
			t.Errorf("swept %d in %d commits, want %d", n, commits, want)
		}
		b.must(b.CheckConsistency())
	}
	sweep(10_000, 0)
	b.clock.advance(24 * time.Hour)
	sweep(700, 700)
	sweep(10_000, 1300)
	sweep(10_000, 0)
	if st := b.Stats(); st.Waiting != 500 || st.Expired != 2000 {
		t.Errorf("waiting %d, expired %d; want 500, 2000", st.Waiting, st.Expired)
	}
}

func TestPurgeTakesEffectAtOnceAndForGood(t *testing.T) {
	b := newBed(t, Options{Limits: presence.Limits{QueuePerApp: 10_000}})
	var last *presence.Commit
	for i := range 2500 {
		b.Enqueue(b.note(ann, "chat", fmt.Sprint(i)))
		last = b.Enqueue(b.note(bob, "chat", fmt.Sprint(i)))
	}
	b.put(b.note(ann, "mail", "mail"))
	b.must(last.Wait())

	// The purge shares its commit with what comes before and after it.
	var done, after *presence.Commit
	b.together(func() {
		b.Enqueue(b.note(ann, "chat", "before"))
		done = b.Purge(ann, "chat")
		after = b.Enqueue(b.note(ann, "chat", "after"))
	})
	b.must(done.Wait())
	b.must(after.Wait())
	b.wantTexts(ann, "", "mail after")
	b.must(b.CheckConsistency())

	// Stopping now leaves records behind the mark; they must not come back.
	b.reopen()
	b.wantTexts(ann, "", "mail after")
	b.must(b.Purge(ann, "").Wait())
	b.wantTexts(ann, "", "")
	b.settle()
	b.put(b.note(ann, "chat", "new"))
	b.reopen()
	b.wantTexts(ann, "", "new")
	if w, _ := b.Waiting(bob); w["chat"] != 2500 {
		t.Errorf("bob has %d waiting, want 2500", w["chat"])
	}
}

// settle waits until the committer has deleted all garbage.
func (b *bed) settle() {
	for {
		b.writing.Lock()
		n := len(b.garbage)
		b.writing.Unlock()
		if n == 0 {
			return
		}
		runtime.Gosched()
	}
}

func TestGarbageIsDeletedWithoutHelp(t *testing.T) {
	b := newBed(t, Options{Limits: presence.Limits{QueuePerApp: 10_000}})
	var last *presence.Commit
	for range 3 * slice {
		last = b.Enqueue(b.note(ann, "chat", "x"))
	}
	b.must(last.Wait())
	b.must(b.Purge(ann, "chat").Wait())
	b.settle()
	n, marks := 0, 0
	b.must(b.view(func(tx *bbolt.Tx) error {
		n, marks = inQueue.of(tx).Inspect().KeyN, inPurged.of(tx).Inspect().KeyN
		return nil
	}))
	if n != 0 || marks != 0 {
		t.Errorf("%d records and %d marks are left", n, marks)
	}
}

func TestWhereNothingWaitsTheDiskIsLeftAlone(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.db.Close()) // from here every access to the disk fails
	for name, err := range map[string]error{
		"pending": second(b.Pending(ann, "phone", 0, 10)),
		"waiting": second(b.Waiting(ann)),
		"dropped": second(b.Dropped(ann)),
		"sweep":   second(b.Sweep(b.clock.now(), 10)),
	} {
		if err != nil {
			t.Errorf("%s went to the disk: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestManyCallersAtOnce(t *testing.T) {
	b := newBed(t, Options{Backlog: 8, Limits: presence.Limits{QueuePerApp: 10_000}})
	var accepted, removed atomic.Int64
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			email := fmt.Sprintf("u%d@example.org", w%4)
			for i := range 50 {
				if err := b.Enqueue(b.note(email, "chat", "x")).Wait(); err != nil {
					t.Error(err)
				}
				accepted.Add(1)
				if i%10 != 0 {
					continue
				}
				ns, err := b.Pending(email, "phone", 0, 20)
				if err != nil {
					t.Error(err)
				}
				c := b.Confirm(email, "phone", seqsOf(ns))
				if err := c.Wait(); err != nil {
					t.Error(err)
				}
				removed.Add(int64(len(c.Removed)))
			}
		})
	}
	wg.Wait()
	b.reopen()
	if got, want := int64(b.Stats().Waiting), accepted.Load()-removed.Load(); got != want {
		t.Errorf("%d wait, want %d accepted - %d confirmed = %d", got, accepted.Load(), removed.Load(), want)
	}
}

func seqsOf(ns []presence.Notification) []uint64 {
	var seqs []uint64
	for i := range ns {
		seqs = append(seqs, ns[i].Seq)
	}
	return seqs
}

func TestFullBacklogHoldsCallersAndCloseLetsThemGo(t *testing.T) {
	const max, callers = 4, 12
	b := newBed(t, Options{Backlog: max})
	var handed atomic.Int64
	results := make(chan error, callers)
	b.writing.Lock()
	first := b.Enqueue(b.note(ann, "chat", "first"))
	b.spin(0) // the committer took it and waits for the lock
	for range callers {
		go func() {
			c := b.Enqueue(b.note(ann, "chat", "x"))
			handed.Add(1)
			results <- c.Wait()
		}()
	}
	b.spin(max)
	closing := make(chan error)
	go func() { closing <- b.Close() }()
	var refused, written int
	for refused < callers-max { // those without a place are let go before anything is written
		if err := <-results; !errors.Is(err, ErrClosed) {
			t.Fatalf("a caller without a place got %v", err)
		}
		refused++
	}
	b.writing.Unlock()
	b.must(first.Wait())
	for written < max {
		b.must(<-results)
		written++
	}
	b.must(<-closing)
	b.open(b.path)
	if got := b.Stats().Waiting; got != 1+max {
		t.Errorf("%d wait after Close, want the %d that were handed in", got, 1+max)
	}
}

// spin waits until the backlog is n long.
func (b *bed) spin(n int) {
	for {
		b.committer.mu.Lock()
		l := len(b.committer.backlog)
		b.committer.mu.Unlock()
		if l > b.committer.max {
			b.t.Fatalf("backlog is %d long", l)
		}
		if l == n {
			return
		}
		runtime.Gosched()
	}
}

func TestAfterCloseAllFails(t *testing.T) {
	b := newBed(t, Options{})
	n := b.note(ann, "chat", "x")
	b.put(n)
	b.must(b.Close())
	for name, err := range map[string]error{
		"enqueue": b.Enqueue(b.note(ann, "chat", "x")).Wait(),
		"confirm": b.Confirm(ann, "", []uint64{n.Seq}).Wait(),
		"purge":   b.Purge(ann, "").Wait(),
		"pending": second(b.Pending(ann, "", 0, 1)),
		"device":  b.PutDevice(ann, presence.DeviceRecord{ID: "phone"}).Wait(),
		"app":     b.PutApp(presence.App{ID: "a", Component: "a"}),
		"grants":  second(b.GrantsOf(ann)),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v", name, err)
		}
	}
	b.must(b.Close())
}

func TestOneGroupOneCommit(t *testing.T) {
	b := newBed(t, Options{})
	before := b.Stats().Commits
	commits := map[*presence.Commit]bool{}
	b.together(func() {
		b.Enqueue(b.note(ann, "chat", "first")) // may be taken alone
		for i := range 100 {
			commits[b.Enqueue(b.note(ann, "chat", fmt.Sprint(i)))] = true
		}
	})
	for c := range maps.Keys(commits) {
		b.must(c.Wait())
	}
	if n := b.Stats().Commits - before; n > 2 || len(commits) > 2 {
		t.Errorf("%d commits on disk, %d handed out, for 100 that came together", n, len(commits))
	}
}

func TestIndexUsesItsSlotsAgain(t *testing.T) {
	l := newLists()
	user := userKey{1, 2}
	for seq := uint64(1); seq <= 10_000; seq++ {
		l.push(user, entry{seq: seq})
		if seq > 5 {
			l.remove(user, seq-5)
		}
	}
	if l.used > 6 || l.live != 5 || len(l.chunks) != 1 {
		t.Errorf("%d slots in %d chunks for %d entries", l.used, len(l.chunks), l.live)
	}
	for seq := range uint64(2 * peak) {
		l.push(user, entry{seq: 20_000 + seq})
	}
	for seq := range uint64(20_000 + 2*peak) {
		l.remove(user, seq)
	}
	if l.live != 0 || len(l.chunks) != 0 || len(l.users) != 0 {
		t.Errorf("after a peak %d entries, %d chunks, %d users are left", l.live, len(l.chunks), len(l.users))
	}
}

// While very much that has expired is swept, who enqueues one after the other goes on: each waits for a slice or two of
// it, not for all.
func TestSweepStopsNobody(t *testing.T) {
	const slices = 40
	b := newBed(t, Options{})
	expire(b.Store, b.clock.now(), slices*slice, b.must)
	b.clock.advance(time.Hour)
	swept := make(chan error, 1)
	go func() {
		n, err := b.Sweep(b.clock.now(), 1<<30)
		if err == nil && n != slices*slice {
			err = fmt.Errorf("swept %d", n)
		}
		swept <- err
	}()
	passed := 0
	for sweeping := true; sweeping; passed++ {
		b.must(b.Enqueue(b.note(ann, "chat", "x")).Wait())
		select {
		case err := <-swept:
			b.must(err)
			sweeping = false
		default:
		}
	}
	if passed < slices/4 {
		t.Errorf("%d were accepted while %d slices were swept", passed, slices)
	}
	b.must(b.CheckConsistency())
}

// expire enqueues n that last for a second.
func expire(s *Store, now time.Time, n int, must func(error)) {
	var last *presence.Commit
	for i := range n {
		last = s.Enqueue(&presence.Notification{Email: fmt.Sprintf("u%d@example.org", i), App: "chat", Message: "x", Time: now, Expires: now.Add(time.Second)})
	}
	must(last.Wait())
}
