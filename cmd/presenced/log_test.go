package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
)

// logged is where a log goes that several write and a test reads.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// lines are those that were written and match, without their times, and forgets them.
func (l *logged) lines(pattern string) (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if line = regexp.MustCompile(`^time=\S+ |\n`).ReplaceAllString(line, ""); regexp.MustCompile(pattern).MatchString(line) {
			all = append(all, line)
		}
	}
	l.buf.Reset()
	return all
}

// An error that comes again and again is a line, then a number each minute while it does; others are not hidden by it.
func TestErrorsDoNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logged
		log := newLogger(&out, LogConfig{Level: "info"}).With("part", "disk")
		want := func(lines ...string) {
			t.Helper()
			synctest.Wait()
			if got := out.lines(""); strings.Join(got, "\n") != strings.Join(lines, "\n") {
				t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(lines, "\n"))
			}
		}
		full, broken := errors.New("full"), errors.New("broken")
		for range 1000 {
			log.Error("no disk", "error", full, "socket", 7)
		}
		log.Error("no disk", "error", broken)
		log.Info("fine", "error", full)
		log.Info("fine", "error", full)
		want("level=ERROR msg=\"no disk\" part=disk error=full socket=7", "level=ERROR msg=\"no disk\" part=disk error=broken",
			"level=INFO msg=fine part=disk error=full", "level=INFO msg=fine part=disk error=full")
		time.Sleep(calmFor + time.Second)
		want("level=ERROR msg=\"no disk\" part=disk error=full socket=7 times=999 in=1m0s")
		log.Error("no disk", "error", full)
		want()
		time.Sleep(calmFor)
		want("level=ERROR msg=\"no disk\" part=disk error=full socket=7 times=1 in=1m0s")
		time.Sleep(calmFor)
		want()
		log.Error("no disk", "error", full, "socket", 8)
		want("level=ERROR msg=\"no disk\" part=disk error=full socket=8")
		for i := range 10 * calmKinds { // nor do many kinds of one
			log.Error("odd", "error", fmt.Sprint(i))
		}
		if got := len(out.lines("odd")); got > calmKinds {
			t.Errorf("%d lines of %d kinds", got, calmKinds)
		}
		time.Sleep(3 * calmFor)
	})
}

// A data file that fails every call is a few lines, however many calls there are.
func TestBrokenDiskDoesNotFloodTheLog(t *testing.T) {
	var out logged
	c := testConfig(t)
	if err := c.Validate(nil); err != nil {
		t.Fatal(err)
	}
	g, err := startGateway(c, newLogger(&out, c.Log))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	if err := g.store.Close(); err != nil {
		t.Fatal(err)
	}
	url := "http://" + g.bound["http"].Addr().String()
	const calls = 40
	for range calls {
		r, err := http.Post(url+"/login", "application/json", strings.NewReader(`{"email":"ann@example.org","assertion":"x"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("status %d", r.StatusCode)
		}
		d, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(url, "http")+"/presence", nil)
		if err != nil {
			t.Fatal(err)
		}
		dev := &device{t, d}
		dev.send(map[string]any{"type": "hello", "email": "ann@example.org", "assertion": "x"})
		if f := dev.read(); f.Errno != 91 {
			t.Fatalf("%+v", f)
		}
		d.Close()
	}
	if lines := out.lines("level=ERROR"); len(lines) == 0 || len(lines) > 5 {
		t.Errorf("%d calls were %d lines:\n%s", calls, len(lines), strings.Join(lines, "\n"))
	}
}
