package web

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"presenced/identity"
	"presenced/presence"
)

// whoIs is who the site thinks is at this browser; "": nobody.
func (b *browser) whoIs() string {
	b.h.t.Helper()
	page := b.get("/").want(http.StatusOK).body
	_, after, ok := strings.Cut(page, `<strong class="email">`)
	if !ok {
		return ""
	}
	email, _, _ := strings.Cut(after, "<")
	return email
}

func (b *browser) wantSignedIn(email string) {
	b.h.t.Helper()
	if got := b.whoIs(); got != email {
		b.h.t.Errorf("signed in as %q, want %q", got, email)
	}
}

func TestSignInAndOut(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Dev = false })
	token := h.tokenFor(ann, "")
	b := h.browser()
	b.wantSignedIn("")
	b.post("/login", "email", " Ann@Example.org ", "assertion", token).wantTo(home)
	b.wantSignedIn(ann)
	b.post("/logout").wantTo("/")
	b.wantSignedIn("")
	b.post("/login", "assertion", token, "next", "/getApps").wantTo("/getApps") // the token names her
	b.wantSignedIn(ann)
	b.post("/logout").wantTo("/")
	b.post("/logout").wantTo("/") // again does no harm
}

// TestSignInForPrograms: a form or JSON, and an answer in JSON where that is wanted.
func TestSignInForPrograms(t *testing.T) {
	h := newHouse(t)
	for name, send := range map[string]func(b *browser) *answer{
		"json": func(b *browser) *answer { return b.postJSON("/login", `{"email":"ann@example.org","assertion":"dev"}`) },
		"form": func(b *browser) *answer {
			b.header.Set("Accept", "application/json")
			return b.post("/login", "email", ann, "assertion", "dev")
		},
	} {
		b := h.browser()
		a := send(b).want(http.StatusOK)
		if strings.TrimSpace(a.body) != `{"email":"ann@example.org"}` || cookieOf(a) == nil {
			t.Errorf("%s: %s %v", name, a.body, a.Header)
		}
		b.header.Del("Accept")
		b.wantSignedIn(ann)
	}
	a := h.browser().postJSON("/login", `{"email":"ann@example.org","assertion":"no"}`).want(http.StatusUnauthorized)
	var p problem
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || p.Errno != 34 || p.Status != 401 || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("refused with %s %s", a.Header.Get("Content-Type"), a.body)
	}
	h.browser().postJSON("/login", `{"email":`).want(http.StatusBadRequest).has(`"errno":10`)
	h.browser().postJSON("/login", `{"email":"ann@example.org"}`).want(http.StatusBadRequest).has(`"errno":12`)
	h.browser().postJSON("/logout", `{}`).want(http.StatusOK).has(`{"result":"OK"}`)
}

// TestRefusedSignIn shows the form again, with what was typed but for the secret, and why.
func TestRefusedSignIn(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Dev = false })
	token := h.tokenFor(ann, "")
	phone := h.tokenFor(ann, "phone")
	for name, tt := range map[string]struct{ email, assertion, says string }{
		"unknown":      {ann, "not-a-token", "not a token this gateway knows"},
		"another's":    {"bob@example.org", token, "does not belong to this e-mail"},
		"no e-mail":    {"ann", token, "not an e-mail address"},
		"nothing":      {ann, "", "token is needed"},
		"for a device": {ann, phone, "for one device only"},
	} {
		t.Run(name, func(t *testing.T) {
			b := h.browser()
			a := b.post("/login", "email", tt.email, "assertion", tt.assertion, "next", "/grant/chat")
			if a.StatusCode != http.StatusUnauthorized && a.StatusCode != http.StatusBadRequest {
				t.Errorf("%s", a.Status)
			}
			a.has(tt.says, `role="alert"`, `value="`+tt.email+`"`, `name="next" value="/grant/chat"`)
			if tt.assertion != "" {
				a.hasNot(tt.assertion)
			}
			if cookieOf(a) != nil {
				t.Error("a cookie for nobody")
			}
			b.wantSignedIn("")
		})
	}
}

// TestCookie: not for scripts, not for other sites, and with https for this host only.
func TestCookie(t *testing.T) {
	for origin, name := range map[string]string{"http://127.0.0.1:8080": "presenced", "https://presence.example.org": "__Host-presenced"} {
		h := newHouse(t, func(c *Config) { c.Origin = origin })
		a := h.browser().post("/login", "email", ann, "assertion", "dev")
		c := cookieOf(a)
		if c == nil || c.Name != name || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" ||
			c.Secure != strings.HasPrefix(origin, "https") || len(c.Value) < 32 || c.MaxAge <= 0 {
			t.Errorf("%s: %+v", origin, c)
		}
		if got := a.Header.Get("Strict-Transport-Security"); (got != "") != c.Secure {
			t.Errorf("%s: Strict-Transport-Security %q", origin, got)
		}
	}
}

// TestSessionFixation: a cookie that somebody planted is worth nothing after signing in, and signing in as another
// keeps nothing.
func TestSessionFixation(t *testing.T) {
	h := newHouse(t)
	b := h.browser()
	b.header.Set("Cookie", "presenced=planted")
	a := b.post("/login", "email", ann, "assertion", "dev").want(http.StatusSeeOther)
	if c := cookieOf(a); c == nil || c.Value == "planted" {
		t.Fatalf("the planted cookie is kept: %v", c)
	}
	b.wantSignedIn("")

	b = h.browser()
	first := cookieOf(b.post("/login", "email", ann, "assertion", "dev")).Value
	second := cookieOf(b.post("/login", "email", "bob@example.org", "assertion", "dev")).Value
	if first == second {
		t.Error("one cookie for two people")
	}
	b.wantSignedIn("bob@example.org")
	old := h.browser()
	old.header.Set("Cookie", "presenced="+first)
	old.wantSignedIn("")
}

// TestOnlySigningInMakesSessions: strangers leave nothing behind.
func TestOnlySigningInMakesSessions(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.browser()
	for _, a := range []*answer{b.get("/"), b.get("/grant/chat"), b.get("/nothing"), b.post("/login", "email", ann, "assertion", "no"),
		b.post("/revoke/chat"), b.get("/getApps"), b.get("/static/style.css")} {
		if len(a.Cookies()) != 0 {
			t.Errorf("%s sets %v", a.Request.URL, a.Cookies())
		}
	}
}

// TestSignOutEverywhere ends her sessions in all browsers, and nobody else's; devices only where asked.
func TestSignOutEverywhere(t *testing.T) {
	for _, devices := range []bool{false, true} {
		h := newHouse(t)
		here, there, bob := h.signedIn(ann), h.signedIn(ann), h.signedIn("bob@example.org")
		secret := h.tokenFor(ann, "phone")
		credential := identity.CredentialOf(identity.HashSecret(secret))
		phone, err := h.hub.Attach(presence.Attach{Email: ann, Device: "phone", Credential: credential, Ready: presence.NewReady()})
		if err != nil {
			t.Fatal(err)
		}
		fields := []string{"everywhere", "yes"}
		if devices {
			fields = append(fields, "devices", "on")
		}
		here.post("/logout", fields...).wantTo("/")
		here.wantSignedIn("")
		there.wantSignedIn("")
		bob.wantSignedIn("bob@example.org")
		ended := phone.Ended() != presence.Alive
		tokens, err := h.store.TokensOf(ann)
		if err != nil || ended != devices || (len(tokens) == 0) != devices {
			t.Errorf("devices %v: phone ended %v, %d tokens, %v", devices, ended, len(tokens), err)
		}
		phone.Close()
	}
	h := newHouse(t)
	h.browser().post("/logout", "everywhere", "yes").want(http.StatusUnauthorized)
}

// TestSessionEndsWithItsToken: revoked or expired, what was opened with it is closed.
func TestSessionEndsWithItsToken(t *testing.T) {
	h := newHouse(t)
	token := h.tokenFor(ann, "")
	b := h.browser()
	b.post("/login", "assertion", token).wantTo(home)
	b.wantSignedIn(ann)
	if _, err := h.store.RevokeTokens(ann, ""); err != nil {
		t.Fatal(err)
	}
	b.wantSignedIn("")

	short := presence.Token{Hash: identity.HashSecret("short"), Email: ann, Created: h.now.Now(), Expires: h.now.Now().Add(time.Hour)}
	if err := h.store.PutTokens([]presence.Token{short}); err != nil {
		t.Fatal(err)
	}
	b.post("/login", "assertion", "short").wantTo(home)
	b.wantSignedIn(ann)
	h.now.pass(time.Hour)
	b.wantSignedIn("")
}

// TestSessionsEndWithTime.
func TestSessionsEndWithTime(t *testing.T) {
	h := newHouse(t)
	b := h.signedIn(ann)
	h.now.pass(sessionLife - time.Minute)
	b.wantSignedIn(ann)
	h.now.pass(2 * time.Minute)
	b.wantSignedIn("")
}

// TestDisabledUser: out at once, and not in again.
func TestDisabledUser(t *testing.T) {
	h := newHouse(t)
	h.tokenFor(ann, "")
	b := h.signedIn(ann)
	if err := h.hub.SetDisabled(ann, true, presence.ByAdmin); err != nil {
		t.Fatal(err)
	}
	b.wantSignedIn("")
	b.post("/login", "email", ann, "assertion", "dev").want(http.StatusForbidden).has("switched off")
	b.postJSON("/login/device", `{"email":"ann@example.org","assertion":"dev","device":"d"}`).want(http.StatusForbidden)
}

// TestFailedAttemptsAreLimited for each address, and proxies are believed only where they are trusted.
func TestFailedAttemptsAreLimited(t *testing.T) {
	var now clock
	h := newHouse(t, func(c *Config) {
		now.now = c.Now()
		c.Attempts = identity.NewAttempts(now.Now)
		c.Attempts.Quick = identity.NewToken(c.Store, now.Now)
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	b := h.browser()
	b.header.Set("X-Forwarded-For", "198.51.100.7")
	tries := 0
	for b.post("/login", "email", ann, "assertion", "guess").StatusCode == http.StatusUnauthorized {
		if tries++; tries > 1000 {
			t.Fatal("nobody counts")
		}
	}
	a := b.post("/login", "email", ann, "assertion", "dev").want(http.StatusTooManyRequests).has("Too many tries")
	if a.Header.Get("Retry-After") == "" {
		t.Error("it does not say when to come back")
	}
	b.postJSON("/login/device", `{"email":"ann@example.org","assertion":"dev"}`).want(http.StatusTooManyRequests).has(`"errno":40`, `"retry_after"`)
	b.post("/login", "email", ann, "assertion", h.tokenFor(ann, "")).wantTo(home) // who shares the address, and shows a token, need not wait
	b.postJSON("/login/device", `{"email":"ann@example.org","assertion":"guess"}`).want(http.StatusTooManyRequests)
	b.header.Set("X-Forwarded-For", "198.51.100.7, 203.0.113.9") // what the client says itself counts for nothing
	b.post("/login", "email", ann, "assertion", "dev").wantTo(home)
	b.header.Set("X-Forwarded-For", "198.51.100.7")
	now.pass(time.Minute)
	b.post("/login", "email", ann, "assertion", "dev").wantTo(home)
}

// TestDeviceSignIn: a page, or who has an assertion, gets a token for one device.
func TestDeviceSignIn(t *testing.T) {
	h := newHouse(t)
	verify := identity.NewToken(h.store, h.now.Now)
	read := func(a *answer) (d deviceToken) {
		t.Helper()
		if err := json.Unmarshal([]byte(a.want(http.StatusOK).body), &d); err != nil {
			t.Fatal(err)
		}
		id, err := verify.Verify(t.Context(), d.Email, d.Token)
		if err != nil || id.Email != ann || id.Device != d.Device || !id.Expires.Equal(d.Expires) || d.Expires.IsZero() {
			t.Errorf("the token %+v is good for %+v, %v", d, id, err)
		}
		return d
	}
	phone := read(h.browser().postJSON("/login/device", `{"email":"ann@example.org","assertion":"dev","device":"phone"}`))
	if phone.Device != "phone" || !phone.Expires.Equal(h.now.Now().Add(deviceLife)) {
		t.Errorf("phone: %+v", phone)
	}
	page := h.signedIn(ann)
	if d := read(page.postJSON("/login/device", `{"device":"page"}`)); d.Device != "page" {
		t.Errorf("page: %+v", d)
	}
	if d := read(page.postJSON("/login/device", `{}`)); d.Device != "default" {
		t.Errorf("no device: %+v", d)
	}
	// One's own token is renewed, another device's is not made of it, and no session either.
	read(h.browser().postJSON("/login/device", `{"assertion":"`+phone.Token+`","device":"phone"}`))
	h.browser().postJSON("/login/device", `{"assertion":"`+phone.Token+`","device":"tablet"}`).want(http.StatusUnauthorized).has("one device only")

	h.browser().postJSON("/login/device", `{"device":"page"}`).want(http.StatusUnauthorized).has(`"errno":30`)
	page.postJSON("/login/device", `{"email":"bob@example.org","device":"page"}`).want(http.StatusUnauthorized).has(`"errno":35`)
	page.postJSON("/login/device", `{"device":"a b"}`).want(http.StatusBadRequest).has(`"errno":13`)
	page.postJSON("/login/device", `{"assertion":"no","device":"x"}`).want(http.StatusUnauthorized).has(`"errno":34`)
}

// TestTokensDoNotProlongThemselves: what is made of a token ends no later.
func TestTokensDoNotProlongThemselves(t *testing.T) {
	h := newHouse(t)
	end := h.now.Now().Add(time.Hour).UTC()
	short := presence.Token{Hash: identity.HashSecret("short"), Email: ann, Created: h.now.Now(), Expires: end}
	if err := h.store.PutTokens([]presence.Token{short}); err != nil {
		t.Fatal(err)
	}
	b := h.browser()
	b.post("/login", "assertion", "short").wantTo(home)
	for _, body := range []string{`{"assertion":"short","device":"a"}`, `{"device":"b"}`} {
		var d deviceToken
		if err := json.Unmarshal([]byte(b.postJSON("/login/device", body).want(http.StatusOK).body), &d); err != nil || !d.Expires.Equal(end) {
			t.Errorf("%s: ends %v, want %v; %v", body, d.Expires, end, err)
		}
	}
}

// TestDeviceTokensAreBounded: the oldest of a device go, those of others and of administrators stay.
func TestDeviceTokensAreBounded(t *testing.T) {
	h := newHouse(t)
	h.tokenFor(ann, "page")
	b := h.signedIn(ann)
	b.postJSON("/login/device", `{"device":"other"}`).want(http.StatusOK)
	var last deviceToken
	for range 3 * tokensEachDevice {
		if err := json.Unmarshal([]byte(b.postJSON("/login/device", `{"device":"page"}`).want(http.StatusOK).body), &last); err != nil {
			t.Fatal(err)
		}
	}
	tokens, err := h.store.TokensOf(ann)
	count := map[string]int{}
	for _, tk := range tokens {
		count[tk.Device+" "+tk.Name]++
	}
	if err != nil || count["page "] != 1 || count["other "+deviceTokenName] != 1 ||
		count["page "+deviceTokenName] < 1 || count["page "+deviceTokenName] > tokensEachDevice+1 {
		t.Errorf("%v %v", count, err)
	}
	if _, _, _, ok, _ := h.store.LookupToken(identity.HashSecret(last.Token)); !ok {
		t.Error("the newest is gone")
	}
	for i := range 200 { // many devices: at some point it is enough
		a := b.postJSON("/login/device", `{"device":"d`+strings.Repeat("x", i%60)+string(rune('a'+i/60))+`"}`)
		if a.StatusCode == http.StatusTooManyRequests {
			a.has(`"errno":61`)
			return
		}
		a.want(http.StatusOK)
	}
	t.Error("there is no end to tokens")
}
