"""The list: what a component sends, and which answers the documents allow.

An outcome is one line of words in the order in which things came, for example

    header, stream-error invalid-namespace, end, closed

`header` is the server's stream header, `end` its closing tag, `closed` the end of the connection. A stanza is its kind,
its type and, for an error, type and condition: `iq error cancel/service-unavailable`. What is wrong with an answer's
addresses or id is said behind it. `nothing` is no byte, with the stream still good (a ping behind it was answered).

right, near: regular expressions for whole outcomes. `right` is what the document named in `law` asks for. `near` keeps
every MUST of it but not a SHOULD or a RECOMMENDED. Everything else is wrong. Where a document leaves a choice, all that
it allows is right.
"""

from dataclasses import dataclass, field

from servers import COMPONENT, LIMIT, SERVER

STREAMS = "http://etherx.jabber.org/streams"
HEADER = f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='{STREAMS}' to='{COMPONENT}'>"

NEW, OPEN, SESSION, TWICE = "connected", "after the header", "after the handshake", "while connected already"


@dataclass
class Exchange:
    name: str
    state: str  # what has happened before
    send: bytes  # literal; DIGEST stands for the right one in lower case
    law: str  # document and section
    rule: str  # what they say, in a few words
    right: list
    near: list = field(default_factory=list)
    why: str = ""  # the reason where servers differ
    holds: tuple = ()  # what an answer must have in it
    single: bool = False  # each byte in a packet of its own
    patient: bool = False  # it takes as long as a handshake may
    strict: bool = False  # the id and the from of the server's header count
    shut: bool = False  # our side of the connection is closed behind the bytes


EXCHANGES = []  # with the titles of groups, as strings, between


def group(title):
    EXCHANGES.append(title)


def add(name, state, send, law, rule, right, near=(), **more):
    send = send if isinstance(send, bytes) else send.encode()
    as_list = lambda x: [x] if isinstance(x, str) else list(x)
    EXCHANGES.append(Exchange(name, state, send, law, rule, as_list(right), as_list(near), **more))


def ends(condition):
    """The stream ends with this error, as RFC 6120 §4.9.1.1 says."""
    return f"stream-error {condition}, end, closed"


ANY = "[a-z-]+"
QUIET = "nothing"
FROM = f"a@{COMPONENT}/x"
USER = f"nobody@{SERVER}"


def message(inside="<body>x</body>", to=USER, type="chat", sender=FROM, id=" id='i1'"):
    return f"<message from='{sender}' to='{to}' type='{type}'{id}>{inside}</message>"


def presence(type, to=USER, sender=FROM, id=" id='i1'"):
    kind = f" type='{type}'" if type else ""
    return f"<presence from='{sender}' to='{to}'{kind}{id}/>"


def iq(inside, to=SERVER, type="get", sender=FROM, id=" id='i1'"):
    return f"<iq from='{sender}' to='{to}' type='{type}'{id}>{inside}</iq>"


PING = "<ping xmlns='urn:xmpp:ping'/>"
REFUSED = "message error cancel/service-unavailable"  # how a message to nobody may come back
NOBODY = [REFUSED, QUIET]

# ---------------------------------------------------------------------------------------------------------------------
group("The header")

add("a plain header", NEW, HEADER, "XEP-0114 §3", "the server replies with a header with `from` and `id`", "header", strict=True)
add("an XML declaration before it", NEW, "<?xml version='1.0' encoding='UTF-8'?>\n" + HEADER, "RFC 6120 §11.5",
    "a declaration should come first", "header")
add("double quotes, other order", NEW,
    f'<stream:stream to="{COMPONENT}" xmlns:stream="{STREAMS}" xmlns="jabber:component:accept">', "RFC 6120 §11.3",
    "the same XML", "header")
add("each byte by itself", NEW, HEADER, "RFC 6120 §8", "timing has no meaning", "header", single=True)
add("another prefix for the stream", NEW, HEADER.replace("stream:", "s:").replace(":stream=", ":s=", 1),
    "RFC 6120 §4.8.5", "may be accepted, else `bad-namespace-prefix`", ["header", "header, " + ends("bad-namespace-prefix")],
    "header, " + ends(ANY),
    why="RFC 6120 lets a server insist on `stream:`. Presenced goes by the namespace")
add("the header opened and closed in one tag", NEW, HEADER[:-1] + "/>", "RFC 6120 §4.4",
    "a closed stream is closed in return", "header, end, closed")
add("namespace jabber:client", NEW, HEADER.replace("jabber:component:accept", "jabber:client"), "XEP-0114 §3",
    "MUST be `invalid-namespace`, behind a header", "header, " + ends("invalid-namespace"),
    why="Prosody does not look at the namespace and takes the stream for a component's")
add("namespace jabber:component:connect", NEW, HEADER.replace(":accept", ":connect"), "XEP-0114 §3",
    "MUST be `invalid-namespace`, behind a header", "header, " + ends("invalid-namespace"),
    why="The other direction of XEP-0114, which none of the three speaks. ejabberd says that it is invalid but not what; "
    "Prosody as for `jabber:client`")
add("wrong stream namespace", NEW, HEADER.replace(STREAMS, "urn:x"), "RFC 6120 §4.8.1",
    "MUST end, SHOULD be `invalid-namespace`", "header, " + ends("invalid-namespace"), "header, " + ends(ANY))
add("undeclared stream prefix", NEW, f"<stream:stream xmlns='jabber:component:accept' to='{COMPONENT}'>", "RFC 6120 §11.3",
    "MUST be `not-well-formed`", "header, " + ends("not-well-formed"), "header, " + ends("bad-format"))  # §4.9.3.1 allows bad-format for all of XML
add("no `to`", NEW, HEADER.replace(f" to='{COMPONENT}'", ""), "XEP-0114 §3, RFC 6120 §4.7.3, §4.9.1.3",
    "a stream error behind a header with an id, whose `from` is the server's own name or empty", "header, " + ends(ANY), strict=True,
    why="RFC 6120 wants a whole header even before an error. Where another rule decides, what a server leaves out of "
    "the header of an error is not held against it")
add("empty `to`", NEW, HEADER.replace(COMPONENT, ""), "XEP-0114 §3", "a stream error", "header, " + ends(ANY),
    why="No document has a condition for this. Presenced says what is wrong with the header, whatever it is")
add("`to` that is no address", NEW, HEADER.replace(COMPONENT, "a b"), "XEP-0114 §3", "a stream error", "header, " + ends(ANY),
    why="As for an empty one")
add("a name that nobody has", NEW, HEADER.replace(COMPONENT, "none.example") + "<handshake>0</handshake>",
    "XEP-0114 §3, RFC 6120 §4.7.3, §4.9.1.3",
    "a stream error behind a header with an id, whose `from` is the server's own name or empty", "header, " + ends(ANY), strict=True,
    why="Presenced and ejabberd answer as for a name that exists and refuse the handshake, so that nobody can find out "
    "which apps there are: against the letter, on purpose. Prosody names the reason in a header that is not whole")
add("the server's own name", NEW, HEADER.replace(COMPONENT, SERVER) + "<handshake>0</handshake>", "XEP-0114 §3",
    "a stream error", "header, " + ends(ANY),
    why="`conflict` and `host-unknown` are the examples of the XEP. Presenced: as for a name that nobody has")
add("a stanza in its place", NEW, message(), "RFC 6120 §4.8.1", "MUST end, SHOULD be `invalid-namespace`",
    "header, " + ends("invalid-namespace"), "header, " + ends(ANY),
    why="The root of a stream is `<stream/>` in the stream namespace; this one has no namespace at all")
add("an HTTP request", NEW, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "RFC 6120 §11.3", "MUST be `not-well-formed`",
    "header, " + ends("not-well-formed"), "header, " + ends("bad-format"))
add("a comment before it", NEW, "<!-- x -->" + HEADER, "RFC 6120 §11.1", "MUST end, SHOULD be `restricted-xml`",
    "header, " + ends("restricted-xml"), "header, " + ends(ANY),
    why="Prosody's parser has one answer for all that it refuses; ejabberd does not see comments")
add("a DTD before it", NEW, "<!DOCTYPE stream>" + HEADER, "RFC 6120 §11.1", "MUST end, SHOULD be `restricted-xml`",
    "header, " + ends("restricted-xml"), "header, " + ends(ANY),
    why="As for comments")
add("declared as latin1", NEW, "<?xml version='1.0' encoding='ISO-8859-1'?>" + HEADER, "RFC 6120 §11.6",
    "MUST end, SHOULD be `unsupported-encoding`", "header, " + ends("unsupported-encoding"), "header, " + ends(ANY),
    why="Who declares latin1 and sends ASCII has declared another encoding all the same; only Presenced reads the declaration")
add("in UTF-16", NEW, HEADER.encode("utf-16"), "RFC 6120 §11.6", "MUST end, SHOULD be `unsupported-encoding`",
    "header, " + ends("unsupported-encoding"), "header, " + ends(ANY),
    why="The parser under the two others detects UTF-16 by itself and accepts it")
add("a byte order mark before it", NEW, b"\xef\xbb\xbf" + HEADER.encode(), "RFC 6120 §11.6, §11.3",
    "it is a character like others, so text before the root: `not-well-formed`", "header, " + ends("not-well-formed"),
    "header, " + ends("bad-format"),
    why="XML lets a document begin with a mark, RFC 6120 takes that back. The parser under the two others follows XML")
add("version='1.0'", NEW, HEADER[:-1] + " version='1.0'>", "XEP-0114 §3, RFC 6120 §4.7.5",
    "XEP-0114 has neither version nor features", ["header", "header, features"])

# ---------------------------------------------------------------------------------------------------------------------
group("The handshake")

add("the right digest", OPEN, "<handshake>DIGEST</handshake>", "XEP-0114 §3", "MUST be an empty handshake", "handshake")
add("the digest in upper case", OPEN, "<handshake>UPPER</handshake>", "XEP-0114 §3",
    "the sender makes it lower case; nothing on a receiver that is less strict", ["handshake", ends("not-authorized")],
    why="ejabberd compares strings. Old libraries do send upper case, so Presenced and Prosody compare what they mean")
add("a wrong digest", OPEN, "<handshake>" + 40 * "0" + "</handshake>", "XEP-0114 §3",
    "MUST close, SHOULD be `not-authorized`", ends("not-authorized"), [ends(ANY), "end, closed"])
add("an empty handshake", OPEN, "<handshake/>", "XEP-0114 §3", "MUST close, SHOULD be `not-authorized`",
    ends("not-authorized"), [ends(ANY), "end, closed"])
add("a handshake of another namespace", OPEN, "<handshake xmlns='urn:x'>DIGEST</handshake>", "RFC 6120 §4.8.4",
    "MUST be ignored or end the stream, SHOULD be `unsupported-stanza-type`, or `not-authorized` (§4.9.3.12)",
    [ends("unsupported-stanza-type"), ends("not-authorized"), QUIET], ends(ANY),
    why="Who has not authenticated is told so first")
add("a message before it", OPEN, message(), "RFC 6120 §4.3.5", "MUST be `not-authorized`", ends("not-authorized"),
    why="Prosody refuses the stanza and not the stream: nothing is delivered, but whoever has no secret may stay")
add("an iq before it", OPEN, iq(PING, to=USER), "RFC 6120 §4.3.5", "MUST be `not-authorized`", ends("not-authorized"),
    why="As for messages")
add("a comment before it", OPEN, "<!-- x -->", "RFC 6120 §11.1", "MUST end, SHOULD be `restricted-xml`",
    ends("restricted-xml"), ends(ANY), why="As for comments elsewhere")
add("none at all", OPEN, "", "RFC 6120 §4.9.1.1, §4.9.3.4", "no document sets a time; an end needs an error",
    [QUIET, ends(ANY)], patient=True,
    why="Presenced has 10 s by default and ejabberd two minutes (6 s for both in this run); Prosody waits for the network's own limit")
add("the stream is closed instead", OPEN, "</stream:stream>", "RFC 6120 §4.4", "closed in return", "end, closed")
add("two connections for one name", TWICE, "", "RFC 6120 §4.9.3.3, XEP-0114 §3",
    "no document says who wins; who loses is told `conflict`",
    ["older " + ends("conflict") + "; newer handshake", "older stays; newer " + ends("conflict"), "older stays; newer handshake"],
    why="`replace` is Presenced's default (a crashed app comes back at once), `reject` and `share` are settings. Prosody "
    "refuses the newer one by default, ejabberd lets both in and shares out stanzas")

# ---------------------------------------------------------------------------------------------------------------------
group("XML that XMPP forbids")

RESTRICTED = dict(law="RFC 6120 §11.1", rule="MUST end, SHOULD be `restricted-xml`", right=ends("restricted-xml"), near=ends(ANY))
add("a comment between stanzas", SESSION, "<!-- x -->", **RESTRICTED,
    why="Prosody's parser has one condition for all; ejabberd's drops comments without a word, which the RFC forbids")
add("a comment in a stanza", SESSION, message("<body>x<!-- y --></body>"), **RESTRICTED, why="As between stanzas")
add("a processing instruction", SESSION, "<?x y?>", **RESTRICTED, why="As for comments")
add("a DTD", SESSION, "<!DOCTYPE a [<!ENTITY b 'c'>]>", "RFC 6120 §11.1, §11.3", "MUST end: `restricted-xml`, or `not-well-formed`",
    [ends("restricted-xml"), ends("not-well-formed")], ends(ANY),
    why="It is forbidden, and in the middle of a document it is malformed too. Presenced names the rule of XMPP")
add("an entity that only a DTD could declare", SESSION, message("<body>&nbsp;</body>"), "RFC 6120 §11.1, §11.3",
    "MUST end: `restricted-xml`, or `not-well-formed`", [ends("restricted-xml"), ends("not-well-formed")], ends(ANY),
    why="It breaks two rules. Presenced names the one that tells the programmer what to do")
add("an XML declaration in the middle", SESSION, "<?xml version='1.0'?>", "RFC 6120 §11.3",
    "MUST be `not-well-formed`", [ends("not-well-formed"), ends("restricted-xml")], ends("bad-format"))

group("XML that is none")

MALFORMED = dict(law="RFC 6120 §11.3", rule="MUST be `not-well-formed`", right=ends("not-well-formed"), near=ends("bad-format"))
NAMESPACES = dict(law="RFC 6120 §11.3", rule="MUST be `not-well-formed`, or the stanza `not-acceptable`",
                  right=[ends("not-well-formed"), "message error modify/not-acceptable"], near=ends("bad-format"))
add("tags that do not match", SESSION, "<message></iq>", **MALFORMED)
add("a closing tag of nothing", SESSION, "</message>", **MALFORMED)
add("an attribute twice", SESSION, f"<message from='{FROM}' to='{USER}' to='{USER}'/>", **MALFORMED)
add("`<` in an attribute", SESSION, f"<message from='{FROM}' to='{USER}' id='<'/>", **MALFORMED)
add("`&` by itself", SESSION, message("<body>a & b</body>"), **MALFORMED)
add("`]]>` in text", SESSION, message("<body>a]]>b</body>"), **MALFORMED)
add("a control character", SESSION, message("<body>\x01</body>"), **MALFORMED)
add("a reference to a control character", SESSION, message("<body>&#1;</body>"), **MALFORMED)
add("U+FFFE", SESSION, message("<body>\ufffe</body>"), **MALFORMED)
add("bytes that are not UTF-8", SESSION, message("<body>\xff</body>").encode("latin1"), "RFC 6120 §4.9.3.22, §11.3",
    "MUST end: `unsupported-encoding` or `not-well-formed`", [ends("not-well-formed"), ends("unsupported-encoding")], ends(ANY))
add("an overlong encoding", SESSION, message("<body>X</body>").encode().replace(b"X", b"\xc0\xaf"), "RFC 6120 §4.9.3.22, §11.3",
    "MUST end: `unsupported-encoding` or `not-well-formed`", [ends("not-well-formed"), ends("unsupported-encoding")], ends(ANY))
add("an undeclared prefix on an element", SESSION, message("<x:y/>"), **NAMESPACES)
add("an undeclared prefix on an attribute", SESSION, message("<body x:y='z'>x</body>"), **NAMESPACES)
add("one attribute by two prefixes", SESSION, message("<y xmlns='urn:y' xmlns:a='urn:x' xmlns:b='urn:x' a:z='1' b:z='2'/>"),
    **NAMESPACES)
add("a prefix bound to nothing", SESSION, message("<y xmlns='urn:y' xmlns:a=''/>"), **NAMESPACES)

group("XML that must pass")

add("CDATA", SESSION, message("<body><![CDATA[a < b]]></body>"), "XML 1.0 §2.7, RFC 6120 §11.1", "not among what is forbidden", NOBODY)
add("character references and predefined entities", SESSION, message("<body>&#65;&#x42;&amp;&lt;&gt;&quot;&apos;</body>"),
    "RFC 6120 §11.1", "are allowed", NOBODY)
add("characters beyond the first plane", SESSION, message("<body>\U0001f600</body>"), "RFC 6120 §11.6", "all of UTF-8", NOBODY)
add("a prefix declared where it is used", SESSION, message("<body>x</body><y:z xmlns:y='urn:y'/>"), "RFC 6120 §11.2", "is allowed", NOBODY)
add("white space inside of tags", SESSION, f"<message\n from = '{FROM}'\tto='{USER}' type='chat' id='i1' ><body >x</body\n></message >",
    "XML 1.0 §3.1", "is allowed", NOBODY)
add("a stanza with its namespace spelled out", SESSION, message().replace("<message", "<message xmlns='jabber:component:accept'"),
    "RFC 6120 §4.8.2", "the same stanza", NOBODY)

# ---------------------------------------------------------------------------------------------------------------------
group("Sizes")


def sized(n):
    """A message of n bytes to nobody."""
    return message("<body>" + (n - len(message("<body></body>"))) * "x" + "</body>")


LAW = "RFC 6120 §13.12"
add("a stanza of 10,000 bytes", SESSION, sized(LIMIT), LAW, "no limit may be lower; counted from `<` to `>`", NOBODY)
add("one byte more than the limit", SESSION, sized(LIMIT + 1), LAW, "MUST be `policy-violation`, of the stanza or of the stream",
    [ends("policy-violation"), "message error (modify|wait)/policy-violation"],
    why="Prosody looks at its limit when a packet has been read, so some kilobytes more get through")
add("a stanza that goes on and on", SESSION, message("<body>" + 40_000 * "x" + "</body>")[:-30], LAW,
    "MUST be `policy-violation`", ends("policy-violation"), why="Prosody's parser has one condition for all that it refuses")
add("a name of 5,000 bytes", SESSION, message("<" + 5000 * "n" + "/>"), LAW, "a bound of one's own is a policy",
    NOBODY + [ends("policy-violation")], why="Presenced bounds names at 256 bytes")
add("1,000 elements deep", SESSION, message("<y xmlns='urn:y'>" + 999 * "<a>" + 999 * "</a>" + "</y>"), LAW,
    "a bound of one's own is a policy", NOBODY + [ends("policy-violation")],
    why="Presenced takes 64 levels: depth costs memory and time in all that comes behind the parser, and no extension has ten")
add("300 attributes", SESSION, message("<y xmlns='urn:y'" + "".join(f" a{i}='{i}'" for i in range(300)) + "/>"), LAW,
    "a bound of one's own is a policy", NOBODY + [ends("policy-violation")], why="Presenced takes 64")

# ---------------------------------------------------------------------------------------------------------------------
group("Between stanzas")

add("white space", SESSION, " \n\t\r\n ", "RFC 6120 §4.6.1, §11.7", "is a sign of life", QUIET)
add("text", SESSION, "hello", "RFC 6120 §11.7, §4.9.3.1", "only white space may stand there; no section names the answer",
    [ends(ANY), QUIET], why="Presenced says `bad-format`: the XML is good, and cannot be processed")
add("three stanzas in one packet", SESSION,
    iq(PING, id=" id='i1'") + iq("<x xmlns='urn:x'/>", id=" id='i2'") + iq(PING, id=" id='i3'"), "RFC 6120 §10.1",
    "handled in order", "iq result #i1, iq error cancel/service-unavailable #i2, iq result #i3",
    "iq result #i1, iq error cancel/feature-not-implemented #i2, iq result #i3")
add("a stanza, each byte by itself", SESSION, iq(PING), "RFC 6120 §8", "timing has no meaning", "iq result", single=True)
UNKNOWN = dict(law="RFC 6120 §4.8.4", rule="MUST be ignored or end the stream, SHOULD be `unsupported-stanza-type`",
               right=[ends("unsupported-stanza-type"), QUIET], near=ends(ANY))
add("an element that nobody knows", SESSION, "<hello/>", **UNKNOWN,
    why="Both are allowed. Presenced ends the stream: a program that sends it waits for an answer that would never come. "
    "Prosody answers it as if it were a stanza")
add("an element of another namespace", SESSION, "<hello xmlns='urn:x'/>", **UNKNOWN, why="As before")
add("a second handshake", SESSION, "<handshake/>", **UNKNOWN, why="As before")
add("an element of the stream namespace", SESSION, "<stream:hello/>", **UNKNOWN, why="As before")
add("a stanza in jabber:client", SESSION, message().replace("<message", "<message xmlns='jabber:client'"), "RFC 6120 §4.8.3",
    "a content namespace that is not spoken here: MUST be `invalid-namespace`", ends("invalid-namespace"),
    why="A stream has one content namespace. The two others look at the element's name and take it for one of theirs")
add("a stream error from the component", SESSION,
    "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>", "RFC 6120 §4.9.1.1",
    "closed in return (SHALL), and no error", "end, closed")

# ---------------------------------------------------------------------------------------------------------------------
group("Addresses")

NO_FROM = dict(law="XEP-0114 §3, RFC 6120 §8.1.2.2", rule="MUST be `improper-addressing`", right=ends("improper-addressing"))
BAD_FROM = dict(law="XEP-0114 §3, RFC 6120 §8.1.2.2", rule="MUST end: `improper-addressing` for what is no address, `invalid-from` for another's",
                right=[ends("improper-addressing"), ends("invalid-from")])
NOT_OURS = dict(law="XEP-0114 §3, RFC 6120 §8.1.2.2", rule="MUST be `invalid-from`", right=ends("invalid-from"))
NO_TO = dict(law="XEP-0114 §3, RFC 6120 §8.1.1.2", rule="MUST be `improper-addressing`", right=ends("improper-addressing"))
add("no `from`", SESSION, message().replace(f" from='{FROM}'", ""), **NO_FROM, why="Prosody 0.12 puts the component's name in its place")
add("an empty `from`", SESSION, message(sender=""), **BAD_FROM,
    why="Both rules are broken; §8.1.2.2 asks first whether it is an address. ejabberd refuses the stanza and not the stream")
add("a `from` that is no address", SESSION, message(sender=f"a b@{COMPONENT}"), **BAD_FROM,
    why="As for an empty one. The two others send an error to an address that is none, which §8.3.1 is against")
add("somebody else's `from`", SESSION, message(sender="a@other.example"), **NOT_OURS)
add("a `from` of a subdomain", SESSION, message(sender=f"a@b.{COMPONENT}"), **NOT_OURS)
add("the server's own `from`", SESSION, message(sender=SERVER), **NOT_OURS)
add("a `from` with our name in the resource", SESSION, message(sender=f"other.example/@{COMPONENT}"), **NOT_OURS)
add("a message without `to`", SESSION, message().replace(f" to='{USER}'", ""), **NO_TO,
    why="Prosody refuses the stanza and not the stream")
add("an iq without `to`", SESSION, iq(PING).replace(f" to='{SERVER}'", ""), **NO_TO, why="As for a message")
add("presence without `to`", SESSION, presence("").replace(f" to='{USER}'", ""), **NO_TO, why="As for a message")
BAD_TO = dict(law="RFC 6120 §8.1.1.2, §8.3.3.8", rule="`improper-addressing` ends the stream, or the stanza is `jid-malformed`",
              right=[ends("improper-addressing"), "message error modify/jid-malformed.*"], near="message error .*")
add("an empty `to`", SESSION, message(to=""), **BAD_TO,
    why="Presenced takes it for none: a program that does not know whom it writes to is broken")
add("a `to` that is no address", SESSION, message(to=f"a b@{SERVER}"), **BAD_TO,
    why="Presenced takes the milder of the two: one bad address in a list should not cost the connection")
add("a domain that is not there", SESSION, message(to="x@other.example"), "RFC 6120 §10.4, §10.4.3",
    "MUST be an error: `remote-server-not-found`, unless there is a policy against other domains",
    ["message error cancel/remote-server-not-found", "message error cancel/not-allowed"],
    why="Prosody's part for other servers is switched off here, and it says so. Presenced never speaks to other servers")

# ---------------------------------------------------------------------------------------------------------------------
group("Messages to nobody")

UNKNOWN_USER = dict(law="RFC 6121 §8.5.1", rule="MUST be ignored or `service-unavailable`", right=NOBODY)
add("a chat message", SESSION, message(), **UNKNOWN_USER)
add("without an id", SESSION, message(id=""), "RFC 6121 §8.5.1, RFC 6120 §8.3.1", "as before; the error's id is none or empty", [REFUSED + "( without id| id='')", QUIET])
add("without a body", SESSION, message("<x xmlns='urn:x'/>"), **UNKNOWN_USER,
    why="Chat states and markers get no answer from Presenced, for whomever they are: it would tell nothing and cost a stanza")
add("a headline", SESSION, message(type="headline"), **UNKNOWN_USER,
    why="The summary in RFC 6121 §8.5.4 has silence only, the rule in §8.5.1 both. An app that misspelled an address should hear of it")
add("a groupchat", SESSION, message(type="groupchat"), **UNKNOWN_USER)
add("of a type that nobody knows", SESSION, message(type="foo"), "RFC 6121 §5.2.2, §8.5.1", "is taken as normal", NOBODY, "message error .*")
add("an error", SESSION, message("<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>", type="error"),
    "RFC 6120 §8.3.1", "MUST NOT be answered by an error", QUIET)
add("to the server itself", SESSION, message(to=SERVER), "RFC 6120 §10.5.1", "is handled, or an error comes back",
    [QUIET, "message error .*"], why="No document names the condition")
add("to a resource of nobody", SESSION, message(to=USER + "/r"), "RFC 6121 §8.5.1, RFC 6120 §13.10.2",
    "as without a resource", NOBODY)

group("Presence to nobody")

add("available", SESSION, presence(""), "RFC 6121 §8.5.1", "MUST be ignored", QUIET)
add("unavailable", SESSION, presence("unavailable"), "RFC 6121 §8.5.1", "MUST be ignored", QUIET)
for kind in "subscribe", "subscribed", "unsubscribe", "unsubscribed":
    add(kind, SESSION, presence(kind), "RFC 6121 §8.5.1", "MUST be ignored", QUIET,
        why="Only silence does not tell whether there is somebody")
add("a probe", SESSION, presence("probe"), "RFC 6121 §8.5.1, §4.3.2", "is ignored, or answered `unsubscribed`",
    [QUIET, "presence unsubscribed( without id)?"],
    why="Both are allowed. Presenced answers: an app that asks learns that the grant is gone, and so does one that never had it")
add("of a type that nobody knows", SESSION, presence("foo"), "RFC 6121 §4.7.1", "SHOULD be `bad-request`",
    "presence error modify/bad-request", [QUIET, "presence error .*"])
add("an error", SESSION, presence("error"), "RFC 6120 §8.3.1", "MUST NOT be answered by an error", QUIET)

# ---------------------------------------------------------------------------------------------------------------------
group("Questions to the server")

add("ping", SESSION, iq(PING), "XEP-0199 §4", "an empty result", "iq result")
add("disco#info", SESSION, iq("<query xmlns='http://jabber.org/protocol/disco#info'/>"), "XEP-0030 §3.1",
    "an identity and the feature itself", "iq result", holds=("<identity ", "http://jabber.org/protocol/disco#info'"))
add("disco#info of a node that is not there", SESSION, iq("<query xmlns='http://jabber.org/protocol/disco#info' node='n'/>"),
    "XEP-0030 §7", "`item-not-found`", "iq error cancel/item-not-found", "iq error .*")
add("disco#items", SESSION, iq("<query xmlns='http://jabber.org/protocol/disco#items'/>"), "XEP-0030 §4.1",
    "a result, empty if there are none", "iq result")
add("disco#items of a node that is not there", SESSION, iq("<query xmlns='http://jabber.org/protocol/disco#items' node='n'/>"),
    "XEP-0030 §7", "`item-not-found`", "iq error cancel/item-not-found", "iq error .*")
add("version", SESSION, iq("<query xmlns='jabber:iq:version'/>"), "XEP-0092 §2", "name and version", "iq result",
    holds=("<name>", "<version>"))
add("last activity", SESSION, iq("<query xmlns='jabber:iq:last'/>"), "XEP-0012 §5", "seconds since it runs", "iq result",
    holds=("seconds=",))
add("time", SESSION, iq("<time xmlns='urn:xmpp:time'/>"), "XEP-0202 §2", "zone and UTC", "iq result", holds=("<tzo>", "<utc>"))
add("a get of a namespace that nobody knows", SESSION, iq("<x xmlns='urn:x'/>"), "RFC 6120 §8.4", "MUST be `service-unavailable`",
    "iq error cancel/service-unavailable")
add("a set of it", SESSION, iq("<x xmlns='urn:x'/>", type="set"), "RFC 6120 §8.4", "MUST be `service-unavailable`",
    "iq error cancel/service-unavailable")
add("a ping as set", SESSION, iq(PING, type="set"), "XEP-0199 §4, RFC 6120 §8.2.3", "MUST be answered, by an error", "iq error .*",
    why="A ping is a get; no document names the condition")
add("to a resource of the server", SESSION, iq(PING, to=SERVER + "/r"), "RFC 6120 §10.5.2", "is handled, or an error comes back",
    ["iq result", "iq error .*"], why="Nothing lives there in any of the three")

group("Iq that is wrong")

BAD = "iq error modify/bad-request"
add("without an id", SESSION, iq(PING, id=""), "RFC 6120 §8.2.3, §8.3.1", "MUST be answered, with an id that is empty",
    [BAD + " id=''", "iq result id=''"], why="The id is required in an answer even where there was none to repeat")
add("without a type", SESSION, iq(PING).replace(" type='get'", ""), "RFC 6120 §8.2.3", "MUST be `bad-request`", BAD,
    why="Prosody drops it without a word, and whoever asked waits")
add("of a type that nobody knows", SESSION, iq(PING, type="subscribe"), "RFC 6120 §8.2.3", "MUST be `bad-request`", BAD,
    why="Prosody takes it for a question that nobody understands")
add("without a payload", SESSION, iq(""), "RFC 6120 §8.2.3, §8.3.3.1", "MUST be an error; `bad-request` is for what breaks the syntax",
    BAD, "iq error .*", why="Prosody drops it without a word, and whoever asked waits")
add("with two payloads", SESSION, iq(PING + "<x xmlns='urn:x'/>"), "RFC 6120 §8.2.3, §8.3.3.1",
    "MUST have exactly one: an error", BAD, "iq error .*", why="Prosody answers the first, and so guesses which was meant")
add("a result that nobody waits for", SESSION, iq("", type="result"), "RFC 6120 §8.2.3", "MUST NOT be answered", QUIET)
add("an error that nobody waits for", SESSION,
    iq(PING + "<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>", type="error"),
    "RFC 6120 §8.2.3", "MUST NOT be answered", QUIET)
add("a result for nobody", SESSION, iq("", to=USER, type="result"), "RFC 6120 §8.2.3", "MUST NOT be answered", QUIET)
add("an error for nobody", SESSION, iq("<error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>", to=USER, type="error"),
    "RFC 6120 §8.2.3", "MUST NOT be answered", QUIET)
add("a result for a domain that is not there", SESSION, iq("", to="other.example", type="result"), "RFC 6120 §8.2.3",
    "MUST NOT be answered", QUIET)

group("Questions to nobody")

NO_USER = dict(law="RFC 6121 §8.5.1", rule="MUST be `service-unavailable`", right="iq error cancel/service-unavailable")
for name, query in [
    ("ping", PING), ("disco#info", "<query xmlns='http://jabber.org/protocol/disco#info'/>"),
    ("disco#items", "<query xmlns='http://jabber.org/protocol/disco#items'/>"), ("version", "<query xmlns='jabber:iq:version'/>"),
    ("last activity", "<query xmlns='jabber:iq:last'/>"), ("vCard", "<vCard xmlns='vcard-temp'/>"), ("a namespace that nobody knows", "<x xmlns='urn:x'/>"),
]:
    add(name, SESSION, iq(query, to=USER), **NO_USER,
        why="The same answer to every question is what keeps an account from being found; a condition of its own gives it away")

# ---------------------------------------------------------------------------------------------------------------------
group("The end")

add("the closing tag", SESSION, "</stream:stream>", "RFC 6120 §4.4", "closed in return", "end, closed")
add("a question, then the closing tag", SESSION, iq(PING) + "</stream:stream>", "RFC 6120 §4.4",
    "what is to be said is said first", "iq result, end, closed", "end, closed",
    why="The other side may finish what it has to send, says §4.4")
add("a question behind the closing tag", SESSION, "</stream:stream>" + iq(PING), "RFC 6120 §4.4", "nobody reads on", "end, closed")
add("the connection is shut for writing", SESSION, "", "RFC 6120 §4.4, §4.6.1", "the stream is over", ["end, closed", "closed"],
    shut=True, why="Nobody said goodbye, so nobody has to; Presenced does, since the way back may still be open")
add("a question, then the connection is shut", SESSION, iq(PING), "RFC 6120 §4.4", "the stream is over; the answer may still come",
    ["iq result, closed", "iq result, end, closed", "end, closed", "closed"], shut=True,
    why="Presenced answers who has shut only its own side")
add("shut in the middle of a stanza", SESSION, message()[:-8], "RFC 6120 §8", "MUST NOT be processed", ["end, closed", "closed"],
    shut=True, why="As before: Presenced closes its side too")
