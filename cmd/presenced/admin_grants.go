package main

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"presenced/presence"
	"presenced/web/account"
)

func (a *admin) listGrants(w http.ResponseWriter, r *http.Request) {
	email, app := r.URL.Query().Get("email"), r.URL.Query().Get("app")
	stream(w, func(emit func(any) error) error {
		show := func(g presence.Grant) error {
			v, err := a.desk().GrantOf(g)
			if err != nil {
				return err
			}
			return emit(v)
		}
		if email == "" {
			return a.store.EachGrant(app, show)
		}
		key, err := keyEmail(email)
		if err != nil {
			return err
		}
		grants, err := a.store.GrantsOf(key)
		if err != nil {
			return err
		}
		for _, g := range grants {
			if err := show(g); err != nil {
				return err
			}
		}
		return nil
	})
}

// newGrant is the body of POST /grants.
type newGrant struct {
	Email     string            `json:"email"`
	App       string            `json:"appid"`
	Windows   []presence.Window `json:"windows"`
	TZ        string            `json:"tz"`
	Until     *time.Time        `json:"until"`
	Notify    bool              `json:"notify"`
	Idle      bool              `json:"idle"`
	NoStatus  bool              `json:"no_status,omitempty"`
	NoDevices bool              `json:"no_devices,omitempty"`
}

// allowed is the answer to POST /grants.
type allowed struct {
	Email   string `json:"email"`
	App     string `json:"appid"`
	PUID    string `json:"puid"`
	Address string `json:"address"`
	State   string `json:"state"` // what the app sees now, and until when
}

func (a *admin) allow(r *http.Request) (any, error) {
	var n newGrant
	if err := readJSON(r, &n); err != nil {
		return nil, err
	}
	email, err := keyEmail(n.Email)
	if err != nil {
		return nil, err
	}
	if _, err := a.appByID(n.App); err != nil {
		return nil, err
	}
	if n.Until != nil && !n.Until.After(a.now()) {
		return nil, badRequest("until %s is over", timeText(*n.Until))
	}
	terms := account.Terms{Windows: n.Windows, TZ: n.TZ, Until: n.Until, Notify: n.Notify, Idle: n.Idle,
		NoStatus: n.NoStatus, NoDevices: n.NoDevices}
	g, err := a.desk().Allow(email, n.App, terms, presence.ByAdmin)
	if err != nil {
		return nil, err
	}
	return allowed{Email: g.Email, App: g.App, PUID: g.PUID, Address: g.Address, State: g.State}, nil
}

func (a *admin) revoke(r *http.Request) (any, error) {
	email, app, err := a.pathGrant(r)
	if err != nil {
		return nil, err
	}
	if err := a.hub.Revoke(email, app, presence.ByAdmin); err != nil {
		return nil, noGrant(err, email, app)
	}
	return map[string]any{"email": email, "appid": app, "revoked": true}, nil
}

// pause takes ?until=.
func (a *admin) pause(r *http.Request) (any, error) {
	email, app, err := a.pathGrant(r)
	if err != nil {
		return nil, err
	}
	until, err := a.queryUntil(r)
	if err != nil {
		return nil, err
	}
	if err := a.hub.Pause(email, app, until, presence.ByAdmin); err != nil {
		return nil, noGrant(err, email, app)
	}
	v := map[string]any{"email": email, "appid": app, "paused": true}
	if !until.IsZero() {
		v["paused_until"] = until
	}
	return v, nil
}

func (a *admin) resume(r *http.Request) (any, error) {
	email, app, err := a.pathGrant(r)
	if err != nil {
		return nil, err
	}
	if err := a.hub.SetPaused(email, app, false, presence.ByAdmin); err != nil {
		return nil, noGrant(err, email, app)
	}
	return map[string]any{"email": email, "appid": app, "paused": false}, nil
}

// queryUntil is the optional ?until= of the request, a time to come; zero: there is none.
func (a *admin) queryUntil(r *http.Request) (time.Time, error) {
	s := r.URL.Query().Get("until")
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, badRequest("until %s is not a time such as 2030-01-31T12:00:00Z", quoteShort(s))
	}
	if !t.After(a.now()) {
		return t, badRequest("until %s is over", timeText(t))
	}
	return t.UTC(), nil
}

func (a *admin) pathGrant(r *http.Request) (email, app string, err error) {
	email, err = pathEmail(r)
	return email, r.PathValue("app"), err
}

// noGrant names the two parties of a grant that is missing.
func noGrant(err error, email, app string) error {
	if errors.Is(err, presence.ErrNoGrant) || errors.Is(err, presence.ErrNoApp) || errors.Is(err, presence.ErrStranger) {
		return &apiError{Status: http.StatusNotFound, Text: email + " has no grant for " + quoteShort(app),
			Hint: `"presenced grant list ` + email + `" shows what there is`}
	}
	return err
}

// quoteShort is a name from outside for an error, bounded.
func quoteShort(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return `"` + strings.ToValidUTF8(s, "?") + `"`
}
