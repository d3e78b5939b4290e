package identity_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"presenced/identity"
	"presenced/identity/oidctest"
)

// clock moves only when told.
type clock struct {
	mu  sync.Mutex
	now time.Time // guarded by mu
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// setup is an issuer, and a verifier of its tokens, with one clock.
type setup struct {
	*clock
	issuer *oidctest.Issuer
	oidc   *identity.OIDC
}

func newSetup(t *testing.T, o oidctest.Options, change ...func(*identity.OIDCConfig)) *setup {
	t.Helper()
	s := &setup{clock: &clock{now: noon}}
	o.Now = s.Now
	s.issuer = oidctest.Start(o)
	t.Cleanup(s.issuer.Close)
	c := identity.OIDCConfig{Name: "corp", Issuer: s.issuer.URL, ClientID: oidctest.DefaultClient, ClientSecret: o.ClientSecret, Now: s.Now}
	for _, change := range change {
		change(&c)
	}
	s.oidc = identity.NewOIDC(c)
	return s
}

func (s *setup) verify(token string) (identity.Identity, error) {
	return s.oidc.Verify(context.Background(), "", token)
}

// good and bad check what comes of a token.
func (s *setup) good(t *testing.T, token string) identity.Identity {
	t.Helper()
	id, err := s.verify(token)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *setup) bad(t *testing.T, token string, want identity.Kind) {
	t.Helper()
	id, err := s.verify(token)
	if err == nil || identity.KindOf(err) != want {
		t.Fatalf("got %+v, %v; want %v", id, err, want)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 20 && strings.Contains(err.Error(), part) {
			t.Fatalf("the error shows the token: %v", err)
		}
	}
}

func TestIDToken(t *testing.T) {
	s := newSetup(t, oidctest.Options{}, func(c *identity.OIDCConfig) { c.Domains = []string{"example.org", "Example.com"} })
	unix := func(d time.Duration) int64 { return noon.Add(d).Unix() }
	for _, c := range []struct {
		name   string
		claims oidctest.Claims
		kind   identity.Kind // Unrecognised stands for none: it is good
	}{
		{name: "good"},
		{name: "verified, as a string", claims: oidctest.Claims{"email_verified": "true"}},
		{name: "another domain that is allowed, in any case", claims: oidctest.Claims{"email": "ANN@EXAMPLE.COM"}},
		{name: "for us among others, asked for by us",
			claims: oidctest.Claims{"aud": []string{"x", oidctest.DefaultClient}, "azp": oidctest.DefaultClient}},
		{name: "asked for by a phone's client, for us alone", claims: oidctest.Claims{"azp": "phone"}},
		{name: "expired within the skew", claims: oidctest.Claims{"exp": unix(-59 * time.Second)}},
		{name: "issued within the skew", claims: oidctest.Claims{"iat": unix(time.Minute)}},
		{name: "expired", claims: oidctest.Claims{"exp": unix(-time.Minute)}, kind: identity.Expired},
		{name: "issued in the future", claims: oidctest.Claims{"iat": unix(61 * time.Second)}, kind: identity.Invalid},
		{name: "not good yet", claims: oidctest.Claims{"nbf": unix(61 * time.Second)}, kind: identity.Invalid},
		{name: "no expiry", claims: oidctest.Claims{"exp": nil}, kind: identity.Invalid},
		{name: "no moment of issue", claims: oidctest.Claims{"iat": nil}, kind: identity.Invalid},
		{name: "for another client", claims: oidctest.Claims{"aud": "other"}, kind: identity.Audience},
		{name: "for everybody", claims: oidctest.Claims{"aud": "*"}, kind: identity.Audience},
		{name: "for nobody", claims: oidctest.Claims{"aud": nil}, kind: identity.Audience},
		{name: "for us among others, asked for by another",
			claims: oidctest.Claims{"aud": []string{"x", oidctest.DefaultClient}, "azp": "x"}, kind: identity.Audience},
		{name: "for us among others, asked for by nobody knows",
			claims: oidctest.Claims{"aud": []string{"x", oidctest.DefaultClient}}, kind: identity.Audience},
		{name: "not verified", claims: oidctest.Claims{"email_verified": false}, kind: identity.Email},
		{name: "not said to be verified", claims: oidctest.Claims{"email_verified": nil}, kind: identity.Email},
		{name: "verified in another spelling", claims: oidctest.Claims{"email_verified": nil, "Email_Verified": true}, kind: identity.Email},
		{name: "verified by a number", claims: oidctest.Claims{"email_verified": 1}, kind: identity.Email},
		{name: "no e-mail", claims: oidctest.Claims{"email": nil}, kind: identity.Email},
		{name: "no e-mail address", claims: oidctest.Claims{"email": "ann"}, kind: identity.Email},
		{name: "a domain that is not allowed", claims: oidctest.Claims{"email": "ann@example.net"}, kind: identity.Issuer},
		{name: "a domain below an allowed one", claims: oidctest.Claims{"email": "ann@sub.example.org"}, kind: identity.Issuer},
		{name: "a domain in the local part", claims: oidctest.Claims{"email": `"ann@example.org"@evil.net`}, kind: identity.Issuer},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := s.issuer.Token(c.claims)
			if c.kind != identity.Unrecognised {
				s.bad(t, token, c.kind)
				return
			}
			id := s.good(t, token)
			if id.By != s.issuer.URL || id.Device != "" || id.Credential != identity.CredentialOf(identity.HashSecret(token)) {
				t.Errorf("%+v", id)
			}
			if id.Email != "ann@example.org" && id.Email != "ann@example.com" || !id.Expires.After(noon) {
				t.Errorf("%+v", id)
			}
		})
	}
	if n := s.issuer.Counts(); n.Discovery != 1 || n.Keys != 1 {
		t.Errorf("%+v requests, want one of each", n)
	}
}

func TestIDTokenEndsTheSessionWhenItExpires(t *testing.T) {
	s := newSetup(t, oidctest.Options{})
	exp := noon.Add(10 * time.Minute)
	token := s.issuer.Token(oidctest.Claims{"exp": exp.Unix()})
	if id := s.good(t, token); !id.Expires.Equal(exp) {
		t.Errorf("expires %v, want %v", id.Expires, exp)
	}
	s.pass(10 * time.Minute)
	if id := s.good(t, token); !id.Expires.Equal(exp.Add(time.Minute)) {
		t.Errorf("within the skew: expires %v", id.Expires)
	}
	s.pass(time.Minute)
	s.bad(t, token, identity.Expired)
}

func TestIDTokenOfAnotherEmail(t *testing.T) {
	s := newSetup(t, oidctest.Options{})
	token := s.issuer.Token(nil)
	if _, err := s.oidc.Verify(context.Background(), "Ann@Example.org", token); err != nil {
		t.Error(err)
	}
	if _, err := s.oidc.Verify(context.Background(), "bob@example.org", token); identity.KindOf(err) != identity.Email {
		t.Error(err)
	}
}

// Every algorithm of the defaults is accepted, and of others none, though the issuer publishes the key.
func TestAlgorithms(t *testing.T) {
	for alg, kind := range map[string]identity.Kind{"RS256": identity.Unrecognised, "ES256": identity.Unrecognised,
		"EdDSA": identity.Unrecognised, "RS384": identity.Invalid, "PS256": identity.Invalid, "ES384": identity.Invalid} {
		t.Run(alg, func(t *testing.T) {
			s := newSetup(t, oidctest.Options{Algorithm: alg})
			if kind == identity.Unrecognised {
				s.good(t, s.issuer.Token(nil))
				return
			}
			s.bad(t, s.issuer.Token(nil), kind)
			if n := s.issuer.Counts(); n.Keys != 0 {
				t.Error("keys were fetched for an algorithm that is not accepted")
			}
		})
	}
}

// forge makes a token with another header, and the signature that sign makes of it.
func forge(t *testing.T, token string, header map[string]any, sign func(input string) []byte) string {
	t.Helper()
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	input := base64.RawURLEncoding.EncodeToString(h) + "." + strings.Split(token, ".")[1]
	return input + "." + base64.RawURLEncoding.EncodeToString(sign(input))
}

func TestForgedIDTokens(t *testing.T) {
	s := newSetup(t, oidctest.Options{})
	token := s.issuer.Token(nil)
	s.good(t, token)
	none := func(string) []byte { return nil }
	_, ours, _ := ed25519.GenerateKey(rand.Reader)
	parts := strings.Split(token, ".")
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	hmac := oidctest.Sign(jose.HS256, []byte("0123456789abcdef0123456789abcdef"), "key1", payload)
	for name, forged := range map[string]string{
		"none":               forge(t, token, map[string]any{"alg": "none"}, none),
		"None":               forge(t, token, map[string]any{"alg": "None"}, none),
		"none, with a key":   forge(t, token, map[string]any{"alg": "none", "kid": "key1"}, none),
		"no signature":       parts[0] + "." + parts[1] + ".",
		"a shared secret":    hmac,
		"another key":        oidctest.Sign(jose.EdDSA, ours, "", payload),
		"another's key id":   oidctest.Sign(jose.EdDSA, ours, "key1", payload),
		"a key of its own":   forge(t, token, map[string]any{"alg": "EdDSA", "jwk": jose.JSONWebKey{Key: ours.Public()}}, func(in string) []byte { return ed25519.Sign(ours, []byte(in)) }),
		"critical":           forge(t, token, map[string]any{"alg": "RS256", "kid": "key1", "crit": []string{"x"}, "x": 1}, func(string) []byte { return []byte("x") }),
		"another content":    parts[0] + "." + strings.Split(s.issuer.Token(oidctest.Claims{"email": "root@example.org"}), ".")[1] + "." + parts[2],
		"one bit, signature": flip(token, len(token)-8),
	} {
		t.Run(name, func(t *testing.T) { s.bad(t, forged, identity.Invalid) })
	}
}

// flip changes a letter of a text.
func flip(s string, at int) string {
	b := []byte(s)
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	return string(b)
}

// The token of nobody we know is refused as that; what is no ID token is left to others.
func TestIssuers(t *testing.T) {
	one, two := newSetup(t, oidctest.Options{}), newSetup(t, oidctest.Options{})
	stranger := newSetup(t, oidctest.Options{})
	v := identity.Issuers(one.oidc, two.oidc)
	for name, c := range map[string]struct {
		assertion string
		by        string
		kind      identity.Kind
	}{
		"first":           {one.issuer.Token(nil), one.issuer.URL, 0},
		"second":          {two.issuer.Token(nil), two.issuer.URL, 0},
		"stranger":        {stranger.issuer.Token(nil), "", identity.Issuer},
		"lies":            {stranger.issuer.Token(oidctest.Claims{"iss": one.issuer.URL}), "", identity.Invalid},
		"slash":           {one.issuer.Token(oidctest.Claims{"iss": one.issuer.URL + "/"}), "", identity.Issuer},
		"no issuer":       {one.issuer.Token(oidctest.Claims{"iss": nil}), "", identity.Unrecognised},
		"a secret":        {identity.NewSecret(), "", identity.Unrecognised},
		"a bundle":        {"a.b.c~d.e.f", "", identity.Unrecognised},
		"points":          {"..", "", identity.Unrecognised},
		"no JSON":         {"e30.e30.e30", "", identity.Unrecognised},
		"endless":         {one.issuer.Token(oidctest.Claims{"x": strings.Repeat("x", 16<<10)}), "", identity.Unrecognised},
		"nothing at all":  {"", "", identity.Unrecognised},
		"issuer no text":  {one.issuer.Token(oidctest.Claims{"iss": 5}), "", identity.Unrecognised},
		"shouted, ISS":    {stranger.issuer.Token(oidctest.Claims{"ISS": one.issuer.URL}), "", identity.Issuer},
		"another's claim": {stranger.issuer.Token(oidctest.Claims{"email": "ann@example.org"}), "", identity.Issuer},
	} {
		t.Run(name, func(t *testing.T) {
			id, err := v.Verify(context.Background(), "", c.assertion)
			if id.By != c.by || (c.by == "") != (err != nil) || err != nil && identity.KindOf(err) != c.kind {
				t.Fatalf("got %+v, %v", id, err)
			}
		})
	}
	if n := stranger.issuer.Counts(); n != (oidctest.Counts{}) {
		t.Errorf("a stranger named in a token was asked: %+v", n)
	}
}

// One issuer may stand there twice, for two clients.
func TestOneIssuerForTwoClients(t *testing.T) {
	s := newSetup(t, oidctest.Options{})
	phone := identity.NewOIDC(identity.OIDCConfig{Name: "phone", Issuer: s.issuer.URL, ClientID: "phone", Now: s.Now})
	v := identity.Issuers(s.oidc, phone)
	if _, err := v.Verify(context.Background(), "", s.issuer.Token(oidctest.Claims{"aud": "phone"})); err != nil {
		t.Error(err)
	}
	if _, err := v.Verify(context.Background(), "", s.issuer.Token(oidctest.Claims{"aud": "tv"})); identity.KindOf(err) != identity.Audience {
		t.Error(err)
	}
}

// A new key is good at once; strangers who name keys that do not exist cost a fetch now and then, no more.
func TestKeysRotate(t *testing.T) {
	s := newSetup(t, oidctest.Options{})
	old := s.issuer.Token(nil)
	s.good(t, old)
	s.issuer.Rotate("RS256", true)
	s.good(t, s.issuer.Token(nil))
	s.good(t, old)
	if n := s.issuer.Counts().Keys; n != 2 {
		t.Fatalf("keys were fetched %d times, want 2", n)
	}
	for range 50 {
		s.bad(t, s.issuer.TokenAs("made-up", nil), identity.Invalid)
	}
	if n := s.issuer.Counts().Keys; n != 3 {
		t.Fatalf("keys were fetched %d times for keys that do not exist, want 1", n-2)
	}
	for range 3 {
		s.pass(10 * time.Second)
		s.bad(t, s.issuer.TokenAs("made-up", nil), identity.Invalid)
		s.bad(t, s.issuer.TokenAs("made-up", nil), identity.Invalid)
	}
	if n := s.issuer.Counts().Keys; n != 6 {
		t.Fatalf("keys were fetched %d times in 30 seconds, want 3", n-3)
	}
	s.pass(10 * time.Second)
	s.issuer.Rotate("ES256", false)
	s.good(t, s.issuer.Token(nil)) // the limit has left one for who needs it
	s.bad(t, old, identity.Invalid)
}

// A signature that does not fit a key we have is no reason to ask for keys.
func TestBadSignaturesFetchNothing(t *testing.T) {
	s := newSetup(t, oidctest.Options{})
	token := s.issuer.Token(nil)
	s.good(t, token)
	for range 10 {
		s.bad(t, flip(token, len(token)-8), identity.Invalid)
	}
	if n := s.issuer.Counts().Keys; n != 1 {
		t.Errorf("keys were fetched %d times", n)
	}
}

// A key that the issuer withdrew dies within the hour.
func TestKeysAreBelievedForAnHour(t *testing.T) {
	s := newSetup(t, oidctest.Options{})
	claims := oidctest.Claims{"exp": noon.Add(100 * time.Hour).Unix()}
	old := s.issuer.Token(claims)
	s.good(t, old)
	s.issuer.Rotate("RS256", false)
	s.pass(time.Hour)
	s.bad(t, old, identity.Invalid)
}

// An issuer that is away takes nothing with it but itself, and is asked again when it is back.
func TestIssuerIsAway(t *testing.T) {
	s := newSetup(t, oidctest.Options{})
	s.issuer.Down(true)
	token := s.issuer.Token(oidctest.Claims{"exp": noon.Add(100 * time.Hour).Unix()})
	s.bad(t, token, identity.Unavailable)
	if _, err := s.oidc.AuthURL(context.Background(), "s", "n", oauth2.GenerateVerifier(), "http://localhost/"); err == nil || identity.KindOf(err) != identity.Unavailable {
		t.Error(err)
	}
	s.issuer.Down(false)
	s.bad(t, token, identity.Unavailable) // not asked again so soon
	s.pass(5 * time.Second)
	s.good(t, token)
	s.issuer.Down(true)
	s.pass(2 * time.Hour)
	s.good(t, token) // with yesterday's keys
	s.pass(24 * time.Hour)
	s.bad(t, token, identity.Unavailable)
	s.issuer.Down(false)
	s.pass(time.Minute)
	s.good(t, token)
}

func TestIssuerAwayDoesNotCount(t *testing.T) {
	s := newSetup(t, oidctest.Options{})
	s.issuer.Down(true)
	_, err := s.verify(s.issuer.Token(nil))
	if identity.Counts(err) {
		t.Errorf("a user is blamed for %v", err)
	}
	if !identity.Counts(&identity.Error{Kind: identity.Invalid}) || identity.Counts(nil) {
		t.Error("Counts")
	}
}

// Many at once cost one discovery and one fetch of keys, and who gives up waiting is let go.
func TestManyAtOnce(t *testing.T) {
	s := newSetup(t, oidctest.Options{})
	token := s.issuer.Token(nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := s.verify(token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.issuer.Counts(); n.Discovery != 1 || n.Keys != 1 {
		t.Errorf("%+v", n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	fresh := newSetup(t, oidctest.Options{})
	if _, err := fresh.oidc.Verify(ctx, "", fresh.issuer.Token(nil)); err == nil || identity.KindOf(err) != identity.Unavailable {
		t.Error(err)
	}
	fresh.good(t, fresh.issuer.Token(nil)) // giving up is not the issuer's failure
}

func TestIssuerWithItsOwnAuthority(t *testing.T) {
	s := newSetup(t, oidctest.Options{TLS: true})
	s.bad(t, s.issuer.Token(nil), identity.Unavailable)
	trusting := identity.NewOIDC(identity.OIDCConfig{Issuer: s.issuer.URL, ClientID: oidctest.DefaultClient, Now: s.Now, Roots: s.issuer.Roots()})
	if _, err := trusting.Verify(context.Background(), "", s.issuer.Token(nil)); err != nil {
		t.Error(err)
	}
}

// A discovery document that is endless, somebody else's, a redirect, or that names endpoints anybody may listen to, is none.
func TestBadDiscovery(t *testing.T) {
	var answer func(w http.ResponseWriter, self string)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer(w, server.URL)
	})
	for name, f := range map[string]func(w http.ResponseWriter, self string){
		"endless": func(w http.ResponseWriter, self string) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q,"x":"%s"}`, self, self, strings.Repeat("x", 2<<20))
		},
		"another's": func(w http.ResponseWriter, self string) { fmt.Fprintf(w, `{"issuer":"https://other.example"}`) },
		"redirect": func(w http.ResponseWriter, self string) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusFound)
		},
		"plain keys": func(w http.ResponseWriter, self string) {
			fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":"http://192.0.2.1/keys"}`, self)
		},
		"no JSON": func(w http.ResponseWriter, self string) { fmt.Fprint(w, "<html>") },
	} {
		t.Run(name, func(t *testing.T) {
			answer = f
			o := identity.NewOIDC(identity.OIDCConfig{Issuer: server.URL, ClientID: "x"})
			_, err := o.AuthURL(context.Background(), "s", "n", oauth2.GenerateVerifier(), "http://localhost/")
			if err == nil || identity.KindOf(err) != identity.Unavailable {
				t.Errorf("got %v", err)
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
		})
	}
}

func TestCheckIssuer(t *testing.T) {
	for u, good := range map[string]bool{
		"https://accounts.example.org": true, "https://example.org/realms/x": true, "http://127.0.0.1:8080": true,
		"http://localhost:9": true, "http://[::1]:9": true,
		"http://example.org": false, "http://127.0.0.1.example.org": false, "https://": false, "https://:443": false,
		"ftp://example.org": false, "example.org": false, "https://ann@example.org": false, "https://example.org/#x": false, "": false,
	} {
		if err := identity.CheckIssuer(u); (err == nil) != good {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// browser walks through a sign-in page the way a browser does, up to the redirect back to us.
func browser(t *testing.T, authURL, email string) url.Values {
	t.Helper()
	jar, _ := cookiejar.New(nil)
	c := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer c.CloseIdleConnections()
	var resp *http.Response
	var err error
	if email == "" {
		resp, err = c.Get(authURL)
	} else {
		u, perr := url.Parse(authURL)
		if perr != nil {
			t.Fatal(perr)
		}
		form := u.Query()
		form.Set("email", email)
		u.RawQuery = ""
		resp, err = c.PostForm(u.String(), form)
	}
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		t.Fatalf("status %d: no way back", resp.StatusCode)
	}
	return back.Query()
}

const redirect = "http://localhost:8080/login/oidc/corp"

func TestCodeFlow(t *testing.T) {
	for _, secret := range []string{"", "s3cret/+ :%"} {
		s := newSetup(t, oidctest.Options{ClientSecret: secret})
		verifier := oauth2.GenerateVerifier()
		u, err := s.oidc.AuthURL(context.Background(), "state1", "nonce1", verifier, redirect)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(u, verifier) || secret != "" && strings.Contains(u, "s3cret") {
			t.Errorf("secrets in %s", u)
		}
		answer := browser(t, u, "Bob@Example.org")
		if answer.Get("state") != "state1" {
			t.Errorf("state %q", answer.Get("state"))
		}
		id, err := s.oidc.Exchange(context.Background(), answer.Get("code"), verifier, "nonce1", redirect)
		if err != nil {
			t.Fatal(err)
		}
		if id.Email != "bob@example.org" || id.By != s.issuer.URL || !id.Expires.Equal(noon.Add(time.Hour)) {
			t.Errorf("%+v", id)
		}
		_, err = s.oidc.Exchange(context.Background(), answer.Get("code"), verifier, "nonce1", redirect)
		if identity.KindOf(err) != identity.Invalid {
			t.Errorf("a code was good twice: %v", err)
		}
	}
}

func TestCodeFlowRefuses(t *testing.T) {
	s := newSetup(t, oidctest.Options{}, func(c *identity.OIDCConfig) { c.Domains = []string{"example.org"} })
	s.issuer.SignIn("ann@example.org")
	verifier, other := oauth2.GenerateVerifier(), oauth2.GenerateVerifier()
	code := func() string {
		u, err := s.oidc.AuthURL(context.Background(), "s", "nonce1", verifier, redirect)
		if err != nil {
			t.Fatal(err)
		}
		return browser(t, u, "").Get("code")
	}
	for name, c := range map[string]struct {
		before                     func()
		code                       string
		verifier, nonce, redirects string
		kind                       identity.Kind
	}{
		"another PKCE verifier":  {verifier: other, kind: identity.Invalid},
		"another nonce":          {nonce: "nonce2", kind: identity.Invalid},
		"another redirect":       {redirects: redirect + "2", kind: identity.Invalid},
		"a code nobody gave out": {code: "guess", kind: identity.Invalid},
		"not verified":           {before: func() { s.issuer.Unproven(true) }, kind: identity.Email},
		"another domain":         {before: func() { s.issuer.Unproven(false); s.issuer.SignIn("eve@evil.example") }, kind: identity.Issuer},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() { s.issuer.Unproven(false); s.issuer.SignIn("ann@example.org") }()
			if c.before != nil {
				c.before()
			}
			got := code()
			for _, d := range []struct{ value, usual *string }{{&c.code, &got}, {&c.verifier, &verifier}} {
				if *d.value == "" {
					*d.value = *d.usual
				}
			}
			if c.nonce == "" {
				c.nonce = "nonce1"
			}
			if c.redirects == "" {
				c.redirects = redirect
			}
			_, err := s.oidc.Exchange(context.Background(), c.code, c.verifier, c.nonce, c.redirects)
			if err == nil || identity.KindOf(err) != c.kind {
				t.Errorf("got %v, want %v", err, c.kind)
			}
			if err != nil && (strings.Contains(err.Error(), c.code) && c.code != "guess" || strings.Contains(err.Error(), verifier)) {
				t.Errorf("secrets in %v", err)
			}
		})
	}
}

// What an ID token and what is beside it say of each other has to fit.
func TestCodeFlowFits(t *testing.T) {
	for name, c := range map[string]struct {
		options oidctest.Options
		lie     oidctest.Claims
		kind    identity.Kind
	}{
		"the truth":                  {kind: good},
		"another's access token":     {lie: oidctest.Claims{"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, kind: identity.Invalid},
		"userinfo of another":        {options: oidctest.Options{NoEmail: true}, lie: oidctest.Claims{"sub": "eve"}, kind: identity.Invalid},
		"an ID token for another":    {lie: oidctest.Claims{"aud": "other"}, kind: identity.Audience},
		"an ID token of another":     {lie: oidctest.Claims{"iss": "https://other.example"}, kind: identity.Invalid},
		"an ID token that is over":   {lie: oidctest.Claims{"exp": noon.Add(-time.Hour).Unix()}, kind: identity.Expired},
		"an ID token without nonce":  {lie: oidctest.Claims{"nonce": nil}, kind: identity.Invalid},
		"an ID token with no expiry": {lie: oidctest.Claims{"exp": nil}, kind: identity.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, c.options)
			s.issuer.SignIn("ann@example.org")
			s.issuer.Lie(c.lie)
			verifier := oauth2.GenerateVerifier()
			u, err := s.oidc.AuthURL(context.Background(), "s", "n", verifier, redirect)
			if err != nil {
				t.Fatal(err)
			}
			id, err := s.oidc.Exchange(context.Background(), browser(t, u, "").Get("code"), verifier, "n", redirect)
			if c.kind == good && err != nil || c.kind != good && (err == nil || identity.KindOf(err) != c.kind) {
				t.Errorf("got %+v, %v; want %v", id, err, c.kind)
			}
		})
	}
}

// Some issuers tell the e-mail only where it is asked for.
func TestEmailFromUserInfo(t *testing.T) {
	s := newSetup(t, oidctest.Options{NoEmail: true})
	s.issuer.SignIn("ann@example.org")
	verifier := oauth2.GenerateVerifier()
	for _, unproven := range []bool{false, true} {
		s.issuer.Unproven(unproven)
		u, err := s.oidc.AuthURL(context.Background(), "s", "n", verifier, redirect)
		if err != nil {
			t.Fatal(err)
		}
		id, err := s.oidc.Exchange(context.Background(), browser(t, u, "").Get("code"), verifier, "n", redirect)
		if unproven && identity.KindOf(err) != identity.Email || !unproven && (err != nil || id.Email != "ann@example.org") {
			t.Errorf("unproven %v: %+v, %v", unproven, id, err)
		}
	}
	if n := s.issuer.Counts().UserInfo; n != 2 {
		t.Errorf("asked %d times", n)
	}
}

func TestAuthURLHasWhatTheFlowNeeds(t *testing.T) {
	s := newSetup(t, oidctest.Options{})
	u, err := s.oidc.AuthURL(context.Background(), "st ate", "no&nce", oauth2.GenerateVerifier(), redirect)
	if err != nil {
		t.Fatal(err)
	}
	p, err := url.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	q := p.Query()
	want := url.Values{"client_id": {oidctest.DefaultClient}, "response_type": {"code"}, "scope": {"openid email"},
		"redirect_uri": {redirect}, "state": {"st ate"}, "nonce": {"no&nce"}, "code_challenge_method": {"S256"}}
	for name := range want {
		if !slices.Equal(q[name], want[name]) {
			t.Errorf("%s: %q, want %q", name, q[name], want[name])
		}
	}
	if len(q.Get("code_challenge")) != 43 {
		t.Errorf("challenge %q", q.Get("code_challenge"))
	}
}
