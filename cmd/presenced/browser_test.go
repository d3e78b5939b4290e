//go:build interop

package main

import "testing"

// TestBrowserFront: the front page in Chromium, as a stranger sees it.
func TestBrowserFront(t *testing.T) {
	s := newSite(t, buildPresenced(t))
	g := s.serve()
	p := startBrowser(t).tab("stranger", nil)
	p.open("http://"+g.http+"/", 200)
	p.accessible()
	p.quiet()
}
