package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"presenced/presence"
)

// testConfig is a gateway on free ports of loopback with its data in a fresh folder.
func testConfig(t *testing.T) Config {
	c := DefaultConfig()
	c.Data = t.TempDir()
	c.HTTP.Listen, c.XMPP.Listen, c.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Dev = true
	return c
}

// startTest starts a gateway that the test ends, or the end of the test does.
func startTest(t *testing.T, c Config) *gateway {
	t.Helper()
	if err := c.Validate(nil); err != nil {
		t.Fatal(err)
	}
	g, err := startGateway(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !g.stopping.Load() {
			if err := g.Stop(); err != nil {
				t.Error(err)
			}
		}
	})
	return g
}

// onData runs a command on the gateway's data folder and reads its JSON into out.
func onData(t *testing.T, c Config, out any, args ...string) {
	t.Helper()
	code, stdout, stderr := cliTest(t, nil, append(args, "--json", "--data", c.Data, "--domain", c.Domain)...)
	if code != 0 {
		t.Fatalf("presenced %v: exit code %d\n%s", args, code, stderr)
	}
	if err := json.Unmarshal([]byte(stdout), out); err != nil {
		t.Fatalf("presenced %v: %v\n%s", args, err, stdout)
	}
}

// device is a device's side of a WebSocket.
type device struct {
	t *testing.T
	*websocket.Conn
}

// frame is what a test looks at in a frame from the gateway.
type frame struct {
	Result        string
	Errno         int
	Error         string
	RetryAfter    float64 `json:"retry_after"`
	Reconnect     *struct{ After float64 }
	Notifications []struct{ ID, Message string }
	Dropped       []struct {
		App   string
		Count int
	}
}

// dialDevice connects and identifies; it fails the test if the gateway does not take it.
func dialDevice(t *testing.T, d websocket.Dialer, url, email, id, assertion string) *device {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn, _, err := d.DialContext(ctx, url+"/presence", nil)
	if err != nil {
		t.Fatal(err)
	}
	dev := &device{t, conn}
	t.Cleanup(func() { conn.Close() })
	dev.send(map[string]any{"type": "hello", "email": email, "device": id, "assertion": assertion, "status": "online"})
	if f := dev.read(); f.Result != "OK" {
		t.Fatalf("hello: %+v", f)
	}
	return dev
}

func (d *device) send(v any) {
	d.t.Helper()
	if err := d.WriteJSON(v); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) read() (f frame) {
	d.t.Helper()
	d.SetReadDeadline(time.Now().Add(patience))
	if err := d.ReadJSON(&f); err != nil {
		d.t.Fatal(err)
	}
	return f
}

// wantEnd reads frames until the close and checks errno and close code.
func (d *device) wantEnd(errno, code int) {
	d.t.Helper()
	d.SetReadDeadline(time.Now().Add(patience))
	last := frame{}
	for {
		var f frame
		err := d.ReadJSON(&f)
		if err == nil {
			last = f
			continue
		}
		if !websocket.IsCloseError(err, code) || last.Errno != errno {
			d.t.Errorf("ended with %v after %+v, want errno %d and close %d", err, last, errno, code)
		}
		d.Close()
		return
	}
}

// component is an app's side of a stream.
type component struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// dialComponent joins as an app's component.
func dialComponent(t *testing.T, conn net.Conn, domain, secret string) *component {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	c := &component{t, conn, bufio.NewReader(conn)}
	fmt.Fprintf(c, "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='%s'>", domain)
	id := regexp.MustCompile(`id=['"]([^'"]+)`).FindStringSubmatch(c.until("<stream:stream[^>]*>"))[1]
	sum := sha1.Sum([]byte(id + secret))
	fmt.Fprintf(c, "<handshake>%s</handshake>", hex.EncodeToString(sum[:]))
	c.until("<handshake")
	return c
}

// until reads up to what matches pattern and returns it.
func (c *component) until(pattern string) string {
	c.t.Helper()
	want := regexp.MustCompile(pattern)
	c.SetReadDeadline(time.Now().Add(patience))
	var got strings.Builder
	for {
		b, err := c.r.ReadByte()
		if err != nil {
			c.t.Fatalf("waiting for %s: %v after %q", pattern, err, got.String())
		}
		got.WriteByte(b)
		if b == '>' && want.MatchString(got.String()) {
			return got.String()
		}
	}
}

func dialTCP(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestAdministrationReachesTheLiving: what a command does to the data is felt by who is connected.
func TestAdministrationReachesTheLiving(t *testing.T) {
	cfg := testConfig(t)
	g := startTest(t, cfg)
	ws := "ws://" + g.addrs()["http"]
	var app credentials
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example.org")
	chat := dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)

	var token newToken
	onData(t, cfg, &token, "user", "token", "ann@example.org", "--device", "phone")
	phone := dialDevice(t, websocket.Dialer{}, ws, "ann@example.org", "phone", token.Token)
	desk := dialDevice(t, websocket.Dialer{}, ws, "ann@example.org", "desk", "dev")

	var grant allowed
	onData(t, cfg, &grant, "grant", "allow", "ann@example.org", app.AppID)
	chat.until(`<presence[^>]*from=['"]` + regexp.QuoteMeta(grant.Address) + `/[^>]*>`)

	var sent accepted
	onData(t, cfg, &sent, "notify", app.AppID, "ann@example.org", "--message", "hello")
	if sent.Devices != 2 {
		t.Errorf("notified %+v, want 2 devices", sent)
	}
	for _, d := range []*device{phone, desk} {
		if f := d.read(); len(f.Notifications) != 1 || f.Notifications[0].Message != "hello" {
			t.Errorf("the device got %+v", f)
		}
	}
	var s serverStatus
	onData(t, cfg, &s, "status")
	if s.Devices != 2 || s.Components != 1 || s.Apps != 1 || s.Users != 1 {
		t.Errorf("status %+v", s)
	}

	var got map[string]any
	onData(t, cfg, &got, "user", "token", "revoke", "ann@example.org")
	phone.wantEnd(31, 4534)
	onData(t, cfg, &got, "device", "kick", "ann@example.org", "desk")
	desk.wantEnd(50, 4500)
	onData(t, cfg, &got, "app", "disable", app.AppID)
	chat.until("</stream:stream>")
}

// TestStopAsksDevicesToLeave: they are told, served on, and the stop does not wait once they have left.
func TestStopAsksDevicesToLeave(t *testing.T) {
	cfg := testConfig(t)
	cfg.Shutdown.Drain = duration("1h") // nobody waits for it
	g := startTest(t, cfg)
	d := dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", "phone", "dev")
	admin := g.addrs()["admin"]
	if code := get(t, "http://"+admin+"/readyz"); code != http.StatusOK {
		t.Errorf("readyz before: %d", code)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop() }()

	f := d.read()
	if f.Reconnect == nil || f.Reconnect.After < 3602 || f.Reconnect.After > 3612 {
		t.Fatalf("want reconnect, got %+v", f)
	}
	d.send(map[string]any{})
	d.read() // still served
	if code := get(t, "http://"+admin+"/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readyz while draining: %d", code)
	}
	var s serverStatus
	onData(t, cfg, &s, "status")
	if !s.Draining {
		t.Errorf("status while draining: %+v", s)
	}
	d.send(map[string]any{"status": "offline"})
	d.read()
	d.Close()
	wantStopped(t, stopped)
}

// TestSpreadIsWideEnough: as long as letting them all in takes, if that is more than configured.
func TestSpreadIsWideEnough(t *testing.T) {
	cfg := testConfig(t)
	cfg.Device.Logins, cfg.Shutdown.Spread, cfg.Shutdown.Drain = 40, duration("10ms"), duration("0s")
	g := startTest(t, cfg)
	for _, name := range []string{"phone", "desk"} {
		dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", name, "dev")
	}
	if got := g.spread(); got != time.Second/20 {
		t.Errorf("two devices at 40 a second: %v", got)
	}
	g.cfg.Device.Logins = 1e6
	if got := g.spread(); got != 10*time.Millisecond {
		t.Errorf("two devices at a million a second: %v", got)
	}
}

// TestStopSpreads: when devices are to come back, and the ends of those that stay; and whoever comes when she was told
// finds the next server.
func TestStopSpreads(t *testing.T) {
	const (
		crowd    = 300
		rounding = 100 * time.Millisecond // of the times in frames
	)
	cfg := testConfig(t)
	cfg.Shutdown.Drain, cfg.Device.Logins = duration("3s"), 150
	cfg.Limits.SocketsPerUser = crowd
	g := startTest(t, cfg)
	url := "ws://" + g.addrs()["http"]
	var stays [crowd]goodbye
	var devices sync.WaitGroup
	for i := range stays {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i))}} // one address alone gets less room
		d := dialDevice(t, websocket.Dialer{NetDialContext: from.DialContext}, url, fmt.Sprintf("user%d@example.org", i), "phone", "dev")
		devices.Go(func() { stays[i] = d.goodbye() })
	}
	stopped, opens := make(chan error, 1), time.Now().Add(cfg.Shutdown.Drain.Duration+changeOver)
	go func() { stopped <- g.Stop() }()
	wantStopped(t, stopped)
	cfg.HTTP.Listen = g.addrs()["http"]
	startTest(t, cfg) // in the place of the first; how soon is a matter of the machine, so nothing is said of it here
	devices.Wait()

	var told, ended, after []float64
	begin := stays[0].told
	for i := range stays {
		b := &stays[i]
		if b.told.IsZero() || b.ended.IsZero() {
			t.Fatalf("device %d was not told, or not closed: %+v", i, b)
		}
		for what, at := range map[string]time.Time{"reconnect": b.told.Add(b.after), "retry_after": b.ended.Add(b.retry)} {
			if at.Before(opens.Add(-rounding)) {
				t.Errorf("%s leads device %d to a door that is closed for %v still", what, i, opens.Sub(at))
			}
		}
		told, ended = append(told, b.told.Sub(begin).Seconds()), append(ended, b.ended.Sub(begin).Seconds())
		after = append(after, b.after.Seconds())
	}
	for what, moments := range map[string][]float64{"ends": ended, "times to come back": after} {
		if h := histogram(moments, 5); slices.Min(h) < crowd/5/4 {
			t.Errorf("the %s are not spread: %v between %.2f and %.2f s", what, h, slices.Min(moments), slices.Max(moments))
		}
	}
	burst := slices.Max(told) - slices.Min(told)
	if width := slices.Max(ended) - slices.Min(ended); width < 2*burst {
		t.Errorf("the ends come within %.2f s, what comes in one burst within %.2f s", width, burst)
	}
}

// goodbye is how a server went from a device.
type goodbye struct {
	told, ended  time.Time
	after, retry time.Duration
}

// goodbye reads to the end of the connection.
func (d *device) goodbye() (b goodbye) {
	d.SetReadDeadline(time.Now().Add(patience))
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	for {
		var f frame
		if d.ReadJSON(&f) != nil {
			return b
		}
		switch {
		case f.Reconnect != nil:
			b.told, b.after = time.Now(), seconds(f.Reconnect.After)
		case f.Errno == 51:
			b.ended, b.retry = time.Now(), seconds(f.RetryAfter)
		}
	}
}

// histogram counts values in so many equal parts of their range.
func histogram(values []float64, parts int) []int {
	low, high := slices.Min(values), slices.Max(values)
	counts := make([]int, parts)
	for _, v := range values {
		counts[min(int((v-low)/(high-low)*float64(parts)), parts-1)]++
	}
	return counts
}

// TestStopEndsWhoStays: after the drain they are told to come back, and components that the server goes.
func TestStopEndsWhoStays(t *testing.T) {
	cfg := testConfig(t)
	cfg.Shutdown.Drain = duration("100ms")
	g := startTest(t, cfg)
	var app credentials
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example.org")
	chat := dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)
	d := dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", "phone", "dev")
	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop() }()
	d.wantEnd(51, 4001)
	chat.until("<system-shutdown")
	chat.until("</stream:stream>")
	chat.Close()
	wantStopped(t, stopped)
}

// TestStopWithNobodyIsAtOnce, whatever the drain, also with a component.
func TestStopWithNobodyIsAtOnce(t *testing.T) {
	cfg := testConfig(t)
	cfg.Shutdown.Drain = duration("1h")
	g := startTest(t, cfg)
	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop() }()
	wantStopped(t, stopped)
	if _, err := os.Stat(socketFile(cfg)); !os.IsNotExist(err) {
		t.Errorf("admin.sock is left: %v", err)
	}
	startTest(t, cfg) // the data folder is free again
}

func wantStopped(t *testing.T, stopped <-chan error) {
	t.Helper()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Stop does not return")
	}
}

// get returns the status of a page.
func get(t *testing.T, url string) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestFailureOfOneServerEndsAll: a gateway without one of its doors does not go on as if nothing were.
func TestFailureOfOneServerEndsAll(t *testing.T) {
	g := startTest(t, testConfig(t))
	g.bound["xmpp"].Close()
	select {
	case <-g.Failed():
	case <-time.After(patience):
		t.Fatal("nobody noticed")
	}
	if err := g.Stop(); err == nil || !strings.Contains(err.Error(), "xmpp stopped") {
		t.Errorf("Stop says %v", err)
	}
}

// TestTLS: wss for devices and direct TLS for components, from certificate files that change while it runs.
func TestTLS(t *testing.T) {
	cfg := testConfig(t)
	cert, key := writeCertificate(t, t.TempDir(), "first")
	cfg.HTTP.TLSCert, cfg.HTTP.TLSKey = cert, key
	cfg.XMPP.TLSCert, cfg.XMPP.TLSKey, cfg.XMPP.TLSListen = cert, key, "127.0.0.1:0"
	g := startTest(t, cfg)
	if !strings.HasPrefix(g.origin, "https://127.0.0.1:") {
		t.Errorf("origin %s", g.origin)
	}
	client := &tls.Config{InsecureSkipVerify: true}
	dialDevice(t, websocket.Dialer{TLSClientConfig: client}, "wss://"+g.addrs()["http"], "ann@example.org", "phone", "dev")
	var app credentials
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example.org")
	chat := dialComponent(t, tls.Client(dialTCP(t, g.addrs()["xmpp_tls"]), client), app.Component, app.Secret)
	chat.Close()

	writeCertificate(t, filepath.Dir(cert), "second")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, name := range []string{"http", "xmpp_tls"} { // files are looked at once a second
		for shown := ""; shown != "second"; {
			if ctx.Err() != nil {
				t.Fatalf("%s still shows %q", name, shown)
			}
			conn := tls.Client(dialTCP(t, g.addrs()[name]), client)
			if err := conn.Handshake(); err != nil {
				t.Fatal(err)
			}
			shown = conn.ConnectionState().PeerCertificates[0].Subject.CommonName
			conn.Close()
		}
	}
}

// serveProcess starts the program itself.
func serveProcess(t *testing.T, cfg Config, args ...string) (*exec.Cmd, serverStatus, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	cmd := exec.Command("presenced", append([]string{"serve", "--data", cfg.Data, "--dev",
		"--http", "127.0.0.1:0", "--xmpp", "127.0.0.1:0", "--admin", ""}, args...)...)
	cmd.Stderr = &log
	cmd.Env = append(os.Environ(), "PRESENCED_SHUTDOWN_DRAIN=1h")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := waitStatus(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return cmd, s, &log
}

// TestSignals: the first one ends cleanly while devices leave, a second one at once.
func TestSignals(t *testing.T) {
	signals := make(chan os.Signal, 1) // under nohup this process ignores SIGHUP, and so would its children
	signal.Notify(signals, syscall.SIGHUP)
	defer signal.Stop(signals)
	for _, first := range []os.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		testSignals(t, first, false)
	}
	testSignals(t, syscall.SIGTERM, true)
}

func testSignals(t *testing.T, first os.Signal, second bool) {
	t.Helper()
	cfg := testConfig(t)
	cmd, s, log := serveProcess(t, cfg)
	d := dialDevice(t, websocket.Dialer{}, "ws://"+s.Listeners["http"], "ann@example.org", "phone", "dev")
	cmd.Process.Signal(first)
	if f := d.read(); f.Reconnect == nil {
		t.Fatalf("want reconnect, got %+v", f)
	}
	want := 0
	if second {
		want = exitFailed
		cmd.Process.Signal(os.Interrupt)
	} else {
		d.Close()
	}
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("second signal %v: exit code %d, want %d\n%s", second, got, want, log)
	}
}

// TestKilledServerLeavesNothingInTheWay: its socket and its lock are dead with it.
func TestKilledServerLeavesNothingInTheWay(t *testing.T) {
	cfg := testConfig(t)
	cmd, _, _ := serveProcess(t, cfg)
	cmd.Process.Kill()
	cmd.Wait()
	if _, err := os.Stat(socketFile(cfg)); err != nil {
		t.Fatal("no socket is left, so this tests nothing: ", err)
	}
	var s serverStatus
	onData(t, cfg, &s, "status")
	if s.Running {
		t.Error("a dead server runs")
	}
	g := startTest(t, cfg)
	onData(t, cfg, &s, "status")
	if !s.Running || s.PID != os.Getpid() {
		t.Errorf("status %+v", s)
	}
	if err := g.Stop(); err != nil {
		t.Error(err)
	}
}

// TestLockedWithoutSocket: somebody has the data file, and there is nobody to talk to.
func TestLockedWithoutSocket(t *testing.T) {
	t.Parallel() // it waits for a while, as the command does
	cfg := testConfig(t)
	st, hub, err := openData(cfg, time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	defer hub.Close()
	code, _, stderr := cliTest(t, nil, "app", "list", "--data", cfg.Data)
	if code != exitFailed || !strings.Contains(stderr, "is in use, but nothing answers on") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	_, err = startGateway(cfg, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "in use by another program") {
		t.Errorf("a server starts: %v", err)
	}
}

// TestCommandWaitsForAStartingServer: between the lock and the socket of a server, or of another command.
func TestCommandWaitsForAStartingServer(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t)
	st, hub, err := openData(cfg, time.Second, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.PutApp(presence.App{ID: "chat", Name: "Chat", Component: "chat.example.org", Secret: "s", Conflict: presence.Replace}); err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 1)
	go func() {
		_, out, stderr := cliTest(t, nil, "app", "list", "--data", cfg.Data)
		done <- out + stderr
	}()
	select {
	case out := <-done:
		t.Fatalf("it did not wait: %s", out)
	case <-time.After(2 * lockTry): // it has found the lock by now, most likely; both orders must do
	}
	hub.Close()
	st.Close()
	if out := <-done; !strings.Contains(out, "chat.example.org") {
		t.Error(out)
	}
}

// TestLongDataPath: a socket's address is short, a folder's name need not be.
func TestLongDataPath(t *testing.T) {
	cfg := testConfig(t)
	cfg.Data = filepath.Join(cfg.Data, strings.Repeat("long", 40))
	startTest(t, cfg)
	var s serverStatus
	onData(t, cfg, &s, "status")
	if !s.Running {
		t.Errorf("status %+v", s)
	}
}

// TestOriginFromTheAddress, where it is not configured.
func TestOriginFromTheAddress(t *testing.T) {
	for _, tt := range []struct{ origin, cert, addr, want string }{
		{"", "", "127.0.0.1:8080", "http://127.0.0.1:8080"},
		{"", "c", "[::1]:443", "https://[::1]:443"},
		{"", "", "0.0.0.0:80", "http://gateway.example:80"},
		{"", "c", "[::]:443", "https://gateway.example:443"},
		{"https://presence.example", "", "127.0.0.1:8080", "https://presence.example"},
	} {
		addr, err := net.ResolveTCPAddr("tcp", tt.addr)
		if err != nil {
			t.Fatal(err)
		}
		c := Config{Domain: "gateway.example", Origin: tt.origin, HTTP: HTTPConfig{TLSCert: tt.cert}}
		if got := c.originAt(addr); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// TestFirstLookAtTheServer: what a person on a terminal is told.
func TestFirstLookAtTheServer(t *testing.T) {
	cfg := testConfig(t)
	g := startTest(t, cfg)
	var b strings.Builder
	printBanner(&b, g)
	for _, want := range []string{"ws://" + g.addrs()["http"] + "/presence", g.addrs()["xmpp"], g.addrs()["admin"],
		"presenced app add Chat --component chat.localhost --data " + cfg.Data} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the banner lacks %q:\n%s", want, b.String())
		}
	}
}

// TestListBreaksOff: half a list is an error, never a shorter list.
func TestListBreaksOff(t *testing.T) {
	conns := newPipeListener()
	broken := errors.New("the disk is gone")
	server := &http.Server{
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			stream(w, func(emit func(any) error) error {
				if r.URL.Path == "/later" {
					for range 10000 {
						emit("element")
					}
				}
				return broken
			})
		}),
	}
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(conns) }()
	defer func() { server.Close(); <-served }()
	cl := (&offline{conns: conns}).client()
	defer cl.http.CloseIdleConnections()

	_, err := cl.ask(t.Context(), http.MethodGet, "/first", nil)
	if err == nil || !strings.Contains(err.Error(), broken.Error()) {
		t.Errorf("before the first element: %v", err)
	}
	body, err := cl.ask(t.Context(), http.MethodGet, "/later", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := each(body, func(string) error { return nil }); err == nil {
		t.Error("half a list was taken for the whole")
	}
	if _, err := io.Copy(io.Discard, body); err == nil {
		t.Error("half a list was copied without an error")
	}
}
