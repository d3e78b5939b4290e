package presence

import "time"

// End is why a handle ended; the zero value: it has not.
type End uint8

const (
	Alive       End = iota
	EndReplaced     // a newer connection took its place
	EndKicked       // an administrator or the user disconnected it
	EndExpired      // the credential expired or was revoked
	EndRemoved      // the user or the app is gone
	EndDisabled     // the app was disabled or its secret changed
	EndDraining     // the server goes away (session)
	EndShutdown     // the server goes away (link)
	EndOverflow     // it did not take what it was given
)

// Attach describes a device that comes.
type Attach struct {
	Email      string // confirmed, in key form
	Device     string
	Credential string    // opaque; EndCredential matches it
	Expires    time.Time // of the credential; zero: never
	Ready      *Ready    // where the session announces that it has something to write
	Tag        any       // the edge's own; the hub does not look at it
}

// Session is the handle of one connected device. Next is for one goroutine at a time; everything else is
// safe for concurrent use.
type Session struct {
}

// Attach registers the device and returns its session; an older session of the same device ends with
// EndReplaced, its presence goes on. The new session is on its Ready queue at once, to drain what waits.
// Errors: ErrSockets, ErrDraining, ErrBadValue, ErrStorage.
func (h *Hub) Attach(a Attach) (*Session, error) { panic("soon") }

// Publish sets the device's status; idle is since when its person is idle, zero if she is not. ErrEnded.
func (s *Session) Publish(st Status, idle time.Time) error { panic("soon") }

// Outbox is what a session has to say to its device now, in this order.
type Outbox struct {
	Dropped       []Dropped
	Notifications []Notification // oldest first
	Reconnect     *Reconnect
	End           End  // not Alive: say why and close
	More          bool // call Next again when this is written
}

// Reconnect asks a device to come back later.
type Reconnect struct {
	After  time.Duration
	Reason string
}

// Next returns what is to be written, with at most max notifications; an empty Outbox if nothing is. Each
// notification is returned once in a session. ErrStorage: try again later.
func (s *Session) Next(max int) (Outbox, error) { panic("soon") }

// Confirm takes note that the device has these notifications, known by their Seq: they are removed and
// receipts go out. Unknown ones are ignored. It does not wait for the disk.
func (s *Session) Confirm(seqs []uint64) { panic("soon") }

// Close ends the session because its connection did. If it is still the device's present one the device
// lingers, or goes offline at once where it said so. Closing twice, or after it ended, changes nothing.
func (s *Session) Close() { panic("soon") }

// Ended tells whether and why the hub ended the session.
func (s *Session) Ended() End { panic("soon") }

// Tag returns what Attach was given.
func (s *Session) Tag() any { panic("soon") }

// Email and Device identify the session.
func (s *Session) Email() string  { panic("soon") }
func (s *Session) Device() string { panic("soon") }

// Ready collects sessions that have something to write, each at most once, for the edge that owns it.
type Ready struct {
}

// NewReady makes an empty queue.
func NewReady() *Ready { panic("soon") }

// Wake fires when there may be something to take.
func (r *Ready) Wake() <-chan struct{} { panic("soon") }

// Take appends the waiting sessions to dst and forgets them.
func (r *Ready) Take(dst []*Session) []*Session { panic("soon") }
