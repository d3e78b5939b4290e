package ccs_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"presenced/presence"
)

// A message is acknowledged, and is what the device gets.
func TestDownstream(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	s := g.connect()
	for i, c := range []struct{ fields, want string }{
		{`"data":{"hello":"world"},"time_to_live":600,"delay_while_idle":true`, `Chat & Co|||{"hello":"world"}|false`},
		{`"notification":{"body":"B <&>","title":"T","click_action":"https://e/?a&b"},"time_to_live":"60"`, `Chat & Co|B <&>|https://e/?a&b|{"title":"T"}|true`},
		{`"notification":{"title":"T"},"priority":"normal","time_to_live":0`, `Chat & Co|T|||false`},
		{`"data":{"n":1,"o":{"a":[1, true]}},"priority":"high","collapse_key":"k"`, `Chat & Co|||{"n":"1","o":"{\"a\":[1,true]}"}|true`},
	} {
		id := fmt.Sprint("m-", i)
		s.gcm(`{"to":"` + ann.token + `","message_id":"` + id + `",` + c.fields + `}`)
		s.want(ack(ann.token, id))
		if got := text(ann.one()); got != c.want {
			t.Errorf("%s\ngot  %s\nwant %s", c.fields, got, c.want)
		}
	}
	// All of a user's devices, and a device that is away.
	tablet := g.device("ann@example.org", "tablet")
	s.gcm(`{"to":"p1","message_id":"all"}`)
	s.want(ack("p1", "all"))
	ann.mail()
	if tablet.mail()[0].Ref != "all" {
		t.Error("the second device was not told")
	}
	tablet.Close()
	s.gcm(`{"to":"` + tablet.token + `","message_id":"later","data":{"a":"b"}}`)
	s.want(ack(tablet.token, "later"))
	ann.none()
	back := g.device("ann@example.org", "tablet")
	ns := back.mail()
	if ns[len(ns)-1].Ref != "later" {
		t.Errorf("%+v", ns)
	}
}

// A collapse key replaces what waits for the same token, and takes nothing from the user's other devices.
func TestCollapse(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	phone, tablet := g.device("ann@example.org", "phone"), g.device("ann@example.org", "tablet")
	for _, d := range []*device{phone, tablet} {
		g.must(d.Subscribe("chat", "news"))
		d.Close()
	}
	s := g.connect()
	for i, to := range []string{phone.token, phone.token, tablet.token, "/topics/news", phone.token} {
		id, key := fmt.Sprint("m", i), "sync"
		if to == "/topics/news" {
			key = "news"
		}
		s.gcm(`{"to":"` + to + `","message_id":"` + id + `","collapse_key":"` + key + `","data":{"a":"b"}}`)
		s.want(ack(to, id))
	}
	for id, want := range map[string]string{"phone": "m3 m4", "tablet": "m2 m3"} {
		var got []string
		for _, n := range g.device("ann@example.org", id).mail() {
			got = append(got, n.Ref)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s got %v, want %s", id, got, want)
		}
	}
}

// The prefix, the id and the type of a message do not matter, and two may come at once.
func TestSpellings(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	s := g.connect()
	json := func(id string) string { return `{"to":"p1","message_id":"` + id + `"}` }
	s.send(`<message id="m1" type="normal"><x:gcm xmlns:x="google:mobile:data">` + json("a") + `</x:gcm></message>` +
		`<message><gcm xmlns="google:mobile:data"><![CDATA[` + json("b") + `]]></gcm></message>`)
	s.want(ack("p1", "a"), ack("p1", "b"))
	s.gcm(json("c"))
	s.want(ack("p1", "c"))
	for _, to := range []string{"P1", "p1@gw.example"} {
		s.gcm(`{"to":"` + to + `","message_id":"d"}`)
		s.want(`<message><data:gcm xmlns:data="google:mobile:data">{"message_type":"ack","from":"` + to + `","message_id":"d","registration_id":"p1"}</data:gcm></message>`)
	}
}

// Each code, with its description.
func TestNacks(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.allow("bob@example.org", "p2", func(gr *presence.Grant) { gr.Notify = false })
	s := g.connect()
	big := strings.Repeat("x", 4096)
	for _, c := range []struct{ to, fields, code, text string }{
		{"", `"data":{}`, "INVALID_JSON", `InvalidJson: JSON_PARSING_ERROR : Missing Required Field: to\u000a`},
		{"p1", `"time_to_live":"abc"`, "INVALID_JSON", `InvalidJson: JSON_TYPE_ERROR : Field \"time_to_live\" must be a JSON java.lang.Number: abc`},
		{"p1", `"time_to_live":-1`, "INVALID_JSON", `InvalidJson: INVALID_TTL : Invalid value (-1) for \"time_to_live\": must be between 0 and \"2419200\"\u000a`},
		{"p1", `"data":{"a":"` + big + `"}`, "INVALID_JSON", `InvalidJson: MESSAGE_TOO_BIG : The message is larger than allowed`},
		{"p1", `"collapse_key":"` + big + `"`, "INVALID_JSON", `InvalidJson: INVALID_VALUE : A field is longer than allowed`},
		{"SomeInvalid:RegistrationId", `"data":{}`, "BAD_REGISTRATION", `Invalid token on 'to' field: SomeInvalid:RegistrationId`},
		{"p1/nodevice", `"data":{}`, "DEVICE_UNREGISTERED", `Unregistered token on 'to' field`},
		{"nobody", `"data":{}`, "DEVICE_UNREGISTERED", `Unregistered token on 'to' field`},
		{"p2", `"data":{}`, "DEVICE_UNREGISTERED", `The user allows no notifications`},
		{"", `"message_type":"ack"`, "BAD_ACK", `Bad ack: the field 'to' is missing`},
	} {
		for _, dry := range []string{"", `,"dry_run":true`} { // which is refused for the same reasons
			s.gcm(`{"to":"` + c.to + `","message_id":"m",` + c.fields + dry + `}`)
			s.want(nack(c.to, "m", c.code, c.text))
		}
	}
	if n := g.srv.Stats().Nacked; n["INVALID_JSON"] != 10 || n["DEVICE_UNREGISTERED"] != 6 {
		t.Errorf("counted %v", n)
	}
}

// Just as much as allowed is allowed; the source counts.
func TestAsBigAsAllowed(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	s := g.connect()
	room := 4096 - len("Chat & Co")
	for _, c := range []struct {
		n    int
		want string
	}{{room, ack("p1", "m")}, {room + 1, nack("p1", "m", "INVALID_JSON", "InvalidJson: MESSAGE_TOO_BIG : The message is larger than allowed")}} {
		s.gcm(`{"to":"p1","message_id":"m","notification":{"body":"` + strings.Repeat("x", c.n) + `"}}`)
		s.want(c.want)
	}
}

// What cannot be refused by its id comes back as it was.
func TestStanzaErrors(t *testing.T) {
	g := start(t)
	s := g.connect()
	s.send(`<message id="3"><gcm xmlns="google:mobile:data">{"random": "text"}</gcm></message>`)
	s.want(`<message id="3" type="error" to="` + s.jid + `"><gcm xmlns="google:mobile:data">{"random": "text"}</gcm>` +
		`<error code="400" type="modify"><bad-request xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/><text xmlns="urn:ietf:params:xml:ns:xmpp-stanzas">` +
		"InvalidJson: JSON_PARSING_ERROR : Missing Required Field: message_id\n</text></error></message>")
	s.send(`<message><gcm xmlns="google:mobile:data">no json</gcm></message>`)
	if got := s.next(); !strings.Contains(got, `<message id="" type="error"`) || !strings.Contains(got, "no json</gcm>") {
		t.Error(got)
	}
	s.send(`<message id="4"><gcm xmlns="google:mobile:data">` + strings.Repeat("x", 5000) + `</gcm></message>`)
	if got := s.next(); strings.Contains(got, "xxx") {
		t.Error(got)
	}
}

// A token that is nobody's, of a user that never allowed the app, and one that she revoked are the same.
func TestParity(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	gone := ann.token
	s := g.connect()
	s.gcm(`{"to":"` + gone + `","message_id":"m"}`)
	s.want(ack(gone, "m"))
	g.must(g.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	g.app("other")
	_, err := g.hub.Allow(presence.Grant{Email: "ann@example.org", App: "other", PUID: "q1", Address: presence.ByPUID, Notify: true}, presence.ByUser)
	g.must(err)
	for _, to := range []string{gone, "p1", "q1", "nobody", "nobody/x", `ann\\40example.org`, `nobody\\40example.org`} {
		for _, fields := range []string{`"data":{}`, `"dry_run":true`, `"time_to_live":0`} {
			s.gcm(`{"to":"` + to + `","message_id":"m",` + fields + `}`)
			s.want(nack(to, "m", "DEVICE_UNREGISTERED", "Unregistered token on 'to' field"))
		}
	}
	g.allow("ann@example.org", "p9") // and again: other tokens
	s.gcm(`{"to":"` + gone + `","message_id":"m"}`)
	s.want(nack(gone, "m", "DEVICE_UNREGISTERED", "Unregistered token on 'to' field"))
}

// A user whom the app asked by e-mail is known by it.
func TestByEmail(t *testing.T) {
	g := start(t)
	g.allow("tarek@mozilla.com", "p1", func(gr *presence.Grant) { gr.Address = presence.ByEmail })
	d := g.device("tarek@mozilla.com", "phone")
	token := strings.ReplaceAll(d.token, `\`, `\\`)
	s := g.connect()
	s.gcm(`{"to":"` + token + `","message_id":"m"}`)
	s.want(ack(token, "m"))
	d.one()
	g.must(d.Send("chat", "up", []byte(`{"a":1}`), -1))
	s.want(upstream(token, "up", `{"a":1}`))
	s.gcm(`{"to":"p1","message_id":"m"}`)
	s.want(nack("p1", "m", "DEVICE_UNREGISTERED", "Unregistered token on 'to' field"))
}

func TestDryRun(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	s := g.connect()
	s.gcm(`{"to":"` + ann.token + `","message_id":"m1","dry_run":true,"data":{"a":"b"}}`)
	s.want(ack(ann.token, "m1"))
	s.gcm(`{"to":"` + ann.token + `","message_id":"m2","data":{"a":"b"}}`)
	s.want(ack(ann.token, "m2"))
	if n := ann.one(); n.Ref != "m2" {
		t.Errorf("%+v", n)
	}
}

// Who sends too often to one token is told so; the others go on.
func TestTargetRate(t *testing.T) {
	g := start(t, func(c *setup) { c.TargetBurst, c.TargetRate = 2, 0.001 })
	g.allow("ann@example.org", "p1")
	g.allow("bob@example.org", "p2")
	s := g.connect()
	for range 2 {
		s.gcm(`{"to":"p1","message_id":"m"}`)
		s.want(ack("p1", "m"))
	}
	for _, to := range []string{"p1", "P1", "p1@gw.example"} { // the same token, however it is spelt
		for _, fields := range []string{"", `,"dry_run":true`} {
			s.gcm(`{"to":"` + to + `","message_id":"m"` + fields + `}`)
			s.want(nack(to, "m", "DEVICE_MESSAGE_RATE_EXCEEDED", "Downstream message rate exceeded for this registration id"))
		}
	}
	s.gcm(`{"to":"p2","message_id":"m"}`)
	s.want(ack("p2", "m"))
	g.clock.add(time.Hour)
	s.gcm(`{"to":"p1","message_id":"m"}`)
	s.want(ack("p1", "m"))
}

// A rate of 0 limits nobody.
func TestNoTargetRate(t *testing.T) {
	g := start(t, func(c *setup) { c.TargetBurst = 1 })
	g.allow("ann@example.org", "p1")
	s := g.connect()
	for range 3 {
		s.gcm(`{"to":"p1","message_id":"m"}`)
		s.want(ack("p1", "m"))
	}
}

// A message that could not be stored was not accepted.
func TestStorageFails(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	s := g.connect()
	g.must(g.db.Close())
	for _, to := range []string{"p1", "/topics/news"} {
		for _, fields := range []string{"", `,"dry_run":true`} {
			s.gcm(`{"to":"` + to + `","message_id":"m"` + fields + `}`)
			s.want(nack(to, "m", "SERVICE_UNAVAILABLE", "The storage is not available"))
		}
	}
}

// A server that sends far more than the window without reading is held up, and loses nothing.
func TestWindow(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	s := g.connect()
	const n = 2000
	sent := make(chan error, 1)
	go func() {
		for i := range n {
			if _, err := s.c.Write([]byte(message(fmt.Sprintf(`{"to":"p1","message_id":"m%d","collapse_key":"k"}`, i)))); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for i := range n {
		s.want(ack("p1", fmt.Sprint("m", i)))
	}
	g.must(<-sent)
	s.fence()
}

// A hundred messages without an answer are taken, and no more is read until one is answered; acknowledgements of what
// devices sent go on at the limit.
func TestUnansweredIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &slowStore{hold: make(chan struct{})}
		g := start(t, func(c *setup) {
			c.Pipes, c.Store = newPipes(), func(s presence.Store) presence.Store { slow.Store = s; return slow }
		})
		g.allow("ann@example.org", "p1")
		ann := g.device("ann@example.org", "phone")
		s := g.connect()
		g.must(ann.Send("chat", "up", []byte(`{}`), -1))
		s.want(upstream(ann.token, "up", `{}`))
		for i := range 100 {
			s.gcm(fmt.Sprintf(`{"to":"p1","message_id":"m%d"}`, i))
		}
		s.gcm(ackUp(ann.token, "up"))
		synctest.Wait()
		if ms, err := g.db.UpstreamOf("chat", 0, 1); err != nil || len(ms) > 0 {
			t.Errorf("the acknowledgement is not seen at the limit: %v, %v", ms, err)
		}
		go s.c.Write([]byte(message(`{"to":"p1","message_id":"m100"}`)))
		synctest.Wait()
		if n := slow.asked.Load(); n != 100 {
			t.Errorf("%d are taken without an answer, want 100", n)
		}
		close(slow.hold)
		for i := range 101 {
			s.want(ack("p1", fmt.Sprint("m", i)))
		}
		s.fence()
	})
}
