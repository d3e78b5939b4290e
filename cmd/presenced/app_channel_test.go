package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// appFrame is what a test looks at in a frame to an app.
type appFrame struct {
	Result, Status, UID, Device, Unsubscribed string
	Detail                                    string
	Errno                                     int
	QueueSize                                 int `json:"queue_size"`
	Receipt                                   struct{ ID, UID string }
	Message                                   struct {
		UID, Device, ID string
		Data            json.RawMessage
	}
}

// appSocket is an app's side of a WebSocket.
type appSocket struct {
	t *testing.T
	*websocket.Conn
}

// dialAppSocket joins as an app over the WebSocket.
func dialAppSocket(t *testing.T, g *gateway, appid, key string) *appSocket {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+g.addrs()["http"]+"/myapps/"+appid, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	a := &appSocket{t, conn}
	a.say(`{"action":"auth","token":%q}`, key)
	if f := a.next(); f.Result != "OK" {
		t.Fatalf("auth: %+v", f)
	}
	return a
}

func (a *appSocket) say(format string, args ...any) {
	a.t.Helper()
	if err := a.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, format, args...)); err != nil {
		a.t.Fatal(err)
	}
}

func (a *appSocket) next() (f appFrame) {
	a.t.Helper()
	a.SetReadDeadline(time.Now().Add(patience))
	if err := a.ReadJSON(&f); err != nil {
		a.t.Fatal(err)
	}
	return f
}

func (a *appSocket) want(what string, ok func(appFrame) bool) appFrame {
	a.t.Helper()
	f := a.next()
	if !ok(f) {
		a.t.Fatalf("heard %+v, want %s", f, what)
	}
	return f
}

func (a *appSocket) wantStatus(status string) appFrame {
	a.t.Helper()
	return a.want(status, func(f appFrame) bool { return f.Status == status })
}

// TestAppOnBothChannels: a component and a WebSocket of one app hear the same of users and receipts, and each
// message from a device goes to one of them, to the component while there is one.
func TestAppOnBothChannels(t *testing.T) {
	cfg := testConfig(t)
	cfg.Device.Linger = duration("0s")
	g := startTest(t, cfg)
	var app credentials
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example.org")
	var grant struct{ PUID string }
	onData(t, cfg, &grant, "grant", "allow", "ann@example.org", app.AppID)
	socket := dialAppSocket(t, g, app.AppID, app.APIKey)
	comp := dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)
	phone := dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", "phone", "dev")

	online := socket.wantStatus("online")
	comp.until("<presence from='" + grant.PUID + "@localhost/" + online.Device + "' to='chat.example.org'/>")

	// A notification from each; receipts to both.
	socket.say(`{"action":"notify","uid":%q,"message":"from the socket","id":"s1"}`, grant.PUID)
	socket.want("queue_size 1", func(f appFrame) bool { return f.Result == "OK" && f.QueueSize <= 1 })
	phone.next("from the socket")
	socket.want("a receipt", func(f appFrame) bool { return f.Receipt.ID == "s1" && f.Receipt.UID == grant.PUID })
	comp.until("<received xmlns='urn:xmpp:receipts' id='s1'/></message>")
	fmt.Fprintf(comp, "<message from='bot@chat.example.org' to='%s@localhost' id='c1'><body>from the component</body>"+
		"<request xmlns='urn:xmpp:receipts'/></message>", grant.PUID)
	phone.next("from the component")
	comp.until("<received xmlns='urn:xmpp:receipts' id='c1'/></message>")
	socket.want("a receipt", func(f appFrame) bool { return f.Receipt.ID == "c1" })

	// Messages go to the component, and to the socket when it has left.
	phone.send(map[string]any{"type": "send", "app": app.AppID, "id": "m1", "data": map[string]any{"n": 1}})
	comp.until(`id='m1'>.*</message>`)
	fmt.Fprint(comp, "</stream:stream>")
	comp.until("</stream:stream>")
	waitFor(t, "the component has left", func() bool { return len(g.xmpp.Components()) == 0 })
	phone.send(map[string]any{"type": "send", "app": app.AppID, "id": "m2", "data": map[string]any{"n": 2}})
	m := socket.want("m2", func(f appFrame) bool { return f.Message.ID == "m2" })
	if m.Message.UID != grant.PUID || m.Message.Device != online.Device || string(m.Message.Data) != `{"n":2}` {
		t.Errorf("%+v", m.Message)
	}
	socket.say(`{"action":"ack","ids":["m2"]}`)
	socket.want("OK", func(f appFrame) bool { return f.Result == "OK" })

	// A revoke is heard by both.
	comp = dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)
	comp.until("<presence [^>]*/" + online.Device + "' [^>]*>")
	if code, _, errs := cliTest(t, nil, "grant", "revoke", "ann@example.org", app.AppID, "--data", cfg.Data); code != 0 {
		t.Fatal(errs)
	}
	socket.wantStatus("offline")
	socket.want("unsubscribed", func(f appFrame) bool { return f.Unsubscribed == grant.PUID })
	comp.until("type='unavailable'")
	comp.until("type='unsubscribed'")
	phone.Close()
}

// next reads frames up to the one with this notification, and the ping behind it; answers are passed over.
func (d *device) next(message string) {
	d.t.Helper()
	for f := d.read(); len(f.Notifications) == 0 || f.Notifications[0].Message != message; f = d.read() {
		if len(f.Notifications) > 0 {
			d.t.Fatalf("heard %+v, want %q", f, message)
		}
	}
	d.send(struct{}{})
	d.read()
}

// TestComponentAsksWhileASocketIsThere: what a component has asked is answered to a component, also to the next one.
func TestComponentAsksWhileASocketIsThere(t *testing.T) {
	cfg := testConfig(t)
	g := startTest(t, cfg)
	var app credentials
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example.org")
	phone := dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", "phone", "dev")
	phone.send(map[string]any{"status": "online"})
	comp := dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)
	fmt.Fprint(comp, `<presence from='chat.example.org' to='ann\40example.org@localhost' type='subscribe'/>`)
	waitFor(t, "the request is there", func() bool { rs, _ := g.hub.RequestsOf("ann@example.org"); return len(rs) == 1 })
	fmt.Fprint(comp, "</stream:stream>")
	comp.until("</stream:stream>")
	waitFor(t, "the component has left", func() bool { return len(g.xmpp.Components()) == 0 })
	socket := dialAppSocket(t, g, app.AppID, app.APIKey)
	phone.send(map[string]any{"type": "consent", "app": app.AppID, "allow": true})
	online := socket.wantStatus("online") // and nothing of the answer
	if online.UID != "ann@example.org" {
		t.Errorf("she is %q", online.UID)
	}
	socket.say(`{"action":"notify","uid":"ann@example.org","message":"hi"}`)
	socket.want("OK", func(f appFrame) bool { return f.Result == "OK" })
	socket.Close()
	comp = dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)
	comp.until("type='subscribed'")
	comp.until("/" + online.Device + "'")
}

// TestAppAddressServesPagesToo: without an upgrade it is the pages', with one the channel's.
func TestAppAddressServesPagesToo(t *testing.T) {
	g := startTest(t, testConfig(t))
	if code := get(t, "http://"+g.addrs()["http"]+"/myapps/nothing"); code == http.StatusSwitchingProtocols || code >= 500 {
		t.Errorf("a GET is answered %d", code)
	}
	conn, resp, err := websocket.DefaultDialer.Dial("ws://"+g.addrs()["http"]+"/myapps/nothing", nil)
	if err != nil {
		t.Fatal(err, resp)
	}
	conn.Close()
}

// TestStopTellsApps: they are asked to come back, and told that the server goes.
func TestStopTellsApps(t *testing.T) {
	cfg := testConfig(t)
	g := startTest(t, cfg)
	var app credentials
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example.org")
	socket := dialAppSocket(t, g, app.AppID, app.APIKey)
	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop() }()
	var said strings.Builder
	socket.SetReadDeadline(time.Now().Add(patience))
	for {
		_, b, err := socket.ReadMessage()
		if err != nil {
			if !websocket.IsCloseError(err, 4001) {
				t.Error(err)
			}
			break
		}
		said.Write(b)
	}
	wantStopped(t, stopped)
	if s := said.String(); !strings.HasPrefix(s, `{"reconnect":{`) || !strings.Contains(s, `{"result":"KO","errno":51,"error":"going away","retry_after":`) {
		t.Errorf("it said %s", s)
	}
}

// waitFor waits for what another party makes true and announces nowhere.
func waitFor(t *testing.T, what string, true func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !true(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never comes that ", what)
		}
	}
}

// TestRotationOverlaps: the old secrets open both channels until the overlap is over, and not after a rotation
// without one.
func TestRotationOverlaps(t *testing.T) {
	cfg := testConfig(t)
	g := startTest(t, cfg)
	var old, fresh, last credentials
	onData(t, cfg, &old, "app", "add", "Chat", "--component", "chat.example.org", "--conflict", "share")
	staying := dialAppSocket(t, g, old.AppID, old.APIKey)
	onData(t, cfg, &fresh, "app", "rotate", old.AppID, "--overlap", "1h")
	for _, c := range []credentials{old, fresh} {
		dialAppSocket(t, g, c.AppID, c.APIKey)
		dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), c.Component, c.Secret)
	}
	staying.say(`{}`)
	staying.next()
	onData(t, cfg, &last, "app", "rotate", old.AppID)
	staying.want("31", func(f appFrame) bool { return f.Errno == 31 })
	for _, c := range []credentials{old, fresh} {
		conn, _, err := websocket.DefaultDialer.Dial("ws://"+g.addrs()["http"]+"/myapps/"+c.AppID, nil)
		if err != nil {
			t.Fatal(err)
		}
		a := &appSocket{t, conn}
		a.say(`{"key":%q}`, c.APIKey)
		a.want("34", func(f appFrame) bool { return f.Errno == 34 })
		conn.Close()
	}
	dialAppSocket(t, g, last.AppID, last.APIKey).say(`{"action":"notify","uid":"nobody","message":"m"}`)
	waitFor(t, "the refusal is counted", func() bool {
		s, err := g.hub.AppStats(old.AppID)
		return err == nil && s.Refused["errno 60"] == 1 && len(s.Connections) == 1 && s.Connections[0].Address == "127.0.0.1"
	})
}
