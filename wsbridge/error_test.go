package wsbridge

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"presenced/identity"
	"presenced/presence"
	"presenced/presence/errno"
)

// The close codes are the contract's, number for number.
func TestCloses(t *testing.T) {
	want := map[errno.Number][2]int{ // on an identified socket, on the first frame
		10: {0, 4530}, 11: {0, 4530}, 12: {0, 4530}, 13: {0, 4530}, 14: {1009, 1009},
		30: {4530, 4530}, 31: {0, 4534}, 32: {0, 4534}, 33: {0, 4534}, 34: {0, 4534}, 35: {0, 4534}, 36: {0, 0},
		40: {0, 0}, 41: {4029, 4029}, 42: {0, 0}, 50: {4500, 4500}, 51: {4001, 4001}, 60: {0, 0}, 61: {0, 0}, 90: {0, 0}, 91: {0, 0},
	}
	got := map[errno.Number][2]int{}
	for _, n := range errno.All() {
		e := &Error{Errno: n}
		got[n] = [2]int{e.closes(false), e.closes(true)}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Errors of others become errnos in one place.
func TestMapping(t *testing.T) {
	for kind, want := range map[identity.Kind]errno.Number{
		identity.Unrecognised: 34, identity.Invalid: 34, identity.Expired: 31, identity.Audience: 32,
		identity.Issuer: 33, identity.Email: 35, identity.Unavailable: 91, 77: 90,
	} {
		if e := identityError(&identity.Error{Kind: kind}); e.Errno != want {
			t.Errorf("%v: errno %d, want %d", kind, e.Errno, want)
		}
	}
	for err, want := range map[error]errno.Number{
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
