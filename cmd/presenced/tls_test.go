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
	"io"
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
func writeCertificate(t testing.TB, dir, name string) (certFile, keyFile string) {
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

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificateOf is the certificate of a listener with these files.
func certificateOf(certFile, keyFile, clientCA string, log *slog.Logger, now func() time.Time) (*certificate, error) {
	show, err := showFiles(certFile, keyFile, log, now)
	if err != nil {
		return nil, err
	}
	return newCertificate(show, clientCA, log, now)
}

// shake does a TLS handshake with c and returns the name of the certificate it was shown, once both sides agree.
func shake(t *testing.T, c *certificate, client *tls.Config) (string, error) {
	t.Helper()
	return shakeWith(t, c.config(), client)
}

// shakeWith is shake for a server that lives longer than one handshake.
func shakeWith(t *testing.T, server, client *tls.Config) (string, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		theirs, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer theirs.Close()
		theirs.SetDeadline(time.Now().Add(patience))
		done <- tls.Server(theirs, server).Handshake()
	}()
	ours := dialTCP(t, l.Addr().String())
	ours.SetDeadline(time.Now().Add(patience))
	defer ours.Close()
	conn := tls.Client(ours, client)
	err = conn.Handshake()
	if err == nil { // since TLS 1.3 the server may still say no
		io.Copy(io.Discard, conn)
	}
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
	c, err := certificateOf(certFile, keyFile, "", slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return now })
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
	c, err := certificateOf(certFile, keyFile, "", slog.New(slog.DiscardHandler), time.Now)
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

// TestCertificateExpired: whoever runs it is told, by the log and by the check of the configuration.
func TestCertificateExpired(t *testing.T) {
	certFile, keyFile := writeCertificate(t, t.TempDir(), "old")
	c := DefaultConfig()
	c.HTTP.TLSCert, c.HTTP.TLSKey = certFile, keyFile
	for _, x := range []struct {
		now  time.Time
		over bool
	}{{time.Now(), false}, {time.Now().Add(2 * time.Hour), true}} {
		var log bytes.Buffer
		if _, err := showFiles(certFile, keyFile, slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return x.now }); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(log.String(), "has expired") != x.over {
			t.Errorf("at %v the log says %q", x.now, log.String())
		}
		warned := c.expired(origins{"http.tls_cert": "p.toml:5:1"}, x.now)
		if (len(warned) == 1) != x.over || x.over && !strings.HasPrefix(warned[0].Error(), "p.toml:5:1: http.tls_cert: "+certFile+" has expired on ") {
			t.Errorf("at %v the check says %v", x.now, warned)
		}
	}
}

func TestCertificateMissingAtStart(t *testing.T) {
	if _, err := certificateOf("/nowhere/cert.pem", "/nowhere/key.pem", "", slog.New(slog.DiscardHandler), time.Now); err == nil {
		t.Error("no error")
	}
}

// testCA is an authority of a test's own.
type testCA struct {
	*x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate in PEM
}

// newTestCA makes an authority and writes its certificate to file.
func newTestCA(t *testing.T, file string) testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, // all have the same name: the key counts
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, file, "CERTIFICATE", der)
	return testCA{c, key, file}
}

// client is a client that shows a certificate of the authority for this use, whoever the server says it trusts.
func (ca testCA) client(t *testing.T, use x509.ExtKeyUsage, valid time.Duration) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "chat"}, ExtKeyUsage: []x509.ExtKeyUsage{use},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(valid),
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca.Certificate, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	cert := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return &tls.Config{
		InsecureSkipVerify:   true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	}
}

// TestClientCertificate: with client_ca only a client of that authority comes in, in every version and by any name.
func TestClientCertificate(t *testing.T) {
	dir := t.TempDir()
	ca, other := newTestCA(t, filepath.Join(dir, "ca.pem")), newTestCA(t, filepath.Join(dir, "other.pem"))
	certFile, keyFile := writeCertificate(t, dir, "gateway")
	c, err := certificateOf(certFile, keyFile, ca.file, slog.New(slog.DiscardHandler), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	const hour = time.Hour
	for _, tt := range []struct {
		name   string
		client *tls.Config
		good   bool
	}{
		{"none", &tls.Config{InsecureSkipVerify: true}, false},
		{"of another authority", other.client(t, x509.ExtKeyUsageClientAuth, hour), false},
		{"for servers", ca.client(t, x509.ExtKeyUsageServerAuth, hour), false},
		{"expired", ca.client(t, x509.ExtKeyUsageClientAuth, -hour), false},
		{"good", ca.client(t, x509.ExtKeyUsageClientAuth, hour), true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, name := range []string{"", "localhost", "gateway.example.org", "xn--strae-oqa.example"} {
				client := tt.client.Clone()
				client.MinVersion, client.MaxVersion, client.ServerName = version, version, name
				shown, err := shake(t, c, client)
				if (err == nil) != tt.good || tt.good && shown != "gateway" {
					t.Errorf("%s, %s, name %q: shown %q, %v", tt.name, tls.VersionName(version), name, shown, err)
				}
			}
		}
	}
}

// TestClientCertificateReload changes the authority: the old one's clients stay out, and were given no session to resume.
func TestClientCertificateReload(t *testing.T) {
	dir := t.TempDir()
	first, second := newTestCA(t, filepath.Join(dir, "ca.pem")), newTestCA(t, filepath.Join(dir, "second.pem"))
	certFile, keyFile := writeCertificate(t, dir, "gateway")
	secondPEM, err := os.ReadFile(second.file)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	now := time.Now()
	c, err := certificateOf(certFile, keyFile, first.file, slog.New(slog.NewTextHandler(&log, nil)), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	old, young := first.client(t, x509.ExtKeyUsageClientAuth, time.Hour), second.client(t, x509.ExtKeyUsageClientAuth, time.Hour)
	old.ClientSessionCache, old.ServerName = tls.NewLRUClientSessionCache(0), "localhost"
	server, mtime := c.config(), now
	step := func(what string, content []byte, oldIn, youngIn bool) {
		t.Helper()
		if content != nil {
			os.WriteFile(first.file, content, 0o600)
			mtime = mtime.Add(time.Minute)
			os.Chtimes(first.file, mtime, mtime)
		}
		now = now.Add(certCheckEvery)
		_, oldErr := shakeWith(t, server, old)
		_, youngErr := shakeWith(t, server, young)
		if (oldErr == nil) != oldIn || (youngErr == nil) != youngIn {
			t.Errorf("%s: the old client: %v; the new one: %v", what, oldErr, youngErr)
		}
	}
	firstPEM, err := os.ReadFile(first.file)
	if err != nil {
		t.Fatal(err)
	}
	step("at the start", nil, true, false)
	step("both", append(firstPEM, secondPEM...), true, true)
	step("half", append(firstPEM, secondPEM[:len(secondPEM)/2]...), true, true)
	step("empty", []byte{}, true, true)
	if n := strings.Count(log.String(), "does not load"); n != 2 {
		t.Errorf("%d of 2 broken files were logged: %s", n, log.String())
	}
	if _, ok := old.ClientSessionCache.Get("localhost"); ok {
		t.Error("the old client was given a session to resume")
	}
	step("the second alone", secondPEM, false, true)
}

// TestClientCertificateComponent: an app with a certificate does its handshake, one without gets no stream; the
// plain listener asks nobody.
func TestClientCertificateComponent(t *testing.T) {
	cfg, dir := testConfig(t), t.TempDir()
	ca := newTestCA(t, filepath.Join(dir, "ca.pem"))
	cfg.XMPP.TLSCert, cfg.XMPP.TLSKey = writeCertificate(t, dir, "gateway")
	cfg.XMPP.TLSListen, cfg.XMPP.ClientCA = "127.0.0.1:0", ca.file
	g := startTest(t, cfg)
	var app credentials
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example.org")

	stranger := tls.Client(dialTCP(t, g.addrs()["xmpp_tls"]), &tls.Config{InsecureSkipVerify: true})
	defer stranger.Close()
	stranger.SetDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(stranger)
	if err == nil || !strings.Contains(err.Error(), "certificate required") || len(got) > 0 {
		t.Errorf("without a certificate: %q, %v", got, err)
	}
	client := ca.client(t, x509.ExtKeyUsageClientAuth, time.Hour)
	dialComponent(t, tls.Client(dialTCP(t, g.addrs()["xmpp_tls"]), client), app.Component, app.Secret).Close()
	dialComponent(t, dialTCP(t, g.addrs()["xmpp"]), app.Component, app.Secret)
}

// TestValidateClientCA: the file has to be there, be whole, and be of use.
func TestValidateClientCA(t *testing.T) {
	dir := t.TempDir()
	ca := newTestCA(t, filepath.Join(dir, "ca.pem"))
	cert, key := writeCertificate(t, dir, "gateway")
	whole, err := os.ReadFile(ca.file)
	if err != nil {
		t.Fatal(err)
	}
	half, garbage := filepath.Join(dir, "half.pem"), filepath.Join(dir, "garbage.pem")
	os.WriteFile(half, append(whole, whole[:len(whole)/2]...), 0o600)
	writePEM(t, garbage, "CERTIFICATE", []byte("not one"))
	for _, tt := range []struct{ listen, file, want string }{
		{"127.0.0.1:0", ca.file, ""},
		{"127.0.0.1:0", filepath.Join(dir, "none.pem"), "no such file"},
		{"127.0.0.1:0", dir, "is a directory"},
		{"127.0.0.1:0", key, "has no certificate"},
		{"127.0.0.1:0", half, "only 1 of 2 certificates are whole"},
		{"127.0.0.1:0", garbage, "garbage.pem: x509"},
		{"", ca.file, "which is off"},
	} {
		c := DefaultConfig()
		c.XMPP.TLSListen, c.XMPP.ClientCA = tt.listen, tt.file
		if tt.listen != "" {
			c.XMPP.TLSCert, c.XMPP.TLSKey = cert, key
		}
		problems := problemsOf(c.Validate(nil))
		if tt.want == "" && len(problems) == 0 {
			continue
		}
		if len(problems) != 1 || problems[0].Key != "xmpp.client_ca" || !strings.Contains(problems[0].Error(), tt.want) {
			t.Errorf("%s on %q: %v, want %q", filepath.Base(tt.file), tt.listen, problems, tt.want)
		}
	}
}
