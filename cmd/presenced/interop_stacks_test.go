//go:build interop

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// library is a foreign way to be a component: a program under testdata/interop.
type library struct {
	name   string
	check  []string // a command that fails where the library is missing
	run    []string // the program; empty until prepare has compiled it
	source string   // of a program that must be compiled
	with   []string // the compiler, and how pkg-config calls the library
}

// The interpreters are Debian's own: they are those that find Debian's libraries.
const (
	python = "/usr/bin/python3"
	perl   = "/usr/bin/perl"
	ruby   = "/usr/bin/ruby"
)

var libraries = []library{
	{name: "slixmpp",
		check: []string{python, "-c", "import slixmpp"},
		run:   []string{python, "-u", "slixmpp_component.py"}},
	{name: "xmpp.js",
		check: []string{"node", "-e", `require.resolve("@xmpp/component")`},
		run:   []string{"node", "xmppjs_component.js"}},
	{name: "libstrophe",
		check:  []string{"pkg-config", "--print-errors", "--exists", "libstrophe >= 0.12", "jansson"},
		source: "strophe_component.c", with: []string{"gcc", "libstrophe"}},
	{name: "gloox",
		check:  []string{"pkg-config", "--print-errors", "--exists", "gloox >= 1.0", "jansson"},
		source: "gloox_component.cpp", with: []string{"g++", "gloox"}},
	{name: "xmpp4r",
		check: []string{ruby, "-e", `require "xmpp4r"`},
		run:   []string{ruby, "xmpp4r_component.rb"}},
	{name: "AnyEvent-XMPP",
		check: []string{perl, "-MAnyEvent::XMPP::Component", "-e1"},
		run:   []string{perl, "anyevent_component.pl"}},
}

// interopCommand runs a program where it finds its sources and packages.
func interopCommand(words ...string) *exec.Cmd {
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = interopDir
	return cmd
}

func (l *library) command() *exec.Cmd { return interopCommand(l.run...) }

// prepare compiles what must be. Its warnings are errors.
func (l *library) prepare(t *testing.T) {
	t.Helper()
	if l.source == "" {
		return
	}
	flags, err := exec.Command("pkg-config", "--cflags", "--libs", l.with[1], "jansson").Output()
	if err != nil {
		t.Fatal(err) // needPeers has checked them
	}
	bin := filepath.Join(t.TempDir(), l.name)
	args := []string{l.with[0], "-Wall", "-Wextra", "-Werror", "-O1", "-o", bin, l.source}
	if out, err := interopCommand(append(args, strings.Fields(string(flags))...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s does not compile: %v\n%s", l.source, err, out)
	}
	l.run = []string{bin}
}

// needPeers fails unless everything foreign is there. Nothing is skipped: a machine without them proves nothing.
func needPeers(t *testing.T) {
	t.Helper()
	need := func(what string, check []string) {
		if out, err := interopCommand(check...).CombinedOutput(); err != nil {
			t.Errorf("%s is missing: %q says %v\n%s", what, strings.Join(check, " "), err, out)
		}
	}
	for _, l := range libraries {
		need(l.name, l.check)
	}
	need("the C compiler", []string{"gcc", "--version"})
	need("the C++ compiler", []string{"g++", "--version"})
	need("ws", []string{"node", "-e", `require.resolve("ws")`})
	need("biboumi", []string{biboumi, "--help"})
	if t.Failed() {
		t.Fatal("the interop tests need all of testdata/interop/packages.txt from Debian, and `npm ci --prefix testdata/interop`")
	}
}
