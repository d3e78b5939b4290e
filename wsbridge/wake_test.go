package wsbridge_test

import (
	"encoding/json"
	"strings"
	"testing"

	"presenced/presence"
	"presenced/wsbridge"
	"presenced/wsbridge/push"
)

// subscription is what a browser would send; the keys are those of RFC 8291 §5.
const subscription = `{"endpoint":"https://push.example.org/x","expirationTime":null,"keys":{"p256dh":` +
	`"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}}`

func hello(push string) string {
	return `{"type":"hello","email":"` + ann + `","assertion":"dev","device":"phone","push":` + push + `}`
}

// withPush has the fixture's bridge register subscriptions.
func withPush(t *testing.T, pusher **push.Pusher) func(*wsbridge.Config) {
	return func(c *wsbridge.Config) {
		p, err := push.New(push.Config{Hub: c.Hub, Store: c.Verifier.(storeOf).store(), Now: c.Now, Origin: "https://presence.example.org"})
		if err != nil {
			t.Fatal(err)
		}
		c.Push, *pusher = p, p
	}
}

type storeOf interface{ store() push.Store }
