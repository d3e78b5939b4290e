package ccs

import (
	"cmp"
	"context"
	"crypto/rand"
	"hash/maphash"
	"log/slog"
	"net"
	"sync"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/xmppsrv/gate"
)

// Config is what a Server is made of. Hub and Domain are needed; zero values of the rest are the documented
// defaults, but for TargetRate.
type Config struct {
	Hub              *presence.Hub
	Domain           string             // the gateway's own, lower case
	MaxStanza        int                // bytes (65536), never below 10,000
	HandshakeTimeout time.Duration      // from the first byte of TLS to the bound resource (10 s)
	WriteTimeout     time.Duration      // for a write, of a peer that does not read (2 min)
	KeepSender       time.Duration      // receipts wait that long for an app's next connection (30 s)
	Attempts         *identity.Attempts // limits failed logins for each address, with those of other doors; nil: no limit
	Log              *slog.Logger
	Now              func() time.Time // for what is told; deadlines of sockets are real time

	MaxConnections       int     // of a sender (1000)
	MaxWaiting           int     // connections without a resource (1024)
	MaxWaitingPerAddress int     // of one address, an IPv6 network of 64 bits counting as one (64)
	TargetBurst          int     // messages to one token at once (5000)
	TargetRate           float64 // and each second behind them; 0: no limit
}

func (c *Config) fill() {
	c.MaxStanza = max(cmp.Or(c.MaxStanza, 64<<10), maxBefore)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, 10*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 2*time.Minute)
	c.KeepSender = cmp.Or(c.KeepSender, keepSender)
	c.MaxConnections = cmp.Or(c.MaxConnections, maxConnections)
	c.MaxWaiting = cmp.Or(c.MaxWaiting, 1024)
	c.MaxWaitingPerAddress = cmp.Or(c.MaxWaitingPerAddress, 64)
	c.TargetBurst = cmp.Or(c.TargetBurst, 5000)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Server accepts app servers. All methods are safe for concurrent use.
type Server struct {
	cfg        Config // immutable
	decoy      string // the key of a sender that nobody is; immutable
	seed       maphash.Seed
	takeOver   time.Duration // see takeOver; immutable
	maxFanouts int           // see maxFanouts; immutable
	count      counters
	gate       *gate.Gate      // of the streams that have no session yet
	listeners  *gate.Listeners // closed when it drains

	running sync.WaitGroup // connections and dispatchers, added under mu

	joining sync.Mutex // held while a session joins a sender or a sender ends; before mu

	mu      sync.Mutex
	closed  bool               // guarded by mu
	serials uint64             // guarded by mu
	conns   map[*conn]*session // guarded by mu; nil: no session yet
	senders map[string]*sender // guarded by mu; by appid
}

// New makes a server; it does nothing until Serve.
func New(c Config) *Server {
	c.fill()
	return &Server{
		cfg: c, decoy: rand.Text(), seed: maphash.MakeSeed(), takeOver: takeOver, maxFanouts: maxFanouts,
		gate:      gate.New(c.MaxWaiting, c.MaxWaitingPerAddress),
		listeners: gate.NewListeners(),
		conns:     make(map[*conn]*session),
		senders:   make(map[string]*sender),
	}
}

// Serve accepts connections from l, whose TLS begins with the first byte, until Drain or Shutdown, when it returns
// nil, or until l fails. It closes l. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error { return s.listeners.Serve(l, s.cfg.Log, s.accept) }

// leaving reports whether Drain was called.
func (s *Server) leaving() bool { return s.listeners.Closed() }

// gateEnds says how what the gate decides is told.
var gateEnds = map[gate.Verdict]end{gate.Full: endWaiting, gate.FullOfAddress: endWaitingOne}

// accept starts a stream on its own goroutine.
func (s *Server) accept(nc net.Conn) {
	s.count.accepted.Add(1)
	c := &conn{Conn: nc, count: &s.count, waiting: true}
	pass, ok := s.gate.Enter(nc.RemoteAddr())
	if !ok {
		nc.Close()
		s.ended(c, gateEnds[pass.Verdict], nil)
		return
	}
	if !s.add(c) {
		nc.Close()
		pass.Leave()
		return
	}
	go func() {
		defer s.running.Done()
		defer s.remove(c)
		if pass.Verdict != gate.In {
			s.turnAway(c, gateEnds[pass.Verdict])
			pass.Leave()
			return
		}
		s.serve(c, pass)
	}()
}

// add counts a connection in unless the server is closing.
func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.running.Add(1)
		s.conns[c] = nil
	}
	return !s.closed
}

func (s *Server) remove(c *conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// serve runs a stream from its first byte to its last.
func (s *Server) serve(c *conn, pass gate.Pass) {
	sess, why, err := newStream(s, c).login()
	pass.Leave()
	if sess == nil {
		s.ended(c, why, err)
		c.linger(why)
		return
	}
	log := s.cfg.Log.With("app", sess.send.app, "address", c.RemoteAddr().String())
	log.Info("app server connected")
	s.count.sessions.Add(1)
	why, err = sess.run()
	s.count.sessions.Add(-1)
	s.count.ends[why].Add(1)
	log.Info("app server left", "reason", why.String(), "error", err)
	c.linger(why)
}

// ended notes the end of a stream that never became a session. What the peer sent is not logged: it may be a key.
func (s *Server) ended(c *conn, why end, err error) {
	s.count.ends[why].Add(1)
	s.cfg.Log.Debug("app server refused", "address", c.RemoteAddr().String(), "reason", why.String(), "error", err)
}

// turnAway tells a connection that there are too many.
func (s *Server) turnAway(c *conn, why end) {
	c.SetDeadline(time.Now().Add(gate.LastWords))
	s.ended(c, why, nil)
	if _, err := c.Write(appendEnd(appendHeader(nil, s.cfg.Domain, rand.Text(), ""), why)); err == nil {
		c.linger(why)
	}
}

// Drain stops accepting and tells every app server that its connection is draining: what is under way is finished,
// what it sends from now on is refused with CONNECTION_DRAINING. Sessions stay until their peers or Shutdown end them.
func (s *Server) Drain() {
	s.listeners.Close() // first: who joins behind this sees it
	s.mu.Lock()
	var all []*session
	for _, sess := range s.conns {
		if sess != nil {
			all = append(all, sess)
		}
	}
	s.mu.Unlock()
	for _, sess := range all {
		sess.drain()
	}
}

// Shutdown ends all streams behind the answers that are due, and waits for them; call it after Hub.Close. When ctx ends
// it cuts the connections that are left and returns ctx.Err().
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	s.mu.Lock()
	s.closed = true
	for c, sess := range s.conns {
		if sess == nil {
			c.kick()
		} else {
			sess.stop(endDrained)
		}
	}
	for _, send := range s.senders {
		send.ring()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for c := range s.conns {
		c.Conn.Close()
	}
	s.mu.Unlock()
	<-done
	return ctx.Err()
}
