package identity

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
	"time"
)

// FetchConfig is what a Fetcher is made of; the zero value is the strictest.
type FetchConfig struct {
	AllowPrivate bool                                  // also private and loopback addresses, and ports other than 443
	Roots        *x509.CertPool                        // nil: the system's
	Proxy        func(*http.Request) (*url.URL, error) // nil: HTTPS_PROXY and NO_PROXY of the environment
	Timeout      time.Duration                         // for the whole of a fetch (5 s)
	MaxBytes     int64                                 // of a body (64 KiB)
}

// Fetcher fetches documents from hosts that strangers name. Safe for concurrent use.
type Fetcher struct{ cfg FetchConfig }

// NewFetcher makes one; it does no I/O.
func NewFetcher(c FetchConfig) *Fetcher { return &Fetcher{cfg: c} }

// Document is what was fetched: an answer of status 200.
type Document struct {
	Type string // media type, lower case, without parameters
	Body []byte
}

// Get fetches an https URL.
func (f *Fetcher) Get(ctx context.Context, rawURL string) (Document, error) {
	return Document{}, refuse(Unavailable)
}
