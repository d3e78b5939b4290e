package ccs

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/xmppsrv/xmlstream"
)

// stream is a connection that is nobody's yet. All it can become is a session. It belongs to one goroutine.
type stream struct {
	srv *Server
	c   *conn
	r   *xmlstream.Reader

	to     string // what the client calls this server; it comes back, since clients compare
	opened bool   // our header is written
	tries  int
}

func newStream(s *Server, c *conn) *stream {
	c.SetDeadline(time.Now().Add(s.cfg.HandshakeTimeout))
	return &stream{srv: s, c: c, r: xmlstream.NewReader(c, maxBefore), to: s.cfg.Domain}
}

// login takes the stream through SASL and bind. Without a session it says why not, and has told the peer.
func (st *stream) login() (*session, end, error) {
	sess, err := st.become()
	if err == nil {
		return sess, notEnded, nil
	}
	return nil, st.fail(err), err
}

func (st *stream) become() (*session, error) {
	if err := st.open(mechanisms); err != nil {
		return nil, err
	}
	app, key, domain, err := st.sasl()
	if err != nil {
		return nil, err
	}
	st.r.Restart() // RFC 6120 §6.4.6
	if err := st.open(features); err != nil {
		return nil, err
	}
	return st.bind(app, key, domain)
}

// open reads the client's header and answers it. Whatever it calls us is right.
func (st *stream) open(rest string) error {
	h, err := st.r.Header()
	if err != nil {
		return err
	}
	switch {
	case string(h.Space()) != nsStream: // RFC 6120 §4.8.1
		return &streamError{why: endNamespace}
	case string(h.Local()) != "stream":
		return &streamError{why: endNoHeader}
	case string(st.r.Default()) != nsClient: // RFC 6120 §4.8.2
		return &streamError{why: endNamespace}
	}
	if to := h.Attr("to"); len(to) > 0 {
		st.to = string(to)
	}
	return st.header(rest)
}

func (st *stream) header(rest string) error {
	st.opened = true
	return st.write(appendHeader(nil, st.to, rand.Text(), rest))
}

func (st *stream) write(b []byte) error {
	_, err := st.c.Write(b)
	return err
}

// fail ends the stream with what its error has to say (RFC 6120 §4.9.1.2: our header first) and returns why.
func (st *stream) fail(err error) end {
	why := endOf(err)
	if why == endGone {
		return why
	}
	st.c.SetWriteDeadline(time.Now().Add(finalWrite))
	if !st.opened && st.header("") != nil {
		return endGone
	}
	if st.write(appendEnd(nil, why)) != nil {
		return endGone
	}
	return why
}

// sasl lets the client show who it is (RFC 6120 §6): by PLAIN, which TLS protects. domain is what stood behind the
// sender's id, empty if nothing did. Keys are quick to check, so a good one is heard whatever failed at its address.
func (st *stream) sasl() (app presence.App, key, domain string, err error) {
	for {
		e, err := st.r.Next()
		if err != nil {
			return app, "", "", err
		}
		if !e.Is("auth", nsSASL) {
			return app, "", "", &streamError{why: endEarly}
		}
		message, cond, err := st.initial(e)
		if err != nil {
			return app, "", "", err
		}
		if cond == "" {
			if app, key, domain, cond = st.srv.authenticate(message); cond == "" {
				return app, key, domain, st.write([]byte(success))
			}
			if _, may := st.srv.cfg.Attempts.Allow(st.c.addr()); !may {
				return app, "", "", errors.Join(st.write(appendFailure(nil, "temporary-auth-failure")), &streamError{why: endAttempts}) // RFC 6120 §6.5.11
			}
			st.srv.cfg.Attempts.Refused(st.c.addr(), errBadKey)
		}
		if err := st.write(appendFailure(nil, cond)); err != nil {
			return app, "", "", err
		}
		if st.tries++; st.tries == maxTries {
			return app, "", "", &streamError{why: endTries, cause: errors.New(cond)}
		}
	}
}

// errBadKey is how a login that failed is logged: nothing of what was shown, which may be a key in the wrong place.
var errBadKey = &identity.Error{Kind: identity.Invalid, Cause: errors.New("the key of an app")}

// initial is what an <auth/> says, or with cond why it is refused. An empty one is asked for more (RFC 6120 §6.4.2).
func (st *stream) initial(e xmlstream.Element) (message []byte, cond string, err error) {
	if string(e.Attr("mechanism")) != "PLAIN" {
		return nil, "invalid-mechanism", nil // RFC 6120 §6.5.7
	}
	text := bytes.TrimSpace(e.Text())
	if len(text) == 0 {
		if err = st.write([]byte(challenge)); err != nil {
			return nil, "", err
		}
		if e, err = st.r.Next(); err != nil {
			return nil, "", err
		}
		switch {
		case e.Is("abort", nsSASL):
			return nil, "aborted", nil
		case !e.Is("response", nsSASL):
			return nil, "", &streamError{why: endEarly}
		}
		text = bytes.TrimSpace(e.Text())
	}
	if string(text) == "=" {
		text = nil
	}
	message, decodeErr := base64.StdEncoding.AppendDecode(nil, text)
	if decodeErr != nil {
		return nil, "incorrect-encoding", nil // RFC 6120 §6.5.5
	}
	return message, "", nil
}

// authenticate checks the message of PLAIN (RFC 4616 §2): whom to act as, which is ignored, the sender's id with
// anything behind an @, and the server key. A sender that does not exist, one that is disabled and one without a key
// take the same way as a wrong key.
func (s *Server) authenticate(message []byte) (app presence.App, key, domain, cond string) {
	parts := strings.Split(string(message), "\x00")
	if len(parts) != 3 {
		return app, "", "", "malformed-request" // RFC 6120 §6.5.8
	}
	id, domain, _ := strings.Cut(parts[1], "@")
	key = parts[2]
	app, known := s.cfg.Hub.App(id)
	if !known {
		app.APIKey = s.decoy
	}
	if !s.isKey(&app, key) || !known {
		return presence.App{}, "", "", "not-authorized" // RFC 6120 §6.5.10
	}
	return app, key, domain, ""
}

// isKey reports whether the key is the app's, or the one before it for as long as that is good. It takes the same time
// whatever is wrong.
func (s *Server) isKey(app *presence.App, key string) bool {
	got, is := sha256.Sum256([]byte(key)), 0
	for _, k := range app.APIKeys(s.cfg.Now()) {
		want := sha256.Sum256([]byte(k))
		is |= subtle.ConstantTimeCompare(want[:], got[:])
	}
	return is == 1 && key != "" && !app.Disabled
}

// bind waits for the client to bind a resource, and makes the session (RFC 6120 §7).
func (st *stream) bind(app presence.App, key, domain string) (*session, error) {
	for {
		e, err := st.r.Next()
		if err != nil {
			return nil, err
		}
		id, to := e.Attr("id"), e.Attr("to")
		request, is := e.Child("bind", nsBind)
		switch typ := string(e.Attr("type")); {
		case e.Is("presence", nsClient):
		case !e.Is("iq", nsClient):
			return nil, &streamError{why: endEarly}
		case typ == "set" && is:
			return st.enter(app, key, domain, bytes.Clone(id), request)
		case typ == "get" || typ == "set":
			if err := st.write(appendIQError(nil, id, to, st.to, "cancel", "not-allowed")); err != nil {
				return nil, err
			}
		}
	}
}

// enter makes the session. There may be too many.
func (st *stream) enter(app presence.App, key, domain string, id []byte, request xmlstream.Element) (*session, error) {
	resource := ""
	if e, ok := request.Child("resource", nsBind); ok {
		resource = string(bytes.TrimSpace(e.Text()))
	}
	sess := newSession(st, app.ID+"@"+st.domain(domain)+"/"+resourceFor(resource))
	sess.out.add(appendBound(nil, id, sess.jid)) // the writer begins when there is a session
	if err := st.srv.join(sess, app, key); err != nil {
		why := joinError(err)
		if why.why == endTooMany { // RFC 6120 §7.6.2.1
			_ = st.write(appendIQError(nil, id, nil, "", "wait", "resource-constraint"))
		}
		return nil, why
	}
	st.c.waiting = false
	st.c.SetDeadline(time.Time{})
	if st.srv.leaving() {
		sess.drain()
	}
	return sess, nil
}

// domain is that of the client's address: what it logged in with, else what it calls us, else what we are.
func (st *stream) domain(given string) string {
	for _, d := range []string{given, st.to} {
		if isDomain(d) {
			return d
		}
	}
	return st.srv.cfg.Domain
}

func isDomain(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-':
		default:
			return false
		}
	}
	return s != "" && len(s) <= 253
}

// resourceFor makes a resource nobody has: what was asked for stands before it, if it can.
func resourceFor(asked string) string {
	var b [8]byte
	rand.Read(b[:])
	unique := hex.EncodeToString(b[:])
	if asked == "" || len(asked) > maxResource || strings.ContainsFunc(asked, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return unique
	}
	return asked + "#" + unique
}
