package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"presenced/identity"
	"presenced/identity/oidctest"
)

// withIssuer is a house with a local issuer that signs in whom it is told to.
func withIssuer(t *testing.T, change ...func(*Config)) (*house, *oidctest.Issuer) {
	t.Helper()
	issuer := oidctest.Start(oidctest.Options{ClientSecret: "s3cret"})
	t.Cleanup(issuer.Close)
	issuer.SignIn(ann)
	o := identity.NewOIDC(identity.OIDCConfig{Name: "work", Issuer: issuer.URL, ClientID: oidctest.DefaultClient, ClientSecret: "s3cret"})
	h := newHouse(t, append(change, func(c *Config) {
		c.OIDC = []*identity.OIDC{o}
		c.Verifier = identity.Chain(o, c.Verifier)
	})...)
	return h, issuer
}

// follow takes the browser on to where an answer sends it, on any site.
func (b *browser) follow(a *answer) *answer {
	b.h.t.Helper()
	to := a.want(http.StatusSeeOther).Header.Get("Location")
	if path, ours := strings.CutPrefix(to, b.h.url); ours || strings.HasPrefix(to, "/") {
		return b.get(path)
	}
	away := *b
	elsewhere := *b.h
	elsewhere.url = ""
	away.h = &elsewhere
	return away.get(to)
}

func TestSignInAtAnIssuer(t *testing.T) {
	h, _ := withIssuer(t)
	h.addApp("chat")
	b := h.browser()
	page := b.get("/?next=/grant/chat").want(http.StatusOK).has("Sign in with work")
	path := "/login/oidc/work?next=%2Fgrant%2Fchat"
	page.has(`href="` + path + `"`)
	away := b.get(path)
	to, err := url.Parse(away.want(http.StatusSeeOther).Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	if q := to.Query(); q.Get("code_challenge_method") != "S256" || q.Get("state") == "" || q.Get("nonce") == "" ||
		q.Get("redirect_uri") != h.site.cfg.Origin+"/login/oidc/work/callback" {
		t.Errorf("sent to %s", to)
	}
	back := b.follow(away)
	end := b.follow(back).wantTo("/grant/chat")
	if cookieOf(end) == nil {
		t.Error("no session")
	}
	b.wantSignedIn(ann)

	// The same answer is worth nothing a second time, in this browser or in another.
	again := back.Header.Get("Location")[len(h.url):]
	for _, other := range []*browser{b, h.browser()} {
		if a := other.get(again).want(http.StatusBadRequest).has("not started here"); cookieOf(a) != nil {
			t.Error("a session for an old answer")
		}
	}
	h.browser().get("/login/oidc/elsewhere").want(http.StatusNotFound)
	h.browser().get("/login/oidc/elsewhere/callback?code=x&state=y").want(http.StatusNotFound)
}

// TestIssuerAnswersThatDoNotCount: another's flow, a wrong state, a refusal, an unproven e-mail, too late.
func TestIssuerAnswersThatDoNotCount(t *testing.T) {
	h, issuer := withIssuer(t)
	mine, hers := h.browser(), h.browser()
	mineBack := mine.follow(mine.get("/login/oidc/work"))
	hersBack := hers.follow(hers.get("/login/oidc/work"))
	// A page of an attacker leads her browser to his answer: she must not be signed in as him (login CSRF).
	hers.get(mineBack.Header.Get("Location")[len(h.url):]).want(http.StatusBadRequest)
	hers.wantSignedIn("")
	hers.get(hersBack.Header.Get("Location")[len(h.url):]).want(http.StatusBadRequest) // one answer for each flow
	mine.get("/login/oidc/work/callback").want(http.StatusBadRequest)

	for name, break_ := range map[string]func(b *browser, location string) string{
		"state": func(_ *browser, l string) string { return strings.Replace(l, "state=", "state=x", 1) },
		"code":  func(_ *browser, l string) string { return strings.Replace(l, "code=", "code=x", 1) },
		"late":  func(_ *browser, l string) string { h.now.pass(flowLife); return l },
		"cookie": func(b *browser, l string) string {
			b.header.Set("Cookie", "presenced-oidc=eyJuYW1lIjoid29yayJ9")
			b.client.Jar = nil
			return l
		},
		"refused": func(_ *browser, l string) string {
			u, _ := url.Parse(l)
			return u.Path + "?error=access_denied&error_description=%3Cscript%3Ebuy&state=" + u.Query().Get("state")
		},
		"unproven": func(_ *browser, l string) string { return l },
	} {
		t.Run(name, func(t *testing.T) {
			issuer.Unproven(name == "unproven")
			b := h.browser()
			back := b.follow(b.get("/login/oidc/work")).Header.Get("Location")[len(h.url):]
			a := b.get(break_(b, back))
			if a.StatusCode != http.StatusBadRequest && a.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s", a.Status)
			}
			a.has(`role="alert"`, "Sign in with work").hasNot("buy")
			if cookieOf(a) != nil {
				t.Error("a session")
			}
		})
	}
}

// TestIssuerThatDoesNotAnswer is nobody's fault here, and the page says that it may pass.
func TestIssuerThatDoesNotAnswer(t *testing.T) {
	h, issuer := withIssuer(t)
	issuer.Down(true)
	a := h.browser().get("/login/oidc/work").want(http.StatusServiceUnavailable).has("may work again")
	if a.Header.Get("Retry-After") == "" {
		t.Error("it does not say when")
	}
}

// TestNextAfterIssuer: no way out of the site.
func TestNextAfterIssuer(t *testing.T) {
	h, _ := withIssuer(t)
	for _, next := range outside() {
		b := h.browser()
		b.follow(b.follow(b.get("/login/oidc/work?next=" + url.QueryEscape(next)))).wantTo("/")
	}
}

// TestFlowCookie: with https for this host only, and never for scripts.
func TestFlowCookie(t *testing.T) {
	h, _ := withIssuer(t, func(c *Config) { c.Origin, c.Dev = "https://presence.example.org", false })
	a := h.browser().get("/login/oidc/work").want(http.StatusSeeOther)
	c := a.Cookies()[0]
	if c.Name != "__Host-presenced-oidc" || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.MaxAge != 600 {
		t.Errorf("%+v", c)
	}
}

// TestDeviceSignInWithIDToken: a phone brings an ID token once.
func TestDeviceSignInWithIDToken(t *testing.T) {
	h, issuer := withIssuer(t)
	h.browser().postJSON("/login/device", `{"assertion":"`+issuer.Token(nil)+`","device":"phone"}`).want(http.StatusOK).
		has(`"email":"ann@example.org"`, `"device":"phone"`, `"token":`, `"expires":`)
}
