//go:build interop

package ccs_test

import (
	"bufio"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"presenced/presence"
)

// The stories of this file have clients that know nothing of Presenced on the other side. testdata/ccs/README.md says how
// to run them.

var foreignDir = filepath.Join("..", "..", "testdata", "ccs")

// event is what a foreign app server tells.
type event struct {
	Event, ID, From, Registration, Error, Text, Category string
	Data                                                 json.RawMessage
}

// foreign is an app server on somebody's library.
type foreign struct {
	t      *testing.T
	do     func(command map[string]any)
	events chan event
}

// library is one that speaks to CCS.
type library struct {
	name     string
	controls bool // it tells of the control message
	start    func(t *testing.T, addr string) *foreign
}

var libraries = []library{
	{"node-xcs", false, func(t *testing.T, addr string) *foreign { return startProgram(t, addr, "node", "xcs_server.js") }},
	{"aioxmpp", true, func(t *testing.T, addr string) *foreign {
		return startProgram(t, addr, "/usr/bin/python3", "aioxmpp_server.py")
	}},
	{"mellium", true, startMellium},
}

func startProgram(t *testing.T, addr string, command ...string) *foreign {
	t.Helper()
	cert, _ := certificate()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = foreignDir
	cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+file, "NODE_NO_WARNINGS=1", "PYTHONWARNINGS=ignore")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr logged
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v (see testdata/ccs/README.md)", err)
	}
	f := &foreign{t: t, events: make(chan event, 4096)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(f.events)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			var e event
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				e = event{Event: "no event: " + lines.Text()}
			}
			f.events <- e
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		go func() {
			for range f.events {
			}
		}()
		<-ended
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote on standard error:\n%s", command[1], stderr.String())
		}
	})
	write := json.NewEncoder(stdin)
	f.do = func(command map[string]any) {
		if err := write.Encode(command); err != nil {
			t.Errorf("%s does not read any more: %v", command, err)
		}
	}
	f.do(config(addr))
	return f
}

func config(addr string) map[string]any {
	_, port, _ := net.SplitHostPort(addr)
	return map[string]any{"host": "localhost", "port": json.Number(port), "sender": "chat", "key": apiKey}
}

// wait returns the next event of this kind; the id may be left out.
func (f *foreign) wait(kind, id string) event {
	f.t.Helper()
	late := time.After(2 * patience)
	var others []string
	for {
		select {
		case e, ok := <-f.events:
			switch {
			case !ok:
				f.t.Fatalf("it ended without %s %s; it told %s", kind, id, others)
			case e.Event == kind && (id == "" || e.ID == id):
				return e
			}
			others = append(others, fmt.Sprintf("%s %s %s", e.Event, e.ID, e.Text))
		case <-late:
			f.t.Fatalf("never told %s %s, but %s", kind, id, others)
		}
	}
}

func TestInteropServers(t *testing.T) {
	for _, lib := range libraries {
		t.Run(lib.name, func(t *testing.T) {
			for _, story := range []struct {
				name string
				tell func(*testing.T, library)
			}{
				{"messages are acknowledged and delivered", interopDownstream},
				{"each nack", interopNacks},
				{"messages from devices, and receipts", interopUpstream},
				{"draining, and back", interopDraining},
				{"killed at random", interopCuts},
			} {
				t.Run(story.name, func(t *testing.T) { story.tell(t, lib) })
			}
		})
	}
}

func interopDownstream(t *testing.T, lib library) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	f := lib.start(t, g.addr)
	f.wait("connected", "")
	f.do(map[string]any{"id": "m1", "to": ann.token, "data": map[string]string{"hello": "wörld <&>\""}, "ttl": 600})
	if e := f.wait("ack", "m1"); e.From != ann.token {
		t.Errorf("%+v", e)
	}
	if got := text(ann.one()); got != `Chat & Co|||{"hello":"wörld <&>\""}|false` {
		t.Error(got)
	}
	f.do(map[string]any{"id": "m2", "to": "P1", "body": "Lunch?"})
	if e := f.wait("ack", "m2"); e.Registration != "p1" {
		t.Errorf("%+v", e)
	}
	if got := text(ann.one()); got != `Chat & Co|Lunch?|https://e/|{"icon":"icon","title":"T"}|true` && // two send notifications as high
		!strings.HasPrefix(got, `Chat & Co|Lunch?|https://e/|`) {
		t.Error(got)
	}
	f.do(map[string]any{"id": "m3", "to": ann.token, "dry": true})
	f.wait("ack", "m3")
	ann.none()
}

func interopNacks(t *testing.T, lib library) {
	g := start(t, func(c *setup) { c.TargetBurst, c.TargetRate = 3, 0.001 })
	g.allow("ann@example.org", "p1")
	f := lib.start(t, g.addr)
	f.wait("connected", "")
	for i, c := range []struct {
		command map[string]any
		code    string
	}{
		{map[string]any{"to": "No:Token"}, "BAD_REGISTRATION"},
		{map[string]any{"to": "nobody"}, "DEVICE_UNREGISTERED"},
		{map[string]any{"raw": map[string]any{"to": "p1", "time_to_live": "abc"}}, "INVALID_JSON"},
		{map[string]any{"raw": map[string]any{"data": map[string]string{}}}, "INVALID_JSON"},
		{map[string]any{"to": "p1", "data": map[string]string{"big": strings.Repeat("x", 5000)}}, "INVALID_JSON"},
		{map[string]any{"raw": map[string]any{"message_type": "ack", "to": ""}}, "BAD_ACK"},
		{map[string]any{"to": "p1"}, ""}, {map[string]any{"to": "p1"}, ""},
		{map[string]any{"to": "p1"}, "DEVICE_MESSAGE_RATE_EXCEEDED"},
	} {
		id := fmt.Sprint("n", i)
		c.command["id"] = id
		if raw, ok := c.command["raw"].(map[string]any); ok {
			raw["message_id"] = id
		}
		f.do(c.command)
		if c.code == "" {
			f.wait("ack", id)
			continue
		}
		if e := f.wait("nack", id); e.Error != c.code || e.Text == "" {
			t.Errorf("%v: %+v, want %s", c.command, e, c.code)
		}
	}
	g.must(g.db.Close())
	g.unstored(f)
}

// unstored wants SERVICE_UNAVAILABLE for a message while the storage is gone.
func (g *gateway) unstored(f *foreign) {
	g.t.Helper()
	f.do(map[string]any{"id": "unstored", "to": "nobody"})
	if e := f.wait("nack", "unstored"); e.Error != "SERVICE_UNAVAILABLE" {
		g.t.Errorf("%+v", e)
	}
}

func interopUpstream(t *testing.T, lib library) {
	g := start(t)
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	g.must(ann.Send("chat", "before", []byte(`{"waited":"yes"}`), -1))
	f := lib.start(t, g.addr)
	for _, id := range []string{"before", "after"} {
		if id == "after" {
			g.must(ann.Send("chat", "after", []byte(`{"text":"é <&>"}`), -1))
		}
		e := f.wait("message", id)
		var data map[string]string
		g.must(json.Unmarshal(e.Data, &data))
		if e.From != ann.token || e.Category != "chat" || len(data) != 1 || id == "after" && data["text"] != "é <&>" {
			t.Errorf("%+v %v", e, data)
		}
	}
	g.eventually("both are acknowledged", func() bool {
		ms, err := g.db.UpstreamOf("chat", 0, 10)
		g.must(err)
		return len(ms) == 0
	})
	f.do(map[string]any{"id": "m1", "to": ann.token, "receipt": true, "data": map[string]string{"a": "b"}})
	f.wait("ack", "m1")
	ann.one()
	e := f.wait("receipt", "dr2:m1")
	var data struct {
		Original string `json:"original_message_id"`
		Device   string `json:"device_registration_id"`
	}
	g.must(json.Unmarshal(e.Data, &data))
	if data.Original != "m1" || data.Device != ann.token {
		t.Errorf("%+v", data)
	}
}

func interopDraining(t *testing.T, lib library) {
	path := filepath.Join(t.TempDir(), "data")
	g := start(t, func(c *setup) { c.Path = path })
	g.allow("ann@example.org", "p1")
	f := lib.start(t, g.addr)
	f.wait("connected", "")
	f.do(map[string]any{"id": "m1", "to": "p1", "data": map[string]string{"n": "1"}})
	f.wait("ack", "m1")
	g.srv.Drain()
	if lib.controls {
		f.wait("draining", "")
	}
	f.do(map[string]any{"id": "m2", "to": "p1", "data": map[string]string{"n": "2"}})
	if e := f.wait("nack", "m2"); e.Error != "CONNECTION_DRAINING" {
		t.Errorf("%+v", e)
	}
	addr := g.addr
	g.stop()
	f.wait("disconnected", "")
	g = start(t, func(c *setup) { c.Path, c.Addr = path, addr })
	f.wait("connected", "")
	f.wait("ack", "m2") // sent again
	ann := g.device("ann@example.org", "phone")
	ns := ann.mail()
	if len(ns) != 2 || ns[0].Ref != "m1" || ns[1].Ref != "m2" {
		t.Errorf("%+v", ns)
	}
}

// cutter passes connections on and cuts them.
type cutter struct {
	net.Listener
	to    string
	mu    sync.Mutex
	conns []*net.TCPConn // guarded by mu
}

func (c *cutter) run(done *sync.WaitGroup) {
	for {
		in, err := c.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.to)
		if err != nil {
			in.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, in.(*net.TCPConn), out.(*net.TCPConn))
		c.mu.Unlock()
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			done.Go(func() {
				io.Copy(pair[0], pair[1])
				pair[0].Close()
			})
		}
	}
}

// cut resets every connection there is.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.SetLinger(0)
		conn.Close()
	}
	c.conns = nil
}

// Its connections are cut at random while both sides send: nothing is lost, and what comes twice has the same id.
func interopCuts(t *testing.T, lib library) {
	g := start(t, func(c *setup) { c.Limits.UpstreamPerApp, c.Limits.QueuePerApp = 10_000, 10_000 })
	g.allow("ann@example.org", "p1")
	ann := g.device("ann@example.org", "phone")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	g.must(err)
	proxy := &cutter{Listener: l, to: g.addr}
	var working sync.WaitGroup
	working.Go(func() { proxy.run(&working) })
	defer working.Wait()
	defer proxy.cut()
	defer l.Close()

	f := lib.start(t, l.Addr().String())
	f.wait("connected", "")
	const n, cuts = 120, 6
	rng := rand.New(rand.NewPCG(3, 4))
	at := map[int]bool{}
	for len(at) < cuts {
		at[rng.IntN(n)] = true
	}
	acked, ups := map[string]bool{}, map[string]int{}
	take := func(e event) {
		switch e.Event {
		case "ack":
			acked[e.ID] = true
		case "message":
			ups[e.ID]++
		case "nack", "message-error":
			t.Errorf("%+v", e)
		}
	}
	for i := range n {
		f.do(map[string]any{"id": fmt.Sprint("d", i), "to": "p1", "data": map[string]string{"i": fmt.Sprint(i)}})
		g.must(ann.Send("chat", fmt.Sprint("u", i), []byte(`{}`), -1))
		if at[i] {
			proxy.cut()
			for e := range f.events {
				take(e)
				if e.Event == "connected" {
					break
				}
			}
		}
	}
	for late := time.After(3 * patience); len(acked) < n || len(ups) < n; {
		select {
		case e := <-f.events:
			take(e)
		case <-late:
			t.Fatalf("%d acked, %d came up", len(acked), len(ups))
		}
	}
	got, ids := map[string]int{}, map[string]string{}
	var all []presence.Notification
	for len(got) < n {
		ns := ann.mail()
		all = append(all, ns...)
		for _, m := range ns {
			if string(m.Data) != fmt.Sprintf(`{"i":"%s"}`, m.Ref[1:]) {
				t.Errorf("%s says %s", m.Ref, m.Data)
			}
			if was, again := ids[m.Ref]; again && was != m.ID() {
				t.Errorf("%s came as %s and as %s", m.Ref, was, m.ID())
			}
			ids[m.Ref] = m.ID()
			got[m.Ref]++
			ann.Confirm([]uint64{m.Seq})
		}
	}
	ann.none()
	t.Logf("%d cuts: %d messages up for %d, %d notifications for %d; %d were sent again and known",
		cuts, sum(ups), n, len(all), n, g.srv.Stats().Repeated)
}
