package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	maxBundle = 16 << 10 // bytes
	maxMillis = 1 << 53  // latest moment, so that it is exact in any language
)

// bundle is a backed assertion, certificate~assertion, taken apart; nothing in it is verified.
type bundle struct {
	cert      signed
	issuer    string // of the certificate: a bare domain
	principal string // the e-mail it certifies
	key       bidKey // of the user
	issued    time.Time
	expires   time.Time // of the certificate
	claims    object    // all of the certificate

	assertion    signed
	audience     string
	made         time.Time // of the assertion
	assertionEnd time.Time
}

// errChain: the format leaves room for several certificates, but never defined them ("not defined or
// implemented yet", its specification says); believing one that is signed by another's key would let every
// user certify every other.
var errChain = errors.New("more than one certificate")

// isBundle reports whether s looks like a bundle, well made or not.
func isBundle(s string) bool {
	return strings.Contains(s, "~") && strings.Count(s, ".") >= 4
}

// parseBundle takes a bundle apart.
func parseBundle(s string) (*bundle, error) {
	if len(s) > maxBundle {
		return nil, errors.New("bundle too large")
	}
	parts := strings.Split(s, "~")
	switch {
	case len(parts) < 2:
		return nil, errors.New("no certificate")
	case len(parts) > 2:
		return nil, errChain
	}
	b := new(bundle)
	if err := b.parseCert(parts[0]); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if err := b.parseAssertion(parts[1]); err != nil {
		return nil, fmt.Errorf("assertion: %w", err)
	}
	return b, nil
}

func (b *bundle) parseCert(s string) (err error) {
	if b.cert, err = parseSigned(s); err != nil {
		return err
	}
	b.claims = b.cert.payload
	if b.issuer, err = b.claims.text("iss"); err != nil {
		return err
	}
	if b.expires, err = b.claims.millis("exp"); err != nil {
		return err
	}
	if b.issued, err = b.claims.optionalMillis("iat"); err != nil {
		return err
	}
	if b.key, err = parseBIDKey(b.claims["public-key"]); err != nil {
		return err
	}
	b.principal, err = b.claims.principal()
	return err
}

func (b *bundle) parseAssertion(s string) (err error) {
	if b.assertion, err = parseSigned(s); err != nil {
		return err
	}
	p := b.assertion.payload
	if b.audience, err = p.text("aud"); err != nil {
		return err
	}
	if b.assertionEnd, err = p.millis("exp"); err != nil {
		return err
	}
	b.made, err = p.optionalMillis("iat")
	return err
}

// signed is one JWS in compact form.
type signed struct {
	alg       string
	payload   object
	input     string // what is signed
	signature []byte
}

func parseSigned(s string) (signed, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return signed{}, errors.New("not three parts")
	}
	header, err := decodeObject(parts[0])
	if err != nil {
		return signed{}, err
	}
	if _, critical := header["crit"]; critical { // RFC 7515 §4.1.11: nothing is understood
		return signed{}, errors.New("critical header")
	}
	v := signed{input: s[:len(parts[0])+1+len(parts[1])]}
	if v.alg, err = header.text("alg"); err != nil {
		return signed{}, err
	}
	if v.payload, err = decodeObject(parts[1]); err != nil {
		return signed{}, err
	}
	v.signature, err = decode64(parts[2])
	return v, err
}

// decode64 reads unpadded base64url, in the one way there is to write it.
func decode64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") { // the decoder skips them
		return nil, errors.New("not base64url")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64url")
	}
	return b, nil
}

// object is a JSON object. Its keys are compared exactly; the decoder of structs would take "EXP" for "exp".
type object map[string]json.RawMessage

func decodeObject(s string) (object, error) {
	b, err := decode64(s)
	if err != nil {
		return nil, err
	}
	return parseObject(b)
}

func parseObject(b []byte) (object, error) {
	var o object
	if err := json.Unmarshal(b, &o); err != nil || o == nil {
		return nil, errors.New("not a JSON object")
	}
	return o, nil
}

// text is a string that must be there and not be empty.
func (o object) text(key string) (string, error) {
	var s string
	if json.Unmarshal(o[key], &s) != nil || s == "" {
		return "", errors.New("no " + key)
	}
	return s, nil
}

// millis is a moment that must be there, in milliseconds since 1970.
func (o object) millis(key string) (time.Time, error) {
	var n json.Number
	d := json.NewDecoder(bytes.NewReader(o[key]))
	d.UseNumber()
	if d.Decode(&n) != nil || len(o[key]) == 0 || o[key][0] == '"' {
		return time.Time{}, errors.New("no " + key)
	}
	ms, err := n.Int64()
	if err != nil {
		f, err := n.Float64() // 1.7e12, or with a fraction
		if err != nil || !(f >= 0 && f <= maxMillis) {
			return time.Time{}, errors.New("no " + key)
		}
		ms = int64(f)
	}
	if ms < 0 || ms > maxMillis {
		return time.Time{}, errors.New("no " + key)
	}
	return time.UnixMilli(ms), nil
}

// optionalMillis is zero where key is missing.
func (o object) optionalMillis(key string) (time.Time, error) {
	if _, ok := o[key]; !ok {
		return time.Time{}, nil
	}
	return o.millis(key)
}

// principal is the certified e-mail: {"principal":{"email":E}}, or "sub" in the later form.
func (o object) principal() (string, error) {
	raw, ok := o["principal"]
	if !ok {
		return o.text("sub")
	}
	p, err := parseObject(raw)
	if err != nil {
		return "", errors.New("no principal")
	}
	return p.text("email")
}
