// Package oidctest is an OpenID Connect issuer for tests: discovery, keys that can be rotated, the code flow
// with PKCE, and ID tokens of any content. It promises to refuse what a good issuer refuses (a wrong redirect,
// a code used twice, a PKCE verifier that does not fit), so that a client which forgets something fails. It
// is for loopback, and for tests only: whoever opens its sign-in page is whoever she says.
//
//	issuer := oidctest.Start(oidctest.Options{})
//	defer issuer.Close()
//	issuer.SignIn("ann@example.org")   // the browser is sent back at once; "" shows a form
//	token := issuer.Token(nil)         // as a phone would bring it
package oidctest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Defaults of Options, and what tokens say where nothing else is asked for.
const (
	DefaultClient = "presenced"
	DefaultEmail  = "ann@example.org"
	lifetime      = time.Hour
)

// Options of an issuer; the zero value is a public client on plain HTTP with RS256.
type Options struct {
	ClientID     string // "": DefaultClient
	ClientSecret string // "": none is asked for
	Redirect     string // the only redirect that is accepted; "": any on loopback
	TLS          bool   // https, with the certificate of [Issuer.CertPEM]
	Algorithm    string // of the first key; "": RS256
	NoEmail      bool   // ID tokens of the code flow name no e-mail; userinfo does
	Now          func() time.Time
}

// Counts are requests that were answered.
type Counts struct{ Discovery, Keys, Authorize, Token, UserInfo int }

// Issuer is a running issuer. Safe for concurrent use.
type Issuer struct {
	URL string // of the issuer; immutable, as are the next two

	options Options
	server  *httptest.Server

	mu       sync.Mutex // guards what follows
	email    string
	unproven bool
	lies     Claims
	down     bool
	keys     []key // the last one signs
	made     int
	codes    map[string]grant
	access   map[string]grant // by access token
	counts   Counts
}

type key struct {
	id        string
	algorithm jose.SignatureAlgorithm
	private   crypto.Signer
}

// Start runs an issuer on a free port of loopback. It panics where there is none.
func Start(o Options) *Issuer {
	if o.ClientID == "" {
		o.ClientID = DefaultClient
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Algorithm == "" {
		o.Algorithm = string(jose.RS256)
	}
	i := &Issuer{options: o, codes: map[string]grant{}, access: map[string]grant{}}
	i.Rotate(o.Algorithm, false)
	i.server = httptest.NewUnstartedServer(i.routes())
	i.server.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that do not trust it
	if o.TLS {
		i.server.StartTLS()
	} else {
		i.server.Start()
	}
	i.URL = i.server.URL
	return i
}

// Close ends the issuer and waits for its requests.
func (i *Issuer) Close() { i.server.Close() }

// CertPEM is the authority of an issuer with TLS, for a ca_file.
func (i *Issuer) CertPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.server.Certificate().Raw})
}

// Roots is the same as a pool.
func (i *Issuer) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.server.Certificate())
	return pool
}

// SignIn makes the sign-in page send everybody back at once, as email. With "" it shows a form.
func (i *Issuer) SignIn(email string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.email = email
}

// Unproven makes the code flow say that the e-mail is not verified.
func (i *Issuer) Unproven(yes bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.unproven = yes
}

// Lie lays claims over those of the code flow's ID tokens; nil for the truth.
func (i *Issuer) Lie(c Claims) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lies = c
}

// Down makes every request fail with status 503, and up again.
func (i *Issuer) Down(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Counts tells what has been answered so far.
func (i *Issuer) Counts() Counts {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.counts
}

// Rotate makes a new key, which signs from now on. keep: the older ones stay published.
func (i *Issuer) Rotate(algorithm string, keep bool) {
	private := newKey(algorithm)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.made++
	k := key{fmt.Sprintf("key%d", i.made), jose.SignatureAlgorithm(algorithm), private}
	if !keep {
		i.keys = nil
	}
	i.keys = append(i.keys, k)
}

func newKey(algorithm string) crypto.Signer {
	var k crypto.Signer
	var err error
	switch algorithm[:2] {
	case "ES":
		curves := map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()}
		k, err = ecdsa.GenerateKey(curves[algorithm], rand.Reader)
	case "Ed":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	default:
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		panic(err)
	}
	return k
}

// Claims of a token, laid over the usual ones; a nil value leaves a claim out.
type Claims map[string]any

// Token is an ID token of this issuer for its client, as c says: verified, for an hour, for [DefaultEmail].
func (i *Issuer) Token(c Claims) string {
	i.mu.Lock()
	k := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	return i.sign(k, k.id, c)
}

// TokenAs is the same with another key id in its header; "" for none.
func (i *Issuer) TokenAs(kid string, c Claims) string {
	i.mu.Lock()
	k := i.keys[len(i.keys)-1]
	i.mu.Unlock()
	return i.sign(k, kid, c)
}

func (i *Issuer) sign(k key, kid string, c Claims) string {
	now := i.options.Now()
	all := Claims{
		"iss": i.URL, "aud": i.options.ClientID, "sub": "user-" + DefaultEmail, "iat": now.Unix(),
		"exp": now.Add(lifetime).Unix(), "email": DefaultEmail, "email_verified": true,
	}
	maps.Copy(all, c)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return Sign(k.algorithm, k.private, kid, payload)
}

// Sign makes a JWT with any key, for what an issuer would never sign.
func Sign(algorithm jose.SignatureAlgorithm, private any, kid string, payload []byte) string {
	var o jose.SignerOptions
	o.WithType("JWT")
	if kid != "" {
		o.WithHeader("kid", kid)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: private}, &o)
	if err != nil {
		panic(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		panic(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}

func (i *Issuer) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /keys", i.published)
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("POST /authorize", i.authorize)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("GET /userinfo", i.userinfo)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		down := i.down
		i.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// count adds one to a counter of i.counts.
func (i *Issuer) count(n *int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	*n++
}

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	i.count(&i.counts.Discovery)
	ways := []string{"client_secret_basic", "client_secret_post"}
	if i.options.ClientSecret == "" {
		ways = []string{"none"}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token",
		"userinfo_endpoint": i.URL + "/userinfo", "jwks_uri": i.URL + "/keys",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported": []string{i.options.Algorithm},
		"code_challenge_methods_supported":      []string{"S256"}, "token_endpoint_auth_methods_supported": ways,
	})
}

func (i *Issuer) published(w http.ResponseWriter, _ *http.Request) {
	i.count(&i.counts.Keys)
	i.mu.Lock()
	defer i.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, k := range i.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: string(k.algorithm), Use: "sig"})
	}
	writeJSON(w, http.StatusOK, set)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
