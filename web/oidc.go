package web

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"presenced/identity"
	"presenced/presence/errno"
)

// flowLife is how long somebody may take at an issuer.
const flowLife = 10 * time.Minute

// flow is a sign-in at an issuer that is under way. The browser carries it, sealed, in a cookie: whoever starts one
// costs us no memory, and one that was started in another browser cannot be ended in this one.
type flow struct {
	Name     string // the issuer's
	State    string
	Nonce    string
	Verifier string // PKCE, RFC 7636
	Next     string
	Expires  time.Time
}

// newSeal makes a key that lasts as long as the process.
func newSeal() (cipher.AEAD, error) {
	var key [32]byte
	rand.Read(key[:]) // never fails
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func issuerPath(name, next string) string {
	path := "/login/oidc/" + url.PathEscape(name)
	if next != "" {
		path += "?next=" + url.QueryEscape(next)
	}
	return path
}

func (s *Site) issuer(r *http.Request) (*identity.OIDC, error) {
	for _, o := range s.cfg.OIDC {
		if o.Name() == r.PathValue("name") {
			return o, nil
		}
	}
	return nil, errNotFound
}

// callback is where an issuer sends the browser back to; it is registered there.
func (s *Site) callback(o *identity.OIDC) string {
	return s.cfg.Origin + "/login/oidc/" + url.PathEscape(o.Name()) + "/callback"
}

// startOIDC sends the browser to an issuer.
func (s *Site) startOIDC(w http.ResponseWriter, r *http.Request) {
	o, err := s.issuer(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	f := flow{Name: o.Name(), State: rand.Text(), Nonce: rand.Text(), Verifier: rand.Text() + rand.Text(),
		Next: localPath(r.URL.Query().Get("next")), Expires: s.cfg.Now().Add(flowLife)}
	to, err := o.AuthURL(r.Context(), f.State, f.Nonce, f.Verifier, s.callback(o))
	if err == nil {
		err = s.setFlow(w, &f)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

// endOIDC takes the browser that an issuer sent back.
func (s *Site) endOIDC(w http.ResponseWriter, r *http.Request) {
	next, err := s.finishFlow(w, r)
	if err == nil {
		s.see(w, r, next)
		return
	}
	s.refuseLogin(w, r, credentials{}, err)
}

// errFlow: the answer belongs to no sign-in of this browser. It says no more, because the address may be anybody's making.
var errFlow = &Error{Status: http.StatusBadRequest, Errno: errno.Invalid, Text: "This sign-in was not started here, or it took too long. Please try again."}

func (s *Site) finishFlow(w http.ResponseWriter, r *http.Request) (next string, err error) {
	o, err := s.issuer(r)
	if err != nil {
		return "", err
	}
	f, ok := s.takeFlow(w, r)
	q := r.URL.Query()
	if !ok || f.Name != o.Name() || subtle.ConstantTimeCompare([]byte(f.State), []byte(q.Get("state"))) != 1 {
		return "", errFlow
	}
	if q.Get("code") == "" { // RFC 6749 §4.1.2.1; what it says is not shown, because others may have written it
		return "", &Error{Status: http.StatusUnauthorized, Errno: errno.Invalid, Text: "You were not signed in there."}
	}
	if retry, ok := s.cfg.Attempts.Allow(s.clientAddr(r)); !ok {
		return "", errTooManyTries(retry)
	}
	id, err := o.Exchange(r.Context(), q.Get("code"), f.Verifier, f.Nonce, s.callback(o))
	if id, err = s.judge(r, id, err); err != nil {
		return "", err
	}
	return f.Next, s.signIn(r.Context(), id)
}

func (s *Site) flowCookie(value string, age time.Duration) *http.Cookie {
	c := &http.Cookie{Name: "presenced-oidc", Value: value, Path: "/", MaxAge: int(age.Seconds()), HttpOnly: true,
		SameSite: http.SameSiteLaxMode} // the issuer sends the browser back from another site, with GET
	if s.secure() {
		c.Name, c.Secure = "__Host-"+c.Name, true
	}
	if age == 0 {
		c.MaxAge = -1
	}
	return c
}

func (s *Site) setFlow(w http.ResponseWriter, f *flow) error {
	plain, err := json.Marshal(f)
	if err != nil {
		return err
	}
	sealed := base64.RawURLEncoding.EncodeToString(s.flows.Seal(nil, nil, plain, nil))
	if len(sealed) > 3<<10 { // browsers drop larger cookies
		return errors.New("the state of a sign-in does not fit a cookie")
	}
	http.SetCookie(w, s.flowCookie(sealed, flowLife))
	return nil
}

// takeFlow opens the flow that the browser carries, and has it forget it: it is good for one answer.
func (s *Site) takeFlow(w http.ResponseWriter, r *http.Request) (f flow, ok bool) {
	blank := s.flowCookie("", 0)
	http.SetCookie(w, blank)
	c, err := r.Cookie(blank.Name)
	if err != nil {
		return f, false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return f, false
	}
	plain, err := s.flows.Open(nil, nil, sealed, nil)
	if err != nil || json.Unmarshal(plain, &f) != nil {
		return f, false
	}
	return f, s.cfg.Now().Before(f.Expires)
}
