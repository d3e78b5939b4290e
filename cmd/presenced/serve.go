package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// serveFlags are those of `serve`; a flag counts where it was given, even if empty.
type serveFlags struct {
	http, xmpp, admin, origin string
	dev                       bool
}

func serveCommand(c *cli) *cobra.Command {
	var f serveFlags
	cmd := command("serve", "Run the gateway", 0, 0, nil)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, from, err := c.loadConfig(c.configFile)
		f.apply(&cfg, from, cmd.Flags().Changed)
		if err = errors.Join(err, cfg.Validate(from)); err != nil {
			return err
		}
		if c.json {
			cfg.Log.Format = "json"
		}
		return c.serve(cmd.Context(), cfg)
	}
	cmd.Flags().StringVar(&f.http, "http", "", "`ADDR` for devices and pages (default 127.0.0.1:8080)")
	cmd.Flags().StringVar(&f.xmpp, "xmpp", "", "`ADDR` for components (default 127.0.0.1:5347)")
	cmd.Flags().StringVar(&f.admin, "admin", "", "`ADDR` for health and metrics, '' for none (default 127.0.0.1:8081)")
	cmd.Flags().StringVar(&f.origin, "origin", "", "the public origin `URL` (default: made from the address)")
	cmd.Flags().BoolVar(&f.dev, "dev", false, `accept the assertion "dev" for anybody, on loopback only`)
	return cmd
}

// apply lays the flags that were given over the configuration.
func (f serveFlags) apply(cfg *Config, from origins, given func(name string) bool) {
	for _, s := range []struct {
		flag, key, value string
		to               *string
	}{
		{"http", "http.listen", f.http, &cfg.HTTP.Listen},
		{"xmpp", "xmpp.listen", f.xmpp, &cfg.XMPP.Listen},
		{"admin", "admin.listen", f.admin, &cfg.Admin.Listen},
		{"origin", "origin", f.origin, &cfg.Origin},
	} {
		if given(s.flag) {
			*s.to, from[s.key] = s.value, "--"+s.flag
		}
	}
	if given("dev") {
		cfg.Dev, from["dev"] = f.dev, "--dev"
	}
}

// serve runs a gateway until a signal ends it. A second signal does not wait for the clean end.
func (c *cli) serve(ctx context.Context, cfg Config) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // under nohup it is: a terminal that is closed ends nothing
		signal.Notify(signals, syscall.SIGHUP)
	}
	defer signal.Stop(signals)

	log := newLogger(c.stderr, cfg.Log)
	for _, w := range cfg.Warnings(nil) {
		log.Warn("configuration", "key", w.Key, "problem", w.Text, "do", w.Hint)
	}
	g, err := startGateway(cfg, log)
	if err != nil {
		return err
	}
	log.Info("ready", readyAttrs(g)...)
	if isTerminal(c.stdout) && !c.json {
		printBanner(c.stdout, g)
	}
	select {
	case s := <-signals:
		log.Info("stopping", "signal", s.String(), "devices", g.hub.Stats().Sessions)
	case <-ctx.Done():
		log.Info("stopping")
	case <-g.Failed():
	}
	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop() }() // ends with the process if a second signal does not wait
	select {
	case err := <-stopped:
		if err == nil {
			log.Info("stopped")
		}
		return err
	case <-signals:
		return errors.New("stopped at once by a second signal")
	}
}

// readyAttrs says what listens where.
func readyAttrs(g *gateway) []any {
	attrs := []any{"version", programVersion().Version, "data", g.cfg.Data, "domain", g.cfg.Domain}
	addrs := g.addrs()
	for _, name := range listenerNames() {
		if addr, ok := addrs[name]; ok {
			attrs = append(attrs, slog.String(name, addr))
		}
	}
	return append(attrs, "origin", g.origin)
}

// printBanner greets a person who started the server on a terminal.
func printBanner(w io.Writer, g *gateway) {
	addrs := g.addrs()
	fmt.Fprintf(w, "\nPresenced is ready.\n\n")
	pairs := []string{"  devices", wsOrigin(g.origin) + "/presence"}
	for _, a := range []struct{ name, label string }{
		{"xmpp", "  components"}, {"xmpp_tls", "  components, TLS"},
		{"ccs", "  CCS"}, {"ccs_preprod", "  CCS, pre-production"}, {"admin", "  health, metrics"},
	} {
		if addr, ok := addrs[a.name]; ok {
			pairs = append(pairs, a.label, addr)
		}
	}
	facts(w, append(pairs, "  data", g.cfg.Data)...)
	data := ""
	if g.cfg.Data != DefaultConfig().Data {
		data = " --data " + g.cfg.Data
	}
	fmt.Fprintf(w, "\nNext, in another terminal:\n\n  presenced app add Chat --component chat.%s%s\n\nCtrl-C stops.\n\n",
		g.cfg.Domain, data)
}

// wsOrigin is the origin with the scheme of WebSockets: ws for http, wss for https.
func wsOrigin(origin string) string {
	if len(origin) > 4 && origin[:4] == "http" {
		return "ws" + origin[4:]
	}
	return origin
}
