package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// raceOptions keep each program of a script, built with -race, from sleeping for a second before it exits.
const raceOptions = "atexit_sleep_ms=0"

func TestMain(m *testing.M) {
	if os.Getenv(stormVariable) != "" {
		stormProcess()
		return
	}
	if os.Getenv(authorityVariable) != "" {
		authorityProcess()
		return
	}
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", raceOptions)
	}
	testscript.Main(leakChecked{m}, map[string]func(){"presenced": main})
}

// leakChecked fails a run whose tests left goroutines behind.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		io.WriteString(os.Stderr, err.Error()+"\n")
		return 1
	}
	return code
}

// TestScripts runs the command line as people do, each script in a fresh folder.
func TestScripts(t *testing.T) {
	testscript.Run(t, scriptParams("testdata/script", false))
}

// TestBothWays runs the same scripts on a running server and on the data folder alone: nothing may differ.
func TestBothWays(t *testing.T) {
	t.Run("offline", func(t *testing.T) { testscript.Run(t, scriptParams("testdata/both", false)) })
	t.Run("server", func(t *testing.T) { testscript.Run(t, scriptParams("testdata/both", true)) })
}

func scriptParams(dir string, server bool) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond == "server" {
				return server, nil
			}
			return false, errors.New("unknown condition")
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": cmdExits, "ready": cmdReady, "sigterm": cmdSigterm, "field": cmdField, "fetch": cmdFetch,
			"mode": cmdMode, "lines": cmdLines, "stale": cmdStale,
		},
	}
}

// cmdExits is `exits CODE program args...`.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if err != nil || neg {
		ts.Fatalf("usage: exits CODE program args...")
	}
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// cmdReady is `ready [DATA]`: it waits until the server on the data folder answers, and puts its addresses into
// $HTTP, $XMPP, $ADMIN and its process into $PID.
func cmdReady(ts *testscript.TestScript, neg bool, args []string) {
	cfg := DefaultConfig()
	cfg.Data = ts.MkAbs(strings.TrimPrefix(arg(append(args, cfg.Data), 0), "./"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := waitStatus(ctx, cfg)
	if err != nil {
		ts.Fatalf("no server on %s: %v", cfg.Data, err)
	}
	ts.Setenv("HTTP", s.Listeners["http"])
	ts.Setenv("XMPP", s.Listeners["xmpp"])
	ts.Setenv("ADMIN", s.Listeners["admin"])
	ts.Setenv("PID", strconv.Itoa(s.PID))
}

// waitStatus asks until a server answers or ctx ends.
func waitStatus(ctx context.Context, cfg Config) (s serverStatus, err error) {
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	for {
		var cl *client
		if cl, err = dial(ctx, cfg); err == nil {
			err = cl.call(ctx, http.MethodGet, "/status", nil, &s)
			if e := cl.close(); err == nil && e == nil {
				return s, nil
			}
		}
		select {
		case <-ctx.Done():
			return s, errors.Join(ctx.Err(), err)
		case <-retry.C:
		}
	}
}

// cmdSigterm sends SIGTERM to every background program.
func cmdSigterm(ts *testscript.TestScript, neg bool, args []string) {
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGTERM))
	}
}

// cmdField is `field VAR FILE KEY`: it puts a field of a JSON object into a variable.
func cmdField(ts *testscript.TestScript, neg bool, args []string) {
	var v map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[1])), &v))
	s, ok := v[args[2]].(string)
	if !ok {
		ts.Fatalf("%s has no text %s", args[1], args[2])
	}
	ts.Setenv(args[0], s)
}

// cmdFetch is `fetch STATUS URL FILE`: it gets a page.
func cmdFetch(ts *testscript.TestScript, neg bool, args []string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(args[1])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	if strconv.Itoa(resp.StatusCode) != args[0] {
		ts.Fatalf("%s: %s, want %s\n%s", args[1], resp.Status, args[0], body)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), body, 0o600))
}

// cmdMode is `mode OCTAL FILE`.
func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// cmdLines is `lines N FILE`.
func cmdLines(ts *testscript.TestScript, neg bool, args []string) {
	if got := strconv.Itoa(strings.Count(ts.ReadFile(args[1]), "\n")); got != args[0] {
		ts.Fatalf("%s has %s lines, want %s", args[1], got, args[0])
	}
}

// cmdStale is `stale DATA`: it leaves the socket of a server that died.
func cmdStale(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(path, 0o700))
	l, err := listenSocket(filepath.Join(path, "admin.sock"))
	ts.Check(err)
	ts.Check(l.Close())
	if _, err := os.Stat(filepath.Join(path, "admin.sock")); err != nil {
		ts.Fatalf("no socket left: %v", err)
	}
}

// TestEveryCommandOfTheContract: the synopsis of the contract (§6), word by word, is there with its flags.
func TestEveryCommandOfTheContract(t *testing.T) {
	root := newRoot(&cli{})
	for _, line := range []string{
		"serve --http --xmpp --admin --origin --dev",
		"app add --component --url --description --redirect --conflict",
		"app list", "app show", "app enable", "app disable", "app rotate", "app remove",
		"user list", "user show", "user remove", "user export", "user invisible --for --until", "user visible", "user disable", "user enable",
		"user token --device --expires", "user token list --device", "user token revoke --device",
		"grant allow --window --tz --until --no-notify --idle",
		"grant list", "grant revoke", "grant pause --for --until", "grant resume",
		"queue list", "queue show", "queue purge", "device list", "device kick",
		"notify --message --source --action --device --ttl",
		"import", "export", "config check", "config show", "config describe",
		"status", "version", "completion",
	} {
		words := strings.Fields(line)
		first := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "--") })
		if first < 0 {
			first = len(words)
		}
		cmd, _, err := root.Find(words[:first])
		if err != nil || cmd.CommandPath() != "presenced "+strings.Join(words[:first], " ") {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if cmd.Short == "" {
			t.Errorf("%s is not explained", line)
		}
		for _, flag := range append(words[first:], "--data", "--config", "--domain", "--json") {
			name := strings.TrimPrefix(flag, "--")
			if cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
				t.Errorf("%s lacks %s", cmd.CommandPath(), flag)
			}
		}
	}
}
