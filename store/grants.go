package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// GrantsOf returns the user's grants, ordered by appid.
func (s *Store) GrantsOf(email string) ([]presence.Grant, error) {
	return collect(s, inGrants, prefixOf(email), s.readGrant)
}

// readGrant reads a grant as it is now: without a pause that has ended.
func (s *Store) readGrant(tx *bbolt.Tx, k, v []byte) (presence.Grant, error) {
	g, err := unmarshal[presence.Grant](tx, k, v)
	g.Settle(s.now())
	return g, err
}

func (s *Store) getGrant(tx *bbolt.Tx, email, app string) (g presence.Grant, ok bool, err error) {
	k := pair(email, app)
	v := inGrants.of(tx).Get(k)
	if v == nil {
		return g, false, nil
	}
	g, err = s.readGrant(tx, k, v)
	return g, err == nil, err
}

// Grant returns one grant; false: there is none.
func (s *Store) Grant(email, app string) (g presence.Grant, ok bool, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		g, ok, err = s.getGrant(tx, email, app)
		return err
	})
	return g, ok, err
}

// GrantByPUID returns the grant under which app knows puid; false: it knows none.
func (s *Store) GrantByPUID(app, puid string) (g presence.Grant, ok bool, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		email := inGrantsByPUID.of(tx).Get(pair(app, puid))
		if email == nil {
			return nil
		}
		g, ok, err = s.getGrant(tx, string(email), app)
		return err
	})
	return g, ok, err
}

// PutGrants writes grants, new or changed, and the audit, all or nothing; users it does not know are created.
// presence.ErrExists: another user of the same app has the PUID.
func (s *Store) PutGrants(gs []presence.Grant, audit []presence.AuditEntry) error {
	for i := range gs {
		if err := checkKeys("e-mail, appid and puid of a grant", gs[i].Email, gs[i].App, gs[i].PUID); err != nil {
			return err
		}
	}
	values, err := marshalAll(gs)
	if err != nil {
		return err
	}
	lines, err := linesOf(audit)
	if err != nil {
		return err
	}
	now := s.now()
	return s.update(
		func(tx *bbolt.Tx) error { return checkPUIDs(tx, gs) },
		func(tx *bbolt.Tx) error {
			for i := range gs {
				if err := putGrant(tx, &gs[i], values[i]); err != nil {
					return err
				}
				if err := ensureUser(tx, gs[i].Email, now); err != nil {
					return err
				}
			}
			return appendAudit(tx, lines)
		})
}

// checkPUIDs refuses a PUID that another user of the app has, on disk or in gs itself.
func checkPUIDs(tx *bbolt.Tx, gs []presence.Grant) error {
	b := inGrantsByPUID.of(tx)
	here := make(map[string]string, len(gs))
	for i := range gs {
		g := &gs[i]
		k := pair(g.App, g.PUID)
		owner, taken := here[string(k)]
		if v := b.Get(k); !taken && v != nil {
			owner, taken = string(v), true
		}
		if taken && owner != g.Email {
			return fmt.Errorf("%w: puid %q is of another user of app %q", presence.ErrExists, g.PUID, g.App)
		}
		here[string(k)] = g.Email
	}
	return nil
}

// putGrant writes g and its index entries over an older one.
func putGrant(tx *bbolt.Tx, g *presence.Grant, value []byte) error {
	k := pair(g.Email, g.App)
	if err := forgetGrant(tx, k); err != nil {
		return err
	}
	if err := dropTopics(tx, g.Email, g.App, g.PUID); err != nil {
		return err
	}
	if err := inGrantsByApp.of(tx).Put(pair(g.App, g.Email), nil); err != nil {
		return err
	}
	if err := inGrantsByPUID.of(tx).Put(pair(g.App, g.PUID), []byte(g.Email)); err != nil {
		return err
	}
	if g.Until != nil {
		if err := inGrantsByUntil.of(tx).Put(untilKey(g), nil); err != nil {
			return err
		}
	}
	return inGrants.of(tx).Put(k, value)
}

// forgetGrant removes the index entries of the grant that is stored at k, if there is one.
func forgetGrant(tx *bbolt.Tx, k []byte) error {
	old, ok, err := getJSON[presence.Grant](tx, inGrants, k)
	if !ok {
		return err
	}
	if err := inGrantsByApp.of(tx).Delete(pair(old.App, old.Email)); err != nil {
		return err
	}
	if err := inGrantsByPUID.of(tx).Delete(pair(old.App, old.PUID)); err != nil {
		return err
	}
	if old.Until == nil {
		return nil
	}
	return inGrantsByUntil.of(tx).Delete(untilKey(&old))
}

func untilKey(g *presence.Grant) []byte {
	return append(appendTime(nil, *g.Until), pair(g.Email, g.App)...)
}

// RemoveGrants removes those that are there, keyed by (e-mail, appid), and writes audit and notices in the same commit.
func (s *Store) RemoveGrants(gs []presence.Grant, audit []presence.AuditEntry, notices []presence.Notice) error {
	lines, err := linesOf(audit)
	if err != nil {
		return err
	}
	for i := range notices {
		if err := checkKeys("appid of a notice", notices[i].App); err != nil {
			return err
		}
	}
	return s.update(nil, func(tx *bbolt.Tx) error {
		for i := range gs {
			if err := removeGrant(tx, pair(gs[i].Email, gs[i].App)); err != nil {
				return err
			}
		}
		for i := range notices {
			if err := s.putNotice(tx, &notices[i]); err != nil {
				return err
			}
		}
		return appendAudit(tx, lines)
	})
}

func removeGrant(tx *bbolt.Tx, k []byte) error {
	if err := forgetGrant(tx, k); err != nil {
		return err
	}
	email, app := splitPair(k)
	if err := dropTopics(tx, email, app, ""); err != nil {
		return err
	}
	return inGrants.of(tx).Delete(k)
}

// NextUntil is the earliest end of all grants; false: none ends.
func (s *Store) NextUntil() (t time.Time, ok bool, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		if k, _ := inGrantsByUntil.of(tx).Cursor().First(); k != nil {
			t, ok = readTime(k), true
		}
		return nil
	})
	return t, ok, err
}

// EndedGrants returns at most max grants whose Until is not after now, earliest first.
func (s *Store) EndedGrants(now time.Time, max int) (gs []presence.Grant, err error) {
	limit := appendTime(nil, now)
	err = s.view(func(tx *bbolt.Tx) error {
		c := inGrantsByUntil.of(tx).Cursor()
		for k, _ := c.First(); k != nil && len(gs) < max && bytes.Compare(k[:timeLen], limit) <= 0; k, _ = c.Next() {
			g, ok, err := getJSON[presence.Grant](tx, inGrants, k[timeLen:])
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

// EachGrant calls f with every grant in the order of (e-mail, appid), or with app's in the order of e-mail; f runs
// outside of any transaction and its first error ends the walk.
func (s *Store) EachGrant(app string, f func(presence.Grant) error) error {
	if app == "" {
		return each(s, inGrants, nil, s.readGrant, f)
	}
	byApp := func(tx *bbolt.Tx, k, _ []byte) (presence.Grant, error) {
		app, email := splitPair(k)
		g, _, err := s.getGrant(tx, email, app)
		return g, err
	}
	return each(s, inGrantsByApp, prefixOf(app), byApp, f)
}

// maxAudit is how many lines are kept for a user; the oldest go.
const maxAudit = 1000

// line is an audit entry ready to be written.
type line struct {
	email string
	value []byte
}

func linesOf(audit []presence.AuditEntry) ([]line, error) {
	lines := make([]line, len(audit))
	for i := range audit {
		if err := checkKeys("e-mail of an audit entry", audit[i].Email); err != nil {
			return nil, err
		}
		value, err := json.Marshal(&audit[i])
		if err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		lines[i] = line{audit[i].Email, value}
	}
	return lines, nil
}

// appendAudit numbers the lines behind those of the same user, without a gap: so first and last tell how many there are.
func appendAudit(tx *bbolt.Tx, lines []line) error {
	b := inAudit.of(tx)
	for _, l := range lines {
		n, prefix := uint64(1), prefixOf(l.email)
		if k, _ := lastOf(b.Cursor(), prefix); k != nil {
			n = number(k) + 1
		}
		if err := b.Put(numbered(l.email, n), l.value); err != nil {
			return err
		}
		if n <= maxAudit {
			continue
		}
		if err := b.Delete(numbered(l.email, n-maxAudit)); err != nil {
			return err
		}
	}
	return nil
}

// AuditOf returns at most max lines of what happened to the user's grants, newest first.
func (s *Store) AuditOf(email string, max int) (entries []presence.AuditEntry, err error) {
	prefix := prefixOf(email)
	err = s.view(func(tx *bbolt.Tx) error {
		c := inAudit.of(tx).Cursor()
		for k, v := lastOf(c, prefix); bytes.HasPrefix(k, prefix) && len(entries) < max; k, v = c.Prev() {
			e, err := unmarshal[presence.AuditEntry](tx, k, v)
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return nil
	})
	return entries, err
}
