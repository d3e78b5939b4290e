package store

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterr "go.etcd.io/bbolt/errors"

	"presenced/presence"
)

// Errors of the store that a caller may want to tell apart. Refusals of single calls wrap the core's errors
// (presence.ErrBadValue, ErrExists, ErrNoApp, ErrNoUser).
var (
	ErrClosed  = errors.New("store: closed")
	ErrInUse   = errors.New("in use by another process")
	ErrFormat  = errors.New("not a data file that this version can read")
	ErrDamaged = errors.New("damaged, restore it from a backup")

	// ErrFull is a presence.ErrFull too, for those who do not know the store.
	ErrFull error = full{}
)

type full struct{}

func (full) Error() string        { return "store: too many for one user" }
func (full) Is(target error) bool { return target == presence.ErrFull }

// formatVersion is the layout that doc.go describes. A file of an older one is brought to it when it is opened.
const formatVersion = 4

// Options of Open. The zero value works.
type Options struct {
	Now     func() time.Time // the only clock; nil: time.Now
	Limits  presence.Limits  // QueuePerApp, CollapseKeys and DevicesPerUser count; zero ones get the defaults
	Timeout time.Duration    // how long to wait for another process to let go of the file; 0: 1 s
	Backlog int              // writes that may wait before callers do; 0: 16384
	Log     *slog.Logger     // told when writing begins to fail, and when it works again; nil: nobody
	MaxSize int              // bytes the file may grow to, then writes fail (now and then deletes too); 0: no limit

	// SyncDelay emulates a slow disk: each of the two syncs of a commit takes this much longer. For benchmarks
	// only: the file is not crash-safe with it, because bbolt no longer orders its own writes.
	SyncDelay time.Duration
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	if o.Backlog == 0 {
		o.Backlog = 16384
	}
	d := presence.DefaultLimits()
	for _, l := range []struct{ value, standard *int }{
		{&o.Limits.QueuePerApp, &d.QueuePerApp},
		{&o.Limits.CollapseKeys, &d.CollapseKeys},
		{&o.Limits.DevicesPerUser, &d.DevicesPerUser},
	} {
		if *l.value <= 0 {
			*l.value = *l.standard
		}
	}
	return o
}

// Store is an open data file. All methods are safe for concurrent use; those that write return when it is on disk
// unless they return a commit.
type Store struct {
	// static
	db        *bbolt.DB
	path      string
	now       func() time.Time
	limits    presence.Limits
	syncDelay time.Duration
	key       [32]byte

	index     *index
	committer committer
	trails    trails
	counts    counts
	anonymous atomic.Int64          // sessions of nobody, at most so many
	sessions  atomic.Int64          // Unix nanoseconds before which no session expires
	activity  atomic.Int64          // and before which there is no event to trim
	upstream  atomic.Int64          // Unix nanoseconds before which no message to an app expires
	notices   atomic.Int64          // and before which no notice has waited for too long
	cause     atomic.Pointer[error] // why there are no more writes
	failing   atomic.Pointer[error] // why the last write failed; nil: it did not
	log       *slog.Logger

	trimming sync.Mutex // held over trimActivity
	trimmed  string     // guarded by trimming: whose activity was looked at last; "": begin anew

	writing sync.Mutex // held while a group is written and applied
	garbage []uint64   // guarded by writing: records that a purge has killed, still on disk

	closing sync.Once
	closed  error // of closing
}

var _ presence.Store = (*Store)(nil)

// Open opens or creates the data file and reads what waits into memory. The file gets mode 0600. It fails with
// ErrInUse if another process has it open, with ErrFormat if it is something else or newer than this program.
func Open(path string, o Options) (*Store, error) {
	o = o.withDefaults()
	db, err := openFile(path, o)
	if err != nil {
		return nil, err
	}
	s := &Store{db: db, path: path, now: o.Now, limits: o.Limits, syncDelay: o.SyncDelay, log: o.Log, index: newIndex()}
	s.committer.init(o.Backlog)
	s.trails.init()
	if err := undamaged(s.load); err != nil {
		return nil, errors.Join(fmt.Errorf("data file %s: %w", path, err), db.Close())
	}
	go s.run()
	return s, nil
}

func openFile(path string, o Options) (*bbolt.DB, error) {
	_, err := os.Stat(path)
	created := errors.Is(err, os.ErrNotExist)
	var db *bbolt.DB
	if err == nil {
		err = whole(path, o)
	} else if created {
		err = nil
	}
	if err == nil {
		db, err = bbolt.Open(path, 0o600, o.bbolt())
	}
	switch {
	case errors.Is(err, bolterr.ErrTimeout):
		return nil, fmt.Errorf("data file %s is %w", path, ErrInUse)
	case errors.Is(err, bolterr.ErrInvalid), errors.Is(err, bolterr.ErrVersionMismatch), errors.Is(err, bolterr.ErrChecksum):
		return nil, fmt.Errorf("data file %s is %w: %w", path, ErrFormat, err)
	case err != nil:
		return nil, fmt.Errorf("data file %s: %w", path, err)
	}
	if err := private(path, created); err != nil {
		return nil, errors.Join(fmt.Errorf("data file %s: %w", path, err), db.Close())
	}
	return db, nil
}

// undamaged runs what reads a file for the first time. bbolt panics where a page is not what it should be, and the
// memory map faults where the file is shorter than it says; both mean that the file is damaged.
func undamaged(read func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}()
	return read()
}

// whole reports an error if the file is shorter than it says itself. It looks before bbolt reads all of its pages,
// which it does in a goroutine of its own, where nobody catches a fault.
func whole(path string, o Options) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() == 0 {
		return err
	}
	look := o.bbolt()
	look.ReadOnly = true
	return undamaged(func() error {
		db, err := bbolt.Open(path, 0o600, look)
		if err != nil {
			return err
		}
		defer db.Close()
		return db.View(func(tx *bbolt.Tx) error {
			if info.Size() < tx.Size() {
				return fmt.Errorf("%w: %d of %d bytes are there", ErrDamaged, info.Size(), tx.Size())
			}
			return nil
		})
	})
}

func (o Options) bbolt() *bbolt.Options {
	return &bbolt.Options{
		Timeout:      o.Timeout,
		FreelistType: bbolt.FreelistMapType,
		// Without this each commit writes the list of all free pages, which is long after a full queue was emptied;
		// the price is a scan at the start, next to the one for the index.
		NoFreelistSync: true,
		NoStatistics:   true,
		MaxSize:        o.MaxSize,
		NoSync:         o.SyncDelay > 0,
	}
}

// private makes sure that nobody else can read the file, and that a new one survives a loss of power.
func private(path string, created bool) error {
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	if !created {
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// load checks the format, makes what a new file needs, and rebuilds the index.
func (s *Store) load() error {
	if err := s.db.Update(s.format); err != nil {
		return err
	}
	return s.db.View(s.rebuild)
}

func (s *Store) format(tx *bbolt.Tx) error {
	if meta := inMeta.of(tx); meta != nil {
		v := meta.Get([]byte("version"))
		if len(v) != 8 {
			return fmt.Errorf("%w: no format version", ErrFormat)
		}
		if n := binary.BigEndian.Uint64(v); n > formatVersion {
			return fmt.Errorf("%w: it has format version %d, written by a newer presenced; this one knows up to %d",
				ErrFormat, n, formatVersion)
		}
	} else if k, _ := tx.Cursor().First(); k != nil {
		return fmt.Errorf("%w: it belongs to another program", ErrFormat)
	}
	for _, b := range allBuckets() {
		if _, err := tx.CreateBucketIfNotExists([]byte(b)); err != nil {
			return err
		}
	}
	return s.stamp(inMeta.of(tx))
}

// stamp writes the version, and the key where it is missing, and reads the key. Each format has more buckets than the
// one before, and fields that may be missing; so there is nothing to convert.
func (s *Store) stamp(meta *bbolt.Bucket) error {
	if !bytes.Equal(meta.Get([]byte("version")), be64(formatVersion)) {
		if err := meta.Put([]byte("version"), be64(formatVersion)); err != nil {
			return err
		}
	}
	if v := meta.Get([]byte("key")); len(v) == len(s.key) {
		copy(s.key[:], v)
		return nil
	}
	rand.Read(s.key[:]) // never fails (crypto/rand)
	return meta.Put([]byte("key"), s.key[:])
}

// rebuild fills the index and the garbage from the file.
func (s *Store) rebuild(tx *bbolt.Tx) error {
	purges := readPurges(tx)
	c := inQueue.of(tx).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		r, err := viewRecord(v)
		if err != nil {
			return fmt.Errorf("record %x: %w", k, err)
		}
		seq := number(k)
		if purges.cover(&r, seq) {
			s.garbage = append(s.garbage, seq)
			continue
		}
		e := s.entryOfRecord(seq, &r)
		s.index.add(s.index.userBytes(r.email), func(yield func(*entry) bool) { yield(&e) })
	}
	s.anonymous.Store(int64(len(keysOf(inSessionsByEmail.of(tx), prefixOf(""), 0))))
	s.sessions.Store(never)
	s.nextSession(tx)
	s.activity.Store(never)
	if k, _ := inActivity.of(tx).Cursor().First(); k != nil {
		s.activity.Store(0)
	}
	s.upstream.Store(never)
	s.nextUpstream(tx)
	s.notices.Store(never)
	s.nextNotice(tx)
	if err := s.trails.load(tx); err != nil {
		return err
	}
	return inDropped.of(tx).ForEach(func(k, _ []byte) error {
		email, _ := splitPair(k)
		s.index.setDropped(s.index.user(email), true)
		return nil
	})
}

func (s *Store) entryOfRecord(seq uint64, r *recordView) entry {
	return entry{seq: seq, expires: r.expires, device: s.index.hash(string(r.device)),
		collapse: s.index.hash(string(r.collapse)), tag: tagOf(s.index.apps.number(string(r.app)), r.flags&flagHigh != 0)}
}

// purges are the marks of purges whose records are not all deleted: up to which number, by user and app.
type purges map[[2]string]uint64

func readPurges(tx *bbolt.Tx) purges {
	ps := purges{}
	c := inPurged.of(tx).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		email, app := splitPair(k)
		ps[[2]string{email, app}] = binary.BigEndian.Uint64(v)
	}
	return ps
}

// cover tells whether the record is dead.
func (ps purges) cover(r *recordView, seq uint64) bool {
	if len(ps) == 0 {
		return false
	}
	email := string(r.email)
	return seq <= max(ps[[2]string{email, string(r.app)}], ps[[2]string{email, ""}])
}

// Close writes what was handed in, stops, and closes the file. Calls that come later fail with ErrClosed.
func (s *Store) Close() error {
	s.closing.Do(func() {
		s.committer.close()
		s.closed = s.db.Close()
	})
	return s.closed
}

// view runs f in a read transaction.
func (s *Store) view(f func(*bbolt.Tx) error) error {
	err := s.db.View(f)
	if errors.Is(err, bolterr.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

// Key is a secret of 32 random bytes, made with the file and the same as long as it lives.
func (s *Store) Key() [32]byte { return s.key }

// Stats are counts for the metrics and for status; those since Open unless said otherwise.
type Stats struct {
	Commits   uint64 `json:"commits"`
	Failed    uint64 `json:"failed"`    // commits that failed
	Enqueued  uint64 `json:"enqueued"`  // notifications that came to disk
	Confirmed uint64 `json:"confirmed"` // and were confirmed
	Expired   uint64 `json:"expired"`   // removed because their time was over
	Dropped   uint64 `json:"dropped"`   // removed because a queue was full
	Waiting   int    `json:"waiting"`   // now, all users
	FileSize  int64  `json:"file_size"` // now, bytes
	Stopped   error  `json:"-"`         // why nothing is written any more; nil: it is
	Failing   error  `json:"-"`         // why the last write failed; nil: it did not
}

// Stats counts what waits, which reads the index: a few milliseconds for a million.
func (s *Store) Stats() Stats {
	c := &s.counts
	st := Stats{Commits: c.commits.Load(), Failed: c.failed.Load(), Enqueued: c.enqueued.Load(),
		Confirmed: c.confirmed.Load(), Expired: c.expired.Load(), Dropped: c.overflow.Load(),
		Waiting: s.index.total(nanos(s.now())), Stopped: s.stopped()}
	if why := s.failing.Load(); why != nil {
		st.Failing = *why
	}
	if info, err := os.Stat(s.path); err == nil {
		st.FileSize = info.Size()
	}
	return st
}
