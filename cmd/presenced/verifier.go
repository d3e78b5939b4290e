package main

import (
	"crypto/x509"
	"fmt"
	"time"

	"presenced/identity"
	"presenced/web"
)

// identify makes the chain of verifiers that are on, in this order: tokens first, because a token's secret can have
// any form; "dev" last. It asks no issuer anything.
func (g *gateway) identify() error {
	c := &g.cfg.Identity
	g.attempts = identity.NewAttempts(time.Now)
	g.attempts.Log = g.log
	var chain []identity.Verifier
	if c.Token {
		g.attempts.Quick = identity.NewToken(g.store, time.Now)
		chain = append(chain, g.attempts.Quick)
	}
	for i := range c.OIDC {
		o, err := newIssuer(&c.OIDC[i])
		if err != nil {
			return fmt.Errorf("%s.ca_file: %w", tableKey("identity.oidc", i), err)
		}
		g.oidc = append(g.oidc, o)
	}
	if len(g.oidc) > 0 {
		chain = append(chain, identity.Issuers(g.oidc...))
	}
	if c.BrowserID.Enabled {
		b, err := newBrowserID(&c.BrowserID, g.origin)
		if err != nil {
			return fmt.Errorf("identity.browserid: %w", err)
		}
		chain = append(chain, b)
	}
	if g.cfg.Dev {
		chain = append(chain, identity.Dev{})
		g.log.Warn("DEV MODE: anybody who reaches this machine's loopback can be anybody, with the assertion \"dev\"")
	}
	if len(chain) == 0 {
		g.log.Warn("no device can identify itself: every verifier under [identity] is off")
	}
	g.verifier = identity.Chain(chain...)
	return nil
}

func newIssuer(c *OIDCConfig) (*identity.OIDC, error) {
	roots, err := authorities(c.CAFile)
	if err != nil {
		return nil, err
	}
	return identity.NewOIDC(identity.OIDCConfig{
		Name: c.Name, Issuer: c.Issuer, ClientID: c.ClientID, ClientSecret: c.ClientSecret,
		Domains: c.Domains, Algorithms: c.Algorithms, Roots: roots, Now: time.Now,
	}), nil
}

func newBrowserID(c *BrowserIDConfig, origin string) (*identity.BrowserID, error) {
	roots, err := authorities(c.CAFile)
	if err != nil {
		return nil, err
	}
	return identity.NewBrowserID(identity.BrowserIDConfig{
		Audience: origin, TrustedIssuers: c.TrustedIssuers, Now: time.Now,
		Fetch: identity.NewFetcher(identity.FetchConfig{AllowPrivate: c.AllowPrivate, Roots: roots}),
	})
}

// siteFetcher is what looks at the sites of apps. It goes where the fetcher of BrowserID may go, and trusts whom that
// one trusts.
func (g *gateway) siteFetcher(c *web.Config) error {
	b := &g.cfg.Identity.BrowserID
	roots, err := authorities(b.CAFile)
	if err != nil {
		return err
	}
	c.Fetch = identity.NewFetcher(identity.FetchConfig{AllowPrivate: b.AllowPrivate, Roots: roots})
	c.PrivateSites = b.AllowPrivate
	return nil
}

// authorities are those of a ca_file; nil, the system's, without one.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pool, _, err := loadAuthorities(file)
	return pool, err
}
