package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

func runDemo(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	var stdout, stderr bytes.Buffer
	c := &cli{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, environ: os.Environ()}
	code = run(context.Background(), append([]string{"demo"}, args...), c)
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "*")); len(left) > 0 {
		t.Errorf("it left %q behind", left)
	}
	return code, stdout.String() + stderr.String()
}

// The demo tells its whole story, for a pipe: no colours, no line over 80 columns, no secret of a person.
func TestDemo(t *testing.T) {
	code, out := runDemo(t, "--for", "5s")
	if code != exitOK {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	for _, want := range []string{
		`"status":"online"`, "<presence from=", "<show>away</show>", "type='unavailable'", `"message":"Coffee?"`, "<received",
		"One notification waits", `"message":"Where are you?"`, "type='unsubscribed'", "--window", "system-shutdown", "4001", "27 of 27 steps happened.",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("nothing like %s", want)
		}
	}
	for line := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > stageWidth {
			t.Errorf("%d columns: %s", n, line)
		}
		if strings.HasSuffix(line, " \n") {
			t.Errorf("a space at the end: %q", line)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("colours in a pipe")
	}
	if t.Failed() {
		t.Log(out)
	}
}

// A demo that is stopped before its end has not shown what it is for.
func TestDemoStoppedEarlyFails(t *testing.T) {
	if code, out := runDemo(t, "--for", "1ms"); code != exitFailed || !strings.Contains(out, "not told to its end") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

func TestDemoIsColouredForPeople(t *testing.T) {
	var out bytes.Buffer
	s := newStage(&out, true)
	s.sent("Chat", "<presence/>")
	if !strings.Contains(out.String(), "\x1b["+purple+"m<presence/>\x1b[0m") {
		t.Errorf("%q", out.String())
	}
}

func TestWrapHardLosesNothing(t *testing.T) {
	text := strings.Repeat("abc,def>ghi/jkl", 20)
	lines := wrapHard(text, 57)
	if strings.Join(lines, "") != text {
		t.Errorf("%q", lines)
	}
}
