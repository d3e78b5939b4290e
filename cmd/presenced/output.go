package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
)

// printJSON writes v on one line, as programs read it; text is not escaped for HTML.
func (c *cli) printJSON(v any) error {
	e := json.NewEncoder(c.stdout)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// print writes v for programs, or calls people.
func (c *cli) print(v any, people func(w io.Writer)) error {
	if c.json {
		return c.printJSON(v)
	}
	people(c.stdout)
	return nil
}

// isTerminal reports whether w is a person's screen.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colored reports whether w may be given colours (no-color.org).
func (c *cli) colored(w io.Writer) bool {
	return isTerminal(w) && lookupEnv(c.environ, "NO_COLOR") == "" && lookupEnv(c.environ, "TERM") != "dumb"
}

const tableBlock = 1000 // rows that are laid out together, so that a long list needs little memory

// table prints rows in columns under a head. Close prints what is left; an empty table prints only none.
type table struct {
	w    io.Writer
	bold bool
	head []string
	none string
	rows [][]string
	told bool // the head was written
}

func (c *cli) newTable(none string, head ...string) *table {
	return &table{w: c.stdout, bold: c.colored(c.stdout), head: head, none: none}
}

func (t *table) add(cells ...string) error {
	t.rows = append(t.rows, cells)
	if len(t.rows) < tableBlock {
		return nil
	}
	return t.flush()
}

func (t *table) close() error {
	if !t.told && len(t.rows) == 0 {
		_, err := fmt.Fprintln(t.w, t.none)
		return err
	}
	return t.flush()
}

// flush writes a block, the first one with the head.
func (t *table) flush() error {
	if len(t.rows) == 0 {
		return nil
	}
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	if !t.told {
		fmt.Fprintln(tw, strings.Join(t.head, "\t"))
	}
	for _, row := range t.rows {
		for i := range row {
			row[i] = cell(row[i])
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	tw.Flush()
	t.rows = t.rows[:0]
	out := b.String()
	if head, rest, ok := strings.Cut(out, "\n"); ok && t.bold && !t.told {
		out = "\x1b[1m" + head + "\x1b[0m\n" + rest
	}
	t.told = true
	_, err := io.WriteString(t.w, out)
	return err
}

// cell makes a text from outside safe for a terminal, on one line, and "-" of nothing.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.Is(unicode.Cf, r) {
			return '?'
		}
		return r
	}, s)
}

// facts prints names and values in two columns.
func facts(w io.Writer, pairs ...string) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		fmt.Fprintf(tw, "%s\t%s\n", pairs[i], cell(pairs[i+1]))
	}
	tw.Flush()
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func timeTextOf(t *time.Time) string {
	if t == nil {
		return ""
	}
	return timeText(*t)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// plural is "1 device", "2 devices".
func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + one + "s"
}

// thousands is n with commas: 12,345.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bytesText is "512 bytes" or "1.5 MB" (10^6 bytes).
func bytesText(n int64) string {
	if n < 1_000_000 {
		return plural(int(n), "byte")
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}
