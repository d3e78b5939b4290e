package main

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"presenced/presence"
	"presenced/store"
	"presenced/web/account"
)

// What a user's export has at most; more is not kept.
const (
	maxAuditExport    = 10000
	maxActivityExport = 10000
)

// userView is a user in lists.
type userView struct {
	presence.User
}

// userViewOf is the user without what is over.
func (a *admin) userViewOf(u presence.User) userView {
	if !u.Hidden(a.now()) {
		u.Invisible, u.InvisibleUntil = false, time.Time{}
	}
	return userView{u}
}

func (a *admin) listUsers(w http.ResponseWriter, _ *http.Request) {
	stream(w, func(emit func(any) error) error {
		return a.store.EachUser(func(u presence.User) error {
			return emit(a.userViewOf(u))
		})
	})
}

// userDetail is all that `user show` tells.
type userDetail struct {
	userView
	Devices []presence.DeviceInfo `json:"devices"`
	Grants  []account.Grant       `json:"grants"`
	Tokens  []account.Token       `json:"tokens"`
	Waiting map[string]int        `json:"waiting"` // notifications by app
	// Requests of apps that the user has not answered yet.
	Requests []presence.Request `json:"requests"`
}

// knownUser is the user that the path names.
func (a *admin) knownUser(r *http.Request) (presence.User, error) {
	email, err := pathEmail(r)
	if err != nil {
		return presence.User{}, err
	}
	return a.userByEmail(email)
}

func (a *admin) userByEmail(email string) (presence.User, error) {
	u, ok, err := a.store.User(email)
	if err == nil && !ok {
		err = notFound("no user %s", email)
	}
	return u, err
}

func (a *admin) userDetail(u presence.User) (userDetail, error) {
	d := userDetail{userView: a.userViewOf(u), Grants: []account.Grant{}}
	grants, err1 := a.store.GrantsOf(u.Email)
	for _, g := range grants {
		v, err := a.desk().GrantOf(g)
		d.Grants, err1 = append(d.Grants, v), errors.Join(err1, err)
	}
	devices, err2 := a.hub.Devices(u.Email)
	d.Devices = append([]presence.DeviceInfo{}, devices...)
	tokens, err3 := a.desk().Tokens(u.Email, "")
	d.Tokens = tokens
	waiting, err4 := a.store.Waiting(u.Email)
	d.Waiting = waiting
	if d.Waiting == nil {
		d.Waiting = map[string]int{}
	}
	requests, err5 := a.hub.RequestsOf(u.Email)
	d.Requests = append([]presence.Request{}, requests...)
	return d, errors.Join(err1, err2, err3, err4, err5)
}

func (a *admin) showUser(r *http.Request) (any, error) {
	u, err := a.knownUser(r)
	if err != nil {
		return nil, err
	}
	return a.userDetail(u)
}

// userExport is everything that is kept of a user.
type userExport struct {
	userDetail
	Notifications []notificationView    `json:"notifications"`
	Audit         []presence.AuditEntry `json:"audit"`
	Activity      []presence.Event      `json:"activity"`     // newest first
	Sessions      []presence.WebSession `json:"web_sessions"` // on the pages
	Push          []account.Wakeable    `json:"push"`
	DeviceGroups  []presence.Membership `json:"device_groups"`
}

func (a *admin) exportUser(r *http.Request) (any, error) {
	u, err := a.knownUser(r)
	if err != nil {
		return nil, err
	}
	var x userExport
	if x.userDetail, err = a.userDetail(u); err != nil {
		return nil, err
	}
	x.Notifications = []notificationView{}
	err = a.eachPending(u.Email, "", func(n *presence.Notification) error {
		x.Notifications = append(x.Notifications, notificationViewOf(n))
		return nil
	})
	if err != nil {
		return nil, err
	}
	audit, err := a.store.AuditOf(u.Email, maxAuditExport)
	x.Audit = append([]presence.AuditEntry{}, audit...)
	activity, err1 := a.store.ActivityOf(u.Email, time.Time{}, maxActivityExport)
	x.Activity = append([]presence.Event{}, activity...)
	sessions, err2 := a.store.SessionsOf(u.Email)
	x.Sessions = append([]presence.WebSession{}, sessions...)
	push, err3 := a.desk().Wakeable(u.Email)
	x.Push = push
	groups, err4 := a.hub.MembershipsOf(u.Email)
	x.DeviceGroups = groups
	return x, errors.Join(err, err1, err2, err3, err4)
}

// hideUser takes ?until=.
func (a *admin) hideUser(r *http.Request) (any, error) {
	u, err := a.knownUser(r)
	if err != nil {
		return nil, err
	}
	until, err := a.queryUntil(r)
	if err != nil {
		return nil, err
	}
	v := map[string]any{"email": u.Email, "invisible": true}
	if !until.IsZero() {
		v["invisible_until"] = until
	}
	return v, a.hub.SetInvisible(u.Email, true, until, presence.ByAdmin)
}

func (a *admin) showUserAgain(r *http.Request) (any, error) {
	u, err := a.knownUser(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"email": u.Email, "invisible": false}, a.hub.SetInvisible(u.Email, false, time.Time{}, presence.ByAdmin)
}

func (a *admin) disableUser(r *http.Request) (any, error) { return a.setDisabled(r, true) }
func (a *admin) enableUser(r *http.Request) (any, error)  { return a.setDisabled(r, false) }

func (a *admin) setDisabled(r *http.Request, disabled bool) (any, error) {
	u, err := a.knownUser(r)
	if err != nil {
		return nil, err
	}
	return map[string]any{"email": u.Email, "disabled": disabled}, a.hub.SetDisabled(u.Email, disabled, presence.ByAdmin)
}

func (a *admin) removeUser(r *http.Request) (any, error) {
	u, err := a.knownUser(r)
	if err != nil {
		return nil, err
	}
	if err := a.desk().Remove(u.Email, presence.ByAdmin); err != nil {
		return nil, err
	}
	return map[string]any{"email": u.Email, "removed": true}, nil
}

func (a *admin) listTokens(r *http.Request) (any, error) {
	email, err := pathEmail(r)
	if err != nil {
		return nil, err
	}
	device, err := queryDevice(r)
	if err != nil {
		return nil, err
	}
	tokens, err := a.desk().Tokens(email, device)
	slices.SortStableFunc(tokens, func(a, b account.Token) int { return a.Created.Compare(b.Created) })
	return tokens, err
}

// newToken is the answer to POST /users/{email}/tokens, the only one that shows a token.
type newToken struct {
	Email   string     `json:"email"`
	Device  string     `json:"device"`
	Name    string     `json:"name,omitempty"`
	Scopes  []string   `json:"scopes,omitempty"`
	Token   string     `json:"token"`
	Expires *time.Time `json:"expires,omitempty"`
}

func (a *admin) addToken(r *http.Request) (any, error) {
	email, err := pathEmail(r)
	if err != nil {
		return nil, err
	}
	n := account.NewToken{Name: r.URL.Query().Get("name"), Scopes: r.URL.Query()["scope"]}
	if n.Device, err = queryDevice(r); err != nil {
		return nil, err
	}
	if n.Device != "" && len(n.Scopes) > 0 {
		return nil, badRequest("a token is for a device or for the API, not for both")
	}
	if e := r.URL.Query().Get("expires"); e != "" {
		life, err := time.ParseDuration(e)
		if err != nil || life <= 0 {
			return nil, badRequest("expires %q is not a duration such as 720h", e)
		}
		n.Expires = a.now().Add(life)
	}
	m, err := a.desk().MakeToken(email, n)
	if errors.Is(err, store.ErrFull) {
		err = &apiError{Status: http.StatusConflict, Text: email + " has as many tokens as a user may have",
			Hint: "revoke some: presenced user token revoke " + email + " [--device ID]"}
	}
	return newToken{m.Email, m.Device, m.Name, m.Scopes, m.Secret, m.Expires}, err
}

// revokeTokens forgets tokens and ends the sessions that came with them.
func (a *admin) revokeTokens(r *http.Request) (any, error) {
	email, err := pathEmail(r)
	if err != nil {
		return nil, err
	}
	device, err := queryDevice(r)
	if err != nil {
		return nil, err
	}
	e, err := a.desk().EndTokens(email, device)
	if err != nil {
		return nil, err
	}
	if e.Revoked == 0 {
		return nil, notFound("%s has no such token", email)
	}
	return map[string]any{"email": email, "device": device, "revoked": e.Revoked, "ended": e.Sessions}, nil
}
