package xmlstream

import (
	"encoding/xml"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// Whatever a string has in it, what is written is XML, and means the string where XML has a way to say it.
func TestEscape(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		if rapid.Bool().Draw(t, "valid") {
			s = rapid.String().Draw(t, "text")
		}
		doc := AppendValue([]byte("<a b='"), s)
		doc = append(AppendText(append(doc, "'>"...), s), "</a>"...)
		var got struct {
			B    string `xml:"b,attr"`
			Text string `xml:",chardata"`
		}
		if err := xml.Unmarshal(doc, &got); err != nil {
			t.Fatalf("%q: %v", doc, err)
		}
		var want strings.Builder
		for _, r := range s {
			if !isXMLChar(r) {
				r = utf8.RuneError
			}
			want.WriteRune(r)
		}
		if got.B != want.String() || got.Text != want.String() {
			t.Fatalf("%q is read back as %q and %q", s, got.B, got.Text)
		}
	})
}

// The examples of XEP-0106 and its corners.
func TestEscapeLocal(t *testing.T) {
	for _, c := range []struct{ plain, escaped string }{
		{"tarek@mozilla.com", `tarek\40mozilla.com`},
		{`a b"c&d'e/f:g<h>i@j`, `a\20b\22c\26d\27e\2ff\3ag\3ch\3ei\40j`},
		{`c:\net`, `c\3a\net`},
		{`c:\5commas`, `c\3a\5c5commas`},
		{`c:\cool stuff`, `c\3a\cool\20stuff`},
		{`\2plus\2is\4`, `\2plus\2is\4`},
		{`foo\bar`, `foo\bar`},
		{`foob\41r`, `foob\41r`},
		{`\40`, `\5c40`},
	} {
		if got := string(AppendLocal(nil, c.plain)); got != c.escaped {
			t.Errorf("%q is escaped to %q, want %q", c.plain, got, c.escaped)
		}
		if got := string(UnescapeLocal([]byte(c.escaped))); got != c.plain {
			t.Errorf("%q is unescaped to %q, want %q", c.escaped, got, c.plain)
		}
	}
}

// Whatever an e-mail has in it, its local part can stand in an attribute and means the e-mail.
func TestEscapeLocalRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
		if rapid.Bool().Draw(t, "valid") {
			s = rapid.StringOf(rapid.SampledFrom([]rune("a@\\45c0 '/<é\x01\uFFFE"))).Draw(t, "text")
		}
		escaped := AppendLocal(nil, s)
		var got struct {
			B string `xml:"b,attr"`
		}
		if err := xml.Unmarshal(append(append([]byte("<a b='"), escaped...), "'/>"...), &got); err != nil {
			t.Fatalf("%q: %v", escaped, err)
		}
		var want strings.Builder
		for _, r := range s {
			if !isXMLChar(r) {
				r = utf8.RuneError
			}
			want.WriteRune(r)
		}
		if back := string(UnescapeLocal([]byte(got.B))); !strings.ContainsAny(s, "\t\n\r") && back != want.String() {
			t.Fatalf("%q is escaped to %q and back to %q", s, escaped, back)
		}
	})
}
