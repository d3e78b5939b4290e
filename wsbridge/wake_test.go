package wsbridge_test

import (
	"strings"
	"testing"

	"presenced/identity"
	"presenced/presence"
	"presenced/wsbridge"
	"presenced/wsbridge/push"
)

// subscription is what a browser would send; the keys are those of RFC 8291 §5.
const subscription = `{"endpoint":"https://push.example.org/x","expirationTime":null,"keys":{"p256dh":` +
	`"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}}`

// late is a Push that the fixture's own hub and store make; none until then.
type late struct{ *push.Pusher }

// newWakeable starts a bridge that keeps where devices can be woken.
func newWakeable(t *testing.T) *fixture {
	t.Helper()
	l := new(late)
	f := newFixture(t, func(c *wsbridge.Config) { c.Push = l })
	var err error
	l.Pusher, err = push.New(push.Config{Hub: f.hub, Store: f.store.Store, Now: f.clock.Now, Origin: "https://presence.example.org"})
	f.must(err)
	t.Cleanup(l.Close) // before the hub
	return f
}

func wakeHello(push string) string {
	return `{"type":"hello","email":"` + ann + `","assertion":"dev","device":"phone"` + push + `}`
}

// kept is the endpoint where ann's phone can be woken.
func (f *fixture) kept() string {
	f.t.Helper()
	s, _, err := f.store.Push(ann, "phone")
	f.must(err)
	return s.Endpoint
}

// A hello says where the device can be woken, keeps it by silence, and takes it back with null; the answer has the key
// to subscribe with.
func TestHelloWithPush(t *testing.T) {
	f := newWakeable(t)
	d := f.dial()
	for _, step := range []struct{ push, kept string }{
		{"", ""},
		{`,"push":` + subscription, "https://push.example.org/x"},
		{"", "https://push.example.org/x"},
		{`,"push":null`, ""},
		{`,"push":` + strings.Replace(subscription, "/x", "/y", 1), "https://push.example.org/y"},
	} {
		d.say(wakeHello(step.push))
		if got := d.hear(); !strings.Contains(got, `"result":"OK"`) || strings.Count(got, `"push_key":"B`) != 1 {
			t.Fatalf("%s: %s", step.push, got)
		}
		if got := f.kept(); got != step.kept {
			t.Errorf("after %q %q is kept", step.push, got)
		}
	}
	d.say(wakeHello(`,"push":` + strings.Replace(subscription, "push.example.org", "127.0.0.1", 1)))
	d.expect(`{"result":"KO","errno":13,"error":"bad value","detail":"push","type":"hello"}`)
	if f.kept() != "https://push.example.org/y" {
		t.Error("a refused one has changed what is kept")
	}
	first := f.dial()
	first.say(wakeHello(`,"push":{"endpoint":"https://push.example.org/"}`))
	first.expect(`{"result":"KO","errno":13,"error":"bad value","detail":"push","type":"hello"}`)
	first.ends(4530)
	d.say("{}")
	d.expect("{}") // and it was not replaced
}

// What is registered is known by the credential that the socket stands on, also when it is resumed or renewed, so that
// it ends with a token that is good for any device. What others registered does not.
func TestPushEndsWithItsToken(t *testing.T) {
	f := newWakeable(t)
	f.must(f.store.PutTokens([]presence.Token{{Hash: identity.HashSecret("one"), Email: ann}, {Hash: identity.HashSecret("two"), Email: ann},
		{Hash: identity.HashSecret("api"), Email: ann, Scopes: []string{"devices"}}}))
	hello := func(token, more string) string {
		return `{"type":"hello","email":"` + ann + `","assertion":"` + token + `","device":"phone"` + more + `}`
	}
	revoke := func(token, left string) {
		t.Helper()
		_, _, err := f.store.RevokeToken(identity.HashSecret(token))
		f.must(err)
		if got := f.kept(); got != left {
			t.Errorf("without %s, %q is kept, want %q", token, got, left)
		}
	}
	d := f.dial()
	d.say(hello("one", `,"push":`+subscription))
	d.hear()
	revoke("api", "https://push.example.org/x")
	d.say(hello("two", "")) // the socket's own now
	d.hear()
	d.say(hello("two", `,"push":`+subscription))
	d.hear()
	revoke("one", "https://push.example.org/x")
	revoke("two", "")
}

// Where devices cannot be woken, what they say of it is ignored.
func TestHelloWithoutPush(t *testing.T) {
	f := newFixture(t)
	d := f.dial()
	d.say(wakeHello(`,"push":` + subscription))
	if got := d.hear(); !strings.Contains(got, `"result":"OK"`) || strings.Contains(got, "push_key") {
		t.Error(got)
	}
	if f.kept() != "" {
		t.Error("it is kept")
	}
}
