//go:build interop

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
)

// framesSidebar: an allowed site may show the small form, another one may not, and nobody the rest.
func framesSidebar(w *scene) {
	host := func(kind string) (origin string) {
		server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(out, `<!doctype html><html lang="en"><title>%s</title><link rel="icon" href="data:,"><main><h1>Hello</h1></main><iframe title="Presence" width="340" height="500" src="%s%s"></iframe>`,
				kind, w.origin, r.URL.RequestURI())
		}))
		w.t.Cleanup(server.Close)
		return server.URL
	}
	friend, other := host("friend"), host("other")
	w.gateway.stop()
	w.env = append(w.env, "PRESENCED_HTTP_SIDEBAR_FRAMES="+friend)
	w.start("--dev")
	c := w.newChat("Chat", xmppJS)
	ann := w.signIn("ann@example.org")
	puid := c.allowed(ann)

	ann.open(friend+"/sidebar", 200)
	inside := func(body string) { w.t.Helper(); ann.run("const f = page.frameLocator('iframe'); " + body) }
	inside("await f.getByRole('button', {name: 'Online'}).click()")
	inside("await f.getByText('Apps see it as online.').waitFor()")
	device := c.online(c.address(puid))
	ann.quiet()
	ann.accessible()
	ann.complaints() // the checks themselves ask the frame's window in a way that it warns of
	inside("await f.getByRole('button', {name: 'Revoke Chat'}).click()")
	inside("await f.getByText('No app may see you.').waitFor()")
	c.leaves(device)
	for site, path := range map[string]string{other: "/sidebar", friend: "/dashboard"} {
		ann.open(site+path, 200)
		var shown string
		ann.get(&shown, "await page.waitForLoadState(); return await page.frames()[1].evaluate(() => document.body.innerText).catch(() => '')")
		if strings.Contains(shown, "ann@") || strings.Contains(shown, "This browser") {
			w.t.Errorf("%s of the other site shows %q", path, shown)
		}
	}
	ann.complains("frame")
}

// errorPages are pages too: they say what is wrong, and lead back.
func errorPages(w *scene) {
	ann := w.signIn("ann@example.org")
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/nothing":                {404, "Not here"},
		"/grant/nobody":           {404, "There is no such app here."},
		"/dashboard/apps/nobody":  {404, "Not here"},
		"/dashboard?part=nothing": {404, "Not here"},
		"/logout":                 {405, "That did not work"},
		"/static/nothing.js":      {404, "Not here"},
	} {
		ann.open(w.origin+path, want.status)
		ann.sees(want.text)
		ann.accessible()
		ann.press("To the start")
		ann.at("/")
	}
	ann.complains("404", "405")
}

// pageKinds are all pages, as an administrator sees them who has something on each.
func (w *scene) pageKinds(c *chat) map[string]string {
	return map[string]string{
		"front": "/", "dashboard": "/dashboard", "sidebar": "/sidebar", "doorhanger": "/grant/" + c.appID,
		"allowed": "/grant/" + c.appID + "?done=allowed", "seen": "/dashboard/apps/" + c.appID, "connect": "/dashboard/connect", "nothing": "/nothing",
		"apps": "/myapps", "app": "/myapps/" + c.appID,
		"admin": "/admin", "admin's apps": "/admin/apps", "admin's users": "/admin/users", "admin's user": "/admin/users/ann@example.org",
	}
}

// looksRight: each page in each shape is quiet, accessible, light, and fits.
func looksRight(w *scene) {
	c := w.newChat("Chat", xmppJS, "--description", "To show your friends when you are around.")
	c.asks("root@example.org", "in vain: nobody is that yet")
	ann := w.signIn("ann@example.org")
	c.allowed(ann)
	ann.close()
	root := w.signIn("root@example.org")
	c.allowed(root)
	root.close()
	stranger := w.tab("stranger", "reducedMotion", "reduce") // a colour that is on its way to another is no colour
	stranger.looks("sign-in", w.origin+"/", 200)
	stranger.quiet()
	p := w.signIn("root@example.org", "reducedMotion", "reduce")
	plain := w.signIn("Root@example.org", "javaScriptEnabled", false)
	for name, path := range w.pageKinds(c) {
		status := 200
		if name == "nothing" {
			status = 404
		}
		p.looks(name, w.origin+path, status)
		plain.weighed(name+" without scripts", w.origin+path, status)
		plain.fits(name + " without scripts")
	}
	p.complains("404")
	plain.complains("404")
}

// looks opens a page and looks at it in light and dark, as wide as a desktop, as a phone, and at 200 % of a small screen.
func (p *tab) looks(name, url string, status int) {
	p.t.Helper()
	const size = "await page.setViewportSize({width: args.width, height: 640})"
	p.run("await page.emulateMedia({colorScheme: 'light'}); "+size, "width", 1280)
	p.weighed(name, url, status)
	p.accessible()
	p.fits(name)
	p.run("await page.emulateMedia({colorScheme: 'dark'})")
	p.accessible()
	for _, width := range []int{640, 320} {
		p.run(size, "width", width)
		p.fits(fmt.Sprint(name, " at ", width))
	}
}

// maxWeight of a page with all that it loads, in bytes as they are without compression.
const maxWeight = 100 << 10

// weighed opens a page and adds up what the browser got for it.
func (p *tab) weighed(name, url string, status int) {
	p.t.Helper()
	var got struct{ Status, Bytes int }
	p.get(&got, `const all = []
		const take = q => all.push(q.response().then(r => r.body()).then(b => b.length, () => 0))
		await page.goto('about:blank')
		page.on('requestfinished', take)
		const answer = await page.goto(args.url, {waitUntil: 'load'})
		page.off('requestfinished', take)
		return {status: answer.status(), bytes: (await Promise.all(all)).reduce((a, b) => a + b, 0)}`, "url", url)
	if got.Status != status {
		p.t.Errorf("%s: %d", name, got.Status)
	}
	if got.Bytes == 0 || got.Bytes > maxWeight {
		p.t.Errorf("%s weighs %d bytes", name, got.Bytes)
	}
}

// fits wants nothing of the page that is open to be wider than the window.
func (p *tab) fits(name string) {
	p.t.Helper()
	var wide []string
	p.get(&wide, `return await page.evaluate(() => {
		const width = document.documentElement.clientWidth
		if (document.documentElement.scrollWidth <= width) return []
		return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > width + 1)
			.map(e => e.tagName + '.' + e.className).slice(0, 5).concat(width + ' < ' + document.documentElement.scrollWidth)
	})`)
	if len(wide) > 0 {
		p.t.Errorf("%s scrolls sideways: %q", name, wide)
	}
}

// byKeyboard alone somebody signs in, allows in a window, and revokes; where the focus is can be seen all the way.
func byKeyboard(w *scene) {
	c := w.registerChat("Chat")
	ann := w.tab("ann")
	ann.open(c.door(), 200)
	// tabTo presses Tab until the focus is on what has that name, and wants to see the focus on each stop.
	tabTo := func(name string) {
		w.t.Helper()
		var seen []string
		ann.get(&seen, `const seen = []
			for (let i = 0; i < 80; i++) {
				await page.keyboard.press('Tab')
				const at = await page.evaluate(() => {
					const e = document.activeElement
					const name = e.getAttribute('aria-label') ?? e.labels?.[0]?.innerText ?? e.innerText ?? ''
					const ring = getComputedStyle(e.matches('.day input') ? e.nextElementSibling : e)
					const box = e.getBoundingClientRect()
					return {name: name.trim().split('\n')[0], visible: e === document.body || (ring.outlineStyle !== 'none' && parseFloat(ring.outlineWidth) >= 2 && box.width > 0)}
				})
				seen.push(at.name + (at.visible ? '' : ' (focus is not seen)'))
				if (at.name === args.name) return seen
			}
			throw new Error('never there: ' + seen)`, "name", name)
		for _, s := range seen {
			if strings.Contains(s, "not seen") {
				w.t.Errorf("at %s, on the way to %q: %s", ann.url(), name, s)
			}
		}
	}
	typed := func(text string) { ann.run("await page.keyboard.type(args.text)", "text", text) }
	key := func(name string) { ann.run("await page.keyboard.press(args.key)", "key", name) }

	tabTo("Skip to the content")
	tabTo("E-mail")
	typed("ann@example.org")
	tabTo("Token")
	typed("dev")
	key("Enter")
	ann.sees("May Chat see when you are there?")
	tabTo("Send you notifications")
	key("Space")
	tabTo("At any time")
	key("ArrowDown")
	tabTo("Tuesday")
	key("Space")
	tabTo("From")
	typed("0900AM")
	tabTo("to")
	typed("0500PM")
	tabTo("Time zone")
	tabTo("Allow")
	key("Enter")
	c.granted(ann)
	ann.open(w.origin+"/dashboard", 200)
	ann.seesIn("#app-chat", "Tue 09:00–17:00")
	ann.seesIn("#app-chat", "May not send notifications.")
	tabTo("Online")
	key("Enter")
	ann.seesIn("#here-state", "Apps see it as online.")
	tabTo("Revoke Chat")
	key("Enter")
	ann.sees("No app may see you.")
	ann.quiet()
}
