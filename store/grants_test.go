package store

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"presenced/presence"
)

func grant(email, app, puid string) presence.Grant {
	return presence.Grant{Email: email, App: app, PUID: puid, Address: presence.ByPUID, Notify: true}
}

func audit(email, what string) []presence.AuditEntry {
	return []presence.AuditEntry{{Email: email, App: "chat", What: what, By: presence.ByUser}}
}

func whats(entries []presence.AuditEntry) string {
	var words []string
	for _, e := range entries {
		words = append(words, e.What)
	}
	return strings.Join(words, " ")
}

func TestGrantIsFoundEveryWayAndEnds(t *testing.T) {
	b := newBed(t, Options{})
	until := b.clock.now().Add(time.Hour)
	g := grant(ann, "chat", "p1")
	g.Until, g.TZ, g.Created = &until, "Europe/Paris", b.clock.now()
	g.Windows = []presence.Window{{Days: []string{"mon"}, From: "21:00", To: "23:00"}}
	b.must(b.PutGrants([]presence.Grant{g, grant(ann, "mail", "p1")}, audit(ann, "allow")))
	b.reopen()

	got, ok, err := b.Grant(ann, "chat")
	b.must(err)
	if !ok || !reflect.DeepEqual(got, g) {
		t.Errorf("grant %+v, want %+v", got, g)
	}
	if got, ok, err := b.GrantByPUID("chat", "p1"); err != nil || !ok || got.App != "chat" || got.Email != ann {
		t.Errorf("by puid: %+v, %t, %v", got, ok, err)
	}
	if gs, err := b.GrantsOf(ann); err != nil || len(gs) != 2 || gs[0].App != "chat" {
		t.Errorf("grants %+v, %v", gs, err)
	}
	for _, puid := range []string{"p2", "p", ""} {
		if _, ok, err := b.GrantByPUID("chat", puid); ok || err != nil {
			t.Errorf("puid %q is known: %v", puid, err)
		}
	}
	u, ok, err := b.User(ann)
	if err != nil || !ok || !u.Created.Equal(b.clock.now()) {
		t.Errorf("user %+v, %t, %v", u, ok, err)
	}
	b.must(b.RemoveGrants([]presence.Grant{g, grant(bob, "chat", "x")}, audit(ann, "revoke"),
		[]presence.Notice{{App: "chat", Kind: presence.Unsubscribed, Local: "p1"}}))
	b.reopen()
	if _, ok, _ := b.GrantByPUID("chat", "p1"); ok {
		t.Error("a removed grant is found by its puid")
	}
	if _, ok, _ := b.NextUntil(); ok {
		t.Error("a removed grant still ends")
	}
	if ns, err := b.NoticesOf("chat", 10); err != nil || len(ns) != 1 || ns[0].Local != "p1" || ns[0].Kind != presence.Unsubscribed {
		t.Errorf("notices %+v, %v", ns, err)
	}
	entries, err := b.AuditOf(ann, 10)
	if b.must(err); whats(entries) != "revoke allow" {
		t.Errorf("audit %q, newest first", whats(entries))
	}
}

func TestForeignPUIDIsRefusedAndNothingIsWritten(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.PutGrants([]presence.Grant{grant(ann, "chat", "p1")}, nil))
	for _, gs := range [][]presence.Grant{
		{grant(bob, "mail", "new"), grant(bob, "chat", "p1")},
		{grant(bob, "chat", "same"), grant("carl@example.org", "chat", "same")},
	} {
		b.wantErr(b.PutGrants(gs, audit(bob, "allow")), presence.ErrExists, "another user")
	}
	if gs, _ := b.GrantsOf(bob); len(gs) != 0 {
		t.Errorf("bob has %+v", gs)
	}
	if entries, _ := b.AuditOf(bob, 10); len(entries) != 0 {
		t.Errorf("bob's audit is %+v", entries)
	}
	if _, ok, _ := b.User(bob); ok {
		t.Error("bob was created")
	}
	b.must(b.PutGrants([]presence.Grant{grant(ann, "chat", "p2"), grant(bob, "mail", "p1")}, nil))
	b.must(b.PutGrants([]presence.Grant{grant(bob, "chat", "p1")}, nil)) // ann's older one is free again
}

func TestRefusalHurtsNobodyInTheGroup(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.PutGrants([]presence.Grant{grant(ann, "chat", "p1")}, nil))
	refused, written := make(chan error), make(chan error)
	var c *presence.Commit
	b.together(func() {
		b.Enqueue(b.note(ann, "chat", "first"))
		b.spin(0)
		go func() { refused <- b.PutGrants([]presence.Grant{grant(bob, "chat", "p1")}, nil) }()
		b.spin(1)
		go func() { written <- b.PutGrants([]presence.Grant{grant(bob, "chat", "p2")}, nil) }()
		b.spin(2)
		c = b.Enqueue(b.note(ann, "chat", "second"))
	})
	b.wantErr(<-refused, presence.ErrExists, "p1")
	b.must(<-written)
	b.must(c.Wait())
	b.wantTexts(ann, "", "first second")
}

func TestBadKeysAreRefused(t *testing.T) {
	b := newBed(t, Options{})
	for name, err := range map[string]error{
		"zero in an e-mail": b.PutGrants([]presence.Grant{grant("a\x00b@example.org", "chat", "p")}, nil),
		"no puid":           b.PutGrants([]presence.Grant{grant(ann, "chat", "")}, nil),
		"long e-mail":       b.PutUser(presence.User{Email: strings.Repeat("a", 2000)}),
		"zero in an appid":  b.Enqueue(b.note(ann, "a\x00", "x")).Wait(),
		"no device":         b.PutDevice(ann, presence.DeviceRecord{}).Wait(),
		"no app in notice":  b.PutNotice(&presence.Notice{}),
		"audit of nobody":   b.PutGrants(nil, []presence.AuditEntry{{}}),
		"token of nobody":   b.PutTokens([]presence.Token{{}}),
		"app without id":    b.PutApp(presence.App{Component: "c"}),
		"purge of nobody":   b.Purge("", "").Wait(),
	} {
		if !errors.Is(err, presence.ErrBadValue) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEndedGrantsComeInOrder(t *testing.T) {
	b := newBed(t, Options{})
	now := b.clock.now()
	var gs []presence.Grant
	for i, hours := range []int{3, -1, 2, 0, 1} {
		g := grant(ann, fmt.Sprintf("app%d", i), "p")
		until := now.Add(time.Duration(hours) * time.Hour)
		g.Until = &until
		gs = append(gs, g)
	}
	b.must(b.PutGrants(append(gs, grant(ann, "never", "p")), nil))
	apps := func(at time.Time, max int) (list []string) {
		gs, err := b.EndedGrants(at, max)
		b.must(err)
		for _, g := range gs {
			list = append(list, g.App)
		}
		return list
	}
	if got := apps(now, 10); !slices.Equal(got, []string{"app1", "app3"}) {
		t.Errorf("ended now: %v", got)
	}
	if got := apps(now.Add(24*time.Hour), 3); !slices.Equal(got, []string{"app1", "app3", "app4"}) {
		t.Errorf("the first three: %v", got)
	}
	later := now.Add(9 * time.Hour)
	gs[1].Until = &later
	gs[3].Until = nil
	b.must(b.PutGrants([]presence.Grant{gs[1], gs[3]}, nil))
	if next, ok, err := b.NextUntil(); err != nil || !ok || !next.Equal(now.Add(time.Hour)) {
		t.Errorf("next end %v, %t, %v", next, ok, err)
	}
}

func TestEachGrantInOrderWhileItsCallbackWrites(t *testing.T) {
	b := newBed(t, Options{})
	var gs []presence.Grant
	for i := range 2*eachSlice + 10 {
		email := fmt.Sprintf("u%04d@example.org", i)
		gs = append(gs, grant(email, "mail", fmt.Sprint(i)), grant(email, "chat", fmt.Sprint(i)))
	}
	b.must(b.PutGrants(gs, nil))
	var keys []string
	b.must(b.EachGrant("", func(g presence.Grant) error { keys = append(keys, g.Email+" "+g.App); return nil }))
	if len(keys) != len(gs) || !slices.IsSorted(keys) {
		t.Errorf("%d of %d, sorted %t", len(keys), len(gs), slices.IsSorted(keys))
	}
	n := 0
	b.must(b.EachGrant("chat", func(g presence.Grant) error {
		if n++; g.App != "chat" {
			t.Fatalf("%+v", g)
		}
		return b.RemoveGrants([]presence.Grant{g}, nil, nil)
	}))
	if n != len(gs)/2 {
		t.Errorf("%d of %d", n, len(gs)/2)
	}
	stop := errors.New("stop")
	n = 0
	err := b.EachGrant("", func(presence.Grant) error { n++; return stop })
	if err != stop || n != 1 {
		t.Errorf("%v after %d", err, n)
	}
	n = 0
	b.must(b.EachUser(func(presence.User) error { n++; return nil }))
	if n != len(gs)/2 {
		t.Errorf("%d users", n)
	}
}

func TestAuditIsBoundedByUser(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.PutGrants(nil, audit(bob, "bob's")))
	for i := range 12 {
		var entries []presence.AuditEntry
		for j := range 100 {
			entries = append(entries, audit(ann, fmt.Sprint(i*100+j))...)
		}
		b.must(b.PutGrants(nil, entries))
	}
	entries, err := b.AuditOf(ann, 5000)
	b.must(err)
	if len(entries) != maxAudit || entries[0].What != "1199" || entries[maxAudit-1].What != "200" {
		t.Errorf("%d lines from %s to %s", len(entries), entries[0].What, entries[len(entries)-1].What)
	}
	if entries, _ := b.AuditOf(ann, 3); whats(entries) != "1199 1198 1197" {
		t.Errorf("the last three: %q", whats(entries))
	}
	if entries, _ := b.AuditOf(bob, 10); whats(entries) != "bob's" {
		t.Errorf("bob's: %q", whats(entries))
	}
}

// TestGrantsAreLikeAMap plays random writes on the store and on a map.
func TestGrantsAreLikeAMap(t *testing.T) {
	b := newBed(t, Options{})
	model := map[[2]string]presence.Grant{}
	rapid.Check(t, func(rt *rapid.T) {
		var gs []presence.Grant
		for range rapid.IntRange(1, 4).Draw(rt, "n") {
			g := grant(rapid.SampledFrom([]string{ann, bob, "a", "a.b"}).Draw(rt, "email"), rapid.SampledFrom([]string{"chat", "mail", "b"}).Draw(rt, "app"),
				rapid.SampledFrom([]string{"p1", "p2", "p3"}).Draw(rt, "puid"))
			if s := rapid.IntRange(-3, 3).Draw(rt, "until"); s != 0 {
				until := b.clock.now().Add(time.Duration(s) * time.Second)
				g.Until = &until
			}
			gs = append(gs, g)
		}
		if rapid.Bool().Draw(rt, "remove") {
			ok(rt, b.RemoveGrants(gs, nil, nil))
			for _, g := range gs {
				delete(model, [2]string{g.Email, g.App})
			}
		} else if err := b.PutGrants(gs, nil); err == nil {
			for _, g := range gs {
				model[[2]string{g.Email, g.App}] = g
			}
		} else if !errors.Is(err, presence.ErrExists) {
			rt.Fatal(err)
		}
		n := 0
		ok(rt, b.EachGrant("", func(g presence.Grant) error {
			if n++; !reflect.DeepEqual(model[[2]string{g.Email, g.App}], g) {
				rt.Fatalf("%+v, want %+v", g, model[[2]string{g.Email, g.App}])
			}
			return nil
		}))
		if n != len(model) {
			rt.Fatalf("%d grants, want %d", n, len(model))
		}
		ok(rt, b.CheckConsistency())
	})
}
