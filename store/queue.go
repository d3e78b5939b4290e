package store

import (
	"encoding/binary"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// Enqueue stores n; see [presence.Queue]. n must not be changed before the commit has ended.
func (s *Store) Enqueue(n *presence.Notification) *presence.Commit {
	if err := checkKeys("e-mail and appid of a notification", n.Email, n.App); err != nil {
		return ended(err)
	}
	return s.committer.hand(op{n: n, user: s.index.user(n.Email)})
}

// EnqueueAll stores all of ns in one commit, unless once was sent before; see [presence.Queue].
func (s *Store) EnqueueAll(ns []*presence.Notification, once *presence.Once) *presence.Commit {
	users := make([]userKey, len(ns))
	for i, n := range ns {
		if err := checkKeys("e-mail and appid of a notification", n.Email, n.App); err != nil {
			return ended(err)
		}
		users[i] = s.index.user(n.Email)
	}
	return s.committer.hand(op{do: func(g *group) error {
		if once != nil && g.said(once) {
			return nil
		}
		for i, n := range ns {
			if err := g.enqueue(n, users[i]); err != nil {
				return err
			}
		}
		return nil
	}})
}

// Pending returns what waits for the device; see [presence.Queue]. Where nothing does it is answered from memory.
func (s *Store) Pending(email, device string, after uint64, max int) ([]presence.Notification, error) {
	user, hash, now := s.index.user(email), s.index.hash(device), nanos(s.now())
	var found []presence.Notification
	for len(found) < max {
		seqs := s.index.selectSeqs(nil, user, hash, after, max-len(found), now)
		if len(seqs) == 0 {
			break
		}
		after = seqs[len(seqs)-1]
		var err error
		if found, err = s.read(found, seqs, email, device); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// read appends the records of seqs to dst; those that were removed meanwhile are left out.
func (s *Store) read(dst []presence.Notification, seqs []uint64, email, device string) ([]presence.Notification, error) {
	err := s.view(func(tx *bbolt.Tx) error {
		b := inQueue.of(tx)
		for _, seq := range seqs {
			v := b.Get(be64(seq))
			if v == nil {
				continue
			}
			n, err := readRecord(seq, v)
			if err != nil {
				return err
			}
			if n.Email == email && (n.Device == "" || device == "" || n.Device == device) {
				dst = append(dst, n)
			}
		}
		return nil
	})
	return dst, err
}

// Confirm removes what the device has; see [presence.Queue]. seqs may be used again at once.
func (s *Store) Confirm(email, device string, seqs []uint64) *presence.Confirmation {
	if len(seqs) == 0 {
		return &presence.Confirmation{Commit: ended(nil)}
	}
	user := s.index.user(email)
	seqs = slices.Clone(seqs)
	slices.Sort(seqs)
	c := &presence.Confirmation{}
	c.Commit = s.committer.hand(op{do: func(g *group) error { return g.confirm(c, user, email, device, seqs) }})
	return c
}

// Purge removes all of the user that came from app ("": from any); see [presence.Queue].
func (s *Store) Purge(email, app string) *presence.Commit {
	if err := checkKeys("e-mail", email); err != nil {
		return ended(err)
	}
	user := s.index.user(email)
	return s.committer.hand(op{do: func(g *group) error { return g.purge(user, email, app) }})
}

// Waiting counts what waits for the user, by app, without I/O.
func (s *Store) Waiting(email string) (map[string]int, error) {
	return s.index.count(s.index.user(email), nanos(s.now())), nil
}

// WaitingFrom counts what waits from the app, without I/O; it looks at all that waits.
func (s *Store) WaitingFrom(app string) (int, error) {
	return s.index.countFrom(app, nanos(s.now())), nil
}

// Dropped returns the user's counters; see [presence.Queue]. Where there are none it is answered from memory.
func (s *Store) Dropped(email string) ([]presence.Dropped, error) {
	if !s.HasDropped(email) {
		return nil, nil
	}
	return collect(s, inDropped, prefixOf(email), func(_ *bbolt.Tx, k, v []byte) (presence.Dropped, error) {
		_, app := splitPair(k)
		return presence.Dropped{App: app, Count: binary.BigEndian.Uint64(v)}, nil
	})
}

// ForgetDropped takes off what was told; see [presence.Queue]. told must not be changed before the commit has ended.
func (s *Store) ForgetDropped(email string, told []presence.Dropped) *presence.Commit {
	user := s.index.user(email)
	return s.committer.hand(op{do: func(g *group) error { return g.forgetDropped(user, email, told) }})
}

// HasDropped tells without I/O whether Dropped would return any.
func (s *Store) HasDropped(email string) bool { return s.index.hasDropped(s.index.user(email)) }

// Overflowed counts since Open what of the app's was discarded because a queue was full.
func (s *Store) Overflowed(app string) uint64 {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	return s.counts.over[app]
}

// Urgent tells without I/O until when something of high priority waits; see [presence.Queue].
func (s *Store) Urgent(email, device string) (anyone, alone time.Time) {
	a, b := s.index.urgent(s.index.user(email), s.index.hash(device), nanos(s.now()))
	return moment(a), moment(b)
}

// Sweep deletes at most max notifications, messages to apps, sessions, notices, events and trails that have expired at now, in commits
// of at most 1,000, and returns how many. Events are looked through a part at a time, from call to call.
// Call it again while it returns max. When nothing has expired it writes nothing.
func (s *Store) Sweep(now time.Time, max int) (removed int, err error) {
	for removed < max {
		seqs := s.index.expired(nanos(now), min(slice, max-removed))
		if len(seqs) == 0 {
			break
		}
		var n int
		err := s.committer.hand(op{do: func(g *group) (err error) {
			n, err = g.expire(seqs)
			return err
		}}).Wait()
		if err != nil {
			return removed, err
		}
		removed += n
	}
	if removed == max {
		return removed, nil
	}
	for _, sweep := range []func(time.Time, int) (int, error){s.sweepUpstream, s.sweepSessions, s.sweepNotices, s.trimActivity, s.sweepTrails} {
		n, err := sweep(now, min(slice, max-removed))
		if removed += n; err != nil || removed == max {
			return removed, err
		}
	}
	return removed, nil
}
