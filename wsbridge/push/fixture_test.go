package push_test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"presenced/presence"
	"presenced/store"
	"presenced/wsbridge/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	patience = 60 * time.Second // for something that must come; never waited for when all is well
	linger   = 10 * time.Second // of the hub's clock
	ann      = "ann@example.org"
	origin   = "https://presence.example.org"
)

// clock is the hub's time; it moves only when told.
type clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return c.now
}

// fixture is a pusher with one worker, on a real hub on a real store, and a push service that speaks TLS.
type fixture struct {
	t       *testing.T
	clock   *clock
	path    string
	store   *store.Store
	hub     *presence.Hub
	ready   *presence.Ready
	link    *presence.Link
	service *service
	config  push.Config
	pusher  *push.Pusher // nil: none
	serial  int
}

func newFixture(t *testing.T, change ...func(*push.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, clock: &clock{now: time.Now().UTC()}, path: filepath.Join(t.TempDir(), "data"), ready: presence.NewReady(),
		service: newService(t)}
	f.config = push.Config{Origin: origin, AllowPrivate: true, Roots: f.service.roots, Workers: 1, Now: f.clock.Now,
		RetryMin: time.Millisecond, RetryMax: 20 * time.Millisecond, Grace: -1}
	for _, c := range change {
		c(&f.config)
	}
	f.open()
	t.Cleanup(f.close)
	f.must(f.hub.PutApp(presence.App{ID: "chat", Name: "Chat", Component: "chat.example", Secret: "s", APIKey: "k", Conflict: presence.Replace}))
	f.start()
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	var err error
	limits := presence.DefaultLimits()
	f.store, err = store.Open(f.path, store.Options{Now: f.clock.Now, Limits: limits})
	f.must(err)
	f.hub, err = presence.New(presence.Config{Store: f.store, Now: f.clock.Now, Key: f.store.Key(), Limits: limits, Linger: linger})
	f.must(err)
}

func (f *fixture) close() {
	f.stop()
	f.hub.Close()
	f.must(f.store.CheckConsistency())
	f.must(f.store.Close())
}

// start and stop are of the pusher alone.
func (f *fixture) start() {
	f.t.Helper()
	f.config.Hub, f.config.Store = f.hub, f.store
	var err error
	f.pusher, err = push.New(f.config)
	f.must(err)
}

func (f *fixture) stop() {
	if f.pusher != nil {
		f.pusher.Close()
		f.pusher = nil
	}
}

// restart is that of everything.
func (f *fixture) restart() {
	f.t.Helper()
	f.close()
	f.link = nil
	f.open()
	f.start()
}

func (f *fixture) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// pass lets the hub's time go by.
func (f *fixture) pass(d time.Duration) { f.hub.Advance(f.clock.add(d)) }

func (f *fixture) attach(email, device string) *presence.Session {
	f.t.Helper()
	s, err := f.hub.Attach(presence.Attach{Email: email, Device: device, Ready: f.ready})
	f.must(err)
	return s
}

// visit connects a device for a moment, a while later.
func (f *fixture) visit(email, device string) {
	f.t.Helper()
	f.clock.add(time.Second)
	f.attach(email, device).Close()
}

// device is one that can be woken: what a browser keeps for itself.
type device struct {
	f           *fixture
	email, name string
	at          *service
	path        string // there
	key         *ecdh.PrivateKey
	auth        [16]byte
}

// newDevice makes one that is not known to anybody.
func (f *fixture) newDevice(email, name string) *device {
	f.t.Helper()
	f.serial++
	d := &device{f: f, email: email, name: name, at: f.service, path: fmt.Sprintf("/push/%d", f.serial)}
	var err error
	d.key, err = ecdh.P256().GenerateKey(rand.Reader)
	f.must(err)
	rand.Read(d.auth[:])
	return d
}

// device registers one, and has it leave.
func (f *fixture) device(email, name string) *device {
	f.t.Helper()
	return f.deviceAt(f.service, email, name)
}

// deviceAt is device for one with this push service.
func (f *fixture) deviceAt(at *service, email, name string) *device {
	f.t.Helper()
	d := f.newDevice(email, name)
	d.at = at
	s := f.attach(email, name)
	f.must(f.pusher.Register(email, name, 0, d.subscription()))
	s.Close()
	return d
}

// subscription is as PushSubscription.toJSON() writes it.
func (d *device) subscription() []byte {
	return fmt.Appendf(nil, `{"endpoint":%q,"expirationTime":null,"keys":{"p256dh":%q,"auth":%q}}`, d.at.URL+d.path,
		base64.RawURLEncoding.EncodeToString(d.key.PublicKey().Bytes()), base64.RawURLEncoding.EncodeToString(d.auth[:]))
}

// decrypt reads a push as RFC 8291 §3.4 and RFC 8188 §2 say.
func (d *device) decrypt(body []byte) string {
	t := d.f.t
	t.Helper()
	if len(body) < 86 {
		t.Fatalf("a push of %d bytes", len(body))
	}
	salt, sender := body[:16], body[21:86]
	theirs, err := ecdh.P256().NewPublicKey(sender)
	d.f.must(err)
	secret, err := d.key.ECDH(theirs)
	d.f.must(err)
	derive := func(secret, salt []byte, info string, n int) []byte {
		k, err := hkdf.Key(sha256.New, secret, salt, info, n)
		d.f.must(err)
		return k
	}
	ikm := derive(secret, d.auth[:], "WebPush: info\x00"+string(d.key.PublicKey().Bytes())+string(sender), 32)
	block, err := aes.NewCipher(derive(ikm, salt, "Content-Encoding: aes128gcm\x00", 16))
	d.f.must(err)
	gcm, err := cipher.NewGCM(block)
	d.f.must(err)
	plain, err := gcm.Open(nil, derive(ikm, salt, "Content-Encoding: nonce\x00", 12), body[86:], nil)
	d.f.must(err)
	text, found := strings.CutSuffix(strings.TrimRight(string(plain), "\x00"), "\x02")
	if !found {
		t.Fatalf("no end of the last record: %q", plain)
	}
	return text
}

// notify has the app send to a user ("" in m: as it is) and waits until it is accepted.
func (f *fixture) notify(email, device string, m presence.Message) {
	f.t.Helper()
	if _, ok, _ := f.store.Grant(email, "chat"); !ok {
		_, err := f.hub.Allow(presence.Grant{Email: email, App: "chat", Notify: true}, presence.ByAdmin)
		f.must(err)
	}
	d, err := f.hub.NotifyUser("chat", email, device, m)
	f.must(err)
	f.must(d.Wait())
}

func urgent() presence.Message {
	return presence.Message{Message: "the secret content", TTL: -1, High: true}
}

// nothing checks that no more was pushed: what comes in the line behind has come, and nothing before it.
func (f *fixture) nothing() {
	f.t.Helper()
	f.serial++
	d := f.device(fmt.Sprintf("marker%d@example.org", f.serial), "d")
	f.notify(d.email, "", urgent())
	f.service.expect(d)
	f.until(func(push.Stats) bool {
		subs, _ := f.store.PushOf(d.email)
		return len(subs) == 1 && !subs[0].Woken.Until.IsZero()
	})
}

// until waits for the pusher to have done something that nobody is told of.
func (f *fixture) until(ok func(push.Stats) bool) {
	f.t.Helper()
	for late := time.Now().Add(patience); !ok(f.pusher.Stats()); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			f.t.Fatalf("%+v", f.pusher.Stats())
		}
	}
}

// service is a push service.
type service struct {
	*httptest.Server
	t      *testing.T
	roots  *x509.CertPool
	pushes chan pushed
	answer func(http.ResponseWriter, *http.Request) // guarded by mu
	mu     sync.Mutex
}

// pushed is a request that came.
type pushed struct {
	*http.Request
	body []byte
	at   time.Time
}

func newService(t *testing.T) *service {
	s := &service{t: t, roots: x509.NewCertPool(), pushes: make(chan pushed, 1000)}
	s.answers(created)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		answer := s.answer // before the test knows that it came, and changes it
		s.mu.Unlock()
		s.pushes <- pushed{r, body, time.Now()}
		answer(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	s.roots.AddCert(s.Certificate())
	t.Cleanup(s.Close)
	return s
}

func created(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }

func status(code int, header ...string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func (s *service) answers(f func(http.ResponseWriter, *http.Request)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// expect waits for the next push, which must be for d, and returns it.
func (s *service) expect(d *device) pushed {
	s.t.Helper()
	select {
	case p := <-s.pushes:
		if p.URL.Path != d.path {
			s.t.Fatalf("a push for %s, want one for %s's %s (%s)", p.URL.Path, d.email, d.name, d.path)
		}
		return p
	case <-time.After(patience):
		s.t.Fatalf("%s's %s is not woken", d.email, d.name)
		return pushed{}
	}
}

// checkVAPID verifies who sent it, as RFC 8292 §2 says, and returns the claims.
func (p pushed) checkVAPID(t *testing.T, key string) (claims struct {
	Aud, Sub string
	Exp      int64
}) {
	t.Helper()
	token, k, found := strings.Cut(strings.TrimPrefix(p.Header.Get("Authorization"), "vapid t="), ", k=")
	if !found || k != key {
		t.Fatalf("Authorization %q, the key is %s", p.Header.Get("Authorization"), key)
	}
	point, err := base64.RawURLEncoding.DecodeString(k)
	if err != nil || len(point) != 65 {
		t.Fatalf("key %q: %v", k, err)
	}
	parts := strings.Split(token, ".")
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil || len(signature) != 64 {
		t.Fatalf("signature %q: %v", parts[2], err)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("the signature is not the gateway's")
	}
	body, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if err := json.Unmarshal(body, &claims); err != nil {
		t.Fatalf("claims %q: %v", body, err)
	}
	return claims
}
