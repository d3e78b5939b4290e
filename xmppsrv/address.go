package xmppsrv

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"mellium.im/xmpp/jid"

	"presenced/presence"
	"presenced/xmppsrv/xmlstream"
)

const maxPart = 1023 // bytes of each part of an address (RFC 7622 §3.1)

// address is a JID in its parts (RFC 7622 §3.1), local part and domain in lower case. They point into the stanza
// it was read from, or into memory of their own.
type address struct{ local, domain, resource []byte }

// parseAddress splits and checks an address. Plain ASCII takes no allocation unless it has upper case; the rest
// goes through the full profiles.
func parseAddress(s []byte) (a address, ok bool) {
	rest := s
	if i := bytes.IndexByte(rest, '/'); i >= 0 { // RFC 7622 §3.1: the first '/' first, then the first '@'
		a.resource, rest = rest[i+1:], rest[:i]
		if len(a.resource) == 0 {
			return a, false
		}
	}
	a.domain = rest
	if i := bytes.IndexByte(rest, '@'); i >= 0 {
		a.local, a.domain = rest[:i], rest[i+1:]
		if i == 0 {
			return a, false
		}
	}
	if n := len(a.domain); n > 0 && a.domain[n-1] == '.' { // RFC 7622 §3.2
		a.domain = a.domain[:n-1]
	}
	if len(a.domain) == 0 || a.domain[0] == '.' || len(a.local) > maxPart || len(a.domain) > maxPart || len(a.resource) > maxPart {
		return a, false
	}
	if !isASCII(s) {
		return parseUnicode(s)
	}
	a.local, a.domain = lower(a.local), lower(a.domain) // RFC 7622 §3.3.1, §3.2.1
	return a, plainLocal(a.local) && plainResource(a.resource) && plainDomain(a.domain)
}

func parseUnicode(s []byte) (address, bool) {
	j, err := jid.Parse(string(s))
	if err != nil {
		return address{}, false
	}
	return address{[]byte(j.Localpart()), []byte(j.Domainpart()), []byte(j.Resourcepart())}, true
}

func isASCII(s []byte) bool {
	for _, b := range s {
		if b >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// lower returns s in lower case, s itself if it is.
func lower(s []byte) []byte {
	for _, b := range s {
		if 'A' <= b && b <= 'Z' {
			return bytes.ToLower(s)
		}
	}
	return s
}

// plainLocal is RFC 7622 §3.3.1 for ASCII.
func plainLocal(s []byte) bool {
	for _, b := range s {
		if b <= ' ' || b == 0x7f || xmlstream.MustEscape(b) {
			return false
		}
	}
	return true
}

// plainResource is RFC 7622 §3.4.1 for ASCII.
func plainResource(s []byte) bool {
	for _, b := range s {
		if b < ' ' || b == 0x7f {
			return false
		}
	}
	return true
}

// plainDomain is RFC 7622 §3.2.1 for ASCII: a name or an address literal.
func plainDomain(s []byte) bool {
	for _, b := range s {
		switch {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '-', b == '.', b == ':', b == '[', b == ']':
		default:
			return false
		}
	}
	return true
}

// is reports whether the address is at this domain.
func (a *address) is(domain string) bool { return string(a.domain) == domain }

// nobody is asked for where an address cannot be anybody's, so that such a question takes the way of all others.
const nobody = "-"

// peer is the user that the local part means to an app: an e-mail in the escapes of XEP-0106, else a PUID. What
// would not be escaped to the very same local part is nobody's (XEP-0106 §6: compare escaped forms only).
func (a *address) peer() presence.Peer {
	p := presence.Peer{Tag: string(a.resource)}
	if bytes.IndexByte(a.local, '\\') < 0 {
		p.PUID = string(a.local)
		if presence.CheckDevice(p.PUID) != nil {
			p.PUID = nobody
		}
		return p
	}
	email, err := presence.NormalEmail(string(xmlstream.UnescapeLocal(a.local)))
	if err != nil || !bytes.Equal(xmlstream.AppendLocal(nil, email), a.local) {
		p.PUID = nobody
		return p
	}
	p.Email = email
	return p
}

// bareOf is an address without its resource, as it stands.
func bareOf(s string) string {
	bare, _, _ := strings.Cut(s, "/")
	return bare
}
