package gcm

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"presenced/presence"
)

// Space is the namespace of the payload.
const Space = "google:mobile:data"

const (
	// Service is who receipts come from.
	Service = "gcm.googleapis.com"
	// ReceiptPrefix stands before the id of the message that a receipt is about.
	ReceiptPrefix = "dr2:"
	// Control is the one control message.
	Control = `{"message_type":"control","control_type":"CONNECTION_DRAINING"}`
)

// AppendAck appends that a message was accepted.
func AppendAck(dst []byte, s *Sent) []byte {
	dst = appendString(append(dst, `{"message_type":"ack","from":`...), s.Target())
	dst = appendString(append(dst, `,"message_id":`...), s.MessageID)
	if s.Canonical != "" {
		dst = appendString(append(dst, `,"registration_id":`...), s.Canonical)
	}
	if s.Outcome != nil {
		dst = appendOutcome(dst, s.Outcome)
	}
	return append(dst, '}')
}

// appendOutcome appends for how many of a device group a message was accepted, and for whom not.
func appendOutcome(dst []byte, o *presence.Outcome) []byte {
	dst = strconv.AppendInt(append(dst, `,"success":`...), int64(o.Success), 10)
	dst = strconv.AppendInt(append(dst, `,"failure":`...), int64(len(o.Failed)), 10)
	for i, p := range o.Failed {
		if i == 0 {
			dst = append(dst, `,"failed_registration_ids":[`...)
		} else {
			dst = append(dst, ',')
		}
		dst = appendString(dst, p.String())
	}
	if len(o.Failed) > 0 {
		dst = append(dst, ']')
	}
	return dst
}

// AppendNack appends that a message was not accepted.
func AppendNack(dst []byte, s *Sent, why *Error) []byte {
	dst = appendString(append(dst, `{"message_type":"nack","message_id":`...), s.MessageID)
	dst = appendString(append(dst, `,"from":`...), s.Target())
	dst = append(append(append(dst, `,"error":"`...), why.Code.String()...), '"')
	return append(appendString(append(dst, `,"error_description":`...), why.Description), '}')
}

// AppendUpstream appends a message from a device; app is its category.
func AppendUpstream(dst []byte, u *presence.Update, app string) []byte {
	dst = appendString(append(dst, `{"category":`...), app)
	dst = append(append(dst, `,"data":`...), u.Data...)
	dst = appendString(append(dst, `,"message_id":`...), UpstreamID(u))
	return append(appendString(append(dst, `,"from":`...), Token(u, u.Tag)), '}')
}

// UpstreamID is the id of a message from a device: its own, or where it gave none one that nothing else from it has and
// that stays the same.
func UpstreamID(u *presence.Update) string {
	switch {
	case u.Ref != "":
		return u.Ref
	case u.ID == 0:
		return "t" + strconv.FormatInt(u.Since.UnixNano(), 36)
	}
	return "u" + strconv.FormatUint(u.ID, 36)
}

// AppendReceipt appends that a device has the message.
func AppendReceipt(dst []byte, u *presence.Update, app string) []byte {
	dst = appendString(append(dst, `{"category":`...), app)
	dst = appendString(append(dst, `,"data":{"message_status":"MESSAGE_SENT_TO_DEVICE","original_message_id":`...), u.Ref)
	dst = appendString(append(dst, `,"device_registration_id":`...), Token(u, u.Device))
	dst = strconv.AppendInt(append(dst, `,"message_sent_timestamp":"`...), u.Since.UnixMilli(), 10)
	dst = appendString(append(dst, `"},"message_id":`...), ReceiptPrefix+u.Ref)
	return append(dst, `,"message_type":"receipt","time_to_live":0,"from":"`+Service+`"}`...)
}

// appendString appends a JSON string. Characters that XML does not have are escaped, so that they survive it.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < ' ' || r == 0xFFFE || r == 0xFFFF:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
