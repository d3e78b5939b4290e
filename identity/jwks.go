package identity

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	keysAge    = time.Hour        // how long keys are believed; a key that the issuer withdrew is dead after that
	keysLast   = 24 * time.Hour   // the same while the issuer does not answer
	keysBurst  = 3                // fetches at once because a key was missing
	keysEvery  = 10 * time.Second // then one in this time
	maxKeys    = 64               // of one issuer
	minKeyBits = 2048             // of RSA
)

// keyring is what is known of an issuer's keys, and how often it may be asked for them. Strangers choose the
// key id that a token names, so a missing key may cost a fetch only now and then; but the first ones
// are fetched at once, so that a key is good the moment it is there.
type keyring struct {
	set  *keySet   // nil: never fetched
	full time.Time // when all of keysBurst are there again
}

// take takes one fetch, if there is one.
func (r *keyring) take(now time.Time) bool {
	full := r.full
	if full.Before(now) {
		full = now
	}
	if full.Sub(now) > (keysBurst-1)*keysEvery {
		return false
	}
	r.full = full.Add(keysEvery)
	return true
}

// keySet are an issuer's keys; immutable. It is an oidc.KeySet.
type keySet struct {
	keys    []jose.JSONWebKey
	fetched time.Time
}

// VerifySignature returns the payload of a token that one of the keys has signed. The caller has checked the
// algorithm against the allowed ones.
func (s *keySet) VerifySignature(_ context.Context, raw string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(raw, asymmetric())
	if err != nil {
		return nil, errors.New("not signed with a public key")
	}
	header := jws.Signatures[0].Header
	for i := range s.keys {
		k := &s.keys[i]
		if header.KeyID != "" && k.KeyID != "" && k.KeyID != header.KeyID || k.Algorithm != "" && k.Algorithm != header.Algorithm {
			continue
		}
		if payload, err := jws.Verify(k); err == nil {
			return payload, nil
		}
	}
	return nil, errors.New("no key of the issuer fits")
}

// has reports whether the key that a token names is there.
func (s *keySet) has(kid string) bool {
	for i := range s.keys {
		if kid != "" && s.keys[i].KeyID == kid {
			return true
		}
	}
	return false
}

// asymmetric are all algorithms of which the issuer keeps the secret to itself.
func asymmetric() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512,
		jose.PS256, jose.PS384, jose.PS512, jose.EdDSA}
}

// keysFor returns the issuer's keys: not those that were tried already, nil at first. It returns nil where there
// may be no fetch for newer ones now.
func (o *OIDC) keysFor(ctx context.Context, p *provider, tried *keySet) (*keySet, error) {
	if set := o.knownKeys(tried); set != nil {
		return set, nil
	}
	if err := o.take(ctx); err != nil {
		return nil, err
	}
	defer o.leave()
	if set := o.knownKeys(tried); set != nil { // somebody was faster
		return set, nil
	}
	o.mu.Lock()
	may, old := o.keys.take(o.cfg.Now()), o.keys.set
	o.mu.Unlock()
	err := errors.New("the issuer's keys could not be fetched just now")
	if may {
		var set *keySet
		if set, err = o.fetchKeys(ctx, p); err == nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.keys.set = set
			return set, nil
		}
	}
	switch {
	case old == nil || o.cfg.Now().Sub(old.fetched) >= keysLast:
		return nil, &Error{Kind: Unavailable, Cause: err}
	case old == tried:
		return nil, nil
	}
	return old, nil // better than nothing, for a while
}

// knownKeys returns the keys if they are young and not tried; else nil.
func (o *OIDC) knownKeys(tried *keySet) *keySet {
	o.mu.Lock()
	defer o.mu.Unlock()
	set := o.keys.set
	if set == nil || set == tried || o.cfg.Now().Sub(set.fetched) >= keysAge {
		return nil
	}
	return set
}

// fetchKeys asks the issuer for its keys. Those we cannot use are left out: an issuer may have more than we know.
func (o *OIDC) fetchKeys(ctx context.Context, p *provider) (*keySet, error) {
	body, err := o.get(ctx, p.jwks)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return nil, errors.New("the issuer's keys are no JSON")
	}
	set := &keySet{fetched: o.cfg.Now()}
	for _, raw := range doc.Keys[:min(len(doc.Keys), maxKeys)] {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) == nil && isVerifyKey(&k) {
			set.keys = append(set.keys, k)
		}
	}
	return set, nil
}

// isVerifyKey: a public key, for signatures, long enough.
func isVerifyKey(k *jose.JSONWebKey) bool {
	if !k.Valid() || !k.IsPublic() || k.Use != "" && k.Use != "sig" {
		return false
	}
	pub, isRSA := k.Key.(*rsa.PublicKey)
	return !isRSA || pub.N.BitLen() >= minKeyBits
}
