package main

import (
	"context"
	"net"
	"time"
)

// peerGone is how long nothing at all may come from an app server's machine, not even what TCP answers by itself. In
// that time it is asked several times. Nobody on the CCS wire expects a ping, so none is sent there.
const peerGone = 30 * time.Second

// goneListener accepts connections that are cut when the machine on the other side is gone for good. Without it a
// connection that something was just sent to lives on for as long as TCP repeats that, a quarter of an hour, and what
// was sent waits. A peer that is there and does not read answers TCP's questions, and is not cut.
type goneListener struct {
	net.Listener
	after time.Duration // immutable
}

// listenGone listens on a TCP address; after is how long a peer may be gone.
func listenGone(addr string, after time.Duration) (net.Listener, error) {
	every := after / 6
	c := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 2 * every, Interval: every, Count: 4}}
	l, err := c.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &goneListener{l, after}, nil
}

// Accept returns the next connection.
func (l *goneListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	t, ok := c.(*net.TCPConn)
	if err != nil || !ok {
		return c, err
	}
	time.AfterFunc(l.after, func() { l.look(t) })
	return t, nil
}

// look cuts a connection if nothing was heard for too long, or looks again when that may be so. It ends with it.
func (l *goneListener) look(c *net.TCPConn) {
	silent, err := silence(c)
	switch {
	case err != nil: // it is closed, or the system cannot tell: then its keepalive has to do
	case silent >= l.after:
		c.Close()
	default:
		time.AfterFunc(l.after-silent, func() { l.look(c) })
	}
}
