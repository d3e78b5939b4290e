package main

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"presenced/presence"
)

// credentials is the answer to adding an app and to rotating: the only two that show secrets.
type credentials struct {
	AppID     string `json:"appid"`
	Name      string `json:"name"`
	Component string `json:"component"`
	Secret    string `json:"secret"`
	APIKey    string `json:"api_key"`
}

func credentialsOf(a presence.App) credentials {
	return credentials{AppID: a.ID, Name: a.Name, Component: a.Component, Secret: a.Secret, APIKey: a.APIKey}
}

// maskedApp is the app as lists show it.
func maskedApp(a presence.App) presence.App {
	a.Secret, a.APIKey = mask, mask
	if a.OldSecret != "" || a.OldAPIKey != "" {
		a.OldSecret, a.OldAPIKey = mask, mask
	}
	if a.Redirects == nil {
		a.Redirects = []string{}
	}
	return a
}

func (a *admin) listApps(*http.Request) (any, error) {
	list := []shownApp{}
	for _, app := range a.hub.Apps() {
		shown, err := a.shownApp(app)
		if errors.Is(err, presence.ErrNoApp) { // removed meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, shown)
	}
	return list, nil
}

// newApp is the body of POST /apps.
type newApp struct {
	Name        string            `json:"name"`
	Component   string            `json:"component"`
	URL         string            `json:"url"`
	Description string            `json:"description"`
	Redirects   []string          `json:"redirects"`
	Conflict    presence.Conflict `json:"conflict"`
}

func (a *admin) addApp(r *http.Request) (any, error) {
	var n newApp
	if err := readJSON(r, &n); err != nil {
		return nil, err
	}
	app := presence.App{Name: n.Name, Component: strings.ToLower(n.Component),
		URL: n.URL, Description: n.Description, Redirects: n.Redirects, Conflict: n.Conflict}
	if err := a.checkURLs(&app); err != nil {
		return nil, err
	}
	added, err := a.hub.AddApp(app)
	if err != nil {
		return nil, appProblem(err, app.Component)
	}
	return credentialsOf(added), nil
}

// checkApp says what is wrong with an app.
func (a *admin) checkApp(app *presence.App) error {
	if err := app.Check(); err != nil {
		return badRequest("%s", plainText(err))
	}
	return a.checkURLs(app)
}

// checkURLs says what is wrong with an app beyond what the core checks.
func (a *admin) checkURLs(app *presence.App) error {
	if app.Component == a.domain {
		return badRequest("component %s is the gateway's own domain; give the app another one", app.Component)
	}
	if app.URL != "" && !isWebURL(app.URL) {
		return badRequest("url %q is not an http or https URL", app.URL)
	}
	for _, u := range app.Redirects {
		if !isWebURL(u) {
			return badRequest("redirect %q is not an http or https URL", u)
		}
	}
	return nil
}

func isWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && len(s) <= 2048
}

func (a *admin) putApp(app presence.App) error {
	return appProblem(a.hub.PutApp(app), app.Component)
}

// appProblem says in words what the core says of an app.
func appProblem(err error, component string) error {
	switch {
	case errors.Is(err, presence.ErrExists):
		return &apiError{Status: http.StatusConflict, Text: "another app has the component " + component}
	case errors.Is(err, presence.ErrBadValue):
		return badRequest("%s", strings.TrimPrefix(plainText(err), "bad value: "))
	}
	return err
}

// pathApp is the app that the path names.
func (a *admin) pathApp(r *http.Request) (presence.App, error) { return a.appByID(r.PathValue("app")) }

func (a *admin) appByID(id string) (presence.App, error) {
	app, ok := a.hub.App(id)
	if !ok {
		return app, &apiError{Status: http.StatusNotFound, Text: "no app " + quoteShort(id),
			Hint: `"presenced app list" shows the appids`}
	}
	return app, nil
}

func (a *admin) showApp(r *http.Request) (any, error) {
	app, err := a.pathApp(r)
	if err != nil {
		return nil, err
	}
	return a.shownApp(app)
}

func (a *admin) shownApp(app presence.App) (shownApp, error) {
	stats, err1 := a.hub.AppStats(app.ID)
	groups, err2 := a.store.CountDeviceGroups(app.ID)
	return shownApp{maskedApp(app), stats, groups}, errors.Join(err1, err2)
}

// shownApp is an app with how it does.
type shownApp struct {
	presence.App
	presence.AppStats
	DeviceGroups int `json:"device_groups"`
}

func (a *admin) enableApp(r *http.Request) (any, error)  { return a.switchApp(r, false) }
func (a *admin) disableApp(r *http.Request) (any, error) { return a.switchApp(r, true) }

func (a *admin) switchApp(r *http.Request, disabled bool) (any, error) {
	app, err := a.pathApp(r)
	if err != nil {
		return nil, err
	}
	if app.Disabled != disabled {
		app.Disabled, app.Held = disabled, disabled && app.Owner != ""
		if err := a.putApp(app); err != nil {
			return nil, err
		}
	}
	return map[string]any{"appid": app.ID, "disabled": disabled}, nil
}

// rotation is the body of POST /apps/APPID/rotate; it may be left out.
type rotation struct {
	Overlap Duration `json:"overlap"` // how long the old secrets stay good
}

func (a *admin) rotateApp(r *http.Request) (any, error) {
	app, err := a.pathApp(r)
	if err != nil {
		return nil, err
	}
	var how rotation
	if r.ContentLength != 0 {
		if err := readJSON(r, &how); err != nil {
			return nil, err
		}
	}
	if how.Overlap.Duration < 0 || how.Overlap.Duration > presence.MaxOverlap {
		return nil, badRequest("overlap must be 0s to %s", presence.MaxOverlap)
	}
	app, err = a.hub.EditApp(app.ID, func(app *presence.App) error {
		app.Rotate(a.now(), how.Overlap.Duration)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return credentialsOf(app), nil
}

func (a *admin) removeApp(r *http.Request) (any, error) {
	app, err := a.pathApp(r)
	if err != nil {
		return nil, err
	}
	if err := a.hub.RemoveApp(app.ID, presence.ByAdmin); err != nil {
		return nil, err
	}
	return map[string]any{"appid": app.ID, "removed": true}, nil
}
