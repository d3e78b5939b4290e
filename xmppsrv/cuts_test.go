package xmppsrv_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"presenced/presence"
)

const (
	cutNotes    = 3000 // notifications to the device
	cutMessages = 1000 // messages from it, each with a change of presence
	cuts        = 100
)

// A component that uses stream management loses nothing and gets nothing twice, however often and wherever its
// connection is cut, and however late it resumes.
func TestNothingIsLostOverCuts(t *testing.T) {
	g := start(t, func(c *setup) { c.Limits.QueuePerApp, c.Limits.UpstreamPerApp = cutNotes, cutMessages })
	g.srv.SnapshotWait(250 * time.Millisecond) // who resumes late waits for it
	b := newBooks(g, "chat", cutNotes, cutMessages, "ann")
	c := &resumer{books: b, user: "ann"}
	b.run(cuts, c)
	if c.resumptions < cuts/2 {
		t.Errorf("resumed %d times", c.resumptions)
	}
}

const (
	workerCuts    = 30 // of each worker
	workerNotes   = 300
	usersMessages = 100
)

// Nor do workers that share an app, whose users move from one to the other at each cut.
func TestNothingIsLostOverCutsOfWorkers(t *testing.T) {
	g := start(t, func(c *setup) { c.Limits.QueuePerApp, c.Limits.UpstreamPerApp = workerNotes, usersMessages })
	g.srv.HoldWait(400 * time.Millisecond)     // who has no user to be told of hears a ping
	g.srv.SnapshotWait(250 * time.Millisecond) // who resumes late waits for it
	g.app("team", presence.Share)
	b := newBooks(g, "team", workerNotes, usersMessages, "ann", "bob", "cat", "dan", "eve", "fay", "gil", "hal")
	b.run(workerCuts, &resumer{books: b, user: "ann"}, &resumer{books: b, user: "bob"}, &resumer{books: b, user: "cat"})
}

// fail ends everything.
func (b *books) fail(format string, args ...any) {
	b.t.Errorf(format, args...)
	b.changed(b.end)
}

// quotaLocked is how many messages of each user are sent by the connections that there were, so that there is
// something to lose on each.
func (b *books) quotaLocked() int { return min(b.messages, (b.made+1)*b.messages/b.cuts) }

// changed does something that somebody may wait for.
func (b *books) changed(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	b.more.Broadcast()
}

// resumer is a component that keeps the books of XEP-0198 and comes back as often as it must.
type resumer struct {
	*books
	user string // to whom it sends notifications
	id   string // of its session; "": none yet

	connections, resumptions, late int
	quota                          int           // of notifications to be sent by this connection
	acked                          atomic.Uint32 // notifications that the gateway has
	broken                         atomic.Bool   // the connection is

	mu       sync.Mutex
	nc       net.Conn          // guarded by mu: to ask for the last word
	received uint32            // guarded by mu: stanzas
	next     map[string]int    // guarded by mu: the number after that of each user's last message
	state    map[string]string // guarded by mu: of each user's device, as it was told last
	steady   bool              // guarded by mu: its connection is not cut any more
}

// work connects again and again; after some cuts it is left in peace.
func (c *resumer) work(x *toxins, cuts int) {
	c.next, c.state = map[string]int{}, map[string]string{}
	for n := 0; !c.over(); n++ {
		b := bad{Upstream: c.g.addr}
		late := false
		switch {
		case n == 0: // it has to learn the session's name
			b.Toxics = []toxic{{"limit_data", "downstream", 1, map[string]int64{"bytes": 4000}}}
		case n < cuts && !c.calm.Load():
			late = rand.N(cuts/10+1) == 0
			b.Toxics = anyToxics(!late)
		}
		c.connections++
		c.changed(func() { c.made++ })
		c.quota = min(c.notes, (n+1)*c.notes/cuts)
		addr, err := x.proxy(b)
		if err == nil {
			err = c.connect(addr, late, len(b.Toxics) == 0)
		}
		if err != nil {
			c.fail("connection %d of %s: %v", n, c.user, err)
		}
	}
	c.t.Logf("%s: %d connections, %d resumed, %d of them late, %d stanzas in, %d out", c.user, c.connections, c.resumptions, c.late, c.received, c.acked.Load())
}

// connect serves one connection until it breaks or all is over.
func (c *resumer) connect(addr string, late, steady bool) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(2 * patience))
	p := &comp{g: c.g, t: c.t, c: nc, name: c.app + ".example"}
	p.d = xml.NewDecoder(io.TeeReader(nc, &p.raw))
	if broke, err := c.open(p, late); broke || err != nil {
		return err
	}
	c.mu.Lock()
	c.nc, c.steady = nc, steady
	c.mu.Unlock()
	var sending sync.WaitGroup
	defer sending.Wait()
	defer nc.Close()
	sending.Go(func() { c.send(nc) })
	c.broken.Store(false)
	if !steady {
		sending.Go(func() { c.hasItsShare(nc) })
	}
	defer c.changed(func() { c.broken.Store(true) })
	c.look()
	for {
		s, err := p.read()
		if e, ok := err.(net.Error); ok && e.Timeout() {
			return fmt.Errorf("it hangs: %s", c.misses())
		}
		if err != nil || strings.Contains(s, " id='last' ") {
			return nil
		}
		if err := c.take(nc, s); err != nil {
			return err
		}
		c.look()
	}
}

// hasItsShare closes the connection when it has brought what it should.
func (c *resumer) hasItsShare(nc net.Conn) {
	c.books.mu.Lock()
	defer c.books.mu.Unlock()
	for !c.over() && !c.broken.Load() && (int(c.acked.Load()) < c.quota || len(c.came) < len(c.users)*c.quotaLocked()) {
		c.more.Wait()
	}
	nc.Close()
}

var (
	streamID = regexp.MustCompile(` id='([A-Z2-7]+)'`)
	hAttr    = regexp.MustCompile(` h='(\d+)'`)
	refAttr  = regexp.MustCompile(` id='m(\d+)'`)
)

// open does the handshake and enables or resumes, late only when the snapshot has begun.
func (c *resumer) open(p *comp, late bool) (broke bool, err error) {
	if _, err := fmt.Fprintf(p.c, openStream, p.name); err != nil {
		return true, nil
	}
	for opened := false; !opened; {
		tok, err := p.d.Token()
		if err != nil {
			return true, nil
		}
		_, opened = tok.(xml.StartElement)
	}
	sum := sha1.Sum([]byte(streamID.FindStringSubmatch(p.raw.String())[1] + secret))
	if _, err := io.WriteString(p.c, "<handshake>"+hex.EncodeToString(sum[:])+"</handshake>"); err != nil {
		return true, nil
	}
	first := enable
	if c.id != "" {
		first = resume(c.id, c.received)
	}
	for told := false; ; {
		s, err := p.read()
		early := strings.HasPrefix(s, "<presence ") || isPing(s) // the machine may be slow, and then without being late
		switch m := enabledAs.FindStringSubmatch(s); {
		case err != nil:
			return true, nil
		case early && !told: // what it is told is not of the session
			c.mu.Lock()
			clear(c.state)
			c.late++
			c.mu.Unlock()
			if told = true; late {
				_, err = io.WriteString(p.c, first)
			}
		case early || s == "<handshake/>" && late:
		case s == "<handshake/>":
			_, err = io.WriteString(p.c, first)
		case m != nil && c.id == "":
			c.id = m[1]
			return false, nil
		case strings.HasPrefix(s, "<resumed ") && c.id != "":
			c.acked.Store(number(hAttr, s))
			c.resumptions++
			return false, nil
		default:
			return false, fmt.Errorf("got %s", s)
		}
		if err != nil {
			return true, nil
		}
	}
}

func number(r *regexp.Regexp, s string) uint32 {
	n, err := strconv.ParseUint(r.FindStringSubmatch(s)[1], 10, 32)
	if err != nil {
		panic(err)
	}
	return uint32(n)
}

func isPing(s string) bool {
	return strings.HasSuffix(s, " type='get'><ping xmlns='urn:xmpp:ping'/></iq>")
}

// send sends what the gateway does not have, from the first.
func (c *resumer) send(nc net.Conn) {
	next := int(c.acked.Load())
	for ; next < c.quota; next++ {
		s := fmt.Sprintf("<message from='%s.example' to='%s@gw.example' id='n%d'><body>x</body></message>", c.app, c.user, next)
		if next%16 == 15 || next == c.quota-1 {
			s += ask
		}
		if _, err := io.WriteString(nc, s); err != nil {
			return
		}
	}
	io.WriteString(nc, ask)
}

var stateOf = regexp.MustCompile(`^<presence from='(\w+)@gw.example/\w+' to='[a-z.]+'(.*)$`)

// take notes what came.
func (c *resumer) take(nc net.Conn, s string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s == ask:
		io.WriteString(nc, ack(c.received)) // if it fails, so will the next read
		return nil
	case strings.HasPrefix(s, "<a "):
		c.changed(func() { c.acked.Store(number(hAttr, s)) })
		return nil
	case strings.HasPrefix(s, "<message "):
		user, n := strings.SplitN(sender(s), "@", 2)[0], int(number(refAttr, s))
		if n < c.next[user] {
			return fmt.Errorf("message %d of %s came behind %d", n, user, c.next[user]-1)
		}
		c.next[user] = n + 1
		if err := c.carried(user, n); err != nil {
			return err
		}
	case strings.HasPrefix(s, "<presence "):
		m := stateOf.FindStringSubmatch(s)
		if m == nil {
			return fmt.Errorf("got %s", s)
		}
		state, _, delayed := strings.Cut(m[2], "<delay")
		if state = word(state); state == c.state[m[1]] && !delayed {
			return fmt.Errorf("%s came twice", s)
		}
		c.state[m[1]] = state
		if state == "gone" {
			c.hasGone(m[1], fmt.Sprintf("%s at connection %d, calm %v: %s", c.user, c.connections, c.calm.Load(), s))
		}
	case isPing(s): // it was slow to resume, and the question was on its way
		io.WriteString(nc, " ")
	default:
		return fmt.Errorf("got %s", s)
	}
	c.received++
	return nil
}

func word(state string) string {
	switch {
	case strings.Contains(state, "unavailable"):
		return "gone"
	case strings.Contains(state, "away"):
		return "away"
	}
	return "online"
}

// settled reports whether it has nothing to do and knows that these users are away.
func (c *resumer) settled(knows map[string]bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for u, s := range c.state {
		knows[u] = knows[u] || s == "away"
	}
	return (c.steady || !c.calm.Load()) && int(c.acked.Load()) == c.notes
}

func (c *resumer) hangUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nc != nil && !c.steady {
		c.nc.Close()
	}
}

// lastWord asks for one, behind all that there is.
func (c *resumer) lastWord() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nc != nil {
		io.WriteString(c.nc, strings.Replace(pingOf(c.app+".example"), "id='1'", "id='last'", 1))
	}
}

func (c *resumer) misses() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.books.mu.Lock()
	defer c.books.mu.Unlock()
	var missing []string
	for u := range c.users {
		for i := range c.quotaLocked() {
			if key := fmt.Sprint(u, " ", i); !c.came[key] {
				missing = append(missing, key)
			}
		}
	}
	return fmt.Sprintf("%d acknowledged, %d received, %v; missing %q", c.acked.Load(), c.received, c.state, missing)
}

// books are kept by all the components of an app together.
type books struct {
	t               *testing.T
	g               *gateway
	app             string
	notes, messages int // to each component's user, and from each user
	users           map[string]*presence.Session
	end             context.CancelFunc
	ended           context.Context
	calm            atomic.Bool // nothing is cut any more

	cuts int // of all components; immutable

	mu   sync.Mutex
	more sync.Cond
	made int                 // guarded by mu: connections
	came map[string]bool     // guarded by mu: messages
	gone map[string][]string // guarded by mu: who was told that each user has gone for good
	news chan struct{}       // one slot: there may be something to see
}

func newBooks(g *gateway, app string, notes, messages int, users ...string) *books {
	b := &books{t: g.t.(*testing.T), g: g, app: app, notes: notes, messages: messages, users: map[string]*presence.Session{},
		came: map[string]bool{}, gone: map[string][]string{}, news: make(chan struct{}, 1)}
	b.more.L = &b.mu
	b.ended, b.end = context.WithCancel(context.Background())
	for _, u := range users {
		_, err := g.hub.Allow(presence.Grant{Email: u + "@example.org", App: app, PUID: u, Address: presence.ByPUID, Notify: true}, presence.ByUser)
		g.must(err)
		b.users[u] = g.device(u+"@example.org", "phone")
	}
	return b
}

// talk is what a user's device does: messages, each with a change of presence; she is away in the end.
func (b *books) talk(user string) {
	s := b.users[user]
	for i := range b.messages {
		b.mu.Lock()
		for i >= b.quotaLocked() && !b.over() {
			b.more.Wait()
		}
		b.mu.Unlock()
		status := presence.Unavailable
		if i%2 == 0 {
			status = presence.Online
		}
		if err := s.Publish(status, time.Time{}); err != nil {
			b.fail("%v", err)
		}
		if err := s.Send(b.app, fmt.Sprint("m", i), []byte(`{}`), -1); err != nil {
			b.fail("%v", err)
		}
	}
}

func (b *books) over() bool { return b.ended.Err() != nil }

func (b *books) look() {
	select {
	case b.news <- struct{}{}:
	default:
	}
}

// carried notes a message: each comes once.
func (b *books) carried(user string, n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := fmt.Sprint(user, " ", n)
	if b.came[key] {
		return fmt.Errorf("message %s came twice", key)
	}
	b.came[key] = true
	b.more.Broadcast()
	return nil
}

func (b *books) hasGone(user, how string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone[user] = append(b.gone[user], how)
}

// until waits until something is so; false: it has failed.
func (b *books) until(so func() bool) bool {
	for !so() {
		select {
		case <-b.news:
		case <-b.ended.Done():
			return false
		}
	}
	return true
}

// run lets the components work over their cuts, until all of it has come and is known; then the users go, each once.
func (b *books) run(cuts int, cs ...*resumer) {
	b.cuts = cuts * len(cs)
	x := newToxins(b.t)
	var all sync.WaitGroup
	for _, c := range cs {
		all.Go(func() { c.work(x, cuts) })
	}
	var talking sync.WaitGroup
	for u := range b.users {
		talking.Go(func() { b.talk(u) })
	}
	talking.Wait()
	settled := func() bool {
		knows := map[string]bool{}
		for _, c := range cs {
			if !c.settled(knows) {
				return false
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.came) == len(b.users)*b.messages && len(knows) == len(b.users)
	}
	b.until(settled)
	b.calm.Store(true)
	for _, c := range cs {
		c.hangUp()
	}
	b.until(settled)
	for _, s := range b.users {
		b.g.must(s.Publish(presence.Offline, time.Time{}))
	}
	b.until(func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.gone) == len(b.users)
	})
	b.changed(b.end)
	for _, c := range cs {
		c.lastWord()
	}
	all.Wait()
	for u, how := range b.gone {
		if len(how) != 1 {
			b.t.Errorf("%s went more than once: %q", u, how)
		}
	}
	for _, c := range cs {
		b.onDisk(c)
	}
}

// onDisk compares what the component's user has waiting with what was sent to her.
func (b *books) onDisk(c *resumer) {
	kept, err := b.g.db.Pending(c.user+"@example.org", "", 0, b.notes+1)
	b.g.must(err)
	if len(kept) != b.notes {
		b.t.Errorf("%d of %d notifications to %s are on disk", len(kept), b.notes, c.user)
	}
	for i, n := range kept {
		if n.Ref != fmt.Sprint("n", i) {
			b.t.Fatalf("notification %d on disk is %s", i, n.Ref)
		}
	}
}
