// Package identity confirms that an assertion speaks for an e-mail address.
//
// It promises: one answer for all kinds of assertion ([Identity]: the confirmed e-mail, until when, by whom),
// one kind of error ([Error], with a [Kind] for the peer and a cause for the log), and that no secret ever
// stands in an error.
//
// A [Verifier] knows one kind of assertion. [Chain] asks several in order: the first that recognises an
// assertion decides about it, and what nobody recognises is refused. Here are [Token] (opaque secrets of
// which only the hash is kept) and [Dev] (development only); verifiers that fetch keys from an issuer fit
// behind the same interface and take their limits from the context.
//
// The package imports nothing else of this module: both the device channel and the pages use it.
package identity
