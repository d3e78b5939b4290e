package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

const (
	maxActivity  = 1000                // events kept for a user; the oldest go
	keepActivity = 35 * 24 * time.Hour // and those before this
)

// AppendActivity keeps what happened for those whom it was about; events without an e-mail, and of users who are
// not known (any more), are left out.
func (s *Store) AppendActivity(es []presence.Event) error {
	values, err := marshalAll(es)
	if err != nil || len(es) == 0 {
		return err
	}
	for i := range es {
		if es[i].Email == "" {
			continue
		}
		if err := checkKeys("e-mail of an event", es[i].Email); err != nil {
			return err
		}
	}
	return s.update(nil, func(tx *bbolt.Tx) error {
		for i := range es {
			if inUsers.of(tx).Get([]byte(es[i].Email)) == nil {
				continue
			}
			if err := appendEvent(tx, es[i].Email, values[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// appendEvent numbers the event behind those of the same user, without a gap.
func appendEvent(tx *bbolt.Tx, email string, value []byte) error {
	b, n, prefix := inActivity.of(tx), uint64(1), prefixOf(email)
	if k, _ := lastOf(b.Cursor(), prefix); k != nil {
		n = number(k) + 1
	}
	if err := b.Put(numbered(email, n), value); err != nil || n <= maxActivity {
		return err
	}
	return b.Delete(numbered(email, n-maxActivity))
}

// ActivityOf returns at most max events of the user's from since on, newest first.
func (s *Store) ActivityOf(email string, since time.Time, max int) (es []presence.Event, err error) {
	prefix := prefixOf(email)
	if limit := s.now().Add(-keepActivity); since.Before(limit) {
		since = limit
	}
	err = s.view(func(tx *bbolt.Tx) error {
		c := inActivity.of(tx).Cursor()
		for k, v := lastOf(c, prefix); bytes.HasPrefix(k, prefix) && len(es) < max; k, v = c.Prev() {
			var e presence.Event
			if err := json.Unmarshal(v, &e); err != nil {
				return fmt.Errorf("store: the value of %q is damaged: %w", k, err)
			}
			if e.Time.Before(since) {
				break
			}
			es = append(es, e)
		}
		return nil
	})
	return es, err
}
