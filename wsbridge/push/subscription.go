package push

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"presenced/presence"
)

const authBytes = 16 // RFC 8291 §3.2

// ErrSubscription is why a subscription is refused, in words for who wrote the device.
var ErrSubscription = errors.New("push: not a subscription that can be used")

func refused(why string) error { return fmt.Errorf("%w: %s", ErrSubscription, why) }

// parse reads a PushSubscription as a browser writes it (Push API, toJSON), and checks all that can be checked without
// asking anybody.
func (p *Pusher) parse(raw []byte) (presence.PushSubscription, error) {
	var in struct {
		Endpoint string
		Keys     struct{ P256DH, Auth string }
	}
	if json.Unmarshal(raw, &in) != nil {
		return presence.PushSubscription{}, refused("its form")
	}
	u, err := p.out.Check(in.Endpoint)
	if err != nil {
		return presence.PushSubscription{}, refused("endpoint: " + err.Error())
	}
	key, ok := decode(in.Keys.P256DH)
	if _, err := ecdh.P256().NewPublicKey(key); !ok || err != nil { // RFC 8291 §3.1: the point is checked
		return presence.PushSubscription{}, refused("p256dh")
	}
	auth, ok := decode(in.Keys.Auth)
	if !ok || len(auth) != authBytes {
		return presence.PushSubscription{}, refused("auth")
	}
	return presence.PushSubscription{Endpoint: plainURL(u), P256DH: encode(key), Auth: encode(auth)}, nil
}

// plainURL writes an endpoint so that its beginning is its origin (RFC 6454 §6.1), which is the audience of what we sign.
func plainURL(u *url.URL) string {
	plain := *u
	plain.Host, plain.Fragment = strings.TrimSuffix(strings.ToLower(u.Host), ":443"), ""
	return plain.String()
}

// decode reads base64 in either alphabet, padded or not: devices write it in all ways.
func decode(s string) ([]byte, bool) {
	s = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(s, "="))
	b, err := base64.RawURLEncoding.DecodeString(s)
	return b, err == nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
