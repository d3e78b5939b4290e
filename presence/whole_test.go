package presence_test

import (
	"slices"
	"testing"
	"time"

	"presenced/presence"
)

// statusesOf takes what the link has and returns "tag status" shortened to status, checking that one tag alone speaks.
func statusesOf(t *testing.T, l *presence.Link, tag string) (sts []string) {
	t.Helper()
	for _, u := range take(l) {
		if u.Kind != presence.Presence || u.Tag != tag {
			t.Fatalf("told %+v, want presence of %s only", u, tag)
		}
		sts = append(sts, u.Status.String())
	}
	return sts
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: told %v, want %v", what, got, want)
	}
}

// whole sets up an app that sees ann as one device, linked, and returns the tag of that.
func whole(t *testing.T, f *fixture) (g presence.Grant, l *presence.Link, tag string) {
	t.Helper()
	f.app("chat")
	g, err := f.hub.Allow(presence.Grant{Email: ann, App: "chat", Notify: true, Idle: true, NoDevices: true}, presence.ByUser)
	if err != nil {
		t.Fatal(err)
	}
	at, err := f.hub.Addresses(ann, "phone")
	if err != nil {
		t.Fatal(err)
	}
	other, err := f.hub.Addresses(ann, "desk")
	if err != nil {
		t.Fatal(err)
	}
	if at["chat"] != other["chat"] {
		t.Fatalf("the addresses of two devices differ: %s, %s", at["chat"], other["chat"])
	}
	return g, f.link("chat"), at["chat"][len(g.PUID)+1:]
}

// The app sees the best of her devices, under one tag, and one end.
func TestDevicesLeftOut(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	_, l, tag := whole(t, f)
	phone, desk := f.attach(ann, "phone"), f.attach(ann, "desk")
	f.must(phone.Publish(presence.Unavailable, time.Time{}))
	want(t, "phone away", statusesOf(t, l, tag), "unavailable")
	f.must(desk.Publish(presence.Online, time.Time{}))
	want(t, "desk online", statusesOf(t, l, tag), "online")
	f.must(phone.Publish(presence.Online, time.Time{}))
	want(t, "phone online too", statusesOf(t, l, tag))
	f.must(desk.Publish(presence.Offline, time.Time{}))
	want(t, "desk gone", statusesOf(t, l, tag))
	f.must(phone.Publish(presence.Unavailable, time.Time{}))
	want(t, "phone away", statusesOf(t, l, tag), "unavailable")
	f.hub.Kick(ann, "phone")
	f.hub.Kick(ann, "desk")
	want(t, "all gone", statusesOf(t, l, tag), "offline")
	f.pass(time.Hour)
	want(t, "later", statusesOf(t, l, tag))
	if st := f.hub.Stats(); st.Users != 0 {
		t.Fatalf("she has left and %d users are in memory", st.Users)
	}
}

// She is idle when all of her devices are, since the last of them is.
func TestDevicesLeftOutIdle(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	_, l, _ := whole(t, f)
	phone, desk := f.attach(ann, "phone"), f.attach(ann, "desk")
	early, late := f.clock.Now().Add(-time.Hour).UTC(), f.clock.Now().Add(-time.Minute).UTC()
	f.must(phone.Publish(presence.Unavailable, early))
	f.must(desk.Publish(presence.Unavailable, time.Time{}))
	if us := take(l); len(us) != 1 || !us[0].Idle.IsZero() {
		t.Fatalf("one of two is idle: told %+v", us)
	}
	f.must(desk.Publish(presence.Unavailable, late))
	if us := take(l); len(us) != 1 || us[0].Idle.UnixMilli() != late.UnixMilli() {
		t.Fatalf("both are idle: told %+v, want since %v", us, late)
	}
}

// A probe is answered once, with the truth of all, whether she is there or not.
func TestDevicesLeftOutProbe(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	g, l, tag := whole(t, f)
	ask := func(named string, st presence.Status, since time.Time) {
		t.Helper()
		us, err := l.Probe(presence.Peer{PUID: g.PUID, Tag: named})
		if err != nil || len(us) != 1 || us[0].Status != st || us[0].Tag != tag || us[0].Since.UnixMilli() != since.UnixMilli() {
			t.Fatalf("probe of %q: %+v, %v; want one %v since %v", named, us, err, st, since)
		}
	}
	phone, desk := f.attach(ann, "phone"), f.attach(ann, "desk")
	f.must(phone.Publish(presence.Online, time.Time{}))
	began := f.clock.Now()
	f.pass(time.Minute)
	f.must(desk.Publish(presence.Online, time.Time{}))
	ask("", presence.Online, began)
	f.must(phone.Publish(presence.Offline, time.Time{}))
	ask(tag, presence.Online, began)
	f.pass(time.Minute)
	f.must(desk.Publish(presence.Offline, time.Time{}))
	went := f.clock.Now()
	take(l)
	f.pass(time.Minute)
	ask("", presence.Offline, went)
	f.hub.Kick(ann, "")
	take(l)
	f.pass(time.Hour)
	ask("", presence.Offline, went)
	ask(tag, presence.Offline, went)
}

// The tag is good for whichever device is there; receipts and messages come from it.
func TestDevicesLeftOutMessages(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	g, l, tag := whole(t, f)
	phone, desk := f.attach(ann, "phone"), f.attach(ann, "desk")
	f.must(phone.Publish(presence.Online, time.Time{}))
	f.must(desk.Publish(presence.Online, time.Time{}))
	take(l)
	d, err := l.Notify(presence.Peer{PUID: g.PUID, Tag: tag}, presence.Message{Ref: "1", Receipt: true, Message: "hi", TTL: -1})
	f.must(err)
	f.must(d.Wait())
	for _, s := range []*presence.Session{phone, desk} {
		if o, err := s.Next(10); err != nil || len(o.Notifications) != 1 {
			t.Fatalf("%s gets %+v, %v", s.Device(), o, err)
		}
	}
	o, err := f.store.Pending(ann, "desk", 0, 10)
	f.must(err)
	desk.Confirm([]uint64{o[0].Seq})
	<-l.Wake()
	var us []presence.Update
	for us = take(l); len(us) == 0; us = take(l) {
		<-l.Wake()
	}
	if len(us) != 1 || us[0].Kind != presence.Receipt || us[0].Device != tag {
		t.Fatalf("told %+v, want a receipt of %s", us, tag)
	}
	f.must(phone.Send("chat", "m", []byte(`{}`), -1))
	if us = take(l); len(us) != 1 || us[0].Kind != presence.FromDevice || us[0].Tag != tag {
		t.Fatalf("told %+v, want a message of %s", us, tag)
	}
}

// Devices are left out, and shown again, without the grant's end being told.
func TestDevicesLeftOutLater(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	g, l, tag := whole(t, f)
	phone, desk := f.attach(ann, "phone"), f.attach(ann, "desk")
	f.must(phone.Publish(presence.Online, time.Time{}))
	f.must(desk.Publish(presence.Unavailable, time.Time{}))
	want(t, "before", statusesOf(t, l, tag), "online")

	g.NoDevices = false
	_, err := f.hub.Allow(g, presence.ByUser)
	f.must(err)
	us := take(l)
	if len(us) != 3 || us[0].Tag != tag || us[0].Status != presence.Offline || us[1].Tag == us[2].Tag {
		t.Fatalf("devices shown: told %+v", us)
	}
	if _, err := l.Notify(presence.Peer{PUID: g.PUID, Tag: tag}, presence.Message{}); err != presence.ErrStranger {
		t.Fatalf("the tag of the whole still goes: %v", err)
	}
	single := us[1].Tag

	g.NoDevices = true
	_, err = f.hub.Allow(g, presence.ByUser)
	f.must(err)
	us = take(l)
	if len(us) != 3 || us[0].Status != presence.Offline || us[1].Status != presence.Offline || us[2].Tag != tag || us[2].Status != presence.Online {
		t.Fatalf("devices left out again: told %+v", us)
	}
	if _, err := l.Notify(presence.Peer{PUID: g.PUID, Tag: single}, presence.Message{}); err != presence.ErrStranger {
		t.Fatalf("a device's tag still goes: %v", err)
	}
}

// Without status she is offline for good; notifications come, and receipts are withheld.
func TestStatusLeftOut(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g, err := f.hub.Allow(presence.Grant{Email: ann, App: "chat", Notify: true, NoStatus: true}, presence.ByUser)
	f.must(err)
	l, phone := f.link("chat"), f.attach(ann, "phone")
	f.must(phone.Publish(presence.Online, time.Time{}))
	if us := take(l); len(us) > 0 {
		t.Fatalf("told %+v", us)
	}
	us, err := l.Probe(presence.Peer{PUID: g.PUID})
	if err != nil || len(us) != 1 || us[0].Status != presence.Offline || us[0].Tag != "" {
		t.Fatalf("probe: %+v, %v", us, err)
	}
	sight, err := f.hub.Sight(&g)
	if err != nil || sight.Shown || sight.String() != "no status" || g.Shown(f.clock.Now()) {
		t.Fatalf("it stands as %q, %v", sight, err)
	}
	d, err := l.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Ref: "1", Receipt: true, Message: "hi", TTL: -1})
	f.must(err)
	f.must(d.Wait())
	o, err := phone.Next(10)
	if err != nil || len(o.Notifications) != 1 {
		t.Fatalf("she gets %+v, %v", o, err)
	}
	phone.Confirm([]uint64{o.Notifications[0].Seq})
	if n, err := d.Waiting(); err != nil || n != 1 {
		t.Fatalf("the app is told of %d that wait, %v", n, err)
	}

	g.NoStatus = false
	_, err = f.hub.Allow(g, presence.ByUser)
	f.must(err)
	if us := take(l); len(us) != 1 || us[0].Status != presence.Online {
		t.Fatalf("with status: told %+v", us)
	}
	g.NoStatus = true
	_, err = f.hub.Allow(g, presence.ByUser)
	f.must(err)
	if us := take(l); len(us) != 1 || us[0].Status != presence.Offline {
		t.Fatalf("without it again: told %+v", us)
	}
	audit, err := f.store.AuditOf(ann, 1)
	if err != nil || audit[0].Detail != "without status" {
		t.Fatalf("audit: %+v, %v", audit, err)
	}
}
