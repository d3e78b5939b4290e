package store

import (
	"bytes"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"
)

// eachSlice is how many values are read in one transaction before the callback sees them.
const eachSlice = 256

// each calls f with every value under prefix in the order of the keys. load turns a pair into a value, inside the
// transaction; f runs outside of any, so it may take its time, write, or call each again. What is added or removed
// meanwhile may be seen or not. It stops at the first error.
func each[T any](s *Store, in bucket, prefix []byte, load func(tx *bbolt.Tx, k, v []byte) (T, error), f func(T) error) error {
	from := prefix
	for {
		values, last, err := readSlice(s, in, prefix, from, load)
		if err != nil {
			return err
		}
		for _, v := range values {
			if err := f(v); err != nil {
				return err
			}
		}
		if len(values) < eachSlice {
			return nil
		}
		from = append(last, 0)
	}
}

func readSlice[T any](s *Store, in bucket, prefix, from []byte, load func(tx *bbolt.Tx, k, v []byte) (T, error)) (values []T, last []byte, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		c := in.of(tx).Cursor()
		for k, v := c.Seek(from); k != nil && bytes.HasPrefix(k, prefix) && len(values) < eachSlice; k, v = c.Next() {
			value, err := load(tx, k, v)
			if err != nil {
				return err
			}
			values = append(values, value)
			last = append(last[:0], k...)
		}
		return nil
	})
	return values, last, err
}

// unmarshal is a load for values that are JSON.
func unmarshal[T any](_ *bbolt.Tx, k, v []byte) (t T, err error) {
	if err = json.Unmarshal(v, &t); err != nil {
		err = fmt.Errorf("store: the value of %q is damaged: %w", k, err)
	}
	return t, err
}

// collect reads all under prefix in one transaction; for what is bounded.
func collect[T any](s *Store, in bucket, prefix []byte, load func(tx *bbolt.Tx, k, v []byte) (T, error)) (values []T, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		values, err = collectIn(tx, in, prefix, load)
		return err
	})
	return values, err
}

func collectIn[T any](tx *bbolt.Tx, in bucket, prefix []byte, load func(tx *bbolt.Tx, k, v []byte) (T, error)) (values []T, err error) {
	c := in.of(tx).Cursor()
	for k, v := firstOf(c, prefix); k != nil; k, v = nextOf(c, prefix) {
		value, err := load(tx, k, v)
		if err != nil {
			return nil, err
		}
		values = append(values, value)
	}
	return values, nil
}

// getJSON reads the value of k; ok is false where there is none.
func getJSON[T any](tx *bbolt.Tx, in bucket, k []byte) (t T, ok bool, err error) {
	v := in.of(tx).Get(k)
	if v == nil {
		return t, false, nil
	}
	t, err = unmarshal[T](tx, k, v)
	return t, err == nil, err
}

// lookJSON is getJSON in a transaction of its own.
func lookJSON[T any](s *Store, in bucket, k []byte) (t T, ok bool, err error) {
	err = s.view(func(tx *bbolt.Tx) error {
		t, ok, err = getJSON[T](tx, in, k)
		return err
	})
	return t, ok, err
}

// marshalAll writes each value as JSON, before the committer is bothered with it.
func marshalAll[T any](ts []T) ([][]byte, error) {
	bs := make([][]byte, len(ts))
	for i := range ts {
		var err error
		if bs[i], err = json.Marshal(&ts[i]); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
	}
	return bs, nil
}
