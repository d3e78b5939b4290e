package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// writeCertificate makes a certificate for localhost with this name and writes it and its key to dir.
func writeCertificate(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", keyDER)
	return certFile, keyFile
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// shake does a TLS handshake with c and returns the name of the certificate it was shown.
func shake(t *testing.T, c *certificate, client *tls.Config) (string, error) {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	done := make(chan error, 1)
	go func() {
		defer theirs.Close()
		done <- tls.Server(theirs, c.config()).Handshake()
	}()
	conn := tls.Client(ours, client)
	err := conn.Handshake()
	if serverErr := <-done; err == nil {
		err = serverErr
	}
	if err != nil {
		return "", err
	}
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

// TestCertificateReload follows a certificate through a renewal, a broken file and its repair.
func TestCertificateReload(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := writeCertificate(t, dir, "first")
	var log bytes.Buffer
	now := time.Now()
	c, err := newCertificate(certFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	mtime := now
	step := func(what string, change func(), wait time.Duration, want string) {
		t.Helper()
		change()
		mtime = mtime.Add(time.Minute) // file systems are coarser than this test is fast
		os.Chtimes(certFile, mtime, mtime)
		now = now.Add(wait)
		got, err := shake(t, c, &tls.Config{InsecureSkipVerify: true})
		if err != nil || got != want {
			t.Fatalf("%s: shown %q (%v), want %q", what, got, err, want)
		}
	}
	step("at the start", func() {}, 0, "first")
	renew := func(name string) func() { return func() { writeCertificate(t, dir, name) } }
	step("renewed, within the second", renew("second"), certCheckEvery/2, "first")
	step("a second later", func() {}, certCheckEvery, "second")
	step("broken", func() { os.WriteFile(certFile, []byte("half"), 0o600) }, certCheckEvery, "second")
	if !strings.Contains(log.String(), "does not load") {
		t.Errorf("the broken file was not logged: %s", log.String())
	}
	step("missing", func() { os.Remove(keyFile) }, certCheckEvery, "second")
	step("repaired", renew("third"), certCheckEvery, "third")
}

func TestCertificateNeedsTLS12(t *testing.T) {
	certFile, keyFile := writeCertificate(t, t.TempDir(), "x")
	c, err := newCertificate(certFile, keyFile, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for version, good := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		_, err := shake(t, c, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if (err == nil) != good {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

func TestCertificateMissingAtStart(t *testing.T) {
	if _, err := newCertificate("/nowhere/cert.pem", "/nowhere/key.pem", slog.New(slog.DiscardHandler), time.Now); err == nil {
		t.Error("no error")
	}
}
