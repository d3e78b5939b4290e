package main

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"
)

func groupCommand(c *cli) *cobra.Command {
	list := command("list [APPID]", "List the device groups that apps have made, with how many members each has", 0, 1, c.groupList)
	list.ValidArgsFunction = c.completeApps
	return group("group", "Device groups of apps that were written for GCM or FCM", list)
}

func (c *cli) groupList(ctx context.Context, args []string) error {
	t := c.newTable("no device groups", "APPID", "NAME", "KEY", "MEMBERS", "CREATED")
	return list(ctx, c, "/groups"+query("app", arg(args, 0)), t, func(g groupView) []string {
		return []string{g.App, g.Name, g.Key, strconv.Itoa(len(g.Members)), timeText(g.Created)}
	})
}
