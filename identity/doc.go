// Package identity confirms that an assertion speaks for an e-mail address.
//
// It promises: one answer for all kinds of assertion ([Identity]: the confirmed e-mail, until when, by whom),
// one kind of error ([Error], with a [Kind] for the peer and a cause for the log), and that no secret ever
// stands in an error.
//
// A [Verifier] knows one kind of assertion. [Chain] asks several in order: the first that recognises an
// assertion decides about it, and what nobody recognises is refused:
//
//   - [Token]: opaque secrets of which only the hash is kept;
//   - [Issuers] of [OIDC]: ID tokens, of which an OIDC does the sign-in by authorization code too;
//   - [BrowserID]: Persona's bundles, with what domains say in their support documents;
//   - [Dev]: development only.
//
// What comes from strangers is bounded before anything is done for it: sizes, how often an issuer's keys and a
// domain's document are fetched, how much is remembered. [Attempts] bounds how often an address may fail, and
// a [Fetcher] fetches from hosts that strangers name without letting them choose our own.
//
// Packages oidctest and browseridtest are the other side, for tests.
//
// The package imports nothing else of this module: both the device channel and the pages use it.
package identity
