package ccs

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"presenced/xmppsrv/gate"
)

// conn is a connection with its counts. Read is the reader's, Write the writer's.
type conn struct {
	net.Conn
	count   *counters
	kicked  atomic.Bool // Read returns errKicked
	waiting bool        // owned by the reader: nobody yet, one deadline for all
}

// errKicked is what Read returns once the stream has ended by itself.
var errKicked = errors.New("ccs: the stream has ended")

// addr is the peer's address, for its failed logins.
func (c *conn) addr() netip.Addr {
	t, _ := c.RemoteAddr().(*net.TCPAddr)
	if t == nil {
		return netip.Addr{}
	}
	return t.AddrPort().Addr()
}

// Read reads what there is.
func (c *conn) Read(p []byte) (int, error) {
	if c.kicked.Load() {
		return 0, errKicked
	}
	n, err := c.Conn.Read(p)
	c.count.bytesIn.Add(uint64(n))
	switch {
	case n > 0 || err == nil:
		return n, nil
	case c.kicked.Load():
		return 0, errKicked
	case c.waiting && errors.Is(err, os.ErrDeadlineExceeded):
		return 0, &streamError{why: endSlow}
	}
	return 0, err
}

// Write writes all of p.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.count.bytesOut.Add(uint64(n))
	return n, err
}

// kick makes Read return errKicked, one that is waiting too.
func (c *conn) kick() {
	c.kicked.Store(true)
	c.SetReadDeadline(time.Unix(1, 0))
}

// linger lets the peer read our last words, if there can be any.
func (c *conn) linger(why end) {
	if why != endGone && why != endStalled {
		gate.Linger(c.Conn)
	}
}
