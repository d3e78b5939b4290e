package xmlstream

import (
	"strings"
	"unicode/utf8"
)

// assigned reads = and a value.
func (r *Reader) assigned() (span, error) {
	if _, err := r.skipSpace(); err != nil {
		return span{}, err
	}
	if err := r.expect('='); err != nil {
		return span{}, err
	}
	if _, err := r.skipSpace(); err != nil {
		return span{}, err
	}
	return r.value()
}

// value reads an attribute's value in its quotes and decodes it where it stands.
func (r *Reader) value() (span, error) {
	quote, err := r.peek()
	if err != nil {
		return span{}, err
	}
	if quote != '"' && quote != '\'' {
		return span{}, malformed()
	}
	r.pos++
	lo := r.offset()
	for w := lo; ; {
		w = r.run(w, valuePlain)
		b, err := r.peek()
		if err != nil {
			return span{}, err
		}
		switch {
		case b == quote:
			r.pos++
			return span{lo, w}, nil
		case b == '\'' || b == '"':
			w = r.keep(w, 1)
		case class[b]&valuePlain != 0:
		case b == '<':
			return span{}, malformed() // XML 1.0 §3.1: no < in attribute values
		default:
			if w, err = r.special(w, b); err != nil {
				return span{}, err
			}
		}
	}
}

// text reads character data of the innermost element up to the next tag, CDATA sections included, and appends
// it as a node. It stops at a '<' with a byte behind it.
func (r *Reader) text() error {
	lo := r.offset()
	w := lo
	for {
		w = r.run(w, textPlain)
		b, err := r.peek()
		if err != nil {
			return err
		}
		switch {
		case class[b]&textPlain != 0:
		case b == ']':
			if err := r.has(3); err != nil {
				return err
			}
			if r.buf[r.pos+1] == ']' && r.buf[r.pos+2] == '>' {
				return malformed() // XML 1.0 §2.4
			}
			w = r.keep(w, 1)
		case b != '<':
			if w, err = r.special(w, b); err != nil {
				return err
			}
		default:
			more, err := r.cdata(&w)
			if err != nil {
				return err
			}
			if !more {
				if w > lo {
					r.link(node{text: span{lo, w}, ns: noSpace})
				}
				return nil
			}
		}
	}
}

// run keeps bytes that mean themselves, as many as are there.
func (r *Reader) run(w int32, plain uint8) int32 {
	run := r.buf[r.pos:r.end]
	n := 0
	for n < len(run) && class[run[n]]&plain != 0 {
		n++
	}
	return r.keep(w, n)
}

// keep moves the next n bytes to w, which is not behind them.
func (r *Reader) keep(w int32, n int) int32 {
	if at := r.start + int(w); at != r.pos {
		copy(r.buf[at:], r.buf[r.pos:r.pos+n])
	}
	r.pos += n
	return w + int32(n)
}

// special takes a byte that does not mean itself in text or in a value.
func (r *Reader) special(w int32, b byte) (int32, error) {
	switch {
	case b == '&':
		return r.reference(w)
	case b == '\r': // XML 1.0 §2.11: \r\n and \r are \n
		if err := r.has(2); err != nil {
			return w, err
		}
		r.pos++
		if r.buf[r.pos] != '\n' {
			r.buf[r.start+int(w)] = '\n'
			w++
		}
		return w, nil
	case b >= utf8.RuneSelf:
		_, n, err := r.rune()
		if err != nil {
			return w, err
		}
		return r.keep(w, n), nil
	}
	return w, malformed()
}

// cdata reads a CDATA section if one begins here, after a '<'; more is false at a tag.
func (r *Reader) cdata(w *int32) (more bool, err error) {
	const open, shut = "<![CDATA[", "]]>"
	if err := r.has(2); err != nil {
		return false, err
	}
	if r.buf[r.pos+1] != '!' {
		return false, nil
	}
	if err := r.has(3); err != nil {
		return false, err
	}
	if r.buf[r.pos+2] != '[' {
		return false, restricted()
	}
	if err := r.has(len(open)); err != nil {
		return false, err
	}
	if string(r.buf[r.pos:r.pos+len(open)]) != open {
		return false, malformed()
	}
	for r.pos += len(open); ; {
		*w = r.run(*w, textPlain)
		b, err := r.peek()
		if err != nil {
			return false, err
		}
		switch {
		case b == '<' || b == '&':
			*w = r.keep(*w, 1)
		case b == ']':
			if err := r.has(len(shut)); err != nil {
				return false, err
			}
			if string(r.buf[r.pos:r.pos+len(shut)]) == shut {
				r.pos += len(shut)
				return true, nil
			}
			*w = r.keep(*w, 1)
		case class[b]&textPlain == 0:
			if *w, err = r.special(*w, b); err != nil {
				return false, err
			}
		}
	}
}

// reference decodes a character or entity reference to w (XML 1.0 §4.1, §4.6; RFC 6120 §11.1).
func (r *Reader) reference(w int32) (int32, error) {
	const longest = 32 // of the name or number between & and ;
	n := 1
	for {
		if err := r.has(n + 1); err != nil {
			return w, err
		}
		b := r.buf[r.pos+n]
		if b == ';' {
			break
		}
		if n > longest || class[b]&nameRest == 0 && b != '#' && b != ':' && b < utf8.RuneSelf {
			return w, malformed()
		}
		n++
	}
	c, err := refChar(r.buf[r.pos+1 : r.pos+n])
	if err != nil {
		return w, err
	}
	r.pos += n + 1
	at := r.start + int(w)
	return w + int32(len(utf8.AppendRune(r.buf[:at], c))-at), nil // never longer than the reference
}

// refChar is the character that a reference means.
func refChar(name []byte) (rune, error) {
	switch string(name) {
	case "amp":
		return '&', nil
	case "lt":
		return '<', nil
	case "gt":
		return '>', nil
	case "quot":
		return '"', nil
	case "apos":
		return '\'', nil
	}
	if len(name) > 0 && name[0] == '#' {
		return refNumber(name[1:])
	}
	if len(name) > 0 && (class[name[0]]&nameStart != 0 || name[0] == ':' || name[0] >= utf8.RuneSelf) {
		return 0, restricted() // an entity that only a DTD could have made
	}
	return 0, malformed()
}

func refNumber(digits []byte) (rune, error) {
	base := rune(10)
	if len(digits) > 0 && digits[0] == 'x' {
		base, digits = 16, digits[1:]
	}
	var c rune
	for _, d := range digits {
		v := hexValue(d)
		if v < 0 || v >= base {
			return 0, malformed()
		}
		if c = c*base + v; c > utf8.MaxRune {
			return 0, malformed()
		}
	}
	if len(digits) == 0 || !isXMLChar(c) {
		return 0, malformed()
	}
	return c, nil
}

// hexValue is the value of a hexadecimal digit, -1 if it is none.
func hexValue(d byte) rune {
	switch {
	case '0' <= d && d <= '9':
		return rune(d - '0')
	case 'a' <= d && d <= 'f':
		return rune(d-'a') + 10
	case 'A' <= d && d <= 'F':
		return rune(d-'A') + 10
	}
	return -1
}

// declaration reads <?xml version='1.0' encoding='utf-8'?> (XML 1.0 §2.8).
func (r *Reader) declaration() error {
	r.pos += len("<?xml")
	for part := 0; ; {
		spaced, err := r.skipSpace()
		if err != nil {
			return err
		}
		if r.buf[r.pos] == '?' && part > 0 {
			r.pos++
			return r.expect('>')
		}
		if !spaced {
			return malformed()
		}
		if part, err = r.declared(part); err != nil {
			return err
		}
	}
}

// declared reads one part of the declaration; part is how far it is. They come in this order, the version must.
func (r *Reader) declared(part int) (int, error) {
	raw, _, err := r.qname()
	if err != nil {
		return 0, err
	}
	name := string(r.bytes(raw))
	v, err := r.assigned()
	if err != nil {
		return 0, err
	}
	value := string(r.bytes(v))
	switch {
	case name == "version" && part == 0 && value == "1.0":
		return 1, nil
	case name == "encoding" && part == 1:
		if !strings.EqualFold(value, "utf-8") {
			return 0, &Error{Encoding} // RFC 6120 §4.9.3.22, §11.6
		}
		return 2, nil
	case name == "standalone" && (part == 1 || part == 2) && (value == "yes" || value == "no"):
		return 3, nil
	}
	return 0, malformed()
}
