package ccs_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"presenced/presence"
	"presenced/store"
	"presenced/xmppsrv/ccs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain = "gw.example"
	apiKey = "AIza-the-server-key-of-chat"
	// patience is how long a test waits for what must come. It only runs out when a test fails.
	patience = 60 * time.Second
)

// gateway is a hub on a real store with a CCS listener on loopback.
type gateway struct {
	t     testing.TB
	hub   *presence.Hub
	db    *store.Store
	srv   *ccs.Server
	addr  string
	pipes *pipes // nil: TCP
	roots *x509.CertPool
	log   *logged
	clock *clock
	stop  func() // Hub.Close, Shutdown and all else, once
}

// logged is all that was logged.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// clock is real time, moved.
type clock struct {
	mu   sync.Mutex
	skew time.Duration // guarded by mu
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.skew)
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew += d
}

// setup is how a gateway is configured.
type setup struct {
	ccs.Config
	Limits presence.Limits
	Path   string // of the data file
	Addr   string
	Pipes  *pipes // in place of TCP
	Store  func(presence.Store) presence.Store
}

// pipes is a listener in memory, for tests in which time stands still while somebody works.
type pipes struct {
	came chan net.Conn
	shut chan struct{}
	once sync.Once
}

func newPipes() *pipes { return &pipes{came: make(chan net.Conn), shut: make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.came <- theirs
	return ours
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.came:
		return c, nil
	case <-p.shut:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.shut) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// certificate is the gateway's, made once.
var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ccs"}, NotBefore: time.Unix(0, 0),
		NotAfter: time.Unix(1<<36, 0), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
})

// start starts a gateway with the app "chat"; change may alter the configuration.
func start(t testing.TB, change ...func(*setup)) *gateway {
	t.Helper()
	g := &gateway{t: t, log: &logged{}, clock: &clock{}}
	cfg := setup{Config: ccs.Config{Domain: domain, Now: g.clock.Now,
		Log: slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))},
		Limits: presence.DefaultLimits(), Path: filepath.Join(t.TempDir(), "data"), Addr: "127.0.0.1:0",
		Store: func(s presence.Store) presence.Store { return s }}
	for _, f := range change {
		f(&cfg)
	}
	var err error
	g.db, err = store.Open(cfg.Path, store.Options{Limits: cfg.Limits, Now: g.clock.Now})
	g.must(err)
	g.hub, err = presence.New(presence.Config{Store: cfg.Store(g.db), Now: g.clock.Now, Limits: cfg.Limits, Linger: time.Second})
	g.must(err)
	cfg.Hub = g.hub
	g.srv = ccs.New(cfg.Config)
	var cert tls.Certificate
	cert, g.roots = certificate()
	var l net.Listener = cfg.Pipes
	if g.pipes = cfg.Pipes; g.pipes == nil {
		l, err = net.Listen("tcp", cfg.Addr)
		g.must(err)
	}
	g.addr = l.Addr().String()
	l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}})
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
		if s := g.log.String(); strings.Contains(s, apiKey) || strings.Contains(s, "wrong-key") {
			t.Errorf("a key was logged:\n%s", s)
		}
	})
	if _, ok := g.hub.App("chat"); !ok {
		g.app("chat")
	}
	return g
}

func (g *gateway) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) app(id string) {
	g.t.Helper()
	g.must(g.hub.PutApp(presence.App{ID: id, Name: "Chat & Co", Component: id + ".example", Secret: "s", APIKey: apiKey, Conflict: presence.Replace}))
}

// allow lets the app chat see a user under this PUID.
func (g *gateway) allow(email, puid string, change ...func(*presence.Grant)) {
	g.t.Helper()
	gr := presence.Grant{Email: email, App: "chat", PUID: puid, Address: presence.ByPUID, Notify: true}
	for _, f := range change {
		f(&gr)
	}
	_, err := g.hub.Allow(gr, presence.ByUser)
	g.must(err)
}

// device is a connected device.
type device struct {
	*presence.Session
	g     *gateway
	ready *presence.Ready
	token string // at chat
}

// device attaches a device and makes it online.
func (g *gateway) device(email, id string) *device {
	g.t.Helper()
	d := &device{g: g, ready: presence.NewReady()}
	var err error
	d.Session, err = g.hub.Attach(presence.Attach{Email: email, Device: id, Ready: d.ready})
	g.must(err)
	g.must(d.Publish(presence.Online, time.Time{}))
	tokens, err := g.hub.Addresses(email, id)
	g.must(err)
	d.token = tokens["chat"]
	return d
}

// mail waits for the next notifications.
func (d *device) mail() []presence.Notification {
	d.g.t.Helper()
	late := time.After(patience)
	for {
		o, err := d.Next(100)
		d.g.must(err)
		if len(o.Notifications) > 0 {
			return o.Notifications
		}
		select {
		case <-d.ready.Wake():
			d.ready.Take(nil)
		case <-late:
			d.g.t.Fatal("no notification came")
		}
	}
}

// one waits for one notification and confirms it.
func (d *device) one() presence.Notification {
	d.g.t.Helper()
	ns := d.mail()
	if len(ns) != 1 {
		d.g.t.Fatalf("%d notifications came: %+v", len(ns), ns)
	}
	d.Confirm([]uint64{ns[0].Seq})
	return ns[0]
}

// none wants nothing to wait for the device now.
func (d *device) none() {
	d.g.t.Helper()
	if o, err := d.Next(100); err != nil || len(o.Notifications) > 0 {
		d.g.t.Errorf("the device was told %+v, %v", o.Notifications, err)
	}
}

// server is an app server over a raw TLS socket: what it sends is literal, what it gets it splits into elements.
type server struct {
	g   *gateway
	t   testing.TB
	c   *tls.Conn
	raw bytes.Buffer // what came
	d   *xml.Decoder
	jid string
}

// dial opens a connection and sends nothing.
func (g *gateway) dial() *server {
	g.t.Helper()
	var raw net.Conn
	if g.pipes != nil {
		raw = g.pipes.dial()
	} else {
		var err error
		raw, err = net.Dial("tcp", g.addr)
		g.must(err)
	}
	c := tls.Client(raw, &tls.Config{RootCAs: g.roots, ServerName: "localhost"})
	s := &server{g: g, t: g.t, c: c}
	s.d = xml.NewDecoder(io.TeeReader(c, &s.raw))
	s.wait()
	g.t.Cleanup(func() { c.Close() })
	return s
}

const openStream = `<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='gcm.googleapis.com' version='1.0'>`

func plain(id, key string) string {
	return base64.StdEncoding.EncodeToString([]byte("\x00" + id + "\x00" + key))
}

func auth(id, key string) string {
	return "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + plain(id, key) + "</auth>"
}

const (
	mechanisms = `<stream:features><mechanisms xmlns="urn:ietf:params:xml:ns:xmpp-sasl"><mechanism>PLAIN</mechanism></mechanisms></stream:features>`
	features   = `<stream:features><bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"/><session xmlns="urn:ietf:params:xml:ns:xmpp-session"><optional/></session></stream:features>`
	success    = `<success xmlns="urn:ietf:params:xml:ns:xmpp-sasl"/>`
	bind       = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
)

// connect opens a stream for chat and binds.
func (g *gateway) connect() *server {
	g.t.Helper()
	s := g.dial()
	s.login("chat@gcm.googleapis.com")
	return s
}

func (s *server) login(id string) {
	s.t.Helper()
	s.send(openStream)
	s.header()
	s.want(mechanisms)
	s.send(auth(id, apiKey))
	s.want(success)
	s.restart()
	s.want(features)
	s.send(bind)
	s.jid = s.bound()
}

// restart sends a new header and reads the new one.
func (s *server) restart() {
	s.t.Helper()
	s.restartTo(openStream)
}

func (s *server) restartTo(open string) {
	s.t.Helper()
	s.d = xml.NewDecoder(io.TeeReader(s.c, &s.raw))
	s.raw.Reset()
	s.send(open)
	s.header()
}

func (s *server) bound() string {
	s.t.Helper()
	const before, behind = `<iq type="result" id="b"><bind xmlns="urn:ietf:params:xml:ns:xmpp-bind"><jid>`, `</jid></bind></iq>`
	got := s.next()
	jid, ok := strings.CutPrefix(got, before)
	jid, ok2 := strings.CutSuffix(jid, behind)
	if !ok || !ok2 {
		s.t.Fatalf("bound by %s", got)
	}
	return jid
}

func (s *server) send(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.c, text); err != nil {
		s.t.Fatalf("sending: %v", err)
	}
}

// gcm sends a message with this JSON.
func (s *server) gcm(json string) {
	s.t.Helper()
	s.send(message(json))
}

func message(json string) string {
	var w strings.Builder
	xml.EscapeText(&w, []byte(json))
	return `<message id=""><gcm xmlns="google:mobile:data">` + w.String() + `</gcm></message>`
}

// header reads the gateway's stream header.
func (s *server) header() string {
	s.t.Helper()
	s.wait()
	for {
		tok, err := s.d.Token()
		if err != nil {
			s.t.Fatalf("reading the header: %v", err)
		}
		if e, ok := tok.(xml.StartElement); ok {
			if e.Name.Local != "stream" {
				s.t.Fatalf("no header: %q", s.raw.String())
			}
			return string(s.raw.Bytes()[:s.d.InputOffset()])
		}
	}
}

// wait gives what is read next its time.
func (s *server) wait() { s.c.SetReadDeadline(time.Now().Add(patience)) }

// next returns the next first-level element as it came; "" at the closing tag.
func (s *server) next() string {
	s.t.Helper()
	s.wait()
	from := s.d.InputOffset()
	e, err := s.read()
	if err != nil {
		s.t.Fatalf("reading: %v after %q", err, s.raw.Bytes()[from:])
	}
	return e
}

// read is next for a connection that may break.
func (s *server) read() (string, error) {
	from, depth := s.d.InputOffset(), 0
	for {
		tok, err := s.d.RawToken()
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
			return string(s.raw.Bytes()[from:s.d.InputOffset()]), nil
		}
	}
}

// want reads elements and compares them with the literal ones.
func (s *server) want(elements ...string) {
	s.t.Helper()
	for _, w := range elements {
		if got := s.next(); got != w {
			s.t.Fatalf("got  %s\nwant %s", got, w)
		}
	}
}

// fence sends a ping and wants its answer next: nothing else came before.
func (s *server) fence() {
	s.t.Helper()
	s.send("<iq type='get' id='fence' to='gcm.googleapis.com'><ping xmlns='urn:xmpp:ping'/></iq>")
	s.want(`<iq type="result" to="` + s.jid + `" from="gcm.googleapis.com" id="fence"/>`)
}

// ack, nack and upstream are what the gateway says, as the reference has them.
func ack(to, id string) string {
	return `<message><data:gcm xmlns:data="google:mobile:data">{"message_type":"ack","from":"` + to + `","message_id":"` + id + `"}</data:gcm></message>`
}

func nack(to, id, code, text string) string {
	return `<message><gcm xmlns="google:mobile:data">{"message_type":"nack","message_id":"` + id + `","from":"` + to + `","error":"` + code +
		`","error_description":"` + text + `"}</gcm></message>`
}

func upstream(from, id, data string) string {
	return `<message id="" type="normal"><gcm xmlns="google:mobile:data">{"category":"chat","data":` + data + `,"message_id":"` + id + `","from":"` + from + `"}</gcm></message>`
}

const control = `<message><data:gcm xmlns:data="google:mobile:data">{"message_type":"control","control_type":"CONNECTION_DRAINING"}</data:gcm></message>`

// payload is the JSON of a message.
type payload struct {
	Type    string          `json:"message_type"`
	ID      string          `json:"message_id"`
	From    string          `json:"from"`
	Error   string          `json:"error"`
	Text    string          `json:"error_description"`
	Data    json.RawMessage `json:"data"`
	Control string          `json:"control_type"`
}

func parse(t testing.TB, element string) (p payload) {
	t.Helper()
	var m struct {
		GCM string `xml:"google:mobile:data gcm"`
	}
	if err := xml.Unmarshal([]byte(element), &m); err != nil {
		t.Fatalf("%s: %v", element, err)
	}
	if err := json.Unmarshal([]byte(m.GCM), &p); err != nil {
		t.Fatalf("%s: %v", element, err)
	}
	return p
}

// ends wants the stream to end with this and nothing before it.
func (s *server) ends(with string) {
	s.t.Helper()
	s.wait()
	from := s.d.InputOffset()
	for {
		if _, err := s.d.RawToken(); err != nil {
			break
		}
	}
	if _, err := s.c.Read(make([]byte, 1)); err != io.EOF {
		s.t.Errorf("the connection ended with %v", err)
	}
	if got := string(s.raw.Bytes()[from:]); got != with {
		s.t.Errorf("the stream ended with\n%s\nwant\n%s", got, with)
	}
}

func streamError(cond, text string) string {
	return `<stream:error><` + cond + ` xmlns="urn:ietf:params:xml:ns:xmpp-streams"/><text xmlns="urn:ietf:params:xml:ns:xmpp-streams" xml:lang="en">` +
		text + `</text></stream:error></stream:stream>`
}

// eventually waits until the condition holds.
func (g *gateway) eventually(what string, holds func() bool) {
	g.t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			g.t.Fatalf("%s: never\n%+v", what, g.srv.Stats())
		}
	}
}

func text(n presence.Notification) string {
	return fmt.Sprintf("%s|%s|%s|%s|%v", n.Source, n.Message, n.Action, n.Data, n.High)
}
