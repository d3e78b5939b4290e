package xmlstream

import (
	"bytes"
	"io"
	"unicode/utf8"
)

// Bounds of one element beside its bytes.
const (
	maxDepth      = 64  // nested elements
	maxAttributes = 64  // of one element, declarations of namespaces included
	maxName       = 256 // bytes of a name with its prefix
	maxNamespaces = 64  // declarations in force at one place
)

const (
	nsXML   = "http://www.w3.org/XML/1998/namespace"
	nsXMLNS = "http://www.w3.org/2000/xmlns/"
)

// Reader splits a stream into its header, first-level elements and closing tag, and is strict: what RFC 6120
// §11.1 restricts, what is not well-formed (XML 1.0, Namespaces in XML 1.0) and what is over a bound is an
// error, always a *Error or what the source returned.
//
// It parses in one pass in its own buffer, which it fills when it needs a byte, so that bytes may come in any
// pieces. Text is decoded where it stands. An element, and every slice got from it, is valid until the next
// call of next. A reader is for one goroutine.
type Reader struct {
	src io.Reader
	max int // bytes of one element

	buf   []byte
	start int // of the element being read; what is before is done with
	pos   int // the next byte to look at
	end   int // of what was read

	head   []byte // the header's bytes, for its name and the namespaces it declares
	root   span   // the header's name with prefix, in head
	name   name   // the same without prefix
	opened bool

	// The tree of the element being read; the slices are used again. Spans count from start.
	nodes  []node
	attrs  []attr
	binds  []bind  // the header's, then those of this element, never removed before it is done
	active []int32 // into binds: in force here
	frames []frame // open elements
	fixed  int     // how many binds and active are the header's
}

// name is an element's, in its namespace.
type name struct{ local, space string }

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

// NewReader reads from src; an element may have max bytes.
func NewReader(src io.Reader, max int) *Reader {
	return &Reader{src: src, max: max, buf: make([]byte, 4<<10)}
}

// Allow changes how big an element may be, and reads in pieces of chunk bytes from now on.
func (r *Reader) Allow(max, chunk int) {
	r.max = max
	if len(r.buf) < chunk {
		r.buf = append(make([]byte, 0, chunk), r.buf[:r.end]...)[:chunk]
	}
}

// Restart makes the reader expect a new header behind the last element (RFC 6120 §4.3.3). Namespaces of the old one are
// forgotten.
func (r *Reader) Restart() {
	r.start = r.pos
	r.head, r.root, r.name, r.opened = nil, span{}, name{}, false
	r.nodes, r.attrs, r.binds = r.nodes[:0], r.attrs[:0], r.binds[:0]
	r.active, r.frames, r.fixed = r.active[:0], r.frames[:0], 0
}

// malformed is a violation of XML or of its namespaces (RFC 6120 §4.9.3.13).
func malformed() error  { return &Error{Malformed} }
func restricted() error { return &Error{Restricted} }

// fill reads more bytes. It is called when all that was read is parsed.
func (r *Reader) fill() error {
	if r.pos-r.start >= r.max {
		return &Error{TooBig}
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
func (r *Reader) peek() (byte, error) {
	if r.pos == r.end {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	return r.buf[r.pos], nil
}

// has makes sure that n more bytes can be looked at.
func (r *Reader) has(n int) error {
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
func (r *Reader) skipSpace() (bool, error) {
	for some := false; ; some = true {
		b, err := r.peek()
		if err != nil || class[b]&space == 0 {
			return some, err
		}
		r.pos++
	}
}

// expect takes the byte b.
func (r *Reader) expect(b byte) error {
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
func (r *Reader) offset() int32 { return int32(r.pos - r.start) }

func (r *Reader) bytes(s span) []byte { return r.buf[r.start+int(s.lo) : r.start+int(s.hi)] }

// begin forgets the last element.
func (r *Reader) begin() {
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

// Default is the default namespace of the stream, once its header was read.
func (r *Reader) Default() []byte { return r.space(r.frames[0].def) }

// Header reads up to the end of the stream's opening tag. The element has no children yet. An XML declaration
// may stand before it, at the very beginning (RFC 6120 §11.5, §11.6).
func (r *Reader) Header() (Element, error) {
	e, err := r.openingTag()
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return e, err
}

func (r *Reader) openingTag() (Element, error) {
	if err := r.prolog(); err != nil {
		return Element{}, err
	}
	r.begin()
	if err := r.has(2); err != nil {
		return Element{}, err
	}
	if err := r.markup(); err != nil {
		return Element{}, err
	}
	closed, err := r.startTag()
	if err != nil {
		return Element{}, err
	}
	if r.pos-r.start > r.max {
		return Element{}, &Error{TooBig}
	}
	r.keepHeader(closed)
	return Element{r, 0}, nil
}

// keepHeader copies what the rest of the stream refers to.
func (r *Reader) keepHeader(closed bool) {
	header := Element{r, 0}
	r.name = name{string(header.Local()), string(header.Space())}
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
func (r *Reader) prolog() error {
	b, err := r.peek()
	if err != nil {
		return err
	}
	if b == 0xFE || b == 0xFF || b == 0 { // UTF-16, UTF-32
		return &Error{Encoding}
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

// Next reads the next first-level element. White space between elements is skipped (RFC 6120 §4.6.1). It
// returns io.EOF at the closing tag of the stream; a source that ends before is io.ErrUnexpectedEOF.
func (r *Reader) Next() (Element, error) {
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
var errClosingTag = &Error{closed}

func (r *Reader) nextElement() (Element, error) {
	r.begin()
	if !r.opened {
		return Element{}, errClosingTag
	}
	if err := r.between(); err != nil {
		return Element{}, err
	}
	if r.buf[r.pos+1] == '/' {
		return Element{}, r.closingTag()
	}
	if err := r.markup(); err != nil {
		return Element{}, err
	}
	if err := r.tree(); err != nil {
		return Element{}, err
	}
	if r.pos-r.start > r.max {
		return Element{}, &Error{TooBig}
	}
	return Element{r, 0}, nil
}

// between skips white space up to the next markup and looks two bytes ahead.
func (r *Reader) between() error {
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
			return &Error{Text}
		case b < utf8.RuneSelf && class[b]&textPlain == 0 && b != ']':
			return malformed()
		default:
			return &Error{Text}
		}
	}
}

// markup says what is wrong with a '<' that does not begin a tag; two bytes can be looked at.
func (r *Reader) markup() error {
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
			return &Error{Text}
		}
		return restricted() // comment, DTD
	}
	return nil
}

// instruction says what is wrong with a processing instruction: an XML declaration where none may stand is
// not well-formed (XML 1.0 §2.8), all others are restricted (RFC 6120 §11.1).
func (r *Reader) instruction() error {
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
func (r *Reader) atDeclaration() (bool, error) {
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
func (r *Reader) closingTag() error {
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

// tree reads one element with all that is in it. A second header would have the rest of the stream in it, so it is
// refused as soon as it is there.
func (r *Reader) tree() error {
	base := len(r.frames)
	closed, err := r.startTag()
	switch {
	case err != nil:
		return err
	case Element{r, 0}.Is(r.name.local, r.name.space):
		return &Error{Nested}
	case closed:
		return nil
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
