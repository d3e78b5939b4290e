package main

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"presenced/identity"
	"presenced/presence"
)

// stormVariable makes this test binary one of a storm's processes; its value is a stormOrder.
const stormVariable = "PRESENCED_STORM"

const (
	stormOnline = 20                    // devices that are online before and stay so
	stormPause  = 20 * time.Millisecond // of each of them, between two questions
	stormBefore = 3 * time.Second       // of measuring without a storm

	stormHandshakes = 512
)

// stormOrder is what a process of a storm is to do. Without an address it is the server; then it is asked once more,
// over its standard input, for a storm within its own memory.
type stormOrder struct {
	Data    string
	Logins  float64
	Devices int
	AtOnce  int    // of these, between connecting and an answer; 0: all
	Address string // where the storm goes to

	Cert, Key string // files of the server's, for a storm over TLS; "": without
}

// dial connects to the server, from an address if there is one.
func (o *stormOrder) dial(address string, from net.Addr) (net.Conn, error) {
	c, err := (&net.Dialer{LocalAddr: from}).Dial("tcp", address)
	if err != nil || o.Cert == "" {
		return c, err
	}
	return tls.Client(c, &tls.Config{InsecureSkipVerify: true}), nil // whether it is the right server is the crowd's own cost
}

// stormResult is what a storm was like for those who made it.
type stormResult struct {
	Online   int
	Seconds  float64 // until all were online
	SentAway int     // times that a device was told when to come back
	Failed   int     // connections that ended in any other way; their devices come back too
	Longest  float64 // seconds that a device was told to stay away
	Bytes    float64 // of memory for each device, both ends; only of a crowd within the server's process
}

// BenchmarkLoginStorm has a crowd of devices log in at once on a server that others are connected to, and measures how long
// those wait for the answer to a heartbeat, before and during the storm. The server, the crowd and those who are
// connected are three processes. Floor: a bare echo that is asked in the same way at the same time. "tcp" has as many
// devices as there are descriptors in a process here; the crowd of "memory" has no sockets and lives within the server's
// process. "tls" is "tcp" over TLS, those who are connected too, whose echo has none. There the crowd has stormHandshakes
// devices at a time between connecting and an answer: shaking hands is as much work for it as for the server, and devices
// that do so with a processor of their own are not slow at it. "open" is without device.logins, for comparison.
//
//	go test ./cmd/presenced/ -run '^$' -bench LoginStorm -benchtime 1x
func BenchmarkLoginStorm(b *testing.B) {
	for _, v := range []struct {
		name    string
		devices int
		logins  float64
		memory  bool
		tls     bool
	}{
		{"tcp", 19000, DefaultConfig().Device.Logins, false, false},
		{"tcp-open", 19000, 0, false, false},
		{"tls", 19000, DefaultConfig().Device.Logins, false, true},
		{"tls-open", 19000, 0, false, true},
		{"memory", 20000, DefaultConfig().Device.Logins, true, false},
		{"memory-open", 20000, 0, true, false},
	} {
		b.Run(v.name, func(b *testing.B) {
			for range b.N {
				o := stormOrder{Data: b.TempDir(), Logins: v.logins, Devices: v.devices}
				if v.tls {
					o.Cert, o.Key = writeCertificate(b, o.Data, "storm")
					o.AtOnce = stormHandshakes
				}
				storm(b, o, v.memory)
			}
		})
	}
}

// BenchmarkManyDevices has more devices online than a process may open sockets, within the server's memory, both ends; it
// needs about 1 GB.
//
//	go test ./cmd/presenced/ -run '^$' -bench ManyDevices -benchtime 1x
func BenchmarkManyDevices(b *testing.B) {
	for range b.N {
		o := stormOrder{Data: b.TempDir(), Devices: 200_000, AtOnce: 256}
		server := startStorm(b, o)
		var address string
		server.read(b, &address)
		fmt.Fprintln(server.in, "storm")
		var r stormResult
		server.read(b, &r)
		server.stop()
		if r.Online != o.Devices {
			b.Fatalf("%+v", r)
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(r.Bytes, "B/device")
		b.ReportMetric(float64(r.Online)/r.Seconds, "logins/s")
	}
}

func storm(b *testing.B, o stormOrder, memory bool) {
	server := startStorm(b, o)
	var address string
	server.read(b, &address)
	p := newOnlookers()
	p.start(b, func(i int) (net.Conn, *bufio.Reader, error) {
		return stormLogin(func() (net.Conn, error) { return o.dial(address, nil) }, o.Devices+i)
	})
	floor := newOnlookers()
	echo := startEcho(b)
	floor.start(b, func(int) (net.Conn, *bufio.Reader, error) {
		c, err := net.Dial("tcp", echo.Addr().String())
		return c, bufio.NewReader(c), err
	})
	time.Sleep(stormBefore) // the measurement, not a synchronisation
	before := p.take()
	floor.take()
	worked := server.worked(b)
	crowd := server
	if memory {
		fmt.Fprintln(server.in, "storm")
	} else {
		o.Address = address
		crowd = startStorm(b, o)
	}
	var r stormResult
	crowd.read(b, &r)
	during, bare := p.take(), floor.take()
	worked = server.worked(b) - worked
	p.stop()
	floor.stop()
	echo.Close()
	if crowd != server {
		crowd.stop()
	}
	server.stop()
	if r.Online != o.Devices {
		b.Fatalf("%+v", r)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(r.Seconds, "s_to_all")
	b.ReportMetric(float64(r.SentAway), "sent_away")
	if !memory { // else the crowd's work is in it
		b.ReportMetric(worked.Seconds()*1e3/float64(o.Devices), "server_cpu_ms/device")
	}
	b.ReportMetric(float64(r.Failed), "failed")
	b.ReportMetric(r.Longest, "longest_retry_s")
	for _, q := range []float64{0.5, 0.99} {
		x, y, z := quantile(before, q), quantile(during, q), quantile(bare, q)
		name := fmt.Sprintf("p%.0f", q*100)
		b.ReportMetric(x.Seconds()*1e3, name+"_before_ms")
		b.ReportMetric(y.Seconds()*1e3, name+"_ms")
		b.ReportMetric(z.Seconds()*1e3, name+"_floor_ms")
	}
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(q*float64(len(sorted)-1))]
}

// onlookers are devices that are online and ask all the time whether they are.
type onlookers struct {
	end  chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex
	waits []time.Duration // guarded by mu
}

func newOnlookers() *onlookers { return &onlookers{end: make(chan struct{})} }

func (p *onlookers) start(tb testing.TB, connect func(i int) (net.Conn, *bufio.Reader, error)) {
	for i := range stormOnline {
		c, r, err := connect(i)
		if err != nil {
			tb.Fatal(err)
		}
		p.done.Go(func() {
			defer c.Close()
			if err := p.ask(c, r); err != nil {
				tb.Error(err)
			}
		})
	}
}

// startEcho is a server that does nothing but answer heartbeats, in the process of those who ask. What they wait
// for it, they wait for the machine.
func startEcho(tb testing.TB) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				frame := clientFrame("{}")
				for {
					if _, err := io.ReadFull(c, frame); err != nil {
						return
					}
					c.Write([]byte("\x81\x02{}"))
				}
			}()
		}
	}()
	return l
}

func (p *onlookers) ask(c net.Conn, r *bufio.Reader) error {
	for {
		begin := time.Now()
		if _, err := c.Write(clientFrame("{}")); err != nil {
			return err
		}
		if _, err := serverFrame(r); err != nil {
			return err
		}
		wait := time.Since(begin)
		p.mu.Lock()
		p.waits = append(p.waits, wait)
		p.mu.Unlock()
		select {
		case <-p.end:
			return nil
		case <-time.After(stormPause/2 + rand.N(stormPause)):
		}
	}
}

// take returns what was measured since the last take, in order.
func (p *onlookers) take() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	waits := p.waits
	p.waits = nil
	slices.Sort(waits)
	return waits
}

func (p *onlookers) stop() {
	close(p.end)
	p.done.Wait()
}

// stormChild is another process of this test binary.
type stormChild struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func startStorm(b *testing.B, o stormOrder) *stormChild {
	order, _ := json.Marshal(o)
	cmd, in, out := startSelf(b, stormVariable+"="+string(order))
	return &stormChild{cmd, in, out}
}

func (c *stormChild) read(b *testing.B, v any) {
	if err := c.out.Decode(v); err != nil {
		b.Fatal(err)
	}
}

// worked is the time that processors have spent on it.
func (c *stormChild) worked(b *testing.B) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:])) // proc(5): utime and stime are 14 and 15
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * time.Second / 100
}

func (c *stormChild) stop() {
	c.in.Close()
	c.cmd.Wait()
}

// stormProcess is what TestMain runs in a child.
func stormProcess() {
	var o stormOrder
	if err := json.Unmarshal([]byte(os.Getenv(stormVariable)), &o); err != nil {
		log.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	if o.Address != "" {
		r, _ := makeStorm(o, func(i int) (net.Conn, error) {
			return o.dial(o.Address, stormAddress(127, i)) // each from an address of its own
		})
		out.Encode(r)
		io.Copy(io.Discard, os.Stdin)
		return
	}
	g, memory := stormServer(o)
	out.Encode(g.addrs()["http"])
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		before := stormMemory()
		r, conns := makeStorm(o, func(i int) (net.Conn, error) { return memory.dial(stormAddress(10, i)) })
		r.Bytes = (stormMemory() - before) / float64(o.Devices)
		out.Encode(r)
		runtime.KeepAlive(conns)
	}
	os.Exit(0) // what it held is in a folder that the parent removes
}

func stormAddress(first byte, i int) *net.TCPAddr {
	return &net.TCPAddr{IP: net.IPv4(first, 1+byte(i>>16), byte(i>>8), byte(i))}
}

// stormServer is a whole gateway on loopback, which also listens within this process.
func stormServer(o stormOrder) (*gateway, *memoryNet) {
	cfg := DefaultConfig()
	cfg.Data, cfg.Device.Logins = filepath.Join(o.Data, "data"), o.Logins
	cfg.HTTP.Listen, cfg.XMPP.Listen, cfg.Admin.Listen = "127.0.0.1:0", "", ""
	cfg.HTTP.TLSCert, cfg.HTTP.TLSKey = o.Cert, o.Key
	g, err := startGateway(cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		log.Fatal(err)
	}
	var tokens []presence.Token
	for i := range o.Devices + stormOnline {
		tokens = append(tokens, presence.Token{Hash: identity.HashSecret(stormSecret(i)), Email: stormEmail(i), Created: time.Now()})
	}
	for some := range slices.Chunk(tokens, 1000) {
		if err := g.store.PutTokens(some); err != nil {
			log.Fatal(err)
		}
	}
	memory := newMemoryNet()
	g.serveHTTP("memory", paced(memory, pacePerLogin*o.Logins), g.servers[0].Handler, nil, requestTimeout)
	return g, memory
}

func stormEmail(i int) string  { return fmt.Sprintf("device%d@example.org", i) }
func stormSecret(i int) string { return fmt.Sprintf("secret of device %d", i) }

// makeStorm has devices log in at once, each until it is in.
func makeStorm(o stormOrder, dial func(i int) (net.Conn, error)) (stormResult, []net.Conn) {
	var online, sentAway, failed atomic.Int64
	var longest atomic.Int64
	conns := make([]net.Conn, o.Devices)
	begin := time.Now()
	var all sync.WaitGroup
	room := make(chan struct{}, cmp.Or(o.AtOnce, o.Devices))
	for i := range o.Devices {
		all.Go(func() {
			for try := 0; ; try++ {
				room <- struct{}{}
				c, _, err := stormLogin(func() (net.Conn, error) { return dial(i) }, i)
				<-room
				if err == nil {
					conns[i] = c
					online.Add(1)
					return
				}
				var away sentAwayError
				wait := rand.N(min(time.Second<<min(try, 6), time.Minute)) // as presence.js does
				if errors.As(err, &away) {
					sentAway.Add(1)
					longest.Store(max(longest.Load(), int64(away)))
					wait = time.Duration(away)*time.Second + rand.N(time.Second)
				} else if failed.Add(1) < 4 {
					log.Print(err)
				}
				time.Sleep(wait)
			}
		})
	}
	all.Wait()
	return stormResult{Online: int(online.Load()), Seconds: time.Since(begin).Seconds(), SentAway: int(sentAway.Load()),
		Failed: int(failed.Load()), Longest: float64(longest.Load())}, conns
}

// stormMemory is what the process keeps of its memory, in bytes.
func stormMemory() float64 {
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		log.Fatal(err)
	}
	_, anon, _ := strings.Cut(string(status), "RssAnon:")
	var kb float64
	fmt.Sscan(anon, &kb)
	return kb * 1024
}

// sentAwayError is a retry_after or Retry-After, in seconds.
type sentAwayError int

func (e sentAwayError) Error() string { return "sent away" }

// stormLogin connects the device and identifies it. r has been read up to there.
func stormLogin(dial func() (net.Conn, error), i int) (c net.Conn, r *bufio.Reader, err error) {
	if c, err = dial(); err != nil {
		return nil, nil, err
	}
	r, err = stormHello(c, i)
	if err != nil {
		c.Close()
	}
	return c, r, err
}

func stormHello(c net.Conn, i int) (r *bufio.Reader, err error) {
	r = bufio.NewReaderSize(c, 512)
	c.SetReadDeadline(time.Now().Add(patience))
	_, err = c.Write([]byte("GET /presence HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	if err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		if after, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
			return nil, sentAwayError(after)
		}
		return nil, errors.New(resp.Status)
	}
	hello := fmt.Sprintf(`{"type":"hello","email":"%s","assertion":"%s","status":"online"}`, stormEmail(i), stormSecret(i))
	if _, err := c.Write(clientFrame(hello)); err != nil {
		return nil, err
	}
	text, err := serverFrame(r)
	if err != nil {
		return nil, err
	}
	var f struct {
		Result     string
		RetryAfter int `json:"retry_after"`
	}
	if err = json.Unmarshal(text, &f); err == nil && f.Result != "OK" {
		err = fmt.Errorf("answered %s", text)
		if f.RetryAfter > 0 {
			err = sentAwayError(f.RetryAfter)
		}
	}
	c.SetReadDeadline(time.Time{})
	return r, err
}

// clientFrame is a text frame with a mask of zeros. RFC 6455 §5.2
func clientFrame(text string) []byte {
	f := []byte{0x81, 0x80 | byte(len(text))}
	if len(text) > 125 {
		f = binary.BigEndian.AppendUint16([]byte{0x81, 0x80 | 126}, uint16(len(text)))
	}
	return append(append(f, 0, 0, 0, 0), text...)
}

// serverFrame reads a text frame and skips others.
func serverFrame(r *bufio.Reader) ([]byte, error) {
	for {
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return nil, err
		}
		n := int(head[1])
		if n == 126 {
			var long [2]byte
			if _, err := io.ReadFull(r, long[:]); err != nil {
				return nil, err
			}
			n = int(binary.BigEndian.Uint16(long[:]))
		}
		text := make([]byte, n)
		if _, err := io.ReadFull(r, text); err != nil || head[0] == 0x81 {
			return text, err
		}
	}
}
