package web

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"presenced/identity"
	"presenced/presence"
)

// Sessions keeps who is signed in. It stores only hashes of what is in the cookies: who reads the disk cannot take
// them. It forgets expired ones.
type Sessions interface {
	scs.Store
	// BindSession says whose session it is, so that EndSessions finds it.
	BindSession(token, email string) error
	// EndSessions ends all of the user's sessions, also those that a request has just read.
	EndSessions(email string) error
	// LookupToken tells whether the token that a session was made with is still good.
	identity.TokenLookup
	User(email string) (presence.User, bool, error)
	PutUser(presence.User) error
}

// What a session holds.
const (
	sessionEmail = "email"
	sessionToken = "token" // hex of the hash of the token that was shown; "": another verifier vouched
)

// newSessions sets up the cookie: not for scripts, not for other sites' requests, and by https only for this very
// host (RFC 6265bis §4.1.3.2).
func (s *Site) newSessions() *scs.SessionManager {
	m := &scs.SessionManager{ // not by its New, which starts a goroutine that nobody can end for certain
		Store: s.cfg.Store, Codec: scs.GobCodec{}, Lifetime: s.cfg.SessionLife, ErrorFunc: s.fail,
		Cookie: scs.SessionCookie{Name: "presenced", Path: "/", HttpOnly: true, SameSite: http.SameSiteLaxMode, Persist: true},
	}
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
	if hash, ok := s.sessionHash(ctx); ok {
		owner, _, expires, known, err := s.cfg.Store.LookupToken(hash)
		if err != nil {
			return "", storageError(err)
		}
		if !known || owner != email || !expires.IsZero() && !s.cfg.Now().Before(expires) {
			return "", nil
		}
	}
	switch err := s.checkEnabled(email); {
	case errors.Is(err, errDisabled):
		return "", nil
	case err != nil:
		return "", err
	}
	return email, nil
}

// holds looks again at the session that a request came with: whether it is there still, and hers.
func (s *Site) holds(r *http.Request, email string) bool {
	if _, found, err := s.sessions.Store.Find(s.sessions.Token(r.Context())); err != nil || !found {
		return false
	}
	now, err := s.user(r)
	return err == nil && now == email
}

// checkEnabled refuses who is disabled, with errDisabled.
func (s *Site) checkEnabled(email string) error {
	u, _, err := s.cfg.Store.User(email)
	switch {
	case err != nil:
		return storageError(err)
	case u.Disabled:
		return errDisabled
	}
	return nil
}

// makeUser makes who comes for the first time known, so that apps can ask her.
func (s *Site) makeUser(email string) error {
	_, known, err := s.cfg.Store.User(email)
	if err == nil && !known {
		err = s.cfg.Store.PutUser(presence.User{Email: email, Created: s.cfg.Now().UTC()})
	}
	return storageError(err)
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
	if id.Device != "" {
		return errDeviceToken
	}
	if err := s.checkEnabled(id.Email); err != nil {
		return err
	}
	if err := s.makeUser(id.Email); err != nil {
		return err
	}
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
	token, _, err := s.sessions.Commit(ctx)
	if err != nil {
		return err
	}
	return s.cfg.Store.BindSession(token, id.Email)
}

// sessionHash is the hash of the token that the session was made with; false: another verifier vouched.
func (s *Site) sessionHash(ctx context.Context) (hash [32]byte, ok bool) {
	name := s.sessions.GetString(ctx, sessionToken)
	if name == "" {
		return hash, false
	}
	raw, _ := hex.DecodeString(name) // of our own making
	copy(hash[:], raw)
	return hash, true
}

// tokenLimit is when the token of the session expires; zero: never, or there is none.
func (s *Site) tokenLimit(r *http.Request) (time.Time, error) {
	hash, ok := s.sessionHash(r.Context())
	if !ok {
		return time.Time{}, nil
	}
	_, _, expires, _, err := s.cfg.Store.LookupToken(hash)
	return expires, storageError(err)
}
