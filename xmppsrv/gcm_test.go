package xmppsrv_test

import (
	"strings"
	"testing"

	"presenced/presence"
)

// The payload of CCS on a component stream: the token is in it, or is the address; answers come as JSON.
func TestGCM(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	c := g.connect("chat")
	c.hello()
	c.next() // ann is there
	say := func(to, json string) {
		c.send("<message from='bob@chat.example' to='" + to + "' id='x'><gcm xmlns='google:mobile:data'>" + json + "</gcm></message>")
	}
	answer := func(to, json string) string {
		return "<message from='" + to + "' to='bob@chat.example'><gcm xmlns='google:mobile:data'>" + json + "</gcm></message>"
	}
	tokens, err := g.hub.Addresses("ann@example.org", "phone")
	g.must(err)
	token := tokens["chat"]
	for _, m := range []struct{ to, json, answer string }{
		{"gw.example", `{"to":"` + token + `","message_id":"m1","notification":{"body":"hi"},"delivery_receipt_requested":true}`,
			`{"message_type":"ack","from":"` + token + `","message_id":"m1"}`},
		{"p1@gw.example", `{"message_id":"m2","data":{"a":1}}`, `{"message_type":"ack","from":"p1@gw.example","message_id":"m2","registration_id":"p1"}`},
		{"gw.example", `{"message_id":"m3"}`, `{"message_type":"nack","message_id":"m3","from":"","error":"INVALID_JSON","error_description":"InvalidJson: JSON_PARSING_ERROR : Missing Required Field: to\u000a"}`},
		{"nobody@gw.example", `{"message_id":"m4"}`, `{"message_type":"nack","message_id":"m4","from":"nobody@gw.example","error":"DEVICE_UNREGISTERED","error_description":"Unregistered token on 'to' field"}`},
		{"p1@gw.example", `{"to":"/topics/x","message_id":"m5"}`, `{"message_type":"nack","message_id":"m5","from":"/topics/x","error":"INVALID_JSON","error_description":"InvalidJson: INVALID_VALUE : topics are for CCS connections"}`},
	} {
		say(m.to, m.json)
		c.want(answer(m.to, m.answer))
	}
	group, err := g.hub.AddDeviceGroup("chat", "all", []presence.Peer{{PUID: "p1"}})
	g.must(err)
	say("gw.example", `{"to":"`+group.Key+`","message_id":"m6"}`)
	c.want(answer("gw.example", `{"message_type":"ack","from":"`+group.Key+`","message_id":"m6","success":1,"failure":0}`))
	say("gw.example", `{"a":1}`)
	if got := c.next(); !strings.Contains(got, "type='error'") || !strings.Contains(got, "bad-request") {
		t.Error(got)
	}
	say("gw.example", `{"to":"p1/x","message_id":"up","message_type":"ack"}`)
	c.fence()
	o, err := ann.Next(10)
	g.must(err)
	if len(o.Notifications) != 3 || o.Notifications[0].Message != "hi" || o.Notifications[0].Source != "chat" || string(o.Notifications[1].Data) != `{"a":"1"}` {
		t.Fatalf("%+v", o.Notifications)
	}
	ann.Confirm([]uint64{o.Notifications[0].Seq})
	c.want("<message from='p1@gw.example' to='bob@chat.example'><received xmlns='urn:xmpp:receipts' id='m1'/></message>")
}

// An <r/> is answered when the message before it is on disk.
func TestGCMIsCounted(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	c := g.connect("chat")
	c.enable()
	c.send("<message from='chat.example' to='p1@gw.example'><gcm xmlns='google:mobile:data'>{\"message_id\":\"m\"}</gcm></message>" + ask)
	var all string
	for !strings.Contains(all, "<a ") {
		all += c.next()
	}
	if !strings.Contains(all, "h='1'") {
		t.Error(all)
	}
}

// What comes again over the next connection, because its ack was lost, is acknowledged and nothing else.
func TestGCMSentAgain(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	for range 2 {
		c := g.connect("chat")
		c.hello()
		c.next() // ann is there
		c.send("<message from='chat.example' to='p1@gw.example'><gcm xmlns='google:mobile:data'>{\"message_id\":\"m\"}</gcm></message>")
		c.want("<message from='p1@gw.example' to='chat.example'><gcm xmlns='google:mobile:data'>" +
			`{"message_type":"ack","from":"p1@gw.example","message_id":"m","registration_id":"p1"}</gcm></message>`)
		c.c.Close()
	}
	if o, err := ann.Next(10); err != nil || len(o.Notifications) != 1 {
		t.Errorf("%+v, %v", o.Notifications, err)
	}
}
