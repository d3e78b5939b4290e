package oidctest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// grant is what somebody allowed on the sign-in page.
type grant struct {
	email, redirect, challenge, nonce string
}

var form = template.Must(template.New("form").Parse(`<!DOCTYPE html>
<html lang="en"><title>Sign in</title><link rel="icon" href="data:,">
<form method="post" action="/authorize">
{{range $name, $values := .}}{{range $values}}<input type="hidden" name="{{$name}}" value="{{.}}">
{{end}}{{end}}<label>E-mail <input name="email" type="email" autofocus></label>
<button name="answer" value="allow">Sign in</button>
<button name="answer" value="deny">Cancel</button>
</form></html>
`))

// authorize is the sign-in page. RFC 6749 §4.1.1, RFC 7636 §4.3
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	i.count(&i.counts.Authorize)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "bad form", http.StatusBadRequest)
		return
	}
	f := r.Form
	if problem := i.checkRequest(f); problem != "" {
		http.Error(w, problem, http.StatusBadRequest) // never back to a redirect that is not known
		return
	}
	i.mu.Lock()
	email := i.email
	i.mu.Unlock()
	if r.Method == http.MethodPost {
		email = f.Get("email")
	}
	switch {
	case f.Get("answer") == "deny":
		back(w, r, f, url.Values{"error": {"access_denied"}})
	case email == "":
		form.Execute(w, f)
	default:
		code := rand.Text()
		i.mu.Lock()
		i.codes[code] = grant{email, f.Get("redirect_uri"), f.Get("code_challenge"), f.Get("nonce")}
		i.mu.Unlock()
		back(w, r, f, url.Values{"code": {code}})
	}
}

func (i *Issuer) checkRequest(f url.Values) string {
	switch {
	case f.Get("client_id") != i.options.ClientID:
		return "unknown client"
	case !i.knows(f.Get("redirect_uri")):
		return "unknown redirect"
	case f.Get("response_type") != "code":
		return "unsupported response type"
	case !slices.Contains(strings.Fields(f.Get("scope")), "openid"):
		return "scope has no openid"
	case f.Get("state") == "" || f.Get("nonce") == "":
		return "state or nonce is missing"
	case f.Get("code_challenge_method") != "S256" || len(f.Get("code_challenge")) != 43:
		return "no PKCE with S256"
	}
	return ""
}

func (i *Issuer) knows(redirect string) bool {
	if i.options.Redirect != "" {
		return redirect == i.options.Redirect
	}
	u, err := url.Parse(redirect)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || err == nil && a.IsLoopback()
}

func back(w http.ResponseWriter, r *http.Request, f, answer url.Values) {
	u, _ := url.Parse(f.Get("redirect_uri")) // known to be one
	q := u.Query()
	for name, values := range answer {
		q[name] = values
	}
	q.Set("state", f.Get("state"))
	u.RawQuery = q.Encode()
	http.Redirect(w, r, u.String(), http.StatusSeeOther)
}

// token turns a code into tokens, once. RFC 6749 §4.1.3, RFC 7636 §4.6
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	i.count(&i.counts.Token)
	if err := r.ParseForm(); err != nil || !i.isClient(r) {
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_client"})
		return
	}
	code := r.PostForm.Get("code")
	i.mu.Lock()
	g, ok := i.codes[code]
	delete(i.codes, code)
	unproven, lies := i.unproven, i.lies
	i.mu.Unlock()
	challenge := sha256.Sum256([]byte(r.PostForm.Get("code_verifier")))
	if !ok || r.PostForm.Get("grant_type") != "authorization_code" || r.PostForm.Get("redirect_uri") != g.redirect ||
		base64.RawURLEncoding.EncodeToString(challenge[:]) != g.challenge {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant"})
		return
	}
	access := rand.Text()
	i.mu.Lock()
	i.access[access] = g
	i.mu.Unlock()
	hash := sha256.Sum256([]byte(access))
	claims := Claims{"email": g.email, "sub": "user-" + g.email, "nonce": g.nonce, "email_verified": !unproven}
	if alg := i.options.Algorithm; strings.HasSuffix(alg, "256") { // OIDC Core §3.1.3.6
		claims["at_hash"] = base64.RawURLEncoding.EncodeToString(hash[:16])
	}
	if i.options.NoEmail {
		claims["email"], claims["email_verified"] = nil, nil
	}
	maps.Copy(claims, lies)
	writeJSON(w, http.StatusOK, map[string]any{"access_token": access, "token_type": "Bearer", "expires_in": 3600,
		"id_token": i.Token(claims)})
}

// isClient checks the client's secret, in the header or in the form. RFC 6749 §2.3.1
func (i *Issuer) isClient(r *http.Request) bool {
	id, secret, ok := r.BasicAuth()
	if ok {
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	} else {
		id, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	}
	return id == i.options.ClientID && secret == i.options.ClientSecret
}

func (i *Issuer) userinfo(w http.ResponseWriter, r *http.Request) {
	i.count(&i.counts.UserInfo)
	i.mu.Lock()
	g, ok := i.access[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	unproven := i.unproven
	i.mu.Unlock()
	if !ok {
		http.Error(w, "who?", http.StatusUnauthorized)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"sub": "user-" + g.email, "email": g.email, "email_verified": !unproven})
}
