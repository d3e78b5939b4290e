package presence

import (
	"fmt"
	"slices"
	"time"
)

// EventKind says what happened.
type EventKind uint8

const (
	DeviceStatus EventKind = iota // a device has another status, or has come
	DeviceGone                    // a device has gone offline
	GrantChanged                  // allowed, changed, paused, resumed, revoked, hidden or shown by a window: Detail says which
	Requested                     // an app asks to see her; Detail is the purpose
	Answered                      // she denied a request (that she allowed one is a GrantChanged)
	Notified                      // a notification was accepted; Detail is the app's id of it
	Delivered                     // a device confirmed one
	Linked                        // an app connected; Email is empty
	Unlinked                      // an app's connection ended; Email is empty, Detail says why
	Refused                       // a stanza or notification of an app was refused; Detail says why
	UserChanged                   // made invisible or visible, disabled or enabled, removed: Detail says which
)

var eventNames = [...]string{"status", "gone", "grant", "requested", "answered", "notified", "delivered", "linked", "unlinked", "refused", "user"}

func (k EventKind) String() string { return eventNames[k] }

// MarshalText and UnmarshalText make the kind a word in JSON.
func (k EventKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText is the reverse of MarshalText.
func (k *EventKind) UnmarshalText(b []byte) error {
	i := slices.Index(eventNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("event kind %q is unknown", b)
	}
	*k = EventKind(i)
	return nil
}

// Event is one thing that happened, for those who look. Strings are shared and immutable.
type Event struct {
	Time   time.Time `json:"time"` // the core's clock, in milliseconds
	Kind   EventKind `json:"kind"`
	Email  string    `json:"email,omitempty"` // the user it is about; "": it is about the app alone
	App    string    `json:"appid,omitempty"` // "": no app has part in it
	Device string    `json:"device,omitempty"`
	Status Status    `json:"status,omitempty"` // of DeviceStatus
	Detail string    `json:"detail,omitempty"`
	By     Actor     `json:"by,omitempty"`
}

// Watch is the handle of somebody who looks at what happens. Take is for one goroutine at a time.
type Watch struct {
	wake chan struct{}
}

// Watch shows what happens from now on: with an e-mail what is about that user, with "" everything. Close it.
// What the watcher does not take in time is lost, and counted.
func (h *Hub) Watch(email string) *Watch { return &Watch{wake: make(chan struct{}, 1)} }

// Wake fires when Take may have something. It has one slot.
func (w *Watch) Wake() <-chan struct{} { return w.wake }

// Take fills dst with what happened, oldest first, and returns how many and how many were lost before them.
// 0: nothing now.
func (w *Watch) Take(dst []Event) (n int, lost uint64) { return 0, 0 }

// Close ends the watch.
func (w *Watch) Close() {}
