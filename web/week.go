package web

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"sort"
	"strings"
	"time"
)

// weekFrame is seven days on the wall of one zone, from a Monday on, for the picture of who could see her when.
type weekFrame struct {
	Zone *time.Location
	Days [8]time.Time // the beginning of each day, and of the one behind the last
	Now  time.Time
}

// weekAt is the week that now is in, or one that is so many weeks away.
func weekAt(now time.Time, zone *time.Location, away int) weekFrame {
	w := weekFrame{Zone: zone, Now: now}
	local := now.In(zone)
	monday := local.Day() - (int(local.Weekday())+6)%7 + 7*away
	for i := range w.Days {
		w.Days[i] = dayBegins(local.Year(), local.Month(), monday+i, zone)
	}
	return w
}

// dayBegins is the first moment of a day. That is not always midnight: there are zones in which clocks change then,
// so that midnight is skipped or comes twice.
func dayBegins(year int, month time.Month, day int, zone *time.Location) time.Time {
	const before = 15 * 60 // minutes before noon in which it is
	noon := time.Date(year, month, day, 12, 0, 0, 0, zone)
	at := func(i int) time.Time { return noon.Add(time.Duration(i-before) * time.Minute) }
	return at(sort.Search(before, func(i int) bool { return at(i).Day() == noon.Day() }))
}

func (w *weekFrame) start() time.Time { return w.Days[0] }
func (w *weekFrame) end() time.Time   { return w.Days[7] }
func (w *weekFrame) whole() []span    { return []span{{w.start(), w.end()}} }

// The frame of a strip: a unit of width is six minutes, so a week has 1680, or 10 more or less where clocks change.
const (
	stripUnit   = 6 * time.Minute
	stripHeight = 24
	stripInset  = 4 // above and below what is filled
	stripLeast  = 3 // units: what is shorter could not be seen
)

func (w *weekFrame) width() int { return int(w.end().Sub(w.start()) / stripUnit) }

// x is the place of a moment, within the frame.
func (w *weekFrame) x(t time.Time, round func(float64) float64) int {
	x := int(round(float64(t.Sub(w.start())) / float64(stripUnit)))
	return min(max(x, 0), w.width())
}

// strip draws one row: when an app could see her, and on top when it did. id is part of the ids in the page and must
// be a word; title and desc are for those who do not see it.
func (w *weekFrame) strip(id, title, desc string, could, saw []span) template.HTML {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="week" viewBox="0 0 %d %d" preserveAspectRatio="none" role="img" aria-labelledby="t-%s" aria-describedby="d-%s">`,
		w.width(), stripHeight, id, id)
	fmt.Fprintf(&b, `<title id="t-%s">%s</title><desc id="d-%s">%s</desc>`, id, html.EscapeString(title), id, html.EscapeString(desc))
	w.path(&b, "could", w.boxes(could))
	w.path(&b, "saw", w.boxes(saw))
	var days strings.Builder
	for _, day := range w.Days[1:7] {
		fmt.Fprintf(&days, "M%d 0v%d", w.x(day, math.Round), stripHeight)
	}
	w.path(&b, "days", days.String())
	if !w.Now.Before(w.start()) && w.Now.Before(w.end()) {
		w.path(&b, "now", fmt.Sprintf("M%d 0v%d", w.x(w.Now, math.Floor), stripHeight))
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) // title and desc are escaped, id is a word, all else is ours
}

func (w *weekFrame) path(b *strings.Builder, class, d string) {
	if d != "" {
		fmt.Fprintf(b, `<path class="%s" d="%s"/>`, class, d)
	}
}

// boxes draws a box for each span; those that touch at this scale become one, so there are at most a third as many
// as the frame is wide.
func (w *weekFrame) boxes(spans []span) string {
	var b strings.Builder
	from, to := 0, -1
	flush := func() {
		if to > from {
			fmt.Fprintf(&b, "M%d %dh%dv%dh-%dz", from, stripInset, to-from, stripHeight-2*stripInset, to-from)
		}
	}
	for _, s := range both(spans, w.whole()) {
		x0, x1 := w.x(s.From, math.Floor), w.x(s.To, math.Ceil)
		if x1-x0 < stripLeast {
			x1 = min(x0+stripLeast, w.width())
			x0 = min(x0, x1-stripLeast)
		}
		if to >= x0 {
			to = max(to, x1)
			continue
		}
		flush()
		from, to = x0, x1
	}
	flush()
	return b.String()
}

const maxWords = 40 // spans that are told one by one

// words tells the spans of this week: "Mon 21:00–23:00", "Sat 22:00 – Sun 02:00".
func (w *weekFrame) words(spans []span) []string {
	spans = both(spans, w.whole())
	if len(spans) == 1 && spans[0] == w.whole()[0] {
		return []string{"all week"}
	}
	var list []string
	for i, s := range spans {
		if i == maxWords {
			return append(list, fmt.Sprintf("and %d times more", len(spans)-i))
		}
		list = append(list, w.word(s))
	}
	return list
}

func (w *weekFrame) word(s span) string {
	first, last := w.day(s.From), w.day(s.To.Add(-1))
	to := s.To.In(w.Zone).Format("15:04")
	if s.To.Equal(w.Days[last+1]) {
		to = "24:00"
	}
	from := s.From.In(w.Zone).Format("Mon 15:04")
	switch {
	case first == last && s.From.Equal(w.Days[first]) && to == "24:00":
		return s.From.In(w.Zone).Format("Mon") + " all day"
	case first == last:
		return from + "–" + to
	}
	return from + " – " + s.To.Add(-1).In(w.Zone).Format("Mon") + " " + to
}

// day is the number of the day that a moment of this week is on.
func (w *weekFrame) day(t time.Time) int {
	for i := 6; i > 0; i-- {
		if !t.Before(w.Days[i]) {
			return i
		}
	}
	return 0
}

// hours says how long, for people.
func hours(d time.Duration) string {
	switch h := int(d.Round(time.Hour) / time.Hour); {
	case d == 0:
		return "never"
	case d < time.Hour:
		return fmt.Sprintf("%d minutes", max(1, int(d.Minutes())))
	case h == 1:
		return "1 hour"
	default:
		return fmt.Sprintf("%d hours", h)
	}
}
