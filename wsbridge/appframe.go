package wsbridge

import (
	"unicode/utf8"

	"presenced/presence"
	"presenced/presence/errno"
)

const (
	maxAcks     = 1024 // ids in an app's ack
	maxCollapse = 256  // bytes of a collapse_key
)

// numbered is the resource of the address to which the receipt of a notification goes whose id was a number: it
// comes back as one.
const numbered = "/number"

// decodeAppFrame is decodeFrame for a frame from an app.
func decodeAppFrame(b []byte) (request, *Error) {
	s := scanner{b: b}
	if s.peek() == '[' {
		return decodeNotes(b)
	}
	var r request
	var t tokens
	empty, ok := t.scan(b)
	if !ok {
		return r, &Error{Errno: errno.BadJSON}
	}
	if err := t.echo(&r); err != nil {
		return r, err
	}
	r.typ = nil // it is no field of an app's
	if t[fAction] != nil && !isString(t[fAction]) {
		return r, bad(fAction)
	}
	switch r.kind = t.appKind(empty); r.kind {
	case heartbeatFrame:
		return r, nil
	case authFrame:
		return r, t.authInto(&r)
	case notifyFrame:
		n, err := t.note(fURL)
		r.notes = []presence.Addressed{n}
		return r, err
	case ackFrame:
		return r, t.refsInto(&r)
	}
	return r, &Error{Errno: errno.UnknownFrame}
}

// decodeNotes reads the array form of notify.
func decodeNotes(b []byte) (request, *Error) {
	r := request{kind: notifyFrame}
	if !utf8.Valid(b) {
		return r, &Error{Errno: errno.BadJSON}
	}
	s := scanner{b: b}
	list, ok := s.token()
	if s.space(); !ok || s.i != len(b) {
		return r, &Error{Errno: errno.BadJSON}
	}
	s = scanner{b: list, i: 1}
	if s.take(']') {
		return r, missing(fUID)
	}
	for more := true; more; more = s.take(',') {
		token, _ := s.token()
		var t tokens
		if _, ok := t.scan(token); !ok { // no object, or with a member twice
			return r, &Error{Errno: errno.BadJSON}
		}
		if err := t.echo(new(request)); err != nil {
			return r, err
		}
		n, err := t.note(t.link())
		if err != nil {
			return r, err
		}
		r.notes = append(r.notes, n)
	}
	return r, nil
}

// link tells which member of an item of the array form has the link: there "action" does, unless it is used as in
// the other form.
func (t *tokens) link() field {
	if t[fURL] != nil || t[fAction] != nil && string(t[fAction]) == `"notify"` {
		return fURL
	}
	return fAction
}

// appKind tells the frame by its action; an auth may go without.
func (t *tokens) appKind(empty bool) kind {
	switch {
	case empty:
		return heartbeatFrame
	case t[fAction] != nil:
		if k, ok := actions[unquote(t[fAction])]; ok {
			return k
		}
	case t[fToken] != nil || t[fKey] != nil:
		return authFrame
	}
	return unknownFrame
}

func (t *tokens) authInto(r *request) *Error {
	r.action = []byte(`"auth"`)
	f := fToken
	if t[f] == nil {
		f = fKey
	}
	if t[f] == nil {
		return missing(fToken)
	}
	var err *Error
	r.key, err = t.text(f)
	return err
}

// refsInto reads an ack: an id is what the message had, which is text; a number means the same text.
func (t *tokens) refsInto(r *request) *Error {
	r.action = t[fAction]
	if err := t.need(fIDs); err != nil {
		return err
	}
	return t.list(fIDs, maxAcks, func(id []byte) bool {
		if !isString(id) && !isNumber(id) {
			return false
		}
		r.refs = append(r.refs, asText(id))
		return true
	})
}

// note reads a notification, whose link is in f. Fields that are there are checked before fields that are missing
// are missed.
func (t *tokens) note(f field) (n presence.Addressed, err *Error) {
	for _, s := range []struct {
		f  field
		to *string
	}{
		{fUID, &n.To.PUID}, {fSource, &n.Source}, {fMessage, &n.Message.Message}, {f, &n.Action},
		{fDevice, &n.To.Tag}, {fCollapse, &n.Collapse},
	} {
		if *s.to, err = t.text(s.f); err != nil {
			return n, err
		}
	}
	if n.TTL, err = t.ttl(); err != nil {
		return n, err
	}
	if len(n.Collapse) > maxCollapse {
		return n, bad(fCollapse)
	}
	if err = t.priorityInto(&n); err != nil {
		return n, err
	}
	if t[fID] != nil {
		n.Ref, n.Receipt = asText(t[fID]), true
		if isNumber(t[fID]) {
			n.From = numbered
		}
	}
	n.Data = append([]byte(nil), t[fData]...)
	if n.To.PUID == "" {
		return n, missing(fUID)
	}
	if n.Message.Message == "" && n.Action == "" && n.Data == nil {
		return n, missing(fMessage)
	}
	n.To = peer(n.To)
	return n, nil
}

func (t *tokens) priorityInto(n *presence.Addressed) *Error {
	priority, err := t.text(fPriority)
	switch {
	case err != nil:
		return err
	case priority == "high":
		n.High = true
	case t[fPriority] != nil && priority != "normal":
		return bad(fPriority)
	}
	return nil
}

// peer reads a uid: a PUID, or the e-mail of a user whom the app asked by it. Either is compared in lower case, as
// in an address.
func peer(p presence.Peer) presence.Peer {
	if email, err := presence.NormalEmail(p.PUID); err == nil {
		return presence.Peer{Email: email, Tag: p.Tag}
	}
	p.PUID = lower(p.PUID)
	return p
}

// lower folds ASCII, of which all PUIDs are.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
