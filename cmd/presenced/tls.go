package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

const certCheckEvery = time.Second

// certificate is a certificate and key in files, read again when the files change. Every TLS listener owns one.
type certificate struct {
	certFile, keyFile string // immutable
	now               func() time.Time
	log               *slog.Logger

	mu      sync.Mutex // guards what follows
	checked time.Time  // when the files were last looked at
	stamp   [2]fileStamp
	cert    *tls.Certificate
}

// fileStamp tells whether a file has changed.
type fileStamp struct {
	modified time.Time
	size     int64
}

// newCertificate reads the files for the first time.
func newCertificate(certFile, keyFile string, log *slog.Logger, now func() time.Time) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log, now: now}
	c.stamp, c.checked = c.stamps(), now()
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c.cert = &cert
	return c, nil
}

// config is for servers: TLS 1.2 or newer, always the present certificate.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
}

// get returns the certificate as it is on disk, looking at most once a second. One that does not load is logged
// once and leaves the old one in place: a half-written file must not take the service down.
func (c *certificate) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if age := now.Sub(c.checked); age >= 0 && age < certCheckEvery {
		return c.cert
	}
	c.checked = now
	stamp := c.stamps()
	if stamp == c.stamp {
		return c.cert
	}
	c.stamp = stamp
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		c.log.Error("the certificate changed but does not load; the old one stays", "file", c.certFile, "error", err)
		return c.cert
	}
	c.cert = &cert
	c.log.Info("certificate loaded", "file", c.certFile, "expires", cert.Leaf.NotAfter)
	return c.cert
}

// stamps looks at both files; one that is missing has the zero stamp.
func (c *certificate) stamps() (s [2]fileStamp) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			s[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return s
}
