package xmppsrv

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"

	"presenced/presence"
	"presenced/xmppsrv/xmlstream"
)

var noon = time.Date(2026, 3, 1, 13, 0, 0, 5e8, time.FixedZone("CET", 3600))

var updateCases = []struct {
	name string
	u    presence.Update
	want string
}{
	{"online", presence.Update{Local: "p1", Tag: "t", Status: presence.Online},
		"<presence from='p1@gw.example/t' to='chat.example'/>"},
	{"away", presence.Update{Local: "p1", Tag: "t", Status: presence.Unavailable},
		"<presence from='p1@gw.example/t' to='chat.example'><show>away</show></presence>"},
	{"gone", presence.Update{Local: "p1", Tag: "t", Status: presence.Offline},
		"<presence from='p1@gw.example/t' to='chat.example' type='unavailable'/>"},
	{"gone before", presence.Update{Local: "p1", Tag: "t", Status: presence.Offline, Delayed: true, Since: noon},
		"<presence from='p1@gw.example/t' to='chat.example' type='unavailable'><delay xmlns='urn:xmpp:delay' from='gw.example' stamp='2026-03-01T12:00:00Z'/></presence>"},
	{"away before, idle", presence.Update{Local: "p1", Tag: "t", Status: presence.Unavailable, Delayed: true, Since: noon, Idle: noon.Add(-time.Minute)},
		"<presence from='p1@gw.example/t' to='chat.example'><show>away</show><delay xmlns='urn:xmpp:delay' from='gw.example' stamp='2026-03-01T12:00:00Z'/><idle xmlns='urn:xmpp:idle:1' since='2026-03-01T11:59:00Z'/></presence>"},
	{"by e-mail", presence.Update{Local: "d'artagnan/x@example.org", ByEmail: true, Status: presence.Online},
		`<presence from='d\27artagnan\2fx\40example.org@gw.example' to='chat.example'/>`},
	{"subscribed", presence.Update{Kind: presence.Subscribed, Local: "p1", Tag: "t"},
		"<presence from='p1@gw.example' to='chat.example' type='subscribed'/>"},
	{"a device's message", presence.Update{Kind: presence.FromDevice, Local: "p1", Tag: "t", Ref: "i'd", Data: []byte(`{"text":"a<b","n":1}`)},
		`<message from='p1@gw.example/t' to='chat.example' id='i&apos;d'><body>a&lt;b</body><json xmlns='urn:xmpp:json:0'>{"text":"a&lt;b","n":1}</json></message>`},
	{"a device's message without text", presence.Update{Kind: presence.FromDevice, Local: "p1", Tag: "t", Data: []byte(`{"text":1}`)},
		`<message from='p1@gw.example/t' to='chat.example'><json xmlns='urn:xmpp:json:0'>{"text":1}</json></message>`},
	{"unsubscribed", presence.Update{Kind: presence.Unsubscribed, Local: "a@b", ByEmail: true},
		`<presence from='a\40b@gw.example' to='chat.example' type='unsubscribed'/>`},
	{"receipt", presence.Update{Kind: presence.Receipt, Local: "p1", Ref: "<n'1>", To: "bob@chat.example/a&b"},
		"<message from='p1@gw.example' to='bob@chat.example/a&amp;b'><received xmlns='urn:xmpp:receipts' id='&lt;n&apos;1&gt;'/></message>"},
	{"receipt to the app", presence.Update{Kind: presence.Receipt, Local: "p1", Tag: "t", Ref: "1"},
		"<message from='p1@gw.example/t' to='chat.example'><received xmlns='urn:xmpp:receipts' id='1'/></message>"},
}

func TestEncodeUpdate(t *testing.T) {
	e := newEncoder("gw.example", "chat.example")
	for _, c := range updateCases {
		t.Run(c.name, func(t *testing.T) {
			if got := string(e.update(nil, &c.u)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			buf := make([]byte, 0, 1024)
			if n := testing.AllocsPerRun(100, func() { buf = e.update(buf[:0], &c.u) }); n != 0 && c.u.Kind != presence.FromDevice {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// Every row of the tables is a stanza or stream error that an XML parser and RFC 6120 understand.
func TestTables(t *testing.T) {
	words := make(map[string]bool)
	for why := notEnded + 1; why < endCount; why++ {
		row := why.row()
		if row.word == "" || words[row.word] {
			t.Errorf("end %d: word %q is missing or there twice", why, row.word)
		}
		words[row.word] = true
		if (row.cond == "") != (row.text == "") {
			t.Errorf("%s: a condition has a text, and nothing else has", row.word)
		}
		said := string(appendEnd(appendHeader(nil, "gw.example", "1"), why, nil))
		r := xmlstream.NewReader(strings.NewReader(said), 1<<16)
		elements, err := 0, error(nil)
		for _, err = r.Header(); err == nil; _, err = r.Next() {
			elements++
		}
		if err != io.EOF || (elements == 2) != (row.cond != "") {
			t.Errorf("%s: %v in %s", row.word, err, said)
		}
	}
	for why := accepted + 1; why < refusalCount; why++ {
		row := refusals[why]
		if row.word == "" || words["stanza "+row.word] || row.cond == "" {
			t.Errorf("refusal %d: %+v", why, row)
		}
		words["stanza "+row.word] = true
		if row.kind != "cancel" && row.kind != "modify" && row.kind != "wait" && row.kind != "auth" {
			t.Errorf("%s: %q is no type of error", row.word, row.kind)
		}
	}
	if refusals[refuseStranger].cond != refusals[refuseService].cond || refusals[refuseStranger].text != refusals[refuseService].text {
		t.Error("a stranger is told something else than that there is no service")
	}
	for err, want := range map[error]end{presence.ErrConflict: endConflict, presence.ErrNoApp: endHandshake,
		presence.ErrDraining: endShutdown, presence.ErrStorage: endInternal} {
		if got := endOf(linkError(fmt.Errorf("%w: why", err))); got != want {
			t.Errorf("%v is told as %v", err, got)
		}
	}
	for kind := range xmlstream.Kind(xmlstream.Kinds) {
		if why := endOf(&xmlstream.Error{Kind: kind}); why.String() != kind.String() {
			t.Errorf("%v is told as %v", kind, why)
		}
	}
	for _, c := range coreErrors {
		if got := refusalOf(fmt.Errorf("%w: why", c.err)); got != c.why {
			t.Errorf("%v is told as %v", c.err, got)
		}
	}
	if got := refusalOf(io.EOF); got != refuseStorage {
		t.Errorf("an unknown error is told as %v", got)
	}
	for _, e := range []presence.End{presence.EndReplaced, presence.EndDisabled, presence.EndRemoved, presence.EndShutdown, presence.EndOverflow, presence.EndChanged} {
		if linkEnds[e] == notEnded {
			t.Errorf("no row for the link's end %d", e)
		}
	}
}

func TestStanzaError(t *testing.T) {
	got := string(appendError(nil, "message", "bob@chat.example/a'b", "p1@gw.example", "n&1", refuseTooLarge, nil))
	want := "<message from='p1@gw.example' to='bob@chat.example/a&apos;b' id='n&amp;1' type='error'><error type='modify'>" +
		"<policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>The notification is too large</text></error></message>"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	got = string(appendError(nil, "iq", "a", "b", "", refuseStranger, []byte("<x/>")))
	want = "<iq from='b' to='a' id='' type='error'><x/><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// What mellium's full profiles accept, ours reads the same way; what they refuse, ours refuses.
func TestAddress(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOfN(rapid.SampledFrom([]rune("aB1.-_@/\\' é:\x01")), 1, 12, -1).Draw(t, "address")
		got, ok := parseAddress([]byte(s))
		want, err := jid.Parse(s)
		if !ok {
			return // ours is stricter about domains
		}
		if err != nil {
			if plainDomain(got.domain) { // they also look at the labels of the domain; we only compare it
				head, _, _ := strings.Cut(s, "/")
				_, err = jid.Parse(head[:strings.IndexByte(head, '@')+1] + "d" + s[len(head):])
			}
			if strings.Contains(fmt.Sprint(err), "idna") || err == nil {
				return
			}
			t.Fatalf("%q: we accept what is not an address: %v", s, err)
		}
		if string(got.local) != want.Localpart() || string(got.domain) != want.Domainpart() || string(got.resource) != want.Resourcepart() {
			t.Fatalf("%q: %q %q %q, want %q %q %q", s, got.local, got.domain, got.resource, want.Localpart(), want.Domainpart(), want.Resourcepart())
		}
	})
}

func TestPeer(t *testing.T) {
	stranger := presence.Peer{PUID: nobody}
	for _, c := range []struct {
		in   string
		want presence.Peer
	}{
		{"abc234@gw", presence.Peer{PUID: "abc234"}},
		{"ABC234@gw/Tag", presence.Peer{PUID: "abc234", Tag: "Tag"}},
		{`tarek\40mozilla.com@gw`, presence.Peer{Email: "tarek@mozilla.com"}},
		{`Tarek\40Mozilla.com@gw/t`, presence.Peer{Email: "tarek@mozilla.com", Tag: "t"}},
		{`o\27neill\2Fx\40mozilla.com@gw`, presence.Peer{Email: "o'neill/x@mozilla.com"}},
		{`tarek\40@gw`, stranger},                           // no e-mail
		{`a\41\40b.c@gw`, presence.Peer{Email: `a\41@b.c`}}, // not one of the ten
		{`a\5cb\40c.d@gw`, stranger},                        // would not be escaped like this
		{`a\b@gw`, stranger},                                // no @ in it
		{`a\20b\40c.d@gw`, stranger},                        // e-mails have no blanks
		{`ü@gw`, stranger},
	} {
		a, ok := parseAddress([]byte(c.in))
		if !ok {
			t.Errorf("%q is not accepted", c.in)
		}
		tag := string(a.resource)
		want := c.want
		want.Tag = tag
		if got := a.peer(); got != want {
			t.Errorf("%q is %+v, want %+v", c.in, got, want)
		}
	}
	for _, bad := range []string{"", "@gw", "a@", "a@gw/", "a b@gw", "a'b@gw", "a@b@gw", "a@gw/\x01", strings.Repeat("a", 1024) + "@gw", "\x7f@gw", "a@g w"} {
		if _, ok := parseAddress([]byte(bad)); ok {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func samplePresence() *presence.Update {
	return &presence.Update{Local: "mfzwk4tboqqgc3tboqqgc3tboq", Tag: "k7q2m4x2abcdefgh", Status: presence.Unavailable}
}

// BenchmarkEncodePresence encodes a presence; its floor is copying the same bytes.
func BenchmarkEncodePresence(b *testing.B) {
	e := newEncoder("gateway.example.org", "app.example.org")
	for _, c := range []struct {
		name string
		u    *presence.Update
	}{
		{"live", samplePresence()},
		{"delayed", func() *presence.Update { u := samplePresence(); u.Delayed, u.Since = true, noon; return u }()},
		{"email", func() *presence.Update {
			u := samplePresence()
			u.ByEmail, u.Local = true, "tarek@mozilla.com"
			return u
		}()},
	} {
		done := e.update(nil, c.u)
		b.Run(c.name+"/encode", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(done)))
			buf := make([]byte, 0, 64<<10)
			for b.Loop() {
				if len(buf) > 60<<10 {
					buf = buf[:0]
				}
				buf = e.update(buf, c.u)
			}
		})
		b.Run(c.name+"/copy", func(b *testing.B) {
			b.SetBytes(int64(len(done)))
			buf := make([]byte, 0, 64<<10)
			for b.Loop() {
				if len(buf) > 60<<10 {
					buf = buf[:0]
				}
				buf = append(buf, done...)
			}
		})
	}
}
