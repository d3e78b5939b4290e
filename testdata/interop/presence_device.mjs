// A device on presence.js as the gateway serves it, driven line by line: see README.md. Node 20 needs
// --experimental-websocket, newer ones nothing.

import { createInterface } from "node:readline";

const tell = (event, fields) => console.log(JSON.stringify({ event, ...fields }));
let device;
let hold = false; // notifications are left unconfirmed
let turns = 0; // how often the assertion was asked for

async function start({ module, ...options }) {
  const served = await fetch(module);
  if (!served.ok) return tell("not served", { status: served.status });
  const { Presence } = await import("data:text/javascript," + encodeURIComponent(await served.text()));
  const { assertion } = options;
  device = new Presence({ ...options, assertion: async () => (turns++, assertion) });
  const on = (type, f) => device.addEventListener(type, (e) => f(e.detail, e));
  on("status", (d) => tell("status", { type: d.state, show: d.status }));
  on("notification", (d, e) => {
    if (hold) e.preventDefault();
    tell("notification", { id: d.id, from: d.source, body: d.message });
  });
  on("request", (d) => tell("request", { from: d.app, body: d.purpose }));
  on("dropped", (d) => tell("dropped", { from: d.app, code: d.count }));
  on("reconnect", (reconnect) => tell("reconnect", { frame: { reconnect } }));
  on("close", (d) => tell("close", { code: d.code, type: d.final ? "final" : "retry" }));
  on("error", (d) => tell("refused", { frame: { errno: d.errno ?? -1, error: d.message } }));
}

const report = (id, promise) =>
  promise.then(() => tell("done", { id }), (e) => tell("failed", { id, frame: { errno: e.errno, error: e.message } }));

const commands = {
  status: (c) => report("status", device.setStatus(c.status)),
  idle: (c) => report("idle", device.idle(c.since)),
  send: (c) => report("send", device.send(c.app, c.data)),
  consent: (c) => report("consent", device.consent(c.app, c.allow, c.options)),
  hold: () => ((hold = true), tell("holding", {})),
  ack: (c) => ((hold = false), device.ack(c.id)),
  open: () => device.open(),
  close: () => device.close(),
  turns: () => tell("turns", { code: turns }),
};

// When its input ends, and presence.js has nothing left to do, the program ends by itself.
createInterface({ input: process.stdin }).on("line", (line) => {
  const c = JSON.parse(line);
  if (c.do) commands[c.do](c);
  else start(c);
});
