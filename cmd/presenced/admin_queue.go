package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"presenced/presence"
)

const pendingPage = 100 // notifications that are read at once

// queueView counts what waits for one user from one app.
type queueView struct {
	Email   string `json:"email"`
	App     string `json:"appid"`
	Waiting int    `json:"waiting"`
}

// notificationView is a notification that waits.
type notificationView struct {
	ID       string          `json:"id"`
	Email    string          `json:"email"`
	App      string          `json:"appid"`
	Device   string          `json:"device,omitempty"`
	Source   string          `json:"source,omitempty"`
	Message  string          `json:"message,omitempty"`
	Action   string          `json:"action,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
	Priority string          `json:"priority,omitempty"`
	Collapse string          `json:"collapse_key,omitempty"`
	Time     time.Time       `json:"time"`
	Expires  time.Time       `json:"expires"`
}

func notificationViewOf(n *presence.Notification) notificationView {
	v := notificationView{
		ID: n.ID(), Email: n.Email, App: n.App, Device: n.Device, Source: n.Source, Message: n.Message,
		Action: n.Action, Data: n.Data, Collapse: n.Collapse, Time: n.Time.UTC(), Expires: n.Expires.UTC(),
	}
	if n.High {
		v.Priority = "high"
	}
	return v
}

// listQueues counts for everybody for whom something waits.
func (a *admin) listQueues(w http.ResponseWriter, _ *http.Request) {
	stream(w, func(emit func(any) error) error {
		return a.store.EachUser(func(u presence.User) error {
			list, err := a.queuesOf(u.Email, "")
			if err != nil {
				return err
			}
			for _, q := range list {
				if err := emit(q); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (a *admin) listQueue(r *http.Request) (any, error) {
	email, err := pathEmail(r)
	if err != nil {
		return nil, err
	}
	return a.queuesOf(email, r.URL.Query().Get("app"))
}

func (a *admin) queuesOf(email, app string) ([]queueView, error) {
	waiting, err := a.store.Waiting(email)
	list := []queueView{}
	for id, n := range waiting {
		if n > 0 && (app == "" || id == app) {
			list = append(list, queueView{Email: email, App: id, Waiting: n})
		}
	}
	slices.SortFunc(list, func(x, y queueView) int { return strings.Compare(x.App, y.App) })
	return list, err
}

func (a *admin) showQueue(w http.ResponseWriter, r *http.Request) {
	stream(w, func(emit func(any) error) error {
		email, err := pathEmail(r)
		if err != nil {
			return err
		}
		return a.eachPending(email, r.URL.Query().Get("app"), func(n *presence.Notification) error {
			return emit(notificationViewOf(n))
		})
	})
}

// eachPending calls f with what waits for the user from app ("": any), oldest first.
func (a *admin) eachPending(email, app string, f func(*presence.Notification) error) error {
	var after uint64
	for {
		page, err := a.store.Pending(email, "", after, pendingPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			after = page[i].Seq
			if app != "" && page[i].App != app {
				continue
			}
			if err := f(&page[i]); err != nil {
				return err
			}
		}
	}
}

func (a *admin) purgeQueue(r *http.Request) (any, error) {
	email, err := pathEmail(r)
	if err != nil {
		return nil, err
	}
	app := r.URL.Query().Get("app")
	purged, err := a.purge(email, app)
	if err != nil {
		return nil, err
	}
	return map[string]any{"email": email, "appid": app, "purged": purged}, nil
}

// purge drops what waits for the user from app ("": from any), and tells about how many that were.
func (a *admin) purge(email, app string) (int, error) {
	list, err := a.queuesOf(email, app)
	if err != nil {
		return 0, err
	}
	purged := 0
	for _, q := range list {
		purged += q.Waiting
	}
	return purged, a.store.Purge(email, app).Wait()
}

func (a *admin) listDevices(r *http.Request) (any, error) {
	email := r.URL.Query().Get("email")
	if email != "" {
		var err error
		if email, err = keyEmail(email); err != nil {
			return nil, err
		}
	}
	devices, err := a.hub.Devices(email)
	list := make([]deviceEntry, len(devices))
	for i, d := range devices {
		list[i].DeviceInfo = d
		if email != "" && err == nil {
			list[i].Addresses, err = a.hub.Addresses(email, d.Device)
		}
	}
	return list, err
}

// deviceEntry is a device with its registration tokens, by appid, in the list of one user.
type deviceEntry struct {
	presence.DeviceInfo
	Addresses map[string]string `json:"addresses,omitempty"`
}

func (a *admin) kick(r *http.Request) (any, error) {
	email, err := keyEmail(r.URL.Query().Get("email"))
	if err != nil {
		return nil, err
	}
	device, err := queryDevice(r)
	if err != nil {
		return nil, err
	}
	n, err := a.desk().Disconnect(email, device, presence.ByAdmin)
	if err != nil {
		return nil, err
	}
	if n == 0 && device == "" {
		return nil, notFound("no device of %s is connected", email)
	}
	if n == 0 {
		return nil, notFound("the device %s of %s is not connected", device, email)
	}
	return map[string]any{"email": email, "device": device, "kicked": n}, nil
}

// newNotification is the body of POST /notify.
type newNotification struct {
	App     string `json:"appid"`
	Email   string `json:"email"`
	Device  string `json:"device"`
	Source  string `json:"source"`
	Message string `json:"message"`
	Action  string `json:"action"`
	TTL     *int64 `json:"ttl"` // seconds; null: the default
}

// accepted is the answer to POST /notify.
type accepted struct {
	App      string `json:"appid"`
	Email    string `json:"email"`
	Device   string `json:"device,omitempty"`
	Accepted bool   `json:"accepted"`
	Devices  int    `json:"devices"` // connected now, among those it is for
}

const maxTTLSeconds = 1 << 32 // what still fits a time.Duration; the core knows the real limit

func (a *admin) notify(r *http.Request) (any, error) {
	var n newNotification
	if err := readJSON(r, &n); err != nil {
		return nil, err
	}
	email, err := keyEmail(n.Email)
	if err != nil {
		return nil, err
	}
	app, err := a.appByID(n.App)
	if err != nil {
		return nil, err
	}
	m := presence.Message{Source: n.Source, Message: n.Message, Action: n.Action, TTL: -1}
	if m.Source == "" {
		m.Source = app.Name
	}
	if n.TTL != nil {
		if *n.TTL < 0 || *n.TTL > maxTTLSeconds {
			return nil, presence.ErrTTL
		}
		m.TTL = time.Duration(*n.TTL) * time.Second
	}
	if err := a.deliver(app.ID, email, n.Device, m); err != nil {
		return nil, err
	}
	devices, err := a.connected(email, n.Device)
	return accepted{App: app.ID, Email: email, Device: n.Device, Accepted: true, Devices: devices}, err
}

func (a *admin) deliver(app, email, device string, m presence.Message) error {
	d, err := a.hub.NotifyUser(app, email, device, m)
	if err != nil {
		if errors.Is(err, presence.ErrNotAllowed) {
			return &apiError{Status: http.StatusForbidden, Text: email + " does not want notifications of " + app}
		}
		return noGrant(err, email, app)
	}
	return d.Wait()
}

// connected counts the user's connected devices, or tells whether the one named is.
func (a *admin) connected(email, device string) (int, error) {
	list, err := a.hub.Devices(email)
	n := 0
	for _, d := range list {
		if d.State == "connected" && (device == "" || d.Device == device) {
			n++
		}
	}
	return n, err
}
