package main

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// silence is for how long nothing came from the peer's TCP, acknowledgements included, though it was asked. A peer
// whose window is shut, with more to send to it and nothing on the way, is asked ever more seldom: of that one it
// is not told, and a write's own deadline has to do.
func silence(c *net.TCPConn) (time.Duration, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	var asked error
	if err := raw.Control(func(fd uintptr) {
		info, asked = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil {
		return 0, err
	}
	if asked != nil {
		return 0, asked
	}
	if info.Unacked == 0 && info.Notsent_bytes > 0 {
		return 0, nil
	}
	return time.Duration(min(info.Last_ack_recv, info.Last_data_recv)) * time.Millisecond, nil
}
