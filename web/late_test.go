package web

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"presenced/identity"
	"presenced/presence"
)

// lateRequest sends a request but for the end of its body, and returns what sends the rest and reads the answer.
func (b *browser) lateRequest(path, kind, body string) (finish func() (status int, answer string)) {
	h := b.h
	h.t.Helper()
	u, err := url.Parse(h.url)
	if err != nil {
		h.t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { conn.Close() })
	var cookies []string
	for _, c := range b.client.Jar.Cookies(u) {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nCookie: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n",
		path, u.Host, strings.Join(cookies, "; "), kind, len(body))
	for name, values := range b.header {
		head += name + ": " + values[0] + "\r\n"
	}
	if _, err := io.WriteString(conn, head+"\r\n"+body[:1]); err != nil {
		h.t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // so that it has begun; where it has not, the test proves less
	return func() (int, string) {
		h.t.Helper()
		if _, err := io.WriteString(conn, body[1:]); err != nil {
			h.t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			h.t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			h.t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
}

// A request that began before she signed out everywhere, and whose body comes after it, is nobody's any more.
func TestLateBodyOutlivesNothing(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for _, tt := range []struct{ path, kind, body string }{
		{"/login/device", "application/json", `{"device":"theirs"}`},
		{apiRoot + "/tokens", "application/json", `{"name":"theirs","scopes":["tokens:write"]}`},
		{connectPath, form, "for=device&device=theirs&life=ever"},
		{"/myapps", form, "name=Theirs&domain=theirs.example.org"},
		{"/dashboard/invisible", form, "for=always"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			h := newHouse(t)
			thief, her := h.signedIn(ann), h.signedIn(ann)
			finish := thief.lateRequest(tt.path, tt.kind, tt.body)
			her.post("/logout", "devices", "1").wantTo("/")
			if status, answer := finish(); status != http.StatusUnauthorized {
				t.Errorf("status %d: %s", status, answer)
			}
			if tokens, err := h.store.TokensOf(ann); err != nil || len(tokens) != 0 {
				t.Errorf("tokens %+v, %v", tokens, err)
			}
			thief.wantSignedIn("")
		})
	}
}

// The same for a token of the API that was revoked meanwhile.
func TestLateBodyOutlivesNoToken(t *testing.T) {
	h := newHouse(t)
	her, thief := h.signedIn(ann), h.browser()
	a := her.postJSON(apiRoot+"/tokens", `{"name":"lost","scopes":["tokens:write"]}`).want(http.StatusCreated)
	_, after, _ := strings.Cut(a.body, `"token":"`)
	secret, _, _ := strings.Cut(after, `"`)
	thief.header.Set("Authorization", "Bearer "+secret)
	finish := thief.lateRequest(apiRoot+"/tokens", "application/json", `{"name":"theirs","scopes":["tokens:write"]}`)
	her.post("/logout", "devices", "1").wantTo("/")
	if status, answer := finish(); status != http.StatusUnauthorized {
		t.Errorf("status %d: %s", status, answer)
	}
	if tokens, err := h.store.TokensOf(ann); err != nil || len(tokens) != 0 {
		t.Errorf("tokens %+v, %v", tokens, err)
	}
}

// leaving is a store where she signs out everywhere just before a token is written.
type leaving struct {
	Store
	t *testing.T
}

func (s leaving) PutTokens(ts []presence.Token) error {
	if err := s.EndSessions(ann); err != nil {
		s.t.Error(err)
	}
	if _, err := s.RevokeTokens(ann, ""); err != nil {
		s.t.Error(err)
	}
	return s.Store.PutTokens(ts)
}

// A token that is written a moment after all were revoked is revoked too.
func TestTokenMadeWhileSheLeaves(t *testing.T) {
	for name, try := range map[string]func(h *house) *answer{
		"device, by session": func(h *house) *answer { return h.signedIn(ann).postJSON("/login/device", `{"device":"theirs"}`) },
		"device, by token": func(h *house) *answer {
			return h.browser().postJSON("/login/device", `{"device":"theirs","assertion":"`+h.tokenFor(ann, "")+`"}`)
		},
		"program, by session": func(h *house) *answer {
			return h.signedIn(ann).postJSON(apiRoot+"/tokens", `{"name":"theirs","scopes":["grants:read"]}`)
		},
		"device, on the page": func(h *house) *answer {
			return h.signedIn(ann).post(connectPath, "for", "device", "device", "theirs", "life", forEver)
		},
		"program, by token": func(h *house) *answer {
			secret := identity.NewSecret()
			if err := h.store.PutTokens([]presence.Token{{Hash: identity.HashSecret(secret), Email: ann, Scopes: []string{"tokens:write"}}}); err != nil {
				t.Fatal(err)
			}
			b := h.browser()
			b.header.Set("Authorization", "Bearer "+secret)
			return b.postJSON(apiRoot+"/tokens", `{"name":"theirs","scopes":["tokens:write"]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, func(c *Config) { c.Store = leaving{c.Store, t} })
			try(h).want(http.StatusUnauthorized).hasNot(`"token"`, `id="token"`)
			if tokens, err := h.store.TokensOf(ann); err != nil || len(tokens) != 0 {
				t.Errorf("tokens %+v, %v", tokens, err)
			}
		})
	}
}
