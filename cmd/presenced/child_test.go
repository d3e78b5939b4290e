package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for an event before it calls it missing. It is no measure of speed: events are
// waited for, so nothing takes this long unless it is broken.
const patience = 60 * time.Second

// buildPresenced compiles the program as a user would and returns the binary's path.
func buildPresenced(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "presenced")
	if out, err := exec.Command("go", "build", "-o", bin, "presenced/cmd/presenced").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// site is a data folder and the binary that works on it, with the environment that every start gets.
type site struct {
	t    *testing.T
	bin  string
	data string
	env  []string // PRESENCED_...=...
}

func newSite(t *testing.T, bin string, env ...string) *site {
	return &site{t: t, bin: bin, data: filepath.Join(t.TempDir(), "data"), env: env}
}

func (s *site) command(args ...string) *exec.Cmd {
	cmd := exec.Command(s.bin, append([]string{"--data", s.data}, args...)...)
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Dir = filepath.Dir(s.data)
	return cmd
}

// run executes a command of the program with --json and decodes what it prints into out (nil: nothing).
func (s *site) run(stdin string, out any, args ...string) {
	s.t.Helper()
	cmd := s.command(append([]string{"--json"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	got, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("presenced %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal(got, out); err != nil {
		s.t.Fatalf("presenced %s printed %q: %v", strings.Join(args, " "), got, err)
	}
}

// child is a gateway that runs as a process of its own.
type child struct {
	t          *testing.T
	cmd        *exec.Cmd
	http, xmpp string // where it listens
	log        tail
	read       chan struct{} // closed when its standard error has ended
	ended      sync.Once
	err        error // of the process; set by ended
}

// spawn starts `presenced serve` and does not wait for anything. ready gets one value when it serves, and is closed
// when it will never.
func (s *site) spawn(args ...string) (c *child, ready <-chan struct{}) {
	s.t.Helper()
	cmd := s.command(append([]string{"--json", "serve", "--admin", ""}, args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	c = &child{t: s.t, cmd: cmd, read: make(chan struct{})}
	up := make(chan struct{}, 1)
	go c.follow(stderr, up)
	s.t.Cleanup(func() {
		if !c.over() && s.t.Failed() {
			s.t.Logf("the log of the gateway when the test failed:\n%s", c.log.String())
		}
		c.kill()
	})
	return c, up
}

// serve starts a gateway on free ports, or those that args name, and waits until it is ready.
func (s *site) serve(args ...string) *child {
	s.t.Helper()
	c, ready := s.spawn(append([]string{"--http", "127.0.0.1:0", "--xmpp", "127.0.0.1:0"}, args...)...)
	select {
	case _, ok := <-ready:
		if !ok {
			c.wait()
			s.t.Fatalf("serve ended before it was ready (%v):\n%s", c.err, c.log.String())
		}
	case <-time.After(patience):
		s.t.Fatalf("serve is not ready:\n%s", c.log.String())
	}
	return c
}

// follow reads the log to its end.
func (c *child) follow(stderr io.Reader, ready chan<- struct{}) {
	defer close(c.read)
	defer close(ready)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		c.log.add(lines.Text())
		var line struct{ Msg, HTTP, XMPP string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "ready" {
			c.http, c.xmpp = line.HTTP, line.XMPP
			ready <- struct{}{}
		}
	}
	io.Copy(io.Discard, stderr) // a line too long for the scanner must not block the process
}

// over reports whether the process has ended.
func (c *child) over() bool {
	select {
	case <-c.read:
		return true
	default:
		return false
	}
}

// wait returns how the process ended.
func (c *child) wait() error {
	<-c.read
	c.ended.Do(func() { c.err = c.cmd.Wait() })
	return c.err
}

// kill ends the process as a power cut would, as far as it goes, and waits until it is gone.
func (c *child) kill() {
	c.cmd.Process.Kill() // the only error is that it has ended
	c.wait()
}

// stop asks the process to end and wants it to end well.
func (c *child) stop() {
	c.t.Helper()
	c.cmd.Process.Signal(syscall.SIGTERM)
	stuck := time.AfterFunc(patience, func() { c.cmd.Process.Kill() })
	defer stuck.Stop()
	if err := c.wait(); err != nil {
		c.t.Errorf("serve ended with %v after SIGTERM:\n%s", err, c.log.String())
	}
}

// tail keeps the last lines of a log.
type tail struct {
	mu    sync.Mutex
	lines []string
}

const tailLines = 40

func (l *tail) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines) == tailLines {
		l.lines = append(l.lines[:0], l.lines[1:]...)
	}
	l.lines = append(l.lines, line)
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// startSelf starts this test binary again, with a variable of the environment by which TestMain knows what to be. It is to
// end when its input does.
func startSelf(t testing.TB, env ...string) (cmd *exec.Cmd, in io.WriteCloser, out *json.Decoder) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, in, json.NewDecoder(stdout)
}
