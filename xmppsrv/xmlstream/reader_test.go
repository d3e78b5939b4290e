package xmlstream

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"
)

const minStanza = 10_000 // bytes, what most tests allow

const plainHeader = "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='chat.example'>"

// dump writes a tree in a form that two parsers can be compared by. White space in attributes counts as blanks,
// since encoding/xml does not normalise it.
func dump(w *strings.Builder, e Element) {
	fmt.Fprintf(w, "<{%s}%s", e.Space(), e.Local())
	n := &e.r.nodes[e.i]
	var as []string
	for _, a := range e.r.attrs[n.attrs[0]:n.attrs[1]] {
		as = append(as, attrString(string(e.r.space(a.ns)), string(e.r.bytes(a.name)), string(e.r.bytes(a.value))))
	}
	dumpAttrs(w, as)
	for c, ok := e.First(); ok; c, ok = c.Next() {
		if c.IsText() {
			fmt.Fprintf(w, "%q", e.r.bytes(e.r.nodes[c.i].text))
			continue
		}
		dump(w, c)
	}
	w.WriteString("</>")
}

func attrString(space, name, value string) string {
	value = strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == '\r' {
			return ' '
		}
		return r
	}, value)
	return fmt.Sprintf(" {%s}%s=%q", space, name, value)
}

func dumpAttrs(w *strings.Builder, as []string) {
	slices.Sort(as)
	for _, a := range as {
		w.WriteString(a)
	}
	w.WriteString(">")
}

// readAll reads a whole stream with our reader: the header's dump, then each element's, and how it ended.
func readAll(src io.Reader, max int) (trees []string, err error) {
	r := NewReader(src, max)
	e, err := r.Header()
	for ; err == nil; e, err = r.Next() {
		var w strings.Builder
		dump(&w, e)
		trees = append(trees, w.String())
	}
	return trees, err
}

// theirs does the same with encoding/xml.
func theirs(data []byte) (trees []string, err error) {
	d := xml.NewDecoder(bytes.NewReader(data))
	var w strings.Builder
	var text []byte
	depth := 0
	flush := func() {
		if len(text) > 0 && depth > 1 {
			fmt.Fprintf(&w, "%q", text)
		}
		text = text[:0]
	}
	for {
		t, err := d.Token()
		if err != nil {
			return trees, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			flush()
			depth++
			fmt.Fprintf(&w, "<{%s}%s", t.Name.Space, t.Name.Local)
			var as []string
			for _, a := range t.Attr {
				if a.Name.Space != "xmlns" && (a.Name.Space != "" || a.Name.Local != "xmlns") {
					as = append(as, attrString(a.Name.Space, a.Name.Local, a.Value))
				}
			}
			dumpAttrs(&w, as)
			if depth == 1 {
				w.WriteString("</>")
				trees = append(trees, w.String())
				w.Reset()
			}
		case xml.EndElement:
			flush()
			depth--
			w.WriteString("</>")
			if depth == 1 {
				trees = append(trees, w.String())
				w.Reset()
			}
			if depth == 0 {
				return trees, io.EOF
			}
		case xml.CharData:
			text = append(text, t...)
		}
	}
}

// nameTrouble reports whether the two may differ about a name: the fifth edition of XML allows more names than
// encoding/xml knows.
func nameTrouble(err error, data []byte) bool {
	return err != nil && strings.Contains(err.Error(), "invalid XML name") &&
		slices.ContainsFunc(data, func(b byte) bool { return b >= utf8.RuneSelf })
}

// checkReader holds our reader against encoding/xml: what we accept, it accepts, with the same trees; and it
// makes no difference in which pieces the bytes come.
func checkReader(t *testing.T, data []byte) {
	ours, err := readAll(bytes.NewReader(data), 1<<16)
	single, err1 := readAll(iotest.OneByteReader(bytes.NewReader(data)), 1<<16)
	if !slices.Equal(ours, single) || fmt.Sprint(err) != fmt.Sprint(err1) {
		t.Fatalf("in one piece: %q %v\nin single bytes: %q %v", ours, err, single, err1)
	}
	if len(ours) == 0 {
		return
	}
	want, terr := theirs(data)
	if nameTrouble(terr, data) {
		return
	}
	if len(want) < len(ours) {
		t.Fatalf("we accept %d elements, encoding/xml %d (%v)\n%q", len(ours), len(want), terr, ours)
	}
	for i := range ours {
		if ours[i] != want[i] {
			t.Fatalf("element %d\nours   %s\ntheirs %s", i, ours[i], want[i])
		}
	}
	if err == io.EOF && len(want) != len(ours) {
		t.Fatalf("we saw the end after %d elements, encoding/xml has %d", len(ours), len(want))
	}
}

// seeds are streams worth starting from.
var seeds = []string{
	plainHeader + "</stream:stream>",
	"<?xml version='1.0' encoding='UTF-8'?>\n" + plainHeader + " <presence from='a@chat.example' to='b@c'/>\n</stream:stream >",
	plainHeader + `<message to="x" id='1'><body>a &amp; b &#x20AC;<![CDATA[ <raw> ]]>&lt;</body><x xmlns='jabber:x:oob'><url>http://e/</url></x></message>`,
	plainHeader + "<a xmlns:p='u:p' p:q='1' q='1'><p:b xml:lang='de'>t<c xmlns=''/>u</p:b></a>",
	plainHeader + "<a b=' x\n\ty&#10;\r\n'>\r\n\r x</a>",
	plainHeader + "<a>é𝄞</a><é ü='ß'/>",
	plainHeader + "<!-- c --><a/>",
	plainHeader + "<?pi x?><a/>",
	plainHeader + "<a>&lol;</a>",
	plainHeader + "<a b='1' b='2'/>",
	plainHeader + "<a xmlns:p='u' xmlns:q='u' p:x='1' q:x='2'/>",
	plainHeader + "<p:a/>",
	plainHeader + "<a>]]></a>",
	"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>",
	"<stream xmlns='http://etherx.jabber.org/streams'><iq xmlns='jabber:component:accept'/></stream>",
}

func FuzzReader(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(checkReader)
}

// A stream, and what the reader makes of it. "H" stands for the header.
var readerCases = []struct {
	name  string
	in    string
	trees string // joined by |
	end   string // word of the end, or "eof", "unexpected"
}{
	{"closing tag", plainHeader + "</stream:stream>", "H", "eof"},
	{"closing tag with space", plainHeader + "</stream:stream\n>", "H", "eof"},
	{"wrong closing tag", plainHeader + "</stream>", "H", "malformed"},
	{"declaration", "<?xml version='1.0'?>" + plainHeader, "H", "unexpected"},
	{"declaration in full", `<?xml version="1.0" encoding="utf-8" standalone="yes" ?>` + "\n" + plainHeader, "H", "unexpected"},
	{"declaration with another encoding", "<?xml version='1.0' encoding='ISO-8859-1'?>" + plainHeader, "", "encoding"},
	{"declaration without version", "<?xml encoding='utf-8'?>" + plainHeader, "", "malformed"},
	{"declaration with another version", "<?xml version='1.1'?>" + plainHeader, "", "malformed"},
	{"declaration out of order", "<?xml version='1.0' standalone='no' encoding='utf-8'?>" + plainHeader, "", "malformed"},
	{"declaration twice", "<?xml version='1.0'?><?xml version='1.0'?>" + plainHeader, "", "malformed"},
	{"declaration in the stream", plainHeader + "<?xml version='1.0'?>", "H", "malformed"},
	{"declaration behind space", " <?xml version='1.0'?>" + plainHeader, "", "malformed"},
	{"UTF-16", "\xff\xfe<\x00", "", "encoding"},
	{"UTF-16, the other way", "\xfe\xff\x00<", "", "encoding"},
	{"byte order mark", "\xef\xbb\xbf" + plainHeader, "", "malformed"},
	{"instruction before the header", "<?a?>", "", "restricted"},
	{"instruction with a name like a declaration", "<?xml-stylesheet href='x'?>", "", "restricted"},
	{"doctype", "<!DOCTYPE a>", "", "restricted"},
	{"comment before the header", "<!-- -->", "", "restricted"},
	{"text before the header", "hello", "", "malformed"},
	{"empty stream", "", "", "unexpected"},
	{"comment", plainHeader + "<!--", "H", "restricted"},
	{"comment in a stanza", plainHeader + "<a><!-- --></a>", "H", "restricted"},
	{"instruction", plainHeader + "<?x", "H", "unexpected"},
	{"instruction known as one", plainHeader + "<?y", "H", "restricted"},
	{"instruction in a stanza", plainHeader + "<a><?b?></a>", "H", "restricted"},
	{"DTD in the stream", plainHeader + "<!DOCTYPE a [ <!ENTITY b 'c'> ]>", "H", "restricted"},
	{"entity", plainHeader + "<a>&nbsp;</a>", "H", "restricted"},
	{"entity in an attribute", plainHeader + "<a b='&nbsp;'/>", "H", "restricted"},
	{"entity between stanzas", plainHeader + "&lol;", "H", "restricted"},
	{"text between stanzas", plainHeader + "hello", "H", "text"},
	{"reference between stanzas", plainHeader + "&#65;", "H", "text"},
	{"CDATA between stanzas", plainHeader + "<![CDATA[x]]>", "H", "text"},
	{"white space", plainHeader + " \r\n\t <a/> ", "H|<{jabber:component:accept}a></>", "unexpected"},
	{"two at once", plainHeader + "<a/><b></b>", "H|<{jabber:component:accept}a></>|<{jabber:component:accept}b></>", "unexpected"},
	{"references", plainHeader + "<a b='&lt;&gt;&amp;&apos;&quot;&#65;&#x42;'>&lt;&gt;&amp;&apos;&quot;&#65;&#x1D11E;</a>",
		`H|<{jabber:component:accept}a {}b="<>&'\"AB">"<>&'\"A𝄞"</>`, "unexpected"},
	{"reference to nothing legal", plainHeader + "<a>&#0;</a>", "H", "malformed"},
	{"reference to half a pair", plainHeader + "<a>&#xD800;</a>", "H", "malformed"},
	{"reference beyond Unicode", plainHeader + "<a>&#x110000;</a>", "H", "malformed"},
	{"reference that overflows", plainHeader + "<a>&#99999999999999999999;</a>", "H", "malformed"},
	{"reference without digits", plainHeader + "<a>&#;</a>", "H", "malformed"},
	{"reference without an end", plainHeader + "<a>&amp </a>", "H", "malformed"},
	{"lone ampersand", plainHeader + "<a>a & b</a>", "H", "malformed"},
	{"CDATA", plainHeader + "<a>x<![CDATA[<&]]]]><![CDATA[>]]>y</a>", `H|<{jabber:component:accept}a>"x<&]]>y"</>`, "unexpected"},
	{"no CDATA", plainHeader + "<a><![CDATA(x]]></a>", "H", "malformed"},
	{"line ends", plainHeader + "<a>1\r\n2\r3\n4</a>", `H|<{jabber:component:accept}a>"1\n2\n3\n4"</>`, "unexpected"},
	{"end of CDATA outside", plainHeader + "<a>]]></a>", "H", "malformed"},
	{"control character", plainHeader + "<a>\x01</a>", "H", "malformed"},
	{"control character in an attribute", plainHeader + "<a b='\x00'/>", "H", "malformed"},
	{"control character between stanzas", plainHeader + "\x00", "H", "malformed"},
	{"not a character", plainHeader + "<a>\uFFFE</a>", "H", "malformed"},
	{"half a pair in UTF-8", plainHeader + "<a>\xed\xa0\x80</a>", "H", "malformed"},
	{"overlong UTF-8", plainHeader + "<a>\xc0\xaf</a>", "H", "malformed"},
	{"broken UTF-8", plainHeader + "<a>\xff</a>", "H", "malformed"},
	{"mismatched tags", plainHeader + "<a></b>", "H", "malformed"},
	{"end tag that is too long", plainHeader + "<a></aa>", "H", "malformed"},
	{"end tag without an element", plainHeader + "</a>", "H", "malformed"},
	{"same name, other prefix", plainHeader + "<a xmlns:p='jabber:component:accept'></p:a>", "H", "malformed"},
	{"end tag with space", plainHeader + "<a></a\n >", "H|<{jabber:component:accept}a></>", "unexpected"},
	{"duplicate attribute", plainHeader + "<a b='' b=''/>", "H", "malformed"},
	{"duplicate attribute by namespace", plainHeader + "<a xmlns:p='u' xmlns:q='u' p:b='' q:b=''/>", "H", "malformed"},
	{"same attribute in two namespaces", plainHeader + "<a xmlns:p='u' p:b='1' b='2'/>", `H|<{jabber:component:accept}a {u}b="1" {}b="2"></>`, "unexpected"},
	{"duplicate declaration", plainHeader + "<a xmlns='u' xmlns='v'/>", "H", "malformed"},
	{"undeclared prefix", plainHeader + "<p:a/>", "H", "malformed"},
	{"undeclared prefix of an attribute", plainHeader + "<a p:b=''/>", "H", "malformed"},
	{"prefix out of scope", plainHeader + "<a><b xmlns:p='u'/><p:c/></a>", "H", "malformed"},
	{"prefix out of scope in the next stanza", plainHeader + "<a xmlns:p='u'/><p:c/>", "H|<{jabber:component:accept}a></>", "malformed"},
	{"prefix taken back", plainHeader + "<a xmlns:p=''/>", "H", "malformed"},
	{"prefix xmlns declared", plainHeader + "<a xmlns:xmlns='u'/>", "H", "malformed"},
	{"prefix xml declared as another", plainHeader + "<a xmlns:xml='u'/>", "H", "malformed"},
	{"prefix xml declared as itself", plainHeader + "<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>", "H|<{jabber:component:accept}a></>", "unexpected"},
	{"another prefix for xml", plainHeader + "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>", "H", "malformed"},
	{"xml as the default", plainHeader + "<a xmlns='http://www.w3.org/XML/1998/namespace'/>", "H", "malformed"},
	{"default taken back", plainHeader + "<a><b xmlns=''><c/></b><d/></a>",
		"H|<{jabber:component:accept}a><{}b><{}c></></><{jabber:component:accept}d></></>", "unexpected"},
	{"prefix of the header", plainHeader + "<stream:error/>", "H|<{http://etherx.jabber.org/streams}error></>", "unexpected"},
	{"stream in the stream", plainHeader + plainHeader, "H", "nested-stream"},
	{"stream in the stream under another prefix", plainHeader + "<s:stream xmlns:s='http://etherx.jabber.org/streams'/>", "H", "nested-stream"},
	{"stream of another namespace", plainHeader + "<stream><stream:stream/></stream>",
		"H|<{jabber:component:accept}stream><{http://etherx.jabber.org/streams}stream></></>", "unexpected"},
	{"prefix declared again", plainHeader + "<stream:a xmlns:stream='u'><stream:b xmlns:stream='v'/><stream:c/></stream:a>",
		"H|<{u}a><{v}b></><{u}c></></>", "unexpected"},
	{"two colons", plainHeader + "<a:b:c/>", "H", "malformed"},
	{"colon first", plainHeader + "<:a/>", "H", "malformed"},
	{"colon last", plainHeader + "<stream: />", "H", "malformed"},
	{"digit first", plainHeader + "<1a/>", "H", "malformed"},
	{"digit first behind the colon", plainHeader + "<stream:1a/>", "H", "malformed"},
	{"name with a bad character", plainHeader + "<a$/>", "H", "malformed"},
	{"name with another bad character", plainHeader + "<a×/>", "H", "malformed"},
	{"name beyond ASCII", plainHeader + "<été/>", "H|<{jabber:component:accept}été></>", "unexpected"},
	{"no space between attributes", plainHeader + "<a b=''c=''/>", "H", "malformed"},
	{"attribute without quotes", plainHeader + "<a b=c/>", "H", "malformed"},
	{"attribute without value", plainHeader + "<a b/>", "H", "malformed"},
	{"less-than in an attribute", plainHeader + "<a b='<'/>", "H", "malformed"},
	{"space before the end", plainHeader + "<a / >", "H", "malformed"},
	{"space before the name", plainHeader + "< a/>", "H", "malformed"},
	{"mixed content", plainHeader + "<a>1<b/>2<b>3</b></a>", `H|<{jabber:component:accept}a>"1"<{jabber:component:accept}b></>"2"<{jabber:component:accept}b>"3"</></>`, "unexpected"},
	{"cut in a stanza", plainHeader + "<a>", "H", "unexpected"},
	{"deep as allowed", plainHeader + strings.Repeat("<a>", maxDepth) + strings.Repeat("</a>", maxDepth) + "</stream:stream>", "", "eof"},
	{"too deep", plainHeader + strings.Repeat("<a>", maxDepth+1), "H", "too-deep"},
	{"attributes as allowed", plainHeader + "<a" + manyAttrs(maxAttributes) + "/></stream:stream>", "", "eof"},
	{"too many attributes", plainHeader + "<a" + manyAttrs(maxAttributes+1) + "/>", "H", "too-many-attributes"},
	{"too many namespaces", plainHeader + strings.Repeat("<a xmlns:a='u' xmlns:b='u' xmlns:c='u' xmlns:d='u'>", 16), "H", "too-many-namespaces"},
	{"long name", plainHeader + "<" + strings.Repeat("a", maxName) + "/></stream:stream>", "", "eof"},
	{"too long a name", plainHeader + "<" + strings.Repeat("a", maxName+1), "H", "long-name"},
	{"stanza as big as allowed", plainHeader + big(minStanza) + "</stream:stream>", "", "eof"},
	{"stanza a byte too big", plainHeader + big(minStanza+1), "H", "too-big"},
	{"stanza without end", plainHeader + "<a>" + strings.Repeat("x", minStanza), "H", "too-big"},
	{"header without end", "<a " + strings.Repeat(" ", minStanza), "", "too-big"},
}

func manyAttrs(n int) string {
	var w strings.Builder
	for i := range n {
		fmt.Fprintf(&w, " a%d=''", i)
	}
	return w.String()
}

// big is an element of n bytes.
func big(n int) string { return "<a>" + strings.Repeat("x", n-len("<a></a>")) + "</a>" }

func endWord(err error) string {
	var se *Error
	switch {
	case err == io.EOF:
		return "eof"
	case err == io.ErrUnexpectedEOF:
		return "unexpected"
	case errors.As(err, &se):
		return se.Kind.String()
	}
	return fmt.Sprint(err)
}

func TestReader(t *testing.T) {
	var header strings.Builder
	r := NewReader(strings.NewReader(plainHeader), minStanza)
	e, err := r.Header()
	if err != nil {
		t.Fatal(err)
	}
	dump(&header, e)
	for _, c := range readerCases {
		t.Run(c.name, func(t *testing.T) {
			for _, src := range []io.Reader{
				strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in)), iotest.HalfReader(strings.NewReader(c.in)),
			} {
				trees, err := readAll(src, minStanza)
				want := strings.Split(strings.Replace(c.trees, "H", header.String(), 1), "|")
				if c.trees == "" {
					want = nil
				}
				if got := endWord(err); got != c.end {
					t.Errorf("ended with %q, want %q", got, c.end)
				}
				if !slices.Equal(trees, want) && c.end != "eof" {
					t.Errorf("got  %q\nwant %q", trees, want)
				}
			}
			checkReader(t, []byte(c.in))
		})
	}
}

// A restarted stream is a new one: its header, its prefixes, its closing tag.
func TestRestart(t *testing.T) {
	r := NewReader(strings.NewReader("<stream:stream xmlns='a' xmlns:p='b' xmlns:stream='s'><p:x/><?xml version='1.0'?><t:stream xmlns='c' xmlns:t='s'><y/></t:stream>"), minStanza)
	for i, want := range []string{"<{s}stream></>", "<{b}x></>", "<{s}stream></>", "<{c}y></>"} {
		read := r.Next
		if i%2 == 0 {
			if i > 0 {
				r.Restart()
			}
			read = r.Header
		}
		e, err := read()
		if err != nil {
			t.Fatal(err)
		}
		var w strings.Builder
		dump(&w, e)
		if w.String() != want {
			t.Errorf("element %d is %s, want %s", i, w.String(), want)
		}
	}
	if string(r.Default()) != "c" {
		t.Errorf("the default namespace is %s", r.Default())
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("the closing tag is %v", err)
	}
}

// stuck is a peer that sends and then waits for us to say something.
type stuck struct{ r io.Reader }

var errWaits = errors.New("the reader waits for more")

func (s stuck) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err == io.EOF {
		err = errWaits
	}
	return n, err
}

// An error is found without a byte more than it takes: a peer may be waiting for our answer.
func TestReaderIsPrompt(t *testing.T) {
	for _, c := range []struct{ in, end string }{
		{"<?a?>", "restricted"}, {"<!-", "restricted"}, {"<?xm?>", "restricted"}, {"<?xml v?>", "malformed"},
		{plainHeader + "<?a?>", "restricted"},
		{plainHeader + "<abcdefghijk></x>", "malformed"},
		{plainHeader + "<abcdefghijk></x ", "malformed"},
		{plainHeader + "<a>&x;", "restricted"}, {plainHeader + "<a>& ", "malformed"},
		{plainHeader + "<a>]]>", "malformed"}, {plainHeader + "<a><!-", "restricted"},
		{plainHeader + "x", "text"}, {plainHeader + "<a b='<", "malformed"}, {plainHeader + "<a>\x02", "malformed"},
	} {
		_, err := readAll(stuck{iotest.OneByteReader(strings.NewReader(c.in))}, 1<<16)
		if got := endWord(err); got != c.end {
			t.Errorf("%q: %q, want %q", c.in, got, c.end)
		}
	}
}

// The reader keeps no more of a stream than an element and what one fill brings.
func TestReaderMemory(t *testing.T) {
	stream := io.MultiReader(strings.NewReader(plainHeader), strings.NewReader(strings.Repeat(big(9_000)+" ", 200)))
	r := NewReader(stream, minStanza)
	if _, err := r.Header(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for {
		if _, err := r.Next(); err != nil {
			break
		}
		n++
	}
	if n != 200 || len(r.buf) > 4*minStanza {
		t.Errorf("%d elements, buffer of %d bytes", n, len(r.buf))
	}
}

const sampleMessage = `<message from='bob@app.example.org/desk' to='mfzwk4tboqqgc3tboqqgc3tboq@gateway.example.org/k7q2m4' id='msg-000042' type='chat'>` +
	`<body>Lunch at noon &amp; a walk?</body><x xmlns='jabber:x:oob'><url>https://app.example.org/c/42</url></x><request xmlns='urn:xmpp:receipts'/></message>`

type stdMessage struct {
	XMLName xml.Name
	From    string `xml:"from,attr"`
	To      string `xml:"to,attr"`
	ID      string `xml:"id,attr"`
	Type    string `xml:"type,attr"`
	Body    string `xml:"body"`
	OOB     struct {
		URL string `xml:"url"`
	} `xml:"jabber:x:oob x"`
	Request *struct{} `xml:"urn:xmpp:receipts request"`
}

// repeat is a source that sends the same again and again.
type repeat struct {
	unit []byte
	off  int
}

func (s *repeat) Read(p []byte) (n int, err error) {
	for n < len(p) {
		k := copy(p[n:], s.unit[s.off:])
		n += k
		if s.off += k; s.off == len(s.unit) {
			s.off = 0
		}
	}
	return n, nil
}

// BenchmarkReader reads a message to the fields that a notification needs; encoding/xml beside it does the
// same into a struct.
func BenchmarkReader(b *testing.B) {
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(sampleMessage)))
		r := NewReader(io.MultiReader(strings.NewReader(plainHeader), &repeat{unit: []byte(sampleMessage)}), 1<<16)
		if _, err := r.Header(); err != nil {
			b.Fatal(err)
		}
		r.Allow(1<<16, 32<<10)
		size := 0
		for b.Loop() {
			e, err := r.Next()
			if err != nil {
				b.Fatal(err)
			}
			body, _ := e.Child("body", "jabber:component:accept")
			x, _ := e.Child("x", "jabber:x:oob")
			url, _ := x.Child("url", "jabber:x:oob")
			_, ok := e.Child("request", "urn:xmpp:receipts")
			size += len(e.Attr("from")) + len(e.Attr("to")) + len(e.Attr("id")) + len(e.Attr("type")) + len(body.Text()) + len(url.Text())
			if !ok {
				b.Fatal("no request")
			}
		}
	})
	b.Run("encodingxml", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(sampleMessage)))
		d := xml.NewDecoder(io.MultiReader(strings.NewReader(plainHeader), &repeat{unit: []byte(sampleMessage)}))
		if _, err := d.Token(); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			var m stdMessage
			if err := d.DecodeElement(&m, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
