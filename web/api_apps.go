package web

import (
	"strings"
	"time"

	"presenced/presence"
)

// apiApp is an app as its owner sees it.
type apiApp struct {
	ID          string            `json:"appid"`
	Name        string            `json:"name"`
	Component   string            `json:"component"`
	Site        string            `json:"site"`
	Description string            `json:"description"`
	URL         string            `json:"url"`
	Redirects   []string          `json:"redirects"`
	Conflict    presence.Conflict `json:"conflict"`
	Disabled    bool              `json:"disabled"`
	Held        bool              `json:"held"`
	Verified    time.Time         `json:"verified,omitzero"`
	OldUntil    time.Time         `json:"old_secret_until,omitzero"`
	Created     time.Time         `json:"created"`
}

func apiAppOf(a presence.App) apiApp {
	return apiApp{ID: a.ID, Name: a.Name, Component: a.Component, Site: a.Site, Description: a.Description, URL: a.URL,
		Redirects: append([]string{}, a.Redirects...), Conflict: a.Conflict, Disabled: a.Disabled, Held: a.Held, Verified: a.Verified,
		OldUntil: a.OldSecretUntil, Created: a.Created}
}

// apiSecrets shows an app's secrets: when it is made, and when they are rotated.
type apiSecrets struct {
	apiApp
	Secret string `json:"secret"`
	APIKey string `json:"api_key"`
	Proof  string `json:"proof,omitempty"` // what is to be shown at the site
}

func apiSecretsOf(a presence.App) apiSecrets {
	v := apiSecrets{apiApp: apiAppOf(a), Secret: a.Secret, APIKey: a.APIKey}
	if a.Verified.IsZero() {
		v.Proof = a.Proof
	}
	return v
}

func (c *call) listApps() (any, error) {
	all := []apiApp{}
	for _, a := range c.site.appsOf(c.email) {
		all = append(all, apiAppOf(a))
	}
	return pageFrom(all, func(a *apiApp) string { return a.ID }, c.r, c.header)
}

// own is the caller's app that the path names. What an administrator may do to others' apps is no business of the API.
func (c *call) own() (presence.App, error) {
	a, err := c.site.ownApp(c.r.PathValue("appid"), c.email)
	if err == nil && a.Owner != c.email {
		err = presence.ErrNoApp
	}
	return a, err
}

func (c *call) getApp() (any, error) {
	a, err := c.own()
	return apiAppOf(a), err
}

func (c *call) makeApp() (any, error) {
	var b struct {
		Name        string   `json:"name"`
		Site        string   `json:"site"`
		Component   string   `json:"component"`
		Description string   `json:"description"`
		URL         string   `json:"url"`
		Redirects   []string `json:"redirects"`
		Conflict    string   `json:"conflict"`
	}
	if err := decode(c.r, &b); err != nil {
		return nil, err
	}
	switch {
	case b.Name == "":
		return nil, missingField("name")
	case b.Site == "":
		return nil, missingField("site")
	}
	form := appForm{Name: b.Name, Site: strings.ToLower(b.Site), Component: strings.ToLower(b.Component), Description: b.Description,
		URL: b.URL, Redirects: strings.Join(b.Redirects, "\n"), Conflict: first(b.Conflict, string(presence.Replace))}
	a, err := c.site.register(c.email, &form)
	if err != nil {
		return nil, err
	}
	c.header.Set("Location", apiRoot+"/apps/"+a.ID)
	return apiSecretsOf(a), nil
}

// appChange is the body of PATCH /apps/{appid}.
type appChange struct {
	Name        maybe[string]   `json:"name"`
	Description maybe[string]   `json:"description"`
	URL         maybe[string]   `json:"url"`
	Redirects   maybe[[]string] `json:"redirects"`
	Conflict    maybe[string]   `json:"conflict"`
	Disabled    maybe[bool]     `json:"disabled"`
}

func (b *appChange) check() error {
	for _, f := range []struct {
		name string
		null bool
	}{
		{"name", b.Name.Null}, {"description", b.Description.Null}, {"url", b.URL.Null},
		{"redirects", b.Redirects.Null}, {"conflict", b.Conflict.Null}, {"disabled", b.Disabled.Null},
	} {
		if f.null {
			return badField(f.name, "is null")
		}
	}
	return nil
}

// texts are the app's, as a form has them, with what the change names laid over.
func (b *appChange) texts(a *presence.App) appForm {
	if b.Redirects.Set {
		a.Redirects = b.Redirects.V
	}
	f := appForm{Name: a.Name, Site: a.Site, Component: a.Component, Description: a.Description, URL: a.URL,
		Redirects: strings.Join(a.Redirects, "\n"), Conflict: string(a.Conflict)}
	for _, m := range []struct {
		to   *string
		from maybe[string]
	}{{&f.Name, b.Name}, {&f.Description, b.Description}, {&f.URL, b.URL}, {&f.Conflict, b.Conflict}} {
		if m.from.Set {
			*m.to = m.from.V
		}
	}
	return f
}

func (c *call) changeApp() (any, error) {
	var b appChange
	if err := decode(c.r, &b); err != nil {
		return nil, err
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	if _, err := c.own(); err != nil {
		return nil, err
	}
	a, err := c.site.editApp(c.r.PathValue("appid"), c.email, func(a *presence.App) error {
		form := b.texts(a)
		if err := form.into(c.site, a); err != nil {
			return bad(err.Error())
		}
		if b.Disabled.Set {
			return c.site.setActive(a, !b.Disabled.V, c.email)
		}
		return nil
	})
	return apiAppOf(a), err
}

func (c *call) rotateApp() (any, error) {
	var b struct {
		Overlap int64 `json:"overlap"`
	}
	if c.r.ContentLength != 0 {
		if err := decode(c.r, &b); err != nil {
			return nil, err
		}
	}
	if b.Overlap < 0 || b.Overlap > int64(presence.MaxOverlap/time.Second) {
		return nil, badField("overlap", "is out of range")
	}
	if _, err := c.own(); err != nil {
		return nil, err
	}
	a, err := c.site.editApp(c.r.PathValue("appid"), c.email, func(a *presence.App) error {
		a.Rotate(c.now(), time.Duration(b.Overlap)*time.Second)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return apiSecretsOf(a), nil
}
