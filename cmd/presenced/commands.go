package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"presenced/presence"
	"presenced/xmppsrv"
	"presenced/xmppsrv/adhoc"
)

// commands is what administrators may do over XMPP: forms in front of the administration service. Nothing that it
// shows is a secret, the content of a notification, or a name by which an app knows a user.
type commands struct {
	*admin
	components func() []xmppsrv.Component
}

// Kinds of forms: those of XEP-0133, and ours. A node, and a field that is not XEP-0133's, begins with the kind.
const (
	adminKind = "http://jabber.org/protocol/admin"
	ourKind   = "urn:presenced:admin:0"
)

type formMaker = func(context.Context, adhoc.Values) (*adhoc.Form, error)

// list is all commands in the order in which they are shown. docs/commands.md has the same table.
func (c *commands) list() []adhoc.Command {
	list := []adhoc.Command{
		{Node: ourKind + "#status", Name: "Show the state of the gateway", Run: c.runStatus},
		{Node: ourKind + "#apps", Name: "List apps", Run: c.runApps},
		{Node: ourKind + "#app", Name: "Show an app", Forms: forms(c.appForm), Run: c.runApp},
		{Node: ourKind + "#connections", Name: "List connected components", Run: c.runConnections},
		{Node: ourKind + "#grants", Name: "List grants", Forms: forms(c.grantsForm), Run: c.runGrants},
		{Node: ourKind + "#queues", Name: "List queues", Forms: forms(c.queuesForm), Run: c.runQueues},
		{Node: ourKind + "#queue", Name: "Show a queue", Forms: forms(c.userForm("Showing a queue"), c.queueForm), Run: c.runQueue},
		{Node: ourKind + "#purge-queue", Name: "Empty a queue", Forms: forms(c.userForm("Emptying a queue"), c.queueForm), Run: c.runPurge},
		{Node: ourKind + "#devices", Name: "List devices", Forms: forms(c.devicesForm), Run: c.runDevices},
		{Node: ourKind + "#disconnect", Name: "Disconnect a device", Forms: forms(c.userForm("Disconnecting a device"), c.deviceForm), Run: c.runDisconnect},

		{Node: adminKind + "#get-registered-users-num", Name: "Get number of users", Run: c.runUsersNum},
		{Node: adminKind + "#get-online-users-num", Name: "Get number of connected users", Run: c.runOnlineNum},
		{Node: adminKind + "#get-registered-users-list", Name: "Get list of users", Forms: forms(c.usersForm("Requesting a list of users")), Run: c.runUsers},
		{Node: adminKind + "#get-online-users-list", Name: "Get list of connected users", Forms: forms(c.usersForm("Requesting a list of connected users")), Run: c.runOnline},
		{Node: adminKind + "#user-stats", Name: "Get user statistics", Forms: forms(c.accountForm), Run: c.runUserStats},
		{Node: adminKind + "#end-user-session", Name: "End user session", Forms: forms(c.accountsForm("Ending user sessions", "user@domain ends all sessions of a user, user@domain/device one.")), Run: c.runEndSession},
		{Node: adminKind + "#delete-user", Name: "Delete user", Forms: forms(c.accountsForm("Deleting users", "All that is kept of them is removed, for good.")), Run: c.runDelete},
		{Node: adminKind + "#announce", Name: "Send announcement", Forms: forms(c.announceForm), Run: c.runAnnounce},
	}
	for i := range list {
		list[i].Run = plainErrors(list[i].Run)
		for j := range list[i].Forms {
			list[i].Forms[j] = plainErrors(list[i].Forms[j])
		}
	}
	return list
}

func forms(list ...formMaker) []formMaker { return list }

// plainErrors gives errors the text that people get elsewhere; a bad value leads back to the form.
func plainErrors[T any](f func(context.Context, adhoc.Values) (*T, error)) func(context.Context, adhoc.Values) (*T, error) {
	return func(ctx context.Context, in adhoc.Values) (*T, error) {
		t, err := f(ctx, in)
		switch {
		case err == nil:
			return t, nil
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			return nil, errors.New("this took too long and was stopped")
		}
		e := toAPIError(err)
		if e.Status == http.StatusBadRequest {
			return nil, adhoc.Invalid("%s", e.Text)
		}
		return nil, errors.New(e.Text)
	}
}

// ours is the name of a field that is not XEP-0133's. In a form of our own kind it is only the last part.
func ours(name string) string { return ourKind + "#" + name }

// told is a field of a result.
func told(name, label string, values ...string) adhoc.Field {
	f := adhoc.Field{Var: name, Label: label, Values: values}
	if len(values) > 1 {
		f.Type = adhoc.TextMulti // XEP-0004 §3.3
	}
	return f
}

func number(name, label string, n int) adhoc.Field { return told(name, label, fmt.Sprint(n)) }

// result is a result of our own kind.
func result(title string, fields ...adhoc.Field) *adhoc.Result {
	return &adhoc.Result{Form: &adhoc.Form{Kind: ourKind, Title: title, Fields: fields}}
}

func note(t adhoc.Severity, format string, args ...any) adhoc.Note {
	return adhoc.Note{Type: t, Text: fmt.Sprintf(format, args...)}
}

// account reads how administrators write a user, and maybe a device as the resource: her e-mail, or its escaped form at
// the gateway's domain (XEP-0106), which is an address even where the e-mail is none.
func (c *commands) account(s string) (email, device string, err error) {
	at := strings.LastIndexByte(s, '@')
	if i := strings.LastIndexByte(s, '/'); at >= 0 && i > at {
		s, device = s[:i], s[i+1:]
		if err := presence.CheckDevice(device); err != nil {
			return "", "", badRequest("%v", err)
		}
	}
	if at >= 0 && strings.EqualFold(s[at+1:], c.domain) && strings.Contains(s[:at], `\40`) {
		s = unescapes().Replace(strings.ToLower(s[:at]))
	}
	email, err = keyEmail(s)
	return email, device, err
}

// unescapes takes the ten escapes of XEP-0106 §4.2 out. (mellium's jid.Unescape makes something else of them.)
func unescapes() *strings.Replacer {
	return strings.NewReplacer(`\20`, " ", `\22`, `"`, `\26`, "&", `\27`, "'", `\2f`, "/", `\3a`, ":", `\3c`, "<", `\3e`, ">", `\40`, "@", `\5c`, `\`)
}

// accountField is the field of a form that names a user.
func (c *commands) accountField(in adhoc.Values, name string) (string, error) {
	email, device, err := c.account(in.One(name))
	if err == nil && device != "" {
		err = badRequest("%s is wanted without a device", email)
	}
	return email, err
}

// userForm asks for a user who is known.
func (c *commands) userForm(title string) formMaker {
	return func(context.Context, adhoc.Values) (*adhoc.Form, error) {
		return &adhoc.Form{Kind: ourKind, Title: title, Fields: []adhoc.Field{
			{Var: "user", Label: "E-mail of the user", Type: adhoc.JIDSingle, Required: true}}}, nil
	}
}

// Fields of lists, as far as they go on.
func maxItems() adhoc.Field {
	f := adhoc.Field{Var: "max_items", Label: "Maximum number of items to show", Type: adhoc.ListSingle}
	for _, n := range []string{"25", "50", "75", "100", "150", "200"} {
		f.Options = append(f.Options, adhoc.Option{Label: n, Value: n})
	}
	f.Options = append(f.Options, adhoc.Option{Label: "None", Value: "none"})
	return f
}

func afterField(name string) adhoc.Field {
	return adhoc.Field{Var: name, Label: "Show what comes after this item", Type: adhoc.TextSingle}
}

// listPage is the part of an ordered list that is shown.
type listPage struct {
	room  *adhoc.Room
	pages bool   // the form has a field for where to go on
	after string // the key of the last item that is not wanted
	last  string // of the last one that is shown
	more  bool
	rows  [][]string
}

// errEnough ends a walk when the page is full.
var errEnough = errors.New("enough")

// newPage is the page that a form asks for; after is its field for where to go on, "" if it has none.
func newPage(in adhoc.Values, after string) *listPage {
	max := 0
	fmt.Sscan(in.One("max_items"), &max) // "none", and nothing, is as many as there is room for
	return &listPage{room: adhoc.NewRoom(max), pages: after != "", after: pageKey(in.One(after))}
}

// pageKey is where an item stands in the order of (e-mail, the rest); written, there is a slash between the two.
func pageKey(s string) string {
	if i := strings.LastIndexByte(s, '/'); i > strings.LastIndexByte(s, '@') {
		return s[:i] + "\x00" + s[i+1:]
	}
	return s
}

// add puts a row on the page if it belongs there. errEnough: it is full.
func (p *listPage) add(ctx context.Context, key string, row ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if key = pageKey(key); key <= p.after {
		return nil
	}
	if !p.room.Take(row...) {
		p.more = true
		return errEnough
	}
	p.last = strings.Replace(key, "\x00", "/", 1)
	p.rows = append(p.rows, row)
	return nil
}

// walked is a walk's error without errEnough.
func walked(err error) error {
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// notes says that there is more, and how to see it.
func (p *listPage) notes() []adhoc.Note {
	switch {
	case !p.more:
		return nil
	case !p.pages:
		return []adhoc.Note{note(adhoc.Warn, "There is more than is shown here")}
	}
	return []adhoc.Note{note(adhoc.Warn, "There is more: run this again for what comes after %s", p.last)}
}

// table is a result with the page's rows.
func (p *listPage) table(title string, columns ...adhoc.Column) *adhoc.Result {
	r := result(title)
	r.Form.Table = &adhoc.Table{Columns: columns, Rows: p.rows}
	r.Notes = p.notes()
	return r
}

// firsts is the first column.
func (p *listPage) firsts() []string {
	var list []string
	for _, r := range p.rows {
		list = append(list, r[0])
	}
	return list
}

// usersForm asks how much of a list of users is wanted (XEP-0133 §4.18, §4.20).
func (c *commands) usersForm(title string) formMaker {
	return func(context.Context, adhoc.Values) (*adhoc.Form, error) {
		return &adhoc.Form{Kind: adminKind, Title: title, Fields: []adhoc.Field{maxItems(), afterField(ours("after"))}}, nil
	}
}

// eachUser calls f with the user that is named in the field, or with all.
func (c *commands) eachUser(in adhoc.Values, field string, f func(email string) error) error {
	if in.One(field) == "" {
		return c.store.EachUser(func(u presence.User) error { return f(u.Email) })
	}
	email, err := c.accountField(in, field)
	if err != nil {
		return err
	}
	if _, err := c.userByEmail(email); err != nil {
		return err
	}
	return f(email)
}
