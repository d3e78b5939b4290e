package store

import (
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// Apps returns all registered apps, ordered by id.
func (s *Store) Apps() ([]presence.App, error) {
	return collect(s, inApps, nil, unmarshal[presence.App])
}

// PutApp writes an app, new or changed. presence.ErrExists: another one has its component domain.
func (s *Store) PutApp(a presence.App) error {
	if err := checkKeys("appid and component", a.ID, a.Component); err != nil {
		return err
	}
	value, err := json.Marshal(&a)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return s.update(
		func(tx *bbolt.Tx) error {
			if owner := inAppsByComponent.of(tx).Get([]byte(a.Component)); owner != nil && string(owner) != a.ID {
				return fmt.Errorf("%w: component %q is of app %q", presence.ErrExists, a.Component, owner)
			}
			return nil
		},
		func(tx *bbolt.Tx) error {
			if err := forgetComponent(tx, a.ID); err != nil {
				return err
			}
			if err := inAppsByComponent.of(tx).Put([]byte(a.Component), []byte(a.ID)); err != nil {
				return err
			}
			return inApps.of(tx).Put([]byte(a.ID), value)
		})
}

// RemoveApp removes the app, the notices that wait for it, the requests it made and its device groups. presence.ErrNoApp.
func (s *Store) RemoveApp(id string) error {
	if err := s.dropNoticesOfApp(id); err != nil {
		return err
	}
	if err := s.dropRequestsOfApp(id); err != nil {
		return err
	}
	if err := s.dropDeviceGroupsOfApp(id); err != nil {
		return err
	}
	return s.update(
		func(tx *bbolt.Tx) error {
			if inApps.of(tx).Get([]byte(id)) == nil {
				return presence.ErrNoApp
			}
			return nil
		},
		func(tx *bbolt.Tx) error {
			if err := forgetComponent(tx, id); err != nil {
				return err
			}
			notices := inNotices.of(tx) // those that came since, and requests too
			if err := deleteKeys(notices, keysOf(notices, prefixOf(id), 0)); err != nil {
				return err
			}
			if _, err := removeRequestsOfApp(tx, id, 0); err != nil {
				return err
			}
			if _, err := removeDeviceGroupsOfApp(tx, id, 0); err != nil {
				return err
			}
			return inApps.of(tx).Delete([]byte(id))
		})
}

// forgetComponent removes the present app's domain from the index.
func forgetComponent(tx *bbolt.Tx, id string) error {
	old, ok, err := getJSON[presence.App](tx, inApps, []byte(id))
	if !ok {
		return err
	}
	return inAppsByComponent.of(tx).Delete([]byte(old.Component))
}
