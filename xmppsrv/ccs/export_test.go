package ccs

import "time"

// TakeOverAfter is how long a message is left with a connection that says nothing when a newer one comes. It must be
// called before there are connections.
func (s *Server) TakeOverAfter(d time.Duration) { s.takeOver = d }

// Doubts counts the sessions that know that their peer is gone, and have not ended yet.
func (s *Server) Doubts() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sess := range s.conns {
		if sess != nil && sess.out.doubtful() {
			n++
		}
	}
	return n
}

func (o *outbox) doubtful() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.doubts
}

// MaxFanouts changes how many messages to topics a sender may have on their way. It must be called before there are
// connections.
func (s *Server) MaxFanouts(n int) { s.maxFanouts = n }
