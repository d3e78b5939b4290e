package main

import (
	"context"
	"crypto/sha1"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"presenced/store"
)

// The promise under test is the first of all: what was accepted survives kill -9 at any moment. A real process is
// killed again and again under load while this test keeps the books from outside:
//
//   - Every user has one device and two streams of numbered notifications. One stream goes through the administration
//     socket, whose good answer is the acceptance. The other comes from a component, several on their way at once,
//     each asking for a receipt, which is the proof that the device's confirmation is on disk.
//   - Half of the devices confirm by ack (now and then one frame late), half by the pong that their library sends.
//     In each life of the gateway some devices stay away, so that there is something waiting when it is killed.
//
// What must hold is in killStream.deliver, killStream.receipt and in the last life, which has to bring everything to its end.
const (
	killUsers  = 12
	killRounds = 24 // lives that end by a kill under load
	killStarts = 6  // lives that end while they start
	killWindow = 20 // notifications of a stream that may be on their way
)

func TestKill(t *testing.T) {
	w := newKillWorld(t)
	for range killRounds {
		w.live(false)
		w.checkData()
	}
	for range killStarts {
		w.dieStarting()
	}
	w.live(true)
	w.checkData()
	w.report()
}

// killWorld is everything outside of the gateway. Its books (streams) outlive the gateway's lives.
type killWorld struct {
	*site
	users  []*killUser
	secret string // of the component
	kills  int

	life   int           // written between lives only
	events chan struct{} // one for each acceptance by admin.sock in this life

	mu    sync.Mutex
	moved chan struct{} // guarded by mu: closed when something happens, and made anew
}

// killUser is a person with one device.
type killUser struct {
	email, token string
	puid         string
	acks         bool        // confirms by ack frames
	admin, xmpp  *killStream // what she is sent, by its way in
}

func newKillWorld(t *testing.T) *killWorld {
	w := &killWorld{
		site:   newSite(t, buildPresenced(t), "PRESENCED_LIMITS_QUEUE_PER_APP=1000"),
		moved:  make(chan struct{}),
		secret: "kept between lives",
	}
	var lines strings.Builder
	e := json.NewEncoder(&lines)
	record := func(kind string, fields map[string]any) { e.Encode(map[string]any{kind: fields}) }
	record("app", map[string]any{"appid": "chat", "name": "Chat", "component": "chat.example", "secret": w.secret})
	record("app", map[string]any{"appid": "mail", "name": "Mail", "component": "mail.example", "secret": "never used"})
	for i := range killUsers {
		u := &killUser{
			email: fmt.Sprintf("user%d@example.org", i), token: fmt.Sprintf("token-of-%d", i), acks: i%2 == 0,
			admin: newKillStream(t, fmt.Sprintf("admin %d", i)), xmpp: newKillStream(t, fmt.Sprintf("xmpp %d", i)),
		}
		w.users = append(w.users, u)
		record("token", map[string]any{"email": u.email, "device": "phone", "token": u.token})
		record("grant", map[string]any{"email": u.email, "appid": "mail"})
	}
	w.run(lines.String(), nil, "import", "-")
	for _, u := range w.users {
		var g struct{ PUID string }
		w.run("", &g, "grant", "allow", u.email, "chat")
		u.puid = g.PUID
	}
	return w
}

// live runs the gateway under load until it is killed; the last life goes on until nothing is open and ends well.
func (w *killWorld) live(last bool) {
	w.t.Helper()
	w.life++
	w.events = make(chan struct{}, 4096)
	g := w.serve()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var load sync.WaitGroup
	conns := w.connect(g, last, &load)
	if last {
		w.finish(ctx, conns)
		conns.close() // a gateway that stops waits for its devices
		g.stop()
	} else {
		w.send(ctx, conns.component, &load)
		w.count(rand.IntN(1000 >> (rand.IntN(4) * 2))) // sometimes at once, sometimes late
		g.kill()
		w.kills++
	}
	cancel()
	conns.close()
	load.Wait()
}

// count waits until so many notifications were accepted in this life through admin.sock.
func (w *killWorld) count(n int) {
	w.t.Helper()
	limit := time.After(patience)
	for range n {
		select {
		case <-w.events:
		case <-limit:
			w.t.Fatalf("life %d: nothing moves any more\n%s", w.life, w.state())
		}
	}
}

// acceptedOne counts, and wakes who waits for a change.
func (w *killWorld) acceptedOne() {
	select {
	case w.events <- struct{}{}:
	default:
	}
	w.moves()
}

// moves wakes everybody who waits for a change.
func (w *killWorld) moves() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.moved)
	w.moved = make(chan struct{})
}

// next is closed when the next thing has happened.
func (w *killWorld) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.moved
}

// dieStarting kills the gateway somewhere between its first instruction and its first request.
func (w *killWorld) dieStarting() {
	w.life++
	g, ready := w.spawn("--http", "127.0.0.1:0", "--xmpp", "127.0.0.1:0")
	select {
	case <-ready:
	case <-time.After(rand.N(40 * time.Millisecond)): // the moment is what is tried out here
	}
	g.kill()
	w.kills++
}

// checkData opens the data of the dead gateway and compares every index with what it is made from.
func (w *killWorld) checkData() {
	w.t.Helper()
	s, err := store.Open(filepath.Join(w.data, "presenced.db"), store.Options{})
	if err != nil {
		w.t.Fatalf("life %d: the data cannot be opened any more: %v", w.life, err)
	}
	defer s.Close()
	if err := s.CheckConsistency(); err != nil {
		w.t.Errorf("life %d: %v", w.life, err)
	}
}

func (w *killWorld) streams() []*killStream {
	var all []*killStream
	for _, u := range w.users {
		all = append(all, u.admin, u.xmpp)
	}
	return all
}

func (w *killWorld) report() {
	var sum killStream
	answers := 0
	for _, s := range w.streams() {
		s.mu.Lock()
		sum.sent += s.sent
		answers += s.accepted - s.receipts
		sum.accepted += s.accepted
		sum.lost += s.lost + len(s.open)
		sum.arrived += s.arrived
		sum.repeats += s.repeats
		sum.receipts += s.receipts
		s.mu.Unlock()
	}
	w.t.Logf("%d kills; %d sent; accepted by answer %d and by receipt %d, of these lost %d; %d arrived, and %d repeats",
		w.kills, sum.sent, answers, sum.receipts, sum.lost, sum.arrived, sum.repeats)
	if w.kills < 10 || answers < 100 || sum.repeats < 100 || sum.receipts < 100 {
		w.t.Error("that was not enough load to prove anything")
	}
}

func (w *killWorld) state() string {
	var b strings.Builder
	for _, s := range w.streams() {
		s.mu.Lock()
		fmt.Fprintf(&b, "%s: sent %d, arrived up to %d, receipt for %d\n", s.name, s.sent, s.top, s.lastReceipt)
		s.mu.Unlock()
	}
	return b.String()
}

// killStream is the book of one numbered stream to one device.
type killStream struct {
	t    *testing.T
	name string

	mu       sync.Mutex // guards what follows
	sent     int        // the highest number given out
	base     int        // numbers up to here no longer count as on their way
	top      int        // the highest number that arrived
	life     int        // of the last delivery
	lastSeen int        // the number delivered last in that life
	open     []int      // known as accepted, not arrived; ascending
	ids      map[int]string
	numbers  map[string]int // by id
	done     map[int]int    // number → life in which its confirmation was known to be on disk

	accepted, arrived, lost, repeats, receipts, lastReceipt int
}

func newKillStream(t *testing.T, name string) *killStream {
	return &killStream{t: t, name: name, ids: map[int]string{}, numbers: map[string]int{}, done: map[int]int{}}
}

// begin starts a life. Where the device is there, what is still on its way from earlier lives comes first or is
// lost for good, so the window is open again.
func (s *killStream) begin(present bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if present {
		s.base = s.sent
	}
}

// next gives out a number, if the window has room.
func (s *killStream) next() (n int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sent-max(s.top, s.base) >= killWindow {
		return 0, false
	}
	s.sent++
	return s.sent, true
}

// accept notes that the gateway accepted n.
func (s *killStream) accept(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted++
	if _, arrived := s.ids[n]; !arrived {
		s.open = append(s.open, n)
		slices.Sort(s.open)
	}
}

// deliver notes that n arrived with this id.
func (s *killStream) deliver(life, n int, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if life == s.life && n <= s.lastSeen {
		s.t.Errorf("%s: life %d: number %d came after number %d", s.name, life, n, s.lastSeen)
	}
	s.life, s.lastSeen = life, n
	if in, ok := s.done[n]; ok && in < life {
		s.t.Errorf("%s: life %d: number %d came again, but was confirmed on disk in life %d", s.name, life, n, in)
	}
	if before, ok := s.ids[n]; ok {
		s.repeats++
		if before != id {
			s.t.Errorf("%s: number %d came as %s, then as %s", s.name, n, before, id)
		}
		return
	}
	if other, ok := s.numbers[id]; ok {
		s.t.Errorf("%s: numbers %d and %d have the same id %s", s.name, other, n, id)
	}
	s.ids[n], s.numbers[id] = id, n
	s.arrived++
	if n < s.top {
		s.t.Errorf("%s: number %d came for the first time after number %d", s.name, n, s.top)
	}
	s.top = n
	for len(s.open) > 0 && s.open[0] <= n {
		if s.open[0] < n {
			s.lost++
			s.t.Errorf("%s: number %d was accepted and did not come before number %d: lost", s.name, s.open[0], n)
		}
		s.open = s.open[1:]
	}
}

// receipt notes that the confirmation of n is on disk.
func (s *killStream) receipt(life, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.ids[n]; !ok {
		s.t.Errorf("%s: a receipt for number %d, which never arrived", s.name, n)
	}
	if _, twice := s.done[n]; twice {
		s.t.Errorf("%s: a second receipt for number %d", s.name, n)
	}
	s.done[n] = life
	s.receipts++
	s.accepted++
	s.lastReceipt = n
}

func (s *killStream) receiptFor() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastReceipt
}

func (s *killStream) arrivedUpTo() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.top
}

// killConns are the peers of one life.
type killConns struct {
	component *killComponent
	admin     *client
	devices   []*websocket.Conn
}

func (c *killConns) close() {
	c.admin.close()
	c.component.conn.Close()
	for _, d := range c.devices {
		d.Close()
	}
}

// connect brings the component and most devices, all of them if asked; their readers are counted in load.
func (w *killWorld) connect(g *child, all bool, load *sync.WaitGroup) *killConns {
	w.t.Helper()
	c := new(killConns)
	var err error
	if c.admin, err = dial(context.Background(), Config{Data: w.data}); err != nil {
		w.t.Fatalf("admin.sock: %v", err)
	}
	if c.component, err = joinRaw(g.xmpp, "chat.example", w.secret); err != nil {
		w.t.Fatalf("component: %v", err)
	}
	load.Go(func() { w.readComponent(c.component) })
	for _, u := range w.users {
		stays := !all && rand.IntN(4) == 0
		u.admin.begin(!stays)
		u.xmpp.begin(!stays)
		if stays {
			continue
		}
		d, err := u.connect(g.http)
		if err != nil {
			w.t.Fatalf("device of %s: %v", u.email, err)
		}
		c.devices = append(c.devices, d)
		load.Go(func() { w.readDevice(u, d, all) })
	}
	return c
}

// send starts the load: a writer for each user on admin.sock, and one for all on the component's stream.
func (w *killWorld) send(ctx context.Context, c *killComponent, load *sync.WaitGroup) {
	for _, u := range w.users {
		load.Go(func() {
			cl, err := dial(ctx, Config{Data: w.data})
			if err != nil {
				return // killed already
			}
			defer cl.close()
			for w.notify(ctx, cl, u) == nil {
			}
		})
	}
	load.Go(func() {
		for w.sendAll(ctx, c) == nil {
		}
	})
}

// notify sends the user's next notification through admin.sock and waits for the answer. It ends with an error when
// the gateway does.
func (w *killWorld) notify(ctx context.Context, cl *client, u *killUser) error {
	change := w.next() // taken before looking, so that no change is missed
	n, ok := u.admin.next()
	if !ok {
		return await(ctx, change)
	}
	var got accepted
	err := cl.call(ctx, http.MethodPost, "/notify", newNotification{App: "mail", Email: u.email,
		Message: "admin " + strconv.Itoa(n)}, &got)
	if e := (*apiError)(nil); errors.As(err, &e) {
		w.t.Errorf("%s: number %d was refused: %v", u.admin.name, n, err)
	}
	if err == nil {
		u.admin.accept(n)
		w.acceptedOne()
	}
	return err
}

func await(ctx context.Context, change <-chan struct{}) error {
	select {
	case <-change:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sendAll sends one message to each user that has room, as one write.
func (w *killWorld) sendAll(ctx context.Context, c *killComponent) error {
	var b strings.Builder
	change := w.next()
	for _, u := range w.users {
		if n, ok := u.xmpp.next(); ok {
			fmt.Fprintf(&b, "<message from='bob@chat.example' to='%s@localhost' id='%d'><body>xmpp %d</body>"+
				"<request xmlns='urn:xmpp:receipts'/></message>", u.puid, n, n)
		}
	}
	if b.Len() == 0 {
		return await(ctx, change)
	}
	_, err := io.WriteString(c.conn, b.String())
	return err
}

// finish brings everything to its end: one more notification on each stream, and behind their arrival one more with
// a receipt, which proves that every confirmation before it is on disk. Then nothing may wait.
func (w *killWorld) finish(ctx context.Context, c *killConns) {
	w.t.Helper()
	limit := time.After(patience)
	until := func(what string, reached func() bool) {
		for {
			change := w.next()
			if reached() {
				return
			}
			select {
			case <-change:
			case <-limit:
				w.t.Fatalf("the last life: %s\n%s", what, w.state())
			}
		}
	}
	for _, u := range w.users {
		if err := w.notify(ctx, c.admin, u); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.sendAll(ctx, c.component); err != nil {
		w.t.Fatal(err)
	}
	for _, s := range w.streams() {
		until("not everything arrived", func() bool { return s.arrivedUpTo() == s.sent })
	}
	if err := w.sendAll(ctx, c.component); err != nil {
		w.t.Fatal(err)
	}
	for _, u := range w.users {
		until("a receipt is missing", func() bool { return u.xmpp.receiptFor() == u.xmpp.sent })
	}
	var left []queueView
	w.run("", &left, "queue", "list")
	if len(left) > 0 {
		w.t.Errorf("everything was confirmed, but this still waits: %v", left)
	}
	for _, s := range w.streams() {
		if len(s.open) > 0 {
			w.t.Errorf("%s: accepted and never arrived: %v", s.name, s.open)
		}
	}
}

// connect opens the user's device.
func (u *killUser) connect(addr string) (*websocket.Conn, error) {
	ws, _, err := websocket.DefaultDialer.Dial("ws://"+addr+"/presence", nil)
	if err != nil {
		return nil, err
	}
	hello := map[string]any{"type": "hello", "email": u.email, "assertion": u.token, "device": "phone",
		"status": "online", "ack": u.acks}
	if err := ws.WriteJSON(hello); err != nil {
		ws.Close()
		return nil, err
	}
	return ws, nil
}

// readDevice reads what the device is sent until its socket ends, and confirms it. A device with acks now and then
// keeps them back for a frame, unless prompt.
func (w *killWorld) readDevice(u *killUser, ws *websocket.Conn, prompt bool) {
	var ids []string
	for {
		var f struct {
			Result, Error string
			Notifications []struct{ ID, App, Message string }
			Dropped       []any
		}
		if err := ws.ReadJSON(&f); err != nil {
			return // the gateway was killed
		}
		if f.Result == "KO" || len(f.Dropped) > 0 {
			w.t.Errorf("the device of %s was told %+v", u.email, f)
		}
		for _, n := range f.Notifications {
			u.delivered(w.life, n.Message, n.ID)
			ids = append(ids, n.ID)
			w.moves()
		}
		if u.acks && len(ids) > 0 && (prompt || rand.IntN(3) > 0) {
			ws.WriteJSON(map[string]any{"type": "ack", "ids": ids}) // an error shows in the next read
			ids = nil
		}
	}
}

// delivered enters "admin 7" or "xmpp 7" into its book.
func (u *killUser) delivered(life int, message, id string) {
	way, number, _ := strings.Cut(message, " ")
	s := map[string]*killStream{"admin": u.admin, "xmpp": u.xmpp}[way]
	n, err := strconv.Atoi(number)
	if s == nil || err != nil {
		u.admin.t.Errorf("%s got %q, which nobody sent", u.email, message)
		return
	}
	s.deliver(life, n, id)
}

// killComponent is a component that knows as much of XEP-0114 as it needs.
type killComponent struct {
	conn net.Conn
	in   *xml.Decoder
}

func joinRaw(addr, domain, secret string) (*killComponent, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &killComponent{conn: conn, in: xml.NewDecoder(conn)}
	if err := c.handshake(domain, secret); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *killComponent) handshake(domain, secret string) error {
	fmt.Fprintf(c.conn, "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='%s'>", domain)
	var header xml.StartElement
	for header.Name.Local != "stream" {
		token, err := c.in.Token()
		if err != nil {
			return err
		}
		header, _ = token.(xml.StartElement)
	}
	id := ""
	for _, a := range header.Attr {
		if a.Name.Local == "id" {
			id = a.Value
		}
	}
	fmt.Fprintf(c.conn, "<handshake>%x</handshake>", sha1.Sum([]byte(id+secret)))
	var answer componentStanza
	if err := c.in.Decode(&answer); err != nil {
		return err
	}
	if answer.XMLName.Local != "handshake" {
		return fmt.Errorf("the answer to the handshake is %s", answer.XMLName.Local)
	}
	return nil
}

// componentStanza is what this test needs to know of a stanza.
type componentStanza struct {
	XMLName  xml.Name
	From     string `xml:"from,attr"`
	Type     string `xml:"type,attr"`
	ID       string `xml:"id,attr"`
	Received struct {
		ID int `xml:"id,attr"`
	} `xml:"urn:xmpp:receipts received"`
	Inner string `xml:",innerxml"`
}

// readComponent reads what the component is sent until its stream ends.
func (w *killWorld) readComponent(c *killComponent) {
	users := map[string]*killUser{}
	for _, u := range w.users {
		users[u.puid] = u
	}
	for {
		var s componentStanza
		if c.in.Decode(&s) != nil {
			return // the gateway was killed
		}
		local, _, _ := strings.Cut(s.From, "@")
		switch u := users[local]; {
		case s.XMLName.Local == "presence":
		case s.XMLName.Local == "message" && s.Received.ID > 0 && u != nil:
			u.xmpp.receipt(w.life, s.Received.ID)
			w.moves()
		case s.XMLName.Local == "error": // of the stream: the gateway was asked to stop
		default:
			w.t.Errorf("the component was sent %+v", s)
		}
	}
}
