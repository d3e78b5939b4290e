package store

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// RequestsOf returns what waits for the user's answer, oldest first.
func (s *Store) RequestsOf(email string) ([]presence.Request, error) {
	rs, err := collect(s, inRequests, prefixOf(email), unmarshal[presence.Request])
	slices.SortStableFunc(rs, func(a, b presence.Request) int { return a.Time.Compare(b.Time) })
	return rs, err
}

// Request returns the app's request to the user.
func (s *Store) Request(email, app string) (r presence.Request, ok bool, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		r, ok, err = getJSON[presence.Request](tx, inRequests, pair(email, app))
		return err
	})
	return r, ok, err
}

// PutRequest keeps r; see [presence.Requests].
func (s *Store) PutRequest(r presence.Request, max int) (kept bool, err error) {
	if err := checkKeys("e-mail and appid of a request", r.Email, r.App); err != nil {
		return false, err
	}
	value, err := json.Marshal(&r)
	if err != nil {
		return false, fmt.Errorf("store: %w", err)
	}
	// Kept or not, it goes through a commit, so that the time it takes does not tell who exists.
	err = s.update(nil, func(tx *bbolt.Tx) error {
		if kept = roomForRequest(tx, &r, max); !kept {
			return nil
		}
		if err := inRequestsByApp.of(tx).Put(pair(r.App, r.Email), nil); err != nil {
			return err
		}
		return inRequests.of(tx).Put(pair(r.Email, r.App), value)
	})
	return kept && err == nil, err
}

// roomForRequest tells whether the user is known, has none of this app waiting, and fewer than max of all.
func roomForRequest(tx *bbolt.Tx, r *presence.Request, max int) bool {
	b := inRequests.of(tx)
	return inUsers.of(tx).Get([]byte(r.Email)) != nil && b.Get(pair(r.Email, r.App)) == nil &&
		len(keysOf(b, prefixOf(r.Email), max)) < max
}

// RemoveRequest forgets one and keeps the notice, whose ID it fills in; n nil: there is none.
func (s *Store) RemoveRequest(email, app string, audit []presence.AuditEntry, n *presence.Notice) error {
	lines, err := linesOf(audit)
	if err != nil {
		return err
	}
	if n != nil {
		if err := checkKeys("appid of a notice", n.App); err != nil {
			return err
		}
	}
	return s.update(nil, func(tx *bbolt.Tx) error {
		if err := removeRequest(tx, email, app); err != nil {
			return err
		}
		if n != nil {
			if err := s.putNotice(tx, n); err != nil {
				return err
			}
		}
		return appendAudit(tx, lines)
	})
}

func removeRequest(tx *bbolt.Tx, email, app string) error {
	if err := inRequestsByApp.of(tx).Delete(pair(app, email)); err != nil {
		return err
	}
	return inRequests.of(tx).Delete(pair(email, app))
}

// dropRequestsOfApp forgets what an app asked anybody, in commits of at most 1,000.
func (s *Store) dropRequestsOfApp(app string) error { return s.dropSliced(app, removeRequestsOfApp) }

// dropSliced removes what an app has of one kind, in commits of at most 1,000; remove returns how many it removed, max
// where there may be more.
func (s *Store) dropSliced(app string, remove func(tx *bbolt.Tx, app string, max int) (int, error)) error {
	for n := slice; n == slice; {
		err := s.update(nil, func(tx *bbolt.Tx) (err error) {
			n, err = remove(tx, app, slice)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// removeRequestsOfApp removes at most max (0: all) and returns how many.
func removeRequestsOfApp(tx *bbolt.Tx, app string, max int) (int, error) {
	keys := keysOf(inRequestsByApp.of(tx), prefixOf(app), max)
	for _, k := range keys {
		_, email := splitPair(k)
		if err := removeRequest(tx, email, app); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}
