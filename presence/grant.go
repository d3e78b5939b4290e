package presence

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
)

// AddressKind is the form of the address under which an app knows a user.
type AddressKind string

const (
	ByPUID  AddressKind = "puid"  // PUID@DOMAIN: consent was given without the app knowing her
	ByEmail AddressKind = "email" // escaped e-mail@DOMAIN: the app asked with the e-mail it already knew
)

// Grant is a user's consent that an app may see her. It is keyed by (Email, App).
type Grant struct {
	Email   string      `json:"email"`
	App     string      `json:"appid"`
	PUID    string      `json:"puid"`    // random, new after revoke and grant again
	Address AddressKind `json:"address"` // how the app knows her
	Windows []Window    `json:"windows"` // none: always
	TZ      string      `json:"tz,omitempty"`
	Until   *time.Time  `json:"until"` // the grant ends here; nil: never
	Notify  bool        `json:"notify"`
	Idle    bool        `json:"idle"`
	Paused  bool        `json:"paused"`
	// PausedUntil is when a pause ends by itself; nil: when it is resumed.
	PausedUntil *time.Time `json:"paused_until,omitempty"`
	// What is left out of presence: NoStatus, all of it; NoDevices, which devices there are: the app sees one, as
	// reachable as the best of them.
	NoStatus  bool      `json:"no_status,omitempty"`
	NoDevices bool      `json:"no_devices,omitempty"`
	Created   time.Time `json:"created,omitzero"`
}

const (
	maxWindows = 32
	maxPUID    = 64
)

// Check tells why the grant cannot be stored.
func (g *Grant) Check() error {
	var errs []error
	if e, err := NormalEmail(g.Email); err != nil || e != g.Email {
		errs = append(errs, fmt.Errorf("email %q is not an e-mail address in lower case", g.Email))
	}
	if err := CheckAppID(g.App); err != nil {
		errs = append(errs, err)
	}
	if CheckDevice(g.PUID) != nil || len(g.PUID) > maxPUID {
		errs = append(errs, fmt.Errorf("puid %q must be 1 to %d characters of A-Z a-z 0-9 . _ -", g.PUID, maxPUID))
	}
	if g.Address != ByPUID && g.Address != ByEmail {
		errs = append(errs, fmt.Errorf("address %q is neither puid nor email", g.Address))
	}
	if len(g.Windows) > maxWindows {
		errs = append(errs, fmt.Errorf("at most %d windows", maxWindows))
	}
	for _, w := range g.Windows {
		if err := w.Check(); err != nil {
			errs = append(errs, err)
		}
	}
	if _, err := loadZone(g.TZ); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Ended reports whether the grant's until has come.
func (g *Grant) Ended(now time.Time) bool { return g.Until != nil && !now.Before(*g.Until) }

// Shown reports whether presence is visible to the app at now as far as the grant goes: not left out, not ended, not
// paused, inside a window. Whether its user is invisible to all is another question: see [Hub.Sight].
func (g *Grant) Shown(now time.Time) bool {
	shown, _ := g.sight(now, 0, loadZone)
	return shown
}

// NextChange returns the first moment after now at which Shown changes by itself; zero: never.
func (g *Grant) NextChange(now time.Time) time.Time {
	_, next := g.sight(now, 0, loadZone)
	return next
}

// sight is Shown and NextChange for a user who is invisible until veil.
func (g *Grant) sight(now time.Time, veil moment, zone func(string) (*time.Location, error)) (shown bool, change time.Time) {
	if g.NoStatus {
		return false, time.Time{}
	}
	hs, at := g.hours(compile(g.Windows, g.TZ, zone)), momentOf(now)
	held := max(g.pause(), veil)
	if held <= at {
		open, next := hs.atLocked(at)
		return open, next.time()
	}
	if held == maxMoment {
		return false, time.Time{}
	}
	open, next := hs.atLocked(held)
	if open {
		next = held
	}
	return false, next.time()
}

// pause is until when the grant is paused; 0: it is not, maxMoment: until it is resumed.
func (g *Grant) pause() moment {
	switch {
	case !g.Paused:
		return 0
	case g.PausedUntil == nil:
		return maxMoment
	}
	return momentOf(*g.PausedUntil)
}

// Settle takes a pause off the grant that has ended at now.
func (g *Grant) Settle(now time.Time) {
	if !g.Paused || g.PausedUntil != nil && !now.Before(*g.PausedUntil) {
		g.Paused, g.PausedUntil = false, nil
	}
}

// leftOut is how an audit tells what a grant does not give.
func (g *Grant) leftOut() string {
	var out []string
	for _, part := range []struct {
		name string
		out  bool
	}{{"status", g.NoStatus}, {"devices", g.NoDevices}, {"notifications", !g.Notify}} {
		if part.out {
			out = append(out, part.name)
		}
	}
	if len(out) == 0 {
		return ""
	}
	return "without " + strings.Join(out, ", ")
}

// NewPUID makes an opaque id of 128 random bits in lower-case base 32, 26 characters.
func NewPUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return lowerBase32.EncodeToString(b[:])
}

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
