package wsbridge_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"presenced/presence"
	"presenced/wsbridge"
)

const bob = "bob@example.org"

// addApp registers an app that ann and bob allow, without linking it, and returns their uids.
func (f *fixture) addApp(id string, conflict presence.Conflict) map[string]string {
	f.t.Helper()
	f.must(f.hub.PutApp(presence.App{ID: id, Name: strings.ToUpper(id), Component: id + ".example", Secret: "s", APIKey: id + " key", Conflict: conflict}))
	uids := map[string]string{}
	for _, email := range []string{ann, bob} {
		g, err := f.hub.Allow(presence.Grant{Email: email, App: id, Notify: true}, presence.ByAdmin)
		f.must(err)
		uids[email] = g.PUID
	}
	return uids
}

// dialApp connects an app that has not said anything yet.
func (f *fixture) dialApp(id string, options ...option) *device {
	f.t.Helper()
	return f.dial(append(options, func(d *device, _ *websocket.Dialer, _ http.Header) { d.path = "/myapps/" + id })...)
}

const authed = `{"result":"OK","action":"auth"}`

// joinApp connects an app and shows its key.
func (f *fixture) joinApp(id string, options ...option) *device {
	f.t.Helper()
	d := f.dialApp(id, options...)
	d.say(`{"action":"auth","token":"` + id + ` key"}`)
	d.expect(authed)
	return d
}

// told is any frame to an app.
type told struct {
	Status, UID, Device, Since string
	IdleSince                  string `json:"idle_since"`
	Unsubscribed               string
	Receipt                    struct {
		ID  any
		UID string
	}
	Message struct {
		UID, Device, Time string
		ID                any
		Data              json.RawMessage
	}
	Result    string
	QueueSize *int `json:"queue_size"`
	Errno     int
	ID        any
	Reconnect *struct{ After int }
}

func (d *device) told() (m told) {
	d.t.Helper()
	frame := d.hear()
	if err := json.Unmarshal([]byte(frame), &m); err != nil {
		d.t.Fatalf("heard %s: %v", frame, err)
	}
	return m
}

// status waits for the next status and returns "status uid", its tag and its time.
func (d *device) status() (what, tag, since string) {
	d.t.Helper()
	m := d.told()
	if m.Status == "" {
		d.t.Fatalf("heard %+v, want a status", m)
	}
	return m.Status + " " + m.UID, m.Device, m.Since
}

func (d *device) expectStatus(want string) (tag string) {
	d.t.Helper()
	got, tag, _ := d.status()
	if got != want {
		d.t.Fatalf("heard %q, want %q", got, want)
	}
	return tag
}

// quiet checks that nothing was said before the answer to a heartbeat.
func (d *device) quiet() {
	d.t.Helper()
	d.say(`{}`)
	d.expect(`{}`)
}

func (f *fixture) bobOnline() *device {
	f.t.Helper()
	d := f.dial()
	d.say(`{"email":"` + bob + `","assertion":"dev","status":"online"}`)
	d.expect(okay)
	return d
}

func TestAppChannelSnapshotAndChanges(t *testing.T) {
	f := newFixture(t)
	uid := f.addApp("chat", presence.Replace)
	phone := f.online("phone")
	car := f.online("car")
	car.say(`{"status":"unavailable"}`)
	car.expect(okay)
	chat := f.joinApp("chat")
	var snapshot []string
	tags := map[string]string{}
	for range 2 {
		what, tag, since := chat.status()
		if since != "2030-05-01T12:00:00Z" {
			t.Errorf("since %q", since)
		}
		snapshot = append(snapshot, what)
		tags[what] = tag
	}
	slices.Sort(snapshot)
	if diff := cmp.Diff([]string{"online " + uid[ann], "unavailable " + uid[ann]}, snapshot); diff != "" {
		t.Fatal(diff)
	}
	chat.quiet()
	phone.say(`{"status":"offline"}`)
	phone.expect(okay)
	if tag := chat.expectStatus("offline " + uid[ann]); tag != tags["online "+uid[ann]] || tag == "" {
		t.Errorf("the phone was %q and is %q", tags["online "+uid[ann]], tag)
	}
	f.bobOnline()
	chat.expectStatus("online " + uid[bob])
	car.drop()
	f.until("the car lingers", func() bool { return f.hub.Stats().Lingering == 1 })
	chat.quiet()
	f.pass(linger)
	chat.expectStatus("offline " + uid[ann])
	chat.quiet()
}

func TestAppChannelAuth(t *testing.T) {
	f := newFixture(t)
	f.addApp("chat", presence.Replace)
	f.addApp("off", presence.Replace)
	off, _ := f.hub.App("off")
	off.Disabled = true
	f.must(f.hub.PutApp(off))
	keyless := presence.App{ID: "keyless", Name: "k", Component: "k.example", Secret: "s", Conflict: presence.Replace}
	f.must(f.hub.PutApp(keyless))
	wrong := `{"result":"KO","errno":34,"error":"Invalid assertion","action":"auth"}`
	notIdentified := `{"result":"KO","errno":30,"error":"not identified"}`
	for _, c := range []struct {
		app, say, want string
		code           int
	}{
		{"chat", `{"action":"auth","token":"wrong"}`, wrong, 4534},
		{"chat", `{"action":"auth","token":""}`, wrong, 4534},
		{"chat", `{"action":"auth","token":"s"}`, wrong, 4534},
		{"nochat", `{"action":"auth","token":"chat key"}`, wrong, 4534},
		{"off", `{"action":"auth","token":"off key"}`, wrong, 4534},
		{"keyless", `{"action":"auth","token":""}`, wrong, 4534},
		{"%00%ff%2f..", `{"action":"auth","token":"chat key"}`, wrong, 4534},
		{"chat", `{"action":"notify","uid":"x","message":"m"}`, notIdentified, 4530},
		{"chat", `{}`, notIdentified, 4530},
		{"chat", `{"action":"auth"`, notIdentified, 4530},
		{"chat", `{"email":"ann@example.org","assertion":"dev","status":"online"}`, notIdentified, 4530},
		{"chat", `{"action":"auth","token":7}`, `{"result":"KO","errno":13,"error":"bad value","detail":"token","action":"auth"}`, 4530},
		{"chat", `{"action":"auth"}`, `{"result":"KO","errno":30,"error":"not identified","action":"auth"}`, 4530},
		{"chat", strings.Repeat(" ", 8193), `{"result":"KO","errno":14,"error":"frame too large"}`, 1009},
	} {
		t.Run(c.app+" "+c.say[:min(len(c.say), 50)], func(t *testing.T) {
			d := f.dialApp(c.app)
			d.t = t
			d.say(c.say)
			d.expect(c.want)
			d.ends(c.code)
		})
	}
	d := f.dialApp("chat")
	if err := d.ws.WriteMessage(websocket.BinaryMessage, []byte("x")); err != nil {
		t.Fatal(err)
	}
	d.ends(1003)
	d = f.dialApp("chat")
	d.say(`{"key":"chat key","id":5}`)
	d.expect(`{"result":"OK","id":5,"action":"auth"}`)
	d.say(`{"action":"auth","key":"chat key"}`, `{"action":"auth","key":"no"}`, `{}`) // once more
	d.expect(authed, wrong, `{}`)
}

func TestAppChannelTooLate(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.IdentifyTimeout = 20 * time.Millisecond })
	d := f.dialApp("chat")
	d.expect(`{"result":"KO","errno":30,"error":"not identified"}`)
	d.ends(4530)
}

func TestAppChannelNotifies(t *testing.T) {
	f := newFixture(t)
	uid := f.addApp("chat", presence.Replace)
	chat := f.joinApp("chat")
	notify := func(more string) string {
		return `{"action":"notify","uid":"` + uid[ann] + `"` + more + `}`
	}
	chat.say(notify(`,"source":"bob@example.org","message":"hi <b>","url":"https://example.org/","token":"chat key"`),
		notify(`,"message":"2","id":"r2","priority":"high","data":{"a":[1]},"collapse_key":"k","ttl":60`),
		notify(`,"message":"3","id":7,"ttl":60,"collapse_key":"k"`))
	chat.expect(`{"result":"OK","queue_size":1}`, `{"result":"OK","queue_size":2,"id":"r2"}`, `{"result":"OK","queue_size":2,"id":7}`)
	phone := f.dial()
	phone.say(`{"type":"hello","ack":true,"email":"` + ann + `","assertion":"dev","device":"phone","status":"online"}`)
	phone.hear()
	items := phone.notifications()
	for i := range items {
		items[i].ID = ""
	}
	at := "2030-05-01T12:00:00Z"
	want := []item{
		{Source: bob, Message: "hi <b>", Action: "https://example.org/", App: "chat", Time: at},
		{Source: "CHAT", Message: "3", App: "chat", Time: at, CollapseKey: "k"},
	}
	if diff := cmp.Diff(want, items); diff != "" {
		t.Fatal(diff)
	}
	tag := chat.expectStatus("online " + uid[ann])

	// To one device, and to one that is not.
	chat.say(notify(`,"message":"4","device":"`+tag+`","id":"r4"`), notify(`,"message":"5","device":"aaaa","id":"r5"`))
	chat.expect(`{"result":"OK","queue_size":3,"id":"r4"}`, `{"result":"KO","errno":60,"error":"no such app for this user","id":"r5"}`)
	four := phone.notifications()[0]
	phone.say(`{"type":"ack","ids":["` + four.ID + `"]}`)
	phone.expect(`{"result":"OK","type":"ack"}`)
	chat.expect(`{"receipt":{"id":"r4","uid":"` + uid[ann] + `"}}`)
	chat.say(notify(`,"message":"6","ttl":0,"id":12`))
	chat.expect(`{"result":"OK","queue_size":2,"id":12}`)
	six := phone.notifications()[0]
	phone.say(`{"type":"ack","ids":["` + six.ID + `"]}`)
	phone.expect(`{"result":"OK","type":"ack"}`)
	chat.expect(`{"receipt":{"id":12,"uid":"` + uid[ann] + `"}}`)
}

// Who is unknown, has never granted and has revoked are the same.
func TestAppChannelStrangers(t *testing.T) {
	f := newFixture(t)
	uid := f.addApp("chat", presence.Replace)
	f.must(f.hub.Revoke(bob, "chat", presence.ByUser))
	other := f.addApp("other", presence.Replace)
	quietly, err := f.hub.Allow(presence.Grant{Email: "eve@example.org", App: "chat"}, presence.ByUser)
	f.must(err)
	chat := f.joinApp("chat")
	chat.expect(`{"unsubscribed":"` + uid[bob] + `"}`) // it was told nothing of it yet
	for _, uid := range []string{"nobody", uid[bob], other[ann], ann, "eve@example.org", "no@one", " "} {
		chat.say(`{"action":"notify","uid":"` + uid + `","message":"m","id":1}`)
		chat.expect(`{"result":"KO","errno":60,"error":"no such app for this user","id":1}`)
	}
	chat.say(`{"action":"notify","uid":"` + quietly.PUID + `","message":"m"}`)
	chat.expect(`{"result":"KO","errno":60,"error":"no such app for this user","detail":"notifications"}`)
}

func TestAppChannelRefusals(t *testing.T) {
	f := newFixture(t)
	uid := f.addApp("chat", presence.Replace)
	chat := f.joinApp("chat")
	to := `{"action":"notify","uid":"` + uid[ann] + `"`
	for _, c := range []struct{ frame, want string }{
		{`{"action":"notify"`, `10,"error":"malformed JSON"`},
		{`[{"UID":"x"`, `10,"error":"malformed JSON"`},
		{`[{"UID":"x","uid":"y","message":"m"}]`, `10,"error":"malformed JSON"`},
		{`[1]`, `10,"error":"malformed JSON"`},
		{`[]x`, `10,"error":"malformed JSON"`},
		{`[]`, `12,"error":"missing field","detail":"uid"`},
		{`{"action":"fly","id":1}`, `11,"error":"unknown frame","id":1`},
		{`{"uid":"x","message":"m"}`, `11,"error":"unknown frame"`},
		{`{"action":1}`, `13,"error":"bad value","detail":"action"`},
		{`{"action":"notify","message":"m"}`, `12,"error":"missing field","detail":"uid"`},
		{to + `}`, `12,"error":"missing field","detail":"message"`},
		{to + `,"message":1}`, `13,"error":"bad value","detail":"message"`},
		{to + `,"message":"m","url":[]}`, `13,"error":"bad value","detail":"url"`},
		{to + `,"message":"m","ttl":2419201}`, `13,"error":"bad value","detail":"ttl"`},
		{to + `,"message":"m","ttl":-1}`, `13,"error":"bad value","detail":"ttl"`},
		{to + `,"message":"m","ttl":1.5}`, `13,"error":"bad value","detail":"ttl"`},
		{to + `,"message":"m","priority":"urgent"}`, `13,"error":"bad value","detail":"priority"`},
		{to + `,"message":"m","collapse_key":"` + strings.Repeat("k", 257) + `"}`, `13,"error":"bad value","detail":"collapse_key"`},
		{to + `,"message":"m","id":{}}`, `13,"error":"bad value","detail":"id"`},
		{`{"action":"ack"}`, `12,"error":"missing field","detail":"ids","action":"ack"`},
		{`{"action":"ack","ids":[{}]}`, `13,"error":"bad value","detail":"ids","action":"ack"`},
	} {
		chat.say(c.frame)
		chat.expect(`{"result":"KO","errno":` + c.want + `}`)
	}
	chat.quiet()
	if n, _ := f.store.Waiting(ann); len(n) != 0 {
		t.Errorf("%v waits", n)
	}
}

func TestAppChannelNotifiesMany(t *testing.T) {
	f := newFixture(t)
	uid := f.addApp("chat", presence.Replace)
	chat := f.joinApp("chat")
	chat.say(fmt.Sprintf(`[{"UID":%q,"message":"1","action":"https://one.example"},{"uid":%q,"message":"b","action":"notify","url":"https://two.example","id":"b"},`+
		`{"UID":%q,"message":"2","action":"notify"}]`, uid[ann], uid[bob], uid[ann]))
	chat.expect(`{"result":"OK","queue_size":2}`)
	for _, bad := range []string{
		fmt.Sprintf(`[{"UID":%q,"message":"no"},{"UID":"nobody","message":"no"}]`, uid[ann]),
		fmt.Sprintf(`[{"UID":%q,"message":"no"},{"UID":%q,"message":"no","collapse_key":7}]`, uid[ann], uid[ann]),
	} {
		chat.say(bad)
		if m := chat.told(); m.Result != "KO" {
			t.Errorf("%s: %+v", bad, m)
		}
	}
	phone := f.online("phone")
	first := phone.notifications()
	got := []string{first[0].Message + " " + first[0].Action, first[1].Message + " " + first[1].Action}
	if diff := cmp.Diff([]string{"1 https://one.example", "2 "}, got); diff != "" || len(first) != 2 {
		t.Error(diff)
	}
	if b := f.bobOnline().notifications(); b[0].Action != "https://two.example" {
		t.Errorf("bob hears %+v", b)
	}
}

func TestAppChannelTooLarge(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.MaxFrame = 40000 })
	uid := f.addApp("chat", presence.Replace)
	chat := f.joinApp("chat")
	chat.say(`{"action":"notify","uid":"` + uid[ann] + `","message":"` + strings.Repeat("m", 20001) + `"}`)
	chat.expect(`{"result":"KO","errno":42,"error":"payload too large"}`)
}

func TestAppChannelRevoke(t *testing.T) {
	f := newFixture(t)
	uid := f.addApp("chat", presence.Replace)
	f.online("phone")
	f.online("car")
	chat := f.joinApp("chat")
	chat.status()
	chat.status()
	f.must(f.hub.Revoke(ann, "chat", presence.ByUser))
	chat.expectStatus("offline " + uid[ann])
	chat.expectStatus("offline " + uid[ann])
	chat.expect(`{"unsubscribed":"` + uid[ann] + `"}`)
	chat.quiet()
	notices := func() int {
		ns, err := f.store.NoticesOf("chat", 10)
		f.must(err)
		return len(ns)
	}
	f.until("the notice has arrived", func() bool { return notices() == 0 })
	chat.drop()

	// While it is away, and when it comes but is deaf.
	f.must(f.hub.Revoke(bob, "chat", presence.ByUser))
	deaf := f.joinApp("chat", silent)
	deaf.expect(`{"unsubscribed":"` + uid[bob] + `"}`)
	deaf.drop()
	f.until("it has left", func() bool { return f.bridge.Stats().Apps == 0 })
	again := f.joinApp("chat")
	again.expect(`{"unsubscribed":"` + uid[bob] + `"}`)
	f.until("the notice has arrived", func() bool { return notices() == 0 })
}

func TestAppChannelUpstream(t *testing.T) {
	f := newFixture(t)
	uid := f.addApp("chat", presence.Replace)
	phone, bobs := f.online("phone"), f.bobOnline()
	send := func(d *device, id, data string) {
		t.Helper()
		d.say(`{"type":"send","app":"chat","id":` + id + `,"data":` + data + `}`)
		d.expect(`{"result":"OK","id":` + id + `,"type":"send"}`)
	}
	send(phone, `"a"`, `{"n":1}`)
	send(bobs, `"a"`, `{"n":2}`) // the same id
	send(phone, `3`, `{"n":3}`)
	receive := func(d *device) (told, string) {
		t.Helper()
		m := d.told()
		for m.Status != "" {
			m = d.told()
		}
		return m, fmt.Sprint(m.Message.ID, " ", string(m.Message.Data))
	}
	chat := f.joinApp("chat")
	var got []string
	for range 2 {
		m, what := receive(chat)
		got = append(got, what)
		if m.Message.UID != uid[ann] || m.Message.Device == "" || m.Message.Time != "2030-05-01T12:00:00Z" {
			t.Errorf("%+v", m.Message)
		}
	}
	if diff := cmp.Diff([]string{`a {"n":1}`, `3 {"n":3}`}, got); diff != "" {
		t.Fatal(diff)
	}
	chat.say(`{"action":"ack","ids":["a","unknown"]}`)
	chat.expect(`{"result":"OK","action":"ack"}`)
	if m, what := receive(chat); what != `a {"n":2}` || m.Message.UID != uid[bob] {
		t.Fatalf("%+v", m)
	}
	chat.drop()
	f.until("it has left", func() bool { return f.bridge.Stats().Apps == 0 })
	chat = f.joinApp("chat") // what was not acknowledged comes again
	got = nil
	for range 2 {
		_, what := receive(chat)
		got = append(got, what)
	}
	if diff := cmp.Diff([]string{`a {"n":2}`, `3 {"n":3}`}, got); diff != "" {
		t.Fatal(diff)
	}
	chat.say(`{"action":"ack","ids":["a",3],"id":1}`)
	chat.expect(`{"result":"OK","id":1,"action":"ack"}`)
	f.until("nothing waits", func() bool {
		ms, err := f.store.UpstreamOf("chat", 0, 10)
		f.must(err)
		return len(ms) == 0
	})
}

// A message that waits for the ack of another with its id is gone when its user is.
func TestAppChannelForgetsWhoRevoked(t *testing.T) {
	f := newFixture(t)
	uid := f.addApp("chat", presence.Replace)
	chat := f.joinApp("chat")
	phone, bobs := f.online("phone"), f.bobOnline()
	chat.status()
	chat.status()
	for i, d := range []*device{phone, bobs, phone} {
		d.say(fmt.Sprintf(`{"type":"send","app":"chat","id":"x","data":{"n":%d}}`, i))
		d.expect(`{"result":"OK","id":"x","type":"send"}`)
	}
	if m := chat.told(); string(m.Message.Data) != `{"n":0}` {
		t.Fatalf("%+v", m)
	}
	f.must(f.hub.Revoke(bob, "chat", presence.ByUser))
	chat.expectStatus("offline " + uid[bob])
	chat.expect(`{"unsubscribed":"` + uid[bob] + `"}`)
	chat.say(`{"action":"ack","ids":["x"]}`)
	var heard []string
	for range 2 {
		heard = append(heard, chat.hear())
	}
	if !strings.Contains(strings.Join(heard, ""), `{"n":2}`) {
		t.Fatalf("heard %s", heard)
	}
	chat.quiet()
}

func TestAppChannelConflicts(t *testing.T) {
	f := newFixture(t)
	f.addApp("new", presence.Replace)
	f.addApp("old", presence.Reject)
	f.addApp("both", presence.Share)
	first := f.joinApp("new")
	second := f.joinApp("new")
	first.expect(`{"result":"KO","errno":50,"error":"replaced by a newer connection"}`)
	first.ends(4500)
	second.quiet()

	first = f.joinApp("old")
	second = f.dialApp("old")
	second.say(`{"action":"auth","token":"old key"}`)
	second.expect(`{"result":"KO","errno":41,"error":"too many connections","action":"auth"}`)
	second.ends(4029)
	first.quiet()

	first, second = f.joinApp("both"), f.joinApp("both")
	heardByOne := func(what string) { // each user is told to one of them
		t.Helper()
		other := second
		select {
		case frame := <-first.frames:
			if !strings.Contains(frame, what) {
				t.Errorf("heard %s", frame)
			}
		case frame := <-second.frames:
			if other = first; !strings.Contains(frame, what) {
				t.Errorf("heard %s", frame)
			}
		case <-time.After(patience):
			t.Fatal("nobody hears of", what)
		}
		other.quiet()
	}
	one := f.online("car")
	heardByOne("online")
	one.say(`{"type":"send","app":"both","id":1,"data":{}}`)
	one.hear()
	heardByOne("message")
}

// One that is dead gives way to the next that comes.
func TestAppChannelDeadGivesWay(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.PongTimeout = 50 * time.Millisecond })
	f.addApp("old", presence.Reject)
	dead := f.joinApp("old", silent)
	f.until("it is let in", func() bool {
		d := f.dialApp("old")
		d.say(`{"action":"auth","token":"old key"}`)
		return d.hear() == authed
	})
	dead.ends(4008)
}

func TestAppChannelLiveness(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) {
		c.Heartbeat, c.PongTimeout = 50*time.Millisecond, 500*time.Millisecond
	})
	f.addApp("chat", presence.Share)
	live, dead := f.joinApp("chat"), f.joinApp("chat", silent)
	dead.ends(4008)
	<-live.pings
	live.quiet()
	f.until("only the living one is left", func() bool { return f.bridge.Stats().Apps == 1 })
}

func TestAppChannelDrains(t *testing.T) {
	f := newFixture(t)
	uid := f.addApp("chat", presence.Share)
	chat := f.joinApp("chat")
	phone := f.online("phone")
	chat.expectStatus("online " + uid[ann])
	f.hub.Drain(7*time.Second, 0, "shutdown")
	if r := chat.told().Reconnect; r == nil || r.After != 7 {
		t.Errorf("%+v", r)
	}
	late := f.dialApp("chat")
	late.say(`{"action":"auth","token":"chat key"}`)
	late.expect(`{"result":"KO","errno":51,"error":"going away","action":"auth","retry_after":7}`)
	late.ends(4001)
	phone.say(`{"status":"unavailable"}`) // it serves on
	chat.expectStatus("unavailable " + uid[ann])
	f.hub.Close()
	chat.expectStatus("offline " + uid[ann])
	chat.expect(`{"result":"KO","errno":51,"error":"going away","retry_after":7}`)
	chat.ends(4001)
}

func TestAppChannelDisabledAndRemoved(t *testing.T) {
	f := newFixture(t)
	f.addApp("chat", presence.Replace)
	f.addApp("gone", presence.Replace)
	chat, gone := f.joinApp("chat"), f.joinApp("gone")
	app, _ := f.hub.App("chat")
	app.Conflict = presence.Share
	f.must(f.hub.PutApp(app))
	chat.expect(`{"result":"KO","errno":51,"error":"going away"}`)
	chat.ends(4001)
	chat = f.joinApp("chat")
	app.Disabled = true
	f.must(f.hub.PutApp(app))
	f.must(f.hub.RemoveApp("gone", presence.ByAdmin))
	for _, d := range []*device{chat, gone} {
		d.expect(`{"result":"KO","errno":31,"error":"assertion expired"}`)
		d.ends(4534)
	}
}

func TestAppChannelRate(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.Rate, c.Burst = 1, 1 })
	uid := f.addApp("chat", presence.Replace)
	chat := f.joinApp("chat")
	frame := `{"action":"notify","uid":"` + uid[ann] + `","message":"m","ttl":0,"id":1}`
	for range 99 { // the auth was one
		chat.say(frame)
	}
	for range 99 {
		chat.expect(`{"result":"OK","queue_size":0,"id":1}`)
	}
	chat.say(frame, `{}`)
	chat.expect(`{"result":"KO","errno":40,"error":"slow down","id":1,"retry_after":1}`, `{}`)
	f.clock.add(10 * time.Millisecond)
	chat.say(frame)
	chat.expect(`{"result":"OK","queue_size":0,"id":1}`)
	for range 200 {
		if chat.ws.WriteMessage(websocket.TextMessage, []byte(frame)) != nil {
			break
		}
	}
	for {
		if _, ok := <-chat.frames; !ok {
			break
		}
	}
	chat.ends(4029)
}

// An app that does not read costs nobody anything.
func TestAppChannelStalled(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.PongTimeout = 300 * time.Millisecond })
	f.addApp("stuck", presence.Replace)
	uid := f.addApp("chat", presence.Replace)
	stuck := f.joinApp("stuck", func(d *device, _ *websocket.Dialer, _ http.Header) { d.freeze = 1 })
	chat := f.joinApp("chat")
	f.online("phone")
	chat.expectStatus("online " + uid[ann])
	flood := slices.Repeat(masked(`{"action":"ack","ids":[],"id":"`+strings.Repeat("x", 120)+`"}`), 1000)
	cut := make(chan struct{})
	go func() { // it asks and does not read
		defer close(cut)
		for err := error(nil); err == nil; {
			_, err = stuck.ws.NetConn().Write(flood)
		}
	}()
	for done := false; !done; {
		chat.say(`{"action":"notify","uid":"` + uid[ann] + `","message":"m","ttl":0}`)
		chat.expect(`{"result":"OK","queue_size":0}`)
		select {
		case <-cut:
			done = true
		default:
		}
	}
	f.until("it is gone", func() bool { return f.bridge.Stats().Apps == 1 })
}

// The size of the queue says no more than a receipt does: while she is hidden from the app nothing seems to be taken.
func TestAppChannelQueueSizeHidesWhoIsHidden(t *testing.T) {
	f := newFixture(t)
	uid := f.addApp("chat", presence.Replace)
	chat := f.joinApp("chat")
	f.must(f.hub.SetPaused(ann, "chat", true, presence.ByUser))
	phone := f.dial()
	phone.say(`{"type":"hello","ack":true,"email":"` + ann + `","assertion":"dev","status":"online"}`)
	phone.hear()
	notify := func(more string, want int) {
		t.Helper()
		chat.say(fmt.Sprintf(`{"action":"notify","uid":%q,"message":"m"%s}`, uid[ann], more))
		chat.expect(fmt.Sprintf(`{"result":"OK","queue_size":%d}`, want))
	}
	take := func() {
		t.Helper()
		phone.say(`{"type":"ack","ids":["` + phone.notifications()[0].ID + `"]}`)
		phone.expect(`{"result":"OK","type":"ack"}`)
	}
	notify("", 1)
	take()
	notify("", 2)
	take()
	notify(`,"collapse_key":"k"`, 3)
	take()
	notify(`,"collapse_key":"k"`, 3)
	take()
	notify(`,"ttl":10`, 4)
	take()
	f.clock.add(11 * time.Second)
	notify("", 4)
	take()
	f.must(f.hub.SetPaused(ann, "chat", false, presence.ByUser))
	chat.expectStatus("online " + uid[ann])
	notify("", 1)
	take()
	f.until("it is removed", func() bool { n, _ := f.store.Waiting(ann); return len(n) == 0 })
	notify("", 1)
	item := phone.notifications()[0]
	phone.say(`{"status":"offline"}`) // connected, and nobody may know
	phone.expect(okay)
	chat.expectStatus("offline " + uid[ann])
	notify("", 2)
	take()
	phone.say(`{"type":"ack","ids":["` + item.ID + `"]}`)
	phone.expect(`{"result":"OK","type":"ack"}`)
	notify("", 3)
}
