package store

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"presenced/presence"
)

// child starts the test binary as another process that plays role on the data file.
func child(t *testing.T, role, path string) (cmd *exec.Cmd, in io.WriteCloser, out *bufio.Scanner) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(self, path)
	cmd.Env = append(os.Environ(), childEnv+"="+role)
	cmd.Stderr = os.Stderr
	if in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, in, bufio.NewScanner(pipe)
}

// childHold opens the file and holds it until its input ends.
func childHold(path string) {
	s, err := Open(path, Options{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("open")
	io.Copy(io.Discard, os.Stdin)
	s.Close()
}

func TestSecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	cmd, in, out := child(t, "hold", path)
	if !out.Scan() || out.Text() != "open" {
		t.Fatalf("the other process says %q", out.Text())
	}
	b := &bed{t: t}
	s, err := Open(path, Options{Timeout: 60 * time.Millisecond})
	if err == nil {
		s.Close()
	}
	b.wantErr(err, ErrInUse, "data file "+path+" is in use by another process")
	b.must(in.Close())
	b.must(cmd.Wait())
	b.open(path)
	b.must(b.Close())
}

// What the loaded child says, one line each, with a number and an e-mail. It says "asks" before it confirms or purges,
// the others only after the commit has ended.
const (
	saysAccepted = "accepted"
	saysAsks     = "asks"
	saysGone     = "gone"
)

const loadWorkers = 24

// childLoad enqueues, confirms and purges from many goroutines until it is killed.
func childLoad(path string) {
	s, err := Open(path, Options{Limits: presence.Limits{QueuePerApp: 1 << 20}})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for w := range loadWorkers {
		go loadWorker(s, w)
	}
	io.Copy(io.Discard, os.Stdin) // ends with the parent, should that die first
}

func say(what, email string, seqs ...uint64) {
	var b strings.Builder
	for _, seq := range seqs {
		fmt.Fprintln(&b, what, seq, email)
	}
	if _, err := os.Stdout.WriteString(b.String()); err != nil { // one write, far below a pipe's buffer: never torn
		os.Exit(1)
	}
}

func loadWorker(s *Store, w int) {
	email := fmt.Sprintf("w%d.%d@example.org", w, os.Getpid()) // a purge must not reach what an earlier process left
	var mine []uint64
	for i := 1; ; i++ {
		n := &presence.Notification{Email: email, App: "chat", Message: strings.Repeat("x", rand.IntN(2000)),
			Time: time.Now(), Expires: time.Now().Add(time.Hour)}
		must(s.Enqueue(n).Wait())
		say(saysAccepted, email, n.Seq)
		mine = append(mine, n.Seq)
		switch {
		case w%8 == 0 && i%20 == 0:
			say(saysAsks, email, mine...)
			must(s.Purge(email, "").Wait())
			say(saysGone, email, mine...)
			mine = nil
		case w%2 == 0 && len(mine) > 2:
			say(saysAsks, email, mine[:2]...)
			must(s.Confirm(email, "", mine[:2]).Wait())
			say(saysGone, email, mine[:2]...)
			mine = mine[2:]
		}
	}
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// ledger is what children said over all rounds.
type ledger struct {
	owner map[uint64]string // of every number that was accepted
	asked map[uint64]bool
	gone  map[uint64]bool
}

// read takes the child's words and kills it after so many; what it said before it died still counts.
func (l *ledger) read(t *testing.T, cmd *exec.Cmd, out *bufio.Scanner, killAfter int) {
	t.Helper()
	for n := 1; out.Scan(); n++ {
		var what, email string
		var seq uint64
		if _, err := fmt.Sscan(out.Text(), &what, &seq, &email); err != nil {
			t.Fatalf("the child says %q", out.Text())
		}
		switch what {
		case saysAccepted:
			if l.owner[seq] != "" {
				t.Errorf("number %d was given twice", seq)
			}
			l.owner[seq] = email
		case saysAsks:
			l.asked[seq] = true
		case saysGone:
			l.gone[seq] = true
		}
		if n == killAfter {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// check compares the ledger with the file.
func (l *ledger) check(t *testing.T, path string) {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.CheckConsistency(); err != nil {
		t.Fatal(err)
	}
	emails, there := map[string]bool{}, map[uint64]bool{}
	for _, email := range l.owner {
		emails[email] = true
	}
	for email := range emails {
		ns, err := s.Pending(email, "", 0, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range ns {
			if there[n.Seq] = true; l.gone[n.Seq] {
				t.Errorf("%d was confirmed or purged and is back", n.Seq)
			}
			if owner := l.owner[n.Seq]; owner != "" && owner != n.Email {
				t.Errorf("%d was for %s and waits for %s", n.Seq, owner, n.Email)
			}
		}
	}
	for seq := range l.owner {
		if !l.asked[seq] && !there[seq] {
			t.Errorf("%d was accepted and is lost", seq)
		}
	}
}

// TestKill kills a process that writes, at random moments, and compares what it was promised with what is on disk.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	l := &ledger{owner: map[uint64]string{}, asked: map[uint64]bool{}, gone: map[uint64]bool{}}
	rounds := 20
	for range rounds {
		cmd, in, out := child(t, "load", path)
		l.read(t, cmd, out, 1+rand.IntN(1200))
		if err := cmd.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the child ended with %v", err)
		}
		in.Close()
		l.check(t, path)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d kills: %d accepted, %d gone, none lost, none back", rounds, len(l.owner), len(l.gone))
}

// TestOpenAtOnce opens one file from many goroutines: one gets it, the others are told.
func TestOpenAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	var wg sync.WaitGroup
	got := make(chan *Store, 4)
	for range cap(got) {
		wg.Go(func() {
			s, err := Open(path, Options{Timeout: 60 * time.Millisecond})
			if err != nil {
				(&bed{t: t}).wantErr(err, ErrInUse, path)
				return
			}
			got <- s
		})
	}
	wg.Wait()
	close(got)
	n := 0
	for s := range got {
		n++
		s.Close()
	}
	if n != 1 {
		t.Errorf("%d got the file", n)
	}
}
