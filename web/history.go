package web

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"presenced/presence"
)

// history is what is kept of one user, for questions about who saw what when. It is made for one request.
type history struct {
	now      time.Time
	audit    []presence.AuditEntry // oldest first, as are the next
	activity []presence.Event
	devices  []presence.DeviceInfo
	names    map[string]string // of devices that have one
}

// Bounds of what is read for a page.
const (
	maxAudit    = 1000
	maxActivity = 1000
	keptFor     = 35 * 24 * time.Hour
)

func (s *Site) history(email string) (*history, error) {
	h := &history{now: s.cfg.Now(), names: map[string]string{}}
	var err error
	if h.audit, err = s.cfg.Store.AuditOf(email, maxAudit); err != nil {
		return nil, err
	}
	if h.activity, err = s.cfg.Store.ActivityOf(email, h.now.Add(-keptFor), maxActivity); err != nil {
		return nil, err
	}
	if h.devices, err = s.cfg.Hub.Devices(email); err != nil {
		return nil, err
	}
	slices.Reverse(h.audit)
	slices.Reverse(h.activity)
	for _, d := range h.devices {
		if d.Name != "" {
			h.names[d.Device] = d.Name
		}
	}
	return h, nil
}

// far is later than any moment that is shown.
func (h *history) far() time.Time { return h.now.AddDate(1000, 0, 0) }

// could is when the app was and will be allowed to see her, within w. g is her grant, nil if there is none (any more):
// then its times are not known, and what she allowed is shown whole.
func (h *history) could(app string, g *presence.Grant, w *weekFrame) []span {
	allowed := without(without(h.granted(app, g), h.held(app, "pause", "resume")), h.held("", "invisible", "visible"))
	allowed = without(allowed, h.muted(app))
	allowed = both(allowed, w.whole())
	if g != nil {
		allowed = both(allowed, opened(g, w.start(), w.end()))
	}
	return allowed
}

// saw is when she was there and it could see that.
func (h *history) saw(could []span) []span {
	return both(both(could, h.there()), []span{{time.Time{}, h.now}})
}

// granted is from allowing to revoking, as often as that was.
func (h *history) granted(app string, g *presence.Grant) (spans []span) {
	var since time.Time // while it is granted
	is, known := false, false
	for _, e := range h.audit {
		if e.App != app || e.What == "deny" {
			continue
		}
		ends := slices.Contains([]string{"revoke", "unsubscribe", "ended", "app removed"}, e.What)
		if !known && e.What != "allow" {
			is = true // since before the oldest line
		}
		known = true
		switch {
		case ends && is:
			spans, is = append(spans, span{since, e.Time}), false
		case e.What == "allow" && is: // once more, under another name
		case !ends && !is:
			is, since = true, e.Time
		}
	}
	if g == nil {
		return tidy(spans)
	}
	if !is {
		since = g.Created
	}
	until := h.far()
	if g.Until != nil {
		until = *g.Until
	}
	return tidy(append(spans, span{since, until}))
}

// held is from each line that says on to the next one that says off, or to the end that it names itself.
func (h *history) held(app, on, off string) (spans []span) {
	var last *span
	for _, e := range h.audit {
		if e.App != app {
			continue
		}
		if last != nil && slices.Contains([]string{on, off, "revoke", "allow"}, e.What) {
			last.To = earlier(last.To, e.Time)
			last = nil
		}
		if e.What == on {
			spans = append(spans, span{e.Time, h.far()})
			last = &spans[len(spans)-1]
			if text, ok := strings.CutPrefix(e.Detail, "until "); ok {
				if until, err := time.Parse(time.RFC3339, text); err == nil {
					last.To = until
				}
			}
		}
	}
	return tidy(spans)
}

// muted is while the app was allowed without status.
func (h *history) muted(app string) (spans []span) {
	var last *span
	for _, e := range h.audit {
		if e.App != app || !slices.Contains([]string{"allow", "change", "revoke", "unsubscribe", "ended"}, e.What) {
			continue
		}
		if last != nil {
			last.To, last = e.Time, nil
		}
		if out, ok := strings.CutPrefix(e.Detail, "without "); ok && slices.Contains(strings.Split(out, ", "), "status") {
			spans = append(spans, span{e.Time, h.far()})
			last = &spans[len(spans)-1]
		}
	}
	return tidy(spans)
}

// opened is when the windows of a grant are open, whatever else it says.
func opened(g *presence.Grant, from, to time.Time) (spans []span) {
	if len(g.Windows) == 0 {
		return []span{{from, to}}
	}
	zone := zoneOf(g.TZ)
	for from.Before(to) { // as long as the clocks do not change, what they show runs evenly
		_, offset := from.In(zone).Zone()
		_, end := from.In(zone).ZoneBounds()
		if end.IsZero() || end.After(to) {
			end = to
		}
		spans = append(spans, onTheWall(g.Windows, time.Duration(offset)*time.Second, from, end)...)
		from = end
	}
	return tidy(spans)
}

// onTheWall is when the windows are open while the clocks are that far ahead of UTC.
func onTheWall(windows []presence.Window, ahead time.Duration, from, to time.Time) (spans []span) {
	local := from.Add(ahead).UTC()
	first := time.Date(local.Year(), local.Month(), local.Day()-1, 0, 0, 0, 0, time.UTC).Add(-ahead) // what began yesterday may be open
	for day := first; day.Before(to); day = day.AddDate(0, 0, 1) {
		name := strings.ToLower(day.Add(ahead).UTC().Format("Mon"))
		for i := range windows {
			w := &windows[i]
			if len(w.Days) > 0 && !slices.Contains(w.Days, name) {
				continue
			}
			begin, end := clockOf(w.From), clockOf(w.To)
			if end <= begin {
				end += 24 * time.Hour
			}
			spans = append(spans, span{later(from, day.Add(begin)), earlier(to, day.Add(end))})
		}
	}
	return tidy(spans)
}

// clockOf reads HH:MM of a window that was checked when it was stored.
func clockOf(s string) time.Duration {
	var h, m int
	if hours, minutes, ok := strings.Cut(s, ":"); ok {
		h, _ = strconv.Atoi(hours)
		m, _ = strconv.Atoi(minutes)
	}
	return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
}

// there is when at least one of her devices was online or away.
func (h *history) there() (spans []span) {
	here := map[string]bool{}
	var since time.Time
	for _, e := range h.activity {
		if e.Kind != presence.DeviceStatus && e.Kind != presence.DeviceGone {
			continue
		}
		was := len(here) > 0
		if e.Kind == presence.DeviceStatus && e.Status != presence.Offline {
			here[e.Device] = true
		} else {
			delete(here, e.Device)
		}
		switch is := len(here) > 0; {
		case is && !was:
			since = e.Time
		case was && !is:
			spans = append(spans, span{since, e.Time})
		}
	}
	if len(here) > 0 {
		spans = append(spans, span{since, h.lastSeen(here, since)})
	}
	return tidy(spans)
}

// lastSeen is until when one of these was there: now, or where the gateway itself ended without a word, the last that
// is known of them.
func (h *history) lastSeen(here map[string]bool, since time.Time) time.Time {
	last := since
	for _, d := range h.devices {
		if here[d.Device] {
			if d.State != "gone" {
				return h.now
			}
			last = later(last, d.Since)
		}
	}
	return last
}

// line is one thing that happened, in words.
type line struct {
	Time time.Time
	App  string // appid; "": it is about no app, or about several
	Text string
	Note string // in the words of others, or who saw it
}

// lines tells what happened, newest first. names are of apps; could are those that could see her, with when. Of the
// lines about devices, app limits them to what that app saw; "" does not.
func (h *history) lines(names func(string) string, could map[string][]span, app string) []line {
	var list []line
	for _, e := range h.audit {
		if app == "" || e.App == app || e.App == "" {
			list = append(list, line{Time: e.Time, App: e.App, Text: told(e, names(e.App)), Note: e.Detail})
		}
	}
	for _, e := range h.activity {
		l, ok := h.line(e, names(e.App))
		switch {
		case !ok:
			continue
		case e.Kind == presence.DeviceStatus || e.Kind == presence.DeviceGone:
			who := seers(e.Time, could)
			if app != "" && !slices.Contains(who, app) {
				continue
			}
			l.Note = seenBy(who, names)
		case app != "" && e.App != app:
			continue
		}
		list = append(list, l)
	}
	slices.SortStableFunc(list, func(a, b line) int { return b.Time.Compare(a.Time) })
	return list
}

// seers are the apps that could see her at a moment, or the moment before: a device that goes was seen to.
func seers(at time.Time, could map[string][]span) (apps []string) {
	for app, spans := range could {
		i := sort.Search(len(spans), func(i int) bool { return !spans[i].To.Before(at) }) // the first that ends then or later
		if i < len(spans) && !at.Before(spans[i].From) {
			apps = append(apps, app)
		}
	}
	slices.Sort(apps)
	return apps
}

const maxSeers = 5 // that are named in one line

func seenBy(apps []string, names func(string) string) string {
	if len(apps) == 0 {
		return "no app saw it"
	}
	more := ""
	if len(apps) > maxSeers {
		more = fmt.Sprintf(" and %d more", len(apps)-maxSeers)
		apps = apps[:maxSeers]
	}
	words := make([]string, len(apps))
	for i, a := range apps {
		words[i] = names(a)
	}
	return "seen by " + strings.Join(words, ", ") + more
}

// told is a line of the audit in words.
func told(e presence.AuditEntry, app string) string {
	who := map[presence.Actor]string{presence.ByUser: "You", presence.ByAdmin: "An administrator", presence.ByApp: app}[e.By]
	self := "you"
	if e.By == presence.ByUser {
		self = "yourself"
	}
	text, known := map[string]string{
		"allow": "allowed " + app + " to see you", "change": "changed what " + app + " may see", "revoke": "ended what " + app + " may see",
		"pause": "paused " + app, "resume": "let " + app + " see you again", "deny": "said no to " + app,
		"invisible": "made " + self + " invisible to all apps", "visible": "made " + self + " visible again",
		"disabled": "switched your account off", "enabled": "switched your account on",
	}[e.What]
	switch {
	case e.What == "unsubscribe":
		return app + " does not want to see you any more"
	case e.What == "ended":
		return "The time of " + app + " is over"
	case e.What == "app removed":
		return app + " is no more"
	case !known:
		return strings.TrimSpace(app + " " + e.What)
	case who == "":
		return "By itself: " + text
	}
	return who + " " + text
}

// line is an event in words; false: it is told by the audit, or is nothing for people.
func (h *history) line(e presence.Event, app string) (line, bool) {
	device := e.Device
	if name := h.names[device]; name != "" {
		device = name
	}
	l := line{Time: e.Time, App: e.App, Note: e.Detail}
	switch {
	case e.Kind == presence.DeviceStatus && e.Status == presence.Online:
		l.Text = device + " is online"
	case e.Kind == presence.DeviceStatus && e.Status == presence.Unavailable:
		l.Text = device + " is away"
	case e.Kind == presence.DeviceStatus, e.Kind == presence.DeviceGone:
		l.Text = device + " is offline"
	case e.Kind == presence.GrantChanged && e.Detail == "shown":
		l.Text, l.Note = app+" can see you now", ""
	case e.Kind == presence.GrantChanged && e.Detail == "hidden":
		l.Text, l.Note = app+" cannot see you now", ""
	case e.Kind == presence.Requested:
		l.Text = app + " asked to see you"
	case e.Kind == presence.Notified:
		l.Text, l.Note = app+" sent a notification", ""
	case e.Kind == presence.Delivered:
		l.Text, l.Note = device+" has a notification of "+app, ""
	case e.Kind == presence.Refused:
		l.Text = "Something of " + app + " was refused"
	default:
		return line{}, false
	}
	return l, true
}
