package xmppsrv_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"presenced/presence"
	"presenced/store"
	"presenced/xmppsrv"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProxy) != "" {
		if err := serveToxics(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const (
	domain = "gw.example"
	secret = "s3cr3t-of-the-app"
	// patience is how long a test waits for what must come. It only runs out when a test fails.
	patience = 60 * time.Second
	// snapshotSoon is for tests in which presence begins although the component says nothing. In the others it says
	// something first, however slow the machine is.
	snapshotSoon = time.Second
)

// gateway is a hub on a real store with a component listener on loopback.
type gateway struct {
	t    testing.TB
	hub  *presence.Hub
	db   *store.Store
	srv  *xmppsrv.Server
	addr string
	log  *logged
	stop func() // Hub.Close, Shutdown and all else, once
}

// logged is all that was logged.
type logged struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // closed at the next write
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
	return l.buf.Write(p)
}

// now is what was logged, and what tells that there is more.
func (l *logged) now() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String(), l.more
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// setup is how a gateway is configured.
type setup struct {
	xmppsrv.Config
	Limits presence.Limits
	Store  store.Options // its limits are those
	Path   string        // of the data file
	Clock  func() time.Time
	Linger time.Duration
}

// start starts a gateway with the app "chat" at chat.example; change may alter the configuration.
func start(t testing.TB, change ...func(*setup)) *gateway {
	t.Helper()
	g := &gateway{t: t, log: &logged{more: make(chan struct{})}}
	cfg := setup{
		Config: xmppsrv.Config{Domain: domain, ShowVersion: true, Version: "1.2.3",
			Log: slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))},
		Limits: presence.DefaultLimits(),
		Path:   filepath.Join(t.TempDir(), "data"),
		Clock:  time.Now,
	}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	cfg.Store.Limits = cfg.Limits
	g.db, err = store.Open(cfg.Path, cfg.Store)
	g.must(err)
	g.hub, err = presence.New(presence.Config{Store: g.db, Now: cfg.Clock, Limits: cfg.Limits, Key: g.db.Key(), Linger: cfg.Linger})
	g.must(err)
	cfg.Hub = g.hub
	g.srv = xmppsrv.New(cfg.Config)
	g.srv.SnapshotWait(patience)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	g.must(err)
	g.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- g.srv.Serve(l) }()
	g.stop = sync.OnceFunc(func() {
		g.hub.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := g.srv.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		g.must(g.db.Close())
	})
	t.Cleanup(func() {
		g.stop()
		if s := g.log.String(); strings.Contains(s, secret) || digests.MatchString(s) {
			t.Errorf("a secret or a digest was logged:\n%s", s)
		}
	})
	g.app("chat", presence.Replace)
	return g
}

var digests = regexp.MustCompile(`[0-9a-fA-F]{40}`)

func (g *gateway) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// app registers the app id at id.example.
func (g *gateway) app(id string, c presence.Conflict) {
	g.t.Helper()
	g.must(g.hub.PutApp(presence.App{ID: id, Name: id, Component: id + ".example", Secret: secret, Conflict: c}))
}

// allow lets the app chat see a user under this PUID.
func (g *gateway) allow(email, puid string, change ...func(*presence.Grant)) presence.Grant {
	g.t.Helper()
	gr := presence.Grant{Email: email, App: "chat", PUID: puid, Address: presence.ByPUID, Notify: true}
	for _, f := range change {
		f(&gr)
	}
	gr, err := g.hub.Allow(gr, presence.ByUser)
	g.must(err)
	return gr
}

// device attaches a device and makes it online.
func (g *gateway) device(email, id string) *presence.Session {
	g.t.Helper()
	s, err := g.hub.Attach(presence.Attach{Email: email, Device: id, Ready: presence.NewReady()})
	g.must(err)
	g.must(s.Publish(presence.Online, time.Time{}))
	return s
}

// comp is a component over a raw socket: what it sends is literal, what it gets it splits into elements.
type comp struct {
	g     *gateway
	t     testing.TB
	c     net.Conn
	raw   bytes.Buffer // what came
	d     *xml.Decoder
	id    string // of the stream
	name  string // its domain
	alive bool   // next answers pings, and passes over them
}

// dial opens a connection and sends nothing.
func (g *gateway) dial() *comp {
	g.t.Helper()
	nc, err := net.Dial("tcp", g.addr)
	g.must(err)
	c := &comp{g: g, t: g.t, c: nc, name: "chat.example"}
	c.d = xml.NewDecoder(io.TeeReader(nc, &c.raw))
	c.wait()
	g.t.Cleanup(func() { nc.Close() })
	return c
}

const openStream = "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='%s'>"

// connect opens a stream for the app and does the handshake.
func (g *gateway) connect(app string) *comp {
	g.t.Helper()
	c := g.dial()
	c.name = app + ".example"
	c.handshake()
	return c
}

func (c *comp) handshake() {
	c.t.Helper()
	c.open()
	c.send("<handshake>" + c.digest(secret) + "</handshake>")
	c.want("<handshake/>")
}

func (c *comp) open() {
	c.t.Helper()
	c.send(fmt.Sprintf(openStream, c.name))
	c.header()
}

func (c *comp) digest(secret string) string {
	sum := sha1.Sum([]byte(c.id + secret))
	return hex.EncodeToString(sum[:])
}

func (c *comp) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.c, s); err != nil {
		c.t.Fatalf("sending: %v", err)
	}
}

// header reads the gateway's stream header.
func (c *comp) header() {
	c.t.Helper()
	c.wait()
	for {
		tok, err := c.d.Token()
		if err != nil {
			c.t.Fatalf("reading the header: %v", err)
		}
		if e, ok := tok.(xml.StartElement); ok {
			for _, a := range e.Attr {
				if a.Name.Local == "id" {
					c.id = a.Value
				}
			}
			if e.Name.Local != "stream" || c.id == "" {
				c.t.Fatalf("no header: %q", c.raw.String())
			}
			return
		}
	}
}

// wait gives what is read next its time.
func (c *comp) wait() { c.c.SetReadDeadline(time.Now().Add(patience)) }

// next returns the next first-level element as it came; "" at the closing tag.
func (c *comp) next() string {
	c.t.Helper()
	c.wait()
	from := c.d.InputOffset()
	s, err := c.read()
	if err != nil {
		c.t.Fatalf("reading: %v after %q", err, c.raw.Bytes()[from:])
	}
	if c.alive && isPing(s) {
		c.send(" ")
		return c.next()
	}
	return s
}

// read is next for a connection that may break.
func (c *comp) read() (string, error) {
	from, depth := c.d.InputOffset(), 0
	for {
		tok, err := c.d.RawToken()
		if err != nil {
			return "", err
		}
		switch tok.(type) {
		case xml.StartElement:
			depth++
		case xml.EndElement:
			depth--
		}
		switch {
		case depth < 0:
			return "", nil
		case depth == 0:
			return string(c.raw.Bytes()[from:c.d.InputOffset()]), nil
		}
	}
}

// want reads elements and compares them with the literal ones.
func (c *comp) want(elements ...string) {
	c.t.Helper()
	for _, w := range elements {
		if got := c.next(); got != w {
			c.t.Fatalf("got  %s\nwant %s", got, w)
		}
	}
}

// hello sends a first element that gets no answer, so that the snapshot comes.
func (c *comp) hello() {
	c.t.Helper()
	c.send("<presence from='" + c.name + "' to='" + domain + "'/>")
}

// fence sends a ping and wants its answer next: nothing else came before.
func (c *comp) fence() {
	c.t.Helper()
	c.send("<iq from='" + c.name + "' to='" + domain + "' id='fence' type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
	c.want("<iq from='" + domain + "' to='" + c.name + "' id='fence' type='result'/>")
}

// wantPing reads a ping of the gateway's.
func (c *comp) wantPing() {
	c.t.Helper()
	want := "<iq from='" + domain + "' to='" + c.name + "' id='ID' type='get'><ping xmlns='urn:xmpp:ping'/></iq>"
	if got := maskID(c.next()); got != want {
		c.t.Fatalf("ping: got %s", got)
	}
}

// rest reads what comes until the gateway closes the connection.
func (c *comp) rest() string {
	c.t.Helper()
	c.wait()
	from := c.d.InputOffset()
	for {
		if _, err := c.d.RawToken(); err != nil {
			break
		}
	}
	if _, err := c.c.Read(make([]byte, 1)); err != io.EOF {
		c.t.Errorf("the connection ended with %v", err)
	}
	return string(c.raw.Bytes()[from:])
}

func streamError(cond, text string) string {
	return "<stream:error><" + cond + " xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>" +
		"<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>" + text + "</text></stream:error></stream:stream>"
}

// ends wants the stream to end with this and nothing before it.
func (c *comp) ends(with string) {
	c.t.Helper()
	if got := c.rest(); got != with {
		c.t.Errorf("the stream ended with\n%s\nwant\n%s", got, with)
	}
}

// logs waits until this was logged.
func (g *gateway) logs(what string) {
	g.t.Helper()
	g.logsTimes(what, 1)
}

// logsTimes waits until this was logged n times.
func (g *gateway) logsTimes(what string, n int) {
	g.t.Helper()
	late := time.After(patience)
	for {
		all, more := g.log.now()
		if strings.Count(all, what) >= n {
			return
		}
		select {
		case <-more:
		case <-late:
			g.t.Fatalf("%q is not %d times in the log:\n%s", what, n, all)
		}
	}
}
