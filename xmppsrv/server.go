package xmppsrv

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/xmppsrv/adhoc"
	"presenced/xmppsrv/gate"
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
	gate    *gate.Gate // of the streams that have not done their handshake
	roll    roll

	countFrom uint32        // what both counts of stream management begin with; other than 0 in tests
	pongWait  time.Duration // for any byte after a ping; immutable
	maxKept   int           // maxKeptBytes; other in tests
	holdWait  time.Duration // likewise
	snapshot  time.Duration // snapshotWait; likewise

	listeners *gate.Listeners // closed when Shutdown begins, under mu
	running   context.Context // ends then too; immutable
	cancel    context.CancelFunc
	streaming sync.WaitGroup // one for each connection, added under mu

	mu    sync.Mutex
	conns map[*conn]struct{} // guarded by mu
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
		snapshot:  snapshotWait,
		decoy:     rand.Text(),
		gate:      gate.New(c.MaxWaiting, c.MaxWaitingPerAddress),
		running:   running,
		cancel:    cancel,
		listeners: gate.NewListeners(),
		conns:     make(map[*conn]struct{}),
	}
	s.roll = roll{srv: s, sessions: make(map[*session]struct{}), ledgers: make(map[string]*ledger)}
	return s
}

// Serve accepts components from l until Shutdown, when it returns nil, or until l fails. It closes l. It may be
// called for several listeners.
func (s *Server) Serve(l net.Listener) error { return s.listeners.Serve(l, s.cfg.Log, s.accept) }

func (s *Server) isClosing() bool { return s.listeners.Closed() }

// gateEnds says how what the gate decides is told.
var gateEnds = map[gate.Verdict]end{gate.Full: endWaiting, gate.FullOfAddress: endWaitingOne}

// accept starts a stream on its own goroutine.
func (s *Server) accept(nc net.Conn) {
	s.count.accepted.Add(1)
	c := &conn{Conn: nc, count: &s.count}
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
		defer s.streaming.Done()
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
	if s.isClosing() {
		return false
	}
	s.streaming.Add(1)
	return true
}

func (s *Server) remove(c *conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// serve runs a stream from its first byte to its last.
func (s *Server) serve(c *conn, pass gate.Pass) {
	st := newStream(s, c)
	sess, err := st.handshake()
	pass.Leave()
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
	if row := why.row(); row.cond != "" && !ours[why] {
		sess.began.Refused(row.cond, "the stream was ended: "+row.text)
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
	c.SetDeadline(time.Now().Add(gate.LastWords))
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
	if s.isClosing() {
		return
	}
	s.listeners.Close()
	s.cancel()
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
