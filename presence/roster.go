package presence

import (
	"slices"
	"strings"
	"time"
)

// Stats are counts for the metrics and for status; gauges unless said otherwise.
type Stats struct {
	Users, Sessions, Lingering int
	Links                      int // of connections that are there
	Apps                       int
	// Counters since start.
	Published, Notified, Confirmed, Refused uint64
}

// Stats counts; it takes each shard's lock for a moment.
func (h *Hub) Stats() Stats {
	s := Stats{
		Published: h.published.Load(), Notified: h.notified.Load(),
		Confirmed: h.confirmed.Load(), Refused: h.refused.Load(),
	}
	for i := range h.shards {
		sh := &h.shards[i]
		sh.mu.Lock()
		s.Users += len(sh.users)
		for _, u := range sh.users {
			for d := u.devices; d != nil; d = d.next {
				switch d.phase() {
				case Attached:
					s.Sessions++
				case Lingering:
					s.Lingering++
				}
			}
		}
		sh.mu.Unlock()
	}
	for _, a := range h.apps.all() {
		s.Apps++
		for _, l := range a.links() {
			if !l.detached() {
				s.Links++
			}
		}
	}
	return s
}

// DeviceInfo describes a device for lists.
type DeviceInfo struct {
	Email    string    `json:"email"`
	Device   string    `json:"device"`
	Name     string    `json:"name,omitempty"` // what she calls it; only in the list of one user
	Status   string    `json:"status"`         // as published; offline if none
	State    string    `json:"state"`          // connected, lingering, gone
	Since    time.Time `json:"since,omitzero"`
	Attached time.Time `json:"attached,omitzero"`
}

// Devices lists the devices of one user, remembered ones too; with email "" all those present.
func (h *Hub) Devices(email string) ([]DeviceInfo, error) {
	var list []DeviceInfo
	for i := range h.shards {
		sh := &h.shards[i]
		if email != "" && sh != h.shard(email) {
			continue
		}
		sh.mu.Lock()
		for _, u := range sh.users {
			for d := u.devices; d != nil; d = d.next {
				if d.phase() != Absent && (email == "" || u.email == email) {
					list = append(list, d.infoLocked())
				}
			}
		}
		sh.mu.Unlock()
	}
	if email != "" {
		kept, err := h.cfg.Store.DevicesOf(email)
		if err != nil {
			return nil, storage(err)
		}
		for _, r := range kept {
			if !slices.ContainsFunc(list, func(d DeviceInfo) bool { return d.Device == r.ID }) {
				list = append(list, DeviceInfo{Email: email, Device: r.ID, Status: "offline", State: "gone", Since: r.Seen})
			}
			i := slices.IndexFunc(list, func(d DeviceInfo) bool { return d.Device == r.ID })
			list[i].Name = r.Name
		}
	}
	slices.SortFunc(list, func(a, b DeviceInfo) int {
		return strings.Compare(a.Email+"\x00"+a.Device, b.Email+"\x00"+b.Device)
	})
	return list, nil
}

// onlineSlice is how many users EachOnline holds at once.
const onlineSlice = 1024

// EachOnline calls f with the e-mail of each user that has a connected device, in order, until f returns an error,
// which it returns. It reads a slice at a time: who comes or goes meanwhile may be there or not.
func (h *Hub) EachOnline(f func(email string) error) error {
	for after := ""; ; {
		slice := h.onlineAfter(after, onlineSlice)
		for _, email := range slice {
			if err := f(email); err != nil {
				return err
			}
		}
		if len(slice) < onlineSlice {
			return nil
		}
		after = slice[len(slice)-1]
	}
}

// onlineAfter returns the first users behind after, at most max, in order.
func (h *Hub) onlineAfter(after string, max int) (first []string) {
	cut := func() {
		if slices.Sort(first); len(first) > max {
			first = first[:max]
		}
	}
	for i := range h.shards {
		sh := &h.shards[i]
		sh.mu.Lock()
		for email, u := range sh.users {
			if _, attached := u.countDevices(); attached > 0 && email > after {
				if first = append(first, email); len(first) >= 2*max {
					cut()
				}
			}
		}
		sh.mu.Unlock()
	}
	cut()
	return first
}

func (d *device) infoLocked() DeviceInfo {
	st, since := unpack(d.word.Load())
	info := DeviceInfo{Email: d.user.email, Device: d.id, Status: st.String(), State: "lingering", Since: since.time()}
	if d.session != nil {
		info.State, info.Attached = "connected", d.session.attached.time()
	}
	return info
}

// Attached returns the session of a device; nil: it has none.
func (h *Hub) Attached(email, device string) *Session {
	sh := h.shard(email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if u := sh.users[email]; u != nil {
		if d := u.device(device); d != nil {
			return d.session
		}
	}
	return nil
}
