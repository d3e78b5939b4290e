package presence

import "time"

// LinkKind tells the two edges of an app apart: conflict policies work within a kind.
type LinkKind uint8

const (
	ComponentLink LinkKind = iota
	SocketLink
)

// Kind of an Update.
type Kind uint8

const (
	Presence     Kind = iota // Status of one device
	Subscribed               // the user allowed the app
	Unsubscribed             // the grant ended
	Receipt                  // a device confirmed the notification Ref
)

// Peer is a user, and maybe one of her devices, as an app names them: by PUID or by e-mail, never both.
type Peer struct {
	PUID  string
	Email string // in key form
	Tag   string // of the device; "": none named
}

// Update is one thing an app is told. Which fields count depends on Kind. Strings are shared and immutable.
type Update struct {
	Kind    Kind
	ByEmail bool      // Local is an e-mail, to be escaped on the wire, else a PUID
	Delayed bool      // not news: the snapshot, or the answer to a probe
	Status  Status    // Presence
	Local   string    // the user
	Tag     string    // Presence: the device; "": the bare address
	Since   time.Time // Presence: of the last change
	Idle    time.Time // Presence: zero if not idle or not granted
	Ref     string    // Receipt: the app's id of the notification
	To      string    // Receipt: the address at the app that asked
	ID      uint64    // Subscribed, Unsubscribed: for Told
}

// Link is the handle of one connection of an app. Take is for one goroutine at a time; everything else is
// safe for concurrent use.
type Link struct {
}

// Link registers a connection of the app and snapshots what it may see; the first Take should wait until
// the peer is ready, and what changes meanwhile is part of the snapshot. By the app's conflict policy an
// older link ends with EndReplaced, or this call fails with ErrConflict. Errors: ErrNoApp (also disabled),
// ErrConflict, ErrDraining, ErrStorage.
func (h *Hub) Link(app string, kind LinkKind) (*Link, error) { panic("soon") }

// App returns the app as it was when the link was made.
func (l *Link) App() *App { panic("soon") }

// Wake fires when Take may have something, or the link ended. It has one slot.
func (l *Link) Wake() <-chan struct{} { panic("soon") }

// Take fills dst with what the app is to be told, oldest first, and returns how many. 0: nothing now. It
// reads each device's state at this moment and allocates nothing. After the link ended with EndShutdown it
// goes on until it is empty; after any other end it returns 0.
func (l *Link) Take(dst []Update) int { panic("soon") }

// Told says that every Subscribed and Unsubscribed up to this Update.ID has reached the app, so that they
// are not kept for the next connection.
func (l *Link) Told(id uint64) { panic("soon") }

// Ended tells whether and why the hub ended the link.
func (l *Link) Ended() End { panic("soon") }

// Close ends the link because its connection did. Closing twice, or after it ended, changes nothing.
func (l *Link) Close() { panic("soon") }

// Probe returns the last presence of each device of the user, or of the one named; one Offline update from
// the bare address if none is known. ErrStranger: there is nobody the app may see.
func (l *Link) Probe(p Peer) ([]Update, error) { panic("soon") }

// Message is a notification as an app sends it.
type Message struct {
	Ref      string // its id, for the receipt
	From     string // the address at the app that sent it
	Receipt  bool
	Source   string
	Message  string
	Action   string
	Data     []byte        // one JSON value, or nil
	TTL      time.Duration // negative: the default; 0: now or never
	Collapse string
	High     bool
}

// Notify accepts a notification for the peer, or refuses it: ErrStranger, ErrNotAllowed, ErrTooLarge,
// ErrTTL, ErrBadValue, ErrEnded. The caller must Wait for the Delivery; in the order of the calls is best.
func (l *Link) Notify(p Peer, m Message) (*Delivery, error) { panic("soon") }

// NotifyUser is Notify for an administrator: to a user by e-mail, on behalf of the app that she granted.
// device "": all of hers.
func (h *Hub) NotifyUser(app, email, device string, m Message) (*Delivery, error) { panic("soon") }

// Delivery is a notification on its way to the disk.
type Delivery struct {
}

// Wait blocks until the notification is accepted (it is on disk, or it has TTL 0 and was handed to whoever
// is there) and wakes the user's devices. It must be called once. ErrStorage: it was not accepted.
func (d *Delivery) Wait() error { panic("soon") }
