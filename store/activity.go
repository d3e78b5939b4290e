package store

import (
	"bytes"
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
	lower(&s.activity, nanos(s.now().Add(keepActivity)))
	return s.update(nil, func(tx *bbolt.Tx) error {
		for i := range es {
			if !knownAt(tx, es[i].Email, es[i].Time) {
				continue
			}
			if err := appendEvent(tx, es[i].Email, values[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// knownAt reports whether there is such a user, and was at t: what comes late from before she had herself erased must
// not be kept of who comes anew.
func knownAt(tx *bbolt.Tx, email string, t time.Time) bool {
	u, err := unmarshal[presence.User](tx, []byte(email), inUsers.of(tx).Get([]byte(email)))
	return err == nil && !t.Before(u.Created)
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
			e, err := unmarshal[presence.Event](tx, k, v)
			if err != nil {
				return err
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

const (
	trimUsers = 1000      // how many users' oldest events one trimActivity looks at
	trimEvery = time.Hour // after all were looked at
)

// trimActivity removes at most max events that are too old to be shown, of the users behind those that the last call
// looked at.
func (s *Store) trimActivity(now time.Time, max int) (removed int, err error) {
	s.trimming.Lock()
	defer s.trimming.Unlock()
	if nanos(now) < s.activity.Load() {
		return 0, nil
	}
	limit := now.Add(-keepActivity)
	var keys [][]byte
	var all bool
	err = s.view(func(tx *bbolt.Tx) error {
		keys, s.trimmed, all, err = oldEvents(inActivity.of(tx).Cursor(), s.trimmed, limit, max)
		return err
	})
	if err == nil && all {
		s.activity.Store(nanos(now.Add(trimEvery)))
	}
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	return len(keys), s.update(nil, func(tx *bbolt.Tx) error { return deleteKeys(inActivity.of(tx), keys) })
}

// oldEvents collects the keys of at most max events before limit, of at most trimUsers users behind the one named,
// and names the last one looked at; all: there is nobody behind her, so the next look begins anew.
func oldEvents(c *bbolt.Cursor, behind string, limit time.Time, max int) (keys [][]byte, last string, all bool, err error) {
	for range trimUsers {
		k, v := c.Seek(append([]byte(behind), 1)) // behind all of hers, which go on with a zero
		if k == nil {
			return keys, "", true, nil
		}
		email, _ := splitPair(k)
		for prefix := prefixOf(email); bytes.HasPrefix(k, prefix); k, v = c.Next() {
			e, err := unmarshal[presence.Event](nil, k, v)
			if err != nil {
				return nil, behind, false, err
			}
			if !e.Time.Before(limit) {
				break
			}
			if len(keys) == max {
				return keys, behind, false, nil
			}
			keys = append(keys, bytes.Clone(k))
		}
		behind = email
	}
	return keys, behind, false, nil
}
