package wsbridge_test

import (
	"slices"
	"testing"
	"time"

	"presenced/presence"
	"presenced/wsbridge"
)

// quietPair is a quiet phone and a desk that is not: what the desk has heard, the phone would have been told too. The
// desk never confirms, so all of it waits for the phone.
type quietPair struct {
	*fixture
	chat        *service
	phone, desk *device
	heard       map[string]bool // by text: on the desk
}

func newQuietPair(t *testing.T, quiet string, change ...func(*wsbridge.Config)) *quietPair {
	f := newFixture(t, change...)
	p := &quietPair{fixture: f, chat: f.app("chat"), heard: map[string]bool{}}
	p.phone, p.desk = f.dial(), f.dial()
	p.phone.say(`{"type":"hello","email":"ann@example.org","assertion":"dev","device":"phone","ack":true,"quiet":` + quiet + `}`)
	p.phone.hear()
	p.desk.say(`{"type":"hello","email":"ann@example.org","assertion":"dev","device":"desk","ack":true}`)
	p.desk.hear()
	return p
}

// notify sends normal notifications, one after the other, and waits until the desk has them.
func (p *quietPair) notify(texts ...string) {
	p.t.Helper()
	for _, text := range texts {
		p.send(presence.Message{Message: text, TTL: -1})
	}
}

func (p *quietPair) send(m presence.Message) {
	p.t.Helper()
	p.chat.send(ann, m)
	for !p.heard[m.Message] {
		for _, text := range p.desk.texts(1) {
			p.heard[text] = true
		}
	}
}

// together checks that the phone gets these, and nothing else, in one frame.
func (p *quietPair) together(want ...string) {
	p.t.Helper()
	var got []string
	for _, i := range p.phone.notifications() {
		got = append(got, i.Message)
	}
	if !slices.Equal(got, want) {
		p.t.Fatalf("the phone got %q, want %q", got, want)
	}
}

// What may wait comes in one frame, in order: with what may not, when the device says anything by itself, and when
// it is quiet no more. An ack is nothing by itself.
func TestQuiet(t *testing.T) {
	p := newQuietPair(t, "true")
	p.notify("1", "2")
	p.send(presence.Message{Message: "3", TTL: -1, High: true})
	p.together("1", "2", "3")
	p.notify("4", "5")
	p.phone.say(`{"type":"ack","ids":["n1"]}`)
	p.phone.expect(`{"result":"OK","type":"ack"}`)
	p.notify("6")
	p.phone.say(`{}`)
	p.phone.expect(`{}`)
	p.together("4", "5", "6")
	p.notify("7", "8")
	p.phone.say(`{"status":"unavailable"}`)
	p.phone.expect(okay)
	p.together("7", "8")
	p.notify("9", "10")
	p.phone.say(`{"type":"quiet","quiet":false,"id":1}`)
	p.phone.expect(`{"result":"OK","id":1,"type":"quiet"}`)
	p.together("9", "10")
	p.notify("11")
	p.together("11")
	p.phone.say(`{"type":"quiet","quiet":true}`)
	p.phone.expect(`{"result":"OK","type":"quiet"}`)
	p.notify("12", "13")
	p.phone.say(`{"type":"hello","email":"ann@example.org","assertion":"dev"}`) // what it leaves out goes back to the default
	p.phone.hear()
	p.together("12", "13")
	for frame, detail := range map[string]string{
		`{"type":"quiet"}`:                 `{"result":"KO","errno":12,"error":"missing field","detail":"quiet","type":"quiet"}`,
		`{"type":"quiet","quiet":1}`:       `{"result":"KO","errno":13,"error":"bad value","detail":"quiet","type":"quiet"}`,
		`{"type":"quiet","quiet":"later"}`: `{"result":"KO","errno":13,"error":"bad value","detail":"quiet","type":"quiet"}`,
	} {
		p.phone.say(frame)
		p.phone.expect(detail)
	}
}

// A device may be quiet while its person is away. One that did not ask for it is not, whatever its status is.
func TestQuietWhileUnavailable(t *testing.T) {
	p := newQuietPair(t, `"unavailable"`)
	p.notify("1")
	p.together("1")
	status := func(s string) {
		t.Helper()
		p.phone.say(`{"status":"` + s + `"}`)
		p.phone.expect(okay)
	}
	status("online")
	p.notify("2")
	p.together("2")
	status("unavailable")
	p.desk.say(`{"status":"unavailable"}`)
	p.desk.expect(okay)
	p.notify("3", "4") // the desk hears it
	status("online")
	p.together("3", "4")
}

// What waits is replaced by its collapse key and ends with its time; what may not wait at all is not for a quiet
// device; a request for consent does not wait, and takes along what does.
func TestQuietKeepsTheRules(t *testing.T) {
	p := newQuietPair(t, "true")
	p.send(presence.Message{Message: "score 1", TTL: -1, Collapse: "score"})
	p.notify("a")
	p.send(presence.Message{Message: "short", TTL: time.Minute})
	p.send(presence.Message{Message: "score 2", TTL: -1, Collapse: "score"})
	p.send(presence.Message{Message: "now or never", TTL: 0})
	p.pass(time.Minute)
	p.send(presence.Message{Message: "urgent, now or never", TTL: 0, High: true})
	p.together("a", "score 2", "urgent, now or never")
	p.notify("b")
	p.must(p.hub.PutApp(presence.App{ID: "new", Name: "New", Component: "new.example", Secret: "s", APIKey: "k", Conflict: presence.Replace}))
	l, err := p.hub.Link("new", presence.ComponentLink)
	p.must(err)
	p.must(l.Subscribe(presence.Peer{Email: ann}, "new.example", "to see"))
	p.phone.expect(`{"requests":[{"app":"new","name":"New","purpose":"to see","time":"2030-05-01T12:01:00Z"}]}`)
	p.together("b")
}

// When a quiet device is asked for a sign of life its radio is awake.
func TestQuietUntilTheHeartbeat(t *testing.T) {
	p := newQuietPair(t, "true", func(c *wsbridge.Config) { c.Heartbeat = 300 * time.Millisecond; c.PongTimeout = time.Second })
	p.notify("1", "2")
	p.together("1", "2")
	if len(p.phone.pings) == 0 {
		t.Error("before any ping")
	}
}

// What waits for a quiet device is on disk: if its socket is lost it comes with the next.
func TestQuietLosesNothing(t *testing.T) {
	p := newQuietPair(t, "true")
	p.notify("1", "2")
	p.phone.drop()
	p.phone = p.dial()
	p.phone.say(`{"type":"hello","email":"ann@example.org","assertion":"dev","device":"phone","quiet":true}`)
	p.phone.hear()
	p.together("1", "2") // who comes is awake
}

// As many as there are come at once, in as few frames as they fit in.
func TestQuietMany(t *testing.T) {
	p := newQuietPair(t, "true")
	var all []string
	for i := range 90 {
		all = append(all, "message "+string(rune('A'+i%26))+string(rune('A'+i/26)))
	}
	p.notify(all...)
	p.phone.say(`{}`)
	p.phone.expect(`{}`)
	var got []string
	frames := 0
	for ; len(got) < len(all); frames++ {
		for _, i := range p.phone.notifications() {
			got = append(got, i.Message)
		}
	}
	if !slices.Equal(got, all) || frames > 2 {
		t.Errorf("%d frames with %q", frames, got)
	}
}

// Notifications wait and nothing else does: answers, refusals and what an app asks come at once, and take along
// what waits.
func TestQuietMakesNothingElseWait(t *testing.T) {
	p := newQuietPair(t, "true")
	for say, hear := range map[string]string{
		`{"type":"send","app":"chat","id":"m1","data":{}}`: `{"result":"OK","id":"m1","type":"send"}`,
		`{"type":"send","app":"none","id":"m2","data":{}}`: `{"result":"KO","errno":60,"error":"no such app for this user","id":"m2","type":"send"}`,
		`{"type":"consent","app":"none","allow":true}`:     `{"result":"KO","errno":60,"error":"no such app for this user","type":"consent"}`,
		`{"type":"dance"}`: `{"result":"KO","errno":11,"error":"unknown frame","type":"dance"}`,
		`{"status":`:       `{"result":"KO","errno":10,"error":"malformed JSON"}`,
	} {
		p.notify("waits")
		p.heard["waits"] = false
		p.phone.say(say)
		p.phone.expect(hear)
		p.together("waits")
	}
}

// That some were discarded is told at once, and the rest with it: else it would be more and more.
func TestQuietHearsOfDropped(t *testing.T) {
	f := newFixture(t)
	chat, phone := f.app("chat"), f.dial()
	phone.say(`{"type":"hello","email":"ann@example.org","assertion":"dev","device":"phone","ack":true,"quiet":true}`)
	phone.hear()
	for range 101 {
		chat.send(ann, presence.Message{Message: "x", TTL: -1})
	}
	phone.expect(`{"dropped":[{"app":"chat","count":1}]}`)
	for got := 0; got < 100; {
		got += len(phone.notifications())
	}
}
