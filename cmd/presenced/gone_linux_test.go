package main

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// vanish makes a machine of a connection's end that was switched off: what comes is thrown away before TCP sees it.
func vanish(t *testing.T, c net.Conn) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	none := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	if e := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &none[0]})
	}); e != nil || err != nil {
		t.Fatal(e, err)
	}
}

// A connection is cut when its peer's machine is gone, whether something was sent to it or not; one whose peer does not
// read what it is sent is not, nor is one that is idle.
func TestGonePeerIsNoticed(t *testing.T) {
	l, err := listenGone("127.0.0.1:0", 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	open := func() (here, there net.Conn) {
		t.Helper()
		there, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { there.Close() })
		if here, err = l.Accept(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { here.Close() })
		return here, there
	}
	sent, gone1 := open()
	idle, gone2 := open()
	full, reader := open()
	quiet, _ := open()
	vanish(t, gone1)
	vanish(t, gone2)
	if _, err := sent.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	written := make(chan int64, 1)
	go func() { // until the buffers are full, and then it waits
		n, _ := io.Copy(full, io.LimitReader(zeros{}, 64<<20))
		written <- n
	}()
	for name, c := range map[string]net.Conn{"with something on the way": sent, "idle": idle} {
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.ETIMEDOUT) {
			t.Errorf("%s it was not noticed: %v", name, err)
		}
	}
	for _, c := range []net.Conn{full, quiet} { // twice the time for which the others lived
		c.SetReadDeadline(time.Now().Add(6 * time.Second))
	}
	for name, c := range map[string]net.Conn{"that does not read": full, "that is there": quiet} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a peer %s was cut: %v", name, err)
		}
	}
	if n, _ := io.Copy(io.Discard, io.LimitReader(reader, 64<<20)); n != 64<<20 || <-written != n {
		t.Errorf("%d bytes came", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
