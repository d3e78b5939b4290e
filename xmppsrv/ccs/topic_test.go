package ccs_test

import (
	"fmt"
	"strings"
	"testing"

	"presenced/presence"
)

// Devices that subscribed get what is for the topic, while the grant lasts under which they did.
func TestTopics(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.allow("bob@example.org", "p2")
	phone, tablet, bob := g.device("ann@example.org", "phone"), g.device("ann@example.org", "tablet"), g.device("bob@example.org", "phone")
	for _, sub := range []struct {
		d     *device
		topic string
	}{{phone, "news"}, {phone, "news"}, {bob, "news"}, {bob, "sport"}, {tablet, "sport"}, {bob, "old"}} {
		g.must(sub.d.Subscribe("chat", sub.topic))
	}
	g.must(bob.Unsubscribe("chat", "old"))
	all := map[string]*device{"phone": phone, "tablet": tablet, "bob": bob}
	s := g.connect()
	send := func(id, whom, to string, want ...string) {
		t.Helper()
		s.gcm(`{"` + whom + `":"` + to + `","message_id":"` + id + `","data":{"id":"` + id + `"},"delivery_receipt_requested":true}`)
		s.want(ack(to, id))
		for name, d := range all {
			if strings.Contains(strings.Join(want, " "), name) {
				if n := d.one(); n.Ref != id {
					t.Errorf("%s got %+v", name, n)
				}
			} else {
				d.none()
			}
		}
	}
	send("m1", "to", "/topics/news", "phone", "bob")
	send("m2", "to", "/topics/sport", "tablet", "bob")
	send("m3", "to", "/topics/old")
	send("m4", "to", "/topics/unknown")
	send("m5", "condition", "'news' in topics || 'sport' in topics", "phone", "tablet", "bob")
	g.must(g.hub.Revoke("bob@example.org", "chat", presence.ByUser))
	g.allow("bob@example.org", "p3")
	send("m6", "to", "/topics/news", "phone")
	s.fence() // there are no receipts of topics
	quiet := presence.Grant{Email: "ann@example.org", App: "chat", PUID: "p1", Address: presence.ByPUID}
	_, err := g.hub.Allow(quiet, presence.ByUser)
	g.must(err)
	send("m7", "to", "/topics/news") // she wants no notifications any more
	quiet.Notify = true
	_, err = g.hub.Allow(quiet, presence.ByUser)
	g.must(err)
	send("m8", "to", "/topics/news", "phone")
	s.gcm(`{"to":"/topics/news","message_id":"dry","dry_run":true}`)
	s.want(ack("/topics/news", "dry"))
	phone.none()
	s.gcm(`{"to":"/topics/news","message_id":"big","data":{"a":"` + strings.Repeat("x", 4096) + `"}}`)
	s.want(nack("/topics/news", "big", "INVALID_JSON", "InvalidJson: MESSAGE_TOO_BIG : The message is larger than allowed"))
	g.must(g.db.CheckConsistency())
}

func TestCondition(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	g.allow("bob@example.org", "p2")
	ann, bob := g.device("ann@example.org", "phone"), g.device("bob@example.org", "phone")
	g.must(ann.Subscribe("chat", "a"))
	g.must(ann.Subscribe("chat", "b"))
	g.must(bob.Subscribe("chat", "b"))
	s := g.connect()
	s.gcm(`{"condition":"'a' in topics && 'b' in topics","message_id":"m"}`)
	if p := parse(t, s.next()); p.Type != "ack" || p.From != "'a' in topics && 'b' in topics" {
		t.Errorf("%+v", p)
	}
	ann.one()
	bob.none()
}

// Who may subscribe, to what, to how much.
func TestSubscriptionsAreBounded(t *testing.T) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	for i := range 100 {
		g.must(ann.Subscribe("chat", fmt.Sprint("t", i)))
	}
	g.must(ann.Subscribe("chat", "t0"))
	for _, c := range []struct{ app, topic, err string }{
		{"chat", "one-too-many", "too many"}, {"chat", "", "bad value"}, {"chat", "a b", "bad value"}, {"chat", "é", "bad value"},
		{"chat", strings.Repeat("a", 129), "bad value"}, {"other", "t", "no such user"},
	} {
		if err := ann.Subscribe(c.app, c.topic); err == nil || !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s of %s: %v", c.topic, c.app, err)
		}
	}
}

// More subscribers than are looked at once; and too many messages to topics at once.
func TestManySubscribers(t *testing.T) {
	g := start(t)
	var devices []*device
	for i := range 300 {
		email := fmt.Sprintf("u%d@example.org", i)
		g.allow(email, fmt.Sprint("p", i))
		d := g.device(email, "phone")
		g.must(d.Subscribe("chat", "all"))
		devices = append(devices, d)
	}
	s := g.connect()
	s.gcm(`{"to":"/topics/all","message_id":"m"}`)
	s.want(ack("/topics/all", "m"))
	for _, d := range devices {
		d.one()
	}
}

func TestTopicsRate(t *testing.T) {
	g := start(t)
	g.srv.MaxFanouts(0)
	s := g.connect()
	for _, fields := range []string{"", `,"dry_run":true`} {
		s.gcm(`{"to":"/topics/all","message_id":"m"` + fields + `}`)
		s.want(nack("/topics/all", "m", "TOPICS_MESSAGE_RATE_EXCEEDED", "Topics message rate exceeded"))
	}
}
