package gcm

import (
	"slices"
	"strings"

	"presenced/presence"
)

// Topic says who is meant by their subscriptions: those of one topic, or those whose topics meet a condition.
type Topic struct {
	names []string // the topics that are named, each once
	text  string   // as it was sent
	root  *term
}

// term is a name, or two terms joined.
type term struct {
	name        string // "": joined
	or          bool
	left, right *term
}

const (
	maxOperators = 2
	maxCondition = 1024 // bytes
)

// Topics are those that are named, each once.
func (t *Topic) Topics() []string { return t.names }

// Match tells whether somebody with these subscriptions is meant.
func (t *Topic) Match(subscribed func(topic string) bool) bool { return t.root.match(subscribed) }

func (t *term) match(subscribed func(string) bool) bool {
	switch {
	case t.name != "":
		return subscribed(t.name)
	case t.or:
		return t.left.match(subscribed) || t.right.match(subscribed)
	}
	return t.left.match(subscribed) && t.right.match(subscribed)
}

func oneTopic(name string) *Topic {
	return &Topic{names: []string{name}, text: topicPrefix + name, root: &term{name: name}}
}

// parseCondition reads 'a' in topics && ('b' in topics || 'c' in topics): parentheses first, the rest from left to
// right, at most two operators.
func parseCondition(s string) (*Topic, bool) {
	if len(s) > maxCondition {
		return nil, false
	}
	p := conditionParser{rest: s, topic: &Topic{text: s}}
	root, ok := p.terms(0)
	p.space()
	if !ok || p.rest != "" {
		return nil, false
	}
	p.topic.root = root
	return p.topic, true
}

// conditionParser is what of a condition is left to read.
type conditionParser struct {
	rest      string
	topic     *Topic
	operators int
}

func (p *conditionParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// skip takes a word if it comes next.
func (p *conditionParser) skip(word string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, word)
	p.rest = rest
	return ok
}

// terms reads terms joined by operators.
func (p *conditionParser) terms(depth int) (*term, bool) {
	left, ok := p.one(depth)
	for ok {
		t := &term{left: left}
		switch {
		case p.skip("&&"):
		case p.skip("||"):
			t.or = true
		default:
			return left, true
		}
		if p.operators++; p.operators > maxOperators {
			return nil, false
		}
		t.right, ok = p.one(depth)
		left = t
	}
	return nil, false
}

// one reads a name or what is in parentheses.
func (p *conditionParser) one(depth int) (*term, bool) {
	if p.skip("(") {
		if depth > maxOperators {
			return nil, false
		}
		t, ok := p.terms(depth + 1)
		return t, ok && p.skip(")")
	}
	if !p.skip("'") {
		return nil, false
	}
	name, rest, ok := strings.Cut(p.rest, "'")
	p.rest = rest
	if !ok || presence.CheckTopic(name) != nil || !p.skip("in") || !p.skip("topics") {
		return nil, false
	}
	if !slices.Contains(p.topic.names, name) {
		p.topic.names = append(p.topic.names, name)
	}
	return &term{name: name}, true
}
