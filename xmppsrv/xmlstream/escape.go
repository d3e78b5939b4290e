package xmlstream

import "unicode/utf8"

// escape says what stands on the wire for a byte of text or of a value in single quotes; "" is the byte itself.
// White space other than the blank is escaped so that it survives attribute normalisation (XML 1.0 §3.3.3) and
// the normalisation of line ends (§2.11).
var escape = makeEscape(false)

// escapeText is the same for text between tags, where \n and \t may stand.
var escapeText = makeEscape(true)

const replacement = "\uFFFD"

func makeEscape(text bool) (t [256]string) {
	for c := range 0x20 {
		t[c] = replacement // not XML characters (XML 1.0 §2.2)
	}
	t['\r'] = "&#xD;"
	t['\t'], t['\n'] = "&#x9;", "&#xA;"
	if text {
		t['\t'], t['\n'] = "", ""
	}
	t['<'], t['>'], t['&'] = "&lt;", "&gt;", "&amp;"
	if !text {
		t['\''], t['"'] = "&apos;", "&quot;"
	}
	for c := utf8.RuneSelf; c < 256; c++ {
		t[c] = "?" // looked at as a whole character
	}
	return t
}

// AppendText appends s as character data.
func AppendText[T ~string | ~[]byte](dst []byte, s T) []byte {
	return appendEscaped(dst, s, &escapeText)
}

// AppendValue appends s for an attribute in single quotes.
func AppendValue[T ~string | ~[]byte](dst []byte, s T) []byte { return appendEscaped(dst, s, &escape) }

// appendEscaped appends s with what the table says. Characters that XML does not have, and bytes that are not
// UTF-8, become U+FFFD.
func appendEscaped[T ~string | ~[]byte](dst []byte, s T, table *[256]string) []byte {
	from := 0
	for i := plainStart(s); i < len(s); {
		b := s[i]
		e := table[b]
		if e == "" {
			i++
			continue
		}
		n := 1
		if b >= utf8.RuneSelf {
			var c rune
			c, n = decodeRune(s, i)
			if (c != utf8.RuneError || n > 1) && isXMLChar(c) {
				i += n
				continue
			}
			e = replacement
		}
		dst = append(dst, s[from:i]...)
		dst = append(dst, e...)
		i += n
		from = i
	}
	return append(dst, s[from:]...)
}

// plainStart returns how many bytes at the beginning, in eights, surely need no escape: ASCII from '(' on, without
// '<' and '>'. Local parts and tags are nothing else.
func plainStart[T ~string | ~[]byte](s T) int {
	const each = 0x0101010101010101
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		x := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		angle := (x | 2*each) ^ '>'*each // a byte is zero where x has '<' or '>'
		if (x|(x-'('*each)|(angle-each))&(0x80*each) != 0 {
			break
		}
	}
	return i
}

// decodeRune is utf8.DecodeRune for either type, without a conversion that allocates.
func decodeRune[T ~string | ~[]byte](s T, at int) (rune, int) {
	var b [utf8.UTFMax]byte
	n := copy(b[:], s[at:])
	return utf8.DecodeRune(b[:n])
}

// AppendLocal appends a local part in the escapes of XEP-0106 §4.2. None of what XML would escape is left
// but what XML does not have at all.
func AppendLocal(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	from := 0
	for i := 0; i < len(s); i++ {
		b := s[i]
		switch {
		case class[b]&localPlain != 0:
		case MustEscape(b), b == '\\' && isEscape(s[i:]):
			dst = append(dst, s[from:i]...)
			dst = append(dst, '\\', hex[b>>4], hex[b&15])
			from = i + 1
		case b >= utf8.RuneSelf || b < ' ': // up to the next byte that XEP-0106 escapes
			n := i + 1
			for n < len(s) && !MustEscape(s[n]) && s[n] != '\\' {
				n++
			}
			dst = AppendValue(append(dst, s[from:i]...), s[i:n])
			i, from = n-1, n
		}
	}
	return append(dst, s[from:]...)
}

func MustEscape(b byte) bool { return class[b]&localEscape != 0 }

// isEscape reports whether s begins with one of the ten escapes.
func isEscape[T ~string | ~[]byte](s T) bool {
	if len(s) < 3 || s[0] != '\\' {
		return false
	}
	b, ok := unescape(s[1], s[2])
	return ok && (b == '\\' || MustEscape(b))
}

func unescape(hi, lo byte) (byte, bool) {
	h, l := hexValue(hi), hexValue(lo)
	return byte(h<<4 | l), h >= 0 && l >= 0
}

// UnescapeLocal takes the escapes of XEP-0106 §4.3 out.
func UnescapeLocal(s []byte) []byte {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if isEscape(s[i:]) {
			b, _ := unescape(s[i+1], s[i+2])
			out = append(out, b)
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return out
}
