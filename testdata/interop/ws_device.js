// A device on ws, driven line by line: see README.md. The library answers pings by itself.

import { createInterface } from "node:readline";
import WebSocket from "ws";

const tell = (event, fields) => console.log(JSON.stringify({ event, ...fields }));

let cfg; // {url, hello, reconnect}
let socket;
let tries = 0;
let leaving = false;

function connect() {
  const ws = new WebSocket(cfg.url);
  socket = ws;
  ws.on("open", () => {
    tries = 0;
    tell("open");
    if (cfg.hello) ws.send(JSON.stringify(cfg.hello));
  });
  ws.on("message", (data, binary) => tell("frame", binary ? { binary } : { frame: JSON.parse(data) }));
  ws.on("ping", () => tell("pinged"));
  ws.on("unexpected-response", (_, res) => {
    tell("refused", { status: res.statusCode });
    ws.terminate();
  });
  ws.on("error", (err) => console.error(String(err)));
  ws.on("close", (code, reason) => {
    tell("close", { code, reason: String(reason) });
    if (leaving) process.exit(0);
    // 4500 and above: do not come back by yourself
    if (cfg.reconnect && code < 4500 && ws === socket) setTimeout(connect, Math.min(100 * 2 ** tries++, 5000));
  });
}

const commands = {
  send: (c) => socket.send(JSON.stringify(c.frame)),
  text: (c) => socket.send(c.text), // as it is, to be wrong on purpose
  ping: () => socket.ping(),
  connect: () => connect(), // a new socket; the older one stays
  terminate: () => socket.terminate(), // without a goodbye
  close: (c) => socket.close(c.code ?? 1000),
  disconnect() {
    leaving = true;
    if (socket.readyState === WebSocket.CLOSED) process.exit(0);
    socket.close(1000);
  },
  crash: () => process.exit(3),
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const c = JSON.parse(line);
  if (cfg) return commands[c.do](c);
  cfg = c;
  connect();
});
lines.on("close", () => commands.disconnect());
