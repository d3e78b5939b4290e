//go:build interop

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// interopDir holds the foreign programs.
var interopDir = filepath.Join("..", "..", "testdata", "interop")

// peer is a foreign program that is driven by commands, and tells what happens to it, in JSON lines.
type peer struct {
	t      *testing.T
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events chan event // closed at the end of its output
	stderr tail
	closed chan struct{} // when its standard error has ended
}

// event is one line that a peer prints; which fields count depends on Event.
type event struct {
	Event     string   `json:"event"`
	From      string   `json:"from"`
	To        string   `json:"to"`
	ID        string   `json:"id"`
	Type      string   `json:"type"`
	Show      string   `json:"show"`
	Delay     string   `json:"delay"` // the stamp
	Stanza    string   `json:"stanza"`
	Body      string   `json:"body"`
	Condition string   `json:"condition"`
	Features  []string `json:"features"`
	Code      int      `json:"code"`   // of a WebSocket's close
	Status    int      `json:"status"` // of an HTTP answer
	Frame     wsFrame  `json:"frame"`

	Form  map[string][]string `json:"form"`  // of a command's answer: values, or choices, by field
	Notes []string            `json:"notes"` // "type: text"
}

// wsFrame is what a device is sent, or an app over the WebSocket.
type wsFrame struct {
	Action, Status, UID, Since, Unsubscribed string
	QueueSize                                int `json:"queue_size"`
	Receipt                                  struct{ ID, UID string }
	Message                                  struct{ UID, Device, ID, Time string }

	Result, Type, Session, Device string
	Heartbeat                     int
	Time                          time.Time
	PushKey                       string `json:"push_key"`
	Errno                         int
	Error                         string
	Notifications                 []struct{ ID, App, Source, Message, Action, Time string }
	Requests                      []struct{ App, Name, Purpose string }
	Reconnect                     *struct{ After float64 }
}

// startPeer runs a program; config is the first line it reads.
func startPeer(t *testing.T, name string, cmd *exec.Cmd, config any) *peer {
	t.Helper()
	p := &peer{t: t, name: name, cmd: cmd, events: make(chan event, 256), closed: make(chan struct{})}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go p.followEvents(stdout)
	go p.followErrors(stderr)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s wrote on standard error:\n%s", name, p.stderr.String())
		}
	})
	p.do(config)
	return p
}

func (p *peer) followEvents(r io.Reader) {
	defer close(p.events)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			e = event{Event: "not an event: " + lines.Text()}
		}
		p.events <- e
	}
}

func (p *peer) followErrors(r io.Reader) {
	defer close(p.closed)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		p.stderr.add(lines.Text())
	}
}

// do sends a command.
func (p *peer) do(command any) {
	p.t.Helper()
	line, err := json.Marshal(command)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		p.t.Fatalf("%s does not read any more: %v", p.name, err)
	}
}

// kill ends the program at once.
func (p *peer) kill() {
	p.cmd.Process.Kill() // the only error is that it has ended
	for range p.events {
	}
	<-p.closed
	p.cmd.Wait()
}

// until collects events up to the first that is wanted: it has every field that want has.
func (p *peer) until(want event) []event {
	p.t.Helper()
	var got []event
	limit := time.After(patience)
	for {
		select {
		case e, ok := <-p.events:
			if !ok {
				p.t.Fatalf("%s ended and never told %s, but:\n%s", p.name, brief(want), briefs(got))
			}
			got = append(got, e)
			if e.has(want) {
				return got
			}
		case <-limit:
			p.t.Fatalf("%s never told %s, but:\n%s", p.name, brief(want), briefs(got))
		}
	}
}

// wait is until, for who wants nothing but the event itself.
func (p *peer) wait(want event) event {
	p.t.Helper()
	got := p.until(want)
	return got[len(got)-1]
}

// next returns the next event, which must be the wanted one. That the gateway asked whether somebody is there is no
// event unless it is wanted: it does so by the clock.
func (p *peer) next(want event) event {
	p.t.Helper()
	got := p.until(want)
	last := got[len(got)-1]
	first := slices.DeleteFunc(got[:len(got)-1], func(e event) bool { return e.Event == "pinged" })
	if len(first) > 0 {
		p.t.Errorf("%s was to tell %s, but told first:\n%s", p.name, brief(want), briefs(first))
	}
	return last
}

// has reports whether e has every field of want that is not zero.
func (e event) has(want event) bool { return covers(reflect.ValueOf(e), reflect.ValueOf(want)) }

func covers(got, want reflect.Value) bool {
	for i := range want.NumField() {
		g, w := got.Field(i), want.Field(i)
		switch {
		case w.IsZero():
		case w.Kind() == reflect.Struct && w.Type() != reflect.TypeFor[time.Time]():
			if !covers(g, w) {
				return false
			}
		case !reflect.DeepEqual(g.Interface(), w.Interface()):
			return false
		}
	}
	return true
}

// brief prints an event without its empty fields.
func brief(e event) string {
	b, _ := json.Marshal(e)
	var fields map[string]any
	json.Unmarshal(b, &fields)
	var words []string
	for _, name := range []string{"event", "stanza", "from", "to", "id", "type", "show", "delay", "body", "condition", "features", "code", "status"} {
		if v := fields[name]; v != nil && v != "" && v != 0.0 {
			words = append(words, fmt.Sprintf("%s=%v", name, v))
		}
	}
	if e.Form != nil || e.Notes != nil {
		words = append(words, fmt.Sprintf("form=%v notes=%q", e.Form, e.Notes))
	}
	if !reflect.ValueOf(e.Frame).IsZero() {
		words = append(words, fmt.Sprintf("frame=%+v", e.Frame))
	}
	return strings.Join(words, " ")
}

func briefs(list []event) string {
	var lines []string
	for _, e := range list {
		lines = append(lines, "    "+brief(e))
	}
	return strings.Join(lines, "\n")
}

// again starts a gateway on the addresses that c had.
func (s *site) again(c *child) *child {
	s.t.Helper()
	return s.serve("--http", c.http, "--xmpp", c.xmpp)
}

// componentConfig is the first line for either component program.
func componentConfig(addr, domain, secret string, reconnect bool) map[string]any {
	host, port, _ := net.SplitHostPort(addr)
	return map[string]any{"jid": domain, "secret": secret, "host": host, "port": json.Number(port), "reconnect": reconnect}
}
