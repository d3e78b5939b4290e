package store

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"presenced/presence"
)

// model is the queue as plain Go says it, without groups and without a disk.
type model struct {
	limits  presence.Limits
	seq     uint64
	waiting []presence.Notification
	dropped map[[2]string]uint64 // by e-mail and app
}

func (m *model) enqueue(n presence.Notification, now time.Time) uint64 {
	m.seq++
	n.Seq = m.seq
	if !n.Expires.After(now) {
		return m.seq
	}
	var same []presence.Notification
	var keys []string
	replaced := uint64(0)
	for _, w := range m.waiting {
		if w.Email != n.Email || w.App != n.App || !w.Expires.After(now) {
			continue
		}
		same = append(same, w)
		if w.Collapse != "" && !slices.Contains(keys, w.Collapse) {
			keys = append(keys, w.Collapse)
		}
		if w.Collapse != "" && w.Collapse == n.Collapse && w.Device == n.Device {
			replaced = w.Seq
		}
	}
	switch {
	case replaced != 0:
		m.remove(replaced)
	case n.Collapse != "" && !slices.Contains(keys, n.Collapse) && len(keys) >= m.limits.CollapseKeys:
		for _, w := range same {
			if w.Collapse == keys[0] {
				m.remove(w.Seq)
			}
		}
	case len(same) >= m.limits.QueuePerApp:
		m.remove(same[0].Seq)
		m.dropped[[2]string{n.Email, n.App}]++
	}
	m.waiting = append(m.waiting, n)
	return m.seq
}

func (m *model) remove(seq uint64) {
	m.waiting = slices.DeleteFunc(m.waiting, func(n presence.Notification) bool { return n.Seq == seq })
}

func (m *model) pending(email, device string, after uint64, max int, now time.Time) (ns []presence.Notification) {
	for _, n := range m.waiting {
		if len(ns) < max && n.Email == email && n.Seq > after && n.Expires.After(now) &&
			(n.Device == "" || device == "" || n.Device == device) {
			ns = append(ns, n)
		}
	}
	return ns
}

// confirm returns the numbers it removed, of those that have not expired; for the others either is right.
func (m *model) confirm(email, device string, seqs []uint64, now time.Time) (removed []uint64) {
	for _, n := range slices.Clone(m.waiting) {
		if slices.Contains(seqs, n.Seq) && n.Email == email && (n.Device == "" || n.Device == device) {
			m.remove(n.Seq)
			if n.Expires.After(now) {
				removed = append(removed, n.Seq)
			}
		}
	}
	return removed
}

func (m *model) purge(email, app string) {
	m.waiting = slices.DeleteFunc(m.waiting, func(n presence.Notification) bool {
		return n.Email == email && (app == "" || n.App == app)
	})
}

func (m *model) droppedOf(email string) (ds []presence.Dropped) {
	for _, app := range modelApps {
		if n := m.dropped[[2]string{email, app}]; n > 0 {
			ds = append(ds, presence.Dropped{App: app, Count: n})
		}
	}
	return ds
}

var (
	modelUsers   = []string{ann, bob, "carl@example.org"}
	modelApps    = []string{"chat", "mail"}
	modelDevices = []string{"", "phone", "desk"}
)

// machine runs the same calls on the store and on the model.
type machine struct {
	*bed
	m model
}

// step hands one random call to the store and returns how to compare the outcome once its commit has ended.
func (x *machine) step(t *rapid.T) (compare func(t *rapid.T)) {
	email := rapid.SampledFrom(modelUsers).Draw(t, "email")
	now := x.clock.now()
	switch rapid.SampledFrom([]string{"enqueue", "enqueue", "enqueue", "enqueue", "confirm", "confirm", "purge"}).Draw(t, "call") {
	case "enqueue":
		return x.enqueue(t, email, now)
	case "confirm":
		device := rapid.SampledFrom(modelDevices).Draw(t, "device")
		top := int(x.m.seq) + 2
		seqs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) uint64 {
			return uint64(rapid.IntRange(max(0, top-15), top).Draw(t, "seq"))
		}), 0, 8).Draw(t, "seqs")
		c := x.Confirm(email, device, seqs)
		want := x.m.confirm(email, device, seqs, now)
		return func(t *rapid.T) { x.compareConfirm(t, c, want) }
	default:
		app := rapid.SampledFrom([]string{"", "chat", "mail"}).Draw(t, "app")
		c := x.Purge(email, app)
		x.m.purge(email, app)
		return func(t *rapid.T) { ok(t, c.Wait()) }
	}
}

func (x *machine) enqueue(t *rapid.T, email string, now time.Time) func(t *rapid.T) {
	n := presence.Notification{
		Email: email, App: rapid.SampledFrom(modelApps).Draw(t, "app"), Device: rapid.SampledFrom(modelDevices).Draw(t, "device"),
		Collapse: rapid.SampledFrom([]string{"", "", "a", "b", "c"}).Draw(t, "collapse"),
		Message:  rapid.StringN(0, 5, -1).Draw(t, "message"), Ref: rapid.StringN(0, 3, -1).Draw(t, "ref"),
		Receipt: rapid.Bool().Draw(t, "receipt"), High: rapid.Bool().Draw(t, "high"),
		Time: now, Expires: now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "ttl")) * time.Second),
	}
	given := n
	c := x.Enqueue(&given)
	want := x.m.enqueue(n, now)
	return func(t *rapid.T) {
		if ok(t, c.Wait()); given.Seq != want {
			t.Fatalf("number %d, want %d", given.Seq, want)
		}
	}
}

func (x *machine) compareConfirm(t *rapid.T, c *presence.Confirmation, want []uint64) {
	ok(t, c.Wait())
	got := seqsOf(c.Removed)
	for _, seq := range want {
		if !slices.Contains(got, seq) {
			t.Fatalf("removed %v, want %v", got, want)
		}
	}
	slices.Sort(got)
	if len(slices.Compact(got)) != len(c.Removed) {
		t.Fatalf("removed one twice: %v", got)
	}
}

func ok(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (x *machine) compare(t *rapid.T) {
	now := x.clock.now()
	total := 0
	for _, email := range modelUsers {
		counts := map[string]int{}
		for _, n := range x.m.pending(email, "", 0, 1000, now) {
			counts[n.App]++
			total++
		}
		if got, err := x.Waiting(email); err != nil || !reflect.DeepEqual(got, counts) {
			t.Fatalf("waiting for %s: %v (%v), want %v", email, got, err, counts)
		}
		device := rapid.SampledFrom(modelDevices).Draw(t, "for")
		after := uint64(max(0, int(x.m.seq)-rapid.IntRange(0, 20).Draw(t, "after")))
		most := rapid.IntRange(0, 6).Draw(t, "max")
		got, err := x.Pending(email, device, after, most)
		ok(t, err)
		if want := x.m.pending(email, device, after, most, now); !reflect.DeepEqual(got, want) {
			t.Fatalf("pending for %s on %q after %d: %v, want %v", email, device, after, got, want)
		}
		has := x.m.dropped[[2]string{email, "chat"}]+x.m.dropped[[2]string{email, "mail"}] > 0
		if x.HasDropped(email) != has {
			t.Fatalf("has dropped: %t, want %t", !has, has)
		}
	}
	if got := x.Stats().Waiting; got != total {
		t.Fatalf("%d wait, want %d", got, total)
	}
}

// TestQueueIsLikeTheModel plays random calls, alone and in groups, with time passing and restarts between them.
func TestQueueIsLikeTheModel(t *testing.T) {
	dir, round := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		limits := presence.Limits{QueuePerApp: 4, CollapseKeys: 2}
		b := &bed{t: t, clock: newClock(), o: Options{Limits: limits}}
		b.o.Now = b.clock.now
		b.open(filepath.Join(dir, fmt.Sprint(round)))
		x := &machine{bed: b, m: model{limits: limits, dropped: map[[2]string]uint64{}}}
		defer func() { ok(rt, x.Close()) }()
		rt.Repeat(map[string]func(*rapid.T){
			"alone": func(t *rapid.T) { x.step(t)(t) },
			"group": func(t *rapid.T) {
				var compares []func(*rapid.T)
				x.together(func() {
					for range rapid.IntRange(2, 12).Draw(t, "calls") {
						compares = append(compares, x.step(t))
					}
				})
				for _, compare := range compares {
					compare(t)
				}
			},
			"time": func(t *rapid.T) { x.clock.advance(time.Duration(rapid.IntRange(1, 15).Draw(t, "s")) * time.Second) },
			"sweep": func(t *rapid.T) {
				_, err := x.Sweep(x.clock.now(), 1<<30)
				ok(t, err)
				if in := x.entries(); in != x.Stats().Waiting {
					t.Fatalf("%d in the index after a sweep, %d wait", in, x.Stats().Waiting)
				}
			},
			"dropped": func(t *rapid.T) {
				email := rapid.SampledFrom(modelUsers).Draw(t, "email")
				got, err := x.Dropped(email)
				ok(t, err)
				if want := x.m.droppedOf(email); !slices.Equal(got, want) || x.HasDropped(email) != (want != nil) {
					t.Fatalf("dropped %v, want %v", got, want)
				}
			},
			"told of dropped": func(t *rapid.T) {
				email, app := rapid.SampledFrom(modelUsers).Draw(t, "email"), rapid.SampledFrom(modelApps).Draw(t, "app")
				told := uint64(rapid.IntRange(1, 3).Draw(t, "told"))
				ok(t, x.ForgetDropped(email, []presence.Dropped{{App: app, Count: told}}).Wait())
				if k := [2]string{email, app}; x.m.dropped[k] >= told {
					x.m.dropped[k] -= told
				}
			},
			"reopen": func(t *rapid.T) { x.reopen() },
			"": func(t *rapid.T) {
				x.compare(t)
				ok(t, x.CheckConsistency())
			},
		})
	})
}

// entries counts the index, expired ones too.
func (b *bed) entries() (n int) {
	for i := range b.index.shards {
		n += b.index.shards[i].waiting.live
	}
	return n
}
