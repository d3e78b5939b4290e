package wsbridge

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"presenced/presence"
	"presenced/presence/errno"
)

// kind of a frame from a device.
type kind uint8

const (
	heartbeatFrame kind = iota // {}
	statusFrame
	helloFrame
	ackFrame
	sendFrame
	consentFrame
	quietFrame
	subscribeFrame
	unsubscribeFrame
	authFrame   // of an app, as are the next two and an ack
	notifyFrame // also in its array form
	unknownFrame
)

// kinds are the values of "type"; consent and send never go without.
var kinds = map[string]kind{
	"status":  statusFrame,
	"hello":   helloFrame,
	"ack":     ackFrame,
	"send":    sendFrame,
	"consent": consentFrame,
	"quiet":   quietFrame,

	"subscribe":   subscribeFrame,
	"unsubscribe": unsubscribeFrame,
}

// actions are the values of "action" in frames from apps.
var actions = map[string]kind{
	"auth":   authFrame,
	"notify": notifyFrame,
	"ack":    ackFrame,
}

// field numbers the members that some frame has, of a device or of an app; all others are ignored.
type field uint8

const (
	fType field = iota
	fID
	fEmail
	fAssertion
	fDevice
	fStatus
	fIdleSince
	fAck
	fHeartbeat
	fPush
	fApps
	fIDs
	fApp
	fData
	fTTL
	fAllow
	fWindows
	fTZ
	fUntil
	fNotify
	fIdle
	fAction
	fToken
	fKey
	fUID
	fSource
	fMessage
	fURL
	fCollapse
	fPriority
	fQuiet
	fAdapt
	fResume
	fTopic
	fDevices
	fields // how many
)

var fieldNames = [fields]string{
	"type", "id", "email", "assertion", "device", "status", "idle_since", "ack", "heartbeat", "push", "apps",
	"ids", "app", "data", "ttl", "allow", "windows", "tz", "until", "notify", "idle",
	"action", "token", "key", "uid", "source", "message", "url", "collapse_key", "priority",
	"quiet", "adapt", "resume", "topic", "devices",
}

var fieldsByName = func() map[string]field {
	m := make(map[string]field, fields+1)
	for f, name := range fieldNames {
		m[name] = field(f)
	}
	m["UID"] = fUID // as the array form of notify has it
	return m
}()

// Bounds of what a frame may name.
const (
	maxEcho    = 128  // bytes of an id or type as it is written, to be echoed
	maxIDs     = 1024 // in an ack
	maxApps    = 64   // in a hello
	maxWindows = 32   // in a consent
	maxTTL     = 2_419_200
)

// request is a frame from a device or an app, checked. Slices and tokens point into the frame's buffer.
type request struct {
	kind kind
	// echo in the reply, as the peer wrote it; nil: it did not. action is of an app's auth and ack.
	id, typ, action []byte

	email, assertion string // status, hello; "": left out
	device           string // status, hello; "": left out
	hasStatus        bool   // always in a status frame
	status           presence.Status
	idleSince        time.Time        // zero: not idle
	ack              bool             // hello
	heartbeat        float64          // hello, seconds; 0: left out
	adapt            bool             // hello: the heartbeat may be changed later
	quiet            presence.Quiet   // hello, quiet
	resumable        bool             // hello: it wants a ticket
	ticket           string           // hello: in place of an assertion; "": none
	apps             []string         // hello: those whose addresses are asked for; nil: left out
	push             []byte           // hello: a subscription, or null; nil: left out
	seqs             []uint64         // ack: those of its ids that can be ids
	app              string           // send, consent, subscribe, unsubscribe
	topic            string           // subscribe, unsubscribe
	answer           *presence.Answer // consent, without user and app
	ref              string           // send: the id as text
	data             []byte           // send: one JSON object
	ttl              time.Duration    // send; negative: left out

	key   string               // auth
	notes []presence.Addressed // notify; From has only what tells the kind of its id, see numbered
	refs  []string             // an app's ack
}

// identifies reports whether the frame can be the first one.
func (r *request) identifies() bool {
	return r.kind == authFrame || (r.kind == statusFrame || r.kind == helloFrame) && r.email != "" && (r.assertion != "" || r.ticket != "")
}

// free reports whether the frame costs nothing in the token bucket.
func (r *request) free() bool { return r.kind == heartbeatFrame || r.kind == ackFrame }

// tokens are the known members of a frame as they are written; nil: left out, or null (but for push).
type tokens [fields][]byte

// decodeFrame reads one text frame. On an error the request still has what is to be echoed, as far as the
// frame could be read. A member that is null counts as left out; a repeated one makes the frame malformed.
func decodeFrame(b []byte) (request, *Error) {
	var r request
	var t tokens
	empty, ok := t.scan(b)
	if !ok {
		return r, &Error{Errno: errno.BadJSON}
	}
	err := t.echo(&r)
	if err != nil {
		return r, err
	}
	r.kind = t.kind(empty)
	switch r.kind {
	case heartbeatFrame:
		return r, nil
	case statusFrame:
		return r, t.statusInto(&r)
	case helloFrame:
		return r, t.helloInto(&r)
	case ackFrame:
		return r, t.acksInto(&r)
	case sendFrame:
		return r, t.sendInto(&r)
	case consentFrame:
		return r, t.consentInto(&r)
	case quietFrame:
		if err := t.quietInto(&r); err != nil {
			return r, err
		}
		return r, t.need(fQuiet)
	case subscribeFrame, unsubscribeFrame:
		return r, t.topicInto(&r)
	}
	return r, &Error{Errno: errno.UnknownFrame}
}

// scan splits the frame's object into its members. empty: it has none at all.
func (t *tokens) scan(b []byte) (empty, ok bool) {
	if !utf8.Valid(b) { // RFC 8259 §8.1
		return false, false
	}
	s := scanner{b: b}
	if !s.take('{') {
		return false, false
	}
	empty = s.take('}')
	var seen [fields]bool
	for more := !empty; more; more = s.take(',') {
		name, ok := s.memberName()
		if !ok {
			return false, false
		}
		token, ok := s.token()
		if !ok {
			return false, false
		}
		f, known := lookupField(name)
		if !known {
			continue
		}
		if seen[f] {
			return false, false
		}
		seen[f] = true
		if token[0] != 'n' || f == fPush { // null takes a subscription back
			t[f] = token
		}
	}
	if !empty && !s.take('}') {
		return false, false
	}
	s.space()
	return empty, s.i == len(b)
}

// memberName steps over a name and its colon and returns the name as it is written.
func (s *scanner) memberName() ([]byte, bool) {
	s.space()
	start := s.i
	if s.peek() != '"' || !s.str() {
		return nil, false
	}
	name := s.b[start:s.i]
	return name, s.take(':')
}

// lookupField finds a member by its name token. Names are compared exactly.
func lookupField(token []byte) (field, bool) {
	f, ok := fieldsByName[string(token[1:len(token)-1])] // no copy
	if !ok {
		f, ok = fieldsByName[unquote(token)] // it may have escapes
	}
	return f, ok
}

// echo keeps id and type, which go back with the reply.
func (t *tokens) echo(r *request) *Error {
	if id := t[fID]; id != nil {
		if !isString(id) && !isNumber(id) || len(id) > maxEcho {
			return bad(fID)
		}
		r.id = id
	}
	if typ := t[fType]; typ != nil {
		if !isString(typ) {
			return bad(fType)
		}
		if len(typ) <= maxEcho {
			r.typ = typ
		}
	}
	return nil
}

// kind tells the frame by its type, else by its fields.
func (t *tokens) kind(empty bool) kind {
	switch {
	case empty:
		return heartbeatFrame
	case t[fType] != nil:
		if k, ok := kinds[unquote(t[fType])]; ok {
			return k
		}
	case t[fStatus] != nil || t[fEmail] != nil || t[fAssertion] != nil:
		return statusFrame
	}
	return unknownFrame
}

// credentialsInto reads what status and hello share. Fields that are there are checked before fields that
// are missing are missed.
func (t *tokens) credentialsInto(r *request) *Error {
	var err *Error
	if t[fEmail] != nil {
		email, ok := asString(t[fEmail])
		key, bogus := presence.NormalEmail(email)
		if !ok || bogus != nil {
			return bad(fEmail)
		}
		r.email = key
	}
	if r.assertion, err = t.text(fAssertion); err != nil {
		return err
	}
	if t[fAssertion] != nil && r.assertion == "" {
		return bad(fAssertion)
	}
	if t[fDevice] != nil {
		device, ok := asString(t[fDevice])
		if !ok || presence.CheckDevice(device) != nil {
			return bad(fDevice)
		}
		r.device = device
	}
	return t.presenceInto(r)
}

func (t *tokens) presenceInto(r *request) *Error {
	if t[fStatus] != nil {
		text, ok := asString(t[fStatus])
		status, bogus := presence.ParseStatus(text)
		if !ok || bogus != nil {
			return bad(fStatus)
		}
		r.status, r.hasStatus = status, true
	}
	if t[fIdleSince] != nil {
		text, ok := asString(t[fIdleSince])
		since, bogus := time.Parse(time.RFC3339, text)
		if !ok || bogus != nil || since.Unix() <= 0 {
			return bad(fIdleSince)
		}
		r.idleSince = since.UTC()
	}
	return nil
}

func (t *tokens) statusInto(r *request) *Error {
	if err := t.credentialsInto(r); err != nil {
		return err
	}
	if !r.hasStatus {
		return missing(fStatus)
	}
	return nil
}

func (t *tokens) helloInto(r *request) *Error {
	if err := t.credentialsInto(r); err != nil {
		return err
	}
	var err *Error
	if r.ack, err = t.flag(fAck); err != nil {
		return err
	}
	if r.adapt, err = t.flag(fAdapt); err != nil {
		return err
	}
	if err := t.quietInto(r); err != nil {
		return err
	}
	if err := t.resumeInto(r); err != nil {
		return err
	}
	if t[fHeartbeat] != nil {
		seconds, ok := asNumber(t[fHeartbeat])
		if !ok || seconds < 0 {
			return bad(fHeartbeat)
		}
		r.heartbeat = max(seconds, math.SmallestNonzeroFloat64)
	}
	if r.push = t[fPush]; r.push != nil && r.push[0] != '{' && r.push[0] != 'n' {
		return bad(fPush)
	}
	if err := t.list(fApps, maxApps, func(app []byte) bool {
		name, ok := asString(app)
		r.apps = append(r.apps, name)
		return ok
	}); err != nil {
		return err
	}
	if t[fApps] != nil && r.apps == nil {
		r.apps = []string{}
	}
	if r.ticket != "" {
		return t.need(fEmail)
	}
	return t.need(fEmail, fAssertion)
}

// quietInto reads when the device is quiet: always, never, or while it is unavailable.
func (t *tokens) quietInto(r *request) *Error {
	switch {
	case t[fQuiet] == nil:
	case isString(t[fQuiet]) && unquote(t[fQuiet]) == "unavailable":
		r.quiet = presence.QuietAway
	default:
		now, err := t.flag(fQuiet)
		if err != nil {
			return err
		}
		if now {
			r.quiet = presence.QuietNow
		}
	}
	return nil
}

// resumeInto reads a ticket, or the wish for one.
func (t *tokens) resumeInto(r *request) (err *Error) {
	if t[fResume] == nil || isString(t[fResume]) {
		r.ticket, err = t.text(fResume)
		r.resumable = r.ticket != ""
		return err
	}
	r.resumable, err = t.flag(fResume)
	return err
}

func (t *tokens) acksInto(r *request) *Error {
	if err := t.need(fIDs); err != nil {
		return err
	}
	return t.list(fIDs, maxIDs, func(id []byte) bool {
		if !isString(id) {
			return false
		}
		if seq, ok := presence.ParseID(unquote(id)); ok {
			r.seqs = append(r.seqs, seq)
		}
		return true
	})
}

func (t *tokens) sendInto(r *request) *Error {
	var err *Error
	if r.app, err = t.text(fApp); err != nil {
		return err
	}
	if t[fData] != nil && t[fData][0] != '{' {
		return bad(fData)
	}
	if r.ttl, err = t.ttl(); err != nil {
		return err
	}
	if err := t.need(fApp, fID, fData); err != nil {
		return err
	}
	r.data = append([]byte(nil), t[fData]...)
	r.ref = asText(t[fID])
	return nil
}

func (t *tokens) topicInto(r *request) *Error {
	var err *Error
	if r.app, err = t.text(fApp); err != nil {
		return err
	}
	if r.topic, err = t.text(fTopic); err != nil {
		return err
	}
	if r.topic != "" && presence.CheckTopic(r.topic) != nil {
		return bad(fTopic)
	}
	return t.need(fApp, fTopic)
}

// ttl reads how long something may wait; negative where it is left out.
func (t *tokens) ttl() (time.Duration, *Error) {
	if t[fTTL] == nil {
		return -1, nil
	}
	seconds, ok := asNumber(t[fTTL])
	if !ok || seconds != math.Trunc(seconds) || seconds < 0 || seconds > maxTTL {
		return 0, bad(fTTL)
	}
	return time.Duration(seconds) * time.Second, nil
}

func (t *tokens) consentInto(r *request) *Error {
	var err *Error
	if r.app, err = t.text(fApp); err != nil {
		return err
	}
	var a presence.Answer
	if a.Allow, err = t.flag(fAllow); err != nil {
		return err
	}
	if a.Notify, err = t.choice(fNotify); err != nil {
		return err
	}
	if a.Idle, err = t.choice(fIdle); err != nil {
		return err
	}
	if a.Status, err = t.choice(fStatus); err != nil {
		return err
	}
	if a.Devices, err = t.choice(fDevices); err != nil {
		return err
	}
	if a.TZ, err = t.text(fTZ); err != nil {
		return err
	}
	if err = t.timesInto(&a); err != nil {
		return err
	}
	r.answer = &a
	return t.need(fApp, fAllow)
}

// timesInto reads when an app may see the user.
func (t *tokens) timesInto(a *presence.Answer) *Error {
	until, err := t.text(fUntil)
	if err != nil {
		return err
	}
	if t[fUntil] != nil {
		end, bogus := time.Parse(time.RFC3339, until)
		if bogus != nil {
			return bad(fUntil)
		}
		a.Until = &end
	}
	return t.list(fWindows, maxWindows, func(token []byte) bool {
		var w presence.Window
		if token[0] != '{' || json.Unmarshal(token, &w) != nil || w.Check() != nil {
			return false
		}
		a.Windows = append(a.Windows, w)
		return true
	})
}

// choice reads a boolean that may be left out.
func (t *tokens) choice(f field) (*bool, *Error) {
	if t[f] == nil {
		return nil, nil
	}
	on, err := t.flag(f)
	return &on, err
}

// need misses the first of fs that is left out.
func (t *tokens) need(fs ...field) *Error {
	for _, f := range fs {
		if t[f] == nil {
			return missing(f)
		}
	}
	return nil
}

// text reads a string; "" where it is left out.
func (t *tokens) text(f field) (string, *Error) {
	if t[f] == nil {
		return "", nil
	}
	s, ok := asString(t[f])
	if !ok {
		return "", bad(f)
	}
	return s, nil
}

// flag reads a boolean; false where it is left out.
func (t *tokens) flag(f field) (bool, *Error) {
	if t[f] == nil {
		return false, nil
	}
	if c := t[f][0]; c != 't' && c != 'f' {
		return false, bad(f)
	}
	return t[f][0] == 't', nil
}

// list steps through an array of at most max values, each of which must be accepted.
func (t *tokens) list(f field, max int, accept func(token []byte) bool) *Error {
	if t[f] == nil {
		return nil
	}
	s := scanner{b: t[f]}
	if !s.take('[') {
		return bad(f)
	}
	if s.take(']') {
		return nil
	}
	for n := 0; n == 0 || s.take(','); n++ {
		token, _ := s.token()
		if n == max || !accept(token) {
			return bad(f)
		}
	}
	return nil
}

func isString(token []byte) bool { return token[0] == '"' }
func isNumber(token []byte) bool { return token[0] == '-' || '0' <= token[0] && token[0] <= '9' }

func asString(token []byte) (string, bool) {
	if !isString(token) {
		return "", false
	}
	return unquote(token), true
}

// asText is a string's text, or a number as it is written.
func asText(token []byte) string {
	if isString(token) {
		return unquote(token)
	}
	return string(token)
}

// asNumber reads a number that a float64 can hold.
func asNumber(token []byte) (float64, bool) {
	if !isNumber(token) || len(token) > maxEcho {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(token), 64)
	return f, err == nil
}

func bad(f field) *Error     { return &Error{Errno: errno.BadValue, Detail: fieldNames[f]} }
func missing(f field) *Error { return &Error{Errno: errno.MissingField, Detail: fieldNames[f]} }
