//go:build interop

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestBrowserPush: presence.js and presence-sw.js in Chromium. There is no network, so no push service of Chromium's own:
// what subscribing answers is made up, and what the gateway pushes is delivered to the worker by the debugging protocol.
func TestBrowserPush(t *testing.T) {
	w, s := newInterop(t, buildPresenced(t), library{}), newPushService(t)
	w.restart(s.env()...)
	origin := "http://" + w.gateway.http
	p := startBrowser(t).tab(t, "ann", "permissions", []string{"notifications"})
	p.open(origin+"/", 200)

	var key string
	p.get(&key, `
		globalThis.cdp = await context.newCDPSession(page)
		const known = new Promise(ok => cdp.on('ServiceWorker.workerRegistrationUpdated', e => e.registrations[0] && ok(e.registrations[0].registrationId)))
		await cdp.send('ServiceWorker.enable')
		const key = await page.evaluate(async ({ options, subscription }) => {
			await navigator.serviceWorker.register('/static/presence-sw.js', { scope: '/' })
			await navigator.serviceWorker.ready
			const sub = { ...subscription, toJSON: () => subscription, unsubscribe: async () => (globalThis.has = null) }
			globalThis.has = null
			PushManager.prototype.getSubscription = async () => globalThis.has
			PushManager.prototype.subscribe = async (o) => { globalThis.asked = o; return (globalThis.has = sub) }
			const { Presence } = await import('/static/presence.js')
			globalThis.me = new Presence({ ...options, push: true })
			const connected = () => new Promise((ok) => me.addEventListener('push', ok, { once: true }))
			await connected()
			return asked.userVisibleOnly && asked.applicationServerKey
		}, args)
		globalThis.registration = await known
		return key`,
		"options", map[string]any{"email": friend, "assertion": w.token, "device": "page", "ack": true}, "subscription", s.subscription())
	if !strings.HasPrefix(key, "B") {
		t.Fatalf("it subscribed with %q", key)
	}
	p.run("await page.goto('about:blank')") // the page is gone, and its connection

	app := w.rawApp()
	app.ring(w, "first")
	app.notify(w, "calm")
	payload := s.open(s.take(), key)
	var shown []map[string]string
	wake := `
		await cdp.send('ServiceWorker.deliverPushMessage', { origin: args.origin, registrationId: registration, data: args.payload })
		for (const end = Date.now() + 60000; ; await new Promise(ok => setTimeout(ok, 50))) {
			let shown = []
			for (const worker of context.serviceWorkers()) {
				shown = await worker.evaluate(async () => (await registration.getNotifications()).map(n => ({ title: n.title, body: n.body }))).catch(() => [])
			}
			if (shown.length >= args.n || Date.now() > end) return shown
		}`
	p.get(&shown, wake, "origin", origin, "payload", payload, "n", 2)
	got := fmt.Sprint(shown)
	for _, want := range []string{"the content of first", "body:calm", "title:" + appDomain} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not shown, but %s", want, got)
		}
	}
	for late, left := time.Now().Add(patience), []queueView{{}}; len(left) > 0; {
		if time.Now().After(late) {
			t.Fatalf("not confirmed: %v", left)
		}
		w.run("", &left, "queue", "list")
	}
	p.get(&shown, wake, "origin", origin, "payload", payload, "n", 3) // somebody else has taken it meanwhile
	if got := fmt.Sprint(shown); !strings.Contains(got, "Something is waiting for you") {
		t.Errorf("woken for nothing it shows %s", got)
	}
}
