package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	outTimeout  = 5 * time.Second
	outHeaders  = 16 << 10 // bytes of an answer's header
	outURLBytes = 2048
)

// OutboundConfig is what an Outbound is made of; the zero value is the strictest.
type OutboundConfig struct {
	AllowPrivate bool                                  // also private and loopback addresses, IP addresses for names, and ports other than 443
	Roots        *x509.CertPool                        // nil: the system's
	Proxy        func(*http.Request) (*url.URL, error) // nil: HTTPS_PROXY and NO_PROXY of the environment
	Resolver     *net.Resolver                         // nil: the system's
	Timeout      time.Duration                         // for the whole of a request and its answer (5 s)
}

// Outbound sends requests to hosts that strangers name, so that nothing but the answer can come of it:
//
//   - HTTPS with a certificate that holds, no redirect, no cookie;
//   - no address that is not public, looked at when it is dialled, after the name was resolved: a name that
//     changes its mind in between gains nothing;
//   - a bound on time. The caller bounds what it reads of the answer, and how many it asks at once.
//
// Where a proxy is set, the proxy resolves the name; then only names are refused that say what they are.
// Safe for concurrent use.
type Outbound struct {
	cfg     OutboundConfig // immutable, as are the next two
	direct  *http.Client   // dials guarded
	proxied *http.Client   // dials the proxy, wherever it is
}

// NewOutbound makes one; it does no I/O.
func NewOutbound(c OutboundConfig) *Outbound {
	if c.Proxy == nil {
		c.Proxy = http.ProxyFromEnvironment
	}
	if c.Timeout <= 0 {
		c.Timeout = outTimeout
	}
	o := &Outbound{cfg: c}
	o.direct = o.client(nil, o.guard)
	o.proxied = o.client(c.Proxy, nil)
	return o
}

func (o *Outbound) client(proxy func(*http.Request) (*url.URL, error), guard func(network, addr string, _ syscall.RawConn) error) *http.Client {
	dialer := net.Dialer{Timeout: o.cfg.Timeout, FallbackDelay: -1, Resolver: o.cfg.Resolver, Control: guard}
	return &http.Client{
		Timeout:       o.cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  proxy,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: o.cfg.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    o.cfg.Timeout,
			DisableKeepAlives:      true, // hardly ever the same host again
			DisableCompression:     true, // what is counted is what was sent
			MaxResponseHeaderBytes: outHeaders,
		},
	}
}

// Do sends a request whose URL was checked. Redirects come back as answers. The caller closes the body.
func (o *Outbound) Do(req *http.Request) (*http.Response, error) {
	proxy, err := o.cfg.Proxy(req)
	if err != nil {
		return nil, err
	}
	if proxy != nil {
		return o.proxied.Do(req)
	}
	return o.direct.Do(req)
}

// Check refuses URLs that can be refused before anything is looked up.
func (o *Outbound) Check(rawURL string) (*url.URL, error) {
	if len(rawURL) > outURLBytes {
		return nil, errors.New("too long")
	}
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return nil, errors.New("not a URL")
	case u.Scheme != "https":
		return nil, errors.New("not https")
	case u.User != nil:
		return nil, errors.New("it holds a user name")
	case u.Hostname() == "":
		return nil, errors.New("no host")
	case o.cfg.AllowPrivate:
		return u, nil
	case u.Port() != "" && u.Port() != "443":
		return nil, errors.New("a port other than 443")
	case !isPublicName(u.Hostname()):
		return nil, errors.New("not the name of a public host")
	}
	return u, nil
}

// isPublicName reports whether host is a name that may stand for a public host: no address in any notation,
// nothing with a meaning on this machine or network only (RFC 6761, RFC 6762, RFC 8375, and "internal").
func isPublicName(host string) bool {
	labels := strings.Split(strings.ToLower(host), ".")
	if len(labels) < 2 {
		return false
	}
	switch last := labels[len(labels)-1]; last {
	case "", "localhost", "local", "internal", "home", "lan", "onion":
		return false
	default:
		if last[0] >= '0' && last[0] <= '9' { // resolvers read 127.1 and 0x7f.1 as addresses
			return false
		}
	}
	return !strings.HasSuffix(strings.ToLower(host), ".home.arpa") && !strings.Contains(host, ":")
}

// ErrNotPublic refuses an address, at the last moment before it is dialled.
var ErrNotPublic = errors.New("not a public address")

// guard is called with the address that a name was resolved to.
func (o *Outbound) guard(_, addr string, _ syscall.RawConn) error {
	if o.cfg.AllowPrivate {
		return nil
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !isPublicAddr(ap.Addr()) {
		return ErrNotPublic
	}
	return nil
}

// isPublicAddr reports whether a can belong to a host of the public internet. What maps or embeds an IPv4
// address is refused as a whole, whatever that address is: there is no reason to dial it so.
func isPublicAddr(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	list := notPublic4()
	if a.Is6() {
		if !netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20}), 3).Contains(a) { // 2000::/3 is all that is given out
			return false
		}
		list = notPublic6()
	}
	for _, s := range list {
		if netip.MustParsePrefix(s).Contains(a) {
			return false
		}
	}
	return true
}

// notPublic4 are the special-purpose networks of IPv4, after IANA's registry (RFC 6890).
func notPublic4() []string {
	return []string{
		"0.0.0.0/8", "10.0.0.0/8",
		"100.64.0.0/10", // carriers' NAT, RFC 6598
		"127.0.0.0/8",
		"169.254.0.0/16", // link local; clouds keep their secrets there
		"172.16.0.0/12",
		"192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", // 6to4 relays
		"192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/4", // multicast
		"240.0.0.0/4", // reserved, and broadcast
	}
}

// notPublic6 are those within 2000::/3. NAT64 (64:ff9b::/96), mapped (::ffff:0:0/96), unique local, link local
// and multicast addresses lie outside of it.
func notPublic6() []string {
	return []string{
		"2001::/23",     // Teredo and other experiments
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4: embeds any IPv4 address
		"3fff::/20",     // documentation
	}
}
