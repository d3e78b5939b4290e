//go:build interop

package main

import (
	"os"
	"testing"
)

// TestBrowser tells the stories of people in front of a browser: one Chromium for all of them, a gateway and
// people of its own for each. testdata/browser/README.md says how to run them.
func TestBrowser(t *testing.T) {
	bin, b := buildPresenced(t), startBrowser(t)
	pictures := os.Getenv("PRESENCED_SCREENS")
	os.Unsetenv("PRESENCED_SCREENS") // the gateway takes it for a mistake in its configuration
	for _, story := range []struct {
		name string
		tell func(*scene)
		args []string // of serve; nil: --dev
	}{
		{name: "she allows an app, is seen, is pinged, and revokes", tell: screencast},
		{name: "signing in, and a wrong token", tell: signsIn},
		{name: "signing in with a token", tell: signsInByToken, args: []string{}},
		{name: "signing in at an issuer", tell: signsInAtIssuer, args: []string{}},
		{name: "signing out everywhere", tell: signsOutEverywhere},
		{name: "a planted session", tell: fixesSessions},
		{name: "allowing in a window", tell: grantsInATime},
		{name: "allowing until a day", tell: grantsUntil},
		{name: "not allowing", tell: denies},
		{name: "back to registered addresses only", tell: returnsExactly},
		{name: "without scripts", tell: withoutScripts},
		{name: "markup in names", tell: markupInNames},
		{name: "posts, frames and scripts of another site", tell: fromElsewhere},
		{name: "an app asks", tell: answersRequest},
		{name: "the dashboard steers", tell: steers},
		{name: "erasing everything", tell: erasesAll},
		{name: "notified on the desktop", tell: isNotified},
		{name: "away from the page, and idle", tell: goesAway},
		{name: "the network is cut, the gateway crashes", tell: losesTheNetwork},
		{name: "the sidebar in a frame", tell: framesSidebar},
		{name: "error pages", tell: errorPages},
		{name: "every page in every shape", tell: looksRight},
		{name: "by keyboard alone", tell: byKeyboard},
		{name: "a developer's app", tell: develops},
		{name: "an administrator", tell: administers},
		{name: "pictures", tell: screens, args: []string{}},
	} {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			args := story.args
			if args == nil {
				args = []string{"--dev"}
			}
			w := newScene(t, bin, b, args...)
			w.pictures = pictures
			story.tell(w)
		})
	}
}

// screencast is the walk of the Mozilla Presence screencast: Ann lets a chat see her in the evening hours, closes it,
// and is there all the same; Bob rings the bell beside her name; she sees that, and then wants to be left alone.
func screencast(w *scene) {
	c := w.newChat("Chat", slixmpp, "--description", "To show your friends when you are around.")
	ann := w.tab("ann")
	ann.open(c.server.URL, 200)
	ann.press("Authorize Chat to see your presence")
	w.fillIn(ann, "ann@example.org", "dev")
	ann.sees("May Chat see when you are there?")
	ann.sees("To show your friends when you are around.")
	ann.check("Only at certain times")
	ann.fill("From", "00:00")
	ann.fill("to", "00:00")
	ann.fill("Time zone", "Europe/Paris")
	ann.press("Allow")
	puid := c.granted(ann)

	ann.open(w.origin+"/dashboard", 200)
	ann.sees("every day 00:00–00:00")
	here(ann, "Online")
	device := c.online(c.address(puid))
	bob := w.tab("bob")
	bob.open(c.server.URL, 200)
	bob.press("Ping " + puid)
	bob.sees("pinged")
	ann.seesIn("#inbox", "bob wants to talk with you")
	c.peer.next(event{Event: "receipt", ID: "ping"})

	ann.press("Revoke Chat")
	ann.sees("No app may see you.")
	c.leaves(device)
	ann.quiet()
	bob.quiet()
}
