package xmppsrv

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	nsXML    = "http://www.w3.org/XML/1998/namespace"
	nsXMLNS  = "http://www.w3.org/2000/xmlns/"
	nsStream = "http://etherx.jabber.org/streams"
)

// reader splits a stream into its header, first-level elements and closing tag, and is strict: what RFC 6120
// §11.1 restricts, what is not well-formed (XML 1.0, Namespaces in XML 1.0) and what is over a bound is an
// error, always a *streamError or what the source returned.
//
// It parses in one pass in its own buffer, which it fills when it needs a byte, so that bytes may come in any
// pieces. Text is decoded where it stands. An element, and every slice got from it, is valid until the next
// call of next. A reader is for one goroutine.
type reader struct {
	src io.Reader
	max int // bytes of one element

	buf   []byte
	start int // of the element being read; what is before is done with
	pos   int // the next byte to look at
	end   int // of what was read

	head   []byte // the header's bytes, for its name and the namespaces it declares
	root   span   // the header's name with prefix, in head
	opened bool

	// The tree of the element being read; the slices are used again. Spans count from start.
	nodes  []node
	attrs  []attr
	binds  []bind  // the header's, then those of this element, never removed before it is done
	active []int32 // into binds: in force here
	frames []frame // open elements
	fixed  int     // how many binds and active are the header's
}

// span is a piece of the element's bytes, counted from reader.start.
type span struct{ lo, hi int32 }

// node is an element, or text where name is empty.
type node struct {
	name   span  // local part
	text   span  // of a text node
	ns     int32 // noSpace, xmlSpace, or an index into binds
	attrs  [2]int32
	child  int32 // first, next: 0 is none (node 0 is nobody's child)
	next   int32
	lastly int32 // the last child, to append to
}

type attr struct {
	raw, name, value span // raw: with prefix
	ns               int32
}

// bind is a declaration of a namespace.
type bind struct {
	prefix, uri span
	head        bool // the spans are in reader.head
}

type frame struct {
	raw    span  // name with prefix, as the closing tag must repeat it
	node   int32 // of the element
	active int   // len(reader.active) outside of it
	def    int32 // the default namespace inside
}

const (
	noSpace  int32 = -1
	xmlSpace int32 = -2
)

// newReader reads from src; an element may have max bytes.
func newReader(src io.Reader, max int) *reader {
	return &reader{src: src, max: max, buf: make([]byte, 4<<10)}
}

// allow changes how big an element may be, and reads in pieces of chunk bytes from now on.
func (r *reader) allow(max, chunk int) {
	r.max = max
	if len(r.buf) < chunk {
		r.buf = append(make([]byte, 0, chunk), r.buf[:r.end]...)[:chunk]
	}
}

// malformed is a violation of XML or of its namespaces (RFC 6120 §4.9.3.13).
func malformed() error  { return &streamError{why: endMalformed} }
func restricted() error { return &streamError{why: endRestricted} }

// fill reads more bytes. It is called when all that was read is parsed.
func (r *reader) fill() error {
	if r.pos-r.start >= r.max {
		return &streamError{why: endTooBig}
	}
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.pos -= r.start
		r.start = 0
	}
	if r.end == len(r.buf) {
		r.buf = append(r.buf, make([]byte, len(r.buf))...)
	}
	for range 16 {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// peek returns the next byte.
func (r *reader) peek() (byte, error) {
	if r.pos == r.end {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	return r.buf[r.pos], nil
}

// has makes sure that n more bytes can be looked at.
func (r *reader) has(n int) error {
	for r.end-r.pos < n {
		pos := r.pos - r.start
		r.pos = r.end
		err := r.fill()
		r.pos = r.start + pos
		if err != nil {
			return err
		}
	}
	return nil
}

// skipSpace skips white space and tells whether there was any.
func (r *reader) skipSpace() (bool, error) {
	for some := false; ; some = true {
		b, err := r.peek()
		if err != nil || class[b]&space == 0 {
			return some, err
		}
		r.pos++
	}
}

// expect takes the byte b.
func (r *reader) expect(b byte) error {
	got, err := r.peek()
	if err != nil {
		return err
	}
	if got != b {
		return malformed()
	}
	r.pos++
	return nil
}

// offset is the place of the next byte in the element.
func (r *reader) offset() int32 { return int32(r.pos - r.start) }

func (r *reader) bytes(s span) []byte { return r.buf[r.start+int(s.lo) : r.start+int(s.hi)] }

// begin forgets the last element.
func (r *reader) begin() {
	r.start = r.pos
	if cap(r.nodes) > 1024 { // an unusual element; do not keep its memory
		r.nodes, r.attrs = nil, nil
	}
	r.nodes = r.nodes[:0]
	r.attrs = r.attrs[:0]
	r.binds = r.binds[:r.fixed]
	r.active = r.active[:r.fixed]
	r.frames = r.frames[:min(len(r.frames), 1)]
}

// header reads up to the end of the stream's opening tag. The element has no children yet. An XML declaration
// may stand before it, at the very beginning (RFC 6120 §11.5, §11.6).
func (r *reader) header() (element, error) {
	e, err := r.openingTag()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return e, err
}

func (r *reader) openingTag() (element, error) {
	if err := r.prolog(); err != nil {
		return element{}, err
	}
	r.begin()
	if err := r.has(2); err != nil {
		return element{}, err
	}
	if err := r.markup(); err != nil {
		return element{}, err
	}
	closed, err := r.startTag()
	if err != nil {
		return element{}, err
	}
	if r.pos-r.start > r.max {
		return element{}, &streamError{why: endTooBig}
	}
	r.keepHeader(closed)
	return element{r, 0}, nil
}

// keepHeader copies what the rest of the stream refers to.
func (r *reader) keepHeader(closed bool) {
	r.head = bytes.Clone(r.buf[r.start:r.pos])
	for i := range r.binds {
		r.binds[i].head = true
	}
	r.fixed = len(r.binds)
	if len(r.active) != r.fixed { // a self-closing header took them out of force
		r.active = r.active[:0]
		for i := range r.binds {
			r.active = append(r.active, int32(i))
		}
	}
	r.opened = !closed
}

// prolog skips an XML declaration and white space; it says which encodings are not ours.
func (r *reader) prolog() error {
	b, err := r.peek()
	if err != nil {
		return err
	}
	if b == 0xFE || b == 0xFF || b == 0 { // UTF-16, UTF-32
		return &streamError{why: endEncoding}
	}
	if is, err := r.atDeclaration(); err != nil {
		return err
	} else if is {
		if err := r.declaration(); err != nil {
			return err
		}
	}
	_, err = r.skipSpace()
	return err
}

// next reads the next first-level element. White space between elements is skipped (RFC 6120 §4.6.1). It
// returns io.EOF at the closing tag of the stream; a source that ends before is io.ErrUnexpectedEOF.
func (r *reader) next() (element, error) {
	e, err := r.nextElement()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err == errClosingTag {
		err = io.EOF
	}
	return e, err
}

// errClosingTag is how nextElement says that the stream was closed.
var errClosingTag = &streamError{why: endClosed}

func (r *reader) nextElement() (element, error) {
	r.begin()
	if !r.opened {
		return element{}, errClosingTag
	}
	if err := r.between(); err != nil {
		return element{}, err
	}
	if r.buf[r.pos+1] == '/' {
		return element{}, r.closingTag()
	}
	if err := r.markup(); err != nil {
		return element{}, err
	}
	if err := r.tree(); err != nil {
		return element{}, err
	}
	if r.pos-r.start > r.max {
		return element{}, &streamError{why: endTooBig}
	}
	return element{r, 0}, nil
}

// between skips white space up to the next markup and looks two bytes ahead.
func (r *reader) between() error {
	for {
		b, err := r.peek()
		switch {
		case err != nil:
			return err
		case class[b]&space != 0:
			r.pos++
			r.start = r.pos
		case b == '<':
			return r.has(2)
		case b == '&':
			if _, err := r.reference(r.offset()); err != nil {
				return err
			}
			return &streamError{why: endText}
		case b < utf8.RuneSelf && class[b]&textPlain == 0 && b != ']':
			return malformed()
		default:
			return &streamError{why: endText}
		}
	}
}

// markup says what is wrong with a '<' that does not begin a tag; two bytes can be looked at.
func (r *reader) markup() error {
	if r.buf[r.pos] != '<' {
		return malformed()
	}
	switch r.buf[r.pos+1] {
	case '?':
		return r.instruction()
	case '!':
		if err := r.has(3); err != nil {
			return err
		}
		if r.buf[r.pos+2] == '[' { // a CDATA section outside of an element is text
			return &streamError{why: endText}
		}
		return restricted() // comment, DTD
	}
	return nil
}

// instruction says what is wrong with a processing instruction: an XML declaration where none may stand is
// not well-formed (XML 1.0 §2.8), all others are restricted (RFC 6120 §11.1).
func (r *reader) instruction() error {
	is, err := r.atDeclaration()
	if err != nil {
		return err
	}
	if is {
		return malformed()
	}
	return restricted()
}

// atDeclaration tells whether the bytes from here on are "<?xml" and white space. It never waits for more
// bytes than it needs to know.
func (r *reader) atDeclaration() (bool, error) {
	const open = "<?xml"
	for i := range len(open) {
		if err := r.has(i + 1); err != nil {
			return false, err
		}
		if r.buf[r.pos+i] != open[i] {
			return false, nil
		}
	}
	if err := r.has(len(open) + 1); err != nil {
		return false, err
	}
	return class[r.buf[r.pos+len(open)]]&space != 0, nil
}

// closingTag reads the end of the stream.
func (r *reader) closingTag() error {
	r.pos += 2
	raw, _, err := r.qname()
	if err != nil {
		return err
	}
	if !bytes.Equal(r.bytes(raw), r.head[r.root.lo:r.root.hi]) {
		return malformed()
	}
	if _, err := r.skipSpace(); err != nil {
		return err
	}
	if err := r.expect('>'); err != nil {
		return err
	}
	r.opened = false
	return errClosingTag
}

// tree reads one element with all that is in it.
func (r *reader) tree() error {
	base := len(r.frames)
	if closed, err := r.startTag(); err != nil || closed {
		return err
	}
	for len(r.frames) > base {
		if err := r.text(); err != nil {
			return err
		}
		// text stops at a '<' with a byte behind it
		if r.buf[r.pos+1] == '/' {
			if err := r.endTag(); err != nil {
				return err
			}
			continue
		}
		if err := r.markup(); err != nil {
			return err
		}
		if _, err := r.startTag(); err != nil {
			return err
		}
	}
	return nil
}

// endTag closes the innermost element.
func (r *reader) endTag() error {
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
func (r *reader) slowEndTag(want span) error {
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
func (r *reader) startTag() (closed bool, err error) {
	if len(r.frames) > maxDepth {
		return false, &streamError{why: endTooDeep}
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

// local is the part of a name behind the colon.
func local(raw span, colon int32) span {
	if colon > 0 {
		return span{colon + 1, raw.hi}
	}
	return raw
}

// link makes n the last child of the innermost open element of this stanza, if there is one.
func (r *reader) link(n node) int32 {
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
func (r *reader) attributes(first int) (closed bool, err error) {
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
func (r *reader) attribute(first int) error {
	raw, colon, err := r.qname()
	if err != nil {
		return err
	}
	value, err := r.assigned()
	if err != nil {
		return err
	}
	if len(r.attrs)-first == maxAttributes {
		return &streamError{why: endTooManyAttributes}
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
func (r *reader) declare(first int) (def int32, err error) {
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
			return 0, &streamError{why: endTooManyNamespaces}
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
func (r *reader) checkBind(b bind) error {
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
func (r *reader) lookup(prefix span) (int32, error) {
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

func (r *reader) bindBytes(b *bind, s span) []byte {
	if b.head {
		return r.head[s.lo:s.hi]
	}
	return r.bytes(s)
}

// resolve finds the namespaces of the attributes; two of the same name are an error (Namespaces in XML 1.0 §6.3).
func (r *reader) resolve(first int) error {
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

// space is the name of a namespace.
func (r *reader) space(ns int32) []byte {
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
func (r *reader) qname() (raw span, colon int32, err error) {
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

func (r *reader) nameLength(lo int32) error {
	if r.offset()-lo > maxName {
		return &streamError{why: endLongName}
	}
	return nil
}

// nameRun skips ASCII name characters.
func (r *reader) nameRun() {
	run := r.buf[r.pos:r.end]
	n := 0
	for n < len(run) && class[run[n]]&nameRest != 0 {
		n++
	}
	r.pos += n
}

// nameRune takes one character of a name that is not ASCII.
func (r *reader) nameRune(first bool) error {
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
func (r *reader) rune() (c rune, n int, err error) {
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

// assigned reads = and a value.
func (r *reader) assigned() (span, error) {
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
func (r *reader) value() (span, error) {
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
func (r *reader) text() error {
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
func (r *reader) run(w int32, plain uint8) int32 {
	run := r.buf[r.pos:r.end]
	n := 0
	for n < len(run) && class[run[n]]&plain != 0 {
		n++
	}
	return r.keep(w, n)
}

// keep moves the next n bytes to w, which is not behind them.
func (r *reader) keep(w int32, n int) int32 {
	if at := r.start + int(w); at != r.pos {
		copy(r.buf[at:], r.buf[r.pos:r.pos+n])
	}
	r.pos += n
	return w + int32(n)
}

// special takes a byte that does not mean itself in text or in a value.
func (r *reader) special(w int32, b byte) (int32, error) {
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
func (r *reader) cdata(w *int32) (more bool, err error) {
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
func (r *reader) reference(w int32) (int32, error) {
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
func (r *reader) declaration() error {
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
func (r *reader) declared(part int) (int, error) {
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
			return 0, &streamError{why: endEncoding} // RFC 6120 §4.9.3.22, §11.6
		}
		return 2, nil
	case name == "standalone" && (part == 1 || part == 2) && (value == "yes" || value == "no"):
		return 3, nil
	}
	return 0, malformed()
}
