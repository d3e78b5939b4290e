package presence_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"presenced/presence"
)

// team is an app whose connections share it, with users that are there.
type team struct {
	*fixture
	phones map[string]*presence.Session // by PUID
	email  map[string]string            // by PUID
}

func newTeam(t *testing.T, users int) *team {
	f := &team{fixture: newFixture(t), phones: map[string]*presence.Session{}, email: map[string]string{}}
	f.must(f.hub.PutApp(presence.App{ID: "team", Name: "team", Component: "team.example", Secret: "s", APIKey: "k", Conflict: presence.Share}))
	for i := range users {
		email := fmt.Sprintf("u%d@example.org", i)
		g := f.allow(email, "team")
		f.phones[g.PUID], f.email[g.PUID] = f.online(email, "phone"), email
	}
	return f
}

// confirm makes the user's device confirm the one notification that it has, and waits until the receipt is out: they go
// out in order, and another app's comes behind it.
func (f *team) confirm(puid string) {
	f.t.Helper()
	f.app("other")
	email := f.email[puid]
	other, g := f.link("other"), f.allow(email, "other")
	d, err := other.Notify(presence.Peer{PUID: g.PUID}, presence.Message{Ref: "last", Receipt: true, TTL: -1})
	f.must(err)
	f.must(d.Wait())
	out, err := f.phones[puid].Next(2)
	f.must(err)
	for _, n := range out.Notifications {
		f.phones[puid].Confirm([]uint64{n.Seq})
	}
	waitReceipts(f.t.(*testing.T), other, "receipt last")
}

// one is a user of the link's.
func one(t *testing.T, users map[string]bool) string {
	t.Helper()
	for puid := range users {
		return puid
	}
	t.Fatal("the link has no user")
	return ""
}

// Who loses its connection loses its users at once to whoever is there, and has them back when it is back: with what
// it does not know, and nothing twice.
func TestDetachedLinkGivesItsUsersAway(t *testing.T) {
	f := newTeam(t, 40)
	defer f.close()
	a, b := f.link("team"), f.link("team")
	ofA, ofB := seen(a), seen(b)
	a.Detach()
	if moved := seen(b); len(moved) != len(ofA) || moved[one(t, ofB)] {
		t.Fatalf("%d users moved, %d had to", len(moved), len(ofA))
	}
	gone, away := "", ""
	for puid := range ofA {
		if gone == "" {
			gone = puid
		} else {
			away = puid
		}
	}
	f.must(f.phones[gone].Publish(presence.Offline, time.Time{}))
	f.must(f.phones[away].Publish(presence.Unavailable, time.Time{}))
	f.must(f.phones[away].Send("team", "m", []byte(`{}`), -1))
	got := said(b)
	slices.Sort(got)
	if want := []string{"offline " + gone, "unavailable " + away}; !slices.Equal(got, want) {
		t.Errorf("the other was told %q, want %q", got, want)
	}
	newer, err := f.hub.LinkHeld("team", presence.ComponentLink)
	f.must(err)
	if w := said(newer); len(w) != 0 || len(said(b)) != 0 {
		t.Errorf("a link that may resume was told %q", w)
	}
	newer.Yield(a)
	got = said(a)
	slices.Sort(got)
	if want := []string{"offline " + gone, "unavailable " + away}; !slices.Equal(got, want) {
		t.Errorf("back again it was told %q, want %q", got, want)
	}
	if w := said(b); len(w) != 0 {
		t.Errorf("who loses the users was told %q", w)
	}
	f.must(f.phones[away].Publish(presence.Online, time.Time{}))
	expect(t, a, "online "+away)
	expect(t, b)
}

// What happened to a user of its own while another told of her reaches a connection that is back also where the other
// is away by then, and her grant has ended: what it knew of her, and the end of the grant only from one of them.
func TestBackBehindTheEndOfAGrant(t *testing.T) {
	for _, told := range []bool{true, false} {
		t.Run(fmt.Sprint("the other told ", told), func(t *testing.T) {
			f := newTeam(t, 8)
			defer f.close()
			a := f.link("team")
			gone := one(t, seen(a))
			a.Detach()
			b := f.link("team")
			said(b)
			f.must(f.hub.Revoke(f.email[gone], "team", presence.ByUser))
			want := []string{"offline " + gone, "unsubscribed " + gone}
			if told {
				expect(t, b, want...)
				f.must(b.Told(1))
				want = want[:1]
			}
			b.Detach()
			newer, err := f.hub.LinkHeld("team", presence.ComponentLink)
			f.must(err)
			newer.Yield(a)
			expect(t, a, want...)
			b.Close()
			expect(t, a)
		})
	}
}

// Who is back says what is so now of a user who changed meanwhile, also where that is what it had said last: another
// said something else in between.
func TestBackWhenAllIsAsBefore(t *testing.T) {
	for _, between := range []presence.Status{presence.Unavailable, presence.Offline} {
		t.Run(between.String(), func(t *testing.T) {
			f := newTeam(t, 8)
			defer f.close()
			a := f.link("team")
			changed := one(t, seen(a))
			a.Detach()
			b := f.link("team")
			said(b)
			f.must(f.phones[changed].Publish(between, time.Time{}))
			expect(t, b, between.String()+" "+changed)
			f.must(f.phones[changed].Publish(presence.Online, time.Time{}))
			b.Detach()
			newer, err := f.hub.LinkHeld("team", presence.ComponentLink)
			f.must(err)
			newer.Yield(a)
			expect(t, a, "online "+changed)
		})
	}
}

// However often what has to be told moves between connections that are away, it is told once, and in order.
func TestToldOnceHoweverOftenItMoved(t *testing.T) {
	f := newTeam(t, 20)
	defer f.close()
	a := f.link("team")
	said(a)
	a.Detach()
	b := f.link("team")
	for puid := range f.phones {
		f.must(f.hub.Revoke(f.email[puid], "team", presence.ByUser))
	}
	b.Detach() // half of it is the other's now
	newer, err := f.hub.LinkHeld("team", presence.ComponentLink)
	f.must(err)
	newer.Yield(b)
	heard := map[string]string{}
	for _, w := range said(b) {
		word, puid, _ := strings.Cut(strings.TrimSuffix(w, " delayed"), " ")
		heard[puid] += word + " "
	}
	for puid := range f.phones {
		if heard[puid] != "offline unsubscribed " {
			t.Errorf("of %s the app heard %q", puid, heard[puid])
		}
	}
}

// Without anybody who is there, detached links go on collecting; who comes then takes over, the ends of sessions too.
func TestDetachedLinksCollectWhileNobodyIsThere(t *testing.T) {
	f := newTeam(t, 8)
	defer f.close()
	a := f.link("team")
	users := seen(a)
	a.Detach()
	gone := one(t, users)
	f.must(f.phones[gone].Publish(presence.Offline, time.Time{}))
	b := f.link("team")
	words := said(b)
	if len(words) != len(users) || !slices.Contains(words, "offline "+gone+" delayed") {
		t.Errorf("the newcomer was told %q; %s has gone", words, gone)
	}
	a.Close()
	if w := said(b); len(w) != 0 {
		t.Errorf("and after the end of the older %q", w)
	}
}

// What a connection that ends had not told, another tells: who has gone, whose grant has ended, receipts.
func TestSharedLinkThatEndsLeavesNothingUntold(t *testing.T) {
	for _, how := range []string{"close", "detach"} {
		t.Run(how, func(t *testing.T) {
			f := newTeam(t, 40)
			defer f.close()
			a, b := f.link("team"), f.link("team")
			ofA := seen(a)
			seen(b)
			var mine []string
			for puid := range ofA {
				mine = append(mine, puid)
			}
			gone, revoked, confirms, told := mine[0], mine[1], mine[2], mine[3]
			f.must(f.hub.Revoke(f.email[told], "team", presence.ByUser))
			expect(t, a, "offline "+told, "unsubscribed "+told) // and nobody says that it arrived
			d, err := a.Notify(presence.Peer{PUID: confirms}, presence.Message{Ref: "r1", Receipt: true, TTL: -1})
			f.must(err)
			f.must(d.Wait())
			f.must(f.phones[gone].Publish(presence.Offline, time.Time{}))
			f.must(f.hub.Revoke(f.email[revoked], "team", presence.ByUser))
			f.confirm(confirms)
			if how == "detach" {
				a.Detach()
			} else {
				a.Close()
			}
			var got []string
			for _, w := range said(b) {
				if !strings.HasPrefix(w, "online ") {
					got = append(got, strings.TrimSuffix(w, " delayed"))
				}
			}
			want := []string{"offline " + gone, "offline " + revoked, "unsubscribed " + revoked, "receipt r1"}
			if how == "close" {
				want = append(want, "unsubscribed "+told)
			}
			i, j := slices.Index(got, "offline "+revoked), slices.Index(got, "unsubscribed "+revoked)
			if i > j {
				t.Errorf("the end of the grant comes before that of presence: %q", got)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("who stays was told %q, want %q", got, want)
			}
			if how == "detach" {
				a.Close()
				expect(t, b, "unsubscribed "+told)
			}
		})
	}
}

// A connection that joins others is told nothing that one of them was told, or is to tell.
func TestNoticeIsToldByOne(t *testing.T) {
	f := newTeam(t, 4)
	defer f.close()
	for _, email := range f.email {
		f.must(f.hub.Revoke(email, "team", presence.ByUser))
	}
	a := f.link("team")
	b := f.link("team")
	if n := len(said(a)); n != 4 {
		t.Errorf("the first is told %d", n)
	}
	expect(t, b)
	c := f.link("team")
	expect(t, c)
}

// A message is handed out by one link, wherever its user moves, until that one ends.
func TestMessageIsHandedOutByOne(t *testing.T) {
	f := newTeam(t, 40)
	defer f.close()
	a, b := f.link("team"), f.link("team")
	puid := one(t, seen(a))
	seen(b)
	f.must(f.phones[puid].Send("team", "m1", []byte(`{}`), -1))
	if ms := messages(a); len(ms) != 1 {
		t.Fatalf("%d messages", len(ms))
	}
	a.Detach()
	f.must(f.phones[puid].Send("team", "m2", []byte(`{}`), -1))
	if ms := messages(b); len(ms) != 1 || ms[0].Ref != "m2" {
		t.Errorf("while the first is away: %+v", ms)
	}
	newer, err := f.hub.LinkHeld("team", presence.ComponentLink)
	f.must(err)
	newer.Yield(a)
	if ms := messages(a); len(ms) != 0 {
		t.Errorf("back again: %+v", ms)
	}
	a.Detach()
	a.Close()
	if ms := messages(b); len(ms) != 1 || ms[0].Ref != "m1" {
		t.Errorf("after the end: %+v", ms)
	}
}

// A link that is held tells presence only, and what it was given meanwhile is the older one's if that is resumed:
// each once.
func TestHeldLink(t *testing.T) {
	for _, c := range []presence.Conflict{presence.Replace, presence.Reject, presence.Share} {
		t.Run(string(c), func(t *testing.T) {
			f := newFixture(t)
			defer f.close()
			f.must(f.hub.PutApp(presence.App{ID: "chat", Name: "chat", Component: "chat.example", Secret: "s", APIKey: "k", Conflict: c}))
			g := f.allow("ann@example.org", "chat")
			phone := f.online("ann@example.org", "phone")
			old := f.link("chat")
			f.must(phone.Send("chat", "m1", []byte(`{}`), -1))
			if n := len(take(old)); n != 2 {
				t.Fatalf("%d updates", n)
			}
			old.Detach()
			f.must(phone.Send("chat", "t1", []byte(`{}`), 0)) // waits for who comes back
			newer, err := f.hub.LinkHeld("chat", presence.ComponentLink, old)
			f.must(err)
			newer.Join()
			f.must(phone.Send("chat", "m2", []byte(`{}`), -1))
			f.must(phone.Send("chat", "t2", []byte(`{}`), 0))
			desk := f.online("ann@example.org", "desk")
			words := said(newer)
			if len(words) != 2 {
				t.Fatalf("held, it was told %q", words)
			}
			f.must(desk.Publish(presence.Offline, time.Time{}))
			newer.Yield(old)
			var refs, presences []string
			for _, u := range take(old) {
				if u.Kind == presence.FromDevice {
					refs = append(refs, u.Ref)
				} else {
					presences = append(presences, u.Status.String()+" "+u.Local)
				}
			}
			slices.Sort(refs)
			if want := []string{"m2", "t1", "t2"}; !slices.Equal(refs, want) {
				t.Errorf("messages %q, want %q", refs, want)
			}
			if want := []string{"offline " + g.PUID}; !slices.Equal(presences, want) { // the newer had said that desk is there
				t.Errorf("presence %q, want %q", presences, want)
			}
		})
	}
}

// What is in memory only is bounded in bytes.
func TestLettersAreBoundedInBytes(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow("ann@example.org", "chat")
	l := f.link("chat")
	phone := f.online("ann@example.org", "phone")
	data := []byte(`"` + strings.Repeat("x", 4000) + `"`)
	sent := 0
	for ; l.Ended() == presence.Alive && sent < 1000; sent++ {
		f.must(phone.Send("chat", "r", data, 0))
	}
	if l.Ended() != presence.EndOverflow || sent > 270 || sent < 200 {
		t.Errorf("after %d messages of 4 KB: %v", sent, l.Ended())
	}
}

// Connections to CCS do not end for what they do not take: the oldest is forgotten, the newest is there, within the same
// bound.
func TestLettersOfCCSAreForgotten(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow("ann@example.org", "chat")
	l, err := f.hub.Link("chat", presence.CCSLink)
	f.must(err)
	defer l.Close()
	phone := f.online("ann@example.org", "phone")
	data := []byte(`"` + strings.Repeat("x", 4000) + `"`)
	const sent = 1000
	for i := range sent {
		f.must(phone.Send("chat", fmt.Sprint(i), data, 0))
	}
	var refs []string
	for _, u := range take(l) {
		refs = append(refs, u.Ref)
	}
	if l.Ended() != presence.Alive || len(refs) > 270 || len(refs) < 150 {
		t.Fatalf("%d messages wait, the link: %v", len(refs), l.Ended())
	}
	for i, ref := range refs {
		if want := fmt.Sprint(sent - len(refs) + i); ref != want {
			t.Fatalf("%d: message %s, want %s", i, ref, want)
		}
	}
}

// A component that is away is no reason to keep a message from a socket that is there.
func TestSocketBeatsDetachedComponent(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	f.allow("ann@example.org", "chat")
	phone := f.online("ann@example.org", "phone")
	c := f.link("chat")
	socket, err := f.hub.Link("chat", presence.SocketLink)
	f.must(err)
	c.Detach()
	if n := f.hub.Stats().Links; n != 1 {
		t.Errorf("%d connections", n)
	}
	f.must(phone.Send("chat", "m1", []byte(`{}`), -1))
	f.must(phone.Send("chat", "m2", []byte(`{}`), 0))
	if ms := messages(socket); len(ms) != 2 {
		t.Errorf("the socket has %+v", ms)
	}
}

// Who is online is read in slices, in order, each once.
func TestEachOnline(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	var want []string
	for i := range presence.OnlineSlice*2 + 5 {
		email := fmt.Sprintf("u%05d@example.org", i)
		want = append(want, email)
		f.attach(email, "phone")
	}
	f.attach(want[0], "desk")
	gone := f.online("gone@example.org", "phone")
	gone.Close() // lingers
	var got []string
	f.must(f.hub.EachOnline(func(email string) error { got = append(got, email); return nil }))
	if !slices.Equal(got, want) {
		t.Errorf("%d users, want %d", len(got), len(want))
	}
}

// Who has gone is said to have gone once, also where the one that was told so is away as well.
func TestGoneOnceThoughTwoAreAway(t *testing.T) {
	f := newTeam(t, 40)
	defer f.close()
	a := f.link("team")
	said(a)
	b := f.link("team")
	said(a)
	said(b)
	a.Detach()
	said(b)
	for _, p := range f.phones {
		f.must(p.Publish(presence.Offline, time.Time{}))
	}
	if n := len(said(b)); n != 40 {
		t.Errorf("the one that is there is told of %d that went", n)
	}
	b.Detach()
	expect(t, f.link("team"))
}
