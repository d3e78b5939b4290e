// presence.js makes a web page, or a program on Node 22, a device of a Presenced gateway. It needs
// nothing else. How to use it, with examples: docs/presence-js.md. The wire: docs/protocol.md.

/** What the gateway refused. `errno` is one of docs/protocol.md#errno; 0: the connection was lost before it answered. */
export class PresenceError extends Error {
  constructor({ errno, error, detail, retry_after }) {
    super(error);
    this.name = "PresenceError";
    this.errno = errno;
    this.detail = detail; // for people: which member was wrong
    this.retryAfter = retry_after; // seconds, or undefined
  }
}

/** The action of a notification as a link that is safe to open, or "": only http and https are. */
export function link(action) {
  return /^https?:\/\//i.test(action) ? action : "";
}

/** Where devices connect, from a host name or any address of the gateway; default: where this module is from. */
function socketURL(server = new URL(import.meta.url).origin) {
  const url = new URL(/^\w+:\/\//.test(server) ? server : "wss://" + server);
  url.protocol = url.protocol.replace("http", "ws");
  if (url.pathname === "/") url.pathname = "/presence";
  return url.href;
}

const base64 = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");

const remembered = 1000; // ids of notifications
const patience = 10_000; // ms for any answer
const { now } = Date;

/**
 * One device. It connects at once, and comes back by itself until close(), or until the gateway says that it must not.
 *
 * Events, all CustomEvents with a `detail`:
 *  - `status` {state, status}: the connection or the status that was told has changed
 *  - `notifications` [...] and `notification` {id, app, source, message, action, time, data?, priority?}. Each comes once.
 *    preventDefault() on a `notification`: it is not shown, and with `ack` not confirmed until ack(id)
 *  - `request` {app, name, purpose, time}: an app asks to see the user; answer with consent()
 *  - `dropped` {app, count}: so many were lost because too much waited
 *  - `reconnect` {after, reason}: the gateway goes away for a while; it is honoured by itself
 *  - `push` {endpoint}: the gateway can wake this device, see wake()
 *  - `close` {code, reason, final, retry}: retry in so many ms; final: not by itself, see open()
 *  - `error` PresenceError, or what `assertion()` threw
 */
export class Presence extends EventTarget {
  #o; #url; #ws; #wish; #told; #hidden; #idle; #watching; #detector;
  #push; // the subscription that the last hello told
  #turn = 0; #tries = 0; #since = 0; #notBefore = 0; #next = 1;
  #timer; #beat; #every; #again;
  #quiet; #ticket; // ticket: what takes the place of an assertion for a while
  #asked = new Map(); // id → {ok, no}
  #seen = new Set(); // ids of notifications, oldest first
  #requests = new Map(); // app → time

  /** "connecting", "connected", "waiting" (to come back) or "closed". @readonly */
  state = "closed";
  /** What hello was answered: {session, device, heartbeat, time}. @readonly */
  session;

  /**
   * @param {object} o
   * @param {string} [o.server] host, or http(s) or ws(s) URL of the gateway; default: where this module came from
   * @param {string} o.email whose device
   * @param {string|function(): (string|Promise<string>)} o.assertion what proves it; a function is asked whenever it is needed
   * @param {string} [o.device] 1-64 of A-Z a-z 0-9 . _ -
   * @param {boolean} [o.ack] confirm a notification when its listeners have run, rather than when it arrived
   * @param {number} [o.heartbeat] seconds of silence until the connection is checked; default: the gateway finds out what holds
   * @param {boolean|"unavailable"} [o.quiet=false] see quiet()
   * @param {"online"|"unavailable"|"offline"|null} [o.status="online"] the first status; null: none until setStatus()
   * @param {boolean} [o.auto=true] in a browser: away while the page is hidden, or the user idle where that may be known
   * @param {boolean} [o.notify=false] show notifications, once Notification.requestPermission() was granted
   * @param {boolean|ServiceWorkerRegistration} [o.push=false] be woken by Web Push while not connected, through the page's service worker or this one, once the user has allowed it; see wake()
   * @param {{base: number, cap: number}} [o.backoff] ms: the n-th wait is random below min(cap, base·2ⁿ)
   * @param {typeof WebSocket} [o.WebSocket] another implementation
   */
  constructor(o) {
    super();
    this.#o = { auto: true, ...o, backoff: { base: 1000, cap: 60_000, ...o.backoff } };
    this.#url = socketURL(o.server);
    this.#quiet = o.quiet;
    this.#wish = o.status === undefined ? "online" : o.status;
    this.open();
  }

  /** The status that the gateway is told: the wanted one, or "unavailable" while the user is away. */
  get status() {
    return this.#presence().status;
  }

  /** Says "online", "unavailable" or "offline". Without a connection it is said with the next. Rejects with a PresenceError. */
  async setStatus(status) {
    if (!["online", "unavailable", "offline"].includes(status))
      throw new PresenceError({ errno: 13, error: "bad value", detail: "status" });
    this.#wish = status;
    return this.#tell();
  }

  /** The user has been idle since this Date (or ms); null: she is back. */
  idle(since) {
    this.#idle = since == null ? undefined : +since;
    return this.#tell();
  }

  /** Watches the user by the Idle Detection API. Call it from a click: the browser asks her. False: it may not, or cannot. */
  async watchIdle(threshold = 60_000) {
    const Detector = globalThis.IdleDetector;
    if (!Detector || (await Detector.requestPermission()) !== "granted") return false;
    return this.#detect(Detector, threshold);
  }

  /**
   * What need not come at once waits, and comes together when the connection is used anyway: true: from now on,
   * "unavailable": while the user is away, false: no more.
   */
  async quiet(quiet = true) {
    this.#quiet = quiet;
    if (this.state === "connected") return this.#ask({ type: "quiet", quiet });
  }

  /** Sends an app a message of JSON. Resolves when the gateway has it; rejects with a PresenceError. */
  send(app, data, { ttl, id = now().toString(36) + Math.random().toString(36).slice(2) } = {}) {
    return this.#ask({ type: "send", app, data, ttl, id });
  }

  /** Lets an app see the user, or not, or changes how. @param {{windows?, tz?, until?: string, notify?: boolean, idle?: boolean, status?: boolean, devices?: boolean}} [options] */
  consent(app, allow, options) {
    return this.#ask({ type: "consent", app, allow, ...options });
  }

  /** Confirms notifications whose default was prevented (with `ack`). */
  ack(...ids) {
    ids.forEach((id) => this.#remember(id));
    if (this.#o.ack && ids.length) this.#write({ type: "ack", ids });
  }

  /**
   * Has the gateway wake this device by Web Push while it is not connected, or no longer. Call it from a click: the browser
   * asks the user. False: it cannot be. It needs a service worker such as presence-sw.js.
   */
  async wake(on = true) {
    if (on) {
      this.#o.push ||= true;
      return this.#subscribe(await this.#proof(), true);
    }
    await (await this.#subscription())?.unsubscribe();
    this.#o.push = false;
    await this.#sayPush(null);
    return true;
  }

  /** Connects at once, if it is not connected: after close(), or where `close` was final. */
  open() {
    if (!this.#watching) this.#watch();
    if (!this.#ws) this.#connect();
  }

  /** Says offline and goes for good. */
  close() {
    if (this.state === "closed") return;
    if (this.state === "connected" && this.#told) this.#write({ status: "offline" });
    this.#ws?.close(1000);
    this.#gone(1000, "", true);
  }

  #emit(type, detail) {
    return this.dispatchEvent(new CustomEvent(type, { detail, cancelable: true }));
  }

  #to(state) {
    if (state !== this.state) this.#emit("status", { state: (this.state = state), status: this.status });
  }

  async #connect() {
    clearTimeout(this.#timer);
    const turn = ++this.#turn;
    const { WebSocket = globalThis.WebSocket } = this.#o;
    this.#to("connecting");
    let proof, ws;
    try {
      proof = this.#ticket ? undefined : await this.#proof();
      this.#push = (await this.#subscription().catch(() => {}))?.toJSON();
      if (turn !== this.#turn) return; // closed meanwhile
      ws = this.#ws = new WebSocket(this.#url);
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#emit("error", error);
      return this.#gone(1006, "not begun");
    }
    const mine = (f) => (e) => ws === this.#ws && f(e);
    this.#timer = setTimeout(() => this.#drop("no answer"), 2 * patience);
    ws.onopen = mine(() => this.#hello(proof));
    ws.onmessage = mine((e) => this.#frame(JSON.parse(e.data)));
    ws.onclose = mine((e) => this.#gone(e.code, e.reason));
    ws.onerror = mine(() => setTimeout(mine(() => this.#drop("failed")), 50)); // Node 20 forgets the close event
  }

  #proof() {
    const { assertion } = this.#o;
    return typeof assertion === "function" ? assertion() : assertion;
  }

  // Its answer is handled before the next frame is: not by a promise.
  #hello(assertion) {
    const p = this.#presence(), quiet = this.#quiet, resume = this.#ticket ?? true, ws = this.#ws, push = this.#push;
    const ok = (f) => {
      clearTimeout(this.#timer);
      this.#since = now();
      this.#told = p.status && JSON.stringify(p);
      this.session = f;
      this.#ticket = f.resume;
      this.#every = f.heartbeat * 900; // a little before the gateway asks
      this.#alive();
      this.#to("connected");
      this.#tell().catch(() => {}); // what changed meanwhile
      if (this.#quiet !== quiet) this.quiet(this.#quiet).catch(() => {});
      if (this.#o.push) this.#subscribe(assertion).catch((e) => this.#emit("error", e));
    };
    const no = (e) => {
      const stale = this.#ticket;
      if (e.errno) this.#ticket = undefined;
      if (e.errno === 31 && stale) return this.#signIn(ws);
      if (e.errno) this.#refused(e);
      if (e.detail === "push") this.#o.push = false; // the gateway would not have it; the rest may be right
      if (e.detail === "push" || e.errno === 40 || e.errno >= 90) this.#drop(e.message); // in all other cases the gateway ends it
    };
    this.#asked.set(0, { ok, no });
    this.#write({ ...this.#options(assertion), id: 0, resume, push, ...p });
  }

  // What every hello says of the session: what one leaves out goes back to its default.
  #options(assertion) {
    const { email, device, ack, heartbeat } = this.#o;
    return { type: "hello", email, assertion, device, ack, heartbeat, adapt: heartbeat === undefined, quiet: this.#quiet };
  }

  // It was away for too long to be resumed: on the same connection it signs in.
  async #signIn(ws) {
    try {
      const proof = await this.#proof();
      if (ws === this.#ws) this.#hello(proof);
    } catch (error) {
      if (ws !== this.#ws) return;
      this.#emit("error", error);
      this.#drop("not begun");
    }
  }

  async #worker() {
    const { push } = this.#o;
    return push === true ? navigator.serviceWorker?.getRegistration() : push || undefined;
  }

  async #subscription() {
    return (await this.#worker())?.pushManager?.getSubscription();
  }

  // Subscribes with the gateway's key where that is not done yet, and tells the gateway, and the worker who it is.
  async #subscribe(assertion, ask = false) {
    const key = this.session?.push_key, worker = await this.#worker();
    if (!key || !worker?.pushManager) return false;
    let sub = await worker.pushManager.getSubscription();
    if (sub?.options?.applicationServerKey && base64(sub.options.applicationServerKey) !== key) {
      await sub.unsubscribe(); // of another gateway, or of one that has lost its key
      sub = null;
    }
    if (!sub && !ask && globalThis.Notification?.permission !== "granted") return false;
    sub ??= await worker.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: key });
    const { email } = this.#o, { device } = this.session ?? {};
    if (assertion) worker.active?.postMessage({ presence: { url: this.#url, email, device, assertion } });
    if (JSON.stringify(sub) !== JSON.stringify(this.#push)) await this.#sayPush(sub.toJSON());
    this.#emit("push", { endpoint: sub.endpoint });
    return true;
  }

  async #sayPush(push) {
    const f = await this.#ask({ ...this.#options(await this.#proof()), resume: true, push });
    this.#ticket = f.resume;
    this.#push = push ?? undefined;
  }

  #write(frame) {
    this.#ws?.readyState === 1 && this.#ws.send(JSON.stringify(frame));
  }

  #ask(frame) {
    if (this.#ws?.readyState !== 1) return Promise.reject(new PresenceError({ errno: 0, error: "not connected" }));
    const id = (frame.id ??= this.#next++);
    this.#write(frame);
    return new Promise((ok, no) => this.#asked.set(id, { ok, no }));
  }

  #frame(f) {
    if (f.heartbeat) this.#every = f.heartbeat * 900; // it has held, so it is longer now
    this.#alive();
    if (f.result) this.#answer(f);
    f.dropped?.forEach((d) => this.#emit("dropped", d));
    f.requests?.forEach((r) => {
      if (this.#requests.get(r.app) === r.time) return;
      this.#requests.set(r.app, r.time);
      this.#emit("request", r);
    });
    if (f.notifications) this.#take(f.notifications);
    if (f.reconnect) {
      const ms = f.reconnect.after * 1000;
      this.#notBefore = now() + ms;
      this.#emit("reconnect", f.reconnect);
      this.#again = setTimeout(() => this.#drop("reconnect"), ms);
    }
  }

  #answer(f) {
    const q = this.#asked.get(f.id);
    this.#asked.delete(f.id);
    if (f.result === "OK") q?.ok(f);
    else if (q) q.no(new PresenceError(f));
    else this.#refused(new PresenceError(f));
  }

  #refused(e) {
    if (e.retryAfter) this.#notBefore = now() + e.retryAfter * 1000;
    this.#emit("error", e);
  }

  #take(list) {
    const news = list.filter((n) => !this.#seen.has(n.id));
    const done = list.filter((n) => this.#seen.has(n.id));
    if (news.length) this.#emit("notifications", news);
    for (const n of news) {
      const mine = !this.#emit("notification", n);
      if (!mine) this.#show(n).catch(() => {});
      if (!mine || !this.#o.ack) done.push(n);
    }
    this.ack(...done.map((n) => n.id));
  }

  #remember(id) {
    this.#seen.add(id);
    if (this.#seen.size > remembered) this.#seen.delete(this.#seen.values().next().value);
  }

  async #show(n) {
    const Note = globalThis.Notification;
    if (!this.#o.notify || Note?.permission !== "granted") return;
    const options = { body: n.message, tag: n.id, data: n };
    const worker = await navigator.serviceWorker?.getRegistration();
    if (worker) return worker.showNotification(n.source, options);
    new Note(n.source, options).onclick = () => link(n.action) && open(link(n.action), "_blank", "noopener");
  }

  #presence() {
    const away = this.#idle ?? (this.#detector ? undefined : this.#hidden);
    if (this.#wish !== "online" || away === undefined) return { status: this.#wish ?? undefined };
    return { status: "unavailable", idle_since: new Date(away).toISOString() };
  }

  async #tell() {
    const p = this.#presence(), text = JSON.stringify(p);
    if (this.state !== "connected" || !p.status || text === this.#told) return;
    this.#told = text;
    this.#emit("status", { state: this.state, status: p.status });
    try {
      await this.#ask(p);
    } catch (e) {
      if (this.#told === text) this.#told = undefined;
      if (e.retryAfter) setTimeout(() => this.#tell().catch(() => {}), e.retryAfter * 1000);
      throw e;
    }
  }

  // Something was heard: a browser sees no pings, so silence is broken by {} and must be answered.
  #alive() {
    clearTimeout(this.#beat);
    if (this.#every) this.#beat = setTimeout(() => this.#check(), this.#every);
  }

  #check() {
    if (this.state !== "connected") return this.state === "waiting" && this.#connect();
    clearTimeout(this.#beat);
    this.#write({});
    this.#beat = setTimeout(() => this.#drop("no answer"), Math.min(patience, this.#every));
  }

  // Gives up a socket that may be dead: its own close could take minutes.
  #drop(reason) {
    this.#ws?.close();
    this.#gone(1006, reason);
  }

  #gone(code, reason, wanted) {
    const final = wanted || (code >= 4500 && code < 5000);
    if (final) this.#ticket = undefined;
    if (this.#since && now() - this.#since > patience) this.#tries = 0;
    for (const t of [this.#timer, this.#beat, this.#again]) clearTimeout(t);
    this.#turn++;
    this.#ws = this.#told = this.session = this.#every = undefined;
    this.#since = 0;
    const asked = [...this.#asked.values()];
    this.#asked.clear();
    asked.forEach((q) => q.no(new PresenceError({ errno: 0, error: "connection lost" })));
    const retry = final ? undefined : this.#wait();
    if (final) this.#unwatch();
    else this.#timer = setTimeout(() => this.#connect(), retry);
    this.#to(final ? "closed" : "waiting");
    this.#emit("close", { code, reason, final, retry });
  }

  // Full jitter, behind what the gateway asked for.
  #wait() {
    const { base, cap } = this.#o.backoff;
    return Math.max(0, this.#notBefore - now()) + Math.random() * Math.min(cap, base * 2 ** this.#tries++);
  }

  #watch() {
    const stop = (this.#watching = new AbortController());
    const on = (target, type, f) => target?.addEventListener?.(type, f, { signal: stop.signal });
    const back = () => now() < this.#notBefore || this.#check();
    on(globalThis, "online", back); // another network: the old connection may be dead
    on(globalThis, "pageshow", back);
    on(globalThis.navigator?.serviceWorker, "message", (e) => e.data?.presenced === "waiting" && back()); // it was woken
    on(globalThis.document, "visibilitychange", () => this.#visible() || back());
    if (this.#o.auto && globalThis.document) {
      this.#visible();
      navigator.permissions?.query({ name: "idle-detection" })
        .then((p) => p.state === "granted" && this.#detect(globalThis.IdleDetector, 60_000))
        .catch(() => {}); // a browser without it
    }
  }

  #visible() {
    const hidden = document.visibilityState === "hidden";
    if (this.#o.auto) {
      this.#hidden = hidden ? now() : undefined;
      this.#tell().catch(() => {});
    }
    return hidden;
  }

  async #detect(Detector, threshold) {
    const d = new Detector();
    const { signal } = this.#watching ?? {};
    if (!signal || this.#detector) return !!signal;
    d.addEventListener("change", () => {
      const active = d.userState === "active" && d.screenState !== "locked";
      this.idle(active ? null : now() - (d.userState === "idle" ? threshold : 0)).catch(() => {});
    }, { signal });
    await d.start({ threshold, signal });
    this.#detector = d;
    this.#tell().catch(() => {});
    return true;
  }

  #unwatch() {
    this.#watching?.abort();
    this.#watching = this.#detector = this.#idle = undefined;
  }
}
