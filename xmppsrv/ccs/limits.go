package ccs

import "time"

// Bounds of what a peer can make grow. Those that an administrator may change are in [Config].
const (
	window         = 100              // stanzas of a server that wait for their answers; messages to it that wait for acks
	maxConnections = 1000             // of a sender
	maxReceipts    = 100              // kept until they are acknowledged; some servers never do
	maxHeld        = 1024             // updates that a sender has taken and has no session for
	maxBefore      = 10_000           // bytes of an element before there is a session: RFC 6120 §13.12
	maxAnswers     = 64 << 10         // bytes of answers that wait for the writer; then the peer is not read from
	maxOutbox      = 256 << 10        // bytes waiting to be written, beyond which no messages are added
	maxWrite       = 256 << 10        // bytes of one write, so that its deadline means something
	maxEcho        = 4 << 10          // bytes of a payload that a stanza error repeats
	maxTries       = 3                // of SASL on one stream: RFC 6120 §6.4.5
	maxResource    = 64               // bytes of what a client asks for
	maxTargets     = 4096             // tokens whose rate is remembered for a sender
	maxFanouts     = 10               // messages to topics that a sender has on their way
	finalWrite     = 5 * time.Second  // to write the last words
	keepSender     = 30 * time.Second // after its last connection: receipts wait that long for the next
	freshFor       = 10 * time.Second // that a message with TTL 0 may have waited, and still be now
	takeOver       = 10 * time.Second // without an acknowledgement, and a message goes to a connection that is newer
	takeSlice      = 64               // updates fetched at once
)
