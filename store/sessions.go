package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// session is one of the web pages' sessions. Its key is the hash of the token in the cookie, so that whoever steals
// the file has no session.
type session struct {
	Email   string    `json:"email,omitempty"` // whose it is; "": nobody has signed in
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires"`
	Data    []byte    `json:"data"` // nil: bound and not written yet, or ended
	// Ended sessions stay for a while, so that a request which had read one before does not write it again.
	Ended bool `json:"ended,omitempty"`
}

const (
	bindTime       = time.Hour       // how long a session without data, or one of those that ended together, is kept
	goneTime       = 5 * time.Minute // the same, one that ended alone: far longer than a request lasts
	maxSessions    = 100             // of one user; then the one that ends first goes
	maxAnonymous   = 10_000          // of nobody; then some of them go
	spareAnonymous = 1_000           // so many
)

func sessionKey(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// Find returns the data of a session of the web pages (scs.Store); false: there is none, or no more.
func (s *Store) Find(token string) (data []byte, found bool, err error) {
	v, ok, err := lookJSON[session](s, inSessions, sessionKey(token))
	if !ok || v.Ended || v.Data == nil || !s.now().Before(v.Expires) {
		return nil, false, err
	}
	return v.Data, true, nil
}

// Commit writes a session (scs.Store). One that was ended meanwhile stays so.
func (s *Store) Commit(token string, data []byte, expiry time.Time) error {
	if data == nil {
		data = []byte{}
	}
	return s.editSession(token, func(v *session) { v.Data, v.Expires = data, expiry })
}

// Delete ends a session (scs.Store); unknown ones are ignored.
func (s *Store) Delete(token string) error {
	k := sessionKey(token)
	return s.update(nil, func(tx *bbolt.Tx) error { return s.endSession(tx, k) })
}

// endSession ends one session: what was somebody's leaves a mark for as long as a request may still write it.
func (s *Store) endSession(tx *bbolt.Tx, k []byte) error {
	v, ok, err := getJSON[session](tx, inSessions, k)
	if !ok || v.Ended {
		return err
	}
	if err := forgetSession(tx, k); err != nil || v.Email == "" {
		return err
	}
	until := s.now().Add(goneTime)
	lower(&s.sessions, nanos(until))
	return putSession(tx, k, &session{Ended: true, Expires: until})
}

// BindSession says whose a session is, so that EndSessions finds it. It may come before the first Commit.
func (s *Store) BindSession(token, email string) error {
	if err := checkKeys("e-mail of a session", email); err != nil {
		return err
	}
	until := s.now().Add(bindTime)
	return s.editSession(token, func(v *session) {
		if v.Email = email; v.Expires.IsZero() {
			v.Expires = until
		}
	})
}

// editSession changes a session, or makes one, unless it was ended.
func (s *Store) editSession(token string, edit func(*session)) error {
	k, now := sessionKey(token), s.now()
	return s.update(nil, func(tx *bbolt.Tx) error {
		v, known, err := getJSON[session](tx, inSessions, k)
		if err != nil || v.Ended {
			return err
		}
		if known {
			err = forgetSession(tx, k)
		} else {
			v.Created = now
		}
		if err != nil {
			return err
		}
		edit(&v)
		lower(&s.sessions, nanos(v.Expires))
		if err := s.roomForSession(tx, v.Email); err != nil {
			return err
		}
		return putSession(tx, k, &v)
	})
}

// roomForSession ends sessions until one more of the user, or of nobody, is not too many.
func (s *Store) roomForSession(tx *bbolt.Tx, email string) error {
	if email == "" {
		return s.roomForAnonymous(tx)
	}
	prefix := prefixOf(email)
	keys := keysOf(inSessionsByEmail.of(tx), prefix, 0)
	if len(keys) < maxSessions {
		return nil
	}
	var first []byte
	var ends time.Time
	for _, k := range keys {
		v, _, err := getJSON[session](tx, inSessions, k[len(prefix):])
		if err != nil {
			return err
		}
		if first == nil || v.Expires.Before(ends) {
			first, ends = k[len(prefix):], v.Expires
		}
	}
	return s.endSession(tx, first)
}

// roomForAnonymous counts only when there may be too many; which ones go is by their hashes, so by chance.
func (s *Store) roomForAnonymous(tx *bbolt.Tx) error {
	if s.anonymous.Add(1) <= maxAnonymous {
		return nil
	}
	prefix := prefixOf("")
	keys := keysOf(inSessionsByEmail.of(tx), prefix, 0)
	if len(keys) >= maxAnonymous {
		for _, k := range keys[:spareAnonymous] {
			if err := forgetSession(tx, k[len(prefix):]); err != nil {
				return err
			}
		}
		keys = keys[spareAnonymous:]
	}
	s.anonymous.Store(int64(len(keys)) + 1)
	return nil
}

func putSession(tx *bbolt.Tx, k []byte, v *session) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if !v.Ended {
		if err := inSessionsByEmail.of(tx).Put(pair(v.Email, string(k)), nil); err != nil {
			return err
		}
	}
	if err := inSessionsByUntil.of(tx).Put(append(appendTime(nil, v.Expires), k...), nil); err != nil {
		return err
	}
	return inSessions.of(tx).Put(k, value)
}

// forgetSession removes what is stored at k, if anything is.
func forgetSession(tx *bbolt.Tx, k []byte) error {
	v, ok, err := getJSON[session](tx, inSessions, k)
	if !ok {
		return err
	}
	if err := inSessionsByEmail.of(tx).Delete(pair(v.Email, string(k))); err != nil {
		return err
	}
	if err := inSessionsByUntil.of(tx).Delete(append(appendTime(nil, v.Expires), k...)); err != nil {
		return err
	}
	return inSessions.of(tx).Delete(k)
}

// SessionsOf returns the user's web sessions that have not expired, in no order.
func (s *Store) SessionsOf(email string) ([]presence.WebSession, error) {
	now := s.now()
	all, err := collect(s, inSessionsByEmail, prefixOf(email), func(tx *bbolt.Tx, k, _ []byte) (presence.WebSession, error) {
		_, hash := splitPair(k)
		v, _, err := getJSON[session](tx, inSessions, []byte(hash))
		return presence.WebSession{Created: v.Created, Expires: v.Expires}, err
	})
	return slices.DeleteFunc(all, func(w presence.WebSession) bool { return !now.Before(w.Expires) }), err
}

// EndSessions ends all of the user's web sessions.
func (s *Store) EndSessions(email string) error {
	if err := checkKeys("e-mail of a session", email); err != nil {
		return err
	}
	until := s.now().Add(bindTime)
	lower(&s.sessions, nanos(until))
	return s.update(nil, func(tx *bbolt.Tx) error { return endSessions(tx, email, until) })
}

func endSessions(tx *bbolt.Tx, email string, until time.Time) error {
	prefix := prefixOf(email)
	for _, k := range keysOf(inSessionsByEmail.of(tx), prefix, 0) {
		hash := k[len(prefix):]
		if err := forgetSession(tx, hash); err != nil {
			return err
		}
		if err := putSession(tx, hash, &session{Ended: true, Expires: until}); err != nil {
			return err
		}
	}
	return nil
}

// sweepSessions removes at most max sessions that have expired.
func (s *Store) sweepSessions(now time.Time, max int) (removed int, err error) {
	if nanos(now) < s.sessions.Load() {
		return 0, nil
	}
	s.sessions.Store(never) // a session that comes meanwhile lowers it
	limit := appendTime(nil, now)
	var keys [][]byte
	err = s.view(func(tx *bbolt.Tx) error {
		defer s.nextSession(tx)
		c := inSessionsByUntil.of(tx).Cursor()
		for k, _ := c.First(); k != nil && len(keys) < max && bytes.Compare(k[:timeLen], limit) <= 0; k, _ = c.Next() {
			keys = append(keys, bytes.Clone(k))
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	err = s.update(nil, func(tx *bbolt.Tx) error {
		for _, k := range keys {
			if inSessionsByUntil.of(tx).Get(k) == nil {
				continue // it lives longer now, or has gone
			}
			if err := forgetSession(tx, k[timeLen:]); err != nil {
				return err
			}
		}
		return nil
	})
	return len(keys), err
}

// nextSession notes what expires first of all that is on disk.
func (s *Store) nextSession(tx *bbolt.Tx) {
	if k, _ := inSessionsByUntil.of(tx).Cursor().First(); k != nil {
		lower(&s.sessions, nanos(readTime(k)))
	}
}

// checkSessions compares the sessions with what points at them.
func checkSessions(tx *bbolt.Tx) error {
	byEmail, byUntil := tally{inSessionsByEmail, map[string]string{}}, tally{inSessionsByUntil, map[string]string{}}
	c := inSessions.of(tx).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		e, err := unmarshal[session](tx, k, v)
		if err != nil {
			return err
		}
		if !e.Ended {
			byEmail.want[string(pair(e.Email, string(k)))] = ""
		}
		byUntil.want[string(append(appendTime(nil, e.Expires), k...))] = ""
	}
	return errors.Join(byEmail.check(tx), byUntil.check(tx))
}
