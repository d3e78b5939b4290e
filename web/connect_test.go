package web

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/web/account"
)

var shownToken = regexp.MustCompile(`<code id="token">([A-Za-z0-9_-]{20,})</code>`)

// made is the token that an answer shows, and what the disk keeps of it.
func (h *house) made(a *answer) (secret string, kept presence.Token) {
	h.t.Helper()
	m := shownToken.FindStringSubmatch(a.want(http.StatusOK).body)
	if m == nil {
		h.t.Fatalf("no token is shown:\n%s", a.body)
	}
	tokens, err := h.store.TokensOf(ann)
	i := slices.IndexFunc(tokens, func(t presence.Token) bool { return t.Hash == identity.HashSecret(m[1]) })
	if err != nil || i < 0 {
		h.t.Fatalf("the token that is shown is not kept: %v", err)
	}
	return m[1], tokens[i]
}

// TestConnectDevice: a token for one device, shown once, good for what the page says, and nothing without sense.
func TestConnectDevice(t *testing.T) {
	h := newHouse(t)
	b := h.signedIn(ann)
	b.get("/dashboard").has(`href="/dashboard/connect"`)
	page := b.post("/dashboard/connect", "for", "device", "device", "phone", "life", "720h")
	secret, kept := h.made(page)
	if kept.Device != "phone" || kept.ForAPI() || !kept.Expires.Equal(h.now.Now().Add(720*time.Hour)) {
		t.Errorf("%+v", kept)
	}
	page.has(`{&#34;type&#34;:&#34;hello&#34;,&#34;email&#34;:&#34;ann@example.org&#34;,&#34;device&#34;:&#34;phone&#34;,&#34;assertion&#34;:&#34;` + secret)
	b.get("/dashboard/connect").want(http.StatusOK).hasNot(secret, `id="token"`)
	b.get("/dashboard").has("phone").hasNot(secret)

	for _, device := range []string{"", "my phone", "é", strings.Repeat("x", 65), "<b>"} {
		b.post("/dashboard/connect", "for", "device", "device", device, "life", "720h").want(http.StatusUnprocessableEntity).
			has(`role="alert"`, connectHint).hasNot(`id="token"`, "<b>")
	}
	for _, wrong := range [][]string{{"for", "device", "device", "x", "life", "1h"}, {"for", "device", "device", "x"}, {"for", "cat", "device", "x", "life", forEver}} {
		b.post("/dashboard/connect", wrong...).want(http.StatusUnprocessableEntity).has(`role="alert"`)
	}
	if tokens, _ := h.store.TokensOf(ann); len(tokens) != 1 {
		t.Errorf("%d tokens", len(tokens))
	}
	h.browser().post("/dashboard/connect", "for", "device", "device", "x", "life", forEver).want(http.StatusUnauthorized)
}

// TestConnectProgram: what is ticked is what the token may do in the API.
func TestConnectProgram(t *testing.T) {
	h := newHouse(t)
	b := h.signedIn(ann)
	form := []string{"for", "program", "name", "calendar", "life", forEver, "scope", account.GrantsRead, "scope", account.DevicesRead, "scope", account.GrantsRead}
	page := b.post("/dashboard/connect", form...)
	secret, kept := h.made(page)
	page.has("until you take it back", "Authorization: Bearer "+secret).hasNot("&#34;hello&#34;")
	if kept.Name != "calendar" || !kept.Expires.IsZero() || !slices.Equal(kept.Scopes, []string{account.DevicesRead, account.GrantsRead}) {
		t.Errorf("%+v", kept)
	}
	program := h.browser()
	program.header.Set("Authorization", "Bearer "+secret)
	program.get(apiRoot + "/grants").want(http.StatusOK)
	program.get(apiRoot + "/tokens").want(http.StatusForbidden)

	// What was ticked stays ticked where something else is wrong.
	b.post("/dashboard/connect", "for", "program", "name", "", "life", "8760h", "scope", account.AuditRead).
		want(http.StatusUnprocessableEntity).has(`value="audit:read" checked`, "give the program a name").hasNot(`value="apps:read" checked`)
	b.post("/dashboard/connect", "for", "program", "name", "x", "life", forEver).want(http.StatusUnprocessableEntity).has("what the program may do")
	b.post("/dashboard/connect", "for", "program", "name", "x", "life", forEver, "scope", "everything").want(http.StatusUnprocessableEntity).has("there is no scope")

	b.header.Set("Accept", "application/json")
	var made account.MadeToken
	if err := json.Unmarshal([]byte(b.post("/dashboard/connect", form...).want(http.StatusOK).body), &made); err != nil || made.Secret == "" {
		t.Errorf("%+v, %v", made, err)
	}
}

// TestScopesAreInWords, all of them.
func TestScopesAreInWords(t *testing.T) {
	var offered []string
	for _, c := range scopeChoices {
		offered = append(offered, c.Scope)
	}
	if !slices.Equal(offered, account.Scopes()) {
		t.Errorf("the page offers %v", offered)
	}
}

// TestTokenDoesNotOutliveItsMaker: what somebody makes who signed in with a token that expires, expires with it, on the
// page and in the API.
func TestTokenDoesNotOutliveItsMaker(t *testing.T) {
	h := newHouse(t)
	secret, end := identity.NewSecret(), h.now.Now().Add(time.Hour).UTC()
	if err := h.store.PutTokens([]presence.Token{{Hash: identity.HashSecret(secret), Email: ann, Created: h.now.Now(), Expires: end}}); err != nil {
		t.Fatal(err)
	}
	b := h.browser()
	b.post("/login", "email", ann, "assertion", secret).wantTo(home)
	_, kept := h.made(b.post("/dashboard/connect", "for", "device", "device", "phone", "life", forEver))
	if !kept.Expires.Equal(end) {
		t.Errorf("the device's token is good until %v", kept.Expires)
	}
	var made account.MadeToken
	for _, body := range []string{`{"name":"x","scopes":["audit:read"]}`, `{"name":"x","scopes":["audit:read"],"expires":"2099-01-01T00:00:00Z"}`} {
		if err := json.Unmarshal([]byte(b.postJSON(apiRoot+"/tokens", body).want(http.StatusCreated).body), &made); err != nil {
			t.Fatal(err)
		}
		if made.Expires == nil || !made.Expires.Equal(end) {
			t.Errorf("%s: good until %v", body, made.Expires)
		}
	}
}
