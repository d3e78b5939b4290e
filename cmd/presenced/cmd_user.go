package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"presenced/presence"
	"presenced/web/account"
)

func userCommand(c *cli) *cobra.Command {
	return group("user", "Users and the tokens of their devices",
		command("list", "List the users", 0, 0, c.userList),
		command("show EMAIL", "Show a user's devices, grants, tokens and what waits for her", 1, 1, c.userShow),
		invisibleCommand(c),
		userVerb(c, "visible", "End being invisible: her grants say again what apps see", "visible"),
		userVerb(c, "disable", "End a user's sessions and let her sign in nowhere; her grants stay", "disabled"),
		userVerb(c, "enable", "Let a disabled user in again", "enabled"),
		command("remove EMAIL", "Remove a user and all that is kept of her", 1, 1, c.userRemove),
		command("export EMAIL", "Print all that is kept of a user, as JSON", 1, 1, c.userExport),
		tokenCommand(c),
	)
}

// invisibleCommand hides a user from every app.
func invisibleCommand(c *cli) *cobra.Command {
	var u untilFlags
	cmd := command("invisible EMAIL", "Hide a user from every app, whatever her grants say; to apps it looks like going offline", 1, 1,
		func(ctx context.Context, args []string) error {
			email, err := emailArg(args[0])
			if err != nil {
				return err
			}
			until, err := u.read(time.Now())
			if err != nil {
				return err
			}
			return c.do(ctx, http.MethodPost, pathOf("users", email, "invisible")+query("until", until),
				strings.TrimSpace(email+" is invisible "+untilText(until)))
		})
	u.add(cmd)
	return cmd
}

// userVerb is a command that does one thing to a user.
func userVerb(c *cli, verb, short, done string) *cobra.Command {
	return command(verb+" EMAIL", short, 1, 1, func(ctx context.Context, args []string) error {
		email, err := emailArg(args[0])
		if err != nil {
			return err
		}
		return c.do(ctx, http.MethodPost, pathOf("users", email, verb), email+" is "+done)
	})
}

// untilFlags say when something ends that was begun now.
type untilFlags struct {
	length time.Duration
	until  string
}

func (u *untilFlags) add(cmd *cobra.Command) {
	cmd.Flags().Var((*durationFlag)(&u.length), "for", "for this `DURATION`, such as 1h (default: until it is ended)")
	cmd.Flags().StringVar(&u.until, "until", "", "until this `DATE`, such as 2030-01-31T12:00:00Z")
}

// read is the end as RFC 3339; "": there is none.
func (u *untilFlags) read(now time.Time) (string, error) {
	switch {
	case u.length != 0 && u.until != "":
		return "", usagef("--for and --until say the same thing: give one of them")
	case u.length < 0:
		return "", usagef("--for %s is in the past", u.length)
	case u.length > 0:
		return now.Add(u.length).UTC().Format(time.RFC3339Nano), nil
	case u.until == "":
		return "", nil
	}
	t, err := time.Parse(time.RFC3339, u.until)
	if err != nil {
		return "", usagef("--until %q is not a time such as 2030-01-31T12:00:00Z", u.until)
	}
	return t.UTC().Format(time.RFC3339Nano), nil
}

// untilText is "until 2030-01-31T12:00:00Z", or nothing.
func untilText(until string) string {
	t, err := time.Parse(time.RFC3339Nano, until)
	if err != nil {
		return ""
	}
	return "until " + timeText(t)
}

// tokenCommand is a command and a group: no e-mail is "list" or "revoke".
func tokenCommand(c *cli) *cobra.Command {
	var n tokenFlags
	cmd := command("token EMAIL", "Make a token with which a user's devices identify themselves, or for the HTTP API", 1, 1,
		func(ctx context.Context, args []string) error { return c.tokenAdd(ctx, args[0], n) })
	cmd.Flags().StringVar(&n.device, "device", "", "only for the device with this `ID`")
	cmd.Flags().Var((*durationFlag)(&n.expires), "expires", "good for this `DURATION`, such as 720h (default: for ever)")
	cmd.Flags().StringArrayVar(&n.scopes, "scope", nil, "for the HTTP API and not for devices: it may do `WHAT`, such as devices:read (repeatable); all: everything")
	cmd.Flags().StringVar(&n.name, "name", "", "`WHAT` it is for, as lists show it")

	var which string
	ls := command("list EMAIL", "List a user's tokens", 1, 1,
		func(ctx context.Context, args []string) error { return c.tokenList(ctx, args[0], which) })
	rm := command("revoke EMAIL", "Revoke a user's tokens and end the sessions that came with them", 1, 1,
		func(ctx context.Context, args []string) error { return c.tokenRevoke(ctx, args[0], which) })
	for _, sub := range []*cobra.Command{ls, rm} {
		sub.Flags().StringVar(&which, "device", "", "only those made for the device with this `ID`")
	}
	cmd.AddCommand(ls, rm)
	return cmd
}

// userAndDevice reads both from the command line; device "": any.
func userAndDevice(email, device string) (string, string, error) {
	email, err := emailArg(email)
	if err != nil {
		return "", "", err
	}
	device, err = deviceArg(device)
	return email, device, err
}

// tokenFlags are those of `user token`.
type tokenFlags struct {
	device, name string
	expires      time.Duration
	scopes       []string
}

// query is the request for such a token.
func (n *tokenFlags) query() (string, error) {
	life := ""
	if n.expires != 0 {
		life = n.expires.String()
	}
	if n.expires < 0 {
		return "", usagef("--expires %s is in the past", n.expires)
	}
	if n.device != "" && len(n.scopes) > 0 {
		return "", usagef("a token is for a device or for the API: --device and --scope do not go together")
	}
	if slices.Equal(n.scopes, []string{"all"}) {
		n.scopes = account.Scopes()
	}
	pairs := []string{"device", n.device, "expires", life, "name", n.name}
	for _, scope := range n.scopes {
		if !account.IsScope(scope) {
			return "", withHint(usagef("--scope %q does not exist", scope), "there are "+strings.Join(account.Scopes(), ", "))
		}
		pairs = append(pairs, "scope", scope)
	}
	return query(pairs...), nil
}

func (c *cli) tokenAdd(ctx context.Context, email string, n tokenFlags) error {
	email, device, err := userAndDevice(email, n.device)
	if err != nil {
		return err
	}
	n.device = device
	q, err := n.query()
	if err != nil {
		return err
	}
	return c.with(ctx, true, func(cl *client) error {
		var got newToken
		if err := cl.call(ctx, http.MethodPost, pathOf("users", email, "tokens")+q, nil, &got); err != nil {
			return err
		}
		return c.print(got, func(w io.Writer) {
			how := "A device sends it as its assertion."
			pairs := []string{"email", got.Email, "for", tokenFor(account.Token{Device: got.Device, Name: got.Name, Scopes: got.Scopes}),
				"token", got.Token, "expires", never(got.Expires)}
			if len(got.Scopes) > 0 {
				how = "Programs send it as Authorization: Bearer."
				pairs = append(pairs, "scopes", strings.Join(got.Scopes, " "))
			} else if got.Device == "" {
				how += " With it she can sign in to the pages, too."
			}
			facts(w, pairs...)
			fmt.Fprintln(w, "\nThe token is not shown again. "+how)
		})
	})
}

// tokenFor is what a token is good for: a device, any, or the API.
func tokenFor(v account.Token) string {
	if len(v.Scopes) > 0 {
		return strings.TrimSpace("API " + v.Name)
	}
	if v.Device == "" {
		return "any device"
	}
	return v.Device
}

func anyDevice(d string) string {
	if d == "" {
		return "any"
	}
	return d
}

func never(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return timeText(*t)
}

func (c *cli) tokenList(ctx context.Context, email, device string) error {
	email, device, err := userAndDevice(email, device)
	if err != nil {
		return err
	}
	t := c.newTable("no tokens", "FOR", "HASH", "CREATED", "EXPIRES", "SCOPES")
	return list(ctx, c, pathOf("users", email, "tokens")+query("device", device), t, func(v account.Token) []string {
		return []string{tokenFor(v), v.Hash[:12], timeText(v.Created), never(v.Expires), strings.Join(v.Scopes, ",")}
	})
}

func (c *cli) tokenRevoke(ctx context.Context, email, device string) error {
	email, device, err := userAndDevice(email, device)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodDelete, pathOf("users", email, "tokens")+query("device", device),
		"revoked the tokens of "+email)
}

func (c *cli) userList(ctx context.Context, _ []string) error {
	t := c.newTable("no users", "EMAIL", "CREATED", "STATE")
	return list(ctx, c, "/users", t, func(u userView) []string {
		return []string{u.Email, timeText(u.Created), userState(u)}
	})
}

// userState is what is out of the ordinary about a user: "disabled, invisible until 2030-01-31T12:00:00Z".
func userState(u userView) string {
	var words []string
	if u.Disabled {
		words = append(words, "disabled")
	}
	switch {
	case u.Invisible && u.InvisibleUntil.IsZero():
		words = append(words, "invisible")
	case u.Invisible:
		words = append(words, "invisible until "+timeText(u.InvisibleUntil))
	}
	return strings.Join(words, ", ")
}

func (c *cli) userShow(ctx context.Context, args []string) error {
	email, err := emailArg(args[0])
	if err != nil {
		return err
	}
	return c.with(ctx, false, func(cl *client) error {
		var u userDetail
		if err := cl.call(ctx, http.MethodGet, pathOf("users", email), nil, &u); err != nil {
			return err
		}
		if c.json {
			return c.printJSON(u)
		}
		return c.printUser(u)
	})
}

func (c *cli) printUser(u userDetail) error {
	facts(c.stdout, "email", u.Email, "created", timeText(u.Created), "state", userState(u.userView), "tokens", fmt.Sprint(len(u.Tokens)),
		"requests", plural(len(u.Requests), "app")+" waiting for an answer")
	fmt.Fprintln(c.stdout)
	devices := c.newTable("no devices", deviceHead()...)
	for _, d := range u.Devices {
		devices.add(deviceRow(d)...)
	}
	if err := devices.close(); err != nil {
		return err
	}
	fmt.Fprintln(c.stdout)
	grants := c.newTable("no grants", "APPID", "ADDRESS", "WHEN", "UNTIL", "NOTIFY", "STATE", "WAITING")
	for _, g := range u.Grants {
		grants.add(g.App, g.Address, g.Schedule, never(g.Until), yesNo(g.Notify), g.State, fmt.Sprint(u.Waiting[g.App]))
	}
	return grants.close()
}

func (c *cli) userRemove(ctx context.Context, args []string) error {
	email, err := emailArg(args[0])
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodDelete, pathOf("users", email), "removed "+email)
}

func (c *cli) userExport(ctx context.Context, args []string) error {
	email, err := emailArg(args[0])
	if err != nil {
		return err
	}
	return c.with(ctx, false, func(cl *client) error {
		body, err := cl.ask(ctx, http.MethodGet, pathOf("users", email, "export"), nil)
		if err != nil {
			return err
		}
		defer body.Close()
		_, err = io.Copy(c.stdout, body)
		return err
	})
}

func grantCommand(c *cli) *cobra.Command {
	verb := func(verb, short string) *cobra.Command {
		return command(verb+" EMAIL APPID", short, 2, 2, func(ctx context.Context, args []string) error {
			return c.grantVerb(ctx, verb, args[0], args[1], "")
		})
	}
	return group("grant", "What users allow to apps",
		allowCommand(c),
		command("list [EMAIL]", "List the grants, of one user or all", 0, 1, c.grantList),
		verb("revoke", "End a grant: the app no longer knows the user"),
		pauseCommand(c),
		verb("resume", "End a pause"),
	)
}

func pauseCommand(c *cli) *cobra.Command {
	var u untilFlags
	cmd := command("pause EMAIL APPID", "Hide a user's presence from an app; to the app it looks like going offline", 2, 2,
		func(ctx context.Context, args []string) error {
			until, err := u.read(time.Now())
			if err != nil {
				return err
			}
			return c.grantVerb(ctx, "pause", args[0], args[1], until)
		})
	u.add(cmd)
	return cmd
}

// grantFlags are those of `grant allow`.
type grantFlags struct {
	windows   []string
	tz        string
	until     string
	noNotify  bool
	noStatus  bool
	noDevices bool
	idle      bool
}

func allowCommand(c *cli) *cobra.Command {
	var g grantFlags
	cmd := command("allow EMAIL APPID", "Let an app see a user, in a user's name", 2, 2,
		func(ctx context.Context, args []string) error { return c.grantAllow(ctx, args[0], args[1], g) })
	f := cmd.Flags()
	f.StringArrayVar(&g.windows, "window", nil, "only `WHEN`, such as \"mon-fri 21:00-23:00\" or \"21:00-23:00 Europe/Paris\" (repeatable; default: always)")
	f.StringVar(&g.tz, "tz", "", "time `ZONE` of the windows, such as Europe/Paris (default UTC)")
	f.StringVar(&g.until, "until", "", "ends at this `DATE`, such as 2030-01-31T12:00:00Z (default: never)")
	f.BoolVar(&g.noNotify, "no-notify", false, "presence only, no notifications")
	f.BoolVar(&g.noStatus, "no-status", false, "notifications only: to the app the person is offline, always")
	f.BoolVar(&g.noDevices, "no-devices", false, "show one device in place of all")
	f.BoolVar(&g.idle, "idle", false, "tell since when the person is idle, too")
	return cmd
}

// read turns the flags into a request.
func (g grantFlags) read(email, app string) (newGrant, error) {
	n := newGrant{App: app, TZ: g.tz, Notify: !g.noNotify, Idle: g.idle, NoStatus: g.noStatus, NoDevices: g.noDevices}
	var err error
	if n.Email, err = emailArg(email); err != nil {
		return n, err
	}
	for _, s := range g.windows {
		c, err := presence.ParseSchedule(s)
		if err != nil {
			return n, withHint(usagef("--window %q: %v", s, err), `write it as "mon-fri 21:00-23:00", "sat,sun 10:00-12:00 Europe/Paris" or "21:00-23:00"`)
		}
		if c.TZ != "" && n.TZ != "" && c.TZ != n.TZ {
			return n, usagef("--window %q is in %s, not in %s as the others", s, c.TZ, n.TZ)
		}
		if n.Windows = append(n.Windows, c.Windows...); c.TZ != "" {
			n.TZ = c.TZ
		}
	}
	if g.tz != "" {
		if _, err := time.LoadLocation(g.tz); err != nil || g.tz == "Local" {
			return n, usagef("--tz %q is not a time zone such as Europe/Paris", g.tz)
		}
	}
	if g.until != "" {
		t, err := time.Parse(time.RFC3339, g.until)
		if err != nil {
			return n, usagef("--until %q is not a time such as 2030-01-31T12:00:00Z", g.until)
		}
		t = t.UTC()
		n.Until = &t
	}
	return n, nil
}

func (c *cli) grantAllow(ctx context.Context, email, app string, flags grantFlags) error {
	n, err := flags.read(email, app)
	if err != nil {
		return err
	}
	return c.with(ctx, true, func(cl *client) error {
		var got allowed
		if err := cl.call(ctx, http.MethodPost, "/grants", n, &got); err != nil {
			return err
		}
		return c.print(got, func(w io.Writer) {
			facts(w, "email", got.Email, "appid", got.App, "puid", got.PUID, "address", got.Address, "now", got.State)
		})
	})
}

func (c *cli) grantList(ctx context.Context, args []string) error {
	email := ""
	if len(args) > 0 {
		var err error
		if email, err = emailArg(args[0]); err != nil {
			return err
		}
	}
	t := c.newTable("no grants", "EMAIL", "APPID", "ADDRESS", "WHEN", "UNTIL", "NOTIFY", "STATE")
	return list(ctx, c, "/grants"+query("email", email), t, func(g account.Grant) []string {
		return []string{g.Email, g.App, g.Address, g.Schedule, never(g.Until), yesNo(g.Notify), standing(g)}
	})
}

// standing is how the grant stands, and whether it shows all devices as one.
func standing(g account.Grant) string {
	if g.Status && !g.Devices {
		return g.State + ", as one device"
	}
	return g.State
}

func (c *cli) grantVerb(ctx context.Context, verb, email, app, until string) error {
	email, err := emailArg(email)
	if err != nil {
		return err
	}
	what := map[string]string{"revoke": "revoked", "pause": "paused", "resume": "resumed"}[verb]
	done := strings.TrimSpace(fmt.Sprintf("%s the grant of %s for %s %s", what, email, app, untilText(until)))
	if verb == "revoke" {
		return c.do(ctx, http.MethodDelete, pathOf("grants", email, app), done)
	}
	return c.do(ctx, http.MethodPost, pathOf("grants", email, app, verb)+query("until", until), done)
}

func deviceCommand(c *cli) *cobra.Command {
	return group("device", "Connected devices",
		command("list [EMAIL]", "List the devices of a user, or all that are there", 0, 1, c.deviceList),
		command("kick EMAIL [DEVICE]", "Disconnect a user's devices, or one of them", 1, 2, c.deviceKick),
	)
}

func deviceHead() []string { return []string{"DEVICE", "STATUS", "STATE", "SINCE"} }

func deviceRow(d presence.DeviceInfo) []string {
	return []string{d.Device, d.Status, d.State, timeText(d.Since)}
}

func (c *cli) deviceList(ctx context.Context, args []string) error {
	email := ""
	if len(args) > 0 {
		var err error
		if email, err = emailArg(args[0]); err != nil {
			return err
		}
	}
	head := append([]string{"EMAIL"}, deviceHead()...)
	if email != "" {
		head = append(head, "ADDRESSES")
	}
	return list(ctx, c, "/devices"+query("email", email), c.newTable("no devices", head...), func(d deviceEntry) []string {
		row := slices.Concat([]string{d.Email}, deviceRow(d.DeviceInfo))
		if email != "" {
			row = append(row, addressText(d.Addresses))
		}
		return row
	})
}

// addressText is a device's registration tokens in the order of the apps.
func addressText(tokens map[string]string) string {
	var words []string
	for _, app := range slices.Sorted(maps.Keys(tokens)) {
		words = append(words, app+"="+tokens[app])
	}
	return strings.Join(words, " ")
}

func (c *cli) deviceKick(ctx context.Context, args []string) error {
	email, device, err := userAndDevice(args[0], arg(args, 1))
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPost, "/devices/kick"+query("email", email, "device", device),
		"disconnected "+strings.TrimSpace(email+" "+device))
}
