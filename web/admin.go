package web

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"presenced/presence"
	"presenced/presence/errno"
	"presenced/web/account"
)

// The administrators' pages: counts, apps, users, and what happens at this moment. They show of a user that she is
// there, and her devices; what happens names the app of a grant or a notification too, and never what is in one. Whatever an administrator does to an
// account is in that user's audit.

// Everybody is what those pages need of the disk.
type Everybody interface {
	// FindUsers searches by a part of the e-mail, page after page; next "" is the end.
	FindUsers(part, after string, max int) (us []presence.User, next string, err error)
	CountUsers(most int) (int, error)
	CountWaiting() int
}

const (
	adminPath   = "/admin"
	usersShown  = 50
	adminApps   = 100     // on a page
	usersCount  = 100_000 // up to here they are counted
	maxSearch   = 254     // bytes
	adminUser   = adminPath + "/users/"
	adminAppURL = adminPath + "/apps"
)

func (s *Site) adminRoutes(mux *http.ServeMux) {
	if len(s.cfg.Admins) > 0 {
		s.nav = append(s.nav, link{Path: adminPath, Text: "Administration", Admin: true})
	}
	show := func(name string, f func(r *http.Request) (any, error)) http.HandlerFunc {
		return s.adminOnly(func(w http.ResponseWriter, r *http.Request, _ string) {
			data, err := f(r)
			if err != nil {
				s.fail(w, r, err)
				return
			}
			s.render(w, r, name, data)
		})
	}
	mux.HandleFunc("GET /admin", show("admin", s.adminFront))
	mux.HandleFunc("GET /admin/events", s.adminOnly(s.adminEvents))
	mux.HandleFunc("GET /admin/apps", show("admin_apps", s.adminApps))
	mux.HandleFunc("POST /admin/apps/{app}/{verb}", s.adminAct(s.adminSwitchApp))
	mux.HandleFunc("GET /admin/users", show("admin_users", s.adminUsers))
	mux.HandleFunc("GET /admin/users/{email}", show("admin_user", s.adminUser))
	mux.HandleFunc("POST /admin/users/{email}/{verb}", s.adminAct(s.adminChangeUser))
}

// adminAct is act for administrators; f gets the administrator's e-mail.
func (s *Site) adminAct(f func(r *http.Request, admin string) (next string, err error)) http.HandlerFunc {
	return s.adminOnly(func(w http.ResponseWriter, r *http.Request, _ string) { s.act(f)(w, r) })
}

func (s *Site) desk() *account.Desk {
	return &account.Desk{Hub: s.cfg.Hub, Store: s.cfg.Store, Domain: s.cfg.Domain, Now: s.cfg.Now}
}

// adminCounts is the data of pages/admin.html.
type adminCounts struct {
	presence.Stats
	Users   int // registered
	More    bool
	Waiting int
}

func (s *Site) adminFront(*http.Request) (any, error) {
	n, err := s.cfg.Store.CountUsers(usersCount + 1)
	if err != nil {
		return nil, storageError(err)
	}
	return adminCounts{Stats: s.cfg.Hub.Stats(), Users: min(n, usersCount), More: n > usersCount, Waiting: s.cfg.Store.CountWaiting()}, nil
}

// adminAppsPage is the data of pages/admin_apps.html.
type adminAppsPage struct {
	Apps []adminApp
	Next string // address of the page behind it
}

type adminApp struct {
	ID, Name, Component string
	Disabled            bool
	Connections, Queue  int
	Refused             []refusals
}

func (s *Site) adminApps(r *http.Request) (any, error) {
	p := adminAppsPage{}
	after := r.URL.Query().Get("after")
	for _, a := range s.cfg.Hub.Apps() {
		if a.ID <= after {
			continue
		}
		if len(p.Apps) == adminApps {
			p.Next = adminAppURL + "?after=" + url.QueryEscape(p.Apps[adminApps-1].ID)
			break
		}
		v, err := s.adminAppOf(a)
		if err != nil {
			return nil, err
		}
		p.Apps = append(p.Apps, v)
	}
	return p, nil
}

func (s *Site) adminAppOf(a presence.App) (adminApp, error) {
	v := adminApp{ID: a.ID, Name: plain(a.Name), Component: a.Component, Disabled: a.Disabled}
	st, err := s.cfg.Hub.AppStats(a.ID)
	if errors.Is(err, presence.ErrNoApp) {
		return v, nil // removed meanwhile
	}
	v.Connections, v.Queue = len(st.Connections), st.Queue
	for why, n := range st.Refused {
		v.Refused = append(v.Refused, refusals{why, n})
	}
	slices.SortFunc(v.Refused, func(a, b refusals) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Reason, b.Reason))
	})
	v.Refused = v.Refused[:min(len(v.Refused), 8)]
	return v, err
}

func (s *Site) adminSwitchApp(r *http.Request, _ string) (string, error) {
	disabled, ok := map[string]bool{"enable": false, "disable": true}[r.PathValue("verb")]
	if !ok {
		return "", errNotFound
	}
	_, err := s.cfg.Hub.EditApp(r.PathValue("app"), func(a *presence.App) error {
		a.Disabled, a.Held = disabled, disabled && a.Owner != "" // its owner cannot switch it on again
		return nil
	})
	return adminAppURL, err
}

// adminUsersPage is the data of pages/admin_users.html.
type adminUsersPage struct {
	Q, Next string
	Users   []adminLine
}

type adminLine struct {
	Email, Path string
	Created     time.Time
	Disabled    bool
	Connected   int
}

func (s *Site) adminUsers(r *http.Request) (any, error) {
	q := strings.ToLower(strings.TrimSpace(r.URL.Query().Get("q")))
	if len(q) > maxSearch {
		return nil, bad("That is too long to search for.")
	}
	users, next, err := s.cfg.Store.FindUsers(q, r.URL.Query().Get("after"), usersShown)
	if err != nil {
		return nil, storageError(err)
	}
	p := adminUsersPage{Q: q}
	for _, u := range users {
		line := adminLine{Email: u.Email, Path: adminUserPath(u.Email), Created: u.Created, Disabled: u.Disabled}
		devices, err := s.cfg.Hub.Devices(u.Email)
		if err != nil {
			return nil, err
		}
		for _, d := range devices {
			if d.State == "connected" {
				line.Connected++
			}
		}
		p.Users = append(p.Users, line)
	}
	if next != "" {
		p.Next = adminPath + "/users?" + url.Values{"q": {q}, "after": {next}}.Encode()
	}
	return p, nil
}

func adminUserPath(email string) string { return adminUser + url.PathEscape(email) }

// adminUserPage is the data of pages/admin_user.html.
type adminUserPage struct {
	presence.User
	Path    string
	Devices []presence.DeviceInfo
	Self    bool // she is the one who looks
}

// adminTarget is the user that the path names.
func (s *Site) adminTarget(r *http.Request) (presence.User, error) {
	email, err := presence.NormalEmail(r.PathValue("email"))
	if err != nil {
		return presence.User{}, presence.ErrNoUser
	}
	return s.desk().User(email)
}

func (s *Site) adminUser(r *http.Request) (any, error) {
	u, err := s.adminTarget(r)
	if err != nil {
		return nil, err
	}
	devices, err := s.cfg.Hub.Devices(u.Email)
	if err != nil {
		return nil, err
	}
	me, err := s.user(r)
	return adminUserPage{User: u, Path: adminUserPath(u.Email), Devices: devices, Self: me == u.Email}, err
}

var (
	errSelf      = &Error{Status: http.StatusConflict, Text: "That would shut you out. Another administrator can do it, or the command line."}
	errTypeEmail = &Error{Status: http.StatusUnprocessableEntity, Errno: errno.BadValue, Field: "email",
		Text: "Nothing was removed: the e-mail address you typed is not this user's. Please go back and try again."}
)

func (s *Site) adminChangeUser(r *http.Request, admin string) (string, error) {
	u, err := s.adminTarget(r)
	if err != nil {
		return "", err
	}
	back := adminUserPath(u.Email)
	switch verb := r.PathValue("verb"); {
	case verb == "disconnect":
		_, err := s.desk().Disconnect(u.Email, r.PostForm.Get("device"), presence.ByAdmin)
		return back, err
	case verb == "enable":
		return back, s.cfg.Hub.SetDisabled(u.Email, false, presence.ByAdmin)
	case !slices.Contains([]string{"disable", "remove"}, verb):
		return "", errNotFound
	case u.Email == admin:
		return "", errSelf
	case verb == "disable":
		return back, s.cfg.Hub.SetDisabled(u.Email, true, presence.ByAdmin)
	}
	if typed, err := presence.NormalEmail(strings.TrimSpace(r.PostForm.Get("email"))); err != nil || typed != u.Email {
		return "", errTypeEmail
	}
	err = s.desk().Remove(u.Email, presence.ByAdmin)
	if errors.Is(err, presence.ErrNoUser) {
		err = nil
	}
	return adminPath + "/users", err
}
