package presence

import (
	"errors"
	"fmt"
	"strings"
)

// Status is what an app sees of a device. The order is "how reachable": the best device's status is the
// user's.
type Status uint8

const (
	Offline     Status = iota // not connected, hidden, or said so
	Unavailable               // connected, but the person is away
	Online                    // connected and there
)

// ParseStatus reads the three words of the wire: "online", "unavailable", "offline".
func ParseStatus(s string) (Status, error) {
	switch s {
	case "online":
		return Online, nil
	case "unavailable":
		return Unavailable, nil
	case "offline":
		return Offline, nil
	}
	return Offline, fmt.Errorf("status %q is none of online, unavailable, offline", s)
}

func (s Status) String() string {
	switch s {
	case Online:
		return "online"
	case Unavailable:
		return "unavailable"
	}
	return "offline"
}

// MarshalText writes one of the three words.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseStatus.
func (s *Status) UnmarshalText(b []byte) (err error) {
	*s, err = ParseStatus(string(b))
	return err
}

// DefaultDevice is the id of a device that names none.
const DefaultDevice = "default"

const (
	maxDeviceID = 64  // characters
	maxEmail    = 254 // bytes, RFC 5321 §4.5.3.1.3
)

// CheckDevice tells why id is not a device id: 1-64 characters of A-Z a-z 0-9 . _ -
func CheckDevice(id string) error {
	if id == "" || len(id) > maxDeviceID {
		return errors.New("device must be 1 to 64 characters")
	}
	for i := 0; i < len(id); i++ {
		c := id[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
		default:
			return fmt.Errorf("device may have only A-Z a-z 0-9 . _ - , not %q", c)
		}
	}
	return nil
}

// NormalEmail returns the key form of an e-mail (lower case), or why it is none.
func NormalEmail(s string) (string, error) {
	at := strings.LastIndexByte(s, '@')
	if at < 1 || at == len(s)-1 || len(s) > maxEmail {
		return "", errors.New("not an e-mail address")
	}
	for _, r := range s {
		if r <= ' ' || r == 0x7f || r == 0xfffd {
			return "", errors.New("not an e-mail address")
		}
	}
	return strings.ToLower(s), nil
}
