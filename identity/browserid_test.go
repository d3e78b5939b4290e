package identity_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"presenced/identity"
	"presenced/identity/browseridtest"
)

const (
	here = "https://presence.example.org"
	idp  = "idp.example.net"
)

// persona is a verifier in a small internet, with a clock.
type persona struct {
	*clock
	t     testing.TB
	world *browseridtest.World
	v     *identity.BrowserID
}

func newPersona(t testing.TB, change ...func(*identity.BrowserIDConfig)) *persona {
	t.Helper()
	p := &persona{clock: &clock{now: noon}, t: t, world: browseridtest.Start(idp, "mail.example", "auth.example", "*.example")}
	t.Cleanup(p.world.Close)
	p.v = p.verifier(change...)
	return p
}

// verifier makes another one.
func (p *persona) verifier(change ...func(*identity.BrowserIDConfig)) *identity.BrowserID {
	p.t.Helper()
	c := identity.BrowserIDConfig{Audience: here, Fetch: p.fetcher(), Now: p.Now}
	for _, change := range change {
		change(&c)
	}
	v, err := identity.NewBrowserID(c)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

func (p *persona) fetcher() *identity.Fetcher {
	proxy, err := url.Parse(p.world.Proxy)
	if err != nil {
		p.t.Fatal(err)
	}
	return identity.NewFetcher(identity.FetchConfig{Roots: p.world.Roots(), Proxy: http.ProxyURL(proxy)})
}

// check verifies a bundle; kind Unrecognised stands for none: it is good.
func (p *persona) check(bundle string, kind identity.Kind) identity.Identity {
	p.t.Helper()
	id, err := p.v.Verify(context.Background(), "", bundle)
	switch {
	case kind == identity.Unrecognised && err != nil:
		p.t.Errorf("refused: %v", err)
	case kind != identity.Unrecognised && (err == nil || identity.KindOf(err) != kind):
		p.t.Errorf("got %+v, %v; want %v", id, err, kind)
	}
	return id
}

const good = identity.Unrecognised

func trust(issuers ...string) func(*identity.BrowserIDConfig) {
	return func(c *identity.BrowserIDConfig) { c.TrustedIssuers = issuers }
}

// samples are bundles made by Persona's own library, verified by its own verifier and by another one.
type samples struct {
	Audience, Email, Issuer string
	Cases                   map[string]struct {
		WellKnown json.RawMessage
		Bundle    string
		Certificate,
		Assertion struct{ Payload struct{ Iat, Exp int64 } }
	}
}

func loadSamples(t testing.TB) (s samples) {
	t.Helper()
	text, err := os.ReadFile("testdata/browserid-samples.json")
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil || len(s.Cases) != 4 {
		t.Fatal(len(s.Cases), err)
	}
	return s
}

func TestSamples(t *testing.T) {
	s := loadSamples(t)
	for name, c := range s.Cases {
		t.Run(name, func(t *testing.T) {
			p := newPersona(t)
			p.world.Publish(s.Issuer, string(c.WellKnown))
			made, end := time.UnixMilli(c.Assertion.Payload.Iat), time.UnixMilli(c.Assertion.Payload.Exp)
			weak := strings.Contains(name, "rs128")
			for _, v := range []struct {
				name     string
				now      time.Time
				audience string
				tamper   bool
				kind     identity.Kind
			}{
				{name: "ok", now: made.Add(time.Second)},
				{name: "ok, default port", now: made.Add(time.Second), audience: s.Audience + ":443"},
				{name: "expired exactly", now: end},
				{name: "expired", now: end.Add(time.Second), kind: identity.Expired},
				{name: "future", now: made.Add(-time.Millisecond), kind: identity.Invalid},
				{name: "wrong audience", now: made.Add(time.Second), audience: "https://other.example.org", kind: identity.Audience},
				{name: "wrong scheme", now: made.Add(time.Second), audience: "http://presence.example.org", kind: identity.Audience},
				{name: "wrong port", now: made.Add(time.Second), audience: s.Audience + ":8443", kind: identity.Audience},
				{name: "tampered", now: made.Add(time.Second), tamper: true, kind: identity.Invalid},
			} {
				if v.audience == "" {
					v.audience = s.Audience
				}
				bundle := c.Bundle
				if v.tamper {
					bundle = bundle[:len(bundle)-6] + "AAAAAA"
				}
				verifier := p.verifier(func(c *identity.BrowserIDConfig) {
					c.Audience, c.Now = v.audience, func() time.Time { return v.now }
				})
				id, err := verifier.Verify(context.Background(), strings.ToUpper(s.Email), bundle)
				switch {
				case weak:
					if identity.KindOf(err) != identity.Invalid || err == nil {
						t.Errorf("%s: RS128 is accepted: %+v, %v", v.name, id, err)
					}
				case v.kind != good:
					if err == nil || identity.KindOf(err) != v.kind {
						t.Errorf("%s: got %+v, %v; want %v", v.name, id, err, v.kind)
					}
				case err != nil:
					t.Errorf("%s: %v", v.name, err)
				case id.Email != s.Email || id.By != s.Issuer || !id.Expires.Equal(end) || id.Device != "" || id.Credential == "":
					t.Errorf("%s: %+v", v.name, id)
				}
			}
		})
	}
}

// No change of a letter, wherever it is, leaves a bundle good.
func TestSamplesChanged(t *testing.T) {
	s := loadSamples(t)
	for name, c := range s.Cases {
		if strings.Contains(name, "rs128") {
			continue
		}
		p := newPersona(t)
		p.world.Publish(s.Issuer, string(c.WellKnown))
		made := time.UnixMilli(c.Assertion.Payload.Iat).Add(time.Second)
		p.v = p.verifier(func(c *identity.BrowserIDConfig) { c.Now = func() time.Time { return made } })
		p.check(c.Bundle, good)
		const step = 29
		for at := rand.IntN(step); at < len(c.Bundle); at += step {
			if id, err := p.v.Verify(context.Background(), "", flip(c.Bundle, at)); err == nil {
				t.Errorf("%s: good with letter %d changed: %+v", name, at, id)
			}
		}
		for _, at := range []int{len(c.Bundle) - 1, strings.Index(c.Bundle, "~") - 1} { // where bits are left over
			for _, letter := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=" {
				changed := c.Bundle[:at] + string(letter) + c.Bundle[at+1:]
				if _, err := p.v.Verify(context.Background(), "", changed); err == nil && changed != c.Bundle {
					t.Errorf("%s: good with letter %d as %c", name, at, letter)
				}
			}
		}
	}
}

// people are keys that tests share, because they take a while to make.
type people struct{ rsa, rsa2, dsa, dsa2, dsa256, weak browseridtest.Key }

var newPeople = sync.OnceValue(func() people {
	k := browseridtest.NewKey
	return people{k("RS256"), k("RS256"), k("DS128"), k("DS128"), k("DS256"), k("RS128")}
})

// bundle is a good one of ann's; change bends it.
func bundle(change ...func(*browseridtest.Bundle)) string {
	k := newPeople()
	b := browseridtest.Bundle{Issuer: idp, IdP: k.rsa, User: k.dsa, Email: "ann@" + idp, Audience: here, Now: noon}
	for _, c := range change {
		c(&b)
	}
	return b.String()
}

type bend = func(*browseridtest.Bundle)

func TestBundle(t *testing.T) {
	k := newPeople()
	p := newPersona(t)
	p.world.Publish(idp, browseridtest.Support(k.rsa))
	ms := func(d time.Duration) int64 { return noon.Add(d).UnixMilli() }
	cert := func(name string, v any) bend {
		return func(b *browseridtest.Bundle) { b.Cert = map[string]any{name: v} }
	}
	claim := func(name string, v any) bend {
		return func(b *browseridtest.Bundle) { b.Assertion = map[string]any{name: v} }
	}
	header := func(alg string) bend {
		return func(b *browseridtest.Bundle) { b.AssertionHeader = map[string]string{"alg": alg} }
	}
	certHeader := func(alg string) bend {
		return func(b *browseridtest.Bundle) { b.CertHeader = map[string]string{"alg": alg} }
	}
	audience := func(a string) bend { return func(b *browseridtest.Bundle) { b.Audience = a } }
	for _, c := range []struct {
		name string
		bend bend
		kind identity.Kind
	}{
		{"good", func(*browseridtest.Bundle) {}, good},
		{"RSA user", func(b *browseridtest.Bundle) { b.User = k.rsa2 }, good},
		{"DS256 user", func(b *browseridtest.Bundle) { b.User = k.dsa256 }, good},
		{"later form of the principal", func(b *browseridtest.Bundle) {
			b.Cert = map[string]any{"principal": nil, "sub": "ann@" + idp}
		}, good},
		{"no moment of issue", func(b *browseridtest.Bundle) {
			b.Cert, b.Assertion = map[string]any{"iat": nil}, map[string]any{"iat": nil}
		}, good},
		{"origin with a slash", audience(here + "/"), good},
		{"origin with its port", audience(here + ":443"), good},
		{"origin, shouted", audience("https://PRESENCE.example.org"), good},
		{"more in the header", func(b *browseridtest.Bundle) {
			b.CertHeader = map[string]string{"alg": "RS256", "typ": "JWT", "kid": "x"}
		}, good},

		{"any audience", audience("*"), identity.Audience},
		{"any host", audience("https://*"), identity.Audience},
		{"any host below", audience("https://*.example.org"), identity.Audience},
		{"host alone", audience("presence.example.org"), identity.Audience},
		{"with a path", audience(here + "/x"), identity.Audience},
		{"with a query", audience(here + "/?"), identity.Audience},
		{"with a user", audience("https://x@presence.example.org"), identity.Audience},
		{"host below", audience("https://evil.presence.example.org"), identity.Audience},
		{"host above", audience("https://example.org"), identity.Audience},
		{"host behind", audience("https://presence.example.org.evil.example"), identity.Audience},
		{"no audience", claim("aud", nil), identity.Invalid},
		{"several audiences", claim("aud", []string{here}), identity.Invalid},

		{"assertion expired", claim("exp", ms(-1)), identity.Expired},
		{"certificate expired", cert("exp", ms(-1)), identity.Expired},
		{"assertion without end", claim("exp", nil), identity.Invalid},
		{"certificate without end", cert("exp", nil), identity.Invalid},
		{"end as text", claim("exp", fmt.Sprint(ms(time.Hour))), identity.Invalid},
		{"end beyond all", claim("exp", 1e300), identity.Invalid},
		{"end before all", claim("exp", -1), identity.Invalid},
		{"end in seconds", claim("exp", noon.Add(time.Hour).Unix()), identity.Expired},
		{"end in another spelling", func(b *browseridtest.Bundle) {
			b.Assertion = map[string]any{"exp": nil, "EXP": ms(time.Hour)}
		}, identity.Invalid},
		{"assertion of the future", claim("iat", ms(time.Millisecond)), identity.Invalid},
		{"certificate of the future", cert("iat", ms(time.Millisecond)), identity.Invalid},

		{"alg none", header("none"), identity.Invalid},
		{"alg of another family", header("RS256"), identity.Invalid},
		{"alg of another length", header("DS256"), identity.Invalid},
		{"alg in lower case", header("ds128"), identity.Invalid},
		{"alg of a shared secret", header("HS256"), identity.Invalid},
		{"no alg", func(b *browseridtest.Bundle) { b.AssertionHeader = map[string]string{} }, identity.Invalid},
		{"alg none, certificate", certHeader("none"), identity.Invalid},
		{"alg of a shared secret, certificate", certHeader("HS256"), identity.Invalid},
		{"alg of another family, certificate", certHeader("DS128"), identity.Invalid},
		{"something critical", func(b *browseridtest.Bundle) {
			b.AssertionHeader = map[string]any{"alg": "DS128", "crit": []string{"x"}}
		}, identity.Invalid},

		{"weak user", func(b *browseridtest.Bundle) { b.User = k.weak }, identity.Invalid},
		{"certificate of another key", func(b *browseridtest.Bundle) { b.IdP = k.rsa2 }, identity.Invalid},
		{"certificate by the user herself", func(b *browseridtest.Bundle) { b.IdP = b.User }, identity.Invalid},
		{"assertion of another user", cert("public-key", k.dsa2.Public), identity.Invalid},
		{"no key", cert("public-key", nil), identity.Invalid},
		{"no key in it", cert("public-key", map[string]string{"algorithm": "DS"}), identity.Invalid},
		{"a key that is anybody's", func(b *browseridtest.Bundle) { b.User = browseridtest.Anybodys("DS128") }, identity.Invalid},
		{"a number that is none", cert("public-key", map[string]string{"algorithm": "DS",
			"p": k.dsa.Public["p"], "q": k.dsa.Public["q"], "g": "-" + k.dsa.Public["g"], "y": k.dsa.Public["y"]}), identity.Invalid},
		{"a key too long", cert("public-key", map[string]string{"algorithm": "RS", "n": strings.Repeat("7", 3000), "e": "65537"}), identity.Invalid},
		{"an even exponent", cert("public-key", map[string]string{"algorithm": "RS", "n": k.rsa.Public["n"], "e": "2"}), identity.Invalid},

		{"another issuer", func(b *browseridtest.Bundle) { b.Issuer = "mail.example" }, identity.Issuer},
		{"issuer with a dot", func(b *browseridtest.Bundle) { b.Issuer = idp + "." }, identity.Issuer},
		{"no issuer", cert("iss", nil), identity.Invalid},
		{"principal of a domain without a document", func(b *browseridtest.Bundle) { b.Email = "ann@mail.example" }, identity.Issuer},
		{"principal below", func(b *browseridtest.Bundle) { b.Email = "ann@sub." + idp }, identity.Issuer}, // its certificate does not hold
		{"principal that is no e-mail", func(b *browseridtest.Bundle) { b.Email = "ann" }, identity.Invalid},
		{"principal with a path", func(b *browseridtest.Bundle) { b.Email = "ann@" + idp + "/x" }, identity.Issuer},
		{"principal with a query", func(b *browseridtest.Bundle) { b.Email = "ann@evil.example?x=" + idp }, identity.Issuer},
		{"principal with two", func(b *browseridtest.Bundle) { b.Email = "ann@evil.example@" + idp }, good}, // a quoted local part, of this domain
		{"no principal", cert("principal", nil), identity.Invalid},
		{"a host as principal", cert("principal", map[string]string{"host": idp}), identity.Invalid},
		{"a claim that only trusted issuers may make", cert("fxa-verifiedEmail", "root@example.org"), good}, // and which changes nothing
	} {
		t.Run(c.name, func(t *testing.T) {
			p.t = t
			if id := p.check(bundle(c.bend), c.kind); c.kind == good && !strings.HasSuffix(id.Email, "@"+idp) {
				t.Errorf("%+v", id)
			}
		})
	}
}

// What fits no bundle at all, and what is none.
func TestNoBundle(t *testing.T) {
	k := newPeople()
	p := newPersona(t)
	p.world.Publish(idp, browseridtest.Support(k.rsa))
	ok := bundle()
	cert, assertion, _ := strings.Cut(ok, "~")
	// ann signs a certificate for bob with her own key: the hole that chains would be.
	forBob := k.dsa.Sign(nil, map[string]any{"iss": idp, "exp": noon.Add(time.Hour).UnixMilli(),
		"public-key": k.dsa2.Public, "principal": map[string]string{"email": "bob@" + idp}})
	bobs := k.dsa2.Sign(nil, map[string]any{"exp": noon.Add(time.Minute).UnixMilli(), "aud": here})
	for name, c := range map[string]struct {
		text string
		kind identity.Kind
	}{
		"chain":           {cert + "~" + forBob + "~" + bobs, identity.Invalid},
		"the same twice":  {cert + "~" + cert + "~" + assertion, identity.Invalid},
		"ends in a tilde": {ok + "~", identity.Invalid},
		"tilde first":     {"~" + ok, identity.Invalid},
		"endless":         {ok + strings.Repeat("A", 16<<10), identity.Invalid},
		"padded":          {ok + "==", identity.Invalid},
		"with newlines":   {ok[:100] + "\n" + ok[100:], identity.Invalid},
		"four parts":      {ok + ".x", identity.Invalid},
		"header no JSON":  {"AAAA" + ok[4:], identity.Invalid},
		"header null":     {"bnVsbA." + ok[strings.Index(ok, ".")+1:], identity.Invalid},
		"token":           {identity.NewSecret(), identity.Unrecognised},
		"no certificate":  {assertion, identity.Unrecognised},
		"ID token":        {cert, identity.Unrecognised},
		"nothing":         {"", identity.Unrecognised},
		"tilde":           {"~", identity.Unrecognised},
	} {
		if _, err := p.v.Verify(context.Background(), "", c.text); err == nil || identity.KindOf(err) != c.kind {
			t.Errorf("%s: %v, want %v", name, err, c.kind)
		}
	}
	if n := p.world.Fetched(idp); n != 0 {
		t.Errorf("%d fetches for what cannot be good", n)
	}
	p.check(ok, good)
}

func TestBundleOfAnotherEmail(t *testing.T) {
	p := newPersona(t)
	p.world.Publish(idp, browseridtest.Support(newPeople().rsa))
	if _, err := p.v.Verify(context.Background(), "bob@"+idp, bundle()); identity.KindOf(err) != identity.Email {
		t.Error(err)
	}
	if id, err := p.v.Verify(context.Background(), "ANN@"+idp, bundle()); err != nil || id.Email != "ann@"+idp {
		t.Error(id, err)
	}
}

func TestBundleEndsWithWhatEndsFirst(t *testing.T) {
	p := newPersona(t)
	p.world.Publish(idp, browseridtest.Support(newPeople().rsa))
	soon := noon.Add(time.Minute)
	id := p.check(bundle(func(b *browseridtest.Bundle) { b.Cert = map[string]any{"exp": soon.UnixMilli()} }), good)
	if !id.Expires.Equal(soon) {
		t.Errorf("expires %v", id.Expires)
	}
}

// RSA signatures come without leading zeros, one in 256: they are good, of users and of issuers.
func TestShortSignature(t *testing.T) {
	k := newPeople()
	p := newPersona(t)
	p.world.Publish(idp, browseridtest.Support(k.rsa))
	short := func(part int) string {
		for i := range 5000 {
			b := bundle(func(b *browseridtest.Bundle) {
				b.User = k.rsa2
				b.Cert, b.Assertion = map[string]any{"n": i}, map[string]any{"n": i}
			})
			sig := strings.Split(strings.Split(b, "~")[part], ".")[2]
			if len(sig) < 342 { // 256 bytes in base64
				return b
			}
		}
		t.Fatal("no short signature")
		return ""
	}
	for part, name := range []string{"certificate", "assertion"} {
		b := short(part)
		p.check(b, good)
		if id, err := p.v.Verify(context.Background(), "", flip(b, len(b)-40)); err == nil {
			t.Errorf("%s: a changed one is good: %+v", name, id)
		}
	}
}

// Persona's library makes keys of 2047 bits as often as of 2048.
func TestLengthOfKeys(t *testing.T) {
	for bits, kind := range map[int]identity.Kind{2046: identity.Invalid, 2047: good, 3072: good} {
		key := browseridtest.NewRSA("RS256", bits)
		p := newPersona(t)
		p.world.Publish(idp, browseridtest.Support(newPeople().rsa))
		p.check(bundle(func(b *browseridtest.Bundle) { b.User = key }), kind)
	}
}

// Who signs for an e-mail is its domain's word, however it says it.
func TestSupportDocument(t *testing.T) {
	k := newPeople()
	jwk := func(key browseridtest.Key, more string) string {
		return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"%s}`, decimal64(key.Public["n"]), more)
	}
	ds, _ := json.Marshal(k.dsa2.Public)
	weak, _ := json.Marshal(k.weak.Public)
	for _, c := range []struct {
		name, document string
		kind           identity.Kind
	}{
		{"one key", browseridtest.Support(k.rsa), good},
		{"rotating, the second", browseridtest.Support(k.rsa2, k.dsa2, k.rsa), good},
		{"JWK", `{"keys":[` + jwk(k.rsa, "") + `]}`, good},
		{"JWK for signatures", `{"keys":[{"kty":"EC"},` + jwk(k.rsa2, "") + `,` + jwk(k.rsa, `,"use":"sig","alg":"RS256"`) + `]}`, good},
		{"JWK for encryption", `{"keys":[` + jwk(k.rsa, `,"use":"enc"`) + `]}`, identity.Issuer},
		{"another key", browseridtest.Support(k.rsa2), identity.Invalid},
		{"another kind of key", `{"public-key":` + string(ds) + `}`, identity.Invalid},
		{"weak key", `{"public-key":` + string(weak) + `}`, identity.Issuer},
		{"no key", `{"authentication":"/a","provisioning":"/p"}`, identity.Issuer},
		{"too many keys", `{"keys":[` + strings.Repeat(jwk(k.rsa2, "")+",", 16) + jwk(k.rsa, "") + `]}`, identity.Invalid},
		{"disabled", `{"disabled":true}`, identity.Issuer},
		{"disabled, with a key", strings.Replace(browseridtest.Support(k.rsa), "{", `{"disabled":true,`, 1), identity.Issuer},
		{"delegates to nothing", `{"authority":""}`, identity.Issuer},
		{"delegates to a number", `{"authority":5}`, identity.Issuer},
		{"no JSON", `<html>`, identity.Issuer},
		{"a list", `[]`, identity.Issuer},
		{"null", `null`, identity.Issuer},
		{"endless", `{"x":"` + strings.Repeat("x", 64<<10) + `"}`, identity.Issuer},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPersona(t)
			p.world.Publish(idp, c.document)
			p.check(bundle(), c.kind)
		})
	}
}

// decimal64 is a decimal number as JWK writes it.
func decimal64(s string) string {
	n := newInt(s)
	return base64url(n.Bytes())
}

func TestSupportAnswers(t *testing.T) {
	document := browseridtest.Support(newPeople().rsa)
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		kind   identity.Kind
	}{
		"uploaded by a user": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, document)
		}, identity.Issuer},
		"not there": {http.NotFound, identity.Issuer},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://mail.example/", http.StatusFound)
		}, identity.Issuer},
		"down":    {func(w http.ResponseWriter, r *http.Request) { http.Error(w, "", http.StatusBadGateway) }, identity.Unavailable},
		"cut off": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, identity.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPersona(t)
			p.world.Handle(idp, c.answer)
			p.world.Publish("mail.example", document)
			_, err := p.v.Verify(context.Background(), "", bundle())
			if identity.KindOf(err) != c.kind || !identity.Counts(err) {
				t.Errorf("%v (counts: %v)", err, identity.Counts(err))
			}
			if p.world.Fetched("mail.example") != 0 {
				t.Error("a redirect was followed")
			}
		})
	}
}

func TestSupportIsAskedForThePrincipal(t *testing.T) {
	p := newPersona(t)
	var asked []string
	for _, d := range []string{"mail.example", idp} {
		p.world.Handle(d, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Host+r.URL.String())
			w.Header().Set("Content-Type", "application/json")
			if d == idp {
				fmt.Fprint(w, browseridtest.Support(newPeople().rsa))
			} else {
				fmt.Fprintf(w, `{"authority":%q}`, idp)
			}
		})
	}
	p.check(bundle(func(b *browseridtest.Bundle) { b.Email = "ann@mail.example" }), good)
	want := fmt.Sprint([]string{"mail.example/.well-known/browserid?domain=mail.example", idp + "/.well-known/browserid?domain=mail.example"})
	if fmt.Sprint(asked) != want {
		t.Errorf("asked %v, want %v", asked, want)
	}
}

func TestDelegation(t *testing.T) {
	k := newPeople()
	p := newPersona(t)
	to := func(from, to string) { p.world.Publish(from, `{"authority":"`+to+`"}`) }
	mail := func(issuer string) string {
		return bundle(func(b *browseridtest.Bundle) { b.Email, b.Issuer = "ann@mail.example", issuer })
	}
	to("mail.example", "auth.example")
	p.world.Publish("auth.example", browseridtest.Support(k.rsa))
	if id := p.check(mail("auth.example"), good); id.By != "auth.example" || id.Email != "ann@mail.example" {
		t.Errorf("%+v", id)
	}
	p.check(mail("mail.example"), identity.Issuer) // it has given that away
	p.check(bundle(func(b *browseridtest.Bundle) { b.Email, b.Issuer = "ann@auth.example", "mail.example" }), identity.Issuer)

	for n, kind := range map[int]identity.Kind{5: good, 6: identity.Issuer} {
		p.v = p.verifier()
		for i := range n {
			to(fmt.Sprintf("d%d-%d.example", n, i), fmt.Sprintf("d%d-%d.example", n, i+1))
		}
		last := fmt.Sprintf("d%d-%d.example", n, n)
		p.world.Publish(last, browseridtest.Support(k.rsa))
		p.check(bundle(func(b *browseridtest.Bundle) { b.Email, b.Issuer = fmt.Sprintf("ann@d%d-0.example", n), last }), kind)
	}
	to("a.example", "b.example")
	to("b.example", "a.example")
	p.check(bundle(func(b *browseridtest.Bundle) { b.Email, b.Issuer = "ann@a.example", "b.example" }), identity.Issuer)
	to("self.example", "self.example")
	p.check(bundle(func(b *browseridtest.Bundle) { b.Email, b.Issuer = "ann@self.example", "self.example" }), identity.Issuer)
	for _, where := range []string{"localhost", "127.0.0.1", "10.0.0.1:22", "auth.example:8443", "auth.example/x", "auth.example@evil.example", "[::1]", "intranet"} {
		p.v = p.verifier()
		to("bad.example", where)
		p.check(bundle(func(b *browseridtest.Bundle) { b.Email, b.Issuer = "ann@bad.example", where }), identity.Issuer)
	}
	for _, tunnel := range p.world.Tunnels() {
		if !strings.HasSuffix(tunnel, ".example:443") {
			t.Errorf("%s was asked for", tunnel)
		}
	}
}

// There is no fallback: an issuer may vouch for others' e-mails only where it is configured.
func TestTrustedIssuers(t *testing.T) {
	p := newPersona(t)
	p.world.Publish(idp, browseridtest.Support(newPeople().rsa))
	stranger := bundle(func(b *browseridtest.Bundle) { b.Email = "ann@mail.example" })
	p.check(stranger, identity.Issuer)
	p.v = p.verifier(trust("other.example", strings.ToUpper(idp)))
	if id := p.check(stranger, good); id.Email != "ann@mail.example" || id.By != idp {
		t.Errorf("%+v", id)
	}
	p.world.Handle("mail.example", func(http.ResponseWriter, *http.Request) { t.Error("the domain was asked") })
	p.check(stranger, good)

	account := bundle(func(b *browseridtest.Bundle) {
		b.Email = "0123456789abcdef@" + idp
		b.Cert = map[string]any{"fxa-verifiedEmail": "Ann@Example.org"}
	})
	if id := p.check(account, good); id.Email != "ann@example.org" {
		t.Errorf("%+v", id)
	}
	named := bundle(func(b *browseridtest.Bundle) { // no account of its own: the principal is what is certified
		b.Email, b.Cert = "ann@mail.example", map[string]any{"fxa-verifiedEmail": "bob@example.org"}
	})
	if id := p.check(named, good); id.Email != "ann@mail.example" {
		t.Errorf("%+v", id)
	}
	for _, bad := range []string{"*", "", "a b", "https://idp.example"} {
		if _, err := identity.NewBrowserID(identity.BrowserIDConfig{Audience: here, TrustedIssuers: []string{bad}}); err == nil {
			t.Errorf("%q may be trusted", bad)
		}
	}
}

func TestAudienceIsAnOrigin(t *testing.T) {
	for _, bad := range []string{"*", "", "presence.example.org", "https://*", "https://x/path", "app://x"} {
		if _, err := identity.NewBrowserID(identity.BrowserIDConfig{Audience: bad}); err == nil {
			t.Errorf("%q is an audience", bad)
		}
	}
}

// A document is fetched once an hour, or when it does not fit and is not quite new; a domain without one is
// asked once a minute.
func TestSupportIsRemembered(t *testing.T) {
	k := newPeople()
	p := newPersona(t)
	fetched := func(domain string, want int) {
		t.Helper()
		if n := p.world.Fetched(domain); n != want {
			t.Fatalf("%s: fetched %d times, want %d", domain, n, want)
		}
	}
	forLong := func(b *browseridtest.Bundle) { b.For = 12 * time.Hour }
	long := bundle(forLong)
	rotated := bundle(forLong, func(b *browseridtest.Bundle) { b.IdP = k.rsa2 })
	p.world.Publish(idp, browseridtest.Support(k.rsa))
	p.check(long, good)
	p.check(long, good)
	fetched(idp, 1)
	p.pass(59 * time.Minute)
	p.check(long, good)
	fetched(idp, 1)
	p.pass(time.Minute)
	p.check(long, good)
	fetched(idp, 2)

	p.world.Publish(idp, browseridtest.Support(k.rsa2))
	p.check(rotated, identity.Invalid) // just fetched
	fetched(idp, 2)
	p.pass(time.Minute)
	p.check(rotated, good)
	fetched(idp, 3)
	for range 5 {
		p.check(long, identity.Invalid)
	}
	fetched(idp, 3)

	none := bundle(forLong, func(b *browseridtest.Bundle) { b.Email = "ann@mail.example" })
	for range 3 {
		p.check(none, identity.Issuer)
	}
	fetched("mail.example", 1)
	p.pass(time.Minute)
	p.check(none, identity.Issuer)
	fetched("mail.example", 2)
}

// Who waits for a document that somebody else fetches waits no longer than he wants to.
func TestOneFetchForMany(t *testing.T) {
	p := newPersona(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	p.world.Handle(idp, func(w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, browseridtest.Support(newPeople().rsa))
	})
	text := bundle()
	var wg sync.WaitGroup
	wg.Go(func() { p.check(text, good) })
	<-arrived
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := p.v.Verify(ctx, "", text); err == nil || identity.KindOf(err) != identity.Unavailable {
		t.Error(err)
	}
	for range 10 {
		wg.Go(func() { p.check(text, good) })
	}
	close(release)
	wg.Wait()
	if n := p.world.Fetched(idp); n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

// What is remembered of domains is bounded.
func TestSupportIsForgotten(t *testing.T) {
	p := newPersona(t)
	p.world.Publish(idp, browseridtest.Support(newPeople().rsa))
	fetch := identity.NewFetcher(identity.FetchConfig{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New("no network") }})
	v := p.verifier(func(c *identity.BrowserIDConfig) { c.Fetch = fetch })
	k := newPeople()
	// One assertion fits all certificates of the same user key, so only those are made again and again.
	for i := range 1100 {
		b := browseridtest.Bundle{Issuer: idp, IdP: k.weak, User: k.rsa2, Email: fmt.Sprintf("ann@d%d.example", i), Audience: here, Now: noon}
		if _, err := v.Verify(context.Background(), "", b.String()); err == nil || identity.KindOf(err) != identity.Unavailable {
			t.Fatal(err)
		}
	}
	if n := identity.Remembered(v); n != 1000 {
		t.Errorf("%d domains are remembered", n)
	}
}

func FuzzBundle(f *testing.F) {
	for _, c := range loadSamples(f).Cases {
		f.Add(c.Bundle)
	}
	f.Add(bundle())
	f.Add("e30.e30.~e30.e30.")
	p := newPersona(f, trust(idp))
	p.world.Publish(idp, browseridtest.Support(newPeople().rsa))
	// Nobody is asked: a bundle that somebody changed must not get that far, and no other is good.
	v := p.verifier(func(c *identity.BrowserIDConfig) {
		c.Fetch = identity.NewFetcher(identity.FetchConfig{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New("no network") }})
	})
	f.Fuzz(func(t *testing.T, text string) {
		id, err := v.Verify(context.Background(), "", text)
		var e *identity.Error
		if err == nil || !errors.As(err, &e) || id != (identity.Identity{}) {
			t.Fatalf("%+v, %v", id, err)
		}
		if len(err.Error()) > 1000 {
			t.Fatalf("an error of %d bytes", len(err.Error()))
		}
	})
}

func FuzzSupportDocument(f *testing.F) {
	for _, c := range loadSamples(f).Cases {
		f.Add([]byte(c.WellKnown))
	}
	f.Add([]byte(`{"authority":"x.example"}`))
	f.Add([]byte(`{"disabled":true}`))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		keys, authority, err := identity.ParseSupport(document)
		if err == nil && (keys == 0) == (authority == "") || keys > 16 {
			t.Fatalf("%d keys, authority %q, %v", keys, authority, err)
		}
	})
}

func newInt(s string) *big.Int {
	n, _ := new(big.Int).SetString(s, 10)
	return n
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
