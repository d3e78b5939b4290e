package wsbridge

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"presenced/identity"
	"presenced/presence"
)

// The table is the contract's, number for number.
func TestCodes(t *testing.T) {
	want := []Code{
		{10, "malformed JSON", 0, 4530}, {11, "unknown frame", 0, 4530}, {12, "missing field", 0, 4530},
		{13, "bad value", 0, 4530}, {14, "frame too large", 1009, 1009},
		{30, "not identified", 4530, 4530}, {31, "assertion expired", 0, 4534}, {32, "wrong audience", 0, 4534},
		{33, "issuer not trusted", 0, 4534}, {34, "Invalid assertion", 0, 4534},
		{35, "e-mail not confirmed by the assertion", 0, 4534}, {36, "another identity on this socket", 0, 0},
		{40, "slow down", 0, 0}, {41, "too many connections", 4029, 4029}, {42, "payload too large", 0, 0},
		{50, "replaced by a newer connection", 4500, 4500}, {51, "going away", 4001, 4001},
		{60, "no such app for this user", 0, 0}, {61, "too much is waiting for this app", 0, 0},
		{90, "internal error", 0, 0}, {91, "storage not available", 0, 0},
	}
	if diff := cmp.Diff(want, Codes()); diff != "" {
		t.Error(diff)
	}
}

// Errors of others become errnos in one place.
func TestMapping(t *testing.T) {
	for kind, want := range map[identity.Kind]Errno{
		identity.Unrecognised: 34, identity.Invalid: 34, identity.Expired: 31, identity.Audience: 32,
		identity.Issuer: 33, identity.Email: 35, identity.Unavailable: 91, 77: 90,
	} {
		if e := identityError(&identity.Error{Kind: kind}); e.Errno != want {
			t.Errorf("%v: errno %d, want %d", kind, e.Errno, want)
		}
	}
	for err, want := range map[error]Errno{
		presence.ErrSockets: 41, presence.ErrDraining: 51, presence.ErrStorage: 91, presence.ErrBadValue: 13,
		errors.New("?"): 90,
	} {
		e := coreError(fmt.Errorf("wrapped: %w", err))
		if e.Errno != want || !errors.Is(e, err) {
			t.Errorf("%v: %v, want %d", err, e, want)
		}
	}
	for end, want := range map[presence.End]string{
		presence.EndReplaced: "50 4500", presence.EndKicked: "50 4500", presence.EndExpired: "31 4534",
		presence.EndRemoved: "31 4534", presence.EndDraining: "51 4001",
	} {
		last := endError(end).last(nil, false)
		if got := fmt.Sprint(uint8(last.e.Errno), " ", last.code); got != want {
			t.Errorf("%v: %s, want %s", end, got, want)
		}
	}
}
