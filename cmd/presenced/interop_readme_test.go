//go:build interop

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestReadme walks through README.md with what is printed there, in a copy of the project: every example is cut out
// of the text and run as it stands, on the ports that it names unless somebody has them.
func TestReadme(t *testing.T) {
	needPeers(t)
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Fatalf("chromium is missing (%v): apt-get install chromium", err)
	}
	r := newReadme(t)

	r.do("build")
	gateway := r.start("serve")
	gateway.want("ready")
	out := r.do("setup")
	r.env = append(r.env, "CHAT_SECRET="+fact(t, out, "secret"), "ANN_TOKEN="+fact(t, out, "token"))
	if out := r.do("grant"); !strings.Contains(out, fact(t, out, "puid")+"@localhost") {
		t.Errorf("grant does not print the address:\n%s", out)
	}

	app := r.startFile("slixmpp", "chat.py", python)
	device := r.start("device")
	device.want(`"result":"OK"`)
	app.want("@localhost/", "available")
	device.want(`"notifications":[`, "Good to see you", "bob@chat.example.org")
	device.interrupt()
	app.want("@localhost/", "unavailable")

	if out := r.do("notify"); !strings.Contains(out, "waits") {
		t.Errorf("a notification for nobody: %s", out)
	}
	if out := r.run(r.inline("./presenced queue list")); !strings.Contains(out, "ann@example.org") {
		t.Errorf("the queue does not show it: %s", out)
	}
	device = r.start("device")
	device.want(`"notifications":[`, "Dinner at eight?")
	device.want(`"notifications":[`, "Good to see you")

	newer := r.startFile("xmppjs", "chat.mjs", "node")
	app.ended() // replaced, as the text says
	newer.want("<presence ", "@localhost/")
	device.want(`"notifications":[`, "Good to see you")

	page := r.open("browser", "phone.html")
	page.answer("Token?", r.value("ANN_TOKEN"))
	device.want(`"errno":50`) // one socket for each device, the newer wins
	r.do("notify")
	page.console("Chat Dinner at eight?")
	page.hide()
	newer.want("<show>away</show>")

	gateway.interrupt()
	if err := gateway.ended(); err != nil {
		t.Errorf("serve ended with %v", err)
	}
	r.smaller()
}

// smaller runs the commands that the text shows by the way; no server is needed for them.
func (r *readme) smaller() {
	r.run(strings.ReplaceAll(r.inline("presenced config describe > presenced.toml"), "presenced config", "./presenced config"))
	n := 0
	for _, c := range indented.FindAllString(r.text, -1) {
		c = describe.ReplaceAllString(strings.TrimSpace(c), "$1")
		if program, rest, _ := strings.Cut(c, " "); program == "presenced" || program == "./presenced" {
			r.run("./presenced " + rest)
			n++
		}
	}
	if n == 0 {
		r.t.Error("README.md has no commands between its examples; this test no longer reads it rightly")
	}
}

var (
	indented = regexp.MustCompile(`(?m)^    \S(.*\\\n)*.*$`) // a line of code, with those that continue it
	describe = regexp.MustCompile(`(?m)(\S) {3,}\S.*$`)      // what stands beside a command, for people
)

// defaultPorts are those that the examples name or rely on, each with what sets it.
var defaultPorts = map[string]string{"8080": "PRESENCED_HTTP_LISTEN", "8081": "PRESENCED_ADMIN_LISTEN", "5347": "PRESENCED_XMPP_LISTEN"}

// withFreePorts gives the ports of a text that somebody has to others, which nobody has: in the text, and by the
// environment where the text relies on a default.
func withFreePorts(t *testing.T, text string, ports map[string]string) (changed string, env []string) {
	t.Helper()
	for number, setting := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:"+number)
		if err != nil {
			t.Log(err)
			if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			_, other, _ := net.SplitHostPort(l.Addr().String())
			text = strings.ReplaceAll(text, number, other)
			if setting != "" {
				env = append(env, setting+"=127.0.0.1:"+other)
			}
		}
		l.Close()
	}
	return text, env
}

// fact reads a value that a command printed for people.
func fact(t *testing.T, out, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + `\s+(\S+)$`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no %s in\n%s", name, out)
	}
	return m[1]
}

// readme is the text, its examples by name, and a copy of the project to run them in.
type readme struct {
	t        *testing.T
	text     string
	examples map[string]string
	dir      string
	env      []string
}

// marked is a fenced block below a comment that names it.
var marked = regexp.MustCompile("(?s)<!-- example: (\\w+) -->\n```\\w*\n(.*?)```\n")

func newReadme(t *testing.T) *readme {
	t.Helper()
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	r := &readme{t: t, examples: map[string]string{}, dir: t.TempDir()}
	r.text, r.env = withFreePorts(t, string(text), defaultPorts)
	for _, m := range marked.FindAllStringSubmatch(r.text, -1) {
		r.examples[m[1]] = m[2]
	}
	if fences := strings.Count("\n"+r.text, "\n```") / 2; fences != len(r.examples)+1 { // one is the drawing
		t.Errorf("README.md has %d fenced blocks, of which %d are examples: run the others too", fences, len(r.examples))
	}
	if err := copyProject(r.dir, root); err != nil {
		t.Fatal(err)
	}
	modules, err := filepath.Abs(filepath.Join(interopDir, "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(r.dir, "node_modules")); err != nil { // instead of npm install
		t.Fatal(err)
	}
	return r
}

// copyProject copies what a clone would have.
func copyProject(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains([]string{".git", "node_modules", "presenced", "presenced-data"}, d.Name()) && path != from &&
			(d.Name() != "presenced" || filepath.Dir(path) == filepath.Clean(from)) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
}

func (r *readme) example(name string) string {
	r.t.Helper()
	code, ok := r.examples[name]
	if !ok {
		r.t.Fatalf("README.md has no example %q", name)
	}
	return code
}

// inline is a command that the text names in passing, which must be there.
func (r *readme) inline(command string) string {
	r.t.Helper()
	if !strings.Contains(r.text, "`"+command+"`") {
		r.t.Errorf("README.md does not say `%s`", command)
	}
	return command
}

func (r *readme) value(name string) string {
	for _, e := range r.env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// do runs an example to its end and returns what it printed.
func (r *readme) do(name string) string {
	r.t.Helper()
	return r.run(r.example(name))
}

func (r *readme) run(script string) string {
	r.t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir, cmd.Env = r.dir, append(os.Environ(), r.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	r.t.Logf("%s\n%s", script, out)
	return string(out)
}

// start runs an example that goes on.
func (r *readme) start(name string) *running {
	r.t.Helper()
	return r.launch(name, exec.Command("bash", "-euc", r.example(name)))
}

// startFile writes an example to a file and runs it.
func (r *readme) startFile(name, file, program string) *running {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, file), []byte(r.example(name)), 0o644); err != nil {
		r.t.Fatal(err)
	}
	return r.launch(name, exec.Command(program, file))
}

// running is a program that goes on, like one in a terminal of its own.
type running struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string // closed at the end of its output
	seen  []string
}

func (r *readme) launch(name string, cmd *exec.Cmd) *running {
	r.t.Helper()
	cmd.Dir, cmd.Env = r.dir, append(os.Environ(), r.env...)
	return launch(r.t, name, cmd)
}

// launch starts a program that is followed by what it prints.
func launch(t *testing.T, name string, cmd *exec.Cmd) *running {
	t.Helper()
	p := &running{t: t, name: name, cmd: cmd, lines: make(chan string, 256)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches all of it, and nothing else
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	go p.follow(out)
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		for line := range p.lines {
			p.seen = append(p.seen, line)
		}
		p.cmd.Wait()
		t.Logf("%s printed:\n%s", name, strings.Join(p.seen, "\n"))
	})
	return p
}

func (p *running) follow(out io.Reader) {
	defer close(p.lines)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.lines <- lines.Text()
	}
}

// signal reaches the whole group of processes that this one leads.
func (p *running) signal(s syscall.Signal) { syscall.Kill(-p.cmd.Process.Pid, s) }

func (p *running) interrupt() { p.signal(syscall.SIGINT) }

// want waits for a line that has all parts.
func (p *running) want(parts ...string) string {
	p.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("%s ended and never printed %q, but:\n%s", p.name, parts, strings.Join(p.seen, "\n"))
			}
			p.seen = append(p.seen, line)
			if !slices.ContainsFunc(parts, func(s string) bool { return !strings.Contains(line, s) }) {
				return line
			}
		case <-limit:
			p.t.Fatalf("%s never printed %q, but:\n%s", p.name, parts, strings.Join(p.seen, "\n"))
		}
	}
}

// ended waits until the program has ended by itself.
func (p *running) ended() error {
	p.t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				return p.cmd.Wait()
			}
			p.seen = append(p.seen, line)
		case <-limit:
			p.t.Fatalf("%s does not end; it printed:\n%s", p.name, strings.Join(p.seen, "\n"))
		}
	}
}

// page is a tab of a headless browser, steered by the Chrome DevTools Protocol.
type page struct {
	t       *testing.T
	ws      *websocket.Conn
	session string
	last    int
	waiting []cdpMessage // events that nobody has asked for yet
}

type cdpMessage struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// open writes an example to a file and opens it in Chromium, which gets to see loopback and nothing else.
func (r *readme) open(name, file string) *page {
	r.t.Helper()
	path := filepath.Join(r.dir, file)
	if err := os.WriteFile(path, []byte(r.example(name)), 0o644); err != nil {
		r.t.Fatal(err)
	}
	chromium := r.launch("chromium", exec.Command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--user-data-dir="+r.t.TempDir(),
		"--remote-debugging-port=0", "about:blank"))
	_, url, _ := strings.Cut(chromium.want("DevTools listening on ws://"), "listening on ")
	ws, _, err := websocket.DefaultDialer.Dial(strings.TrimSpace(url), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { ws.Close() })
	p := &page{t: r.t, ws: ws}
	p.attach()
	p.send("Page.navigate", map[string]any{"url": "file://" + path})
	return p
}

func (p *page) attach() {
	var target struct{ TargetID string }
	p.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var session struct{ SessionID string }
	p.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &session)
	p.session = session.SessionID
	p.call("Page.enable", nil, nil)
	p.call("Runtime.enable", nil, nil)
}

func (p *page) send(method string, params any) int {
	p.t.Helper()
	p.last++
	m := map[string]any{"id": p.last, "method": method, "params": params}
	if p.session != "" {
		m["sessionId"] = p.session
	}
	if err := p.ws.WriteJSON(m); err != nil {
		p.t.Fatal(err)
	}
	return p.last
}

// call sends and waits for the result.
func (p *page) call(method string, params, result any) {
	p.t.Helper()
	id := p.send(method, params)
	for {
		m := p.read()
		if m.ID == 0 {
			p.waiting = append(p.waiting, m)
		}
		if m.ID != id {
			continue
		}
		if result != nil {
			json.Unmarshal(m.Result, result)
		}
		return
	}
}

func (p *page) read() cdpMessage {
	p.t.Helper()
	var m cdpMessage
	p.ws.SetReadDeadline(time.Now().Add(patience))
	if err := p.ws.ReadJSON(&m); err != nil {
		p.t.Fatalf("chromium: %v", err)
	}
	if m.Error != nil {
		p.t.Fatalf("chromium: %s", m.Error)
	}
	return m
}

// event waits for the next event of this kind.
func (p *page) event(method string) json.RawMessage {
	p.t.Helper()
	for {
		m := cdpMessage{}
		if len(p.waiting) > 0 {
			m, p.waiting = p.waiting[0], p.waiting[1:]
		} else {
			m = p.read()
		}
		if m.Method == method {
			return m.Params
		}
		if m.Method == "Runtime.exceptionThrown" {
			p.t.Errorf("the page: %s", m.Params)
		}
	}
}

// answer types into a prompt.
func (p *page) answer(question, text string) {
	p.t.Helper()
	var dialog struct{ Message string }
	json.Unmarshal(p.event("Page.javascriptDialogOpening"), &dialog)
	if dialog.Message != question {
		p.t.Errorf("the page asks %q", dialog.Message)
	}
	p.call("Page.handleJavaScriptDialog", map[string]any{"accept": true, "promptText": text}, nil)
}

// console waits until the page has written a line.
func (p *page) console(line string) {
	p.t.Helper()
	for {
		var called struct{ Args []struct{ Value any } }
		json.Unmarshal(p.event("Runtime.consoleAPICalled"), &called)
		var words []string
		for _, a := range called.Args {
			words = append(words, fmt.Sprint(a.Value))
		}
		if strings.Join(words, " ") == line {
			return
		}
	}
}

// hide does what a browser does when its tab goes to the background. (A headless one never does.)
func (p *page) hide() {
	p.t.Helper()
	p.call("Runtime.evaluate", map[string]any{"expression": `Object.defineProperty(document, "hidden", { value: true });
		document.dispatchEvent(new Event("visibilitychange"))`}, nil)
}
