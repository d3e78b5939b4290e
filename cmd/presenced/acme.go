package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

const (
	acmeFolder    = "acme"           // in the data folder: the account's key, the certificates and their keys
	acmeTimeout   = 30 * time.Second // for one request to the authority
	acmeLook      = time.Hour        // how often somebody looks whether the certificate is a new one
	acmeAgain     = 2 * time.Minute  // after the first failure; twice that after the next, and so on,
	acmeAgainMost = 4 * time.Hour    // at most: authorities count failures
)

// acmeCertificates gets the certificates of the names in http.acme_hosts from an authority (RFC 8555), proves the
// names on the listener of HTTPS itself (tls-alpn-01, RFC 8737), and renews them when a third of their time is left.
// Every TLS listener without files of its own shows them. Safe for concurrent use.
type acmeCertificates struct {
	manager autocert.Manager
	hosts   []string                // immutable, as what follows; at least one
	ready   map[string]*atomic.Bool // by host: keep has a certificate, and get may ask for it
	log     *slog.Logger
}

// newACME is nil without acme_hosts. Requests to the authority end with ctx.
func newACME(ctx context.Context, cfg *Config, log *slog.Logger) (*acmeCertificates, error) {
	c := &cfg.HTTP
	if len(c.ACMEHosts) == 0 {
		return nil, nil
	}
	var roots *x509.CertPool // nil: the system's
	if c.ACMECAFile != "" {
		pool, _, err := loadAuthorities(c.ACMECAFile)
		if err != nil {
			return nil, err
		}
		roots = pool
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() // with HTTPS_PROXY
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	ready := map[string]*atomic.Bool{}
	for _, host := range c.ACMEHosts {
		ready[host] = new(atomic.Bool)
	}
	return &acmeCertificates{
		manager: autocert.Manager{
			Prompt:     autocert.AcceptTOS,
			Cache:      autocert.DirCache(filepath.Join(cfg.Data, acmeFolder)), // 0700, its files 0600
			HostPolicy: autocert.HostWhitelist(c.ACMEHosts...),
			Email:      c.ACMEEmail,
			Client: &acme.Client{
				DirectoryURL: cmp.Or(c.ACMEDirectory, autocert.DefaultACMEDirectory),
				HTTPClient:   &http.Client{Timeout: acmeTimeout, Transport: untilDone{ctx, transport}},
				UserAgent:    "presenced/" + programVersion().Version,
			},
		},
		hosts: c.ACMEHosts, ready: ready, log: log,
	}, nil
}

// get is what a handshake is shown: at once, or not at all, because only keep asks the authority. Strangers cannot use
// up what the authority allows. A client that names no host, or one of somebody else's, gets the first: whether that is
// whom it wanted is for the client to judge, as it is with certificates from files.
func (a *acmeCertificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if slices.Contains(hello.SupportedProtos, acme.ALPNProto) { // the authority looks: RFC 8737 §3
		return a.manager.GetCertificate(hello)
	}
	host := strings.ToLower(hello.ServerName)
	ready, ours := a.ready[host]
	if !ours {
		host = a.hosts[0]
		ready = a.ready[host]
	}
	if !ready.Load() {
		return nil, errNoCertificate
	}
	return a.manager.GetCertificate(modernHello(host))
}

var errNoCertificate = errors.New("there is no certificate by ACME yet")

// modernHello is that of a client that takes an elliptic curve, as all with TLS 1.2 do that are not ancient. So there is
// one certificate for a host.
func modernHello(host string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{ServerName: host, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}
}

// keep gets the certificate of one host before anybody asks for it, tries again where that fails, and says in the log
// when there is a new one. It returns when ctx is done. Once it has one the manager renews it by itself.
func (a *acmeCertificates) keep(ctx context.Context, host string) {
	again := acmeAgain
	var shown time.Time // the end of the certificate that the log knows of
	for ctx.Err() == nil {
		wait := acmeLook
		cert, err := a.manager.GetCertificate(modernHello(host))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait, again = again, min(2*again, acmeAgainMost)
			a.log.Error("no certificate by ACME", "host", host, "error", err, "again_in", wait)
		case !cert.Leaf.NotAfter.Equal(shown):
			shown, again = cert.Leaf.NotAfter, acmeAgain
			a.ready[host].Store(true)
			a.log.Info("certificate by ACME", "host", host, "expires", shown)
		case overdue(cert.Leaf, time.Now()):
			a.log.Error("the certificate by ACME ends soon and was not renewed", "host", host, "expires", shown)
		}
		sleep(ctx, wait)
	}
}

// overdue reports whether less is left of a certificate than renewing it takes, many times over.
func overdue(c *x509.Certificate, now time.Time) bool {
	return c.NotAfter.Sub(now) < c.NotAfter.Sub(c.NotBefore)/6
}

// sleep ends early when ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// untilDone makes requests end with ctx: the manager asks in nobody's name.
type untilDone struct {
	ctx  context.Context
	next http.RoundTripper
}

// RoundTrip does what [http.RoundTripper] says.
func (u untilDone) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(u.ctx, cancel)
	free := func() { stop(); cancel() }
	answer, err := u.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		free()
		return nil, err
	}
	answer.Body = &freedBody{answer.Body, free}
	return answer, nil
}

// freedBody calls free when it is closed.
type freedBody struct {
	io.ReadCloser
	free func()
}

func (b *freedBody) Close() error {
	defer b.free()
	return b.ReadCloser.Close()
}
