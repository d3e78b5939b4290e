package adhoc

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"maps"
	"time"
)

// session is a command on its way.
type session struct {
	id, from, bare string   // immutable
	cmd            *Command // immutable

	// Owned by the step that has made it busy.
	at     int      // which form it is at
	form   *Form    // as it was shown
	filled []Values // of the forms before, and of those behind after a prev

	busy    bool      // guarded by Engine.mu: a step is being carried out
	expires time.Time // guarded by Engine.mu
}

// values is all that was filled in on the way to the form that the session is at.
func (s *session) values() Values {
	all := Values{}
	for _, v := range s.filled[:s.at] {
		maps.Copy(all, v)
	}
	return all
}

// A session id is 128 random bits and a mark of the engine that they were given to this address for this command.
// So an id that is over can be told from one that never was, and nothing has to be remembered for that.

const markBytes = 15 // 24 letters

var letters = base32.StdEncoding.WithPadding(base32.NoPadding)

func (e *Engine) newID(r *Request) string {
	id := rand.Text()
	return id + e.mark(id, r)
}

// given reports whether the request's session id was once given to who asks, for this command.
func (e *Engine) given(r *Request) bool {
	n := len(r.Session) - letters.EncodedLen(markBytes)
	return n > 0 && hmac.Equal([]byte(r.Session[n:]), []byte(e.mark(r.Session[:n], r)))
}

func (e *Engine) mark(id string, r *Request) string {
	h := hmac.New(sha256.New, e.key[:])
	for _, s := range []string{id, r.From, r.Node} {
		h.Write([]byte(s))
		h.Write([]byte{0}) // which none of them has in it
	}
	return letters.EncodeToString(h.Sum(nil)[:markBytes])
}

// take makes the session that a request names busy with it.
func (e *Engine) take(r *Request) (*session, error) {
	if !e.given(r) {
		return nil, refuse(BadSession, "")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.sessions[r.Session]
	switch {
	case s == nil:
		return nil, refuse(Expired, "")
	case s.busy:
		return nil, refuse(Busy, "")
	case !e.cfg.Now().Before(s.expires):
		delete(e.sessions, s.id)
		return nil, refuse(Expired, "")
	}
	s.busy = true
	return s, nil
}

// put ends a step: the session waits for the next one, or is over.
func (e *Engine) put(s *session, goesOn bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	s.busy = false
	s.expires = e.cfg.Now().Add(e.cfg.SessionTime)
	if !goesOn {
		delete(e.sessions, s.id)
	}
}

// add makes room for a new session and keeps it. Busy: all others of this administrator are in a step.
func (e *Engine) add(s *session) error {
	now := e.cfg.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	var oldest *session
	for id, o := range e.sessions {
		switch {
		case !o.busy && !now.Before(o.expires):
			delete(e.sessions, id)
		case o.bare == s.bare:
			n++
			if !o.busy && (oldest == nil || o.expires.Before(oldest.expires)) {
				oldest = o
			}
		}
	}
	if n >= e.cfg.Sessions {
		if oldest == nil {
			return refuse(Busy, "")
		}
		delete(e.sessions, oldest.id)
	}
	s.busy = false
	s.expires = now.Add(e.cfg.SessionTime)
	e.sessions[s.id] = s
	return nil
}
