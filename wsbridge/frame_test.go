package wsbridge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"presenced/presence"
	"presenced/presence/errno"
)

// seen is what a table says about a decoded frame, as text: "kind id type field=value ..." or "errno detail".
func seen(r request, e *Error) string {
	var b strings.Builder
	if e != nil {
		fmt.Fprintf(&b, "%d", e.Errno)
		if e.Detail != "" {
			fmt.Fprintf(&b, " %s", e.Detail)
		}
	} else {
		b.WriteString([...]string{"heartbeat", "status", "hello", "ack", "send", "consent", "quiet", "subscribe", "unsubscribe", "auth", "notify", "unknown"}[r.kind])
		for _, f := range []struct {
			name  string
			value any
		}{
			{"email", r.email}, {"assertion", r.assertion}, {"device", r.device}, {"ack", r.ack},
			{"heartbeat", r.heartbeat}, {"app", r.app},
		} {
			if !reflect.ValueOf(f.value).IsZero() {
				fmt.Fprintf(&b, " %s=%v", f.name, f.value)
			}
		}
		if r.hasStatus {
			fmt.Fprintf(&b, " status=%v", r.status)
		}
		if !r.idleSince.IsZero() {
			fmt.Fprintf(&b, " idle=%s", r.idleSince.Format(time.RFC3339Nano))
		}
		if r.push != nil {
			fmt.Fprintf(&b, " push=%s", r.push)
		}
		if r.seqs != nil {
			fmt.Fprintf(&b, " seqs=%v", r.seqs)
		}
	}
	if r.id != nil {
		fmt.Fprintf(&b, " id:%s", r.id)
	}
	if r.typ != nil {
		fmt.Fprintf(&b, " type:%s", r.typ)
	}
	return b.String()
}

func TestDecodeFrame(t *testing.T) {
	for _, c := range []struct{ frame, want string }{
		// The forms of the contract.
		{`{}`, `heartbeat`},
		{" { \n } ", `heartbeat`},
		{`{"email":"Ann@Example.org","assertion":"x","status":"online"}`, `status email=ann@example.org assertion=x status=online`},
		{`{"type":"status","email":"a@b","assertion":"x","status":"unavailable","device":"phone-1_a.B","id":7,"idle_since":"2030-01-02T03:04:05+01:00"}`,
			`status email=a@b assertion=x device=phone-1_a.B status=unavailable idle=2030-01-02T02:04:05Z id:7 type:"status"`},
		{`{"status":"offline"}`, `status status=offline`},
		{`{"type":"hello","email":"a@b","assertion":"x"}`, `hello email=a@b assertion=x type:"hello"`},
		{`{"type":"hello","email":"a@b","assertion":"x","device":"d","ack":true,"heartbeat":60,"status":"online","push":{"endpoint":"u"},"apps":["chat"],"addresses":1}`,
			`hello email=a@b assertion=x device=d ack=true heartbeat=60 status=online push={"endpoint":"u"} type:"hello"`},
		{`{"type":"hello","email":"a@b","assertion":"x","push":null}`, `hello email=a@b assertion=x push=null type:"hello"`},
		{`{"type":"ack","ids":["n1","n10","x","n01",""]}`, `ack seqs=[1 36] type:"ack"`},
		{`{"type":"ack","ids":[]}`, `ack type:"ack"`},
		{`{"type":"send","app":"chat","id":"m1","data":{"a":[1]},"ttl":0}`, `send app=chat id:"m1" type:"send"`},
		{`{"type":"consent","app":"chat","allow":true,"windows":[{"days":["mon"],"from":"21:00","to":"23:00"}],"tz":"UTC","until":null,"notify":false,"idle":true}`, `consent app=chat type:"consent"`},

		{`{"type":"quiet","quiet":true}`, `quiet type:"quiet"`},
		{`{"type":"quiet","quiet":"unavailable"}`, `quiet type:"quiet"`},
		{`{"type":"quiet","quiet":"\u0075navailable","id":1}`, `quiet id:1 type:"quiet"`},
		{`{"type":"quiet","quiet":null}`, `12 quiet type:"quiet"`},
		{`{"type":"quiet","quiet":{}}`, `13 quiet type:"quiet"`},
		{`{"type":"hello","email":"a@example.org","resume":true}`, `12 assertion type:"hello"`},
		{`{"type":"hello","email":"a@example.org","resume":""}`, `12 assertion type:"hello"`},
		{`{"type":"hello","assertion":"x","resume":"t"}`, `12 email type:"hello"`},
		{`{"type":"hello","email":"a@example.org","assertion":"x","adapt":1}`, `13 adapt type:"hello"`},
		{`{"type":"subscribe","app":"chat","topic":"news"}`, `subscribe app=chat type:"subscribe"`},
		{`{"type":"unsubscribe","app":"chat","topic":"news"}`, `unsubscribe app=chat type:"unsubscribe"`},
		{`{"type":"subscribe","app":"chat"}`, `12 topic type:"subscribe"`},
		{`{"type":"subscribe","app":"chat","topic":"a b"}`, `13 topic type:"subscribe"`},

		// null is left out; unknown members are ignored, whatever they hold.
		{`{"status":"online","device":null,"id":null,"type":null,"idle_since":null}`, `status status=online`},
		{`{"status":"online","x":{"y":[{"z":null}]},"STATUS":5,"ids":5,"heartbeat":"never","x":1}`, `status status=online`},
		{`{"st\u0061tus":"\u006fnline"}`, `status status=online`},

		// Ids keep their type.
		{`{"status":"online","id":"a\"b"}`, `status status=online id:"a\"b"`},
		{`{"status":"online","id":-1.5e300}`, `status status=online id:-1.5e300`},
		{`{"status":"online","id":12345678901234567890123}`, `status status=online id:12345678901234567890123`},
		{`{"status":"online","id":"` + strings.Repeat("x", 126) + `"}`, `status status=online id:"` + strings.Repeat("x", 126) + `"`},
		{`{"status":"online","id":"` + strings.Repeat("x", 127) + `"}`, `13 id`},
		{`{"status":"online","id":true}`, `13 id`},
		{`{"status":"online","id":{}}`, `13 id`},

		// 10 malformed
		{``, `10`},
		{`[]`, `10`},
		{`null`, `10`},
		{`"x"`, `10`},
		{`{`, `10`},
		{`{"status"}`, `10`},
		{`{"status":}`, `10`},
		{`{"status":"online",}`, `10`},
		{`{"status":"online"}}`, `10`},
		{`{"status":"online"} {}`, `10`},
		{`{'status':"online"}`, `10`},
		{`{"status":"on` + "\n" + `line"}`, `10`},
		{`{"status":"online","x":01}`, `10`},
		{`{"status":"online","x":+1}`, `10`},
		{`{"status":"online","x":NaN}`, `10`},
		{`{"status":"online","x":"\x"}`, `10`},
		{"{\"status\":\"online\",\"x\":\"\xff\"}", `10`},
		{"\xef\xbb\xbf{}", `10`},
		{`{"status":"online","status":"online"}`, `10`},
		{`{"status":"online","st\u0061tus":"offline"}`, `10`},
		{`{"status":null,"status":"offline"}`, `10`},
		{`{"x":` + strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1) + `}`, `10`},
		{`{"x":` + strings.Repeat(`{"a":`, 4000), `10`},

		// 11 unknown
		{`{"type":"nonsense","id":1}`, `11 id:1 type:"nonsense"`},
		{`{"type":"Status","status":"online"}`, `11 type:"Status"`},
		{`{"type":"` + strings.Repeat("x", 200) + `"}`, `11`},
		{`{"foo":"bar"}`, `11`},
		{`{"id":1}`, `11 id:1`},
		{`{"ids":["n1"]}`, `11`},
		{`{"x":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`, `11`},

		// 12 missing
		{`{"email":"a@b","assertion":"x","id":"i"}`, `12 status id:"i"`},
		{`{"type":"status"}`, `12 status type:"status"`},
		{`{"type":"hello","assertion":"x"}`, `12 email type:"hello"`},
		{`{"type":"hello","email":"a@b","assertion":null}`, `12 assertion type:"hello"`},
		{`{"type":"ack"}`, `12 ids type:"ack"`},
		{`{"type":"send","app":"c","id":1}`, `12 data id:1 type:"send"`},
		{`{"type":"send","app":"c","data":{}}`, `12 id type:"send"`},
		{`{"type":"send","id":1,"data":{}}`, `12 app id:1 type:"send"`},
		{`{"type":"consent","app":"c"}`, `12 allow type:"consent"`},

		// 13 bad value; the echo comes although the bad field is in front of it
		{`{"status":"away","id":"i","type":"status"}`, `13 status id:"i" type:"status"`},
		{`{"status":""}`, `13 status`},
		{`{"status":1}`, `13 status`},
		{`{"type":5,"status":"online"}`, `13 type`},
		{`{"email":"nobody","assertion":"x","status":"online"}`, `13 email`},
		{`{"email":"a b@c","assertion":"x","status":"online"}`, `13 email`},
		{`{"email":"a\ud800@c","assertion":"x","status":"online"}`, `13 email`},
		{`{"email":7,"assertion":"x","status":"online"}`, `13 email`},
		{`{"email":"` + strings.Repeat("a", 260) + `@b","assertion":"x","status":"online"}`, `13 email`},
		{`{"email":"a@b","assertion":{},"status":"online"}`, `13 assertion`},
		{`{"email":"a@b","assertion":"","status":"online"}`, `13 assertion`},
		{`{"status":"online","device":""}`, `13 device`},
		{`{"status":"online","device":"a/b"}`, `13 device`},
		{`{"status":"online","device":"` + strings.Repeat("d", 65) + `"}`, `13 device`},
		{`{"status":"online","device":3}`, `13 device`},
		{`{"status":"online","idle_since":"yesterday"}`, `13 idle_since`},
		{`{"status":"online","idle_since":1700000000}`, `13 idle_since`},
		{`{"type":"hello","email":"a@b","assertion":"x","ack":"yes"}`, `13 ack type:"hello"`},
		{`{"type":"hello","email":"a@b","assertion":"x","heartbeat":"60"}`, `13 heartbeat type:"hello"`},
		{`{"type":"hello","email":"a@b","assertion":"x","heartbeat":-1}`, `13 heartbeat type:"hello"`},
		{`{"type":"hello","email":"a@b","assertion":"x","heartbeat":1e999}`, `13 heartbeat type:"hello"`},
		{`{"type":"hello","email":"a@b","assertion":"x","push":"u"}`, `13 push type:"hello"`},
		{`{"type":"hello","email":"a@b","assertion":"x","apps":[1]}`, `13 apps type:"hello"`},
		{`{"type":"hello","email":"a@b","assertion":"x","apps":[` + strings.Repeat(`"a",`, maxApps) + `"a"]}`, `13 apps type:"hello"`},
		{`{"type":"ack","ids":"n1"}`, `13 ids type:"ack"`},
		{`{"type":"ack","ids":["n1",2]}`, `13 ids type:"ack"`},
		{`{"type":"ack","ids":[` + strings.Repeat(`"",`, maxIDs) + `""]}`, `13 ids type:"ack"`},
		{`{"type":"send","app":"c","id":1,"data":"x"}`, `13 data id:1 type:"send"`},
		{`{"type":"send","app":"c","id":1,"data":{},"ttl":2419201}`, `13 ttl id:1 type:"send"`},
		{`{"type":"send","app":"c","id":1,"data":{},"ttl":1.5}`, `13 ttl id:1 type:"send"`},
		{`{"type":"consent","app":"c","allow":"yes"}`, `13 allow type:"consent"`},
		{`{"type":"consent","app":"c","allow":true,"windows":{}}`, `13 windows type:"consent"`},
		{`{"type":"consent","app":"c","allow":true,"windows":[{}]}`, `13 windows type:"consent"`},
		{`{"type":"consent","app":"c","allow":true,"until":"soon"}`, `13 until type:"consent"`},
		{`{"type":"consent","app":"c","allow":true,"idle":1}`, `13 idle type:"consent"`},
	} {
		r, e := decodeFrame([]byte(c.frame))
		if diff := cmp.Diff(c.want, seen(r, e)); diff != "" {
			t.Errorf("%.100s\n%s", c.frame, diff)
		}
	}
}

// FuzzFrame compares with encoding/json: what is JSON, and what the fields hold.
func FuzzFrame(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"status":"online","id":1}`, `{"email":"a@b","assertion":"x","status":"online","idle_since":"2030-01-02T03:04:05Z"}`,
		`{"type":"hello","email":"a@b","assertion":"x","heartbeat":1e2,"ack":true,"apps":["a"]}`, `{"type":"ack","ids":["n1","n2"]}`,
		`{"type":"send","app":"c","id":"\ud83d\ude00","data":{"x":[true,null,-0.5E+2]}}`, `{"a":"\ud800\u0041","a":[[],{}]}`, "{\"a\":\"\xff\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkJSON(t, b)
		r, e := decodeFrame(b)
		checkRequest(t, b, r, e)
		if e != nil {
			reply := appendKO(nil, &r, e)
			if !json.Valid(reply) {
				t.Fatalf("%q: reply %s", b, reply)
			}
		} else if reply := appendOK(nil, &r, nil); !json.Valid(reply) {
			t.Fatalf("%q: reply %s", b, reply)
		}
	})
}

// checkJSON compares what counts as JSON.
func checkJSON(t *testing.T, b []byte) {
	if got, want := validJSON(b), json.Valid(b) && utf8.Valid(b) && depth(b) <= maxDepth; got != want {
		t.Fatalf("%q: valid %v, want %v", b, got, want)
	}
}

// depth is how deep valid JSON nests.
func depth(b []byte) (deepest int) {
	d := json.NewDecoder(bytes.NewReader(b))
	level := 0
	for {
		token, err := d.Token()
		if err != nil {
			return deepest
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			level++
			deepest = max(deepest, level)
		case json.Delim('}'), json.Delim(']'):
			level--
		}
	}
}

// checkRequest compares what was read.
func checkRequest(t *testing.T, b []byte, r request, e *Error) {
	var m map[string]json.RawMessage
	malformed := !utf8.Valid(b) || json.Unmarshal(b, &m) != nil || m == nil
	if malformed && (e == nil || e.Errno != errno.BadJSON) {
		t.Fatalf("%q: %v, %v", b, r, e)
	}
	if e != nil {
		return
	}
	text := func(name string) string {
		var s string
		json.Unmarshal(m[name], &s)
		return s
	}
	if r.id != nil && string(r.id) != string(m["id"]) || r.typ != nil && string(r.typ) != string(m["type"]) {
		t.Fatalf("%q: echo %q %q", b, r.id, r.typ)
	}
	if r.email != strings.ToLower(text("email")) && r.kind <= helloFrame || r.kind <= helloFrame && r.assertion != text("assertion") {
		t.Fatalf("%q: %+v", b, r)
	}
	if r.hasStatus && r.status.String() != text("status") || r.kind == heartbeatFrame && len(m) > 0 {
		t.Fatalf("%q: %+v", b, r)
	}
	for _, seq := range r.seqs {
		if !bytes.Contains(b, []byte(presence.FormatID(seq))) && !bytes.Contains(b, []byte(`\`)) {
			t.Fatalf("%q: seq %d", b, seq)
		}
	}
}

func TestAppend(t *testing.T) {
	at := time.Date(2030, 1, 2, 4, 4, 5, 999, time.FixedZone("", 3600))
	r := &request{id: []byte(`7`), typ: []byte(`"hello"`)}
	for _, c := range []struct {
		name, want string
		got        []byte
	}{
		{"ok", `{"result":"OK"}`, appendOK(nil, &request{}, nil)},
		{"ok with echo", `{"result":"OK","id":7,"type":"hello"}`, appendOK(nil, r, nil)},
		{"greeting", `{"result":"OK","id":7,"type":"hello","session":"s","device":"d","heartbeat":120,"time":"2030-01-02T03:04:05Z"}`,
			appendOK(nil, r, &greeting{"s", "d", 120, at, "", nil, ""})},
		{"greeting with addresses", `{"result":"OK","session":"s","device":"d","heartbeat":120,"time":"2030-01-02T03:04:05Z","addresses":{"a":"p/t","b":"q/t"}}`,
			appendOK(nil, &request{}, &greeting{"s", "d", 120, at, "", map[string]string{"b": "q/t", "a": "p/t"}, ""})},
		{"greeting of who can be woken", `{"result":"OK","session":"s","device":"d","heartbeat":120,"time":"2030-01-02T03:04:05Z","push_key":"k"}`,
			appendOK(nil, &request{}, &greeting{"s", "d", 120, at, "", nil, "k"})},
		{"ko", `{"result":"KO","errno":34,"error":"Invalid assertion"}`, appendKO(nil, nil, &Error{Errno: errno.Invalid})},
		{"ko with all", `{"result":"KO","errno":40,"error":"slow down","id":7,"type":"hello","retry_after":2}`,
			appendKO(nil, r, &Error{Errno: errno.SlowDown, Detail: "not told", Retry: 1001 * time.Millisecond})},
		{"ko of a field", `{"result":"KO","errno":12,"error":"missing field","detail":"ids"}`, appendKO(nil, nil, missing(fIDs))},
		{"request", `{"app":"a","name":"A","purpose":"to \"see\"","time":"2030-01-02T03:04:05Z"}`,
			appendRequest(nil, &presence.Request{Email: "e", App: "a", Name: "A", Purpose: `to "see"`, From: "f", Time: at})},
		{"reconnect", `{"reconnect":{"after":3,"reason":"<update>"}}`, appendReconnect(nil, &presence.Reconnect{After: 2500 * time.Millisecond, Reason: "<update>"})},
		{"dropped", `{"dropped":[{"app":"a","count":2},{"app":"b","count":1}]}`, appendDropped(nil, []presence.Dropped{{App: "a", Count: 2}, {App: "b", Count: 1}})},
		{"notification", `{"source":"s","message":"<b>&\"\\\n\u0001é😀` + "\u2028\ufffd" + `","action":"","id":"nz","app":"a","time":"2030-01-02T03:04:05Z"}`,
			appendNotification(nil, &presence.Notification{Seq: 35, App: "a", Source: "s", Message: "<b>&\"\\\n\x01é😀\u2028\xff", Time: at})},
		{"notification with all", `{"source":"","message":"","action":"u","id":"n1","app":"a","time":"2030-01-02T03:04:05Z","data":{"x": 1},"priority":"high","collapse_key":"k"}`,
			appendNotification(nil, &presence.Notification{Seq: 1, App: "a", Action: "u", Data: []byte(`{"x": 1}`), High: true, Collapse: "k", Time: at})},
		{"data that is none", `{"source":"","message":"","action":"","id":"n1","app":"a","time":"2030-01-02T03:04:05Z","data":"1},{"}`,
			appendNotification(nil, &presence.Notification{Seq: 1, App: "a", Data: []byte(`1},{`), Time: at})},
	} {
		if diff := cmp.Diff(c.want, string(c.got)); diff != "" {
			t.Errorf("%s\n%s", c.name, diff)
		}
		if !json.Valid(c.got) {
			t.Errorf("%s: no JSON: %s", c.name, c.got)
		}
	}
}

func FuzzString(f *testing.F) {
	f.Add("a\x00\"\\\u2028\xff\xc3")
	f.Fuzz(func(t *testing.T, s string) {
		var back string
		if err := json.Unmarshal(appendString(nil, s), &back); err != nil || back != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) {
			t.Fatalf("%q became %q, %v", s, back, err)
		}
	})
}

func TestFramer(t *testing.T) {
	item := func(seq uint64, size int) *presence.Notification {
		return &presence.Notification{Seq: seq, App: "a", Message: strings.Repeat("m", size)}
	}
	bare := len(appendNotification(nil, item(1, 0))) + len(notificationsPrefix) + len(frameSuffix)
	for _, c := range []struct {
		name  string
		sizes []int
		max   int
		want  string // ids of each frame
	}{
		{"none", nil, 1000, ""},
		{"one", []int{0}, 1000, "n1"},
		{"all fit", []int{0, 0, 0}, 1000, "n1 n2 n3"},
		{"exactly", []int{500}, bare + 500, "n1"},
		{"two that just do not fit", []int{100, 100}, bare + 250, "n1|n2"},
		{"one that is too large goes alone", []int{0, 2000, 0}, 1000, "n1|n2|n3"},
		{"too large and last", []int{0, 2000}, 1000, "n1|n2"},
		{"in order, never swapped to fit", []int{600, 600, 100, 600}, 1100, "n1|n2 n3|n4"},
	} {
		var frames []string
		f := framer{prefix: notificationsPrefix, max: c.max}
		emit := func(frame []byte, items int) error {
			var got struct {
				Notifications []struct{ ID string }
			}
			if err := json.Unmarshal(frame, &got); err != nil {
				t.Fatalf("%s: %v in %s", c.name, err, frame)
			}
			if items != len(got.Notifications) || len(frame) > c.max && items > 1 {
				t.Errorf("%s: %d bytes with %d items, said to be %d", c.name, len(frame), len(got.Notifications), items)
			}
			var ids []string
			for _, n := range got.Notifications {
				ids = append(ids, n.ID)
			}
			frames = append(frames, strings.Join(ids, " "))
			return nil
		}
		for i, size := range c.sizes {
			if err := f.add(appendNotification(f.begin(), item(uint64(i+1), size)), emit); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.flush(emit); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, strings.Join(frames, "|")); diff != "" {
			t.Errorf("%s\n%s", c.name, diff)
		}
	}
}

func BenchmarkDecodeFrame(b *testing.B) {
	frame := []byte(`{"type":"status","email":"someone@example.org","assertion":"IE5NSMM4UEZRVUSG4BTYU5TNNE","status":"online","device":"phone","id":1234}`)
	b.Run("floor/json.Valid", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			json.Valid(frame)
		}
	})
	b.Run("encoding_json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var r struct {
				Type, Email, Assertion, Status, Device string
				ID                                     json.RawMessage
			}
			json.Unmarshal(frame, &r)
		}
	})
	b.Run("decodeFrame", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			decodeFrame(frame)
		}
	})
}
