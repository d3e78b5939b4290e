package wsbridge

import (
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"presenced/presence"
)

// greeting is what the answer to a hello has beside the result.
type greeting struct {
	session   string
	device    string
	heartbeat int // seconds
	time      time.Time
	ticket    string            // "": none
	addresses map[string]string // by appid; nil: not asked for
	pushKey   string            // "": devices cannot be woken
}

// appendOK appends the answer to a request that was carried out; g only for a hello.
func appendOK(b []byte, r *request, g *greeting) []byte {
	b = append(b, `{"result":"OK"`...)
	b = appendEcho(b, r)
	if g != nil {
		b = append(b, `,"session":`...)
		b = appendString(b, g.session)
		b = append(b, `,"device":`...)
		b = appendString(b, g.device)
		b = append(b, `,"heartbeat":`...)
		b = strconv.AppendInt(b, int64(g.heartbeat), 10)
		b = append(b, `,"time":`...)
		b = appendTime(b, g.time)
		if g.ticket != "" {
			b = append(b, `,"resume":`...)
			b = appendString(b, g.ticket)
		}
		if g.addresses != nil {
			b = appendAddresses(b, g.addresses)
		}
		if g.pushKey != "" {
			b = append(b, `,"push_key":`...)
			b = appendString(b, g.pushKey)
		}
	}
	return append(b, '}')
}

// appendAddresses appends the device's tokens at apps.
func appendAddresses(b []byte, tokens map[string]string) []byte {
	b = append(b, `,"addresses":{`...)
	for i, app := range slices.Sorted(maps.Keys(tokens)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, app), ':')
		b = appendString(b, tokens[app])
	}
	return append(b, '}')
}

// appendHeartbeat appends that the heartbeat is another from now on.
func appendHeartbeat(b []byte, seconds int) []byte {
	return append(strconv.AppendInt(append(b, `{"heartbeat":`...), int64(seconds), 10), '}')
}

// appendKO appends the answer to a request that was not carried out, or the reason of an end.
func appendKO(b []byte, r *request, e *Error) []byte {
	b = append(b, `{"result":"KO","errno":`...)
	b = strconv.AppendUint(b, uint64(e.Errno), 10)
	b = append(b, `,"error":`...)
	b = appendString(b, e.Errno.String())
	if e.Detail != "" && e.tells() {
		b = append(b, `,"detail":`...)
		b = appendString(b, e.Detail)
	}
	b = appendEcho(b, r)
	if e.Retry > 0 {
		b = append(b, `,"retry_after":`...)
		b = appendSeconds(b, e.Retry)
	}
	return append(b, '}')
}

// appendEcho appends id, type and action as the peer wrote them.
func appendEcho(b []byte, r *request) []byte {
	if r == nil {
		return b
	}
	if r.id != nil {
		b = append(b, `,"id":`...)
		b = append(b, r.id...)
	}
	if r.typ != nil {
		b = append(b, `,"type":`...)
		b = append(b, r.typ...)
	}
	if r.action != nil {
		b = append(b, `,"action":`...)
		b = append(b, r.action...)
	}
	return b
}

func appendReconnect(b []byte, r *presence.Reconnect) []byte {
	b = append(b, `{"reconnect":{"after":`...)
	b = appendSeconds(b, r.After)
	b = append(b, `,"reason":`...)
	b = appendString(b, r.Reason)
	return append(b, "}}"...)
}

func appendDropped(b []byte, ds []presence.Dropped) []byte {
	b = append(b, `{"dropped":[`...)
	for i, d := range ds {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"app":`...)
		b = appendString(b, d.App)
		b = append(b, `,"count":`...)
		b = strconv.AppendUint(b, d.Count, 10)
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

func appendNotification(b []byte, n *presence.Notification) []byte {
	b = append(b, `{"source":`...)
	b = appendString(b, n.Source)
	b = append(b, `,"message":`...)
	b = appendString(b, n.Message)
	b = append(b, `,"action":`...)
	b = appendString(b, n.Action)
	b = append(b, `,"id":`...)
	b = appendString(b, n.ID())
	b = append(b, `,"app":`...)
	b = appendString(b, n.App)
	b = append(b, `,"time":`...)
	b = appendTime(b, n.Time)
	if len(n.Data) > 0 {
		b = append(b, `,"data":`...)
		b = appendValue(b, n.Data)
	}
	if n.High {
		b = append(b, `,"priority":"high"`...)
	}
	if n.Collapse != "" {
		b = append(b, `,"collapse_key":`...)
		b = appendString(b, n.Collapse)
	}
	return append(b, '}')
}

// appendValue appends JSON that came from an app. It was checked where it came in; what is none all the
// same becomes a string, so that no app writes into another's item.
func appendValue(b, value []byte) []byte {
	if !validJSON(value) {
		return appendString(b, string(value))
	}
	return append(b, value...)
}

// appendRequest appends an app's wish to see the user.
func appendRequest(b []byte, r *presence.Request) []byte {
	b = append(b, `{"app":`...)
	b = appendString(b, r.App)
	b = append(b, `,"name":`...)
	b = appendString(b, r.Name)
	b = append(b, `,"purpose":`...)
	b = appendString(b, r.Purpose)
	b = append(b, `,"time":`...)
	b = appendTime(b, r.Time)
	return append(b, '}')
}

const (
	notificationsPrefix = `{"notifications":[`
	requestsPrefix      = `{"requests":[`
	frameSuffix         = `]}`
)

// framer packs items into as few frames as the limit allows, in order. A frame with one item may exceed the
// limit. It belongs to one writer at a time; the zero value with prefix and max set is empty.
type framer struct {
	prefix string
	max    int // bytes of a frame
	buf    []byte
	mark   int // where the item begins that is being added
	items  int // in buf
}

// begin returns the buffer to which the next item is to be appended; add takes it back.
func (f *framer) begin() []byte {
	if f.items == 0 {
		f.buf = append(f.buf[:0], f.prefix...)
	} else {
		f.buf = append(f.buf, ',')
	}
	f.mark = len(f.buf)
	return f.buf
}

// add takes the buffer with one more item. Where it does not fit behind the others, the frame without it is
// passed to emit, which must not keep it, and the item begins the next one.
func (f *framer) add(buf []byte, emit func(frame []byte, items int) error) error {
	f.buf = buf
	if f.items == 0 || len(f.buf)+len(frameSuffix) <= f.max {
		f.items++
		return nil
	}
	item := append([]byte(nil), f.buf[f.mark:]...)
	f.buf = f.buf[:f.mark-1]
	if err := f.flush(emit); err != nil {
		return err
	}
	f.buf = append(append(f.buf[:0], f.prefix...), item...)
	f.items = 1
	return nil
}

// flush passes on what is left.
func (f *framer) flush(emit func(frame []byte, items int) error) error {
	if f.items == 0 {
		return nil
	}
	items := f.items
	f.items = 0
	f.buf = append(f.buf, frameSuffix...)
	return emit(f.buf, items)
}

func appendTime(b []byte, t time.Time) []byte {
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, time.RFC3339)
	return append(b, '"')
}

// appendSeconds appends d in whole seconds, rounded up.
func appendSeconds(b []byte, d time.Duration) []byte {
	return strconv.AppendInt(b, seconds(d), 10)
}

func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. Only what RFC 8259 §7 wants escaped is escaped (no HTML); bytes
// that are no UTF-8 become U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			b = appendEscape(append(b, s[start:i]...), c)
			start = i + 1
		}
		i++
	}
	return append(append(b, s[start:]...), '"')
}

func appendEscape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
