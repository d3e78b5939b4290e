package presence

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Window is a weekly span of time on the wall clock of the grant's zone. A moment is inside when the clock
// on the wall shows a time inside: on the day when clocks go forward what is skipped does not happen, on
// the day when they go back what is repeated happens twice.
type Window struct {
	Days []string `json:"days"` // mon tue wed thu fri sat sun, the day on which it begins; none: every day
	From string   `json:"from"` // HH:MM
	To   string   `json:"to"`   // HH:MM, excluded; over midnight if not after From; 24:00 is midnight
}

const (
	dayMinutes  = 24 * 60
	weekMinutes = 7 * dayMinutes
)

var weekdays = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // as time.Weekday counts

// Check tells why w is not a window.
func (w *Window) Check() error {
	_, err := w.spans(nil)
	return err
}

// ParseWindow reads the command line's form: "mon-fri 21:00-23:00", "sat,sun 10:00-12:00", "21:00-23:00".
func ParseWindow(s string) (Window, error) {
	var w Window
	fields := strings.Fields(strings.ToLower(s))
	if len(fields) == 2 {
		days, err := parseDays(fields[0])
		if err != nil {
			return Window{}, err
		}
		w.Days, fields = days, fields[1:]
	}
	if len(fields) != 1 {
		return Window{}, fmt.Errorf(`window %q is not like "mon-fri 21:00-23:00"`, s)
	}
	var ok bool
	if w.From, w.To, ok = strings.Cut(fields[0], "-"); !ok {
		return Window{}, fmt.Errorf(`window %q is not like "mon-fri 21:00-23:00"`, s)
	}
	return w, w.Check()
}

func parseDays(s string) ([]string, error) {
	var days []string
	for part := range strings.SplitSeq(s, ",") {
		first, last, ok := strings.Cut(part, "-")
		if !ok {
			last = first
		}
		a, b := slices.Index(weekdays[:], first), slices.Index(weekdays[:], last)
		if a < 0 || b < 0 {
			return nil, fmt.Errorf("%q is not a day or a span of days (mon tue wed thu fri sat sun)", part)
		}
		for d := a; ; d = (d + 1) % 7 {
			if !slices.Contains(days, weekdays[d]) {
				days = append(days, weekdays[d])
			}
			if d == b {
				break
			}
		}
	}
	return days, nil
}

// String writes what ParseWindow reads.
func (w Window) String() string {
	if len(w.Days) == 0 {
		return w.From + "-" + w.To
	}
	return strings.Join(w.Days, ",") + " " + w.From + "-" + w.To
}

// span is a window on one day: minutes of the week, counted from Sunday 00:00.
type span struct{ from, length int16 }

func (s span) contains(minute int) bool {
	return (minute-int(s.from)+weekMinutes)%weekMinutes < int(s.length)
}

func (w *Window) spans(dst []span) ([]span, error) {
	from, err1 := clock(w.From, false)
	to, err2 := clock(w.To, true)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	length := to - from
	if length <= 0 {
		length += dayMinutes
	}
	if len(w.Days) > 7 {
		return nil, errors.New("window has more than seven days")
	}
	days := w.Days
	if len(days) == 0 {
		days = weekdays[:]
	}
	for _, name := range days {
		d := slices.Index(weekdays[:], name)
		if d < 0 {
			return nil, fmt.Errorf("window day %q is none of mon tue wed thu fri sat sun", name)
		}
		dst = append(dst, span{int16(d*dayMinutes + from), int16(length)})
	}
	return dst, nil
}

// clock reads HH:MM into minutes of the day.
func clock(s string, end bool) (int, error) {
	if end && s == "24:00" {
		return dayMinutes, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != 5 {
		return 0, fmt.Errorf("window time %q is not HH:MM", s)
	}
	return t.Hour()*60 + t.Minute(), nil
}

func loadZone(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	l, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("tz %q is not an IANA time zone", name)
	}
	return l, nil
}

// calendar is a grant's windows and end ready for questions; a nil one is always open. No spans: open until the end.
type calendar struct {
	zone  *time.Location
	spans []span
	until time.Time // closed for good from here; zero: never
}

// calendar compiles the grant's windows; a grant that passed Check always compiles. nil: always open.
func (g *Grant) calendar() *calendar {
	if len(g.Windows) == 0 && g.Until == nil {
		return nil
	}
	c := &calendar{zone: time.UTC}
	if g.Until != nil {
		c.until = *g.Until
	}
	for i := range g.Windows {
		spans, err := g.Windows[i].spans(c.spans)
		if err != nil {
			return &calendar{zone: time.UTC, spans: []span{{}}} // never open: the safe side
		}
		c.spans = spans
	}
	if zone, err := loadZone(g.TZ); err == nil {
		c.zone = zone
	}
	return c
}

func (c *calendar) open(now time.Time) bool {
	if c == nil {
		return true
	}
	if !c.until.IsZero() && !now.Before(c.until) {
		return false
	}
	if len(c.spans) == 0 {
		return true
	}
	minute := weekMinute(now.In(c.zone))
	return slices.ContainsFunc(c.spans, func(s span) bool { return s.contains(minute) })
}

func weekMinute(local time.Time) int {
	return int(local.Weekday())*dayMinutes + local.Hour()*60 + local.Minute()
}

// searchDays bounds the look for the next or last change: a week, and a clock change in it.
const searchDays = 9

// next is the first moment after now at which open changes; zero: never.
func (c *calendar) next(now time.Time) time.Time {
	if c == nil {
		return time.Time{}
	}
	was, limit := c.open(now), now.AddDate(0, 0, searchDays)
	for t := now; len(c.spans) > 0 && t.Before(limit); {
		t = c.edgeAfter(t)
		if !c.until.IsZero() && t.After(c.until) {
			break
		}
		if c.open(t) != was {
			return t
		}
	}
	if was && !c.until.IsZero() {
		return c.until
	}
	return time.Time{}
}

// edgeAfter is the first moment after t at which a span begins or ends or the zone's offset changes. Within
// one offset the wall clock runs evenly, so it is an addition.
func (c *calendar) edgeAfter(t time.Time) time.Time {
	local := t.In(c.zone)
	minute := weekMinute(local)
	best := weekMinutes
	for _, s := range c.spans {
		for _, edge := range [2]int{int(s.from), int(s.from) + int(s.length)} {
			if d := (edge - minute + 2*weekMinutes) % weekMinutes; d > 0 && d < best {
				best = d
			}
		}
	}
	edge := local.Add(-sinceMinute(local)).Add(time.Duration(best) * time.Minute)
	if _, end := local.ZoneBounds(); !end.IsZero() && end.Before(edge) {
		return end
	}
	return edge
}

// last is the latest moment not after now at which open changed, or from if there was none since.
func (c *calendar) last(now, from time.Time) time.Time {
	if c == nil {
		return from
	}
	is, limit := c.open(now), now.AddDate(0, 0, -searchDays)
	if !c.until.IsZero() && !now.Before(c.until) {
		return c.until
	}
	for t := now; len(c.spans) > 0 && t.After(limit) && t.After(from); {
		edge := c.edgeBefore(t)
		if c.open(edge.Add(-1)) != is {
			if edge.Before(from) {
				return from
			}
			return edge
		}
		t = edge.Add(-1)
	}
	return from
}

func (c *calendar) edgeBefore(t time.Time) time.Time {
	local := t.In(c.zone)
	minute := weekMinute(local)
	best := weekMinutes
	for _, s := range c.spans {
		for _, edge := range [2]int{int(s.from), int(s.from) + int(s.length)} {
			if d := (minute - edge + 2*weekMinutes) % weekMinutes; d < best {
				best = d
			}
		}
	}
	edge := local.Add(-sinceMinute(local)).Add(-time.Duration(best) * time.Minute)
	if start, _ := local.ZoneBounds(); !start.IsZero() && start.After(edge) {
		return start
	}
	return edge
}

func sinceMinute(t time.Time) time.Duration {
	return time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
}
