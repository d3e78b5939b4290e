//go:build interop

package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestInteropGuideFromCCS does what docs/from-ccs.md says, as it stands there: the five minutes, with the program for node-xcs as
// the app server, on the ports that are named unless somebody has them.
func TestInteropGuideFromCCS(t *testing.T) {
	g := newCCSGuide(t)

	g.run(g.block("openssl req"))
	g.write("presenced.toml", g.block("dev = true"))
	gateway := g.launch("presenced serve --config presenced.toml")
	gateway.want("ready")
	g.run(g.block("presenced import -"))
	puid := fact(t, g.run(g.block("presenced grant allow")), "puid")

	g.write("server.js", g.block("const C = require"))
	server := g.launch(strings.ReplaceAll(g.block("node server.js"), "THE-PUID", puid))
	server.want("answer undefined undefined")
	if out := g.run(g.block("presenced queue show")); !strings.Contains(out, "Hello") {
		t.Errorf("the queue does not show what waits:\n%s", out)
	}

	device := g.launch(g.block("npx --yes wscat"))
	device.want(`"addresses":{"338755747606":"` + puid + "/")
	device.want(`"notifications":[`, `"message":"Hello"`)
	server.want("from a device "+puid+"/", "{ hello: 'server' }")
	server.want("receipt dr2:m-2")
	gateway.interrupt()
	device.want(`"reconnect"`)
}

// ccsGuide is docs/from-ccs.md, its indented blocks, and an empty folder to follow them in.
type ccsGuide struct {
	t      *testing.T
	blocks []string
	dir    string
	env    []string
}

// guideBlock is lines that are indented by the same four or seven spaces at least, with empty ones between.
var guideBlock = regexp.MustCompile(`(?m)^(    |       )\S.*\n((\s*\n)*    .*\n)*`)

func newCCSGuide(t *testing.T) *ccsGuide {
	t.Helper()
	file, err := os.ReadFile(filepath.Join("..", "..", "docs", "from-ccs.md"))
	if err != nil {
		t.Fatal(err)
	}
	ports := maps.Clone(defaultPorts)
	ports["5235"], ports["5236"] = "", "" // which the text itself sets
	text, env := withFreePorts(t, string(file), ports)
	g := &ccsGuide{t: t, blocks: guideBlock.FindAllString(text, -1), dir: t.TempDir()}
	for dir, as := range map[string]string{interopDir: "node_modules", filepath.Join("..", "..", "testdata", "ccs"): "ccs_modules"} {
		modules, err := filepath.Abs(filepath.Join(dir, "node_modules"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(modules, filepath.Join(g.dir, as)); err != nil { // instead of npm install
			t.Fatal(err)
		}
	}
	g.env = append(append(os.Environ(), env...), "PATH="+filepath.Dir(buildPresenced(t))+":"+os.Getenv("PATH"), "NODE_PATH="+filepath.Join(g.dir, "ccs_modules"))
	return g
}

// block is the one that begins like this, or has a line that does.
func (g *ccsGuide) block(begin string) string {
	g.t.Helper()
	for _, b := range g.blocks {
		if strings.Contains(b, begin) {
			return b
		}
	}
	g.t.Fatalf("docs/from-ccs.md has no block with %q", begin)
	return ""
}

func (g *ccsGuide) write(name, text string) {
	g.t.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o644); err != nil {
		g.t.Fatal(err)
	}
}

func (g *ccsGuide) command(script string) *exec.Cmd {
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir, cmd.Env = g.dir, g.env
	return cmd
}

func (g *ccsGuide) run(script string) string {
	g.t.Helper()
	out, err := g.command(script).CombinedOutput()
	if err != nil {
		g.t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	return string(out)
}

func (g *ccsGuide) launch(script string) *running {
	g.t.Helper()
	return launch(g.t, strings.TrimSpace(script), g.command(script))
}
