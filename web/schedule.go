package web

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"presenced/presence"
)

const (
	minRows  = 3  // of times in the form, so that most need no script and no second visit
	maxRows  = 32 // as many windows as a grant can have
	dateForm = "2006-01-02"
)

// terms are what a user grants besides the fact, as a form has it.
type terms struct {
	Status, Devices bool // whether she is there, and each of her devices by itself
	Notify, Idle    bool
	Always          bool
	Rows            []row
	TZ              string
	Until           string // a date, the last day; "": no end
}

// row is one span of times: on the days that are set, or on all if none is.
type row struct {
	N        int // counts from 1
	Days     []day
	From, To string
}

// day is a weekday in a row.
type day struct {
	Key, Short, Long string
	On               bool
}

// week is Monday first.
func week() []day {
	return []day{{"mon", "Mon", "Monday", false}, {"tue", "Tue", "Tuesday", false}, {"wed", "Wed", "Wednesday", false},
		{"thu", "Thu", "Thursday", false}, {"fri", "Fri", "Friday", false}, {"sat", "Sat", "Saturday", false},
		{"sun", "Sun", "Sunday", false}}
}

// newTerms shows a grant in a form.
func newTerms(g presence.Grant) terms {
	t := terms{Status: !g.NoStatus, Devices: !g.NoDevices, Notify: g.Notify, Idle: g.Idle, Always: len(g.Windows) == 0, TZ: g.TZ}
	for _, w := range g.Windows {
		r := row{Days: week(), From: w.From, To: w.To}
		if r.To == "24:00" {
			r.To = "00:00" // the same, and fields of time take it
		}
		for i := range r.Days {
			r.Days[i].On = slices.Contains(w.Days, r.Days[i].Key)
		}
		t.Rows = append(t.Rows, r)
	}
	if g.Until != nil {
		t.Until = lastDay(*g.Until, zoneOf(g.TZ))
	}
	t.addRows()
	return t
}

// addRows makes room for more than there is, and numbers the rows.
func (t *terms) addRows() {
	want := max(minRows, min(len(t.Rows)+1, maxRows))
	for len(t.Rows) < want {
		t.Rows = append(t.Rows, row{Days: week()})
	}
	for i := range t.Rows {
		t.Rows[i].N = i + 1
	}
}

// readTerms takes what was typed, good or not, so that it can be shown again. Status and devices stay as they were
// where a form does not know them.
func readTerms(form url.Values, were terms) terms {
	t := terms{Status: ticked(form, "status", were.Status), Devices: ticked(form, "devices", were.Devices), Notify: form.Has("notify"), Idle: form.Has("idle"), Always: form.Get("when") != "windows",
		TZ: form.Get("tz"), Until: form.Get("until")}
	for n := 1; n <= maxRows; n++ {
		suffix := "-" + strconv.Itoa(n)
		if !form.Has("from"+suffix) && !form.Has("to"+suffix) {
			break
		}
		r := row{Days: week(), From: form.Get("from" + suffix), To: form.Get("to" + suffix)}
		for i := range r.Days {
			r.Days[i].On = slices.Contains(form["days"+suffix], r.Days[i].Key)
		}
		t.Rows = append(t.Rows, r)
	}
	t.addRows()
	return t
}

// ticked reads a box that has a hidden field of the same name beside it; without either it is as it was.
func ticked(form url.Values, name string, was bool) bool {
	if !form.Has(name) {
		return was
	}
	return slices.Contains(form[name], "on")
}

// complaint is what is wrong with a form, as a sentence for the person who filled it in.
type complaint string

func (c complaint) Error() string { return string(c) }

const (
	errHalfRow = complaint("Each span of time needs both a beginning and an end.")
	errNoRow   = complaint("Say at least one span of time, or choose “At any time”.")
	errZone    = complaint("That time zone is not known. It looks like Europe/Paris.")
	errDate    = complaint("The last day is not a date.")
	errPast    = complaint("The last day is over already.")
)

// lay puts the terms into a grant, or says what is wrong with them, for people.
func (t *terms) lay(g *presence.Grant, now time.Time) error {
	zone, err := time.LoadLocation(t.TZ)
	if err != nil || t.TZ == "Local" {
		return errZone
	}
	windows, err := t.windows()
	if err != nil {
		return err
	}
	until, err := t.until(g, zone, now)
	if err != nil {
		return err
	}
	g.NoStatus, g.NoDevices = !t.Status, !t.Devices
	g.Notify, g.Idle, g.Windows, g.TZ, g.Until = t.Notify, t.Idle, windows, t.TZ, until
	return nil
}

func (t *terms) windows() ([]presence.Window, error) {
	if t.Always {
		return nil, nil
	}
	var ws []presence.Window
	for _, r := range t.Rows {
		w := presence.Window{From: r.From, To: r.To}
		for _, d := range r.Days {
			if d.On {
				w.Days = append(w.Days, d.Key)
			}
		}
		switch {
		case r.From == "" && r.To == "" && len(w.Days) == 0:
			continue
		case r.From == "" || r.To == "":
			return nil, errHalfRow
		}
		if err := w.Check(); err != nil {
			return nil, complaint(fmt.Sprintf("%s to %s is no span of time: 21:00 to 23:00 would be one.", r.From, r.To))
		}
		ws = append(ws, w)
	}
	if len(ws) == 0 {
		return nil, errNoRow
	}
	return ws, nil
}

// until is the end of the last day in the zone. An end that the form shows unchanged stays to the second.
func (t *terms) until(g *presence.Grant, zone *time.Location, now time.Time) (*time.Time, error) {
	if t.Until == "" {
		return nil, nil
	}
	if g.Until != nil && g.TZ == t.TZ && lastDay(*g.Until, zone) == t.Until {
		return g.Until, nil
	}
	d, err := time.ParseInLocation(dateForm, t.Until, zone)
	if err != nil || d.Year() > 9000 {
		return nil, errDate
	}
	end := time.Date(d.Year(), d.Month(), d.Day()+1, 0, 0, 0, 0, zone).UTC()
	if !now.Before(end) {
		return nil, errPast
	}
	return &end, nil
}

// lastDay is the date of the last moment before the end.
func lastDay(until time.Time, zone *time.Location) string {
	return until.Add(-1).In(zone).Format(dateForm)
}

// zoneOf is the zone of a stored grant.
func zoneOf(name string) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC
	}
	return zone
}

// someZones are offered where the browser does not know them all.
func someZones() []string {
	return []string{"Africa/Cairo", "Africa/Johannesburg", "Africa/Lagos", "Africa/Nairobi", "America/Bogota", "America/Chicago",
		"America/Denver", "America/Halifax", "America/Los_Angeles", "America/Mexico_City", "America/New_York", "America/Sao_Paulo",
		"Asia/Bangkok", "Asia/Dubai", "Asia/Hong_Kong", "Asia/Jakarta", "Asia/Karachi", "Asia/Kolkata", "Asia/Seoul", "Asia/Shanghai",
		"Asia/Singapore", "Asia/Tehran", "Asia/Tokyo", "Australia/Perth", "Australia/Sydney", "Europe/Amsterdam", "Europe/Athens",
		"Europe/Berlin", "Europe/Brussels", "Europe/Dublin", "Europe/Helsinki", "Europe/Istanbul", "Europe/Kyiv", "Europe/Lisbon",
		"Europe/London", "Europe/Madrid", "Europe/Moscow", "Europe/Oslo", "Europe/Paris", "Europe/Prague", "Europe/Rome",
		"Europe/Stockholm", "Europe/Vienna", "Europe/Warsaw", "Europe/Zurich", "Pacific/Auckland", "UTC"}
}
