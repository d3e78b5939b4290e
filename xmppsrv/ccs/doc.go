// Package ccs is the edge for app servers written for Google's Cloud Connection Server (GCM CCS, FCM XMPP): a client
// stream over TLS on which JSON goes both ways, on top of [presence.Hub].
//
// It promises:
//
//  1. A message that was acknowledged is on disk. One that was not, on a connection that broke, may be sent again on the
//     next: where it had been accepted it is acknowledged and not delivered twice, whether the ack was never written
//     or lost on the wire, and also where the gateway was killed meanwhile (see [presence.Trail]).
//  2. A message from a device comes until it is acknowledged, under the same (from, message_id), on one connection at a
//     time.
//  3. Who sends too much is not read from; who reads too little gets no more. Neither is disconnected for it.
//  4. What is said of a token is the same for who does not exist, who never allowed the app and who revoked it.
//  5. Every nack has a code and a description.
//
// # Sender, session, stream
//
//	type     lives                                          owns
//	stream   from the first byte to the bound resource      one deadline, the connection's reading side
//	session  from then to the end of the connection         reader, settler, writer; what is unanswered either way
//	sender   from an app's first session to keepSender      the app's one presence.Link, its dispatcher
//	         behind its last
//
// A stream knows nobody until SASL told it an app, and becomes a session by binding. All sessions of an app share one
// link: what the core has for the app the sender's dispatcher hands to the session that is this user's by hash, or to
// another if that one has no room. What a session leaves behind without an acknowledgement goes to the others. So the
// core sees one connection, however many there are.
//
// # Three goroutines for a session
//
//	reader    parses, answers what can be answered at once, calls Link.Notify; the one that ends last
//	settler   waits for each Delivery in the order of arrival; acknowledges it
//	writer    the only one that writes
//
// An answer needs a place, and there are as many as the window: the reader takes one for each stanza that will be
// answered, the writer gives it back when the answer is written. Without a place nothing is read, so neither memory nor
// the disk's backlog grows with what a server pushes into its socket.
//
// The payload is package gcm's, the XML is package xmlstream's, and how streams end is the table in ends.go.
package ccs
