package errno

import (
	"fmt"
	"slices"
	"testing"
)

// The table is the contract's, number for number.
func TestTable(t *testing.T) {
	want := []string{
		"10 malformed JSON", "11 unknown frame", "12 missing field", "13 bad value", "14 frame too large",
		"30 not identified", "31 assertion expired", "32 wrong audience", "33 issuer not trusted", "34 Invalid assertion",
		"35 e-mail not confirmed by the assertion", "36 another identity on this socket",
		"40 slow down", "41 too many connections", "42 payload too large",
		"50 replaced by a newer connection", "51 going away",
		"60 no such app for this user", "61 too much is waiting for this app",
		"90 internal error", "91 storage not available",
	}
	var got []string
	for _, n := range All() {
		got = append(got, fmt.Sprintf("%d %s", uint8(n), n))
		if n.Ours() != (n >= 90) {
			t.Errorf("%d: ours is %v", uint8(n), n.Ours())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the table is\n%q\nwant\n%q", got, want)
	}
	if Number(0).String() != "internal error" {
		t.Errorf("a number that is not there is called %q", Number(0))
	}
}
