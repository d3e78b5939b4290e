package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"presenced/presence"
)

// A copy that is made while others write has everything that was accepted before, and opens; compacted it is smaller
// and has the same.
func TestBackupWhileOthersWrite(t *testing.T) {
	b := newBed(t, Options{})
	for i := range 1200 {
		b.must(b.PutUser(presence.User{Email: fmt.Sprintf("gone%06d@example.org", i)}))
	}
	for i := range 1200 {
		b.must(b.RemoveUser(fmt.Sprintf("gone%06d@example.org", i)))
	}
	b.must(b.PutUser(presence.User{Email: "ann@example.org"}))
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := b.PutUser(presence.User{Email: fmt.Sprintf("late%d@example.org", i)}); err != nil {
				stopped <- err
				return
			}
		}
	}()
	var copied bytes.Buffer
	n, err := b.WriteTo(&copied)
	close(stop)
	b.must(<-stopped)
	b.must(err)
	if n != int64(copied.Len()) || n == 0 {
		t.Errorf("%d bytes are said to be written, %d were", n, copied.Len())
	}
	dir := t.TempDir()
	whole, small := filepath.Join(dir, "whole.db"), filepath.Join(dir, "small.db")
	b.must(os.WriteFile(whole, copied.Bytes(), 0o600))
	b.must(Compact(small, whole))
	for _, path := range []string{whole, small} {
		s, err := Open(path, Options{})
		b.must(err)
		if _, ok, err := s.User("ann@example.org"); err != nil || !ok {
			t.Errorf("%s lacks what was there: %v", path, err)
		}
		if _, ok, err := s.User("gone000001@example.org"); err != nil || ok {
			t.Errorf("%s has what was removed: %v", path, err)
		}
		if s.Key() != b.Key() {
			t.Errorf("%s has another key: every device would go by another name", path)
		}
		b.must(s.Close())
	}
	large, err := os.Stat(whole)
	b.must(err)
	info, err := os.Stat(small)
	b.must(err)
	if info.Size() >= large.Size() || info.Mode().Perm() != 0o600 {
		t.Errorf("compacted it has %d bytes and mode %v, before %d", info.Size(), info.Mode(), large.Size())
	}
	b.must(os.WriteFile(whole, copied.Bytes()[:copied.Len()/3], 0o600))
	if err := Compact(filepath.Join(dir, "no.db"), whole); !errors.Is(err, ErrDamaged) {
		t.Errorf("a third of a file is compacted: %v", err)
	}
}
