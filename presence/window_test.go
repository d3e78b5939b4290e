package presence

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func at(t *testing.T, zone, s string) time.Time {
	t.Helper()
	l, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	v, err := time.ParseInLocation("2006-01-02 15:04", s, l)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWindowsThroughTheYear(t *testing.T) {
	const paris = "Europe/Paris" // 2026: forward on 29 March at 02:00, back on 25 October at 03:00
	for _, c := range []struct {
		window, zone, moment string
		want                 bool
	}{
		{"21:00-23:00", paris, "2026-11-20 21:00", true},
		{"21:00-23:00", paris, "2026-11-20 20:59", false},
		{"21:00-23:00", paris, "2026-11-20 23:00", false},
		{"mon-fri 21:00-23:00", paris, "2026-11-20 22:00", true},  // a Friday
		{"mon-fri 21:00-23:00", paris, "2026-11-21 22:00", false}, // a Saturday
		{"fri 22:00-02:00", paris, "2026-11-21 01:59", true},      // over midnight belongs to Friday
		{"fri 22:00-02:00", paris, "2026-11-20 01:00", false},
		{"sat 22:00-02:00", paris, "2026-11-22 01:00", true}, // over the end of the week
		{"sat-mon 10:00-11:00", paris, "2026-11-22 10:30", true},
		{"20:00-24:00", paris, "2026-11-20 23:59", true},
		{"20:00-24:00", paris, "2026-11-21 00:00", false},
		{"09:00-09:00", paris, "2026-11-20 08:59", true}, // a whole day
		{"21:00-23:00", "America/New_York", "2026-11-20 22:00", true},
	} {
		w, err := ParseWindow(c.window)
		if err != nil {
			t.Fatal(err)
		}
		g := Grant{Windows: []Window{w}, TZ: c.zone}
		if got := g.Shown(at(t, c.zone, c.moment)); got != c.want {
			t.Errorf("%q at %s: %v, want %v", c.window, c.moment, got, c.want)
		}
	}
}

// In the gap what is skipped does not happen; in the overlap it happens twice.
func TestWindowsWhenClocksChange(t *testing.T) {
	gap := Grant{Windows: []Window{{From: "02:15", To: "02:45"}, {From: "02:30", To: "03:30"}}, TZ: "Europe/Paris"}
	night := at(t, "Europe/Paris", "2026-03-29 01:59")
	open := gap.NextChange(night)
	if want := night.Add(time.Minute); !open.Equal(want) { // 02:00 is 03:00
		t.Errorf("opens %v, want %v", open, want)
	}
	if closing := gap.NextChange(open); !closing.Equal(open.Add(30 * time.Minute)) {
		t.Errorf("closes %v after %v", closing, open)
	}
	twice := Grant{Windows: []Window{{From: "02:15", To: "02:45"}}, TZ: "Europe/Paris"}
	m := time.Date(2026, 10, 24, 23, 0, 0, 0, time.UTC) // 01:00 in Paris, summer time
	for _, want := range []string{"00:15", "00:45", "01:15", "01:45"} {
		if m = twice.NextChange(m).UTC(); m.Format("15:04") != want {
			t.Fatalf("next change %v, want %s", m, want)
		}
	}
}

// NextChange and the last change agree with looking at every minute.
func TestWindowEdgesAgreeWithTheClock(t *testing.T) {
	zones := []string{"", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns"}
	rapid.Check(t, func(t *rapid.T) {
		g := Grant{TZ: rapid.SampledFrom(zones).Draw(t, "zone")}
		hm := rapid.Custom(func(t *rapid.T) string {
			return time.Date(0, 1, 1, rapid.IntRange(0, 23).Draw(t, "h"), rapid.SampledFrom([]int{0, 1, 15, 30, 59}).Draw(t, "m"), 0, 0, time.UTC).Format("15:04")
		})
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			days := rapid.SliceOfNDistinct(rapid.SampledFrom(weekdays[:]), 0, 7, rapid.ID).Draw(t, "days")
			g.Windows = append(g.Windows, Window{Days: days, From: hm.Draw(t, "from"), To: hm.Draw(t, "to")})
		}
		day := rapid.SampledFrom([]string{"2026-03-28", "2026-10-24", "2026-11-01", "2026-04-04", "2026-07-01"}).Draw(t, "day")
		start, _ := time.Parse("2006-01-02", day)
		start = start.Add(time.Duration(rapid.IntRange(0, 48*60).Draw(t, "minute")) * time.Minute)
		c := compile(g.Windows, g.TZ, loadZone)
		was := c.open(start)
		next := c.next(start)
		m := start
		for limit := start.AddDate(0, 0, 8); c.open(m) == was && m.Before(limit); {
			m = m.Add(time.Minute)
		}
		if c.open(m) == was {
			if !next.IsZero() {
				t.Fatalf("%v: next %v, the clock says never", g, next)
			}
			return
		}
		if !next.Equal(m) {
			t.Fatalf("%+v at %v: next %v, the clock says %v", g, start, next, m)
		}
		inside := m.Add(30 * time.Second)
		if last := c.last(inside); !last.Equal(m) {
			t.Fatalf("%+v at %v: last %v, the clock says %v", g, inside, last, m)
		}
	})
}

// Around every clock change of a year, in zones of all kinds, the edges are those that the clock shows minute by minute.
func TestEdgesAroundClockChanges(t *testing.T) {
	windows := []Window{{From: "23:30", To: "00:30"}, {From: "01:15", To: "02:15"}, {From: "02:30", To: "02:45"},
		{Days: []string{"sat"}, From: "22:00", To: "03:15"}, {From: "04:00", To: "04:01"}}
	changes := 0
	for _, zone := range []string{"Africa/Cairo", "Africa/Casablanca", "Africa/El_Aaiun", "America/Asuncion", "America/Chicago",
		"America/Denver", "America/Halifax", "America/Havana", "America/Los_Angeles", "America/Miquelon", "America/New_York",
		"America/Nuuk", "America/Port-au-Prince", "America/Santiago", "America/Scoresbysund", "America/St_Johns", "America/Sao_Paulo",
		"Antarctica/Troll", "Asia/Beirut", "Asia/Gaza", "Asia/Jerusalem", "Asia/Kathmandu", "Asia/Kolkata", "Asia/Tehran", "Asia/Tokyo",
		"Atlantic/Azores", "Atlantic/Bermuda", "Australia/Adelaide", "Australia/Eucla", "Australia/Lord_Howe", "Australia/Sydney",
		"Europe/Chisinau", "Europe/Dublin", "Europe/Lisbon", "Europe/London", "Europe/Moscow", "Europe/Paris", "Pacific/Apia",
		"Pacific/Auckland", "Pacific/Chatham", "Pacific/Easter", "Pacific/Kiritimati", "Pacific/Norfolk", "UTC", ""} {
		w := compile(windows, zone, loadZone)
		end := time.Date(2027, 2, 1, 0, 0, 0, 0, time.UTC)
		for at := time.Date(2026, 2, 1, 0, 0, 0, 0, w.zone); ; changes++ {
			_, at = at.ZoneBounds()
			if at.IsZero() || at.After(end) {
				break
			}
			checkMinutes(t, w, zone, at.Add(-30*time.Hour), at.Add(30*time.Hour))
		}
		checkMinutes(t, w, zone, end.Add(-30*time.Hour), end)
	}
	if changes < 60 {
		t.Errorf("only %d clock changes: is the zone data whole?", changes)
	}
}

// checkMinutes compares next and last with the clock, at every minute.
func checkMinutes(t *testing.T, w *week, zone string, from, to time.Time) {
	t.Helper()
	var changed time.Time
	next := w.next(from)
	for m := from.Add(time.Minute); m.Before(to); m = m.Add(time.Minute) {
		if w.open(m) == w.open(m.Add(-time.Minute)) {
			continue
		}
		if !next.Equal(m) {
			t.Errorf("%s: it changes at %v, next said %v", zone, m, next)
		}
		if last := w.last(m.Add(-1)); !changed.IsZero() && !last.Equal(changed) {
			t.Errorf("%s: before %v it changed at %v, last says %v", zone, m, changed, last)
		}
		changed, next = m, w.next(m)
	}
}

func TestBadWindows(t *testing.T) {
	for _, s := range []string{"", "mon", "21:00", "21:00-25:00", "24:00-01:00", "xyz 10:00-11:00", "mon- 10:00-11:00", "1:00-2:00", "a b c"} {
		if w, err := ParseWindow(s); err == nil {
			t.Errorf("ParseWindow(%q) = %+v", s, w)
		}
	}
	w, err := ParseWindow("Mon-Wed,sat 09:30-17:00")
	if err != nil || w.String() != "mon-wed,sat 09:30-17:00" {
		t.Fatalf("%q, %v", w.String(), err)
	}
}

func TestSchedulesAsText(t *testing.T) {
	for text, want := range map[string]string{
		"mon-fri 21:00-23:00 Europe/Paris":                       "mon-fri 21:00-23:00 Europe/Paris",
		" Mon,Tue 21:00-23:00 ;sat,SUN 10:00-12:00 Europe/Paris": "mon,tue 21:00-23:00; sat,sun 10:00-12:00 Europe/Paris",
		"21:00-23:00":                          "21:00-23:00",
		"21:00-23:00 UTC; 01:00-02:00":         "21:00-23:00; 01:00-02:00 UTC",
		"sat-mon 21:00-24:00 America/New_York": "sat-mon 21:00-24:00 America/New_York",
		"mon,wed,thu,fri,sun 01:00-02:00":      "mon,wed-fri,sun 01:00-02:00",
		"mon-sun 01:00-02:00":                  "mon-sun 01:00-02:00",
		"always":                               "always",
		"Always Europe/Paris":                  "always",
	} {
		c, err := ParseSchedule(text)
		if err != nil || c.String() != want {
			t.Errorf("%q is read as %q, %v; want %q", text, c, err, want)
		}
	}
	for _, bad := range []string{"", ";", "mon", "21:00-23:00;", "21:00-23:00 Nowhere/Else", "21:00-23:00 Local", "never",
		"21:00-23:00 Europe/Paris; 01:00-02:00 UTC", "always 21:00-22:00", "21:00-23:00 Europe/Paris UTC",
		strings.Repeat("21:00-23:00;", 32) + "21:00-23:00", strings.Repeat(" ", 5000)} {
		if c, err := ParseSchedule(bad); err == nil {
			t.Errorf("%.40q is read as %q", bad, c)
		}
	}
}

// What is written is what is read, whatever the windows.
func TestSchedulesSurviveText(t *testing.T) {
	clock := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(t, "h"), rapid.IntRange(0, 59).Draw(t, "m"))
	})
	rapid.Check(t, func(t *rapid.T) {
		var c Schedule
		for range rapid.IntRange(0, 5).Draw(t, "windows") {
			w := Window{From: clock.Draw(t, "from"), To: rapid.OneOf(clock, rapid.Just("24:00")).Draw(t, "to")}
			if days := rapid.SliceOfNDistinct(rapid.SampledFrom(weekdays[:]), 0, 7, rapid.ID).Draw(t, "days"); len(days) > 0 {
				w.Days = days // in any order, as the wire allows
			}
			c.Windows = append(c.Windows, w)
		}
		if len(c.Windows) > 0 {
			c.TZ = rapid.SampledFrom([]string{"", "UTC", "Europe/Paris", "America/Argentina/Buenos_Aires", "Etc/GMT+5"}).Draw(t, "zone")
		}
		back, err := ParseSchedule(c.String())
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Fatalf("%+v is written as %q and read as %+v, %v", c, c, back, err)
		}
	})
}

func FuzzParseSchedule(f *testing.F) {
	f.Add("mon-fri 21:00-23:00; sat 10:00-12:00 Europe/Paris")
	f.Add("always UTC")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseSchedule(s)
		if err != nil {
			return
		}
		again, err := ParseSchedule(c.String())
		if err != nil || again.String() != c.String() {
			t.Fatalf("%q is read as %q and that as %q, %v", s, c, again, err)
		}
	})
}

func TestSightsAsText(t *testing.T) {
	now := at(t, "Europe/Paris", "2026-11-20 21:30") // a Friday
	paris := now.Location()
	in := func(d time.Duration) time.Time { return now.Add(d).UTC() }
	for _, c := range []struct {
		s    Sight
		want string
	}{
		{Sight{Shown: true}, "shown"},
		{Sight{Shown: true, Change: in(90 * time.Minute)}, "shown until 23:00"},
		{Sight{Change: in(24*time.Hour - 30*time.Minute)}, "hidden until 21:00"},
		{Sight{Change: in(3*24*time.Hour - 30*time.Minute)}, "hidden until mon 21:00"},
		{Sight{Change: in(10*24*time.Hour - 30*time.Minute)}, "hidden until 2026-11-30 21:00"},
		{Sight{Paused: true}, "paused"},
		{Sight{Paused: true, Change: in(time.Hour + time.Second)}, "paused until 22:31"},
		{Sight{Paused: true, Invisible: true, Change: in(time.Hour)}, "invisible until 22:30"},
		{Sight{Invisible: true}, "invisible"},
	} {
		c.s.now, c.s.zone = now, paris
		if got := c.s.String(); got != c.want {
			t.Errorf("%+v is said as %q, want %q", c.s, got, c.want)
		}
	}
}
