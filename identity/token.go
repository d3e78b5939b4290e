package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
)

// maxSecret bounds what is hashed, in bytes; no longer secret can be registered.
const maxSecret = 1024

// TokenLookup finds a token by the hash of its secret. It is safe for concurrent use. ok is false for a
// hash nobody has; err means that it could not look.
type TokenLookup interface {
	LookupToken(hash [32]byte) (email, device string, expires time.Time, ok bool, err error)
}

// Token verifies opaque secrets, of which only the hash is stored.
type Token struct {
	lookup TokenLookup
	now    func() time.Time
}

// NewToken makes a verifier over lookup; now is its clock.
func NewToken(lookup TokenLookup, now func() time.Time) *Token { return &Token{lookup, now} }

// Verify accepts a registered secret for its own e-mail until it expires. A secret can have any form, so
// one that is not registered is Unrecognised. Each call hashes once and looks up once, whatever comes out:
// the time it takes tells nothing about what is registered, and the lookup compares hashes only.
func (t *Token) Verify(_ context.Context, email, assertion string) (Identity, error) {
	if assertion == "" || len(assertion) > maxSecret {
		return Identity{}, refuse(Unrecognised)
	}
	hash := HashSecret(assertion)
	owner, device, expires, ok, err := t.lookup.LookupToken(hash)
	switch {
	case err != nil:
		return Identity{}, &Error{Kind: Unavailable, Cause: err}
	case !ok:
		return Identity{}, refuse(Unrecognised)
	case !same(email, strings.ToLower(owner)):
		return Identity{}, refuse(Email)
	case !expires.IsZero() && !t.now().Before(expires):
		return Identity{}, refuse(Expired)
	}
	return Identity{
		Email:      strings.ToLower(owner),
		Device:     device,
		Credential: CredentialOf(hash),
		By:         "token",
		Expires:    expires,
	}, nil
}

// NewSecret makes a token's secret: 130 random bits in base 32, 26 characters.
func NewSecret() string { return rand.Text() }

// HashSecret is what is stored of a secret. Secrets are random, so one round of SHA-256 is enough: there is
// no dictionary to try.
func HashSecret(secret string) [32]byte { return sha256.Sum256([]byte(secret)) }

// CredentialOf names the token with this hash in [Identity.Credential].
func CredentialOf(hash [32]byte) string { return hex.EncodeToString(hash[:]) }
