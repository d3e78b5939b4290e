package push

import (
	"presenced/identity"
	"presenced/presence"
)

// ForParsing is a Pusher that can do nothing but Parse.
func ForParsing() *Pusher {
	return &Pusher{out: identity.NewOutbound(identity.OutboundConfig{})}
}

// Parse is what becomes of a subscription.
func Parse(p *Pusher, raw []byte) (presence.PushSubscription, error) { return p.parse(raw) }
