package wsbridge

import (
	"errors"
	"fmt"
	"time"

	"presenced/identity"
	"presenced/presence"
)

// Errno is the number under which a device learns why something was refused or ended.
type Errno uint8

const (
	BadJSON       Errno = 10
	UnknownFrame  Errno = 11
	MissingField  Errno = 12
	BadValue      Errno = 13
	TooLarge      Errno = 14
	NotIdentified Errno = 30
	Expired       Errno = 31
	WrongAudience Errno = 32
	WrongIssuer   Errno = 33
	Invalid       Errno = 34
	NotConfirmed  Errno = 35
	OtherIdentity Errno = 36
	SlowDown      Errno = 40
	TooMany       Errno = 41
	PayloadSize   Errno = 42
	Replaced      Errno = 50
	GoingAway     Errno = 51
	NoApp         Errno = 60
	AppFull       Errno = 61
	Internal      Errno = 90
	NoStorage     Errno = 91
)

// Close codes of the channel: 4000-4499 ask a device to come back with back-off, 4500-4999 not to come back
// by itself. 0 stands for none: the socket stays open.
const (
	closeNormal        = 1000
	closeProtocol      = 1002
	closeBinary        = 1003
	closeTooBig        = 1009
	closeGoingAway     = 4001
	closeTimeout       = 4008
	closeSlowDown      = 4029
	closeReplaced      = 4500
	closeNotIdentified = 4530
	closeBadIdentity   = 4534
)

// stayOpen is for an error after which the device may try again on the same socket, whatever the table says.
const stayOpen = -1

// Code is one row of the table of errors.
type Code struct {
	Errno Errno
	Text  string // the frame's "error"
	Close int    // close code that follows on an identified socket; 0: none
	First int    // close code that follows where the first frame is refused; 0: none
}

// codes is the only place where an errno gets its text and its close codes.
var codes = [...]Code{
	{BadJSON, "malformed JSON", 0, closeNotIdentified},
	{UnknownFrame, "unknown frame", 0, closeNotIdentified},
	{MissingField, "missing field", 0, closeNotIdentified},
	{BadValue, "bad value", 0, closeNotIdentified},
	{TooLarge, "frame too large", closeTooBig, closeTooBig},
	{NotIdentified, "not identified", closeNotIdentified, closeNotIdentified},
	{Expired, "assertion expired", 0, closeBadIdentity},
	{WrongAudience, "wrong audience", 0, closeBadIdentity},
	{WrongIssuer, "issuer not trusted", 0, closeBadIdentity},
	{Invalid, "Invalid assertion", 0, closeBadIdentity},
	{NotConfirmed, "e-mail not confirmed by the assertion", 0, closeBadIdentity},
	{OtherIdentity, "another identity on this socket", 0, 0},
	{SlowDown, "slow down", 0, 0},
	{TooMany, "too many connections", closeSlowDown, closeSlowDown},
	{PayloadSize, "payload too large", 0, 0},
	{Replaced, "replaced by a newer connection", closeReplaced, closeReplaced},
	{GoingAway, "going away", closeGoingAway, closeGoingAway},
	{NoApp, "no such app for this user", 0, 0},
	{AppFull, "too much is waiting for this app", 0, 0},
	{Internal, "internal error", 0, 0},
	{NoStorage, "storage not available", 0, 0},
}

// Codes returns the table of errors, ordered by errno.
func Codes() []Code { return append([]Code(nil), codes[:]...) }

func (n Errno) row() *Code {
	for i := range codes {
		if codes[i].Errno == n {
			return &codes[i]
		}
	}
	return Internal.row()
}

func (n Errno) String() string { return n.row().Text }

// fullRetry is what a device is asked to wait while too much waits for an app that is away.
const fullRetry = 60 * time.Second

// storageRetry is what a device is asked to wait while the store does not answer.
const storageRetry = 5 * time.Second

// Error is the one error of this edge: a number for the device, a cause for the log.
type Error struct {
	Errno  Errno
	Detail string        // names the field or the reason, never its content; see tells
	Retry  time.Duration // when to try again; 0: not said
	Cause  error         // stays here; may be nil
	Close  int           // close code if it differs from the table's; 0: the table decides; stayOpen: none
}

func (e *Error) Error() string {
	s := fmt.Sprintf("errno %d (%s)", e.Errno, e.Errno)
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

// closes returns the close code that follows the reply, 0 for none. first: the socket is not identified.
func (e *Error) closes(first bool) int {
	switch {
	case e.Close == stayOpen:
		return 0
	case e.Close != 0:
		return e.Close
	case first:
		return e.Errno.row().First
	}
	return e.Errno.row().Close
}

// tells reports whether the peer is told of the Detail: it names what of its frame, or of its rights, is missing.
func (e *Error) tells() bool {
	return e.Errno == MissingField || e.Errno == BadValue || e.Errno == NoApp
}

// ours reports whether the fault is on this side, which sets the level in the log.
func (e *Error) ours() bool { return e.Errno == Internal || e.Errno == NoStorage }

// asFirst is what an error becomes where the first frame had to identify: whatever is not a refused
// identity, a bad value or a condition of the server is "not identified".
func (e *Error) asFirst() *Error {
	switch e.Errno {
	case BadJSON, UnknownFrame, MissingField:
		return &Error{Errno: NotIdentified, Detail: e.Detail, Cause: e.Cause}
	}
	return e
}

// identityErrnos maps what a verifier says.
var identityErrnos = map[identity.Kind]Errno{
	identity.Unrecognised: Invalid,
	identity.Invalid:      Invalid,
	identity.Expired:      Expired,
	identity.Audience:     WrongAudience,
	identity.Issuer:       WrongIssuer,
	identity.Email:        NotConfirmed,
	identity.Unavailable:  NoStorage,
}

// identityError turns a verifier's error into this edge's.
func identityError(err error) *Error {
	n, ok := identityErrnos[identity.KindOf(err)]
	switch {
	case !ok:
		n = Internal
	case n == NoStorage:
		return &Error{Errno: NoStorage, Retry: storageRetry, Cause: err}
	}
	return &Error{Errno: n, Cause: err}
}

// coreError turns the core's error into this edge's.
func coreError(err error) *Error {
	switch {
	case errors.Is(err, presence.ErrSockets), errors.Is(err, presence.ErrConflict), errors.Is(err, presence.ErrTooMany):
		return &Error{Errno: TooMany, Cause: err}
	case errors.Is(err, presence.ErrDraining):
		return &Error{Errno: GoingAway, Cause: err}
	case errors.Is(err, presence.ErrStranger):
		return &Error{Errno: NoApp, Cause: err}
	case errors.Is(err, presence.ErrNotAllowed):
		return &Error{Errno: NoApp, Detail: "notifications", Cause: err}
	case errors.Is(err, presence.ErrNoApp):
		return &Error{Errno: Invalid, Cause: err}
	case errors.Is(err, presence.ErrTicket):
		return &Error{Errno: Expired, Cause: err, Close: stayOpen}
	case errors.Is(err, presence.ErrCredential):
		return &Error{Errno: Expired, Cause: err}
	case errors.Is(err, presence.ErrFull):
		return &Error{Errno: AppFull, Retry: fullRetry, Cause: err}
	case errors.Is(err, presence.ErrTooLarge):
		return &Error{Errno: PayloadSize, Cause: err}
	case errors.Is(err, presence.ErrTTL):
		return &Error{Errno: BadValue, Detail: fieldNames[fTTL], Cause: err}
	case errors.Is(err, presence.ErrStorage):
		return &Error{Errno: NoStorage, Retry: storageRetry, Cause: err}
	case errors.Is(err, presence.ErrBadValue):
		return &Error{Errno: BadValue, Cause: err}
	}
	return &Error{Errno: Internal, Cause: err}
}

// endError says why the hub ended a session, or an app's link.
func endError(end presence.End) *Error {
	switch end {
	case presence.EndReplaced:
		return &Error{Errno: Replaced}
	case presence.EndKicked:
		return &Error{Errno: Replaced, Detail: "kicked"}
	case presence.EndExpired:
		return &Error{Errno: Expired, Close: closeBadIdentity}
	case presence.EndRemoved, presence.EndDisabled:
		return &Error{Errno: Expired, Detail: end.String(), Close: closeBadIdentity}
	case presence.EndOverflow:
		return &Error{Errno: SlowDown, Detail: end.String(), Close: closeSlowDown}
	case presence.EndDraining, presence.EndShutdown, presence.EndChanged: // come back, under the new policy
		return &Error{Errno: GoingAway}
	}
	return &Error{Errno: Internal, Detail: "session ended", Close: closeGoingAway}
}
