package presence

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// DeviceGroup is what an app addresses by one key: devices, or users with all of theirs, as the app knows them. That
// somebody is a member gives the app nothing: each notification needs her grant.
type DeviceGroup struct {
	App     string    `json:"appid"`
	Name    string    `json:"name"` // the app's own, unique among its groups
	Key     string    `json:"key"`  // opaque: GroupPrefix and 128 random bits
	Members []Peer    `json:"members"`
	Created time.Time `json:"created"`
}

// DeviceGroups keeps them. An empty group is none: it is removed with its last member.
type DeviceGroups interface {
	DeviceGroup(app, name string) (DeviceGroup, bool, error)
	DeviceGroupByKey(app, key string) (DeviceGroup, bool, error)
	// AddDeviceGroup keeps a new one. ErrExists: the app has one of this name; ErrFull: it has max.
	AddDeviceGroup(g DeviceGroup, max int) error
	// ChangeDeviceGroup adds and removes members, in one commit. ErrNoGroup; ErrFull: there would be more than max.
	ChangeDeviceGroup(app, key string, add, remove []Peer, max int) error
	// DeviceGroupsWith returns those that have a member of this PUID or e-mail.
	DeviceGroupsWith(app, local string) ([]DeviceGroup, error)
	// LeaveDeviceGroups removes all members of this PUID or e-mail from the app's groups.
	LeaveDeviceGroups(app, local string) error
}

const (
	// GroupPrefix is what keys of device groups begin with, and no PUID does.
	GroupPrefix = "group:"

	maxGroupMembers = 20     // as Google had it
	maxGroups       = 10_000 // of an app
	maxGroupName    = 256    // bytes
)

// AddDeviceGroup makes a group of the app's and returns it. Members who are nobody's are left out. ErrExists,
// ErrNoMember, ErrGroupFull, ErrFull, ErrBadValue, ErrNoApp, ErrStorage.
func (h *Hub) AddDeviceGroup(app, name string, members []Peer) (DeviceGroup, error) {
	g := DeviceGroup{App: app, Name: name, Key: newGroupKey(), Members: members, Created: h.cfg.Now().UTC()}
	if err := g.check(); err != nil {
		return DeviceGroup{}, err
	}
	_, taken, err := h.cfg.Store.DeviceGroup(app, name)
	if taken || err != nil {
		return DeviceGroup{}, existsOr(err)
	}
	if g.Members, err = h.liveMembers(app, members); err != nil {
		return DeviceGroup{}, err
	}
	return g, storage(h.cfg.Store.AddDeviceGroup(g, maxGroups))
}

// PutDeviceGroup is for an import: it brings a group to these members, alive or not. It makes one where there is none of
// this name; Key "" is then a new one. ErrExists: there is one of another key; else as AddDeviceGroup.
func (h *Hub) PutDeviceGroup(g DeviceGroup) error {
	if g.Key == "" {
		g.Key = newGroupKey()
	}
	if err := g.check(); err != nil {
		return err
	}
	old, known, err := h.cfg.Store.DeviceGroup(g.App, g.Name)
	switch {
	case err != nil:
		return storage(err)
	case !known:
		if g.Created.IsZero() {
			g.Created = h.cfg.Now().UTC()
		}
		return storage(h.cfg.Store.AddDeviceGroup(g, maxGroups))
	case g.Key != old.Key:
		return fmt.Errorf("%w: a device group of this name with another key", ErrExists)
	}
	return storage(h.cfg.Store.ChangeDeviceGroup(g.App, g.Key, g.Members, old.Members, maxGroupMembers))
}

// check tells what is wrong with a group.
func (g *DeviceGroup) check() error {
	key, is := strings.CutPrefix(g.Key, GroupPrefix)
	switch {
	case g.Name == "" || len(g.Name) > maxGroupName || strings.IndexByte(g.Name, 0) >= 0:
		return fmt.Errorf("%w: the name of a device group must be 1 to %d bytes", ErrBadValue, maxGroupName)
	case !is || CheckDevice(key) != nil:
		return fmt.Errorf("%w: the key of a device group must begin with %s", ErrBadValue, GroupPrefix)
	case len(g.Members) == 0:
		return ErrNoMember
	case len(g.Members) > maxGroupMembers:
		return ErrGroupFull
	}
	return nil
}

func newGroupKey() string { return GroupPrefix + strings.ToLower(rand.Text()) }

func existsOr(err error) error {
	if err != nil {
		return storage(err)
	}
	return ErrExists
}

// DeviceGroup returns the app's of this name. ErrNoGroup, ErrStorage.
func (h *Hub) DeviceGroup(app, name string) (DeviceGroup, error) {
	return groupOr(h.cfg.Store.DeviceGroup(app, name))
}

// DeviceGroupByKey returns the app's of this key. ErrNoGroup, ErrStorage.
func (h *Hub) DeviceGroupByKey(app, key string) (DeviceGroup, error) {
	return groupOr(h.cfg.Store.DeviceGroupByKey(app, key))
}

func groupOr(g DeviceGroup, ok bool, err error) (DeviceGroup, error) {
	if err == nil && !ok {
		err = ErrNoGroup
	}
	return g, storage(err)
}

// JoinDeviceGroup adds members. Errors as AddDeviceGroup, and ErrNoGroup.
func (h *Hub) JoinDeviceGroup(app, key string, members []Peer) error {
	live, err := h.liveMembers(app, members)
	if err != nil {
		return err
	}
	err = h.cfg.Store.ChangeDeviceGroup(app, key, live, nil, maxGroupMembers)
	if errors.Is(err, ErrFull) {
		return ErrGroupFull
	}
	return storage(err)
}

// LeaveDeviceGroup removes members, if they are any. ErrNoGroup, ErrStorage.
func (h *Hub) LeaveDeviceGroup(app, key string, members []Peer) error {
	return storage(h.cfg.Store.ChangeDeviceGroup(app, key, nil, members, maxGroupMembers))
}

// Membership is a user in a device group of an app that she allows.
type Membership struct {
	App   string `json:"appid"`
	Group string `json:"group"`
	Token string `json:"token"` // what the app knows her or her device by
}

// MembershipsOf returns the user's, for her export. ErrStorage.
func (h *Hub) MembershipsOf(email string) ([]Membership, error) {
	gs, err := h.cfg.Store.GrantsOf(email)
	list := []Membership{}
	for i := 0; i < len(gs) && err == nil; i++ {
		var groups []DeviceGroup
		groups, err = h.cfg.Store.DeviceGroupsWith(gs[i].App, groupName(&gs[i]))
		for _, g := range groups {
			for _, p := range g.Members {
				if p.PUID == gs[i].PUID || p.Email == email {
					list = append(list, Membership{g.App, g.Name, p.String()})
				}
			}
		}
	}
	return list, storage(err)
}

// groupName is what the user is known by in groups.
func groupName(g *Grant) string {
	if g.Address == ByEmail {
		return g.Email
	}
	return g.PUID
}

// leaveDeviceGroups takes the users of grants that are about to go for good out of the groups of their apps.
func (h *Hub) leaveDeviceGroups(gs []Grant) error {
	for i := range gs {
		if err := h.cfg.Store.LeaveDeviceGroups(gs[i].App, groupName(&gs[i])); err != nil {
			return storage(err)
		}
	}
	return nil
}

// liveMembers are those that the app may write to, each once.
func (h *Hub) liveMembers(id string, peers []Peer) (live []Peer, err error) {
	a := h.apps.get(id)
	if a == nil {
		return nil, ErrNoApp
	}
	for _, p := range peers {
		if slices.Contains(live, p) {
			continue
		}
		switch err := h.isLive(a, p); {
		case err == nil:
			live = append(live, p)
		case !errors.Is(err, ErrStranger):
			return nil, err
		}
	}
	if len(live) == 0 {
		return nil, ErrNoMember
	}
	return live, nil
}

// isLive tells what a notification to the peer would be refused for, if it has nothing wrong itself.
func (h *Hub) isLive(a *app, p Peer) error {
	g, release, err := h.findGrant(a, p)
	if err != nil {
		return err
	}
	defer release()
	if p.Tag != "" {
		_, err = h.deviceOf(&g, p.Tag)
	}
	return err
}

// Outcome is what became of a notification to a device group. After [Delivery.Wait].
type Outcome struct {
	Success int    // members for whom it was accepted
	Failed  []Peer // those who no longer allow it, or not now

	group DeviceGroup
	dead  []Peer // of Failed: who revoked the app or is gone, so that she drops out
}

// NotifyGroup is Notify for the members of a device group: it is accepted for all who allow it, in one commit, and
// [Delivery.Outcome] says who does not. ErrStranger: the app has no such group; else as Notify, about the message alone.
func (l *Link) NotifyGroup(key string, m Message) (*Delivery, error) {
	if l.Ended() != Alive {
		return nil, ErrEnded
	}
	h := l.hub
	group, err := h.DeviceGroupByKey(l.app.id, key)
	switch {
	case errors.Is(err, ErrNoGroup):
		return nil, h.refuse(ErrStranger, l.app.id, "")
	case err != nil:
		return nil, h.refuse(err, l.app.id, "")
	}
	if err := h.checkMessage(&Grant{Notify: true}, &m); err != nil {
		return nil, h.refuse(err, l.app.id, "")
	}
	gs, release, err := h.findGrants(l.app, group.Members)
	if err != nil {
		return nil, h.refuse(err, l.app.id, "")
	}
	defer release()
	out := &Outcome{group: group}
	ns, err := h.composeMembers(out, gs, m)
	if err != nil {
		return nil, err
	}
	d := &Delivery{hub: h}
	if len(ns) > 0 && !m.Dry {
		d = h.enqueueAll(ns, m.Once)
	}
	if d.outcome = out; m.Dry {
		out.dead = nil
	}
	return d, nil
}

// composeMembers makes the notifications for the members of out's group, whose grants are gs, and says in out who gets
// none. An error is about the message, or the store's.
func (h *Hub) composeMembers(out *Outcome, gs []Grant, m Message) (ns []*Notification, err error) {
	for i, p := range out.group.Members {
		n, err := h.composeFor(out.group.App, &gs[i], p, m)
		switch {
		case err == nil:
			ns = append(ns, n)
		case errors.Is(err, ErrStranger):
			out.Failed, out.dead = append(out.Failed, p), append(out.dead, p)
		case errors.Is(err, ErrNotAllowed):
			out.Failed = append(out.Failed, p)
		default:
			return nil, err
		}
	}
	out.Success = len(ns)
	return ns, nil
}

// composeFor makes the notification for one of several peers, whose grant is g, or the zero Grant if there is none.
func (h *Hub) composeFor(app string, g *Grant, p Peer, m Message) (n *Notification, err error) {
	if g.Email == "" {
		return nil, h.refuse(ErrStranger, app, "")
	}
	device := ""
	if p.Tag != "" {
		if device, err = h.deviceOf(g, p.Tag); err != nil {
			return nil, h.refuse(err, app, "")
		}
	}
	return h.compose(g, device, m)
}

// Outcome is what became of a notification to a device group; nil: it was to somebody else.
func (d *Delivery) Outcome() *Outcome { return d.outcome }

// dropOut removes members who are dead. Where the store does not answer they are found again by the next notification.
func (d *Delivery) dropOut() {
	if o := d.outcome; o != nil && len(o.dead) > 0 {
		_ = d.hub.cfg.Store.ChangeDeviceGroup(o.group.App, o.group.Key, nil, o.dead, maxGroupMembers)
	}
}
