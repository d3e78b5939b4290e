package store

import (
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// DevicesOf returns the devices that are remembered of the user, ordered by id.
func (s *Store) DevicesOf(email string) ([]presence.DeviceRecord, error) {
	return collect(s, inDevices, prefixOf(email), readDevice)
}

func readDevice(_ *bbolt.Tx, k, v []byte) (d presence.DeviceRecord, err error) {
	if len(v) != 2*timeLen {
		return d, fmt.Errorf("store: the value of %q is damaged", k)
	}
	_, d.ID = splitPair(k)
	d.Gone, d.Seen = readTime(v), readTime(v[timeLen:])
	return d, nil
}

// PutDevice remembers a device. Where Limits.DevicesPerUser are remembered already, the one that is gone for longest
// is forgotten for it.
func (s *Store) PutDevice(email string, d presence.DeviceRecord) *presence.Commit {
	if err := checkKeys("e-mail and device", email, d.ID); err != nil {
		return ended(err)
	}
	k, v := pair(email, d.ID), appendTime(appendTime(nil, d.Gone), d.Seen)
	commit, _ := s.updateLater(nil, func(tx *bbolt.Tx) error {
		b := inDevices.of(tx)
		if b.Get(k) == nil {
			if err := ensureUser(tx, email, d.Seen); err != nil {
				return err
			}
			if err := makeRoomForDevice(tx, email, s.limits.DevicesPerUser); err != nil {
				return err
			}
		}
		return b.Put(k, v)
	})
	return commit
}

// makeRoomForDevice forgets the longest gone until one more fits.
func makeRoomForDevice(tx *bbolt.Tx, email string, limit int) error {
	ds, err := collectIn(tx, inDevices, prefixOf(email), readDevice)
	if err != nil {
		return err
	}
	slices.SortStableFunc(ds, func(a, b presence.DeviceRecord) int { return lastSign(&a).Compare(lastSign(&b)) })
	for ; len(ds) >= limit; ds = ds[1:] {
		if err := inDevices.of(tx).Delete(pair(email, ds[0].ID)); err != nil {
			return err
		}
	}
	return nil
}

// lastSign is when a device was last known to be there.
func lastSign(d *presence.DeviceRecord) time.Time {
	if d.Gone.IsZero() {
		return d.Seen
	}
	return d.Gone
}

// RemoveDevice forgets one; unknown ones are ignored.
func (s *Store) RemoveDevice(email, device string) error {
	if err := checkKeys("e-mail and device", email, device); err != nil {
		return err
	}
	return s.update(nil, func(tx *bbolt.Tx) error { return inDevices.of(tx).Delete(pair(email, device)) })
}
