package store

import (
	"fmt"
	"testing"

	"presenced/presence"
)

func TestDeviceGroupsAreBounded(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.PutApp(presence.App{ID: "chat", Component: "chat.example"}))
	b.must(b.PutApp(presence.App{ID: "other", Component: "other.example"}))
	add := func(app, name, key string, members ...presence.Peer) error {
		return b.AddDeviceGroup(presence.DeviceGroup{App: app, Name: name, Key: key, Members: members}, 3)
	}
	p1, p2 := presence.Peer{PUID: "p1"}, presence.Peer{PUID: "p1", Tag: "t"}
	for i := range 3 {
		b.must(add("chat", fmt.Sprint("n", i), fmt.Sprint("k", i), p1, p2))
	}
	b.wantErr(add("chat", "n3", "k3", p1), presence.ErrFull, "")
	b.wantErr(add("chat", "n0", "k3", p1), presence.ErrExists, "")
	b.wantErr(add("none", "n0", "k0", p1), presence.ErrNoApp, "")
	b.must(add("other", "n0", "k0", p1))
	b.wantErr(b.ChangeDeviceGroup("chat", "k0", []presence.Peer{{PUID: "p2"}}, nil, 2), presence.ErrFull, "")
	b.wantErr(b.ChangeDeviceGroup("chat", "k9", nil, nil, 2), presence.ErrNoGroup, "")
	b.must(b.ChangeDeviceGroup("chat", "k0", []presence.Peer{{PUID: "p2"}}, []presence.Peer{p1}, 2))
	b.must(b.ChangeDeviceGroup("chat", "k1", nil, []presence.Peer{p1, p2}, 2)) // and there is room for one
	b.must(add("chat", "n3", "k3", p1))
	b.reopen()
	b.wantErr(add("chat", "n4", "k4", p1), presence.ErrFull, "")
	b.must(b.LeaveDeviceGroups("chat", "p1"))
	if gs, err := b.DeviceGroupsWith("chat", "p2"); err != nil || len(gs) != 1 || len(gs[0].Members) != 1 {
		t.Errorf("%+v, %v", gs, err)
	}
	if n, err := b.CountDeviceGroups("chat"); err != nil || n != 1 {
		t.Errorf("%d groups, %v", n, err)
	}
	b.must(b.CheckConsistency())
	b.must(b.RemoveApp("chat"))
	if n, err := b.CountDeviceGroups("chat"); err != nil || n != 0 {
		t.Errorf("%d groups, %v", n, err)
	}
	if _, ok, err := b.DeviceGroupByKey("other", "k0"); !ok || err != nil {
		t.Error("the other app's is gone too")
	}
	b.must(b.CheckConsistency())
}
