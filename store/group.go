package store

import (
	"encoding/binary"
	"iter"
	"slices"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// group is what one commit stages: in tx what goes to disk, in the overlay what will change in the index. The
// committer's goroutine owns it and uses it again for every group.
type group struct {
	s   *Store
	tx  *bbolt.Tx
	now int64 // one moment for the whole group, Unix nanoseconds

	dirty bool          // something is to be committed
	queue *bbolt.Bucket // of tx
	seq   uint64        // last number given

	added     lists               // will be added to the index, without what is in gone
	gone      map[uint64]struct{} // taken out of index and added
	goneOrder []mark              // the same, with their users
	dropped   []mark              // changes of who has a drop counter, in order
	garbage   []uint64            // dead by a purge of this group, still on disk
	reaped    int                 // of s.garbage, deleted by this group
	confirmed []confirmed
	trails    map[uint64]*batch        // what this commit adds to the trails
	marks     map[presence.Mark]uint64 // the trails of what is in there
	forgotten int                      // of s.trails.stale, deleted by this group

	enqueued, expired, overflow uint64            // for Stats
	over                        map[uint32]uint64 // overflow by app

	arena []byte   // the records' bytes, until the transaction has ended
	keys  []uint64 // what survey returns
	key   [8]byte  // what at returns
}

// mark is a user with a number, or with a yes or no.
type mark struct {
	user userKey
	seq  uint64
	on   bool
}

type confirmed struct {
	c       *presence.Confirmation
	removed []presence.Notification
}

func newGroup(s *Store) *group {
	return &group{s: s, added: newLists(), gone: map[uint64]struct{}{}, over: map[uint32]uint64{},
		trails: map[uint64]*batch{}, marks: map[presence.Mark]uint64{}}
}

// stage carries out all ops in order.
func (g *group) stage(tx *bbolt.Tx, ops []op) error {
	g.reset(tx)
	for i := range ops {
		var err error
		if o := &ops[i]; o.n != nil {
			err = g.enqueue(o.n, o.user)
		} else {
			err = o.do(g)
		}
		if err != nil {
			return err
		}
	}
	if err := g.reap(); err != nil {
		return err
	}
	if err := g.putTrails(); err != nil {
		return err
	}
	if g.seq != g.queue.Sequence() {
		return g.queue.SetSequence(g.seq)
	}
	return nil
}

func (g *group) reset(tx *bbolt.Tx) {
	g.tx, g.dirty = tx, false
	g.now = nanos(g.s.now())
	g.queue = inQueue.of(tx)
	g.queue.FillPercent = 0.95 // keys only grow
	g.seq = max(g.queue.Sequence(), g.seq)
	g.added.reset()
	g.gone = emptied(g.gone)
	g.goneOrder, g.dropped, g.garbage, g.reaped = g.goneOrder[:0], g.dropped[:0], nil, 0
	clear(g.confirmed)
	g.confirmed = g.confirmed[:0]
	clear(g.trails)
	g.marks = emptied(g.marks)
	g.forgotten = 0
	g.enqueued, g.expired, g.overflow = 0, 0, 0
	clear(g.over)
	if g.arena = g.arena[:0]; cap(g.arena) > keepArena {
		g.arena = nil
	}
}

const keepArena = 4 << 20 // bytes

// apply tells the index what the commit has changed.
func (g *group) apply() {
	ix := g.s.index
	for _, m := range g.goneOrder {
		ix.remove(m.user, m.seq)
	}
	for user := range g.added.users {
		ix.add(user, g.lasting(g.added.of(user)))
	}
	for _, m := range g.dropped {
		ix.setDropped(m.user, m.on)
	}
	g.s.garbage = append(g.s.garbage[g.reaped:], g.garbage...)
	g.s.trails.apply(g.trails, g.forgotten)
	var n uint64
	for _, c := range g.confirmed {
		c.c.Removed = c.removed
		n += uint64(len(c.removed))
	}
	counts := &g.s.counts
	counts.confirmed.Add(n)
	counts.enqueued.Add(g.enqueued)
	counts.expired.Add(g.expired)
	counts.overflow.Add(g.overflow)
	for app, n := range g.over {
		counts.noteOverflow(ix.apps.name(app), n)
	}
}

// release lets go of the transaction.
func (g *group) release() { g.tx, g.queue = nil, nil }

// lasting yields those that are not gone.
func (g *group) lasting(es iter.Seq[*entry]) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for e := range es {
			if _, gone := g.gone[e.seq]; !gone && !yield(e) {
				return
			}
		}
	}
}

// waiting yields what waits for the user at this point of the group, oldest first, expired ones too. They may be
// removed on the way.
func (g *group) waiting(user userKey) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for e := range g.lasting(g.s.index.shard(user).waiting.of(user)) {
			if !yield(e) {
				return
			}
		}
		for e := range g.lasting(g.added.of(user)) {
			if !yield(e) {
				return
			}
		}
	}
}

// enqueue stores n and makes room for it.
func (g *group) enqueue(n *presence.Notification, user userKey) error {
	g.seq++
	n.Seq = g.seq
	g.dirty = true
	e := g.s.index.entryOf(n)
	if e.expired(g.now) {
		return nil // nobody could ever get it
	}
	if err := g.makeRoom(n, user, &e); err != nil {
		return err
	}
	if err := g.put(n); err != nil {
		return err
	}
	g.added.push(user, e)
	g.enqueued++
	return nil
}

// makeRoom removes what n replaces: the one with its collapse key that is for the same device, or as it is for anyone;
// else the oldest key where there are too many; and then the oldest of all where the queue is full. Only the last is
// counted as dropped.
func (g *group) makeRoom(n *presence.Notification, user userKey, e *entry) error {
	most := int(g.s.index.shard(user).waiting.users[user].n + g.added.users[user].n)
	if e.collapse == 0 && most < g.s.limits.QueuePerApp {
		return nil // not even all her apps together fill a queue, so there is no need to look
	}
	r, err := g.survey(user, e)
	switch {
	case err != nil:
		return err
	case r.replaced != nil:
		return g.remove(user, r.replaced.seq)
	case e.collapse != 0 && len(r.keys) >= g.s.limits.CollapseKeys && !slices.Contains(r.keys, e.collapse):
		return g.removeKey(user, e.app(), r.keys[0])
	case r.count < g.s.limits.QueuePerApp || r.first == nil:
		return nil
	}
	g.overflow++
	g.over[e.app()]++
	if err := g.countDropped(user, n.Email, n.App); err != nil {
		return err
	}
	return g.remove(user, r.first.seq)
}

// removeKey removes what waits for the user from the app with a collapse key, whatever device it is for.
func (g *group) removeKey(user userKey, app uint32, key uint64) error {
	for x := range g.waiting(user) {
		if x.app() == app && x.collapse == key {
			if err := g.remove(user, x.seq); err != nil {
				return err
			}
		}
	}
	return nil
}

// room is what waits already for the (user, app) of a new notification.
type room struct {
	count           int
	first, replaced *entry
	keys            []uint64 // collapse keys, each once, that of the oldest first
}

// survey looks at what waits for the user from e's app, and removes on the way what has expired.
func (g *group) survey(user userKey, e *entry) (r room, err error) {
	r.keys = g.keys[:0]
	for x := range g.waiting(user) {
		switch {
		case x.app() != e.app():
			continue
		case x.expired(g.now):
			g.expired++
			if err := g.remove(user, x.seq); err != nil {
				return r, err
			}
			continue
		case r.first == nil:
			r.first = x
		}
		r.count++
		if x.collapse != 0 && !slices.Contains(r.keys, x.collapse) {
			r.keys = append(r.keys, x.collapse)
		}
		if x.collapse == e.collapse && x.device == e.device && e.collapse != 0 {
			r.replaced = x
		}
	}
	g.keys = r.keys
	return r, nil
}

// put writes n's record. bbolt keeps key and value until the transaction has ended, so they live in the arena.
func (g *group) put(n *presence.Notification) error {
	if size := recordSize(n); cap(g.arena)-len(g.arena) < size {
		g.arena = make([]byte, 0, max(size, min(2*cap(g.arena), keepArena), 64<<10)) // bbolt holds on to the older one
	}
	from := len(g.arena)
	g.arena = appendRecord(g.arena, n)
	return g.queue.Put(g.at(n.Seq), g.arena[from:len(g.arena):len(g.arena)])
}

// at is the key of seq, until the next call.
func (g *group) at(seq uint64) []byte {
	binary.BigEndian.PutUint64(g.key[:], seq)
	return g.key[:]
}

// remove deletes the record of seq and takes it out of the overlay.
func (g *group) remove(user userKey, seq uint64) error {
	g.dirty = true
	g.hide(user, seq)
	return g.queue.Delete(g.at(seq))
}

// hide takes seq out of the overlay only.
func (g *group) hide(user userKey, seq uint64) {
	g.gone[seq] = struct{}{}
	g.goneOrder = append(g.goneOrder, mark{user: user, seq: seq})
}

// countDropped adds one to the counter of (email, app).
func (g *group) countDropped(user userKey, email, app string) error {
	b, k := inDropped.of(g.tx), pair(email, app)
	var n uint64
	if v := b.Get(k); v != nil {
		n = binary.BigEndian.Uint64(v)
	}
	g.dropped = append(g.dropped, mark{user: user, on: true})
	return b.Put(k, be64(n+1))
}

// forgetDropped takes off the counters of email what a device was told of them, or leaves them as they are.
func (g *group) forgetDropped(user userKey, email string, told []presence.Dropped) error {
	b := inDropped.of(g.tx)
	for _, d := range told {
		k := pair(email, d.App)
		v := b.Get(k)
		if v == nil || binary.BigEndian.Uint64(v) < d.Count {
			continue
		}
		g.dirty = true
		err := b.Delete(k)
		if left := binary.BigEndian.Uint64(v) - d.Count; left > 0 {
			err = b.Put(k, be64(left))
		}
		if err != nil {
			return err
		}
	}
	g.dropped = append(g.dropped, mark{user: user, on: len(keysOf(b, prefixOf(email), 1)) > 0})
	return nil
}

// removeDropped removes all counters of email.
func (g *group) removeDropped(user userKey, email string) error {
	b := inDropped.of(g.tx)
	g.dropped = append(g.dropped, mark{user: user})
	return deleteKeys(b, keysOf(b, prefixOf(email), 0))
}

// confirm removes those of seqs (sorted) that are the user's and for anyone or for device.
func (g *group) confirm(c *presence.Confirmation, user userKey, email, device string, seqs []uint64) error {
	var removed []presence.Notification
	hash := g.s.index.hash(device)
	for e := range g.waiting(user) {
		if e.seq > seqs[len(seqs)-1] {
			break
		}
		if _, asked := slices.BinarySearch(seqs, e.seq); !asked || (e.device != 0 && e.device != hash) {
			continue
		}
		n, err := readReceipt(e.seq, g.queue.Get(g.at(e.seq)))
		if err != nil {
			return err
		}
		if n.Email != email || (n.Device != "" && n.Device != device) {
			continue // two hashes met
		}
		if err := g.remove(user, e.seq); err != nil {
			return err
		}
		n.Device = "" // not promised
		removed = append(removed, n)
	}
	if len(removed) > 0 {
		g.confirmed = append(g.confirmed, confirmed{c, removed})
	}
	return nil
}

// purge hides all that waits for the user from app ("": from any) and leaves a mark, so that it is gone with this
// commit; the records become garbage.
func (g *group) purge(user userKey, email, app string) error {
	before := len(g.garbage)
	for e := range g.waiting(user) {
		if app == "" || g.s.index.apps.name(e.app()) == app {
			g.hide(user, e.seq)
			g.garbage = append(g.garbage, e.seq)
		}
	}
	if len(g.garbage) == before {
		return nil
	}
	g.dirty = true
	return inPurged.of(g.tx).Put(pair(email, app), be64(g.seq))
}

// expire removes those of seqs that are still there.
func (g *group) expire(seqs []uint64) (removed int, err error) {
	for _, seq := range seqs {
		v := g.queue.Get(g.at(seq))
		if _, gone := g.gone[seq]; gone || v == nil {
			continue
		}
		r, err := viewRecord(v)
		if err != nil {
			return 0, err
		}
		if err := g.remove(g.s.index.userBytes(r.email), seq); err != nil {
			return 0, err
		}
		removed++
	}
	g.expired += uint64(removed)
	return removed, nil
}

// slice bounds how many records one commit deletes for a sweep or after a purge.
const slice = 1000

// reap deletes a slice of the garbage that earlier purges left, and the marks with the last of it.
func (g *group) reap() error {
	dead := g.s.garbage
	if len(dead) == 0 {
		return nil
	}
	g.dirty = true
	dead = dead[:min(slice, len(dead))]
	for _, seq := range dead {
		if err := g.queue.Delete(g.at(seq)); err != nil {
			return err
		}
	}
	g.reaped = len(dead)
	if g.reaped < len(g.s.garbage) || len(g.garbage) > 0 {
		return nil
	}
	marks := inPurged.of(g.tx)
	return deleteKeys(marks, keysOf(marks, nil, 0))
}
