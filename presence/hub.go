package presence

import (
	"time"
)

// Config is what a Hub is made of. Store, Now and Limits are needed; Key should be the same at every start.
type Config struct {
	Store  Store
	Now    func() time.Time // the only clock
	Key    [32]byte         // secret from which device tags are derived
	Limits Limits
	Linger time.Duration // how long a lost device is held before it counts as offline; 0: not at all
}

// Hub is the switchboard: it knows who is present and who may know, and hands out a [Session] for each
// device and a [Link] for each connection of an app. All methods are safe for concurrent use.
type Hub struct {
}

// New loads the apps and returns a hub with nobody there.
func New(c Config) (*Hub, error) { panic("soon") }

// Advance does what is due at now (lingers that ran out, windows that open or close, grants and sessions
// that end) and returns when it wants to be called next, at the latest. Call it from one goroutine, again
// whenever Alarm fires.
func (h *Hub) Advance(now time.Time) (next time.Time) { panic("soon") }

// Alarm fires when something is due earlier than Advance last said.
func (h *Hub) Alarm() <-chan struct{} { panic("soon") }

// Drain asks every session to come back after a random time up to spread; serving goes on. New Attach calls
// fail with ErrDraining.
func (h *Hub) Drain(spread time.Duration, reason string) { panic("soon") }

// Close ends every session (EndDraining) without linger, then every link (EndShutdown) behind what it still
// has to be told. Handles stay usable until their owner closes them.
func (h *Hub) Close() { panic("soon") }

// Stats are counts for the metrics and for status; gauges unless said otherwise.
type Stats struct {
	Users, Sessions, Lingering int
	Links                      int
	Apps                       int
	// counters since start
	Published, Notified, Confirmed, Refused uint64
}

// Stats counts; it takes each shard's lock for a moment.
func (h *Hub) Stats() Stats { panic("soon") }

// App returns a registered app.
func (h *Hub) App(id string) (App, bool) { panic("soon") }

// AppByComponent returns the app that speaks for domain (lower case), also a disabled one.
func (h *Hub) AppByComponent(domain string) (App, bool) { panic("soon") }

// Apps returns all apps, ordered by id.
func (h *Hub) Apps() []App { panic("soon") }

// PutApp adds or changes an app. ErrExists: another app has the component domain. Disabling one, changing
// its secret or component ends its links (EndDisabled).
func (h *Hub) PutApp(a App) error { panic("soon") }

// RemoveApp revokes every grant of the app, then removes it. ErrNoApp.
func (h *Hub) RemoveApp(id string, by Actor) error { panic("soon") }

// Allow writes a grant, new or changed. An empty PUID is filled: with the present one if the grant exists,
// else a new one. The app is told Subscribed, then what it may see now. ErrNoApp; ErrBadValue wraps what
// Check says.
func (h *Hub) Allow(g Grant, by Actor) (Grant, error) { panic("soon") }

// Import is Allow for many in one commit; the grants must carry their PUIDs or get new ones.
func (h *Hub) Import(gs []Grant, by Actor) error { panic("soon") }

// Revoke ends a grant: Offline for each visible device, then Unsubscribed; what waits is removed. ErrNoGrant.
func (h *Hub) Revoke(email, app string, by Actor) error { panic("soon") }

// SetPaused hides or shows presence without ending the grant; to the app it looks like going offline.
func (h *Hub) SetPaused(email, app string, paused bool, by Actor) error { panic("soon") }

// RemoveUser revokes all her grants and ends her sessions (EndRemoved); removing what the store keeps of
// her beside is the caller's.
func (h *Hub) RemoveUser(email string, by Actor) error { panic("soon") }

// DeviceInfo describes a device for lists.
type DeviceInfo struct {
	Email    string    `json:"email"`
	Device   string    `json:"device"`
	Status   string    `json:"status"` // as published; offline if none
	State    string    `json:"state"`  // connected, lingering, gone
	Since    time.Time `json:"since,omitzero"`
	Attached time.Time `json:"attached,omitzero"`
}

// Devices lists the devices of one user, remembered ones too; with email "" all those present.
func (h *Hub) Devices(email string) ([]DeviceInfo, error) { panic("soon") }

// Kick ends the user's sessions on device ("": on all) with EndKicked and returns how many.
func (h *Hub) Kick(email, device string) int { panic("soon") }

// EndCredential ends the user's sessions that were attached with this credential (EndExpired).
func (h *Hub) EndCredential(email, credential string) int { panic("soon") }
