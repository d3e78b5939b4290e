package xmppsrv

import "time"

// CountFrom makes both counts of stream management begin with n from now on.
func (s *Server) CountFrom(n uint32) { s.countFrom = n }

// PongWait is how long who is pinged has for a sign of life. It must be called before there are streams.
func (s *Server) PongWait(d time.Duration) { s.pongWait = d }

const AskAfter = askAfter

// MaxKept sets how many bytes are kept of sessions without a connection. Call it before Serve.
func (s *Server) MaxKept(n int) { s.maxKept = n }

// SnapshotWait sets for how long the first element is waited for before presence begins. Call it before there are streams.
func (s *Server) SnapshotWait(d time.Duration) { s.snapshot = d }

// HoldWait sets for how long the first element of a connection that may resume is waited for. Call it before Serve.
func (s *Server) HoldWait(d time.Duration) { s.holdWait = d }

// Authenticate checks a digest for a domain as a stream with this id does.
func (s *Server) Authenticate(domain, id, digest string) bool {
	st := &stream{srv: s, id: id, domain: domain}
	_, ok := st.authenticate([]byte(digest))
	return ok
}
