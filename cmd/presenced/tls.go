package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
)

const certCheckEvery = time.Second

// certificate is what a TLS listener shows, and whom it trusts to show one in turn. Every TLS listener owns one.
type certificate struct {
	show    showing
	clients *reloaded[*x509.CertPool] // nil: clients show no certificate
}

// showing is what a server shows in a handshake ([tls.Config.GetCertificate]).
type showing func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// showFiles reads a certificate and its key for the first time, and later whenever they change. What is shown is the
// same whatever name the client asks for (SNI).
func showFiles(certFile, keyFile string, log *slog.Logger, now func() time.Time) (showing, error) {
	own, err := newReloaded("certificate", []string{certFile, keyFile}, log, now, func() (*tls.Certificate, slog.Attr, error) {
		cert, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, slog.Attr{}, err
		}
		if now().After(cert.Leaf.NotAfter) {
			log.Warn("the certificate has expired: who connects will refuse it", "file", certFile, "expired", cert.Leaf.NotAfter)
		}
		return &cert, slog.Time("expires", cert.Leaf.NotAfter), nil
	})
	if err != nil {
		return nil, err
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return own.get(), nil }, nil
}

// newCertificate with clientCA: clients need a certificate of these authorities.
func newCertificate(show showing, clientCA string, log *slog.Logger, now func() time.Time) (*certificate, error) {
	if clientCA == "" {
		return &certificate{show: show}, nil
	}
	clients, err := newReloaded("client authorities", []string{clientCA}, log, now, func() (*x509.CertPool, slog.Attr, error) {
		pool, n, err := loadAuthorities(clientCA)
		return pool, slog.Int("certificates", n), err
	})
	return &certificate{show, clients}, err
}

// config is for servers: TLS 1.2 or newer, always the present certificate.
func (c *certificate) config() *tls.Config {
	base := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.show}
	if c.clients == nil {
		return base
	}
	base.ClientAuth = tls.RequireAndVerifyClientCert // for client authentication: RFC 5280 §4.2.1.12
	base.ClientCAs = c.clients.get()                 // never nil, which would mean the system's authorities
	base.SessionTicketsDisabled = true               // each handshake looks at the authorities of now, whatever the library checks of a session
	strict := base.Clone()
	strict.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		present := base.Clone()
		present.ClientCAs = c.clients.get()
		return present, nil
	}
	return strict
}

// secured is the TLS side of the listeners; nil where one has none.
type secured struct {
	http, xmpp, ccs *tls.Config
	acme            *acmeCertificates // nil: nothing comes by ACME
}

// secure reads every certificate for the first time. What is done for ACME ends with ctx.
func (g *gateway) secure(ctx context.Context) (s secured, err error) {
	c := &g.cfg
	if s.acme, err = newACME(ctx, c, g.log); err != nil {
		return s, err
	}
	if s.http, err = g.listenerTLS(s.acme, c.HTTP.TLSCert, c.HTTP.TLSKey, ""); err != nil {
		return s, err
	}
	if s.acme != nil {
		s.http.NextProtos = []string{acme.ALPNProto} // what HTTP speaks is added by its server
	}
	if s.xmpp, err = g.listenerTLS(s.acme, c.XMPP.TLSCert, c.XMPP.TLSKey, c.XMPP.ClientCA); err != nil {
		return s, err
	}
	s.ccs, err = g.listenerTLS(s.acme, c.CCS.TLSCert, c.CCS.TLSKey, "")
	return s, err
}

// listenerTLS shows the files, else what comes by ACME; nil without either. clientCA may be empty.
func (g *gateway) listenerTLS(byACME *acmeCertificates, cert, key, clientCA string) (*tls.Config, error) {
	var show showing
	switch {
	case cert != "":
		var err error
		if show, err = showFiles(cert, key, g.log, time.Now); err != nil {
			return nil, err
		}
	case byACME != nil:
		show = byACME.get
	default:
		return nil, nil
	}
	c, err := newCertificate(show, clientCA, g.log, time.Now)
	if err != nil {
		return nil, err
	}
	return c.config(), nil
}

// loadAuthorities reads the certificates of a PEM file, at least one, and says how many. All have to be whole.
func loadAuthorities(file string) (*x509.CertPool, int, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, 0, err
	}
	pool, n, want := x509.NewCertPool(), 0, bytes.Count(data, []byte("-----BEGIN CERTIFICATE-----"))
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", file, err)
		}
		pool.AddCert(cert)
		n++
	}
	switch {
	case want == 0:
		return nil, 0, errors.New(file + " has no certificate in PEM")
	case n != want:
		return nil, 0, fmt.Errorf("%s: only %d of %d certificates are whole", file, n, want)
	}
	return pool, n, nil
}

// reloaded is a value made from files, made again when they change. Safe for concurrent use.
type reloaded[T any] struct {
	what  string // immutable, as what follows: its name in the log
	files []string
	load  func() (T, slog.Attr, error) // the attribute goes to the log
	now   func() time.Time
	log   *slog.Logger

	mu      sync.Mutex // guards what follows
	checked time.Time  // when the files were last looked at
	stamp   [2]fileStamp
	value   T
}

// fileStamp tells whether a file has changed.
type fileStamp struct {
	modified time.Time
	size     int64
}

// newReloaded loads for the first time. There are at most two files.
func newReloaded[T any](what string, files []string, log *slog.Logger, now func() time.Time,
	load func() (T, slog.Attr, error)) (*reloaded[T], error) {
	r := &reloaded[T]{what: what, files: files, load: load, log: log, now: now}
	r.stamp, r.checked = r.stamps(), now()
	value, _, err := load()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	r.value = value
	return r, nil
}

// get returns the value as it is on disk, looking at most once a second. One that does not load is logged
// once and leaves the old one in place: a half-written file must not take the service down.
func (r *reloaded[T]) get() T {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if age := now.Sub(r.checked); age >= 0 && age < certCheckEvery {
		return r.value
	}
	r.checked = now
	stamp := r.stamps()
	if stamp == r.stamp {
		return r.value
	}
	r.stamp = stamp
	value, note, err := r.load()
	if err != nil {
		r.log.Error(r.what+" changed but does not load; the old one stays", "file", r.files[0], "error", err)
		return r.value
	}
	r.value = value
	r.log.Info(r.what+" loaded", "file", r.files[0], note)
	return r.value
}

// stamps looks at the files; one that is missing has the zero stamp.
func (r *reloaded[T]) stamps() (s [2]fileStamp) {
	for i, name := range r.files {
		if info, err := os.Stat(name); err == nil {
			s[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return s
}
