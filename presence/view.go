package presence

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"
	"sync/atomic"
)

// view is a present device as one link sees it: the record that fan-out marks. It stands in its link's list
// at most once. A notice of the end of a grant takes the same way, to keep its place behind the devices.
type view struct {
	link   *Link   // immutable
	next   *view   // in the list: written by who queues it, then read by the taker
	device *device // immutable; nil: a notice
	grant  *grant  // immutable
	tag    string  // immutable; of a notice: who at the app asked
	extra  moment  // owned by the taker: the idle time last told; of a notice its ID, immutable
	state  uint32  // viewQueued: see push; viewMoved: another link tells of the device now, this one is silent
	told   uint8   // owned by the taker: the Status last told, 0 as if offline; and marks
	kind   Kind    // immutable
	news   bool    // immutable; false: it was there when the link came; of a notice: another link had it before
	silent bool    // owned by the taker: it had moved when it was taken
} // 64 bytes, one cache line: a change touches nothing else of it

const (
	viewQueued uint32 = 1 << iota
	viewMoved
	viewParked // moved, and speaks again if its link is back
)

// Marks of view.told.
const (
	heard = 0x80 // the app was told something
	owing = 0x40 // not by this link: the status is what another had told, and this one tells what is so now
	stale = 0x20 // another link had told what is not so any more, and this one has told nothing since
)

// known is the status that the app knows of.
func (v *view) known() Status { return Status(v.told &^ (heard | owing | stale)) }

// push puts the view on its link's list unless it is there. The view's shard is locked, so nobody else
// pushes it; its taker may clear viewQueued meanwhile, but only after having taken it. So the plain write
// below races with nothing: it follows a load that saw it cleared, and the taker reads only what the swap
// published.
func (l *Link) push(v *view) {
	state := atomic.LoadUint32(&v.state)
	if state&viewQueued != 0 {
		return
	}
	v.state = state | viewQueued
	for {
		head := l.head.Load()
		v.next = head
		if l.head.CompareAndSwap(head, v) {
			if head == nil {
				l.ring()
			}
			return
		}
	}
}

// fanoutLocked marks the device's views: one atomic write for each app.
func fanoutLocked(d *device) {
	for _, v := range d.views {
		v.link.push(v)
	}
}

// addViewsLocked gives a device that became visible the views that it has not.
func (h *Hub) addViewsLocked(d *device) {
	for _, g := range d.user.grants {
		if g.whole != d.isWhole() {
			continue
		}
		for _, l := range g.app.links() {
			if g.app.concerns(l, d.user.email) {
				h.addViewLocked(d, g, l)
			}
		}
	}
}

// addViewLocked returns the link's view of the device, made if there is none.
func (h *Hub) addViewLocked(d *device, g *grant, l *Link) (v *view, isNew bool) {
	for _, v := range d.views {
		if v.link == l && v.grant == g {
			return v, false
		}
	}
	v = &view{device: d, grant: g, link: l, tag: h.tag(g.puid, d.id), kind: Presence, news: true}
	d.views = append(d.views, v)
	return v, true
}

// tag is a device's name for those who know its user by this PUID: opaque, and without the key not linkable.
func (h *Hub) tag(puid, device string) string {
	m := hmac.New(sha256.New, h.cfg.Key[:])
	m.Write([]byte(puid))
	m.Write([]byte{0})
	m.Write([]byte(device))
	return lowerBase32.EncodeToString(m.Sum(nil)[:tagBytes])
}

const tagBytes = 10 // 16 characters

// dropViewsLocked takes the views that match off their devices; those in a list stay there until taken.
func (sh *shard) dropViewsLocked(u *user, match func(*view) bool) {
	for d := u.devices; d != nil; {
		next := d.next
		sh.dropViewsOfLocked(d, match)
		d = next
	}
	if u.whole != nil {
		sh.dropViewsOfLocked(u.whole, match)
	}
}

func (sh *shard) dropViewsOfLocked(d *device, match func(*view) bool) {
	if len(d.views) == 0 {
		return
	}
	if d.views = slices.DeleteFunc(d.views, match); len(d.views) == 0 {
		d.views = nil
		sh.releaseLocked(d)
	}
}

// visible is what the app may see of the view's device now, and since when.
func (v *view) visible() (st Status, since moment) {
	hidden := v.grant.is(grantHidden | grantEnded) // before flipped, which is written first
	flipped := moment(v.grant.flipped.Load())
	st, since = unpack(v.device.word.Load())
	if hidden {
		return hiddenSince(st, since, flipped)
	}
	return st, max(since, flipped)
}

// hiddenSince is what a hidden device looks like: gone since it was hidden, or before if it had gone then.
func hiddenSince(st Status, since, flipped moment) (Status, moment) {
	if st == Offline && since < flipped {
		return Offline, since
	}
	return Offline, flipped
}

// render fills in what the app is to be told of the view; false: it knows already.
func (v *view) render(u *Update) bool {
	if v.kind != Presence {
		*u = Update{Kind: v.kind, ByEmail: v.grant.byEmail, Local: v.grant.local(), To: v.tag, ID: uint64(v.extra)}
		return true
	}
	if v.silent {
		return false
	}
	st, since := v.visible()
	var idle moment
	if v.grant.is(grantIdle) && st != Offline {
		idle = moment(v.device.idle.Load())
	}
	known, first, owes := v.known(), v.told&heard == 0, v.told&owing != 0
	if v.told = uint8(known) | heard; st == known && idle == v.extra && !owes {
		return false // what comes later is news
	}
	delayed := first && !v.news
	v.told, v.extra = uint8(st)|heard, idle
	*u = Update{Kind: Presence, ByEmail: v.grant.byEmail, Local: v.grant.local(), Tag: v.tag,
		Status: st, Since: since.time(), Idle: idle.time(), Delayed: delayed}
	return true
}
