package xmlstream

import (
	"bytes"
	"slices"
	"unicode/utf8"
)

// endTag closes the innermost element.
func (r *Reader) endTag() error {
	r.pos += 2
	f := &r.frames[len(r.frames)-1]
	n := int(f.raw.hi - f.raw.lo)
	if r.end-r.pos > n && r.buf[r.pos+n] == '>' { // most often
		if !bytes.Equal(r.buf[r.pos:r.pos+n], r.bytes(f.raw)) {
			return malformed()
		}
		r.pos += n + 1
	} else if err := r.slowEndTag(f.raw); err != nil {
		return err
	}
	r.active = r.active[:f.active]
	r.frames = r.frames[:len(r.frames)-1]
	return nil
}

// slowEndTag is endTag for one that is not there yet, has white space, or is wrong.
func (r *Reader) slowEndTag(want span) error {
	raw, _, err := r.qname()
	if err != nil {
		return err
	}
	if !bytes.Equal(r.bytes(raw), r.bytes(want)) {
		return malformed() // XML 1.0 §3
	}
	if _, err := r.skipSpace(); err != nil {
		return err
	}
	return r.expect('>')
}

// startTag reads an opening tag, its '<' included, into a new node, and opens a frame for it unless it closes
// itself.
func (r *Reader) startTag() (closed bool, err error) {
	if len(r.frames) > maxDepth {
		return false, &Error{TooDeep}
	}
	r.pos++
	raw, colon, err := r.qname()
	if err != nil {
		return false, err
	}
	first, outside := len(r.attrs), len(r.active)
	closed, err = r.attributes(first)
	if err != nil {
		return false, err
	}
	def, err := r.declare(first)
	if err != nil {
		return false, err
	}
	n := node{name: local(raw, colon), ns: def, attrs: [2]int32{int32(first), int32(len(r.attrs))}}
	if colon > 0 {
		if n.ns, err = r.lookup(span{raw.lo, colon}); err != nil {
			return false, err
		}
	}
	if err := r.resolve(first); err != nil {
		return false, err
	}
	id := r.link(n)
	if closed {
		r.active = r.active[:outside]
	}
	if !r.opened && r.root.hi == 0 { // the header
		r.root = raw
		r.frames = append(r.frames, frame{raw: raw, def: def})
		return closed, nil
	}
	if !closed {
		r.frames = append(r.frames, frame{raw: raw, node: id, active: outside, def: def})
	}
	return closed, nil
}

// Local is the part of a name behind the colon.
func local(raw span, colon int32) span {
	if colon > 0 {
		return span{colon + 1, raw.hi}
	}
	return raw
}

// link makes n the last child of the innermost open element of this stanza, if there is one.
func (r *Reader) link(n node) int32 {
	id := int32(len(r.nodes))
	r.nodes = append(r.nodes, n)
	if len(r.frames) > 1 {
		p := &r.nodes[r.frames[len(r.frames)-1].node]
		if p.child == 0 {
			p.child = id
		} else {
			r.nodes[p.lastly].next = id
		}
		p.lastly = id
	}
	return id
}

// attributes reads the attributes of a tag up to its '>' and tells whether it closes itself.
func (r *Reader) attributes(first int) (closed bool, err error) {
	for {
		spaced, err := r.skipSpace()
		if err != nil {
			return false, err
		}
		switch b := r.buf[r.pos]; {
		case b == '>':
			r.pos++
			return false, nil
		case b == '/':
			r.pos++
			return true, r.expect('>')
		case !spaced:
			return false, malformed()
		}
		if err := r.attribute(first); err != nil {
			return false, err
		}
	}
}

// attribute reads one attribute. The place of the colon is kept in ns until resolve.
func (r *Reader) attribute(first int) error {
	raw, colon, err := r.qname()
	if err != nil {
		return err
	}
	value, err := r.assigned()
	if err != nil {
		return err
	}
	if len(r.attrs)-first == maxAttributes {
		return &Error{TooManyAttributes}
	}
	name := r.bytes(raw)
	for _, a := range r.attrs[first:] {
		if a.raw.hi-a.raw.lo == raw.hi-raw.lo && bytes.Equal(r.bytes(a.raw), name) {
			return malformed() // XML 1.0 §3.1
		}
	}
	r.attrs = append(r.attrs, attr{raw: raw, name: local(raw, colon), value: value, ns: colon})
	return nil
}

// declare takes the declarations of namespaces out of the attributes and puts them in force; it returns the
// default namespace.
func (r *Reader) declare(first int) (def int32, err error) {
	def = noSpace
	if len(r.frames) > 0 {
		def = r.frames[len(r.frames)-1].def
	}
	kept := r.attrs[:first]
	for _, a := range r.attrs[first:] {
		b := bind{uri: a.value}
		raw := r.bytes(a.raw)
		switch {
		case len(raw) < 5 || string(raw[:5]) != "xmlns" || len(raw) > 5 && raw[5] != ':':
			kept = append(kept, a)
			continue
		case len(raw) > 5:
			b.prefix = a.name
		}
		if err := r.checkBind(b); err != nil {
			return 0, err
		}
		if len(r.active) == maxNamespaces {
			return 0, &Error{TooManyNamespaces}
		}
		id := int32(len(r.binds))
		r.binds = append(r.binds, b)
		r.active = append(r.active, id)
		if b.prefix.hi == 0 {
			def = id
			if a.value.lo == a.value.hi {
				def = noSpace
			}
		}
	}
	r.attrs = kept
	return def, nil
}

// checkBind is Namespaces in XML 1.0 §3, the constraints on reserved prefixes and names.
func (r *Reader) checkBind(b bind) error {
	prefix, uri := r.bytes(b.prefix), r.bytes(b.uri)
	if b.prefix.hi == 0 {
		prefix = nil
	}
	switch {
	case string(prefix) == "xmlns", string(uri) == nsXMLNS:
		return malformed()
	case (string(prefix) == "xml") != (string(uri) == nsXML):
		return malformed()
	case b.prefix.hi != 0 && len(uri) == 0: // §2.2: only the default may be taken back
		return malformed()
	}
	return nil
}

// lookup finds the namespace of a prefix that is not empty.
func (r *Reader) lookup(prefix span) (int32, error) {
	p := r.bytes(prefix)
	if string(p) == "xml" {
		return xmlSpace, nil
	}
	for _, id := range slices.Backward(r.active) {
		if b := &r.binds[id]; b.prefix.hi != 0 && bytes.Equal(p, r.bindBytes(b, b.prefix)) {
			return id, nil
		}
	}
	return 0, malformed() // Namespaces in XML 1.0 §5: prefix declared; RFC 6120 §4.9.3.13
}

func (r *Reader) bindBytes(b *bind, s span) []byte {
	if b.head {
		return r.head[s.lo:s.hi]
	}
	return r.bytes(s)
}

// resolve finds the namespaces of the attributes; two of the same name are an error (Namespaces in XML 1.0 §6.3).
func (r *Reader) resolve(first int) error {
	as := r.attrs[first:]
	for i := range as {
		if as[i].ns == 0 {
			as[i].ns = noSpace // an attribute has no default namespace
			continue
		}
		ns, err := r.lookup(span{as[i].raw.lo, as[i].ns})
		if err != nil {
			return err
		}
		as[i].ns = ns
		for _, b := range as[:i] {
			if b.ns != noSpace && bytes.Equal(r.bytes(b.name), r.bytes(as[i].name)) &&
				bytes.Equal(r.space(b.ns), r.space(ns)) {
				return malformed()
			}
		}
	}
	return nil
}

// Space is the name of a namespace.
func (r *Reader) space(ns int32) []byte {
	switch ns {
	case noSpace:
		return nil
	case xmlSpace:
		return []byte(nsXML)
	}
	b := &r.binds[ns]
	return r.bindBytes(b, b.uri)
}

// qname reads a name; colon is the place of its colon, 0 if it has none (a name never begins at 0).
func (r *Reader) qname() (raw span, colon int32, err error) {
	raw.lo = r.offset()
	fresh := true // a first character of a part comes next
	for {
		b, err := r.peek()
		if err != nil {
			return raw, 0, err
		}
		want := uint8(nameRest)
		if fresh {
			want = nameStart
		}
		switch {
		case class[b]&want != 0:
			r.pos++
			fresh = false
			r.nameRun()
		case b == ':':
			if fresh || colon > 0 {
				return raw, 0, malformed()
			}
			colon = r.offset()
			r.pos++
			fresh = true
		case b >= utf8.RuneSelf:
			if err := r.nameRune(fresh); err != nil {
				return raw, 0, err
			}
			fresh = false
		case fresh:
			return raw, 0, malformed()
		default:
			raw.hi = r.offset()
			return raw, colon, r.nameLength(raw.lo)
		}
		if err := r.nameLength(raw.lo); err != nil {
			return raw, 0, err
		}
	}
}

func (r *Reader) nameLength(lo int32) error {
	if r.offset()-lo > maxName {
		return &Error{LongName}
	}
	return nil
}

// nameRun skips ASCII name characters.
func (r *Reader) nameRun() {
	run := r.buf[r.pos:r.end]
	n := 0
	for n < len(run) && class[run[n]]&nameRest != 0 {
		n++
	}
	r.pos += n
}

// nameRune takes one character of a name that is not ASCII.
func (r *Reader) nameRune(first bool) error {
	c, n, err := r.rune()
	if err != nil {
		return err
	}
	if first && !isNameStart(c) || !isNameRest(c) {
		return malformed()
	}
	r.pos += n
	return nil
}

// rune looks at the next character, which is not ASCII (RFC 3629, XML 1.0 §2.2).
func (r *Reader) rune() (c rune, n int, err error) {
	for !utf8.FullRune(r.buf[r.pos:r.end]) {
		if err := r.has(r.end - r.pos + 1); err != nil {
			return 0, 0, err
		}
	}
	c, n = utf8.DecodeRune(r.buf[r.pos:r.end])
	if c == utf8.RuneError && n == 1 || !isXMLChar(c) {
		return 0, 0, malformed()
	}
	return c, n, nil
}
