package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// arrows says which packages of this module a package may use, all the way down, and why not more. What is not
// listed here does not exist.
func arrows() map[string]struct {
	may []string
	why string
} {
	type arrow = struct {
		may []string
		why string
	}
	return map[string]arrow{
		"presence":               {nil, "the core has no socket, no disk and no format; it is used by everybody"},
		"presence/errno":         {nil, "numbers and their texts are the same for all who answer"},
		"identity":               {nil, "verifiers confirm e-mails for whoever asks, and know nothing of presence"},
		"store":                  {[]string{"presence"}, "it implements the core's interfaces and is chosen by main only"},
		"xmppsrv":                {[]string{"presence", "identity", "xmppsrv/adhoc", "xmppsrv/gate", "xmppsrv/gcm", "xmppsrv/xmlstream"}, "an edge talks to the core, and counts failed logins with those of the other doors; never to another edge, never to the disk"},
		"wsbridge":               {[]string{"presence", "presence/errno", "identity"}, "an edge talks to the core; never to another edge, never to the disk"},
		"wsbridge/push":          {[]string{"presence", "identity"}, "waking devices is an edge of its own: push services are peers like any other"},
		"web":                    {[]string{"presence", "presence/errno", "identity", "web/account", "xmppsrv/gcm", "xmppsrv/xmlstream"}, "pages talk to the core, and read registration tokens where CCS does; never to an edge, never to the disk"},
		"web/account":            {[]string{"presence", "identity"}, "what is done with an account is the same for pages, API and command line, which all call it"},
		"identity/browseridtest": {nil, "domains and bundles for tests; nothing that is shipped uses it"},
		"identity/oidctest":      {nil, "an issuer for tests; nothing that is shipped uses it"},
		"xmppsrv/adhoc":          {nil, "commands are forms and sessions; the streams they come over, and what they do, are others' business"},
		"xmppsrv/gate":           {nil, "who may come in is decided before anybody says what it speaks"},
		"xmppsrv/xmlstream":      {nil, "XML is XML, whoever speaks it"},
		"xmppsrv/gcm":            {[]string{"presence", "xmppsrv/xmlstream"}, "a payload knows neither streams nor connections"},
		"xmppsrv/ccs":            {[]string{"presence", "identity", "xmppsrv/gate", "xmppsrv/gcm", "xmppsrv/xmlstream"}, "an edge talks to the core, and counts failed logins with those of the other doors; components are another"},
		"cmd/presenced": {[]string{"presence", "presence/errno", "identity", "store", "xmppsrv", "xmppsrv/adhoc", "xmppsrv/ccs", "xmppsrv/gate", "xmppsrv/gcm", "xmppsrv/xmlstream", "wsbridge", "wsbridge/push", "web", "web/account"},
			"main wires everything"},
	}
}

// standardOnly are the packages that use nothing outside the standard library.
func standardOnly() map[string]string {
	return map[string]string{
		"presence/errno":    "it is a table",
		"presence":          "the core must stay readable and testable without knowing any library",
		"xmppsrv/adhoc":     "commands are to be tested without any stream",
		"xmppsrv/xmlstream": "the reader is on the way of every byte that a stranger sends",
	}
}

const module = "presenced"

// TestArrows: no package uses what it must not, directly or through another.
func TestArrows(t *testing.T) {
	found := map[string]bool{}
	for pkg, deps := range listDeps(t) {
		arrow, known := arrows()[pkg]
		if !known {
			t.Errorf("package %s is not in the design; if it has a reason to exist, add it to this test with it", pkg)
			continue
		}
		found[pkg] = true
		why, standard := standardOnly()[pkg]
		for _, dep := range deps {
			ours, isOurs := strings.CutPrefix(dep, module+"/")
			switch {
			case isOurs && !slices.Contains(arrow.may, ours):
				t.Errorf("%s uses %s, but: %s", pkg, ours, arrow.why)
			case standard && !isOurs:
				t.Errorf("%s uses %s, but: %s", pkg, dep, why)
			}
		}
	}
	for pkg := range arrows() {
		if !found[pkg] {
			t.Errorf("package %s of the design is missing", pkg)
		}
	}
}

// listDeps maps each package of the module to all it needs, but for the standard library and itself; tests do
// not count.
func listDeps(t *testing.T) map[string][]string {
	t.Helper()
	const format = `{{.ImportPath}} {{join .Deps " "}}`
	cmd := exec.Command("go", "list", "-f", format, "./...")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(words[0], module+"/")
		deps[pkg] = slices.DeleteFunc(words[1:], func(dep string) bool { return isStandard(dep) })
	}
	return deps
}

// isStandard: paths of other modules begin with a domain name, ours with its name.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return first != module && !strings.Contains(first, ".")
}

// TestTopLevel: what lies at the top of the repository is decided, not grown.
func TestTopLevel(t *testing.T) {
	allowed := map[string]string{
		"cmd":          "the program",
		"xmppsrv":      "the edge for components",
		"wsbridge":     "the edge for devices",
		"store":        "the data file",
		"testdata":     "what tests of several packages share",
		"go.mod":       "",
		"go.sum":       "",
		"README.md":    "",
		"CHANGELOG.md": "",
		"LICENSE":      "",
		"presence":     "the edges must not see each other, so the core is a third package",
		"identity":     "edges and pages confirm assertions",
		"web":          "pages and the HTTP API",
		"docs":         "documentation",
		".ci":          "what checks a change",
		".git":         "",
		".gitignore":   "",
	}
	entries, err := os.ReadDir(root(t))
	if err != nil {
		t.Fatal(err)
	}
	ignored := ignoredNames(t)
	for _, e := range entries {
		if _, ok := allowed[e.Name()]; !ok && !ignored[e.Name()] {
			t.Errorf("%s is new at the top level; it needs a reason, and a line in this test", e.Name())
		}
	}
}

// ignoredNames are those that .gitignore names; runs leave such things behind.
func ignoredNames(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root(t), ".gitignore"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		names[strings.Trim(strings.TrimSpace(line), "/")] = true
	}
	return names
}

// root is the top of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
