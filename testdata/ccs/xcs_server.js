// An app server on node-xcs 0.1.8, which was written for FCM and is used as it is, driven line by line: see README.md.

const Constants = require("node-xcs/google/Constants");
const { createInterface } = require("node:readline");

const tell = (event, fields) => console.log(JSON.stringify({ event, ...fields }));

// It leaves the promise of a send that fails to nobody, which ends Node.js since version 15. What was not sent is not
// answered, and is sent again.
process.on("unhandledRejection", (err) => console.error(String(err)));

let xcs, Message, Notification;
let up = false;
const pending = new Map(); // sent and not answered, by id

function start(cfg) {
  // The one change that a program needs: where the server is.
  Constants.FCM_SEND_ENDPOINT = cfg.host;
  Constants.FCM_SEND_PRODUCTION_PORT = cfg.port;
  const lib = require("node-xcs");
  ({ Message, Notification } = lib);
  xcs = new lib.Sender(cfg.sender, cfg.key);
  xcs.client.reconnect.delay = 50;
  xcs.on("connected", () => {
    up = true;
    tell("connected");
    for (const c of pending.values()) deliver(c); // what was not answered may not have arrived
  });
  xcs.on("disconnected", () => tell("disconnected"));
  xcs.on("error", (err) => tell("error", { text: String(err) }));
  xcs.on("message-error", (text) => tell("message-error", { text: String(text) }));
  xcs.on("message", (id, from, data, category) => tell("message", { id, from, data, category }));
  xcs.on("receipt", (id, from, data, category) => tell("receipt", { id, from, data, category }));
  xcs.client.on("disconnect", () => {
    up = false;
    tell("disconnected");
  });
  // Not xcs.start(): it touches a socket that @xmpp/tls of today does not have (see README.md).
  xcs.client.start().catch((err) => tell("error", { text: String(err) }));
}

function deliver(c) {
  const answered = (r) => {
    if (r.getError() === "CONNECTION_DRAINING") {
      tell("nack", { id: r.getMessageId(), error: r.getError(), text: r.getErrorDescription() });
      return; // it stays pending, for the next connection
    }
    pending.delete(r.getMessageId());
    tell(r.getMessageType(), {
      id: r.getMessageId(), from: r.getFrom(), registration: r.getRegistrationId(), error: r.getError(), text: r.getErrorDescription(),
    });
  };
  if (c.raw) {
    xcs.acks[c.id] = answered;
    xcs._send(c.raw); // what its messages cannot say
    return;
  }
  const m = new Message(c.id);
  for (const [k, v] of Object.entries(c.data ?? {})) m.addData(k, v);
  if (c.body) m.notification(new Notification("icon").title("T").body(c.body).clickAction("https://e/").build());
  if (c.ttl !== undefined) m.timeToLive(c.ttl);
  if (c.receipt) m.deliveryReceiptRequested(true);
  if (c.dry) m.dryRun(true);
  xcs.sendNoRetry(m.build(), c.to, answered);
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const c = JSON.parse(line);
  if (!xcs) return start(c);
  pending.set(c.id, c);
  if (up) deliver(c);
});
lines.on("close", () => process.exit(0));
