package store

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// RequestsOf returns what waits for the user's answer, ordered by appid.
func (s *Store) RequestsOf(email string) ([]presence.Request, error) {
	return collect(s, inRequests, prefixOf(email), unmarshal[presence.Request])
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
	err = s.update(nil, func(tx *bbolt.Tx) error {
		b, k := inRequests.of(tx), pair(r.Email, r.App)
		if kept = inUsers.of(tx).Get([]byte(r.Email)) != nil && b.Get(k) == nil &&
			len(keysOf(b, prefixOf(r.Email), max)) < max; !kept {
			return nil
		}
		if err := inRequestsByApp.of(tx).Put(pair(r.App, r.Email), nil); err != nil {
			return err
		}
		return b.Put(k, value)
	})
	return kept && err == nil, err
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
			if err := putNotice(tx, n); err != nil {
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

// removeRequestsOfApp forgets what an app asked anybody.
func removeRequestsOfApp(tx *bbolt.Tx, app string) error {
	for _, k := range keysOf(inRequestsByApp.of(tx), prefixOf(app), 0) {
		_, email := splitPair(k)
		if err := removeRequest(tx, email, app); err != nil {
			return err
		}
	}
	return nil
}
