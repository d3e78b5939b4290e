package presence_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"presenced/presence"
)

// evening is somebody present whom chat sees from 21:00 to 23:00 UTC, and the hour it is.
func evening(t *testing.T) (*fixture, *presence.Link, string) {
	f := newFixture(t)
	f.app("chat")
	g, err := f.hub.Allow(presence.Grant{Email: "ann@example.org", App: "chat", Windows: []presence.Window{{From: "21:00", To: "23:00"}}}, presence.ByUser)
	f.must(err)
	l := f.link("chat")
	f.online("ann@example.org", "phone")
	f.hub.Advance(f.clock.Now())
	expect(t, l)
	return f, l, g.PUID
}

// Whatever the clock does, what the app sees is what the windows say, it is told of a change once, and where the
// clock jumped over a whole window it is told nothing.
func TestClockJumps(t *testing.T) {
	type jump struct {
		to   string // on 20 November, or a day later with "+"
		want string // what chat is told
	}
	for name, jumps := range map[string][]jump{
		"to the second":                 {{"20:59:59", ""}, {"21:00:00", "online"}, {"22:59:59", ""}, {"23:00:00", "offline"}},
		"asleep over the opening":       {{"22:10:00", "online"}, {"23:00:00", "offline"}},
		"asleep over the closing":       {{"21:00:00", "online"}, {"+03:00:00", "offline"}, {"+21:00:00", "online"}},
		"asleep over all of it":         {{"23:30:00", ""}, {"+21:00:00", "online"}},
		"asleep for a day":              {{"21:30:00", "online"}, {"+21:30:00", ""}, {"+23:00:00", "offline"}},
		"back over the opening":         {{"21:30:00", "online"}, {"20:30:00", "offline"}, {"20:59:59", ""}, {"21:00:00", "online"}, {"23:00:00", "offline"}},
		"back over the closing":         {{"21:30:00", "online"}, {"23:30:00", "offline"}, {"22:30:00", "online"}, {"23:00:00", "offline"}},
		"back over all of it":           {{"23:30:00", ""}, {"20:00:00", ""}, {"21:00:00", "online"}},
		"back inside":                   {{"22:30:00", "online"}, {"21:30:00", ""}, {"22:59:59", ""}, {"23:00:00", "offline"}},
		"back by a day":                 {{"+21:30:00", "online"}, {"13:00:00", "offline"}, {"21:00:00", "online"}},
		"set right by a little":         {{"21:00:01", "online"}, {"20:59:58", ""}, {"20:59:59", ""}, {"21:00:00", ""}, {"23:00:00", "offline"}},
		"set right again and again":     {{"23:00:01", ""}, {"22:59:59", ""}, {"23:00:02", ""}, {"22:59:58", ""}, {"+21:00:00", "online"}},
		"little by little back":         {{"21:00:03", "online"}, {"21:00:00", ""}, {"20:59:57", "offline"}, {"21:00:00", "online"}},
		"there and back, over and over": {{"21:30:00", "online"}, {"12:00:00", "offline"}, {"21:30:00", "online"}, {"12:00:00", "offline"}},
	} {
		t.Run(name, func(t *testing.T) {
			f, chat, puid := evening(t)
			defer f.close()
			for _, j := range jumps {
				to, err := time.Parse("15:04:05", strings.TrimPrefix(j.to, "+"))
				f.must(err)
				day := 20
				if j.to[0] == '+' {
					day++
				}
				at := time.Date(2026, 11, day, to.Hour(), to.Minute(), to.Second(), 0, time.UTC)
				f.clock.add(at.Sub(f.clock.Now()))
				next := f.hub.Advance(at)
				var want []string
				if j.want != "" {
					want = []string{j.want + " " + puid}
				}
				if got := said(chat); !slices.Equal(got, want) {
					t.Errorf("at %s: told %q, want %q", j.to, got, want)
				}
				if wait := next.Sub(at); wait <= 0 || wait > 500*time.Millisecond {
					t.Errorf("at %s: to be looked at again in %v", j.to, wait)
				}
			}
		})
	}
}

// A linger lasts no longer than it ever did when the clock is set back, and a pause ends when the clock says so.
func TestLingerAndPauseWhenTheClockIsSetBack(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	chat := f.link("chat")
	f.hub.Advance(f.clock.Now())
	phone := f.online("ann@example.org", "phone")
	f.online("ann@example.org", "desk")
	take(chat)
	phone.Close()
	f.hub.Advance(f.clock.add(-time.Hour))
	expect(t, chat)
	f.pass(linger)
	expect(t, chat, "offline "+g.PUID)
	until := f.clock.Now().Add(time.Minute)
	f.must(f.hub.Pause("ann@example.org", "chat", until, presence.ByUser))
	expect(t, chat, "offline "+g.PUID)
	f.pass(time.Minute)
	expect(t, chat, "online "+g.PUID)
	f.hub.Advance(f.clock.add(-time.Hour)) // it is before that moment once more
	expect(t, chat, "offline "+g.PUID)
	f.pass(time.Hour)
	expect(t, chat, "online "+g.PUID)
	if next := f.hub.Advance(f.clock.Now()); next.Sub(f.clock.Now()) < 30*time.Second {
		t.Errorf("nothing is due, and it is looked at again in %v", next.Sub(f.clock.Now()))
	}
}

// Every edge comes at its moment in every zone: on the days when clocks change, over midnight, around a week's and a
// year's end. What is expected is in UTC, from the zones' published rules.
func TestEdgesInZones(t *testing.T) {
	for _, c := range []struct {
		name, zone, window, from string
		want                     string // when it opens and closes, turn by turn
	}{
		{"plain", "Europe/Paris", "mon-fri 21:00-23:00", "2026-11-19T12:00Z", "19T20:00 19T22:00 20T20:00 20T22:00 23T20:00"},
		{"over midnight", "Europe/Paris", "fri 22:00-02:00", "2026-11-20T12:00Z", "20T21:00 21T01:00 27T21:00"},
		{"the end of a week", "America/New_York", "sat 22:00-02:00", "2026-11-21T12:00Z", "22T03:00 22T07:00 29T03:00"},
		{"the end of a year", "Asia/Tokyo", "23:00-01:00", "2026-12-31T12:00Z", "31T14:00 31T16:00 01T14:00"},
		{"until midnight", "Europe/Paris", "20:00-24:00", "2026-11-20T12:00Z", "20T19:00 20T23:00 21T19:00"},
		{"from midnight", "Europe/Paris", "00:00-01:00", "2026-11-20T12:00Z", "20T23:00 21T00:00"},
		{"half an hour off", "Asia/Kathmandu", "09:00-10:00", "2026-11-20T00:00Z", "20T03:15 20T04:15"},
		{"over the gap", "Europe/Paris", "01:00-04:00", "2026-03-28T12:00Z", "29T00:00 29T02:00 29T23:00"},
		{"begins in the gap", "Europe/Paris", "02:30-04:00", "2026-03-28T12:00Z", "29T01:00 29T02:00 30T00:30"},
		{"ends in the gap", "Europe/Paris", "01:30-02:30", "2026-03-28T12:00Z", "29T00:30 29T01:00 29T23:30"},
		{"all in the gap", "Europe/Paris", "02:15-02:45", "2026-03-28T12:00Z", "30T00:15 30T00:45"},
		{"all in the gap, once a week", "Europe/Paris", "sun 02:15-02:45", "2026-03-22T12:00Z", "05T00:15 05T00:45"},
		{"over the overlap", "Europe/Paris", "01:00-04:00", "2026-10-24T12:00Z", "24T23:00 25T03:00"},
		{"all in the overlap", "Europe/Paris", "02:15-02:45", "2026-10-24T12:00Z", "25T00:15 25T00:45 25T01:15 25T01:45 26T01:15"},
		{"begins in the overlap", "Europe/Paris", "02:30-04:00", "2026-10-24T12:00Z", "25T00:30 25T01:00 25T01:30 25T03:00"},
		{"ends in the overlap", "Europe/Paris", "01:00-02:30", "2026-10-24T12:00Z", "24T23:00 25T00:30 25T01:00 25T01:30"},
		{"gap, west", "America/New_York", "01:30-03:30", "2026-03-08T00:00Z", "08T06:30 08T07:30"},
		{"overlap, west", "America/New_York", "01:15-01:45", "2026-11-01T00:00Z", "01T05:15 01T05:45 01T06:15 01T06:45"},
		{"gap at midnight", "America/Santiago", "sun 00:15-00:45", "2026-09-06T00:00Z", "13T03:15 13T03:45"},
		{"half an hour of overlap", "Australia/Lord_Howe", "01:40-01:50", "2026-04-04T12:00Z", "04T14:40 04T14:50 04T15:10 04T15:20"},
		{"a day that was left out", "Pacific/Apia", "fri 10:00-11:00", "2011-12-24T00:00Z", "05T20:00 05T21:00"},
		{"always open", "Europe/Paris", "00:00-24:00", "2026-10-24T12:00Z", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			defer f.close()
			f.app("chat")
			from, err := time.Parse("2006-01-02T15:04Z", c.from)
			f.must(err)
			f.clock.add(from.Sub(f.clock.Now()))
			w, err := presence.ParseWindow(c.window)
			f.must(err)
			g, err := f.hub.Allow(presence.Grant{Email: "ann@example.org", App: "chat", Windows: []presence.Window{w}, TZ: c.zone}, presence.ByUser)
			f.must(err)
			s, err := f.hub.Sight(&g)
			f.must(err)
			shown := s.Shown
			chat := f.link("chat")
			f.online("ann@example.org", "phone")
			take(chat)
			if c.want == "" && (!s.Change.IsZero() || !shown) {
				t.Errorf("%+v", s)
			}
			for _, want := range strings.Fields(c.want) {
				s, err := f.hub.Sight(&g)
				f.must(err)
				if got := s.Change.Format("02T15:04"); got != want || !s.Change.Equal(g.NextChange(f.clock.Now())) {
					t.Fatalf("the next change is %v, want %s", s.Change, want)
				}
				f.clock.add(s.Change.Sub(f.clock.Now()) - time.Millisecond)
				f.hub.Advance(f.clock.Now())
				expect(t, chat)
				f.hub.Advance(f.clock.add(time.Millisecond))
				shown = !shown
				expect(t, chat, map[bool]string{true: "online ", false: "offline "}[shown]+g.PUID)
				if g.Shown(f.clock.Now()) != shown {
					t.Errorf("at %s the grant says otherwise", want)
				}
			}
		})
	}
}

// Many that change at the same moment are not done under one lock, and all are done.
func TestManyChangeAtOnce(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	const users = 2000 // more for each shard than are done at once, in one shard or the other
	var gs []presence.Grant
	for i := range users {
		gs = append(gs, presence.Grant{Email: fmt.Sprintf("u%d@example.org", i), App: "chat", Windows: []presence.Window{{From: "13:00", To: "14:00"}}})
	}
	f.must(f.hub.Import(gs, presence.ByAdmin))
	chat := f.link("chat")
	for _, g := range gs {
		f.online(g.Email, "phone")
	}
	expect(t, chat)
	f.pass(time.Hour)
	if got := said(chat); len(got) != users {
		t.Errorf("%d of %d were shown", len(got), users)
	}
	f.hub.Advance(f.clock.add(time.Hour))
	if got := said(chat); len(got) != users {
		t.Errorf("%d of %d were hidden", len(got), users)
	}
}
