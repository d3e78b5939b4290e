//go:build interop

package main

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"

	"presenced/identity/browseridtest"
)

// develops: somebody registers an app, proves its domain, and runs the program that the page shows.
func develops(w *scene) {
	world := browseridtest.Start("chat.example")
	w.t.Cleanup(world.Close)
	dir := w.t.TempDir()
	w.write(filepath.Join(dir, "ca.pem"), string(world.CertPEM()))
	w.env = append(w.env, "HTTPS_PROXY="+world.Proxy, "PRESENCED_IDENTITY_BROWSERID_CA_FILE="+filepath.Join(dir, "ca.pem"))
	w.gateway.stop()
	w.start("--dev")

	dev := w.signIn("dev@chat.example")
	dev.press("My apps")
	dev.fill("Name", "Beer Chat")
	dev.fill("Domain", "chat.example")
	dev.fill("Component domain", "xmpp.chat.example")
	dev.fill("What it does with what it sees", "To find out who is up for a beer.")
	dev.fill("Addresses to come back to", "https://evil.example/granted")
	dev.press("Register")
	dev.seesIn("[role=alert]", "not an https address at chat.example")
	dev.complains("422")
	dev.accessible()
	dev.fill("Addresses to come back to", "https://chat.example/granted")
	dev.press("Register")
	dev.sees("They are shown this once.")
	dev.sees("Domain not proven")
	dev.accessible()
	var program, proof string
	dev.get(&program, "return await page.locator('#slixmpp').innerText()")
	dev.get(&proof, "return await page.locator('#proof, section[aria-labelledby=proof]').locator('pre').first().innerText()")

	mallory := w.signIn("mallory@example.org") // who makes the gateway look at what is none of her business
	mallory.press("My apps")
	mallory.fill("Name", "Peek")
	mallory.fill("Domain", "127.0.0.1")
	mallory.press("Register")
	mallory.seesIn("[role=alert]", "")
	mallory.complains("422")

	world.Handle("chat.example", func(out http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/__presence" {
			fmt.Fprintln(out, proof)
		}
	})
	dev.press("Look now")
	dev.sees("It is proven that chat.example is yours")
	dev.sees("On and off")
	dev.accessible()

	ann := w.signIn("ann@example.org")
	ann.open(w.origin+"/grant/beer-chat", 200)
	ann.sees("Verified domain")
	ann.sees("To find out who is up for a beer.")
	ann.press("Allow")
	ann.sees("Beer Chat may see you now")
	ann.open(w.origin+"/dashboard", 200)

	w.write(filepath.Join(dir, "app.py"), program)
	cmd := exec.Command(python, "app.py")
	cmd.Dir = dir
	app := launch(w.t, "the program of the page", cmd)
	here(ann, "Online")
	app.want("@localhost/", "available")
	ann.seesIn("#inbox li", "Good to see you")
	dev.run("await page.reload()")
	dev.seesIn("section[aria-labelledby=doing]", "XMPP from 127.0.0.1")

	dev.seesIn("section[aria-labelledby=doing] dd", "0") // nothing waits
	dev.press("Make new secrets")
	dev.sees("The secrets before the present ones are good until")
	dev.press("Switch it off")
	dev.sees("It is off")
	dev.check("Yes, remove it")
	dev.run("await page.locator('button.danger').click()")
	dev.sees("None yet.")
	ann.sees("No app may see you.")
	ann.quiet()
	dev.quiet()
}

// administers: live events, and what an administrator may do; nobody else sees any of it.
func administers(w *scene) {
	c := w.newChat("Chat", xmppJS)
	root := w.signIn("root@example.org")
	root.press("Administration")
	ann := w.signIn("ann@example.org")
	ann.misses("nav", "Administration")
	for _, path := range []string{"/admin", "/admin/users", "/admin/users/root@example.org", "/admin/events"} {
		ann.open(w.origin+path, 404)
		ann.misses("body", "root@example.org")
	}
	ann.complains("404")
	puid := c.allowed(ann)
	here(ann, "Online")
	device := c.online(c.address(puid))
	for _, line := range []string{"status online", "ann@example.org", "chat"} {
		root.seesIn("#events tr", line)
	}
	root.press("Hold still")
	root.accessible()
	root.open(w.origin+"/admin/users?q=ann", 200)
	root.press("ann@example.org")
	root.press("Disconnect all")
	ann.seesIn("#here-state", "signed out")
	c.peer.wait(event{Event: "presence", From: device, Type: "unavailable"})
	root.press("Switch off")
	root.sees("Nothing lets her in.")
	ann.at("/?next=%2Fdashboard")
	w.fillIn(ann, "ann@example.org", "dev")
	ann.sees("This account is switched off.")
	root.press("Switch on")
	w.fillIn(ann, "ann@example.org", "dev")
	ann.at("/dashboard")
	ann.seesIn("#timeline", "administrator")
	root.open(w.origin+"/admin/apps", 200)
	root.press("Switch Chat off")
	c.peer.wait(event{Event: "stream-error"})
	root.sees("off")
	root.quiet()
	if strings.Contains(root.url(), "?") {
		w.t.Errorf("ends at %s", root.url())
	}
}
