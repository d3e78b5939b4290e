package identity_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"presenced/identity"
	"presenced/identity/browseridtest"
)

func TestPublicAddresses(t *testing.T) {
	for a, public := range map[string]bool{
		"93.184.216.34": true, "1.1.1.1": true, "100.63.255.255": true, "100.128.0.0": true, "172.15.0.1": true, "172.32.0.1": true,
		"223.255.255.255": true, "2606:4700::1111": true, "2a00:1450::1": true,
		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "127.0.0.1": false, "127.255.255.254": false,
		"100.64.0.1": false, "100.127.255.255": false, "169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.0.0.1": false, "192.0.2.1": false, "192.88.99.1": false, "192.168.1.1": false, "198.18.0.1": false, "198.19.255.255": false,
		"198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false, "239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false,
		"::": false, "::1": false, "::ffff:127.0.0.1": false, "::ffff:93.184.216.34": false, "::ffff:a9fe:a9fe": false,
		"::7f00:1": false, "64:ff9b::7f00:1": false, "64:ff9b::5db8:d822": false, "64:ff9b:1::1": false, "100::1": false,
		"2001::1": false, "2001:0:7f00:1::": false, "2001:db8::1": false, "2002:7f00:1::1": false, "3fff::1": false, "5f00::1": false,
		"fc00::1": false, "fd12:3456::1": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "ff02::1": false,
		"2606:4700::1%eth0": false, "4000::1": false,
	} {
		if got := identity.IsPublicAddr(netip.MustParseAddr(a)); got != public {
			t.Errorf("%s: public %v, want %v", a, got, public)
		}
	}
	if identity.IsPublicAddr(netip.Addr{}) {
		t.Error("no address is public")
	}
}

// direct never uses a proxy.
func direct(*http.Request) (*url.URL, error) { return nil, nil }

// reasonOf fetches and tells why that failed.
func reasonOf(t *testing.T, f *identity.Fetcher, u string) identity.FetchReason {
	t.Helper()
	d, err := f.Get(context.Background(), u)
	var e *identity.FetchError
	if !errors.As(err, &e) {
		t.Fatalf("%s: got %q, %v", u, d.Body, err)
	}
	return e.Reason
}

// What a stranger may name to make us talk to ourselves, with a proxy and without.
func TestForgedTargets(t *testing.T) {
	w := browseridtest.Start("mail.example")
	defer w.Close()
	proxy, _ := url.Parse(w.Proxy)
	for _, f := range []*identity.Fetcher{
		identity.NewFetcher(identity.FetchConfig{Proxy: direct, Roots: w.Roots()}),
		identity.NewFetcher(identity.FetchConfig{Proxy: http.ProxyURL(proxy), Roots: w.Roots()}),
	} {
		for _, u := range []string{
			"http://mail.example/", "ftp://mail.example/", "file:///etc/passwd", "gopher://mail.example/", "//mail.example/", "mail.example", "",
			"https://", "https:///x", "https://:443/", "https://ann@mail.example/", "https://ann:pw@mail.example/",
			"https://mail.example:8443/", "https://mail.example:22/", "https://mail.example:0443/",
			"https://localhost/", "https://LOCALHOST/", "https://localhost./", "https://x.localhost/", "https://printer.local/",
			"https://vault.internal/", "https://router.home.arpa/", "https://nas.lan/", "https://intranet/", "https://mail.example./",
			"https://" + w.Addr() + "/", "https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/",
			"https://0x7f.1/", "https://0177.0.0.1/", "https://127.0.0.1.0x/", "https://0/", "https://1.1.1.1/", "https://169.254.169.254/latest/meta-data/",
			"https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[fe80::1%25eth0]/", "https://[64:ff9b::7f00:1]/", "https://[::]/",
			"https://mail.example/" + strings.Repeat("x", 3000), "https://mail.example/\r\nX: y", "https://mail .example/", "https://%6cocalhost%00/",
		} {
			if r := reasonOf(t, f, u); r != identity.FetchRefused {
				t.Errorf("%s: %v, want it refused", u, r)
			}
		}
	}
	if n := w.Tunnels(); len(n) != 0 {
		t.Errorf("the proxy was asked for %v", n)
	}
}

// names is a DNS server that answers every question with one address, another one each time.
type names struct {
	conn    net.PacketConn
	tasks   sync.WaitGroup
	mu      sync.Mutex
	answers []netip.Addr // guarded by mu; the last one stays
}

func newNames(t *testing.T) *names {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{conn: c}
	n.tasks.Go(n.serve)
	t.Cleanup(func() { c.Close(); n.tasks.Wait() })
	return n
}

func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", n.conn.LocalAddr().String())
	}}
}

func (n *names) say(answers ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers = nil
	for _, a := range answers {
		n.answers = append(n.answers, netip.MustParseAddr(a))
	}
}

func (n *names) serve() {
	buf := make([]byte, 1500)
	for {
		size, from, err := n.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		n.conn.WriteTo(n.answer(buf[:size]), from)
	}
}

// answer is the question with its answer behind it. RFC 1035 §4.1
func (n *names) answer(query []byte) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5
	kind := binary.BigEndian.Uint16(query[end-4:])
	reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.answers[0]
	if a.Is4() != (kind == 1) || kind != 1 && kind != 28 {
		return reply
	}
	if len(n.answers) > 1 {
		n.answers = n.answers[1:]
	}
	reply[7] = 1
	reply = append(reply, 0xc0, 12, query[end-4], query[end-3], 0, 1, 0, 0, 0, 0, 0, byte(len(a.AsSlice())))
	return append(reply, a.AsSlice()...)
}

// A name that means one of our own addresses is refused when it is dialled, whatever it meant before.
func TestNamesOfPrivateAddresses(t *testing.T) {
	n := newNames(t)
	f := identity.NewFetcher(identity.FetchConfig{Proxy: direct, Resolver: n.resolver()})
	for _, a := range []string{"127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "0.0.0.0", "255.255.255.255",
		"::1", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"} {
		n.say(a)
		if r := reasonOf(t, f, "https://evil.example/"); r != identity.FetchRefused {
			t.Errorf("%s: %v, want it refused", a, r)
		}
	}
}

// Where private addresses are allowed, they are.
func TestPrivateAllowed(t *testing.T) {
	w := browseridtest.Start("mail.example")
	defer w.Close()
	w.Publish("127.0.0.1", `{}`)
	f := identity.NewFetcher(identity.FetchConfig{Proxy: direct, Roots: w.Roots(), AllowPrivate: true})
	d, err := f.Get(context.Background(), "https://"+w.Addr()+"/.well-known/browserid")
	if err != nil || d.Type != "application/json" || string(d.Body) != "{}" {
		t.Errorf("%+v, %v", d, err)
	}
	if r := reasonOf(t, f, "http://"+w.Addr()+"/.well-known/browserid"); r != identity.FetchRefused {
		t.Errorf("without TLS: %v", r)
	}
}

func TestFetch(t *testing.T) {
	w := browseridtest.Start("mail.example")
	defer w.Close()
	proxy, _ := url.Parse(w.Proxy)
	hang := make(chan struct{})
	answers := map[string]http.HandlerFunc{
		"/ok": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "Text/Plain; charset=x")
			fmt.Fprintf(w, "%v %v", len(r.Cookies()), r.Header.Get("Accept-Encoding"))
		},
		"/full":  func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 100)) },
		"/over":  func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("x", 101)) },
		"/moved": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusMovedPermanently) },
		"/none":  http.NotFound,
		"/busy":  func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"/empty": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"/head":  func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 64<<10)) },
		"/hang":  func(w http.ResponseWriter, r *http.Request) { <-hang },
		"/drip": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			<-hang
		},
	}
	defer close(hang)
	w.Handle("mail.example", func(w http.ResponseWriter, r *http.Request) { answers[r.URL.Path](w, r) })
	f := identity.NewFetcher(identity.FetchConfig{Roots: w.Roots(), Proxy: http.ProxyURL(proxy), MaxBytes: 100})
	hasty := identity.NewFetcher(identity.FetchConfig{Roots: w.Roots(), Proxy: http.ProxyURL(proxy), Timeout: 100 * time.Millisecond})

	d, err := f.Get(context.Background(), "https://mail.example/ok")
	if err != nil || d.Type != "text/plain" || string(d.Body) != "0 " {
		t.Errorf("%q %q, %v", d.Type, d.Body, err)
	}
	if d, err := f.Get(context.Background(), "https://MAIL.example:443/full"); err != nil || len(d.Body) != 100 {
		t.Errorf("%d bytes, %v", len(d.Body), err)
	}
	for _, c := range []struct {
		f         *identity.Fetcher
		path      string
		reason    identity.FetchReason
		temporary bool
	}{
		{f, "/over", identity.FetchTooLarge, false},
		{f, "/moved", identity.FetchStatus, false},
		{f, "/none", identity.FetchStatus, false},
		{f, "/empty", identity.FetchStatus, false},
		{f, "/busy", identity.FetchStatus, true},
		{f, "/head", identity.FetchUnreachable, true},
		{hasty, "/hang", identity.FetchUnreachable, true},
		{hasty, "/drip", identity.FetchUnreachable, true},
	} {
		_, err := c.f.Get(context.Background(), "https://mail.example"+c.path)
		var e *identity.FetchError
		if !errors.As(err, &e) || e.Reason != c.reason || e.Temporary() != c.temporary {
			t.Errorf("%s: %v, want %v", c.path, err, c.reason)
		}
	}
	strict := identity.NewFetcher(identity.FetchConfig{Proxy: http.ProxyURL(proxy)})
	if r := reasonOf(t, strict, "https://mail.example/ok"); r != identity.FetchCertificate {
		t.Errorf("a certificate that nobody knows: %v", r)
	}
	broken := identity.NewFetcher(identity.FetchConfig{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New("x") }})
	if r := reasonOf(t, broken, "https://mail.example/ok"); r != identity.FetchUnreachable {
		t.Errorf("a broken proxy: %v", r)
	}
}

// Only so many are fetched at once; who waits can give up.
func TestFetchesAtOnce(t *testing.T) {
	w := browseridtest.Start("mail.example")
	defer w.Close()
	proxy, _ := url.Parse(w.Proxy)
	f := identity.NewFetcher(identity.FetchConfig{Roots: w.Roots(), Proxy: http.ProxyURL(proxy)})
	arrived, release := make(chan struct{}, 100), make(chan struct{})
	w.Handle("mail.example", func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-release
	})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() { f.Get(context.Background(), "https://mail.example/") })
	}
	for range 16 {
		<-arrived
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := f.Get(ctx, "https://mail.example/"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if len(arrived) != 0 {
		t.Error("one more than may be")
	}
	close(release)
	wg.Wait()
}
