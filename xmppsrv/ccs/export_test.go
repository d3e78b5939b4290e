package ccs

import "time"

// TakeOverAfter is how long a message is left with a connection that says nothing when a newer one comes. It must be
// called before there are connections.
func (s *Server) TakeOverAfter(d time.Duration) { s.takeOver = d }

// MaxFanouts changes how many messages to topics a sender may have on their way. It must be called before there are
// connections.
func (s *Server) MaxFanouts(n int) { s.maxFanouts = n }
