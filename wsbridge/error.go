package wsbridge

import (
	"errors"
	"fmt"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/presence/errno"
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

// closing is what an error does to its socket.
type closing struct {
	then  int // close code on an identified socket; 0: none
	first int // close code where the first frame is refused; 0: none
}

// closes is the only place where an errno gets its close codes. Those that are not in it end nothing.
var closes = map[errno.Number]closing{
	errno.BadJSON:       {0, closeNotIdentified},
	errno.UnknownFrame:  {0, closeNotIdentified},
	errno.MissingField:  {0, closeNotIdentified},
	errno.BadValue:      {0, closeNotIdentified},
	errno.TooLarge:      {closeTooBig, closeTooBig},
	errno.NotIdentified: {closeNotIdentified, closeNotIdentified},
	errno.Expired:       {0, closeBadIdentity},
	errno.WrongAudience: {0, closeBadIdentity},
	errno.WrongIssuer:   {0, closeBadIdentity},
	errno.Invalid:       {0, closeBadIdentity},
	errno.NotConfirmed:  {0, closeBadIdentity},
	errno.TooMany:       {closeSlowDown, closeSlowDown},
	errno.Replaced:      {closeReplaced, closeReplaced},
	errno.GoingAway:     {closeGoingAway, closeGoingAway},
}

// fullRetry is what a device is asked to wait while too much waits for an app that is away.
const fullRetry = 60 * time.Second

// storageRetry is what a device is asked to wait while the store does not answer.
const storageRetry = 5 * time.Second

// Error is the one error of this edge: a number for the device, a cause for the log.
type Error struct {
	Errno  errno.Number
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
		return closes[e.Errno].first
	}
	return closes[e.Errno].then
}

// tells reports whether the peer is told of the Detail: it names what of its frame, or of its rights, is missing.
func (e *Error) tells() bool {
	return e.Errno == errno.MissingField || e.Errno == errno.BadValue || e.Errno == errno.NoApp
}

// asFirst is what an error becomes where the first frame had to identify: whatever is not a refused
// identity, a bad value or a condition of the server is "not identified".
func (e *Error) asFirst() *Error {
	switch e.Errno {
	case errno.BadJSON, errno.UnknownFrame, errno.MissingField:
		return &Error{Errno: errno.NotIdentified, Detail: e.Detail, Cause: e.Cause}
	}
	return e
}

// identityErrnos maps what a verifier says.
var identityErrnos = map[identity.Kind]errno.Number{
	identity.Unrecognised: errno.Invalid,
	identity.Invalid:      errno.Invalid,
	identity.Expired:      errno.Expired,
	identity.Audience:     errno.WrongAudience,
	identity.Issuer:       errno.WrongIssuer,
	identity.Email:        errno.NotConfirmed,
	identity.Unavailable:  errno.NoStorage,
}

// identityError turns a verifier's error into this edge's.
func identityError(err error) *Error {
	n, ok := identityErrnos[identity.KindOf(err)]
	switch {
	case !ok:
		n = errno.Internal
	case n == errno.NoStorage:
		return &Error{Errno: errno.NoStorage, Retry: storageRetry, Cause: err}
	}
	return &Error{Errno: n, Cause: err}
}

// coreError turns the core's error into this edge's.
func coreError(err error) *Error {
	switch {
	case errors.Is(err, presence.ErrSockets), errors.Is(err, presence.ErrConflict), errors.Is(err, presence.ErrTooMany):
		return &Error{Errno: errno.TooMany, Cause: err}
	case errors.Is(err, presence.ErrDraining):
		return &Error{Errno: errno.GoingAway, Cause: err}
	case errors.Is(err, presence.ErrStranger):
		return &Error{Errno: errno.NoApp, Cause: err}
	case errors.Is(err, presence.ErrNotAllowed):
		return &Error{Errno: errno.NoApp, Detail: "notifications", Cause: err}
	case errors.Is(err, presence.ErrNoApp):
		return &Error{Errno: errno.Invalid, Cause: err}
	case errors.Is(err, presence.ErrTicket):
		return &Error{Errno: errno.Expired, Cause: err, Close: stayOpen}
	case errors.Is(err, presence.ErrCredential):
		return &Error{Errno: errno.Expired, Cause: err}
	case errors.Is(err, presence.ErrFull):
		return &Error{Errno: errno.AppFull, Retry: fullRetry, Cause: err}
	case errors.Is(err, presence.ErrTooLarge):
		return &Error{Errno: errno.PayloadSize, Cause: err}
	case errors.Is(err, presence.ErrTTL):
		return &Error{Errno: errno.BadValue, Detail: fieldNames[fTTL], Cause: err}
	case errors.Is(err, presence.ErrStorage):
		return &Error{Errno: errno.NoStorage, Retry: storageRetry, Cause: err}
	case errors.Is(err, presence.ErrBadValue):
		return &Error{Errno: errno.BadValue, Cause: err}
	}
	return &Error{Errno: errno.Internal, Cause: err}
}

// endError says why the hub ended a session, or an app's link.
func endError(end presence.End) *Error {
	switch end {
	case presence.EndReplaced:
		return &Error{Errno: errno.Replaced}
	case presence.EndKicked:
		return &Error{Errno: errno.Replaced, Detail: "kicked"}
	case presence.EndExpired:
		return &Error{Errno: errno.Expired, Close: closeBadIdentity}
	case presence.EndRemoved, presence.EndDisabled:
		return &Error{Errno: errno.Expired, Detail: end.String(), Close: closeBadIdentity}
	case presence.EndOverflow:
		return &Error{Errno: errno.SlowDown, Detail: end.String(), Close: closeSlowDown}
	case presence.EndDraining, presence.EndShutdown, presence.EndChanged: // come back, under the new policy
		return &Error{Errno: errno.GoingAway}
	}
	return &Error{Errno: errno.Internal, Detail: "session ended", Close: closeGoingAway}
}
