package store

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// PushKey returns the private key by which push services know this gateway (RFC 8292): a scalar of P-256, made when it
// is asked for first. A new one would make every subscription worthless.
func (s *Store) PushKey() (key [32]byte, err error) {
	fresh, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return key, err
	}
	err = s.update(nil, func(tx *bbolt.Tx) error {
		if v := inMeta.of(tx).Get([]byte("push_key")); len(v) == len(key) {
			copy(key[:], v)
			return nil
		}
		copy(key[:], fresh.Bytes())
		return inMeta.of(tx).Put([]byte("push_key"), key[:])
	})
	return key, err
}

// PutPush keeps where a device can be woken, in place of what was kept of the device before. An endpoint wakes
// one device only, the one that named it last. The same again changes nothing, and writes nothing.
// presence.ErrBadValue: the device is not known.
func (s *Store) PutPush(n presence.PushSubscription) error {
	if err := checkKeys("e-mail and device", n.Email, n.Device); err != nil {
		return err
	}
	if old, ok, err := s.Push(n.Email, n.Device); err != nil || ok && sameSubscription(&old, &n) {
		return err
	}
	value, err := json.Marshal(&n)
	if err != nil {
		return err
	}
	k := pair(n.Email, n.Device)
	return s.update(func(tx *bbolt.Tx) error {
		if inDevices.of(tx).Get(k) == nil {
			return fmt.Errorf("%w: %s has no device %s", presence.ErrBadValue, n.Email, n.Device)
		}
		return nil
	}, func(tx *bbolt.Tx) error {
		if err := removeSubscription(tx, k); err != nil {
			return err
		}
		at := endpointKey(n.Endpoint)
		if other := inPushByEndpoint.of(tx).Get(at); other != nil {
			if err := removeSubscription(tx, bytes.Clone(other)); err != nil {
				return err
			}
		}
		return errors.Join(inPush.of(tx).Put(k, value), inPushByEndpoint.of(tx).Put(at, k))
	})
}

func sameSubscription(a, b *presence.PushSubscription) bool {
	return a.Endpoint == b.Endpoint && a.P256DH == b.P256DH && a.Auth == b.Auth && a.By == b.By
}

func endpointKey(endpoint string) []byte {
	sum := sha256.Sum256([]byte(endpoint))
	return sum[:]
}

// removeSubscription removes the one of a device, by its key.
func removeSubscription(tx *bbolt.Tx, k []byte) error {
	n, ok, err := getJSON[presence.PushSubscription](tx, inPush, k)
	if !ok {
		return err
	}
	return errors.Join(inPush.of(tx).Delete(k), inPushByEndpoint.of(tx).Delete(endpointKey(n.Endpoint)))
}

// removeSubscriptions removes those of all devices of a user; prefix is of her keys.
func removeSubscriptions(tx *bbolt.Tx, prefix []byte) error {
	for _, k := range keysOf(inPush.of(tx), prefix, 0) {
		if err := removeSubscription(tx, k); err != nil {
			return err
		}
	}
	return nil
}

// removeMadeBy removes the user's that were made with this credential, and those of which that is not known.
func removeMadeBy(tx *bbolt.Tx, email string, mark uint64) error {
	all, err := collectIn(tx, inPush, prefixOf(email), unmarshal[presence.PushSubscription])
	for i := 0; i < len(all) && err == nil; i++ {
		if all[i].By == mark || all[i].By == 0 {
			err = removeSubscription(tx, pair(email, all[i].Device))
		}
	}
	return err
}

// Push returns a device's; false: it has none.
func (s *Store) Push(email, device string) (presence.PushSubscription, bool, error) {
	return lookJSON[presence.PushSubscription](s, inPush, pair(email, device))
}

// PushOf returns those of the user's devices, ordered by device.
func (s *Store) PushOf(email string) ([]presence.PushSubscription, error) {
	return collect(s, inPush, prefixOf(email), unmarshal[presence.PushSubscription])
}

// EachPush calls f with every one, in the order of e-mail and device; see EachGrant.
func (s *Store) EachPush(f func(presence.PushSubscription) error) error {
	return each(s, inPush, nil, unmarshal[presence.PushSubscription], f)
}

// MarkWoken notes that the device was woken through this endpoint; nothing where it has another one by now.
func (s *Store) MarkWoken(email, device, endpoint string, w presence.Woken) error {
	k := pair(email, device)
	return s.update(nil, func(tx *bbolt.Tx) error {
		n, ok, err := getJSON[presence.PushSubscription](tx, inPush, k)
		if !ok || n.Endpoint != endpoint {
			return err
		}
		n.Woken = w
		value, err := json.Marshal(&n)
		if err != nil {
			return err
		}
		return inPush.of(tx).Put(k, value)
	})
}

// RemovePush forgets a device's, if it has this endpoint ("": any).
func (s *Store) RemovePush(email, device, endpoint string) error {
	old, ok, err := s.Push(email, device)
	if !ok || endpoint != "" && old.Endpoint != endpoint {
		return err
	}
	k := pair(email, device)
	return s.update(nil, func(tx *bbolt.Tx) error {
		n, ok, err := getJSON[presence.PushSubscription](tx, inPush, k)
		if !ok || endpoint != "" && n.Endpoint != endpoint {
			return err
		}
		return removeSubscription(tx, k)
	})
}

// checkPush looks that each subscription is of a device that is known, and each endpoint leads to one.
func checkPush(tx *bbolt.Tx) error {
	all, err := collectIn(tx, inPush, nil, unmarshal[presence.PushSubscription])
	if err != nil {
		return err
	}
	errs := []error{}
	byEndpoint := tally{inPushByEndpoint, map[string]string{}}
	for i := range all {
		k := pair(all[i].Email, all[i].Device)
		byEndpoint.want[string(endpointKey(all[i].Endpoint))] = string(k)
		if inDevices.of(tx).Get(k) == nil {
			errs = append(errs, fmt.Errorf("the subscription %q is of no device", k))
		}
	}
	return errors.Join(append(errs, byEndpoint.check(tx))...)
}
