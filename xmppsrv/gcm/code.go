package gcm

import (
	"errors"
	"fmt"

	"presenced/presence"
)

// Code is why a message came back.
type Code uint8

const (
	InvalidJSON Code = iota
	BadRegistration
	DeviceUnregistered
	BadAck
	ServiceUnavailable
	InternalServerError
	DeviceRate
	TopicsRate
	ConnectionDraining

	Codes = int(ConnectionDraining) + 1
)

var codeWords = [Codes]string{"INVALID_JSON", "BAD_REGISTRATION", "DEVICE_UNREGISTERED", "BAD_ACK", "SERVICE_UNAVAILABLE",
	"INTERNAL_SERVER_ERROR", "DEVICE_MESSAGE_RATE_EXCEEDED", "TOPICS_MESSAGE_RATE_EXCEEDED", "CONNECTION_DRAINING"}

// String is the code's word on the wire, in logs and in metrics.
func (c Code) String() string { return codeWords[c] }

// Error is a message that is refused. It is told as a nack, or as a stanza error where Unnamed.
type Error struct {
	Code        Code
	Description string // never empty: clients read it without asking whether it is there
	Unnamed     bool   // there is no message_id to refuse it by
}

func (e *Error) Error() string { return fmt.Sprintf("gcm: %s: %s", e.Code, e.Description) }

// refusals says how what the core refuses is told. Who does not exist, never allowed the app or revoked it is one row.
var refusals = []struct {
	err  error
	code Code
	text string
}{
	{presence.ErrStranger, DeviceUnregistered, "Unregistered token on 'to' field"},
	{presence.ErrNotAllowed, DeviceUnregistered, "The user allows no notifications"},
	{presence.ErrTooLarge, InvalidJSON, "InvalidJson: MESSAGE_TOO_BIG : The message is larger than allowed"},
	{presence.ErrTTL, InvalidJSON, `InvalidJson: INVALID_TTL : Invalid value for "time_to_live": out of range`},
	{presence.ErrBadValue, InvalidJSON, "InvalidJson: INVALID_VALUE : A field is longer than allowed"},
	{presence.ErrStorage, ServiceUnavailable, "The storage is not available"},
	{presence.ErrEnded, ConnectionDraining, "The connection is draining"},
	{presence.ErrDraining, ConnectionDraining, "The connection is draining"},
}

// Refused is how an error of the core is told.
func Refused(err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	for i := range refusals {
		if errors.Is(err, refusals[i].err) {
			return &Error{Code: refusals[i].code, Description: refusals[i].text}
		}
	}
	return &Error{Code: InternalServerError, Description: "The server could not do its part"}
}

// Draining is the answer to whoever sends after the control message.
func Draining() *Error {
	return &Error{Code: ConnectionDraining, Description: "Connection draining"}
}

// TooOften is the answer to who sends to one token faster than allowed.
func TooOften() *Error {
	return &Error{Code: DeviceRate, Description: "Downstream message rate exceeded for this registration id"}
}

// TopicsTooOften is the answer to who has too many messages to topics on their way.
func TopicsTooOften() *Error {
	return &Error{Code: TopicsRate, Description: "Topics message rate exceeded"}
}

// NoTopics is for a wire on which there are none.
func NoTopics() *Error { return badValue("topics are for CCS connections") }

func missing(field string) *Error {
	return &Error{Code: InvalidJSON, Description: "InvalidJson: JSON_PARSING_ERROR : Missing Required Field: " + field + "\n"}
}

func badType(field, want, got string) *Error {
	return &Error{Code: InvalidJSON, Description: fmt.Sprintf("InvalidJson: JSON_TYPE_ERROR : Field %q must be a JSON %s: %s", field, want, short(got))}
}

func badValue(format string, args ...any) *Error {
	return &Error{Code: InvalidJSON, Description: "InvalidJson: INVALID_VALUE : " + fmt.Sprintf(format, args...)}
}

func badToken(to string) *Error {
	return &Error{Code: BadRegistration, Description: "Invalid token on 'to' field: " + short(to)}
}

// short bounds what of a peer's text is repeated.
func short(s string) string {
	const most = 256
	if len(s) > most {
		return s[:most]
	}
	return s
}
