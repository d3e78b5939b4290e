package identity

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// BrowserIDConfig is what a BrowserID is made of. Audience and Fetch are needed.
type BrowserIDConfig struct {
	Audience       string   // our own origin, https://presence.example.org
	TrustedIssuers []string // domains that may vouch for any e-mail
	Fetch          *Fetcher // for support documents
	Now            func() time.Time
}

// BrowserID verifies Persona's bundles, certificate~assertion, here and alone: who signs for an e-mail is what
// the e-mail's own domain says in its support document, or a configured issuer. There is no fallback issuer.
// Safe for concurrent use.
type BrowserID struct {
	audience origin // immutable, as is all of it
	trusted  []string
	supports *supports
	now      func() time.Time
}

// NewBrowserID makes one; it does no I/O. It fails where Audience is no origin, or an issuer no domain.
func NewBrowserID(c BrowserIDConfig) (*BrowserID, error) {
	audience, ok := parseOrigin(c.Audience)
	if !ok {
		return nil, fmt.Errorf("%q is not an origin", c.Audience)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	b := &BrowserID{audience: audience, now: c.Now, supports: newSupports(c.Fetch, c.Now)}
	for _, t := range c.TrustedIssuers {
		t = strings.ToLower(t)
		if !isHost(t) {
			return nil, fmt.Errorf("%q is not a domain", t)
		}
		b.trusted = append(b.trusted, t)
	}
	return b, nil
}

// Verify accepts a bundle for its principal, until its assertion or its certificate expires. What costs
// nothing is checked first, and nothing is fetched for a bundle that cannot be good: its times, its audience
// and its e-mail fit, and the assertion is signed with the key of the certificate.
func (b *BrowserID) Verify(ctx context.Context, email, assertion string) (Identity, error) {
	if !isBundle(assertion) {
		return Identity{}, refuse(Unrecognised)
	}
	p, err := parseBundle(assertion)
	if err != nil {
		return Identity{}, &Error{Kind: Invalid, Cause: err}
	}
	if err := b.offline(p); err != nil {
		return Identity{}, err
	}
	owner, err := p.owner(b.trusted)
	if err != nil {
		return Identity{}, &Error{Kind: Invalid, Cause: err}
	}
	if !same(email, owner) {
		return Identity{}, refuse(Email)
	}
	if err := b.certified(ctx, p); err != nil {
		return Identity{}, err
	}
	return Identity{
		Email:      owner,
		Credential: CredentialOf(HashSecret(assertion)),
		By:         p.issuer,
		Expires:    p.end(),
	}, nil
}

// end is the last moment at which p is good.
func (p *bundle) end() time.Time {
	if p.expires.Before(p.assertionEnd) {
		return p.expires
	}
	return p.assertionEnd
}

// offline checks all that can be checked without asking anybody. Clocks are not given any slack: assertions
// live for minutes, and are made on the spot.
func (b *BrowserID) offline(p *bundle) error {
	now := b.now()
	switch {
	case !p.assertion.verify(p.key):
		return &Error{Kind: Invalid, Cause: errors.New("the assertion's signature")}
	case p.issued.After(now) || p.made.After(now):
		return &Error{Kind: Invalid, Cause: errors.New("issued in the future")}
	case now.After(p.end()): // inclusive: it is good at its last moment
		return refuse(Expired)
	}
	if aud, ok := parseOrigin(p.audience); !ok || aud != b.audience {
		return refuse(Audience)
	}
	return nil
}

// owner is the e-mail that p speaks for. Firefox Accounts certify an account (UID@their domain) and say its
// e-mail in a claim; that is believed of an issuer who may vouch for any e-mail.
func (p *bundle) owner(trusted []string) (string, error) {
	principal, domain, err := splitEmail(p.principal)
	if err != nil {
		return "", err
	}
	if slices.Contains(trusted, p.issuer) && domain == p.issuer {
		if real, err := p.claims.text("fxa-verifiedEmail"); err == nil {
			principal, _, err = splitEmail(real)
			return principal, err
		}
	}
	return principal, nil
}

// splitEmail returns an e-mail in lower case, and its domain.
func splitEmail(s string) (email, domain string, err error) {
	email = strings.ToLower(s)
	at := strings.LastIndexByte(email, '@')
	if at < 1 || at == len(email)-1 || len(email) > maxEmail || strings.ContainsFunc(email, isNoLetter) {
		return "", "", errors.New("not an e-mail address")
	}
	return email, email[at+1:], nil
}

const maxEmail = 254 // RFC 5321 §4.5.3.1.3

func isNoLetter(r rune) bool { return r <= ' ' || r == 0x7f || r == 0xfffd }

// certified checks that the certificate is signed by whoever may sign for its principal. Where a document
// that is not quite new does not fit, it is fetched again, because keys change.
func (b *BrowserID) certified(ctx context.Context, p *bundle) error {
	_, domain, err := splitEmail(p.principal)
	if err != nil {
		return &Error{Kind: Invalid, Cause: err}
	}
	if slices.Contains(b.trusted, p.issuer) {
		domain = p.issuer
	}
	var refused error
	for _, fresh := range []bool{false, true} {
		host, e, err := b.supports.authority(ctx, domain, fresh)
		if err != nil {
			return supportError(err)
		}
		if refused = p.signedBy(host, e.doc); refused == nil || e.age(b.now()) < supportFresh {
			break
		}
	}
	return refused
}

// signedBy checks the certificate against the issuer's document.
func (p *bundle) signedBy(host string, doc *support) error {
	if p.issuer != host {
		return &Error{Kind: Issuer, Cause: fmt.Errorf("signed by %q, not by %q", p.issuer, host)}
	}
	for _, k := range doc.keys {
		if p.cert.verify(k) {
			return nil
		}
	}
	return &Error{Kind: Invalid, Cause: errors.New("the certificate's signature")}
}

// supportError says what it means that there is no document: the domain vouches for nobody, unless it may be
// there later.
func supportError(err error) error {
	var f *FetchError
	if errors.As(err, &f) && f.Temporary() {
		return &Error{Kind: Unavailable, Cause: err, Named: true}
	}
	return &Error{Kind: Issuer, Cause: err}
}

// origin is a web origin in its one form. RFC 6454 §4
type origin struct{ scheme, host, port string }

// parseOrigin reads scheme://host[:port]; a slash behind it is allowed, anything more is not.
func parseOrigin(s string) (origin, bool) {
	u, err := url.Parse(s)
	if err != nil || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Opaque != "" {
		return origin{}, false
	}
	o := origin{scheme: u.Scheme, host: strings.ToLower(u.Hostname()), port: u.Port()}
	switch {
	case o.host == "" || strings.Contains(o.host, "*"):
		return origin{}, false
	case o.scheme == "http" && o.port == "":
		o.port = "80"
	case o.scheme == "https" && o.port == "":
		o.port = "443"
	case o.scheme != "http" && o.scheme != "https":
		return origin{}, false
	}
	return o, true
}
