//go:build interop

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"time"
)

// grantsInATime: the app sees her in the window that she chose, and not after it was moved away.
func grantsInATime(w *scene) {
	c := w.newChat("Chat", xmppJS)
	ann := w.signIn("ann@example.org", "timezoneId", "America/New_York")
	w.phone("ann@example.org")
	now := time.Now().UTC()
	hour := func(h int) string { return now.Add(time.Duration(h) * time.Hour).Format("15:00") }

	ann.open(c.door(), 200)
	var zone string
	ann.get(&zone, "return await page.getByLabel('Time zone').inputValue()")
	if zone != "America/New_York" {
		w.t.Errorf("the form has the time zone %q", zone)
	}
	ann.check("Only at certain times")
	ann.press("Allow")
	ann.seesIn("[role=alert]", "Say at least one span of time")
	ann.accessible()
	ann.complains("422")
	ann.fill("From", hour(-2))
	ann.fill("to", hour(2))
	ann.fill("Time zone", "Atlantis/Capital")
	ann.press("Allow")
	ann.seesIn("[role=alert]", "That time zone is not known.")
	ann.complains("422")
	ann.fill("Time zone", "UTC")
	ann.press("Allow")
	puid := c.granted(ann)
	device := c.online(c.address(puid))

	ann.open(w.origin+"/grant/"+c.appID, 200) // to change it
	ann.sees("What Chat may see")
	ann.fill("From", hour(3))
	ann.fill("to", hour(5))
	ann.press("Save")
	ann.sees("at the times you chose")
	c.peer.next(event{Event: "presence", From: device, Type: "unavailable"}) // as if she had gone offline
	ann.open(w.origin+"/dashboard", 200)
	ann.seesIn("#app-"+c.appID, "cannot see you until")
	ann.open(w.origin+"/grant/"+c.appID, 200)
	ann.check("At any time")
	ann.press("Save")
	ann.sees("at any time")
	c.online(c.address(puid))
	ann.quiet()
}

// grantsUntil a day: its end is shown, and one in the past is refused.
func grantsUntil(w *scene) {
	c := w.newChat("Chat", xmppJS)
	ann := w.signIn("ann@example.org")
	today := time.Now().UTC()
	ann.open(c.door(), 200)
	ann.check("See since when you have been idle")
	ann.run("await page.getByLabel('Send you notifications').uncheck()")
	ann.run("await page.getByLabel('Last day').evaluate((e, v) => { e.removeAttribute('min'); e.value = v }, args.day)",
		"day", today.AddDate(0, 0, -2).Format(time.DateOnly))
	ann.press("Allow")
	ann.seesIn("[role=alert]", "The last day is over already.")
	ann.complains("422")
	ann.fill("Last day", today.AddDate(0, 0, 3).Format(time.DateOnly))
	ann.press("Allow")
	puid := c.granted(ann)
	ann.open(w.origin+"/dashboard", 200)
	ann.seesIn("#app-"+c.appID, "ends ")
	ann.seesIn("#app-"+c.appID, "May not send notifications. Sees since when you have been idle.")
	here(ann, "Online")
	c.online(c.address(puid))
	c.notify(puid, "n1", "hello?")
	c.peer.next(event{Event: "error", ID: "n1", Condition: "not-allowed"})
	ann.misses("#inbox li", "hello?")
	ann.quiet()
}

// denies: the app hears nothing of who she is.
func denies(w *scene) {
	c := w.newChat("Chat", xmppJS)
	ann := w.signIn("ann@example.org")
	ann.open(c.door(), 200)
	ann.press("Do not allow")
	ann.run("await page.waitForURL(u => u.origin === args.origin)", "origin", c.server.URL)
	if got := ann.url(); got != c.landing {
		w.t.Errorf("denied, and back at %s", got)
	}
	quiet(c.peer)
	ann.open(w.origin+"/dashboard", 200)
	ann.sees("No app may see you.")
	ann.quiet()
}

// returnsExactly: to a registered address and to no other, whatever a link says.
func returnsExactly(w *scene) {
	c := w.registerChat("Chat")
	ann := w.signIn("ann@example.org")
	for _, to := range []string{
		c.landing + "&more=1", strings.TrimSuffix(c.landing, "?lang=en"), c.server.URL, c.landing + "#x", strings.ToUpper(c.landing[:4]) + c.landing[4:],
		"//evil.example/granted", "https://evil.example/?" + c.landing, "javascript:alert(1)", "data:text/html,x", `\\evil.example`,
	} {
		ann.open(w.origin+"/grant/"+c.appID+"?redirect="+url.QueryEscape(to), 400)
		ann.sees("not registered for it")
		ann.misses("main", "evil.example")
	}
	for _, next := range []string{"//evil.example/", `/\evil.example/`, "https://evil.example/", "javascript:alert(1)", "/%0d%0aSet-Cookie:x"} {
		stranger := w.tab("stranger with " + next)
		stranger.open(w.origin+"/?next="+url.QueryEscape(next), 200)
		w.fillIn(stranger, "bob@example.org", "dev")
		stranger.seesIn(".who", "bob@example.org")
		if got := stranger.url(); !strings.HasPrefix(got, w.origin+"/") {
			w.t.Errorf("signing in with next=%q leads to %s", next, got)
		}
	}
	ann.open(c.door()+"&redirect="+url.QueryEscape("https://evil.example"), 400)
	ann.complains("400")
}

// withoutScripts everything that matters works: signing in, allowing, looking, revoking.
func withoutScripts(w *scene) {
	c := w.newChat("Chat", xmppJS)
	ann := w.tab("ann", "javaScriptEnabled", false)
	ann.open(c.door(), 200)
	w.fillIn(ann, "ann@example.org", "dev")
	ann.check("Only at certain times")
	ann.fill("From", "00:00")
	ann.fill("to", "00:00")
	ann.press("Allow")
	puid := c.granted(ann)
	phone := w.phone("ann@example.org")
	device := c.online(c.address(puid))

	ann.open(w.origin+"/dashboard", 200)
	ann.seesIn("[data-part=status]", "That is what Chat can see now.")
	ann.misses("#here h2", "This browser")
	ann.choose("How long to pause Chat", "for an hour")
	ann.press("Pause Chat")
	ann.at("/dashboard")
	ann.seesIn("#app-"+c.appID, "paused until")
	c.peer.next(event{Event: "presence", From: device, Type: "unavailable"})
	ann.press("Let Chat see you again")
	ann.seesIn("#app-"+c.appID, "can see you")
	c.peer.next(event{Event: "presence", From: device})
	ann.open(w.origin+"/grant/"+c.appID, 200)
	ann.press("Stop sharing")
	ann.sees("Chat cannot see you")
	c.leaves(device)
	phone.kill()

	ann.open(c.door(), 200)
	ann.press("Allow")
	if again := c.granted(ann); again == puid {
		w.t.Error("the same name after a revoke")
	}
	ann.open(w.origin+"/dashboard", 200)
	ann.press("Revoke Chat")
	ann.sees("No app may see you.")
	c.peer.wait(event{Event: "presence", Type: "unsubscribed"})
	ann.quiet()
}

// phone is somebody's device that is no browser.
func (w *scene) phone(email string) *peer {
	w.t.Helper()
	d := startPeer(w.t, "ws", interopCommand("node", "ws_device.js"), map[string]any{"url": "ws://" + w.gateway.http + "/presence", "reconnect": true,
		"hello": map[string]any{"type": "hello", "email": email, "assertion": "dev", "device": "phone", "status": "online", "ack": true}})
	d.wait(event{Event: "frame", Frame: wsFrame{Result: "OK"}})
	return d
}

// markup is what a hostile app calls itself, and all that it writes.
const markup = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script><style>*{display:none}</style>"'</title>&lt;b&gt;`

// markupInNames: what others wrote is text, wherever it is shown.
func markupInNames(w *scene) {
	c := w.newChat(markup, xmppJS, "--description", markup)
	ann := w.signIn("ann@example.org")
	unharmed := func() {
		w.t.Helper()
		var bad int
		ann.get(&bad, "return await page.evaluate(() => (window.pwned ?? 0) + document.querySelectorAll('main img, main script, main style, main b').length)")
		if bad != 0 {
			w.t.Errorf("markup of others at %s", ann.url())
		}
	}
	c.asks("ann@example.org", markup)
	ann.seesIn("[data-part=requests] h3", "<img src=x")
	ann.seesIn("[data-part=requests] p", "<script>window.pwned=1</script>")
	unharmed()
	ann.open(c.door(), 200)
	ann.seesIn("h1", "<script>window.pwned=1</script>")
	ann.seesIn(".purpose", "<script>window.pwned=1</script>")
	unharmed()
	ann.accessible()
	ann.press("Allow")
	c.granted(ann)
	ann.open(w.origin+"/dashboard", 200)
	here(ann, "Online")
	c.peer.do(do("message", "to", escaped("ann@example.org"), "from", "bob@"+chatDomain, "id", "n1", "body", markup, "nick", markup, "url", "javascript:window.pwned=1"))
	ann.seesIn("#inbox li", "<script>window.pwned=1</script>")
	ann.misses("#inbox a", "Open") // that is no link
	unharmed()
	ann.run("await page.locator('[data-part=devices] summary').click()")
	ann.fill("Name", markup[:60])
	ann.press("Rename")
	ann.seesIn("[data-part=devices]", "<img src=x")
	unharmed()
	ann.run("await page.goto(args.url)", "url", w.origin+"/dashboard/apps/"+c.appID)
	ann.seesIn("h1", "<script>")
	unharmed()
	ann.accessible()
	ann.quiet()
}

// fromElsewhere: another site's page can neither post in her name, nor show ours in a frame, nor read what is hers.
func fromElsewhere(w *scene) {
	c := w.newChat("Chat", xmppJS)
	ann := w.signIn("ann@example.org")
	puid := c.allowed(ann)
	phone := w.phone("ann@example.org")
	c.online(c.address(puid))
	ann.quiet()
	evil := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(out, `<!doctype html><html lang="en"><title>Evil</title><link rel="icon" href="data:,"><body>
			<form method="post" action="%[1]s%[2]s"><input name="for" value="always"><input name="disallow" value="yes">
			<input name="email" value="ann@example.org"><button>Win</button></form>
			<iframe id="frame" src="%[1]s%[2]s"></iframe>`, w.origin, r.URL.RequestURI())
	}))
	w.t.Cleanup(evil.Close)
	// On another port of the same host the browser sends her cookie along: SameSite is not what protects her.
	for _, path := range []string{"/revoke/" + c.appID, "/grant/" + c.appID, "/dashboard/apps/" + c.appID + "/revoke", "/dashboard/invisible",
		"/dashboard/erase", "/logout", "/login", "/login/device"} {
		ann.open(evil.URL+path, 200)
		var status int
		ann.get(&status, `const [answer] = await Promise.all([page.waitForResponse(r => r.request().method() === 'POST'), page.getByRole('button', {name: 'Win'}).click()])
			await page.waitForLoadState()
			return answer.status()`)
		if status != 403 {
			w.t.Errorf("a post from another origin to %s: %d", path, status)
		}
	}
	for _, path := range []string{"/", "/dashboard", "/sidebar", "/grant/" + c.appID} {
		ann.open(evil.URL+path, 200)
		var shown string
		ann.get(&shown, "await page.waitForLoadState(); return await page.frames()[1].evaluate(() => document.body.innerText).catch(() => '')")
		if strings.Contains(shown, "Presenced") || strings.Contains(shown, "ann@") {
			w.t.Errorf("%s is shown in a frame of another site: %q", path, shown)
		}
	}
	for _, path := range []string{"/getApps", "/dashboard/export", "/events"} {
		var read bool
		ann.get(&read, `return await page.evaluate(u => fetch(u, {credentials: 'include'}).then(r => r.text()).then(() => true, () => false), args.url)`, "url", w.origin+path)
		if read {
			w.t.Errorf("another site's script can read %s", path)
		}
	}
	var socket string
	ann.get(&socket, `return await page.evaluate(u => new Promise(done => {
		const s = new WebSocket(u); s.onclose = () => done('refused')
		s.onopen = () => s.send(JSON.stringify({type: 'hello', email: 'ann@example.org'}))
		s.onmessage = e => done(e.data) }), args.url)`, "url", "ws://"+w.gateway.http+"/presence")
	if !strings.Contains(socket, `"KO"`) && socket != "refused" {
		w.t.Errorf("a socket without an assertion, with her cookie: %s", socket)
	}
	quiet(c.peer) // the app still sees her
	ann.open(w.origin+"/dashboard", 200)
	ann.seesIn("#app-"+c.appID, "can see you")
	phone.kill()
}
