package gcm

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"presenced/presence"
)

// Sent is what an app server sends: a message for devices, or the acknowledgement of one that it got.
type Sent struct {
	Ack       bool
	MessageID string
	To        string // as it was sent; of an Ack: whom the message came from
	Canonical string // the token as it should be written, where To is another spelling of it; else ""

	Peer  presence.Peer // whom it is for, where Topic is nil and Group is ""
	Topic *Topic        // who is subscribed
	Group string        // the key of a device group
	Msg   presence.Message

	Outcome *presence.Outcome // what became of it in the group, to be told with the ack; nil: it was to somebody else
}

// Target is what the answer calls the message's destination.
func (s *Sent) Target() string {
	if s.To == "" && s.Topic != nil {
		return s.Topic.text
	}
	return s.To
}

// Notify hands a message, which is Msg or made of it, to whom it is for, unless that is a topic.
func (s *Sent) Notify(l *presence.Link, m presence.Message) (*presence.Delivery, error) {
	if s.Group != "" {
		return l.NotifyGroup(s.Group, m)
	}
	return l.Notify(s.Peer, m)
}

// Context is what a message does not say itself.
type Context struct {
	Domain string // the gateway's own, that may stand in a token
	Source string // who notifies: the app's name
	To     string // the token that is meant where the message names none; "": it must
}

// Parse reads what a server sent. With an *Error, Sent has what there is to answer with: MessageID and To.
func (c Context) Parse(payload []byte) (s Sent, failed *Error) {
	var f fields
	if json.Unmarshal(payload, &f) != nil || f == nil {
		return s, &Error{Code: InvalidJSON, Description: "InvalidJson: JSON_PARSING_ERROR : Not a JSON object\n", Unnamed: true}
	}
	id, err := f.text("message_id")
	if id == "" {
		if err == nil {
			err = missing("message_id")
		}
		err.Unnamed = true
		return s, err
	}
	s.MessageID = id
	kind, kindErr := f.text("message_type")
	to, err := f.text("to")
	if to == "" && err == nil && f["condition"] == nil && kind == "" {
		to = c.To
	}
	s.To = to
	switch {
	case kindErr != nil:
		return s, kindErr
	case kind == "ack":
		s.Ack = true
		if err != nil || to == "" {
			return s, &Error{Code: BadAck, Description: "Bad ack: the field 'to' is missing"}
		}
		return s, nil
	case kind != "":
		return s, badValue("message_type %q is not for servers to send", short(kind))
	case err != nil:
		return s, err
	}
	if err := c.target(f, &s); err != nil {
		return s, err
	}
	return s, c.message(f, &s)
}

// target reads whom a message is for.
func (c Context) target(f fields, s *Sent) *Error {
	condition, err := f.text("condition")
	switch {
	case err != nil:
		return err
	case condition != "" && s.To != "":
		return badValue("there must be one of 'to' and 'condition'")
	case condition != "":
		topic, ok := parseCondition(condition)
		if !ok {
			return badValue("the condition is not understood")
		}
		s.Topic = topic
	case s.To == "":
		return missing("to")
	case strings.HasPrefix(s.To, topicPrefix):
		name := s.To[len(topicPrefix):]
		if presence.CheckTopic(name) != nil {
			return badToken(s.To)
		}
		s.Topic = oneTopic(name)
	case strings.HasPrefix(s.To, presence.GroupPrefix):
		s.Group = s.To
	default:
		peer, canonical, ok := ParseToken(s.To, c.Domain)
		if !ok {
			return badToken(s.To)
		}
		if s.Peer = peer; canonical != s.To {
			s.Canonical = canonical
		}
	}
	return nil
}

// message reads what is to be notified, and how.
func (c Context) message(f fields, s *Sent) *Error {
	m := &s.Msg
	m.Ref, m.Source = s.MessageID, c.Source
	var err *Error
	if m.TTL, err = f.ttl(); err != nil {
		return err
	}
	if m.Collapse, err = f.text("collapse_key"); err != nil {
		return err
	}
	if m.Receipt, err = f.flag("delivery_receipt_requested"); err != nil {
		return err
	}
	if m.Dry, err = f.flag("dry_run"); err != nil {
		return err
	}
	for _, name := range []string{"delay_while_idle", "content_available", "mutable_content"} { // they mean nothing here
		if _, err = f.flag(name); err != nil {
			return err
		}
	}
	data, err := f.object("data")
	if err != nil {
		return err
	}
	for key := range data {
		if key == "from" || key == "message_type" || strings.HasPrefix(key, "google") || strings.HasPrefix(key, "gcm") {
			return &Error{Code: InvalidJSON, Description: "InvalidJson: INVALID_DATA_KEY : " + short(key)}
		}
	}
	shown, err := f.object("notification")
	if err != nil {
		return err
	}
	if err = f.priority(m, shown != nil); err != nil {
		return err
	}
	lay(m, shown, data)
	return nil
}

// lay puts a notification and data into a message: body, or else title, is the text; click_action is what it leads to;
// the rest goes with the data, whose keys come first.
func lay(m *presence.Message, shown, data map[string]string) {
	take := func(key string) string {
		v := shown[key]
		delete(shown, key)
		return v
	}
	if m.Message = take("body"); m.Message == "" {
		m.Message = take("title")
	}
	m.Action = take("click_action")
	if shown == nil {
		shown = data
	} else {
		maps.Copy(shown, data)
	}
	if len(shown) > 0 {
		m.Data = appendObject(nil, shown)
	}
}

// fields are those of a JSON object, by their exact names.
type fields map[string]json.RawMessage

// get returns a field; null is as good as none.
func (f fields) get(name string) (json.RawMessage, bool) {
	raw, ok := f[name]
	return raw, ok && string(raw) != "null"
}

func (f fields) text(name string) (string, *Error) {
	raw, ok := f.get(name)
	if !ok {
		return "", nil
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return "", badType(name, "java.lang.String", string(raw))
	}
	return s, nil
}

func (f fields) flag(name string) (bool, *Error) {
	raw, ok := f.get(name)
	if !ok {
		return false, nil
	}
	switch strings.Trim(string(raw), `"`) { // some libraries send it as text
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, badType(name, "java.lang.Boolean", string(raw))
}

const maxTTL = 2_419_200 // seconds: 4 weeks

// ttl reads time_to_live, a number or a numeric string; negative: it was left out.
func (f fields) ttl() (time.Duration, *Error) {
	raw, ok := f.get("time_to_live")
	if !ok {
		return -1, nil
	}
	text := string(raw)
	if text[0] == '"' {
		text, _ = f.text("time_to_live")
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil && n == 0 || strings.Trim(text, "0123456789+-.eE") != "" { // infinities are out of range
		return 0, badType("time_to_live", "java.lang.Number", text)
	}
	if n < 0 || n > maxTTL || n != float64(int64(n)) {
		return 0, &Error{Code: InvalidJSON, Description: "InvalidJson: INVALID_TTL : Invalid value (" + short(text) +
			`) for "time_to_live": must be between 0 and "2419200"` + "\n"}
	}
	return time.Duration(n) * time.Second, nil
}

// priority is high for what is shown and normal for data, unless told.
func (f fields) priority(m *presence.Message, shown bool) *Error {
	p, err := f.text("priority")
	if err != nil {
		return err
	}
	switch p {
	case "":
		m.High = shown
	case "high":
		m.High = true
	case "normal":
	default:
		return badValue("priority %q is neither high nor normal", short(p))
	}
	return nil
}

// object reads an object of strings; what is not one becomes one, and null is as good as none.
func (f fields) object(name string) (map[string]string, *Error) {
	raw, ok := f.get(name)
	if !ok {
		return nil, nil
	}
	var values map[string]json.RawMessage
	if json.Unmarshal(raw, &values) != nil {
		return nil, badType(name, "object", string(raw))
	}
	texts := make(map[string]string, len(values))
	for key, value := range values {
		if string(value) == "null" {
			continue
		}
		if value[0] != '"' {
			var b bytes.Buffer
			_ = json.Compact(&b, value) // it was parsed already
			texts[key] = b.String()
			continue
		}
		var s string
		_ = json.Unmarshal(value, &s)
		texts[key] = s
	}
	return texts, nil
}

// appendObject appends an object of strings, its keys in order, so that the same message is the same bytes.
func appendObject(dst []byte, m map[string]string) []byte {
	dst = append(dst, '{')
	for i, key := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, key), ':')
		dst = appendString(dst, m[key])
	}
	return append(dst, '}')
}
