package xmppsrv

import "sync/atomic"

// Stats are counts for the metrics and for status.
type Stats struct {
	Sessions int // components connected now
	Waiting  int // streams without handshake now
	Kept     int // sessions without a connection that can be resumed now (XEP-0198)

	// Counters since start.
	Accepted            uint64
	BytesIn, BytesOut   uint64
	StanzasIn           uint64
	UpdatesOut          uint64            // presence, consent and receipts that were written
	Resumed             uint64            // sessions
	Answers             uint64            // answers to stanzas, stanza errors included
	Ended               map[string]uint64 // streams, by why they ended; only those that occurred
	Refused             map[string]uint64 // stanzas, by why they came back; only those that occurred
	NotificationsPassed uint64            // handed to the core; see presence.Stats for what came of them
}

// counters is where Stats come from.
type counters struct {
	sessions                                                              atomic.Int64
	accepted, bytesIn, bytesOut, stanzas, updates, answers, sent, resumed atomic.Uint64
	ends                                                                  [endCount]atomic.Uint64
	refused                                                               [refusalCount]atomic.Uint64
}

// Stats counts.
func (s *Server) Stats() Stats {
	c := &s.count
	st := Stats{
		Sessions: int(c.sessions.Load()), Waiting: s.gate.Waiting(), Kept: s.roll.kept(), Resumed: c.resumed.Load(),
		Accepted: c.accepted.Load(), BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		StanzasIn: c.stanzas.Load(), UpdatesOut: c.updates.Load(), Answers: c.answers.Load(), NotificationsPassed: c.sent.Load(),
		Ended: make(map[string]uint64), Refused: make(map[string]uint64),
	}
	for i := range c.ends {
		if n := c.ends[i].Load(); n > 0 {
			st.Ended[end(i).String()] = n
		}
	}
	for i := range c.refused {
		if n := c.refused[i].Load(); n > 0 {
			st.Refused[refusal(i).String()] = n
		}
	}
	return st
}
