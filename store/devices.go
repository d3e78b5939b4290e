package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// DevicesOf returns the devices that are remembered of the user, ordered by id.
func (s *Store) DevicesOf(email string) ([]presence.DeviceRecord, error) {
	return collect(s, inDevices, prefixOf(email), readDevice)
}

func readDevice(tx *bbolt.Tx, k, v []byte) (presence.DeviceRecord, error) {
	return unmarshal[presence.DeviceRecord](tx, k, v)
}

// PutDevice remembers that a device came or went; see [presence.Devices]. Where Limits.DevicesPerUser are remembered
// already, the one that was not seen for longest is forgotten for a new one.
func (s *Store) PutDevice(email string, d presence.DeviceRecord) *presence.Commit {
	if err := checkKeys("e-mail and device", email, d.ID); err != nil {
		return ended(err)
	}
	commit, _ := s.updateLater(nil, func(tx *bbolt.Tx) error {
		old, known, err := getJSON[presence.DeviceRecord](tx, inDevices, pair(email, d.ID))
		if err != nil {
			return err
		}
		if !known {
			if d.Gone != nil {
				return nil // it was forgotten, maybe with its user
			}
			if err := s.roomForDevice(tx, email, d.Seen); err != nil {
				return err
			}
		}
		d.Name = old.Name // RenameDevice changes it
		return putDevice(tx, email, &d, old.Gone)
	})
	return commit
}

// putDevice writes d with what it says of having gone laid over what was known, for apps that have a grant.
func putDevice(tx *bbolt.Tx, email string, d *presence.DeviceRecord, known map[string]time.Time) error {
	gone := maps.Clone(d.Gone)
	for app, t := range known {
		if _, newer := gone[app]; newer || inGrants.of(tx).Get(pair(email, app)) == nil {
			continue
		}
		if gone == nil {
			gone = make(map[string]time.Time)
		}
		gone[app] = t
	}
	value, err := json.Marshal(&presence.DeviceRecord{ID: d.ID, Name: d.Name, Seen: d.Seen, Gone: gone})
	if err != nil {
		return err
	}
	return inDevices.of(tx).Put(pair(email, d.ID), value)
}

// roomForDevice creates the user where she is unknown, and forgets devices until one more fits.
func (s *Store) roomForDevice(tx *bbolt.Tx, email string, now time.Time) error {
	if err := ensureUser(tx, email, now); err != nil {
		return err
	}
	ds, err := collectIn(tx, inDevices, prefixOf(email), readDevice)
	if err != nil {
		return err
	}
	slices.SortStableFunc(ds, func(a, b presence.DeviceRecord) int { return a.Seen.Compare(b.Seen) })
	for ; len(ds) >= s.limits.DevicesPerUser; ds = ds[1:] {
		if err := removeDevice(tx, pair(email, ds[0].ID)); err != nil {
			return err
		}
	}
	return nil
}

// maxDeviceName bounds what a user may call a device, in bytes.
const maxDeviceName = 128

// RenameDevice says what the user calls a device; "": nothing. presence.ErrBadValue: it is too long, or the device is
// not known.
func (s *Store) RenameDevice(email, device, name string) error {
	if err := checkKeys("e-mail and device", email, device); err != nil {
		return err
	}
	if len(name) > maxDeviceName || !utf8.ValidString(name) {
		return fmt.Errorf("%w: a device's name is at most %d bytes of text", presence.ErrBadValue, maxDeviceName)
	}
	known := false
	err := s.update(nil, func(tx *bbolt.Tx) error {
		var d presence.DeviceRecord
		var err error
		if d, known, err = getJSON[presence.DeviceRecord](tx, inDevices, pair(email, device)); !known {
			return err
		}
		d.Name = name
		return putDevice(tx, email, &d, nil)
	})
	if err == nil && !known {
		return fmt.Errorf("%w: %s has no device %s", presence.ErrBadValue, email, device)
	}
	return err
}

// RemoveDevice forgets one; unknown ones are ignored.
func (s *Store) RemoveDevice(email, device string) error {
	if err := checkKeys("e-mail and device", email, device); err != nil {
		return err
	}
	return s.update(nil, func(tx *bbolt.Tx) error { return removeDevice(tx, pair(email, device)) })
}

// removeDevice forgets a device and where it can be woken.
func removeDevice(tx *bbolt.Tx, k []byte) error {
	return errors.Join(removeSubscription(tx, k), inDevices.of(tx).Delete(k))
}
