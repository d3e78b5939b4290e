package xmppsrv_test

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp"
	"mellium.im/xmpp/commands"
	"mellium.im/xmpp/component"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"presenced/xmppsrv/adhoc"
)

// twoCommands are one that runs at once and one with two forms, for root@chat.example.
func twoCommands() adhoc.Config {
	return adhoc.Config{Admins: []string{"root@chat.example"}, Commands: []adhoc.Command{
		{Node: "urn:t#list", Name: "List & look", Run: func(context.Context, adhoc.Values) (*adhoc.Result, error) {
			return &adhoc.Result{Notes: []adhoc.Note{{Type: adhoc.Warn, Text: "cut <here>"}}, Form: &adhoc.Form{
				Kind: "urn:t", Title: "It's", Fields: []adhoc.Field{{Var: "n", Label: "N", Values: []string{"2"}}},
				Table: &adhoc.Table{Columns: []adhoc.Column{{Var: "a", Label: "A"}, {Var: "b", Label: "B"}}, Rows: [][]string{{"1", "x&y"}, {"2", ""}}}}}, nil
		}},
		{Node: "greet", Name: "Greet", Forms: []func(context.Context, adhoc.Values) (*adhoc.Form, error){
			func(context.Context, adhoc.Values) (*adhoc.Form, error) {
				return &adhoc.Form{Kind: "urn:t", Title: "Greeting", Instructions: "Say whom.", Fields: []adhoc.Field{
					{Var: "who", Label: "Who", Type: adhoc.TextSingle, Required: true}}}, nil
			},
			func(_ context.Context, in adhoc.Values) (*adhoc.Form, error) {
				return &adhoc.Form{Kind: "urn:t", Fields: []adhoc.Field{{Var: "how", Label: "How", Type: adhoc.ListSingle, Values: []string{"hi"},
					Options: []adhoc.Option{{Label: "Hi, " + in.One("who"), Value: "hi"}, {Label: "Fail", Value: "fail"}}}}}, nil
			}}, Run: func(_ context.Context, in adhoc.Values) (*adhoc.Result, error) {
			if in.One("how") == "fail" {
				return nil, errors.New("no voice")
			}
			return &adhoc.Result{Notes: []adhoc.Note{{Type: adhoc.Info, Text: in.One("how") + ", " + in.One("who")}}}, nil
		}},
	}}
}

// withCommands turns commands on.
func withCommands(c adhoc.Config) func(*setup) {
	return func(s *setup) { s.Commands = adhoc.New(c) }
}

// admin is root's side of a stream of chat.example.
type admin struct{ *comp }

// command sends a <command/> from root's desk and returns the answer.
func (a admin) command(attrs, inside string) string {
	a.t.Helper()
	a.send("<iq from='root@chat.example/desk' to='gw.example' id='c' type='set'><command xmlns='http://jabber.org/protocol/commands' " +
		attrs + ">" + inside + "</command></iq>")
	return a.next()
}

var sessionAttr = regexp.MustCompile(` sessionid='([A-Z2-7]{40,})'`)

// step is command for what answers with a command of a session: it wants the answer as it is but for the id, which is
// "ID" in both, and returns the id.
func (a admin) step(attrs, inside, want string) (id string) {
	a.t.Helper()
	got := a.command(attrs, inside)
	m := sessionAttr.FindStringSubmatch(got)
	if m == nil {
		a.t.Fatalf("no session in %s", got)
	}
	if got = strings.ReplaceAll(got, m[1], "ID"); got != "<iq from='gw.example' to='root@chat.example/desk' id='c' type='result'>"+want+"</iq>" {
		a.t.Fatalf("got  %s\nwant %s", got, want)
	}
	return m[1]
}

// fails wants an error of this condition for a command with these attributes.
func (a admin) fails(attrs, inside, kind, cond, text, specific string) {
	a.t.Helper()
	if specific != "" {
		specific = "<" + specific + " xmlns='http://jabber.org/protocol/commands'/>"
	}
	want := "<iq from='gw.example' to='root@chat.example/desk' id='c' type='error'><command xmlns='http://jabber.org/protocol/commands' " + attrs + "/>" +
		strings.Replace(stanzaError(kind, cond, text), "</error>", specific+"</error>", 1) + "</iq>"
	if got := a.command(attrs, inside); got != want {
		a.t.Errorf("got  %s\nwant %s", got, want)
	}
}

func startAdmin(t *testing.T, change ...func(*adhoc.Config)) admin {
	t.Helper()
	c := twoCommands()
	for _, f := range change {
		f(&c)
	}
	p := start(t, withCommands(c)).connect("chat")
	p.fence()
	return admin{p}
}

const (
	commandNS = "<command xmlns='http://jabber.org/protocol/commands' "
	formType  = "<field var='FORM_TYPE' type='hidden'><value>urn:t</value></field>"
	firstForm = commandNS + "node='greet' sessionid='ID' status='executing' xml:lang='en'><actions execute='next'><next/></actions>" +
		"<x xmlns='jabber:x:data' type='form'><title>Greeting</title><instructions>Say whom.</instructions>" + formType +
		"<field var='who' type='text-single' label='Who'>%<required/></field></x></command>"
	secondForm = commandNS + "node='greet' sessionid='ID' status='executing' xml:lang='en'><actions execute='complete'><prev/><complete/></actions>" +
		"<x xmlns='jabber:x:data' type='form'>" + formType + "<field var='how' type='list-single' label='How'><value>hi</value>" +
		"<option label='Hi, %'><value>hi</value></option><option label='Fail'><value>fail</value></option></field></x></command>"
)

// submit is a form that was filled in, with fields in pairs.
func submit(pairs ...string) string {
	s := "<x xmlns='jabber:x:data' type='submit'>"
	for i := 0; i < len(pairs); i += 2 {
		s += "<field var='" + pairs[i] + "'><value>" + pairs[i+1] + "</value></field>"
	}
	return s + "</x>"
}

func TestCommandAtOnce(t *testing.T) {
	a := startAdmin(t)
	a.step("node='urn:t#list' action='execute'", "", commandNS+"node='urn:t#list' sessionid='ID' status='completed' xml:lang='en'>"+
		"<note type='warn'>cut &lt;here&gt;</note><x xmlns='jabber:x:data' type='result'><title>It's</title>"+formType+
		"<field var='n' label='N'><value>2</value></field><reported><field var='a' label='A'/><field var='b' label='B'/></reported>"+
		"<item><field var='a'><value>1</value></field><field var='b'><value>x&amp;y</value></field></item>"+
		"<item><field var='a'><value>2</value></field><field var='b'><value></value></field></item></x></command>")
	a.fence()
}

func TestCommandInSteps(t *testing.T) {
	a := startAdmin(t)
	first := func(value string) string { return strings.Replace(firstForm, "%", value, 1) }
	second := func(who string) string { return strings.Replace(secondForm, "%", who, 1) }
	id := a.step("node='greet'", "", first(""))
	in := "node='greet' sessionid='" + id + "'"
	for _, id2 := range []string{
		a.step(in+" action='next'", submit("FORM_TYPE", "urn:t", "who", "Ann"), second("Ann")),
		a.step(in+" action='prev'", "", first("<value>Ann</value>")),
		a.step(in, submit("who", "Bob &amp; Co"), second("Bob &amp; Co")), // execute: the default, which is next
		a.step(in+" action='complete'", submit("how", "hi"), commandNS+"node='greet' sessionid='ID' status='completed' xml:lang='en'><note type='info'>hi, Bob &amp; Co</note></command>"),
	} {
		if id2 != id {
			t.Errorf("the session has another id: %s, %s", id, id2)
		}
	}

	id = a.step("node='greet' action='execute'", "", first(""))
	a.step("node='greet' sessionid='"+id+"' action='cancel'", "", commandNS+"node='greet' sessionid='ID' status='canceled' xml:lang='en'></command>")

	id = a.step("node='greet'", "", first(""))
	a.step("node='greet' sessionid='"+id+"'", submit("who", "Ann"), second("Ann"))
	form := strings.Replace(submit("how", "fail"), "submit", "cancel", 1) // XEP-0050 §3.5.1
	a.step("node='greet' sessionid='"+id+"'", form, commandNS+"node='greet' sessionid='ID' status='completed' xml:lang='en'><note type='error'>no voice</note></command>")
	a.fence()
}

func TestCommandErrors(t *testing.T) {
	a := startAdmin(t)
	a.fails("node='none'", "", "cancel", "item-not-found", "There is no such command", "")
	a.fails("action='execute'", "", "cancel", "item-not-found", "There is no such command", "")
	a.fails("node='greet' action='dance'", "", "modify", "bad-request", "The action is not understood", "malformed-action")
	a.fails("node='greet' action='next'", "", "modify", "bad-request", "There is no session to do this with", "bad-action")
	for _, id := range []string{"", "1", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "a&apos;b"} {
		a.fails("node='greet' sessionid='"+id+"'", "", "modify", "bad-request", "There was no such session", "bad-sessionid")
	}
	id := a.step("node='greet'", "", strings.Replace(firstForm, "%", "", 1))
	in := "node='greet' sessionid='" + id + "'"
	a.fails(in+" action='prev'", "", "modify", "bad-request", `"prev" is not possible at this stage`, "bad-action")
	a.fails(in+" action='complete'", submit("who", "Ann"), "modify", "bad-request", `"complete" is not possible at this stage`, "bad-action")
	a.fails(in, "", "modify", "bad-request", "The form is missing", "bad-payload")
	a.fails(in, strings.Replace(submit("who", "Ann"), "submit", "form", 1), "modify", "bad-request", "The form is missing", "bad-payload")
	a.fails(in, strings.Replace(submit("who", "Ann"), "jabber:x:data", "urn:x", 1), "modify", "bad-request", "The form is missing", "bad-payload")
	a.fails(in, submit("whom", "Ann"), "modify", "bad-request", `"who" is required`, "bad-payload")
	a.fails(in, submit("who", "Ann", "FORM_TYPE", "urn:u"), "modify", "bad-request", "This is another form", "bad-payload")
	a.fails(in, submit("who", "Ann", "who", "Bob"), "modify", "bad-request", `"who" takes one value`, "bad-payload")
	a.fails(in, submit("who", strings.Repeat("x", 20<<10)), "modify", "bad-request", "The form is too large", "bad-payload")
	a.step(in, submit("who", "Ann"), strings.Replace(secondForm, "%", "Ann", 1))
	a.fails(in, submit("how", "loud"), "modify", "bad-request", `"loud" is none of the choices of "how"`, "bad-payload")
	a.fails(in+" action='next'", "", "modify", "bad-request", `"next" is not possible at this stage`, "bad-action")
	a.command(in, submit("how", "hi"))
	a.fails(in, submit("how", "hi"), "cancel", "not-allowed", "The session is over", "session-expired")
	a.fence()
}

func TestCommandSessionExpires(t *testing.T) {
	var passed atomic.Int64
	a := startAdmin(t, func(c *adhoc.Config) {
		c.Now = func() time.Time { return time.Unix(1e9, 0).Add(time.Duration(passed.Load())) }
	})
	id := a.step("node='greet'", "", strings.Replace(firstForm, "%", "", 1))
	passed.Add(int64(10 * time.Minute))
	a.fails("node='greet' sessionid='"+id+"'", submit("who", "Ann"), "cancel", "not-allowed", "The session is over", "session-expired")
}

// A session is of no use to another address, and one of another address at that.
func TestCommandSessionIsOnesOwn(t *testing.T) {
	a := startAdmin(t)
	id := a.step("node='greet'", "", strings.Replace(firstForm, "%", "", 1))
	stolen := "<iq from='root@chat.example/phone' to='gw.example' id='c' type='set'>" + commandNS + "node='greet' sessionid='" + id + "' action='cancel'/></iq>"
	a.send(stolen)
	if got := a.next(); !strings.Contains(got, "<bad-sessionid xmlns='http://jabber.org/protocol/commands'/>") {
		t.Errorf("got %s", got)
	}
	a.send(strings.Replace(stolen, "root@chat.example/phone", "ROOT@Chat.example/desk", 1)) // the same address (RFC 7622)
	if got := a.next(); !strings.Contains(got, "status='canceled'") {
		t.Errorf("got %s", got)
	}
}

func disco(from, what, node string) string {
	if node != "" {
		node = " node='" + node + "'"
	}
	return "<iq from='" + from + "' to='gw.example' id='d' type='get'><query xmlns='http://jabber.org/protocol/disco#" + what + "'" + node + "/></iq>"
}

const commandsNode = "http://jabber.org/protocol/commands"

func TestCommandDiscovery(t *testing.T) {
	a := startAdmin(t)
	head := "<iq from='gw.example' to='root@chat.example' id='d' type='result'><query xmlns='http://jabber.org/protocol/disco#"
	for _, c := range []struct{ what, node, want string }{
		{"items", "", "'></query></iq>"},
		{"items", commandsNode, "' node='http://jabber.org/protocol/commands'><item jid='gw.example' node='urn:t#list' name='List &amp; look'/>" +
			"<item jid='gw.example' node='greet' name='Greet'/></query></iq>"},
		{"info", commandsNode, "' node='http://jabber.org/protocol/commands'><identity category='automation' type='command-list' name='Administration'/>" +
			"<feature var='http://jabber.org/protocol/commands'/></query></iq>"},
		{"items", "greet", "' node='greet'></query></iq>"},
		{"info", "urn:t#list", "' node='urn:t#list'><identity category='automation' type='command-node' name='List &amp; look'/>" +
			"<feature var='http://jabber.org/protocol/commands'/><feature var='jabber:x:data'/></query></iq>"},
	} {
		a.send(disco("root@chat.example", c.what, c.node))
		a.want(head + c.what + c.want)
	}
	a.send(disco("root@chat.example", "info", ""))
	if got := a.next(); !strings.Contains(got, "<feature var='http://jabber.org/protocol/commands'/>") {
		t.Errorf("got %s", got)
	}
	a.send(disco("root@chat.example", "info", "none"))
	a.want("<iq from='gw.example' to='root@chat.example' id='d' type='error'><query xmlns='http://jabber.org/protocol/disco#info' node='none'/>" +
		stanzaError("cancel", "item-not-found", "There is no such node") + "</iq>")
}

// Whoever is no administrator cannot tell a gateway with commands from one without by discovery, and gets one answer
// for any command.
func TestCommandParity(t *testing.T) {
	with := startAdmin(t)
	id := with.step("node='greet'", "", strings.Replace(firstForm, "%", "", 1))
	without := start(t).connect("chat")
	without.fence()
	others := []string{"chat.example", "eve@chat.example", "roo@chat.example/root@chat.example", "eve@chat.example/desk"}
	for _, from := range others {
		for _, what := range []string{"info", "items"} {
			for _, node := range []string{"", commandsNode, "greet", "none"} {
				q := disco(from, what, node)
				with.send(q)
				without.send(q)
				if got, want := with.next(), without.next(); got != want {
					t.Errorf("%s\ngot  %s\nwant %s", q, got, want)
				}
			}
		}
		seen := map[string]bool{}
		for _, attrs := range []string{"node='greet'", "node='none'", "node='greet' action='dance'", "node='greet' sessionid='" + id + "' action='cancel'", "node='greet' sessionid='x'"} {
			command := "<iq from='" + from + "' to='gw.example' id='c' type='set'>" + commandNS + attrs + "/></iq>"
			with.send(command)
			seen[strings.Replace(with.next(), commandNS+attrs+"/>", "C", 1)] = true
			without.send(command)
			without.want("<iq from='gw.example' to='" + from + "' id='c' type='error'>" + stanzaError("cancel", "service-unavailable", "") + "</iq>")
		}
		want := "<iq from='gw.example' to='" + from + "' id='c' type='error'>C" + stanzaError("auth", "forbidden", "Commands are for administrators") + "</iq>"
		if len(seen) != 1 || !seen[want] {
			t.Errorf("%s gets %v", from, seen)
		}
	}
	// What is no command to the gateway is what it was.
	for _, q := range []string{
		"<iq from='root@chat.example' to='gw.example' id='c' type='get'>" + commandNS + "node='greet'/></iq>",
		"<iq from='root@chat.example' to='p1@gw.example' id='c' type='set'>" + commandNS + "node='greet'/></iq>",
		"<iq from='root@chat.example' to='gw.example/r' id='c' type='set'>" + commandNS + "node='greet'/></iq>",
		"<iq from='root@chat.example' to='gw.example' id='c' type='set'><command xmlns='urn:x' node='greet'/></iq>",
		strings.Replace(disco("root@chat.example", "items", commandsNode), "to='", "to='p1@", 1),
	} {
		with.send(q)
		without.send(q)
		if got, want := with.next(), without.next(); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", q, got, want)
		}
	}
	with.step("node='greet' sessionid='"+id+"' action='cancel'", "", commandNS+"node='greet' sessionid='ID' status='canceled' xml:lang='en'></command>")
}

// A command that takes long ends when the server does.
func TestCommandEndsWithTheServer(t *testing.T) {
	c := twoCommands()
	entered := make(chan struct{})
	c.StepTime = time.Hour
	c.Commands[0].Run = func(ctx context.Context, _ adhoc.Values) (*adhoc.Result, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	g := start(t, withCommands(c))
	p := g.connect("chat")
	p.fence()
	p.send("<iq from='root@chat.example' to='gw.example' id='c' type='set'>" + commandNS + "node='urn:t#list'/></iq>")
	<-entered
	g.stop()
}

func TestComponents(t *testing.T) {
	g := start(t)
	if list := g.srv.Components(); len(list) != 0 {
		t.Errorf("got %+v", list)
	}
	p := g.connect("chat")
	p.fence()
	list := g.srv.Components()
	if len(list) != 1 || list[0].App != "chat" || list[0].Domain != "chat.example" || list[0].Address != p.c.LocalAddr().String() || list[0].Since.IsZero() {
		t.Errorf("got %+v", list)
	}
	p.send("</stream:stream>")
	p.ends("</stream:stream>")
	g.logs("component left")
}

// A command in steps by mellium's own client of commands.
func TestMelliumCommands(t *testing.T) {
	g := start(t, withCommands(twoCommands()))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	nc, err := net.Dial("tcp", g.addr)
	g.must(err)
	s, err := component.NewSession(ctx, jid.MustParse("chat.example"), []byte(secret), nc)
	g.must(err)
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(xmpp.HandlerFunc(func(r xmlstream.TokenReadEncoder, start *xml.StartElement) error {
			_, err := xmlstream.Copy(xmlstream.Discard(), r)
			return err
		}))
	}()
	iq := stanza.IQ{Type: stanza.SetIQ, From: jid.MustParse("root@chat.example/desk"), To: jid.MustParse(domain)}
	do := func(c commands.Command, payload xml.TokenReader) (commands.Response, string) {
		t.Helper()
		resp, inner, err := c.ExecuteIQ(ctx, iq, payload, s)
		g.must(err)
		var b strings.Builder
		e := xml.NewEncoder(&b)
		_, err = xmlstream.Copy(e, inner)
		g.must(err)
		g.must(e.Flush())
		g.must(inner.Close())
		return resp, b.String()
	}
	fill := func(name, value string) xml.TokenReader {
		return xml.NewDecoder(strings.NewReader(submit(name, value)))
	}
	resp, _ := do(commands.Command{Node: "greet"}, nil)
	if resp.Status != "executing" || resp.SID == "" {
		t.Fatalf("got %+v", resp)
	}
	resp, body := do(resp.Next(), fill("who", "Ann"))
	if !strings.Contains(body, "Hi, Ann") {
		t.Errorf("got %s", body)
	}
	resp, _ = do(resp.Prev(), nil)
	resp, _ = do(resp.Next(), fill("who", "Bob"))
	resp, body = do(resp.Complete(), fill("how", "hi"))
	if resp.Status != "completed" || !strings.Contains(body, "hi, Bob") {
		t.Errorf("got %+v %s", resp, body)
	}
	g.must(s.Close())
	if err := <-served; err != nil && err != io.EOF {
		t.Errorf("Serve: %v", err)
	}
	nc.Close()
}

// A command does not keep a session that is to end: who resumes it does not wait for the command.
func TestCommandEndsWithItsSession(t *testing.T) {
	running := make(chan struct{})
	c := twoCommands()
	c.StepTime = time.Hour
	c.Commands[0].Run = func(ctx context.Context, _ adhoc.Values) (*adhoc.Result, error) {
		close(running)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	g := start(t, withCommands(c))
	p := g.connect("chat")
	id := p.enable()
	p.send("<iq from='root@chat.example/desk' to='gw.example' id='c' type='set'><command xmlns='http://jabber.org/protocol/commands' node='urn:t#list'/></iq>")
	<-running
	newer := g.resume("chat", id, 0)
	newer.want(resumed(id, 1))
}
