package main

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// crowdSpare is how many connections an address may have beside its device sockets: those of its browsers, and
// those that are to hear that there are too many.
const crowdSpare = 64

// crowdListener bounds how many connections one address has open, whatever it does with them. What is above the
// bound is closed at once. Trusted proxies speak for many and are not counted.
type crowdListener struct {
	net.Listener
	most    int            // immutable
	trusted []netip.Prefix // immutable

	mu   sync.Mutex
	open map[netip.Addr]int // guarded by mu; no zeros
}

func newCrowdListener(l net.Listener, most int, trusted []netip.Prefix) *crowdListener {
	return &crowdListener{Listener: l, most: most, trusted: trusted, open: map[netip.Addr]int{}}
}

// Accept returns the next connection of an address that has not too many.
func (l *crowdListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		addr, counted := l.addr(c)
		if !counted {
			return c, nil
		}
		if l.enter(addr) {
			return &crowdConn{Conn: c, crowd: l, addr: addr}, nil
		}
		c.Close()
	}
}

// addr is under what a connection counts: its address, or of IPv6 the /64, which is what one subscriber has.
func (l *crowdListener) addr(c net.Conn) (netip.Addr, bool) {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}, false
	}
	a := ap.Addr().Unmap()
	for _, p := range l.trusted {
		if p.Contains(a) {
			return a, false
		}
	}
	if a.Is6() {
		a = netip.PrefixFrom(a.WithZone(""), 64).Masked().Addr()
	}
	return a, true
}

func (l *crowdListener) enter(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[a] >= l.most {
		return false
	}
	l.open[a]++
	return true
}

func (l *crowdListener) leave(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[a]--; l.open[a] == 0 {
		delete(l.open, a)
	}
}

// crowdConn leaves the crowd when it is closed.
type crowdConn struct {
	net.Conn
	crowd *crowdListener
	addr  netip.Addr
	left  atomic.Bool
}

func (c *crowdConn) Close() error {
	if !c.left.Swap(true) {
		c.crowd.leave(c.addr)
	}
	return c.Conn.Close()
}

// CloseWrite says that nothing more comes, and leaves the other direction open: who ends a connection whose peer still
// sends needs it, or a reset takes away what was said last.
func (c *crowdConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}
