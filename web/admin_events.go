package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"presenced/presence"
)

const (
	eventsGather = 250 * time.Millisecond // events are sent at most this often
	eventsAtOnce = 100                    // so many, the newest; what is left out is counted
)

// adminEvents is what happens, for as long as the request lasts: as server-sent events for the page's script, or as
// lines of text for who opens the address itself.
func (s *Site) adminEvents(w http.ResponseWriter, r *http.Request, email string) {
	if !s.streams.enter(email) {
		s.fail(w, r, errStreams)
		return
	}
	defer s.streams.leave(email)
	watch := s.cfg.Hub.Watch("")
	defer watch.Close()
	st := &stream{site: s, r: r, email: email, w: w, ctl: http.NewResponseController(w), watch: watch}
	text := !strings.Contains(r.Header.Get("Accept"), "text/event-stream")
	h := w.Header()
	h.Set("X-Accel-Buffering", "no")        // nginx
	_ = st.ctl.SetReadDeadline(time.Time{}) // what cannot be set ends the stream early, and it comes again
	defer st.mayWrite()                     // the end of the body, however long nothing was said
	hello := "retry: 5000\n: hello\n"
	h.Set("Content-Type", "text/event-stream")
	if text {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		hello = "What happens from now on. This page goes on loading; stop it when you have seen enough."
	}
	if st.say(hello) == nil {
		(&eventStream{stream: st, text: text}).run()
	}
}

// eventStream is a stream of everything that happens.
type eventStream struct {
	*stream
	text bool
	last []presence.Event // not sent yet, oldest first, at most eventsAtOnce
	lost uint64           // left out before them
}

// run tells what happens until the browser goes, she signs out, or the site closes.
func (st *eventStream) run() {
	beat := time.NewTicker(streamBeat)
	defer beat.Stop()
	gather := idleTimer()
	defer gather.Stop()
	for {
		var err error
		select {
		case <-st.r.Context().Done():
			return
		case <-st.site.done:
			return
		case <-st.watch.Wake():
			if had := len(st.last); st.take() && had == 0 {
				gather.Reset(eventsGather)
			}
		case <-gather.C:
			err = st.tellAll()
		case <-beat.C:
			if err = st.beat(); err == nil && !st.signedIn() {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// beat keeps the connection known to whoever is on the way.
func (st *eventStream) beat() error {
	if st.text {
		return nil
	}
	return st.say(": beat\n")
}

// take gathers what has happened and reports whether there is something to send.
func (st *eventStream) take() bool {
	var buf [64]presence.Event
	for {
		n, lost := st.watch.Take(buf[:])
		st.lost += lost
		st.last = append(st.last, buf[:n]...)
		if over := len(st.last) - eventsAtOnce; over > 0 {
			st.lost += uint64(over)
			st.last = append(st.last[:0], st.last[over:]...)
		}
		if n == 0 {
			return len(st.last) > 0
		}
	}
}

// tellAll sends what was gathered, if she is signed in still.
func (st *eventStream) tellAll() error {
	if !st.signedIn() {
		return errSignedOut
	}
	var b strings.Builder
	if st.lost > 0 {
		st.write(&b, "lost", fmt.Sprint(st.lost), fmt.Sprintf("(%d more)", st.lost))
	}
	for i := range st.last {
		e := &st.last[i]
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		st.write(&b, "happened", string(line), eventText(e))
	}
	st.last, st.lost = st.last[:0], 0
	return st.say(strings.TrimSuffix(b.String(), "\n"))
}

func (st *eventStream) write(b *strings.Builder, name, data, text string) {
	if st.text {
		b.WriteString(text + "\n")
		return
	}
	fmt.Fprintf(b, "event: %s\ndata: %s\n\n", name, data)
}

// eventText is an event on one line.
func eventText(e *presence.Event) string {
	words := []string{e.Time.UTC().Format("15:04:05"), e.Kind.String()}
	if e.Kind == presence.DeviceStatus {
		words = append(words, e.Status.String())
	}
	for _, w := range []string{e.Email, e.Device, e.App, e.Detail} {
		if w != "" {
			words = append(words, plain(w))
		}
	}
	if e.By != "" {
		words = append(words, "by "+string(e.By))
	}
	return strings.Join(words, " ")
}
