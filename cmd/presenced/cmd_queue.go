package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func queueCommand(c *cli) *cobra.Command {
	return group("queue", "Notifications that wait for users",
		command("list [EMAIL] [APPID]", "Count what waits, by user and app", 0, 2, c.queueList),
		command("show EMAIL [APPID]", "Show what waits for a user, oldest first", 1, 2, c.queueShow),
		command("purge EMAIL [APPID]", "Remove what waits for a user", 1, 2, c.queuePurge),
	)
}

func (c *cli) queueList(ctx context.Context, args []string) error {
	path := "/queue"
	if len(args) > 0 {
		email, err := emailArg(args[0])
		if err != nil {
			return err
		}
		path = pathOf("queue", email) + query("app", arg(args, 1))
	}
	t := c.newTable("nothing waits", "EMAIL", "APPID", "WAITING")
	return list(ctx, c, path, t, func(q queueView) []string {
		return []string{q.Email, q.App, strconv.Itoa(q.Waiting)}
	})
}

func (c *cli) queueShow(ctx context.Context, args []string) error {
	email, err := emailArg(args[0])
	if err != nil {
		return err
	}
	t := c.newTable("nothing waits", "ID", "APPID", "DEVICE", "TIME", "EXPIRES", "SOURCE", "MESSAGE")
	path := pathOf("queue", email, "items") + query("app", arg(args, 1))
	return list(ctx, c, path, t, func(n notificationView) []string {
		return []string{n.ID, n.App, anyDevice(n.Device), timeText(n.Time), timeText(n.Expires), n.Source, n.Message}
	})
}

func (c *cli) queuePurge(ctx context.Context, args []string) error {
	email, err := emailArg(args[0])
	if err != nil {
		return err
	}
	return c.with(ctx, false, func(cl *client) error {
		var got struct {
			Email  string `json:"email"`
			App    string `json:"appid"`
			Purged int    `json:"purged"`
		}
		path := pathOf("queue", email) + query("app", arg(args, 1))
		if err := cl.call(ctx, http.MethodDelete, path, nil, &got); err != nil {
			return err
		}
		return c.print(got, func(w io.Writer) { fmt.Fprintf(w, "removed %s\n", plural(got.Purged, "notification")) })
	})
}

func notifyCommand(c *cli) *cobra.Command {
	var n newNotification
	var ttl string
	cmd := command("notify APPID EMAIL --message TEXT", "Send a notification in an app's name", 2, 2,
		func(ctx context.Context, args []string) error {
			if n.Message == "" {
				return usagef("--message is missing")
			}
			n.App = args[0]
			var err error
			if n.Email, n.Device, err = userAndDevice(args[1], n.Device); err != nil {
				return err
			}
			if n.TTL, err = ttlArg(ttl); err != nil {
				return err
			}
			return c.notify(ctx, n)
		})
	f := cmd.Flags()
	f.StringVar(&n.Message, "message", "", "the `TEXT` that is shown")
	f.StringVar(&n.Source, "source", "", "`WHO` it is from (default: the app's name)")
	f.StringVar(&n.Action, "action", "", "`URL` that it opens")
	f.StringVar(&n.Device, "device", "", "only for the device with this `ID`")
	f.StringVar(&ttl, "ttl", "", "it may wait for this `DURATION`: 48h, or seconds without a unit; 0: now or never (default: limits.ttl_default)")
	return cmd
}

// ttlArg reads seconds or a duration; nil: the default.
func ttlArg(s string) (*int64, error) {
	if s == "" {
		return nil, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return &n, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return nil, usagef("--ttl %q is neither seconds nor a duration such as 48h", s)
	}
	n := int64(d / time.Second)
	return &n, nil
}

func (c *cli) notify(ctx context.Context, n newNotification) error {
	return c.with(ctx, false, func(cl *client) error {
		var got accepted
		if err := cl.call(ctx, http.MethodPost, "/notify", n, &got); err != nil {
			return err
		}
		return c.print(got, func(w io.Writer) {
			where := "it waits until a device comes"
			if got.Devices > 0 {
				where = "on its way to " + plural(got.Devices, "connected device")
			}
			fmt.Fprintln(w, "accepted;", where)
		})
	})
}
