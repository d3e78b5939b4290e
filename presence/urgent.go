package presence

import (
	"sync"
	"time"
)

// PushSubscription is where a device can be woken while it holds no connection (RFC 8030 §4): what a browser calls a
// PushSubscription. The core does not look into it; it is here for those who keep it and those who use it.
type PushSubscription struct {
	Email    string    `json:"email"`
	Device   string    `json:"device"`
	Endpoint string    `json:"endpoint"`
	P256DH   string    `json:"p256dh"` // the device's public key, base64url (RFC 8291 §2)
	Auth     string    `json:"auth"`   // the secret it shares with us, base64url
	Created  time.Time `json:"created,omitzero"`
	// By is the mark of the credential with which the device said so, see CredentialMark; 0: not known.
	By uint64 `json:"by,omitempty"`
	// Woken says how the device was woken last; zero: not since it registered.
	Woken Woken `json:"woken,omitzero"`
}

// Woken is a wake-up that the push service took.
type Woken struct {
	Until time.Time `json:"until,omitzero"` // how long it keeps it
	Seen  time.Time `json:"seen,omitzero"`  // Missed.Seen at the time: another one now, and the device has been back
}

// Missed is a device that is not there though something urgent waits for it.
type Missed struct {
	Device string
	Until  time.Time // when the last of what waits expires
	Seen   time.Time // when it last came or went; zero: it was forgotten
}

// Missed returns those of the user's devices that hold no connection, are not lingering either, and for which
// something of high priority waits. What is for any of her devices waits for all of them, but only while none is there.
// A user who is disabled misses nothing. ErrStorage.
func (h *Hub) Missed(email string, devices []string) ([]Missed, error) {
	var missed []Missed
	there := h.devicesThere(email)
	for _, d := range devices {
		anyone, alone := h.cfg.Store.Urgent(email, d)
		if len(there) > 0 {
			anyone = time.Time{}
		}
		if until := latest(anyone, alone); !there[d] && !until.IsZero() {
			missed = append(missed, Missed{Device: d, Until: until})
		}
	}
	if len(missed) == 0 {
		return nil, nil
	}
	if u, _, err := h.cfg.Store.User(email); err != nil || u.Disabled {
		return nil, storage(err)
	}
	return missed, h.fillSeen(email, missed)
}

// fillSeen reads when devices came or went last, those included whose way to the disk is not over.
func (h *Hub) fillSeen(email string, missed []Missed) error {
	h.settle() // where that failed, an older time is there
	kept, err := h.cfg.Store.DevicesOf(email)
	if err != nil {
		return storage(err)
	}
	for i := range missed {
		for _, d := range kept {
			if d.ID == missed[i].Device {
				missed[i].Seen = d.Seen
			}
		}
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// devicesThere are those of the user that are connected or linger.
func (h *Hub) devicesThere(email string) map[string]bool {
	there := map[string]bool{}
	sh := h.shard(email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if u := sh.users[email]; u != nil {
		for d := u.devices; d != nil; d = d.next {
			if d.phase() != Absent {
				there[d.id] = true
			}
		}
	}
	return there
}

// maxUrgent bounds the users in the line of an Urgent.
const maxUrgent = 8192

// Urgent is a line of users who may have missed something urgent: it began to wait, or a device went while it
// waits. It holds each user once, at most maxUrgent of them; who does not fit in is not forgotten, but Lost tells
// that everybody has to be looked at, as is the case at the start. The line says only whom to look at, Hub.Missed
// says what is the case. Safe for concurrent use.
type Urgent struct {
	hub  *Hub // immutable
	wake chan struct{}

	mu   sync.Mutex
	line []string            // guarded by mu: oldest first
	in   map[string]struct{} // guarded by mu: the same
	lost bool                // guarded by mu
}

// Urgent opens the line, in place of an older one. Its owner closes it.
func (h *Hub) Urgent() *Urgent {
	u := &Urgent{hub: h, wake: make(chan struct{}, 1), in: make(map[string]struct{}), lost: true}
	h.urgent.Store(u)
	u.ring()
	return u
}

// Wake fires when somebody is in the line, or Lost is true. It has one slot.
func (u *Urgent) Wake() <-chan struct{} { return u.wake }

// Next takes the first user; false: there is none.
func (u *Urgent) Next() (email string, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.line) == 0 {
		return "", false
	}
	email, u.line = u.line[0], u.line[1:]
	delete(u.in, email)
	if len(u.line) > 0 {
		u.ring()
	}
	return email, true
}

// Lost reports, once, that users did not fit in since the last time.
func (u *Urgent) Lost() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	lost := u.lost
	u.lost = false
	return lost
}

// Close ends the line. Closing twice changes nothing.
func (u *Urgent) Close() { u.hub.urgent.CompareAndSwap(u, nil) }

func (u *Urgent) put(email string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, there := u.in[email]; there {
		return
	}
	if len(u.line) >= maxUrgent {
		u.lost = true
	} else {
		u.line = append(u.line, email)
		u.in[email] = struct{}{}
	}
	u.ring()
}

func (u *Urgent) ring() {
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// urge lines up a user for whom something urgent was accepted.
func (h *Hub) urge(n *Notification) {
	if u := h.urgent.Load(); u != nil && n.High && n.isLasting() {
		u.put(n.Email)
	}
}

// urgeLeft lines up a user one of whose devices has gone, if something urgent waits. No lock is held.
func (h *Hub) urgeLeft(email string) {
	u := h.urgent.Load()
	if u == nil {
		return
	}
	if anyone, alone := h.cfg.Store.Urgent(email, ""); !anyone.IsZero() || !alone.IsZero() {
		u.put(email)
	}
}
