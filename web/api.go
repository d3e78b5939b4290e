package web

import (
	_ "embed"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"presenced/presence"
	"presenced/presence/errno"
	"presenced/web/account"
)

// openAPI describes the API; a test holds it against the routes, and the answers of all tests against it.
//
//go:embed openapi.json
var openAPI []byte

const apiRoot = "/api/v1"

// Accounts is what the API and the administrator's pages need of the disk.
type Accounts interface {
	account.Store
	LookupAPIToken(hash [32]byte) (presence.Token, bool, error)
	RenameDevice(email, device, name string) error
	AuditOf(email string, max int) ([]presence.AuditEntry, error)
	ActivityOf(email string, since time.Time, max int) ([]presence.Event, error)
	// GrantsOfApp returns grants in an order that says nothing about the users, from behind a PUID.
	GrantsOfApp(app, after string, max int) ([]presence.Grant, error)
	Waiting(email string) (map[string]int, error)
}

// api is /api/v1: what people and apps can do, for programs. All but its limits and its memory of what was sent is
// immutable.
type api struct {
	site  *Site
	desk  *account.Desk
	limit *apiLimit
	once  *once
}

// route is one operation. A person needs its scope; "" is for any of hers.
type route struct {
	pattern string // method and path below apiRoot
	scope   string
	status  int                         // of success
	person  func(*call) (any, error)    // nil: not for people
	app     func(*appCall) (any, error) // nil: not for apps
}

// call is one request of a person.
type call struct {
	*api
	r      *http.Request
	header http.Header // of the answer
	email  string
	scopes []string        // what she may do
	token  *presence.Token // nil: she is signed in on the pages
}

// appCall is one request of an app.
type appCall struct {
	*api
	r      *http.Request
	header http.Header // of the answer
	meta   presence.App
	voice  *presence.Caller
}

func (s *Site) apiRoutes(mux *http.ServeMux) {
	a := &api{site: s, limit: newAPILimit(s.cfg.Now), once: newOnce(s.cfg.Now),
		desk: &account.Desk{Hub: s.cfg.Hub, Store: s.cfg.Store, Domain: s.cfg.Domain, Now: s.cfg.Now}}
	for _, rt := range a.routes() {
		method, path, _ := strings.Cut(rt.pattern, " ")
		mux.HandleFunc(method+" "+apiRoot+path, a.serve(rt))
	}
	a.deviceGroupRoutes(mux)
	mux.HandleFunc("GET "+apiRoot+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(openAPI)))
		w.Write(openAPI)
	})
}

// routes are all operations but that which tells them.
func (a *api) routes() []route {
	const ok, made, taken, empty = http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent
	return []route{
		{"GET /me", "", ok, (*call).getMe, nil},
		{"PATCH /me", account.GrantsWrite, ok, (*call).changeMe, nil},

		{"GET /devices", account.DevicesRead, ok, (*call).listDevices, nil},
		{"PATCH /devices/{device}", account.DevicesWrite, ok, (*call).renameDevice, nil},
		{"POST /devices/{device}/sign-out", account.DevicesWrite, ok, (*call).signOutDevice, nil},
		{"DELETE /devices/{device}", account.DevicesWrite, empty, (*call).removeDevice, nil},

		{"GET /grants", account.GrantsRead, ok, (*call).listGrants, (*appCall).listGrants},
		{"GET /grants/{party}", account.GrantsRead, ok, (*call).getGrant, (*appCall).getGrant},
		{"PUT /grants/{party}", account.GrantsWrite, ok, (*call).allow, nil},
		{"PATCH /grants/{party}", account.GrantsWrite, ok, (*call).changeGrant, nil},
		{"DELETE /grants/{party}", account.GrantsWrite, empty, (*call).revoke, (*appCall).giveBack},

		{"GET /requests", account.RequestsRead, ok, (*call).listRequests, nil},
		{"POST /requests", "", taken, nil, (*appCall).ask},
		{"POST /requests/{appid}", account.RequestsWrite, ok, (*call).answerRequest, nil},
		{"DELETE /requests/{email}", "", empty, nil, (*appCall).takeBack},

		{"GET /tokens", account.TokensRead, ok, (*call).listTokens, nil},
		{"POST /tokens", account.TokensWrite, made, (*call).makeToken, nil},
		{"DELETE /tokens/{token}", account.TokensWrite, empty, (*call).revokeToken, nil},

		{"GET /audit", account.AuditRead, ok, (*call).listAudit, nil},
		{"GET /activity", account.AuditRead, ok, (*call).listActivity, nil},

		{"GET /apps", account.AppsRead, ok, (*call).listApps, nil},
		{"POST /apps", account.AppsWrite, made, (*call).makeApp, nil},
		{"GET /apps/{appid}", account.AppsRead, ok, (*call).getApp, nil},
		{"PATCH /apps/{appid}", account.AppsWrite, ok, (*call).changeApp, nil},
		{"POST /apps/{appid}/rotate", account.AppsWrite, ok, (*call).rotateApp, nil},

		{"POST /notifications", "", taken, nil, (*appCall).notify},
		{"GET /queue", "", ok, nil, (*appCall).getQueue},
	}
}

// serve finds out who calls, whether she or it may, and answers.
func (a *api) serve(rt route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := a.do(rt, r, w.Header())
		switch {
		case err != nil:
			a.fail(w, r, err)
		case rt.status == http.StatusNoContent:
			w.WriteHeader(rt.status)
		default:
			writeJSON(w, "application/json", rt.status, v)
		}
	}
}

func (a *api) do(rt route, r *http.Request, answer http.Header) (any, error) {
	who, err := a.recognise(r)
	if err != nil {
		return nil, err
	}
	if wait, ok := a.limit.allow(who.name, who.kind()); !ok {
		return nil, &Error{Status: http.StatusTooManyRequests, Errno: errno.SlowDown, Text: "Too many calls with this token.", Retry: wait}
	}
	switch {
	case who.app != nil && rt.app != nil:
		return rt.app(&appCall{a, r, answer, *who.app, who.voice})
	case who.app != nil || rt.person == nil:
		return nil, errOtherCaller
	case rt.scope != "" && !slices.Contains(who.scopes, rt.scope):
		return nil, &Error{Status: http.StatusForbidden, Kind: "missing-scope", Text: "This token lacks the scope " + rt.scope + ".", scope: rt.scope}
	}
	return rt.person(&call{a, r, answer, who.email, who.scopes, who.token})
}

var errOtherCaller = &Error{Status: http.StatusForbidden, Kind: "wrong-caller",
	Text: "People and apps have different things to do here; this is for the others."}

// fail answers with a problem. What is wrong with a request that could be read is 422 here.
func (a *api) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := *asError(err)
	if e.Status == http.StatusBadRequest && (e.Errno == errno.MissingField || e.Errno == errno.BadValue) {
		e.Status = http.StatusUnprocessableEntity
	}
	switch { // RFC 6750 §3
	case e.Status == http.StatusUnauthorized && r.Header.Get("Authorization") != "":
		w.Header().Set("WWW-Authenticate", `Bearer realm="presenced", error="invalid_token"`)
	case e.Status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", `Bearer realm="presenced"`)
	case e.scope != "":
		w.Header().Set("WWW-Authenticate", `Bearer realm="presenced", error="insufficient_scope", scope="`+e.scope+`"`)
	}
	a.site.fail(w, r, &e)
}
