package presence

import "time"

// Store is what the core needs to survive a restart. Each part is to be implemented twice (bbolt now, NATS
// JetStream later), so nothing here leans on a transaction that spans two of them. All methods are safe for
// concurrent use. An error means that nothing was changed.
type Store interface {
	Apps
	Grants
	Devices
	Queue
	Trails
	Notices
	Requests
	Upstreams
	Topics
	DeviceGroups
	Users
}

// Apps holds the registered apps; they are few and all in memory.
type Apps interface {
	Apps() ([]App, error)
	PutApp(App) error
	RemoveApp(id string) error // the app alone; its grants and queue are removed before, by the hub
}

// Grants holds consents, keyed by (e-mail, appid), found by (appid, PUID) too, and their audit. Writes
// are durable when they return.
type Grants interface {
	GrantsOf(email string) ([]Grant, error)
	Grant(email, app string) (Grant, bool, error)
	GrantByPUID(app, puid string) (Grant, bool, error)
	// PutGrants writes grants, new or changed, creates the users it does not know, and appends the audit,
	// all or nothing.
	PutGrants(gs []Grant, audit []AuditEntry) error
	// RemoveGrants removes those that are there and keeps the notices, whose IDs it fills in, until
	// DropNotices.
	RemoveGrants(gs []Grant, audit []AuditEntry, notices []Notice) error
	// NextUntil is the earliest Until of all grants; false: none has one.
	NextUntil() (time.Time, bool, error)
	// EndedGrants returns at most max grants whose Until is not after now, earliest first.
	EndedGrants(now time.Time, max int) ([]Grant, error)
	// EachGrant calls f with every grant in the order of (e-mail, appid), in slices, without holding a
	// transaction over f. It stops at the first error of f and returns it. With app != "", only that app's.
	EachGrant(app string, f func(Grant) error) error
}

// AuditEntry is one line of what happened to a user's grants; she can read it.
type AuditEntry struct {
	Time   time.Time `json:"time"`
	Email  string    `json:"email"`
	App    string    `json:"appid"` // "": it is about all apps
	What   string    `json:"what"`  // allow, change, revoke, unsubscribe, pause, resume, ended, deny, app removed; without an app: invisible, visible, disabled, enabled
	By     Actor     `json:"by"`
	Detail string    `json:"detail,omitempty"`
}

// Actor is who did it.
type Actor string

const (
	ByUser   Actor = "user"
	ByAdmin  Actor = "admin"
	ByApp    Actor = "app"
	BySystem Actor = "system"
)

// Notice is an answer or an end of consent that an app must hear of, now or when it returns.
type Notice struct {
	ID    uint64    // given by the store, growing
	Time  time.Time // when the store got it
	App   string
	Kind  Kind // Subscribed or Unsubscribed
	Local string
	// ByEmail: Local is an e-mail and goes on the wire escaped.
	ByEmail bool
	To      string // who at the app asked; "": nobody did
}

// Notices keeps them in order for each app until they are dropped. How many and for how long may be bounded: the oldest
// go first.
type Notices interface {
	NoticesOf(app string, max int) ([]Notice, error)
	PutNotice(n *Notice) error // fills in n.ID and n.Time
	DropNotices(app string, ids []uint64) error
}

// DeviceRecord is what is kept of a device that is not there.
type DeviceRecord struct {
	ID   string    `json:"device"`
	Name string    `json:"name,omitempty"` // what she calls it; "": nothing
	Seen time.Time `json:"seen,omitzero"`  // when it last came or went
	// Gone is when each app saw it go: the end of its last presence, or of the app's view of it.
	Gone map[string]time.Time `json:"gone,omitempty"`
}

// Devices remembers which devices a user has, at most Limits.DevicesPerUser (the longest gone is forgotten).
type Devices interface {
	DevicesOf(email string) ([]DeviceRecord, error)
	// PutDevice is grouped with other writes; the commit need not be waited for. Where Gone is nil the device
	// has come: it is remembered, and its user created if she is unknown. Else it has gone: Gone is laid over
	// what is remembered, and nothing happens where nothing is.
	PutDevice(email string, d DeviceRecord) *Commit
	RemoveDevice(email, device string) error
}

// Queue keeps notifications until a device has them. Writes are grouped: a call hands its work to the next
// commit, in the order of the calls, and returns that commit. It blocks only while the bounded backlog is
// full.
type Queue interface {
	// Enqueue stores n under the next sequence number (written to n.Seq before the commit is done).
	// The oldest of the same (user, app) goes when Limits.QueuePerApp wait already and is counted in
	// Dropped; n replaces a waiting one of the same app and collapse key.
	Enqueue(n *Notification) *Commit
	// EnqueueAll is Enqueue for several, in their order and in one commit: all or nothing. With once (it may be nil,
	// and ns may be empty then), nothing is stored of them where Sent would be true, and that is remembered in the
	// same commit; once.Again says so when it is done.
	EnqueueAll(ns []*Notification, once *Once) *Commit
	// Pending returns those of the user with Seq > after that are for anyone or for device, committed and
	// not expired, in order, at most max. device "" returns all, whatever device they are for.
	Pending(email, device string, after uint64, max int) ([]Notification, error)
	// Confirm removes those of seqs that are for anyone or for device. After the commit, Removed holds those
	// that this call removed, so that of two who confirm only one counts.
	Confirm(email, device string, seqs []uint64) *Confirmation
	// Purge removes all of the user that came from app ("": from any).
	Purge(email, app string) *Commit
	// Waiting counts what waits for the user, by app.
	Waiting(email string) (map[string]int, error)
	// WaitingFrom counts what waits from the app, for anyone.
	WaitingFrom(app string) (int, error)
	// Dropped returns how many of the user's were discarded because a queue was full.
	Dropped(email string) ([]Dropped, error)
	// ForgetDropped takes off what a device was told. Where less is left, because another was told too, nothing changes.
	ForgetDropped(email string, told []Dropped) *Commit
	// Overflowed counts since the store was opened how many of the app's notifications were discarded because a
	// queue was full.
	Overflowed(app string) uint64
	// HasDropped tells without I/O whether Dropped would return any.
	HasDropped(email string) bool
	// Urgent tells without I/O until when something of high priority waits for anyone of the user's devices, and for
	// this one alone (device "": for any one alone); zero: nothing does.
	Urgent(email, device string) (anyone, alone time.Time)
}

// Trails remembers what connections of apps have sent, on disk, a bounded number and for a bounded time; see [Trail].
type Trails interface {
	// Sent reports whether another trail has the mark.
	Sent(o *Once) bool
	// Note adds the mark to its trail, in memory alone.
	Note(o *Once)
	// Settle forgets a trail. It does not wait for the disk.
	Settle(trail uint64)
}

// Dropped says how many notifications of an app were discarded because its queue was full.
type Dropped struct {
	App   string
	Count uint64
}

// Commit is a write to come, shared by everybody whose work goes to disk together.
type Commit struct {
	done chan struct{}
	err  error // owned by who made the Commit until done is closed, then read-only
}

// NewCommit is for implementations of [Queue].
func NewCommit() *Commit { return &Commit{done: make(chan struct{})} }

// Resolve ends the commit, once; err nil means it is on disk.
func (c *Commit) Resolve(err error) {
	c.err = err
	close(c.done)
}

// Done is closed when the commit has ended.
func (c *Commit) Done() <-chan struct{} { return c.done }

// Ended reports whether it has.
func (c *Commit) Ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// Wait blocks until the commit has ended and tells how.
func (c *Commit) Wait() error {
	<-c.done
	return c.err
}

// Confirmation is the commit of a Confirm. Removed may be read after Wait returned nil. Of a removed
// notification the fields Seq, Email, App, PUID, Ref, From and Receipt are filled.
type Confirmation struct {
	*Commit
	Removed []Notification
}
