package store

import (
	"bytes"
	"strings"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// GrantsOfApp returns at most max of the app's grants in the order of PUID, from behind after ("": from the first).
// This order says nothing about the users.
func (s *Store) GrantsOfApp(app, after string, max int) (gs []presence.Grant, err error) {
	prefix := prefixOf(app)
	from := prefix
	if after != "" {
		from = append(pair(app, after), 0)
	}
	err = s.view(func(tx *bbolt.Tx) error {
		c := inGrantsByPUID.of(tx).Cursor()
		for k, email := c.Seek(from); bytes.HasPrefix(k, prefix) && len(gs) < max; k, email = c.Next() {
			g, ok, err := getJSON[presence.Grant](tx, inGrants, pair(string(email), app))
			if err != nil {
				return err
			}
			if ok {
				gs = append(gs, g)
			}
		}
		return nil
	})
	return gs, err
}

// maxLook is how many users one search looks at.
const maxLook = 10000

// FindUsers returns at most max users whose e-mail has part in it ("": all), in the order of e-mail, from behind after
// ("": from the first), and where to go on; "": there are no more. It looks at 10,000 at most, so that it may find
// fewer than there are before it says where to go on.
func (s *Store) FindUsers(part, after string, max int) (us []presence.User, next string, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		c := inUsers.of(tx).Cursor()
		k, v := c.First()
		if after != "" {
			k, v = c.Seek(append([]byte(after), 0))
		}
		for looked := 0; k != nil; k, v = c.Next() {
			if len(us) == max || looked == maxLook {
				next = after
				return nil
			}
			looked++
			if after = string(k); !strings.Contains(after, part) {
				continue
			}
			u, err := unmarshal[presence.User](tx, k, v)
			if err != nil {
				return err
			}
			us = append(us, u)
		}
		return nil
	})
	return us, next, err
}

// CountUsers counts the users, up to most.
func (s *Store) CountUsers(most int) (n int, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		c := inUsers.of(tx).Cursor()
		for k, _ := c.First(); k != nil && n < most; k, _ = c.Next() {
			n++
		}
		return nil
	})
	return n, err
}

// CountWaiting counts the notifications that wait, for all users.
func (s *Store) CountWaiting() int { return s.index.total(nanos(s.now())) }
