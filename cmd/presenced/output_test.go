package main

import (
	"strings"
	"testing"
)

// TestTableIsSafe: what apps and devices wrote cannot drive the terminal of whoever looks at it.
func TestTableIsSafe(t *testing.T) {
	var b strings.Builder
	c := &cli{stdout: &b}
	tab := c.newTable("nothing", "NAME", "VALUE")
	tab.add("a", "plain ünïcode ✓")
	tab.add("", "\x1b[2Jgone\nline\ttab\u202eright")
	if err := tab.close(); err != nil {
		t.Fatal(err)
	}
	want := "NAME  VALUE\na     plain ünïcode ✓\n-     ?[2Jgone?line?tab?right\n"
	if b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// TestTableInBlocks: a long list has one head, and needs no more memory than a block.
func TestTableInBlocks(t *testing.T) {
	var b strings.Builder
	tab := (&cli{stdout: &b}).newTable("nothing", "N")
	for range 2*tableBlock + 1 {
		tab.add("x")
		if len(tab.rows) >= tableBlock {
			t.Fatal("rows pile up")
		}
	}
	if err := tab.close(); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.Count(got, "\n") != 2*tableBlock+2 || strings.Count(got, "N\n") != 1 {
		t.Errorf("%d lines, %d heads", strings.Count(got, "\n"), strings.Count(got, "N\n"))
	}
}

func TestTableWithoutRows(t *testing.T) {
	var b strings.Builder
	(&cli{stdout: &b}).newTable("nothing", "N").close()
	if b.String() != "nothing\n" {
		t.Errorf("got %q", b.String())
	}
}

func TestHeadIsBoldOnATerminal(t *testing.T) {
	var b strings.Builder
	tab := (&cli{stdout: &b}).newTable("nothing", "N")
	tab.bold = true
	tab.add("x")
	tab.close()
	if b.String() != "\x1b[1mN\x1b[0m\nx\n" {
		t.Errorf("got %q", b.String())
	}
}
