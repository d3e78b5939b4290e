package xmppsrv

import "bytes"

// element is an element of the tree that a reader has read last. It is a value of two words; it and every
// slice it returns are valid until the reader's next call of next.
type element struct {
	r *reader
	i int32
}

// local is the element's name without prefix; empty for text.
func (e element) local() []byte { return e.r.bytes(e.r.nodes[e.i].name) }

// space is the name of the element's namespace.
func (e element) space() []byte { return e.r.space(e.r.nodes[e.i].ns) }

// is reports whether the element has this name in this namespace.
func (e element) is(local, space string) bool {
	return string(e.local()) == local && string(e.space()) == space
}

// isText reports whether this is character data.
func (e element) isText() bool { return e.r.nodes[e.i].name.hi == 0 }

// attr returns the value of an attribute without prefix; nil if there is none, else not nil.
func (e element) attr(name string) []byte {
	n := &e.r.nodes[e.i]
	for _, a := range e.r.attrs[n.attrs[0]:n.attrs[1]] {
		if a.ns == noSpace && string(e.r.bytes(a.name)) == name {
			return e.r.bytes(a.value)
		}
	}
	return nil
}

// lang returns xml:lang, nil if there is none.
func (e element) lang() []byte {
	n := &e.r.nodes[e.i]
	for _, a := range e.r.attrs[n.attrs[0]:n.attrs[1]] {
		if a.ns == xmlSpace && string(e.r.bytes(a.name)) == "lang" {
			return e.r.bytes(a.value)
		}
	}
	return nil
}

// first returns the first child, text included.
func (e element) first() (element, bool) { return e.at(e.r.nodes[e.i].child) }

// next returns the next sibling, text included.
func (e element) next() (element, bool) { return e.at(e.r.nodes[e.i].next) }

func (e element) at(i int32) (element, bool) { return element{e.r, i}, i != 0 }

// child returns the first child of this name.
func (e element) child(local, space string) (element, bool) {
	for c, ok := e.first(); ok; c, ok = c.next() {
		if c.is(local, space) {
			return c, true
		}
	}
	return element{}, false
}

// text is the element's own character data. It copies only where elements stand between its pieces.
func (e element) text() []byte {
	var got []byte
	pieces := 0
	for c, ok := e.first(); ok; c, ok = c.next() {
		if !c.isText() {
			continue
		}
		t := e.r.bytes(e.r.nodes[c.i].text)
		switch pieces {
		case 0:
			got = t
		case 1:
			got = append(bytes.Clone(got), t...)
		default:
			got = append(got, t...)
		}
		pieces++
	}
	return got
}

// payload returns the only child element; false if there are none or several.
func (e element) payload() (only element, ok bool) {
	for c, more := e.first(); more; c, more = c.next() {
		if c.isText() {
			continue
		}
		if ok {
			return element{}, false
		}
		only, ok = c, true
	}
	return only, ok
}
