package presence

import "slices"

// A grant can leave out which devices there are (Grant.NoDevices). Its app sees one device in their place: the whole.
// That is a device like the others as far as views go, with what is true of all together for its state; it has no
// session, no timer and no id, and it is not in the list of the user's devices. It exists while a grant needs it.

// isWhole reports whether the device stands for all of its user's.
func (d *device) isWhole() bool { return d.id == "" } // no real one is called so: CheckDevice

// firstLocked is the first of the devices that the grant shows; the others are behind it.
func (g *grant) firstLocked() *device {
	if g.whole {
		return g.owner.whole
	}
	return g.owner.devices
}

// deviceLocked is the device as which the grant shows d.
func (g *grant) deviceLocked(d *device) *device {
	if g.whole {
		return g.owner.whole
	}
	return d
}

// tag is the name by which the grant's app knows the device.
func (g *grant) tag(h *Hub, device string) string {
	if g.whole {
		device = ""
	}
	return h.tag(g.puid, device)
}

// tagUnder is the name by which the app of a stored grant knows the device.
func (h *Hub) tagUnder(g *Grant, device string) string {
	if g.NoDevices {
		device = ""
	}
	return h.tag(g.PUID, device)
}

// needWholeLocked makes the whole if there is none.
func (u *user) needWholeLocked() {
	if u.whole != nil {
		return
	}
	u.whole = &device{user: u}
	s, up := u.togetherLocked()
	u.whole.setStateLocked(s)
	u.whole.up = up
}

// dropWholeLocked forgets the whole if no grant needs it any more.
func (u *user) dropWholeLocked() {
	if u.whole != nil && !slices.ContainsFunc(u.grants, func(g *grant) bool { return g.whole }) {
		u.whole = nil
	}
}

// togetherLocked is what is true of all her devices as one: as reachable as the best is, idle if all that are there
// are, since the last of them is. up is since when one is there.
func (u *user) togetherLocked() (s State, up moment) {
	busy := false
	for d := u.devices; d != nil; d = d.next {
		one := d.stateLocked()
		if one.Status == Offline {
			if s.Status == Offline {
				s.Since = max(s.Since, one.Since)
			}
			continue
		}
		if up == 0 || d.up < up {
			up = d.up
		}
		if one.Status > s.Status || one.Status == s.Status && one.Since < s.Since {
			s.Status, s.Since = one.Status, one.Since
		}
		busy = busy || one.Idle == 0
		s.Idle = max(s.Idle, one.Idle)
	}
	if busy {
		s.Idle = 0
	}
	return s, up
}

// stepWholeLocked brings the whole up to date after one of the devices has changed, and marks its views if apps see
// a difference.
func (h *Hub) stepWholeLocked(u *user, now moment) {
	w := u.whole
	before := w.stateLocked()
	s, _ := u.togetherLocked()
	if s.Status == before.Status && s.Idle == before.Idle {
		return
	}
	if s.Since = before.Since; s.Status != before.Status {
		s.Since = now
	}
	w.setStateLocked(s)
	if before.Status == Offline {
		h.addViewsLocked(w)
		h.showQueuesLocked(u)
	}
	fanoutLocked(w)
}
