package presence

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// EventKind says what happened.
type EventKind uint8

const (
	DeviceStatus EventKind = iota // a device has told another status, or has come
	DeviceGone                    // a device has gone offline
	GrantChanged                  // Detail: allow, change, pause, resume, revoke, unsubscribe, ended, app removed; shown, hidden: by a window or the end of a pause
	Requested                     // an app asks to see her; Detail is the purpose
	Answered                      // a request was answered; Detail: allow, deny
	Notified                      // a notification was accepted; Detail is the app's id of it
	Delivered                     // Device confirmed one; Detail is the app's id of it
	Linked                        // an app connected; Email is empty
	Unlinked                      // an app's connection ended; Email is empty, Detail says why
	Refused                       // something of an app was refused; Detail says why. Email is empty where it was for a stranger
	UserChanged                   // Detail: invisible, visible, disabled, enabled, removed
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

// Sizes of a watcher's ring: what it may fall behind before events are lost. Powers of two.
const (
	ringOfUser = 256
	ringOfAll  = 8192
	takeSlice  = 64 // events copied with the ring locked
)

// Watch is the handle of somebody who looks at what happens. Take is for one goroutine at a time; the rest is
// safe for concurrent use.
type Watch struct {
	hub   *Hub   // immutable, as is email
	email string // "": everything
	wake  chan struct{}

	mu     sync.Mutex
	ring   []Event // guarded by mu; its size is a power of two
	first  uint64  // guarded by mu: number of the oldest one kept
	next   uint64  // guarded by mu: number of the next one
	lost   uint64  // guarded by mu: overwritten since the last Take
	closed bool    // guarded by mu
}

// Watch shows what happens from now on: with an e-mail what is about that user and nobody else, with ""
// everything. What the watcher does not take in time is lost, oldest first, and counted; the hub never waits for
// it. Its owner closes it.
func (h *Hub) Watch(email string) *Watch {
	w := &Watch{hub: h, email: email, wake: make(chan struct{}, 1)}
	size := ringOfUser
	if email == "" {
		size = ringOfAll
	}
	w.ring = make([]Event, size)
	h.watchers.add(w)
	return w
}

// Wake fires when Take may have something, and after Close. It has one slot.
func (w *Watch) Wake() <-chan struct{} { return w.wake }

// Take fills dst with what happened, oldest first, and returns how many, and how many were lost since the last
// Take. 0: nothing now.
func (w *Watch) Take(dst []Event) (n int, lost uint64) {
	for n < len(dst) {
		got, gone := w.take(dst[n:min(n+takeSlice, len(dst))])
		lost += gone
		if got == 0 {
			break
		}
		n += got
	}
	return n, lost
}

func (w *Watch) take(dst []Event) (n int, lost uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost, w.lost = w.lost, 0
	for ; n < len(dst) && w.first != w.next; n++ {
		e := &w.ring[w.first&uint64(len(w.ring)-1)]
		dst[n], *e = *e, Event{} // lets the strings go
		w.first++
	}
	return n, lost
}

// put keeps an event, in place of the oldest where the ring is full.
func (w *Watch) put(e *Event) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	if w.next-w.first == uint64(len(w.ring)) {
		w.first++
		w.lost++
	}
	w.ring[w.next&uint64(len(w.ring)-1)] = *e
	w.next++
	w.mu.Unlock()
	w.ringUp()
}

func (w *Watch) ringUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Close ends the watch; what was not taken is forgotten. Closing twice changes nothing.
func (w *Watch) Close() {
	w.hub.watchers.remove(w)
	w.mu.Lock()
	w.closed, w.ring, w.first, w.next = true, nil, 0, 0
	w.mu.Unlock()
	w.ringUp()
}

// watchers are those who look. Order: last of all locks, with the ring's.
type watchers struct {
	count  atomic.Int32 // of all; 0: an event costs this one look
	mu     sync.RWMutex
	all    []*Watch            // guarded by mu: of everything
	byUser map[string][]*Watch // guarded by mu
}

func (ws *watchers) add(w *Watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w.email == "" {
		ws.all = append(ws.all, w)
	} else {
		if ws.byUser == nil {
			ws.byUser = make(map[string][]*Watch)
		}
		ws.byUser[w.email] = append(ws.byUser[w.email], w)
	}
	ws.count.Add(1)
}

func (ws *watchers) remove(w *Watch) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	list := ws.all
	if w.email != "" {
		list = ws.byUser[w.email]
	}
	i := slices.Index(list, w)
	if i < 0 {
		return
	}
	ws.count.Add(-1)
	list = slices.Delete(list, i, i+1)
	switch {
	case w.email == "":
		ws.all = list
	case len(list) == 0:
		delete(ws.byUser, w.email)
	default:
		ws.byUser[w.email] = list
	}
}

// tell shows an event to those who may see it. Any lock but a ring's may be held. It never waits for a watcher and
// allocates nothing.
func (h *Hub) tell(e Event) {
	if h.watchers.count.Load() != 0 {
		h.watchers.tell(&e, h.now())
	}
}

func (ws *watchers) tell(e *Event, now moment) {
	e.Time = now.time()
	ws.mu.RLock()
	defer ws.mu.RUnlock()
	for _, w := range ws.all {
		w.put(e)
	}
	if e.Email == "" {
		return // about an app alone: a user's watcher sees nothing of it
	}
	for _, w := range ws.byUser[e.Email] {
		w.put(e)
	}
}
