package presence

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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

// String writes what ParseWindow reads, days that follow one another as a span: "mon-fri 21:00-23:00".
func (w Window) String() string {
	if len(w.Days) == 0 {
		return w.From + "-" + w.To
	}
	var parts []string
	for i := 0; i < len(w.Days); {
		first, n := w.Days[i], 1
		for i+n < len(w.Days) && follows(w.Days[i+n-1], w.Days[i+n]) {
			n++
		}
		switch n {
		case 1:
			parts = append(parts, first)
		case 2:
			parts = append(parts, first, w.Days[i+1])
		default:
			parts = append(parts, first+"-"+w.Days[i+n-1])
		}
		i += n
	}
	return strings.Join(parts, ",") + " " + w.From + "-" + w.To
}

// follows reports whether b is the day after a.
func follows(a, b string) bool {
	i := slices.Index(weekdays[:], a)
	return i >= 0 && weekdays[(i+1)%7] == b
}

// Schedule is when a grant shows presence: its windows, and the zone whose clocks they mean. It has one form as text,
// read and written by the command line, the pages and the API: "mon-fri 21:00-23:00; sat 10:00-12:00 Europe/Paris",
// "always" where there is no window. Without a zone it is UTC.
type Schedule struct {
	Windows []Window
	TZ      string
}

// Schedule is the grant's.
func (g *Grant) Schedule() Schedule { return Schedule{g.Windows, g.TZ} }

const (
	always        = "always"
	scheduleBytes = 4096 // that ParseSchedule reads
)

// ParseSchedule reads the text form. The zone may stand behind any window, but all have the same.
func ParseSchedule(s string) (Schedule, error) {
	if len(s) > scheduleBytes {
		return Schedule{}, fmt.Errorf("a schedule is at most %d characters", scheduleBytes)
	}
	var c Schedule
	if word, zone, _ := strings.Cut(strings.TrimSpace(s), " "); strings.EqualFold(word, always) {
		c.TZ = strings.TrimSpace(zone)
		_, err := loadZone(c.TZ)
		return c, err
	}
	for part := range strings.SplitSeq(s, ";") {
		zone := ""
		if fields := strings.Fields(part); len(fields) > 1 && !isSpan(fields[len(fields)-1]) {
			zone = fields[len(fields)-1]
			part = strings.Join(fields[:len(fields)-1], " ")
		}
		if zone != "" && c.TZ != "" && zone != c.TZ {
			return Schedule{}, fmt.Errorf("windows in two time zones, %s and %s", c.TZ, zone)
		}
		if zone != "" {
			c.TZ = zone
		}
		w, err := ParseWindow(part)
		if err != nil {
			return Schedule{}, err
		}
		c.Windows = append(c.Windows, w)
	}
	if len(c.Windows) > maxWindows {
		return Schedule{}, fmt.Errorf("at most %d windows", maxWindows)
	}
	_, err := loadZone(c.TZ)
	return c, err
}

// isSpan reports whether a word is meant as "21:00-23:00", "9-18" too: no zone's name begins with a digit.
func isSpan(s string) bool { return strings.ContainsRune(s, ':') || '0' <= s[0] && s[0] <= '9' }

// String writes the text form.
func (c Schedule) String() string {
	if len(c.Windows) == 0 {
		return always
	}
	parts := make([]string, len(c.Windows))
	for i := range c.Windows {
		parts[i] = c.Windows[i].String()
	}
	return strings.TrimSpace(strings.Join(parts, "; ") + " " + c.TZ)
}

// span is a window on one day: minutes of the week, counted from Sunday 00:00.
type span struct{ from, length int16 }

func (s span) contains(minute int) bool {
	return (minute-int(s.from)+weekMinutes)%weekMinutes < int(s.length)
}

func (w *Window) spans(dst []span) ([]span, error) {
	from, err1 := clock(w.From, false)
	to, err2 := clock(w.To, true)
	if err := cmp.Or(err1, err2); err != nil {
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

// week is a grant's windows ready for questions; a nil one is always open. Where it lives in a shard it is shared by
// the grants with the same windows, and remembers its last answer: when a great many of them open at the same
// moment, the clock is looked at once.
type week struct {
	zone  *time.Location // immutable, as is spans
	spans []span
	from  moment // guarded by the shard, as are the next two: last changed here; 0: never did
	to    moment // changes here; maxMoment: never
	is    bool   // open from from until to
}

// compile makes the week of windows that passed Check; nil: always open.
func compile(windows []Window, tz string, zone func(string) (*time.Location, error)) *week {
	if len(windows) == 0 {
		return nil
	}
	w := &week{}
	for i := range windows {
		spans, err := windows[i].spans(w.spans)
		if err != nil {
			return &week{zone: time.UTC, spans: []span{{}}} // never open: the safe side
		}
		w.spans = spans
	}
	var err error
	if w.zone, err = zone(tz); err != nil {
		return &week{zone: time.UTC, spans: []span{{}}}
	}
	return w
}

// maxWeeks bounds the weeks that a shard shares; beyond it sharing starts anew.
const maxWeeks = 4096

// weekLocked returns the week of the grant's windows, the shard's own one where it knows such windows already.
func (h *Hub) weekLocked(sh *shard, g *Grant) *week {
	if len(g.Windows) == 0 {
		return nil
	}
	var room [128]byte
	key := append(append(room[:0], g.TZ...), 0)
	for i := range g.Windows {
		w := &g.Windows[i]
		key = append(append(append(append(key, w.From...), '-'), w.To...), 0)
		for _, d := range w.Days {
			key = append(key, d...)
		}
	}
	if w := sh.weeks[string(key)]; w != nil {
		return w
	}
	if sh.weeks == nil || len(sh.weeks) >= maxWeeks {
		sh.weeks = make(map[string]*week)
	}
	w := compile(g.Windows, g.TZ, h.zones.load)
	sh.weeks[string(key)] = w
	return w
}

// zones remembers time zones: reading one opens a file.
type zones struct{ known sync.Map } // string → *time.Location; only such as exist

func (z *zones) load(name string) (*time.Location, error) {
	if l, ok := z.known.Load(name); ok {
		return l.(*time.Location), nil
	}
	l, err := loadZone(name)
	if err == nil {
		z.known.Store(name, l)
	}
	return l, err
}

func (w *week) open(now time.Time) bool {
	if w == nil {
		return true
	}
	minute := weekMinute(now.In(w.zone))
	return slices.ContainsFunc(w.spans, func(s span) bool { return s.contains(minute) })
}

func weekMinute(local time.Time) int {
	return int(local.Weekday())*dayMinutes + local.Hour()*60 + local.Minute()
}

// searchDays bounds the look for the next or last change: a week, and a clock change in it.
const searchDays = 9

// next is the first moment after now at which open changes; zero: never.
func (w *week) next(now time.Time) time.Time {
	if w == nil {
		return time.Time{}
	}
	was, limit := w.open(now), now.AddDate(0, 0, searchDays)
	for t := now; t.Before(limit); {
		if t = w.edgeAfter(t); w.open(t) != was {
			return t
		}
	}
	return time.Time{}
}

// edgeAfter is the first moment after t at which a span begins or ends or the zone's offset changes. Within
// one offset the wall clock runs evenly, so it is an addition.
func (w *week) edgeAfter(t time.Time) time.Time {
	local := t.In(w.zone)
	minute := weekMinute(local)
	best := weekMinutes
	for _, s := range w.spans {
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

// last is the latest moment not after now at which open changed; zero: never.
func (w *week) last(now time.Time) time.Time {
	if w == nil {
		return time.Time{}
	}
	is, limit := w.open(now), now.AddDate(0, 0, -searchDays)
	for t := now; t.After(limit); {
		edge := w.edgeBefore(t)
		if w.open(edge.Add(-1)) != is {
			return edge
		}
		t = edge.Add(-1)
	}
	return time.Time{}
}

func (w *week) edgeBefore(t time.Time) time.Time {
	local := t.In(w.zone)
	minute := weekMinute(local)
	best := weekMinutes
	for _, s := range w.spans {
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

// recallLocked makes the remembered answer the one for now.
func (w *week) recallLocked(now moment) {
	if w.to != 0 && w.from <= now && now < w.to {
		return
	}
	t := now.time()
	w.is, w.from, w.to = w.open(t), momentOf(w.last(t)), momentOf(w.next(t))
	if w.to == 0 {
		w.to = maxMoment
	}
}

// hours are when a grant shows presence by itself, pauses aside: in its windows, until it ends.
type hours struct {
	week  *week
	until moment // closed for good from here; 0: never
}

func (g *Grant) hours(w *week) hours {
	h := hours{week: w}
	if g.Until != nil {
		h.until = momentOf(*g.Until)
	}
	return h
}

// atLocked tells whether they are open at now and when that changes next (0: never).
func (h hours) atLocked(now moment) (open bool, next moment) {
	if h.until != 0 && now >= h.until {
		return false, 0
	}
	if open = true; h.week != nil {
		h.week.recallLocked(now)
		if open = h.week.is; h.week.to != maxMoment {
			next = h.week.to
		}
	}
	if h.until != 0 && (next == 0 || next >= h.until) {
		if next = 0; open {
			next = h.until
		}
	}
	return open, next
}

// lastLocked is when they last opened or closed before now, not before from, or from.
func (h hours) lastLocked(now, from moment) moment {
	if h.until != 0 && now >= h.until {
		return h.until
	}
	if h.week == nil {
		return from
	}
	h.week.recallLocked(now)
	return max(from, h.week.from)
}
