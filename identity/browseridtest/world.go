// Package browseridtest is a small internet for tests of BrowserID: domains that serve support documents over
// HTTPS, a proxy through which they are reached under their own names, and people who make bundles. It is on
// loopback only, and for tests only.
//
//	w := browseridtest.Start("idp.example.net", "mail.example")
//	defer w.Close()
//	idp, ann := browseridtest.NewKey("RS256"), browseridtest.NewKey("DS128")
//	w.Publish("idp.example.net", browseridtest.Support(idp))
//	// a gateway with HTTPS_PROXY=w.Proxy and ca_file=w.CertPEM() believes:
//	bundle := browseridtest.Bundle{Issuer: "idp.example.net", IdP: idp, User: ann, Email: "ann@idp.example.net", ...}.String()
package browseridtest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// World is the domains and the proxy. Safe for concurrent use.
type World struct {
	Proxy string // URL, for HTTPS_PROXY; immutable

	cert   []byte // DER
	server *httptest.Server
	proxy  net.Listener
	tasks  sync.WaitGroup // of the proxy

	mu       sync.Mutex // guards what follows
	pages    map[string]http.HandlerFunc
	fetched  map[string]int // by host
	open     map[net.Conn]bool
	tunnels  []string
	isClosed bool
}

// Start serves domains, none of which has a document yet. It panics where loopback is not to be had.
func Start(domains ...string) *World {
	w := &World{pages: map[string]http.HandlerFunc{}, fetched: map[string]int{}, open: map[net.Conn]bool{}}
	w.server = httptest.NewUnstartedServer(w)
	w.server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it
	w.server.TLS = &tls.Config{Certificates: []tls.Certificate{w.certify(domains)}}
	w.server.StartTLS()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	w.proxy, w.Proxy = l, "http://"+l.Addr().String()
	w.tasks.Go(w.accept)
	return w
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// certify makes a certificate for domains that is its own authority.
func (w *World) certify(domains []string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, DNSNames: domains,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	w.cert, err = x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	must(err)
	return tls.Certificate{Certificate: [][]byte{w.cert}, PrivateKey: key}
}

// Close ends everything.
func (w *World) Close() {
	w.proxy.Close()
	w.mu.Lock()
	w.isClosed = true
	for c := range w.open {
		c.Close()
	}
	w.mu.Unlock()
	w.tasks.Wait()
	w.server.Close()
}

// Addr is where all the domains are in truth, for those who go without the proxy.
func (w *World) Addr() string { return w.server.Listener.Addr().String() }

// CertPEM is the authority of all domains, for a ca_file.
func (w *World) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.cert})
}

// Roots is the same as a pool.
func (w *World) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(w.CertPEM())
	return pool
}

// Publish makes document the support document of a domain.
func (w *World) Publish(domain, document string) {
	w.Handle(domain, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/.well-known/browserid" {
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("Content-Type", "application/json; charset=utf-8")
		io.WriteString(rw, document)
	})
}

// Handle makes f the whole site of a domain.
func (w *World) Handle(domain string, f http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pages[domain] = f
}

// Fetched counts the requests to a domain.
func (w *World) Fetched(domain string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fetched[domain]
}

// Tunnels lists the host:port that the proxy was asked for.
func (w *World) Tunnels() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.tunnels...)
}

// ServeHTTP is all domains.
func (w *World) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(strings.ToLower(r.Host), ":")
	w.mu.Lock()
	w.fetched[host]++
	f := w.pages[host]
	w.mu.Unlock()
	if f == nil {
		http.NotFound(rw, r)
		return
	}
	f(rw, r)
}

func (w *World) accept() {
	for {
		c, err := w.proxy.Accept()
		if err != nil {
			return
		}
		w.tasks.Go(func() { w.tunnel(c) })
	}
}

// tunnel connects a client of the proxy to the domains, whichever it names. RFC 9110 §9.3.6
func (w *World) tunnel(c net.Conn) {
	defer w.forget(c)
	if !w.remember(c) {
		return
	}
	in := bufio.NewReader(c)
	r, err := http.ReadRequest(in)
	if err != nil || r.Method != http.MethodConnect {
		return
	}
	w.mu.Lock()
	w.tunnels = append(w.tunnels, r.Host)
	w.mu.Unlock()
	there, err := net.Dial("tcp", w.Addr())
	if err != nil {
		return
	}
	defer w.forget(there)
	if !w.remember(there) {
		return
	}
	io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	w.tasks.Go(func() {
		io.Copy(there, in)
		there.Close()
	})
	io.Copy(c, there)
}

func (w *World) remember(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open[c] = true
	return !w.isClosed
}

func (w *World) forget(c net.Conn) {
	c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, c)
}
