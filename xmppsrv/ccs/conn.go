package ccs

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// conn is a connection with its counts. Read is the reader's, Write the writer's.
type conn struct {
	net.Conn
	network netip.Prefix // of the peer, for the gate
	count   *counters
	kicked  atomic.Bool // Read returns errKicked
	waiting bool        // owned by the reader: nobody yet, one deadline for all
}

// errKicked is what Read returns once the stream has ended by itself.
var errKicked = errors.New("ccs: the stream has ended")

// networkOf is whom a connection counts for: an IPv4 address, or an IPv6 network of 64 bits.
func networkOf(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap()
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.WithZone("").Prefix(bits)
	return p
}

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

// linger ends a connection so that the peer can read our last words: closing a socket with unread bytes would
// send a reset that overtakes them.
func (c *conn) linger(why end) {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if why == endGone || why == endStalled || !ok {
		return
	}
	c.SetDeadline(time.Now().Add(lingerTime))
	if half.CloseWrite() != nil {
		return
	}
	io.Copy(io.Discard, io.LimitReader(c.Conn, maxLinger))
}
