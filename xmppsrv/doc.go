// Package xmppsrv is the edge for app services that speak XMPP: the accepting side of XEP-0114 (Jabber
// Component Protocol) on top of [presence.Hub].
//
// It promises:
//
//  1. A component sees what its [presence.Link] gives it and nothing else: every refusal, probe answer and iq
//     answer is the same, byte for byte but for ids and times, for a user that does not exist, one that never
//     allowed the app and one that revoked it.
//     (An administrator's address is an exception that is configured: see command.go and docs/commands.md.)
//  2. A message that got no error is on disk, or is on its way to an error; one that was acknowledged (XEP-0198) is on
//     disk. Errors never answer errors.
//  3. A component that stops reading, sends without end or sends nonsense costs the others nothing: what it
//     can make grow has a bound (see limits.go), and each way to end has one word (see the table in ends.go).
//  4. A component that acknowledges and resumes loses nothing and gets nothing twice, whatever happens to its
//     connections. See below for what it loses when it does not.
//  5. Nothing illegal in XML is written, and nothing that RFC 6120 forbids to accept is accepted.
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
// The reader and the settler hand their answers to the writer through the outbox, two batches that change
// places. It is bounded: who asks much and reads nothing is not read from any more, and is dropped when a write
// takes too long. Probes are answered by the writer, between two Takes, so that the newest state of a device
// always comes last. In a round the writer first fetches the answers, then takes updates until there are none, and
// writes the updates before the answers: what had changed before a ping arrived is told before its answer.
//
// What the writer appends stands in an outgoing (outgoing.go), which knows where each stanza ends. A stanza leaves it
// when it was written, or with stream management when it was acknowledged; only then Link.Told and Link.Delivered are
// called for it. There is one way for both, and its memory is what stream management keeps.
//
// # What survives a connection
//
// XEP-0198 is offered on component streams: there are no stream features here, so disco#info of the gateway says it. It
// begins with <enable/> and makes a [ledger]: the link, what was received and is settled, what was sent and is not
// acknowledged. A ledger outlives the session that opened it; a session is the connection's.
//
//	type      lives                              owns
//	session   as long as its connection          reader, settler, writer, outbox
//	ledger    until it is ended or expires       the link, both counts, the unacknowledged stanzas
//	roll      as long as the server              who holds which ledger; the one timer
//
// The count of what was received (incoming) is shared by reader, settler and writer under a lock. The count of what was
// sent (outgoing) is the writer's alone: the reader passes an <a/> on through the outbox. Between two sessions nobody
// touches a ledger but the roll: the first lets go of it when its reader and settler have ended and its writer has
// noted what was left in the outbox, and before it says its last words, so that a dead connection holds up nobody.
//
// h counts a stanza when all before it are handled too, and a notification is handled when it is on disk or refused. An
// <r/> is answered when all that came before it is handled, in its place among the answers if it is already. If that
// takes longer than ackWait, what is handled by then is told as well, so that a component which waits gets an <a/> in
// any case. The last h is told before a stream ends for good.
//
// <r/> is sent behind askAfter stanzas or flushAt bytes and when there is nothing more to send. Beyond maxUnacked
// stanzas or maxUnackedBytes nothing is taken from the link, where changes are merged. Who acknowledges nothing for as
// long as a silent peer is borne is dropped. Answers are not held back, or the acknowledgements behind the questions
// would never be read; only a component that has mostUnackedBytes of them is dropped too.
//
// Which ends leave a session to resume is a column of the table in ends.go: the connection broke, hangs, or was
// replaced. Who closes the stream, breaks its rules or loses its app has none. A kept ledger's link is detached and goes
// on merging. A newer connection of an app that replaces the older one makes its own link beside it, held, so that it
// tells presence and nothing else, and its first element decides: <resume/> takes the ledger over and that link yields to
// the older one; anything else ends the ledger, and what was not acknowledged comes again on the new link as far as the
// core keeps it: messages and notices, not receipts. Who says nothing is pinged after holdWait. Connections that share
// an app each have their own; while one is detached the others have its users. Stanzas that come again are the same bytes, also where the
// user has revoked since: they had left before; what she did comes behind them.
//
// # Reading
//
// XML is read and escaped by package xmlstream, which the CCS endpoint shares.
package xmppsrv
