package main

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// actor is a party of the demo: it shows what it sends and receives, and remembers what it received.
type actor struct {
	stage *stage
	name  string
	done  sync.WaitGroup // its reader

	mu      sync.Mutex
	heard   []string      // guarded by mu
	matched int           // guarded by mu: what is before was asked for already
	news    chan struct{} // guarded by mu: closed at the next hearing, then made anew
	open    bool          // guarded by mu
}

func newActor(s *stage, name string) actor {
	return actor{stage: s, name: name, news: make(chan struct{})}
}

func (a *actor) hears(what string) {
	a.stage.received(a.name, what)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = append(a.heard, what)
	close(a.news)
	a.news = make(chan struct{})
}

func (a *actor) setOpen(open bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open = open
}

func (a *actor) joined() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open
}

// hear waits for something new that contains all the words and returns it.
func (a *actor) hear(ctx context.Context, words ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoWait)
	defer cancel()
	for {
		a.mu.Lock()
		found, news := a.findLocked(words), a.news
		a.mu.Unlock()
		if found != "" {
			return found, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return "", fmt.Errorf("%s did not receive %q", a.name, words)
		}
	}
}

func (a *actor) findLocked(words []string) string {
	for i := a.matched; i < len(a.heard); i++ {
		if containsAll(a.heard[i], words) {
			a.matched = i + 1
			return a.heard[i]
		}
	}
	return ""
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, w) {
			return false
		}
	}
	return true
}

func (a *actor) await(ctx context.Context, words ...string) error {
	_, err := a.hear(ctx, words...)
	return err
}

// neverHeard reports an error if anything received so far contains the word.
func (a *actor) neverHeard(word string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, h := range a.heard {
		if strings.Contains(h, word) {
			return fmt.Errorf("%s received %s", a.name, h)
		}
	}
	return nil
}

// demoComponent is an app's server: a small XEP-0114 client that shows its bytes.
type demoComponent struct {
	actor
	domain, secret string
	conn           net.Conn
}

// join opens the stream and shakes hands (XEP-0114 §3).
func (c *demoComponent) join(ctx context.Context, addr string) (err error) {
	var dialer net.Dialer
	if c.conn, err = dialer.DialContext(ctx, "tcp", addr); err != nil {
		return err
	}
	c.send("<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='" + c.domain + "'>")
	var raw bytes.Buffer
	d := xml.NewDecoder(io.TeeReader(c.conn, &raw))
	id, err := streamID(d)
	if err != nil {
		return err
	}
	c.stage.received(c.name, string(raw.Next(int(d.InputOffset()))))
	digest := sha1.Sum([]byte(id + c.secret))
	c.send("<handshake>" + hex.EncodeToString(digest[:]) + "</handshake>")
	c.setOpen(true)
	c.done.Go(func() { c.read(d, &raw, d.InputOffset()) })
	return c.await(ctx, "handshake")
}

// streamID reads the response header.
func streamID(d *xml.Decoder) (string, error) {
	for {
		t, err := d.Token()
		if err != nil {
			return "", err
		}
		if start, ok := t.(xml.StartElement); ok {
			for _, a := range start.Attr {
				if a.Name.Local == "id" {
					return a.Value, nil
				}
			}
			return "", errors.New("the stream header has no id")
		}
	}
}

// read shows each element of the stream as it was on the wire; raw holds the bytes from base on.
func (c *demoComponent) read(d *xml.Decoder, raw *bytes.Buffer, base int64) {
	defer c.setOpen(false)
	for from := base; ; {
		t, err := d.Token()
		if err != nil {
			return
		}
		start, ok := t.(xml.StartElement)
		if !ok {
			from = d.InputOffset()
			continue
		}
		if d.Skip() != nil {
			return
		}
		raw.Next(int(from - base))
		end := d.InputOffset()
		c.hears(string(raw.Next(int(end - from))))
		base, from = end, end
		if start.Name.Local == "error" {
			return
		}
	}
}

func (c *demoComponent) send(stanza string) {
	c.stage.sent(c.name, stanza)
	if c.conn != nil {
		_, _ = io.WriteString(c.conn, stanza) // a failure shows as a step that does not happen
	}
}

func (c *demoComponent) leave() {
	if c.conn != nil {
		c.conn.Close()
		c.done.Wait()
	}
}

// demoDevice is a phone or a browser: a JSON WebSocket.
type demoDevice struct {
	actor
	email, id, token string
	conn             *websocket.Conn
	writing          sync.Mutex
}

// open connects and identifies with the frame, to which it adds who it is.
func (v *demoDevice) open(ctx context.Context, url, frame string) (err error) {
	if v.conn, _, err = websocket.DefaultDialer.DialContext(ctx, url, nil); err != nil {
		return err
	}
	v.setOpen(true)
	v.done.Go(v.read)
	v.say(fmt.Sprintf(`{"email":%q,"assertion":%q,"device":%q,%s}`, v.email, v.token, v.id, frame))
	return v.await(ctx, `"OK"`)
}

func (v *demoDevice) read() {
	defer v.setOpen(false)
	for {
		_, frame, err := v.conn.ReadMessage() // answers pings on the way: that is how it confirms
		if closed := (*websocket.CloseError)(nil); errors.As(err, &closed) {
			v.hears(fmt.Sprintf("close %d %s", closed.Code, closed.Text))
		}
		if err != nil {
			return
		}
		v.hears(string(frame))
	}
}

// say sends a frame; its token is not shown.
func (v *demoDevice) say(frame string) {
	shown := frame
	if v.token != "" {
		shown = strings.Replace(frame, v.token, "…", 1)
	}
	v.stage.sent(v.name, shown)
	v.writing.Lock()
	defer v.writing.Unlock()
	_ = v.conn.WriteMessage(websocket.TextMessage, []byte(frame)) // a failure shows as a step that does not happen
}

// ack confirms all notifications of a frame.
func (v *demoDevice) ack(frame string) {
	var f struct{ Notifications []struct{ ID string } }
	if json.Unmarshal([]byte(frame), &f) != nil {
		return
	}
	ids := make([]string, len(f.Notifications))
	for i, n := range f.Notifications {
		ids[i] = fmt.Sprintf("%q", n.ID)
	}
	v.say(`{"type":"ack","ids":[` + strings.Join(ids, ",") + `]}`)
}

// cut ends the connection as a lost network does: without a goodbye.
func (v *demoDevice) cut() {
	v.stage.event(v.name, "(its network is gone)")
	v.leave()
}

func (v *demoDevice) leave() {
	if v.conn != nil {
		v.conn.Close()
		v.done.Wait()
	}
}

// stage prints the demo, at most 80 columns wide. It is safe for concurrent use.
type stage struct {
	mu    sync.Mutex
	out   io.Writer // guarded by mu
	color bool
	began time.Time
}

func newStage(out io.Writer, color bool) *stage {
	return &stage{out: out, color: color, began: time.Now()}
}

const (
	stageWidth  = 80
	stageIndent = 23
)

// Colours of the terminal (ECMA-48 SGR).
const (
	bold   = "1"
	dim    = "2"
	green  = "32"
	red    = "31"
	blue   = "36"
	purple = "35"
)

func (s *stage) paint(code, text string) string {
	if !s.color || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s *stage) line(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, format+"\n", args...)
}

func (s *stage) title(text string) { s.line("\n%s\n", s.paint(bold, text)) }

func (s *stage) note(text string) {
	s.line("%s", strings.Join(wrapWords(text, stageWidth), "\n"))
}

func (s *stage) chapter(n int, title, about string) {
	head := title
	if n > 0 {
		head = fmt.Sprintf("%d. %s", n, title)
	}
	s.line("\n%s", s.paint(bold, head))
	for _, l := range wrapWords(about, stageWidth-3) {
		s.line("   %s", s.paint(dim, l))
	}
	s.line("")
}

func (s *stage) command(text string) {
	for i, l := range wrapWords(text, stageWidth-4) {
		mark := "$"
		if i > 0 {
			mark = " "
		}
		s.line("  %s %s", s.paint(dim, mark), l)
	}
}

func (s *stage) sent(who, what string)     { s.show(who, "→", what) }
func (s *stage) received(who, what string) { s.show(who, "←", what) }
func (s *stage) event(who, what string)    { s.show(who, " ", what) }

// show prints who sent or received what, the payload wrapped beside the name.
func (s *stage) show(who, arrow, what string) {
	code := blue
	if strings.HasPrefix(what, "<") {
		code = purple
	}
	at := fmt.Sprintf("%5.2fs", time.Since(s.began).Seconds())
	lines := wrapHard(what, stageWidth-stageIndent)
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "%s %-12s %s %s\n", s.paint(dim, at), who, arrow, s.paint(code, lines[0]))
	for _, l := range lines[1:] {
		fmt.Fprintf(s.out, "%*s%s\n", stageIndent, "", s.paint(code, l))
	}
}

func (s *stage) check(what string, err error) {
	if err == nil {
		s.line("       %s %s", s.paint(green, "✓"), s.paint(green, what))
		return
	}
	s.line("       %s %s", s.paint(red, "✗"), s.paint(red, what))
	for _, l := range wrapWords(err.Error(), stageWidth-9) {
		s.line("         %s", s.paint(red, l))
	}
}

func (s *stage) verdict(happened, of int, told bool) {
	text := fmt.Sprintf("%d of %d steps happened.", happened, of)
	code := green
	if happened < of || !told {
		code = red
	}
	if !told {
		text += " The story was not told to its end."
	}
	s.line("\n%s", s.paint(code, text))
}

// wrapWords breaks text at spaces.
func wrapWords(text string, width int) (lines []string) {
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(w)) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	return append(lines, line)
}

// wrapHard breaks a payload anywhere, but rather behind one of ,>/ or a space.
func wrapHard(text string, width int) (lines []string) {
	r := []rune(text)
	for len(r) > width {
		cut := width
		for i := width; i > width/2; i-- {
			if c := r[i-1]; c == ',' || c == '>' || c == ' ' || c == '/' && r[i] != '>' {
				cut = i
				break
			}
		}
		lines, r = append(lines, strings.TrimRight(string(r[:cut]), " ")), r[cut:]
	}
	return append(lines, string(r))
}
