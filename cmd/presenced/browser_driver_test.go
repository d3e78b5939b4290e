//go:build interop

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// browserDir holds the program that drives Chromium.
var browserDir = filepath.Join("..", "..", "testdata", "browser")

// browser is a Chromium without a window. It is safe for concurrent use; a tab is for one goroutine at a time.
type browser struct {
	stdin io.WriteCloser

	mu      sync.Mutex // guards stdin and what follows
	last    int
	waiting map[int]chan browserAnswer // closed when the driver ends
	ended   bool
}

// browserAnswer is what the driver prints for a command.
type browserAnswer struct {
	ID    int
	Value json.RawMessage
	Error string
}

// startBrowser starts Chromium for the test and ends it with it.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	cmd := exec.Command("node", "driver.js")
	cmd.Dir = browserDir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("node: %v", err)
	}
	b := &browser{stdin: stdin, waiting: map[int]chan browserAnswer{}}
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.follow(stdout)
	}()
	t.Cleanup(func() {
		stdin.Close() // it closes the browser and ends
		hard := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer hard.Stop()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Errorf("the browser's driver ended with %v\n%s", err, stderr.Bytes())
		}
	})
	return b
}

// follow hands the answers to those who wait for them.
func (b *browser) follow(stdout io.Reader) {
	lines := bufio.NewReaderSize(stdout, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var a browserAnswer
		json.Unmarshal(line, &a)
		b.mu.Lock()
		waits := b.waiting[a.ID]
		delete(b.waiting, a.ID)
		b.mu.Unlock()
		if waits != nil {
			waits <- a
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	for _, waits := range b.waiting {
		close(waits)
	}
}

// ask sends a command and waits for its answer.
func (b *browser) ask(c map[string]any) (browserAnswer, error) {
	waits := make(chan browserAnswer, 1)
	err := b.send(c, waits)
	if err != nil {
		return browserAnswer{}, err
	}
	a, ok := <-waits
	if !ok {
		return a, errors.New("the browser's driver has ended")
	}
	return a, nil
}

func (b *browser) send(c map[string]any, waits chan browserAnswer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return errors.New("the browser's driver has ended")
	}
	b.last++
	c["id"] = b.last
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	b.waiting[b.last] = waits
	_, err = b.stdin.Write(append(line, '\n'))
	return err
}

// tab is a page in a browser context of its own: its cookies are one person's.
type tab struct {
	t       *testing.T
	browser *browser
	name    string
	key     string         // for the driver; unlike name it is nobody else's
	options map[string]any // of playwright's newContext
}

// tab opens a page for a new person and closes it with the test; options, in pairs, are playwright's for a context.
func (b *browser) tab(t *testing.T, name string, options ...any) *tab {
	p := &tab{t: t, browser: b, name: name, key: t.Name() + "/" + name, options: pairs(options)}
	t.Cleanup(p.close)
	return p
}

// close ends the context; the name is free for another person then.
func (p *tab) close() { p.command(map[string]any{"close": true}, nil) }

// pairs makes a map of names and values.
func pairs(list []any) map[string]any {
	m := map[string]any{}
	for i := 0; i+1 < len(list); i += 2 {
		m[list[i].(string)] = list[i+1]
	}
	return m
}

// command sends one command and decodes the value of its answer into out, if that is not nil.
func (p *tab) command(c map[string]any, out any) error {
	c["page"], c["options"] = p.key, p.options
	a, err := p.browser.ask(c)
	switch {
	case err != nil:
		return err
	case a.Error != "":
		return errors.New(a.Error)
	case out == nil:
		return nil
	}
	return json.Unmarshal(a.Value, out)
}

// run is the body of an async function with page, context, args and axe in scope; see driver.js. args come in
// pairs.
func (p *tab) run(body string, args ...any) {
	p.t.Helper()
	p.get(nil, body, args...)
}

// get is run with the value that the function returns.
func (p *tab) get(out any, body string, args ...any) {
	p.t.Helper()
	if err := p.command(map[string]any{"run": body, "args": pairs(args)}, out); err != nil {
		var where string
		p.command(map[string]any{"run": "return page.url() + '\\n' + await page.locator('body').innerText({timeout: 1000})"}, &where)
		p.t.Fatalf("%s in the browser: %s %v\n%v\nthe page is %s\nthe browser says %q", p.name, body, args, err, where, p.complaints())
	}
}

// open goes to a URL and fails the test if it is not answered with status.
func (p *tab) open(url string, status int) {
	p.t.Helper()
	var got int
	p.get(&got, "const r = await page.goto(args.url); return r.status()", "url", url)
	if got != status {
		p.t.Fatalf("%s opens %s: %d, wanted %d", p.name, url, got, status)
	}
}

// sees waits until the text is on the page, to be seen.
func (p *tab) sees(text string) {
	p.t.Helper()
	p.run("await page.getByText(args.text).filter({visible: true}).first().waitFor()", "text", text)
}

// sees waits until a part of the page, a CSS selector, has the text.
func (p *tab) seesIn(part, text string) {
	p.t.Helper()
	p.run("await page.locator(args.part).filter({hasText: args.text, visible: true}).first().waitFor()", "part", part, "text", text)
}

// misses waits until nothing that CSS selects, with the text in it, is to be seen.
func (p *tab) misses(part, text string) {
	p.t.Helper()
	p.run("await page.locator(args.part).filter({hasText: args.text, visible: true}).first().waitFor({state: 'hidden'})", "part", part, "text", text)
}

// at waits until the page's address ends like this.
func (p *tab) at(end string) {
	p.t.Helper()
	p.run("await page.waitForURL(u => u.href.endsWith(args.end))", "end", end)
}

// url is where the page is.
func (p *tab) url() (u string) {
	p.t.Helper()
	p.get(&u, "return page.url()")
	return u
}

// press presses the button, or follows the link, of that name.
func (p *tab) press(name string) {
	p.t.Helper()
	p.run("await page.getByRole('button', {name: args.name}).or(page.getByRole('link', {name: args.name})).first().click()", "name", name)
}

// fill writes into the field of that label.
func (p *tab) fill(label, text string) {
	p.t.Helper()
	p.run("await page.getByLabel(args.label, {exact: true}).first().fill(args.text)", "label", label, "text", text)
}

// check ticks the box, or chooses the choice, of that label.
func (p *tab) check(label string) {
	p.t.Helper()
	p.run("await page.getByLabel(args.label).first().check()", "label", label)
}

// choose takes a choice of the list of that label.
func (p *tab) choose(label, choice string) {
	p.t.Helper()
	p.run("await page.getByLabel(args.label).first().selectOption({label: args.choice})", "label", label, "choice", choice)
}

// accessible fails the test for everything that the accessibility checks find on the page.
func (p *tab) accessible() {
	p.t.Helper()
	var found []string
	p.get(&found, "return await axe(page)")
	for _, f := range found {
		p.t.Errorf("%s at %s: %s", p.name, p.url(), f)
	}
}

// complaints are what the browser complained about since the last time.
func (p *tab) complaints() (found []string) {
	p.t.Helper()
	if err := p.command(map[string]any{"complaints": true}, &found); err != nil {
		p.t.Error(err)
	}
	return found
}

// quiet fails the test for everything the browser complained about since the last time.
func (p *tab) quiet() {
	p.t.Helper()
	for _, f := range p.complaints() {
		p.t.Errorf("%s: the browser complains: %s", p.name, f)
	}
}

// complains wants the browser to have said something with each of the texts, and nothing else.
func (p *tab) complains(texts ...string) {
	p.t.Helper()
	found := p.complaints()
	for _, f := range found {
		if !containsAny(f, texts) {
			p.t.Errorf("%s: the browser complains: %s", p.name, f)
		}
	}
	for _, text := range texts {
		if !strings.Contains(fmt.Sprint(found), text) {
			p.t.Errorf("%s: the browser does not complain of %q", p.name, text)
		}
	}
}

func containsAny(s string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
}
