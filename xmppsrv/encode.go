package xmppsrv

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"presenced/presence"
	"presenced/xmppsrv/xmlstream"
)

// The append encoder: every function appends to dst and allocates nothing when there is room.

// appendLocal appends the local part under which an app knows a user: a PUID, or an e-mail in the escapes of
// XEP-0106.
func appendLocal(dst []byte, local string, byEmail bool) []byte {
	if byEmail {
		return xmlstream.AppendLocal(dst, local)
	}
	return xmlstream.AppendValue(dst, local)
}

// appendStamp appends a time as XEP-0082 §3.2 wants it, in UTC and whole seconds.
func appendStamp(dst []byte, t time.Time) []byte { return t.UTC().AppendFormat(dst, time.RFC3339) }

// encoder knows what stands in every stanza of a stream. It is immutable.
type encoder struct {
	domain string // the gateway's, escaped
	app    string // the component's, escaped
	at     string // @domain
	slash  string // @domain/
	toApp  string // ' to='app'
	delay  string // <delay …stamp='

	// news is all that follows the address in a presence that is neither delayed nor idle, by status.
	news [presence.Online + 1]string
}

func newEncoder(domain, app string) *encoder {
	d, a := string(xmlstream.AppendValue(nil, domain)), string(xmlstream.AppendValue(nil, app))
	e := &encoder{
		domain: d, app: a,
		at:    "@" + d,
		slash: "@" + d + "/",
		toApp: "' to='" + a + "'",
		delay: "<delay xmlns='" + nsDelay + "' from='" + d + "' stamp='",
	}
	for st := range e.news {
		e.news[st] = string(e.presenceRest([]byte(e.toApp), &presence.Update{Status: presence.Status(st)}))
	}
	return e
}

// update appends what an Update says to the component.
func (e *encoder) update(dst []byte, u *presence.Update) []byte {
	switch u.Kind {
	case presence.Presence:
		return e.presence(dst, u)
	case presence.Subscribed:
		return e.consent(dst, u, " type='subscribed'/>") // RFC 6121 §3.1.5: from the bare address
	case presence.Unsubscribed:
		return e.consent(dst, u, " type='unsubscribed'/>") // RFC 6121 §3.2.2
	case presence.FromDevice:
		return e.fromDevice(dst, u)
	}
	return e.receipt(dst, u)
}

// presence appends the state of one device (RFC 6121 §4.2, §4.4, §4.5).
func (e *encoder) presence(dst []byte, u *presence.Update) []byte {
	dst = e.presenceFrom(dst, u)
	if !u.Delayed && u.Idle.IsZero() {
		return append(dst, e.news[u.Status]...)
	}
	dst = append(dst, e.toApp...)
	return e.presenceRest(dst, u)
}

// answer appends the state of one device to who probed (RFC 6121 §4.3.2). to and id stand as on the wire,
// decoded; id may be empty.
func (e *encoder) answer(dst []byte, u *presence.Update, to, id string) []byte {
	dst = e.presenceFrom(dst, u)
	dst = append(xmlstream.AppendValue(append(dst, "' to='"...), to), '\'')
	dst = appendID(dst, id)
	return e.presenceRest(dst, u)
}

func (e *encoder) presenceFrom(dst []byte, u *presence.Update) []byte {
	dst = append(dst, "<presence from='"...)
	dst = appendLocal(dst, u.Local, u.ByEmail)
	if u.Tag == "" {
		return append(dst, e.at...)
	}
	return xmlstream.AppendValue(append(dst, e.slash...), u.Tag)
}

func (e *encoder) presenceRest(dst []byte, u *presence.Update) []byte {
	show := ""
	switch u.Status {
	case presence.Offline:
		dst = append(dst, " type='unavailable'"...)
	case presence.Unavailable:
		show = "<show>away</show>" // RFC 6121 §4.7.2.1
	}
	if show == "" && !u.Delayed && u.Idle.IsZero() {
		return append(dst, "/>"...)
	}
	dst = append(dst, '>')
	dst = append(dst, show...)
	if u.Delayed { // XEP-0203
		dst = append(dst, e.delay...)
		dst = append(appendStamp(dst, u.Since), "'/>"...)
	}
	if !u.Idle.IsZero() { // XEP-0319
		dst = append(dst, "<idle xmlns='"+nsIdle+"' since='"...)
		dst = append(appendStamp(dst, u.Idle), "'/>"...)
	}
	return append(dst, "</presence>"...)
}

func (e *encoder) consent(dst []byte, u *presence.Update, rest string) []byte {
	dst = append(dst, "<presence from='"...)
	dst = appendLocal(dst, u.Local, u.ByEmail)
	dst = append(dst, e.at...)
	if u.To == "" {
		return append(append(dst, e.toApp...), rest...)
	}
	dst = append(xmlstream.AppendValue(append(dst, "' to='"...), u.To), '\'')
	return append(dst, rest...)
}

// fromDevice appends a device's message: its data as JSON (XEP-0335), and as body the text in it.
func (e *encoder) fromDevice(dst []byte, u *presence.Update) []byte {
	dst = append(dst, "<message from='"...)
	dst = appendLocal(dst, u.Local, u.ByEmail)
	dst = xmlstream.AppendValue(append(dst, e.slash...), u.Tag)
	dst = append(dst, e.toApp...)
	dst = append(appendID(dst, u.Ref), '>')
	var known struct{ Text *string }
	if json.Unmarshal(u.Data, &known) == nil && known.Text != nil {
		dst = append(xmlstream.AppendText(append(dst, "<body>"...), *known.Text), "</body>"...)
	}
	dst = append(dst, "<json xmlns='"+nsJSON+"'>"...)
	dst = append(xmlstream.AppendText(dst, string(u.Data)), "</json>"...)
	if u.Delayed { // XEP-0203
		dst = append(dst, e.delay...)
		dst = append(appendStamp(dst, u.Since), "'/>"...)
	}
	if u.Again {
		dst = append(dst, "<again xmlns='"+nsUpstream+"'/>"...)
	}
	return append(dst, "</message>"...)
}

// appendPresence appends a presence that has a type and nothing in it. to is whom it goes to.
func appendPresence(dst []byte, kind, from, to, id string) []byte {
	dst = append(xmlstream.AppendValue(append(dst, "<presence from='"...), from), "' to='"...)
	dst = appendID(append(xmlstream.AppendValue(dst, to), '\''), id)
	return append(append(append(dst, " type='"...), kind...), "'/>"...)
}

// receipt appends that a device has the notification Ref (XEP-0184 §5).
func (e *encoder) receipt(dst []byte, u *presence.Update) []byte {
	dst = append(dst, "<message from='"...)
	dst = appendLocal(dst, u.Local, u.ByEmail)
	dst = append(dst, e.at...)
	if u.Tag != "" {
		dst = append(dst, '/')
		dst = xmlstream.AppendValue(dst, u.Tag)
	}
	if u.To == "" {
		dst = append(dst, e.toApp...)
	} else {
		dst = append(xmlstream.AppendValue(append(dst, "' to='"...), u.To), '\'')
	}
	dst = append(dst, "><received xmlns='"+nsReceipts+"' id='"...)
	return append(xmlstream.AppendValue(dst, u.Ref), "'/></message>"...)
}

// ping appends an XEP-0199 ping from the gateway to the component.
func (e *encoder) ping(dst []byte, id string) []byte {
	dst = append(dst, "<iq from='"...)
	dst = append(dst, e.domain...)
	dst = append(dst, e.toApp...)
	dst = appendID(dst, id)
	return append(dst, " type='get'><ping xmlns='"+nsPing+"'/></iq>"...)
}

func appendID[T ~string | ~[]byte](dst []byte, id T) []byte {
	if len(id) == 0 {
		return dst
	}
	return append(xmlstream.AppendValue(append(dst, " id='"...), id), '\'')
}

// appendError appends a stanza error (RFC 6120 §8.3): from and to are those of the stanza, so they change places.
// The payload is not repeated: it may be a notification. inner goes before the error and may be nil.
func appendError[T ~string | ~[]byte](dst []byte, kind string, from, to, id T, why refusal, inner []byte) []byte {
	return appendErrorText(dst, kind, from, to, id, why, refusals[why].text, inner)
}

// appendErrorText is appendError with a text of its own.
func appendErrorText[T ~string | ~[]byte](dst []byte, kind string, from, to, id T, why refusal, text string, inner []byte) []byte {
	row := &refusals[why]
	dst = append(append(dst, '<'), kind...)
	dst = append(xmlstream.AppendValue(append(dst, " from='"...), to), "' to='"...)
	dst = append(xmlstream.AppendValue(dst, from), '\'')
	if kind == "iq" && len(id) == 0 {
		dst = append(dst, " id=''"...) // RFC 6120 §8.3.1: an iq error has an id, empty if there was none
	}
	dst = appendID(dst, id)
	dst = append(dst, " type='error'>"...)
	dst = append(dst, inner...)
	dst = append(append(dst, "<error type='"...), row.kind...)
	dst = append(append(dst, "'><"...), row.cond...)
	dst = append(dst, " xmlns='"+nsStanzas+"'/>"...)
	if text != "" {
		dst = append(dst, "<text xmlns='"+nsStanzas+"' xml:lang='en'>"...)
		dst = append(xmlstream.AppendText(dst, text), "</text>"...)
	}
	dst = append(dst, specifics[why]...)
	dst = append(append(dst, "</error></"...), kind...)
	return append(dst, '>')
}

// appendHeader appends the header of our side of the stream (XEP-0114 §3, RFC 6120 §4.7, §11.5): no version, since
// no features follow.
func appendHeader(dst []byte, from, id string) []byte {
	dst = append(dst, "<?xml version='1.0'?><stream:stream xmlns='"+nsAccept+"' xmlns:stream='"+nsStream+"' from='"...)
	dst = append(xmlstream.AppendValue(dst, from), "' id='"...)
	return append(append(dst, id...), "'>"...)
}

const closingTag = "</stream:stream>"

// appendEnd appends a stream error, if the end has one, and the closing tag (RFC 6120 §4.9.2, §4.4). Some causes have
// a condition of their own.
func appendEnd(dst []byte, why end, cause error) []byte {
	if row := why.row(); row.cond != "" {
		dst = append(append(dst, "<stream:error><"...), row.cond...)
		dst = append(dst, " xmlns='"+nsStreams+"'/><text xmlns='"+nsStreams+"' xml:lang='en'>"...)
		dst = append(xmlstream.AppendText(dst, row.text), "</text>"...)
		if high := (*countError)(nil); errors.As(cause, &high) { // XEP-0198 §6
			dst = append(appendCount(append(dst, "<handled-count-too-high xmlns='"+nsSM+"' h='"...), high.h), "' send-count='"...)
			dst = append(appendCount(dst, high.sent), "'/>"...)
		}
		dst = append(dst, "</stream:error>"...)
	}
	return append(dst, closingTag...)
}

// appendEnabled appends that stream management is on, and by what the stream can be resumed, if it can (XEP-0198 §3).
func appendEnabled(dst []byte, l *ledger) []byte {
	dst = append(dst, "<enabled xmlns='"+nsSM+"'"...)
	if l.id != "" {
		dst = append(append(append(dst, " id='"...), l.id...), "' resume='true' max='"...)
		dst = append(appendSeconds(dst, l.keep), '\'')
	}
	return append(dst, "/>"...)
}

// appendResumed appends that the stream id goes on, h stanzas of which were handled (XEP-0198 §5).
func appendResumed(dst []byte, id string, h uint32) []byte {
	dst = append(append(append(dst, "<resumed xmlns='"+nsSM+"' previd='"...), id...), "' h='"...)
	return append(appendCount(dst, h), "'/>"...)
}

// appendAck appends that h stanzas are handled (XEP-0198 §4).
func appendAck(dst []byte, h uint32) []byte {
	return append(appendCount(append(dst, "<a xmlns='"+nsSM+"' h='"...), h), "'/>"...)
}

// appendFailed appends that an <enable/> or <resume/> was not carried out (XEP-0198 §6).
func appendFailed(dst []byte, cond string) []byte {
	dst = append(append(dst, "<failed xmlns='"+nsSM+"'><"...), cond...)
	return append(dst, " xmlns='"+nsStanzas+"'/></failed>"...)
}

func appendCount(dst []byte, n uint32) []byte { return strconv.AppendUint(dst, uint64(n), 10) }

// appendSeconds appends a number.
func appendSeconds(dst []byte, d time.Duration) []byte {
	return strconv.AppendInt(dst, int64(d/time.Second), 10)
}
