package web

import (
	"net"
	"strconv"
	"strings"

	"presenced/presence"
)

// snippet is a small program that connects as an app, with this app's own values.
type snippet struct {
	ID, Title, File, Run string
	Code                 string
}

// snippets are complete programs. A secret stands in them only when it is shown anyway; else it comes from the
// environment.
func (s *Site) snippets(a *presence.App, secret, key string) []snippet {
	host, port, err := net.SplitHostPort(s.cfg.Component)
	if err != nil {
		host, port = s.cfg.Domain, "5347"
	}
	socket := strings.TrimSuffix(s.socketURL(), "/presence") + pathOf(a.ID)
	fill := func(code string, python bool) string {
		fromEnv := func(name, value string) string {
			switch {
			case value != "":
				return strconv.Quote(value)
			case python:
				return "os.environ[" + strconv.Quote(name) + "]"
			}
			return "process.env." + name
		}
		return strings.NewReplacer("SECRET", fromEnv("APP_SECRET", secret), "APIKEY", fromEnv("APP_API_KEY", key),
			"COMPONENT", strconv.Quote(a.Component), "SENDER", strconv.Quote("bot@"+a.Component), "HOST", strconv.Quote(host),
			"PORT", port, "SERVICE", strconv.Quote("xmpp://"+net.JoinHostPort(host, port)), "SOCKET", strconv.Quote(socket)).Replace(code)
	}
	return []snippet{
		{"slixmpp", "Python, slixmpp", "app.py", "python3 app.py", fill(slixmppSnippet, true)},
		{"xmppjs", "JavaScript, xmpp.js", "app.mjs", "npm install @xmpp/component && node app.mjs", fill(xmppjsSnippet, false)},
		{"websocket", "JavaScript, WebSocket", "socket.mjs", "npm install ws && node socket.mjs", fill(socketSnippet, false)},
	}
}

const slixmppSnippet = `import os
import slixmpp

app = slixmpp.ComponentXMPP(COMPONENT, SECRET, HOST, PORT)

def on_presence(p):
    print(p["from"], p["type"], flush=True)
    if p["type"] == "available":
        app.send_message(mto=p["from"].bare, mfrom=SENDER, mbody="Good to see you")

app.add_event_handler("presence", on_presence)
app.connect()
app.loop.run_until_complete(app.disconnected)
`

const xmppjsSnippet = `import { component, xml } from "@xmpp/component";

const app = component({ service: SERVICE, domain: COMPONENT, password: SECRET });

app.on("error", (err) => console.error(err.message));
app.on("stanza", async (s) => {
  console.log(s.toString());
  if (s.is("presence") && !s.attrs.type)
    await app.send(xml("message", { from: SENDER, to: s.attrs.from }, xml("body", {}, "Good to see you")));
});

app.start();
`

const socketSnippet = `import WebSocket from "ws";

const ws = new WebSocket(SOCKET);
const tell = (frame) => ws.send(JSON.stringify(frame));

ws.on("open", () => tell({ action: "auth", token: APIKEY }));
ws.on("close", (code) => console.log("closed", code));
ws.on("message", (data) => {
  const frame = JSON.parse(data);
  console.log(JSON.stringify(frame));
  if (frame.status === "online") tell({ action: "notify", uid: frame.uid, message: "Good to see you" });
  if (frame.message) tell({ action: "ack", ids: [frame.message.id] });
});
`
