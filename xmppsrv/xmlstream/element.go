package xmlstream

import "bytes"

// Element is an element of the tree that a reader has read last. It is a value of two words; it and every
// slice it returns are valid until the reader's next call of next.
type Element struct {
	r *Reader
	i int32
}

// Local is the element's name without prefix; empty for text.
func (e Element) Local() []byte { return e.r.bytes(e.r.nodes[e.i].name) }

// Space is the name of the element's namespace.
func (e Element) Space() []byte { return e.r.space(e.r.nodes[e.i].ns) }

// Is reports whether the element has this name in this namespace.
func (e Element) Is(local, space string) bool {
	return string(e.Local()) == local && string(e.Space()) == space
}

// IsText reports whether this is character data.
func (e Element) IsText() bool { return e.r.nodes[e.i].name.hi == 0 }

// Attr returns the value of an attribute without prefix; nil if there is none, else not nil.
func (e Element) Attr(name string) []byte {
	n := &e.r.nodes[e.i]
	for _, a := range e.r.attrs[n.attrs[0]:n.attrs[1]] {
		if a.ns == noSpace && string(e.r.bytes(a.name)) == name {
			return e.r.bytes(a.value)
		}
	}
	return nil
}

// Lang returns xml:lang, nil if there is none.
func (e Element) Lang() []byte {
	n := &e.r.nodes[e.i]
	for _, a := range e.r.attrs[n.attrs[0]:n.attrs[1]] {
		if a.ns == xmlSpace && string(e.r.bytes(a.name)) == "lang" {
			return e.r.bytes(a.value)
		}
	}
	return nil
}

// First returns the first child, text included.
func (e Element) First() (Element, bool) { return e.at(e.r.nodes[e.i].child) }

// Next returns the next sibling, text included.
func (e Element) Next() (Element, bool) { return e.at(e.r.nodes[e.i].next) }

func (e Element) at(i int32) (Element, bool) { return Element{e.r, i}, i != 0 }

// Child returns the first child of this name.
func (e Element) Child(local, space string) (Element, bool) {
	for c, ok := e.First(); ok; c, ok = c.Next() {
		if c.Is(local, space) {
			return c, true
		}
	}
	return Element{}, false
}

// Text is the element's own character data. It copies only where elements stand between its pieces.
func (e Element) Text() []byte {
	var got []byte
	pieces := 0
	for c, ok := e.First(); ok; c, ok = c.Next() {
		if !c.IsText() {
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

// Payload returns the only child element; false if there are none or several.
func (e Element) Payload() (only Element, ok bool) {
	for c, more := e.First(); more; c, more = c.Next() {
		if c.IsText() {
			continue
		}
		if ok {
			return Element{}, false
		}
		only, ok = c, true
	}
	return only, ok
}
