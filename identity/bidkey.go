package identity

import (
	"crypto"
	//lint:ignore SA1019 Persona's user keys are DSA; nothing is signed here
	"crypto/dsa"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"hash"
	"math/big"
)

const (
	minRSABits  = 2047 // half of the keys that Persona's library makes are a bit short; RS128 and RS64 are refused
	maxRSABits  = 4096
	maxKeyText  = 2048 // characters of one number
	maxExponent = 1<<31 - 1
)

// bidKey verifies signatures of one public key. alg is the only name its signatures may bear: a header that
// says something else is refused, whatever the signature.
type bidKey struct {
	alg    string
	verify func(input string, signature []byte) bool
}

// verify reports whether s is signed with k.
func (s signed) verify(k bidKey) bool { return s.alg == k.alg && k.verify(s.input, s.signature) }

var errKey = errors.New("not a public key that is accepted")

// parseBIDKey reads a key in BrowserID's form (RS with decimal numbers, DS with hexadecimal ones), or an RSA
// key as JWK, which stands in support documents.
func parseBIDKey(raw json.RawMessage) (bidKey, error) {
	o, err := parseObject(raw)
	if err != nil {
		return bidKey{}, errKey
	}
	if kty, err := o.text("kty"); err == nil {
		if kty != "RSA" {
			return bidKey{}, errKey
		}
		return rsaKey(o.number64("n"), o.number64("e"))
	}
	switch algorithm, _ := o.text("algorithm"); algorithm {
	case "RS":
		return rsaKey(o.number("n", 10), o.number("e", 10))
	case "DS":
		return dsaKey(o.number("p", 16), o.number("q", 16), o.number("g", 16), o.number("y", 16))
	}
	return bidKey{}, errKey
}

// number reads a positive number from a string; nil if there is none.
func (o object) number(key string, base int) *big.Int {
	s, err := o.text(key)
	if err != nil || len(s) > maxKeyText {
		return nil
	}
	for i := range len(s) { // SetString takes signs and underscores too
		c := s[i]
		if !('0' <= c && c <= '9' || base == 16 && ('a' <= c && c <= 'f' || 'A' <= c && c <= 'F')) {
			return nil
		}
	}
	n, ok := new(big.Int).SetString(s, base)
	if !ok || n.Sign() <= 0 {
		return nil
	}
	return n
}

// number64 reads a positive number from base64url. RFC 7518 §6.3.1
func (o object) number64(key string) *big.Int {
	s, err := o.text(key)
	if err != nil || len(s) > maxKeyText {
		return nil
	}
	b, err := decode64(s)
	if err != nil {
		return nil
	}
	if n := new(big.Int).SetBytes(b); n.Sign() > 0 {
		return n
	}
	return nil
}

// rsaKey is RS256: PKCS #1 v1.5 with SHA-256. The 256 of BrowserID is the length of the modulus in bytes, but
// longer ones have no other name, and mean the same in JOSE.
func rsaKey(n, e *big.Int) (bidKey, error) {
	if n == nil || e == nil || n.BitLen() < minRSABits || n.BitLen() > maxRSABits || n.Bit(0) == 0 {
		return bidKey{}, errKey
	}
	if !e.IsInt64() || e.Int64() < 3 || e.Int64() > maxExponent || e.Bit(0) == 0 {
		return bidKey{}, errKey
	}
	pub := &rsa.PublicKey{N: n, E: int(e.Int64())}
	return bidKey{"RS256", func(input string, signature []byte) bool {
		digest := sha256.Sum256([]byte(input))
		signature = leftPad(signature, pub.Size())
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], signature) == nil
	}}, nil
}

// dsaKey is DS128 (1024 and 160 bits, SHA-1) or DS256 (2048 and 256 bits, SHA-256); a signature is r and s,
// each as long as q. FIPS 186-4 §4.7
func dsaKey(p, q, g, y *big.Int) (bidKey, error) {
	if p == nil || q == nil || g == nil || y == nil {
		return bidKey{}, errKey
	}
	var alg string
	var newHash func() hash.Hash
	switch {
	case p.BitLen() == 1024 && q.BitLen() == 160:
		alg, newHash = "DS128", sha1.New
	case p.BitLen() == 2048 && q.BitLen() == 256:
		alg, newHash = "DS256", sha256.New
	default:
		return bidKey{}, errKey
	}
	if !inGroup(g, p, q) || !inGroup(y, p, q) {
		return bidKey{}, errKey
	}
	pub := &dsa.PublicKey{Parameters: dsa.Parameters{P: p, Q: q, G: g}, Y: y}
	half := (q.BitLen() + 7) / 8
	return bidKey{alg, func(input string, signature []byte) bool {
		h := newHash()
		h.Write([]byte(input))
		signature = leftPad(signature, 2*half)
		if len(signature) != 2*half {
			return false
		}
		r, s := new(big.Int).SetBytes(signature[:half]), new(big.Int).SetBytes(signature[half:])
		return dsa.Verify(pub, h.Sum(nil), r, s)
	}}, nil
}

// inGroup reports whether x generates the subgroup of order q: without that, y = 1 would make every signature
// good, for one. Two are a few milliseconds, so it comes before anything is fetched, behind the limit of attempts.
func inGroup(x, p, q *big.Int) bool {
	one := big.NewInt(1)
	return x.Cmp(one) > 0 && x.Cmp(p) < 0 && p.Bit(0) == 1 && new(big.Int).Exp(x, q, p).Cmp(one) == 0
}

// leftPad adds the leading zeros that browserid-crypto strips: a signature that is a number is a byte short
// once in 256. One that is too long stays so.
func leftPad(b []byte, n int) []byte {
	if len(b) >= n || len(b) == 0 {
		return b
	}
	return append(make([]byte, n-len(b), n), b...)
}
