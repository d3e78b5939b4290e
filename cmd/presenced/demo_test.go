package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// runDemo runs a demo, until its story is told.
func runDemo(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	ctx, end := context.WithCancel(context.Background())
	defer end()
	stdout, stderr := &audience{end: end}, new(bytes.Buffer)
	c := &cli{stdin: strings.NewReader(""), stdout: stdout, stderr: stderr, environ: os.Environ()}
	code = run(ctx, append([]string{"demo"}, args...), c)
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "*")); len(left) > 0 {
		t.Errorf("it left %q behind", left)
	}
	return code, stdout.String() + stderr.String()
}

// audience calls end when the story has been told.
type audience struct {
	bytes.Buffer
	end func()
}

func (a *audience) Write(p []byte) (int, error) {
	defer func() {
		if bytes.Contains(a.Bytes(), []byte("And so on")) {
			a.end()
		}
	}()
	return a.Buffer.Write(p)
}

// The demo tells its whole story, for a pipe: no colours, no line over 80 columns, no secret of a person.
func TestDemo(t *testing.T) {
	code, out := runDemo(t)
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

// With little time left there are no pauses, and each chapter gets its share of what there is.
func TestDemoHurries(t *testing.T) {
	in := func(d time.Duration) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		t.Cleanup(cancel)
		return ctx
	}
	if got := pause(t.Context(), 10); got != demoPause {
		t.Errorf("without an end the pause is %v", got)
	}
	if got := pause(in(10*time.Second), 10); got > 10*time.Second/44 {
		t.Errorf("with ten seconds left it is %v", got)
	}
	if got := pause(in(0), 10); got > 0 {
		t.Errorf("at the end it is %v", got)
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
