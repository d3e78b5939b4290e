package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documented finds a test's file, or the name of a test that is in the file named before it on the same line.
var documented = regexp.MustCompile(`[\w/.]+_test\.go|\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`)

// TestDocumentedTestsAreThere: a test that docs/xmpp.md names as proof exists, in the file that it names.
func TestDocumentedTestsAreThere(t *testing.T) {
	text, err := os.ReadFile("../../docs/xmpp.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for n, line := range strings.Split(string(text), "\n") {
		file, source := "", []byte(nil)
		for _, name := range documented.FindAllString(line, -1) {
			if strings.HasSuffix(name, "_test.go") {
				file = name
				if source, err = os.ReadFile(filepath.Join("../..", file)); err != nil {
					t.Errorf("line %d: %v", n+1, err)
				}
				continue
			}
			found++
			if !strings.Contains(string(source), "\nfunc "+name+"(") {
				t.Errorf("line %d: there is no %s in %q", n+1, name, file)
			}
		}
	}
	if found == 0 {
		t.Error("no test is named")
	}
}
