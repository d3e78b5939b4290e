package presence

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// User is somebody who has or had a grant, a device or a token.
type User struct {
	Email   string    `json:"email"`
	Created time.Time `json:"created,omitzero"`
	// Disabled: she cannot sign in, anywhere; see Hub.SetDisabled.
	Disabled bool `json:"disabled,omitempty"`
	// Invisible hides her from every app, whatever her grants say, until InvisibleUntil (zero: for good).
	Invisible      bool      `json:"invisible,omitempty"`
	InvisibleUntil time.Time `json:"invisible_until,omitzero"`
}

// Hidden reports whether she is invisible to every app at now.
func (u *User) Hidden(now time.Time) bool {
	return u.Invisible && (u.InvisibleUntil.IsZero() || now.Before(u.InvisibleUntil))
}

// Token lets a user's devices in, or a program use the API for her. The secret itself is never stored.
type Token struct {
	Hash   [32]byte `json:"-"` // SHA-256 of the secret; the key
	Email  string   `json:"email"`
	Device string   `json:"device,omitempty"` // only this device; "": any
	Name   string   `json:"name,omitempty"`   // what she calls it
	// Scopes nil makes it a device token; else it is good for the API within them, and never for a device.
	Scopes  []string  `json:"scopes,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

const (
	maxName   = 128 // bytes, of a token's name
	maxScopes = 32  // of a token
	maxScope  = 64  // bytes
)

// Expired reports whether the token's time is over.
func (t *Token) Expired(now time.Time) bool { return !t.Expires.IsZero() && !now.Before(t.Expires) }

// ForAPI reports whether it is a token for the API.
func (t *Token) ForAPI() bool { return len(t.Scopes) > 0 }

// May reports whether the token is good for the API within the scope.
func (t *Token) May(scope string) bool { return slices.Contains(t.Scopes, scope) }

// WebSession is one of her sessions on the web pages.
type WebSession struct {
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires"`
}

// Check tells why the token cannot be stored: its name and its scopes are bounded, and one for the API has scopes and
// no device.
func (t *Token) Check() error {
	switch {
	case len(t.Name) > maxName || !utf8.ValidString(t.Name):
		return fmt.Errorf("%w: a token's name is at most %d bytes of text", ErrBadValue, maxName)
	case t.Scopes != nil && len(t.Scopes) == 0:
		return fmt.Errorf("%w: a token for the API needs a scope", ErrBadValue)
	case len(t.Scopes) > maxScopes:
		return fmt.Errorf("%w: at most %d scopes", ErrBadValue, maxScopes)
	case t.ForAPI() && t.Device != "":
		return fmt.Errorf("%w: a token for the API is none for a device", ErrBadValue)
	}
	for _, s := range t.Scopes {
		if s == "" || len(s) > maxScope {
			return fmt.Errorf("%w: a scope is 1 to %d bytes", ErrBadValue, maxScope)
		}
	}
	return nil
}
