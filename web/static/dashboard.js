// What the dashboard does where scripts run: parts of the page are asked for again when they have changed, forms
// are sent without leaving it, and this browser can be one of the user's devices. Without scripts all but the last
// works by itself.
import { Presence, link } from "./presence.js";

const board = document.getElementById("board");
const { email } = board.dataset;
const small = "small" in board.dataset;

// The zone of this browser, for the times on the page.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const known = document.cookie.includes("tz=" + encodeURIComponent(zone));
if (zone) document.cookie = `tz=${encodeURIComponent(zone)}; path=/; max-age=31536000; samesite=lax`;

// --- parts -------------------------------------------------------------------------------------------------------

const all = ["status", "requests", "apps", "devices", "week", "timeline"];
const waiting = new Set(); // parts that have changed while they were typed in
const turns = {}; // how often each part was asked for: an answer that comes late is dropped

// busy: somebody is typing or choosing there.
const busy = (box) => box.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");

let leaving = false; // by a form, which says where to

async function refresh(part) {
  if (leaving) return;
  const box = board.querySelector(`[data-part="${part}"]`);
  if (!box) return;
  if (busy(box)) return waiting.add(part);
  const turn = (turns[part] = (turns[part] ?? 0) + 1);
  const query = new URLSearchParams(location.search);
  query.set("part", part);
  if (small) query.set("small", "1");
  const answer = await fetch("/dashboard?" + query, { redirect: "manual" }).catch(() => null);
  if (answer?.type === "opaqueredirect" || answer?.status === 401) return location.reload(); // signed out
  if (!answer?.ok || busy(box)) return waiting.add(part);
  const text = await answer.text();
  if (turn !== turns[part]) return;
  const open = [...box.querySelectorAll("details[open][id]")].map((d) => d.id);
  const focus = box.contains(document.activeElement) ? place(document.activeElement) : null;
  box.innerHTML = text;
  open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  focus?.(box);
}

// place remembers where the focus is, to find the same thing in the part that comes.
function place(el) {
  const same = (e) => e.tagName === el.tagName && e.getAttribute("aria-label") === el.getAttribute("aria-label") && e.textContent === el.textContent;
  return (box) => ([...box.querySelectorAll("a, button, summary")].find(same) ?? box.querySelector("a, button, summary"))?.focus();
}

board.addEventListener("focusout", () =>
  setTimeout(() => {
    const parts = [...waiting];
    waiting.clear();
    parts.forEach(refresh);
  }, 300));

// The stream is open only while the page is seen: browsers allow a site few connections for all of its tabs.
const stale = document.getElementById("stale");
let events, again;
function live() {
  clearTimeout(again);
  events?.close();
  events = new EventSource("/events");
  events.addEventListener("change", (e) => e.data.split(" ").forEach(refresh));
  events.onopen = () => {
    all.forEach(refresh); // what was missed since the page was made, or the stream was lost
    stale.hidden = true;
  };
  events.onerror = () => {
    stale.textContent = "The connection is lost; this page may be out of date.";
    stale.hidden = false;
    if (events.readyState !== EventSource.CLOSED) return; // it comes back by itself
    again = setTimeout(live, 10_000 + Math.random() * 10_000);
    refresh("status"); // or is she signed out?
  };
}
live();
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") live();
  else {
    clearTimeout(again);
    events.close();
  }
});
if (zone && !known) all.forEach(refresh); // with the right times

// --- forms -------------------------------------------------------------------------------------------------------

const told = document.getElementById("told");
board.addEventListener("submit", async (e) => {
  const form = e.target;
  if (form.action.endsWith("/erase")) { // that one leaves the page
    if (form.elements.email.value.trim().toLowerCase() === email) forget();
    return;
  }
  e.preventDefault();
  const body = new URLSearchParams(new FormData(form, e.submitter));
  const answer = await fetch(form.action, { method: "POST", body, headers: { Accept: "application/json" } });
  const said = await answer.json().catch(() => ({}));
  told.hidden = answer.ok;
  if (!answer.ok) told.textContent = said.detail ?? "That did not work.";
  if (busy(form)) document.activeElement.blur();
  all.forEach(refresh);
});

// --- this browser as a device ------------------------------------------------------------------------------------

const here = document.getElementById("here");
const state = document.getElementById("here-state");
const key = "presenced " + email;
let memory = JSON.parse(localStorage.getItem(key) ?? "{}"); // {device, token, status, unnamed}
const remember = (more) => localStorage.setItem(key, JSON.stringify((memory = { ...memory, ...more })));
let device; // of presence.js

async function token() {
  if (memory.token) return memory.token;
  const id = memory.device ?? "web-" + Array.from(crypto.getRandomValues(new Uint8Array(5)), (b) => b.toString(16).padStart(2, "0")).join("");
  const answer = await fetch("/login/device", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ device: id }) });
  if (!answer.ok) throw new Error("This browser could not be signed in.");
  const signed = await answer.json();
  remember({ device: signed.device, token: signed.token, unnamed: memory.device ? memory.unnamed : true });
  return signed.token;
}

// what this browser is called until its user calls it something else: "Firefox on Linux".
function ownName() {
  const first = (names) => names.find(([word]) => navigator.userAgent.includes(word))?.[1];
  const browser = first([["Edg", "Edge"], ["OPR/", "Opera"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]]);
  const system = first([["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["CrOS", "ChromeOS"], ["Windows", "Windows"], ["Mac OS", "Mac"], ["Linux", "Linux"]]);
  return `${browser ?? "Browser"}${system ? " on " + system : ""}`;
}

// giveName does so once, when the gateway knows the device.
async function giveName() {
  if (!memory.unnamed) return;
  remember({ unnamed: false });
  const body = new URLSearchParams({ name: ownName() });
  const answer = await fetch(`/dashboard/devices/${memory.device}/rename`, { method: "POST", body, headers: { Accept: "application/json" } }).catch(() => null);
  if (answer?.ok) ["devices", "timeline"].forEach(refresh);
  else remember({ unnamed: true }); // with the next connection
}

const words = { online: "Apps see it as online", unavailable: "Apps see it as away", offline: "Apps see it as offline" };

function show(text) {
  state.textContent = text;
  for (const b of here.querySelectorAll("[data-status]")) b.setAttribute("aria-pressed", String(!!device && b.dataset.status === memory.status));
}

async function begin(again) {
  let proof;
  try {
    proof = await token();
  } catch (e) {
    if (again) refresh("status"); // which sees whether she is, too
    return show(again ? "It was signed out." : e.message);
  }
  device = new Presence({ email, assertion: proof, device: memory.device, status: memory.status, ack: true, notify: true });
  device.addEventListener("status", ({ detail }) => {
    if (detail.state === "connected") {
      show(words[detail.status] + (detail.status !== memory.status ? ", because you are." : "."));
      giveName();
    }
    if (detail.state === "waiting") show("The connection is lost; it comes back by itself.");
  });
  device.addEventListener("notification", ({ detail }) => note(detail));
  device.addEventListener("close", ({ detail }) => {
    if (!detail.final || detail.code === 1000) return;
    device = undefined;
    if (detail.code === 4534 && !again) {
      remember({ token: undefined }); // it was taken back, or is too old: the sign-in of this page is good for another
      return begin(true);
    }
    if (detail.code !== 4534) return show("It is here in another tab, or was signed out. Choose to be here again.");
    show("It was signed out.");
  });
}

here.addEventListener("click", (e) => {
  const { status } = e.target.dataset;
  if (!status) return;
  remember({ status });
  if (device) device.setStatus(status).catch((e) => show(e.message));
  else begin();
});

const inbox = document.getElementById("inbox");
const inboxShown = 20;
function note(n) {
  const li = document.createElement("li");
  const from = document.createElement("strong");
  from.textContent = n.source;
  li.append(from, " ", n.message);
  if (link(n.action)) {
    const a = document.createElement("a");
    Object.assign(a, { href: link(n.action), textContent: "Open", target: "_blank", rel: "noopener noreferrer" });
    li.append(" ", a);
  }
  inbox.prepend(li);
  while (inbox.children.length > inboxShown) inbox.lastChild.remove();
}

function offer(id, possible, ask) {
  const button = document.getElementById(id);
  button.hidden = !possible;
  button.addEventListener("click", async () => (button.hidden = await ask()));
}
offer("notify", globalThis.Notification?.permission === "default", async () => (await Notification.requestPermission()) !== "default");
offer("idle", "IdleDetector" in globalThis, async () => !!device && (await device.watchIdle().catch(() => false)));

function forget() {
  leaving = true;
  clearTimeout(again);
  events.close();
  device?.close();
  localStorage.removeItem(key);
}
document.querySelector('form[action="/logout"]')?.addEventListener("submit", forget);

here.hidden = false;
if (memory.status && memory.token) begin();
