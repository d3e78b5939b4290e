package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
)

const (
	clockSkew  = time.Minute // between the issuer's clock and ours
	maxIDToken = 16 << 10    // bytes
)

// idToken is an ID token whose signature, issuer, audience and times are good.
type idToken struct {
	*oidc.IDToken
	nonce         string
	email         string
	emailVerified bool
}

// peekIssuer returns who an ID token says has issued it, for routing; false where s does not look like one.
func peekIssuer(s string) (iss string, ok bool) {
	if len(s) > maxIDToken || strings.Count(s, ".") != 2 || strings.Contains(s, "~") {
		return "", false
	}
	header, rest, _ := strings.Cut(s, ".")
	payload, _, _ := strings.Cut(rest, ".")
	if h, err := decodeObject(header); err != nil || h["alg"] == nil {
		return "", false
	}
	claims, err := decodeObject(payload)
	if err != nil {
		return "", false
	}
	iss, err = claims.text("iss")
	return iss, err == nil
}

// verify checks an ID token. OIDC Core §3.1.3.7
func (o *OIDC) verify(ctx context.Context, p *provider, raw string) (*idToken, error) {
	signed, err := o.signed(ctx, p, raw)
	if err != nil {
		return nil, err
	}
	var claims object
	if err := signed.Claims(&claims); err != nil {
		return nil, &Error{Kind: Invalid, Cause: err}
	}
	if err := o.checkAudience(signed, claims); err != nil {
		return nil, err
	}
	if err := o.checkTimes(signed, claims); err != nil {
		return nil, err
	}
	t := &idToken{IDToken: signed}
	t.nonce, _ = claims.text("nonce")
	t.email, _ = claims.text("email")
	t.emailVerified = isTrue(claims["email_verified"])
	return t, nil
}

// isTrue takes "true" for true, as some issuers write it.
func isTrue(raw json.RawMessage) bool { return string(raw) == "true" || string(raw) == `"true"` }

// signed checks form, algorithm, signature and issuer. Where no key fits, the issuer's keys are fetched
// again, as often as [keyring] lets.
func (o *OIDC) signed(ctx context.Context, p *provider, raw string) (*oidc.IDToken, error) {
	algorithms := make([]jose.SignatureAlgorithm, len(o.cfg.Algorithms))
	for i, a := range o.cfg.Algorithms {
		algorithms[i] = jose.SignatureAlgorithm(a)
	}
	jws, err := jose.ParseSignedCompact(raw, algorithms)
	if err != nil {
		return nil, &Error{Kind: Invalid, Cause: errors.New("not signed with an algorithm that is accepted")}
	}
	var tried *keySet
	for {
		keys, err := o.keysFor(ctx, p, tried)
		if err != nil {
			return nil, err
		}
		if keys == nil {
			return nil, &Error{Kind: Invalid, Cause: errors.New("signed with a key that the issuer does not have")}
		}
		v := oidc.NewVerifier(o.cfg.Issuer, keys, &oidc.Config{
			SkipClientIDCheck: true, SkipExpiryCheck: true, // here, with reasons
			SupportedSigningAlgs: o.cfg.Algorithms, Now: o.cfg.Now,
		})
		t, err := v.Verify(ctx, raw)
		if err == nil {
			return t, nil
		}
		if tried != nil || keys.has(jws.Signatures[0].Header.KeyID) {
			return nil, &Error{Kind: Invalid, Cause: shortened(err)}
		}
		tried = keys
	}
}

// checkAudience wants the token to be for us; with other audiences beside us, also that we asked for it.
func (o *OIDC) checkAudience(t *oidc.IDToken, claims object) error {
	if !slices.Contains(t.Audience, o.cfg.ClientID) {
		return &Error{Kind: Audience}
	}
	if len(t.Audience) > 1 {
		if azp, _ := claims.text("azp"); azp != o.cfg.ClientID {
			return &Error{Kind: Audience, Cause: errors.New("for several, and asked for by another")}
		}
	}
	return nil
}

// checkTimes: expired, or not good yet.
func (o *OIDC) checkTimes(t *oidc.IDToken, claims object) error {
	now := o.cfg.Now()
	switch {
	case t.Expiry.IsZero() || t.Expiry.Unix() <= 0 || t.IssuedAt.IsZero():
		return &Error{Kind: Invalid, Cause: errors.New("no exp or iat")}
	case !now.Before(t.Expiry.Add(clockSkew)):
		return refuse(Expired)
	case t.IssuedAt.After(now.Add(clockSkew)):
		return &Error{Kind: Invalid, Cause: errors.New("issued in the future")}
	}
	if raw, ok := claims["nbf"]; ok {
		var nbf float64
		if json.Unmarshal(raw, &nbf) != nil || nbf > float64(now.Add(clockSkew).Unix()) {
			return &Error{Kind: Invalid, Cause: errors.New("not good yet")}
		}
	}
	return nil
}

// identity is who a token speaks for, if that is the claimed e-mail.
func (o *OIDC) identity(claimed string, t *idToken, raw string) (Identity, error) {
	email, domain, err := splitEmail(t.email)
	switch {
	case err != nil:
		return Identity{}, &Error{Kind: Email, Cause: errors.New("the ID token has no e-mail; is the scope email there?")}
	case !t.emailVerified:
		return Identity{}, &Error{Kind: Email, Cause: errors.New("the issuer has not verified the e-mail")}
	case !o.allows(domain):
		return Identity{}, &Error{Kind: Issuer, Cause: fmt.Errorf("%s does not speak for %.100q", o.cfg.Name, domain)}
	case !same(claimed, email):
		return Identity{}, refuse(Email)
	}
	return Identity{Email: email, Credential: CredentialOf(HashSecret(raw)), By: o.cfg.Issuer, Expires: o.expires(t)}, nil
}

// expires is when a session with t ends: at its expiry; where that is over by our clock and the skew let it
// pass, when the skew ends too.
func (o *OIDC) expires(t *idToken) time.Time {
	if t.Expiry.After(o.cfg.Now()) {
		return t.Expiry
	}
	return t.Expiry.Add(clockSkew)
}

func (o *OIDC) allows(domain string) bool {
	return len(o.cfg.Domains) == 0 ||
		slices.ContainsFunc(o.cfg.Domains, func(d string) bool { return strings.EqualFold(d, domain) })
}
