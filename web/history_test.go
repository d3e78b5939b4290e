package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"presenced/presence"
)

// hour is the test's Wednesday, 2030-05-08, at that hour in UTC; h may be more than a day, or negative.
func hour(h float64) time.Time {
	return time.Date(2030, 5, 8, 0, 0, 0, 0, time.UTC).Add(time.Duration(h * float64(time.Hour)))
}

func wrote(at float64, app, what string, detail ...string) presence.AuditEntry {
	return presence.AuditEntry{Time: hour(at), App: app, What: what, By: presence.ByUser, Detail: strings.Join(detail, "")}
}

func until(h float64) string { return "until " + hour(h).Format(time.RFC3339) }

// inHours writes spans as hours from the test's Wednesday.
func inHours(spans []span) string {
	var words []string
	for _, s := range spans {
		words = append(words, fmt.Sprintf("%g-%g", s.From.Sub(hour(0)).Hours(), s.To.Sub(hour(0)).Hours()))
	}
	return strings.Join(words, " ")
}

// TestWhoCouldSee, from the audit and the present grant. The week is from -48 to 120.
func TestWhoCouldSee(t *testing.T) {
	always := &presence.Grant{Created: hour(-500)}
	evenings := &presence.Grant{Created: hour(-500), Windows: []presence.Window{{From: "21:00", To: "01:00"}}}
	ends := hour(50)
	for _, tt := range []struct {
		name  string
		g     *presence.Grant
		audit []presence.AuditEntry
		want  string
	}{
		{"never", nil, nil, ""},
		{"always", always, nil, "-48-120"},
		{"since it was allowed", &presence.Grant{Created: hour(2)}, []presence.AuditEntry{wrote(2, "a", "allow")}, "2-120"},
		{"until its end", &presence.Grant{Created: hour(2), Until: &ends}, []presence.AuditEntry{wrote(2, "a", "allow")}, "2-50"},
		{"another app's", always, []presence.AuditEntry{wrote(2, "b", "allow"), wrote(3, "b", "pause"), wrote(4, "b", "revoke")}, "-48-120"},
		{"allowed and revoked", nil, []presence.AuditEntry{wrote(-10, "a", "allow"), wrote(3, "a", "revoke")}, "-10-3"},
		{"revoked, and allowed before the audit begins", nil, []presence.AuditEntry{wrote(3, "a", "revoke")}, "-48-3"},
		{"twice", &presence.Grant{Created: hour(5)}, []presence.AuditEntry{wrote(-10, "a", "allow"), wrote(-5, "a", "unsubscribe"), wrote(5, "a", "allow")}, "-10--5 5-120"},
		{"denied, then allowed", &presence.Grant{Created: hour(5)}, []presence.AuditEntry{wrote(-10, "a", "deny"), wrote(5, "a", "allow")}, "5-120"},
		{"paused and resumed", always, []presence.AuditEntry{wrote(1, "a", "pause"), wrote(4, "a", "resume")}, "-48-1 4-120"},
		{"paused", always, []presence.AuditEntry{wrote(1, "a", "pause")}, "-48-1"},
		{"paused until", always, []presence.AuditEntry{wrote(1, "a", "pause", until(30))}, "-48-1 30-120"},
		{"paused until, and longer", always, []presence.AuditEntry{wrote(1, "a", "pause", until(30)), wrote(2, "a", "pause", until(40))}, "-48-1 40-120"},
		{"paused until, and resumed before", always, []presence.AuditEntry{wrote(1, "a", "pause", until(30)), wrote(7, "a", "resume")}, "-48-1 7-120"},
		{"invisible for a while", always, []presence.AuditEntry{wrote(1, "", "invisible", until(6))}, "-48-1 6-120"},
		{"invisible, visible", always, []presence.AuditEntry{wrote(1, "", "invisible"), wrote(2, "", "visible")}, "-48-1 2-120"},
		{"invisible still", always, []presence.AuditEntry{wrote(1, "", "invisible")}, "-48-1"},
		{"in windows", evenings, nil, "-48--47 -27--23 -3-1 21-25 45-49 69-73 93-97 117-120"},
		{"in windows, paused in one", evenings, []presence.AuditEntry{wrote(22, "a", "pause", until(23))}, "-48--47 -27--23 -3-1 21-22 23-25 45-49 69-73 93-97 117-120"},
	} {
		h := &history{now: hour(10), audit: tt.audit}
		w := weekAt(h.now, time.UTC, 0)
		w.Days[0], w.Days[7] = hour(-48), hour(120)
		if got := inHours(h.could("a", tt.g, &w)); got != tt.want {
			t.Errorf("%s: could see her at %q, want %q", tt.name, got, tt.want)
		}
	}
}

func came(at float64, device string, st presence.Status) presence.Event {
	kind := presence.DeviceStatus
	if st == presence.Offline {
		kind = presence.DeviceGone
	}
	return presence.Event{Time: hour(at), Kind: kind, Device: device, Status: st}
}

// TestWhoSaw, from the record of activity.
func TestWhoSaw(t *testing.T) {
	here := []presence.DeviceInfo{{Device: "phone", State: "connected"}}
	lost := []presence.DeviceInfo{{Device: "phone", State: "gone", Since: hour(7)}}
	const on, away, off = presence.Online, presence.Unavailable, presence.Offline
	for _, tt := range []struct {
		name     string
		activity []presence.Event
		devices  []presence.DeviceInfo
		want     string
	}{
		{"nobody there", nil, nil, ""},
		{"came and went", []presence.Event{came(1, "phone", on), came(3, "phone", off)}, nil, "1-3"},
		{"away is there too", []presence.Event{came(1, "phone", on), came(2, "phone", away), came(3, "phone", off)}, nil, "1-3"},
		{"two devices", []presence.Event{came(1, "phone", on), came(2, "tablet", on), came(3, "phone", off), came(4, "tablet", off)}, nil, "1-4"},
		{"there still", []presence.Event{came(1, "phone", on)}, here, "1-10"},
		{"the gateway ended meanwhile", []presence.Event{came(1, "phone", on)}, lost, "1-7"},
		{"hidden for a while", []presence.Event{came(-30, "phone", on), came(-20, "phone", off)}, nil, "-24--20"},
	} {
		h := &history{now: hour(10), activity: tt.activity, devices: tt.devices}
		could := []span{{hour(-24), hour(500)}}
		if got := inHours(h.saw(could)); got != tt.want {
			t.Errorf("%s: saw her at %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestLines: in words, newest first, each thing once.
func TestLines(t *testing.T) {
	h := &history{now: hour(10), names: map[string]string{"p1": "My phone"},
		audit: []presence.AuditEntry{
			wrote(0, "tea", "allow"), wrote(5, "tea", "pause", until(6)),
			{Time: hour(7), App: "tea", What: "revoke", By: presence.ByAdmin}, {Time: hour(8), App: "talk", What: "unsubscribe", By: presence.ByApp},
			wrote(9, "", "invisible"),
		},
		activity: []presence.Event{
			{Time: hour(0), Kind: presence.GrantChanged, App: "tea", Detail: "allow"}, // told by the audit
			came(1, "p1", presence.Online),
			{Time: hour(2), Kind: presence.Notified, App: "tea", Detail: "id-of-the-app"},
			{Time: hour(3), Kind: presence.Delivered, App: "tea", Device: "p1", Detail: "id-of-the-app"},
			{Time: hour(4), Kind: presence.Refused, App: "tea", Detail: "too large"},
			came(8.5, "p1", presence.Offline),
		},
	}
	names := func(app string) string { return map[string]string{"tea": "Tea", "talk": "Talk"}[app] }
	could := map[string][]span{"tea": {{hour(0), hour(7)}}, "talk": {{hour(6), hour(8)}}}
	tell := func(app string) (text []string) {
		for _, l := range h.lines(names, could, app) {
			text = append(text, strings.TrimSuffix(fmt.Sprintf("%g %s; %s", l.Time.Sub(hour(0)).Hours(), l.Text, l.Note), "; "))
		}
		return text
	}
	want := []string{
		"9 You made yourself invisible to all apps", "8.5 My phone is offline; no app saw it", "8 Talk does not want to see you any more",
		"7 An administrator ended what Tea may see", "5 You paused Tea; " + until(6), "4 Something of Tea was refused; too large",
		"3 My phone has a notification of Tea", "2 Tea sent a notification", "1 My phone is online; seen by Tea", "0 You allowed Tea to see you",
	}
	if diff := cmp.Diff(want, tell("")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{want[0], want[2]}, tell("talk")); diff != "" {
		t.Error(diff)
	}
}

// TestOpenedIsWhatTheCoreSays, at every moment, also where clocks change.
func TestOpenedIsWhatTheCoreSays(t *testing.T) {
	zones := []string{"", "Europe/Paris", "America/New_York", "Asia/Beirut", "Australia/Lord_Howe", "Asia/Kathmandu"}
	days := []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	clockTime := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%02d:%02d", rapid.IntRange(0, 23).Draw(t, "h"), 15*rapid.IntRange(0, 3).Draw(t, "m"))
	})
	rapid.Check(t, func(t *rapid.T) {
		g := &presence.Grant{TZ: rapid.SampledFrom(zones).Draw(t, "zone")}
		for range rapid.IntRange(0, 4).Draw(t, "windows") {
			w := presence.Window{Days: rapid.SliceOfNDistinct(rapid.SampledFrom(days), 0, 7, rapid.ID[string]).Draw(t, "days"),
				From: clockTime.Draw(t, "from"), To: rapid.OneOf(clockTime, rapid.Just("24:00")).Draw(t, "to")}
			g.Windows = append(g.Windows, w)
		}
		// Most of these are near a change of the clocks.
		change := rapid.SampledFrom([]string{"2030-03-31", "2030-10-27", "2030-03-10", "2030-11-03", "2022-03-27", "2030-04-07", "2030-07-01"}).Draw(t, "around")
		from, err := time.Parse(time.DateOnly, change)
		if err != nil {
			t.Fatal(err)
		}
		from = from.AddDate(0, 0, -rapid.IntRange(0, 8).Draw(t, "before"))
		spans := opened(g, from, from.AddDate(0, 0, 9))
		for at := from; at.Before(from.AddDate(0, 0, 9)); at = at.Add(5 * time.Minute) {
			is := slices.ContainsFunc(spans, func(s span) bool { return !at.Before(s.From) && at.Before(s.To) })
			if is != g.Shown(at) {
				t.Fatalf("%v at %v: %v, and the core says %v", g.Windows, at.In(zoneOf(g.TZ)), is, !is)
			}
		}
	})
}
