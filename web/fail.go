package web

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/presence/errno"
	"presenced/web/account"
)

// Error is how a request fails. Text is for whoever asked and never holds a secret; Cause is for the log.
type Error struct {
	Status int          // HTTP
	Errno  errno.Number // 0: none fits
	Text   string
	Retry  time.Duration // when to try again; 0: does not help
	Cause  error
	Kind   string // name of a kind of problem; "": the one that fits Status and Errno
	Field  string // of the request; "": it is about none
	Index  *int   // which of several, from 0
	scope  string // that a token lacks
}

func (e *Error) Error() string {
	if e.Cause == nil {
		return e.Text
	}
	return e.Text + ": " + e.Cause.Error()
}

func (e *Error) Unwrap() error { return e.Cause }

// retryStorage is when to try again while the disk does not answer.
const retryStorage = 5 * time.Second

var (
	errNotFound    = &Error{Status: http.StatusNotFound, Text: "There is nothing here."}
	errMethod      = &Error{Status: http.StatusMethodNotAllowed, Text: "This address does not take that kind of request."}
	errCrossOrigin = &Error{Status: http.StatusForbidden, Kind: "cross-origin", Text: "This form was sent from another site, so nothing was changed."}
	errWrongHost   = &Error{Status: http.StatusMisdirectedRequest, Text: "This server is not known by that name."}
	errSignedOut   = &Error{Status: http.StatusUnauthorized, Errno: errno.NotIdentified, Text: "Please sign in first."}
	errDisabled    = &Error{Status: http.StatusForbidden, Errno: errno.Invalid, Text: "This account is switched off."}
)

// bad is a request that cannot be understood; text says what to do better.
func bad(text string) *Error {
	return &Error{Status: http.StatusBadRequest, Errno: errno.BadValue, Text: text}
}

// asError gives every error its status, errno and text. It is the only place that knows.
func asError(err error) *Error {
	var e *Error
	var tooLarge *http.MaxBytesError
	var refused *identity.Error
	var field *account.FieldError
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &tooLarge):
		return &Error{Status: http.StatusRequestEntityTooLarge, Errno: errno.PayloadSize, Text: "That is more than this page takes.", Cause: err}
	case errors.As(err, &refused):
		return refusedIdentity(refused)
	case errors.As(err, &field):
		return &Error{Status: http.StatusBadRequest, Errno: errno.BadValue, Field: field.Field, Text: field.Error(), Cause: err}
	case is(presence.ErrDraining):
		return &Error{Status: http.StatusServiceUnavailable, Errno: errno.GoingAway, Text: "This server is going away; try again in a moment.", Retry: retryStorage, Cause: err}
	case is(presence.ErrNoApp):
		return &Error{Status: http.StatusNotFound, Errno: errno.NoApp, Text: "There is no such app here.", Cause: err}
	case is(presence.ErrNoGrant), is(presence.ErrStranger):
		return &Error{Status: http.StatusNotFound, Errno: errno.NoApp, Text: "That app may not see you.", Cause: err}
	case is(presence.ErrNoUser):
		return &Error{Status: http.StatusNotFound, Errno: errno.NoApp, Text: "There is no such user.", Cause: err}
	case is(presence.ErrNotAllowed):
		return &Error{Status: http.StatusForbidden, Errno: errno.NoApp, Text: "Notifications are not allowed.", Cause: err}
	case is(presence.ErrBadValue), is(presence.ErrTTL):
		return &Error{Status: http.StatusBadRequest, Errno: errno.BadValue, Text: strings.TrimPrefix(err.Error(), "presence: "), Cause: err}
	case is(presence.ErrTooLarge):
		return &Error{Status: http.StatusRequestEntityTooLarge, Errno: errno.PayloadSize, Text: "That is too large.", Cause: err}
	case is(presence.ErrExists):
		return &Error{Status: http.StatusConflict, Errno: errno.BadValue, Text: "That exists already.", Cause: err}
	case is(presence.ErrFull):
		return &Error{Status: http.StatusTooManyRequests, Errno: errno.AppFull, Text: "Too much is waiting already.", Retry: retryStorage, Cause: err}
	case is(presence.ErrStorage):
		return &Error{Status: http.StatusServiceUnavailable, Errno: errno.NoStorage, Text: "Nothing can be stored at the moment.", Retry: retryStorage, Cause: err}
	}
	return &Error{Status: http.StatusInternalServerError, Errno: errno.Internal, Text: "Something went wrong here.", Cause: err}
}

// refusedIdentity says why somebody was not let in.
func refusedIdentity(err *identity.Error) *Error {
	e := &Error{Status: http.StatusUnauthorized, Cause: err}
	switch err.Kind {
	case identity.Expired:
		e.Errno, e.Text = errno.Expired, "That was good once, but it has expired."
	case identity.Audience:
		e.Errno, e.Text = errno.WrongAudience, "That was made for another site."
	case identity.Issuer:
		e.Errno, e.Text = errno.WrongIssuer, "That comes from somebody this gateway does not trust."
	case identity.Email:
		e.Errno, e.Text = errno.NotConfirmed, "That does not belong to this e-mail address."
	case identity.Unavailable:
		e.Status, e.Errno, e.Text, e.Retry = http.StatusServiceUnavailable, errno.NoStorage, "Nobody can check that at the moment.", retryStorage
	default:
		e.Errno, e.Text = errno.Invalid, "That is not a token this gateway knows."
	}
	return e
}

// fail answers with an error: as a page, or as problem+json (RFC 9457) for programs. What is our fault goes to the
// log with its cause.
func (s *Site) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := asError(err)
	level := slog.LevelDebug
	if e.Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	s.cfg.Log.Log(r.Context(), level, "request failed", "method", r.Method, "path", r.URL.Path, "status", e.Status, "error", err)
	setRetry(w, e)
	if wantsJSON(r) {
		s.failJSON(w, e)
		return
	}
	s.renderStatus(w, r, e.Status, "error", e)
}

func setRetry(w http.ResponseWriter, e *Error) {
	if e.Retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.Retry.Seconds()))))
	}
}

func (s *Site) failJSON(w http.ResponseWriter, e *Error) {
	writeJSON(w, "application/problem+json", e.Status, problemOf(e))
}

// reply answers with JSON.
func (s *Site) reply(w http.ResponseWriter, v any) {
	writeJSON(w, "application/json", http.StatusOK, v)
}

func writeJSON(w http.ResponseWriter, kind string, status int, v any) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // it is no HTML, and nosniff
	_ = enc.Encode(v)        // who has gone needs no answer
}

// wantsJSON tells programs from people: those that send or ask for JSON, and all at addresses that know nothing else.
func wantsJSON(r *http.Request) bool {
	switch r.URL.Path {
	case deviceLoginPath, getAppsPath:
		return true
	}
	return strings.HasPrefix(r.URL.Path, "/api/") || strings.HasPrefix(r.URL.Path, revokePath) || sendsJSON(r) || strings.Contains(r.Header.Get("Accept"), "application/json") ||
		strings.Contains(r.Header.Get("Accept"), "text/event-stream") // a stream cannot show a page
}

func sendsJSON(r *http.Request) bool {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), "application/json")
}
