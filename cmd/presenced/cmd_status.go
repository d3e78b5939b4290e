package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func statusCommand(c *cli) *cobra.Command {
	return command("status", "Say whether a server runs and what there is", 0, 0, c.statusOf)
}

func (c *cli) statusOf(ctx context.Context, _ []string) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if _, err := os.Stat(dataFile(cfg)); errors.Is(err, fs.ErrNotExist) {
		return c.print(baseStatus(cfg), func(w io.Writer) {
			fmt.Fprintf(w, "no server, and no data in %s\n  %s\n", cfg.Data, hintNoDir)
		})
	}
	return c.with(ctx, false, func(cl *client) error {
		var s serverStatus
		if err := cl.call(ctx, http.MethodGet, "/status", nil, &s); err != nil {
			return err
		}
		return c.print(s, func(w io.Writer) { printStatus(w, s) })
	})
}

func printStatus(w io.Writer, s serverStatus) {
	server := "not running; this is what the data folder holds"
	if s.Running {
		server = fmt.Sprintf("running for %s, pid %d", s.Uptime, s.PID)
	}
	if s.Draining {
		server += ", going away"
	}
	pairs := []string{"server", server, "version", s.Version, "data", s.Data, "domain", s.Domain}
	for _, name := range listenerNames() {
		if addr, ok := s.Listeners[name]; ok {
			pairs = append(pairs, strings.ReplaceAll(name, "_", " "), addr)
		}
	}
	pairs = append(pairs, "users", thousands(s.Users), "apps", thousands(s.Apps))
	if s.Running {
		pairs = append(pairs, "devices", plural(s.Devices, "connected device"), "components", plural(s.Components, "connected app"))
	}
	facts(w, append(pairs, "waiting", plural(s.Waiting, "notification"))...)
}
