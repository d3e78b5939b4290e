package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Identity is what a verifier vouches for.
type Identity struct {
	Email      string    // confirmed, lower case
	Device     string    // the only device it is good for; "": any
	Credential string    // opaque name of the secret, by which a live session is found when it is revoked
	By         string    // who vouched: "token", "dev", or the issuer
	Expires    time.Time // zero: never
}

// Verifier confirms one kind of assertion. Verify is safe for concurrent use, may block on I/O until ctx
// ends, and fails only with an *[Error]. An empty email asks whom the assertion names.
type Verifier interface {
	Verify(ctx context.Context, email, assertion string) (Identity, error)
}

// Kind says why an assertion was refused.
type Kind uint8

const (
	// Unrecognised: not the kind of assertion this verifier knows. A chain asks the next one; to the peer
	// it is the same as Invalid.
	Unrecognised Kind = iota
	Invalid           // recognised, but not good
	Expired           // it was good once
	Audience          // made for somebody else
	Issuer            // vouched for by somebody we do not trust
	Email             // good, but it does not confirm this e-mail
	Unavailable       // nobody can tell now: storage or an issuer does not answer; try again
)

var kindTexts = [...]string{
	Unrecognised: "not recognised",
	Invalid:      "invalid assertion",
	Expired:      "assertion expired",
	Audience:     "wrong audience",
	Issuer:       "issuer not trusted",
	Email:        "e-mail not confirmed by the assertion",
	Unavailable:  "verification not available",
}

func (k Kind) String() string {
	if int(k) < len(kindTexts) {
		return kindTexts[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is the one error of this package. It never holds the assertion or a part of it.
type Error struct {
	Kind  Kind
	Cause error // for the log; may be nil
	Named bool  // Unavailable: it is a server that the assertion named which does not answer, none that we chose
}

func (e *Error) Error() string {
	if e.Cause == nil {
		return "identity: " + e.Kind.String()
	}
	return "identity: " + e.Kind.String() + ": " + e.Cause.Error()
}

func (e *Error) Unwrap() error { return e.Cause }

// KindOf returns the kind of err: Unavailable where err is no *Error, because then nobody decided.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unavailable
}

func refuse(k Kind) error { return &Error{Kind: k} }

// same reports whether the assertion's e-mail is the one that was claimed; claiming none accepts it.
func same(claimed, confirmed string) bool {
	return claimed == "" || strings.ToLower(claimed) == confirmed
}
