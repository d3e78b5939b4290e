// Package xmppsrv is the edge for app services that speak XMPP: the accepting side of XEP-0114 (Jabber
// Component Protocol) on top of [presence.Hub].
//
// It promises:
//
//  1. A component sees what its [presence.Link] gives it and nothing else: every refusal, probe answer and iq
//     answer is the same, byte for byte but for ids and times, for a user that does not exist, one that never
//     allowed the app and one that revoked it.
//     (An administrator's address is an exception that is configured: see command.go and docs/commands.md.)
//  2. A message that got no error is on disk, or is on its way to an error. Errors never answer errors.
//  3. A component that stops reading, sends without end or sends nonsense costs the others nothing: what it
//     can make grow has a bound (see limits.go), and each way to end has one word (see the table in ends.go).
//  4. Nothing illegal in XML is written, and nothing that RFC 6120 forbids to accept is accepted.
//
// # The way of a stream
//
//	Serve → accept → stream (no identity yet, one deadline) → handshake → session → linger → close
//
// A [Server] accepts; stream.go answers the header and checks the handshake, and only that makes a session
// (session.go). The types differ, so nothing but the header and the handshake can be done without a secret.
//
// # Three goroutines for a session
//
//	reader    parses, answers, calls Link.Notify; owns the conn's reading side; the one that ends last
//	settler   waits for each Delivery in the order of arrival; tells the failed ones
//	writer    the only one that writes: Link.Take → append → one write for all that is pending
//
// The reader and the settler hand their answers to the writer through the outbox, two buffers that change
// places. It is bounded: who asks much and reads nothing is not read from any more, and is dropped when a write
// takes too long. Probes are answered by the writer, between two Takes, so that the newest state of a device
// always comes last. In a round the writer first fetches the answers, then takes updates until there are none, and
// writes the updates before the answers: what had changed before a ping arrived is told before its answer.
//
// # Reading
//
// The reader (reader.go) is not encoding/xml: that one accepts what RFC 6120 §11.1 and the namespace rules
// forbid, costs 5 µs and 50 allocations for each stanza and has no bound on an element's size. Ours parses in
// place in its own buffer, and an element is valid until the next one is asked for.
package xmppsrv
