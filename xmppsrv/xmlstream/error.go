package xmlstream

// Kind is what is wrong with a stream.
type Kind uint8

const (
	Malformed  Kind = iota // not well-formed XML, namespaces included (RFC 6120 §4.9.3.13)
	Restricted             // XML that XMPP forbids (RFC 6120 §11.1)
	Encoding               // not UTF-8 (RFC 6120 §11.6)
	Text                   // text between the stanzas
	TooBig                 // bytes of one element
	TooDeep
	TooManyAttributes
	TooManyNamespaces
	LongName
	closed // the closing tag; told as io.EOF

	Kinds = int(closed) // how many a caller has to know
)

var kindWords = [...]string{"malformed", "restricted", "encoding", "text", "too-big", "too-deep",
	"too-many-attributes", "too-many-namespaces", "long-name", "closed"}

// String is the kind's word, for logs and tests.
func (k Kind) String() string { return kindWords[k] }

// Error is how a Reader refuses a stream. What the source returned is passed on as it is.
type Error struct{ Kind Kind }

func (e *Error) Error() string { return "xmlstream: " + e.Kind.String() }
