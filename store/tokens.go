package store

import (
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// Token lets a user's devices in. The secret itself is never stored.
type Token struct {
	Hash    [32]byte  `json:"-"` // SHA-256 of the secret; the key
	Email   string    `json:"email"`
	Device  string    `json:"device,omitempty"` // only this device; "": any
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// maxTokens is how many tokens that have not expired one user can have.
const maxTokens = 100

func readToken(_ *bbolt.Tx, k, v []byte) (Token, error) {
	t, err := unmarshal[Token](nil, k, v)
	copy(t.Hash[:], k)
	return t, err
}

// tokenByEmail reads the token that an entry of tokens_by_email points at.
func tokenByEmail(tx *bbolt.Tx, k, _ []byte) (Token, error) {
	hash := k[len(k)-32:]
	return readToken(tx, hash, inTokens.of(tx).Get(hash))
}

// PutTokens writes tokens, all or nothing, creates the users it does not know, and forgets expired tokens of theirs.
// ErrFull: a user would have more than 100. presence.ErrExists: the token is another user's.
func (s *Store) PutTokens(ts []Token) error {
	for i := range ts {
		if err := checkKeys("e-mail of a token", ts[i].Email); err != nil {
			return err
		}
	}
	values, err := marshalAll(ts)
	if err != nil {
		return err
	}
	now := s.now()
	return s.update(
		func(tx *bbolt.Tx) error { return checkTokens(tx, ts, now) },
		func(tx *bbolt.Tx) error {
			for i := range ts {
				if err := putToken(tx, &ts[i], values[i], now); err != nil {
					return err
				}
			}
			return nil
		})
}

func checkTokens(tx *bbolt.Tx, ts []Token, now time.Time) error {
	more := map[string]map[[32]byte]bool{} // those that are new, by e-mail
	owner := map[[32]byte]string{}
	for i := range ts {
		t := &ts[i]
		old, known, err := getToken(tx, t.Hash)
		if err != nil {
			return err
		}
		if other, here := owner[t.Hash]; here && other != t.Email || known && old.Email != t.Email {
			return fmt.Errorf("%w: a token of %s is another user's", presence.ErrExists, t.Email)
		}
		owner[t.Hash] = t.Email
		if !known {
			if more[t.Email] == nil {
				more[t.Email] = map[[32]byte]bool{}
			}
			more[t.Email][t.Hash] = true
		}
	}
	for email, hashes := range more {
		live, err := liveTokens(tx, email, now)
		if err != nil {
			return err
		}
		if live+len(hashes) > maxTokens {
			return fmt.Errorf("%w: %s has %d tokens, %d are allowed", ErrFull, email, live, maxTokens)
		}
	}
	return nil
}

func getToken(tx *bbolt.Tx, hash [32]byte) (t Token, ok bool, err error) {
	t, ok, err = getJSON[Token](tx, inTokens, hash[:])
	t.Hash = hash
	return t, ok, err
}

func (t *Token) expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

func liveTokens(tx *bbolt.Tx, email string, now time.Time) (n int, err error) {
	ts, err := collectIn(tx, inTokensByEmail, prefixOf(email), tokenByEmail)
	for i := range ts {
		if !ts[i].expired(now) {
			n++
		}
	}
	return n, err
}

func putToken(tx *bbolt.Tx, t *Token, value []byte, now time.Time) error {
	if err := ensureUser(tx, t.Email, now); err != nil {
		return err
	}
	olds, err := collectIn(tx, inTokensByEmail, prefixOf(t.Email), tokenByEmail)
	if err != nil {
		return err
	}
	for i := range olds {
		if !olds[i].expired(now) {
			continue
		}
		if err := removeToken(tx, &olds[i]); err != nil {
			return err
		}
	}
	if err := inTokensByEmail.of(tx).Put(pair(t.Email, string(t.Hash[:])), nil); err != nil {
		return err
	}
	return inTokens.of(tx).Put(t.Hash[:], value)
}

func removeToken(tx *bbolt.Tx, t *Token) error {
	if err := inTokensByEmail.of(tx).Delete(pair(t.Email, string(t.Hash[:]))); err != nil {
		return err
	}
	return inTokens.of(tx).Delete(t.Hash[:])
}

// LookupToken tells whose token has this hash. An expired one is found too: the caller says why it is refused.
func (s *Store) LookupToken(hash [32]byte) (email, device string, expires time.Time, ok bool, err error) {
	t, ok, err := lookJSON[Token](s, inTokens, hash[:])
	return t.Email, t.Device, t.Expires, ok, err
}

// TokensOf returns the user's tokens, ordered by hash.
func (s *Store) TokensOf(email string) ([]Token, error) {
	return collect(s, inTokensByEmail, prefixOf(email), tokenByEmail)
}

// RevokeTokens removes the user's tokens for that device ("": all she has) and returns them.
func (s *Store) RevokeTokens(email, device string) ([]Token, error) {
	var revoked []Token
	err := s.update(nil, func(tx *bbolt.Tx) error {
		ts, err := collectIn(tx, inTokensByEmail, prefixOf(email), tokenByEmail)
		for i := 0; i < len(ts) && err == nil; i++ {
			if device == "" || ts[i].Device == device {
				revoked = append(revoked, ts[i])
				err = removeToken(tx, &ts[i])
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return revoked, nil
}

// EachToken calls f with every token, in the order of e-mail; see EachGrant.
func (s *Store) EachToken(f func(Token) error) error {
	return each(s, inTokensByEmail, nil, tokenByEmail, f)
}

// User is somebody who has or had a grant or a token.
type User struct {
	Email   string    `json:"email"`
	Created time.Time `json:"created,omitzero"`
}

// User returns one; false: there is none.
func (s *Store) User(email string) (User, bool, error) {
	return lookJSON[User](s, inUsers, []byte(email))
}

// EachUser calls f with every user, in the order of e-mail; see EachGrant.
func (s *Store) EachUser(f func(User) error) error { return each(s, inUsers, nil, unmarshal[User], f) }

// PutUser writes a user, new or changed.
func (s *Store) PutUser(u User) error {
	if err := checkKeys("e-mail", u.Email); err != nil {
		return err
	}
	return s.update(nil, func(tx *bbolt.Tx) error { return putUser(tx, u) })
}

func putUser(tx *bbolt.Tx, u User) error {
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
	return putUser(tx, User{Email: email, Created: now})
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
		if _, err := g.takeDropped(user, email); err != nil {
			return err
		}
		if err := g.purge(user, email, ""); err != nil {
			return err
		}
		g.dirty = true
		return removeUser(g.tx, email)
	}}).Wait()
	if err == nil && !known {
		return presence.ErrNoUser
	}
	return err
}

func removeUser(tx *bbolt.Tx, email string) error {
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
	for _, in := range []bucket{inDevices, inAudit} {
		if err := deleteKeys(in.of(tx), keysOf(in.of(tx), prefix, 0)); err != nil {
			return err
		}
	}
	return inUsers.of(tx).Delete([]byte(email))
}
