package xmppsrv

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"
)

// conn is a connection with its deadlines. Read is the reader's, Write the writer's.
type conn struct {
	net.Conn
	network netip.Prefix // of the peer, for the gate
	count   *counters

	kicked     atomic.Bool               // the stream has ended: Read returns errKicked
	identified atomic.Bool               // there is a session, which sees by itself that the server is closing
	joined     atomic.Pointer[Component] // what the session is of; nil: there is none

	// Owned by the reader.
	patience time.Duration // of silence, before ping; 0: not identified yet, one deadline for all
	pong     time.Duration // of silence, after it
	ping     func()
	pinged   bool
}

// errKicked is what Read returns once the stream has ended by itself.
var errKicked = errors.New("xmppsrv: the stream has ended")

func newConn(nc net.Conn, count *counters) *conn {
	return &conn{Conn: nc, network: networkOf(nc.RemoteAddr()), count: count}
}

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

// live turns liveness on: after patience without a byte ping is called, and pong later the peer counts as dead.
func (c *conn) live(patience, pong time.Duration, ping func()) {
	c.patience, c.pong, c.ping = patience, pong, ping
}

// Read reads what there is. Any byte is a sign of life.
func (c *conn) Read(p []byte) (int, error) {
	for {
		if c.patience > 0 {
			wait := c.patience
			if c.pinged {
				wait = c.pong
			}
			c.SetReadDeadline(time.Now().Add(wait))
		}
		if c.kicked.Load() { // after setting the deadline: see kick
			return 0, errKicked
		}
		n, err := c.Conn.Read(p)
		switch {
		case n > 0:
			c.pinged = false
			c.count.bytesIn.Add(uint64(n))
			return n, nil
		case c.kicked.Load():
			return 0, errKicked
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		case c.patience == 0:
			return 0, &streamError{why: endSlow}
		case c.pinged:
			return 0, &streamError{why: endSilent}
		}
		c.pinged = true
		c.ping()
	}
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
// send a reset that overtakes them. It reads on, for a bounded time and a bounded number of bytes.
func (c *conn) linger(why end) {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if why == endGone || why == endStalled || !ok || half.CloseWrite() != nil {
		return
	}
	c.SetReadDeadline(time.Now().Add(lingerTime))
	io.Copy(io.Discard, io.LimitReader(c.Conn, maxLinger))
}
