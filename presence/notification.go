package presence

import (
	"errors"
	"strconv"
	"time"
)

// Notification is a message from an app to a user's device. The core does not look into Data.
type Notification struct {
	Seq      uint64 // given by the queue, growing; transientSeq is set where it never touched the disk
	Email    string // to whom
	Device   string // only to this device; "": to all of hers, done when one confirms
	App      string
	PUID     string // of the grant it came through; a notification of an older grant is not delivered
	Ref      string // the app's own id for it, for the receipt
	From     string // the address at the app that asked, to which the receipt goes
	Receipt  bool   // the app asked for a receipt
	Source   string
	Message  string
	Action   string
	Data     []byte // one JSON value, or nil
	High     bool   // priority
	Collapse string // replaces a waiting one of the same app with the same key; "": none
	Time     time.Time
	Expires  time.Time
}

// transientSeq marks the numbers of notifications with TTL 0, which live in a session only.
const transientSeq = 1 << 63

// ID is the notification's name on the device channel, the same on every repeat.
func (n *Notification) ID() string { return FormatID(n.Seq) }

// FormatID and ParseID turn a sequence number into the id on the wire and back.
func FormatID(seq uint64) string { return "n" + strconv.FormatUint(seq, 36) }

// ParseID reads what FormatID wrote.
func ParseID(id string) (uint64, bool) {
	if len(id) < 2 || id[0] != 'n' {
		return 0, false
	}
	seq, err := strconv.ParseUint(id[1:], 36, 64)
	return seq, err == nil && FormatID(seq) == id
}

// Size is what counts against Limits.NotificationBytes.
func (n *Notification) Size() int {
	return len(n.Source) + len(n.Message) + len(n.Action) + len(n.Data)
}

// Errors of the core, each with one code at each edge.
var (
	ErrStranger   = errors.New("presence: no such user for this app")         // unknown, never granted, revoked: the same
	ErrNotAllowed = errors.New("presence: the grant allows no notifications") //
	ErrTooLarge   = errors.New("presence: notification too large")            //
	ErrBadValue   = errors.New("presence: bad value")                         //
	ErrTTL        = errors.New("presence: ttl out of range")                  //
	ErrCredential = errors.New("presence: this credential was revoked")
	ErrTicket     = errors.New("presence: this session cannot be resumed (any more)")
	ErrTooMany    = errors.New("presence: too many connections of this app")
	ErrFull       = errors.New("presence: too much waits for this app")
	ErrSockets    = errors.New("presence: too many connections for this user") //
	ErrEnded      = errors.New("presence: this handle has ended")              //
	ErrDraining   = errors.New("presence: the server is going away")           //
	ErrConflict   = errors.New("presence: the app is connected already")       //
	ErrNoApp      = errors.New("presence: no such app")                        //
	ErrNoGrant    = errors.New("presence: no such grant")                      //
	ErrNoUser     = errors.New("presence: no such user")                       //
	ErrNoGroup    = errors.New("presence: no such device group")               //
	ErrNoMember   = errors.New("presence: none of these can be a member")      // strangers all
	ErrGroupFull  = errors.New("presence: too many members")                   // of a device group; where an app has too many groups it is ErrFull
	ErrExists     = errors.New("presence: exists already")                     //
	ErrStorage    = errors.New("presence: storage not available")              // wraps the store's cause
)
