package xmlstream

// Kind is what is wrong with a stream.
type Kind uint8

const (
	Malformed  Kind = iota // not well-formed XML, namespaces included
	Restricted             // XML that XMPP forbids
	Encoding               // not UTF-8
	Text                   // text between the stanzas
	Nested                 // a stream in the stream
	TooBig                 // bytes of one element
	TooDeep
	TooManyAttributes
	TooManyNamespaces
	LongName
	closed // the closing tag; told as io.EOF

	Kinds = int(closed) // how many a caller has to know
)

// row is how a stream that ends for a kind is told, whoever speaks on it.
type row struct{ word, cond, text string }

var rows = [...]row{
	Malformed:         {"malformed", "not-well-formed", "The XML is not well-formed"},                                           // RFC 6120 §4.9.3.13
	Restricted:        {"restricted", "restricted-xml", "Comments, processing instructions, DTDs and entities are not allowed"}, // RFC 6120 §11.1
	Encoding:          {"encoding", "unsupported-encoding", "Only UTF-8 is allowed"},                                            // RFC 6120 §11.6
	Text:              {"text", "bad-format", "Text is not allowed between stanzas"},
	Nested:            {"nested-stream", "unsupported-stanza-type", "The stream is open already"}, // RFC 6120 §4.9.3.24
	TooBig:            {"too-big", "policy-violation", "The stanza is too big"},
	TooDeep:           {"too-deep", "policy-violation", "The stanza is nested too deeply"},
	TooManyAttributes: {"too-many-attributes", "policy-violation", "An element has too many attributes"},
	TooManyNamespaces: {"too-many-namespaces", "policy-violation", "The stanza declares too many namespaces"},
	LongName:          {"long-name", "policy-violation", "A name is too long"},
	closed:            {word: "closed"},
}

// String is the kind's word, for logs, metrics and tests.
func (k Kind) String() string { return rows[k].word }

// Condition is the stream error that belongs to the kind (RFC 6120 §4.9.3).
func (k Kind) Condition() string { return rows[k].cond }

// Text says the same to a person. It never has anything of the peer's in it.
func (k Kind) Text() string { return rows[k].text }

// Error is how a Reader refuses a stream. What the source returned is passed on as it is.
type Error struct{ Kind Kind }

func (e *Error) Error() string { return "xmlstream: " + e.Kind.String() }
