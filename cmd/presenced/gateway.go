package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"presenced/identity"
	"presenced/presence"
	"presenced/store"
	"presenced/web"
	"presenced/wsbridge"
	"presenced/wsbridge/push"
	"presenced/xmppsrv"
	"presenced/xmppsrv/adhoc"
	"presenced/xmppsrv/ccs"
)

const (
	readHeaderTimeout = 10 * time.Second
	requestTimeout    = 20 * time.Second // for the whole of a request; the answer has answerTimes as long
	answerTimes       = 6
	profileTimeout    = 2 * time.Minute // the same on the admin listener, where a profile may take a while
	idleTimeout       = 30 * time.Second
	maxHeaderBytes    = 16 << 10
	closeTimeout      = 5 * time.Second // for peers to take their last bytes
	sweepEvery        = time.Minute
	sweepBatch        = 1000 // expired notifications that are removed at once
	drainCheck        = 50 * time.Millisecond
	changeOver        = 2 * time.Second // from the end of the drain until the next server is there
	spreadMost        = time.Hour
)

// gateway is a running server: the core, the store, the edges and the listeners, wired as a Config says. It
// is what `serve` runs, and what tests and demonstrations run inside themselves. Start it with startGateway,
// end it with Stop, once.
type gateway struct {
	cfg     Config // immutable, like all up to site
	log     *slog.Logger
	started time.Time
	origin  string
	store   *store.Store
	hub     *presence.Hub
	xmpp    *xmppsrv.Server
	ccs     *ccs.Server
	push    *push.Pusher // nil: nobody is woken
	bridge  *wsbridge.Bridge
	site    *web.Site

	oidc     []*identity.OIDC   // where people sign in; immutable, as are the next two
	attempts *identity.Attempts // one limit for devices and pages
	verifier identity.Verifier

	bound   map[string]net.Listener // by the names of listenerNames
	socket  net.Listener            // admin.sock
	servers []*http.Server          // owned by Stop after the start

	group    *errgroup.Group // all goroutines
	running  context.Context // ends when one of them failed, or at the end
	cancel   context.CancelFunc
	draining atomic.Bool
	stopping atomic.Bool // errors of servers are expected from here on
}

// listen opens one listener.
func listen(name, addr string) (net.Listener, error) {
	if name == "ccs" || name == "ccs_preprod" {
		return listenGone(addr, peerGone)
	}
	return net.Listen("tcp", addr)
}

// listenerNames are the names of the addresses in logs and in the status, in their order.
func listenerNames() []string {
	return []string{"http", "xmpp", "xmpp_tls", "ccs", "ccs_preprod", "admin"}
}

// startGateway opens the data folder and starts to serve. The Config must be valid.
func startGateway(cfg Config, log *slog.Logger) (*gateway, error) {
	g := &gateway{cfg: cfg, log: log, started: time.Now(), bound: map[string]net.Listener{}}
	if err := g.open(); err != nil {
		return nil, err
	}
	if err := g.bind(); err != nil {
		return nil, errors.Join(err, g.abandon())
	}
	if err := g.serve(); err != nil {
		return nil, errors.Join(err, g.abandon())
	}
	return g, nil
}

// open takes the data folder.
func (g *gateway) open() error {
	if err := makeDataDir(g.cfg.Data); err != nil {
		return err
	}
	if info, err := os.Stat(g.cfg.Data); err == nil && info.Mode().Perm()&0o077 != 0 {
		g.log.Warn("others may look into the data folder", "data", g.cfg.Data, "mode", info.Mode().Perm().String(),
			"do", "chmod 700 "+g.cfg.Data)
	}
	var err error
	g.store, g.hub, err = openData(g.cfg, time.Second, g.log)
	if errors.Is(err, store.ErrInUse) {
		return withHint(fmt.Errorf("the data folder %s is in use%s", g.cfg.Data, otherServer(g.cfg)),
			"stop the other one, or choose another folder with --data")
	}
	return err
}

// otherServer names the server that has the data folder, if it answers.
func otherServer(cfg Config) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	cl, err := dial(ctx, cfg)
	if err != nil {
		return " by another program"
	}
	defer cl.close()
	var s serverStatus
	if cl.call(ctx, http.MethodGet, "/status", nil, &s) != nil {
		return " by another program"
	}
	return fmt.Sprintf(" by another presenced (pid %d)", s.PID)
}

// bind opens all listeners, or none.
func (g *gateway) bind() error {
	var errs []error
	for _, l := range []struct{ name, key, addr, flag string }{
		{"http", "http.listen", g.cfg.HTTP.Listen, "--http"},
		{"xmpp", "xmpp.listen", g.cfg.XMPP.Listen, "--xmpp"},
		{"xmpp_tls", "xmpp.tls_listen", g.cfg.XMPP.TLSListen, ""},
		{"ccs", "ccs.listen", g.cfg.CCS.Listen, ""},
		{"ccs_preprod", "ccs.preprod_listen", g.cfg.CCS.PreprodListen, ""},
		{"admin", "admin.listen", g.cfg.Admin.Listen, "--admin"},
	} {
		if l.addr == "" {
			continue
		}
		ln, err := listen(l.name, l.addr)
		if err != nil {
			errs = append(errs, bindProblem(l.key, l.addr, l.flag, err))
			continue
		}
		g.bound[l.name] = ln
	}
	if ln := g.bound["http"]; ln != nil {
		proxies, err := parsePrefixes(g.cfg.HTTP.TrustedProxies)
		errs = append(errs, err)
		crowd := newCrowdListener(ln, g.cfg.Limits.SocketsPerAddress+crowdSpare, proxies)
		g.bound["http"] = paced(crowd, pacePerLogin*g.cfg.Device.Logins)
	}
	var err error
	if g.socket, err = listenSocket(socketFile(g.cfg)); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// bindProblem says why an address cannot be listened on, and what to do.
func bindProblem(key, addr, flag string, err error) error {
	p := &problem{Key: key, Text: fmt.Sprintf("cannot listen on %s: %v", addr, err)}
	other := "set " + key
	if flag != "" {
		other = "use " + flag + " or set " + key
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		p.Text = addr + " is in use by another program"
		p.Hint = "stop it, or take another address: " + other
	case errors.Is(err, syscall.EACCES):
		p.Text = "this user may not listen on " + addr
		p.Hint = "take a port above 1023: " + other
	}
	return p
}

// listenSocket listens on a unix socket with mode 0600. One that a dead server left behind is replaced; the
// caller holds the lock of the data file, so no living one is.
func listenSocket(path string) (net.Listener, error) {
	if conn, err := dialSocket(context.Background(), path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("something answers on %s already", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	short, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.Listen("unix", short)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it knows only the short name
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// abandon undoes what a start did that failed later.
func (g *gateway) abandon() error {
	if g.cancel != nil {
		g.cancel()
	}
	for _, l := range g.bound {
		l.Close()
	}
	if g.socket != nil {
		g.socket.Close()
		os.Remove(socketFile(g.cfg))
	}
	g.stopPush()
	g.hub.Close()
	return g.store.Close()
}

// serve makes the edges and starts every goroutine.
func (g *gateway) serve() error {
	ctx, cancel := context.WithCancel(context.Background())
	g.cancel = cancel
	secured, err := g.secure(ctx)
	if err != nil {
		return err
	}
	g.origin = g.cfg.originAt(g.bound["http"].Addr())
	if err := g.wire(); err != nil {
		return err
	}
	pages, err := g.pages()
	if err != nil {
		return err
	}
	g.group, g.running = errgroup.WithContext(ctx)
	events := g.hub.Watch("") // before anything can happen

	g.serveHTTP("http", g.bound["http"], pages, secured.http, requestTimeout)
	g.serveHTTP("admin socket", g.socket, g.admin().handler(), nil, 0) // an import takes its time
	if l := g.bound["admin"]; l != nil {
		g.serveHTTP("admin", l, g.monitor(), nil, profileTimeout)
	}
	if l := g.bound["xmpp"]; l != nil {
		g.goServe("xmpp", func() error { return g.xmpp.Serve(l) })
	}
	if l := g.bound["xmpp_tls"]; l != nil {
		g.goServe("xmpp_tls", func() error { return g.xmpp.Serve(tls.NewListener(l, secured.xmpp)) })
	}
	for _, name := range []string{"ccs", "ccs_preprod"} {
		if l := g.bound[name]; l != nil {
			g.group.Go(func() error { return g.ccs.Serve(tls.NewListener(l, secured.ccs)) }) // it ends when it drains
		}
	}
	if secured.acme != nil {
		for _, host := range secured.acme.hosts {
			g.group.Go(func() error { secured.acme.keep(g.running, host); return nil })
		}
	}
	g.group.Go(func() error { drive(g.running, g.hub, time.Now, g.sweep); return nil })
	g.group.Go(func() error { keepHistory(g.running, events, g.store, g.log); return nil })
	return nil
}

// originAt is the public origin: as configured, else made from the address that HTTP is served on.
func (c *Config) originAt(addr net.Addr) string {
	if c.Origin != "" {
		return c.Origin
	}
	scheme := "http"
	if c.HTTP.tls() {
		scheme = "https"
	}
	host := addr.String()
	switch t, ok := addr.(*net.TCPAddr); {
	case len(c.HTTP.ACMEHosts) > 0:
		host = c.HTTP.ACMEHosts[0] // the authority found it at port 443
	case ok && t.IP.IsUnspecified():
		host = net.JoinHostPort(c.Domain, fmt.Sprint(t.Port))
	}
	return scheme + "://" + host
}

// wire makes the edges.
func (g *gateway) wire() error {
	proxies, err := parsePrefixes(g.cfg.HTTP.TrustedProxies)
	if err != nil {
		return err
	}
	engine, err := g.commands()
	if err != nil {
		return err
	}
	if err := g.identify(); err != nil {
		return err
	}
	if err := g.startPush(); err != nil {
		return err
	}
	d, x := &g.cfg.Device, &g.cfg.XMPP
	devices := wsbridge.Config{
		Hub: g.hub, Verifier: g.verifier, Attempts: g.attempts, Log: g.log, Now: time.Now,
		MaxFrame: d.MaxFrame, Burst: d.Burst, Rate: d.Rate, Logins: d.Logins,
		IdentifyTimeout: d.IdentifyTimeout.Duration, PongTimeout: d.PongTimeout.Duration,
		Heartbeat: d.Heartbeat.Duration, HeartbeatMin: d.HeartbeatMin.Duration, HeartbeatMax: d.HeartbeatMax.Duration,
		SocketsPerAddress: g.cfg.Limits.SocketsPerAddress, Origin: g.origin, LocalOnly: g.cfg.Dev, TrustedProxies: proxies,
	}
	if g.push != nil { // a nil of its type would be none of the interface's
		devices.Push = g.push
	}
	g.bridge = wsbridge.New(devices)
	g.xmpp = xmppsrv.New(xmppsrv.Config{
		Hub: g.hub, Domain: g.cfg.Domain, MaxStanza: x.MaxStanza, HandshakeTimeout: x.HandshakeTimeout.Duration,
		PingInterval: x.PingInterval.Duration, ResumeTimeout: x.ResumeTimeout.Duration,
		ShowVersion: x.ShowVersion, Version: programVersion().Version, Log: g.log, Now: time.Now, Commands: engine,
	})
	g.ccs = ccs.New(ccs.Config{Hub: g.hub, Domain: g.cfg.Domain, MaxStanza: x.MaxStanza, HandshakeTimeout: x.HandshakeTimeout.Duration,
		WriteTimeout: x.PingInterval.Duration, TargetBurst: g.cfg.CCS.Burst, TargetRate: g.cfg.CCS.Rate, Log: g.log, Now: time.Now})
	return nil
}

// adminEmails are the e-mails of config.admins in the form of keys.
func (c *Config) adminEmails() []string {
	var emails []string
	for _, e := range c.Admins {
		if email, err := presence.NormalEmail(e); err == nil {
			emails = append(emails, email)
		}
	}
	return emails
}

// pages is everything on the HTTP listener.
func (g *gateway) pages() (http.Handler, error) {
	proxies, err := parsePrefixes(g.cfg.HTTP.TrustedProxies)
	if err != nil {
		return nil, err
	}
	c := web.Config{
		Origin: g.origin, Domain: g.cfg.Domain, Version: programVersion().Version,
		Hub: g.hub, Store: g.store, Verifier: g.verifier, OIDC: g.oidc, Attempts: g.attempts,
		Admins: g.cfg.adminEmails(), Dev: g.cfg.Dev, TrustedProxies: proxies, Log: g.log, Now: time.Now,
		Sidebar: strings.Join(g.cfg.HTTP.SidebarFrames, " "),
	}
	if err := g.siteFetcher(&c); err != nil {
		return nil, err
	}
	if l := g.bound["xmpp"]; l != nil {
		c.Component = l.Addr().String()
	}
	if g.site, err = web.New(c); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/presence", g.bridge)
	mux.HandleFunc("/myapps/{appid}", func(w http.ResponseWriter, r *http.Request) {
		if wsbridge.IsUpgrade(r) {
			g.bridge.ServeApp(w, r)
			return
		}
		g.site.ServeHTTP(w, r)
	})
	mux.Handle("/", g.site)
	return mux, nil
}

// admin is the administration service of this server.
func (g *gateway) admin() *admin {
	return &admin{hub: g.hub, store: g.store, domain: g.cfg.Domain, now: time.Now, log: g.log, status: g.status}
}

// commands is the same for administrators over XMPP; nil if there are none.
func (g *gateway) commands() (*adhoc.Engine, error) {
	admins, err := parseBareJIDs(g.cfg.AdminJIDs)
	if err != nil || len(admins) == 0 {
		return nil, err
	}
	c := commands{admin: g.admin(), components: func() []xmppsrv.Component { return g.xmpp.Components() }}
	return adhoc.New(adhoc.Config{Admins: admins, Commands: c.list(), Now: time.Now, Log: g.log}), nil
}

func (g *gateway) status() serverStatus {
	s := baseStatus(g.cfg)
	s.Running, s.PID, s.Started = true, os.Getpid(), g.started.UTC().Truncate(time.Second)
	s.Uptime = time.Since(g.started).Round(time.Second).String()
	s.Listeners, s.Draining = g.addrs(), g.draining.Load()
	return s
}

// addrs are the addresses that are listened on, with their real ports, by the names of listenerNames.
func (g *gateway) addrs() map[string]string {
	m := map[string]string{}
	for name, l := range g.bound {
		m[name] = l.Addr().String()
	}
	return m
}

// serveHTTP starts an HTTP server on l, with TLS if there is a config for it. A request has to be there within
// patience, and its answer taken within answerTimes that; 0: ever. What streams sets its own time for each write.
func (g *gateway) serveHTTP(name string, l net.Listener, h http.Handler, t *tls.Config, patience time.Duration) {
	s := &http.Server{
		ReadTimeout: patience, WriteTimeout: answerTimes * patience,
		Handler: h, TLSConfig: t, ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		Protocols: new(http.Protocols),
	}
	s.Protocols.SetHTTP1(true) // a WebSocket needs the connection for itself
	g.servers = append(g.servers, s)
	g.goServe(name, func() error {
		if t != nil {
			return s.ServeTLS(l, "", "")
		}
		return s.Serve(l)
	})
}

// goServe runs a server until Stop; an earlier end is a failure of the whole gateway.
func (g *gateway) goServe(name string, serve func() error) {
	g.group.Go(func() error {
		err := serve()
		if g.stopping.Load() {
			return nil
		}
		return fmt.Errorf("%s stopped: %w", name, errors.Join(err, errEarlyEnd))
	})
}

var errEarlyEnd = errors.New("the listener ended by itself")

// core is what drive gives its time to.
type core interface {
	Advance(now time.Time) (next time.Time)
	Alarm() <-chan struct{}
}

// drive gives the core its time and has sweep remove what expired, until ctx ends; it is the only caller of Advance.
// The core wants to be asked at least twice a second while anything is due some time, by the clock on the wall: a timer
// runs on another clock, which stands still while the machine sleeps and knows nothing of a wall clock that was set.
func drive(ctx context.Context, c core, now func() time.Time, sweep func(time.Time) time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var swept time.Time // when to sweep next
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.Alarm():
		}
		at := now()
		next := c.Advance(at)
		if !at.Before(swept) || swept.Sub(at) > sweepEvery { // the clock may have been set back
			swept = at.Add(sweep(at))
		}
		if swept.Before(next) {
			next = swept
		}
		timer.Reset(next.Sub(at))
	}
}

// sweep removes some of what expired and tells when to do so again.
func (g *gateway) sweep(now time.Time) time.Duration {
	n, err := g.store.Sweep(now, sweepBatch)
	if err != nil {
		g.log.Error("removing expired notifications", "error", err)
	}
	if n == sweepBatch {
		return 0
	}
	return sweepEvery
}

// Failed is closed when a server ended by itself; Stop tells why.
func (g *gateway) Failed() <-chan struct{} { return g.running.Done() }

// Stop ends the gateway: devices and CCS connections are asked to come back later and are served for up to the configured
// drain (not at all when there are none), then everything is flushed and closed. It returns the first failure there was.
func (g *gateway) Stop() error {
	g.stopPush()
	g.drain()
	g.stopping.Store(true)
	g.site.Close()
	g.hub.Close()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var edges errgroup.Group // all at once: one's slow peers must not cost the other its time
	edges.Go(func() error { return g.xmpp.Shutdown(ctx) })
	edges.Go(func() error { return g.ccs.Shutdown(ctx) })
	edges.Go(func() error { return g.bridge.Shutdown(ctx) })
	if err := edges.Wait(); err != nil {
		g.log.Warn("not every peer took its goodbye", "error", err)
	}
	os.Remove(socketFile(g.cfg))
	for _, s := range g.servers {
		if s.Shutdown(ctx) != nil {
			s.Close()
		}
	}
	for _, l := range g.bound {
		l.Close() // those of xmppsrv, if it does not
	}
	g.cancel()
	return errors.Join(g.group.Wait(), g.store.Close())
}

// spread is the time within which devices are to come back: as configured, or as long as the next server takes to let
// them in where that is longer.
func (g *gateway) spread() time.Duration {
	spread := g.cfg.Shutdown.Spread.Duration
	if rate := g.cfg.Device.Logins; rate > 0 {
		spread = max(spread, min(time.Duration(float64(g.hub.Stats().Sessions)/rate*float64(time.Second)), spreadMost))
	}
	return spread
}

// drain serves on until every device and every CCS connection has left, or its time is over, or a server has failed.
// Devices are told at once when to come back. The connections of those who stay end one after the other towards the
// end of that time, because not all of them heed what they are told.
func (g *gateway) drain() {
	g.draining.Store(true)
	limit := g.cfg.Shutdown.Drain.Duration
	over, rate := time.Now().Add(limit), g.dismissals(limit)
	g.hub.Drain(limit+changeOver, g.spread(), "shutdown")
	g.ccs.Drain()
	tick := time.NewTicker(drainCheck)
	defer tick.Stop()
	for time.Now().Before(over) {
		devices := g.hub.Stats().Sessions
		if devices == 0 && g.ccs.Stats().Sessions == 0 {
			return
		}
		g.hub.Dismiss(devices - int(rate*time.Until(over).Seconds()))
		select {
		case <-g.running.Done():
			return
		case <-tick.C:
		}
	}
}

// dismissals is how many devices have their connections ended in a second: as many as the next server lets in, or
// enough to be done within the second half of the drain.
func (g *gateway) dismissals(drain time.Duration) float64 {
	rate := cmp.Or(g.cfg.Device.Logins, DefaultConfig().Device.Logins)
	if drain <= 0 {
		return rate
	}
	return max(rate, float64(g.hub.Stats().Sessions)/(drain/2).Seconds())
}
