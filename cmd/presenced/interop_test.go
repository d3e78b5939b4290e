//go:build interop

package main

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The stories of this file have foreign programs on both sides of a real gateway: an app on one of
// six libraries, and a device on ws. testdata/interop/README.md says how to run them.

func TestInteropComponents(t *testing.T) {
	needPeers(t)
	bin := buildPresenced(t)
	for _, lib := range libraries {
		t.Run(lib.name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			lib.prepare(t)
			for _, story := range []struct {
				name string
				tell func(*interop)
			}{
				{"presence follows the device", presenceFollows},
				{"a snapshot with every connection", snapshots},
				{"a probe is answered", probes},
				{"subscribe and unsubscribe", subscribes},
				{"a notification reaches the connected device", notifiesOnline},
				{"a notification waits for the device", notifiesOffline},
				{"strangers are all the same", strangers},
				{"the app asks, and she answers on her device", consents},
				{"a message from the device reaches the app", upstream},
				{"pings go both ways", pings},
				{"the app is killed and comes back", appKilled},
				{"the gateway is killed and comes back", gatewayKilled},
				{"the gateway stops and says so", gatewayStops},
				{"a newer connection replaces the older", conflict},
				{"a wrong secret is refused", wrongSecret},
			} {
				t.Run(story.name, func(t *testing.T) { story.tell(newInterop(t, bin, lib)) })
			}
		})
	}
}

func TestInteropDevice(t *testing.T) {
	needPeers(t)
	bin := buildPresenced(t)
	for _, story := range []struct {
		name string
		tell func(*interop)
	}{
		{"hello, and acks confirm", deviceAcks},
		{"without acks the pong confirms", devicePongs},
		{"a newer connection replaces the older", deviceReplaced},
		{"a bad token is refused", deviceBadToken},
		{"the first frame must identify", deviceSilent},
		{"a lost socket is no goodbye", deviceReturns},
		{"heartbeats, and frames that are refused", deviceFrames},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(newInterop(t, bin, library{})) })
	}
}

// TestInteropAppSocket has ws on both sides: an app on /myapps/APPID, and a device.
func TestInteropAppSocket(t *testing.T) {
	needPeers(t)
	bin := buildPresenced(t)
	for _, story := range []struct {
		name string
		tell func(*interop)
	}{
		{"a user comes, is notified, writes and revokes", appSocketWalk},
		{"a wrong key and an unknown app are the same", appSocketWrongKey},
		{"a newer connection replaces the older", appSocketReplaced},
		{"the gateway stops and comes back", appSocketReturns},
	} {
		t.Run(story.name, func(t *testing.T) { story.tell(newInterop(t, bin, library{})) })
	}
}

// appSocket is an app on ws that has shown its key, or key in place of it.
func (w *interop) appSocket(appid, key string) *peer {
	w.t.Helper()
	a := startPeer(w.t, "ws", interopCommand("node", "ws_device.js"), map[string]any{
		"url": "ws://" + w.gateway.http + "/myapps/" + appid, "hello": map[string]any{"action": "auth", "token": key}, "reconnect": true})
	a.next(event{Event: "open"})
	return a
}

func ok(action string) event {
	return event{Event: "frame", Frame: wsFrame{Result: "OK", Action: action}}
}

func appSocketWalk(w *interop) {
	uid, _, _ := strings.Cut(w.address, "@")
	app := w.appSocket("chat", w.key)
	app.next(ok("auth"))
	phone := w.device("phone", "ack", true)
	online := app.next(event{Event: "frame", Frame: wsFrame{Status: "online", UID: uid}})
	app.do(send(map[string]any{"action": "notify", "uid": uid, "source": "bob", "message": "Dinner?", "url": "https://example.org", "id": "n1"}))
	app.next(event{Event: "frame", Frame: wsFrame{Result: "OK", QueueSize: 1}})
	id := notified(phone, "Dinner?")
	phone.do(send(map[string]any{"type": "ack", "ids": []string{id}}))
	app.next(event{Event: "frame", Frame: wsFrame{Receipt: struct{ ID, UID string }{"n1", uid}}})
	phone.do(send(map[string]any{"type": "send", "app": "chat", "id": "u1", "data": map[string]any{"text": "yes"}}))
	m := app.next(event{Event: "frame"}).Frame.Message
	if m.ID != "u1" || m.UID != uid || m.Device != online.Frame.Device || m.Device == "" {
		w.t.Errorf("%+v", m)
	}
	app.do(send(map[string]any{"action": "ack", "ids": []string{"u1"}}))
	app.next(ok("ack"))
	w.run("", nil, "grant", "revoke", friend, "chat")
	app.next(event{Event: "frame", Frame: wsFrame{Status: "offline", UID: uid}})
	app.next(event{Event: "frame", Frame: wsFrame{Unsubscribed: uid}})
	app.next(event{Event: "pinged"}) // whether it has arrived
	app.do(send(map[string]any{"action": "notify", "uid": uid, "message": "still there?"}))
	app.next(event{Event: "frame", Frame: wsFrame{Result: "KO", Errno: 60}})
}

func appSocketWrongKey(w *interop) {
	for _, appid := range []string{"chat", "nobody"} {
		app := w.appSocket(appid, "wrong")
		app.next(event{Event: "frame", Frame: wsFrame{Result: "KO", Errno: 34, Action: "auth"}})
		app.next(event{Event: "close", Code: 4534})
	}
}

func appSocketReplaced(w *interop) {
	first := w.appSocket("chat", w.key)
	first.next(ok("auth"))
	second := w.appSocket("chat", w.key)
	second.next(ok("auth"))
	first.next(event{Event: "frame", Frame: wsFrame{Result: "KO", Errno: 50}})
	first.next(event{Event: "close", Code: 4500})
}

func appSocketReturns(w *interop) {
	app := w.appSocket("chat", w.key)
	app.next(ok("auth"))
	w.gateway.stop()
	app.wait(event{Event: "frame", Frame: wsFrame{Result: "KO", Errno: 51}})
	app.wait(event{Event: "close", Code: 4001})
	w.gateway = w.site.serve("--http", w.gateway.http, "--xmpp", w.gateway.xmpp)
	app.wait(ok("auth"))
}

const (
	appDomain = "chat.example"
	friend    = "ann@example.org"   // allowed the app
	stranger  = "carol@example.org" // is a user, and did not
)

// pingsOften is for stories of pings: so often a component is asked, and so long it has for the answer.
const pingsOften = "PRESENCED_XMPP_PING_INTERVAL=3s"

// interop is one story's world: a gateway, an app that friend allowed, and a token for each device.
type interop struct {
	t *testing.T
	*site
	gateway *child
	lib     library
	secret  string
	key     string // of the app
	token   string // of friend
	address string // under which the app knows friend
}

func newInterop(t *testing.T, bin string, lib library) *interop {
	s := newSite(t, bin, "PRESENCED_DEVICE_LINGER=300ms", "PRESENCED_SHUTDOWN_DRAIN=300ms")
	w := &interop{t: t, site: s, lib: lib}
	var app struct {
		AppID, Secret string
		APIKey        string `json:"api_key"`
	}
	s.run("", &app, "app", "add", "Chat", "--component", appDomain)
	w.gateway = s.serve() // the rest goes through the running gateway
	var token struct{ Token string }
	s.run("", &token, "user", "token", friend)
	s.run("", nil, "user", "token", stranger)
	var grant struct{ Address string }
	s.run("", &grant, "grant", "allow", friend, app.AppID)
	w.secret, w.key, w.token, w.address = app.Secret, app.APIKey, token.Token, grant.Address
	return w
}

// restart starts the gateway anew with more in its environment, before anybody is connected.
func (w *interop) restart(env ...string) {
	w.t.Helper()
	w.gateway.stop()
	w.env = append(w.env, env...)
	w.gateway = w.serve()
}

// app starts the foreign component and waits until it is connected.
func (w *interop) app() *peer {
	w.t.Helper()
	a := w.startApp(w.secret, true)
	a.next(event{Event: "connected"})
	return a
}

func (w *interop) startApp(secret string, reconnect bool) *peer {
	w.t.Helper()
	return startPeer(w.t, w.lib.name, w.lib.command(), componentConfig(w.gateway.xmpp, appDomain, secret, reconnect))
}

// hello is the frame that identifies friend's device, with more fields in pairs.
func (w *interop) hello(device string, more ...any) map[string]any {
	h := map[string]any{"type": "hello", "email": friend, "assertion": w.token, "device": device}
	for i := 0; i+1 < len(more); i += 2 {
		h[more[i].(string)] = more[i+1]
	}
	return h
}

// start runs a foreign device that sends hello (nil: nothing) when it is connected.
func (w *interop) start(hello map[string]any, reconnect bool) *peer {
	w.t.Helper()
	d := startPeer(w.t, "ws", interopCommand("node", "ws_device.js"), map[string]any{
		"url": "ws://" + w.gateway.http + "/presence", "hello": hello, "reconnect": reconnect})
	d.next(event{Event: "open"})
	return d
}

// device is friend's device, online.
func (w *interop) device(id string, more ...any) *peer {
	w.t.Helper()
	d := w.start(w.hello(id, append([]any{"status", "online"}, more...)...), true)
	d.next(event{Event: "frame", Frame: wsFrame{Result: "OK"}})
	return d
}

func status(s string) map[string]any { return send(map[string]any{"status": s}) }

func send(frame map[string]any) map[string]any { return map[string]any{"do": "send", "frame": frame} }

func do(what string, more ...any) map[string]any {
	c := map[string]any{"do": what}
	for i := 0; i+1 < len(more); i += 2 {
		c[more[i].(string)] = more[i+1]
	}
	return c
}

// quiet asks the gateway for a sign of life and wants nothing else to be told before it.
func quiet(p *peer) {
	p.t.Helper()
	p.do(do("ping", "to", "localhost", "id", "quiet"))
	for _, e := range p.until(event{Event: "result", ID: "quiet"}) {
		if e.Event != "pinged" && e.ID != "quiet" {
			p.t.Errorf("%s: unexpected %s", p.name, brief(e))
		}
	}
}

// notified waits for one notification on a device and returns its id.
func notified(d *peer, message string) string {
	d.t.Helper()
	for {
		e := d.wait(event{Event: "frame"})
		if n := e.Frame.Notifications; len(n) > 0 {
			if len(n) != 1 || n[0].Message != message {
				d.t.Errorf("the device was to get %q, but got %s", message, brief(e))
			}
			return n[0].ID
		}
	}
}

// online is the presence of friend's device; its tag is checked by the one who asks.
func (w *interop) online(e event) event {
	w.t.Helper()
	if !strings.HasPrefix(e.From, w.address+"/") || e.Type != "" || e.Show != "" {
		w.t.Errorf("want %s/TAG online, got %s", w.address, brief(e))
	}
	return e
}

func presenceFollows(w *interop) {
	app := w.app()
	quiet(app)
	d := w.device("phone")
	e := w.online(app.next(event{Event: "presence"}))
	if e.To != appDomain || e.Delay != "" {
		w.t.Errorf("news to another address, or delayed: %s", brief(e))
	}
	if strings.Contains(e.From, "phone") || strings.Contains(e.From, "ann") {
		w.t.Errorf("the address tells who it is: %s", e.From)
	}
	d.do(status("unavailable"))
	app.next(event{Event: "presence", From: e.From, Show: "away"})
	d.do(status("online"))
	w.online(app.next(event{Event: "presence", From: e.From}))
	d.do(status("offline"))
	app.next(event{Event: "presence", From: e.From, Type: "unavailable"})
	d.do(status("online"))
	w.online(app.next(event{Event: "presence", From: e.From}))
	d.kill() // no goodbye: the linger ends it
	app.next(event{Event: "presence", From: e.From, Type: "unavailable"})
	quiet(app)
}

func snapshots(w *interop) {
	w.device("phone")
	tablet := w.device("tablet")
	tablet.do(status("unavailable"))
	tablet.wait(event{Event: "frame", Frame: wsFrame{Result: "OK"}})

	app := w.app()
	tags := map[string]string{}
	for range 2 {
		e := app.next(event{Event: "presence"})
		tags[e.From] = e.Show
		if e.Delay == "" {
			w.t.Errorf("a snapshot without the time of the change: %s", brief(e))
		}
	}
	if len(tags) != 2 || fmt.Sprint(sortedShows(tags)) != "[ away]" {
		w.t.Errorf("want one device online and one away, got %v", tags)
	}
	quiet(app)
	app.do(do("disconnect"))
	app.wait(event{Event: "disconnected"})
	tablet.do(status("offline"))
	tablet.wait(event{Event: "frame", Frame: wsFrame{Result: "OK"}})

	app = w.app()
	e := w.online(app.next(event{Event: "presence"}))
	if show, seen := tags[e.From]; !seen || show != "" || e.Delay == "" {
		w.t.Errorf("want the phone again, delayed and under its old address; got %s", brief(e))
	}
	quiet(app)
}

func sortedShows(m map[string]string) []string {
	list := []string{}
	for _, show := range []string{"", "away"} {
		for _, s := range m {
			if s == show {
				list = append(list, s)
			}
		}
	}
	return list
}

func probes(w *interop) {
	d := w.device("phone")
	app := w.app()
	tag := app.next(event{Event: "presence"}).From

	probe := do("presence", "type", "probe", "to", w.address, "id", "p1")
	app.do(probe)
	e := w.online(app.next(event{Event: "presence", From: tag}))
	if e.Delay == "" {
		w.t.Errorf("the answer to a probe is no news: %s", brief(e))
	}
	d.do(status("offline"))
	app.next(event{Event: "presence", From: tag, Type: "unavailable"})
	app.do(probe)
	if e := app.next(event{Event: "presence", Type: "unavailable"}); e.Delay == "" {
		w.t.Errorf("when did she go? %s", brief(e))
	}
	quiet(app)
}

// subscribes: who allowed the app long ago is not asked again, and the app may end it.
func subscribes(w *interop) {
	app := w.app()
	quiet(app)
	app.do(do("presence", "type", "subscribe", "to", w.address, "id", "s1"))
	app.next(event{Event: "presence", From: w.address, Type: "subscribed"})
	d := w.device("phone")
	tag := w.online(app.next(event{Event: "presence"})).From
	app.do(do("presence", "type", "unsubscribe", "to", w.address, "id", "s2"))
	app.next(event{Event: "presence", From: tag, Type: "unavailable"})
	app.next(event{Event: "presence", From: w.address, Type: "unsubscribed"})
	d.do(status("unavailable"))
	d.wait(event{Event: "frame", Frame: wsFrame{Result: "OK"}})
	quiet(app) // it is not told any more
}

func notifiesOnline(w *interop) {
	d := w.device("phone", "ack", true)
	app := w.app()
	app.next(event{Event: "presence"})
	app.do(do("message", "to", w.address, "from", "bob@"+appDomain, "id", "n1", "body", "Dinner at <eight> & \"nine\"? Voilà",
		"nick", "Bob", "url", "https://chat.example/1", "receipt", true))
	e := d.next(event{Event: "frame"})
	if len(e.Frame.Notifications) != 1 {
		w.t.Fatalf("the device got %s", brief(e))
	}
	n := e.Frame.Notifications[0]
	if n.Message != "Dinner at <eight> & \"nine\"? Voilà" || n.Source != "Bob" || n.Action != "https://chat.example/1" || n.App != "chat" {
		w.t.Errorf("the device got %+v", n)
	}
	if _, err := time.Parse(time.RFC3339, n.Time); err != nil {
		w.t.Error(err)
	}
	quiet(app) // no receipt before the ack
	d.do(send(map[string]any{"type": "ack", "ids": []string{n.ID}}))
	if e := app.next(event{Event: "receipt", ID: "n1"}); !strings.HasPrefix(e.From, w.address) || e.To != "bob@"+appDomain {
		w.t.Errorf("the receipt goes astray: %s", brief(e))
	}
	app.do(do("message", "to", w.address, "from", "bob@"+appDomain, "id", "n2", "body", "no nick"))
	if n := d.wait(event{Event: "frame", Frame: wsFrame{Notifications: nil}}); len(n.Frame.Notifications) == 1 {
		if n.Frame.Notifications[0].Source != "bob@"+appDomain {
			w.t.Errorf("want the sender as the source, got %s", brief(n))
		}
	}
	quiet(app)
}

func notifiesOffline(w *interop) {
	app := w.app()
	for i := range 3 {
		app.do(do("message", "to", w.address, "id", fmt.Sprint("n", i), "body", fmt.Sprint("while away ", i), "receipt", true))
	}
	quiet(app) // accepted: no error
	d := w.device("phone")
	var got []string
	for len(got) < 3 {
		for _, n := range d.wait(event{Event: "frame"}).Frame.Notifications {
			got = append(got, n.Message)
		}
	}
	if fmt.Sprint(got) != "[while away 0 while away 1 while away 2]" {
		w.t.Errorf("the device got %q", got)
	}
	d.wait(event{Event: "pinged"}) // behind them; ws answers it, which confirms
	w.online(app.next(event{Event: "presence"}))
	for i := range 3 {
		app.next(event{Event: "receipt", ID: fmt.Sprint("n", i)})
	}
}

func strangers(w *interop) {
	app := w.app()
	to := []string{"nobody@localhost", "nobody@localhost/there", `carol\40example.org@localhost`, `ann\40example.org@localhost`}
	for _, ask := range []map[string]any{
		do("message", "body", "Hello?", "receipt", true), do("presence", "type", "probe"), do("ping"), do("disco"),
	} {
		answers := map[string]string{}
		for i, a := range to {
			ask["to"], ask["id"] = a, fmt.Sprintf("%s%d", ask["do"], i)
			app.do(ask)
			e := app.next(event{})
			if e.From != a && e.From != strings.TrimSuffix(a, "/there") {
				w.t.Errorf("%v: the answer is from %s", ask, e.From)
			}
			e.From, e.ID, e.Delay = "", "", ""
			answers[brief(e)] = a
		}
		if len(answers) != 1 {
			w.t.Errorf("%v: strangers can be told apart: %v", ask["do"], answers)
		}
		for a := range answers {
			w.t.Logf("%v: %s", ask["do"], a)
		}
	}
	app.do(do("message", "to", "nobody@localhost", "id", "m", "body", "Hello?"))
	app.next(event{Event: "error", Stanza: "message", ID: "m", Condition: "service-unavailable", Type: "cancel"})
}

// consents: what she answers before the app is allowed, and after, and what the app sees of it.
func consents(w *interop) {
	const address = `carol\40example.org@localhost`
	var token struct{ Token string }
	w.run("", &token, "user", "token", stranger)
	hello := w.hello("phone", "status", "online")
	hello["email"], hello["assertion"] = stranger, token.Token
	d := w.start(hello, false)
	d.next(event{Event: "frame", Frame: wsFrame{Result: "OK"}})

	app := w.app()
	app.do(do("presence", "type", "subscribe", "to", address, "id", "s1", "status", "to ring you"))
	asked := d.next(event{Event: "frame"}).Frame.Requests
	if len(asked) != 1 || asked[0].App != "chat" || asked[0].Name != "Chat" || asked[0].Purpose != "to ring you" {
		w.t.Fatalf("the device was asked %+v", asked)
	}
	quiet(app) // nothing is told before she answers
	d.do(send(map[string]any{"type": "consent", "app": "chat", "allow": true}))
	app.next(event{Event: "presence", From: address, Type: "subscribed"})
	if e := app.next(event{Event: "presence"}); !strings.HasPrefix(e.From, address+"/") || e.Type != "" {
		w.t.Errorf("behind the consent came %s", brief(e))
	}
	app.do(do("message", "to", address, "id", "n1", "body", "Ring"))
	for len(d.wait(event{Event: "frame"}).Frame.Notifications) == 0 {
	}
	d.do(send(map[string]any{"type": "consent", "app": "chat", "allow": false}))
	app.next(event{Event: "presence", Type: "unavailable"})
	app.next(event{Event: "presence", From: address, Type: "unsubscribed"})
	app.do(do("message", "to", address, "id", "n2", "body", "Ring"))
	app.next(event{Event: "error", ID: "n2", Condition: "service-unavailable"})
}

// upstream: what the device says reaches the app at once, or when it comes back.
func upstream(w *interop) {
	say := func(id, text string) map[string]any {
		return send(map[string]any{"type": "send", "app": "chat", "id": id, "data": map[string]any{"text": text}})
	}
	d := w.device("phone")
	app := w.app()
	tag := w.online(app.next(event{Event: "presence"})).From
	d.do(say("u1", "On my <way> & back"))
	d.wait(event{Event: "frame", Frame: wsFrame{Result: "OK"}})
	app.next(event{Event: "message", From: tag, To: appDomain, Body: "On my <way> & back"})
	app.kill()
	for i := range 3 {
		d.do(say(fmt.Sprint("w", i), fmt.Sprint("waits ", i)))
		d.wait(event{Event: "frame", Frame: wsFrame{Result: "OK"}})
	}
	app = w.app()
	got := app.until(event{Event: "message", From: tag, Body: "waits 2"})
	var order []string
	for _, e := range got {
		if e.Event == "message" {
			order = append(order, e.Body)
		}
	}
	if n := len(order); n < 3 || fmt.Sprint(order[n-3:]) != "[waits 0 waits 1 waits 2]" {
		w.t.Errorf("the app got %q", order)
	}
}

func pings(w *interop) {
	w.restart(pingsOften)
	app := w.app()
	app.do(do("ping", "to", "localhost", "id", "q1"))
	app.next(event{Event: "result", ID: "q1"})
	app.do(do("disco", "to", "localhost", "id", "q2"))
	if e := app.next(event{Event: "result", ID: "q2"}); !strings.Contains(strings.Join(e.Features, " "), "urn:xmpp:ping") {
		w.t.Errorf("the gateway does not say that it answers pings: %v", e.Features)
	}
	// Two pings of the gateway: without an answer to the first the stream would not live to see the second.
	app.next(event{Event: "pinged"})
	app.next(event{Event: "pinged"})
	quiet(app)
}

func appKilled(w *interop) {
	d := w.device("phone")
	app := w.app()
	tag := w.online(app.next(event{Event: "presence"})).From
	app.kill()
	d.do(status("unavailable"))
	d.wait(event{Event: "frame", Frame: wsFrame{Result: "OK"}})

	app = w.app()
	if e := app.next(event{Event: "presence", From: tag, Show: "away"}); e.Delay == "" {
		w.t.Errorf("not news: %s", brief(e))
	}
	d.do(status("online"))
	w.online(app.next(event{Event: "presence", From: tag}))
}

// gatewayKilled: both sides come back by themselves, and what was accepted is still there.
func gatewayKilled(w *interop) {
	d := w.device("phone", "ack", true)
	app := w.app()
	tag := w.online(app.next(event{Event: "presence"})).From
	app.do(do("message", "to", w.address, "id", "n1", "body", "not lost", "receipt", true))
	id := notified(d, "not lost") // so it was accepted; and it is not confirmed

	w.gateway.kill()
	app.wait(event{Event: "disconnected"})
	d.wait(event{Event: "close", Code: 1006})
	w.gateway = w.again(w.gateway)

	app.wait(event{Event: "connected"})
	w.online(app.wait(event{Event: "presence", From: tag})) // under the same address
	if again := notified(d, "not lost"); again != id {
		w.t.Errorf("the notification had the id %s, and now %s", id, again)
	}
	d.do(send(map[string]any{"type": "ack", "ids": []string{id}}))
	app.wait(event{Event: "receipt", ID: "n1"})
	app.do(do("message", "to", w.address, "id", "n2", "body", "news"))
	notified(d, "news")

	// And an app that is started anew by someone else.
	app.kill()
	app = w.app()
	w.online(app.next(event{Event: "presence", From: tag}))
}

func gatewayStops(w *interop) {
	d := w.start(w.hello("phone", "status", "online"), false)
	app := w.startApp(w.secret, false)
	w.online(app.wait(event{Event: "presence"}))
	w.gateway.stop()
	if e := d.wait(event{Event: "frame", Frame: wsFrame{Result: "KO"}}); e.Frame.Errno != 51 {
		w.t.Errorf("the device's last word was %s", brief(e))
	}
	d.next(event{Event: "close", Code: 4001})
	app.wait(event{Event: "stream-error", Condition: "system-shutdown"})
	app.wait(event{Event: "disconnected"})
}

func conflict(w *interop) {
	w.device("phone")
	older := w.startApp(w.secret, false)
	tag := w.online(older.wait(event{Event: "presence"})).From
	newer := w.app()
	older.next(event{Event: "stream-error", Condition: "conflict"})
	older.next(event{Event: "disconnected"})
	newer.next(event{Event: "presence", From: tag})
	quiet(newer)
}

func wrongSecret(w *interop) {
	app := w.startApp("wrong", false)
	app.next(event{Event: "stream-error", Condition: "not-authorized"})
	app.wait(event{Event: "disconnected"})
}

func deviceAcks(w *interop) {
	d := w.start(w.hello("phone", "ack", true, "heartbeat", 60), false)
	e := d.next(event{Event: "frame", Frame: wsFrame{Result: "OK", Type: "hello", Device: "phone", Heartbeat: 60}})
	if e.Frame.Session == "" || e.Frame.Time.IsZero() {
		w.t.Errorf("hello is answered by %s", brief(e))
	}
	w.notify("first")
	id := notified(d, "first")
	d.kill()

	app := w.rawApp() // to know when a confirmation is on disk
	d = w.device("phone", "ack", true)
	if again := notified(d, "first"); again != id {
		w.t.Errorf("the id was %s, and now %s", id, again)
	}
	d.do(send(map[string]any{"type": "ack", "ids": []string{id}}))
	app.presence(w, "")
	app.notify(w, "second")
	d.do(send(map[string]any{"type": "ack", "ids": []string{notified(d, "second")}}))
	app.receipt(w, "second")
	d.kill()

	w.notify("third")
	notified(w.device("phone", "ack", true), "third") // and nothing before it
}

func devicePongs(w *interop) {
	app := w.rawApp()
	d := w.device("phone")
	app.presence(w, "")
	app.notify(w, "first")
	notified(d, "first")
	d.wait(event{Event: "pinged"}) // and ws has answered
	app.receipt(w, "first")
	d.kill()

	w.notify("second")
	notified(w.device("phone"), "second") // and nothing before it
}

func deviceReplaced(w *interop) {
	app := w.rawApp()
	older := w.device("phone")
	app.presence(w, "")
	newer := w.device("phone")
	older.wait(event{Event: "frame", Frame: wsFrame{Result: "KO", Errno: 50}})
	older.next(event{Event: "close", Code: 4500}) // and by its rules it stays away
	app.notify(w, "who is there?")                // an app that saw it go would have been told before the receipt
	notified(newer, "who is there?")
	app.receipt(w, "who is there?")
	newer.do(status("unavailable"))
	app.presence(w, "away")
}

func deviceBadToken(w *interop) {
	h := w.hello("phone")
	h["assertion"] = "not the token"
	d := w.start(h, true)
	d.next(event{Event: "frame", Frame: wsFrame{Result: "KO", Errno: 34, Error: "Invalid assertion"}})
	d.next(event{Event: "close", Code: 4534})
}

func deviceSilent(w *interop) {
	for _, first := range []map[string]any{
		do("text", "text", "hello?"), do("text", "text", "{}"), send(map[string]any{"status": "online"}),
	} {
		d := w.start(nil, true)
		d.do(first)
		d.next(event{Event: "frame", Frame: wsFrame{Result: "KO", Errno: 30}})
		d.next(event{Event: "close", Code: 4530})
	}
}

func deviceReturns(w *interop) {
	w.restart("PRESENCED_DEVICE_LINGER=1m")
	app := w.rawApp()
	d := w.device("phone")
	app.presence(w, "")
	d.do(do("terminate"))
	d.wait(event{Event: "close", Code: 1006})
	d.wait(event{Event: "frame", Frame: wsFrame{Result: "OK"}}) // it came back by itself, within the linger
	d.do(status("unavailable"))
	app.presence(w, "away") // next: the app saw nothing of it
}

func deviceFrames(w *interop) {
	d := w.device("phone")
	d.do(do("text", "text", "{}"))
	d.next(event{Event: "frame"})
	for _, c := range []struct {
		text  string
		errno int
	}{
		{`{"status":`, 10}, {`{"type":"what"}`, 11}, {`{"status":"asleep"}`, 13},
		{`{"email":"eve@example.org","assertion":"x","status":"online"}`, 36},
	} {
		d.do(do("text", "text", c.text))
		d.next(event{Event: "frame", Frame: wsFrame{Result: "KO", Errno: c.errno}})
	}
	d.do(status("unavailable"))
	d.next(event{Event: "frame", Frame: wsFrame{Result: "OK"}})
	d.do(do("text", "text", `{"pad":"`+strings.Repeat("x", 9000)+`"}`))
	d.next(event{Event: "frame", Frame: wsFrame{Result: "KO", Errno: 14}})
	d.next(event{Event: "close", Code: 1009})
}

// notify sends by the command line.
func (w *interop) notify(message string) {
	w.t.Helper()
	w.run("", nil, "notify", "chat", friend, "--message", message)
}

// rawApp is a component without a library, for stories in which the device is the guest.
type rawApp struct{ *killComponent }

func (w *interop) rawApp() rawApp {
	w.t.Helper()
	c, err := joinRaw(w.gateway.xmpp, appDomain, w.secret)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.conn.Close() })
	fmt.Fprintf(c.conn, "<iq type='get' id='begin' from='%s' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>", appDomain)
	for { // until the snapshot is over
		if s := (rawApp{c}).next(w); s.ID == "begin" {
			return rawApp{c}
		}
	}
}

// rawStanza is what these stories look at.
type rawStanza struct {
	XMLName  xml.Name
	From     string `xml:"from,attr"`
	Type     string `xml:"type,attr"`
	ID       string `xml:"id,attr"`
	Show     string `xml:"show"`
	Received struct {
		ID string `xml:"id,attr"`
	} `xml:"urn:xmpp:receipts received"`
	Ping *struct{} `xml:"urn:xmpp:ping ping"`
}

// next returns the next stanza; pings of the gateway are answered.
func (a rawApp) next(w *interop) rawStanza {
	w.t.Helper()
	for {
		var s rawStanza
		a.conn.SetReadDeadline(time.Now().Add(patience))
		if err := a.in.Decode(&s); err != nil {
			w.t.Fatalf("the app's stream: %v", err)
		}
		if s.Ping == nil || s.Type != "get" {
			return s
		}
		fmt.Fprintf(a.conn, "<iq type='result' id='%s' from='%s' to='localhost'/>", s.ID, appDomain)
	}
}

func (a rawApp) notify(w *interop, id string) {
	fmt.Fprintf(a.conn, "<message from='%s' to='%s' id='%s'><body>%s</body><request xmlns='urn:xmpp:receipts'/></message>",
		appDomain, w.address, id, id)
}

// receipt wants the receipt next.
func (a rawApp) receipt(w *interop, id string) {
	w.t.Helper()
	if s := a.next(w); s.Received.ID != id {
		w.t.Errorf("want the receipt for %q, got %+v", id, s)
	}
}

// presence wants friend's device to be told next, with this show.
func (a rawApp) presence(w *interop, show string) {
	w.t.Helper()
	if s := a.next(w); s.XMLName.Local != "presence" || s.Type != "" || s.Show != show {
		w.t.Errorf("want a presence with show %q, got %+v", show, s)
	}
}
