// presence-sw.js is a service worker for pages that are devices by presence.js with `push`: when the gateway wakes it, it
// takes what waits and shows it. Register it as it is, or have your own import it:
//
//     importScripts("https://presence.example.org/static/presence-sw.js");
//
// The push says only that something waits. What that is comes over the gateway's own connection, as always, and is
// confirmed there when it is shown. docs/presence-js.md#be-woken
"use strict";
(() => {
  const cacheName = "presenced", memory = "/presenced-device"; // where presence.js has it keep who it is
  const silence = 1500; // ms without a frame: that was all
  const patience = 20_000; // ms for everything; browsers allow little more

  self.addEventListener("install", () => self.skipWaiting());
  self.addEventListener("activate", (e) => e.waitUntil(self.clients.claim()));
  self.addEventListener("message", (e) => e.data?.presence && e.waitUntil(remember(e.data.presence)));
  self.addEventListener("push", (e) => e.waitUntil(woken()));
  self.addEventListener("pushsubscriptionchange", (e) => e.waitUntil(renew(e)));
  self.addEventListener("notificationclick", (e) => e.waitUntil(clicked(e.notification)));

  async function remember(device) {
    const cache = await caches.open(cacheName);
    await cache.put(memory, new Response(JSON.stringify(device)));
  }

  async function recall() {
    const kept = await (await caches.open(cacheName)).match(memory);
    return kept?.json();
  }

  // A page that is open connects by itself. Where none is seen, this worker does, and must show something.
  async function woken() {
    const pages = await self.clients.matchAll({ type: "window" });
    pages.forEach((p) => p.postMessage({ presenced: "waiting" }));
    if (pages.some((p) => p.visibilityState === "visible")) return;
    const shown = await recall().then((device) => (device ? take(device) : 0)).catch(() => 0);
    if (!shown) {
      const options = { body: "Open the page to see it.", tag: "presenced", data: {} };
      await self.registration.showNotification("Something is waiting for you", options);
    }
  }

  // Connects as the device, shows all that waits, confirms it, and goes. Resolves with how many there were.
  function take(device, push) {
    const { url, email, assertion, device: name } = device;
    return new Promise((ok, no) => {
      const ws = new WebSocket(url);
      let shown = 0, quiet;
      const over = setTimeout(() => ws.close(), patience);
      const wait = () => {
        clearTimeout(quiet);
        quiet = setTimeout(() => ws.close(1000), silence);
      };
      ws.onopen = () => ws.send(JSON.stringify({ type: "hello", id: 0, email, assertion, device: name, ack: true, push }));
      ws.onmessage = async (e) => {
        const f = JSON.parse(e.data);
        if (f.result === "KO") return ws.close();
        wait();
        for (const n of f.notifications ?? []) {
          await show(n);
          shown++;
          if (ws.readyState === 1) ws.send(JSON.stringify({ type: "ack", ids: [n.id] }));
        }
      };
      ws.onclose = () => {
        clearTimeout(quiet);
        clearTimeout(over);
        ok(shown);
      };
      ws.onerror = no;
    });
  }

  const show = (n) => self.registration.showNotification(n.source, { body: n.message, tag: n.id, data: n });

  // The browser has changed the subscription by itself: the gateway is told with the next connection, which is now.
  async function renew(e) {
    const old = e.oldSubscription ?? (await self.registration.pushManager.getSubscription());
    const sub = e.newSubscription ?? (await self.registration.pushManager.subscribe(old.options));
    const device = await recall();
    if (device) await take(device, sub.toJSON());
  }

  // What is in a notification was written by others: an action is opened only where it is a link.
  async function clicked(notification) {
    notification.close();
    const { action } = notification.data ?? {};
    if (/^https?:\/\//i.test(action)) return self.clients.openWindow(action);
    const [page] = await self.clients.matchAll({ type: "window" });
    return page ? page.focus() : self.clients.openWindow(self.registration.scope);
  }
})();
