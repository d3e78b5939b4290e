package ccs

import (
	"sync/atomic"

	"presenced/xmppsrv/gcm"
)

// Stats are counts for the metrics and for status.
type Stats struct {
	Sessions int // connections with a resource now
	Senders  int // apps that have one, or had one a moment ago
	Waiting  int // connections without a resource now

	// Counters since start.
	Accepted          uint64
	BytesIn, BytesOut uint64
	Acked             uint64            // messages of servers that were accepted
	Nacked            map[string]uint64 // those that were not, by code; only those that occurred
	Malformed         uint64            // those that could not even be refused by their id
	Upstream          uint64            // messages from devices that were written, repeats included
	Receipts          uint64
	Repeated          uint64            // messages of servers that had been accepted on a connection that broke
	Ended             map[string]uint64 // streams, by why they ended; only those that occurred
}

// counters is where Stats come from.
type counters struct {
	sessions                                                                 atomic.Int64
	accepted, bytesIn, bytesOut, acked, malformed, upstream, receipts, again atomic.Uint64
	nacked                                                                   [gcm.Codes]atomic.Uint64
	ends                                                                     [endCount]atomic.Uint64
}

// Stats counts.
func (s *Server) Stats() Stats {
	c := &s.count
	st := Stats{
		Sessions: int(c.sessions.Load()), Waiting: s.gate.Waiting(), Accepted: c.accepted.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(), Acked: c.acked.Load(), Malformed: c.malformed.Load(),
		Upstream: c.upstream.Load(), Receipts: c.receipts.Load(), Repeated: c.again.Load(),
		Nacked: make(map[string]uint64), Ended: make(map[string]uint64),
	}
	s.mu.Lock()
	st.Senders = len(s.senders)
	s.mu.Unlock()
	for i := range c.nacked {
		if n := c.nacked[i].Load(); n > 0 {
			st.Nacked[gcm.Code(i).String()] = n
		}
	}
	for i := range c.ends {
		if n := c.ends[i].Load(); n > 0 {
			st.Ended[end(i).String()] = n
		}
	}
	return st
}
