package wsbridge_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"presenced/identity"
	"presenced/identity/browseridtest"
	"presenced/identity/oidctest"
	"presenced/presence"
	"presenced/wsbridge"
)

const slowDown = `{"result":"KO","errno":40,"error":"slow down","retry_after":1}`

// An address from which too much was refused has to wait, with good assertions too, unless they are quick to check;
// others need not.
func TestTooManyFailedAttempts(t *testing.T) {
	var attempts *identity.Attempts
	f := newFixture(t, func(c *wsbridge.Config) {
		attempts = identity.NewAttempts(c.Now)
		c.Attempts = attempts
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	attempts.Quick = identity.NewToken(f.store, f.clock.Now)
	f.must(f.store.PutTokens([]presence.Token{{Hash: identity.HashSecret("good"), Email: ann, Device: "default"},
		{Hash: identity.HashSecret("tablet's"), Email: ann, Device: "tablet"}}))
	try := func(from, assertion string) *device {
		t.Helper()
		d := f.dial(header("X-Forwarded-For", from))
		d.say(`{"email":"ann@example.org","assertion":"` + assertion + `","status":"online"}`)
		return d
	}
	inside := try("2001:db8::1", "dev")
	inside.expect(okay)
	for range 49 {
		d := try("2001:db8::2", "guess")
		d.expect(`{"result":"KO","errno":34,"error":"Invalid assertion"}`)
		d.ends(4534)
	}
	// Who is in already may try on her socket too, and stays.
	inside.say(`{"email":"ann@example.org","assertion":"guess","status":"online"}`, `{"email":"ann@example.org","assertion":"guess","status":"online"}`)
	inside.expect(`{"result":"KO","errno":34,"error":"Invalid assertion"}`, slowDown)
	inside.say(`{"email":"ann@example.org","assertion":"dev","status":"unavailable"}`) // known already
	inside.expect(okay)

	for _, bad := range []string{"dev", "guess", "tablet's"} {
		d := try("2001:db8::3", bad)
		d.expect(slowDown)
		d.ends(4029)
	}
	try("2001:db8::3", "good").expect(okay)
	try("2001:db8:0:1::1", "dev").expect(okay)
	f.clock.add(time.Second)
	try("2001:db8::4", "dev").expect(okay)
}

// A verifier that cannot tell is nobody's failed attempt.
func TestTroubleIsNoFailedAttempt(t *testing.T) {
	m := &moody{Verifier: identity.Dev{}}
	m.broken.Store(true)
	f := newFixture(t, func(c *wsbridge.Config) { c.Verifier, c.Attempts, c.Rate = m, identity.NewAttempts(c.Now), 0 })
	d := f.dial()
	for range 60 {
		d.say(`{"email":"ann@example.org","assertion":"dev","status":"online"}`)
		d.expect(`{"result":"KO","errno":91,"error":"storage not available","retry_after":5}`)
	}
	m.broken.Store(false)
	d.say(`{"email":"ann@example.org","assertion":"dev","status":"online"}`)
	d.expect(okay)
}

// A session ends with the ID token or the assertion that it was opened with, and the app sees the device go.
func TestSessionEndsWithItsAssertion(t *testing.T) {
	world := browseridtest.Start("example.org")
	defer world.Close()
	idp, user := browseridtest.NewKey("RS256"), browseridtest.NewKey("DS128")
	world.Publish("example.org", browseridtest.Support(idp))
	var issuer *oidctest.Issuer
	f := newFixture(t, func(c *wsbridge.Config) {
		issuer = oidctest.Start(oidctest.Options{Now: c.Now})
		c.Verifier = identity.Chain(
			identity.Issuers(identity.NewOIDC(identity.OIDCConfig{Name: "corp", Issuer: issuer.URL, ClientID: oidctest.DefaultClient, Now: c.Now})),
			persona(t, world, c.Now))
	})
	defer issuer.Close()
	app := f.app("chat")
	assertions := map[string]func() string{
		"oidc": func() string {
			return issuer.Token(oidctest.Claims{"exp": f.clock.Now().Add(2 * time.Minute).Unix()})
		},
		"browserid": func() string {
			return browseridtest.Bundle{Issuer: "example.org", IdP: idp, User: user, Email: ann, Audience: origin, Now: f.clock.Now()}.String()
		},
	}
	for name, fresh := range assertions {
		first := fmt.Sprintf(`{"email":"ann@example.org","assertion":%q,"status":"online","device":%q}`, fresh(), name)
		d := f.dial()
		d.say(first)
		d.expect(okay)
		app.expect("online")
		f.pass(time.Minute)
		d.say(fmt.Sprintf(`{"email":"ann@example.org","assertion":%q,"status":"online"}`, fresh())) // a new one goes on for longer
		d.expect(okay)
		f.pass(90 * time.Second)
		d.say(`{"status":"unavailable"}`)
		d.expect(okay)
		app.expect("unavailable")
		f.pass(30*time.Second + time.Millisecond)
		d.expect(`{"result":"KO","errno":31,"error":"assertion expired"}`)
		d.ends(4534)
		f.pass(linger)
		app.expect("offline")
		f.pass(time.Minute)
		d = f.dial()
		d.say(first)
		d.expect(`{"result":"KO","errno":31,"error":"assertion expired"}`)
		d.ends(4534)
	}
	d := f.dial()
	d.say(fmt.Sprintf(`{"email":"bob@example.org","assertion":%q,"status":"online"}`, assertions["oidc"]()))
	d.expect(`{"result":"KO","errno":35,"error":"e-mail not confirmed by the assertion"}`)
	d.ends(4534)
}

const origin = "https://presence.example.org"

func persona(t *testing.T, w *browseridtest.World, now func() time.Time) identity.Verifier {
	t.Helper()
	proxy, err := url.Parse(w.Proxy)
	if err != nil {
		t.Fatal(err)
	}
	v, err := identity.NewBrowserID(identity.BrowserIDConfig{Audience: origin, Now: now,
		Fetch: identity.NewFetcher(identity.FetchConfig{Roots: w.Roots(), Proxy: http.ProxyURL(proxy)})})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The keys of apps are counted with the assertions of devices.
func TestTooManyWrongKeys(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.Attempts = identity.NewAttempts(c.Now) })
	f.addApp("chat", presence.Replace)
	for i := range 50 {
		d := f.dialApp([]string{"chat", "none"}[i%2])
		d.say(`{"action":"auth","token":"guess"}`)
		d.expect(`{"result":"KO","errno":34,"error":"Invalid assertion","action":"auth"}`)
		d.ends(4534)
	}
	for _, id := range []string{"chat", "none"} {
		d := f.dialApp(id)
		d.say(`{"action":"auth","token":"guess"}`)
		d.expect(`{"result":"KO","errno":40,"error":"slow down","action":"auth","retry_after":1}`)
		d.ends(4029)
	}
	d := f.dial()
	d.say(`{"email":"ann@example.org","assertion":"dev","status":"online"}`)
	d.expect(slowDown)
	f.joinApp("chat") // a good one is heard
}
