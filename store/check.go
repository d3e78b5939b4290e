package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// CheckConsistency compares everything that is stored twice: the index with the queue, each by-bucket with what it
// points at, the file's own structure. It stops writes while it reads the whole file; for tests and for doubts.
func (s *Store) CheckConsistency() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.view(func(tx *bbolt.Tx) error {
		var errs []error
		for err := range tx.Check() {
			errs = append(errs, err)
		}
		for _, check := range []func(*bbolt.Tx) error{s.checkQueue, s.checkDropped, checkApps, checkGrants, checkRequests, checkUpstream, checkTokenIndex,
			checkNumbering(inAudit, maxAudit), checkNumbering(inActivity, maxActivity), checkSessions, checkTopics, s.checkDevices, checkPush, s.checkTrails, checkDeviceGroups} {
			errs = append(errs, check(tx))
		}
		return errors.Join(errs...)
	})
}

// checkQueue compares the index with the disk, both ways.
func (s *Store) checkQueue(tx *bbolt.Tx) error {
	var errs []error
	garbage := map[uint64]bool{}
	for _, seq := range s.garbage {
		garbage[seq] = true
	}
	onDisk, purges, b := map[userKey][]entry{}, readPurges(tx), inQueue.of(tx)
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		seq := number(k)
		n, err := readRecord(seq, v)
		if err != nil {
			errs = append(errs, fmt.Errorf("record %d: %w", seq, err))
			continue
		}
		if seq > b.Sequence() {
			errs = append(errs, fmt.Errorf("record %d has a number that was not given yet (%d)", seq, b.Sequence()))
		}
		r, _ := viewRecord(v)
		if dead := purges.cover(&r, seq); dead != garbage[seq] {
			errs = append(errs, fmt.Errorf("record %d: a purge covers it: %t, it is garbage: %t", seq, dead, garbage[seq]))
		}
		if !garbage[seq] {
			user := s.index.user(n.Email)
			onDisk[user] = append(onDisk[user], s.index.entryOf(&n))
		}
		delete(garbage, seq)
	}
	if len(garbage) > 0 {
		errs = append(errs, fmt.Errorf("%d records are garbage and not on disk", len(garbage)))
	}
	return errors.Join(append(errs, s.checkIndex(onDisk))...)
}

func (s *Store) checkIndex(onDisk map[userKey][]entry) error {
	var errs []error
	users := 0
	for i := range s.index.shards {
		l := &s.index.shards[i].waiting
		users += len(l.users)
		live := 0
		for user := range l.users {
			var es []entry
			for e := range l.of(user) {
				plain := *e
				plain.next = 0
				es = append(es, plain)
				if plain.expires != 0 && plain.expires < s.index.shards[i].soonest {
					errs = append(errs, fmt.Errorf("record %d expires before the soonest of its shard", e.seq))
				}
			}
			live += len(es)
			if !slices.Equal(es, onDisk[user]) {
				errs = append(errs, fmt.Errorf("index and disk differ for a user: %v, %v", es, onDisk[user]))
			}
		}
		if live != l.live {
			errs = append(errs, fmt.Errorf("shard %d counts %d entries and has %d", i, l.live, live))
		}
	}
	if users != len(onDisk) {
		errs = append(errs, fmt.Errorf("%d users in the index, %d on disk", users, len(onDisk)))
	}
	return errors.Join(errs...)
}

func (s *Store) checkDropped(tx *bbolt.Tx) error {
	var errs []error
	users := map[userKey]bool{}
	c := inDropped.of(tx).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		email, _ := splitPair(k)
		users[s.index.user(email)] = true
		if !s.HasDropped(email) || binary.BigEndian.Uint64(v) == 0 {
			errs = append(errs, fmt.Errorf("the drop counter %q is not in the index, or zero", k))
		}
	}
	total := 0
	for i := range s.index.shards {
		total += len(s.index.shards[i].dropped)
	}
	if total != len(users) {
		errs = append(errs, fmt.Errorf("%d users with drop counters in the index, %d on disk", total, len(users)))
	}
	return errors.Join(errs...)
}

// tally compares an index bucket with what it is made from: each expected pair is there, and no other.
type tally struct {
	in   bucket
	want map[string]string
}

func (t tally) check(tx *bbolt.Tx) error {
	var errs []error
	c := t.in.of(tx).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if want, ok := t.want[string(k)]; !ok || want != string(v) {
			errs = append(errs, fmt.Errorf("%s: %q should not be there, or not with %q", t.in, k, v))
		}
		delete(t.want, string(k))
	}
	for k := range t.want {
		errs = append(errs, fmt.Errorf("%s: %q is missing", t.in, k))
	}
	return errors.Join(errs...)
}

func checkApps(tx *bbolt.Tx) error {
	apps, err := collectIn(tx, inApps, nil, unmarshal[presence.App])
	if err != nil {
		return err
	}
	byComponent := tally{inAppsByComponent, map[string]string{}}
	for i := range apps {
		byComponent.want[apps[i].Component] = apps[i].ID
	}
	return byComponent.check(tx)
}

func checkGrants(tx *bbolt.Tx) error {
	gs, err := collectIn(tx, inGrants, nil, unmarshal[presence.Grant])
	if err != nil {
		return err
	}
	errs := []error{}
	byApp, byPUID, byUntil := tally{inGrantsByApp, map[string]string{}}, tally{inGrantsByPUID, map[string]string{}},
		tally{inGrantsByUntil, map[string]string{}}
	for i := range gs {
		g := &gs[i]
		byApp.want[string(pair(g.App, g.Email))] = ""
		byPUID.want[string(pair(g.App, g.PUID))] = g.Email
		if g.Until != nil {
			byUntil.want[string(untilKey(g))] = ""
		}
		if inUsers.of(tx).Get([]byte(g.Email)) == nil {
			errs = append(errs, fmt.Errorf("the grant of %s for %s has no user", g.Email, g.App))
		}
	}
	return errors.Join(append(errs, byApp.check(tx), byPUID.check(tx), byUntil.check(tx))...)
}

func checkRequests(tx *bbolt.Tx) error {
	rs, err := collectIn(tx, inRequests, nil, unmarshal[presence.Request])
	if err != nil {
		return err
	}
	byApp := tally{inRequestsByApp, map[string]string{}}
	for i := range rs {
		byApp.want[string(pair(rs[i].App, rs[i].Email))] = ""
	}
	return byApp.check(tx)
}

func checkTokenIndex(tx *bbolt.Tx) error {
	ts, err := collectIn(tx, inTokens, nil, readToken)
	if err != nil {
		return err
	}
	byEmail := tally{inTokensByEmail, map[string]string{}}
	for i := range ts {
		byEmail.want[string(pair(ts[i].Email, string(ts[i].Hash[:])))] = ""
	}
	return byEmail.check(tx)
}

// checkNumbering makes the check that numbers have no gap and that no more are kept than allowed.
func checkNumbering(in bucket, limit uint64) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error {
		var errs []error
		var owner []byte
		var first, last uint64
		c := in.of(tx).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			n, name := number(k), k[:len(k)-8]
			if !bytes.Equal(name, owner) {
				owner, first = name, n
			} else if n != last+1 {
				errs = append(errs, fmt.Errorf("%s: %q comes after %d", in, k, last))
			}
			if last = n; last-first >= limit {
				errs = append(errs, fmt.Errorf("%s: more than %d for %q", in, limit, name))
			}
		}
		return errors.Join(errs...)
	}
}

func (s *Store) checkDevices(tx *bbolt.Tx) error {
	counts := map[string]int{}
	c := inDevices.of(tx).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if _, err := readDevice(tx, k, v); err != nil {
			return err
		}
		email, _ := splitPair(k)
		if counts[email]++; counts[email] == s.limits.DevicesPerUser+1 {
			return fmt.Errorf("more than %d devices of %s", s.limits.DevicesPerUser, email)
		}
	}
	return nil
}
