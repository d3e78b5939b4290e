package web

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"pgregory.net/rapid"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// wall reads "2030-03-31 21:00" in a zone.
func wall(t testing.TB, z *time.Location, s string) time.Time {
	t.Helper()
	at, err := time.ParseInLocation("2006-01-02 15:04", s, z)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestWeekHasItsHours: the frame is as wide as the week is long, and days begin when they do.
func TestWeekHasItsHours(t *testing.T) {
	for _, tt := range []struct {
		zone, at   string
		start, end string
		hours      int
		days       string // where the other six begin
	}{
		{"UTC", "2030-05-01 12:00", "2030-04-29 00:00", "2030-05-06 00:00", 168, "240 480 720 960 1200 1440"},
		{"UTC", "2030-04-29 00:00", "2030-04-29 00:00", "2030-05-06 00:00", 168, "240 480 720 960 1200 1440"},
		{"UTC", "2030-05-05 23:59", "2030-04-29 00:00", "2030-05-06 00:00", 168, "240 480 720 960 1200 1440"},
		{"Europe/Paris", "2030-03-31 01:59", "2030-03-25 00:00", "2030-04-01 00:00", 167, "240 480 720 960 1200 1440"},
		{"Europe/Paris", "2030-10-25 12:00", "2030-10-21 00:00", "2030-10-28 00:00", 169, "240 480 720 960 1200 1440"},
		{"America/New_York", "2030-11-03 20:00", "2030-10-28 00:00", "2030-11-04 00:00", 169, "240 480 720 960 1200 1440"},
		// Midnight is skipped on a Sunday: it begins at 01:00.
		{"Asia/Beirut", "2022-03-27 12:00", "2022-03-21 00:00", "2022-03-28 00:00", 167, "240 480 720 960 1200 1440"},
		// Midnight comes twice on a Sunday: the first one counts.
		{"America/Havana", "2022-11-06 12:00", "2022-10-31 00:00", "2022-11-07 00:00", 169, "240 480 720 960 1200 1440"},
		{"Australia/Lord_Howe", "2030-04-07 12:00", "2030-04-01 00:00", "2030-04-08 00:00", 168, "240 480 720 960 1200 1440"}, // 30 minutes
	} {
		z := zone(t, tt.zone)
		w := weekAt(wall(t, z, tt.at), z, 0)
		if got := w.start().Format("2006-01-02 15:04"); got != tt.start {
			t.Errorf("%s %s: the week begins at %s", tt.zone, tt.at, got)
		}
		if got := w.end().Format("2006-01-02 15:04"); got != tt.end {
			t.Errorf("%s %s: the week ends at %s", tt.zone, tt.at, got)
		}
		if got := int(w.end().Sub(w.start()).Hours()); got != tt.hours {
			t.Errorf("%s %s: %d hours", tt.zone, tt.at, got)
		}
		var days []string
		for _, d := range w.Days[1:7] {
			days = append(days, strconv.Itoa(int(d.Sub(w.start())/stripUnit)))
		}
		if got := strings.Join(days, " "); got != tt.days {
			t.Errorf("%s %s: days begin at %s", tt.zone, tt.at, got)
		}
		if away := weekAt(wall(t, z, tt.at), z, -1); !away.end().Equal(w.start()) {
			t.Errorf("%s %s: the week before ends at %v", tt.zone, tt.at, away.end())
		}
	}
}

// TestStrip is the picture, in full.
func TestStrip(t *testing.T) {
	z := zone(t, "Europe/Paris")
	w := weekAt(wall(t, z, "2030-10-23 12:00"), z, 0)
	at := func(s string) time.Time { return wall(t, z, s) }
	could := []span{
		{at("2030-10-20 21:00"), at("2030-10-21 01:00")}, // from the week before
		{at("2030-10-21 21:00"), at("2030-10-22 02:00")},
		{at("2030-10-27 21:00"), at("2030-10-29 12:00")}, // into the next one
	}
	saw := []span{{at("2030-10-21 22:00"), at("2030-10-21 22:01")}} // too short to be seen as it is
	want := `<svg class="week" viewBox="0 0 1690 24" preserveAspectRatio="none" role="img" aria-labelledby="t-chat" aria-describedby="d-chat">` +
		`<title id="t-chat">Tea &amp; &lt;Talk&gt;</title><desc id="d-chat">Mon 00:00–01:00</desc>` +
		`<path class="could" d="M0 4h10v16h-10zM210 4h50v16h-50zM1660 4h30v16h-30z"/>` +
		`<path class="saw" d="M220 4h3v16h-3z"/>` +
		`<path class="days" d="M240 0v24M480 0v24M720 0v24M960 0v24M1200 0v24M1440 0v24"/>` +
		`<path class="now" d="M600 0v24"/></svg>`
	if got := string(w.strip("chat", "Tea & <Talk>", "Mon 00:00–01:00", could, saw)); got != want {
		t.Errorf("drew\n%s\nwant\n%s", got, want)
	}
}

func TestWeekWords(t *testing.T) {
	z := zone(t, "Europe/Paris")
	w := weekAt(wall(t, z, "2030-10-23 12:00"), z, 0)
	for _, tt := range []struct{ from, to, want string }{
		{"2030-10-21 21:00", "2030-10-21 23:00", "Mon 21:00–23:00"},
		{"2030-10-21 21:00", "2030-10-22 02:00", "Mon 21:00 – Tue 02:00"},
		{"2030-10-21 21:00", "2030-10-22 00:00", "Mon 21:00–24:00"},
		{"2030-10-22 00:00", "2030-10-23 00:00", "Tue all day"},
		{"2030-10-22 00:00", "2030-10-24 00:00", "Tue 00:00 – Wed 24:00"},
		{"2030-10-27 00:00", "2030-10-28 00:00", "Sun all day"}, // of 25 hours
		{"2030-10-20 22:00", "2030-10-21 02:00", "Mon 00:00–02:00"},
		{"2030-10-01 22:00", "2030-11-21 02:00", "all week"},
	} {
		got := w.words([]span{{wall(t, z, tt.from), wall(t, z, tt.to)}})
		if len(got) != 1 || got[0] != tt.want {
			t.Errorf("%s to %s: %q, want %q", tt.from, tt.to, got, tt.want)
		}
	}
	if got := w.words(nil); len(got) != 0 {
		t.Error(got)
	}
}

var boxes = regexp.MustCompile(`M(\d+) 4h(\d+)v16h-(\d+)z`)

// TestStripStaysInItsFrame, whatever the zone, the moment and the spans.
func TestStripStaysInItsFrame(t *testing.T) {
	zones := []*time.Location{time.UTC, zone(t, "Europe/Paris"), zone(t, "America/New_York"), zone(t, "Asia/Beirut"),
		zone(t, "Pacific/Apia"), zone(t, "Australia/Lord_Howe"), zone(t, "Asia/Kathmandu"), zone(t, "America/Havana")}
	rapid.Check(t, func(t *rapid.T) {
		z := rapid.SampledFrom(zones).Draw(t, "zone")
		now := time.Unix(rapid.Int64Range(1.2e9, 2.2e9).Draw(t, "now"), 0)
		w := weekAt(now, z, rapid.IntRange(-60, 60).Draw(t, "away"))
		spans := drawSpans(t, w.start(), "spans")
		svg := string(w.strip("x", "", "", spans, nil))
		width := w.width()
		if width < 1430 || width > 1930 { // a zone may skip a day, or have one twice
			t.Fatalf("%v: %d wide", w.Days, width)
		}
		if len(svg) > 40_000 {
			t.Fatalf("%d bytes", len(svg))
		}
		behind := -1
		for _, m := range boxes.FindAllStringSubmatch(svg, -1) {
			x, _ := strconv.Atoi(m[1])
			dx, _ := strconv.Atoi(m[2])
			if x <= behind || dx < stripLeast || x+dx > width || m[2] != m[3] {
				t.Fatalf("box at %d, %s wide, in a frame of %d behind %d", x, m[2], width, behind)
			}
			behind = x + dx
		}
		if drawn, is := behind >= 0, len(both(spans, w.whole())) > 0; drawn != is {
			t.Fatalf("drawn: %v, visible: %v", drawn, is)
		}
		if words := w.words(spans); len(words) > maxWords+1 {
			t.Fatalf("%d words", len(words))
		}
	})
}

func drawSpans(t *rapid.T, around time.Time, label string) []span {
	return tidy(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) span {
		from := around.Add(time.Duration(rapid.IntRange(-24*60, 9*24*60).Draw(t, "from")) * time.Minute)
		return span{from, from.Add(time.Duration(rapid.IntRange(-60, 3000).Draw(t, "for")) * time.Minute)}
	}), 0, 60).Draw(t, label))
}

// TestSpansAreSets: minute by minute, they are what sets would be.
func TestSpansAreSets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.Date(2030, 5, 6, 0, 0, 0, 0, time.UTC)
		a, b := drawSpans(t, start, "a"), drawSpans(t, start, "b")
		in := func(spans []span, at time.Time) bool {
			return slices.ContainsFunc(spans, func(s span) bool { return !at.Before(s.From) && at.Before(s.To) })
		}
		and, not := both(a, b), without(a, b)
		for _, s := range [][]span{a, b, and, not} {
			for i := range s {
				if !s[i].From.Before(s[i].To) || i > 0 && s[i].From.Before(s[i-1].To) {
					t.Fatalf("not tidy: %v", s)
				}
			}
		}
		for m := -30 * 60; m < 12*24*60; m += 7 {
			at := start.Add(time.Duration(m) * time.Minute)
			if in(and, at) != (in(a, at) && in(b, at)) || in(not, at) != (in(a, at) && !in(b, at)) {
				t.Fatalf("wrong at %v", at)
			}
		}
		if length(and)+length(not) != length(a) {
			t.Fatal("time was lost")
		}
	})
}
