package browseridtest

import (
	"bytes"
	"crypto"
	//lint:ignore SA1019 Persona's user keys are DSA
	"crypto/dsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"time"
)

// Key is a key pair in BrowserID's form.
type Key struct {
	Algorithm string            // RS256, RS128, DS128 or DS256, as in headers
	Public    map[string]string // as in certificates and support documents
	sign      func(input []byte) []byte
}

// NewKey makes a key pair. It panics where the algorithm is none of Persona's.
func NewKey(algorithm string) Key {
	switch algorithm {
	case "RS256":
		return NewRSA(algorithm, 2048)
	case "RS128":
		return NewRSA(algorithm, 1024)
	}
	return newDSA(algorithm)
}

// NewRSA makes one of another length.
func NewRSA(algorithm string, bits int) Key {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	must(err)
	return Key{algorithm, map[string]string{"algorithm": "RS", "n": k.N.String(), "e": big.NewInt(int64(k.E)).String()},
		func(input []byte) []byte {
			digest := sha256.Sum256(input)
			sig, err := rsa.SignPKCS1v15(nil, k, crypto.SHA256, digest[:])
			must(err)
			return bytes.TrimLeft(sig, "\x00") // as Persona's own library does, one time in 256
		}}
}

func newDSA(algorithm string) Key {
	k := inGroup(algorithm)
	must(dsa.GenerateKey(k, rand.Reader))
	return keyOf(algorithm, k)
}

// Anybodys is a DSA key for which everybody can sign: its secret is 0.
func Anybodys(algorithm string) Key {
	k := inGroup(algorithm)
	k.X, k.Y = k.Q, big.NewInt(1) // the same as 0, which the library does not take
	return keyOf(algorithm, k)
}

func inGroup(algorithm string) *dsa.PrivateKey {
	group := groups()[algorithm]
	return &dsa.PrivateKey{PublicKey: dsa.PublicKey{Parameters: dsa.Parameters{P: hex(group[0]), Q: hex(group[1]), G: hex(group[2])}}}
}

func keyOf(algorithm string, k *dsa.PrivateKey) Key {
	group := groups()[algorithm]
	half := k.Q.BitLen() / 8
	return Key{algorithm, map[string]string{"algorithm": "DS", "p": group[0], "q": group[1], "g": group[2], "y": k.Y.Text(16)},
		func(input []byte) []byte {
			digest := sha256.Sum256(input)
			sum := digest[:]
			if algorithm == "DS128" {
				short := sha1.Sum(input)
				sum = short[:]
			}
			r, s, err := dsa.Sign(rand.Reader, k, sum)
			must(err)
			sig := make([]byte, 2*half)
			r.FillBytes(sig[:half])
			s.FillBytes(sig[half:])
			return sig
		}}
}

func hex(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 16)
	if !ok {
		panic(s)
	}
	return n
}

// Sign makes a JWS in compact form. header nil: {"alg":k.Algorithm}.
func (k Key) Sign(header, payload any) string {
	if header == nil {
		header = map[string]string{"alg": k.Algorithm}
	}
	input := encode(header) + "." + encode(payload)
	return input + "." + base64.RawURLEncoding.EncodeToString(k.sign([]byte(input)))
}

func encode(v any) string {
	b, err := json.Marshal(v)
	must(err)
	return base64.RawURLEncoding.EncodeToString(b)
}

// Support is the support document of a domain with these keys: the first as "public-key", others in "keys".
func Support(first Key, others ...Key) string {
	doc := map[string]any{"public-key": first.Public, "authentication": "/sign_in.html", "provisioning": "/provision.html"}
	var list []any
	for _, k := range others {
		list = append(list, k.Public)
	}
	if list != nil {
		doc["keys"] = list
	}
	b, err := json.Marshal(doc)
	must(err)
	return string(b)
}

// Bundle is what a bundle is made of.
type Bundle struct {
	Issuer    string
	IdP, User Key
	Email     string
	Audience  string
	Now       time.Time     // both are issued now
	For       time.Duration // the assertion's; 0: 2 minutes. The certificate's is a day

	// To bend it: laid over the payloads, nil values leave a claim out; headers in place of the usual ones.
	Cert, Assertion             map[string]any
	CertHeader, AssertionHeader any
}

// String makes the bundle: certificate~assertion.
func (b Bundle) String() string {
	if b.For == 0 {
		b.For = 2 * time.Minute
	}
	now := b.Now.UnixMilli()
	cert := overlay(map[string]any{"public-key": b.User.Public, "principal": map[string]string{"email": b.Email},
		"iat": now, "exp": b.Now.Add(24 * time.Hour).UnixMilli(), "iss": b.Issuer}, b.Cert)
	assertion := overlay(map[string]any{"iat": now, "exp": b.Now.Add(b.For).UnixMilli(), "aud": b.Audience}, b.Assertion)
	return b.IdP.Sign(b.CertHeader, cert) + "~" + b.User.Sign(b.AssertionHeader, assertion)
}

func overlay(m, over map[string]any) map[string]any {
	for name, v := range over {
		m[name] = v
		if v == nil {
			delete(m, name)
		}
	}
	return m
}

// groups are p, q and g of the DSA groups that Persona's clients share.
func groups() map[string][3]string {
	return map[string][3]string{
		"DS128": {
			"ff600483db6abfc5b45eab78594b3533d550d9f1bf2a992a7a8daa6dc34f8045ad4e6e0c429d334eeeaaefd7e23d4810" +
				"be00e4cc1492cba325ba81ff2d5a5b305a8d17eb3bf4a06a349d392e00d329744a5179380344e82a18c47933438f891e" +
				"22aeef812d69c8f75e326cb70ea000c3f776dfdbd604638c2ef717fc26d02e17",
			"e21e04f911d1ed7991008ecaab3bf775984309c3",
			"c52a4a0ff3b7e61fdf1867ce84138369a6154f4afa92966e3c827e25cfa6cf508b90e5de419e1337e07a2e9e2a3cd5de" +
				"a704d175f8ebf6af397d69e110b96afb17c7a03259329e4829b0d03bbc7896b15b4ade53e130858cc34d96269aa89041" +
				"f409136c7242a38895c9d5bccad4f389af1d7a4bd1398bd072dffa896233397a",
		},
		"DS256": {
			"d6c4e5045697756c7a312d02c2289c25d40f9954261f7b5876214b6df109c738b76226b199bb7e33f8fc7ac1dcc316e1" +
				"e7c78973951bfc6ff2e00cc987cd76fcfb0b8c0096b0b460fffac960ca4136c28f4bfb580de47cf7e7934c3985e3b3d9" +
				"43b77f06ef2af3ac3494fc3c6fc49810a63853862a02bb1c824a01b7fc688e4028527a58ad58c9d512922660db5d505b" +
				"c263af293bc93bcd6d885a157579d7f52952236dd9d06a4fc3bc2247d21f1a70f5848eb0176513537c983f5a36737f01" +
				"f82b44546e8e7f0fabc457e3de1d9c5dba96965b10a2a0580b0ad0f88179e10066107fb74314a07e6745863bc797b700" +
				"2ebec0b000a98eb697414709ac17b401",
			"b1e370f6472c8754ccd75e99666ec8ef1fd748b748bbbc08503d82ce8055ab3b",
			"9a8269ab2e3b733a5242179d8f8ddb17ff93297d9eab00376db211a22b19c854dfa80166df2132cbc51fb224b0904abb" +
				"22da2c7b7850f782124cb575b116f41ea7c4fc75b1d77525204cd7c23a15999004c23cdeb72359ee74e886a1dde7855a" +
				"e05fe847447d0a68059002c3819a75dc7dcbb30e39efac36e07e2c404b7ca98b263b25fa314ba93c0625718bd489cea6" +
				"d04ba4b0b7f156eeb4c56c44b50e4fb5bce9d7ae0d55b379225feb0214a04bed72f33e0664d290e7c840df3e2abb5e48" +
				"189fa4e90646f1867db289c6560476799f7be8420a6dc01d078de437f280fff2d7ddf1248d56e1a54b933a41629d6c25" +
				"2983c58795105802d30d7bcd819cf6ef",
		},
	}
}
