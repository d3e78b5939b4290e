package main

import (
	"errors"
	"net/http"
	"time"

	"presenced/presence"
	"presenced/store"
	"presenced/web/account"
)

const maxAuditExport = 10000 // entries of a user's export

// userView is a user in lists.
type userView struct {
	Email   string    `json:"email"`
	Created time.Time `json:"created,omitzero"`
}

func (a *admin) listUsers(w http.ResponseWriter, _ *http.Request) {
	stream(w, func(emit func(any) error) error {
		return a.store.EachUser(func(u presence.User) error {
			return emit(userView{Email: u.Email, Created: u.Created})
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
	d := userDetail{userView: userView{Email: u.Email, Created: u.Created}, Grants: []account.Grant{}}
	grants, err1 := a.store.GrantsOf(u.Email)
	for _, g := range grants {
		d.Grants = append(d.Grants, a.desk().GrantOf(g))
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
	return x, err
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
	return a.desk().Tokens(email, device)
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
