package wsbridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"presenced/identity"
	"presenced/presence"
	"presenced/store"
	"presenced/wsbridge"
)

const (
	patience = 60 * time.Second // for something that must come; never waited for when all is well
	linger   = 10 * time.Second // of the hub's clock
	ann      = "ann@example.org"
)

// clock is the hub's time; it moves only when told.
type clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// fixture is a bridge on a loopback socket, with a real hub on a real store.
type fixture struct {
	t      testing.TB
	clock  *clock
	store  *sulky
	hub    *presence.Hub
	bridge *wsbridge.Bridge
	server *httptest.Server
	token  identity.Verifier
}

// sulky is the store, which may refuse to tell what waits.
type sulky struct {
	*store.Store
	broken  atomic.Bool
	refused atomic.Int32
}

func (s *sulky) Pending(email, device string, after uint64, max int) ([]presence.Notification, error) {
	if s.broken.Load() {
		s.refused.Add(1)
		return nil, errors.New("not today")
	}
	return s.Store.Pending(email, device, after, max)
}

// newFixture starts one; change may set what the test needs.
func newFixture(t testing.TB, change ...func(*wsbridge.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: &clock{now: time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)}}
	limits := presence.DefaultLimits()
	limits.SocketsPerUser = 3
	limits.NotificationBytes = 20000
	s, err := store.Open(filepath.Join(t.TempDir(), "data"), store.Options{Now: f.clock.Now, Limits: limits})
	f.must(err)
	f.store = &sulky{Store: s}
	f.hub, err = presence.New(presence.Config{Store: f.store, Now: f.clock.Now, Key: f.store.Key(), Limits: limits, Linger: linger})
	f.must(err)
	f.token = identity.NewToken(f.store, f.clock.Now)
	c := wsbridge.Config{Hub: f.hub, Verifier: identity.Chain(f.token, identity.Dev{}), Now: f.clock.Now}
	for _, change := range change {
		change(&c)
	}
	f.bridge = wsbridge.New(c)
	mux := http.NewServeMux()
	mux.Handle("/", f.bridge)
	mux.HandleFunc("/myapps/{appid}", f.bridge.ServeApp)
	f.server = httptest.NewServer(mux)
	t.Cleanup(f.close)
	return f
}

func (f *fixture) close() {
	f.hub.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.bridge.Shutdown(ctx); err != nil {
		f.t.Error("shutdown:", err)
	}
	f.server.Close()
	if s := f.bridge.Stats(); s.Sockets != 0 || s.Devices != 0 || s.Apps != 0 {
		f.t.Errorf("%d sockets, %d devices and %d apps are left", s.Sockets, s.Devices, s.Apps)
	}
	if err := f.store.Close(); err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// pass lets the hub's time go by.
func (f *fixture) pass(d time.Duration) { f.hub.Advance(f.clock.add(d)) }

// app registers an app that ann and bob allow, and links it.
func (f *fixture) app(id string) *service {
	f.t.Helper()
	f.must(f.hub.PutApp(presence.App{ID: id, Name: id, Component: id + ".example", Secret: "s", APIKey: "k", Conflict: presence.Replace}))
	s := &service{f: f, puids: map[string]string{}}
	for _, email := range []string{ann, "bob@example.org"} {
		g, err := f.hub.Allow(presence.Grant{Email: email, App: id, Notify: true}, presence.ByAdmin)
		f.must(err)
		s.puids[email] = g.PUID
	}
	var err error
	s.link, err = f.hub.Link(id, presence.ComponentLink)
	f.must(err)
	return s
}

// service is an app on the other side of the hub.
type service struct {
	f       *fixture
	link    *presence.Link
	puids   map[string]string // by e-mail
	pending []presence.Update
	last    presence.Update // what next returned
}

// next waits for the next thing the app is told: a status, "receipt REF" or "ID DATA".
func (s *service) next() string {
	s.f.t.Helper()
	for len(s.pending) == 0 {
		var buf [8]presence.Update
		if n := s.link.Take(buf[:]); n > 0 {
			s.pending = append(s.pending, buf[:n]...)
			break
		}
		select {
		case <-s.link.Wake():
		case <-time.After(patience):
			s.f.t.Fatal("the app is told nothing")
		}
	}
	u := s.pending[0]
	s.pending, s.last = s.pending[1:], u
	switch u.Kind {
	case presence.Receipt:
		return "receipt " + u.Ref
	case presence.FromDevice:
		return u.Ref + " " + string(u.Data)
	case presence.Presence:
		return u.Status.String()
	}
	return s.next() // answers to requests belong to the core's tests
}

func (s *service) expect(want ...string) {
	s.f.t.Helper()
	for _, w := range want {
		if got := s.next(); got != w {
			s.f.t.Fatalf("the app was told %q, want %q", got, w)
		}
	}
}

// quiet checks that the app has been told nothing more.
func (s *service) quiet() {
	s.f.t.Helper()
	var buf [8]presence.Update
	if n := s.link.Take(buf[:]); n+len(s.pending) > 0 {
		s.f.t.Fatalf("the app was told %+v", append(s.pending, buf[:n]...))
	}
}

// notify sends ann a notification and waits until it is accepted.
func (s *service) notify(ref, text string) {
	s.send(ann, presence.Message{Ref: ref, Message: text, TTL: -1})
}

func (s *service) send(email string, m presence.Message) {
	s.f.t.Helper()
	m.Receipt, m.From = true, "bot@chat.example"
	d, err := s.link.Notify(presence.Peer{PUID: s.puids[email]}, m)
	s.f.must(err)
	s.f.must(d.Wait())
}

// device is a client. It reads all the time, and answers pings unless told not to.
type device struct {
	t      testing.TB
	ws     *websocket.Conn
	frames chan string // closed when the socket ends
	pings  chan string // payloads, as far as there is room
	end    error       // why; to be read after frames is closed
	silent bool        // immutable: it answers no ping
	freeze int         // owned by read: after so many frames it reads no more; 0: it reads on
	gone   chan struct{}
	drop   func() // cuts the connection without a word
	path   string // immutable; "": a device's
}

type option func(*device, *websocket.Dialer, http.Header)

func silent(d *device, _ *websocket.Dialer, _ http.Header) { d.silent = true }

func header(name, value string) option {
	return func(_ *device, _ *websocket.Dialer, h http.Header) { h.Add(name, value) }
}

func (f *fixture) url() string { return "ws" + strings.TrimPrefix(f.server.URL, "http") }

// dial connects a device that has not said anything yet.
func (f *fixture) dial(options ...option) *device {
	f.t.Helper()
	d := &device{t: f.t, frames: make(chan string, 1024), pings: make(chan string, 1024), gone: make(chan struct{})}
	h := http.Header{}
	var dialer websocket.Dialer
	for _, o := range options {
		o(d, &dialer, h)
	}
	ws, _, err := dialer.Dial(f.url()+d.path, h)
	f.must(err)
	d.ws = ws
	ws.SetPingHandler(d.onPing)
	go d.read()
	d.drop = sync.OnceFunc(d.cut)
	f.t.Cleanup(d.drop)
	return d
}

func (d *device) onPing(payload string) error {
	select {
	case d.pings <- payload:
	default:
	}
	if d.silent {
		return nil
	}
	return d.ws.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(patience))
}

func (d *device) read() {
	defer close(d.frames)
	for {
		_, p, err := d.ws.ReadMessage()
		if err != nil {
			d.end = err
			d.ws.Close()
			return
		}
		d.frames <- string(p)
		if d.freeze--; d.freeze == 0 {
			<-d.gone
		}
	}
}

func (d *device) cut() {
	close(d.gone)
	d.ws.NetConn().Close()
	for range d.frames {
	}
}

func (d *device) say(frames ...string) {
	d.t.Helper()
	for _, frame := range frames {
		if err := d.ws.WriteMessage(websocket.TextMessage, []byte(frame)); err != nil {
			d.t.Fatal(err)
		}
	}
}

// hear waits for the next frame.
func (d *device) hear() string {
	d.t.Helper()
	select {
	case frame, ok := <-d.frames:
		if !ok {
			d.t.Fatal("the socket has ended: ", d.end)
		}
		return frame
	case <-time.After(patience):
		d.t.Fatal("no frame comes")
		return ""
	}
}

// expect waits for these frames.
func (d *device) expect(want ...string) {
	d.t.Helper()
	for _, w := range want {
		if got := d.hear(); got != w {
			d.t.Fatalf("heard %s, want %s", got, w)
		}
	}
}

// ends waits for the socket's end, with nothing said before, and checks the close code.
func (d *device) ends(code int) {
	d.t.Helper()
	select {
	case frame, ok := <-d.frames:
		if ok {
			d.t.Fatalf("heard %s, want the end with %d", frame, code)
		}
	case <-time.After(patience):
		d.t.Fatal("the socket does not end")
	}
	var c *websocket.CloseError
	if !errors.As(d.end, &c) || c.Code != code {
		d.t.Fatalf("ended with %v, want %d", d.end, code)
	}
}

// online connects a device of ann that says it is online.
func (f *fixture) online(name string, options ...option) *device {
	f.t.Helper()
	d := f.dial(options...)
	d.say(`{"email":"` + ann + `","assertion":"dev","status":"online","device":"` + name + `"}`)
	d.expect(`{"result":"OK"}`)
	return d
}

const okay = `{"result":"OK"}`

// item is what a device hears of a notification.
type item struct {
	Source, Message, Action, ID, App, Time string
	Data                                   json.RawMessage
	Priority                               string
	CollapseKey                            string `json:"collapse_key"`
}

// notifications waits for a frame of notifications.
func (d *device) notifications() []item {
	d.t.Helper()
	frame := d.hear()
	var n struct{ Notifications []item }
	if err := json.Unmarshal([]byte(frame), &n); err != nil || len(n.Notifications) == 0 {
		d.t.Fatalf("heard %s, want notifications", frame)
	}
	return n.Notifications
}

// texts are the messages of the next n notifications, in however many frames they come.
func (d *device) texts(n int) (texts []string) {
	d.t.Helper()
	for len(texts) < n {
		for _, i := range d.notifications() {
			texts = append(texts, i.Message)
		}
	}
	return texts
}

// until waits for what a concurrent party makes true and announces nowhere.
func (f *fixture) until(what string, true func() bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); !true(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatal("it never comes that ", what)
		}
	}
}
