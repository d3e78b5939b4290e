package main

import (
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"presenced/identity"
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
	if a.Redirects == nil {
		a.Redirects = []string{}
	}
	return a
}

func (a *admin) listApps(*http.Request) (any, error) {
	list := []presence.App{}
	for _, app := range a.hub.Apps() {
		list = append(list, maskedApp(app))
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
	app := presence.App{
		ID: a.freeAppID(n.Name), Name: n.Name, Component: strings.ToLower(n.Component),
		Secret: identity.NewSecret(), APIKey: identity.NewSecret(),
		URL: n.URL, Description: n.Description, Redirects: n.Redirects, Conflict: n.Conflict, Created: a.now().UTC(),
	}
	if app.Conflict == "" {
		app.Conflict = presence.Replace
	}
	if err := a.checkApp(&app); err != nil {
		return nil, err
	}
	if err := a.putApp(app); err != nil {
		return nil, err
	}
	return credentialsOf(app), nil
}

// checkApp says what is wrong with an app beyond what the core checks.
func (a *admin) checkApp(app *presence.App) error {
	if err := app.Check(); err != nil {
		return badRequest("%s", plainText(err))
	}
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
	err := a.hub.PutApp(app)
	if errors.Is(err, presence.ErrExists) {
		return &apiError{Status: http.StatusConflict, Text: "another app has the component " + app.Component}
	}
	return err
}

// freeAppID makes an appid of the app's name, with a random end if it is taken.
func (a *admin) freeAppID(name string) string {
	base := slug(name)
	id := base
	for {
		if _, taken := a.hub.App(id); !taken {
			return id
		}
		id = base + "-" + strings.ToLower(rand.Text()[:4])
	}
}

const maxSlug = 48

// slug is the name in the letters of an appid: lower case, anything else becomes one hyphen.
func slug(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case b.Len() >= maxSlug:
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	if s := strings.Trim(b.String(), "-"); s != "" {
		return s
	}
	return "app"
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
	st, err := a.hub.AppStats(app.ID)
	return shownApp{maskedApp(app), st}, err
}

// shownApp is an app and how it does.
type shownApp struct {
	presence.App
	Stats presence.AppStats `json:"stats"`
}

func (a *admin) enableApp(r *http.Request) (any, error)  { return a.switchApp(r, false) }
func (a *admin) disableApp(r *http.Request) (any, error) { return a.switchApp(r, true) }

func (a *admin) switchApp(r *http.Request, disabled bool) (any, error) {
	app, err := a.pathApp(r)
	if err != nil {
		return nil, err
	}
	if app.Disabled != disabled {
		app.Disabled = disabled
		if err := a.putApp(app); err != nil {
			return nil, err
		}
	}
	return map[string]any{"appid": app.ID, "disabled": disabled}, nil
}

func (a *admin) rotateApp(r *http.Request) (any, error) {
	app, err := a.pathApp(r)
	if err != nil {
		return nil, err
	}
	app.Secret, app.APIKey = identity.NewSecret(), identity.NewSecret()
	if err := a.putApp(app); err != nil {
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
