package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// The authority is Pebble, which Let's Encrypt made for tests. It cannot be stopped, so it runs in a process of its
// own: this test binary, started again.

const (
	// authorityVariable is set in the environment of that process, to the port at which it looks at who has a name.
	authorityVariable = "PRESENCED_TEST_ACME"
	acmeHost          = "presence.example.test"
)

// acmeAuthority is what a test knows of that process.
type acmeAuthority struct {
	Directory string
	CA        []byte // who vouches for the directory, in DER
	Root      []byte // and for the certificates that it gives
	stop      func()
}

// authorityProcess is the whole of the other process. Every name leads to loopback.
func authorityProcess() {
	port, err := strconv.Atoi(os.Getenv(authorityVariable))
	if err != nil {
		log.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	names := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg).SetReply(q)
		for _, question := range q.Question {
			if question.Qtype == dns.TypeA {
				answer.Answer = append(answer.Answer, &dns.A{A: net.IPv4(127, 0, 0, 1),
					Hdr: dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}})
			}
		}
		w.WriteMsg(answer)
	})}
	go names.ActivateAndServe()

	quiet, memory := log.New(io.Discard, "", 0), db.NewMemoryStore()
	signer := ca.New(quiet, memory, "", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: 90 * 24 * 3600}})
	looks := va.New(quiet, 0, port, false, packets.LocalAddr().String(), memory)
	front := wfe.New(quiet, memory, looks, signer, false, false, 1, 1)
	server := httptest.NewTLSServer(front.Handler())
	root, _ := pem.Decode(signer.GetRootCert(0).PEM())
	json.NewEncoder(os.Stdout).Encode(acmeAuthority{
		Directory: server.URL + wfe.DirectoryPath, CA: server.Certificate().Raw, Root: root.Bytes,
	})
	io.Copy(io.Discard, os.Stdin) // until the test ends it
}

// startAuthority starts an authority that looks at this port of loopback.
func startAuthority(t *testing.T, port int) *acmeAuthority {
	t.Helper()
	cmd, in, out := startSelf(t, authorityVariable+"="+strconv.Itoa(port), "PEBBLE_VA_NOSLEEP=1")
	a := &acmeAuthority{stop: sync.OnceFunc(func() { in.Close(); cmd.Wait() })}
	t.Cleanup(a.stop)
	if err := out.Decode(a); err != nil {
		t.Fatal(err)
	}
	return a
}

// forward passes the connections of l on to the address that it gets, once it has it.
func forward(t *testing.T, l net.Listener) chan<- string {
	to := make(chan string, 1)
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		addr := <-to
		for {
			theirs, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer theirs.Close()
				ours, err := net.Dial("tcp", addr)
				if err != nil {
					return
				}
				defer ours.Close()
				all.Go(func() { io.Copy(ours, theirs); ours.Close() })
				io.Copy(theirs, ours)
			})
		}
	})
	return to
}

// certificateFor is what a server shows to a client that asks for name and trusts root.
func certificateFor(t *testing.T, addr, name string, root []byte) (*x509.Certificate, error) {
	t.Helper()
	cert, err := x509.ParseCertificate(root)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	conn := tls.Client(dialTCP(t, addr), &tls.Config{
		ServerName: name, InsecureSkipVerify: true, // whatever the name: the chain is looked at below
		VerifyConnection: func(s tls.ConnectionState) error {
			between := x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				between.AddCert(c)
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: acmeHost, Roots: roots, Intermediates: between})
			return err
		},
	})
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

// acmeConfig is a gateway that has its certificate from this authority, on every door that has TLS.
func acmeConfig(t *testing.T, a *acmeAuthority) Config {
	t.Helper()
	c := testConfig(t)
	c.HTTP.ACMEHosts, c.HTTP.ACMEDirectory, c.HTTP.ACMEEmail = []string{acmeHost}, a.Directory, "root@example.org"
	c.HTTP.ACMECAFile = filepath.Join(t.TempDir(), "authority.pem")
	writePEM(t, c.HTTP.ACMECAFile, "CERTIFICATE", a.CA)
	c.XMPP.TLSListen, c.CCS.Listen = "127.0.0.1:0", "127.0.0.1:0"
	return c
}

// startLogged starts a gateway and returns what it logs.
func startLogged(t *testing.T, c Config) (*gateway, *journal) {
	t.Helper()
	if err := c.Validate(nil); err != nil {
		t.Fatal(err)
	}
	j := new(journal)
	g, err := startGateway(c, slog.New(slog.NewTextHandler(j, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return g, j
}

// TestACME: a certificate that nobody put there, for devices, components and CCS, from an authority that looked who
// has the name; and after a restart the same one, without asking anybody.
func TestACME(t *testing.T) {
	port443, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := forward(t, port443)
	authority := startAuthority(t, port443.Addr().(*net.TCPAddr).Port)
	cfg := acmeConfig(t, authority)
	g, journal := startLogged(t, cfg)
	to <- g.addrs()["http"]
	if g.origin != "https://"+acmeHost {
		t.Errorf("origin %s", g.origin)
	}
	journal.wait(t, `msg="certificate by ACME" host=`+acmeHost)

	shown := map[string]bool{}
	for _, door := range []string{"http", "xmpp_tls", "ccs"} {
		for _, name := range []string{acmeHost, strings.ToUpper(acmeHost), "", "elsewhere.example.test"} {
			cert, err := certificateFor(t, g.addrs()[door], name, authority.Root)
			if err != nil {
				t.Fatalf("%s, asked for %q: %v", door, name, err)
			}
			shown[cert.SerialNumber.String()] = true
		}
	}
	if len(shown) != 1 {
		t.Errorf("%d certificates for one name", len(shown))
	}
	d := dialDevice(t, websocket.Dialer{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, "wss://"+g.addrs()["http"], "ann@example.org", "phone", "dev")
	d.Close()
	filepath.WalkDir(filepath.Join(cfg.Data, acmeFolder), func(path string, e fs.DirEntry, err error) error {
		if info, statErr := os.Stat(path); err != nil || statErr != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err := g.Stop(); err != nil {
		t.Fatal(err)
	}

	authority.stop()
	g, journal = startLogged(t, cfg)
	defer g.Stop()
	journal.wait(t, `msg="certificate by ACME" host=`+acmeHost)
	cert, err := certificateFor(t, g.addrs()["http"], acmeHost, authority.Root)
	if err != nil || !shown[cert.SerialNumber.String()] {
		t.Errorf("after a restart another one, or none: %v", err)
	}
}

// TestACMEWithoutAnAnswer: an authority that is not there keeps nobody waiting, neither who connects nor who stops the
// server, and the log says what is wrong.
func TestACMEWithoutAnAnswer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // it accepts in the kernel, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	authority := startAuthority(t, 1)
	cfg := acmeConfig(t, authority)
	cfg.HTTP.ACMEDirectory = "https://" + silent.Addr().String() + "/dir"
	g, _ := startLogged(t, cfg)
	if _, err := certificateFor(t, g.addrs()["http"], acmeHost, authority.Root); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("a handshake without a certificate: %v", err)
	}
	conn, err := silent.Accept() // the gateway asks now
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := g.Stop(); err != nil { // though nobody answers
		t.Error(err)
	}
	silent.Close()

	again, journal := startLogged(t, cfg)
	defer again.Stop()
	journal.wait(t, `msg="no certificate by ACME" host=`+acmeHost)
	journal.wait(t, "again_in=2m0s")
}
