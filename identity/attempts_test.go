package identity_test

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"presenced/identity"
)

var attacker = netip.MustParseAddr("192.0.2.1")

func TestAttempts(t *testing.T) {
	c := &clock{now: noon}
	a := identity.NewAttempts(c.Now)
	for i := range 50 {
		if wait, ok := a.Allow(attacker); !ok {
			t.Fatalf("refused after %d failures, for %v", i, wait)
		}
		a.Failed(attacker)
	}
	wait, ok := a.Allow(attacker)
	if ok || wait != time.Second {
		t.Fatalf("allowed %v, wait %v", ok, wait)
	}
	for range 1000 { // those that were under way
		a.Failed(attacker)
	}
	if _, ok := a.Allow(netip.MustParseAddr("192.0.2.2")); !ok {
		t.Error("the neighbour is refused")
	}
	c.pass(wait)
	if wait, ok := a.Allow(attacker); !ok {
		t.Errorf("refused after waiting, for %v", wait)
	}
	a.Failed(attacker)
	if _, ok := a.Allow(attacker); ok {
		t.Error("more than one in a second")
	}
	c.pass(50 * time.Second)
	for range 50 {
		a.Failed(attacker)
	}
	if _, ok := a.Allow(attacker); ok {
		t.Error("more than the burst")
	}
}

// One customer has a /64, and an IPv4 address is the same however it is written.
func TestAttemptsCountNetworks(t *testing.T) {
	for one, other := range map[string]string{
		"2001:db8:1:2::1": "2001:db8:1:2:ffff::9",
		"192.0.2.1":       "::ffff:192.0.2.1",
		"fe80::1%eth0":    "fe80::2%eth1",
	} {
		a := identity.NewAttempts(func() time.Time { return noon })
		for range 50 {
			a.Failed(netip.MustParseAddr(one))
		}
		if _, ok := a.Allow(netip.MustParseAddr(other)); ok {
			t.Errorf("%s is not counted as %s", other, one)
		}
		for _, apart := range []string{"2001:db8:1:3::1", "192.0.2.0", "::c000:201"} {
			if _, ok := a.Allow(netip.MustParseAddr(apart)); !ok {
				t.Errorf("%s is counted as %s", apart, one)
			}
		}
	}
}

func TestNoAttemptsNoLimit(t *testing.T) {
	var a *identity.Attempts
	for range 100 {
		a.Failed(attacker)
	}
	if _, ok := a.Allow(attacker); !ok {
		t.Error("limited")
	}
	if v, wait := a.Ask(attacker, identity.Dev{}); v != (identity.Dev{}) || wait != 0 {
		t.Errorf("%v is asked, and %v waited", v, wait)
	}
}

// Above the limit only what is quick to check is asked, if there is such a thing.
func TestAttemptsAskTheQuickOnly(t *testing.T) {
	c := &clock{now: noon}
	a := identity.NewAttempts(c.Now)
	ask := func() (wait time.Duration, err error) {
		v, wait := a.Ask(attacker, identity.Chain())
		_, err = v.Verify(t.Context(), "ann@example.org", "dev")
		return wait, err
	}
	a.Quick = identity.Dev{}
	if wait, err := ask(); err == nil || wait != 0 {
		t.Errorf("before: %v, wait %v", err, wait)
	}
	for range 50 {
		a.Failed(attacker)
	}
	if wait, err := ask(); err != nil || wait != time.Second {
		t.Errorf("quick: %v, wait %v", err, wait)
	}
	a.Quick = nil
	if wait, err := ask(); err == nil || wait != time.Second {
		t.Errorf("without: %v, wait %v", err, wait)
	}
}

// What is remembered is bounded, and who fails most is forgotten last.
func TestAttemptsAreBounded(t *testing.T) {
	c := &clock{now: noon}
	a := identity.NewAttempts(c.Now)
	for range 50 {
		a.Failed(attacker)
	}
	var b [16]byte
	b[0] = 0x20
	for i := range 100000 {
		binary.BigEndian.PutUint32(b[4:], uint32(i))
		a.Failed(netip.AddrFrom16(b))
	}
	if n := identity.RememberedAttempts(a); n > 1<<16 {
		t.Errorf("%d addresses are remembered", n)
	}
	if _, ok := a.Allow(attacker); ok {
		t.Error("others' failures made us forget the worst")
	}
}

// In any time no more than 50 and one a second fail, and who waits as told may try.
func TestAttemptsAgreeWithCounting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := &clock{now: noon}
		a := identity.NewAttempts(c.Now)
		var failed []time.Time
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			if rapid.IntRange(0, 9).Draw(t, "patience") == 0 { // mostly it does not wait at all
				c.pass(time.Duration(rapid.Int64Range(0, int64(3*time.Second)).Draw(t, "pause")))
			}
			wait, ok := a.Allow(attacker)
			if !ok {
				if wait <= 0 {
					t.Fatalf("refused for %v", wait)
				}
				c.pass(wait)
				if _, ok := a.Allow(attacker); !ok {
					t.Fatal("refused after waiting as told")
				}
			}
			a.Failed(attacker)
			failed = append(failed, c.Now())
		}
		for i := range failed {
			for j := i; j < len(failed); j++ {
				if n, most := j-i+1, 50+int(failed[j].Sub(failed[i])/time.Second); n > most {
					t.Fatalf("%d in %v", n, failed[j].Sub(failed[i]))
				}
			}
		}
	})
}

func TestAttemptsAreLogged(t *testing.T) {
	c := &clock{now: noon}
	var log strings.Builder
	a := identity.NewAttempts(c.Now)
	a.Log = slog.New(slog.NewTextHandler(&log, nil))
	shelf := verifier(&shelf{})
	for range 30 {
		_, err := identity.Chain(shelf).Verify(context.Background(), "", "hunter2")
		a.Refused(netip.MustParseAddr("::ffff:192.0.2.1"), err)
	}
	a.Refused(attacker, nil)
	a.Refused(attacker, &identity.Error{Kind: identity.Unavailable})
	text := log.String()
	if n := strings.Count(text, "address=192.0.2.1"); n != 20 {
		t.Errorf("%d lines", n)
	}
	if strings.Contains(text, "hunter") || !strings.Contains(text, "invalid assertion") {
		t.Error(text)
	}
	c.pass(time.Second)
	a.Refused(attacker, &identity.Error{Kind: identity.Unavailable, Named: true})
	if n := strings.Count(log.String(), "\n"); n != 21 {
		t.Errorf("%d lines a second later", n)
	}
}
