package web

import (
	"errors"
	"net/http"
	"time"

	"presenced/presence"
	"presenced/web/account"
)

// ownApp is an app as its owner sees it.
type ownApp struct {
	ID          string            `json:"appid"`
	Name        string            `json:"name"`
	Component   string            `json:"component"`
	Site        string            `json:"site"`
	Description string            `json:"description"`
	URL         string            `json:"url"`
	Redirects   []string          `json:"redirects"`
	Conflict    presence.Conflict `json:"conflict"`
	Disabled    bool              `json:"disabled"`
	Verified    time.Time         `json:"verified,omitzero"`
	OldUntil    time.Time         `json:"old_secret_until,omitzero"`
	Created     time.Time         `json:"created"`
}

func ownAppOf(a presence.App) ownApp {
	return ownApp{ID: a.ID, Name: a.Name, Component: a.Component, Site: a.Site, Description: a.Description, URL: a.URL,
		Redirects: append([]string{}, a.Redirects...), Conflict: a.Conflict, Disabled: a.Disabled, Verified: a.Verified,
		OldUntil: a.OldSecretUntil, Created: a.Created}
}

// madeApp shows an app's secrets: when it is made, and when they are rotated.
type madeApp struct {
	ownApp
	Secret string `json:"secret"`
	APIKey string `json:"api_key"`
	Proof  string `json:"proof,omitempty"`
}

func madeAppOf(a presence.App) madeApp {
	return madeApp{ownApp: ownAppOf(a), Secret: a.Secret, APIKey: a.APIKey, Proof: a.Proof}
}

func (c *call) listApps() (any, error) {
	all := []ownApp{}
	for _, a := range c.desk.OwnApps(c.email) {
		all = append(all, ownAppOf(a))
	}
	return pageFrom(all, func(a *ownApp) string { return a.ID }, c.r, c.header)
}

func (c *call) getApp() (any, error) {
	a, err := c.desk.OwnApp(c.email, c.r.PathValue("appid"))
	return ownAppOf(a), err
}

func (c *call) makeApp() (any, error) {
	var b struct {
		Name        string            `json:"name"`
		Site        string            `json:"site"`
		Component   string            `json:"component"`
		Description string            `json:"description"`
		URL         string            `json:"url"`
		Redirects   []string          `json:"redirects"`
		Conflict    presence.Conflict `json:"conflict"`
	}
	if err := decode(c.r, &b); err != nil {
		return nil, err
	}
	for name, v := range map[string]string{"name": b.Name, "site": b.Site, "component": b.Component} {
		if v == "" {
			return nil, missingField(name)
		}
	}
	a, err := c.desk.RegisterApp(c.email, account.NewApp{Name: b.Name, Site: b.Site, Component: b.Component,
		Description: b.Description, URL: b.URL, Redirects: b.Redirects, Conflict: b.Conflict})
	if err != nil {
		return nil, refusedApp(err)
	}
	c.header.Set("Location", apiRoot+"/apps/"+a.ID)
	return madeAppOf(a), nil
}

// refusedApp says what is wrong with an app.
func refusedApp(err error) error {
	switch {
	case errors.Is(err, presence.ErrFull):
		return &Error{Status: http.StatusConflict, Kind: "too-many", Text: "You have as many apps as anybody may have."}
	case errors.Is(err, presence.ErrExists):
		return &Error{Status: http.StatusConflict, Kind: "exists", Field: "component", Text: "Another app has this component."}
	case errors.Is(err, presence.ErrNotAllowed):
		return &Error{Status: http.StatusConflict, Kind: "not-proven", Field: "disabled", Text: "It stays off until its site was proven to be yours, on the page /myapps."}
	}
	return err
}

func (c *call) changeApp() (any, error) {
	var b struct {
		Name        maybe[string]            `json:"name"`
		Description maybe[string]            `json:"description"`
		URL         maybe[string]            `json:"url"`
		Redirects   maybe[[]string]          `json:"redirects"`
		Conflict    maybe[presence.Conflict] `json:"conflict"`
		Disabled    maybe[bool]              `json:"disabled"`
	}
	if err := decode(c.r, &b); err != nil {
		return nil, err
	}
	for name, null := range map[string]bool{"name": b.Name.Null, "description": b.Description.Null, "url": b.URL.Null,
		"redirects": b.Redirects.Null, "conflict": b.Conflict.Null, "disabled": b.Disabled.Null} {
		if null {
			return nil, badField(name, "is null")
		}
	}
	a, err := c.desk.EditOwn(c.email, c.r.PathValue("appid"), func(a *presence.App) {
		lay(&a.Name, b.Name)
		lay(&a.Description, b.Description)
		lay(&a.URL, b.URL)
		lay(&a.Redirects, b.Redirects)
		lay(&a.Conflict, b.Conflict)
		lay(&a.Disabled, b.Disabled)
	})
	return ownAppOf(a), refusedApp(err)
}

// lay puts what is there over what was.
func lay[T any](to *T, m maybe[T]) {
	if m.Set {
		*to = m.V
	}
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
	a, err := c.desk.RotateOwn(c.email, c.r.PathValue("appid"), time.Duration(b.Overlap)*time.Second)
	if err != nil {
		return nil, refusedApp(err)
	}
	return madeAppOf(a), nil
}
