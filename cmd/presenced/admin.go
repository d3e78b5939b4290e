package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"presenced/presence"
	"presenced/store"
	"presenced/web/account"
)

// admin is the administration service: everything that commands do to a gateway, as HTTP with JSON. It has no
// state of its own and no users: who reaches it (a socket with mode 0600, or the process itself) may do all.
type admin struct {
	hub    *presence.Hub
	store  *store.Store
	domain string
	now    func() time.Time
	log    *slog.Logger
	status func() serverStatus // what only the process knows
}

// desk carries out what other doors to accounts do too, under the same rules.
func (a *admin) desk() *account.Desk {
	return &account.Desk{Hub: a.hub, Store: a.store, Domain: a.domain, Now: a.now}
}

const maxAdminBody = 1 << 20 // bytes of a request, but for imports

// handler routes the requests. Paths are for this program only and change with it.
func (a *admin) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", answer(a.getStatus))

	mux.HandleFunc("GET /apps", answer(a.listApps))
	mux.HandleFunc("POST /apps", answer(a.addApp))
	mux.HandleFunc("GET /apps/{app}", answer(a.showApp))
	mux.HandleFunc("POST /apps/{app}/enable", answer(a.enableApp))
	mux.HandleFunc("POST /apps/{app}/disable", answer(a.disableApp))
	mux.HandleFunc("POST /apps/{app}/rotate", answer(a.rotateApp))
	mux.HandleFunc("DELETE /apps/{app}", answer(a.removeApp))

	mux.HandleFunc("GET /users", a.listUsers)
	mux.HandleFunc("GET /users/{email}", answer(a.showUser))
	mux.HandleFunc("GET /users/{email}/export", answer(a.exportUser))
	mux.HandleFunc("DELETE /users/{email}", answer(a.removeUser))
	mux.HandleFunc("POST /users/{email}/invisible", answer(a.hideUser))
	mux.HandleFunc("POST /users/{email}/visible", answer(a.showUserAgain))
	mux.HandleFunc("POST /users/{email}/disable", answer(a.disableUser))
	mux.HandleFunc("POST /users/{email}/enable", answer(a.enableUser))
	mux.HandleFunc("GET /users/{email}/tokens", answer(a.listTokens))
	mux.HandleFunc("POST /users/{email}/tokens", answer(a.addToken))
	mux.HandleFunc("DELETE /users/{email}/tokens", answer(a.revokeTokens))

	mux.HandleFunc("GET /grants", a.listGrants)
	mux.HandleFunc("POST /grants", answer(a.allow))
	mux.HandleFunc("DELETE /grants/{email}/{app}", answer(a.revoke))
	mux.HandleFunc("POST /grants/{email}/{app}/pause", answer(a.pause))
	mux.HandleFunc("POST /grants/{email}/{app}/resume", answer(a.resume))

	mux.HandleFunc("GET /queue", a.listQueues)
	mux.HandleFunc("GET /queue/{email}", answer(a.listQueue))
	mux.HandleFunc("GET /queue/{email}/items", a.showQueue)
	mux.HandleFunc("DELETE /queue/{email}", answer(a.purgeQueue))

	mux.HandleFunc("GET /groups", a.listGroups)
	mux.HandleFunc("GET /devices", answer(a.listDevices))
	mux.HandleFunc("POST /devices/kick", answer(a.kick))
	mux.HandleFunc("POST /notify", answer(a.notify))

	mux.HandleFunc("POST /import", answer(a.importLines))
	mux.HandleFunc("GET /export", a.export)
	mux.HandleFunc("GET /backup", a.backup)
	return mux
}

// apiError is an error on its way to the command line. It is the whole body of such an answer.
type apiError struct {
	Status int    `json:"-"`
	Text   string `json:"error"`
	Hint   string `json:"hint,omitempty"`
}

func (e *apiError) Error() string { return e.Text }

func badRequest(format string, args ...any) error {
	return &apiError{Status: http.StatusBadRequest, Text: fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &apiError{Status: http.StatusNotFound, Text: fmt.Sprintf(format, args...)}
}

// statusOf is the one table from the core's errors to an HTTP status.
func statusOf(err error) int {
	for _, e := range []struct {
		err    error
		status int
	}{
		{presence.ErrNoApp, http.StatusNotFound},
		{presence.ErrNoGrant, http.StatusNotFound},
		{presence.ErrNoUser, http.StatusNotFound},
		{presence.ErrStranger, http.StatusNotFound},
		{presence.ErrExists, http.StatusConflict},
		{presence.ErrBadValue, http.StatusBadRequest},
		{presence.ErrTTL, http.StatusBadRequest},
		{presence.ErrTooLarge, http.StatusBadRequest},
		{presence.ErrNotAllowed, http.StatusForbidden},
		{presence.ErrDraining, http.StatusServiceUnavailable},
		{presence.ErrStorage, http.StatusServiceUnavailable},
	} {
		if errors.Is(err, e.err) {
			return e.status
		}
	}
	return http.StatusInternalServerError
}

// toAPIError turns any error into what the command line prints.
func toAPIError(err error) *apiError {
	var e *apiError
	if errors.As(err, &e) {
		return e
	}
	return &apiError{Status: statusOf(err), Text: plainText(err)}
}

// plainText is an error on one line, without the names of packages.
func plainText(err error) string {
	return strings.NewReplacer("presence: ", "", "store: ", "", "\n", "; ").Replace(err.Error())
}

// answer makes a handler of a function that returns one JSON value.
func answer(f func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, v)
	}
}

func writeError(w http.ResponseWriter, err error) {
	e := toAPIError(err)
	writeJSON(w, e.Status, e)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(v) // the only error is that the peer has gone
}

// readJSON reads the request's body into v, strictly.
func readJSON(r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxAdminBody))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return badRequest("request: %v", err)
	}
	return nil
}

// stream answers with a JSON array of unknown length: each calls emit with one element after the other. An
// error before the first element is answered as such; a later one breaks the connection, so that half a list is
// never taken for the whole.
func stream(w http.ResponseWriter, each func(emit func(any) error) error) {
	s := &jsonArray{w: w}
	err := each(s.emit)
	switch {
	case err == nil:
		s.end()
	case !s.begun:
		writeError(w, err)
	default:
		panic(http.ErrAbortHandler) // how net/http is told to break the connection
	}
}

// jsonArray writes elements as one array, each on a line of its own.
type jsonArray struct {
	w     http.ResponseWriter
	begun bool
}

func (s *jsonArray) emit(v any) error {
	sep := ",\n"
	if !s.begun {
		s.w.Header().Set("Content-Type", "application/json")
		sep = "["
		s.begun = true
	}
	b, err := marshalLine(v)
	if err != nil {
		return err
	}
	_, err = s.w.Write(append([]byte(sep), b...))
	return err
}

func (s *jsonArray) end() {
	out := "]\n"
	if !s.begun {
		s.w.Header().Set("Content-Type", "application/json")
		out = "[]\n"
	}
	s.w.Write([]byte(out))
}

// marshalLine is v as JSON without a newline and without escapes for HTML.
func marshalLine(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return []byte(strings.TrimSuffix(b.String(), "\n")), nil
}

// pathEmail is the {email} of the path in key form.
func pathEmail(r *http.Request) (string, error) { return keyEmail(r.PathValue("email")) }

func keyEmail(s string) (string, error) {
	e, err := presence.NormalEmail(s)
	if err != nil {
		return "", badRequest("%q is not an e-mail address", s)
	}
	return e, nil
}

// queryDevice is the optional ?device= of the request.
func queryDevice(r *http.Request) (string, error) {
	d := r.URL.Query().Get("device")
	if d == "" {
		return "", nil
	}
	if err := presence.CheckDevice(d); err != nil {
		return "", badRequest("%v", err)
	}
	return d, nil
}

// serverStatus is the answer to GET /status and what `presenced status --json` prints.
type serverStatus struct {
	Version    string            `json:"version"`
	Running    bool              `json:"running"`
	PID        int               `json:"pid,omitempty"`
	Started    time.Time         `json:"started,omitzero"`
	Uptime     string            `json:"uptime,omitempty"`
	Data       string            `json:"data"`
	Domain     string            `json:"domain"`
	Listeners  map[string]string `json:"listeners,omitempty"`
	Draining   bool              `json:"draining,omitempty"`
	Users      int               `json:"users"`
	Apps       int               `json:"apps"`
	Devices    int               `json:"devices"`    // connected
	Components int               `json:"components"` // connected
	Waiting    int               `json:"waiting"`    // notifications
}

func (a *admin) getStatus(*http.Request) (any, error) { return a.fullStatus() }

func (a *admin) fullStatus() (serverStatus, error) {
	s := a.status()
	h := a.hub.Stats()
	kept := a.store.Stats()
	s.Apps, s.Devices, s.Components = h.Apps, h.Sessions, h.Links
	s.Waiting = kept.Waiting
	err := a.store.EachUser(func(presence.User) error { s.Users++; return nil })
	return s, err
}
