//go:build interop

package main

import (
	"encoding/json"
	"os"
	"strings"
)

// answersRequest: an app asks, it is on the page at once, and so is its answer at the app.
func answersRequest(w *scene) {
	c := w.newChat("Chat", xmppJS)
	ann := w.signIn("ann@example.org")
	here(ann, "Online")
	c.asks("ann@example.org", "Bob would like to see you in his list")
	ann.seesIn("[data-part=requests]", "1 app asks to see you")
	ann.seesIn("[data-part=requests]", "Bob would like to see you in his list")
	ann.accessible()
	quiet(c.peer)
	ann.press("Allow Chat")
	ann.seesIn("[data-part=apps]", "can see you")
	ann.misses("[data-part=requests]", "asks to see you")
	address := escaped("ann@example.org")
	c.peer.next(event{Event: "presence", From: address, Type: "subscribed"})
	device := c.online(address)

	ann.press("Revoke Chat")
	c.leaves(device)
	c.asks("ann@example.org", "Again")
	ann.press("Do not allow Chat")
	c.peer.next(event{Event: "presence", From: address, Type: "unsubscribed"})
	c.asks("ann@example.org", "And again, with less")
	ann.press("Choose what and when for Chat")
	ann.seesIn(".purpose", "And again, with less")
	ann.sees("It knows your e-mail address already")
	ann.run("await page.getByLabel('Send you notifications').uncheck()")
	ann.press("Allow")
	ann.sees("Chat may see you now")
	c.peer.next(event{Event: "presence", From: address, Type: "subscribed"})
	ann.quiet()
}

// steers everything from the dashboard, and reads there what came of it.
func steers(w *scene) {
	c := w.newChat("Chat", xmppJS)
	ann := w.signIn("ann@example.org")
	puid := c.allowed(ann)
	here(ann, "Online")
	device := c.online(c.address(puid))
	ann.seesIn("[data-part=status]", "That is what Chat can see now.")
	for _, step := range []struct{ press, kind, show, badge string }{
		{"Away", "", "away", "Away"}, {"Offline", "unavailable", "", "Offline"}, {"Online", "", "", "Online"},
	} {
		here(ann, step.press)
		c.peer.next(event{Event: "presence", From: device, Type: step.kind, Show: step.show})
		ann.seesIn("[data-part=status] .badge", step.badge)
	}
	goes := func() { c.peer.next(event{Event: "presence", From: device, Type: "unavailable"}) }
	comes := func() { c.peer.next(event{Event: "presence", From: device}) }

	ann.choose("How long to pause Chat", "for an hour")
	ann.press("Pause Chat")
	ann.seesIn("#app-chat .badge", "paused until")
	goes()
	ann.press("Let Chat see you again")
	ann.seesIn("#app-chat .badge", "can see you")
	comes()
	ann.choose("Be invisible to all apps", "until I say otherwise")
	ann.press("Hide me")
	ann.seesIn("[data-part=status]", "No app sees you")
	ann.seesIn("#app-chat .badge", "you are invisible")
	goes()
	ann.press("Be visible again")
	ann.seesIn("[data-part=status]", "That is what Chat can see now.")
	comes()

	phone := w.phone("ann@example.org")
	c.peer.wait(event{Event: "presence"})
	ann.seesIn("[data-part=devices]", "phone")
	ann.run("await page.locator('#device-phone summary').click()")
	ann.run("await page.locator('#device-phone').getByLabel('Name').fill('Ann’s phone')")
	ann.run("await page.locator('#device-phone').getByRole('button', {name: 'Rename'}).click()")
	ann.seesIn("[data-part=devices] h3", "Ann’s phone")
	ann.run("await page.locator('#device-phone').getByRole('button', {name: 'Sign out'}).click()")
	phone.wait(event{Event: "close", Code: 4500})
	ann.seesIn("[data-part=devices] li", "Offline")
	c.peer.wait(event{Event: "presence", Type: "unavailable"})
	ann.run("await page.locator('#device-phone').getByRole('button', {name: 'Remove'}).click()")
	ann.misses("[data-part=devices] h3", "Ann’s phone")
	ann.accessible()
	reads(ann)
	ann.quiet()
}

// reads what has happened: in words, as a picture, for one app, and as a file.
func reads(ann *tab) {
	ann.t.Helper()
	for _, line := range []string{"Chat", "online", "paused", "invisible"} {
		ann.run("await page.locator('#timeline li').filter({hasText: new RegExp(args.line, 'i')}).first().waitFor()", "line", line)
	}
	var drawn struct{ Could, Saw int }
	ann.get(&drawn, `await page.locator('#week svg .saw').first().waitFor({state: 'attached'})
		return {could: await page.locator('#week svg .could').count(), saw: await page.locator('#week svg .saw').count()}`)
	if drawn.Could == 0 || drawn.Saw == 0 {
		ann.t.Errorf("the picture of the week shows %+v", drawn)
	}
	ann.press("What Chat saw")
	ann.sees("What it saw and did")
	ann.accessible()
	ann.press("Dashboard")
	var file string
	ann.get(&file, "const [d] = await Promise.all([page.waitForEvent('download'), page.getByText('Download it').click()]); return await d.path()")
	text, err := os.ReadFile(file)
	if err != nil {
		ann.t.Fatal(err)
	}
	var kept struct {
		Email    string
		Grants   []struct{ App string }
		Devices  []struct{ Device string }
		Activity []struct{ Kind string }
	}
	if err := json.Unmarshal(text, &kept); err != nil || kept.Email != "ann@example.org" || len(kept.Grants) != 1 || len(kept.Devices) != 1 || len(kept.Activity) == 0 {
		ann.t.Errorf("the file says %+v (%v)", kept, err)
	}
}

// erasesAll of hers; the wrong address erases nothing.
func erasesAll(w *scene) {
	c := w.newChat("Chat", xmppJS)
	ann := w.signIn("ann@example.org")
	puid := c.allowed(ann)
	here(ann, "Online")
	device := c.online(c.address(puid))
	erase := func(email string) {
		ann.run("await page.getByText('Erase everything about me').click()")
		ann.fill("Type your e-mail address to confirm", email)
		ann.run("await page.locator('form[action=\"/dashboard/erase\"] button').click()")
	}
	erase("bob@example.org")
	ann.sees("Nothing was erased")
	ann.complains("422")
	ann.open(w.origin+"/dashboard", 200)
	c.peer.wait(event{Event: "presence", From: device}) // the page was left, and is back
	erase("ann@example.org")
	ann.at("/")
	ann.sees("Token")
	c.peer.wait(event{Event: "presence", From: c.address(puid), Type: "unsubscribed"})
	c.notify(puid, "n1", "still there?")
	c.peer.next(event{Event: "error", ID: "n1"})
	w.fillIn(ann, "ann@example.org", "dev")
	ann.sees("No app may see you.")
	ann.sees("None has connected yet.")
	ann.sees("Nothing yet.")
	ann.quiet()
}

// shown has the browser note each desktop notification that a page makes.
const shown = `await context.addInitScript(() => {
	const Real = window.Notification
	window.shown = []
	window.Notification = class extends Real {
		constructor (title, options) {
			super(title, options)
			this.addEventListener('show', () => window.shown.push(title + ': ' + options.body))
			this.addEventListener('error', () => window.shown.push('error'))
		}
	}
})`

// isNotified on the page and on the desktop, through the browser's own notifications.
func isNotified(w *scene) {
	c := w.newChat("Chat", xmppJS)
	ann := w.tab("ann", "permissions", []string{"notifications"})
	ann.run(shown)
	ann.open(w.origin, 200)
	w.fillIn(ann, "ann@example.org", "dev")
	ann.at("/dashboard")
	puid := c.allowed(ann)
	here(ann, "Online")
	c.online(c.address(puid))
	c.notify(puid, "n1", "Dinner at <eight>?")
	ann.seesIn("#inbox li", "bob@chat.example Dinner at <eight>?")
	c.peer.next(event{Event: "receipt", ID: "n1"})
	ann.run("await page.waitForFunction(() => window.shown.length > 0)")
	var list []string
	ann.get(&list, "return await page.evaluate(() => window.shown)")
	if len(list) != 1 || list[0] != "bob@chat.example: Dinner at <eight>?" {
		w.t.Errorf("on the desktop: %q", list)
	}
	var link string
	ann.get(&link, "return await page.locator('#inbox a').getAttribute('href')")
	if link != "https://chat.example/rooms/1" {
		w.t.Errorf("its link leads to %q", link)
	}
	ann.accessible()
	ann.seesIn("#timeline li", "otif") // it is on record, too
	ann.quiet()
}

// hides the page, and shows it again: a headless browser does neither by itself.
func visible(p *tab, state string) {
	p.t.Helper()
	p.run(`await page.evaluate(state => {
		Object.defineProperty(document, 'visibilityState', {value: state, configurable: true})
		Object.defineProperty(document, 'hidden', {value: state === 'hidden', configurable: true})
		document.dispatchEvent(new Event('visibilitychange'))
	}, args.state)`, "state", state)
}

// goesAway: who does not look at the page is away, and who does not touch the computer, where the browser may tell.
func goesAway(w *scene) {
	c := w.newChat("Chat", xmppJS)
	ann := w.signIn("ann@example.org")
	ann.open(c.door(), 200)
	ann.check("See since when you have been idle")
	ann.press("Allow")
	puid := c.granted(ann)
	ann.open(w.origin+"/dashboard", 200)
	here(ann, "Online")
	device := c.online(c.address(puid))
	visible(ann, "hidden")
	ann.seesIn("#here-state", "Apps see it as away, because you are.")
	c.peer.next(event{Event: "presence", From: device, Show: "away"})
	c.notify(puid, "n1", "are you there?")
	ann.seesIn("#inbox li", "are you there?") // in a hidden page too
	c.peer.next(event{Event: "receipt", ID: "n1"})
	visible(ann, "visible")
	ann.seesIn("#here-state", "Apps see it as online.")
	c.peer.next(event{Event: "presence", From: device})
	ann.quiet()

	idle := `const cdp = await context.newCDPSession(page)
		const {targetInfo} = await cdp.send('Target.getTargetInfo')
		const all = await context.browser().newBrowserCDPSession()
		await all.send('Browser.grantPermissions', {browserContextId: targetInfo.browserContextId, permissions: ['idleDetection', 'notifications'], origin: args.origin})
		await cdp.send('Emulation.setIdleOverride', {isUserActive: args.active, isScreenUnlocked: true})`
	ann.run(idle, "origin", w.origin, "active", true)
	ann.press("Notice when I am away")
	ann.misses("#idle", "Notice when I am away")
	visible(ann, "hidden") // she looks at something else, and works
	visible(ann, "visible")
	ann.run(idle, "origin", w.origin, "active", false)
	ann.seesIn("#here-state", "Apps see it as away, because you are.")
	c.peer.next(event{Event: "presence", From: device, Show: "away"})
	ann.run(idle, "origin", w.origin, "active", true)
	c.peer.next(event{Event: "presence", From: device})
	ann.seesIn("#here-state", "Apps see it as online.")
}

// losesTheNetwork, and the gateway: the page says so and comes back by itself; nothing is lost, and nothing comes twice.
func losesTheNetwork(w *scene) {
	line := newNetwork(w.t, w.gateway.http)
	c := w.newChat("Chat", xmppJS)
	w.origin = "http://" + line.addr() // for the browser; --dev takes any name of loopback
	ann := w.signIn("ann@example.org")
	puid := c.allowed(ann)
	here(ann, "Online")
	device := c.online(c.address(puid))
	inbox := func(want ...string) {
		w.t.Helper()
		ann.seesIn("#inbox li", want[0])
		var got []string
		ann.get(&got, "return await page.locator('#inbox li').allInnerTexts()")
		if len(got) != len(want) {
			w.t.Fatalf("the page shows %q, wanted %q", got, want)
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				w.t.Errorf("the page shows %q, wanted %q", got, want)
			}
		}
	}
	c.notify(puid, "n1", "before the cut")
	inbox("before the cut")
	c.peer.next(event{Event: "receipt", ID: "n1"})

	ann.run("await context.setOffline(true)")
	line.cut()
	ann.seesIn("#here-state", "The connection is lost; it comes back by itself.")
	ann.seesIn("#stale", "The connection is lost")
	ann.accessible()
	c.peer.next(event{Event: "presence", From: device, Type: "unavailable"})
	c.notify(puid, "n2", "while she was cut off")
	ann.run("await context.setOffline(false)")
	inbox("while she was cut off", "before the cut")
	ann.seesIn("#here-state", "Apps see it as online.")
	ann.misses("#stale", "")
	c.peer.next(event{Event: "presence", From: device})
	c.peer.next(event{Event: "receipt", ID: "n2"})

	w.gateway.kill()
	ann.seesIn("#here-state", "The connection is lost; it comes back by itself.")
	w.gateway = w.serve("--dev", "--http", w.gateway.http, "--xmpp", w.gateway.xmpp)
	ann.seesIn("#here-state", "Apps see it as online.")
	c.peer.wait(event{Event: "connected"})
	c.online(c.address(puid))
	c.notify(puid, "n3", "after the crash")
	inbox("after the crash", "while she was cut off", "before the cut")
	c.peer.wait(event{Event: "receipt", ID: "n3"})
	ann.misses("#stale", "")
	ann.seesIn("[data-part=status]", "That is what Chat can see now.")
}
