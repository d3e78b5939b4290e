package xmppsrv

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"presenced/xmppsrv/gate"
)

// conn is a connection with its deadlines. Read is the reader's, Write the writer's.
type conn struct {
	net.Conn
	count *counters

	kicked     atomic.Bool               // the stream has ended: Read returns errKicked
	identified atomic.Bool               // there is a session, which sees by itself that the server is closing
	joined     atomic.Pointer[Component] // what the session is of; nil: there is none
	nudged     atomic.Bool               // the peer is to be pinged now
	cut        atomic.Bool               // writes fail

	// Owned by the reader.
	patience time.Duration // of silence, before ping; 0: not identified yet, one deadline for all
	pong     time.Duration // of silence, after it
	ping     func()
	pinged   bool
	pongBy   time.Time // when pinged: until then a byte must come
}

// errKicked is what Read returns once the stream has ended by itself.
var errKicked = errors.New("xmppsrv: the stream has ended")

// addr is the peer's address, for its failed handshakes.
func (c *conn) addr() netip.Addr {
	t, _ := c.RemoteAddr().(*net.TCPAddr)
	if t == nil {
		return netip.Addr{}
	}
	return t.AddrPort().Addr()
}

// live turns liveness on: after patience without a byte ping is called, and pong later the peer counts as dead.
func (c *conn) live(patience, pong time.Duration, ping func()) {
	c.patience, c.pong, c.ping = patience, pong, ping
}

// Read reads what there is. Any byte is a sign of life.
func (c *conn) Read(p []byte) (int, error) {
	for {
		c.setReadDeadline()
		if c.kicked.Load() { // after setting the deadline: see kick
			return 0, errKicked
		}
		if c.nudged.Swap(false) && !c.pinged { // likewise: see nudge
			c.sendPing()
			continue
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
		case c.nudged.Load(): // the deadline was its
		case !c.pinged:
			c.sendPing()
		case !time.Now().Before(c.pongBy):
			return 0, &streamError{why: endSilent}
		}
	}
}

func (c *conn) setReadDeadline() {
	switch {
	case c.patience == 0: // the one of the handshake stays
	case c.pinged:
		c.SetReadDeadline(c.pongBy)
	default:
		c.SetReadDeadline(time.Now().Add(c.patience))
	}
}

func (c *conn) sendPing() {
	c.pinged, c.pongBy = true, time.Now().Add(c.pong)
	c.ping()
}

// Write writes all of p.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.count.bytesOut.Add(uint64(n))
	return n, err
}

// nudge makes a session's Read ping the peer now, unless it waits for a sign of life already.
func (c *conn) nudge() {
	c.nudged.Store(true)
	c.SetReadDeadline(time.Unix(1, 0))
}

// SetWriteDeadline is the next write's; after cutWrites it has passed already.
func (c *conn) SetWriteDeadline(t time.Time) error {
	err := c.Conn.SetWriteDeadline(t)
	if c.cut.Load() { // after setting the deadline: see cutWrites
		err = c.Conn.SetWriteDeadline(time.Unix(1, 0))
	}
	return err
}

// cutWrites makes writes fail, one that is waiting too, until mendWrites.
func (c *conn) cutWrites() {
	c.cut.Store(true)
	c.Conn.SetWriteDeadline(time.Unix(1, 0))
}

// mendWrites is for the last words, when nobody cuts any more.
func (c *conn) mendWrites() { c.cut.Store(false) }

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
