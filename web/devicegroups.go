package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"presenced/identity"
	"presenced/presence"
	"presenced/xmppsrv/gcm"
)

// Device groups are managed as Google had it: app servers bring their code along, so requests, answers and the words of
// errors are those of GCM and FCM. What they are is package presence's; notifications to them come over CCS and
// components.

// deviceGroupPaths are where GCM and FCM had it.
var deviceGroupPaths = [...]string{"/gcm/notification", "/fcm/notification"}

// deviceGroupCall is the body of a POST.
type deviceGroupCall struct {
	Operation string   `json:"operation"`
	Name      string   `json:"notification_key_name"`
	Key       string   `json:"notification_key"`
	Members   []string `json:"registration_ids"`
}

// The words of Google's, by which libraries tell what to do, and those of ours where no others are known.
const (
	groupExists     = "notification_key already exists"
	groupNotFound   = "notification_key not found"
	groupNoMembers  = "no valid registration ids"
	groupOtherName  = "notification_key_name doesn't match the group name of the notification_key"
	groupTooMany    = "more than 20 registration ids"
	groupsTooMany   = "too many notification keys"
	groupBadName    = "notification_key_name must be 1 to 256 bytes"
	groupBadRequest = "operation must be create, add or remove"
	groupBadJSON    = "the body is not the JSON that is expected"
)

const maxGroupCall = 20 // registration ids of one request: no group has more members

func (a *api) deviceGroupRoutes(mux *http.ServeMux) {
	for _, path := range deviceGroupPaths {
		mux.HandleFunc("GET "+path, a.deviceGroup(getDeviceGroup))
		mux.HandleFunc("POST "+path, a.deviceGroup(changeDeviceGroup))
	}
}

// deviceGroup finds out which app calls, and answers with the key that do returns.
func (a *api) deviceGroup(do func(a *api, app string, r *http.Request) (key string, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		key, err := "", a.deviceGroupCaller(r)
		if err == nil {
			key, err = do(a, r.Header.Get("project_id"), r)
		}
		if err != nil {
			e := deviceGroupError(err)
			setRetry(w, e)
			writeJSON(w, "application/json", e.Status, struct {
				Error string `json:"error"`
			}{e.Text})
			return
		}
		writeJSON(w, "application/json", http.StatusOK, struct {
			Key string `json:"notification_key"`
		}{key})
	}
}

// deviceGroupCaller wants Authorization to have the key of the app that project_id names. Who does not is answered alike
// whatever is wrong, and counts against the address.
func (a *api) deviceGroupCaller(r *http.Request) error {
	key, _ := strings.CutPrefix(strings.TrimSpace(r.Header.Get("Authorization")), "key=")
	app, ok := a.site.cfg.Hub.AppByKey(key)
	if !ok || app.ID != r.Header.Get("project_id") {
		addr := a.site.clientAddr(r)
		if wait, may := a.site.cfg.Attempts.Allow(addr); !may {
			return &Error{Status: http.StatusTooManyRequests, Text: "too many wrong keys from this address", Retry: wait}
		}
		a.site.cfg.Attempts.Refused(addr, &identity.Error{Kind: identity.Invalid, Cause: errors.New("the key of an app")})
		return &Error{Status: http.StatusUnauthorized, Text: "Unauthorized"}
	}
	if wait, ok := a.limit.allow(identity.CredentialOf(identity.HashSecret(key)), limitApp); !ok {
		return &Error{Status: http.StatusTooManyRequests, Text: "too many calls with this key", Retry: wait}
	}
	return nil
}

func getDeviceGroup(a *api, app string, r *http.Request) (string, error) {
	g, err := a.site.cfg.Hub.DeviceGroup(app, r.URL.Query().Get("notification_key_name"))
	return g.Key, err
}

func changeDeviceGroup(a *api, app string, r *http.Request) (string, error) {
	var c deviceGroupCall
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		if asError(err).Status == http.StatusRequestEntityTooLarge {
			return "", err
		}
		return "", groupError(groupBadJSON)
	}
	if len(c.Members) > maxGroupCall {
		return "", presence.ErrGroupFull
	}
	var members []presence.Peer
	for _, text := range c.Members {
		if p, _, ok := gcm.ParseToken(text, a.site.cfg.Domain); ok {
			members = append(members, p)
		}
	}
	h := a.site.cfg.Hub
	if c.Operation == "create" {
		g, err := h.AddDeviceGroup(app, c.Name, members)
		return g.Key, err
	}
	if c.Operation != "add" && c.Operation != "remove" {
		return "", groupError(groupBadRequest)
	}
	g, err := h.DeviceGroupByKey(app, c.Key)
	switch {
	case err != nil:
		return "", err
	case c.Name != "" && c.Name != g.Name:
		return "", groupError(groupOtherName)
	case len(members) == 0:
		return "", presence.ErrNoMember
	case c.Operation == "add":
		return g.Key, h.JoinDeviceGroup(app, g.Key, members)
	}
	return g.Key, h.LeaveDeviceGroup(app, g.Key, members)
}

func groupError(text string) *Error { return &Error{Status: http.StatusBadRequest, Text: text} }

// deviceGroupError is how what the core refuses is told.
func deviceGroupError(err error) *Error {
	for _, row := range []struct {
		err  error
		text string
	}{
		{presence.ErrExists, groupExists},
		{presence.ErrNoGroup, groupNotFound},
		{presence.ErrNoMember, groupNoMembers},
		{presence.ErrGroupFull, groupTooMany},
		{presence.ErrFull, groupsTooMany},
		{presence.ErrBadValue, groupBadName},
	} {
		if errors.Is(err, row.err) {
			return groupError(row.text)
		}
	}
	return asError(err)
}
