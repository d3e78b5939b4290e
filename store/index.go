package store

import (
	"hash/maphash"
	"iter"
	"sync"

	"presenced/presence"
)

// index knows in memory which notifications wait for whom. Only the committer changes it, after a commit; so the
// committer reads it without locks, everybody else under the lock of the user's shard.
type index struct {
	seeds  [2]maphash.Seed // static
	apps   names
	shards [shards]shard
}

const shards = 64

// shard holds the users whose key falls into it.
type shard struct {
	mu      sync.RWMutex
	waiting lists                // changed by the committer, under mu
	dropped map[userKey]struct{} // users with a counter in the dropped bucket; changed by the committer, under mu
	soonest int64                // nothing here expires before; changed by the committer and by expired, under mu
}

// userKey stands for an e-mail: 128 bits of hashes whose seeds are new in each process. Should two users ever share
// one, nothing is mixed up: the e-mail in a record is compared when it is read.
type userKey [2]uint64

// entry is what the index knows of one notification. It has no pointers.
type entry struct {
	seq      uint64 // 0: a free slot
	expires  int64  // Unix nanoseconds, 0: never
	device   uint64 // hash of the device it is for, 0: anyone; a match is confirmed by the record
	collapse uint64 // hash of the collapse key, 0: none
	tag      uint32 // twice the app's number in names; plus 1: of high priority
	next     uint32 // slot of the user's next entry, or of the next free one; 0: none
}

func (e *entry) app() uint32  { return e.tag >> 1 }
func (e *entry) urgent() bool { return e.tag&1 != 0 }
func tagOf(app uint32, high bool) uint32 {
	if high {
		return app<<1 | 1
	}
	return app << 1
}

func (e *entry) expired(now int64) bool { return e.expires != 0 && e.expires <= now }

// isFor tells whether a device may have it; 0 stands for any.
func (e *entry) isFor(device uint64) bool { return e.device == 0 || device == 0 || e.device == device }

func newIndex() *index {
	ix := &index{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
	ix.apps.numbers = map[string]uint32{}
	for i := range ix.shards {
		ix.shards[i].waiting = newLists()
		ix.shards[i].dropped = map[userKey]struct{}{}
		ix.shards[i].soonest = never
	}
	return ix
}

const never = 1<<63 - 1

func (ix *index) user(email string) userKey {
	return userKey{maphash.String(ix.seeds[0], email), maphash.String(ix.seeds[1], email)}
}

func (ix *index) userBytes(email []byte) userKey {
	return userKey{maphash.Bytes(ix.seeds[0], email), maphash.Bytes(ix.seeds[1], email)}
}

// hash of a device or a collapse key; 0 only for "".
func (ix *index) hash(s string) uint64 {
	if s == "" {
		return 0
	}
	return max(maphash.String(ix.seeds[0], s), 1)
}

func (ix *index) shard(k userKey) *shard { return &ix.shards[k[0]%shards] }

// entryOf makes the entry of a notification.
func (ix *index) entryOf(n *presence.Notification) entry {
	return entry{seq: n.Seq, expires: nanos(n.Expires), device: ix.hash(n.Device), collapse: ix.hash(n.Collapse),
		tag: tagOf(ix.apps.number(n.App), n.High)}
}

// add appends to the user's list; entries come in the order of their numbers.
func (ix *index) add(k userKey, es iter.Seq[*entry]) {
	sh := ix.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for e := range es {
		sh.waiting.push(k, *e)
		if e.expires != 0 {
			sh.soonest = min(sh.soonest, e.expires)
		}
	}
}

func (ix *index) remove(k userKey, seq uint64) {
	sh := ix.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.waiting.remove(k, seq)
}

// setDropped notes whether the user has a counter.
func (ix *index) setDropped(k userKey, has bool) {
	sh := ix.shard(k)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if has {
		sh.dropped[k] = struct{}{}
	} else {
		delete(sh.dropped, k)
	}
}

func (ix *index) hasDropped(k userKey) bool {
	sh := ix.shard(k)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	_, has := sh.dropped[k]
	return has
}

// selectSeqs appends to dst the numbers after "after" that device may have and that have not expired, at most max.
func (ix *index) selectSeqs(dst []uint64, k userKey, device, after uint64, max int, now int64) []uint64 {
	sh := ix.shard(k)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for e := range sh.waiting.of(k) {
		if len(dst) >= max {
			break
		}
		if e.seq > after && e.isFor(device) && !e.expired(now) {
			dst = append(dst, e.seq)
		}
	}
	return dst
}

// urgent returns when the last expires of what is of high priority and waits for anyone of the user's devices, and
// for this one alone; device 0: for any one alone.
func (ix *index) urgent(k userKey, device uint64, now int64) (anyone, alone int64) {
	sh := ix.shard(k)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for e := range sh.waiting.of(k) {
		switch {
		case !e.urgent() || e.expired(now):
		case e.device == 0:
			anyone = max(anyone, e.end())
		case e.isFor(device):
			alone = max(alone, e.end())
		}
	}
	return anyone, alone
}

// end is when it expires, for comparing.
func (e *entry) end() int64 {
	if e.expires == 0 {
		return never
	}
	return e.expires
}

// count counts what waits for the user, by app.
func (ix *index) count(k userKey, now int64) map[string]int {
	counts := map[string]int{}
	sh := ix.shard(k)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for e := range sh.waiting.of(k) {
		if !e.expired(now) {
			counts[ix.apps.name(e.app())]++
		}
	}
	return counts
}

// total counts what waits for anybody.
func (ix *index) total(now int64) (n int) {
	return ix.countIf(func(e *entry) bool { return !e.expired(now) })
}

// countFrom counts what waits from one app.
func (ix *index) countFrom(app string, now int64) int {
	number, known := ix.apps.find(app)
	if !known {
		return 0 // nothing ever waited from it
	}
	return ix.countIf(func(e *entry) bool { return e.app() == number && !e.expired(now) })
}

func (ix *index) countIf(f func(*entry) bool) (n int) {
	for i := range ix.shards {
		sh := &ix.shards[i]
		sh.mu.RLock()
		for e := range sh.waiting.all() {
			if f(e) {
				n++
			}
		}
		sh.mu.RUnlock()
	}
	return n
}

// expired returns the numbers of at most max that have expired. A shard where nothing can have expired is not read.
func (ix *index) expired(now int64, max int) []uint64 {
	var seqs []uint64
	for i := range ix.shards {
		if len(seqs) >= max {
			break
		}
		seqs = ix.shards[i].expired(seqs, now, max)
	}
	return seqs
}

func (sh *shard) expired(seqs []uint64, now int64, max int) []uint64 {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if now < sh.soonest {
		return seqs
	}
	soonest := int64(never)
	for e := range sh.waiting.all() {
		if e.expires != 0 {
			soonest = min(soonest, e.expires)
		}
		if e.expired(now) {
			if len(seqs) >= max {
				return seqs // the rest of the shard is unknown: soonest stays
			}
			seqs = append(seqs, e.seq)
		}
	}
	sh.soonest = soonest
	return seqs
}

// lists are many lists of entries, by user, in shared slots: a map without pointers and chunks without pointers.
// Zero is no slot.
type lists struct {
	users  map[userKey]list
	chunks []*[chunk]entry
	used   uint32 // slots ever handed out
	free   uint32 // first free slot
	live   int
}

const (
	chunk = 256  // slots, 10 KiB
	peak  = 4096 // slots; lists that became larger start anew when they are empty
)

// list is one user's: slots of its first and last entry, and how many there are.
type list struct{ head, tail, n uint32 }

func newLists() lists { return lists{users: map[userKey]list{}} }

func (l *lists) at(slot uint32) *entry { return &l.chunks[slot/chunk][slot%chunk] }

// slot hands out a free slot.
func (l *lists) slot() uint32 {
	if s := l.free; s != 0 {
		l.free = l.at(s).next
		return s
	}
	l.used++
	if int(l.used/chunk) >= len(l.chunks) {
		l.chunks = append(l.chunks, new([chunk]entry))
	}
	return l.used
}

func (l *lists) push(k userKey, e entry) {
	s := l.slot()
	e.next = 0
	*l.at(s) = e
	u, known := l.users[k]
	if known {
		l.at(u.tail).next = s
	} else {
		u.head = s
	}
	u.tail = s
	u.n++
	l.users[k] = u
	l.live++
}

// remove takes the entry out of the user's list; unknown ones are ignored.
func (l *lists) remove(k userKey, seq uint64) {
	u := l.users[k]
	var before uint32
	for s := u.head; s != 0; before, s = s, l.at(s).next {
		if l.at(s).seq == seq {
			l.unlink(k, u, before, s)
			return
		}
	}
}

func (l *lists) unlink(k userKey, u list, before, s uint32) {
	next := l.at(s).next
	if before == 0 {
		u.head = next
	} else {
		l.at(before).next = next
	}
	if next == 0 {
		u.tail = before
	}
	if u.n--; u.n == 0 {
		delete(l.users, k)
	} else {
		l.users[k] = u
	}
	*l.at(s) = entry{next: l.free}
	l.free = s
	if l.live--; l.live == 0 && l.used > peak {
		*l = newLists() // gives back what the peak took
	}
}

// of yields the user's entries, oldest first.
func (l *lists) of(k userKey) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for s := l.users[k].head; s != 0; {
			e := l.at(s)
			s = e.next
			if !yield(e) {
				return
			}
		}
	}
}

// all yields every entry, in no order.
func (l *lists) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for s := uint32(1); s <= l.used; s++ {
			if e := l.at(s); e.seq != 0 && !yield(e) {
				return
			}
		}
	}
}

// reset empties the lists and keeps a little memory for the next use.
func (l *lists) reset() {
	l.users = emptied(l.users)
	if len(l.chunks) > keepChunks {
		clear(l.chunks[keepChunks:])
		l.chunks = l.chunks[:keepChunks]
	}
	l.used, l.free, l.live = 0, 0, 0
}

const (
	keepChunks = 64
	keepMap    = 1 << 13
)

// emptied clears m for another use, unless it has grown so large that clearing it costs more than a new one.
func emptied[K comparable, V any](m map[K]V) map[K]V {
	if len(m) > keepMap {
		return map[K]V{}
	}
	clear(m)
	return m
}

// names numbers the apps that ever had something waiting; only registered ones do, which bounds it. Only the committer
// adds; it reads without the lock.
type names struct {
	mu      sync.RWMutex
	numbers map[string]uint32
	list    []string
}

// number is for the committer.
func (ns *names) number(app string) uint32 {
	if n, known := ns.numbers[app]; known {
		return n
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	n := uint32(len(ns.list))
	ns.numbers[app] = n
	ns.list = append(ns.list, app)
	return n
}

// find is number for everybody else: it adds nothing.
func (ns *names) find(app string) (number uint32, known bool) {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	number, known = ns.numbers[app]
	return number, known
}

func (ns *names) name(n uint32) string {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return ns.list[n]
}
