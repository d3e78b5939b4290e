package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"

	"presenced/identity"
)

// Sessions keeps who is signed in. Names are opaque to it and no secrets: they are hashes of what is in the cookie.
// It bounds how many sessions one user has, and forgets expired ones.
type Sessions interface {
	Find(name string) (data []byte, found bool, err error)
	Commit(name string, data []byte, expiry time.Time) error
	Delete(name string) error
	// BindSession says whose session it is, so that EndSessions finds it.
	BindSession(name, email string) error
	EndSessions(email string) error
	// LookupToken tells whether the token that a session was made with is still good.
	identity.TokenLookup
}

// What a session holds.
const (
	sessionEmail = "email"
	sessionToken = "token" // hex of the hash of the token that was shown; "": another verifier vouched
)

// hashedSessions keeps in the store only hashes of the cookies: who reads the data file cannot take them.
type hashedSessions struct{ Sessions }

func sessionName(cookie string) string {
	sum := sha256.Sum256([]byte(cookie))
	return hex.EncodeToString(sum[:])
}

func (h hashedSessions) Find(c string) ([]byte, bool, error) { return h.Sessions.Find(sessionName(c)) }
func (h hashedSessions) Delete(c string) error               { return h.Sessions.Delete(sessionName(c)) }
func (h hashedSessions) Commit(c string, b []byte, expiry time.Time) error {
	return h.Sessions.Commit(sessionName(c), b, expiry)
}

// newSessions sets up the cookie: not for scripts, not for other sites' requests, and by https only for this very
// host (RFC 6265bis §4.1.3.2).
func (s *Site) newSessions() *scs.SessionManager {
	m := scs.New()
	m.Store.(*memstore.MemStore).StopCleanup() // the goroutine of the one we replace
	m.Store = hashedSessions{s.cfg.Store}
	m.Lifetime = s.cfg.SessionLife
	m.ErrorFunc = s.fail
	m.Cookie.Name = "presenced"
	m.Cookie.HttpOnly, m.Cookie.SameSite, m.Cookie.Path = true, http.SameSiteLaxMode, "/"
	if s.secure() {
		m.Cookie.Name, m.Cookie.Secure = "__Host-presenced", true
	}
	return m
}

// user is who is signed in; "": nobody. A session that was made with a token ends with it.
func (s *Site) user(r *http.Request) (email string, err error) {
	ctx := r.Context()
	if ctx.Value(withSession{}) == nil { // refused before it was looked up
		return "", nil
	}
	email = s.sessions.GetString(ctx, sessionEmail)
	if email == "" {
		return "", nil
	}
	if name := s.sessions.GetString(ctx, sessionToken); name != "" {
		good, err := s.tokenHolds(name, email)
		if err != nil || !good {
			return "", err
		}
	}
	return email, nil
}

// withSession is the mark of a request whose session was looked up.
type withSession struct{}

func markSession(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), withSession{}, true)))
	})
}

// signIn starts a session for who was confirmed. Whatever cookie the browser came with is worth nothing from here on.
func (s *Site) signIn(ctx context.Context, id identity.Identity) error {
	if err := s.sessions.RenewToken(ctx); err != nil {
		return err
	}
	if err := s.sessions.Clear(ctx); err != nil {
		return err
	}
	s.sessions.Put(ctx, sessionEmail, id.Email)
	if id.By == "token" {
		s.sessions.Put(ctx, sessionToken, id.Credential)
	}
	name, _, err := s.sessions.Commit(ctx)
	if err != nil {
		return err
	}
	return s.cfg.Store.BindSession(sessionName(name), id.Email)
}

func (s *Site) tokenHolds(name, email string) (bool, error) {
	var hash [32]byte
	if n, err := hex.Decode(hash[:], []byte(name)); err != nil || n != len(hash) {
		return false, nil
	}
	owner, _, expires, ok, err := s.cfg.Store.LookupToken(hash)
	if err != nil {
		return false, &identity.Error{Kind: identity.Unavailable, Cause: err}
	}
	return ok && owner == email && (expires.IsZero() || s.cfg.Now().Before(expires)), nil
}
