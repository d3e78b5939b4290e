//go:build interop

package main

import (
	"os/exec"
	"strings"
	"testing"
)

// TestSideBySide runs the list of exchanges against this gateway, Prosody and ejabberd, and compares the outcomes with
// the tables of docs/xmpp.md. Presenced's column must be the same; the others' belong to programs that Debian may
// change at any time, so what differs there is only told.
func TestSideBySide(t *testing.T) {
	for _, need := range []string{"/usr/bin/python3", "/usr/bin/prosody", "erl"} {
		if _, err := exec.LookPath(need); err != nil {
			t.Fatalf("%v: apt-get install python3 prosody ejabberd", err)
		}
	}
	cmd := exec.Command("/usr/bin/python3", "../../testdata/sidebyside/sidebyside.py", "--presenced", buildPresenced(t), "--check")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "Presenced ") {
			t.Error("docs/xmpp.md says something else: ", line)
		} else {
			t.Log(line)
		}
	}
}
