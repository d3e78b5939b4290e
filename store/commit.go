package store

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// committer gathers work and writes it, a group at a time.
type committer struct {
	max  int           // static: how much may wait before callers do
	wake chan struct{} // one slot: something was handed in, or closed
	done chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	room    sync.Cond // on mu: the backlog was taken, or closed
	backlog []op      // guarded by mu
	next    *presence.Commit
	closed  bool
}

// op is one piece of work: a notification to store, or a function. The first is spelled out because there are so many.
type op struct {
	n    *presence.Notification
	user userKey
	do   func(*group) error // an error fails the whole group
}

func (c *committer) init(max int) {
	c.max = max
	c.wake = make(chan struct{}, 1)
	c.done = make(chan struct{})
	c.room.L = &c.mu
}

// hand puts o at the end of the backlog and returns the commit it will be part of. It blocks while the backlog is full.
func (c *committer) hand(o op) *presence.Commit {
	c.mu.Lock()
	for len(c.backlog) >= c.max && !c.closed {
		c.room.Wait()
	}
	if c.closed {
		c.mu.Unlock()
		return ended(ErrClosed)
	}
	if c.next == nil {
		c.next = presence.NewCommit()
	}
	commit, first := c.next, len(c.backlog) == 0
	c.backlog = append(c.backlog, o)
	c.mu.Unlock()
	if first {
		c.wakeUp()
	}
	return commit
}

func (c *committer) wakeUp() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take swaps the backlog with an empty one made of spare.
func (c *committer) take(spare []op) (ops []op, commit *presence.Commit, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ops, commit = c.backlog, c.next
	c.backlog, c.next = spare[:0], nil
	if len(ops) >= c.max {
		c.room.Broadcast()
	}
	return ops, commit, c.closed
}

// close lets nobody in any more; what was handed in is still written.
func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	c.room.Broadcast()
	c.mu.Unlock()
	c.wakeUp()
	<-c.done
}

// ended is a commit that has ended already.
func ended(err error) *presence.Commit {
	c := presence.NewCommit()
	c.Resolve(err)
	return c
}

// run is the committer's goroutine; Close waits for it.
func (s *Store) run() {
	defer close(s.committer.done)
	g := newGroup(s)
	var ops []op
	for {
		<-s.committer.wake
		for more := true; more; {
			var commit *presence.Commit
			var closed bool
			ops, commit, closed = s.committer.take(ops)
			err := s.carryOut(g, ops)
			if commit != nil {
				commit.Resolve(err)
				runtime.Gosched() // those it woke come first, so that who comes again is part of the next group
			} else if closed {
				return
			}
			clear(ops)
			more = commit != nil || (err == nil && len(s.garbage) > 0)
		}
	}
}

// carryOut writes one group and then tells the index. It holds the writing lock, so that CheckConsistency finds disk
// and memory in step.
func (s *Store) carryOut(g *group, ops []op) error {
	if len(ops) == 0 && len(s.garbage) == 0 {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.stopped(); err != nil {
		return err
	}
	if err := s.writeGroup(g, ops); err != nil {
		s.counts.failed.Add(1)
		if s.failing.Swap(&err) == nil {
			s.log.Error("the data file cannot be written", "file", s.path, "error", err)
		}
		return err
	}
	if s.failing.Swap(nil) != nil {
		s.log.Info("the data file can be written again", "file", s.path)
	}
	g.apply()
	return nil
}

func (s *Store) writeGroup(g *group, ops []op) error {
	tx, err := s.db.Begin(true)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer g.release()
	if err := g.stage(tx, ops); err != nil {
		return errors.Join(fmt.Errorf("store: %w", err), tx.Rollback())
	}
	if !g.dirty {
		return tx.Rollback()
	}
	if err := s.commit(tx); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	s.counts.commits.Add(1)
	return nil
}

// commit ends tx. When it fails and nobody can say whether it is on disk, the store stops.
func (s *Store) commit(tx *bbolt.Tx) error {
	id := tx.ID()
	err := tx.Commit()
	if err == nil && s.syncDelay > 0 {
		time.Sleep(2 * s.syncDelay) // bbolt waits for the disk twice: pages, then meta
		err = s.db.Sync()
	}
	if err != nil {
		s.doubt(id, err)
	}
	return err
}

// doubt stops the store if the failed transaction may be on disk all the same.
func (s *Store) doubt(id int, err error) {
	if s.landed(id) {
		cause := fmt.Errorf("store: no more writes after one with unknown outcome, restart to go on: %w", err)
		s.cause.Store(&cause)
	}
}

// landed tells whether the transaction may be on disk although it failed.
func (s *Store) landed(id int) bool {
	landed := true
	if err := s.db.View(func(tx *bbolt.Tx) error { landed = tx.ID() >= id; return nil }); err != nil {
		return true
	}
	return landed
}

// stopped tells why there are no more writes; nil: there are.
func (s *Store) stopped() error {
	if cause := s.cause.Load(); cause != nil {
		return *cause
	}
	return nil
}

// update runs check and then write inside the next commit and waits for it. check says whether the work is refused,
// before anything of it is written; it may be nil. An error of write would fail everybody in the group.
func (s *Store) update(check, write func(*bbolt.Tx) error) error {
	commit, refused := s.updateLater(check, write)
	if err := commit.Wait(); err != nil {
		return err
	}
	return *refused
}

// updateLater is update without waiting; *refused may be read when the commit has ended.
func (s *Store) updateLater(check, write func(*bbolt.Tx) error) (c *presence.Commit, refused *error) {
	refused = new(error)
	c = s.committer.hand(op{do: func(g *group) error {
		if check != nil {
			if *refused = check(g.tx); *refused != nil {
				return nil
			}
		}
		g.dirty = true
		return write(g.tx)
	}})
	return c, refused
}

// counts are kept for Stats.
type counts struct {
	commits, failed                        atomic.Uint64
	enqueued, confirmed, expired, overflow atomic.Uint64

	mu   sync.Mutex
	over map[string]uint64 // guarded by mu: overflow by app
}

func (c *counts) noteOverflow(app string, n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over == nil {
		c.over = make(map[string]uint64)
	}
	c.over[app] += n
}
