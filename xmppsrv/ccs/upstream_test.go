package ccs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"presenced/presence"
)

func ackUp(to, id string) string {
	return `{"to":"` + to + `","message_id":"` + id + `","message_type":"ack"}`
}

// A device's message comes until it is acknowledged, and then never again.
func TestUpstream(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	g.must(ann.Send("chat", "m-0", []byte(`{"waited":true}`), -1))
	s := g.connect()
	s.want(upstream(ann.token, "m-0", `{"waited":true}`))
	g.must(ann.Send("chat", "m-1", []byte(`{"text":"a<b & \"c\""}`), -1))
	s.want(upstream(ann.token, "m-1", `{"text":"a&lt;b &amp; \"c\""}`))
	g.must(ann.Send("chat", "", []byte(`{}`), -1))
	unnamed := parse(t, s.next())
	if unnamed.ID == "" {
		t.Error("a message without an id has none")
	}
	s.gcm(ackUp(ann.token, "m-1"))
	s.fence()
	s.send("</stream:stream>")
	s.ends("</stream:stream>")

	s = g.connect() // what was not acknowledged comes again, under the same id
	s.want(upstream(ann.token, "m-0", `{"waited":true}`))
	if again := parse(t, s.next()); again.ID != unnamed.ID {
		t.Errorf("%q comes again as %q", unnamed.ID, again.ID)
	}
	s.gcm(ackUp(ann.token, "m-0"))
	s.gcm(ackUp(ann.token, unnamed.ID))
	s.gcm(ackUp(ann.token, "m-0")) // twice, and one that never was: nothing is said
	s.gcm(ackUp(ann.token, "never"))
	s.fence()
	s.c.Close()
	g.connect().fence()
	g.eventually("nothing waits", func() bool {
		ms, err := g.db.UpstreamOf("chat", 0, 10)
		g.must(err)
		return len(ms) == 0
	})
}

// Devices choose their ids, so two may choose the same: an acknowledgement is for the one that it names, also when it
// comes twice.
func TestAckIsForOneDevice(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.allow("bob@example.org", "p2")
	ann, bob := g.device("ann@example.org", "phone"), g.device("bob@example.org", "phone")
	s := g.connect()
	for _, d := range []*device{ann, bob} {
		g.must(d.Send("chat", "1", []byte(`{}`), -1))
		s.want(upstream(d.token, "1", `{}`))
	}
	for _, to := range []string{strings.ToUpper(ann.token), ann.token, "gcm.googleapis.com", "nobody/x"} {
		s.gcm(ackUp(to, "1"))
	}
	s.fence()
	s.c.Close()
	s = g.connect()
	s.want(upstream(bob.token, "1", `{}`))
	s.fence()
}

// With TTL 0 a message is for who is there, and is not repeated.
func TestUpstreamNow(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	s := g.connect()
	g.must(ann.Send("chat", "now", []byte(`{}`), 0))
	s.want(upstream(ann.token, "now", `{}`))
	s.c.Close()
	g.eventually("it is gone", func() bool { return g.srv.Stats().Sessions == 0 })
	g.must(ann.Send("chat", "never", []byte(`{}`), 0))
	g.clock.add(time.Minute)
	s = g.connect()
	g.must(ann.Send("chat", "then", []byte(`{}`), -1))
	s.want(upstream(ann.token, "then", `{}`))
}

// A hundred wait for their acknowledgements, not more; each that comes makes room. Receipts have their own place.
func TestUpstreamWindow(t *testing.T) {
	g := start(t, func(c *setup) { c.Limits.UpstreamPerApp = 1000 })
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	s := g.connect()
	for i := range 150 {
		g.must(ann.Send("chat", fmt.Sprint(i), []byte(`{}`), -1))
	}
	for i := range 100 {
		s.want(upstream(ann.token, fmt.Sprint(i), `{}`))
	}
	s.fence()
	s.gcm(`{"to":"` + ann.token + `","message_id":"m","delivery_receipt_requested":true}`)
	s.want(ack(ann.token, "m"))
	ann.one()
	if p := parse(t, s.next()); p.ID != "dr2:m" {
		t.Errorf("%+v", p)
	}
	for i := range 50 {
		s.gcm(ackUp(ann.token, fmt.Sprint(i)))
		s.want(upstream(ann.token, fmt.Sprint(100+i), `{}`))
	}
	s.fence()
}

// What expires while it waits for room is not told, and holds nobody up.
func TestUpstreamExpires(t *testing.T) {
	g := start(t, func(c *setup) { c.Limits.UpstreamPerApp = 200 })
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	s := g.connect()
	for i := range 100 {
		g.must(ann.Send("chat", fmt.Sprint(i), []byte(`{}`), -1))
		s.want(upstream(ann.token, fmt.Sprint(i), `{}`))
	}
	for i := range 5 {
		g.must(ann.Send("chat", fmt.Sprint("short", i), []byte(`{}`), time.Second))
	}
	g.must(ann.Send("chat", "long", []byte(`{}`), -1))
	s.fence()
	g.clock.add(time.Minute)
	s.gcm(ackUp(ann.token, "0"))
	s.want(upstream(ann.token, "long", `{}`))
	s.fence()
}

// Messages of many users are spread over the connections; each user's stay in order on one.
func TestUpstreamIsSpread(t *testing.T) {
	g := start(t)
	const users, each = 30, 5
	type came struct {
		conn int
		p    payload
	}
	got := make(chan came, users*each)
	for i := range 3 {
		s := g.connect()
		go func() {
			for {
				e, err := s.read()
				if err != nil || e == "" {
					return
				}
				got <- came{i, parse(t, e)}
			}
		}()
	}
	for u := range users {
		email := fmt.Sprintf("u%d@example.org", u)
		g.allow(email, fmt.Sprint("p", u))
		d := g.device(email, "phone")
		for i := range each {
			g.must(d.Send("chat", fmt.Sprint(i), []byte(`{}`), -1))
		}
	}
	where, next, load := map[string]int{}, map[string]int{}, [3]int{}
	for range users * each {
		c := <-got
		if conn, known := where[c.p.From]; known && conn != c.conn {
			t.Errorf("%s moved from %d to %d", c.p.From, conn, c.conn)
		}
		if c.p.ID != fmt.Sprint(next[c.p.From]) {
			t.Errorf("%s sent %s for %d", c.p.From, c.p.ID, next[c.p.From])
		}
		where[c.p.From] = c.conn
		next[c.p.From]++
		load[c.conn]++
	}
	for conn, n := range load {
		if n == 0 {
			t.Errorf("connection %d got nothing: %v", conn, load)
		}
	}
}

// What one connection leaves behind goes to the others at once.
func TestUpstreamMovesOn(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	one, two := g.connect(), g.connect()
	got := make(chan *server, 2)
	g.must(ann.Send("chat", "m", []byte(`{}`), -1))
	for _, s := range []*server{one, two} {
		go func() {
			if e, err := s.read(); err == nil && e != "" {
				got <- s
			}
		}()
	}
	first := <-got
	first.c.Close() // without a word
	second := <-got
	if first == second {
		t.Fatal("it came twice to one")
	}
	second.gcm(ackUp(ann.token, "m"))
	second.fence()
	g.eventually("nothing waits", func() bool {
		ms, err := g.db.UpstreamOf("chat", 0, 10)
		g.must(err)
		return len(ms) == 0
	})
}

// What waits for a connection is not told once the user has revoked the app.
func TestRevokedUpstream(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.allow("bob@example.org", "p2")
	ann, bob := g.device("ann@example.org", "phone"), g.device("bob@example.org", "phone")
	s := g.connect()
	g.must(ann.Send("chat", "a", []byte(`{}`), -1))
	s.want(upstream(ann.token, "a", `{}`))
	g.must(bob.Send("chat", "b", []byte(`{}`), -1))
	s.want(upstream(bob.token, "b", `{}`))
	s.c.Close()
	g.eventually("it is gone", func() bool { return g.srv.Stats().Sessions == 0 })
	g.must(g.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	s = g.connect()
	s.want(upstream(bob.token, "b", `{}`))
	s.fence()
}

// That a message from a device had to wait is no message to one: nothing is refused where the user wants no notifications.
func TestWaitingIsNoRefusal(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1", func(gr *presence.Grant) { gr.Notify = false })
	ann := g.device("ann@example.org", "phone")
	s := g.connect()
	g.must(ann.Send("chat", "m", []byte(`{}`), -1))
	s.want(upstream(ann.token, "m", `{}`))
	s.c.Close()
	g.eventually("it is gone", func() bool { return g.srv.Stats().Sessions == 0 })
	s = g.connect()
	s.want(upstream(ann.token, "m", `{}`))
	if n := g.hub.Stats().Refused; n != 0 {
		t.Errorf("%d were refused", n)
	}
}

// A receipt names the device; it waits for the next connection, and whoever never acknowledges one is not held up.
func TestReceipts(t *testing.T) {
	g := start(t, func(c *setup) { c.KeepSender = time.Hour })
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	s := g.connect()
	s.gcm(`{"to":"p1","message_id":"m-1","delivery_receipt_requested":true}`)
	s.want(ack("p1", "m-1"))
	ann.one()
	e := s.next()
	p := parse(t, e)
	var data struct {
		Status   string `json:"message_status"`
		Original string `json:"original_message_id"`
		Device   string `json:"device_registration_id"`
		Sent     string `json:"message_sent_timestamp"`
	}
	g.must(json.Unmarshal(p.Data, &data))
	if data.Status != "MESSAGE_SENT_TO_DEVICE" || data.Original != "m-1" || data.Device != ann.token || len(data.Sent) != 13 {
		t.Errorf("%+v", data)
	}
	want := `<message id="" type="normal"><gcm xmlns="google:mobile:data">{"category":"chat","data":{"message_status":"MESSAGE_SENT_TO_DEVICE","original_message_id":"m-1","device_registration_id":"` +
		ann.token + `","message_sent_timestamp":"` + data.Sent + `"},"message_id":"dr2:m-1","message_type":"receipt","time_to_live":0,"from":"gcm.googleapis.com"}</gcm></message>`
	if e != want {
		t.Errorf("got  %s\nwant %s", e, want)
	}
	s.c.Close()
	g.eventually("it is gone", func() bool { return g.srv.Stats().Sessions == 0 })
	g.clock.add(time.Minute)
	s = g.connect() // not acknowledged: again, with the time at which the device confirmed
	if again := s.next(); again != want {
		t.Errorf("got  %s\nwant %s", again, want)
	}
	s.gcm(`{"to":"gcm.googleapis.com","message_id":"dr2:m-1","message_type":"ack"}`)
	s.gcm(`{"to":"p1","message_id":"m-2","delivery_receipt_requested":true}`)
	s.want(ack("p1", "m-2"))
	s.c.Close()
	g.eventually("it is gone", func() bool { return g.srv.Stats().Sessions == 0 })
	ann.one() // confirmed while nobody is there
	s = g.connect()
	if p := parse(t, s.next()); p.ID != "dr2:m-2" {
		t.Errorf("%+v", p)
	}
	s.gcm(`{"to":"gcm.googleapis.com","message_id":"m-2","message_type":"ack"}`) // as google/go-gcm does
	s.fence()
	for i := range 250 {
		id := fmt.Sprint("r", i)
		s.gcm(`{"to":"p1","message_id":"` + id + `","delivery_receipt_requested":true}`)
		s.want(ack("p1", id))
		ann.one()
		if p := parse(t, s.next()); p.ID != "dr2:"+id {
			t.Errorf("%+v", p)
		}
	}
}

// Hidden from the app, there is no receipt, ever.
func TestNoReceiptWhileHidden(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	s := g.connect()
	g.must(g.hub.SetPaused("ann@example.org", "chat", true, presence.ByUser))
	s.gcm(`{"to":"p1","message_id":"m-1","delivery_receipt_requested":true}`)
	s.want(ack("p1", "m-1"))
	ann.one()
	g.must(g.hub.SetPaused("ann@example.org", "chat", false, presence.ByUser))
	s.gcm(`{"to":"p1","message_id":"m-2","delivery_receipt_requested":true}`)
	s.want(ack("p1", "m-2"))
	ann.one()
	if p := parse(t, s.next()); p.ID != "dr2:m-2" {
		t.Errorf("%+v", p)
	}
}
