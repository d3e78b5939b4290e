package ccs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"presenced/presence"
)

// group makes a device group of chat's and returns its key.
func (g *gateway) group(name string, members ...presence.Peer) string {
	g.t.Helper()
	made, err := g.hub.AddDeviceGroup("chat", name, members)
	g.must(err)
	return made.Key
}

// ackOf is the ack of a message to a device group.
func ackOf(key, id string, success int, failed ...string) string {
	outcome := fmt.Sprintf(`,"success":%d,"failure":%d`, success, len(failed))
	if len(failed) > 0 {
		outcome += `,"failed_registration_ids":["` + strings.Join(failed, `","`) + `"]`
	}
	return strings.Replace(ack(key, id), `"}<`, `"`+outcome+`}<`, 1)
}

// A message to a device group goes to its members, if they still allow it. Who revoked the app drops out.
func TestDeviceGroup(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.allow("bob@example.org", "p2")
	g.allow("eve@example.org", "p3", func(gr *presence.Grant) { gr.Notify = false })
	ann, tablet, bob := g.device("ann@example.org", "phone"), g.device("ann@example.org", "tablet"), g.device("bob@example.org", "phone")
	_, tag, _ := strings.Cut(ann.token, "/")
	key := g.group("family", presence.Peer{PUID: "p1", Tag: tag}, presence.Peer{PUID: "p2"}, presence.Peer{PUID: "p3"}, presence.Peer{PUID: "nobody"})
	s := g.connect()
	s.gcm(`{"to":"` + key + `","message_id":"m1","data":{"a":"b"},"delivery_receipt_requested":true}`)
	s.want(ackOf(key, "m1", 2, "p3"))
	for _, d := range []*device{ann, bob} {
		if n := d.one(); n.Ref != "m1" || string(n.Data) != `{"a":"b"}` {
			t.Errorf("%+v", n)
		}
		r := parse(t, s.next())
		if r.ID != "dr2:m1" || !strings.Contains(string(r.Data), `"device_registration_id":"`+d.token+`"`) {
			t.Errorf("%+v, %s", r, r.Data)
		}
	}
	tablet.none()

	g.must(g.hub.Revoke("bob@example.org", "chat", presence.ByUser))
	for i, failed := range [][]string{{"p2", "p3"}, {"p3"}} { // she who only wants none stays, and is told again
		id := fmt.Sprint("r", i)
		s.gcm(`{"to":"` + key + `","message_id":"` + id + `","dry_run":` + fmt.Sprint(i == 1) + `}`)
		s.want(ackOf(key, id, 1, failed...))
	}
	g.allow("bob@example.org", "p9") // and is somebody else
	s.gcm(`{"to":"` + key + `","message_id":"now","time_to_live":0}`)
	s.want(ackOf(key, "now", 1, "p3"))
	s.gcm(`{"to":"` + key + `","message_id":"big","data":{"x":"` + strings.Repeat("x", 4096) + `"}}`)
	s.want(nack(key, "big", "INVALID_JSON", "InvalidJson: MESSAGE_TOO_BIG : The message is larger than allowed"))

	// Without members there is no group, and nobody learns of one that is another app's.
	g.must(g.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	g.must(g.hub.Revoke("eve@example.org", "chat", presence.ByUser))
	s.gcm(`{"to":"` + key + `","message_id":"last"}`)
	s.want(ackOf(key, "last", 0, "p1/"+tag, "p3"))
	g.app("other")
	g.allow("ann@example.org", "p7")
	foreign := g.group("theirs", presence.Peer{PUID: "p7"})
	o := g.dial()
	o.login("other")
	for _, to := range []string{key, foreign, presence.GroupPrefix + "none", presence.GroupPrefix} {
		o.gcm(`{"to":"` + to + `","message_id":"x"}`)
		o.want(nack(to, "x", "DEVICE_UNREGISTERED", "Unregistered token on 'to' field"))
	}
	s.gcm(`{"to":"` + key + `","message_id":"gone"}`)
	s.want(nack(key, "gone", "DEVICE_UNREGISTERED", "Unregistered token on 'to' field"))
	g.must(g.db.CheckConsistency())
}

// What was acknowledged is on disk for every member, in one commit, and is not doubled by a resend.
func TestDeviceGroupIsDurable(t *testing.T) {
	first := start(t)
	var members []presence.Peer
	for i := range 20 {
		first.allow(fmt.Sprintf("u%d@example.org", i), fmt.Sprint("p", i))
		members = append(members, presence.Peer{PUID: fmt.Sprint("p", i)})
	}
	key := first.group("all", members...)
	if err := first.hub.JoinDeviceGroup("chat", key, []presence.Peer{{PUID: "p0"}}); err != nil { // she is one already
		t.Error(err)
	}
	const message = `","message_id":"m","data":{"a":"b"}}`
	s := first.connect()
	before := first.db.Stats().Commits
	s.gcm(`{"to":"` + key + message)
	s.want(ackOf(key, "m", 20))
	if n := first.db.Stats().Commits - before; n != 1 {
		t.Errorf("%d commits", n)
	}

	g := start(t, func(c *setup) { c.Path = first.killed() })
	again := g.connect()
	again.gcm(`{"to":"` + key + message)
	again.want(ackOf(key, "m", 20))
	for i := range 20 {
		d := g.device(fmt.Sprintf("u%d@example.org", i), "phone")
		if n := d.one(); n.Ref != "m" {
			t.Errorf("%+v", n)
		}
		d.none()
	}
}

// Members go with their user, groups with their app.
func TestDeviceGroupsAreErased(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.allow("bob@example.org", "ignored", func(gr *presence.Grant) { gr.Address = presence.ByEmail })
	ann, bob := presence.Peer{PUID: "p1"}, presence.Peer{Email: "bob@example.org"}
	g.group("both", ann, bob)
	g.group("bobs", bob)
	members := func() (names []string) {
		g.must(g.db.EachDeviceGroup("chat", func(d presence.DeviceGroup) error {
			for _, p := range d.Members {
				names = append(names, d.Name+" "+p.String())
			}
			return nil
		}))
		return names
	}
	hers, err := g.hub.MembershipsOf("bob@example.org")
	g.must(err)
	if want := []presence.Membership{{App: "chat", Group: "bobs", Token: `bob\40example.org`}, {App: "chat", Group: "both", Token: `bob\40example.org`}}; !slices.Equal(hers, want) {
		t.Errorf("exported %+v", hers)
	}
	g.must(g.hub.RemoveUser("ann@example.org", presence.ByAdmin))
	g.must(g.db.RemoveUser("ann@example.org"))
	if got := members(); !slices.Equal(got, []string{`bobs bob\40example.org`, `both bob\40example.org`}) {
		t.Errorf("without ann: %q", got)
	}
	g.must(g.hub.Revoke("bob@example.org", "chat", presence.ByUser)) // that leaves her in, to be told of by a failure
	g.must(g.hub.RemoveUser("bob@example.org", presence.ByAdmin))
	g.must(g.db.RemoveUser("bob@example.org"))
	if got := members(); len(got) > 0 {
		t.Errorf("without bob: %q", got)
	}
	g.allow("eve@example.org", "p3")
	g.group("eves", presence.Peer{PUID: "p3"})
	g.must(g.hub.RemoveApp("chat", presence.ByAdmin))
	if got := members(); len(got) > 0 {
		t.Errorf("without the app: %q", got)
	}
	g.must(g.db.CheckConsistency())
}
