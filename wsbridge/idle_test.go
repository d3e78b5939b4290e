package wsbridge_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"presenced/identity"
	"presenced/presence"
	"presenced/store"
	"presenced/wsbridge"
)

// idleVariant is the environment variable that makes this test binary a server to be measured.
const idleVariant = "PRESENCED_IDLE_VARIANT"

const (
	idleFrom = 4000 // the cost of a device is the slope between so many
	idleTo   = 9000 // and so many
)

// BenchmarkIdleDevice measures what an idle, identified device costs the server's process, beside what a bare
// goroutine waiting in Read on a bare connection costs in the same run (the floor), and a WebSocket
// of the library with small buffers whose handler has returned. Each variant is a process of its own; this
// one is all its clients. Run it explicitly: it needs 9,000 descriptors in each process.
//
//	go test -run xxx -bench IdleDevice ./wsbridge
func BenchmarkIdleDevice(b *testing.B) {
	floor := idleCost(b, "floor")
	for _, variant := range []string{"floor", "library", "bridge"} {
		b.Run(variant, func(b *testing.B) {
			cost := floor
			for range b.N {
				if variant != "floor" {
					cost = idleCost(b, variant)
				}
			}
			b.ReportMetric(cost.anon, "B/device")
			b.ReportMetric(cost.heap, "heap_B/device")
			b.ReportMetric(cost.stack, "stack_B/device")
			b.ReportMetric(cost.goroutines, "goroutines/device")
			b.ReportMetric(cost.anon/floor.anon, "x_floor")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// idleUse is what a process uses, or what one device of it does. anon is its resident memory but for pages
// of files.
type idleUse struct{ anon, heap, stack, goroutines float64 }

// idleCost starts the variant's process and returns what each device costs there.
func idleCost(b *testing.B, variant string) idleUse {
	p := startIdle(b, variant)
	defer p.stop()
	conns := p.connect(b, variant, nil, idleFrom)
	before := p.measure(b)
	conns = p.connect(b, variant, conns, idleTo)
	after := p.measure(b)
	for _, c := range conns {
		c.Close()
	}
	n := float64(idleTo - idleFrom)
	return idleUse{(after.anon - before.anon) / n, (after.heap - before.heap) / n,
		(after.stack - before.stack) / n, (after.goroutines - before.goroutines) / n}
}

type idleProcess struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	addr string
}

func startIdle(b *testing.B, variant string) *idleProcess {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), idleVariant+"="+variant, "PRESENCED_IDLE_DIR="+b.TempDir())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	p := &idleProcess{cmd: cmd, in: in, out: bufio.NewReader(out)}
	line, err := p.out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	p.addr = strings.TrimSpace(line)
	return p
}

func (p *idleProcess) stop() {
	p.in.Close()
	p.cmd.Wait()
}

func (p *idleProcess) measure(b *testing.B) (u idleUse) {
	fmt.Fprintln(p.in, "measure")
	line, err := p.out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(line, &u.anon, &u.heap, &u.stack, &u.goroutines); err != nil {
		b.Fatal(err)
	}
	return u
}

// connect makes connections until there are total, each after one exchange.
func (p *idleProcess) connect(b *testing.B, variant string, conns []net.Conn, total int) []net.Conn {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := len(conns)
	for range 8 {
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= total {
					return
				}
				c, err := idleClient(p.addr, variant, i)
				if err != nil {
					b.Error(variant, i, err)
					return
				}
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return conns
}

// idleClient connects as the variant wants it and makes one exchange.
func idleClient(addr, variant string, i int) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	if variant == "floor" {
		return c, exchange(c, r, []byte("hello"), "hello")
	}
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	fmt.Fprintf(c, "GET /presence HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", key)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return c, fmt.Errorf("%v %v", resp, err)
	}
	if variant == "bridge" {
		hello := fmt.Sprintf(`{"email":"device%d@example.org","assertion":"dev","status":"online"}`, i)
		if err := exchange(c, r, masked(hello), unmasked(`{"result":"OK"}`)); err != nil {
			return c, err
		}
	}
	// Both sides of the control frames too: a device that stays gets and sends them every few minutes.
	pong, ping := masked(""), masked("p")
	pong[0], ping[0] = 0x8a, 0x89
	if err := exchange(c, r, append(pong, ping...), "\x8a\x01p"); err != nil {
		return c, err
	}
	return c, exchange(c, r, masked("{}"), unmasked("{}"))
}

func exchange(c net.Conn, r *bufio.Reader, say []byte, want string) error {
	if _, err := c.Write(say); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(r, got); err != nil {
		return err
	}
	if string(got) != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// masked is a text frame of a client, with a mask of zeros. RFC 6455 §5.2
func masked(text string) []byte {
	f := []byte{0x81, 0x80 | byte(len(text))}
	if len(text) > 125 {
		f = binary.BigEndian.AppendUint16([]byte{0x81, 0x80 | 126}, uint16(len(text)))
	}
	return append(append(f, 0, 0, 0, 0), text...)
}

// unmasked is a short text frame of a server.
func unmasked(text string) string { return string([]byte{0x81, byte(len(text))}) + text }

// idleServer is the process to be measured: it says where it listens, and what it uses when asked.
func idleServer(variant string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(l.Addr())
	switch variant {
	case "floor":
		go idleFloor(l)
	case "library":
		go http.Serve(l, http.HandlerFunc(idleLibrary))
	case "bridge":
		go idleBridge(l)
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(idleMeasure())
	}
}

func idleFloor(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			var buf [128]byte
			for {
				n, err := c.Read(buf[:])
				if err != nil {
					return
				}
				c.Write(buf[:n])
			}
		}()
	}
}

var idleUpgrader = websocket.Upgrader{ReadBufferSize: 256, WriteBufferSize: 1024, WriteBufferPool: new(sync.Pool)}

func idleLibrary(w http.ResponseWriter, r *http.Request) {
	ws, err := idleUpgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	go func() {
		for {
			typ, p, err := ws.ReadMessage()
			if err != nil {
				return
			}
			ws.WriteMessage(typ, p)
		}
	}()
}

func idleBridge(l net.Listener) {
	limits := presence.DefaultLimits()
	s, err := store.Open(filepath.Join(os.Getenv("PRESENCED_IDLE_DIR"), "data"), store.Options{Limits: limits})
	if err != nil {
		log.Fatal(err)
	}
	hub, err := presence.New(presence.Config{Store: s, Now: time.Now, Limits: limits, Linger: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	bridge := wsbridge.New(wsbridge.Config{Hub: hub, Verifier: identity.Chain(identity.Dev{}), Rate: 1})
	defer bridge.Shutdown(context.Background())
	http.Serve(l, bridge)
}

func idleMeasure() string {
	runtime.GC()
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		log.Fatal(err)
	}
	var anon int
	for line := range bytes.Lines(status) {
		if v, ok := bytes.CutPrefix(line, []byte("RssAnon:")); ok {
			kb, _, _ := strings.Cut(strings.TrimSpace(string(v)), " ")
			anon, _ = strconv.Atoi(kb)
		}
	}
	return fmt.Sprint(anon*1024, m.HeapAlloc, m.StackInuse, runtime.NumGoroutine())
}
