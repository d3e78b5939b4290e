package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"presenced/presence"
	"presenced/xmppsrv/adhoc"
)

// Commands of our own: look at apps, connections, grants, queues and devices, empty a queue, disconnect a device.

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339) // XEP-0082 §3.2
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (c *commands) runStatus(context.Context, adhoc.Values) (*adhoc.Result, error) {
	s, err := c.fullStatus()
	return result("The gateway",
		told("version", "Version", s.Version),
		told("domain", "Domain", s.Domain),
		told("started", "Running since", stamp(s.Started)),
		told("draining", "Going away", yes(s.Draining)),
		number("apps", "Apps", s.Apps),
		number("components", "Connected apps", s.Components),
		number("users", "Users", s.Users),
		number("devices", "Connected devices", s.Devices),
		number("waiting", "Notifications that wait", s.Waiting),
	), err
}

func (c *commands) runApps(ctx context.Context, _ adhoc.Values) (*adhoc.Result, error) {
	links := map[string]int{}
	for _, j := range c.components() {
		links[j.App]++
	}
	p := newPage(nil, "")
	for _, app := range sortedApps(c.hub.Apps()) {
		err := p.add(ctx, app.ID, app.ID, app.Name, app.Component, string(app.Conflict), yes(!app.Disabled), fmt.Sprint(links[app.ID]))
		if walked(err) != nil {
			return nil, err
		}
	}
	return p.table("Apps", adhoc.Column{Var: "appid", Label: "App"}, adhoc.Column{Var: "name", Label: "Name"},
		adhoc.Column{Var: "component", Label: "Domain"}, adhoc.Column{Var: "conflict", Label: "Several connections"},
		adhoc.Column{Var: "enabled", Label: "Enabled"}, adhoc.Column{Var: "connections", Label: "Connected components"}), nil
}

func sortedApps(list []presence.App) []presence.App {
	slices.SortFunc(list, func(a, b presence.App) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// appField lets choose an app; the only one is chosen already.
func (c *commands) appField(name, label string) adhoc.Field {
	f := adhoc.Field{Var: name, Label: label, Type: adhoc.ListSingle}
	room := adhoc.NewRoom(0)
	for _, app := range sortedApps(c.hub.Apps()) {
		if room.Take(app.ID, app.Name) {
			f.Options = append(f.Options, adhoc.Option{Label: app.Name, Value: app.ID})
		}
	}
	if len(f.Options) == 1 {
		f.Values = []string{f.Options[0].Value}
	} else {
		f.Required = true
	}
	return f
}

// chosenApp is the app that a form names, or the only one.
func (c *commands) chosenApp(id string) (presence.App, error) {
	if id == "" {
		if all := c.hub.Apps(); len(all) == 1 {
			return all[0], nil
		}
	}
	return c.appByID(id)
}

func (c *commands) appForm(context.Context, adhoc.Values) (*adhoc.Form, error) {
	f := c.appField("app", "App")
	if len(f.Options) == 0 {
		return nil, errors.New("there is no app")
	}
	return &adhoc.Form{Kind: ourKind, Title: "Showing an app", Fields: []adhoc.Field{f}}, nil
}

func (c *commands) runApp(_ context.Context, in adhoc.Values) (*adhoc.Result, error) {
	app, err := c.chosenApp(in.One("app"))
	if err != nil {
		return nil, err
	}
	n := 0
	for _, j := range c.components() {
		if j.App == app.ID {
			n++
		}
	}
	return result("The app "+app.Name,
		told("appid", "App", app.ID),
		told("name", "Name", app.Name),
		told("component", "Domain", app.Component),
		told("description", "What for", app.Description),
		told("url", "Page", app.URL),
		told("redirects", "Pages to return to", app.Redirects...),
		told("conflict", "Several connections", string(app.Conflict)),
		told("enabled", "Enabled", yes(!app.Disabled)),
		told("created", "Created", stamp(app.Created)),
		number("connections", "Connected components", n),
	), nil
}

func (c *commands) runConnections(ctx context.Context, _ adhoc.Values) (*adhoc.Result, error) {
	p := newPage(nil, "")
	for _, j := range c.components() {
		if err := p.add(ctx, j.App, j.App, j.Domain, j.Address, stamp(j.Since)); walked(err) != nil {
			return nil, err
		}
	}
	return p.table("Connected components", adhoc.Column{Var: "appid", Label: "App"}, adhoc.Column{Var: "component", Label: "Domain"},
		adhoc.Column{Var: "address", Label: "From"}, adhoc.Column{Var: "since", Label: "Since"}), nil
}

// listForm asks for a user, or all, and how much is wanted.
func listForm(title string, more ...adhoc.Field) *adhoc.Form {
	fields := append([]adhoc.Field{{Var: "user", Label: "E-mail of the user (empty: all)", Type: adhoc.JIDSingle}}, more...)
	return &adhoc.Form{Kind: ourKind, Title: title, Fields: append(fields, maxItems(), afterField("after"))}
}

func (c *commands) grantsForm(context.Context, adhoc.Values) (*adhoc.Form, error) {
	app := c.appField("app", "App (none: all)")
	app.Required, app.Values = false, nil
	return listForm("Listing grants", app), nil
}

func (c *commands) runGrants(ctx context.Context, in adhoc.Values) (*adhoc.Result, error) {
	p := newPage(in, "after")
	app := in.One("app")
	show := func(g presence.Grant) error {
		v, err := c.desk().GrantOf(g)
		if err != nil {
			return err
		}
		until := ""
		if v.Until != nil {
			until = stamp(*v.Until)
		}
		return p.add(ctx, v.Email+"/"+v.App, v.Email, v.App, yes(v.Notify), yes(v.Idle), yes(v.Paused), yes(v.Shown),
			until, fmt.Sprint(len(v.Windows)), stamp(v.Created))
	}
	err := c.eachGrant(in, app, show)
	return p.table("Grants", adhoc.Column{Var: "email", Label: "User"}, adhoc.Column{Var: "appid", Label: "App"},
		adhoc.Column{Var: "notify", Label: "Notifications"}, adhoc.Column{Var: "idle", Label: "Idle"}, adhoc.Column{Var: "paused", Label: "Paused"},
		adhoc.Column{Var: "shown", Label: "Open now"}, adhoc.Column{Var: "until", Label: "Until"},
		adhoc.Column{Var: "windows", Label: "Windows"}, adhoc.Column{Var: "created", Label: "Since"}), walked(err)
}

// eachGrant calls f with the grants for app ("": any) of the user that the form names, or of all.
func (c *commands) eachGrant(in adhoc.Values, app string, f func(presence.Grant) error) error {
	if in.One("user") == "" {
		return c.store.EachGrant(app, f)
	}
	return c.eachUser(in, "user", func(email string) error {
		list, err := c.store.GrantsOf(email)
		for _, g := range list {
			if err == nil && (app == "" || g.App == app) {
				err = f(g)
			}
		}
		return err
	})
}

func (c *commands) queuesForm(context.Context, adhoc.Values) (*adhoc.Form, error) {
	return listForm("Listing queues"), nil
}

func (c *commands) runQueues(ctx context.Context, in adhoc.Values) (*adhoc.Result, error) {
	p := newPage(in, "after")
	err := c.eachUser(in, "user", func(email string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		list, err := c.queuesOf(email, "")
		for _, q := range list {
			if err == nil {
				err = p.add(ctx, email+"/"+q.App, email, q.App, fmt.Sprint(q.Waiting))
			}
		}
		return err
	})
	return p.table("Queues", adhoc.Column{Var: "email", Label: "User"}, adhoc.Column{Var: "appid", Label: "App"},
		adhoc.Column{Var: "waiting", Label: "Notifications that wait"}), walked(err)
}

// queueForm lets choose one of a user's queues.
func (c *commands) queueForm(_ context.Context, in adhoc.Values) (*adhoc.Form, error) {
	email, err := c.accountField(in, "user")
	if err != nil {
		return nil, err
	}
	list, err := c.queuesOf(email, "")
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, notFound("nothing waits for %s", email)
	}
	f := adhoc.Field{Var: "app", Label: "The app it is from", Type: adhoc.ListSingle, Required: true}
	room := adhoc.NewRoom(0)
	for _, q := range list {
		if label := fmt.Sprintf("%s (%d)", q.App, q.Waiting); room.Take(label, q.App) {
			f.Options = append(f.Options, adhoc.Option{Label: label, Value: q.App})
		}
	}
	return &adhoc.Form{Kind: ourKind, Title: "What waits for " + email, Fields: []adhoc.Field{f}}, nil
}

// runQueue lists what waits, without what it says: that is between the app and the user.
func (c *commands) runQueue(ctx context.Context, in adhoc.Values) (*adhoc.Result, error) {
	email, err := c.accountField(in, "user")
	if err != nil {
		return nil, err
	}
	p := newPage(nil, "")
	err = c.eachPending(email, in.One("app"), func(n *presence.Notification) error {
		priority := "normal"
		if n.High {
			priority = "high"
		}
		return p.add(ctx, n.ID(), n.ID(), n.Device, priority, fmt.Sprint(n.Size()), stamp(n.Time), stamp(n.Expires))
	})
	return p.table("What waits for "+email+" from "+in.One("app"), adhoc.Column{Var: "id", Label: "Id"}, adhoc.Column{Var: "device", Label: "Device"},
		adhoc.Column{Var: "priority", Label: "Priority"}, adhoc.Column{Var: "bytes", Label: "Bytes"},
		adhoc.Column{Var: "time", Label: "Sent"}, adhoc.Column{Var: "expires", Label: "Until"}), walked(err)
}

func (c *commands) runPurge(_ context.Context, in adhoc.Values) (*adhoc.Result, error) {
	email, err := c.accountField(in, "user")
	if err != nil {
		return nil, err
	}
	n, err := c.purge(email, in.One("app"))
	return &adhoc.Result{Notes: []adhoc.Note{note(adhoc.Info, "Notifications removed: %d", n)}}, err
}

func (c *commands) devicesForm(context.Context, adhoc.Values) (*adhoc.Form, error) {
	f := listForm("Listing devices")
	f.Instructions = "For one user all that are known are shown, for all users those that are there."
	return f, nil
}

func (c *commands) runDevices(ctx context.Context, in adhoc.Values) (*adhoc.Result, error) {
	email := ""
	if in.One("user") != "" {
		var err error
		if email, err = c.accountField(in, "user"); err != nil {
			return nil, err
		}
	}
	list, err := c.hub.Devices(email)
	p := newPage(in, "after")
	for _, d := range list {
		if err == nil {
			err = p.add(ctx, d.Email+"/"+d.Device, d.Email, d.Device, d.State, d.Status, stamp(d.Since), stamp(d.Attached))
		}
	}
	return p.table("Devices", adhoc.Column{Var: "email", Label: "User"}, adhoc.Column{Var: "device", Label: "Device"},
		adhoc.Column{Var: "state", Label: "State"}, adhoc.Column{Var: "status", Label: "Status"},
		adhoc.Column{Var: "since", Label: "Since"}, adhoc.Column{Var: "attached", Label: "Connected since"}), walked(err)
}

// deviceForm lets choose among a user's connected devices.
func (c *commands) deviceForm(_ context.Context, in adhoc.Values) (*adhoc.Form, error) {
	email, err := c.accountField(in, "user")
	if err != nil {
		return nil, err
	}
	list, err := c.hub.Devices(email)
	if err != nil {
		return nil, err
	}
	f := adhoc.Field{Var: "devices", Label: "Devices to disconnect", Type: adhoc.ListMulti, Required: true}
	room := adhoc.NewRoom(0)
	for _, d := range list {
		if d.State == "connected" && room.Take(d.Device) {
			f.Options = append(f.Options, adhoc.Option{Label: d.Device, Value: d.Device})
		}
	}
	if len(f.Options) == 0 {
		return nil, notFound("no device of %s is connected", email)
	}
	return &adhoc.Form{Kind: ourKind, Title: "Devices of " + email, Fields: []adhoc.Field{f}}, nil
}

func (c *commands) runDisconnect(_ context.Context, in adhoc.Values) (*adhoc.Result, error) {
	email, err := c.accountField(in, "user")
	if err != nil {
		return nil, err
	}
	r := &adhoc.Result{}
	ended := 0
	for _, d := range in["devices"] {
		n := c.hub.Kick(email, d)
		if n == 0 {
			r.Notes = append(r.Notes, note(adhoc.Bad, "%s is not connected any more", d))
		}
		ended += n
	}
	r.Notes = append(r.Notes, note(adhoc.Info, "Devices disconnected: %d", ended))
	return r, nil
}
