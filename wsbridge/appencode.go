package wsbridge

import (
	"strconv"

	"presenced/presence"
)

// appendQueued appends the answer to a notify.
func appendQueued(b []byte, r *request, size int) []byte {
	b = append(b, `{"result":"OK","queue_size":`...)
	b = strconv.AppendInt(b, int64(size), 10)
	return append(appendEcho(b, r), '}')
}

// statusHead is how the frame about a device begins, by its status.
var statusHead = [...]string{
	presence.Offline:     `{"status":"offline","uid":`,
	presence.Unavailable: `{"status":"unavailable","uid":`,
	presence.Online:      `{"status":"online","uid":`,
}

// appendStatus appends what a device is now.
func appendStatus(b []byte, u *presence.Update) []byte {
	b = append(b, statusHead[u.Status]...)
	b = appendString(b, u.Local)
	b = append(b, `,"device":`...)
	b = appendString(b, u.Tag)
	b = append(b, `,"since":`...)
	b = appendTime(b, u.Since)
	if !u.Idle.IsZero() {
		b = append(b, `,"idle_since":`...)
		b = appendTime(b, u.Idle)
	}
	return append(b, '}')
}

func appendUnsubscribed(b []byte, u *presence.Update) []byte {
	return append(appendString(append(b, `{"unsubscribed":`...), u.Local), '}')
}

// appendReceipt appends that a device has a notification; its id comes as it went, a number as one.
func appendReceipt(b []byte, u *presence.Update, app *presence.App) []byte {
	b = append(b, `{"receipt":{"id":`...)
	if u.To == app.Component+numbered && validJSON([]byte(u.Ref)) {
		b = append(b, u.Ref...)
	} else {
		b = appendString(b, u.Ref)
	}
	b = append(b, `,"uid":`...)
	return append(appendString(b, u.Local), "}}"...)
}

// appendMessage appends a device's message.
func appendMessage(b []byte, u *presence.Update) []byte {
	b = append(b, `{"message":{"uid":`...)
	b = appendString(b, u.Local)
	b = append(b, `,"device":`...)
	b = appendString(b, u.Tag)
	b = append(b, `,"id":`...)
	b = appendString(b, u.Ref)
	b = append(b, `,"data":`...)
	b = appendValue(b, u.Data)
	b = append(b, `,"time":`...)
	b = appendTime(b, u.Since)
	if u.Again {
		b = append(b, `,"again":true`...)
	}
	return append(b, "}}"...)
}
