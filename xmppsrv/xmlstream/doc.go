// Package xmlstream reads and writes the XML of XMPP streams for the edges that accept them.
//
// It promises:
//
//  1. What RFC 6120 §11.1 restricts, what is not well-formed (XML 1.0, Namespaces in XML 1.0) and what is over a
//     bound is refused, with one of a few kinds.
//  2. An error is found without a byte more than it takes: a peer may be waiting for the answer.
//  3. What is appended as text or as a value is XML, whatever is in it.
//
// A [Reader] is not encoding/xml: that one accepts what is forbidden here, costs 5 µs and 50 allocations for each
// stanza and has no bound on an element's size. Ours parses in place in its own buffer, and an [Element] is valid
// until the next one is asked for.
package xmlstream
