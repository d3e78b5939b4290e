package wsbridge

import (
	"encoding/json"
	"unicode/utf8"
)

// maxDepth bounds how deep a frame's arrays and objects may nest; deeper is malformed.
const maxDepth = 64

// scanner walks over one JSON text (RFC 8259) without recursion and without building anything. It accepts
// what encoding/json accepts, but for nesting below maxDepth; UTF-8 is checked before, by who makes it.
type scanner struct {
	b []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek is the next byte behind white space, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i == len(s.b) {
		return 0
	}
	return s.b[s.i]
}

// take eats c, behind white space, and tells whether it was there.
func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.i++
	return true
}

// token returns the next value as it is written.
func (s *scanner) token() ([]byte, bool) {
	s.space()
	start := s.i
	ok := s.value()
	return s.b[start:s.i], ok
}

// value steps over one value. objects has a bit for each open bracket, set for an object.
func (s *scanner) value() bool {
	var objects uint64
	depth := 0
	for {
		opened, ok := s.open(&objects, &depth)
		if !ok {
			return false
		}
		if opened {
			continue
		}
		more, ok := s.close(&objects, &depth)
		if !ok || !more {
			return ok
		}
	}
}

// open steps over the start of a value. opened: it is inside of a new array or object, in front of its
// first value; else a whole value is behind it.
func (s *scanner) open(objects *uint64, depth *int) (opened, ok bool) {
	c := s.peek()
	if c != '{' && c != '[' {
		return false, s.scalar(c)
	}
	s.i++
	if *depth++; *depth > maxDepth {
		return false, false
	}
	*objects <<= 1
	if c == '{' {
		*objects |= 1
	}
	if s.peek() == c+2 { // '{'+2 == '}', '['+2 == ']': empty, closed by close
		return false, true
	}
	return true, c == '[' || s.name()
}

// close steps over what may stand behind a value: ends of arrays and objects, then a comma and maybe a
// name. more: another value follows.
func (s *scanner) close(objects *uint64, depth *int) (more, ok bool) {
	for *depth > 0 {
		object := *objects&1 == 1
		end := byte(']')
		if object {
			end = '}'
		}
		if s.take(end) {
			*objects >>= 1
			*depth--
			continue
		}
		if !s.take(',') {
			return false, false
		}
		return true, !object || s.name()
	}
	return false, true
}

// name steps over a member's name and its colon.
func (s *scanner) name() bool { return s.peek() == '"' && s.str() && s.take(':') }

// scalar steps over a value that is no array and no object and begins with c.
func (s *scanner) scalar(c byte) bool {
	switch c {
	case '"':
		return s.str()
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

func (s *scanner) word(w string) bool {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return false
	}
	s.i += len(w)
	return true
}

// str steps over a string; it stands on the opening quote. RFC 8259 §7
func (s *scanner) str() bool {
	for s.i++; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return true
		case c < ' ':
			return false
		case c == '\\':
			if !s.escape() {
				return false
			}
		}
	}
	return false
}

// escape steps from the backslash to the last byte of the escape.
func (s *scanner) escape() bool {
	if s.i++; s.i == len(s.b) {
		return false
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
	default:
		return false
	}
	if len(s.b)-s.i <= 4 {
		return false
	}
	for range 4 {
		s.i++
		c := s.b[s.i] | 0x20
		if !('0' <= s.b[s.i] && s.b[s.i] <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}

// number steps over a number. RFC 8259 §6
func (s *scanner) number() bool {
	if s.at('-') {
		s.i++
	}
	if s.at('0') {
		s.i++
	} else if !s.digits() {
		return false
	}
	if s.at('.') {
		s.i++
		if !s.digits() {
			return false
		}
	}
	if s.at('e') || s.at('E') {
		s.i++
		if s.at('+') || s.at('-') {
			s.i++
		}
		return s.digits()
	}
	return true
}

func (s *scanner) at(c byte) bool { return s.i < len(s.b) && s.b[s.i] == c }

// digits steps over one or more digits.
func (s *scanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

// validJSON reports whether b is one JSON text in UTF-8, not nested below maxDepth.
func validJSON(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	s := scanner{b: b}
	_, ok := s.token()
	return ok && s.peek() == 0 && s.i == len(b)
}

// unquote returns the text of a string token. A surrogate without its pair becomes U+FFFD.
func unquote(token []byte) string {
	for _, c := range token {
		if c == '\\' {
			var text string
			json.Unmarshal(token, &text) // the token is valid, so it cannot fail
			return text
		}
	}
	return string(token[1 : len(token)-1])
}
