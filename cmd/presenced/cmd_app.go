package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"presenced/presence"
)

func appCommand(c *cli) *cobra.Command {
	one := func(use, short string, do func(ctx context.Context, args []string) error) *cobra.Command {
		cmd := command(use+" APPID", short, 1, 1, do)
		cmd.ValidArgsFunction = c.completeApps
		return cmd
	}
	return group("app", "Register and manage the apps",
		appAddCommand(c),
		command("list", "List the apps", 0, 0, c.appList),
		one("show", "Show an app; its secrets stay masked", c.appShow),
		one("enable", "Let an app connect again", c.appSwitch("enable")),
		one("disable", "Disconnect an app and keep it away; its grants stay", c.appSwitch("disable")),
		appRotateCommand(c),
		one("remove", "Remove an app with all of its grants and notifications", c.appRemove),
	)
}

// completeApps completes an appid for the shell.
func (c *cli) completeApps(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var ids []string
	c.with(cmd.Context(), false, func(cl *client) error {
		var apps []presence.App
		err := cl.call(cmd.Context(), http.MethodGet, "/apps", nil, &apps)
		for _, a := range apps {
			ids = append(ids, a.ID+"\t"+a.Name)
		}
		return err
	}) // no data, no completion
	return ids, cobra.ShellCompDirectiveNoFileComp
}

func appAddCommand(c *cli) *cobra.Command {
	var n newApp
	var conflict string
	cmd := command("add NAME --component DOMAIN", "Register an app and print its credentials", 1, 1,
		func(ctx context.Context, args []string) error {
			if n.Component == "" {
				return withHint(usagef("--component is missing"),
					`give the app a domain: presenced app add "Chat" --component chat.example.org`)
			}
			n.Name, n.Conflict = args[0], presence.Conflict(conflict)
			return c.appAdd(ctx, n)
		})
	f := cmd.Flags()
	f.StringVar(&n.Component, "component", "", "the app's XMPP `DOMAIN`, under which it connects")
	f.StringVar(&n.URL, "url", "", "`URL` of the app's home page")
	f.StringVar(&n.Description, "description", "", "`TEXT` that users are shown when the app asks for consent")
	f.StringArrayVar(&n.Redirects, "redirect", nil, "`URL` to which the grant page may send a user back (repeatable)")
	f.StringVar(&conflict, "conflict", "replace", "what a second connection does, `WHICH` is replace, reject or share")
	return cmd
}

func (c *cli) appAdd(ctx context.Context, n newApp) error {
	return c.with(ctx, true, func(cl *client) error {
		var got credentials
		if err := cl.call(ctx, http.MethodPost, "/apps", n, &got); err != nil {
			return err
		}
		return c.printCredentials(got)
	})
}

func (c *cli) printCredentials(got credentials) error {
	return c.print(got, func(w io.Writer) {
		facts(w, "appid", got.AppID, "name", got.Name, "component", got.Component,
			"secret", got.Secret, "api key", got.APIKey)
		fmt.Fprintln(w, "\nThe two keys are not shown again; \"presenced app rotate\" makes new ones.")
	})
}

func (c *cli) appList(ctx context.Context, _ []string) error {
	t := c.newTable("no apps", "APPID", "NAME", "COMPONENT", "CONFLICT", "ENABLED", "CONNECTED", "WAITING")
	return list(ctx, c, "/apps", t, func(a shownApp) []string {
		return []string{a.ID, a.Name, a.Component, string(a.Conflict), yesNo(!a.Disabled), connectedBy(&a), strconv.Itoa(a.Queue)}
	})
}

// connectedBy is how an app is connected, each way once: "ccs, component"; "no".
func connectedBy(a *shownApp) string {
	by := map[string]bool{}
	for _, l := range a.Connections {
		by[l.Kind] = true
	}
	if len(by) == 0 {
		return "no"
	}
	return strings.Join(slices.Sorted(maps.Keys(by)), ", ")
}

func (c *cli) appShow(ctx context.Context, args []string) error {
	return c.with(ctx, false, func(cl *client) error {
		var a shownApp
		if err := cl.call(ctx, http.MethodGet, pathOf("apps", args[0]), nil, &a); err != nil {
			return err
		}
		return c.print(a, func(w io.Writer) {
			pairs := []string{"appid", a.ID, "name", a.Name, "component", a.Component, "description", a.Description,
				"url", a.URL, "conflict", string(a.Conflict), "enabled", yesNo(!a.Disabled),
				"created", timeText(a.Created), "secret", a.Secret, "api key", a.APIKey}
			for _, r := range a.Redirects {
				pairs = append(pairs, "redirect", r)
			}
			facts(w, append(pairs, doing(&a)...)...)
		})
	})
}

// appSwitch is enable or disable.
func (c *cli) appSwitch(verb string) func(context.Context, []string) error {
	return func(ctx context.Context, args []string) error {
		return c.do(ctx, http.MethodPost, pathOf("apps", args[0], verb), verb+"d "+args[0])
	}
}

// doing is how an app does, as names and values.
func doing(a *shownApp) (pairs []string) {
	if a.Owner != "" {
		proven := "not yet"
		if !a.Verified.IsZero() {
			proven = timeText(a.Verified)
		}
		pairs = append(pairs, "owner", a.Owner, "site", a.Site, "site proven", proven)
	}
	if !a.OldSecretUntil.IsZero() {
		pairs = append(pairs, "old secret until", timeText(a.OldSecretUntil))
	}
	pairs = append(pairs, "notifications waiting", strconv.Itoa(a.Queue), "notifications dropped", strconv.FormatUint(a.Dropped, 10),
		"messages waiting", strconv.Itoa(a.Upstream), "device groups", strconv.Itoa(a.DeviceGroups))
	if len(a.Connections) == 0 {
		pairs = append(pairs, "connected", "no")
	}
	for _, l := range a.Connections {
		pairs = append(pairs, "connected", strings.Join(strings.Fields(l.Kind+" "+l.Address+" since "+timeText(l.Since)), " "))
	}
	for _, reason := range slices.Sorted(maps.Keys(a.Refused)) {
		pairs = append(pairs, "refused", fmt.Sprintf("%d %s", a.Refused[reason], reason))
	}
	for _, e := range a.LastErrors {
		pairs = append(pairs, "error", timeText(e.Time)+" "+e.Reason+": "+e.Detail)
	}
	return pairs
}

func appRotateCommand(c *cli) *cobra.Command {
	var overlap time.Duration
	cmd := command("rotate APPID", "Give an app a new secret and a new API key, and print them", 1, 1,
		func(ctx context.Context, args []string) error { return c.appRotate(ctx, args[0], overlap) })
	cmd.ValidArgsFunction = c.completeApps
	cmd.Flags().Var((*durationFlag)(&overlap), "overlap", "for this `DURATION`, such as 24h, the old ones stay good beside the new (default: not at all)")
	return cmd
}

func (c *cli) appRotate(ctx context.Context, id string, overlap time.Duration) error {
	return c.with(ctx, false, func(cl *client) error {
		var got credentials
		body := rotation{Overlap: duration(overlap.String())}
		if err := cl.call(ctx, http.MethodPost, pathOf("apps", id, "rotate"), body, &got); err != nil {
			return err
		}
		return c.printCredentials(got)
	})
}

func (c *cli) appRemove(ctx context.Context, args []string) error {
	return c.do(ctx, http.MethodDelete, pathOf("apps", args[0]), "removed "+args[0])
}

// do carries out a request of which people only want to hear that it was done.
func (c *cli) do(ctx context.Context, method, path, done string) error {
	return c.with(ctx, false, func(cl *client) error {
		var got map[string]any
		if err := cl.call(ctx, method, path, nil, &got); err != nil {
			return err
		}
		return c.print(got, func(w io.Writer) { fmt.Fprintln(w, done) })
	})
}
