package xmppsrv

import "time"

// CountFrom makes both counts of stream management begin with n from now on.
func (s *Server) CountFrom(n uint32) { s.countFrom = n }

// PongWait is how long who is pinged has for a sign of life. It must be called before there are streams.
func (s *Server) PongWait(d time.Duration) { s.pongWait = d }

const AskAfter = askAfter
