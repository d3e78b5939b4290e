package store

import (
	"encoding/binary"
	"encoding/json"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// maxNotices is how many wait for one app; the oldest go. An app that stays away for longer than that has lost touch.
const maxNotices = 100_000

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
	return s.update(nil, func(tx *bbolt.Tx) error { return putNotice(tx, n) })
}

func putNotice(tx *bbolt.Tx, n *presence.Notice) error {
	b, last := inNotices.of(tx), inNoticeSeq.of(tx)
	n.ID = 1
	if v := last.Get([]byte(n.App)); v != nil {
		n.ID = binary.BigEndian.Uint64(v) + 1
	}
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
