package xmlstream

import "unicode/utf8"

// Classes of bytes, in one table so that the loops over names and text are one load for each byte.
const (
	nameStart   = 1 << iota // may begin a name (ASCII)
	nameRest                // may go on in a name (ASCII)
	space                   // XML 1.0 §2.3
	textPlain               // character data that means itself
	valuePlain              // the same in an attribute's value, but for the quote
	localEscape             // escaped in a local part (XEP-0106 §3); the backslash only sometimes is
	localPlain              // means itself in a local part
)

var class = makeClasses()

func makeClasses() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		letter := 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
		if letter || b == '_' {
			t[c] |= nameStart | nameRest
		}
		if '0' <= b && b <= '9' || b == '-' || b == '.' {
			t[c] |= nameRest
		}
		if isSpace(b) {
			t[c] |= space
		}
		switch b {
		case ' ', '"', '&', '\'', '/', ':', '<', '>', '@':
			t[c] |= localEscape
		case '\\':
		default:
			if b > ' ' && b < utf8.RuneSelf {
				t[c] |= localPlain
			}
		}
		if b < utf8.RuneSelf && (b >= ' ' || b == '\t' || b == '\n') {
			if b != '<' && b != '&' && b != ']' {
				t[c] |= textPlain
			}
			if b != '<' && b != '&' && b != '"' && b != '\'' {
				t[c] |= valuePlain
			}
		}
	}
	return t
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

// isXMLChar is XML 1.0 §2.2.
func isXMLChar(r rune) bool {
	return r >= 0x20 && r <= 0xD7FF || r == '\t' || r == '\n' || r == '\r' ||
		r >= 0xE000 && r <= 0xFFFD || r >= 0x10000 && r <= 0x10FFFF
}

// isNameStart is XML 1.0 (fifth edition) §2.3 without the colon, for what is not ASCII.
func isNameStart(r rune) bool {
	switch {
	case r >= 0xC0 && r <= 0x2FF:
		return r != 0xD7 && r != 0xF7
	case r >= 0x370 && r <= 0x1FFF:
		return r != 0x37E
	}
	return r == 0x200C || r == 0x200D || r >= 0x2070 && r <= 0x218F || r >= 0x2C00 && r <= 0x2FEF ||
		r >= 0x3001 && r <= 0xD7FF || r >= 0xF900 && r <= 0xFDCF || r >= 0xFDF0 && r <= 0xFFFD ||
		r >= 0x10000 && r <= 0xEFFFF
}

// isNameRest is the same for what follows the first character.
func isNameRest(r rune) bool {
	return isNameStart(r) || r == 0xB7 || r >= 0x300 && r <= 0x36F || r == 0x203F || r == 0x2040
}
