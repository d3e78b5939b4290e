package account

import (
	"net/url"
	"strings"
	"time"

	"presenced/presence"
)

// Apps that people register by themselves. Such an app is off until its site was proven to be its owner's.

const (
	maxOwned = 20 // apps of one owner
	maxURL   = 2048
)

// errOwned says that nobody may register more.
type errOwned struct{}

func (errOwned) Error() string        { return "as many apps as one person may register" }
func (errOwned) Is(target error) bool { return target == presence.ErrFull }

// NewApp is what an owner says of an app that she registers.
type NewApp struct {
	Name, Description, URL string
	Site                   string // a domain of hers
	Component              string // the app's XMPP domain: that, or beneath it
	Redirects              []string
	Conflict               presence.Conflict
}

// OwnApps are the user's, ordered by id.
func (d *Desk) OwnApps(email string) []presence.App {
	list := []presence.App{}
	for _, a := range d.Hub.Apps() {
		if a.Owner == email && email != "" {
			list = append(list, a)
		}
	}
	return list
}

// OwnApp is one of the user's. presence.ErrNoApp: it is not, whatever else it is.
func (d *Desk) OwnApp(email, id string) (presence.App, error) {
	if a, ok := d.Hub.App(id); ok && a.Owner == email && email != "" {
		return a, nil
	}
	return presence.App{}, presence.ErrNoApp
}

// RegisterApp makes an app of the user's. It is off. presence.ErrBadValue, ErrExists, ErrFull.
func (d *Desk) RegisterApp(email string, n NewApp) (presence.App, error) {
	a := presence.App{Owner: email, Disabled: true, Proof: presence.NewSecret(), Name: n.Name, Description: n.Description, URL: n.URL,
		Site: strings.ToLower(n.Site), Component: strings.ToLower(n.Component), Redirects: n.Redirects, Conflict: n.Conflict}
	if err := d.CheckApp(&a); err != nil {
		return a, err
	}
	if a.Component != a.Site && !strings.HasSuffix(a.Component, "."+a.Site) {
		return a, badValue("component", "is neither the site nor beneath it")
	}
	if len(d.OwnApps(email)) >= maxOwned {
		return a, errOwned{}
	}
	return d.Hub.AddApp(a)
}

// CheckApp says by field what is wrong with what an owner or an administrator may say of an app, beyond what the core
// checks.
func (d *Desk) CheckApp(a *presence.App) error {
	switch {
	case strings.TrimSpace(a.Name) == "":
		return badValue("name", "is empty")
	case a.Component == d.Domain:
		return badValue("component", "is the gateway's own domain")
	case a.URL != "" && !IsWebURL(a.URL):
		return badValue("url", "is not an http or https URL")
	}
	for _, u := range a.Redirects {
		if !IsWebURL(u) {
			return badValue("redirects", "has one that is not an http or https URL")
		}
	}
	return nil
}

// IsWebURL reports whether s is an http or https URL of a length that can be kept.
func IsWebURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && len(s) <= maxURL
}

// EditOwn changes one of the user's apps. Errors as of OwnApp, CheckApp and [presence.Hub.EditApp]; ErrNotAllowed: it
// would be on before its site was proven.
func (d *Desk) EditOwn(email, id string, edit func(*presence.App)) (presence.App, error) {
	return d.Hub.EditApp(id, func(a *presence.App) error {
		if a.Owner != email || email == "" {
			return presence.ErrNoApp
		}
		edit(a)
		if !a.Disabled && a.Verified.IsZero() {
			return presence.ErrNotAllowed
		}
		return d.CheckApp(a)
	})
}

// RotateOwn gives one of the user's apps new secrets; the present ones are good for as long as overlap says.
func (d *Desk) RotateOwn(email, id string, overlap time.Duration) (presence.App, error) {
	if overlap < 0 || overlap > presence.MaxOverlap {
		return presence.App{}, badValue("overlap", "is out of range")
	}
	return d.EditOwn(email, id, func(a *presence.App) { a.Rotate(d.Now(), overlap) })
}
