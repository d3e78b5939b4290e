package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// PutUpstream keeps m; see [presence.Upstreams]. What has expired of the same user and app makes room.
func (s *Store) PutUpstream(m *presence.Upstream, max int) error {
	if err := checkKeys("e-mail and appid of a message", m.Email, m.App); err != nil {
		return err
	}
	value, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	now := s.now()
	return s.update(
		func(tx *bbolt.Tx) error {
			if len(liveUpstream(tx, m.Email, m.App, now)) >= max {
				return presence.ErrFull
			}
			return nil
		},
		func(tx *bbolt.Tx) error {
			if err := dropExpiredUpstream(tx, m.Email, m.App, now); err != nil {
				return err
			}
			return s.putUpstream(tx, m, value)
		})
}

func (s *Store) putUpstream(tx *bbolt.Tx, m *presence.Upstream, value []byte) error {
	b := inUpstream.of(tx)
	seq, err := b.NextSequence()
	if err != nil {
		return err
	}
	m.Seq = seq
	s.noteUpstream(m.Expires)
	if err := inUpstreamByUser.of(tx).Put(numbered(m.Email+"\x00"+m.App, seq), appendTime(nil, m.Expires)); err != nil {
		return err
	}
	if err := inUpstreamByUntil.of(tx).Put(append(appendTime(nil, m.Expires), numbered(m.App, seq)...), nil); err != nil {
		return err
	}
	return b.Put(numbered(m.App, seq), value)
}

// liveUpstream returns the numbers of what waits between the user and the app.
func liveUpstream(tx *bbolt.Tx, email, app string, now time.Time) (seqs []uint64) {
	prefix := append(pair(email, app), 0)
	c := inUpstreamByUser.of(tx).Cursor()
	for k, v := firstOf(c, prefix); k != nil; k, v = nextOf(c, prefix) {
		if readTime(v).After(now) {
			seqs = append(seqs, number(k))
		}
	}
	return seqs
}

func dropExpiredUpstream(tx *bbolt.Tx, email, app string, now time.Time) error {
	for _, k := range keysOf(inUpstreamByUser.of(tx), append(pair(email, app), 0), 0) {
		if v := inUpstreamByUser.of(tx).Get(k); readTime(v).After(now) {
			continue
		}
		if err := removeUpstream(tx, app, number(k)); err != nil {
			return err
		}
	}
	return nil
}

// removeUpstream deletes a message and what points at it, if it is there.
func removeUpstream(tx *bbolt.Tx, app string, seq uint64) error {
	k := numbered(app, seq)
	m, ok, err := getJSON[presence.Upstream](tx, inUpstream, k)
	if !ok {
		return err
	}
	if err := inUpstreamByUser.of(tx).Delete(numbered(m.Email+"\x00"+app, seq)); err != nil {
		return err
	}
	if err := inUpstreamByUntil.of(tx).Delete(append(appendTime(nil, m.Expires), k...)); err != nil {
		return err
	}
	return inUpstream.of(tx).Delete(k)
}

// UpstreamOf returns what waits for the app behind the number after; see [presence.Upstreams].
func (s *Store) UpstreamOf(app string, after uint64, max int) (ms []presence.Upstream, err error) {
	now, prefix := s.now(), prefixOf(app)
	err = s.view(func(tx *bbolt.Tx) error {
		c := inUpstream.of(tx).Cursor()
		for k, v := c.Seek(numbered(app, after+1)); bytes.HasPrefix(k, prefix) && len(ms) < max; k, v = c.Next() {
			m, err := unmarshal[presence.Upstream](tx, k, v)
			if err != nil {
				return err
			}
			if m.Seq = number(k); m.Expires.After(now) {
				ms = append(ms, m)
			}
		}
		return nil
	})
	return ms, err
}

// RemoveUpstream removes those that are there.
func (s *Store) RemoveUpstream(app string, seqs []uint64) *presence.Commit {
	commit, _ := s.updateLater(nil, func(tx *bbolt.Tx) error {
		for _, seq := range seqs {
			if err := removeUpstream(tx, app, seq); err != nil {
				return err
			}
		}
		return nil
	})
	return commit
}

// PurgeUpstream removes all of the user to app ("": to any).
func (s *Store) PurgeUpstream(email, app string) error {
	if err := checkKeys("e-mail of a message", email); err != nil {
		return err
	}
	prefix := prefixOf(email)
	if app != "" {
		prefix = append(pair(email, app), 0)
	}
	none := false
	if err := s.view(func(tx *bbolt.Tx) error { // nearly always there is nothing, and then no commit
		k, _ := firstOf(inUpstreamByUser.of(tx).Cursor(), prefix)
		none = k == nil
		return nil
	}); none || err != nil {
		return err
	}
	return s.update(nil, func(tx *bbolt.Tx) error { return purgeUpstream(tx, prefix) })
}

// purgeUpstream removes what the keys of upstream_by_user under prefix point at.
func purgeUpstream(tx *bbolt.Tx, prefix []byte) error {
	for _, k := range keysOf(inUpstreamByUser.of(tx), prefix, 0) {
		if err := removeUpstream(tx, appOfUpstream(k), number(k)); err != nil {
			return err
		}
	}
	return nil
}

// appOfUpstream reads the appid from a key of upstream_by_user: e-mail 00 appid 00 number.
func appOfUpstream(k []byte) string {
	_, rest := splitPair(k[:len(k)-9])
	return rest
}

// sweepUpstream deletes at most max messages that have expired.
func (s *Store) sweepUpstream(now time.Time, max int) (removed int, err error) {
	if nanos(now) < s.upstream.Load() {
		return 0, nil
	}
	s.upstream.Store(never) // a message that comes meanwhile lowers it
	limit := appendTime(nil, now)
	var keys [][]byte
	err = s.view(func(tx *bbolt.Tx) error {
		c := inUpstreamByUntil.of(tx).Cursor()
		defer func() { s.nextUpstream(tx) }()
		for k, _ := c.First(); k != nil && len(keys) < max && bytes.Compare(k[:timeLen], limit) <= 0; k, _ = c.Next() {
			keys = append(keys, bytes.Clone(k[timeLen:]))
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	err = s.update(nil, func(tx *bbolt.Tx) error {
		for _, k := range keys {
			app, _ := splitPair(k)
			if err := removeUpstream(tx, app, binary.BigEndian.Uint64(k[len(k)-8:])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return len(keys), nil
}

// noteUpstream notes that a message expires at t.
func (s *Store) noteUpstream(t time.Time) { lower(&s.upstream, nanos(t)) }

// lower makes a not greater than to.
func lower(a *atomic.Int64, to int64) {
	for {
		old := a.Load()
		if to >= old || a.CompareAndSwap(old, to) {
			return
		}
	}
}

// nextUpstream notes what expires first of all that is on disk.
func (s *Store) nextUpstream(tx *bbolt.Tx) {
	if k, _ := inUpstreamByUntil.of(tx).Cursor().First(); k != nil {
		s.noteUpstream(readTime(k))
	}
}

// checkUpstream compares the messages with what points at them.
func checkUpstream(tx *bbolt.Tx) error {
	count := func(b bucket) (n int) {
		c := b.of(tx).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			n++
		}
		return n
	}
	n := count(inUpstream)
	if u, t := count(inUpstreamByUser), count(inUpstreamByUntil); u != n || t != n {
		return fmt.Errorf("%d messages to apps, %d by user, %d by expiry", n, u, t)
	}
	c := inUpstream.of(tx).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		m, err := unmarshal[presence.Upstream](tx, k, v)
		if err != nil {
			return err
		}
		if inUpstreamByUser.of(tx).Get(numbered(m.Email+"\x00"+m.App, number(k))) == nil {
			return fmt.Errorf("message %x is not found by its user", k)
		}
	}
	return nil
}
