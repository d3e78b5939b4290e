package identity_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"presenced/identity"
)

// shelf is a TokenLookup over a map; broken makes every lookup fail.
type shelf struct {
	tokens map[[32]byte]token
	broken error
	asked  int
}

type token struct {
	email, device string
	expires       time.Time
}

func (s *shelf) LookupToken(h [32]byte) (string, string, time.Time, bool, error) {
	s.asked++
	t, ok := s.tokens[h]
	return t.email, t.device, t.expires, ok, s.broken
}

var noon = time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)

func verifier(s *shelf) identity.Verifier {
	return identity.NewToken(s, func() time.Time { return noon })
}

func TestToken(t *testing.T) {
	s := &shelf{tokens: map[[32]byte]token{
		identity.HashSecret("plain"): {email: "ann@example.org"},
		identity.HashSecret("phone"): {email: "ann@example.org", device: "phone", expires: noon.Add(1)},
		identity.HashSecret("stale"): {email: "ann@example.org", expires: noon},
	}}
	for _, c := range []struct {
		name, email, secret string
		want                identity.Identity
		kind                identity.Kind
	}{
		{name: "good", email: "ann@example.org", secret: "plain", want: identity.Identity{Email: "ann@example.org"}},
		{name: "the e-mail's case does not count", email: "Ann@Example.org", secret: "plain", want: identity.Identity{Email: "ann@example.org"}},
		{name: "names its user", email: "", secret: "plain", want: identity.Identity{Email: "ann@example.org"}},
		{name: "for a device, still good", email: "ann@example.org", secret: "phone",
			want: identity.Identity{Email: "ann@example.org", Device: "phone", Expires: noon.Add(1)}},
		{name: "expired at its moment", email: "ann@example.org", secret: "stale", kind: identity.Expired},
		{name: "another e-mail", email: "bob@example.org", secret: "plain", kind: identity.Email},
		{name: "another e-mail does not learn of expiry", email: "bob@example.org", secret: "stale", kind: identity.Email},
		{name: "unknown", email: "ann@example.org", secret: "guess", kind: identity.Unrecognised},
		{name: "empty", email: "ann@example.org", secret: "", kind: identity.Unrecognised},
		{name: "endless", email: "ann@example.org", secret: strings.Repeat("x", 1025), kind: identity.Unrecognised},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := verifier(s).Verify(context.Background(), c.email, c.secret)
			if c.want == (identity.Identity{}) {
				if identity.KindOf(err) != c.kind || err == nil {
					t.Fatalf("got %v, %v; want kind %v", got, err, c.kind)
				}
				return
			}
			c.want.By, c.want.Credential = "token", identity.CredentialOf(identity.HashSecret(c.secret))
			if err != nil || got != c.want {
				t.Fatalf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestEachTokenCostsOneLookup(t *testing.T) {
	s := &shelf{tokens: map[[32]byte]token{identity.HashSecret("good"): {email: "a@b"}}}
	v := verifier(s)
	for _, secret := range []string{"good", "bad"} {
		before := s.asked
		v.Verify(context.Background(), "a@b", secret)
		if s.asked != before+1 {
			t.Errorf("%q: %d lookups, want 1", secret, s.asked-before)
		}
	}
}

func TestBrokenStoreIsNotARefusal(t *testing.T) {
	cause := errors.New("disk on fire")
	v := identity.Chain(verifier(&shelf{broken: cause}), identity.Dev{})
	_, err := v.Verify(context.Background(), "a@b", "dev")
	if identity.KindOf(err) != identity.Unavailable || !errors.Is(err, cause) {
		t.Fatalf("got %v", err)
	}
}

func TestSecretsStayOutOfErrors(t *testing.T) {
	s := &shelf{tokens: map[[32]byte]token{identity.HashSecret("hunter2"): {email: "a@b", expires: noon}}}
	v := identity.Chain(verifier(s), identity.Dev{})
	for _, email := range []string{"a@b", "c@d"} {
		for _, secret := range []string{"hunter2", "hunter3"} {
			if _, err := v.Verify(context.Background(), email, secret); err == nil || strings.Contains(err.Error(), "hunter") {
				t.Errorf("%s with %s: %v", email, secret, err)
			}
		}
	}
}

func TestChain(t *testing.T) {
	s := &shelf{tokens: map[[32]byte]token{
		identity.HashSecret("t"):   {email: "a@b"},
		identity.HashSecret("dev"): {email: "c@d"},
	}}
	token, dev := verifier(s), identity.Dev{}
	for _, c := range []struct {
		name             string
		chain            identity.Verifier
		email, assertion string
		by               string
		kind             identity.Kind
	}{
		{"first", identity.Chain(token, dev), "a@b", "t", "token", 0},
		{"second", identity.Chain(dev, token), "a@b", "t", "token", 0},
		{"who recognises it decides", identity.Chain(dev, token), "a@b", "dev", "dev", 0},
		{"also against it", identity.Chain(token, dev), "a@b", "dev", "", identity.Email},
		{"nobody", identity.Chain(token, dev), "a@b", "x", "", identity.Invalid},
		{"no verifier", identity.Chain(), "a@b", "dev", "", identity.Invalid},
		{"dev names nobody", identity.Chain(dev), "", "dev", "", identity.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, err := c.chain.Verify(context.Background(), c.email, c.assertion)
			if id.By != c.by || (c.by == "") != (err != nil) || err != nil && identity.KindOf(err) != c.kind {
				t.Fatalf("got %+v, %v", id, err)
			}
		})
	}
}

func TestNewSecret(t *testing.T) {
	a, b := identity.NewSecret(), identity.NewSecret()
	if a == b || len(a) < 26 {
		t.Fatalf("%q and %q", a, b)
	}
}

func TestKindOfForeignError(t *testing.T) {
	if k := identity.KindOf(context.Canceled); k != identity.Unavailable {
		t.Fatalf("got %v", k)
	}
}
