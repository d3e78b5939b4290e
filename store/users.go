package store

import (
	"encoding/json"
	"errors"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// User returns one; false: there is none.
func (s *Store) User(email string) (presence.User, bool, error) {
	return lookJSON[presence.User](s, inUsers, []byte(email))
}

// EachUser calls f with every user, in the order of e-mail; see EachGrant.
func (s *Store) EachUser(f func(presence.User) error) error {
	return each(s, inUsers, nil, unmarshal[presence.User], f)
}

// PutUser writes a user, new or changed.
func (s *Store) PutUser(u presence.User) error {
	if err := checkKeys("e-mail", u.Email); err != nil {
		return err
	}
	return s.update(nil, func(tx *bbolt.Tx) error { return putUser(tx, u) })
}

// ChangeUser writes a user who is known, and the audit in the same commit. presence.ErrNoUser: she is not.
func (s *Store) ChangeUser(u presence.User, audit []presence.AuditEntry) error {
	lines, err := linesOf(audit)
	if err != nil {
		return err
	}
	return s.update(func(tx *bbolt.Tx) error {
		if inUsers.of(tx).Get([]byte(u.Email)) == nil {
			return presence.ErrNoUser
		}
		return nil
	}, func(tx *bbolt.Tx) error { return errors.Join(putUser(tx, u), appendAudit(tx, lines)) })
}

func putUser(tx *bbolt.Tx, u presence.User) error {
	value, err := json.Marshal(&u)
	if err != nil {
		return err
	}
	return inUsers.of(tx).Put([]byte(u.Email), value)
}

// ensureUser creates the user where there is none.
func ensureUser(tx *bbolt.Tx, email string, now time.Time) error {
	if inUsers.of(tx).Get([]byte(email)) != nil {
		return nil
	}
	return putUser(tx, presence.User{Email: email, Created: now})
}

// RemoveUser removes all that is stored of the user, grants, queue and audit too, in one commit. presence.ErrNoUser:
// nothing is known of her by that name, but leftovers are removed all the same.
func (s *Store) RemoveUser(email string) error {
	if err := checkKeys("e-mail", email); err != nil {
		return err
	}
	user := s.index.user(email)
	var known bool
	err := s.committer.hand(op{do: func(g *group) error {
		known = inUsers.of(g.tx).Get([]byte(email)) != nil
		if err := g.removeDropped(user, email); err != nil {
			return err
		}
		if err := g.purge(user, email, ""); err != nil {
			return err
		}
		g.dirty = true
		lower(&s.sessions, nanos(s.now().Add(bindTime)))
		return removeUser(g.tx, email, s.now().Add(bindTime))
	}}).Wait()
	if err == nil && !known {
		return presence.ErrNoUser
	}
	return err
}

// removeUser removes what is hers; of her sessions is left until the moment that they are over.
func removeUser(tx *bbolt.Tx, email string, until time.Time) error {
	prefix := prefixOf(email)
	ts, err := collectIn(tx, inTokensByEmail, prefix, tokenByEmail)
	for i := 0; i < len(ts) && err == nil; i++ {
		err = removeToken(tx, &ts[i])
	}
	if err != nil {
		return err
	}
	for _, k := range keysOf(inGrants.of(tx), prefix, 0) {
		if err := removeGrant(tx, k); err != nil {
			return err
		}
	}
	for _, k := range keysOf(inRequests.of(tx), prefix, 0) {
		_, app := splitPair(k)
		if err := removeRequest(tx, email, app); err != nil {
			return err
		}
	}
	if err := leaveDeviceGroups(tx, prefix); err != nil { // where she is known by e-mail; of PUIDs the hub knows
		return err
	}
	if err := purgeUpstream(tx, prefix); err != nil {
		return err
	}
	if err := endSessions(tx, email, until); err != nil {
		return err
	}
	if err := removeSubscriptions(tx, prefix); err != nil {
		return err
	}
	for _, in := range []bucket{inDevices, inAudit, inActivity} {
		if err := deleteKeys(in.of(tx), keysOf(in.of(tx), prefix, 0)); err != nil {
			return err
		}
	}
	return inUsers.of(tx).Delete([]byte(email))
}
