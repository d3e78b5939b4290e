package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func configCommand(c *cli) *cobra.Command {
	return group("config", "Check, show and explain the configuration",
		command("check [FILE]", "Say whether a server can run with it, and everything that is wrong", 0, 1, c.configCheck),
		command("show [FILE]", "Print what counts, all layers together; secrets are masked", 0, 1, c.configShow),
		command("describe [FILE]", "Print every key with its default and meaning, as a file to start from", 0, 1, c.configDescribe),
	)
}

// configOf loads FILE, else --config.
func (c *cli) configOf(args []string) (Config, origins, error) {
	file := c.configFile
	if len(args) > 0 {
		file = args[0]
	}
	return c.loadConfig(file)
}

func (c *cli) configCheck(_ context.Context, args []string) error {
	cfg, from, err := c.configOf(args)
	if err == nil {
		err = cfg.Validate(from)
	}
	warnings := append([]*problem{}, cfg.expired(from, time.Now())...) // a server tells of them when it loads them
	if err == nil {
		warnings = append(warnings, cfg.Warnings(from)...)
	}
	if !c.json {
		for _, p := range warnings {
			fmt.Fprintln(c.stderr, "presenced: warning:", p)
		}
		if err == nil {
			fmt.Fprintln(c.stdout, "ok")
		}
		return err
	}
	problems := append([]*problem{}, problemsOf(err)...)
	if e := c.printJSON(map[string]any{"ok": err == nil, "errors": problems, "warnings": warnings}); e != nil {
		return e
	}
	if err != nil {
		return toldError{}
	}
	return nil
}

func (c *cli) configShow(_ context.Context, args []string) error {
	cfg, _, err := c.configOf(args)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(configJSON(cfg))
	}
	return showConfig(c.stdout, cfg)
}

func (c *cli) configDescribe(_ context.Context, args []string) error {
	cfg := DefaultConfig()
	if len(args) > 0 {
		var err error
		if cfg, _, err = c.configOf(args); err != nil {
			return err
		}
	}
	if !c.json {
		return printDescription(c.stdout, cfg)
	}
	all, err := describeConfig(cfg)
	if err != nil {
		return err
	}
	return c.printJSON(all)
}

func versionCommand(c *cli) *cobra.Command {
	return command("version", "Print the version", 0, 0, func(context.Context, []string) error {
		v := programVersion()
		return c.print(v, func(w io.Writer) { fmt.Fprintf(w, "presenced %s (%s)\n", v.Version, v.Go) })
	})
}
