// An app service on @xmpp/component, driven line by line: see README.md. The library reconnects by itself.

import { createInterface } from "node:readline";
import { component, xml } from "@xmpp/component";

const OOB = "jabber:x:oob";
const NICK = "http://jabber.org/protocol/nick";
const NOTIFY = "urn:presenced:notify:0";
const RECEIPTS = "urn:xmpp:receipts";
const PING = "urn:xmpp:ping";
const DISCO = "http://jabber.org/protocol/disco#info";

const tell = (event, fields) => console.log(JSON.stringify({ event, ...fields }));

function start(cfg) {
  const app = component({
    service: `xmpp://${cfg.host}:${cfg.port}`,
    domain: cfg.jid,
    password: cfg.secret,
  });
  if (!cfg.reconnect) app.reconnect.stop();
  app.on("online", () => tell("connected"));
  app.on("disconnect", () => tell("disconnected", { reason: "" }));
  app.on("error", (err) =>
    err.name === "StreamError"
      ? tell("stream-error", { condition: err.condition })
      : console.error(String(err)),
  );
  app.on("stanza", (s) => heard(s));
  app.iqCallee.get(PING, "ping", (ctx) => {
    tell("pinged", { from: String(ctx.from ?? ""), id: ctx.id });
    return true; // an empty result
  });
  app.start().catch(() => {}); // told as "error" above
  return app;
}

function heard(s) {
  const { from, to, id = "", type = "" } = s.attrs;
  if (type === "error" && !s.is("iq")) return tell("error", { stanza: s.name, from, id, ...errorOf(s) });
  if (s.is("presence")) {
    const delay = s.getChild("delay", "urn:xmpp:delay")?.attrs.stamp ?? null;
    return tell("presence", { from, to, id, type, show: s.getChildText("show") ?? "", delay });
  }
  if (!s.is("message")) return;
  const receipt = s.getChild("received", RECEIPTS);
  if (receipt) return tell("receipt", { from, to, id: receipt.attrs.id });
  tell("message", { from, to, id, body: s.getChildText("body") ?? "" });
}

function errorOf(s) {
  const e = s.getChild("error");
  const condition = e.getChildElements().find((c) => c.attrs.xmlns === "urn:ietf:params:xml:ns:xmpp-stanzas");
  return { condition: condition?.name ?? "", type: e.attrs.type };
}

function ask(app, c, child, more = () => ({})) {
  app.iqCaller.request(xml("iq", { type: "get", to: c.to }, child)).then(
    (r) => tell("result", { id: c.id, ...more(r) }),
    (err) =>
      err.name === "StanzaError"
        ? tell("error", { stanza: "iq", from: c.to, id: c.id, condition: err.condition, type: err.type })
        : tell("timeout", { id: c.id }),
  );
}

const commands = {
  message(app, c) {
    const m = xml("message", { to: c.to, id: c.id, ...(c.from && { from: c.from }) });
    if (c.body !== undefined) m.append(xml("body", {}, c.body));
    if (c.receipt) m.append(xml("request", RECEIPTS));
    if (c.nick) m.append(xml("nick", NICK, c.nick));
    if (c.url) m.append(xml("x", OOB, xml("url", {}, c.url)));
    if (c.notify) m.append(xml("notify", { xmlns: NOTIFY, ...c.notify }));
    return app.send(m);
  },
  presence(app, c) {
    const p = xml("presence", { to: c.to, id: c.id, type: c.type, ...(c.from && { from: c.from }) });
    if (c.status) p.append(xml("status", {}, c.status));
    return app.send(p);
  },
  ping: (app, c) => ask(app, c, xml("ping", PING)),
  disco: (app, c) =>
    ask(app, c, xml("query", DISCO), (r) => ({
      features: r.getChild("query", DISCO).getChildren("feature").map((f) => f.attrs.var).sort(),
    })),
  async disconnect(app) {
    app.reconnect.stop();
    await app.stop();
    process.exit(0);
  },
  crash: () => process.exit(3),
};

let app;
const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const c = JSON.parse(line);
  if (!app) app = start(c);
  else Promise.resolve(commands[c.do](app, c)).catch((err) => console.error(String(err)));
});
lines.on("close", () => (app ? commands.disconnect(app) : process.exit(1)));
