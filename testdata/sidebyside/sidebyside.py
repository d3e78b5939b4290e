#!/usr/bin/python3
"""Runs the list of exchanges.py against Presenced, Prosody and ejabberd on loopback and compares the answers.

    testdata/sidebyside/sidebyside.py                      runs all and prints what is not right
    testdata/sidebyside/sidebyside.py --only Presenced     runs one
    testdata/sidebyside/sidebyside.py --check              prints what is not as docs/xmpp.md has it
    testdata/sidebyside/sidebyside.py --write              also puts the tables into docs/xmpp.md, and all bytes of the
                                                           run into testdata/sidebyside/transcript.md

It needs Python 3.11 and nothing else; Go, to build Presenced (or --presenced FILE); Debian's prosody and ejabberd
(apt-get install prosody ejabberd). Nothing of them needs to run: each is started here, with a configuration and a folder
that are thrown away, and ended by its id.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET

sys.dont_write_bytecode = True
from exchanges import COMPONENT, EXCHANGES, HEADER, NEW, OPEN, SESSION, STREAMS, TWICE, SERVER  # noqa: E402
from servers import HANDSHAKE, SECRET, Ejabberd, Presenced, Prosody  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

ANSWER = 60  # seconds for an answer that must come; it only runs out when something is broken
END = 8      # seconds for the end of a stream; where it does not come, that is the outcome
FAR = 8      # seconds for an answer that has not come before a pong
QUIET = 0.2  # seconds without a byte, after which what came counts as all
FENCE = f"<iq from='{COMPONENT}' to='{SERVER}' type='get' id='fence'><ping xmlns='urn:xmpp:ping'/></iq>".encode()
TAG = re.compile(rb"""<(/?)([^\s/>]+)(?:[^>"']|"[^"]*"|'[^']*')*>""")


class Stream:
    """A component's side of a stream: literal bytes out, and what comes in cut into header, elements and end."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.raw = b""      # all that came
        self.at = 0         # how much of it is cut
        self.header = b""
        self.parts = []     # header, elements and closing tag as they came
        self.closed = False  # the connection, by the server

    def send(self, data, single=False):
        try:
            for piece in ([data[i:i + 1] for i in range(len(data))] if single else [data]):
                self.sock.sendall(piece)
        except OSError:
            pass  # closed meanwhile: reading will tell

    def read(self, seconds):
        """Reads once, for at most so long; False if nothing came."""
        self.sock.settimeout(max(seconds, 0.001))
        try:
            data = self.sock.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError:
            data = b""
        self.closed = not data
        self.raw += data
        self.cut()
        return True

    def until(self, done, seconds):
        """Reads until done() or the end of the connection or of the time."""
        deadline = time.monotonic() + seconds
        while not done() and not self.closed and time.monotonic() < deadline:
            self.read(deadline - time.monotonic())
        return done()

    def settle(self):
        """Reads until nothing comes for a while."""
        while not self.closed and self.read(QUIET):
            pass

    def cut(self):
        """Cuts what came into parts. Servers send neither comments nor CDATA."""
        depth, start = 0, self.at
        for tag in TAG.finditer(self.raw, self.at):
            text, name = tag.group(), tag.group(2)
            if name.startswith(b"?"):
                continue
            if not self.header:
                self.header = text
                self.parts.append(text)
                start = self.at = tag.end()
                continue
            if depth == 0:
                start = tag.start()
            depth += -1 if tag.group(1) else 0 if text.endswith(b"/>") else 1
            if depth <= 0:  # below zero: the stream's own closing tag
                self.parts.append(self.raw[start:tag.end()])
                self.at = tag.end()
                depth = 0

    def element(self, part):
        return ET.fromstring(self.header + part + b"</stream:stream>")[0]

    def id(self):
        return attribute(self.header, "id")

    def fence(self):
        """Asks for a pong; what came before it is kept, and it is not."""
        def answered():
            return any(b"fence" in p for p in self.parts)
        self.send(FENCE)
        if not self.until(answered, ANSWER):
            return False
        self.parts = [p for p in self.parts if b"fence" not in p]
        return True

    def close(self):
        self.send(b"</stream:stream>")
        self.until(lambda: self.closed, END)
        self.sock.close()


def attribute(tag, name):
    found = re.search(rb"""\s%s=(?:'([^']*)'|"([^"]*)")""" % name.encode(), tag)
    return None if found is None else (found[1] if found[1] is not None else found[2]).decode()


def digest(stream):
    return hashlib.sha1((stream.id() + SECRET).encode()).hexdigest()


def arrive(server, state):
    """Opens a stream and takes it to the state."""
    for _ in range(50):  # the stream before may not be gone yet, where a second one is refused
        s = Stream(server.port)
        if state == NEW:
            return s
        s.send(HEADER.encode())
        if not s.until(lambda: s.header, ANSWER):
            raise SystemExit(f"{server.name}: no header")
        if state == OPEN:
            s.parts.clear()
            return s
        s.send(f"<handshake>{digest(s)}</handshake>".encode())
        s.until(lambda: len(s.parts) > 1, ANSWER)
        if len(s.parts) == 2 and b"handshake" in s.parts[1]:
            s.parts.clear()
            return s
        s.sock.close()
        time.sleep(0.1)
    raise SystemExit(f"{server.name}: no session: {s.raw}")


def play(server, x):
    """Plays one exchange. Returns the outcome in words and the bytes in both directions."""
    if x.state == TWICE:
        return twice(server)
    s = arrive(server, x.state)
    before = len(s.raw)
    sent = x.send
    if x.state == OPEN:
        sent = sent.replace(b"DIGEST", digest(s).encode()).replace(b"UPPER", digest(s).upper().encode())
    s.send(sent, x.single)
    if x.shut:
        s.sock.shutdown(socket.SHUT_WR)
    good, silent = True, any(matches(QUIET_WORD, r) for r in x.right)
    if all(r.endswith("closed") for r in x.right):
        s.until(lambda: s.closed, END)
    elif x.patient:
        s.until(lambda: s.closed, HANDSHAKE + END)
    elif x.state == NEW and not silent:
        s.until(lambda: s.parts, ANSWER)
    if not s.closed:
        s.settle()
    if not s.closed and x.state == SESSION and not x.shut:
        good = s.fence()
        if good and not s.parts and not silent:
            s.until(lambda: s.parts, FAR)  # from a part of the server that is slower than its pong
    words = [describe(s, p, x) for p in s.parts]
    if s.closed:
        words.append("closed")
    elif not good:
        words.append("stuck")
    got = s.raw[before:]
    if s.closed:
        s.sock.close()
    else:
        s.close()
    return ", ".join(words) or QUIET_WORD, normal(got)


def twice(server):
    """A second connection for the name of one that is there."""
    older = arrive(server, SESSION)
    newer = Stream(server.port)
    newer.send(HEADER.encode())
    newer.until(lambda: newer.header, ANSWER)
    newer.send(f"<handshake>{digest(newer)}</handshake>".encode())
    newer.until(lambda: len(newer.parts) > 1, ANSWER)
    newer.settle()
    older.settle()

    def words(s, skip):
        got = [describe(s, p, None) for p in s.parts[skip:]] + (["closed"] if s.closed else [])
        return ", ".join(got) or "stays"
    outcome = f"older {words(older, 0)}; newer {words(newer, 1)}"
    got = b"older: " + older.raw[older.raw.find(b"handshake/>") + 11:] + b"\nnewer: " + newer.raw
    for s in newer, older:
        s.sock.close() if s.closed else s.close()
    return outcome, normal(got)


QUIET_WORD = "nothing"


def matches(outcome, pattern):
    return re.fullmatch(pattern, outcome) is not None


def describe(s, part, x):
    """The words for one part of what came; see exchanges.py."""
    if part.startswith(b"</"):
        return "end"
    if part == s.header:
        return describe_header(part, x is not None and x.strict)
    e = s.element(part)
    space, name = e.tag[1:].split("}")
    if space == STREAMS and name == "error":
        return "stream-error " + condition(e, "urn:ietf:params:xml:ns:xmpp-streams")
    if name not in ("message", "presence", "iq"):
        return name
    kind = e.get("type")
    if kind == "error":
        error = next((c for c in e if c.tag.endswith("}error")), None)
        kind = "error" if error is None else \
            f"error {error.get('type')}/{condition(error, 'urn:ietf:params:xml:ns:xmpp-stanzas')}"
    return " ".join(filter(None, [name, kind])) + doubts(e, part, x)


def describe_header(part, strict):
    name, id = attribute(part, "from"), attribute(part, "id")
    words = "header"
    if strict and not id:
        words += " without id"
    if strict and name is None:
        words += " without from"
    return words if name in (COMPONENT, SERVER, "", None) else f"{words} from={name}"


def condition(error, space):
    names = [c.tag.split("}")[1] for c in error if c.tag.startswith("{" + space + "}") and not c.tag.endswith("}text")]
    return names[0] if names else "without a condition"


def doubts(e, part, x):
    """What is wrong with an answer's id, addresses or content, compared with what was asked."""
    def asked(name):
        return re.findall(rf"\s{name} ?= ?'([^']*)'", x.send.decode("latin1"))
    words, ids = "", asked("id")
    if e.get("id") is None:
        words += " without id"
    elif len(ids) > 1:
        words += " #" + e.get("id")
    elif e.get("id") not in ids:
        words += f" id='{e.get('id')}'"
    for here, there in ("from", "to"), ("to", "from"):
        if asked(there) and bare(e.get(here)) not in map(bare, asked(there)):
            words += f" {here}='{e.get(here)}'"
    lacks = [h for h in x.holds if h not in part.decode().replace('"', "'")]
    return words + (f" lacks {' '.join(lacks)}" if lacks else "")


def bare(address):
    return (address or "").split("/")[0]


NORMAL = [  # what is another at every run, or was asked by us
    (rb"<iq [^>]*id=(['\"])fence\1[^>]*/>", b""),
    (rb"(<stream:stream[^>]*\sid=)(['\"])[^'\"]*\2", rb"\1\2ID\2"),
    (rb"seconds=(['\"])\d+\1", rb"seconds=\1N\1"),
    (rb"<utc>[^<]*</utc>", b"<utc>TIME</utc>"),
    (rb"<tzo>[^<]*</tzo>", b"<tzo>ZONE</tzo>"),
    (rb"<version>[^<]*</version>", b"<version>VERSION</version>"),
    (rb"<os>[^<]*</os>", b"<os>OS</os>"),
]


def normal(data):
    for pattern, by in NORMAL:
        data = re.sub(pattern, by, data)
    return short(data.decode(errors="backslashreplace"))


def short(text):
    """The text with long repetitions cut."""
    return re.sub(r"(.{1,12}?)\1{15,}", lambda m: f"{m[1]}…({len(m[0]):,} characters)", text, flags=re.S)


def judge(x, outcome):
    if any(matches(outcome, r) for r in x.right):
        return "right"
    return "near" if any(matches(outcome, r) for r in x.near) else "wrong"


def run(server):
    """All exchanges against one server, in order: {index: (outcome, bytes)}."""
    server.start()
    try:
        return {i: play(server, x) for i, x in enumerate(EXCHANGES) if not isinstance(x, str)}
    finally:
        server.stop()


# --- what is written ---------------------------------------------------------------------------------------------------

MARK = {"right": "✓", "near": "~", "wrong": "✗"}


def cell(text):
    return text.replace("|", "\\|")


def counts(servers, results):
    rows = ["| | " + " | ".join(f"{s.name} {s.version}".strip() for s in servers) + " |", "|---" * (len(servers) + 1) + "|"]
    exchanges = [(i, x) for i, x in enumerate(EXCHANGES) if not isinstance(x, str)]
    for verdict, title in ("right", "✓ right by the documents"), ("near", "~ all of the MUST, not all of the SHOULD"), ("wrong", "✗ not what the documents say"):
        got = [sum(judge(x, results[s.name][i][0]) == verdict for i, x in exchanges) for s in servers]
        rows.append(f"| {title} | " + " | ".join(map(str, got)) + " |")
    rows.append("| exchanges | " + " | ".join(str(len(exchanges)) for _ in servers) + " |")
    return "\n".join(rows) + "\n"


def tables(servers, results):
    out = []
    for i, x in enumerate(EXCHANGES):
        if isinstance(x, str):
            out.append(f"\n### {x}\n")
            out.append("| what the component sends | what decides | " + " | ".join(s.name for s in servers) + " | why they differ |")
            out.append("|---" * (len(servers) + 3) + "|")
            continue
        outcomes = [results[s.name][i][0] for s in servers]
        row = [x.name, f"{x.law}: {x.rule}"] + [f"{MARK[judge(x, o)]} {o}" for o in outcomes]
        row.append(x.why if len(set(outcomes)) > 1 else "")
        out.append("| " + " | ".join(map(cell, row)) + " |")
    return "\n".join(out) + "\n"


def transcript(servers, results):
    out = ["# Every byte of the comparison\n", "Written by sidebyside.py. DIGEST, ID and TIME stand for what is another at every run.\n"]
    for i, x in enumerate(EXCHANGES):
        if isinstance(x, str):
            out.append(f"\n## {x}\n")
            continue
        how = ", each byte in a packet of its own" if x.single else ""
        how += ", then the connection is shut for writing" if x.shut else ""
        out.append(f"### {x.name}\n\n{x.law}: {x.rule}.\n\nThe component, {x.state}{how}:\n\n{indent(short(x.send.decode(errors='backslashreplace')))}\n")
        for s in servers:
            outcome, got = results[s.name][i]
            out.append(f"{s.name} ({MARK[judge(x, outcome)]} {outcome}):\n\n{indent(got)}\n")
    return "\n".join(out)


def indent(text):
    return "\n".join("    " + line for line in (text or "(nothing)").splitlines())


def between(text, name, new):
    """Puts new between the markers of this name."""
    head, tail = f"<!-- {name}: written by testdata/sidebyside/sidebyside.py -->\n", f"<!-- end of {name} -->\n"
    before, rest = text.split(head)
    return before + head + new + tail + rest.split(tail)[1]


def write(servers, results):
    path = os.path.join(ROOT, "docs", "xmpp.md")
    with open(path) as f:
        text = f.read()
    text = between(text, "counts", counts(servers, results))
    text = between(text, "tables", tables(servers, results))
    with open(path, "w") as f:
        f.write(text)
    with open(os.path.join(HERE, "transcript.md"), "w") as f:
        f.write(transcript(servers, results))


def changed(servers, results):
    """What is not as docs/xmpp.md has it, a line for each, beginning with the server's name."""
    with open(os.path.join(ROOT, "docs", "xmpp.md")) as f:
        text = f.read()
    for s in servers:
        got = column(tables([s], results), s.name)
        had = column(text, s.name)
        for exchange in sorted(got.keys() | had.keys()):
            if got.get(exchange) != had.get(exchange):
                yield f"{s.name} {': '.join(exchange)}: {got.get(exchange)}; docs/xmpp.md: {had.get(exchange)}"


def column(text, server):
    """The cells of a server's column by group and exchange."""
    cells, title, at = {}, "", 0
    for line in text.splitlines():
        row = [c.strip() for c in re.split(r"(?<!\\)\|", line)][1:-1]
        if line.startswith("#"):
            title, at = line.strip("# "), 0
        elif row and row[0] == "what the component sends":
            at = row.index(server)
        elif row and at and not row[0].startswith("---"):
            cells[title, row[0]] = row[at]
    return cells


def unexplained(servers, results):
    """Exchanges whose answers differ without a reason given."""
    return [x.name for i, x in enumerate(EXCHANGES) if not isinstance(x, str)
            and not x.why and len({results[s.name][i][0] for s in servers}) > 1]


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--presenced", metavar="FILE", help="the program; left out, it is built")
    args.add_argument("--only", choices=["Presenced", "Prosody", "ejabberd"], action="append")
    args.add_argument("--check", action="store_true")
    args.add_argument("--write", action="store_true")
    args.add_argument("--json", action="store_true", help="print outcomes and verdicts for programs")
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        binary = args.presenced or os.path.join(folder, "presenced")
        if not args.presenced:
            subprocess.run(["go", "build", "-o", binary, "./cmd/presenced"], cwd=ROOT, check=True)
        servers = [Presenced(folder + "/1", os.path.abspath(binary)), Prosody(folder + "/2"), Ejabberd(folder + "/3")]
        servers = [s for s in servers if not args.only or s.name in args.only]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            results = dict(zip([s.name for s in servers], pool.map(run, servers)))
    if args.json:
        json.dump([{"exchange": x.name, "server": s.name, "outcome": results[s.name][i][0], "verdict": judge(x, results[s.name][i][0])}
                   for i, x in enumerate(EXCHANGES) if not isinstance(x, str) for s in servers], sys.stdout, indent=1)
        return 0
    if args.check:
        print("\n".join(changed(servers, results)))
        return 0
    for i, x in enumerate(EXCHANGES):
        for s in [] if isinstance(x, str) else servers:
            verdict = judge(x, results[s.name][i][0])
            if verdict != "right":
                print(f"{s.name:10} {verdict:6} {x.state}: {x.name}: {results[s.name][i][0]}")
    print(counts(servers, results))
    missing = unexplained(servers, results)
    for name in missing:
        print("differs, and exchanges.py does not say why:", name)
    if args.write:
        if len(servers) < 3 or missing:
            raise SystemExit("nothing written")
        write(servers, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
