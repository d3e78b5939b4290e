package identity

import (
	"context"
	"crypto/x509"
	"log/slog"
	"time"
)

// OIDCConfig is what an OIDC is made of. Name, Issuer and ClientID are needed.
type OIDCConfig struct {
	Name         string // short, unique, fit for a URL's path
	Issuer       string // https URL, or http on loopback
	ClientID     string // also the audience
	ClientSecret string // "": a public client
	Domains      []string
	Algorithms   []string       // none: RS256, ES256, EdDSA
	Roots        *x509.CertPool // nil: the system's
	Log          *slog.Logger
	Now          func() time.Time
}

// OIDC is one OpenID Connect issuer: a Verifier of its ID tokens, and its side of the code flow. Safe for
// concurrent use. It talks to the issuer when first needed, never before.
type OIDC struct{ cfg OIDCConfig }

// NewOIDC makes one; it does no I/O.
func NewOIDC(c OIDCConfig) *OIDC { return &OIDC{cfg: c} }

// Name is the issuer's short name, as configured.
func (o *OIDC) Name() string { return o.cfg.Name }

// AuthURL is where a browser is sent to sign in: the code flow with PKCE (S256). state, nonce and pkceVerifier
// are the caller's random secrets, kept in the browser's session until [OIDC.Exchange]; pkceVerifier has 43 to
// 128 characters of the unreserved ones (oauth2.GenerateVerifier makes one). It asks the issuer for its
// endpoints when they are not known; Unavailable when it does not answer.
func (o *OIDC) AuthURL(ctx context.Context, state, nonce, pkceVerifier, redirectURL string) (string, error) {
	return "", refuse(Unavailable)
}

// Exchange turns the code that the browser brought back into an identity. The caller has compared state
// already; nonce, pkceVerifier and redirectURL are those given to [OIDC.AuthURL]. Fails with an *[Error].
func (o *OIDC) Exchange(ctx context.Context, code, pkceVerifier, nonce, redirectURL string) (Identity, error) {
	return Identity{}, refuse(Unavailable)
}

// Verify accepts an ID token of this issuer for this client; one of another issuer is Unrecognised.
func (o *OIDC) Verify(ctx context.Context, email, assertion string) (Identity, error) {
	return Identity{}, refuse(Unavailable)
}
