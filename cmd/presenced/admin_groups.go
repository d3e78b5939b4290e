package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"presenced/presence"
	"presenced/xmppsrv/gcm"
)

// groupView is a device group in lists, imports and exports.
type groupView struct {
	App     string    `json:"appid"`
	Name    string    `json:"name"`
	Key     string    `json:"key"`
	Members []string  `json:"members"` // registration tokens
	Created time.Time `json:"created,omitzero"`
}

func groupViewOf(g presence.DeviceGroup) groupView {
	v := groupView{App: g.App, Name: g.Name, Key: g.Key, Members: []string{}, Created: g.Created}
	for _, p := range g.Members {
		v.Members = append(v.Members, p.String())
	}
	return v
}

// listGroups lists those of one app with ?app=.
func (a *admin) listGroups(w http.ResponseWriter, r *http.Request) {
	stream(w, func(emit func(any) error) error {
		id := r.URL.Query().Get("app")
		if id != "" {
			if _, err := a.appByID(id); err != nil {
				return err
			}
		}
		return a.store.EachDeviceGroup(id, func(g presence.DeviceGroup) error { return emit(groupViewOf(g)) })
	})
}

func (im *importer) takeGroup(body json.RawMessage) error {
	var v groupView
	if err := strictly(body, &v); err != nil {
		return err
	}
	g := presence.DeviceGroup{App: v.App, Name: v.Name, Key: v.Key, Created: v.Created}
	for _, text := range v.Members {
		p, _, ok := gcm.ParseToken(text, im.a.domain)
		if !ok {
			return fmt.Errorf("member %s is not a registration token", quoteShort(text))
		}
		g.Members = append(g.Members, p)
	}
	if _, known := im.a.hub.App(g.App); !known && !im.seen["app "+g.App] {
		return fmt.Errorf("no app %s", quoteShort(g.App))
	}
	if err := im.once("group " + g.App + " " + g.Name); err != nil {
		return err
	}
	im.groups = append(im.groups, at[presence.DeviceGroup]{im.line, g})
	return nil
}
