package web

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"presenced/presence"
	"presenced/presence/errno"
)

// Live pages: GET /events is a stream of server-sent events for one browser page of who is signed in. An event names
// the parts of the dashboard that have changed, and nothing else; the page asks for those again, with ?part=.

const (
	streamsPerUser = 8                // one more is refused
	streamsInAll   = 10_000           // the same
	streamBeat     = 20 * time.Second // a comment, so that nobody on the way thinks it dead; and a look whether she is signed in still
	streamWrite    = 10 * time.Second // for one write
	streamGather   = 200 * time.Millisecond
	// streamRecord is how long after an event what is read from the record of activity is asked for: that is
	// written once a second.
	streamRecord = 1500 * time.Millisecond
)

// streams counts those that are open.
type streams struct {
	mu     sync.Mutex
	all    int            // guarded by mu
	byUser map[string]int // guarded by mu
}

// enter takes a place for a stream; false: there is none.
func (c *streams) enter(email string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all >= streamsInAll || c.byUser[email] >= streamsPerUser {
		return false
	}
	if c.byUser == nil {
		c.byUser = map[string]int{}
	}
	c.all++
	c.byUser[email]++
	return true
}

func (c *streams) leave(email string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.byUser[email]--; c.byUser[email] == 0 {
		delete(c.byUser, email)
	}
}

var errStreams = &Error{Status: http.StatusTooManyRequests, Errno: errno.TooMany, Retry: time.Minute,
	Text: "You have this page open too many times. This one is not kept up to date by itself."}

// recorded are the parts that show the record of activity.
var recorded = []string{"week", "timeline"}

// partsOf are the parts of the dashboard that an event changes, beside those that show the record.
func partsOf(k presence.EventKind) []string {
	switch k {
	case presence.DeviceStatus, presence.DeviceGone:
		return []string{"status", "devices"}
	case presence.GrantChanged, presence.UserChanged:
		return []string{"status", "requests", "apps"}
	case presence.Requested, presence.Answered:
		return []string{"requests"}
	}
	return nil
}

// stream is one browser's, for as long as its request lasts.
type stream struct {
	site  *Site
	r     *http.Request
	email string
	w     http.ResponseWriter
	ctl   *http.ResponseController
	watch *presence.Watch
	soon  map[string]bool // parts that have changed and were not told yet
	late  map[string]bool // the same, for what is recorded
}

func (s *Site) getEvents(w http.ResponseWriter, r *http.Request, email string) {
	if !s.streams.enter(email) {
		s.fail(w, r, errStreams)
		return
	}
	defer s.streams.leave(email)
	watch := s.cfg.Hub.Watch(email)
	defer watch.Close()
	st := &stream{site: s, r: r, email: email, w: w, ctl: http.NewResponseController(w), watch: watch,
		soon: map[string]bool{}, late: map[string]bool{}}
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no")        // nginx
	_ = st.ctl.SetReadDeadline(time.Time{}) // what cannot be set ends the stream early, and it comes again
	defer st.mayWrite()                     // the end of the body, however long nothing was said
	if st.say("retry: 5000\n: hello\n") == nil {
		st.run()
	}
}

// run tells what changes until the browser goes, she signs out, or the site closes.
func (st *stream) run() {
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	gather, record := idleTimer(), idleTimer()
	defer gather.Stop()
	defer record.Stop()
	for {
		var err error
		select {
		case <-st.r.Context().Done():
			return
		case <-st.site.done:
			return
		case <-st.watch.Wake():
			soon, late := len(st.soon), len(st.late)
			st.take()
			if soon == 0 && len(st.soon) > 0 {
				gather.Reset(streamGather)
			}
			if late == 0 && len(st.late) > 0 {
				record.Reset(streamRecord)
			}
		case <-gather.C:
			err = st.tell(st.soon)
		case <-record.C:
			err = st.tell(st.late)
		case <-beat.C:
			if err = st.say(": beat\n"); err == nil && !st.signedIn() {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// idleTimer is one that does not run.
func idleTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// take gathers what has happened.
func (st *stream) take() {
	var buf [64]presence.Event
	for {
		n, lost := st.watch.Take(buf[:])
		if lost > 0 {
			for part := range dashboardParts {
				st.soon[part] = true
			}
		}
		for _, e := range buf[:n] {
			for _, part := range partsOf(e.Kind) {
				st.soon[part] = true
			}
			for _, part := range recorded {
				st.late[part] = true
			}
		}
		if n == 0 {
			return
		}
	}
}

// tell sends the names of parts, if she is signed in still, and forgets them.
func (st *stream) tell(parts map[string]bool) error {
	if len(parts) == 0 {
		return nil
	}
	if !st.signedIn() {
		return errSignedOut
	}
	var names []string
	for part := range parts {
		names = append(names, part)
	}
	clear(parts)
	slices.Sort(names)
	return st.say(fmt.Sprintf("event: change\ndata: %s\n", strings.Join(names, " ")))
}

// signedIn looks again at the session that the stream began with.
func (st *stream) signedIn() bool { return st.site.holds(st.r, st.email) }

// mayWrite gives what is written next its time.
func (st *stream) mayWrite() { _ = st.ctl.SetWriteDeadline(time.Now().Add(streamWrite)) }

// say writes lines and the empty line behind them.
func (st *stream) say(lines string) error {
	st.mayWrite()
	if _, err := fmt.Fprintln(st.w, lines); err != nil {
		return err
	}
	return st.ctl.Flush()
}
