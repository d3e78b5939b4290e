package main

import (
	"context"
	"errors"
	"fmt"

	"presenced/presence"
	"presenced/xmppsrv/adhoc"
)

// The commands of XEP-0133. A user's address is her e-mail, a session's resource the device.

func adminResult(fields ...adhoc.Field) *adhoc.Result {
	return &adhoc.Result{Form: &adhoc.Form{Kind: adminKind, Fields: fields}}
}

func (c *commands) runUsersNum(ctx context.Context, _ adhoc.Values) (*adhoc.Result, error) {
	n := 0
	err := c.store.EachUser(func(presence.User) error { n++; return ctx.Err() })
	return adminResult(number("registeredusersnum", "The number of registered users", n)), err
}

func (c *commands) runOnlineNum(context.Context, adhoc.Values) (*adhoc.Result, error) {
	n := 0
	err := c.hub.EachOnline(func(string) error { n++; return nil })
	return adminResult(number("onlineusersnum", "The number of online users", n)), err
}

func (c *commands) runUsers(ctx context.Context, in adhoc.Values) (*adhoc.Result, error) {
	p := newPage(in, ours("after"))
	err := c.store.EachUser(func(u presence.User) error { return p.add(ctx, u.Email, u.Email) })
	return usersResult(p, "registereduserjids", "The list of all users"), walked(err)
}

func (c *commands) runOnline(ctx context.Context, in adhoc.Values) (*adhoc.Result, error) {
	p := newPage(in, ours("after"))
	err := c.hub.EachOnline(func(email string) error { return p.add(ctx, email, email) })
	return usersResult(p, "onlineuserjids", "The list of all online users"), walked(err)
}

func usersResult(p *listPage, name, label string) *adhoc.Result {
	r := adminResult(told(name, label, p.firsts()...))
	r.Notes = p.notes()
	return r
}

// accountForm asks for one user.
func (c *commands) accountForm(context.Context, adhoc.Values) (*adhoc.Form, error) {
	return &adhoc.Form{Kind: adminKind, Title: "Getting user statistics", Fields: []adhoc.Field{
		{Var: "accountjid", Label: "E-mail of the user", Type: adhoc.JIDSingle, Required: true}}}, nil
}

// runUserStats tells what fits of XEP-0133 §4.10, and what waits. Network addresses are not known here.
func (c *commands) runUserStats(_ context.Context, in adhoc.Values) (*adhoc.Result, error) {
	email, err := c.accountField(in, "accountjid")
	if err != nil {
		return nil, err
	}
	u, err := c.userByEmail(email)
	if err != nil {
		return nil, err
	}
	d, err := c.userDetail(u)
	if err != nil {
		return nil, err
	}
	var connected []string
	for _, dev := range d.Devices {
		if dev.State == "connected" {
			connected = append(connected, dev.Device)
		}
	}
	waiting := 0
	for _, n := range d.Waiting {
		waiting += n
	}
	return adminResult(
		told("accountjid", "The user", email),
		number("rostersize", "Apps that she allows", len(d.Grants)),
		told("onlineresources", "Connected devices", connected...),
		number(ours("devices"), "Known devices", len(d.Devices)),
		number(ours("waiting"), "Notifications that wait", waiting),
		number(ours("requests"), "Requests that she has not answered", len(d.Requests)),
	), nil
}

// accountsForm asks for users.
func (c *commands) accountsForm(title, instructions string) formMaker {
	return func(context.Context, adhoc.Values) (*adhoc.Form, error) {
		return &adhoc.Form{Kind: adminKind, Title: title, Instructions: instructions, Fields: []adhoc.Field{
			{Var: "accountjids", Label: "E-mails of the users", Type: adhoc.JIDMulti, Required: true}}}, nil
	}
}

// target is what one value of accountjids means.
type target struct{ email, device string }

func (c *commands) targets(in adhoc.Values) ([]target, error) {
	var list []target
	for _, s := range in["accountjids"] {
		email, device, err := c.account(s)
		if err != nil {
			return nil, err
		}
		list = append(list, target{email, device})
	}
	return list, nil
}

// runEndSession ends sessions (XEP-0133 §4.5).
func (c *commands) runEndSession(_ context.Context, in adhoc.Values) (*adhoc.Result, error) {
	list, err := c.targets(in)
	if err != nil {
		return nil, err
	}
	r := &adhoc.Result{}
	ended := 0
	for _, t := range list {
		n := c.hub.Kick(t.email, t.device)
		if n == 0 {
			r.Notes = append(r.Notes, note(adhoc.Bad, "%s is not connected", t.text()))
		}
		ended += n
	}
	r.Notes = append(r.Notes, note(adhoc.Info, "Sessions ended: %d", ended))
	return r, nil
}

func (t target) text() string {
	if t.device == "" {
		return t.email
	}
	return t.email + "/" + t.device
}

// runDelete removes users (XEP-0133 §4.2).
func (c *commands) runDelete(ctx context.Context, in adhoc.Values) (*adhoc.Result, error) {
	list, err := c.targets(in)
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		if t.device != "" {
			return nil, badRequest("%s is wanted without a device", t.email)
		}
	}
	r := &adhoc.Result{}
	deleted := 0
	for _, t := range list {
		if err := ctx.Err(); err != nil {
			r.Notes = append(r.Notes, note(adhoc.Bad, "This took too long: %s and those behind are still there", t.email))
			break
		}
		if _, err = c.userByEmail(t.email); err == nil {
			err = c.desk().Remove(t.email, presence.ByAdmin)
		}
		if err != nil {
			r.Notes = append(r.Notes, note(adhoc.Bad, "%s: %s", t.email, toAPIError(err).Text))
			continue
		}
		deleted++
	}
	r.Notes = append(r.Notes, note(adhoc.Info, "Users deleted: %d", deleted))
	return r, nil
}

// announceForm asks for a text and an app.
func (c *commands) announceForm(context.Context, adhoc.Values) (*adhoc.Form, error) {
	app := c.appField(ours("app"), "The app in whose name it is sent")
	if len(app.Options) == 0 {
		return nil, errors.New("there is no app in whose name it could be sent")
	}
	return &adhoc.Form{Kind: adminKind, Title: "Making an announcement",
		Instructions: "It goes, as a notification of the app, to the users who are connected now and allow the app to notify them.",
		Fields: []adhoc.Field{
			{Var: "announcement", Label: "Announcement", Type: adhoc.TextMulti, Required: true}, app}}, nil
}

// runAnnounce sends a notification to all who are there (XEP-0133 §4.23). It needs a grant like any other: nobody gets
// word from an app that she did not allow to send any, whoever asks. It is for now or never, so nothing waits.
func (c *commands) runAnnounce(ctx context.Context, in adhoc.Values) (*adhoc.Result, error) {
	app, err := c.chosenApp(in.One(ours("app")))
	if err != nil {
		return nil, err
	}
	m := presence.Message{Source: app.Name, Message: in.Text("announcement")}
	sent, others := 0, 0
	err = c.hub.EachOnline(func(email string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := c.announce(app.ID, email, m)
		switch {
		case err == nil:
			sent++
		case errors.Is(err, presence.ErrNoGrant), errors.Is(err, presence.ErrNotAllowed):
			others++
		default:
			return err
		}
		return nil
	})
	done := note(adhoc.Info, "Sent to %s; connected users who do not allow %s to notify them: %d", users(sent), app.Name, others)
	if err != nil && sent > 0 { // what is sent cannot be taken back, and must not be sent twice
		return &adhoc.Result{Notes: []adhoc.Note{note(adhoc.Bad, "Not all were reached: %s", toAPIError(err).Text), done}}, nil
	}
	return &adhoc.Result{Notes: []adhoc.Note{done}}, err
}

func users(n int) string {
	if n == 1 {
		return "1 user"
	}
	return fmt.Sprint(n, " users")
}

func (c *commands) announce(app, email string, m presence.Message) error {
	d, err := c.hub.NotifyUser(app, email, "", m)
	if err != nil {
		return err
	}
	return d.Wait()
}
