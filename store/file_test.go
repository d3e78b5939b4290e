package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	bolterr "go.etcd.io/bbolt/errors"

	"presenced/presence"
)

func TestNewFileIsPrivateAndKeepsItsKey(t *testing.T) {
	b := newBed(t, Options{})
	mode := func() os.FileMode {
		info, err := os.Stat(b.path)
		b.must(err)
		return info.Mode().Perm()
	}
	if mode() != 0o600 {
		t.Errorf("mode %o", mode())
	}
	key := b.Key()
	if key == ([32]byte{}) {
		t.Error("the key is empty")
	}
	b.must(os.Chmod(b.path, 0o644))
	b.reopen()
	if b.Key() != key || mode() != 0o600 {
		t.Errorf("after a restart the key is another, or mode %o", mode())
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.db.Update(func(tx *bbolt.Tx) error { return inMeta.of(tx).Put([]byte("version"), be64(7)) }))
	b.must(b.Close())
	_, err := Open(b.path, b.o)
	b.wantErr(err, ErrFormat, "format version 7, written by a newer presenced; this one knows up to 4")
}

func TestForeignFilesAreRefused(t *testing.T) {
	b := &bed{t: t}
	path := filepath.Join(t.TempDir(), "text")
	b.must(os.WriteFile(path, []byte(strings.Repeat("not a database\n", 1000)), 0o600))
	_, err := Open(path, Options{})
	b.wantErr(err, ErrFormat, path)

	other := filepath.Join(t.TempDir(), "other")
	db, err := bbolt.Open(other, 0o600, nil)
	b.must(err)
	b.must(db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("x")); return err }))
	b.must(db.Close())
	_, err = Open(other, Options{})
	b.wantErr(err, ErrFormat, "another program")

	_, err = Open(filepath.Join(t.TempDir(), "no", "folder"), Options{})
	b.wantErr(err, os.ErrNotExist, "data file")
}

// TestFailedCommitChangesNothing fills the file up to its allowed size.
func TestFailedCommitChangesNothing(t *testing.T) {
	b := newBed(t, Options{MaxSize: 1 << 20, Limits: presence.Limits{QueuePerApp: 150, CollapseKeys: 1}})
	big := func(email, key string) *presence.Notification {
		n := b.note(email, "chat", strings.Repeat("x", 3000))
		n.Collapse = key
		return n
	}
	b.put(b.note(ann, "chat", "first"), big(bob, "key"), big(bob, ""))
	for i := 0; ; i++ {
		if err := b.Enqueue(big(fmt.Sprintf("u%d@example.org", i), "")).Wait(); err != nil {
			b.wantErr(err, bolterr.ErrMaxSizeReached, "store:")
			break
		}
	}

	// A whole group fails: one that would replace, one that would push out, a confirm, and what makes it too large.
	waiting, entries := b.Stats().Waiting, b.entries()
	before, err := b.Pending(bob, "", 0, 10)
	b.must(err)
	var commits []*presence.Commit
	var conf *presence.Confirmation
	last := big(bob, "")
	b.together(func() {
		commits = append(commits, b.Enqueue(big(bob, "other")))
		conf = b.Confirm(bob, "", []uint64{before[1].Seq})
		commits = append(commits, conf.Commit, b.Purge(ann, ""))
		for range 200 {
			commits = append(commits, b.Enqueue(big(bob, "")))
		}
		commits = append(commits, b.Enqueue(last))
	})
	for _, c := range commits {
		b.wantErr(c.Wait(), bolterr.ErrMaxSizeReached, "store:")
	}
	b.must(b.CheckConsistency())
	after, err := b.Pending(bob, "", 0, 10)
	b.must(err)
	if fmt.Sprint(after) != fmt.Sprint(before) || b.Stats().Waiting != waiting || b.entries() != entries || b.HasDropped(bob) || conf.Removed != nil {
		t.Errorf("a failed commit changed memory: %d wait, %d before", b.Stats().Waiting, waiting)
	}
	b.wantTexts(ann, "", "first")

	// It goes on when there is room again, and gives no number that a failed commit gave.
	b.together(func() { b.db.MaxSize = 0 })
	n := big(ann, "")
	b.put(n)
	if last.Seq == 0 || n.Seq <= last.Seq {
		t.Errorf("number %d after %d", n.Seq, last.Seq)
	}
	b.reopen()
	if w, _ := b.Waiting(ann); w["chat"] != 2 {
		t.Errorf("ann has %v", w)
	}
}

func TestLostFileFailsEveryWrite(t *testing.T) {
	b := newBed(t, Options{})
	n := b.note(ann, "chat", "x")
	b.put(n)
	b.must(b.db.Close())
	for name, err := range map[string]error{
		"enqueue": b.Enqueue(b.note(ann, "chat", "y")).Wait(),
		"confirm": b.Confirm(ann, "", []uint64{n.Seq}).Wait(),
		"purge":   b.Purge(ann, "").Wait(),
		"grant":   b.PutGrants([]presence.Grant{{Email: ann, App: "chat", PUID: "p"}}, nil),
	} {
		if !errors.Is(err, bolterr.ErrDatabaseNotOpen) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if b.Stats().Waiting != 1 {
		t.Errorf("%d wait", b.Stats().Waiting)
	}
	b.Close()
	b.open(b.path)
	b.wantTexts(ann, "", "x")
}

// TestUnknownOutcomeStopsWrites: a sync failed after the meta page was written.
func TestUnknownOutcomeStopsWrites(t *testing.T) {
	b := newBed(t, Options{})
	n := b.note(ann, "chat", "x")
	b.put(n)
	var id int
	b.must(b.db.Update(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }))
	b.doubt(id+1, errors.New("no space")) // this one certainly did not reach the disk
	b.put(b.note(ann, "chat", "y"))
	b.must(b.db.Update(func(tx *bbolt.Tx) error { id = tx.ID(); return nil }))
	cause := errors.New("sync: input/output error")
	b.doubt(id, cause)
	for _, err := range []error{b.Enqueue(b.note(ann, "chat", "z")).Wait(), b.PutApp(presence.App{ID: "a", Component: "a"}), b.Stats().Stopped} {
		b.wantErr(err, cause, "unknown outcome")
	}
	b.wantTexts(ann, "", "x y")
	b.reopen()
	b.put(b.note(ann, "chat", "z"))
	b.wantTexts(ann, "", "x y z")
}
