package web

import (
	"net/http"
	"time"

	"presenced/presence"
)

const (
	getAppsPath = "/getApps"
	revokePath  = "/revoke/"
)

// Grants is what the pages read of consents. Every change goes through the hub.
type Grants interface {
	Grant(email, app string) (presence.Grant, bool, error)
	GrantsOf(email string) ([]presence.Grant, error)
}

func (s *Site) consentRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET "+getAppsPath, s.signedIn(s.getApps))
	mux.HandleFunc("POST "+revokePath+"{app}", s.signedIn(s.postRevoke))
}

// grantedApp is an app of /getApps. UID is the app's id; PUID is the user's name there.
type grantedApp struct {
	Name    string            `json:"name"`
	UID     string            `json:"uid"`
	PUID    string            `json:"puid"`
	Shown   bool              `json:"shown"` // whether it may see her now
	Windows []presence.Window `json:"windows"`
	TZ      string            `json:"tz,omitempty"`
	Until   *time.Time        `json:"until"`
	Notify  bool              `json:"notify"`
	Idle    bool              `json:"idle"`
	Status  bool              `json:"status"`
	Devices bool              `json:"devices"`
	Paused  bool              `json:"paused"`
}

func (s *Site) getApps(w http.ResponseWriter, r *http.Request, email string) {
	gs, err := s.cfg.Store.GrantsOf(email)
	if err != nil {
		s.fail(w, r, storageError(err))
		return
	}
	now := s.cfg.Now()
	list := struct {
		Apps []grantedApp `json:"apps"`
	}{Apps: []grantedApp{}}
	for _, g := range gs {
		app, ok := s.cfg.Hub.App(g.App)
		if !ok || g.Ended(now) {
			continue
		}
		if g.Windows == nil {
			g.Windows = []presence.Window{}
		}
		list.Apps = append(list.Apps, grantedApp{app.Name, g.App, g.PUID, g.Shown(now), g.Windows, g.TZ, g.Until, g.Notify, g.Idle,
			!g.NoStatus, !g.NoDevices, g.Paused})
	}
	s.reply(w, list)
}

// postRevoke ends a grant. A form of a page names where to go next; everybody else gets JSON.
func (s *Site) postRevoke(w http.ResponseWriter, r *http.Request, email string) {
	if err := readForm(r); err != nil {
		s.fail(w, r, err)
		return
	}
	if err := s.cfg.Hub.Revoke(email, r.PathValue("app"), presence.ByUser); err != nil {
		s.fail(w, r, err)
		return
	}
	if next := r.PostForm.Get("next"); next != "" {
		s.see(w, r, next)
		return
	}
	s.reply(w, result{"OK"})
}
