package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// DeviceGroup returns the app's of this name; see [presence.DeviceGroups].
func (s *Store) DeviceGroup(app, name string) (presence.DeviceGroup, bool, error) {
	return lookJSON[presence.DeviceGroup](s, inDeviceGroups, pair(app, name))
}

// DeviceGroupByKey returns the app's of this key.
func (s *Store) DeviceGroupByKey(app, key string) (g presence.DeviceGroup, ok bool, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		g, ok, err = deviceGroupByKey(tx, app, key)
		return err
	})
	return g, ok, err
}

func deviceGroupByKey(tx *bbolt.Tx, app, key string) (presence.DeviceGroup, bool, error) {
	name := inDeviceGroupsByKey.of(tx).Get(pair(app, key))
	if name == nil {
		return presence.DeviceGroup{}, false, nil
	}
	return getJSON[presence.DeviceGroup](tx, inDeviceGroups, pair(app, string(name)))
}

// EachDeviceGroup calls f with every group in the order of (appid, name); see EachGrant. With app != "", only its.
func (s *Store) EachDeviceGroup(app string, f func(presence.DeviceGroup) error) error {
	var prefix []byte
	if app != "" {
		prefix = prefixOf(app)
	}
	return each(s, inDeviceGroups, prefix, unmarshal[presence.DeviceGroup], f)
}

// CountDeviceGroups tells how many the app has.
func (s *Store) CountDeviceGroups(app string) (n int, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		n = deviceGroupCount(tx, app)
		return nil
	})
	return n, err
}

func deviceGroupCount(tx *bbolt.Tx, app string) int {
	if v := inDeviceGroupCount.of(tx).Get([]byte(app)); v != nil {
		return int(binary.BigEndian.Uint64(v))
	}
	return 0
}

// DeviceGroupsWith returns those of the app that have a member of this PUID or e-mail, ordered by name.
func (s *Store) DeviceGroupsWith(app, local string) ([]presence.DeviceGroup, error) {
	prefix := append(prefixOf(local), prefixOf(app)...)
	return collect(s, inDeviceGroupMembers, prefix, func(tx *bbolt.Tx, k, _ []byte) (g presence.DeviceGroup, err error) {
		g, _, err = getJSON[presence.DeviceGroup](tx, inDeviceGroups, pair(app, string(k[len(prefix):])))
		return g, err
	})
}

// AddDeviceGroup keeps a new one; see [presence.DeviceGroups].
func (s *Store) AddDeviceGroup(g presence.DeviceGroup, max int) error {
	if err := checkKeys("appid, name and key of a device group", g.App, g.Name, g.Key); err != nil {
		return err
	}
	for _, p := range g.Members {
		if err := checkKeys("member of a device group", localOf(p)); err != nil {
			return err
		}
	}
	return s.update(func(tx *bbolt.Tx) error {
		switch {
		case inApps.of(tx).Get([]byte(g.App)) == nil:
			return presence.ErrNoApp
		case inDeviceGroups.of(tx).Get(pair(g.App, g.Name)) != nil:
			return presence.ErrExists
		case inDeviceGroupsByKey.of(tx).Get(pair(g.App, g.Key)) != nil:
			return presence.ErrExists
		case deviceGroupCount(tx, g.App) >= max:
			return ErrFull
		}
		return nil
	}, func(tx *bbolt.Tx) error { return putDeviceGroup(tx, nil, &g) })
}

// ChangeDeviceGroup adds and removes members; see [presence.DeviceGroups].
func (s *Store) ChangeDeviceGroup(app, key string, add, remove []presence.Peer, max int) error {
	var old, changed presence.DeviceGroup
	return s.update(func(tx *bbolt.Tx) error {
		var ok bool
		var err error
		if old, ok, err = deviceGroupByKey(tx, app, key); err != nil {
			return err
		} else if !ok {
			return presence.ErrNoGroup
		}
		changed = old
		changed.Members = withoutPeers(old.Members, func(p presence.Peer) bool { return slices.Contains(remove, p) })
		for _, p := range add {
			if err := checkKeys("member of a device group", localOf(p)); err != nil {
				return err
			}
			if !slices.Contains(changed.Members, p) {
				changed.Members = append(changed.Members, p)
			}
		}
		if len(changed.Members) > max {
			return ErrFull
		}
		return nil
	}, func(tx *bbolt.Tx) error { return putDeviceGroup(tx, &old, &changed) })
}

// LeaveDeviceGroups removes all members of this PUID or e-mail from the app's groups.
func (s *Store) LeaveDeviceGroups(app, local string) error {
	return s.update(nil, func(tx *bbolt.Tx) error {
		return leaveDeviceGroups(tx, append(prefixOf(local), prefixOf(app)...))
	})
}

// leaveDeviceGroups removes members: those whose entries in the index begin with prefix.
func leaveDeviceGroups(tx *bbolt.Tx, prefix []byte) error {
	for _, k := range keysOf(inDeviceGroupMembers.of(tx), prefix, 0) {
		local, where := splitPair(k)
		old, ok, err := getJSON[presence.DeviceGroup](tx, inDeviceGroups, []byte(where))
		if err != nil {
			return err
		}
		if !ok {
			continue // not possible: see checkDeviceGroups
		}
		changed := old
		changed.Members = withoutPeers(old.Members, func(p presence.Peer) bool { return localOf(p) == local })
		if err := putDeviceGroup(tx, &old, &changed); err != nil {
			return err
		}
	}
	return nil
}

func withoutPeers(ps []presence.Peer, gone func(presence.Peer) bool) []presence.Peer {
	return slices.DeleteFunc(slices.Clone(ps), gone)
}

// localOf is what a member is found by.
func localOf(p presence.Peer) string {
	if p.PUID != "" {
		return p.PUID
	}
	return p.Email
}

func memberKey(p presence.Peer, g *presence.DeviceGroup) []byte {
	return append(prefixOf(localOf(p)), pair(g.App, g.Name)...)
}

// putDeviceGroup writes a group in place of old (nil: of none). One without members is removed.
func putDeviceGroup(tx *bbolt.Tx, old, g *presence.DeviceGroup) error {
	b, byKey, members := inDeviceGroups.of(tx), inDeviceGroupsByKey.of(tx), inDeviceGroupMembers.of(tx)
	n := deviceGroupCount(tx, g.App)
	var errs []error
	if old != nil {
		n--
		for _, p := range old.Members {
			errs = append(errs, members.Delete(memberKey(p, g)))
		}
	}
	if len(g.Members) == 0 {
		errs = append(errs, b.Delete(pair(g.App, g.Name)), byKey.Delete(pair(g.App, g.Key)))
	} else {
		n++
		value, err := json.Marshal(g)
		errs = append(errs, err, b.Put(pair(g.App, g.Name), value), byKey.Put(pair(g.App, g.Key), []byte(g.Name)))
		for _, p := range g.Members {
			errs = append(errs, members.Put(memberKey(p, g), nil))
		}
	}
	if n == 0 {
		errs = append(errs, inDeviceGroupCount.of(tx).Delete([]byte(g.App)))
	} else {
		errs = append(errs, inDeviceGroupCount.of(tx).Put([]byte(g.App), be64(uint64(n))))
	}
	return errors.Join(errs...)
}

// dropDeviceGroupsOfApp forgets all of app, in commits of at most 1,000.
func (s *Store) dropDeviceGroupsOfApp(app string) error {
	return s.dropSliced(app, removeDeviceGroupsOfApp)
}

// removeDeviceGroupsOfApp removes at most max (0: all) and returns how many those were.
func removeDeviceGroupsOfApp(tx *bbolt.Tx, app string, max int) (int, error) {
	keys := keysOf(inDeviceGroups.of(tx), prefixOf(app), max)
	for _, k := range keys {
		old, _, err := getJSON[presence.DeviceGroup](tx, inDeviceGroups, k)
		if err != nil {
			return 0, err
		}
		empty := old
		empty.Members = nil
		if err := putDeviceGroup(tx, &old, &empty); err != nil {
			return 0, err
		}
	}
	return len(keys), nil
}

// checkDeviceGroups compares groups with what they are found by, and with how many there are.
func checkDeviceGroups(tx *bbolt.Tx) error {
	gs, err := collectIn(tx, inDeviceGroups, nil, unmarshal[presence.DeviceGroup])
	if err != nil {
		return err
	}
	byKey, members, count := tally{inDeviceGroupsByKey, map[string]string{}}, tally{inDeviceGroupMembers, map[string]string{}},
		tally{inDeviceGroupCount, map[string]string{}}
	perApp := map[string]uint64{}
	var errs []error
	for i := range gs {
		g := &gs[i]
		byKey.want[string(pair(g.App, g.Key))] = g.Name
		for _, p := range g.Members {
			members.want[string(memberKey(p, g))] = ""
		}
		perApp[g.App]++
		count.want[g.App] = string(be64(perApp[g.App]))
		if len(g.Members) == 0 || inApps.of(tx).Get([]byte(g.App)) == nil {
			errs = append(errs, fmt.Errorf("the device group %s of %s is empty, or there is no such app", g.Name, g.App))
		}
	}
	return errors.Join(append(errs, byKey.check(tx), members.check(tx), count.check(tx))...)
}
