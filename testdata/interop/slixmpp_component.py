"""An app service on slixmpp, driven line by line.

The first line on standard input says what to be:
    {"jid": "chat.example", "secret": "s", "host": "127.0.0.1", "port": 5347, "reconnect": true}
Each further line is a command, each line on standard output an event; README.md lists both. The end of
standard input ends the program.
"""

import asyncio
import json
import logging
import os
import sys

from slixmpp import ComponentXMPP
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.xmlstream import ET

OOB = "jabber:x:oob"
NICK = "http://jabber.org/protocol/nick"
NOTIFY = "urn:presenced:notify:0"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


def refusal(xml):
    """Reads an <error/>. On component streams slixmpp's own reading misses it and makes one up."""
    error = next(e for e in xml if e.tag.endswith("}error"))
    condition = next((e.tag.removeprefix(STANZAS) for e in error if e.tag.startswith(STANZAS)), "")
    return {"condition": condition, "type": error.get("type")}


class App(ComponentXMPP):
    def __init__(self, cfg):
        super().__init__(cfg["jid"], cfg["secret"], cfg["host"], cfg["port"])
        self.again = cfg.get("reconnect", False)
        self.leaving = False
        for plugin in ("xep_0030", "xep_0184", "xep_0199", "xep_0203"):
            self.register_plugin(plugin)
        self["xep_0199"].keepalive = False
        self.add_event_handler("session_start", lambda _: tell("connected"))
        self.add_event_handler("disconnected", self.on_disconnected)
        self.add_event_handler("stream_error", lambda e: tell("stream-error", condition=e["condition"]))
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("message_error", lambda m: self.on_error("message", m))
        self.add_event_handler("presence_error", lambda p: self.on_error("presence", p))
        self.add_event_handler("receipt_received", self.on_receipt)
        self.add_event_handler("presence", self.on_presence)
        self.add_filter("in", self.on_iq)

    def on_disconnected(self, reason):
        tell("disconnected", reason=str(reason or ""))
        if self.again and not self.leaving:
            self.connect()  # when that is refused, slixmpp tries again by itself, ever more slowly

    def on_presence(self, p):
        kind = p.xml.get("type", "")
        if kind == "error":
            return
        delay = p["delay"].xml.get("stamp") if p.get_plugin("delay", check=True) else None
        tell("presence", **{"from": str(p["from"]), "to": str(p["to"]), "id": p["id"], "type": kind,
                            "show": p["show"], "delay": delay})

    def on_message(self, m):
        tell("message", **{"from": str(m["from"]), "to": str(m["to"]), "id": m["id"], "body": m["body"]})

    def on_receipt(self, m):
        tell("receipt", **{"from": str(m["from"]), "to": str(m["to"]), "id": m["receipt"]})

    def on_error(self, stanza, s):
        tell("error", **{"stanza": stanza, "from": str(s["from"]), "id": s["id"], **refusal(s.xml)})

    def on_iq(self, s):
        """Tells of a ping; the answer is the library's own (XEP-0199)."""
        if s.name == "iq" and s.get_plugin("ping", check=True) is not None and s["type"] == "get":
            tell("pinged", **{"from": str(s["from"]), "id": s["id"]})
        return s

    def do_message(self, c):
        m = self.make_message(mto=c["to"], mfrom=c.get("from", self.boundjid.bare), mbody=c.get("body"), mtype="normal")
        m["id"] = c["id"]
        if c.get("receipt"):
            m["request_receipt"] = True
        if "nick" in c:
            ET.SubElement(m.xml, "{%s}nick" % NICK).text = c["nick"]
        if "url" in c:
            ET.SubElement(ET.SubElement(m.xml, "{%s}x" % OOB), "{%s}url" % OOB).text = c["url"]
        if "notify" in c:
            ET.SubElement(m.xml, "{%s}notify" % NOTIFY, c["notify"])
        m.send()

    def do_presence(self, c):
        p = self.make_presence(pto=c["to"], pfrom=c.get("from", self.boundjid.bare), ptype=c.get("type"))
        p["id"] = c.get("id", "")
        if "status" in c:
            p["status"] = c["status"]
        p.send()

    def do_ping(self, c):
        self.ask(c, self["xep_0199"].send_ping(c["to"], ifrom=self.boundjid.bare))

    def do_disco(self, c):
        self.ask(c, self["xep_0030"].get_info(jid=c["to"], ifrom=self.boundjid.bare, cached=False),
                 lambda r: {"features": sorted(r["disco_info"]["features"])})

    def ask(self, c, answer, more=lambda r: {}):
        async def wait():
            try:
                tell("result", id=c["id"], **more(await answer))
            except IqError as e:
                tell("error", **{"stanza": "iq", "from": str(e.iq["from"]), "id": c["id"], **refusal(e.iq.xml)})
            except IqTimeout:
                tell("timeout", id=c["id"])
        asyncio.ensure_future(wait())

    def do_disconnect(self, c):
        self.leaving = True
        self.disconnect()

    def do_crash(self, c):
        os._exit(3)

    def command(self, line):
        c = json.loads(line)
        getattr(self, "do_" + c["do"])(c)


async def commands(app, lines):
    while line := await lines.readline():
        app.command(line)
    app.do_disconnect({})


def main(kind=App):
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    app = kind(json.loads(first_line()))
    loop = app.loop
    lines = asyncio.StreamReader(loop=loop)
    loop.run_until_complete(loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines, loop=loop), sys.stdin))
    driver = loop.create_task(commands(app, lines))
    app.connect()
    loop.run_until_complete(app.disconnected)
    while app.again and not app.leaving:  # it has made itself a new future
        loop.run_until_complete(app.disconnected)
    driver.cancel()


def first_line():
    """Reads to the first newline and not a byte more: the rest belongs to the loop."""
    line = b""
    while not line.endswith(b"\n"):
        b = os.read(0, 1)
        if not b:
            sys.exit("no configuration on standard input")
        line += b
    return line


if __name__ == "__main__":
    main()
