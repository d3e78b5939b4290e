package store

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"presenced/presence"
)

// A file that is shorter than it was, or is none at all, is refused with a clear error, whatever is missing.
func TestDamagedFilesAreRefused(t *testing.T) {
	b := newBed(t, Options{})
	for i := range 3000 {
		b.must(b.PutUser(presence.User{Email: fmt.Sprintf("user%06d@example.org", i)}))
	}
	path := b.path
	b.must(b.Close())
	whole, err := os.ReadFile(path)
	b.must(err)
	page := os.Getpagesize()
	for name, damage := range map[string]func([]byte) []byte{
		"half of it is gone": func(f []byte) []byte { return f[:len(f)/2/page*page] },
		"a tenth is left":    func(f []byte) []byte { return f[:len(f)/10/page*page] },
		"two pages are left": func(f []byte) []byte { return f[:2*page] },
		"it is other bytes":  func(f []byte) []byte { return noise(f, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			b.must(os.WriteFile(path, damage(append([]byte(nil), whole...)), 0o600))
			s, err := Open(path, Options{})
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrFormat) {
				t.Errorf("got %v", err)
			}
			if err == nil {
				s.Close()
			}
		})
	}
	b.must(os.WriteFile(path, whole, 0o600))
	b.open(path)
}

// noise overwrites all from an offset on.
func noise(f []byte, from int) []byte {
	for i := from; i < len(f); i++ {
		f[i] = byte(i * 7)
	}
	return f
}
