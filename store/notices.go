package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// maxNotices is how many wait for one app, and noticeLife for how long; the oldest go. An app that stays away for longer
// than that has lost touch. One that knows only CCS never hears of them: it is told of each token when it uses it.
const (
	maxNotices = 100_000
	noticeLife = 90 * 24 * time.Hour
)

// NoticesOf returns at most max notices of app, oldest first.
func (s *Store) NoticesOf(app string, max int) (ns []presence.Notice, err error) {
	prefix := prefixOf(app)
	err = s.view(func(tx *bbolt.Tx) error {
		c := inNotices.of(tx).Cursor()
		for k, v := firstOf(c, prefix); k != nil && len(ns) < max; k, v = nextOf(c, prefix) {
			n, err := unmarshal[presence.Notice](tx, k, v)
			if err != nil {
				return err
			}
			ns = append(ns, n)
		}
		return nil
	})
	return ns, err
}

// PutNotice keeps n for its app under the app's next id.
func (s *Store) PutNotice(n *presence.Notice) error {
	if err := checkKeys("appid of a notice", n.App); err != nil {
		return err
	}
	return s.update(nil, func(tx *bbolt.Tx) error { return s.putNotice(tx, n) })
}

func (s *Store) putNotice(tx *bbolt.Tx, n *presence.Notice) error {
	b, last := inNotices.of(tx), inNoticeSeq.of(tx)
	n.ID = 1
	if v := last.Get([]byte(n.App)); v != nil {
		n.ID = binary.BigEndian.Uint64(v) + 1
	}
	n.Time = s.now().UTC()
	lower(&s.notices, overAt(n))
	value, err := json.Marshal(n)
	if err != nil {
		return err
	}
	if err := last.Put([]byte(n.App), be64(n.ID)); err != nil {
		return err
	}
	if err := b.Put(numbered(n.App, n.ID), value); err != nil || n.ID <= maxNotices {
		return err
	}
	return b.Delete(numbered(n.App, n.ID-maxNotices))
}

// DropNotices forgets these of app; unknown ones are ignored.
func (s *Store) DropNotices(app string, ids []uint64) error {
	return s.update(nil, func(tx *bbolt.Tx) error {
		for _, id := range ids {
			if err := inNotices.of(tx).Delete(numbered(app, id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// sweepNotices deletes at most max of those that have waited for too long. It looks at the oldest of each app.
func (s *Store) sweepNotices(now time.Time, max int) (removed int, err error) {
	if nanos(now) < s.notices.Load() {
		return 0, nil
	}
	s.notices.Store(never) // a notice that comes meanwhile lowers it
	var keys [][]byte
	err = s.view(func(tx *bbolt.Tx) error {
		defer s.nextNotice(tx)
		apps := inNoticeSeq.of(tx).Cursor()
		for app, _ := apps.First(); app != nil && len(keys) < max; app, _ = apps.Next() {
			old, err := oldNotices(tx, string(app), now.Add(-noticeLife), max-len(keys))
			if err != nil {
				return err
			}
			keys = append(keys, old...)
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	err = s.update(nil, func(tx *bbolt.Tx) error { return deleteKeys(inNotices.of(tx), keys) })
	if err != nil {
		return 0, err
	}
	return len(keys), nil
}

// overAt is when a notice has waited for too long. One without a time is from before there were any.
func overAt(n *presence.Notice) int64 {
	if n.Time.IsZero() {
		return 0
	}
	return nanos(n.Time.Add(noticeLife))
}

// nextNotice notes which has waited for longest of all that are on disk.
func (s *Store) nextNotice(tx *bbolt.Tx) {
	apps, c := inNoticeSeq.of(tx).Cursor(), inNotices.of(tx).Cursor()
	for app, _ := apps.First(); app != nil; app, _ = apps.Next() {
		k, v := firstOf(c, prefixOf(string(app)))
		if k == nil {
			continue
		}
		if n, err := unmarshal[presence.Notice](tx, k, v); err == nil { // of one that cannot be read its readers tell
			lower(&s.notices, overAt(&n))
		}
	}
}

// oldNotices returns the keys of at most max of the app's that are from before limit.
func oldNotices(tx *bbolt.Tx, app string, limit time.Time, max int) (keys [][]byte, err error) {
	c, prefix := inNotices.of(tx).Cursor(), prefixOf(app)
	for k, v := firstOf(c, prefix); k != nil && len(keys) < max; k, v = nextOf(c, prefix) {
		n, err := unmarshal[presence.Notice](tx, k, v)
		if err != nil || !n.Time.Before(limit) {
			return keys, err
		}
		keys = append(keys, bytes.Clone(k))
	}
	return keys, nil
}

// dropNoticesOfApp forgets all of app, in commits of at most 1,000.
func (s *Store) dropNoticesOfApp(app string) error {
	for {
		var keys [][]byte
		err := s.view(func(tx *bbolt.Tx) error {
			keys = keysOf(inNotices.of(tx), prefixOf(app), slice)
			return nil
		})
		if err != nil || len(keys) == 0 {
			return err
		}
		if err := s.update(nil, func(tx *bbolt.Tx) error { return deleteKeys(inNotices.of(tx), keys) }); err != nil {
			return err
		}
	}
}
