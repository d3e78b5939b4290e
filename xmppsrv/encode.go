package xmppsrv

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"

	"presenced/presence"
)

// The append encoder: every function appends to dst and allocates nothing when there is room.

// escape says what stands on the wire for a byte of text or of a value in single quotes; "" is the byte itself.
// White space other than the blank is escaped so that it survives attribute normalisation (XML 1.0 §3.3.3) and
// the normalisation of line ends (§2.11).
var escape = makeEscape(false)

// escapeText is the same for text between tags, where \n and \t may stand.
var escapeText = makeEscape(true)

const replacement = "\uFFFD"

func makeEscape(text bool) (t [256]string) {
	for c := range 0x20 {
		t[c] = replacement // not XML characters (XML 1.0 §2.2)
	}
	t['\r'] = "&#xD;"
	t['\t'], t['\n'] = "&#x9;", "&#xA;"
	if text {
		t['\t'], t['\n'] = "", ""
	}
	t['<'], t['>'], t['&'] = "&lt;", "&gt;", "&amp;"
	if !text {
		t['\''], t['"'] = "&apos;", "&quot;"
	}
	for c := utf8.RuneSelf; c < 256; c++ {
		t[c] = "?" // looked at as a whole character
	}
	return t
}

// appendText appends s as character data.
func appendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	return appendEscaped(dst, s, &escapeText)
}

// appendValue appends s for an attribute in single quotes.
func appendValue[T ~string | ~[]byte](dst []byte, s T) []byte { return appendEscaped(dst, s, &escape) }

// appendEscaped appends s with what the table says. Characters that XML does not have, and bytes that are not
// UTF-8, become U+FFFD.
func appendEscaped[T ~string | ~[]byte](dst []byte, s T, table *[256]string) []byte {
	from := 0
	for i := plainStart(s); i < len(s); {
		b := s[i]
		e := table[b]
		if e == "" {
			i++
			continue
		}
		n := 1
		if b >= utf8.RuneSelf {
			var c rune
			c, n = decodeRune(s, i)
			if (c != utf8.RuneError || n > 1) && isXMLChar(c) {
				i += n
				continue
			}
			e = replacement
		}
		dst = append(dst, s[from:i]...)
		dst = append(dst, e...)
		i += n
		from = i
	}
	return append(dst, s[from:]...)
}

// plainStart returns how many bytes at the beginning, in eights, surely need no escape: ASCII from '(' on, without
// '<' and '>'. Local parts and tags are nothing else.
func plainStart[T ~string | ~[]byte](s T) int {
	const each = 0x0101010101010101
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		x := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		angle := (x | 2*each) ^ '>'*each // a byte is zero where x has '<' or '>'
		if (x|(x-'('*each)|(angle-each))&(0x80*each) != 0 {
			break
		}
	}
	return i
}

// decodeRune is utf8.DecodeRune for either type, without a conversion that allocates.
func decodeRune[T ~string | ~[]byte](s T, at int) (rune, int) {
	var b [utf8.UTFMax]byte
	n := copy(b[:], s[at:])
	return utf8.DecodeRune(b[:n])
}

// appendLocal appends the local part under which an app knows a user: a PUID, or an e-mail in the escapes of
// XEP-0106.
func appendLocal(dst []byte, local string, byEmail bool) []byte {
	if byEmail {
		return appendEscapedLocal(dst, local)
	}
	return appendValue(dst, local)
}

// appendEscapedLocal appends a local part in the escapes of XEP-0106 §4.2. None of what XML would escape is left
// but what XML does not have at all.
func appendEscapedLocal(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i := 0; i < len(s); i++ {
		b := s[i]
		switch {
		case class[b]&localPlain != 0:
		case mustEscape(b), b == '\\' && isEscape(s[i:]):
			dst = append(dst, s[from:i]...)
			dst = append(dst, '\\', hex[b>>4], hex[b&15])
			from = i + 1
		case b >= utf8.RuneSelf || b < ' ': // up to the next byte that XEP-0106 escapes
			n := i + 1
			for n < len(s) && !mustEscape(s[n]) && s[n] != '\\' {
				n++
			}
			dst = appendValue(append(dst, s[from:i]...), s[i:n])
			i, from = n-1, n
		}
	}
	return append(dst, s[from:]...)
}

func mustEscape(b byte) bool { return class[b]&localEscape != 0 }

// isEscape reports whether s begins with one of the ten escapes.
func isEscape[T ~string | ~[]byte](s T) bool {
	if len(s) < 3 || s[0] != '\\' {
		return false
	}
	b, ok := unescape(s[1], s[2])
	return ok && (b == '\\' || mustEscape(b))
}

func unescape(hi, lo byte) (byte, bool) {
	h, l := hexValue(hi), hexValue(lo)
	return byte(h<<4 | l), h >= 0 && l >= 0
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
	d, a := string(appendValue(nil, domain)), string(appendValue(nil, app))
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
	dst = append(appendValue(append(dst, "' to='"...), to), '\'')
	dst = appendID(dst, id)
	return e.presenceRest(dst, u)
}

func (e *encoder) presenceFrom(dst []byte, u *presence.Update) []byte {
	dst = append(dst, "<presence from='"...)
	dst = appendLocal(dst, u.Local, u.ByEmail)
	if u.Tag == "" {
		return append(dst, e.at...)
	}
	return appendValue(append(dst, e.slash...), u.Tag)
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
	dst = append(appendValue(append(dst, "' to='"...), u.To), '\'')
	return append(dst, rest...)
}

// fromDevice appends a device's message: its data as JSON (XEP-0335), and as body the text in it.
func (e *encoder) fromDevice(dst []byte, u *presence.Update) []byte {
	dst = append(dst, "<message from='"...)
	dst = appendLocal(dst, u.Local, u.ByEmail)
	dst = appendValue(append(dst, e.slash...), u.Tag)
	dst = append(dst, e.toApp...)
	dst = append(appendID(dst, u.Ref), '>')
	var known struct{ Text *string }
	if json.Unmarshal(u.Data, &known) == nil && known.Text != nil {
		dst = append(appendText(append(dst, "<body>"...), *known.Text), "</body>"...)
	}
	dst = append(dst, "<json xmlns='"+nsJSON+"'>"...)
	dst = append(appendText(dst, string(u.Data)), "</json>"...)
	if u.Delayed { // XEP-0203
		dst = append(dst, e.delay...)
		dst = append(appendStamp(dst, u.Since), "'/>"...)
	}
	return append(dst, "</message>"...)
}

// appendPresence appends a presence that has a type and nothing in it. to is whom it goes to.
func appendPresence(dst []byte, kind, from, to, id string) []byte {
	dst = append(appendValue(append(dst, "<presence from='"...), from), "' to='"...)
	dst = appendID(append(appendValue(dst, to), '\''), id)
	return append(append(append(dst, " type='"...), kind...), "'/>"...)
}

// receipt appends that a device has the notification Ref (XEP-0184 §5).
func (e *encoder) receipt(dst []byte, u *presence.Update) []byte {
	dst = append(dst, "<message from='"...)
	dst = appendLocal(dst, u.Local, u.ByEmail)
	dst = append(dst, e.at...)
	if u.Tag != "" {
		dst = append(dst, '/')
		dst = appendValue(dst, u.Tag)
	}
	if u.To == "" {
		dst = append(dst, e.toApp...)
	} else {
		dst = append(appendValue(append(dst, "' to='"...), u.To), '\'')
	}
	dst = append(dst, "><received xmlns='"+nsReceipts+"' id='"...)
	return append(appendValue(dst, u.Ref), "'/></message>"...)
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
	return append(appendValue(append(dst, " id='"...), id), '\'')
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
	dst = append(appendValue(append(dst, " from='"...), to), "' to='"...)
	dst = append(appendValue(dst, from), '\'')
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
		dst = append(appendText(dst, text), "</text>"...)
	}
	dst = append(dst, specifics[why]...)
	dst = append(append(dst, "</error></"...), kind...)
	return append(dst, '>')
}

// appendHeader appends the header of our side of the stream (XEP-0114 §3, RFC 6120 §4.7, §11.5): no version, since
// no features follow.
func appendHeader(dst []byte, from, id string) []byte {
	dst = append(dst, "<?xml version='1.0'?><stream:stream xmlns='"+nsAccept+"' xmlns:stream='"+nsStream+"' from='"...)
	dst = append(appendValue(dst, from), "' id='"...)
	return append(append(dst, id...), "'>"...)
}

const closingTag = "</stream:stream>"

// appendEnd appends a stream error, if the end has one, and the closing tag (RFC 6120 §4.9.2, §4.4). Some causes have
// a condition of their own.
func appendEnd(dst []byte, why end, cause error) []byte {
	if row := &ends[why]; row.cond != "" {
		dst = append(append(dst, "<stream:error><"...), row.cond...)
		dst = append(dst, " xmlns='"+nsStreams+"'/><text xmlns='"+nsStreams+"' xml:lang='en'>"...)
		dst = append(appendText(dst, row.text), "</text>"...)
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
