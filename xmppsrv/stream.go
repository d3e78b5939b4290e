package xmppsrv

import (
	"bytes"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/xmppsrv/xmlstream"
)

// stream is a connection that has not shown who it is. All it can become is a session. It belongs to one
// goroutine.
type stream struct {
	srv *Server
	c   *conn
	r   *xmlstream.Reader

	id     string // of the stream, unguessable: the digest is over it
	domain string // what the header asked for
	opened bool   // our header is written
}

func newStream(s *Server, c *conn) *stream {
	c.SetDeadline(time.Now().Add(s.cfg.HandshakeTimeout))
	if s.isClosing() {
		c.kick()
	}
	return &stream{srv: s, c: c, r: xmlstream.NewReader(c, maxBefore), id: rand.Text(), domain: s.cfg.Domain}
}

// handshake takes the stream through its header and handshake (XEP-0114 §3). An error is a *streamError, or what
// the connection said.
func (st *stream) handshake() (*session, error) {
	header, err := st.r.Header()
	if err != nil {
		return nil, err
	}
	if err := st.check(header); err != nil {
		return nil, err
	}
	if err := st.open(nil); err != nil {
		return nil, err
	}
	e, err := st.r.Next()
	if err != nil {
		return nil, err
	}
	if !e.Is("handshake", nsAccept) {
		return nil, &streamError{why: endEarly}
	}
	app, ok := st.authenticate(bytes.TrimSpace(e.Text()))
	if !ok {
		if _, may := st.srv.cfg.Attempts.Allow(st.c.addr()); !may { // a digest is quick to check, so a good one is always heard
			return nil, &streamError{why: endAttempts}
		}
		why := &streamError{why: endHandshake, cause: errors.New("for " + st.domain)}
		st.srv.cfg.Attempts.Refused(st.c.addr(), &identity.Error{Kind: identity.Invalid, Cause: why})
		return nil, why
	}
	return st.link(app)
}

// check looks at the peer's header.
func (st *stream) check(h xmlstream.Element) error {
	switch {
	case string(h.Space()) != nsStream: // RFC 6120 §4.8.1
		return &streamError{why: endNamespace}
	case string(h.Local()) != "stream":
		return &streamError{why: endNoHeader}
	case string(st.r.Default()) != nsAccept: // XEP-0114 §3, RFC 6120 §4.8.2
		return &streamError{why: endNamespace}
	}
	to := h.Attr("to")
	a, ok := parseAddress(to)
	if !ok || a.local != nil || a.resource != nil { // RFC 6120 §4.9.3.7
		return &streamError{why: endNoTo}
	}
	st.domain = string(a.domain)
	return nil
}

// open writes our header, with rest behind it.
func (st *stream) open(rest []byte) error {
	st.opened = true
	_, err := st.c.Write(append(appendHeader(nil, st.domain, st.id), rest...))
	return err
}

// authenticate checks the digest, against the secret and the one before it where that is still good. A domain that
// nobody has, and a disabled app, take the same way as a wrong secret.
func (st *stream) authenticate(digest []byte) (app presence.App, ok bool) {
	app, known := st.srv.cfg.Hub.AppByComponent(st.domain)
	known = known && !app.Disabled
	same := 0
	for _, secret := range app.Secrets(st.srv.cfg.Now()) {
		if !known || secret == "" {
			secret = st.srv.decoy
		}
		sum := sha1.Sum([]byte(st.id + secret)) // XEP-0114 §3
		var want [2 * sha1.Size]byte
		hex.Encode(want[:], sum[:])
		same |= subtle.ConstantTimeCompare(want[:], bytes.ToLower(digest))
	}
	return app, same == 1 && known
}

// link makes the session. The hub decides what becomes of an older connection, the roll what becomes of its session.
func (st *stream) link(app presence.App) (*session, error) {
	l, err := st.srv.roll.join(app)
	if err != nil {
		return nil, linkError(err)
	}
	now := l.App()
	if now.Secret != app.Secret || now.OldSecret != app.OldSecret || now.Component != app.Component { // changed in between
		l.Close()
		return nil, &streamError{why: endHandshake}
	}
	l.SetAddress(st.c.RemoteAddr().String())
	sess := newSession(st, l, st.srv.roll.displace(l))
	st.srv.roll.enter(sess)
	if _, err := st.c.Write([]byte("<handshake/>")); err != nil {
		st.srv.roll.leave(sess)
		l.Close()
		return nil, err
	}
	return sess, nil
}

// fail ends the stream with what its error has to say (RFC 6120 §4.9.1.2: our header first) and returns why.
func (st *stream) fail(err error) end {
	why := endOf(err)
	if why == endGone {
		return why
	}
	st.c.SetWriteDeadline(time.Now().Add(finalWrite))
	last := appendEnd(nil, why, nil)
	if st.opened {
		_, err = st.c.Write(last)
	} else {
		err = st.open(last)
	}
	if err != nil {
		return endGone
	}
	return why
}

// endOf is why a stream whose reading gave this error has ended.
func endOf(err error) end {
	var se *streamError
	var xe *xmlstream.Error
	switch {
	case errors.Is(err, io.EOF): // the closing tag; a connection that breaks is io.ErrUnexpectedEOF
		return endClosed
	case errors.Is(err, errKicked):
		return endShutdown
	case errors.As(err, &se):
		return se.why
	case errors.As(err, &xe):
		return endXML + end(xe.Kind)
	}
	return endGone
}
