package wsbridge

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"presenced/presence/errno"
)

const (
	readBuffer  = 128             // bytes each idle socket keeps for reading; frames are read past it
	writeBuffer = 1024            // bytes, shared by all sockets
	closeWait   = 2 * time.Second // for the peer to take the close frame before its connection is cut
	closeDrain  = 1 << 20         // bytes of what it still sends that are read meanwhile
	closeWrite  = time.Second     // for writing the last frames
	maxReason   = 123             // bytes of a close frame's reason, RFC 6455 §5.5
	frameSpread = 16              // bytes on the wire for each byte of MaxFrame, however it is fragmented
	frameSlack  = 4096            // and so many more
)

// errTooLarge and errBinary end a read that found a frame which may not be.
var (
	errTooLarge = &Error{Errno: errno.TooLarge}
	errBinary   = errors.New("wsbridge: binary frame")
)

// socket is a WebSocket of the server's side: whole text frames in, whole text and control frames out. It
// is all that knows the WebSocket library. One goroutine reads; writing is for who holds wmu.
//
// It is also the connection under the WebSocket: every byte that arrives passes its Read, which notes that
// the peer lives and bounds how much may arrive without making a frame.
type socket struct {
	net.Conn                 // immutable once accepted, as are the next three
	ws       *websocket.Conn //
	b        *Bridge         //
	slot     *slot           //

	wmu   sync.Mutex // held while writing, and while what is written must keep its order
	in    uint32     // owned by the reader: bytes since the last whole frame
	ended bool       // guarded by wmu: the last frame is written
	ack   bool       // owned by the conn, guarded by its mu; it stands here because there is room
	gap   uint16     // owned by the reader: ticks of silence before the last sign of life; 65535: or more
}

func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if n > 0 {
		now := s.b.tick.Load()
		s.gap = max(s.gap, uint16(min(now-s.slot.seen.Load(), math.MaxUint16)))
		s.slot.seen.Store(now)
		if s.in += uint32(n); s.in > s.b.mostIn {
			return 0, errTooLarge
		}
	}
	return n, err
}

// hijacked hands the socket, or what stands in front of it, to the upgrader in place of the connection.
type hijacked struct {
	http.ResponseWriter
	s  *socket
	as net.Conn
}

func (h hijacked) Hijack() (c net.Conn, rw *bufio.ReadWriter, err error) {
	hj, ok := h.ResponseWriter.(http.Hijacker)
	if !ok {
		return nil, nil, http.ErrNotSupported
	}
	h.s.Conn, rw, err = hj.Hijack()
	return h.as, rw, err
}

// accept upgrades the request, or answers it with the reason why not; the library gets as, which is the socket or
// stands in front of it. The handlers for control frames belong to the socket's owner; before the first read, slot
// must be set.
func (s *socket) accept(u *websocket.Upgrader, as net.Conn, w http.ResponseWriter, r *http.Request, ping, pong func(string) error) error {
	ws, err := u.Upgrade(hijacked{w, s, as}, r, nil)
	if err != nil {
		return err
	}
	ws.SetPingHandler(ping)
	ws.SetPongHandler(pong)
	s.ws = ws
	return nil
}

// next waits for a text frame; nothing is held for it before its first bytes are there. It fails with
// errBinary, with what a control handler returned, or with the connection.
func (s *socket) next() (frame io.Reader, err error) {
	typ, frame, err := s.ws.NextReader()
	if err == nil && typ != websocket.TextMessage {
		err = errBinary
	}
	return frame, err
}

// read reads the frame into buf; errTooLarge where there is more of it.
func (s *socket) read(frame io.Reader, buf []byte) ([]byte, error) {
	n, err := io.ReadFull(frame, buf)
	if err == nil { // buf is full: that must be all
		if _, err = io.ReadFull(frame, make([]byte, 1)); err == nil {
			err = errTooLarge
		}
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF { // the frame's own end; a broken one is a CloseError
		err = nil
	}
	s.in = 0
	return buf[:n], err
}

// writeLocked sends a text frame. wmu is held.
func (s *socket) writeLocked(frame []byte) error {
	if s.ended {
		return net.ErrClosed
	}
	s.b.stats.framesOut.Add(1)
	s.ws.SetWriteDeadline(s.b.deadline())
	return s.ws.WriteMessage(websocket.TextMessage, frame)
}

// openFrame and closeFrame stand around a text frame that is appended to b, at says where it began: frames of the
// server are not masked (RFC 6455 §5.1), so many can be made in one buffer without the library.
func openFrame(b []byte) (_ []byte, at int) { return append(b, 0x81, 126, 0, 0), len(b) }

func closeFrame(b []byte, at int) []byte {
	switch n := len(b) - at - 4; { // RFC 6455 §5.2
	case n < 126:
		b[at+1] = byte(n)
		return append(b[:at+2], b[at+4:]...)
	case n < 1<<16:
		binary.BigEndian.PutUint16(b[at+2:], uint16(n))
	default:
		b = append(b, 0, 0, 0, 0, 0, 0)
		copy(b[at+10:], b[at+4:])
		b[at+1] = 127
		binary.BigEndian.PutUint64(b[at+2:], uint64(n))
	}
	return b
}

// pingLocked sends a ping; its payload comes back with the pong. wmu is held.
func (s *socket) pingLocked(payload []byte) error {
	if s.ended {
		return net.ErrClosed
	}
	return s.ws.WriteControl(websocket.PingMessage, payload, s.b.deadline())
}

// pongLocked answers a ping. wmu is held.
func (s *socket) pongLocked(payload string) error {
	if s.ended {
		return nil
	}
	return s.ws.WriteControl(websocket.PongMessage, []byte(payload), s.b.deadline())
}

// endLocked sends the last frames: text (if it is not empty), then a close frame. Nothing is written after
// it. wmu is held.
func (s *socket) endLocked(text []byte, code int, reason string) {
	if s.ended {
		return
	}
	deadline := time.Now().Add(closeWrite)
	if len(text) > 0 {
		s.ws.SetWriteDeadline(deadline)
		s.ws.WriteMessage(websocket.TextMessage, text)
	}
	body := binary.BigEndian.AppendUint16(nil, uint16(code))
	body = append(body, reason[:min(len(reason), maxReason)]...)
	s.ws.WriteControl(websocket.CloseMessage, body, deadline)
	s.ended = true
}

// interrupt makes a read that waits, and every later one, fail at once.
func (s *socket) interrupt() { s.SetReadDeadline(time.Unix(1, 0)) }

// hangUp ends the connection after the last frame: it says that nothing more comes and reads on for a
// moment, because a connection that is closed with unread input is reset, and the peer may then lose what
// was written last. Called by the reader, which reads no more.
func (s *socket) hangUp() {
	defer s.Close()
	if half, ok := s.Conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	s.SetReadDeadline(time.Now().Add(closeWait))
	io.CopyN(io.Discard, s.Conn, closeDrain)
}

// closedByPeer reports whether err is the peer's close frame, or the end of its connection.
func closedByPeer(err error) bool {
	var c *websocket.CloseError
	return errors.As(err, &c)
}
