package web

import (
	"fmt"
	"io/fs"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// serveAs calls a handler with the cookie of somebody who has signed in.
func serveAs(t *testing.T, h *house, handler http.Handler, email string) *httptest.ResponseRecorder {
	t.Helper()
	c := cookieOf(h.browser().post("/login", "email", email, "assertion", "dev"))
	if c == nil {
		t.Fatal("not signed in")
	}
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	r.AddCookie(c)
	handler.ServeHTTP(w, r)
	return w
}

// schemes reads the colours of the stylesheet: those of light, and those of dark, which are laid over them.
func schemes(t *testing.T) map[string]map[string]string {
	t.Helper()
	css, err := fs.ReadFile(files, "static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	light, rest, ok := strings.Cut(string(css), "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("there is no dark scheme")
	}
	dark, _, _ := strings.Cut(rest, "\n}\n")
	read := func(s string, into map[string]string) map[string]string {
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(s, -1) {
			into[m[1]] = m[2]
		}
		return into
	}
	base := read(light, map[string]string{})
	return map[string]map[string]string{"light": base, "dark": read(dark, maps.Clone(base))}
}

// TestContrast computes the contrast (WCAG 2.2 §1.4.3, §1.4.11) of every pair of colours that are used together.
func TestContrast(t *testing.T) {
	surfaces := []string{"page", "card", "sunk"}
	pairs := map[string]float64{"ok/ok-back": 4.5, "away/away-back": 4.5, "off/off-back": 4.5, "bad/bad-back": 4.5,
		"on-accent/accent": 4.5, "on-accent/accent-strong": 4.5}
	for _, s := range surfaces {
		for _, text := range []string{"text", "soft", "link", "bad", "ok"} {
			pairs[text+"/"+s] = 4.5
		}
		for _, shape := range []string{"field-line", "focus", "accent"} {
			pairs[shape+"/"+s] = 3
		}
	}
	for name, colours := range schemes(t) {
		for pair, least := range pairs {
			front, back, _ := strings.Cut(pair, "/")
			if colours[front] == "" || colours[back] == "" {
				t.Fatalf("%s: no colour for %s", name, pair)
			}
			if got := contrast(colours[front], colours[back]); got < least {
				t.Errorf("%s: %s has contrast %.2f, want %.1f", name, pair, got, least)
			}
		}
	}
	if got := contrast("#ffffff", "#000000"); math.Abs(got-21) > 0.01 {
		t.Errorf("white on black is %.2f", got)
	}
	if got := contrast("#777777", "#ffffff"); math.Abs(got-4.48) > 0.01 {
		t.Errorf("grey on white is %.2f", got)
	}
}

// contrast of two colours: WCAG 2.2, "contrast ratio".
func contrast(a, b string) float64 {
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func luminance(colour string) float64 {
	var sum float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		v, err := strconv.ParseUint(colour[1+2*i:3+2*i], 16, 8)
		if err != nil {
			panic(err)
		}
		c := float64(v) / 255
		if c <= 0.04045 {
			sum += weight * c / 12.92
		} else {
			sum += weight * math.Pow((c+0.055)/1.055, 2.4)
		}
	}
	return sum
}

// TestColoursAreVariables, so that the test above knows them all.
func TestColoursAreVariables(t *testing.T) {
	entries, err := fs.Glob(files, "static/*.css")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range entries {
		css, err := fs.ReadFile(files, name)
		if err != nil {
			t.Fatal(err)
		}
		for n, line := range strings.Split(string(css), "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "--") {
				continue
			}
			if m := regexp.MustCompile(`#[0-9a-fA-F]{3,8}\b|\brgba?\(|\bhsla?\(`).FindString(line); m != "" {
				t.Errorf("%s:%d: %s is no variable", name, n+1, m)
			}
		}
	}
}

// looked are all pages that this package shows, as somebody sees them.
func looked(t *testing.T) map[string]*answer {
	t.Helper()
	h, _ := withIssuer(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	pages := map[string]*answer{
		"front":            h.browser().get("/"),
		"front, refused":   h.browser().post("/login", "email", ann, "assertion", "no"),
		"front, signed in": b.get("/"),
		"doorhanger":       b.get("/grant/chat"),
		"wrong terms":      b.post("/grant/chat", "when", "windows", "allow", ""),
		"dashboard":        b.get("/dashboard"),
		"sidebar":          b.get("/sidebar"),
		"connect":          b.get("/dashboard/connect"),
		"not there":        b.get("/nothing"),
	}
	b.post("/grant/chat", "allow", "").want(http.StatusSeeOther)
	pages["allowed"] = b.get("/grant/chat?done=allowed")
	pages["changing"] = b.get("/grant/chat")
	b.post("/grant/chat", "disallow", "").want(http.StatusSeeOther)
	pages["denied"] = b.get("/grant/chat?done=denied")
	return pages
}

// TestPagesAreLight: a page with all it loads stays below 100 KB.
func TestPagesAreLight(t *testing.T) {
	b := newHouse(t).browser()
	for name, a := range looked(t) {
		weight := len(a.body)
		for _, path := range regexp.MustCompile(`(?:href|src)="(/static/[^"]+)"`).FindAllStringSubmatch(a.body, -1) {
			weight += len(b.get(path[1]).want(http.StatusOK).body)
		}
		if weight > 100<<10 {
			t.Errorf("%s weighs %d bytes", name, weight)
		}
	}
}

// TestPagesAreWellMade: one title, one main heading, a language, a label for every field, no two of an id, every button
// with a name, and nothing from elsewhere.
func TestPagesAreWellMade(t *testing.T) {
	for name, a := range looked(t) {
		for _, problem := range problems(a.body) {
			t.Errorf("%s: %s", name, problem)
		}
	}
	broken := `<html><body><main><h1>a</h1><h1>b</h1><input name=x><p id=a><p id=a><img src="https://x"><a href="#b"></a></main>`
	if got := problems(broken); len(got) < 6 {
		t.Errorf("of a broken page only this is seen: %v", got)
	}
}

func problems(page string) (found []string) {
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return []string{err.Error()}
	}
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	count, ids, labelled := map[string]int{}, map[string]bool{}, map[string]bool{}
	walk(doc, func(n *html.Node) {
		count[n.Data]++
		if a := attributes(n); n.Data == "label" && a["for"] != "" {
			labelled[a["for"]] = true
		}
	})
	for _, tag := range []string{"title", "h1", "main", "header", "footer"} {
		if count[tag] != 1 {
			say("%d of %s", count[tag], tag)
		}
	}
	walk(doc, func(n *html.Node) {
		a := attributes(n)
		if id := a["id"]; id != "" {
			if ids[id] {
				say("two of id %s", id)
			}
			ids[id] = true
		}
		switch n.Data {
		case "html":
			if a["lang"] == "" {
				say("no language")
			}
		case "input", "select", "textarea":
			if a["type"] != "hidden" && a["aria-label"] == "" && !labelled[a["id"]] && !insideLabel(n) {
				say("%s %s has no label", n.Data, a["name"])
			}
		case "button", "a", "h1", "h2", "summary", "legend":
			if strings.TrimSpace(textOf(n)) == "" {
				say("%s says nothing", n.Data)
			}
		case "img":
			if _, ok := a["alt"]; !ok {
				say("picture without alt")
			}
		case "style", "iframe", "object":
			say("there is a %s", n.Data)
		}
		for _, key := range []string{"href", "src", "action"} {
			if v, ok := a[key]; ok && !strings.HasPrefix(v, "/") && !strings.HasPrefix(v, "#") {
				say("%s leads to %s", n.Data, v)
			}
		}
		for key := range a {
			if strings.HasPrefix(key, "on") || key == "style" {
				say("%s has %s", n.Data, key)
			}
		}
	})
	return found
}

func insideLabel(n *html.Node) bool {
	for p := n.Parent; p != nil; p = p.Parent {
		if p.Data == "label" {
			return true
		}
	}
	return false
}

func textOf(n *html.Node) string {
	if n.Type == html.TextNode {
		return n.Data
	}
	var s string
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		s += textOf(c)
	}
	return s
}
