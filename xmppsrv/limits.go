package xmppsrv

import "time"

// Bounds of what a peer can make grow. Those that an administrator may change are in [Config].
const (
	minStanza = 10_000 // RFC 6120 §13.12: a limit must not be below
	maxBefore = minStanza

	flushAt     = 64 << 10     // bytes after which the writer writes
	maxWrite    = 256 << 10    // bytes of one write, so that its deadline means something
	maxAnswers  = 64 << 10     // bytes of answers that wait for the writer; then the peer is not read from
	maxProbes   = 256          // probes that wait for the writer
	maxInFlight = 1024         // notifications that wait for the disk
	takeSlice   = 64           // updates fetched at once
	maxTurn     = 16 * flushAt // bytes of updates before answers get their turn

	// Stream management (XEP-0198). Beyond the first two nothing is taken from the link until there are
	// acknowledgements. Answers cannot wait for them, or nobody would read those: only beyond the third the stream ends.
	maxUnacked       = 8192            // stanzas
	maxUnackedBytes  = 1 << 20         // and their bytes
	mostUnackedBytes = 8 << 20         // with answers
	askAfter         = 256             // stanzas behind an <r/>, or flushAt bytes, and the next is sent
	askAgain         = 5 * time.Second // after an <r/> that was not answered with all that had been sent
	ackWait          = time.Second     // to answer an <r/> with all that came before it; then with what is handled

	maxKeptOfApp = 16       // sessions of one app without a connection that can be resumed
	maxKeptBytes = 64 << 20 // what all of them have unacknowledged

	snapshotWait = 250 * time.Millisecond // for the first element after the handshake, then presence begins
	holdWait     = 5 * time.Second        // and then a ping is, whose answer is such an element
	finalWrite   = 5 * time.Second        // to write a stream error to a peer that may be stalled
	maxPongWait  = 30 * time.Second       // for any byte after a ping
)
