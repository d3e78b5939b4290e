package web

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"presenced/presence"
	"presenced/presence/errno"
	"presenced/web/account"
)

// dashboardActs are the forms of the dashboard. Each does one thing, and leads back.
func (s *Site) dashboardActs(mux *http.ServeMux) {
	for path, f := range map[string]func(r *http.Request, email string) error{
		"invisible": s.setInvisible,

		"requests/{app}": s.answerRequest,

		"apps/{app}/pause":  s.pauseApp,
		"apps/{app}/resume": s.resumeApp,
		"apps/{app}/revoke": s.revokeApp,

		"devices/{device}/rename":  s.renameDevice,
		"devices/{device}/signout": s.signOutDevice,
		"devices/{device}/remove":  s.removeDevice,

		"tokens/{hash}/revoke": s.revokeToken,
	} {
		mux.HandleFunc("POST /dashboard/"+path, s.act(func(r *http.Request, email string) (string, error) {
			return back(r), f(r, email)
		}))
	}
	mux.HandleFunc("POST /dashboard/erase", s.act(s.erase))
}

// back is where a form of the dashboard leads: to the page that it is on.
func back(r *http.Request) string {
	if r.PostForm.Get("next") == sidebarPath {
		return sidebarPath
	}
	return dashboardPath
}

// tomorrow is when people mean by "until tomorrow": in the morning.
func tomorrow(now time.Time, zone *time.Location) time.Time {
	local := now.In(zone)
	return time.Date(local.Year(), local.Month(), local.Day()+1, 8, 0, 0, 0, zone)
}

// untilOf reads how long something is to be: the form's "for". Zero: until she says otherwise.
func (s *Site) untilOf(r *http.Request, email string) (time.Time, error) {
	now := s.cfg.Now()
	switch r.PostForm.Get("for") {
	case "hour":
		return now.Add(time.Hour), nil
	case "tomorrow":
		b, err := s.newBoard(r, email)
		if err != nil {
			return time.Time{}, err
		}
		return tomorrow(now, b.zone), nil
	case "always":
		return time.Time{}, nil
	}
	return time.Time{}, bad("Please say for how long: for an hour, until tomorrow, or until you change your mind.")
}

// setInvisible hides her from all apps, or with "for" left at "off" shows her again.
func (s *Site) setInvisible(r *http.Request, email string) error {
	on := r.PostForm.Get("for") != "off"
	var until time.Time
	if on {
		var err error
		if until, err = s.untilOf(r, email); err != nil {
			return err
		}
	}
	err := s.cfg.Hub.SetInvisible(email, on, until, presence.ByUser)
	if !errors.Is(err, presence.ErrNoUser) {
		return err
	}
	// She has no device and allowed nothing yet; what she says now holds all the same.
	if err := s.cfg.Store.PutUser(presence.User{Email: email, Created: s.cfg.Now().UTC()}); err != nil {
		return storageError(err)
	}
	return s.cfg.Hub.SetInvisible(email, on, until, presence.ByUser)
}

func (s *Site) answerRequest(r *http.Request, email string) error {
	answer := r.PostForm.Get("answer")
	if answer != "allow" && answer != "deny" {
		return bad("Either allow or deny is needed.")
	}
	rs, err := s.cfg.Hub.RequestsOf(email)
	if err != nil {
		return err
	}
	for _, asked := range rs { // an old form must not change or end what she has allowed meanwhile
		if asked.App == r.PathValue("app") {
			return s.cfg.Hub.Answer(presence.Answer{Email: email, App: asked.App, Allow: answer == "allow"}, presence.ByUser)
		}
	}
	return presence.ErrStranger
}

func (s *Site) pauseApp(r *http.Request, email string) error {
	until, err := s.untilOf(r, email)
	if err != nil {
		return err
	}
	return s.cfg.Hub.Pause(email, r.PathValue("app"), until, presence.ByUser)
}

func (s *Site) resumeApp(r *http.Request, email string) error {
	return s.cfg.Hub.SetPaused(email, r.PathValue("app"), false, presence.ByUser)
}

func (s *Site) revokeApp(r *http.Request, email string) error {
	return s.cfg.Hub.Revoke(email, r.PathValue("app"), presence.ByUser)
}

// deviceOf is the device that the path names, which must be hers.
func (s *Site) deviceOf(r *http.Request, email string) (string, error) {
	device := r.PathValue("device")
	if presence.CheckDevice(device) != nil {
		return "", errNoDevice
	}
	devices, err := s.cfg.Hub.Devices(email)
	if err != nil {
		return "", err
	}
	for _, d := range devices {
		if d.Device == device {
			return device, nil
		}
	}
	tokens, err := s.cfg.Store.TokensOf(email)
	for _, t := range tokens {
		if t.Device == device {
			return device, nil
		}
	}
	if err != nil {
		return "", storageError(err)
	}
	return "", errNoDevice
}

var errNoDevice = &Error{Status: http.StatusNotFound, Errno: errno.NoApp, Text: "You have no such device."}

func (s *Site) renameDevice(r *http.Request, email string) error {
	device, err := s.deviceOf(r, email)
	if err != nil {
		return err
	}
	return s.cfg.Store.RenameDevice(email, device, strings.TrimSpace(plain(r.PostForm.Get("name"))))
}

// signOutDevice takes a device's tokens back and ends its connection.
func (s *Site) signOutDevice(r *http.Request, email string) error {
	device, err := s.deviceOf(r, email)
	if err != nil {
		return err
	}
	return s.endDevice(email, device)
}

func (s *Site) endDevice(email, device string) error {
	_, err := s.desk().SignOut(email, device)
	return storageError(err)
}

func (s *Site) removeDevice(r *http.Request, email string) error {
	device, err := s.deviceOf(r, email)
	if err == nil {
		err = s.endDevice(email, device)
	}
	if err != nil {
		return err
	}
	return storageError(s.cfg.Store.RemoveDevice(email, device))
}

// revokeToken takes back one of her tokens; one of somebody else's is not found.
func (s *Site) revokeToken(r *http.Request, email string) error {
	hash, ok := tokenHash(r.PathValue("hash"))
	if ok {
		var err error
		if ok, err = s.desk().EndToken(email, hash); err != nil {
			return storageError(err)
		}
	}
	if !ok {
		return errNotFound
	}
	return nil
}

// tokenHash reads the name of a token.
func tokenHash(name string) (hash [32]byte, ok bool) {
	b, err := hex.DecodeString(name)
	if err != nil || len(b) != len(hash) {
		return hash, false
	}
	return [32]byte(b), true
}

var errNotConfirmed = &Error{Status: http.StatusUnprocessableEntity, Errno: errno.BadValue,
	Text: "Nothing was erased: the e-mail address you typed is not yours. Please go back and try again."}

// erase forgets her, if she typed her e-mail: sessions and tokens first, so that who is ended does not come back.
func (s *Site) erase(r *http.Request, email string) (string, error) {
	typed, err := presence.NormalEmail(strings.TrimSpace(r.PostForm.Get("email")))
	if err != nil || typed != email {
		return "", errNotConfirmed
	}
	if err := s.desk().Remove(email, presence.ByUser); err != nil && !errors.Is(err, presence.ErrNoUser) {
		return "", storageError(err)
	}
	return "/", s.sessions.Destroy(r.Context())
}

// export is everything that is kept of a user, for herself.
type export struct {
	presence.User
	Devices       []presence.DeviceInfo `json:"devices"`
	Grants        []presence.Grant      `json:"grants"`
	Requests      []presence.Request    `json:"requests"`
	DeviceGroups  []presence.Membership `json:"device_groups"`
	Tokens        []presence.Token      `json:"tokens"`
	Push          []account.Wakeable    `json:"push"`
	Notifications []waiting             `json:"notifications"`
	Audit         []presence.AuditEntry `json:"audit"`
	Activity      []presence.Event      `json:"activity"`
}

// waiting is a notification that no device has yet.
type waiting struct {
	ID      string          `json:"id"`
	App     string          `json:"appid"`
	Device  string          `json:"device,omitempty"`
	Source  string          `json:"source,omitempty"`
	Message string          `json:"message,omitempty"`
	Action  string          `json:"action,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	Time    time.Time       `json:"time"`
	Expires time.Time       `json:"expires"`
}

const (
	exportLines = 100_000 // of audit: all that is kept
	exportPage  = 256     // notifications read at once
)

func (s *Site) getExport(w http.ResponseWriter, r *http.Request, email string) {
	x, err := s.export(email)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Disposition", `attachment; filename="presenced-export.json"`)
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(x) // who has gone needs no answer
}

func (s *Site) export(email string) (*export, error) {
	st := s.cfg.Store
	x := &export{Notifications: []waiting{}}
	var errs [9]error
	x.User, _, errs[0] = st.User(email)
	x.Grants, errs[1] = st.GrantsOf(email)
	x.Tokens, errs[2] = st.TokensOf(email)
	x.Audit, errs[3] = st.AuditOf(email, exportLines)
	x.Activity, errs[4] = st.ActivityOf(email, time.Time{}, exportLines)
	x.Requests, errs[5] = s.cfg.Hub.RequestsOf(email)
	x.Devices, errs[6] = s.cfg.Hub.Devices(email)
	x.Push, errs[7] = s.desk().Wakeable(email)
	x.DeviceGroups, errs[8] = s.cfg.Hub.MembershipsOf(email)
	x.Email = email
	if err := errors.Join(errs[:]...); err != nil {
		return nil, storageError(err)
	}
	for after := uint64(0); ; {
		page, err := st.Pending(email, "", after, exportPage)
		if err != nil {
			return nil, storageError(err)
		}
		if len(page) == 0 {
			return x, nil
		}
		for _, n := range page {
			after = n.Seq
			x.Notifications = append(x.Notifications, waiting{n.ID(), n.App, n.Device, n.Source, n.Message, n.Action, n.Data, n.Time.UTC(), n.Expires.UTC()})
		}
	}
}
