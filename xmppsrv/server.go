package xmppsrv

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/xmppsrv/adhoc"
)

// Config is what a Server is made of. Hub and Domain are needed; zero values of the rest are the documented
// defaults.
type Config struct {
	Hub              *presence.Hub
	Domain           string // the gateway's own, lower case; users are at it
	MaxStanza        int    // bytes (65536), never below 10,000
	HandshakeTimeout time.Duration
	PingInterval     time.Duration // of silence, then a ping; also how long a write may take
	ResumeTimeout    time.Duration // how long a lost stream can be resumed (XEP-0198), by Now
	ShowVersion      bool          // whether XEP-0092 is answered
	Version          string
	Attempts         *identity.Attempts // limits failed handshakes for each address, with those of other doors; nil: no limit
	Log              *slog.Logger
	Now              func() time.Time // for what is told; deadlines of sockets are real time
	Commands         *adhoc.Engine    // for administrators (XEP-0050); nil: there are none

	MaxWaiting           int // streams without handshake (1024)
	MaxWaitingPerAddress int // of one address, an IPv6 network of 64 bits counting as one (64)
}

func (c *Config) fill() {
	c.MaxStanza = max(cmp.Or(c.MaxStanza, 64<<10), minStanza)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, 10*time.Second)
	c.ResumeTimeout = cmp.Or(c.ResumeTimeout, 300*time.Second)
	c.PingInterval = cmp.Or(c.PingInterval, 120*time.Second)
	c.MaxWaiting = cmp.Or(c.MaxWaiting, 1024)
	c.MaxWaitingPerAddress = cmp.Or(c.MaxWaitingPerAddress, 64)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Server accepts components. All methods are safe for concurrent use.
type Server struct {
	cfg     Config // immutable
	started time.Time
	decoy   string // the secret of a domain that nobody has; immutable
	count   counters
	gate    gate
	roll    roll

	countFrom uint32        // what both counts of stream management begin with; other than 0 in tests
	pongWait  time.Duration // for any byte after a ping; immutable
	maxKept   int           // maxKeptBytes; other in tests
	holdWait  time.Duration // likewise

	closing   chan struct{}   // closed when Shutdown begins
	running   context.Context // ends then too; immutable
	cancel    context.CancelFunc
	streaming sync.WaitGroup // one for each connection, added under mu

	mu        sync.Mutex
	closed    bool                      // guarded by mu
	listeners map[net.Listener]struct{} // guarded by mu
	conns     map[*conn]struct{}        // guarded by mu
}

// New makes a server; it does nothing until Serve.
func New(c Config) *Server {
	c.fill()
	running, cancel := context.WithCancel(context.Background())
	s := &Server{
		cfg:       c,
		started:   c.Now(),
		pongWait:  min(c.PingInterval, maxPongWait),
		maxKept:   maxKeptBytes,
		holdWait:  holdWait,
		decoy:     rand.Text(),
		gate:      gate{max: c.MaxWaiting, maxEach: c.MaxWaitingPerAddress, each: make(map[netip.Prefix]int)},
		closing:   make(chan struct{}),
		running:   running,
		cancel:    cancel,
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[*conn]struct{}),
	}
	s.roll = roll{srv: s, sessions: make(map[*session]struct{}), ledgers: make(map[string]*ledger)}
	return s
}

// Serve accepts components from l until Shutdown, when it returns nil, or until l fails. It closes l. It may be
// called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if !s.listen(l) {
		return nil
	}
	defer s.unlisten(l)
	var pause time.Duration
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.accept(c)
		case s.isClosing():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of descriptors, most likely; it passes
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.cfg.Log.Warn("accepting a component failed", "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-s.closing:
				return nil
			}
		}
	}
}

func (s *Server) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.listeners[l] = struct{}{}
	}
	return !s.closed
}

func (s *Server) unlisten(l net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}

// accept starts a stream on its own goroutine.
func (s *Server) accept(nc net.Conn) {
	s.count.accepted.Add(1)
	c := newConn(nc, &s.count)
	why := s.gate.enter(c.network)
	if why != notEnded && !s.gate.refuse() {
		nc.Close()
		s.ended(c, why, nil)
		return
	}
	if !s.add(c) {
		nc.Close()
		s.gate.leave(c.network, why)
		return
	}
	go func() {
		defer s.streaming.Done()
		defer s.remove(c)
		if why != notEnded {
			s.turnAway(c, why)
			s.gate.leave(c.network, why)
			return
		}
		s.serve(c)
	}()
}

// add counts a connection in unless the server is closing.
func (s *Server) add(c *conn) bool {
	if !s.begin() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	return true
}

// begin makes Shutdown wait for one more Done of streaming, unless the server is closing.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.streaming.Add(1)
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
func (s *Server) serve(c *conn) {
	st := newStream(s, c)
	sess, err := st.handshake()
	s.gate.leave(c.network, notEnded)
	if err != nil {
		why := st.fail(err)
		s.ended(c, why, err)
		c.linger(why)
		return
	}
	s.count.sessions.Add(1)
	c.joined.Store(&Component{sess.appID, sess.app, c.RemoteAddr().String(), s.cfg.Now()})
	s.cfg.Log.Info("component connected", "app", sess.appID, "domain", sess.app, "address", c.RemoteAddr().String())
	why, err := sess.run()
	if ends[why].cond != "" && !ours[why] {
		sess.began.Refused(ends[why].cond, "the stream was ended: "+ends[why].text)
	}
	s.count.sessions.Add(-1)
	s.count.ends[why].Add(1)
	s.cfg.Log.Info("component left", "app", sess.appID, "address", c.RemoteAddr().String(), "reason", why.String(), "error", err)
	c.linger(why)
}

// ended notes the end of a stream that never became a session. What the peer sent is not logged: it may be a secret.
func (s *Server) ended(c *conn, why end, err error) {
	s.count.ends[why].Add(1)
	s.cfg.Log.Debug("component refused", "address", c.RemoteAddr().String(), "reason", why.String(), "error", err)
}

// turnAway tells a connection that there are too many.
func (s *Server) turnAway(c *conn, why end) {
	c.SetDeadline(time.Now().Add(lingerTime))
	s.ended(c, why, nil)
	if _, err := c.Write(appendEnd(appendHeader(nil, s.cfg.Domain, rand.Text()), why, nil)); err == nil {
		c.linger(why)
	}
}

// Shutdown ends all streams with system-shutdown, behind what their links still have to tell, and waits for
// them; call it after Hub.Close. When ctx ends it cuts the connections that are left and returns ctx.Err().
func (s *Server) Shutdown(ctx context.Context) error {
	s.close()
	s.roll.close()
	done := make(chan struct{})
	go func() {
		s.streaming.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.eachConn(func(c *conn) { c.Conn.Close() })
	<-done
	return ctx.Err()
}

// close stops accepting and tells every stream.
func (s *Server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	close(s.closing)
	s.cancel()
	for l := range s.listeners {
		l.Close()
	}
	for c := range s.conns {
		if !c.identified.Load() {
			c.kick()
		}
	}
}

func (s *Server) eachConn(f func(*conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		f(c)
	}
}

// Component is one that is connected.
type Component struct {
	App, Domain string
	Address     string // of its socket
	Since       time.Time
}

// Components lists who is connected, by app, the oldest first.
func (s *Server) Components() []Component {
	var list []Component
	s.eachConn(func(c *conn) {
		if j := c.joined.Load(); j != nil {
			list = append(list, *j)
		}
	})
	slices.SortFunc(list, func(a, b Component) int {
		return cmp.Or(cmp.Compare(a.App, b.App), a.Since.Compare(b.Since))
	})
	return list
}

// gate bounds the streams that have not done their handshake.
type gate struct {
	max, maxEach int // immutable

	mu       sync.Mutex
	all      int                  // guarded by mu
	each     map[netip.Prefix]int // guarded by mu; no zeros
	refusing int                  // guarded by mu
}

// enter lets a stream in, or says why not.
func (g *gate) enter(network netip.Prefix) end {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.all >= g.max:
		return endWaiting
	case g.each[network] >= g.maxEach:
		return endWaitingOne
	}
	g.all++
	g.each[network]++
	return notEnded
}

// refuse reports whether one more may be told that there are too many.
func (g *gate) refuse() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refusing >= maxRefusals {
		return false
	}
	g.refusing++
	return true
}

// leave is for a stream that has done its handshake or is over, or that was refused because of why.
func (g *gate) leave(network netip.Prefix, why end) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if why != notEnded {
		g.refusing--
		return
	}
	g.all--
	if g.each[network]--; g.each[network] == 0 {
		delete(g.each, network)
	}
}

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all
}
