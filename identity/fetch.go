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
	"net/url"
	"time"
)

const (
	fetchBytes  = 64 << 10
	fetchAtOnce = 16 // of one Fetcher; more wait
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

// Fetcher fetches documents from hosts that strangers name, so that nothing but the document can come of it: through
// an [Outbound], with a bound on bytes and on how many are fetched at once. Safe for concurrent use.
type Fetcher struct {
	out      *Outbound // immutable, as is the next
	maxBytes int64
	slots    chan struct{} // one for each fetch that is under way
}

// NewFetcher makes one; it does no I/O.
func NewFetcher(c FetchConfig) *Fetcher {
	if c.MaxBytes <= 0 {
		c.MaxBytes = fetchBytes
	}
	out := NewOutbound(OutboundConfig{AllowPrivate: c.AllowPrivate, Roots: c.Roots, Proxy: c.Proxy, Resolver: c.Resolver, Timeout: c.Timeout})
	return &Fetcher{out: out, maxBytes: c.MaxBytes, slots: make(chan struct{}, fetchAtOnce)}
}

// Document is what was fetched: an answer of status 200.
type Document struct {
	Type string // media type, lower case, without parameters; "": not said
	Body []byte
}

// Get fetches an https URL. It fails with a *[FetchError].
func (f *Fetcher) Get(ctx context.Context, rawURL string) (Document, error) {
	u, err := f.out.Check(rawURL)
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
	resp, err := f.out.Do(req)
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
	body, err := io.ReadAll(io.LimitReader(resp.Body, f.maxBytes+1))
	if err != nil {
		return Document{}, &FetchError{Reason: FetchUnreachable, Cause: err}
	}
	if int64(len(body)) > f.maxBytes {
		return Document{}, &FetchError{Reason: FetchTooLarge}
	}
	d := Document{Body: body}
	if t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err == nil {
		d.Type = t
	}
	return d, nil
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
	case errors.Is(err, ErrNotPublic):
		return &FetchError{Reason: FetchRefused, Cause: ErrNotPublic}
	case errors.As(err, &dns) && dns.IsNotFound:
		return &FetchError{Reason: FetchUnknown, Cause: err}
	}
	return &FetchError{Reason: FetchUnreachable, Cause: err}
}
