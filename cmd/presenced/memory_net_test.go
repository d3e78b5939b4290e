package main

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// memoryNet is a net.Listener without descriptors: its connections are two buffers that grow when somebody writes and
// are given back when they are read empty. It is for more devices than a process may open sockets.
type memoryNet struct {
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func newMemoryNet() *memoryNet {
	return &memoryNet{incoming: make(chan net.Conn), closed: make(chan struct{})}
}

// dial connects from an address; it waits until the listener takes it.
func (m *memoryNet) dial(from *net.TCPAddr) (net.Conn, error) {
	p := new(memoryPipe)
	for i := range p.ways {
		p.ways[i].cond.L = &p.ways[i].mu
	}
	client := &memoryConn{p: p, from: from, end: 0}
	select {
	case m.incoming <- &memoryConn{p: p, from: from, end: 1}:
		return client, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memoryNet) Accept() (net.Conn, error) {
	select {
	case c := <-m.incoming:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memoryNet) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memoryNet) Addr() net.Addr { return memoryAddr }

var memoryAddr = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}

type memoryPipe struct{ ways [2]memoryWay }

// memoryWay is one direction; mu guards it.
type memoryWay struct {
	mu     sync.Mutex
	cond   sync.Cond
	data   []byte
	ended  bool // nothing more comes
	broken bool // nobody reads
	late   bool // the reader's deadline has passed
	nth    uint // of the deadlines
	timer  *time.Timer
}

// memoryConn is an end of a pipe; it writes to its own way and reads the other's.
type memoryConn struct {
	p    *memoryPipe
	from *net.TCPAddr
	end  int
}

func (c *memoryConn) in() *memoryWay  { return &c.p.ways[1-c.end] }
func (c *memoryConn) out() *memoryWay { return &c.p.ways[c.end] }

func (c *memoryConn) Read(b []byte) (int, error) {
	w := c.in()
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		switch {
		case w.broken:
			return 0, net.ErrClosed
		case w.late:
			return 0, os.ErrDeadlineExceeded
		case len(w.data) > 0:
			n := copy(b, w.data)
			if w.data = w.data[n:]; len(w.data) == 0 {
				w.data = nil
			}
			return n, nil
		case w.ended:
			return 0, io.EOF
		}
		w.cond.Wait()
	}
}

func (c *memoryConn) Write(b []byte) (int, error) {
	w := c.out()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken || w.ended {
		return 0, net.ErrClosed
	}
	w.data = append(w.data, b...)
	w.cond.Signal()
	return len(b), nil
}

func (c *memoryConn) CloseWrite() error {
	w := c.out()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.cond.Signal()
	return nil
}

func (c *memoryConn) Close() error {
	c.CloseWrite()
	c.SetReadDeadline(time.Time{})
	w := c.in()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken, w.data = true, nil
	w.cond.Signal()
	return nil
}

func (c *memoryConn) SetReadDeadline(t time.Time) error {
	w := c.in()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	w.nth++
	switch left := time.Until(t); {
	case t.IsZero():
		w.late = false
	case left <= 0:
		w.late = true
		w.cond.Signal()
	default:
		w.late = false
		mine := w.nth
		w.timer = time.AfterFunc(left, func() { w.expire(mine) })
	}
	return nil
}

// expire is the end of a deadline, unless there is a newer one.
func (w *memoryWay) expire(nth uint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nth == nth {
		w.timer, w.late = nil, true
		w.cond.Signal()
	}
}

func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil } // a write never waits
func (c *memoryConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *memoryConn) LocalAddr() net.Addr              { return c.addr(0) }
func (c *memoryConn) RemoteAddr() net.Addr             { return c.addr(1) }

func (c *memoryConn) addr(end int) net.Addr {
	if c.end == end {
		return c.from
	}
	return memoryAddr
}
