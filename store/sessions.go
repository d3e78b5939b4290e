package store

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"go.etcd.io/bbolt"
)

// session is one of the web pages' sessions. Its key is the hash of the token in the cookie, so that whoever steals
// the file has no session.
type session struct {
	Email   string    `json:"email,omitempty"` // whose it is; "": nobody has signed in
	Expires time.Time `json:"expires"`
	Data    []byte    `json:"data,omitempty"` // nil: bound and not written yet, or ended
	// Ended sessions stay for a while, so that a request which had read one before does not write it again.
	Ended bool `json:"ended,omitempty"`
}

const bindTime = time.Hour // how long a session without data, or an ended one, is kept

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

// Delete removes a session (scs.Store); unknown ones are ignored.
func (s *Store) Delete(token string) error {
	k := sessionKey(token)
	return s.update(nil, func(tx *bbolt.Tx) error { return forgetSession(tx, k) })
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

func (s *Store) editSession(token string, edit func(*session)) error {
	k := sessionKey(token)
	return s.update(nil, func(tx *bbolt.Tx) error {
		v, _, err := getJSON[session](tx, inSessions, k)
		if err != nil || v.Ended {
			return err
		}
		if err := forgetSession(tx, k); err != nil {
			return err
		}
		edit(&v)
		return putSession(tx, k, &v)
	})
}

func putSession(tx *bbolt.Tx, k []byte, v *session) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := inSessionsByEmail.of(tx).Put(pair(v.Email, string(k)), nil); err != nil {
		return err
	}
	if err := inSessionsByUntil.of(tx).Put(append(appendTime(nil, v.Expires), k...), nil); err != nil {
		return err
	}
	return inSessions.of(tx).Put(k, value)
}

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

// EndSessions ends all of the user's web sessions.
func (s *Store) EndSessions(email string) error {
	if err := checkKeys("e-mail of a session", email); err != nil {
		return err
	}
	until := s.now().Add(bindTime)
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
