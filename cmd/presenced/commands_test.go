package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// desk is an administrator's client, behind the component of an app.
type desk struct {
	*component
	session string // of the last answer
	seen    strings.Builder
}

// What differs from run to run in an answer, and how testdata/commands.txt writes it.
var varying = []struct {
	what *regexp.Regexp
	name string
}{
	{regexp.MustCompile(`sessionid='[A-Z2-7]{50}'`), "sessionid='ID'"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "TIME"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`(<field var='version' label='Version'><value>)[^<]*`), "${1}VERSION"},
}

var anySession = regexp.MustCompile(`sessionid='([A-Z2-7]{50})'`)

// say sends a stanza, with ID for the session, and returns the answer to it.
func (d *desk) say(stanza string) string {
	d.t.Helper()
	fmt.Fprint(d, strings.ReplaceAll(stanza, "sessionid='ID'", "sessionid='"+d.session+"'"))
	got := d.answer()
	d.seen.WriteString(got)
	if m := anySession.FindStringSubmatch(got); m != nil {
		d.session = m[1]
	}
	for _, v := range varying {
		got = v.what.ReplaceAllString(got, v.name)
	}
	return got
}

// answer reads up to the end of an iq; presence may come before it.
func (d *desk) answer() string {
	d.t.Helper()
	d.SetReadDeadline(time.Now().Add(patience))
	var got strings.Builder
	for {
		tag, err := d.r.ReadString('>')
		if err != nil {
			d.t.Fatalf("waiting for an answer: %v after %q", err, got.String()+tag)
		}
		got.WriteString(tag)
		if strings.HasSuffix(tag, "</iq>") {
			return got.String()[strings.Index(got.String(), "<iq "):]
		}
	}
}

// transcript is testdata/commands.txt: sections of lines, "C: " what is sent, "S: " the answer.
func transcript(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "commands.txt"))
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string][]string{}
	name := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if n, ok := strings.CutPrefix(line, "== "); ok {
			name = n
		} else if strings.HasPrefix(line, "C: ") || strings.HasPrefix(line, "S: ") {
			sections[name] = append(sections[name], line)
		}
	}
	return sections
}

// play plays one section and compares every answer.
func (d *desk) play(name string, sections map[string][]string) {
	d.t.Helper()
	lines := sections[name]
	if len(lines) == 0 || len(lines)%2 != 0 {
		d.t.Fatalf("section %q has %d lines", name, len(lines))
	}
	for ; len(lines) > 0; lines = lines[2:] {
		sent, want := strings.TrimPrefix(lines[0], "C: "), strings.TrimPrefix(lines[1], "S: ")
		if got := d.say(sent); got != want {
			d.t.Errorf("%s: sent %s\ngot  %s\nwant %s", name, sent, got, want)
		}
	}
	delete(sections, name)
}

// TestCommands plays testdata/commands.txt against a gateway with real devices: each command, what it shows and what
// it does. Nothing that it shows is a secret.
func TestCommands(t *testing.T) {
	cfg := testConfig(t)
	cfg.Domain = "gw.example"
	cfg.AdminJIDs = []string{"Root@chat.example"}
	g := startTest(t, cfg)
	var chat, news credentials
	onData(t, cfg, &chat, "app", "add", "Chat", "--component", "chat.example", "--url", "https://chat.example/", "--description", "Talk & more",
		"--redirect", "https://chat.example/a", "--redirect", "https://chat.example/b")
	onData(t, cfg, &news, "app", "add", "News", "--component", "news.example", "--conflict", "reject")
	var out any
	var address allowed
	onData(t, cfg, &address, "grant", "allow", "ann@example.org", "chat")
	onData(t, cfg, &out, "grant", "allow", "ann@example.org", "news", "--no-notify", "--idle", "--window", "mon-sun 00:00-00:00")
	onData(t, cfg, &out, "grant", "allow", "bob@example.org", "chat", "--no-notify")
	onData(t, cfg, &out, "grant", "allow", "o'neil@example.org", "news")
	onData(t, cfg, &out, "notify", "news", "o'neil@example.org", "--message", "between us", "--device", "phone")
	onData(t, cfg, &out, "notify", "news", "o'neil@example.org", "--message", "not for others")
	onData(t, cfg, &out, "user", "token", "carol@example.org")
	ws := "ws://" + g.addrs()["http"]
	phone := dialDevice(t, websocket.Dialer{}, ws, "ann@example.org", "phone", "dev")
	watch := dialDevice(t, websocket.Dialer{}, ws, "ann@example.org", "watch", "dev")
	tablet := dialDevice(t, websocket.Dialer{}, ws, "bob@example.org", "tablet", "dev")
	stranger := dialDevice(t, websocket.Dialer{}, ws, "carol@example.org", "phone", "dev")
	d := &desk{component: dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), chat.Component, chat.Secret)}
	sections := transcript(t)

	d.play("discovery", sections)
	d.play("looking", sections)
	d.play("users", sections)

	d.play("announcement", sections)
	for _, dev := range []*device{phone, watch} {
		if f := dev.read(); len(f.Notifications) != 1 || f.Notifications[0].Message != "First line\nsecond line" {
			t.Errorf("got %+v", f)
		}
	}
	for _, dev := range []*device{tablet, stranger} { // who allows none gets none
		dev.send(map[string]any{})
		if f := dev.read(); f.Notifications != nil {
			t.Errorf("got %+v", f)
		}
	}
	d.play("disconnecting", sections)
	watch.wantEnd(50, 4500)
	d.play("ending sessions", sections)
	phone.wantEnd(50, 4500)
	tablet.wantEnd(50, 4500)

	d.play("emptying a queue", sections)
	d.play("deleting users", sections)
	var users []userView
	onData(t, cfg, &users, "user", "list")
	if len(users) != 2 || users[0].Email != "bob@example.org" || users[1].Email != "carol@example.org" {
		t.Errorf("users who are left: %+v", users)
	}
	d.play("nothing there", sections)
	for name := range sections {
		t.Errorf("the section %q is not played", name)
	}
	for what, secret := range map[string]string{
		"Chat's secret": chat.Secret, "Chat's key": chat.APIKey, "News's secret": news.Secret, "News's key": news.APIKey,
		"a PUID": address.PUID, "a notification": "between us", "another": "not for others", "a mask": mask,
	} {
		if strings.Contains(d.seen.String(), secret) {
			t.Errorf("%s is shown", what)
		}
	}
}

// TestCommandsAreOff: without admin_jids a command is an unknown iq.
func TestCommandsAreOff(t *testing.T) {
	cfg := testConfig(t)
	g := startTest(t, cfg)
	var app credentials
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example")
	d := &desk{component: dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)}
	got := d.say("<iq from='root@chat.example' to='localhost' id='1' type='set'><command xmlns='http://jabber.org/protocol/commands' node='urn:presenced:admin:0#apps'/></iq>")
	if !strings.Contains(got, "<service-unavailable ") || strings.Contains(got, "<command") {
		t.Errorf("got %s", got)
	}
}

// TestCommandPages: a list that is longer than a page says so, and goes on where it was told to.
func TestCommandPages(t *testing.T) {
	cfg := testConfig(t)
	cfg.AdminJIDs = []string{"chat.example"} // the component itself
	g := startTest(t, cfg)
	var app credentials
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example")
	var in strings.Builder
	for i := range 230 {
		fmt.Fprintf(&in, `{"grant":{"email":"u%03d@example.org","appid":"chat","notify":true}}`+"\n", i)
	}
	if code, _, stderr := importText(t, cfg.Data, in.String()); code != 0 {
		t.Fatal(stderr)
	}
	d := &desk{component: dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)}
	ask := func(node, fields string) (answer string, items []string) {
		t.Helper()
		const iq = "<iq from='chat.example' to='localhost' id='1' type='set'><command xmlns='http://jabber.org/protocol/commands' node='%s'%s</command></iq>"
		d.say(fmt.Sprintf(iq, node, ">"))
		answer = d.say(fmt.Sprintf(iq, node, " sessionid='ID'><x xmlns='jabber:x:data' type='submit'>"+fields+"</x>"))
		for _, m := range regexp.MustCompile(`<value>(u\d+)@example\.org</value>`).FindAllStringSubmatch(answer, -1) {
			items = append(items, m[1])
		}
		return answer, items
	}
	field := func(name, value string) string {
		return "<field var='" + name + "'><value>" + value + "</value></field>"
	}
	for _, c := range []struct {
		node, fields string
		first, last  string
		n            int
		note         string
	}{
		{adminKind + "#get-registered-users-list", field("max_items", "25"), "u000", "u024", 25, "u024@example.org"},
		{adminKind + "#get-registered-users-list", field("max_items", "none"), "u000", "u199", 200, "u199@example.org"},
		{adminKind + "#get-registered-users-list", field(ours("after"), "u199@example.org"), "u200", "u229", 30, ""},
		{ourKind + "#grants", field("max_items", "50"), "u000", "u049", 50, "u049@example.org/chat"},
		{ourKind + "#grants", field("after", "u209@example.org/chat"), "u210", "u229", 20, ""},
		{ourKind + "#grants", field("app", "chat") + field("user", "u007@example.org"), "u007", "u007", 1, ""},
	} {
		answer, items := ask(c.node, c.fields)
		if len(items) != c.n || items[0] != c.first || items[len(items)-1] != c.last {
			t.Errorf("%s %s: %d items: %s", c.node, c.fields, len(items), answer)
		}
		note := "<note type='warn'>There is more: run this again for what comes after " + c.note + "</note>"
		if c.note != "" && !strings.Contains(answer, note) || c.note == "" && strings.Contains(answer, "<note") {
			t.Errorf("%s %s: want a note about %q: %s", c.node, c.fields, c.note, answer)
		}
	}
	_, items := ask(adminKind+"#get-registered-users-list", field("max_items", "7"))
	if items != nil {
		t.Errorf("7 is no choice, but got %q", items)
	}
}

func TestAccounts(t *testing.T) {
	c := commands{admin: &admin{domain: "gw.example"}}
	for _, tt := range []struct{ in, email, device string }{
		{"ann@example.org", "ann@example.org", ""},
		{"Ann@Example.org/Phone", "ann@example.org", "Phone"},
		{`ann\40example.org@gw.example`, "ann@example.org", ""},
		{`ann\40example.org@GW.example/phone`, "ann@example.org", "phone"},
		{`o\27neil\40example.org@gw.example`, "o'neil@example.org", ""},
		{"ann@gw.example", "ann@gw.example", ""},
		{`ann\40example.org@other.example`, `ann\40example.org@other.example`, ""},
		{"a/b@example.org", "a/b@example.org", ""},
		{"a/b@example.org/phone", "a/b@example.org", "phone"},
		{"ann", "", ""}, {"", "", ""}, {"@", "", ""}, {"/phone", "", ""}, {"ann@example.org/", "", ""}, {"ann@example.org/a b", "", ""},
	} {
		email, device, err := c.account(tt.in)
		if (err == nil) != (tt.email != "") || err == nil && (email != tt.email || device != tt.device) {
			t.Errorf("%q is %q on %q, %v", tt.in, email, device, err)
		}
	}
}

// TestCommandsInDocs: docs/commands.md lists every command under its name, and no other.
func TestCommandsInDocs(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "docs", "commands.md"))
	if err != nil {
		t.Fatal(err)
	}
	listed := regexp.MustCompile("(?m)^\\| `(#[^`]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(string(b), -1)
	want := (&commands{admin: &admin{}}).list()
	for i, c := range want {
		node := strings.TrimPrefix(strings.TrimPrefix(c.Node, ourKind), adminKind)
		if i >= len(listed) || listed[i][1] != node || listed[i][2] != c.Name {
			got, _ := json.Marshal(listed)
			t.Fatalf("%s (%s) is not number %d in docs/commands.md, which has %s", c.Node, c.Name, i+1, got)
		}
	}
	if len(listed) != len(want) {
		t.Errorf("docs/commands.md lists %d commands, there are %d", len(listed), len(want))
	}
}
