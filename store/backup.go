package store

import (
	"errors"
	"fmt"
	"io"

	"go.etcd.io/bbolt"
)

// compactTx is how many bytes one transaction of Compact writes.
const compactTx = 4 << 20

// WriteTo writes the data file as it is at one moment, while others go on, and returns its size in bytes. What is freed
// meanwhile is not used again until it is done, so a slow w lets the file grow.
func (s *Store) WriteTo(w io.Writer) (n int64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		n, err = tx.WriteTo(w)
		return err
	})
	return n, err
}

// Compact writes what is in src, a data file that nobody has open for writing, to the new file dst, without the room that
// was freed in it, with mode 0600. ErrDamaged: src is.
func Compact(dst, src string) error {
	if err := whole(src, Options{}.withDefaults()); err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	from, err := bbolt.Open(src, 0o600, &bbolt.Options{ReadOnly: true, Timeout: Options{}.withDefaults().Timeout})
	if err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	defer from.Close()
	to, err := bbolt.Open(dst, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	err = undamaged(func() error { return bbolt.Compact(to, from, compactTx) })
	if err == nil {
		err = to.Sync()
	}
	return errors.Join(err, to.Close())
}
