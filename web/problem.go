package web

import (
	"math"
	"net/http"
)

// errnoTexts are the texts of the table of errors in docs/protocol.md, for the numbers that HTTP uses.
func errnoText(n int) string {
	switch n {
	case 10:
		return "malformed JSON"
	case 11:
		return "unknown frame"
	case 12:
		return "missing field"
	case 13:
		return "bad value"
	case 14:
		return "frame too large"
	case 30:
		return "not identified"
	case 31:
		return "assertion expired"
	case 32:
		return "wrong audience"
	case 33:
		return "issuer not trusted"
	case 34:
		return "Invalid assertion"
	case 35:
		return "e-mail not confirmed by the assertion"
	case 36:
		return "another identity on this socket"
	case 40:
		return "slow down"
	case 41:
		return "too many connections"
	case 42:
		return "payload too large"
	case 51:
		return "going away"
	case 60:
		return "no such app for this user"
	case 61:
		return "too much is waiting for this app"
	case 91:
		return "storage not available"
	}
	return "internal error"
}

// Kind is a kind of problem: its name is the end of a URI that never changes.
type kind struct {
	name   string
	status int
	errno  int // where the error names none
	title  string
}

// kinds are all of them. An error that names none is of the first that has its status and errno, else of the first
// that has its status.
func kinds() []kind {
	return []kind{
		{"malformed-json", 400, 10, "The body is not JSON"},
		{"missing-field", 400, 12, "A field is missing"},
		{"bad-request", 400, 13, "A value is wrong"},
		{"no-token", 401, 30, "Nobody is signed in"},
		{"expired-token", 401, 31, "The token has expired"},
		{"bad-token", 401, 34, "The token is not known"},
		{"not-allowed", 403, 60, "The user does not allow this"},
		{"missing-scope", 403, 30, "The token lacks a scope"},
		{"wrong-caller", 403, 30, "This is for other callers"},
		{"cross-origin", 403, 30, "The request came from another site"},
		{"disabled", 403, 34, "The account is switched off"},
		{"not-proven", 403, 13, "The app's site was not proven yet"},
		{"held", 403, 13, "The administrator switched this app off"},
		{"not-found", 404, 11, "There is nothing here"},
		{"no-such-party", 404, 60, "There is no such app or user for this caller"},
		{"no-such-thing", 404, 13, "There is no such thing"},
		{"method", 405, 11, "The method is not known here"},
		{"exists", 409, 13, "It is taken"},
		{"too-many", 409, 13, "There are too many already"},
		{"in-progress", 409, 40, "The same call is being carried out"},
		{"body-too-large", 413, 14, "The body is too large"},
		{"notification-too-large", 413, 42, "The notification is too large"},
		{"media-type", 415, 10, "The body is not declared as JSON"},
		{"wrong-host", 421, 11, "This server is not known by that name"},
		{"missing-field", 422, 12, "A field is missing"},
		{"bad-value", 422, 13, "A value is wrong"},
		{"unknown-field", 422, 13, "A field is not known"},
		{"key-reused", 422, 13, "The Idempotency-Key was used for something else"},
		{"slow-down", 429, 40, "Too many calls"},
		{"app-full", 429, 61, "Too much is waiting"},
		{"internal", 500, 90, "Something went wrong"},
		{"going-away", 503, 51, "The gateway is going away"},
		{"no-storage", 503, 91, "Nothing can be stored or read"},
	}
}

// kindOf is the kind of an error.
func (e *Error) kind() kind {
	best := kind{name: "internal", status: e.Status, errno: 90, title: http.StatusText(e.Status)}
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
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Errno  int    `json:"errno"`
	Error  string `json:"error"`
	Field  string `json:"field,omitempty"`
	Index  *int   `json:"index,omitempty"`       // which of several
	Retry  int    `json:"retry_after,omitempty"` // seconds
}

func problemOf(e *Error) problem {
	k := e.kind()
	p := problem{Type: "urn:presenced:problem:" + k.name, Title: k.title, Status: e.Status, Detail: e.Text, Errno: e.Errno,
		Field: e.Field, Index: e.Index, Retry: int(math.Ceil(e.Retry.Seconds()))}
	if p.Errno == 0 {
		p.Errno = k.errno
	}
	p.Error = errnoText(p.Errno)
	return p
}
