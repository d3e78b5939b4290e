package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"presenced/presence"
)

// cli is one run of the program: what it was given, and the flags that go with every command. It is filled
// while the arguments are parsed and then only read.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	environ        []string

	configFile string
	data       string
	domain     string
	json       bool
}

const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// run executes the command line and returns the exit code.
func run(ctx context.Context, args []string, c *cli) int {
	root := newRoot(c)
	root.SetArgs(args)
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	return c.report(root.ExecuteContext(ctx))
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// hintedError says what to do about an error.
type hintedError struct {
	error
	hint string
}

func (e hintedError) Unwrap() error { return e.error }

func withHint(err error, hint string) error { return hintedError{err, hint} }

// toldError has been reported already; only the exit code is left to give.
type toldError struct{}

func (toldError) Error() string { return "reported already" }

// report is the one place where an error reaches a person.
func (c *cli) report(err error) int {
	if err == nil {
		return exitOK
	}
	if errors.As(err, new(toldError)) {
		return exitFailed
	}
	for _, p := range problemsOf(err) {
		fmt.Fprintf(c.stderr, "presenced: %s\n", strings.TrimPrefix(p.Error(), "presence: "))
	}
	if h := (hintedError{}); errors.As(err, &h) {
		fmt.Fprintf(c.stderr, "  %s\n", h.hint)
	}
	if errors.As(err, new(usageError)) {
		return exitUsage
	}
	return exitFailed
}

func newRoot(c *cli) *cobra.Command {
	root := group("presenced", "Self-hosted presence and notifications for devices")
	section(root, "Run it:", serveCommand(c), demoCommand(c), configCommand(c), statusCommand(c), versionCommand(c))
	section(root, "Who there is, and who may see whom:", appCommand(c), userCommand(c), grantCommand(c), deviceCommand(c), groupCommand(c))
	section(root, "Notifications:", notifyCommand(c), queueCommand(c))
	section(root, "Everything in a file:", importCommand(c), exportCommand(c), backupCommand(c))
	root.Long = `Presenced keeps the one connection of each device, and tells the apps that its user chose
whether she is there. Apps join as XMPP components (XEP-0114) and send notifications.

"presenced serve" runs the gateway. The other commands administer it: through the running
server on the same data folder, or on the data itself when none runs.`
	root.Example = `  presenced demo                                             see it work
  presenced serve                                            run it, on this machine only
  presenced app add Chat --component chat.example.org        an app
  presenced user token ann@example.org                       a key for Ann's devices
  presenced grant allow ann@example.org chat                 Ann lets the app see her
  presenced notify chat ann@example.org --message "Hello"    and it has something to say`
	root.Version = programVersion().Version
	root.SetVersionTemplate("presenced {{.Version}}\n")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return withHint(usageError{err}, `see "`+cmd.CommandPath()+` --help"`)
	})
	f := root.PersistentFlags()
	f.StringVar(&c.configFile, "config", "", "configuration `FILE` in TOML")
	f.StringVar(&c.data, "data", "", "data folder `DIR` (default ./presenced-data)")
	f.StringVar(&c.domain, "domain", "", "the gateway's own XMPP domain `NAME` (default localhost)")
	f.BoolVar(&c.json, "json", false, "output for programs")
	root.InitDefaultCompletionCmd()
	for _, sub := range root.Commands() {
		if sub.Name() == "completion" {
			asGroup(sub)
		}
	}
	return root
}

// group is a command that only holds others: alone or with a word it does not know it is wrong usage.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(subs...)
	asGroup(cmd)
	return cmd
}

func asGroup(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		hint := `see "` + cmd.CommandPath() + ` --help"`
		if len(args) == 0 {
			return withHint(usagef("%s needs a command: %s", cmd.CommandPath(), strings.Join(subNames(cmd), ", ")), hint)
		}
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = "did you mean " + strings.Join(near, ", ") + "?"
		}
		return withHint(usagef("unknown command %q for %q", args[0], cmd.CommandPath()), hint)
	}
	cmd.SuggestionsMinimumDistance = 2
}

// section puts commands under a headline of parent's help.
func section(parent *cobra.Command, title string, subs ...*cobra.Command) {
	parent.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, sub := range subs {
		sub.GroupID = title
	}
	parent.AddCommand(subs...)
}

// durationFlag is a flag's value with a unit; 0: not given. It belongs to the command that has the flag.
type durationFlag time.Duration

func (d *durationFlag) Set(s string) error {
	v, err := time.ParseDuration(s)
	if err != nil {
		return errors.New("not a duration such as 90m or 24h")
	}
	*d = durationFlag(v)
	return nil
}

func (d *durationFlag) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}

func (*durationFlag) Type() string { return "duration" }

func subNames(cmd *cobra.Command) []string {
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

// command is a command that does something, with between least and most arguments; use names them.
func command(use, short string, least, most int, do func(ctx context.Context, args []string) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		what := "missing argument"
		if len(args) > most {
			what = fmt.Sprintf("unexpected argument %q", args[most])
		}
		return withHint(usagef("%s", what), "usage: "+cmd.UseLine())
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return do(cmd.Context(), args) }
	return cmd
}

// emailArg is an e-mail from the command line, in key form.
func emailArg(s string) (string, error) {
	e, err := presence.NormalEmail(s)
	if err != nil {
		return "", usagef("%q is not an e-mail address", s)
	}
	return e, nil
}

// deviceArg is a device id from the command line, or "" for any.
func deviceArg(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if err := presence.CheckDevice(s); err != nil {
		return "", usageError{err}
	}
	return s, nil
}

func arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

// config loads the layers for a command that administers, and checks what it needs.
func (c *cli) config() (Config, error) {
	cfg, from, err := c.loadConfig(c.configFile)
	if err != nil {
		return cfg, err
	}
	return cfg, cfg.ValidateOffline(from)
}

// loadConfig lays the flags that go with every command over file and environment.
func (c *cli) loadConfig(file string) (Config, origins, error) {
	cfg, from, err := loadConfig(file, c.environ)
	if c.data != "" {
		cfg.Data, from["data"] = c.data, "--data"
	}
	if c.domain != "" {
		cfg.Domain, from["domain"] = c.domain, "--domain"
	}
	return cfg, from, err
}
