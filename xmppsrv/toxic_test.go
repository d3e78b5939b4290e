package xmppsrv_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// toxiproxy leaves goroutines behind for a connection that it cuts while there is more to come, so it runs in a process
// of its own: this test binary, started again. The two talk JSON lines over its standard input and output.

// asProxy is set in the environment of that process.
const asProxy = "PRESENCED_TEST_TOXIPROXY"

// bad is one connection to be made, and what is to happen to it.
type bad struct {
	Upstream string
	Toxics   []toxic
}

type toxic struct {
	Type       string           `json:"type"`
	Stream     string           `json:"stream"` // upstream: from the component
	Toxicity   float32          `json:"toxicity"`
	Attributes map[string]int64 `json:"attributes"`
}

// serveToxics is the whole of the other process: for each line a proxy, whose address it answers with.
func serveToxics(in io.Reader, out io.Writer) error {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	lines := bufio.NewScanner(in)
	for n := 0; lines.Scan(); n++ {
		var b bad
		if err := json.Unmarshal(lines.Bytes(), &b); err != nil {
			return err
		}
		p := toxiproxy.NewProxy(server, fmt.Sprint(n), "127.0.0.1:0", b.Upstream)
		for _, t := range b.Toxics {
			data, err := json.Marshal(t)
			if err != nil {
				return err
			}
			if _, err := p.Toxics.AddToxicJson(bytes.NewReader(data)); err != nil {
				return err
			}
		}
		if err := p.Start(); err != nil {
			return err
		}
		fmt.Fprintln(out, p.Listen)
	}
	return lines.Err()
}

// toxins is the test's side of it. It is safe for concurrent use.
type toxins struct {
	t   *testing.T
	mu  sync.Mutex
	in  io.Writer
	out *bufio.Reader
}

func newToxins(t *testing.T) *toxins {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asProxy+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // it ends by that
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return &toxins{t: t, in: in, out: bufio.NewReader(out)}
}

// proxy returns an address where one connection to upstream can be made.
func (x *toxins) proxy(b bad) (string, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	data, err := json.Marshal(b)
	if err != nil {
		return "", err
	}
	if _, err := x.in.Write(append(data, '\n')); err != nil {
		return "", err
	}
	addr, err := x.out.ReadString('\n')
	return addr[:max(0, len(addr)-1)], err
}

// anyToxics are random: the connection ends after some bytes in one direction, by a close or a reset, maybe without
// the gateway being told, and maybe it is slow, or comes in slices.
func anyToxics(half bool) (ts []toxic) {
	side := []string{"upstream", "downstream"}[rand.N(2)]
	if rand.N(4) == 0 {
		ts = append(ts, toxic{"slicer", side, 1, map[string]int64{"average_size": 40, "size_variation": 30, "delay": 20}})
	}
	if rand.N(4) == 0 {
		ts = append(ts, toxic{"latency", side, 1, map[string]int64{"latency": 2, "jitter": 2}})
	}
	if rand.N(8) == 0 {
		ts = append(ts, toxic{"bandwidth", side, 1, map[string]int64{"rate": 200}})
	}
	ts = append(ts, toxic{"limit_data", side, 1, map[string]int64{"bytes": 500 + rand.Int64N(2500)}})
	if rand.N(3) == 0 { // of no effect by itself, but the ends become resets
		ts = append(ts, toxic{"reset_peer", side, 0, map[string]int64{"timeout": 0}})
	}
	if half && side == "downstream" && rand.N(2) == 0 { // the gateway is not told: its side stays open
		ts = append(ts, toxic{"slow_close", "upstream", 1, map[string]int64{"delay": 3_600_000}})
	}
	return ts
}
