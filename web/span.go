package web

import (
	"slices"
	"time"
)

// span is a stretch of time, To excluded. Functions take and return them in order, without overlaps and none empty;
// tidy makes them so.
type span struct{ From, To time.Time }

// tidy sorts spans, joins those that touch and drops empty ones.
func tidy(spans []span) []span {
	spans = slices.DeleteFunc(spans, func(s span) bool { return !s.From.Before(s.To) })
	slices.SortFunc(spans, func(a, b span) int { return a.From.Compare(b.From) })
	joined := spans[:0]
	for _, s := range spans {
		if n := len(joined); n > 0 && !s.From.After(joined[n-1].To) {
			joined[n-1].To = later(joined[n-1].To, s.To)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// both is when a and b are.
func both(a, b []span) (common []span) {
	for len(a) > 0 && len(b) > 0 {
		s := span{later(a[0].From, b[0].From), earlier(a[0].To, b[0].To)}
		if s.From.Before(s.To) {
			common = append(common, s)
		}
		if a[0].To.Before(b[0].To) {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return common
}

// without is when a is and b is not.
func without(a, b []span) (rest []span) {
	for _, s := range a {
		for len(b) > 0 && !b[0].To.After(s.From) {
			b = b[1:]
		}
		for i := 0; i < len(b) && b[i].From.Before(s.To); i++ {
			if s.From.Before(b[i].From) {
				rest = append(rest, span{s.From, b[i].From})
			}
			s.From = b[i].To
		}
		if s.From.Before(s.To) {
			rest = append(rest, s)
		}
	}
	return rest
}

// length is how long they are together.
func length(spans []span) (d time.Duration) {
	for _, s := range spans {
		d += s.To.Sub(s.From)
	}
	return d
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
