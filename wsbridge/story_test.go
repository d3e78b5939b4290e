package wsbridge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"presenced/identity"
	"presenced/presence"
	"presenced/wsbridge"
)

func TestPresenceReachesTheApp(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	d := f.dial()
	d.say(`{"email":"Ann@Example.org","assertion":"dev","status":"online","id":1}`)
	d.expect(`{"result":"OK","id":1}`)
	chat.expect("online")
	d.say(`{"type":"status","status":"unavailable","id":"x"}`)
	d.expect(`{"result":"OK","id":"x","type":"status"}`)
	chat.expect("unavailable")
	d.say(`{}`, `{"status":"offline"}`, `{"status":"online"}`)
	d.expect(`{}`, okay, okay)
	chat.expect("online") // offline and back before the app looked: the last one wins
	d.say(`{"status":"offline"}`)
	d.expect(okay)
	chat.expect("offline")
	d.drop()
	f.pass(2 * linger)
	chat.quiet()
}

func TestHello(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	d := f.dial()
	hello := func(more string) map[string]any {
		t.Helper()
		d.say(`{"type":"hello","email":"ann@example.org","assertion":"dev","device":"phone"` + more + `}`)
		var m map[string]any
		f.must(json.Unmarshal([]byte(d.hear()), &m))
		return m
	}
	first := hello(`,"id":"h"`)
	session, _ := first["session"].(string)
	if len(session) < 16 {
		t.Errorf("session is %q", session)
	}
	want := map[string]any{"result": "OK", "id": "h", "type": "hello", "session": session, "device": "phone", "heartbeat": 120.0, "time": "2030-05-01T12:00:00Z"}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Error(diff)
	}
	chat.quiet() // connected, but no presence until told
	for asked, inForce := range map[string]float64{"60": 60, "5": 30, "0": 30, "90000": 1800, "1e300": 1800, "45.5": 46} {
		again := hello(`,"heartbeat":` + asked)
		if again["session"] != session || again["heartbeat"] != inForce {
			t.Errorf("heartbeat %s: %v", asked, again)
		}
	}
	hello(`,"status":"unavailable"`)
	chat.expect("unavailable")
	tokens, err := f.hub.Addresses("ann@example.org", "phone")
	f.must(err)
	for asked, want := range map[string]map[string]any{
		`["chat","unknown","chat"]`: {"chat": tokens["chat"]}, `["unknown"]`: {}, `[]`: {},
	} {
		if got := hello(`,"apps":` + asked)["addresses"]; !cmp.Equal(got, any(want)) || tokens["chat"] == "" {
			t.Errorf("the addresses of %s are %v, want %v", asked, got, want)
		}
	}
}

// The first frame must identify.
func TestFirstFrames(t *testing.T) {
	f := newFixture(t)
	f.must(f.store.PutTokens([]presence.Token{
		{Hash: identity.HashSecret("phone's"), Email: ann, Device: "phone"},
		{Hash: identity.HashSecret("old"), Email: ann, Expires: f.clock.Now()},
	}))
	big := strings.Repeat(" ", 8193)
	for _, c := range []struct {
		frame string
		errno string
		code  int
	}{
		{`{}`, `30,"error":"not identified"`, 4530},
		{`{`, `30,"error":"not identified"`, 4530},
		{`nonsense`, `30,"error":"not identified"`, 4530},
		{`{"type":"nonsense","id":7}`, `30,"error":"not identified","id":7,"type":"nonsense"`, 4530},
		{`{"status":"online"}`, `30,"error":"not identified"`, 4530},
		{`{"email":"ann@example.org","status":"online"}`, `30,"error":"not identified"`, 4530},
		{`{"email":"ann@example.org","assertion":"dev"}`, `30,"error":"not identified"`, 4530},
		{`{"type":"hello","assertion":"dev"}`, `30,"error":"not identified","type":"hello"`, 4530},
		{`{"type":"ack","ids":["n1"]}`, `30,"error":"not identified","type":"ack"`, 4530},
		{`{"email":"ann@example.org","assertion":"dev","status":"away"}`, `13,"error":"bad value","detail":"status"`, 4530},
		{`{"email":"ann@example.org","assertion":"dev","status":"online","device":"a b"}`, `13,"error":"bad value","detail":"device"`, 4530},
		{`{"email":"ann","assertion":"dev","status":"online"}`, `13,"error":"bad value","detail":"email"`, 4530},
		{`{"email":"ann@example.org","assertion":"guess","status":"online"}`, `34,"error":"Invalid assertion"`, 4534},
		{`{"email":"ann@example.org","assertion":"old","status":"online"}`, `31,"error":"assertion expired"`, 4534},
		{`{"email":"bob@example.org","assertion":"phone's","status":"online","device":"phone"}`, `35,"error":"e-mail not confirmed by the assertion"`, 4534},
		{`{"email":"ann@example.org","assertion":"phone's","status":"online","device":"car"}`, `34,"error":"Invalid assertion"`, 4534},
		{`{"email":"ann@example.org","assertion":"phone's","status":"online"}`, `34,"error":"Invalid assertion"`, 4534},
		{big, `14,"error":"frame too large"`, 1009},
	} {
		t.Run(fmt.Sprintf("%.80s", strings.TrimSpace(c.frame)), func(t *testing.T) {
			d := f.dial()
			d.t = t
			d.say(c.frame)
			d.expect(`{"result":"KO","errno":` + c.errno + `}`)
			d.ends(c.code)
		})
	}
	d := f.dial()
	d.say(`{"email":"Ann@example.org","assertion":"phone's","status":"online","device":"phone"}`)
	d.expect(okay)
}

func TestTooLateToIdentify(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.IdentifyTimeout = 20 * time.Millisecond })
	d := f.dial()
	d.expect(`{"result":"KO","errno":30,"error":"not identified"}`)
	d.ends(4530)

	// The deadline is for identifying only.
	f.until("somebody was quick enough", func() bool {
		d = f.dial()
		d.ws.WriteMessage(websocket.TextMessage, []byte(`{"email":"`+ann+`","assertion":"dev","status":"online"}`)) // or it has ended
		return <-d.frames == okay
	})
	d.drip(`{"status":"unavailable"}`, 60*time.Millisecond)
	d.expect(okay)
}

// drip sends a frame a byte at a time, in about so long.
func (d *device) drip(frame string, long time.Duration) {
	bytes := masked(frame)
	tick := time.NewTicker(long / time.Duration(len(bytes)))
	defer tick.Stop()
	for i := range bytes {
		<-tick.C
		if _, err := d.ws.NetConn().Write(bytes[i : i+1]); err != nil {
			d.t.Fatal(err)
		}
	}
}

// What is refused on an identified socket changes nothing, and the socket stays.
func TestRefusedFrames(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	d := f.online("phone")
	chat.expect("online")
	for _, c := range []struct{ frame, want string }{
		{`{"status":"unavailable"`, `10,"error":"malformed JSON"`},
		{`{"type":"nonsense","id":1}`, `11,"error":"unknown frame","id":1,"type":"nonsense"`},
		{`{"foo":"bar"}`, `11,"error":"unknown frame"`},
		{`{"type":"status","id":"s"}`, `12,"error":"missing field","detail":"status","id":"s","type":"status"`},
		{`{"type":"hello"}`, `12,"error":"missing field","detail":"email","type":"hello"`},
		{`{"status":"away","id":2}`, `13,"error":"bad value","detail":"status","id":2`},
		{`{"email":"bob@example.org","assertion":"dev","status":"unavailable"}`, `36,"error":"another identity on this socket"`},
		{`{"email":"bob@example.org","status":"unavailable"}`, `36,"error":"another identity on this socket"`},
		{`{"status":"unavailable","device":"car"}`, `36,"error":"another identity on this socket"`},
		{`{"email":"ann@example.org","assertion":"guess","status":"unavailable"}`, `34,"error":"Invalid assertion"`},
		{`{"type":"send","app":"other","id":"m","data":{}}`, `60,"error":"no such app for this user","id":"m","type":"send"`},
		{`{"type":"consent","app":"other","allow":true}`, `60,"error":"no such app for this user","type":"consent"`},
		{`{"type":"subscribe","app":"other","topic":"t"}`, `60,"error":"no such app for this user","type":"subscribe"`},
		{`{"type":"unsubscribe","app":"unknown","topic":"t"}`, `60,"error":"no such app for this user","type":"unsubscribe"`},
	} {
		d.say(c.frame)
		d.expect(`{"result":"KO","errno":` + c.want + `}`)
	}
	d.say(`{}`)
	d.expect(`{}`)
	chat.quiet()
	d.say(`{"email":"ANN@example.org","assertion":"dev","status":"unavailable"}`)
	d.expect(okay)
	chat.expect("unavailable")
}

func TestFrameSize(t *testing.T) {
	f := newFixture(t)
	d := f.online("phone")
	pad := func(size int) string {
		frame := `{"status":"online"}`
		return frame + strings.Repeat(" ", size-len(frame))
	}
	d.say(pad(8192))
	d.expect(okay)

	w, err := d.ws.NextWriter(websocket.TextMessage) // in many fragments, still a frame
	f.must(err)
	for _, b := range pad(8192) {
		fmt.Fprint(w, string(b))
	}
	f.must(w.Close())
	d.expect(okay)

	d.say(pad(8193))
	d.expect(`{"result":"KO","errno":14,"error":"frame too large"}`)
	d.ends(1009)

	// A frame that only says it is huge is refused when it goes over the limit.
	d = f.dial()
	d.say(`{"email":"ann@example.org","assertion":"dev","status":"online"}`)
	d.expect(okay)
	_, err = d.ws.NetConn().Write(append([]byte{0x81, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 9000)...))
	f.must(err)
	d.expect(`{"result":"KO","errno":14,"error":"frame too large"}`)
	d.ends(1009)
}

// Bytes that make no frame have an end too.
func TestEndlessFragments(t *testing.T) {
	f := newFixture(t)
	d := f.online("phone")
	begin, nothing := []byte{0x01, 0x80, 0, 0, 0, 0}, []byte{0x00, 0x80, 0, 0, 0, 0}
	if _, err := d.ws.NetConn().Write(append(begin, slices.Repeat(nothing, 30000)...)); err != nil {
		t.Log(err) // cut off while writing: good
	}
	d.expect(`{"result":"KO","errno":14,"error":"frame too large"}`)
}

func TestBinaryFrames(t *testing.T) {
	f := newFixture(t)
	for _, d := range []*device{f.dial(), f.online("phone")} {
		f.must(d.ws.WriteMessage(websocket.BinaryMessage, []byte(`{}`)))
		d.ends(1003)
	}
}

func TestPlainRequestIsNoSocket(t *testing.T) {
	f := newFixture(t)
	resp, err := http.Get(f.server.URL)
	f.must(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestNewerSocketReplacesTheOlder(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	older := f.online("phone")
	chat.expect("online")
	newer := f.online("phone")
	older.expect(`{"result":"KO","errno":50,"error":"replaced by a newer connection"}`)
	older.ends(4500)
	f.until("the older socket is gone", func() bool { return f.bridge.Stats().Sockets == 1 })
	f.pass(2 * linger)
	chat.quiet() // and nobody saw it
	newer.say(`{"status":"unavailable"}`)
	newer.expect(okay)
	chat.expect("unavailable")
}

func TestLostSocketLingers(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	d := f.online("phone")
	chat.expect("online")
	d.drop()
	f.until("the loss is noticed", func() bool { return f.hub.Stats().Lingering == 1 })
	f.pass(linger - time.Second)
	d = f.online("phone")
	f.pass(linger)
	chat.quiet() // a change of network does not flap
	f.must(d.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(patience)))
	d.ends(1000)
	f.until("the loss is noticed", func() bool { return f.hub.Stats().Lingering == 1 })
	chat.quiet()
	f.pass(linger)
	chat.expect("offline")
	f.pass(linger)
	chat.quiet()
}

func TestNotificationNow(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	d := f.online("phone")
	chat.expect("online")
	chat.send(ann, presence.Message{Ref: "r1", Source: "Bob", Message: "<hi> & \"bye\"", Action: "https://x/?a&b",
		Data: []byte(`{"n": [1]}`), TTL: time.Hour, Collapse: "k", High: true})
	got := d.notifications()
	want := []item{{Source: "Bob", Message: "<hi> & \"bye\"", Action: "https://x/?a&b", ID: got[0].ID, App: "chat",
		Time: "2030-05-01T12:00:00Z", Data: json.RawMessage(`{"n": [1]}`), Priority: "high", CollapseKey: "k"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	chat.expect("receipt r1") // the pong behind it
	f.until("nothing waits", f.empty)
}

// empty reports whether nothing waits for ann.
func (f *fixture) empty() bool {
	w, err := f.store.Waiting(ann)
	f.must(err)
	return len(w) == 0
}

func TestNotificationsWaitForTheDevice(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("text ", i))
		chat.notify(fmt.Sprint(i), want[i])
	}
	d := f.online("phone") // the answer comes before them
	if diff := cmp.Diff(want, d.texts(20)); diff != "" {
		t.Error(diff)
	}
	chat.expect("online")
	for i := range 20 {
		chat.expect(fmt.Sprint("receipt ", i))
	}
	f.until("nothing waits", f.empty)
}

// A socket that dies before the pong leaves the notification where it was, and it keeps its id.
func TestUnconfirmedComesAgain(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	chat.notify("r1", "one")
	d := f.online("phone", silent)
	first := d.notifications()
	if <-d.pings == "" {
		t.Error("no ping that names what is in front of it")
	}
	chat.notify("r2", "two")
	second := d.notifications()
	d.drop()
	f.until("the loss is noticed", func() bool { return f.hub.Stats().Lingering == 1 })

	d = f.online("phone")
	var again []item
	for len(again) < 2 {
		again = append(again, d.notifications()...)
	}
	if diff := cmp.Diff(append(first, second...), again); diff != "" {
		t.Error(diff)
	}
	chat.expect("online", "receipt r1", "receipt r2")
	f.until("nothing waits", f.empty)
}

// A pong confirms what is in front of its ping, and nothing behind it.
func TestPongConfirmsOnlyWhatWasBefore(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	d := f.online("phone", silent)
	chat.expect("online")
	pong := func(payload string) {
		t.Helper()
		f.must(d.ws.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(patience)))
	}
	var pings []string
	for _, ref := range []string{"r1", "r2", "r3"} {
		chat.notify(ref, ref)
		d.notifications()
		pings = append(pings, <-d.pings)
	}
	for _, nonsense := range []string{"", "0", "99", "-1", "4294967295", "x", strings.Repeat("9", 125)} {
		pong(nonsense)
	}
	pong(pings[1])
	pong(pings[0])
	chat.expect("receipt r1", "receipt r2")
	d.say(`{}`)
	d.expect(`{}`)
	chat.quiet()
	pong(pings[2])
	chat.expect("receipt r3")
}

// A pong counts although the next thing from the device is its end.
func TestPongThenGone(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	chat.notify("r1", "one")
	d := f.online("phone", silent)
	d.notifications()
	f.must(d.ws.WriteControl(websocket.PongMessage, []byte(<-d.pings), time.Now().Add(patience)))
	d.say(`{"status":"offline"}`)
	d.expect(okay)
	d.drop()
	chat.expect("receipt r1")
	f.until("nothing waits", f.empty)
}

func TestAckMode(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	hello := `{"type":"hello","email":"ann@example.org","assertion":"dev","status":"online","ack":true}`
	d := f.dial()
	d.say(hello)
	d.hear()
	chat.expect("online")
	chat.notify("r1", "one")
	one := d.notifications()[0]
	chat.notify("r2", "two")
	two := d.notifications()[0]
	d.say(`{"type":"ack","ids":["` + two.ID + `","n0","nzzzzzzz","bogus"],"id":5}`)
	d.expect(`{"result":"OK","id":5,"type":"ack"}`)
	chat.expect("receipt r2")
	f.must(d.ws.WriteControl(websocket.PongMessage, []byte("2"), time.Now().Add(patience)))
	d.say(`{}`)
	d.expect(`{}`)
	if len(d.pings) > 0 {
		t.Error("pinged, although acks confirm")
	}
	chat.quiet() // a pong confirms nothing in this mode

	d.drop()
	f.until("the loss is noticed", func() bool { return f.hub.Stats().Lingering == 1 })
	d = f.online("default", silent) // without ack mode an ack confirms nothing
	if again := d.notifications(); len(again) != 1 || again[0].ID != one.ID {
		t.Errorf("got %+v, want %+v again", again, one)
	}
	d.say(`{"type":"ack","ids":["` + one.ID + `"]}`)
	d.expect(`{"result":"OK","type":"ack"}`)
	chat.notify("r3", "three") // a commit behind that of the ack, if there were one
	three := d.notifications()[0]
	if w, err := f.store.Waiting(ann); err != nil || w["chat"] != 2 {
		t.Errorf("%v wait, %v; want both", w, err)
	}
	d.say(hello) // on the same socket from now on
	d.hear()
	d.say(`{"type":"ack","ids":["` + one.ID + `","` + three.ID + `"]}`)
	d.expect(`{"result":"OK","type":"ack"}`)
	chat.expect("receipt r1", "receipt r3")
	f.until("nothing waits", f.empty)
}

func TestFramesAreAsFewAsTheLimitAllows(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	var want []string
	for i := range 100 {
		text := strings.Repeat(string(rune('a'+i%26)), 300)
		if i == 50 {
			text = strings.Repeat("x", 10000) // larger than any frame: it goes alone
		}
		want = append(want, text)
		chat.notify("", text)
	}
	d := f.online("phone")
	var got []string
	for len(got) < len(want) {
		frame := d.hear()
		var n struct{ Notifications []item }
		f.must(json.Unmarshal([]byte(frame), &n))
		if len(frame) > 8192 && len(n.Notifications) > 1 {
			t.Errorf("a frame of %d bytes with %d items", len(frame), len(n.Notifications))
		}
		if rest := len(want) - len(got) - len(n.Notifications); len(frame) < 7500 && rest > 0 && len(got)+len(n.Notifications) != 50 {
			t.Errorf("a frame of %d bytes with %d items, and %d more wait", len(frame), len(n.Notifications), rest)
		}
		for _, i := range n.Notifications {
			got = append(got, i.Message)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDroppedIsSaidFirst(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	for i := range 103 {
		chat.notify("", fmt.Sprint(i))
	}
	d := f.online("phone")
	d.expect(`{"dropped":[{"app":"chat","count":3}]}`)
	if first := d.texts(100)[0]; first != "3" {
		t.Errorf("the oldest is %q", first)
	}
}

// What was discarded is said until the device is known to have heard it, also where acks confirm notifications; then
// never again.
func TestDroppedIsSaidUntilItArrives(t *testing.T) {
	for _, ack := range []bool{false, true} {
		t.Run(fmt.Sprint("ack ", ack), func(t *testing.T) {
			f := newFixture(t)
			chat := f.app("chat")
			for i := range 103 {
				chat.notify("", fmt.Sprint(i))
			}
			hello := fmt.Sprintf(`{"type":"hello","email":"ann@example.org","device":"phone","assertion":"dev","ack":%v}`, ack)
			connect := func(options ...option) *device {
				d := f.dial(options...)
				d.say(hello)
				d.hear()
				return d
			}
			d := connect(silent)
			d.expect(`{"dropped":[{"app":"chat","count":3}]}`)
			d.drop()
			f.until("the loss is noticed", func() bool { return f.hub.Stats().Sessions == 0 })
			d = connect()
			d.expect(`{"dropped":[{"app":"chat","count":3}]}`)
			d.texts(100)
			f.until("it has arrived", func() bool { return !f.store.HasDropped(ann) })
			if ack { // all of them wait still
				chat.notify("", "more")
				f.until("it is told of more", func() bool { return d.hear() == `{"dropped":[{"app":"chat","count":1}]}` })
				f.until("it has arrived", func() bool { return !f.store.HasDropped(ann) })
			}
			d.drop()
			f.until("the loss is noticed", func() bool { return f.hub.Stats().Sessions == 0 })
			chat.notify("", "last")
			d = connect()
			want := `{"notifications":[`
			if ack { // and one more since
				want = `{"dropped":[{"app":"chat","count":1}]}`
			}
			if first := d.hear(); !strings.HasPrefix(first, want) {
				t.Errorf("told %.80s first, want %s", first, want)
			}
		})
	}
}

// More than may be open at once waits for pongs, and then goes on.
func TestManyForAnInstantDevice(t *testing.T) {
	f := newFixture(t)
	for i := range 10 {
		a := f.app(fmt.Sprint("app", i))
		for j := range 100 {
			d, err := a.link.Notify(presence.Peer{PUID: a.puids[ann]}, presence.Message{Message: fmt.Sprint(j), TTL: -1})
			f.must(err)
			if j == 99 {
				f.must(d.Wait())
			} else {
				defer d.Wait()
			}
		}
	}
	d := f.online("phone", silent)
	d.texts(512)
	select {
	case frame := <-d.frames:
		t.Logf("more came: %.80s", frame) // what was in the batch
	default:
	}
	if n := f.bridge.Stats().Notifications; n > 512+64 {
		t.Errorf("%d notifications were sent without a pong", n)
	}
	d.drop()
	d = f.online("phone")
	d.texts(1000)
	f.until("nothing waits", f.empty)
}

func TestSlowDown(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.Rate = 0.5; c.Burst = 5 })
	d := f.online("phone") // one of the five
	for range 4 {
		d.say(`{"status":"online"}`)
		d.expect(okay)
	}
	for range 100 {
		d.say(`{}`) // free
		d.expect(`{}`)
	}
	d.say(`{"status":"online","id":1}`)
	d.expect(`{"result":"KO","errno":40,"error":"slow down","id":1,"retry_after":2}`)
	f.clock.add(1500 * time.Millisecond)
	d.say(`{"status":"away"}`) // costs the same, but nothing is looked at
	d.expect(`{"result":"KO","errno":40,"error":"slow down","retry_after":1}`)
	f.clock.add(500 * time.Millisecond)
	d.say(`{"status":"online"}`)
	d.expect(okay)
	f.clock.add(time.Hour)
	for range 5 {
		d.say(`{"status":"online"}`)
		d.expect(okay)
	}

	// Who goes on is closed.
	for range 5 {
		d.say(`{"status":"online"}`)
		d.expect(`{"result":"KO","errno":40,"error":"slow down","retry_after":2}`)
	}
	d.say(`{"status":"online"}`)
	d.expect(`{"result":"KO","errno":40,"error":"slow down","retry_after":2}`)
	d.ends(4029)
}

// What is free has a bound as well, whatever it is.
func TestFreeFramesAreBounded(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.Rate = 1; c.Burst = 4 })
	for name, send := range map[string]func(*device) error{
		"heartbeats": func(d *device) error { return d.ws.WriteMessage(websocket.TextMessage, []byte(`{}`)) },
		"acks": func(d *device) error {
			return d.ws.WriteMessage(websocket.TextMessage, []byte(`{"type":"ack","ids":[]}`))
		},
		"pings": func(d *device) error { return d.ws.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience)) },
		"pongs": func(d *device) error { return d.ws.WriteControl(websocket.PongMessage, nil, time.Now().Add(patience)) },
	} {
		d := f.online("phone")
		for range 200 {
			f.must(send(d))
		}
		d.say(`{"status":"online","id":"still"}`)
		for d.hear() != `{"result":"OK","id":"still"}` {
		}
		f.must(send(d))
		for frame := d.hear(); !strings.HasPrefix(frame, `{"result":"KO","errno":40,"error":"slow down"`); frame = d.hear() {
			if strings.Contains(frame, "KO") {
				t.Fatal(name, frame)
			}
		}
		d.ends(4029)
		f.until("it is gone", func() bool { return f.bridge.Stats().Sockets == 0 })
	}
}

// Acks of what was sent are never too many.
func TestAcksThatAreOwedAreFree(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.Rate = 1; c.Burst = 1 })
	chat := f.app("chat")
	d := f.dial()
	d.say(`{"type":"hello","email":"ann@example.org","assertion":"dev","status":"online","ack":true}`)
	d.hear()
	chat.expect("online")
	for i := range 120 {
		chat.notify(fmt.Sprint(i), "x")
		d.say(`{"type":"ack","ids":["` + d.notifications()[0].ID + `"]}`)
		d.expect(`{"result":"OK","type":"ack"}`)
		chat.expect(fmt.Sprint("receipt ", i))
	}
}

// A message from the device reaches its app, and waits for it up to a bound.
func TestMessagesToAnApp(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.MaxFrame = 1 << 15 })
	chat := f.app("chat")
	d := f.online("phone")
	chat.expect("online")
	d.say(`{"type":"send","app":"chat","id":"m","data":{"x":"` + strings.Repeat("x", 20000) + `"}}`)
	d.expect(`{"result":"KO","errno":42,"error":"payload too large","id":"m","type":"send"}`)
	d.say(`{"type":"send","app":"chat","id":7,"data":{"text": "hi"}}`)
	d.expect(`{"result":"OK","id":7,"type":"send"}`)
	chat.expect(`7 {"text": "hi"}`)
	chat.link.Close()
	for i := 1; i < 100; i++ { // the first one is not acknowledged
		d.say(`{"type":"send","app":"chat","id":"m","data":{}}`)
		d.expect(`{"result":"OK","id":"m","type":"send"}`)
	}
	d.say(`{"type":"send","app":"chat","id":"m","data":{}}`)
	d.expect(`{"result":"KO","errno":61,"error":"too much is waiting for this app","id":"m","type":"send","retry_after":60}`)
	d.say(`{"type":"send","app":"chat","id":"m","data":{},"ttl":0}`) // now or never
	d.expect(`{"result":"OK","id":"m","type":"send"}`)
}

// An app that asks is shown on the device, which answers.
func TestConsent(t *testing.T) {
	f := newFixture(t)
	f.app("chat") // so that ann is known
	d := f.online("phone")
	f.must(f.hub.PutApp(presence.App{ID: "shop", Name: "Shop <&>", Component: "shop.example", Secret: "s", APIKey: "k", Conflict: presence.Replace}))
	l, err := f.hub.Link("shop", presence.ComponentLink)
	f.must(err)
	shop := &service{f: f, link: l}
	f.must(l.Subscribe(presence.Peer{Email: ann}, "bot@shop.example", "to ship"))
	d.expect(`{"requests":[{"app":"shop","name":"Shop <&>","purpose":"to ship","time":"2030-05-01T12:00:00Z"}]}`)
	d.say(`{"type":"consent","app":"shop","allow":true,"id":1}`)
	d.expect(`{"result":"OK","id":1,"type":"consent"}`)
	shop.expect("online")
	d.say(`{"type":"consent","app":"shop","allow":true,"devices":false}`)
	d.expect(`{"result":"OK","type":"consent"}`)
	shop.expect("offline")
	shop.expect("online") // as one device
	d.say(`{"type":"consent","app":"shop","allow":true,"status":false}`)
	d.expect(`{"result":"OK","type":"consent"}`)
	shop.expect("offline")
	if g, _, err := f.store.Grant(ann, "shop"); err != nil || !g.NoDevices || !g.NoStatus {
		t.Errorf("granted %+v, %v", g, err)
	}
	d.say(`{"type":"consent","app":"shop","allow":true,"status":"yes"}`)
	d.expect(`{"result":"KO","errno":13,"error":"bad value","detail":"status","type":"consent"}`)
	d.say(`{"type":"consent","app":"shop","allow":true,"status":true}`)
	d.expect(`{"result":"OK","type":"consent"}`)
	shop.expect("online")
	d.say(`{"type":"consent","app":"shop","allow":false}`)
	d.expect(`{"result":"OK","type":"consent"}`)
	shop.expect("offline")
	d.say(`{"type":"consent","app":"shop","allow":false}`)
	d.expect(`{"result":"KO","errno":60,"error":"no such app for this user","type":"consent"}`)
}

func TestTooManySocketsOfAUser(t *testing.T) {
	f := newFixture(t)
	for i := range 3 {
		f.online(fmt.Sprint("d", i))
	}
	f.online("d0")
	d := f.dial()
	d.say(`{"email":"ann@example.org","assertion":"dev","status":"online","device":"d3","id":9}`)
	d.expect(`{"result":"KO","errno":41,"error":"too many connections","id":9}`)
	d.ends(4029)
}

func TestTooManySocketsOfAnAddress(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) {
		c.SocketsPerAddress = 2
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	refused := func(forwarded string) bool {
		t.Helper()
		_, resp, err := websocket.DefaultDialer.Dial(f.url(), http.Header{"X-Forwarded-For": {forwarded}})
		if err == nil {
			t.Fatal("let in")
		}
		return resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != ""
	}
	a := f.dial(header("X-Forwarded-For", "192.0.2.1"))
	f.dial(header("X-Forwarded-For", "198.51.100.7, 192.0.2.1"))
	if !refused("192.0.2.1") {
		t.Error("a third socket of 192.0.2.1 is not refused as it should be")
	}
	f.dial(header("X-Forwarded-For", "192.0.2.1, 198.51.100.7")) // who says so is not trusted
	f.dial(header("X-Forwarded-For", "2001:db8::1"))
	f.dial(header("X-Forwarded-For", "2001:db8::2"))
	if !refused("2001:db8::3") {
		t.Error("a third socket of one /64 is not refused as it should be")
	}
	f.until("all are counted", func() bool { return f.bridge.Stats().Sockets == 5 })
	a.drop()
	f.until("it is gone", func() bool { return f.bridge.Stats().Sockets == 4 })
	f.dial(header("X-Forwarded-For", "192.0.2.1"))
	if n := f.bridge.Stats().RefusedByAddress; n != 2 {
		t.Errorf("%d refused", n)
	}
}

// Silence is answered with a ping, and silence behind that with the end.
func TestNoSignOfLife(t *testing.T) {
	f := newFixture(t, quick)
	chat := f.app("chat")
	d := f.online("phone", silent)
	chat.expect("online")
	d.ends(4008)
	if len(d.pings) != 1 {
		t.Errorf("%d pings came before", len(d.pings))
	}
	f.until("the loss is noticed", func() bool { return f.hub.Stats().Lingering == 1 })
	f.pass(linger)
	chat.expect("offline")
}

func quick(c *wsbridge.Config) {
	c.Heartbeat, c.PongTimeout = 50*time.Millisecond, 500*time.Millisecond
}

// What is urgent does not wait for the heartbeat of a device that is dead: it ends, and what it did not confirm is for
// whoever comes.
func TestUrgentFindsTheDead(t *testing.T) {
	for _, ack := range []bool{false, true} {
		t.Run(fmt.Sprint("ack ", ack), func(t *testing.T) {
			f := newFixture(t, func(c *wsbridge.Config) { c.Heartbeat, c.PongTimeout = time.Hour, 100*time.Millisecond })
			chat := f.app("chat")
			hello := fmt.Sprintf(`{"type":"hello","email":"ann@example.org","device":"phone","assertion":"dev","ack":%v}`, ack)
			dead := f.dial(silent)
			dead.say(hello)
			dead.hear()
			f.until("the hello is a while ago", func() bool { return f.bridge.SilenceOf(ann, "phone") > 0 })
			chat.send(ann, presence.Message{Message: "urgent", TTL: -1, High: true})
			dead.notifications()
			dead.ends(4008)
			live := f.dial()
			live.say(hello)
			live.hear()
			if got := live.texts(1); got[0] != "urgent" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestPongIsLife(t *testing.T) {
	f := newFixture(t, quick)
	d := f.online("phone")
	for range 20 {
		select {
		case <-d.pings:
		case <-d.frames:
			t.Fatal("ended: ", d.end)
		}
	}
}

// Whatever arrives is life: a part of a frame, too.
func TestAnyByteIsLife(t *testing.T) {
	f := newFixture(t, quick)
	d := f.online("phone", silent)
	d.drip(`{"status":"unavailable"}`, 1500*time.Millisecond)
	d.expect(okay)
}

func TestPingIsAnswered(t *testing.T) {
	f := newFixture(t)
	d := f.dial() // before identifying, too
	pongs := make(chan string, 2)
	d.ws.SetPongHandler(func(p string) error { pongs <- p; return nil })
	f.must(d.ws.WriteControl(websocket.PingMessage, []byte("early"), time.Now().Add(patience)))
	if p := <-pongs; p != "early" {
		t.Errorf("pong %q", p)
	}
	d.say(`{"email":"ann@example.org","assertion":"dev","status":"online"}`)
	d.expect(okay)
	f.must(d.ws.WriteControl(websocket.PingMessage, []byte("late"), time.Now().Add(patience)))
	if p := <-pongs; p != "late" {
		t.Errorf("pong %q", p)
	}
}

func TestDrain(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	d, guest := f.online("phone"), f.dial()
	chat.expect("online")
	f.hub.Drain(3*time.Second, 0, "update")
	var r struct {
		Reconnect struct {
			After  int
			Reason string
		}
	}
	f.must(json.Unmarshal([]byte(d.hear()), &r))
	if r.Reconnect.After != 3 || r.Reconnect.Reason != "update" {
		t.Errorf("%+v", r)
	}
	d.say(`{"status":"unavailable"}`) // serving goes on
	d.expect(okay)
	chat.expect("unavailable")
	late := f.dial()
	late.say(`{"email":"bob@example.org","assertion":"dev","status":"online"}`)
	late.expect(`{"result":"KO","errno":51,"error":"going away","retry_after":3}`)
	late.ends(4001)

	f.hub.Close()
	d.expect(`{"result":"KO","errno":51,"error":"going away","retry_after":3}`)
	d.ends(4001)
	f.must(f.bridge.Shutdown(context.Background()))
	guest.expect(`{"result":"KO","errno":51,"error":"going away","retry_after":3}`)
	guest.ends(4001)
	_, resp, err := websocket.DefaultDialer.Dial(f.url(), nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("after the end: %v, %v", resp, err)
	}
}

// Shutdown waits no longer than it may.
func TestShutdownCutsOffWhoStays(t *testing.T) {
	f := newFixture(t)
	d := f.online("phone")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := f.bridge.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) { // the hub was not closed
		t.Errorf("got %v", err)
	}
	for range d.frames {
	}
}

func TestEndsFromInside(t *testing.T) {
	f := newFixture(t)
	f.must(f.store.PutTokens([]presence.Token{
		{Hash: identity.HashSecret("t"), Email: ann},
		{Hash: identity.HashSecret("gone"), Email: ann},
		{Hash: identity.HashSecret("short"), Email: ann, Expires: f.clock.Now().Add(time.Hour)},
	}))
	revoked := identity.CredentialOf(identity.HashSecret("gone"))
	for _, c := range []struct {
		name, token, want string
		do                func()
		code              int
	}{
		{"kicked", "t", `50,"error":"replaced by a newer connection"`, func() { f.hub.Kick(ann, "") }, 4500},
		{"revoked", "gone", `31,"error":"assertion expired"`, func() { f.hub.EndCredential(ann, revoked) }, 4534},
		{"removed", "t", `31,"error":"assertion expired"`, func() { f.must(f.hub.RemoveUser(ann, presence.ByAdmin)) }, 4534},
		{"expired", "short", `31,"error":"assertion expired"`, func() { f.pass(time.Hour) }, 4534},
		{"disabled", "t", `31,"error":"assertion expired"`, func() { f.must(f.hub.SetDisabled(ann, true, presence.ByAdmin)) }, 4534},
	} {
		d := f.dial()
		d.say(`{"email":"ann@example.org","assertion":"` + c.token + `","status":"online"}`)
		d.expect(okay)
		c.do()
		d.expect(`{"result":"KO","errno":` + c.want + `}`)
		d.ends(c.code)
	}
	d := f.dial() // disabled: her token is as good as gone
	d.say(`{"email":"ann@example.org","assertion":"t","status":"online"}`)
	d.expect(`{"result":"KO","errno":34,"error":"Invalid assertion"}`)
	d.ends(4534)
}

// A new assertion on an open socket takes the old one's place.
func TestNewAssertionRenews(t *testing.T) {
	f := newFixture(t)
	f.must(f.store.PutTokens([]presence.Token{
		{Hash: identity.HashSecret("short"), Email: ann, Expires: f.clock.Now().Add(time.Hour)},
		{Hash: identity.HashSecret("long"), Email: ann, Expires: f.clock.Now().Add(10 * time.Hour)},
	}))
	d := f.dial()
	status := func(token string) {
		t.Helper()
		d.say(`{"email":"ann@example.org","assertion":"` + token + `","status":"online"}`)
		d.expect(okay)
	}
	status("short")
	status("long")
	if n := f.hub.EndCredential(ann, identity.CredentialOf(identity.HashSecret("short"))); n != 0 {
		t.Error("the old assertion still holds the session")
	}
	f.pass(2 * time.Hour)
	if f.hub.Stats().Sessions != 1 {
		t.Error("the session ended with the old assertion")
	}
	d.say(`{}`)
	d.expect(`{}`)
	f.pass(8 * time.Hour)
	d.expect(`{"result":"KO","errno":31,"error":"assertion expired"}`)
	d.ends(4534)
}

// moody is a verifier whose storage does not answer while it is broken; it counts.
type moody struct {
	identity.Verifier
	broken atomic.Bool
	asked  atomic.Int32
}

func (m *moody) Verify(ctx context.Context, email, assertion string) (identity.Identity, error) {
	m.asked.Add(1)
	if m.broken.Load() {
		return identity.Identity{}, &identity.Error{Kind: identity.Unavailable, Cause: errors.New("gone fishing")}
	}
	return m.Verifier.Verify(ctx, email, assertion)
}

func TestStorageTrouble(t *testing.T) {
	m := &moody{Verifier: identity.Dev{}}
	m.broken.Store(true)
	f := newFixture(t, func(c *wsbridge.Config) { c.Verifier = m })
	d := f.dial()
	hello := `{"email":"ann@example.org","assertion":"dev","status":"online"}`
	d.say(hello)
	d.expect(`{"result":"KO","errno":91,"error":"storage not available","retry_after":5}`)
	m.broken.Store(false)
	d.say(hello)
	d.expect(okay)
	m.broken.Store(true)
	d.say(`{"email":"ann@example.org","assertion":"another","status":"online"}`)
	d.expect(`{"result":"KO","errno":91,"error":"storage not available","retry_after":5}`)
	asked := m.asked.Load()
	d.say(hello)
	d.expect(okay)
	if m.asked.Load() != asked {
		t.Error("the same assertion was verified again")
	}
}

// Notifications that could not be read are tried again by themselves.
func TestStorageTroubleWhileDelivering(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.PongTimeout = 100 * time.Millisecond })
	chat := f.app("chat")
	chat.notify("r1", "one")
	f.store.broken.Store(true)
	d := f.online("phone")
	f.until("it is tried again", func() bool { return f.store.refused.Load() >= 2 })
	f.store.broken.Store(false)
	d.texts(1)
}

// The last words reach a peer that goes on sending.
func TestLastWordsBeforeUnreadInput(t *testing.T) {
	f := newFixture(t)
	c, err := net.Dial("tcp", f.server.Listener.Addr().String())
	f.must(err)
	defer c.Close()
	f.must(c.(*net.TCPConn).SetWriteBuffer(4096)) // so that writing needs somebody who reads
	dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return c, nil }}
	ws, _, err := dialer.Dial(f.url(), nil)
	f.must(err)
	f.must(ws.WriteMessage(websocket.TextMessage, []byte(strings.Repeat(" ", 900_000))))
	_, frame, err := ws.ReadMessage()
	if err != nil || string(frame) != `{"result":"KO","errno":14,"error":"frame too large"}` {
		t.Fatalf("heard %s, %v", frame, err)
	}
	if _, _, err = ws.ReadMessage(); !websocket.IsCloseError(err, 1009) {
		t.Fatal(err)
	}
}

// A device whose clock is ahead is idle since now.
func TestIdleSince(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	_, err := f.hub.Allow(presence.Grant{Email: ann, App: "chat", Idle: true}, presence.ByUser)
	f.must(err)
	d := f.online("phone")
	chat.expect("online")
	now := f.clock.Now()
	for _, since := range []time.Time{now.Add(-time.Hour), now.Add(time.Hour)} {
		d.say(`{"status":"unavailable","idle_since":"`+since.Format(time.RFC3339)+`"}`, `{"status":"online","idle_since":"`+since.Format(time.RFC3339)+`"}`)
		d.expect(okay, okay)
		chat.expect("online")
		if want := min(since.Unix(), now.Unix()); chat.last.Idle.Unix() != want {
			t.Errorf("said %v, the app sees %v", since, chat.last.Idle)
		}
	}
}

func TestOrigins(t *testing.T) {
	for _, c := range []struct {
		local  bool
		origin string
		in     bool
	}{
		{false, "https://any.example", true},
		{true, "https://any.example", false},
		{true, "null", false},
		{true, "http://localhost.evil.example", false},
		{true, "https://Gateway.example", true},
		{true, "http://localhost:3000", true},
		{true, "http://127.0.0.1:3000", true},
		{true, "http://[::1]", true},
	} {
		f := newFixture(t, func(w *wsbridge.Config) { w.LocalOnly = c.local; w.Origin = "https://gateway.example" })
		ws, resp, err := websocket.DefaultDialer.Dial(f.url(), http.Header{"Origin": {c.origin}})
		if (err == nil) != c.in || err != nil && resp.StatusCode != http.StatusForbidden {
			t.Errorf("%+v: %v", c, err)
		}
		if err == nil {
			ws.Close()
		}
		f.online("phone")
	}
}

// A device that stops reading harms only itself.
func TestFrozenDevice(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.Heartbeat, c.PongTimeout = time.Second, time.Second })
	chat := f.app("chat")
	f.online("frozen", func(dev *device, d *websocket.Dialer, _ http.Header) {
		dev.freeze = 1
		d.NetDial = func(network, addr string) (net.Conn, error) {
			c, err := net.Dial(network, addr)
			if err == nil {
				err = c.(*net.TCPConn).SetReadBuffer(2048)
			}
			return c, err
		}
	})
	bob := f.dial()
	bob.say(`{"email":"bob@example.org","assertion":"dev","status":"online"}`)
	bob.expect(okay)
	chat.expect("online")
	big := strings.Repeat("x", 19000)
	gone := func() bool { return f.bridge.Stats().Sockets == 1 }
	for i := 0; i < 2000 && !gone(); i++ {
		chat.send(ann, presence.Message{Message: big, TTL: -1})
		if i%10 == 0 { // bob gets his while ann's socket is stuck
			chat.send("bob@example.org", presence.Message{Ref: "b", Message: "small", TTL: -1})
			bob.notifications()
			chat.expectReceipt("b")
		}
	}
	f.until("the frozen device is cut off", gone)
	bob.say(`{"status":"unavailable"}`)
	bob.expect(okay)
}

// expectReceipt waits for this receipt and passes over everything else.
func (s *service) expectReceipt(ref string) {
	s.f.t.Helper()
	for s.next() != "receipt "+ref {
	}
}
