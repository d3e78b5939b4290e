package web

import (
	"math"
	"net/http"

	"presenced/presence/errno"
)

// kind is a kind of problem: its name is the end of a URI that never changes.
type kind struct {
	name   string
	status int
	errno  errno.Number // where the error names none
	title  string
}

// kinds are all of them. An error that names none is of the first that has its status and errno, else of the first
// that has its status.
func kinds() []kind {
	return []kind{
		{"malformed-json", 400, errno.BadJSON, "The body is not JSON"},
		{"missing-field", 400, errno.MissingField, "A field is missing"},
		{"bad-request", 400, errno.BadValue, "A value is wrong"},
		{"no-token", 401, errno.NotIdentified, "Nobody is signed in"},
		{"expired-token", 401, errno.Expired, "The token has expired"},
		{"bad-token", 401, errno.Invalid, "The token is not known"},
		{"not-allowed", 403, errno.NoApp, "The user does not allow this"},
		{"missing-scope", 403, errno.NotIdentified, "The token lacks a scope"},
		{"wrong-caller", 403, errno.NotIdentified, "This is for other callers"},
		{"cross-origin", 403, errno.NotIdentified, "The request came from another site"},
		{"disabled", 403, errno.Invalid, "The account is switched off"},
		{"not-proven", 403, errno.BadValue, "The app's site was not proven yet"},
		{"held", 403, errno.BadValue, "The administrator switched this app off"},
		{"not-found", 404, errno.UnknownFrame, "There is nothing here"},
		{"no-such-party", 404, errno.NoApp, "There is no such app or user for this caller"},
		{"no-such-thing", 404, errno.BadValue, "There is no such thing"},
		{"method", 405, errno.UnknownFrame, "The method is not known here"},
		{"exists", 409, errno.BadValue, "It is taken"},
		{"too-many", 409, errno.BadValue, "There are too many already"},
		{"in-progress", 409, errno.SlowDown, "The same call is being carried out"},
		{"body-too-large", 413, errno.TooLarge, "The body is too large"},
		{"notification-too-large", 413, errno.PayloadSize, "The notification is too large"},
		{"media-type", 415, errno.BadJSON, "The body is not declared as JSON"},
		{"wrong-host", 421, errno.UnknownFrame, "This server is not known by that name"},
		{"missing-field", 422, errno.MissingField, "A field is missing"},
		{"bad-value", 422, errno.BadValue, "A value is wrong"},
		{"unknown-field", 422, errno.BadValue, "A field is not known"},
		{"key-reused", 422, errno.BadValue, "The Idempotency-Key was used for something else"},
		{"slow-down", 429, errno.SlowDown, "Too many calls"},
		{"app-full", 429, errno.AppFull, "Too much is waiting"},
		{"internal", 500, errno.Internal, "Something went wrong"},
		{"going-away", 503, errno.GoingAway, "The gateway is going away"},
		{"no-storage", 503, errno.NoStorage, "Nothing can be stored or read"},
	}
}

// kind is the kind of an error.
func (e *Error) kind() kind {
	best := kind{name: "internal", status: e.Status, errno: errno.Internal, title: http.StatusText(e.Status)}
	rank := 0
	for _, k := range kinds() {
		fit := 0
		switch {
		case k.status != e.Status:
		case e.Kind == k.name:
			fit = 3
		case e.Kind == "" && e.Errno == k.errno:
			fit = 2
		case e.Kind == "":
			fit = 1
		}
		if fit > rank {
			best, rank = k, fit
		}
	}
	return best
}

// problem is an error for programs: RFC 9457, with the number and the text of the table of errors.
type problem struct {
	Type   string       `json:"type"`
	Title  string       `json:"title"`
	Status int          `json:"status"`
	Detail string       `json:"detail,omitempty"`
	Errno  errno.Number `json:"errno"`
	Error  string       `json:"error"`
	Field  string       `json:"field,omitempty"`
	Index  *int         `json:"index,omitempty"`       // which of several
	Retry  int          `json:"retry_after,omitempty"` // seconds
}

func problemOf(e *Error) problem {
	k := e.kind()
	p := problem{Type: "urn:presenced:problem:" + k.name, Title: k.title, Status: e.Status, Detail: e.Text, Errno: e.Errno,
		Field: e.Field, Index: e.Index, Retry: int(math.Ceil(e.Retry.Seconds()))}
	if p.Errno == 0 {
		p.Errno = k.errno
	}
	p.Error = p.Errno.String()
	return p
}
