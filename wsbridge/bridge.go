package wsbridge

import (
	"context"
	"crypto/rand"
	"hash/maphash"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"presenced/identity"
	"presenced/presence"
	"presenced/presence/errno"
)

// Config is what a Bridge is made of. Hub and Verifier are needed; zero values of the others mean the
// defaults of the contract, but for Rate, Logins and SocketsPerAddress, where 0 means no limit. An app speaks for many
// users, so it has appShare times as much of Burst and Rate.
type Config struct {
	Hub      *presence.Hub
	Verifier identity.Verifier
	Attempts *identity.Attempts // limits failed ones for each address; nil: no limit
	Push     Push               // nil: devices cannot be woken
	Log      *slog.Logger
	Now      func() time.Time

	MaxFrame int     // bytes of a frame, in and out (8192)
	Burst    int     // frames at once (20)
	Rate     float64 // then frames a second
	Logins   float64 // of all devices together, a second

	IdentifyTimeout            time.Duration // for the first frame (10 s)
	Heartbeat                  time.Duration // of silence before a ping (120 s); hello moves it
	HeartbeatMin, HeartbeatMax time.Duration // within these (30 s, 30 min)
	PongTimeout                time.Duration // for any byte after a ping, and for a write (10 s)

	SocketsPerAddress int
	TrustedProxies    []netip.Prefix // whose X-Forwarded-For counts

	// Origin and LocalOnly: see checkOrigin.
	Origin    string
	LocalOnly bool
}

func (c *Config) fill() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&c.IdentifyTimeout, 10 * time.Second},
		{&c.Heartbeat, 120 * time.Second},
		{&c.HeartbeatMin, 30 * time.Second},
		{&c.HeartbeatMax, 30 * time.Minute},
		{&c.PongTimeout, 10 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.usual
		}
	}
	if c.MaxFrame <= 0 {
		c.MaxFrame = 8192
	}
	if c.Burst <= 0 {
		c.Burst = 20
	}
}

// appShare is how many devices an app weighs, in frames: an app is one socket for all of its users.
const appShare = 100

// Bridge is the WebSocket edge: an http.Handler that turns requests into device sockets, and by [Bridge.ServeApp]
// into sockets of apps.
type Bridge struct {
	cfg      Config // immutable, as are the next twelve
	log      *slog.Logger
	upgrader websocket.Upgrader
	ready    *presence.Ready
	rates    rates
	appRates rates
	decoy    string // the key of apps that do not exist
	start    time.Time
	every    time.Duration // length of a tick
	patience uint32        // ticks from a ping to the end
	mostIn   uint32        // bytes that may arrive without making a frame
	seed     maphash.Seed
	key      [32]byte // from which session ids are derived

	tick    atomic.Uint32 // written by the sweep; the clock of liveness
	serial  atomic.Uint32
	table   table
	from    addresses
	known   known
	door    *door // immutable
	apps    channels
	buffers sync.Pool // of *[]byte, MaxFrame long
	desks   sync.Pool // of *desk
	stats   counters

	ctx     context.Context // ends when Shutdown gives up waiting
	cancel  context.CancelFunc
	readers sync.WaitGroup // one for each conn
	loops   sync.WaitGroup // dispatch and sweep
	work    sync.WaitGroup // writers and those who end a conn; added to by readers and loops only
	stop    chan struct{}  // closed by Shutdown, once, when no conn is left
	once    sync.Once
	closing sync.Once
}

// New starts a bridge. Its goroutines end with Shutdown.
func New(c Config) *Bridge {
	b := newBridge(c)
	b.loops.Add(2)
	go b.dispatch()
	go b.sweepAll()
	return b
}

// newBridge makes a bridge that does nothing by itself.
func newBridge(c Config) *Bridge {
	c.fill()
	b := &Bridge{
		cfg:   c,
		log:   c.Log,
		ready: presence.NewReady(),
		rates: newRates(c.Rate, c.Burst), appRates: newRates(c.Rate*appShare, c.Burst*appShare),
		decoy: identity.NewSecret(),
		start: c.Now(),
		every: min(max(c.PongTimeout/10, time.Millisecond), time.Second),
		seed:  maphash.MakeSeed(),
		door:  newDoor(c.Logins),
		stop:  make(chan struct{}),
	}
	b.patience = b.ticks(c.PongTimeout)
	b.mostIn = uint32(c.MaxFrame*frameSpread + frameSlack)
	b.from.max, b.from.count = c.SocketsPerAddress, make(map[address]int32)
	b.buffers.New = func() any { p := make([]byte, c.MaxFrame); return &p }
	b.desks.New = func() any { return &desk{updates: make([]presence.Update, batchItems)} }
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.upgrader = websocket.Upgrader{
		ReadBufferSize:  readBuffer,
		WriteBufferSize: writeBuffer,
		WriteBufferPool: new(sync.Pool), // without New: the library tells an empty pool by nil
		CheckOrigin:     b.checkOrigin,
	}
	b.tick.Store(1)
	rand.Read(b.key[:]) // never fails (crypto/rand)
	return b
}

// Seconds after which to come back, where a request is refused before the upgrade.
const (
	retryAddress = 60
	retryClosed  = 5
)

// ServeHTTP upgrades a request to a device socket and returns: what net/http holds for a request is freed,
// and the socket goes on in goroutines of the bridge.
func (b *Bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.serve(w, r, nil) }

// ServeApp is ServeHTTP for the socket of an app: the one that the request's path value "appid" names. Whether
// there is such an app is not told before the first frame, and then not either.
func (b *Bridge) ServeApp(w http.ResponseWriter, r *http.Request) {
	b.serve(w, r, &channel{id: r.PathValue("appid"), gone: make(chan struct{})})
}

// IsUpgrade reports whether the request wants to become a WebSocket.
func IsUpgrade(r *http.Request) bool { return websocket.IsWebSocketUpgrade(r) }

func (b *Bridge) serve(w http.ResponseWriter, r *http.Request, app *channel) {
	client := clientAddr(r, b.cfg.TrustedProxies)
	from := addressOf(client)
	if b.table.isClosed() {
		unavailable(w, retryClosed, "going away")
		return
	}
	if !b.from.enter(from) {
		b.stats.refused.Add(1)
		unavailable(w, retryAddress, "too many connections from this address")
		return
	}
	c := &conn{from: from, serial: b.serial.Add(1), app: app}
	c.b = b
	as := net.Conn(&c.socket)
	if app != nil {
		app.c, app.out.socket, app.address = c, &c.socket, client.String()
		as = &app.out
	}
	if err := c.accept(&b.upgrader, as, w, r, c.onPing, c.onPong); err != nil {
		b.from.leave(from)
		return // the upgrader has answered
	}
	if !b.table.enter(c, b.tick.Load(), &b.readers) {
		b.from.leave(from)
		c.turnAway()
		return
	}
	b.stats.accepted.Add(1)
	b.stats.sockets.Add(1)
	c.SetReadDeadline(time.Now().Add(b.cfg.IdentifyTimeout))
	go c.wait()
}

func unavailable(w http.ResponseWriter, retry int, text string) {
	w.Header().Set("Retry-After", strconv.Itoa(retry))
	http.Error(w, text, http.StatusServiceUnavailable)
}

// dated adds to "going away" when to come back, where that is known.
func (b *Bridge) dated(e *Error) *Error {
	if r := b.cfg.Hub.Draining(); r != nil && e.Errno == errno.GoingAway {
		e.Retry = r.After
	}
	return e
}

// dispatch starts a writer for each session that has something to write.
func (b *Bridge) dispatch() {
	defer b.loops.Done()
	var batch []*presence.Session
	for {
		select {
		case <-b.ready.Wake():
		case <-b.stop:
			return
		}
		batch = b.ready.Take(batch[:0])
		for i, s := range batch {
			s.Tag().(*conn).kick()
			batch[i] = nil
		}
	}
}

// sweepAll moves the clock of liveness and sweeps, once in a tick.
func (b *Bridge) sweepAll() {
	defer b.loops.Done()
	t := time.NewTicker(b.every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			b.advance()
		case <-b.stop:
			return
		}
	}
}

func (b *Bridge) advance() {
	now := b.tick.Add(1)
	b.table.sweep(now, b.look)
}

// spawn runs f in a goroutine that Shutdown waits for. It is called by readers and loops only.
func (b *Bridge) spawn(f func()) {
	b.work.Add(1)
	go func() {
		defer b.work.Done()
		f()
	}()
}

// Shutdown ends the bridge. The hub must be closed before, so that identified devices are told to go; the
// others are told here. It waits until every socket is closed and every goroutine has ended. When ctx ends
// first, the sockets that are left are cut off, and it returns the context's error.
func (b *Bridge) Shutdown(ctx context.Context) error {
	b.table.close()
	b.closing.Do(b.door.close)
	b.table.each(func(c *conn) {
		if !c.identified() {
			b.spawn(func() { c.end(b.dated(&Error{Errno: errno.GoingAway})) })
		}
	})
	gone := make(chan struct{})
	go func() {
		b.readers.Wait()
		close(gone)
	}()
	var err error
	select {
	case <-gone:
	case <-ctx.Done():
		err = ctx.Err()
		b.cancel()
		b.table.each(func(c *conn) { c.Conn.Close() })
		<-gone
	}
	b.cancel()
	b.once.Do(func() { close(b.stop) })
	b.loops.Wait()
	b.work.Wait()
	return err
}

// deadline is until when a write must be done that begins now.
func (b *Bridge) deadline() time.Time { return time.Now().Add(b.cfg.PongTimeout) }

// elapsed is the clock of the rate limits, in nanoseconds.
func (b *Bridge) elapsed() int64 { return int64(b.cfg.Now().Sub(b.start)) }

// counters are since start; gauges go up and down.
type counters struct {
	sockets, devices    atomic.Int64 // gauges, as is apps
	apps                atomic.Int64
	updates             atomic.Uint64
	accepted, refused   atomic.Uint64
	sentAway            atomic.Uint64
	waiting             atomic.Int64 // gauge
	framesIn, framesOut atomic.Uint64
	items               atomic.Uint64
	pings, timeouts     atomic.Uint64
	errnos              [100]atomic.Uint64
}

// Stats are counts for the metrics.
type Stats struct {
	Sockets, Devices, Apps int // open now; of these identified devices, and apps
	Waiting                int // devices that wait for the moment to identify themselves, or do so
	// Counters since start.
	Accepted, RefusedByAddress uint64
	SentAway                   uint64 // devices that were told to come back, because too many identified themselves
	FramesIn, FramesOut        uint64
	Notifications              uint64 // items written, repeats included
	Updates                    uint64 // presence, receipts and messages written to apps
	Pings, Timeouts            uint64 // pings of silent peers; sockets closed because none answered
	Errors                     map[errno.Number]uint64
}

// Stats takes no lock.
func (b *Bridge) Stats() Stats {
	c := &b.stats
	s := Stats{
		Sockets: int(c.sockets.Load()), Devices: int(c.devices.Load()), Apps: int(c.apps.Load()), Updates: c.updates.Load(),
		Accepted: c.accepted.Load(), RefusedByAddress: c.refused.Load(), SentAway: c.sentAway.Load(), Waiting: int(c.waiting.Load()),
		FramesIn: c.framesIn.Load(), FramesOut: c.framesOut.Load(), Notifications: c.items.Load(),
		Pings: c.pings.Load(), Timeouts: c.timeouts.Load(),
		Errors: make(map[errno.Number]uint64),
	}
	for n := range c.errnos {
		if count := c.errnos[n].Load(); count > 0 {
			s.Errors[errno.Number(n)] = count
		}
	}
	return s
}
