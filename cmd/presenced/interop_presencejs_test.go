//go:build interop

package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestInteropPresenceJS runs presence.js, as the gateway serves it, in node's own WebSocket.
func TestInteropPresenceJS(t *testing.T) {
	bin := buildPresenced(t)
	for _, story := range []struct {
		name string
		tell func(*interop)
	}{
		{"the app sees what the page says", pageStatus},
		{"notifications come once and are confirmed", pageNotified},
		{"an ack that was lost is said again", pageRepeats},
		{"an app asks, and the page answers", pageConsents},
		{"a message to the app", pageSends},
		{"the gateway stops and is started again", pageComesBack},
		{"a newer connection replaces it", pageReplaced},
		{"a bad token", pageBadToken},
		{"the network is cut without a word", pageCutOff},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(newInterop(t, bin, library{})) })
	}
}

// page starts friend's device on presence.js; more are options in pairs.
func (w *interop) page(more ...any) *peer {
	w.t.Helper()
	options := map[string]any{
		"module": "http://" + w.gateway.http + "/static/presence.js", "server": "http://" + w.gateway.http,
		"email": friend, "assertion": w.token, "device": "page", "backoff": map[string]any{"base": 20, "cap": 200},
	}
	for i := 0; i+1 < len(more); i += 2 {
		options[more[i].(string)] = more[i+1]
	}
	return startPage(w.t, options)
}

func startPage(t *testing.T, options map[string]any) *peer {
	t.Helper()
	return startPeer(t, "presence.js", interopCommand("node", "--no-warnings", "--experimental-websocket", "presence_device.mjs"), options)
}

// connected waits until the page is, and is seen with this status.
func connected(p *peer, show string) {
	p.t.Helper()
	p.wait(event{Event: "status", Type: "connected", Show: show})
}

// staysAway: with its input closed, the program ends only if presence.js means never to come back.
func staysAway(p *peer) {
	p.t.Helper()
	p.stdin.Close()
	for e := range p.events {
		if e.Event == "status" && e.Type != "closed" {
			p.t.Errorf("it was to stay away: %s", brief(e))
		}
	}
}

// gone wants the app to be told next that a device is not there.
func (a rawApp) gone(w *interop) {
	w.t.Helper()
	if s := a.next(w); s.XMLName.Local != "presence" || s.Type != "unavailable" {
		w.t.Errorf("want a device to be gone, got %+v", s)
	}
}

func pageStatus(w *interop) {
	app := w.rawApp()
	p := w.page()
	connected(p, "online")
	app.presence(w, "")
	p.do(do("status", "status", "unavailable"))
	app.presence(w, "away")
	p.do(do("status", "status", "online"))
	app.presence(w, "")
	p.do(do("idle", "since", 1.7e12))
	app.presence(w, "away")
	p.do(do("idle", "since", nil))
	app.presence(w, "")
	p.do(do("status", "status", "nonsense"))
	p.wait(event{Event: "failed", ID: "status", Frame: wsFrame{Errno: 13}})
	p.do(do("close"))
	app.gone(w)
	p.wait(event{Event: "close", Code: 1000, Type: "final"})
	p.do(do("open"))
	connected(p, "")
	p.do(do("status", "status", "online"))
	app.presence(w, "")
	p.do(do("close"))
	p.wait(event{Event: "close", Type: "final"})
	staysAway(p)
}

func pageNotified(w *interop) {
	app := w.rawApp()
	p := w.page("ack", true)
	app.presence(w, "")
	app.notify(w, "first")
	p.wait(event{Event: "notification", Body: "first", From: appDomain})
	app.receipt(w, "first")
	p.do(do("hold"))
	p.wait(event{Event: "holding"}) // the command and the notification come by different ways
	app.notify(w, "second")
	id := p.wait(event{Event: "notification", Body: "second"}).ID
	w.gateway.kill() // it is not confirmed
	w.gateway = w.again(w.gateway)
	again := p.wait(event{Event: "notification"})
	if again.ID != id || again.Body != "second" {
		w.t.Errorf("want %s again, got %s", id, brief(again))
	}
	app = w.rawApp()
	p.do(do("ack", "id", id))
	app.receipt(w, "second")
	app.notify(w, "third")
	p.next(event{Event: "notification", Body: "third"})
	app.receipt(w, "third")
}

// pageRepeats: what was confirmed, but never heard to be, comes again on the wire and not to the page.
func pageRepeats(w *interop) {
	w.restart("PRESENCED_DEVICE_LINGER=1m") // it comes back before it is missed
	line := newNetwork(w.t, w.gateway.http)
	app := w.rawApp()
	p := w.page("ack", true, "server", "http://"+line.addr())
	app.presence(w, "")
	line.deafen() // the gateway hears nothing more
	app.notify(w, "first")
	p.wait(event{Event: "notification", Body: "first"})
	line.cut()
	app.receipt(w, "first") // it had come again, and was confirmed at once
	app.notify(w, "second")
	for _, e := range p.until(event{Event: "notification", Body: "second"}) {
		if e.Event == "notification" && e.Body != "second" {
			w.t.Errorf("twice: %s", brief(e))
		}
	}
}

func pageConsents(w *interop) {
	app := w.rawApp()
	var token struct{ Token string }
	w.run("", &token, "user", "token", stranger)
	p := w.page("email", stranger, "assertion", token.Token)
	connected(p, "online")
	fmt.Fprintf(app.conn, `<presence type='subscribe' from='%s' to='carol\40example.org@localhost' id='s1'><status>to ring you</status></presence>`, appDomain)
	p.wait(event{Event: "request", From: "chat", Body: "to ring you"})
	p.do(do("consent", "app", "chat", "allow", true, "options", map[string]any{"notify": false}))
	p.wait(event{Event: "done", ID: "consent"})
	if s := app.next(w); s.Type != "subscribed" {
		w.t.Errorf("want subscribed, got %+v", s)
	}
	app.presence(w, "")
	p.do(do("consent", "app", "nobody", "allow", true))
	p.wait(event{Event: "failed", ID: "consent", Frame: wsFrame{Errno: 60}})
}

func pageSends(w *interop) {
	app := w.rawApp()
	p := w.page()
	app.presence(w, "")
	p.do(do("send", "app", "chat", "data", map[string]any{"text": "On my way"}))
	p.wait(event{Event: "done", ID: "send"})
	if s := app.next(w); s.XMLName.Local != "message" {
		w.t.Errorf("want the message, got %+v", s)
	}
	p.do(do("send", "app", "other", "data", map[string]any{}))
	p.wait(event{Event: "failed", ID: "send", Frame: wsFrame{Errno: 60}})
}

func pageComesBack(w *interop) {
	p := w.page()
	connected(p, "online")
	w.gateway.stop()
	p.wait(event{Event: "reconnect"})
	p.wait(event{Event: "close", Type: "retry"})
	p.do(do("send", "app", "chat", "data", map[string]any{}))
	p.wait(event{Event: "failed", ID: "send"}) // and does not wait for ever
	p.do(do("status", "status", "unavailable"))
	w.gateway = w.again(w.gateway)
	connected(p, "unavailable") // what was wanted meanwhile
	w.gateway.kill()
	p.wait(event{Event: "close", Code: 1006, Type: "retry"})
	w.gateway = w.again(w.gateway)
	connected(p, "unavailable")
	p.do(do("turns"))
	if n := p.wait(event{Event: "turns"}).Code; n < 3 {
		w.t.Errorf("the assertion was asked for %d times in three connections", n)
	}
}

func pageReplaced(w *interop) {
	older := w.page()
	connected(older, "online")
	newer := w.page()
	older.wait(event{Event: "refused", Frame: wsFrame{Errno: 50}})
	older.wait(event{Event: "close", Code: 4500, Type: "final"})
	staysAway(older)
	newer.do(do("status", "status", "unavailable"))
	newer.wait(event{Event: "done", ID: "status"})
}

func pageBadToken(w *interop) {
	p := w.page("assertion", "not the token")
	p.wait(event{Event: "refused", Frame: wsFrame{Errno: 34, Error: "Invalid assertion"}})
	p.wait(event{Event: "close", Code: 4534, Type: "final"})
	staysAway(p)
}

// pageCutOff: nothing closes the connection, nothing comes through it any more.
func pageCutOff(w *interop) {
	w.restart("PRESENCED_DEVICE_HEARTBEAT_MIN=1s", "PRESENCED_DEVICE_LINGER=1m")
	line := newNetwork(w.t, w.gateway.http)
	app := w.rawApp()
	p := w.page("server", "ws://"+line.addr(), "heartbeat", 1)
	connected(p, "online")
	app.presence(w, "")
	line.freeze()
	p.wait(event{Event: "close", Code: 1006, Type: "retry"})
	line.thaw()
	connected(p, "online")
	p.do(do("turns"))
	p.wait(event{Event: "turns", Code: 1}) // it was resumed: its assertion was not asked for again
	p.do(do("status", "status", "unavailable"))
	app.presence(w, "away") // and it saw nothing between
}

// TestPresenceJSHonoursReconnect: it comes back when it was told and not before, whatever the socket does.
func TestPresenceJSHonoursReconnect(t *testing.T) {
	const after = 500 * time.Millisecond
	came, asked := make(chan time.Time, 8), make(chan time.Time, 8)
	serial := 0 // of one connection at a time
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- time.Now()
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		var hello struct{ ID int }
		ws.ReadJSON(&hello)
		ws.WriteJSON(map[string]any{"result": "OK", "type": "hello", "id": hello.ID, "heartbeat": 60})
		asked <- time.Now()
		ws.WriteJSON(map[string]any{"reconnect": map[string]any{"after": after.Seconds(), "reason": "drain"}})
		if serial++; serial == 1 { // this one ends before the time, the next ones would stay
			ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4001, ""), time.Now().Add(patience))
		}
		ws.ReadMessage()
	}))
	defer server.Close()
	p := startPage(t, map[string]any{"module": presenceJS(t), "server": server.URL, "email": friend,
		"assertion": "x", "backoff": map[string]any{"base": 1, "cap": 1}})
	<-came
	for range 2 {
		p.wait(event{Event: "reconnect"})
		comesBack(t, came, asked, after)
	}
	p.kill()
}

// TestPresenceJSHonoursRetryAfter: a device that is not let in comes back when it was told, not before.
func TestPresenceJSHonoursRetryAfter(t *testing.T) {
	const after = 500 * time.Millisecond
	came, asked := make(chan time.Time, 8), make(chan time.Time, 8)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- time.Now()
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		var hello struct{ ID int }
		ws.ReadJSON(&hello)
		asked <- time.Now()
		ws.WriteJSON(map[string]any{"result": "KO", "errno": 40, "error": "slow down", "type": "hello", "id": hello.ID,
			"retry_after": after.Seconds()})
		ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4029, ""), time.Now().Add(patience))
		ws.ReadMessage()
	}))
	defer server.Close()
	p := startPage(t, map[string]any{"module": presenceJS(t), "server": server.URL, "email": friend,
		"assertion": "x", "backoff": map[string]any{"base": 1, "cap": 1}})
	<-came
	for range 2 {
		comesBack(t, came, asked, after)
	}
	p.kill()
}

// comesBack waits until the page has come again, after the time that it was asked to wait.
func comesBack(t *testing.T, came, asked <-chan time.Time, after time.Duration) {
	t.Helper()
	select {
	case at := <-came:
		if waited := at.Sub(<-asked); waited < after-5*time.Millisecond { // node rounds its timers
			t.Errorf("it came back after %v, not %v", waited, after)
		}
	case <-time.After(patience):
		t.Fatal("it does not come back")
	}
}

// presenceJS is an address of the module.
func presenceJS(t *testing.T) string {
	files := httptest.NewServer(http.FileServer(http.Dir("../../web/static")))
	t.Cleanup(files.Close)
	return files.URL + "/presence.js"
}

// network is a proxy that stands for one.
type network struct {
	t  *testing.T
	ln net.Listener
	to string

	mu    sync.Mutex
	conns []net.Conn    // both ends; guarded by mu, as the next two
	deaf  bool          // what clients say is lost, on the connections there are
	ice   chan struct{} // closed when what is frozen flows; nil: nothing is
	work  sync.WaitGroup
}

func newNetwork(t *testing.T, to string) *network {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &network{t: t, ln: ln, to: to}
	l.work.Add(1)
	go l.accept()
	t.Cleanup(func() {
		ln.Close()
		l.thaw()
		l.cut()
		l.work.Wait()
	})
	return l
}

func (l *network) addr() string { return l.ln.Addr().String() }

func (l *network) accept() {
	defer l.work.Done()
	for {
		in, err := l.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", l.to)
		if err != nil {
			in.Close()
			continue
		}
		lost := new(bool) // guarded by l.mu
		l.mu.Lock()
		l.conns = append(l.conns, in, out)
		l.mu.Unlock()
		l.work.Add(2)
		go l.carry(out, in, lost)
		go l.carry(in, out, nil)
	}
}

// carry copies until either side ends.
func (l *network) carry(to, from net.Conn, lost *bool) {
	defer l.work.Done()
	defer to.Close()
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		ice := l.ice
		if lost != nil && l.deaf {
			*lost = true
		}
		drop := lost != nil && *lost
		l.mu.Unlock()
		if ice != nil {
			<-ice
			return // a connection that was frozen is dead
		}
		if drop {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (l *network) deafen() { l.set(func() { l.deaf = true }) }
func (l *network) freeze() { l.set(func() { l.ice = make(chan struct{}) }) }
func (l *network) thaw() {
	l.set(func() {
		if l.ice != nil {
			close(l.ice)
		}
		l.ice = nil
	})
}

// cut ends all connections; what comes from here on flows.
func (l *network) cut() {
	l.set(func() {
		l.deaf = false
		for _, c := range l.conns {
			c.Close()
		}
		l.conns = nil
	})
}

func (l *network) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}
