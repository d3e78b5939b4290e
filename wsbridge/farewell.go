package wsbridge

import (
	"context"
	"errors"
	"log/slog"

	"presenced/presence/errno"
)

// lastWords is what is written before a connection ends.
type lastWords struct {
	e     *Error
	frame []byte // "": none
	code  int
}

func (w *lastWords) Error() string { return w.e.Error() }

func (w *lastWords) Unwrap() error { return w.e }

// last turns an error into the last words of a connection: the reply, and the close that goes with it.
func (e *Error) last(r *request, first bool) *lastWords {
	code := e.closes(first)
	if code == 0 {
		code = closeGoingAway
	}
	return &lastWords{e: e, frame: appendKO(nil, r, e), code: code}
}

// end is for others than the reader: it writes the last words and makes the reader leave.
func (c *conn) end(e *Error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.finishLocked(e.last(nil, !c.identified()))
	c.interrupt()
}

// turnAway ends a conn that came while the bridge was closing and has no reader.
func (c *conn) turnAway() {
	c.wmu.Lock()
	c.finishLocked((&Error{Errno: errno.GoingAway}).last(nil, true))
	c.wmu.Unlock()
	c.hangUp()
}

// expire ends a conn that gave no sign of life within this heartbeat. Where a writer is stuck in it there is nobody to tell.
func (c *conn) expire(silent beat) {
	c.b.died(c, silent)
	if !c.wmu.TryLock() {
		c.Conn.Close()
		return
	}
	defer c.wmu.Unlock()
	c.endLocked(nil, closeTimeout, "no sign of life")
	c.interrupt()
}

// finishLocked writes last words, once. wmu is held.
func (c *conn) finishLocked(w *lastWords) {
	if !c.ended {
		c.log(w.e)
		c.endLocked(w.frame, w.code, w.e.Errno.String())
	}
}

// leave is the end of the reader, and of the conn: the session is closed first, so that what its end means
// to others does not wait for the peer.
func (c *conn) leave(err error) {
	if s := c.session.Load(); s != nil {
		s.Close()
		c.b.stats.devices.Add(-1)
	}
	if c.app != nil {
		c.app.leave()
	}
	c.farewell(err)
	c.b.table.leave(c.slot)
	c.b.from.leave(c.from)
	c.b.stats.sockets.Add(-1)
	c.b.readers.Done()
}

// farewell tells the peer why, if that is possible, and closes the connection.
func (c *conn) farewell(err error) {
	if closedByPeer(err) {
		c.Conn.Close()
		return
	}
	var last *lastWords
	c.wmu.Lock()
	switch {
	case errors.As(err, &last):
		c.finishLocked(last)
	case errors.Is(err, errTooLarge):
		c.finishLocked(errTooLarge.last(nil, false))
	case errors.Is(err, errBinary):
		c.endLocked(nil, closeBinary, "text frames only")
	}
	c.ended = true
	c.wmu.Unlock()
	c.hangUp()
}

// log counts an error and notes it: our own faults loudly, a device's only for who looks for them.
func (c *conn) log(e *Error) {
	c.b.stats.errnos[e.Errno].Add(1)
	level := slog.LevelDebug
	if e.Errno.Ours() {
		level = slog.LevelError
	}
	to, app := "to a device", slog.Attr{}
	if c.app != nil {
		c.app.refused(e)
		to, app = "to an app", slog.String("app", c.app.id)
	}
	c.b.log.Log(context.Background(), level, to, "socket", c.serial, app, "error", e)
}
