package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"github.com/google/go-cmp/cmp"
	"reflect"
	"slices"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

func TestAppsByIdAndDomain(t *testing.T) {
	b := newBed(t, Options{})
	chat := presence.App{ID: "chat", Name: "Chat", Component: "chat.example.org", Secret: "s", APIKey: "k", Redirects: []string{}, Conflict: presence.Replace}
	b.must(b.PutApp(chat))
	b.wantErr(b.PutApp(presence.App{ID: "other", Component: "chat.example.org"}), presence.ErrExists, "chat.example.org")
	chat.Component = "talk.example.org"
	b.must(b.PutApp(chat))
	b.must(b.PutApp(presence.App{ID: "other", Component: "chat.example.org"}))
	b.reopen()
	apps, err := b.Apps()
	b.must(err)
	if len(apps) != 2 || apps[0].Component != "talk.example.org" || apps[0].Secret != "s" || apps[1].ID != "other" {
		t.Errorf("apps %+v", apps)
	}
	b.must(b.PutNotice(&presence.Notice{App: "chat", Local: "p"}))
	b.must(b.RemoveApp("chat"))
	b.wantErr(b.RemoveApp("chat"), presence.ErrNoApp, "")
	if ns, _ := b.NoticesOf("chat", 10); len(ns) != 0 {
		t.Errorf("notices of a removed app: %+v", ns)
	}
	b.must(b.PutApp(presence.App{ID: "new", Component: "talk.example.org"}))
}

func TestNoticesStayInOrderUntilDropped(t *testing.T) {
	b := newBed(t, Options{})
	for i := range 2*slice + 500 {
		if err := b.committer.hand(op{do: func(g *group) error {
			g.dirty = true
			return b.putNotice(g.tx, &presence.Notice{App: "chat", Kind: presence.Subscribed, Local: fmt.Sprint(i), ByEmail: i%2 == 0})
		}}); i == 2*slice+499 {
			b.must(err.Wait())
		}
	}
	b.must(b.PutNotice(&presence.Notice{App: "mail", Local: "other"}))
	b.reopen()
	ns, err := b.NoticesOf("chat", 3)
	b.must(err)
	if len(ns) != 3 || ns[0].Local != "0" || !ns[0].ByEmail || ns[0].ID >= ns[1].ID || ns[0].Kind != presence.Subscribed {
		t.Errorf("notices %+v", ns)
	}
	last := ns[0].ID + 2*slice + 100
	var ids []uint64
	for id := ns[0].ID; id <= last; id++ {
		ids = append(ids, id)
	}
	b.must(b.DropNotices("chat", ids))
	if ns, err = b.NoticesOf("chat", 10_000); err != nil || len(ns) != 399 || ns[0].ID != last+1 {
		t.Fatalf("%d are left, %v", len(ns), err)
	}
	ids = nil
	for _, n := range ns {
		ids = append(ids, n.ID)
	}
	b.must(b.DropNotices("chat", ids))
	b.reopen()
	b.must(b.PutNotice(&presence.Notice{App: "chat", Local: "next"}))
	if next, _ := b.NoticesOf("chat", 10); len(next) != 1 || next[0].ID <= ns[398].ID {
		t.Errorf("an id was given again: %+v after %d", next, ns[398].ID)
	}
	if ns, _ := b.NoticesOf("mail", 10); len(ns) != 1 {
		t.Errorf("the other app's: %+v", ns)
	}
}

// A notice waits for 90 days, and then makes room, a slice at a time.
func TestNoticesDoNotWaitForEver(t *testing.T) {
	b := newBed(t, Options{})
	put := func(app string, n int) {
		for i := range n {
			c := b.committer.hand(op{do: func(g *group) error {
				g.dirty = true
				return b.putNotice(g.tx, &presence.Notice{App: app, Local: fmt.Sprint(i)})
			}})
			if i == n-1 {
				b.must(c.Wait())
			}
		}
	}
	left := func(app string) int {
		ns, err := b.NoticesOf(app, 10_000)
		b.must(err)
		return len(ns)
	}
	put("chat", slice+10)
	put("mail", 1)
	b.clock.advance(noticeLife - time.Second)
	put("chat", 2)
	sweep := func(want int) {
		t.Helper()
		if n, err := b.Sweep(b.clock.now(), 2*slice); n != want || err != nil {
			t.Errorf("%d swept, %v, want %d", n, err, want)
		}
	}
	sweep(0)
	b.clock.advance(2 * time.Second)
	sweep(slice)
	sweep(11)
	sweep(0)
	if left("chat") != 2 || left("mail") != 0 {
		t.Errorf("%d and %d are left", left("chat"), left("mail"))
	}
}

func TestNoticesAreBounded(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.db.Update(func(tx *bbolt.Tx) error { // as if so many had come and one was left
		if err := inNoticeSeq.of(tx).Put([]byte("chat"), be64(maxNotices)); err != nil {
			return err
		}
		return inNotices.of(tx).Put(numbered("chat", 1), []byte("{}"))
	}))
	b.must(b.PutNotice(&presence.Notice{App: "chat", Local: "new"}))
	if ns, err := b.NoticesOf("chat", 10); err != nil || len(ns) != 1 || ns[0].Local != "new" {
		t.Errorf("%+v, %v", ns, err)
	}
}

func TestLongestGoneDeviceIsForgotten(t *testing.T) {
	b := newBed(t, Options{Limits: presence.Limits{DevicesPerUser: 3}})
	at := func(minutes int) time.Time { return b.clock.now().Add(time.Duration(minutes) * time.Minute) }
	put := func(d presence.DeviceRecord) { b.must(b.PutDevice(ann, d).Wait()) }
	went := func(app string, minutes int) map[string]time.Time { return map[string]time.Time{app: at(minutes)} }
	b.must(b.PutGrants([]presence.Grant{grant(ann, "chat", "p1"), grant(ann, "mail", "p2")}, nil))
	put(presence.DeviceRecord{ID: "phone", Seen: at(5)})
	put(presence.DeviceRecord{ID: "desk", Seen: at(2)})
	put(presence.DeviceRecord{ID: "tablet", Seen: at(4)})
	put(presence.DeviceRecord{ID: "desk", Seen: at(6), Gone: went("chat", 6)}) // known: nobody has to go
	put(presence.DeviceRecord{ID: "desk", Seen: at(7), Gone: went("mail", 7)}) // what chat saw stays
	put(presence.DeviceRecord{ID: "desk", Seen: at(8)})                        // it came back
	put(presence.DeviceRecord{ID: "never", Seen: at(9), Gone: went("chat", 9)})
	b.must(b.PutDevice(bob, presence.DeviceRecord{ID: "phone"}).Wait())
	put(presence.DeviceRecord{ID: "watch", Seen: at(10)})
	b.reopen()
	ds, err := b.DevicesOf(ann)
	b.must(err)
	want := []presence.DeviceRecord{{ID: "desk", Seen: at(8), Gone: map[string]time.Time{"chat": at(6), "mail": at(7)}},
		{ID: "phone", Seen: at(5)}, {ID: "watch", Seen: at(10)}}
	if d := cmp.Diff(want, ds); d != "" {
		t.Errorf("devices (-want +got):\n%s", d)
	}
	b.must(b.RemoveGrants([]presence.Grant{grant(ann, "mail", "p2")}, nil, nil))
	put(presence.DeviceRecord{ID: "desk", Seen: at(11), Gone: went("chat", 11)})
	if ds, _ := b.DevicesOf(ann); len(ds) != 3 || len(ds[0].Gone) != 1 {
		t.Errorf("what an app without a grant saw is kept: %+v", ds)
	}
	b.must(b.PutDevice("nobody@example.org", presence.DeviceRecord{ID: "phone", Gone: went("chat", 1)}).Wait())
	if _, known, _ := b.User("nobody@example.org"); known {
		t.Error("a device that went made a user")
	}
	b.must(b.RemoveDevice(ann, "desk"))
	b.must(b.RemoveDevice(ann, "desk"))
	if ds, _ := b.DevicesOf(ann); len(ds) != 2 {
		t.Errorf("devices %+v", ds)
	}
	b.must(b.Close())
	b.o.Limits.DevicesPerUser = 1
	b.open(b.path)
	put(presence.DeviceRecord{ID: "new"})
	if ds, _ := b.DevicesOf(ann); len(ds) != 1 || ds[0].ID != "new" {
		t.Errorf("with a lower limit: %+v", ds)
	}
}

func TestRequestsWaitForAnAnswer(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.PutUser(presence.User{Email: ann}))
	put := func(email, app string, want bool) {
		t.Helper()
		b.clock.advance(-time.Second) // the last one asked first
		kept, err := b.PutRequest(presence.Request{Email: email, App: app, Purpose: "p", Time: b.clock.now()}, 3)
		if b.must(err); kept != want {
			t.Errorf("the request of %s to %s is kept: %t", app, email, kept)
		}
	}
	put(bob, "chat", false) // nobody knows bob
	put(ann, "chat", true)
	put(ann, "chat", false) // it waits already
	put(ann, "mail", true)
	put(ann, "game", true)
	put(ann, "more", false)
	b.reopen()
	rs, err := b.RequestsOf(ann)
	b.must(err)
	var apps []string
	for _, r := range rs {
		apps = append(apps, r.App)
	}
	if !slices.Equal(apps, []string{"game", "mail", "chat"}) {
		t.Errorf("waiting %v, oldest first", apps)
	}
	n := presence.Notice{App: "mail", Kind: presence.Unsubscribed, Local: ann, ByEmail: true}
	b.must(b.RemoveRequest(ann, "mail", audit(ann, "deny"), &n))
	if _, ok, err := b.Request(ann, "mail"); ok || err != nil {
		t.Errorf("an answered request is there: %v", err)
	}
	if ns, _ := b.NoticesOf("mail", 10); len(ns) != 1 || ns[0] != n || n.ID == 0 {
		t.Errorf("notices %+v, want %+v", ns, n)
	}
	b.must(b.PutApp(presence.App{ID: "chat", Component: "chat.example.org"}))
	b.must(b.RemoveApp("chat"))
	if rs, _ := b.RequestsOf(ann); len(rs) != 1 || rs[0].App != "game" {
		t.Errorf("after the app was removed: %+v", rs)
	}
	b.must(b.RemoveUser(ann))
	if rs, _ := b.RequestsOf(ann); len(rs) != 0 {
		t.Errorf("after she was removed: %+v", rs)
	}
}

func token(email, device, secret string) presence.Token {
	return presence.Token{Hash: sha256.Sum256([]byte(secret)), Email: email, Device: device}
}

func TestTokensAreFoundAndRevoked(t *testing.T) {
	b := newBed(t, Options{})
	phone, all := token(ann, "phone", "s1"), token(ann, "", "s2")
	phone.Expires = b.clock.now().Add(time.Hour)
	b.must(b.PutTokens([]presence.Token{phone, all, token(bob, "", "s3")}))
	b.reopen()
	email, device, expires, ok, err := b.LookupToken(phone.Hash)
	if err != nil || !ok || email != ann || device != "phone" || !expires.Equal(phone.Expires) {
		t.Errorf("%q %q %v %t %v", email, device, expires, ok, err)
	}
	if _, _, _, ok, err := b.LookupToken(sha256.Sum256([]byte("s4"))); ok || err != nil {
		t.Errorf("unknown token: %t %v", ok, err)
	}
	if _, ok, _ := b.User(bob); !ok {
		t.Error("the user of a token does not exist")
	}
	b.wantErr(b.PutTokens([]presence.Token{token(ann, "", "s5"), token(ann, "", "s3")}), presence.ErrExists, "another user")
	revoked, err := b.RevokeTokens(ann, "phone")
	b.must(err)
	if !reflect.DeepEqual(revoked, []presence.Token{phone}) {
		t.Errorf("revoked %+v", revoked)
	}
	if _, _, _, ok, _ := b.LookupToken(phone.Hash); ok {
		t.Error("a revoked token works")
	}
	if ts, _ := b.TokensOf(ann); !reflect.DeepEqual(ts, []presence.Token{all}) {
		t.Errorf("tokens %+v", ts)
	}
	if revoked, err := b.RevokeTokens(ann, ""); err != nil || len(revoked) != 1 {
		t.Errorf("revoked %+v, %v", revoked, err)
	}
	n := 0
	b.must(b.EachToken(func(t presence.Token) error { n++; return nil }))
	if n != 1 {
		t.Errorf("%d tokens are left", n)
	}
}

func TestTokensAreBoundedAndExpiredOnesMakeRoom(t *testing.T) {
	b := newBed(t, Options{})
	var ts []presence.Token
	for i := range maxTokens {
		tok := token(ann, "", fmt.Sprint(i))
		if i < 10 {
			tok.Expires = b.clock.now().Add(time.Minute)
		}
		ts = append(ts, tok)
	}
	b.must(b.PutTokens(ts))
	b.must(b.PutTokens(ts[:50])) // again: no more than before
	b.wantErr(b.PutTokens([]presence.Token{token(ann, "", "more")}), ErrFull, "100")
	b.clock.advance(time.Minute)
	b.must(b.PutTokens([]presence.Token{token(ann, "", "more")}))
	if ts, _ := b.TokensOf(ann); len(ts) != maxTokens-10+1 {
		t.Errorf("%d tokens", len(ts))
	}
}

func TestRemovedUserLeavesNothing(t *testing.T) {
	b := newBed(t, Options{Limits: presence.Limits{QueuePerApp: 2}})
	until := b.clock.now().Add(time.Hour)
	g := grant(ann, "chat", "p")
	g.Until = &until
	b.must(b.PutUser(presence.User{Email: ann, Created: b.clock.now()}))
	for _, email := range []string{ann, bob} {
		g.Email, g.PUID = email, "p-"+email
		b.must(b.PutGrants([]presence.Grant{g}, audit(email, "allow")))
		b.must(b.PutTokens([]presence.Token{token(email, "phone", email)}))
		api := token(email, "", "api of "+email)
		api.Scopes = []string{"devices"}
		b.must(b.PutTokens([]presence.Token{api}))
		b.must(b.PutDevice(email, presence.DeviceRecord{ID: "phone"}).Wait())
		b.must(b.Commit("cookie of "+email, []byte("x"), until))
		b.must(b.BindSession("cookie of "+email, email))
		b.must(b.AppendActivity([]presence.Event{{Time: b.clock.now(), Kind: presence.Notified, Email: email, App: "chat"}}))
		b.put(b.note(email, "chat", "1"), b.note(email, "chat", "2"), b.note(email, "chat", "3"))
	}
	b.must(b.RemoveUser(ann))
	if !b.traces(bob) {
		t.Error("bob is gone too")
	}
	b.settle()
	b.must(b.db.View(func(tx *bbolt.Tx) error {
		for _, in := range allBuckets() {
			c := in.of(tx).Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if bytes.Contains(k, []byte(ann)) || bytes.Contains(v, []byte(ann)) {
					t.Errorf("%s still has %q: %q", in, k, v)
				}
			}
		}
		return nil
	}))
	if b.traces(ann) {
		t.Error("ann is still there")
	}
	b.wantErr(b.RemoveUser(ann), presence.ErrNoUser, "")
	b.reopen()
}

// traces tells whether anything is known of the user; all or nothing, else the test fails.
func (b *bed) traces(email string) bool {
	b.t.Helper()
	_, user, err1 := b.User(email)
	gs, err2 := b.GrantsOf(email)
	ts, err3 := b.TokensOf(email)
	ds, err4 := b.DevicesOf(email)
	as, err5 := b.AuditOf(email, 10)
	ws, err6 := b.SessionsOf(email)
	es, err7 := b.ActivityOf(email, time.Time{}, 10)
	b.must(errors.Join(err1, err2, err3, err4, err5, err6, err7))
	known := []bool{user, len(gs) > 0, len(ts) > 0, len(ws) > 0, len(es) > 0, len(ds) > 0, len(as) > 0, b.texts(email, "") != "", b.HasDropped(email)}
	if slices.Contains(known, !known[0]) {
		b.t.Errorf("%s is known in parts: %v", email, known)
	}
	return known[0]
}
