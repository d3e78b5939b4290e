package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	fetchTimeout  = 5 * time.Second
	fetchBytes    = 64 << 10
	fetchHeaders  = 16 << 10 // bytes of an answer's header
	fetchAtOnce   = 16       // of one Fetcher; more wait
	fetchURLBytes = 2048
)

// FetchConfig is what a Fetcher is made of; the zero value is the strictest.
type FetchConfig struct {
	AllowPrivate bool                                  // also private and loopback addresses, IP addresses for names, and ports other than 443
	Roots        *x509.CertPool                        // nil: the system's
	Proxy        func(*http.Request) (*url.URL, error) // nil: HTTPS_PROXY and NO_PROXY of the environment
	Resolver     *net.Resolver                         // nil: the system's
	Timeout      time.Duration                         // for the whole of a fetch (5 s)
	MaxBytes     int64                                 // of a body (64 KiB)
}

// Fetcher fetches documents from hosts that strangers name, so that nothing but the document can come of it:
//
//   - HTTPS with a certificate that holds, no redirect, no cookie, nothing of the caller's in the request;
//   - no address that is not public, looked at when it is dialled, after the name was resolved: a name that
//     changes its mind in between gains nothing;
//   - a bound on time, on bytes, and on how many are fetched at once.
//
// Where a proxy is set, the proxy resolves the name; then only names are refused that say what they are.
// Safe for concurrent use.
type Fetcher struct {
	cfg     FetchConfig   // immutable, as are the next two
	direct  *http.Client  // dials guarded
	proxied *http.Client  // dials the proxy, wherever it is
	slots   chan struct{} // one for each fetch that is under way
}

// NewFetcher makes one; it does no I/O.
func NewFetcher(c FetchConfig) *Fetcher {
	if c.Proxy == nil {
		c.Proxy = http.ProxyFromEnvironment
	}
	if c.Timeout <= 0 {
		c.Timeout = fetchTimeout
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = fetchBytes
	}
	f := &Fetcher{cfg: c, slots: make(chan struct{}, fetchAtOnce)}
	f.direct = f.client(nil, f.guard)
	f.proxied = f.client(c.Proxy, nil)
	return f
}

func (f *Fetcher) client(proxy func(*http.Request) (*url.URL, error), guard func(network, addr string, _ syscall.RawConn) error) *http.Client {
	dialer := net.Dialer{Timeout: f.cfg.Timeout, FallbackDelay: -1, Resolver: f.cfg.Resolver, Control: guard}
	return &http.Client{
		Timeout:       f.cfg.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  proxy,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: f.cfg.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    f.cfg.Timeout,
			DisableKeepAlives:      true, // hardly ever the same host again
			DisableCompression:     true, // what is counted is what was sent
			MaxResponseHeaderBytes: fetchHeaders,
		},
	}
}

// Document is what was fetched: an answer of status 200.
type Document struct {
	Type string // media type, lower case, without parameters; "": not said
	Body []byte
}

// Get fetches an https URL. It fails with a *[FetchError].
func (f *Fetcher) Get(ctx context.Context, rawURL string) (Document, error) {
	u, err := f.check(rawURL)
	if err != nil {
		return Document{}, &FetchError{Reason: FetchRefused, Cause: err}
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return Document{}, &FetchError{Reason: FetchUnreachable, Cause: ctx.Err()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return Document{}, &FetchError{Reason: FetchRefused, Cause: err}
	}
	client := f.direct
	if proxy, err := f.cfg.Proxy(req); err != nil {
		return Document{}, &FetchError{Reason: FetchUnreachable, Cause: err}
	} else if proxy != nil {
		client = f.proxied
	}
	resp, err := client.Do(req)
	if err != nil {
		return Document{}, unreachable(err)
	}
	defer resp.Body.Close()
	return f.read(resp)
}

func (f *Fetcher) read(resp *http.Response) (Document, error) {
	if resp.StatusCode != http.StatusOK {
		return Document{}, &FetchError{Reason: FetchStatus, Status: resp.StatusCode}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, f.cfg.MaxBytes+1))
	if err != nil {
		return Document{}, &FetchError{Reason: FetchUnreachable, Cause: err}
	}
	if int64(len(body)) > f.cfg.MaxBytes {
		return Document{}, &FetchError{Reason: FetchTooLarge}
	}
	d := Document{Body: body}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil {
		d.Type = t
	}
	return d, nil
}

// check refuses URLs that can be refused before anything is looked up.
func (f *Fetcher) check(rawURL string) (*url.URL, error) {
	if len(rawURL) > fetchURLBytes {
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
	case f.cfg.AllowPrivate:
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

// errNotPublic refuses an address, at the last moment before it is dialled.
var errNotPublic = errors.New("not a public address")

// guard is called with the address that a name was resolved to.
func (f *Fetcher) guard(_, addr string, _ syscall.RawConn) error {
	if f.cfg.AllowPrivate {
		return nil
	}
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !isPublicAddr(ap.Addr()) {
		return errNotPublic
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

// FetchReason says why nothing was fetched.
type FetchReason uint8

const (
	FetchRefused     FetchReason = iota // we do not fetch from there
	FetchUnreachable                    // no whole answer
	FetchStatus                         // an answer, but not 200; redirects too
	FetchTooLarge                       // more bytes than allowed
	FetchUnknown                        // there is no host of that name
	FetchCertificate                    // its certificate does not hold
)

var fetchTexts = [...]string{
	FetchRefused:     "refused",
	FetchUnreachable: "not reachable",
	FetchStatus:      "unexpected status",
	FetchTooLarge:    "too large",
	FetchUnknown:     "no such host",
	FetchCertificate: "certificate not valid",
}

func (r FetchReason) String() string { return fetchTexts[r] }

// FetchError is why a fetch failed.
type FetchError struct {
	Reason FetchReason
	Status int   // of FetchStatus
	Cause  error // for the log; may be nil
}

func (e *FetchError) Error() string {
	s := "fetch: " + e.Reason.String()
	if e.Status != 0 {
		s += fmt.Sprintf(" %d", e.Status)
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *FetchError) Unwrap() error { return e.Cause }

// Temporary reports whether it may work a while later.
func (e *FetchError) Temporary() bool {
	return e.Reason == FetchUnreachable || e.Reason == FetchStatus && (e.Status >= 500 || e.Status == http.StatusTooManyRequests)
}

// unreachable sorts the errors of the HTTP client.
func unreachable(err error) error {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &cert):
		return &FetchError{Reason: FetchCertificate, Cause: err}
	case errors.Is(err, errNotPublic):
		return &FetchError{Reason: FetchRefused, Cause: errNotPublic}
	case errors.As(err, &dns) && dns.IsNotFound:
		return &FetchError{Reason: FetchUnknown, Cause: err}
	}
	return &FetchError{Reason: FetchUnreachable, Cause: err}
}
