"""An app server on Debian's python3-aioxmpp, driven line by line: see README.md."""

import asyncio
import datetime
import json
import sys

import aioxmpp
import aioxmpp.connector
import aioxmpp.dispatcher
import aioxmpp.xso


class GCM(aioxmpp.xso.XSO):
    TAG = ("google:mobile:data", "gcm")
    text = aioxmpp.xso.Text(default=None)


aioxmpp.Message.gcm = aioxmpp.xso.Child([GCM])


def tell(event, **fields):
    print(json.dumps({"event": event, **{k: v for k, v in fields.items() if v is not None}}), flush=True)


class Server:
    def __init__(self, cfg):
        self.pending = {}  # sent and not answered, by id
        jid = aioxmpp.JID.fromstr(cfg["sender"] + "@gcm.googleapis.com")
        self.client = aioxmpp.Client(
            jid,
            aioxmpp.make_security_layer(cfg["key"], no_verify=True),
            override_peer=[(cfg["host"], cfg["port"], aioxmpp.connector.XMPPOverTLSConnector())],
        )
        self.client.backoff_start = datetime.timedelta(milliseconds=50)
        self.client.backoff_cap = datetime.timedelta(milliseconds=200)
        self.client.on_stream_established.connect(self.established)
        self.client.on_stream_suspended.connect(lambda reason: tell("disconnected"))
        self.client.on_stream_destroyed.connect(lambda reason=None: tell("disconnected"))
        self.client.on_failure.connect(lambda err: tell("error", text=str(err)))
        dispatcher = self.client.summon(aioxmpp.dispatcher.SimpleMessageDispatcher)
        for kind in (aioxmpp.MessageType.NORMAL, aioxmpp.MessageType.ERROR):
            dispatcher.register_callback(kind, None, self.received)
        self.client.start()

    def established(self):
        tell("connected")
        for command in self.pending.values():  # what was not answered may not have arrived
            self.deliver(command)

    def enqueue(self, payload):
        message = aioxmpp.Message(type_=aioxmpp.MessageType.NORMAL)
        message.gcm = GCM()
        message.gcm.text = json.dumps(payload)
        self.client.enqueue(message)

    def deliver(self, c):
        if "raw" in c:
            self.enqueue(c["raw"])
            return
        payload = {"to": c["to"], "message_id": c["id"]}
        for name, field in (("data", "data"), ("ttl", "time_to_live"), ("receipt", "delivery_receipt_requested"), ("dry", "dry_run")):
            if name in c:
                payload[field] = c[name]
        if "body" in c:
            payload["notification"] = {"title": "T", "body": c["body"], "icon": "icon", "click_action": "https://e/"}
        self.enqueue(payload)

    def received(self, message):
        if message.type_ == aioxmpp.MessageType.ERROR:
            tell("message-error", text=message.error.text)
            return
        p = json.loads(message.gcm.text)
        kind = p.get("message_type")
        if kind == "control":
            tell("draining" if p["control_type"] == "CONNECTION_DRAINING" else "control")
        elif kind in ("ack", "nack"):
            if p.get("error") != "CONNECTION_DRAINING":
                self.pending.pop(p["message_id"], None)
            tell(kind, id=p["message_id"], **{"from": p["from"]}, registration=p.get("registration_id"),
                 error=p["error"] if kind == "nack" else None, text=p["error_description"] if kind == "nack" else None)
        else:
            self.enqueue({"to": p["from"], "message_id": p["message_id"], "message_type": "ack"})
            tell("receipt" if kind == "receipt" else "message", id=p["message_id"], **{"from": p["from"]}, data=p["data"], category=p["category"])


async def main():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    server = Server(json.loads(await reader.readline()))
    while line := await reader.readline():
        command = json.loads(line)
        server.pending[command["id"]] = command
        if server.client.established:
            server.deliver(command)


asyncio.run(main())
