package store

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// maxTokens is how many tokens that have not expired one user can have.
const maxTokens = 100

func readToken(_ *bbolt.Tx, k, v []byte) (presence.Token, error) {
	t, err := unmarshal[presence.Token](nil, k, v)
	copy(t.Hash[:], k)
	return t, err
}

// tokenByEmail reads the token that an entry of tokens_by_email points at.
func tokenByEmail(tx *bbolt.Tx, k, _ []byte) (presence.Token, error) {
	hash := k[len(k)-32:]
	return readToken(tx, hash, inTokens.of(tx).Get(hash))
}

// PutTokens writes tokens, all or nothing, creates the users it does not know, and forgets expired tokens of theirs.
// ErrFull: a user would have more than 100. presence.ErrExists: the token is another user's.
func (s *Store) PutTokens(ts []presence.Token) error {
	for i := range ts {
		if err := checkKeys("e-mail of a token", ts[i].Email); err != nil {
			return err
		}
		if err := ts[i].Check(); err != nil {
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

func checkTokens(tx *bbolt.Tx, ts []presence.Token, now time.Time) error {
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

func getToken(tx *bbolt.Tx, hash [32]byte) (t presence.Token, ok bool, err error) {
	t, ok, err = getJSON[presence.Token](tx, inTokens, hash[:])
	t.Hash = hash
	return t, ok, err
}

func liveTokens(tx *bbolt.Tx, email string, now time.Time) (n int, err error) {
	ts, err := collectIn(tx, inTokensByEmail, prefixOf(email), tokenByEmail)
	for i := range ts {
		if !ts[i].Expired(now) {
			n++
		}
	}
	return n, err
}

func putToken(tx *bbolt.Tx, t *presence.Token, value []byte, now time.Time) error {
	if err := ensureUser(tx, t.Email, now); err != nil {
		return err
	}
	olds, err := collectIn(tx, inTokensByEmail, prefixOf(t.Email), tokenByEmail)
	if err != nil {
		return err
	}
	for i := range olds {
		if !olds[i].Expired(now) {
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

func removeToken(tx *bbolt.Tx, t *presence.Token) error {
	if err := inTokensByEmail.of(tx).Delete(pair(t.Email, string(t.Hash[:]))); err != nil {
		return err
	}
	return inTokens.of(tx).Delete(t.Hash[:])
}

// LookupToken tells whose device token has this hash; one for the API is none, and so is one of a user who is
// disabled. An expired one is found too: the caller says why it is refused.
func (s *Store) LookupToken(hash [32]byte) (email, device string, expires time.Time, ok bool, err error) {
	t, ok, err := s.lookToken(hash, false)
	return t.Email, t.Device, t.Expires, ok, err
}

// LookupAPIToken returns the token for the API that has this hash, also an expired one; a device's is none, and so is
// one of a user who is disabled.
func (s *Store) LookupAPIToken(hash [32]byte) (presence.Token, bool, error) {
	return s.lookToken(hash, true)
}

func (s *Store) lookToken(hash [32]byte, api bool) (t presence.Token, ok bool, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		if t, ok, err = getToken(tx, hash); !ok {
			return err
		}
		u, _, err := getJSON[presence.User](tx, inUsers, []byte(t.Email))
		ok = err == nil && !u.Disabled
		return err
	})
	if !ok || t.ForAPI() != api {
		return presence.Token{}, false, err
	}
	return t, true, nil
}

// RevokeToken removes one token and returns it; false: there is none. Where it was the last of its device, the device
// is not woken any more; where it was for any, those are not that registered with it.
func (s *Store) RevokeToken(hash [32]byte) (t presence.Token, ok bool, err error) {
	err = s.update(nil, func(tx *bbolt.Tx) error {
		if t, ok, err = getToken(tx, hash); !ok {
			return err
		}
		if err := removeToken(tx, &t); err != nil || t.ForAPI() {
			return err
		}
		if t.Device == "" {
			return removeMadeBy(tx, t.Email, presence.CredentialMark(hex.EncodeToString(hash[:]))) // see identity.CredentialOf
		}
		return signedOut(tx, t.Email, t.Device)
	})
	return t, ok && err == nil, err
}

// signedOut forgets where a device can be woken, if no token of its own is left.
func signedOut(tx *bbolt.Tx, email, device string) error {
	ts, err := collectIn(tx, inTokensByEmail, prefixOf(email), tokenByEmail)
	if err != nil || slices.ContainsFunc(ts, func(t presence.Token) bool { return t.Device == device }) {
		return err
	}
	return removeSubscription(tx, pair(email, device))
}

// TokensOf returns the user's tokens, ordered by hash.
func (s *Store) TokensOf(email string) ([]presence.Token, error) {
	return collect(s, inTokensByEmail, prefixOf(email), tokenByEmail)
}

// RevokeTokens removes the user's tokens for that device ("": all she has) and returns them; the device, or all she has,
// is not woken any more.
func (s *Store) RevokeTokens(email, device string) ([]presence.Token, error) {
	var revoked []presence.Token
	err := s.update(nil, func(tx *bbolt.Tx) error {
		ts, err := collectIn(tx, inTokensByEmail, prefixOf(email), tokenByEmail)
		for i := 0; i < len(ts) && err == nil; i++ {
			if device == "" || ts[i].Device == device {
				revoked = append(revoked, ts[i])
				err = removeToken(tx, &ts[i])
			}
		}
		switch {
		case err != nil:
			return err
		case device == "":
			return removeSubscriptions(tx, prefixOf(email))
		}
		return removeSubscription(tx, pair(email, device))
	})
	if err != nil {
		return nil, err
	}
	return revoked, nil
}

// EachToken calls f with every token, in the order of e-mail; see EachGrant.
func (s *Store) EachToken(f func(presence.Token) error) error {
	return each(s, inTokensByEmail, nil, tokenByEmail, f)
}
