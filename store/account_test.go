package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

func (b *bed) finds(token string) bool {
	b.t.Helper()
	_, ok, err := b.Find(token)
	b.must(err)
	return ok
}

func TestSessionsLiveUntilTheyExpireOrEnd(t *testing.T) {
	b := newBed(t, Options{})
	hour := func() time.Time { return b.clock.now().Add(time.Hour) }
	b.must(b.BindSession("cookie-1", ann)) // before anything is in it
	if b.finds("cookie-1") {
		t.Error("a session without data is found")
	}
	b.must(b.Commit("cookie-1", []byte("one"), hour()))
	b.must(b.Commit("cookie-2", []byte("two"), hour()))
	b.must(b.BindSession("cookie-2", ann))
	b.must(b.Commit("cookie-3", []byte("three"), hour()))
	b.must(b.BindSession("cookie-3", bob))
	b.must(b.Commit("nobody's", []byte{}, hour()))
	b.reopen()
	if data, ok, err := b.Find("cookie-1"); err != nil || !ok || string(data) != "one" {
		t.Fatalf("%q %t %v", data, ok, err)
	}
	if !b.finds("nobody's") || b.finds("unknown") {
		t.Error("what is there is not what was written")
	}
	if ws, err := b.SessionsOf(ann); err != nil || len(ws) != 2 || !ws[0].Expires.Equal(hour()) || !ws[0].Created.Equal(b.clock.now()) {
		t.Fatalf("sessions of ann: %+v, %v", ws, err)
	}

	b.must(b.EndSessions(ann))
	b.must(b.Commit("cookie-1", []byte("from a request that had begun before"), hour()))
	b.must(b.BindSession("cookie-2", ann))
	if b.finds("cookie-1") || b.finds("cookie-2") || !b.finds("cookie-3") {
		t.Error("her sessions did not end, or others did")
	}
	if ws, _ := b.SessionsOf(ann); len(ws) != 0 {
		t.Errorf("sessions of ann: %+v", ws)
	}

	b.must(b.Delete("cookie-3"))
	b.must(b.Delete("cookie-3"))
	b.must(b.Delete("unknown"))
	if b.finds("cookie-3") {
		t.Error("a deleted session is found")
	}
	b.must(b.Commit("cookie-3", []byte("from a request that had begun before"), hour()))
	b.must(b.BindSession("cookie-3", bob))
	if ws, _ := b.SessionsOf(bob); b.finds("cookie-3") || len(ws) != 0 {
		t.Errorf("a session came back after it was deleted: %+v", ws)
	}
	b.must(b.Commit("short", []byte("x"), b.clock.now().Add(time.Minute)))
	b.clock.advance(time.Minute)
	if b.finds("short") {
		t.Error("an expired session is found")
	}
	b.clock.advance(time.Hour)
	n, err := b.Sweep(b.clock.now(), 100)
	if b.must(err); n != 5 { // short, nobody's, and three that ended
		t.Errorf("%d swept", n)
	}
	if n, _ := b.Sweep(b.clock.now(), 100); n != 0 {
		t.Errorf("%d swept again", n)
	}
	b.must(b.db.View(func(tx *bbolt.Tx) error {
		for _, in := range []bucket{inSessions, inSessionsByEmail, inSessionsByUntil} {
			if k, _ := in.of(tx).Cursor().First(); k != nil {
				t.Errorf("%s still has %q", in, k)
			}
		}
		return nil
	}))
}

// Whoever has the file has no cookie: the token is nowhere in it.
func TestSessionTokensAreNotInTheFile(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.Commit("the-cookie", []byte("x"), b.clock.now().Add(time.Hour)))
	b.must(b.BindSession("the-cookie", ann))
	hash := sha256.Sum256([]byte("the-cookie"))
	found := false
	b.must(b.db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, in *bbolt.Bucket) error {
			return in.ForEach(func(k, v []byte) error {
				if bytes.Contains(k, []byte("the-cookie")) || bytes.Contains(v, []byte("the-cookie")) {
					t.Errorf("%s: %q: %q", name, k, v)
				}
				found = found || bytes.Equal(k, hash[:])
				return nil
			})
		})
	}))
	if !found {
		t.Error("not stored by its hash")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	b := newBed(t, Options{})
	for i := range maxSessions + 5 {
		token := fmt.Sprint("c", i)
		b.must(b.Commit(token, []byte("x"), b.clock.now().Add(time.Hour+time.Duration(i)*time.Second)))
		b.must(b.BindSession(token, ann))
	}
	b.must(b.Commit("c0", []byte("from a request that had begun before it had to go"), b.clock.now().Add(time.Hour)))
	if b.finds("c0") {
		t.Error("a session that had to go came back")
	}
	if ws, _ := b.SessionsOf(ann); len(ws) != maxSessions {
		t.Errorf("%d sessions", len(ws))
	}
	if b.finds("c0") || b.finds("c4") || !b.finds("c5") {
		t.Error("it was not the first to end that went")
	}
	b.anonymous.Store(maxAnonymous) // as if there were so many; counting finds out
	b.must(b.Commit("a", []byte("x"), b.clock.now().Add(time.Hour)))
	if !b.finds("a") || b.anonymous.Load() != 1 {
		t.Errorf("counted %d", b.anonymous.Load())
	}
}

func TestAPITokensAreNoDeviceTokens(t *testing.T) {
	b := newBed(t, Options{})
	api := token(ann, "", "api")
	api.Name, api.Scopes = "backup", []string{"grants:read", "devices"}
	dev := token(ann, "", "dev")
	b.must(b.PutTokens([]presence.Token{api, dev}))
	b.reopen()
	if _, _, _, ok, _ := b.LookupToken(api.Hash); ok {
		t.Error("an API token lets a device in")
	}
	if _, ok, _ := b.LookupAPIToken(dev.Hash); ok {
		t.Error("a device token opens the API")
	}
	got, ok, err := b.LookupAPIToken(api.Hash)
	if err != nil || !ok || !reflect.DeepEqual(got, api) || !got.May("devices") || got.May("grants") {
		t.Errorf("%+v %t %v", got, ok, err)
	}
	b.must(b.PutUser(presence.User{Email: ann, Disabled: true}))
	_, _, _, okDevice, _ := b.LookupToken(dev.Hash)
	_, okAPI, _ := b.LookupAPIToken(api.Hash)
	if okDevice || okAPI {
		t.Error("a token of a disabled user works")
	}
	b.must(b.PutUser(presence.User{Email: ann}))
	if got, ok, err := b.RevokeToken(api.Hash); err != nil || !ok || got.Name != "backup" {
		t.Errorf("revoked %+v %t %v", got, ok, err)
	}
	if _, ok, err := b.RevokeToken(api.Hash); ok || err != nil {
		t.Errorf("revoked twice: %v", err)
	}
	if _, _, _, ok, _ := b.LookupToken(dev.Hash); !ok {
		t.Error("the other token is gone too")
	}
	for name, bad := range map[string]presence.Token{
		"no scope":         {Scopes: []string{}},
		"an empty scope":   {Scopes: []string{""}},
		"for a device":     {Scopes: []string{"devices"}, Device: "phone"},
		"too many scopes":  {Scopes: strings.Split(strings.Repeat("x ", 40)+"x", " ")},
		"a long name":      {Name: strings.Repeat("x", 200)},
		"a name of no use": {Name: "\xff"},
	} {
		bad.Email, bad.Hash = ann, sha256.Sum256([]byte(name))
		b.wantErr(b.PutTokens([]presence.Token{bad}), presence.ErrBadValue, "")
	}
}

// TestActivityOfAnEarlierLife: what is written late of who was removed is not kept of who comes anew.
func TestActivityOfAnEarlierLife(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.PutUser(presence.User{Email: ann, Created: b.clock.now()}))
	late := presence.Event{Time: b.clock.now(), Kind: presence.DeviceGone, Email: ann, Device: "phone"}
	b.must(b.RemoveUser(ann))
	b.clock.advance(time.Millisecond)
	b.must(b.PutUser(presence.User{Email: ann, Created: b.clock.now()}))
	news := presence.Event{Time: b.clock.now(), Kind: presence.DeviceStatus, Email: ann, Device: "tablet"}
	b.must(b.AppendActivity([]presence.Event{late, news}))
	if es, err := b.ActivityOf(ann, time.Time{}, 10); err != nil || len(es) != 1 || es[0].Device != "tablet" {
		t.Errorf("%+v, %v", es, err)
	}
}

func TestActivityIsBoundedForEachUser(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.PutUser(presence.User{Email: ann}))
	event := func(email string, i int) presence.Event {
		return presence.Event{Time: b.clock.now(), Kind: presence.Notified, Email: email, App: "chat", Device: "phone", Detail: fmt.Sprint(i), By: presence.ByApp}
	}
	b.must(b.AppendActivity([]presence.Event{{Time: b.clock.now(), Kind: presence.Linked, App: "chat"}, event(bob, 1)})) // nobody's, and a stranger's
	for i := range maxActivity + 7 {
		if i%100 == 0 {
			b.clock.advance(time.Second)
		}
		b.must(b.AppendActivity([]presence.Event{event(ann, i)}))
	}
	b.reopen()
	es, err := b.ActivityOf(ann, time.Time{}, 5000)
	if err != nil || len(es) != maxActivity || es[0].Detail != "1006" || es[maxActivity-1].Detail != "7" {
		t.Fatalf("%d events, %v", len(es), err)
	}
	want := event(ann, 1006)
	want.Time = es[0].Time
	if es[0] != want {
		t.Errorf("%+v, want %+v", es[0], want)
	}
	if es, _ := b.ActivityOf(ann, b.clock.now(), 5000); len(es) != 7 {
		t.Errorf("%d events since a second ago", len(es))
	}
	if es, _ := b.ActivityOf(ann, time.Time{}, 3); len(es) != 3 {
		t.Errorf("%d events of three", len(es))
	}
	if es, _ := b.ActivityOf(bob, time.Time{}, 3); len(es) != 0 {
		t.Errorf("a stranger has %v", es)
	}

	b.clock.advance(keepActivity) // all but the last second's are too old, to be read and to be kept
	if es, _ := b.ActivityOf(ann, time.Time{}, 5000); len(es) != 7 {
		t.Errorf("%d events after 35 days", len(es))
	}
	for _, want := range []int{500, 493, 0} {
		if n, err := b.Sweep(b.clock.now(), 500); n != want || err != nil {
			t.Errorf("%d trimmed, want %d (%v)", n, want, err)
		}
	}
	b.reopen()
	b.must(b.AppendActivity([]presence.Event{event(ann, 9)}))
	if es, _ := b.ActivityOf(ann, time.Time{}, 5000); len(es) != 8 || es[0].Detail != "9" {
		t.Errorf("%d events after trimming", len(es))
	}
}

// What one user loses in a commit does not hide from it what another has: bbolt's cursor stops at a page that was
// emptied meanwhile.
func TestActivityBesideAnEmptiedPage(t *testing.T) {
	b := newBed(t, Options{})
	b.must(b.PutUser(presence.User{Email: ann}))
	b.must(b.PutUser(presence.User{Email: bob})) // his pages are behind hers
	event := func(email string) presence.Event {
		return presence.Event{Time: b.clock.now(), Email: email, Detail: strings.Repeat("x", 200)}
	}
	repeat := func(email string, n int) (es []presence.Event) {
		for range n {
			es = append(es, event(email))
		}
		return es
	}
	b.must(b.AppendActivity(repeat(ann, 50)))
	b.must(b.AppendActivity(repeat(bob, maxActivity)))
	b.must(b.AppendActivity(append(repeat(bob, 200), event(ann))))
	if es, err := b.ActivityOf(ann, time.Time{}, 100); err != nil || len(es) != 51 {
		t.Errorf("%d events, %v", len(es), err)
	}
	b.must(b.CheckConsistency())
}

// The trimming goes on where it stopped, and comes round to everybody.
func TestTrimmingReachesEveryUser(t *testing.T) {
	b := newBed(t, Options{})
	var es []presence.Event
	for i := range trimUsers + 50 {
		email := fmt.Sprintf("u%04d@example.org", i)
		b.must(b.PutUser(presence.User{Email: email}))
		es = append(es, presence.Event{Time: b.clock.now(), Email: email})
	}
	b.must(b.AppendActivity(es))
	b.clock.advance(keepActivity + time.Second)
	total := 0
	for range 3 {
		n, err := b.Sweep(b.clock.now(), 5000)
		b.must(err)
		total += n
	}
	if total != len(es) {
		t.Errorf("%d of %d trimmed", total, len(es))
	}
}

func TestDevicesAreRenamed(t *testing.T) {
	b := newBed(t, Options{})
	seen := b.clock.now()
	b.must(b.PutDevice(ann, presence.DeviceRecord{ID: "phone", Seen: seen}).Wait())
	b.must(b.RenameDevice(ann, "phone", "My Phone ☎"))
	b.must(b.PutDevice(ann, presence.DeviceRecord{ID: "phone", Seen: seen.Add(time.Hour)}).Wait()) // it comes again
	b.reopen()
	ds, err := b.DevicesOf(ann)
	if err != nil || len(ds) != 1 || ds[0].Name != "My Phone ☎" || !ds[0].Seen.Equal(seen.Add(time.Hour)) {
		t.Errorf("%+v, %v", ds, err)
	}
	b.must(b.RenameDevice(ann, "phone", ""))
	if ds, _ := b.DevicesOf(ann); ds[0].Name != "" {
		t.Errorf("%+v", ds)
	}
	b.wantErr(b.RenameDevice(ann, "desk", "x"), presence.ErrBadValue, "no device")
	b.wantErr(b.RenameDevice(ann, "phone", strings.Repeat("x", 200)), presence.ErrBadValue, "128")
	b.wantErr(b.RenameDevice(ann, "phone", "\xff"), presence.ErrBadValue, "")
}

// A file of format 1, made by hand as that version did, opens, keeps what it has, and takes what is new.
func TestFormat1IsBroughtUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.db")
	b := &bed{t: t, clock: newClock()}
	db, err := bbolt.Open(path, 0o600, nil)
	b.must(err)
	hash := sha256.Sum256([]byte("secret"))
	newer := []bucket{inSessions, inSessionsByEmail, inSessionsByUntil, inActivity, inPush, inPushByEndpoint}
	b.must(db.Update(func(tx *bbolt.Tx) error {
		for _, in := range allBuckets() {
			if slices.Contains(newer, in) {
				continue
			}
			if _, err := tx.CreateBucket([]byte(in)); err != nil {
				return err
			}
		}
		put := func(in bucket, k []byte, v string) { b.must(in.of(tx).Put(k, []byte(v))) }
		put(inMeta, []byte("version"), string(be64(1)))
		put(inMeta, []byte("key"), strings.Repeat("k", 32))
		put(inUsers, []byte(ann), `{"email":"`+ann+`","created":"2029-01-01T00:00:00Z"}`)
		put(inTokens, hash[:], `{"email":"`+ann+`","device":"phone","created":"2029-01-01T00:00:00Z"}`)
		put(inTokensByEmail, pair(ann, string(hash[:])), "")
		put(inDevices, pair(ann, "phone"), `{"device":"phone","seen":"2029-02-01T00:00:00Z"}`)
		put(inGrants, pair(ann, "chat"), `{"email":"`+ann+`","appid":"chat","puid":"p","address":"puid","windows":null,"until":null,"notify":true,"idle":false,"paused":true}`)
		put(inGrantsByApp, pair("chat", ann), "")
		put(inGrantsByPUID, pair("chat", "p"), ann)
		return nil
	}))
	b.must(db.Close())

	b.o.Now = b.clock.now
	b.open(path)
	defer func() { b.must(b.Close()) }()
	b.must(b.CheckConsistency())
	if email, device, _, ok, err := b.LookupToken(hash); err != nil || !ok || email != ann || device != "phone" {
		t.Errorf("token %q %q %t %v", email, device, ok, err)
	}
	if u, ok, err := b.User(ann); err != nil || !ok || u.Disabled || u.Invisible || u.Created.IsZero() {
		t.Errorf("user %+v %t %v", u, ok, err)
	}
	if g, ok, err := b.Grant(ann, "chat"); err != nil || !ok || !g.Paused || g.PausedUntil != nil {
		t.Errorf("grant %+v %t %v", g, ok, err)
	}
	if k := b.Key(); string(k[:]) != strings.Repeat("k", 32) {
		t.Error("the key is another one")
	}
	b.must(b.Commit("cookie", []byte("x"), b.clock.now().Add(time.Hour)))
	b.must(b.AppendActivity([]presence.Event{{Time: b.clock.now(), Email: ann}}))
	b.must(b.RenameDevice(ann, "phone", "My Phone"))
	b.must(b.db.View(func(tx *bbolt.Tx) error {
		if v := inMeta.of(tx).Get([]byte("version")); !bytes.Equal(v, be64(formatVersion)) {
			t.Errorf("version %x", v)
		}
		return nil
	}))
	b.reopen()
	if ds, _ := b.DevicesOf(ann); len(ds) != 1 || ds[0].Name != "My Phone" || !b.finds("cookie") {
		t.Errorf("after a restart: %+v", ds)
	}
}

// A pause that has ended is none, whoever reads the grant; events survive JSON.
func TestGrantsAreReadAsTheyAreNow(t *testing.T) {
	b := newBed(t, Options{})
	until := b.clock.now().Add(time.Hour)
	g := grant(ann, "chat", "p")
	g.Paused, g.PausedUntil = true, &until
	b.must(b.PutGrants([]presence.Grant{g}, nil))
	paused := func() (n int) {
		t.Helper()
		one, _, err1 := b.Grant(ann, "chat")
		byPUID, _, err2 := b.GrantByPUID("chat", "p")
		all, err3 := b.GrantsOf(ann)
		for _, err := range []error{err1, err2, err3} {
			b.must(err)
		}
		all = append(all, one, byPUID)
		b.must(b.EachGrant("", func(g presence.Grant) error { all = append(all, g); return nil }))
		b.must(b.EachGrant("chat", func(g presence.Grant) error { all = append(all, g); return nil }))
		for _, g := range all {
			if g.Paused {
				n++
			}
		}
		return n
	}
	if n := paused(); n != 5 {
		t.Errorf("paused %d times of 5", n)
	}
	b.clock.advance(time.Hour)
	if n := paused(); n != 0 {
		t.Errorf("still paused %d times", n)
	}
	e := presence.Event{Time: until, Kind: presence.DeviceStatus, Email: ann, Device: "phone", Status: presence.Unavailable}
	text, err := json.Marshal(e)
	b.must(err)
	var back presence.Event
	if b.must(json.Unmarshal(text, &back)); back != e || !strings.Contains(string(text), `"kind":"status"`) || !strings.Contains(string(text), `"status":"unavailable"`) {
		t.Errorf("%s", text)
	}
}
