package store

import (
	"bytes"
	linked "container/list"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

const (
	trailEach = 1000             // messages of a connection that are remembered; a peer waits for the answers of far fewer
	trailAll  = 1 << 16          // of all connections; then the oldest go. About 5 MB of memory, 1 MB of disk
	trailLife = 20 * time.Minute // from the acceptance; TCP itself gives up a dead connection after a quarter of an hour
	markLen   = len(presence.Mark{})
)

// trails are what connections of apps have sent, as they are on disk and of TTL 0 besides. The committer adds to them
// after its commits; others forget, and leave it to the committer to do so on disk.
type trails struct {
	mu    sync.Mutex
	marks map[presence.Mark]*batch // guarded by mu: where each was sent last
	each  map[uint64]*trail        // guarded by mu: of connections since the file was opened
	all   linked.List              // guarded by mu: every *batch, oldest first
	count int                      // guarded by mu: marks in them
	stale []uint64                 // guarded by mu: keys of batches that were forgotten and are on disk; taken off by the committer alone
}

// trail is what one connection has sent. Guarded by trails.mu.
type trail struct {
	batches []*batch // oldest first, never empty
	count   int      // marks in them
}

// batch is what one trail got in one commit. Those read from the file have trail 0: their connections are gone.
type batch struct {
	trail uint64
	key   uint64          // in the bucket; 0: it is in memory alone
	raw   []byte          // as on disk: time, marks
	place *linked.Element // in all
}

func newBatch(trail uint64, now int64) *batch {
	return &batch{trail: trail, raw: be64(uint64(now))}
}

func (b *batch) time() int64 { return int64(binary.BigEndian.Uint64(b.raw)) }
func (b *batch) len() int    { return (len(b.raw) - 8) / markLen }
func (b *batch) add(m presence.Mark) {
	b.raw = append(b.raw, m[:]...)
}
func (b *batch) at(i int) presence.Mark { return presence.Mark(b.raw[8+i*markLen:]) }
func (b *batch) over(now int64) bool    { return b.time() <= now-int64(trailLife) }

func (t *trails) init() {
	t.marks, t.each = map[presence.Mark]*batch{}, map[uint64]*trail{}
	t.all.Init()
}

// Sent reports whether another trail has the mark; see [presence.Trails].
func (s *Store) Sent(o *presence.Once) bool { return s.trails.has(o, nanos(s.now())) }

// Note adds the mark to its trail, in memory alone; see [presence.Trails].
func (s *Store) Note(o *presence.Once) {
	b := newBatch(o.Trail, nanos(s.now()))
	b.add(o.Mark)
	s.trails.mu.Lock()
	defer s.trails.mu.Unlock()
	s.trails.addLocked(b)
}

// Settle forgets a trail; see [presence.Trails].
func (s *Store) Settle(trail uint64) {
	if s.trails.settle(trail) {
		s.committer.hand(op{do: func(*group) error { return nil }}) // which deletes what is stale
	}
}

func (t *trails) has(o *presence.Once, now int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.marks[o.Mark]
	return b != nil && b.trail != o.Trail && !b.over(now)
}

// settle forgets a trail and reports whether something of it is on disk.
func (t *trails) settle(number uint64) (stale bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := len(t.stale)
	for t.each[number] != nil {
		t.dropLocked(t.each[number].batches[0])
	}
	return len(t.stale) > before
}

// addLocked adds a batch and keeps the bounds.
func (t *trails) addLocked(b *batch) {
	b.place = t.all.PushBack(b)
	for i := range b.len() {
		t.marks[b.at(i)] = b
	}
	t.count += b.len()
	if b.trail != 0 {
		own := t.each[b.trail]
		if own == nil {
			own = &trail{}
			t.each[b.trail] = own
		}
		own.batches = append(own.batches, b)
		own.count += b.len()
		for own.count-own.batches[0].len() >= trailEach {
			t.dropLocked(own.batches[0])
		}
	}
	for t.count > trailAll {
		t.dropLocked(t.all.Front().Value.(*batch))
	}
}

// dropLocked forgets a batch, the oldest of its trail.
func (t *trails) dropLocked(b *batch) {
	t.all.Remove(b.place)
	if own := t.each[b.trail]; own != nil {
		own.batches = own.batches[1:]
		if own.count -= b.len(); len(own.batches) == 0 {
			delete(t.each, b.trail)
		}
	}
	for i := range b.len() {
		if m := b.at(i); t.marks[m] == b {
			delete(t.marks, m)
		}
	}
	t.count -= b.len()
	if b.key != 0 {
		t.stale = append(t.stale, b.key)
	}
}

// said adds what once stands for to its trail, and reports whether another had it.
func (g *group) said(o *presence.Once) bool {
	trail, staged := g.marks[o.Mark]
	o.Again = staged && trail != o.Trail || !staged && g.s.trails.has(o, g.now)
	b := g.trails[o.Trail]
	if b == nil {
		b = newBatch(o.Trail, g.now)
		g.trails[o.Trail] = b
	}
	b.add(o.Mark)
	g.marks[o.Mark] = o.Trail
	g.dirty = true
	return o.Again
}

// putTrails writes what the group adds to trails, and deletes a slice of what was forgotten.
func (g *group) putTrails() error {
	in := inTrails.of(g.tx)
	for _, b := range g.trails {
		key, err := in.NextSequence()
		if err == nil {
			err = in.Put(be64(key), b.raw)
		}
		if err != nil {
			return err
		}
		b.key = key
	}
	stale := g.s.trails.someStale()
	for _, key := range stale {
		g.dirty = true
		if err := in.Delete(be64(key)); err != nil {
			return err
		}
	}
	g.forgotten = len(stale)
	return nil
}

// someStale returns keys to be deleted, a slice at most.
func (t *trails) someStale() []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.stale[:min(slice, len(t.stale))])
}

// apply adds what a commit has written, and notes how many stale keys it deleted.
func (t *trails) apply(added map[uint64]*batch, forgotten int) {
	if len(added) == 0 && forgotten == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stale = slices.Delete(t.stale, 0, forgotten)
	for _, b := range added {
		t.addLocked(b)
	}
}

// load reads what connections of before had sent. They are over, and nobody knows what their peers heard.
func (t *trails) load(tx *bbolt.Tx) error {
	c := inTrails.of(tx).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if len(v) < 8 || (len(v)-8)%markLen != 0 {
			return fmt.Errorf("%w: trail %x", ErrDamaged, k)
		}
		t.addLocked(&batch{key: binary.BigEndian.Uint64(k), raw: bytes.Clone(v)})
	}
	return nil
}

// sweepTrails forgets batches whose time is over, at most max.
func (s *Store) sweepTrails(now time.Time, max int) (int, error) {
	n := s.trails.expire(nanos(now), max)
	if n == 0 {
		return 0, nil
	}
	return n, s.committer.hand(op{do: func(*group) error { return nil }}).Wait() // deletes what is stale
}

func (t *trails) expire(now int64, max int) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; n < max && t.all.Len() > 0; n++ {
		b := t.all.Front().Value.(*batch)
		if !b.over(now) {
			break
		}
		t.dropLocked(b)
	}
	return n
}

// checkTrails compares what is on disk with what is known in memory.
func (s *Store) checkTrails(tx *bbolt.Tx) error {
	t := &s.trails
	t.mu.Lock()
	defer t.mu.Unlock()
	want := map[uint64][]byte{}
	for _, key := range t.stale {
		want[key] = nil
	}
	marks := 0
	for e := t.all.Front(); e != nil; e = e.Next() {
		b := e.Value.(*batch)
		marks += b.len()
		if b.key != 0 {
			want[b.key] = b.raw
		}
	}
	var errs []error
	if marks != t.count || len(t.marks) > marks {
		errs = append(errs, fmt.Errorf("trails have %d marks, %d are counted and %d found by mark", marks, t.count, len(t.marks)))
	}
	c := inTrails.of(tx).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		raw, known := want[binary.BigEndian.Uint64(k)]
		if !known || raw != nil && !bytes.Equal(raw, v) {
			errs = append(errs, fmt.Errorf("trail %x on disk is not that in memory", k))
		}
		delete(want, binary.BigEndian.Uint64(k))
	}
	if len(want) > 0 {
		errs = append(errs, fmt.Errorf("%d trails are in memory and not on disk", len(want)))
	}
	return errors.Join(errs...)
}
