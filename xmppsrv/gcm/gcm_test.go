package gcm

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"presenced/presence"
	"presenced/xmppsrv/xmlstream"
)

var context = Context{Domain: "gw.example", Source: "Chat"}

// What servers send, and what becomes of it: "TTL high collapse receipt dry | message | action | data".
var understood = []struct{ in, want string }{
	{`{"to":"p1/t1","message_id":"m1"}`, "-1ns false   false false|||"},
	{`{"to":"p1/t1","message_id":"m1","data":{"hello":"world"},"time_to_live":600,"delay_while_idle":true,"delivery_receipt_requested":true}`,
		`10m0s false  true false|||{"hello":"world"}`},
	{`{"to":"p1/t1","message_id":"m1","data":{"b":1.50,"a":true,"c":{"x": [1, 2]},"d":null,"e":"<&\u2028"}}`,
		`-1ns false  false false|||{"a":"true","b":"1.50","c":"{\"x\":[1,2]}","e":"<&` + "\u2028" + `"}`},
	{`{"to":"p1/t1","message_id":"m1","time_to_live":"600"}`, "10m0s false  false false|||"},
	{`{"to":"p1/t1","message_id":"m1","time_to_live":0}`, "0s false  false false|||"},
	{`{"to":"p1/t1","message_id":"m1","time_to_live":2419200}`, "672h0m0s false  false false|||"},
	{`{"to":"p1/t1","message_id":"m1","time_to_live":6e2}`, "10m0s false  false false|||"},
	{`{"to":"p1/t1","message_id":"m1","time_to_live":null,"data":null,"dry_run":null}`, "-1ns false  false false|||"},
	{`{"to":"p1/t1","message_id":"m1","notification":{"body":"B","title":"T","click_action":"https://e/","icon":"i"},"data":{"k":"v","icon":"mine"}}`,
		`-1ns true  false false|B|https://e/|{"icon":"mine","k":"v","title":"T"}`},
	{`{"to":"p1/t1","message_id":"m1","notification":{"title":"T","body_loc_args":["a"]},"priority":"normal"}`,
		`-1ns false  false false|T||{"body_loc_args":"[\"a\"]"}`},
	{`{"to":"p1/t1","message_id":"m1","notification":{"body":"B"}}`, "-1ns true  false false|B||"},
	{`{"to":"p1/t1","message_id":"m1","collapse_key":"ck","priority":"high","dry_run":true}`, "-1ns true ck false true|||"},
	{`{"to":"p1/t1","message_id":"m1","dry_run":"true","restricted_package_name":"x","registration_ids":[],"unknown":[1]}`, "-1ns false  false true|||"},
}

func TestParse(t *testing.T) {
	for _, c := range understood {
		s, err := context.Parse([]byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		m := s.Msg
		got := fmt.Sprintf("%v %v %s %v %v|%s|%s|%s", m.TTL, m.High, m.Collapse, m.Receipt, m.Dry, m.Message, m.Action, m.Data)
		if strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(c.want), " ") {
			t.Errorf("%s\ngot  %s\nwant %s", c.in, got, c.want)
		}
		if m.Ref != "m1" || m.Source != "Chat" || s.Peer != (presence.Peer{PUID: "p1", Tag: "t1"}) || s.Canonical != "" {
			t.Errorf("%s: %+v", c.in, s)
		}
	}
}

// What is refused, by which code, and a part of its description. "!" is a stanza error.
var refused = []struct{ in, code, text string }{
	{``, "!INVALID_JSON", "JSON_PARSING_ERROR"},
	{`null`, "!INVALID_JSON", "JSON_PARSING_ERROR"},
	{`[]`, "!INVALID_JSON", "JSON_PARSING_ERROR"},
	{`{"random": "text"}`, "!INVALID_JSON", "InvalidJson: JSON_PARSING_ERROR : Missing Required Field: message_id\n"},
	{`{"message_id":"","to":"p1"}`, "!INVALID_JSON", "message_id"},
	{`{"message_id":7,"to":"p1"}`, "!INVALID_JSON", "message_id"},
	{`{"message_type":"ack","to":"p1"}`, "!INVALID_JSON", "message_id"},
	{`{"message_id":"m1"}`, "INVALID_JSON", "Missing Required Field: to"},
	{`{"message_id":"m1","to":""}`, "INVALID_JSON", "Missing Required Field: to"},
	{`{"message_id":"m1","to":7}`, "INVALID_JSON", `"to"`},
	{`{"message_id":"m1","registration_ids":["p1"]}`, "INVALID_JSON", "to"},
	{`{"message_id":"m1","to":"p1","condition":"'a' in topics"}`, "INVALID_JSON", "condition"},
	{`{"message_id":"m1","condition":"'a' in"}`, "INVALID_JSON", "condition"},
	{`{"message_id":"m1","message_type":"nack","to":"p1"}`, "INVALID_JSON", "message_type"},
	{`{"message_id":"m1","message_type":"ack"}`, "BAD_ACK", "to"},
	{`{"message_id":"m1","message_type":"ack","to":7}`, "BAD_ACK", "to"},
	{`{"message_id":"m1","to":"SomeInvalid:RegistrationId"}`, "BAD_REGISTRATION", "Invalid token on 'to' field: SomeInvalid:RegistrationId"},
	{`{"message_id":"m1","to":"` + strings.Repeat("A", 152) + `"}`, "BAD_REGISTRATION", "Invalid token"},
	{`{"message_id":"m1","to":"p1/"}`, "BAD_REGISTRATION", ""},
	{`{"message_id":"m1","to":"p1/t/x"}`, "BAD_REGISTRATION", ""},
	{`{"message_id":"m1","to":"p1@else.example"}`, "BAD_REGISTRATION", ""},
	{`{"message_id":"m1","to":"/topics/"}`, "BAD_REGISTRATION", ""},
	{`{"message_id":"m1","to":"/topics/a b"}`, "BAD_REGISTRATION", ""},
	{`{"message_id":"m1","to":"p1","time_to_live":"abc"}`, "INVALID_JSON", `InvalidJson: JSON_TYPE_ERROR : Field "time_to_live" must be a JSON java.lang.Number: abc`},
	{`{"message_id":"m1","to":"p1","time_to_live":""}`, "INVALID_JSON", "time_to_live"},
	{`{"message_id":"m1","to":"p1","time_to_live":true}`, "INVALID_JSON", "time_to_live"},
	{`{"message_id":"m1","to":"p1","time_to_live":"NaN"}`, "INVALID_JSON", "time_to_live"},
	{`{"message_id":"m1","to":"p1","time_to_live":"Inf"}`, "INVALID_JSON", "time_to_live"},
	{`{"message_id":"m1","to":"p1","time_to_live":"6_0"}`, "INVALID_JSON", "must be a JSON java.lang.Number: 6_0"},
	{`{"message_id":"m1","to":"p1","time_to_live":"0x1p9"}`, "INVALID_JSON", "must be a JSON java.lang.Number: 0x1p9"},
	{`{"message_id":"m1","to":"p1","time_to_live":-1}`, "INVALID_JSON", `InvalidJson: INVALID_TTL : Invalid value (-1) for "time_to_live": must be between 0 and "2419200"`},
	{`{"message_id":"m1","to":"p1","time_to_live":2419201}`, "INVALID_JSON", "2419200"},
	{`{"message_id":"m1","to":"p1","time_to_live":1e999}`, "INVALID_JSON", "2419200"},
	{`{"message_id":"m1","to":"p1","time_to_live":1.5}`, "INVALID_JSON", "2419200"},
	{`{"message_id":"m1","to":"p1","data":"x"}`, "INVALID_JSON", "data"},
	{`{"message_id":"m1","to":"p1","data":{"from":"x"}}`, "INVALID_JSON", "from"},
	{`{"message_id":"m1","to":"p1","data":{"message_type":"x"}}`, "INVALID_JSON", "message_type"},
	{`{"message_id":"m1","to":"p1","data":{"google.x":"x"}}`, "INVALID_JSON", "google.x"},
	{`{"message_id":"m1","to":"p1","data":{"gcm":"x"}}`, "INVALID_JSON", "gcm"},
	{`{"message_id":"m1","to":"p1","notification":[]}`, "INVALID_JSON", "notification"},
	{`{"message_id":"m1","to":"p1","priority":"urgent"}`, "INVALID_JSON", "priority"},
	{`{"message_id":"m1","to":"p1","priority":10}`, "INVALID_JSON", "priority"},
	{`{"message_id":"m1","to":"p1","collapse_key":1}`, "INVALID_JSON", "collapse_key"},
	{`{"message_id":"m1","to":"p1","delivery_receipt_requested":1}`, "INVALID_JSON", "delivery_receipt_requested"},
	{`{"message_id":"m1","to":"p1","dry_run":"yes"}`, "INVALID_JSON", "dry_run"},
	{`{"message_id":"m1","to":"p1","delay_while_idle":"x"}`, "INVALID_JSON", "delay_while_idle"},
}

func TestRefusals(t *testing.T) {
	for _, c := range refused {
		s, err := context.Parse([]byte(c.in))
		if err == nil {
			t.Errorf("%s is accepted: %+v", c.in, s)
			continue
		}
		code := err.Code.String()
		if err.Unnamed {
			code = "!" + code
		}
		if code != c.code || !strings.Contains(err.Description, c.text) || err.Description == "" {
			t.Errorf("%s is refused by %s %q, want %s %q", c.in, code, err.Description, c.code, c.text)
		}
	}
}

// Every error of the core has a code and a description; what nobody knows is the server's fault.
func TestCoreErrors(t *testing.T) {
	for err, want := range map[error]Code{
		presence.ErrStranger: DeviceUnregistered, presence.ErrNotAllowed: DeviceUnregistered, presence.ErrTooLarge: InvalidJSON,
		presence.ErrTTL: InvalidJSON, presence.ErrBadValue: InvalidJSON, presence.ErrStorage: ServiceUnavailable,
		presence.ErrEnded: ConnectionDraining, presence.ErrDraining: ConnectionDraining, errors.New("x"): InternalServerError,
		TooOften(): DeviceRate, TopicsTooOften(): TopicsRate, Draining(): ConnectionDraining,
	} {
		got := Refused(fmt.Errorf("%w: why", err))
		if got.Code != want || got.Description == "" {
			t.Errorf("%v is told as %v", err, got)
		}
	}
}

func TestTokens(t *testing.T) {
	for _, c := range []struct {
		in        string
		peer      presence.Peer
		canonical string // "": refused
	}{
		{"p1", presence.Peer{PUID: "p1"}, "p1"},
		{"p1/t1", presence.Peer{PUID: "p1", Tag: "t1"}, "p1/t1"},
		{"P1/T1", presence.Peer{PUID: "p1", Tag: "t1"}, "p1/t1"},
		{"p1@GW.example/t1", presence.Peer{PUID: "p1", Tag: "t1"}, "p1/t1"},
		{`tarek\40mozilla.com/t1`, presence.Peer{Email: "tarek@mozilla.com", Tag: "t1"}, `tarek\40mozilla.com/t1`},
		{`tarek\40mozilla.com@gw.example`, presence.Peer{Email: "tarek@mozilla.com"}, `tarek\40mozilla.com`},
		{"tarek@mozilla.com", presence.Peer{}, ""},
		{"", presence.Peer{}, ""}, {"/t1", presence.Peer{}, ""}, {"p1 ", presence.Peer{}, ""}, {`a\b`, presence.Peer{}, ""},
	} {
		p, canonical, ok := ParseToken(c.in, "gw.example")
		if ok != (c.canonical != "") || ok && (p != c.peer || canonical != c.canonical) {
			t.Errorf("%q: %+v %q %v", c.in, p, canonical, ok)
		}
	}
}

// A token that the core makes is read as the same peer, and is the local part of the address.
func TestTokenRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		email, err := presence.NormalEmail(rapid.StringOf(rapid.SampledFrom([]rune(`a@\45c0'/<é.`))).Draw(t, "email"))
		if err != nil {
			return
		}
		p := presence.Peer{Email: email, Tag: "t1"}
		got, canonical, ok := ParseToken(p.String(), "gw.example")
		if !ok || got != p || canonical != p.String() {
			t.Fatalf("%q is read as %+v %q %v", p.String(), got, canonical, ok)
		}
		if want := string(xmlstream.AppendLocal(nil, email)) + "/t1"; p.String() != want {
			t.Fatalf("the token is %q, the address %q", p.String(), want)
		}
	})
}

func TestConditions(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string // of the topics a, b, c: the sets that match, as bits a=1 b=2 c=4
	}{
		{"'a' in topics", "1 3 5 7"},
		{"'a' in topics && 'b' in topics", "3 7"},
		{" ( 'a'in topics||'b' in topics ) && 'c' in topics ", "5 6 7"},
		{"'a' in topics || 'b' in topics && 'c' in topics", "5 6 7"},
		{"'a' in topics || ('b' in topics && 'c' in topics)", "1 3 5 6 7"},
		{"'a' in topics && 'b' in topics && 'c' in topics && 'd' in topics", "no"},
		{"'a' in topics &&", "no"}, {"'a' in topics 'b' in topics", "no"}, {"('a' in topics", "no"}, {"'a' in topics)", "no"},
		{"a in topics", "no"}, {"'a b' in topics", "no"}, {"'' in topics", "no"}, {"((((('a' in topics)))))", "no"}, {"!('a' in topics)", "no"},
	} {
		topic, ok := parseCondition(c.in)
		var sets []string
		for set := 0; ok && set < 8; set++ {
			if topic.Match(func(n string) bool { return set>>(n[0]-'a')&1 == 1 }) {
				sets = append(sets, fmt.Sprint(set))
			}
		}
		if got := strings.Join(sets, " "); ok != (c.want != "no") || ok && got != c.want {
			t.Errorf("%q: %v %s, want %s", c.in, ok, got, c.want)
		}
	}
}

func TestEncode(t *testing.T) {
	up := &presence.Update{Local: "p1", Tag: "t1", Device: "t2", Ref: "m\"1", ID: 35, Data: []byte(`{"a":1}`),
		Since: time.UnixMilli(1430277821658)}
	for _, c := range []struct{ got, want string }{
		{string(AppendAck(nil, &Sent{To: "P1", MessageID: "m1"})), `{"message_type":"ack","from":"P1","message_id":"m1"}`},
		{string(AppendAck(nil, &Sent{To: "P1", MessageID: "m1", Canonical: "p1"})), `{"message_type":"ack","from":"P1","message_id":"m1","registration_id":"p1"}`},
		{string(AppendNack(nil, &Sent{To: "x\n", MessageID: "m1"}, badToken("x\n"))),
			`{"message_type":"nack","message_id":"m1","from":"x\u000a","error":"BAD_REGISTRATION","error_description":"Invalid token on 'to' field: x\u000a"}`},
		{string(AppendUpstream(nil, up, "chat")), `{"category":"chat","data":{"a":1},"message_id":"m\"1","from":"p1/t1"}`},
		{string(AppendUpstream(nil, &presence.Update{Local: "p1", Tag: "t1", ID: 35, Data: []byte(`{}`)}, "chat")), `{"category":"chat","data":{},"message_id":"uz","from":"p1/t1"}`},
		{string(AppendUpstream(nil, &presence.Update{Local: "p1", Tag: "t1", Since: time.Unix(0, 36), Data: []byte(`{}`)}, "chat")), `{"category":"chat","data":{},"message_id":"t10","from":"p1/t1"}`},
		{string(AppendReceipt(nil, up, "chat")),
			`{"category":"chat","data":{"message_status":"MESSAGE_SENT_TO_DEVICE","original_message_id":"m\"1","device_registration_id":"p1/t2","message_sent_timestamp":"1430277821658"},"message_id":"dr2:m\"1","message_type":"receipt","time_to_live":0,"from":"gcm.googleapis.com"}`},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}

// Whatever comes, it is understood or refused with a code and a description, and the answer is JSON.
func FuzzParse(f *testing.F) {
	for _, c := range understood {
		f.Add([]byte(c.in))
	}
	for _, c := range refused {
		f.Add([]byte(c.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := context.Parse(in)
		answer := AppendAck(nil, &s)
		if err != nil {
			if err.Description == "" {
				t.Fatal("no description")
			}
			answer = AppendNack(nil, &s, err)
		}
		if !json.Valid(answer) {
			t.Fatalf("%q", answer)
		}
		if err == nil && s.Msg.Data != nil && !json.Valid(s.Msg.Data) {
			t.Fatalf("%q", s.Msg.Data)
		}
		if err == nil && !s.Ack && s.Topic == nil && (s.Peer.PUID == "") == (s.Peer.Email == "") {
			t.Fatalf("%+v", s.Peer)
		}
	})
}
