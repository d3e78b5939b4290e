package main

import (
	"net"
	"runtime"
	"time"
)

// pacePerLogin is how many connections are taken for each login that is admitted: the others are pages, and devices that
// hear when to come back.
const pacePerLogin = 2

// paceBurst is how many connections are taken at once, however long nobody came.
const paceBurst = 16

// pacedListener takes connections at a bounded rate. Those above it wait where they cost nothing: before TLS and before
// HTTP, in the kernel's queue, which makes clients try again when it is full. So a storm of connections cannot take
// the processor from those who are connected.
type pacedListener struct {
	net.Listener
	every time.Duration // of one connection; immutable

	next time.Time // when the next one is due; owned by Accept, which has one caller
}

// paced bounds l to so many connections a second; 0: l itself.
func paced(l net.Listener, perSecond float64) net.Listener {
	if perSecond <= 0 {
		return l
	}
	return &pacedListener{Listener: l, every: time.Duration(float64(time.Second) / perSecond)}
}

// Accept waits for its time, then for a connection.
func (l *pacedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if earliest := now.Add(-paceBurst * l.every); l.next.Before(earliest) {
		l.next = earliest
	}
	l.next = l.next.Add(l.every)
	if early := l.next.Sub(now); early > 0 {
		time.Sleep(early)
	}
	runtime.Gosched() // behind those who have something to do: where the processor is short, fewer are taken
	return c, nil
}
