package xmppsrv

import (
	"errors"

	"presenced/xmppsrv/adhoc"

	"presenced/xmppsrv/xmlstream"
)

// Commands (XEP-0050) for administrators. What they do and their sessions are the business of [adhoc.Engine]; here is
// how they stand on the wire. To whoever is no administrator discovery shows none of it, and where no commands are
// configured a command is an unknown iq.
//
// A command is carried out by the reader: an administrator's stream waits for it, for a bounded time, and not at all
// once the session is to end.

// bare is the address without its resource, in its normal form.
func (a *address) bare() string {
	if a.local == nil {
		return string(a.domain)
	}
	return string(a.local) + "@" + string(a.domain)
}

// full is the whole address in its normal form.
func (a *address) full() string {
	if a.resource == nil {
		return a.bare()
	}
	return a.bare() + "/" + string(a.resource)
}

// isAdmin reports whether who asks may use commands. Whoever is at a component's domain is who the component says
// (XEP-0114 §5).
func (s *session) isAdmin(st *stanza) bool { return s.srv.cfg.Commands.Allows(st.fromAddr.bare()) }

func (s *session) isCommand(st *stanza, q xmlstream.Element) bool {
	return s.srv.cfg.Commands != nil && st.toAddr.local == nil && st.toAddr.resource == nil &&
		string(st.typ) == "set" && q.Is("command", nsCommands)
}

// command answers a <command/> to the gateway.
func (s *session) command(st *stanza, q xmlstream.Element) {
	r := adhoc.Request{
		From: st.fromAddr.full(), Bare: st.fromAddr.bare(), Node: string(q.Attr("node")), Action: string(q.Attr("action")),
		Session: string(q.Attr("sessionid")), Continues: q.Attr("sessionid") != nil,
	}
	if s.isAdmin(st) {
		r.Form = submitted(q)
	}
	reply, err := s.srv.cfg.Commands.Do(s.going, r)
	if err != nil {
		s.refuseCommand(st, q, err)
		return
	}
	s.result(st, func(dst []byte) []byte { return appendCommand(dst, &reply) })
}

// commandErrors says how what the engine refuses is told.
var commandErrors = map[adhoc.Why]refusal{
	adhoc.Forbidden:       refuseForbidden,
	adhoc.NoCommand:       refuseNoCommand,
	adhoc.MalformedAction: refuseMalformedAction,
	adhoc.BadAction:       refuseBadAction,
	adhoc.BadPayload:      refuseBadPayload,
	adhoc.BadSession:      refuseBadSession,
	adhoc.Expired:         refuseExpired,
	adhoc.Busy:            refuseBusy,
}

// refuseCommand answers with an error. The command is repeated without what is in it: libraries find their session
// by it.
func (s *session) refuseCommand(st *stanza, q xmlstream.Element, err error) {
	why, text := refuseService, ""
	var e *adhoc.Error
	if errors.As(err, &e) {
		why = commandErrors[e.Why]
		text = refusals[why].text
		if e.Text != "" {
			text = e.Text
		}
	}
	inner := []byte("<command xmlns='" + nsCommands + "'")
	for _, name := range []string{"node", "sessionid", "action"} {
		if v := q.Attr(name); v != nil {
			inner = append(append(append(inner, ' '), name...), "='"...)
			inner = append(xmlstream.AppendValue(inner, v), '\'')
		}
	}
	inner = append(inner, "/>"...)
	s.count(why, st.kind, string(st.to))
	s.out.add(func(dst []byte) []byte {
		return appendErrorText(dst, st.kind, st.from, st.to, st.id, why, text, inner)
	})
}

// submitted reads the form in a command (XEP-0004 §3.2); nil if there is none.
func submitted(q xmlstream.Element) adhoc.Values {
	x, ok := q.Child("x", nsForm)
	if !ok {
		return nil
	}
	switch string(x.Attr("type")) {
	case "submit", "cancel": // XEP-0050 §3.5.1: cancel counts as submit
	default:
		return nil
	}
	in := adhoc.Values{}
	for f, ok := x.First(); ok; f, ok = f.Next() {
		if !f.Is("field", nsForm) {
			continue
		}
		name := string(f.Attr("var"))
		for v, ok := f.First(); ok; v, ok = v.Next() {
			if v.Is("value", nsForm) {
				in[name] = append(in[name], string(v.Text()))
			}
		}
	}
	return in
}

// commandNode is what disco tells an administrator of a node (XEP-0050 §2.2), nil if there is nothing: for her no such
// node, for others no node at all.
func (s *session) commandNode(st *stanza, space, node string) func([]byte) []byte {
	if !s.isAdmin(st) {
		return nil
	}
	e := s.srv.cfg.Commands
	name, known := e.Name(node)
	switch {
	case node == nsCommands && space == nsItems:
		return s.appendCommands
	case node == nsCommands:
		return func(dst []byte) []byte {
			dst = append(dst, "<identity category='automation' type='command-list' name='Administration'/>"...)
			return appendFeature(dst, nsCommands)
		}
	case !known:
		return nil
	case space == nsItems:
		return func(dst []byte) []byte { return dst }
	}
	return func(dst []byte) []byte {
		dst = append(dst, "<identity category='automation' type='command-node' name='"...)
		dst = append(xmlstream.AppendValue(dst, name), "'/>"...)
		return appendFeature(appendFeature(dst, nsCommands), nsForm)
	}
}

// appendCommands appends the list of commands as items.
func (s *session) appendCommands(dst []byte) []byte {
	for _, c := range s.srv.cfg.Commands.List() {
		dst = appendAttr(append(dst, "<item"...), "jid", s.gw)
		dst = appendAttr(dst, "node", c.Node)
		dst = append(appendAttr(dst, "name", c.Name), "/>"...)
	}
	return dst
}

// appendCommand appends a <command/> (XEP-0050 §4).
func appendCommand(dst []byte, r *adhoc.Reply) []byte {
	dst = appendAttr(append(dst, "<command xmlns='"+nsCommands+"'"...), "node", r.Node)
	dst = appendAttr(dst, "sessionid", r.Session)
	dst = appendAttr(dst, "status", string(r.Status))
	dst = append(dst, " xml:lang='en'>"...) // XEP-0050 §3.7
	if len(r.Actions) > 0 {
		dst = append(appendAttr(append(dst, "<actions"...), "execute", string(r.Default)), '>')
		for _, a := range r.Actions {
			dst = append(append(append(dst, '<'), a...), "/>"...)
		}
		dst = append(dst, "</actions>"...)
	}
	for _, n := range r.Notes {
		dst = append(appendAttr(append(dst, "<note"...), "type", string(n.Type)), '>')
		dst = append(xmlstream.AppendText(dst, n.Text), "</note>"...)
	}
	if r.Form != nil {
		dst = appendForm(dst, r.Form, r.Status == adhoc.Executing)
	}
	return append(dst, "</command>"...)
}

// appendForm appends a form to be filled in, or a result (XEP-0004 §3).
func appendForm(dst []byte, f *adhoc.Form, open bool) []byte {
	kind := "result"
	if open {
		kind = "form"
	}
	dst = append(appendAttr(append(dst, "<x xmlns='"+nsForm+"'"...), "type", kind), '>')
	dst = appendLeaf(dst, "title", f.Title)
	dst = appendLeaf(dst, "instructions", f.Instructions)
	dst = appendField(dst, &adhoc.Field{Var: "FORM_TYPE", Type: adhoc.Hidden, Values: []string{f.Kind}}) // XEP-0068 §3
	for i := range f.Fields {
		dst = appendField(dst, &f.Fields[i])
	}
	if f.Table != nil {
		dst = appendTable(dst, f.Table)
	}
	return append(dst, "</x>"...)
}

func appendField(dst []byte, f *adhoc.Field) []byte {
	dst = append(dst, "<field"...)
	if f.Var != "" {
		dst = appendAttr(dst, "var", f.Var)
	}
	if f.Type != "" {
		dst = appendAttr(dst, "type", string(f.Type))
	}
	if f.Label != "" {
		dst = appendAttr(dst, "label", f.Label)
	}
	dst = append(dst, '>')
	for _, v := range f.Values {
		dst = append(xmlstream.AppendText(append(dst, "<value>"...), v), "</value>"...)
	}
	for _, o := range f.Options {
		dst = append(appendAttr(append(dst, "<option"...), "label", o.Label), "><value>"...)
		dst = append(xmlstream.AppendText(dst, o.Value), "</value></option>"...)
	}
	if f.Required {
		dst = append(dst, "<required/>"...)
	}
	return append(dst, "</field>"...)
}

// appendTable appends <reported/> and the items (XEP-0004 §3.4).
func appendTable(dst []byte, t *adhoc.Table) []byte {
	dst = append(dst, "<reported>"...)
	for _, c := range t.Columns {
		dst = appendAttr(append(dst, "<field"...), "var", c.Var)
		dst = append(appendAttr(dst, "label", c.Label), "/>"...)
	}
	dst = append(dst, "</reported>"...)
	for _, row := range t.Rows {
		dst = append(dst, "<item>"...)
		for i, v := range row {
			dst = append(appendAttr(append(dst, "<field"...), "var", t.Columns[i].Var), "><value>"...)
			dst = append(xmlstream.AppendText(dst, v), "</value></field>"...)
		}
		dst = append(dst, "</item>"...)
	}
	return dst
}

// appendLeaf appends an element with a text, unless it is empty.
func appendLeaf(dst []byte, name, text string) []byte {
	if text == "" {
		return dst
	}
	dst = append(append(append(dst, '<'), name...), '>')
	dst = append(xmlstream.AppendText(dst, text), "</"...)
	return append(append(dst, name...), '>')
}

func appendAttr(dst []byte, name, value string) []byte {
	dst = append(append(append(dst, ' '), name...), "='"...)
	return append(xmlstream.AppendValue(dst, value), '\'')
}
