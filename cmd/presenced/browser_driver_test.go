//go:build interop

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// browserDir holds the program that drives Chromium.
var browserDir = filepath.Join("..", "..", "testdata", "browser")

// browser is a Chromium without a window. Its tabs are for one goroutine at a time.
type browser struct {
	t      *testing.T
	mu     sync.Mutex // one command at a time
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// tab is a page in a browser context of its own: its cookies are one person's.
type tab struct {
	*browser
	name    string
	options map[string]any // of playwright's newContext
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
	t.Cleanup(func() {
		stdin.Close() // it closes the browser and ends
		hard := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer hard.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the browser's driver ended with %v\n%s", err, stderr.Bytes())
		}
	})
	return &browser{t: t, stdin: stdin, stdout: bufio.NewReaderSize(stdout, 1<<20)}
}

// tab opens a page for a new person; options may be nil.
func (b *browser) tab(name string, options map[string]any) *tab {
	return &tab{browser: b, name: name, options: options}
}

// command sends one command and decodes the value of its answer into out, if that is not nil.
func (p *tab) command(c map[string]any, out any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c["page"], c["options"] = p.name, p.options
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return err
	}
	got, err := p.stdout.ReadBytes('\n')
	if err != nil {
		return err
	}
	var answer struct {
		Value json.RawMessage
		Error string
	}
	if err := json.Unmarshal(got, &answer); err != nil {
		return err
	}
	if answer.Error != "" {
		return &browserError{answer.Error}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, out)
}

// browserError is what the driver says went wrong.
type browserError struct{ text string }

func (e *browserError) Error() string { return e.text }

// run is the body of an async function with page, context, args and axe in scope; see driver.js. args come in
// pairs.
func (p *tab) run(body string, args ...any) {
	p.t.Helper()
	p.get(nil, body, args...)
}

// get is run with the value that the function returns.
func (p *tab) get(out any, body string, args ...any) {
	p.t.Helper()
	named := map[string]any{}
	for i := 0; i+1 < len(args); i += 2 {
		named[args[i].(string)] = args[i+1]
	}
	if err := p.command(map[string]any{"run": body, "args": named}, out); err != nil {
		var where string
		p.command(map[string]any{"run": "return page.url() + '\\n' + await page.locator('body').innerText()"}, &where)
		p.t.Fatalf("%s in the browser: %s\n%v\nthe page is %s", p.name, body, err, where)
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

// press presses the button of that name.
func (p *tab) press(name string) {
	p.t.Helper()
	p.run("await page.getByRole('button', {name: args.name}).first().click()", "name", name)
}

// fill writes into the field of that label.
func (p *tab) fill(label, text string) {
	p.t.Helper()
	p.run("await page.getByLabel(args.label).first().fill(args.text)", "label", label, "text", text)
}

// accessible fails the test for everything that the accessibility checks find on the page.
func (p *tab) accessible() {
	p.t.Helper()
	var found []string
	p.get(&found, "return await axe(page)")
	for _, f := range found {
		p.t.Errorf("%s: %s", p.name, f)
	}
}

// quiet fails the test for everything the browser complained about since the last time.
func (p *tab) quiet() {
	p.t.Helper()
	var found []string
	if err := p.command(map[string]any{"complaints": true}, &found); err != nil {
		p.t.Fatal(err)
	}
	for _, f := range found {
		p.t.Errorf("%s: the browser complains: %s", p.name, f)
	}
}
