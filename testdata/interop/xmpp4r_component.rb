# An app service on xmpp4r 0.5.6, driven line by line: see README.md.
#
# What is good to know about xmpp4r:
# - It answers nothing by itself, neither pings nor unknown iqs; a component does both here.
# - It never sets a from, which a component needs on every stanza (XEP-0114 §3). Iq#answer does exchange the addresses.
# - It declares the namespace jabber:client on component streams to itself, so that its classes match.
# - send_with_id waits for ever if the stream ends before the answer; so answers are callbacks here.
# - on_exception may be called more than once for one stream, and from a thread of its own.
# - It does not reconnect; each try has a new component.

require "json"
require "xmpp4r"

$stdout.sync = true

PING = "urn:xmpp:ping"
DISCO = "http://jabber.org/protocol/disco#info"
DELAY = "urn:xmpp:delay"
RECEIPTS = "urn:xmpp:receipts"
STREAMS = "urn:ietf:params:xml:ns:xmpp-streams"

def tell(event, **fields)
  puts JSON.generate({event: event, **fields.compact})
end

# element makes a child of parent with a namespace of its own, or that of parent.
def element(parent, name, ns: nil, text: nil)
  e = parent.add_element(name)
  e.add_namespace(ns) if ns
  e.text = text if text
  e
end

def child(parent, name, ns)
  parent.elements.find { |e| e.name == name && e.namespace == ns }
end

class App
  def initialize(cfg)
    @cfg = cfg
    @again = cfg["reconnect"]
    @tries = 0
  end

  # run connects, and again whenever the stream is lost.
  def run
    loop do
      connect
      break unless @again
      sleep([0.05 * 2**@tries, 3].min)
      @tries += 1
    end
  end

  # connect returns when the stream has ended.
  def connect
    ended = Queue.new
    stream = Jabber::Component.new(@cfg["jid"])
    stream.on_exception { |_, _, _| ended << true }
    listen(stream)
    stream.connect(@cfg["host"], @cfg["port"])
    stream.auth(@cfg["secret"])
    @stream = stream
    @tries = 0
    tell("connected")
    ended.pop
  rescue SystemCallError, Jabber::JabberError => e
    warn e.message
  ensure
    tell("disconnected")
  end

  def listen(stream)
    stream.add_xml_callback { |e| e.prefix == "stream" && e.name == "error" && stream_error(e) }
    stream.add_presence_callback { |p| presence(p) }
    stream.add_message_callback { |m| message(m) }
    stream.add_iq_callback { |iq| iq(stream, iq) }
  end

  # stream_error returns false, for others want to see it too: auth fails by it.
  def stream_error(e)
    condition = e.elements.find { |c| c.namespace == STREAMS && c.name != "text" }
    tell("stream-error", condition: condition&.name)
    false
  end

  def told(event, stanza, **fields)
    tell(event, from: stanza.from.to_s, to: stanza.to.to_s, id: stanza.id, **fields)
  end

  def error(stanza)
    told("error", stanza, stanza: stanza.name, condition: stanza.error&.error, type: stanza.error&.type)
  end

  def presence(p)
    return error(p) if p.type == :error
    told("presence", p, type: p.type, show: p.show, delay: child(p, "delay", DELAY)&.attributes&.[]("stamp"))
  end

  def message(m)
    return error(m) if m.type == :error
    receipt = child(m, "received", RECEIPTS)
    return tell("receipt", from: m.from.to_s, to: m.to.to_s, id: receipt.attributes["id"]) if receipt
    told("message", m, body: m.body)
  end

  def iq(stream, iq)
    case iq.type
    when :error
      error(iq)
    when :result
      query = child(iq, "query", DISCO)
      told("result", iq, features: query&.elements&.to_a("feature")&.map { |f| f.attributes["var"] })
    else
      request(stream, iq)
    end
  end

  def request(stream, iq)
    answer = iq.answer(false)
    if child(iq, "ping", PING)
      answer.type = :result
      told("pinged", iq)
    else
      answer.type = :error
      answer.add(Jabber::ErrorResponse.new("service-unavailable"))
    end
    stream.send(answer)
  end

  # carry_out does what a command says.
  def carry_out(c)
    case c["do"]
    when "crash" then exit!(3)
    when "disconnect" then leave
    when "message" then post(c, Jabber::Message.new) { |m| fill(m, c) }
    when "presence" then post(c, Jabber::Presence.new) { |p| element(p, "status", text: c["status"]) if c["status"] }
    when "ping" then post(c, Jabber::Iq.new(:get)) { |iq| element(iq, "ping", ns: PING) }
    when "disco" then post(c, Jabber::Iq.new(:get)) { |iq| element(iq, "query", ns: DISCO) }
    end
  end

  def post(c, stanza)
    stanza.to = c["to"]
    stanza.from = c["from"] || @cfg["jid"]
    stanza.id = c["id"] if c["id"]
    stanza.attributes["type"] = c["type"] if c["type"]
    yield stanza
    @stream.send(stanza)
  end

  def fill(m, c)
    m.body = c["body"] if c["body"]
    element(m, "request", ns: RECEIPTS) if c["receipt"]
    element(m, "nick", ns: "http://jabber.org/protocol/nick", text: c["nick"]) if c["nick"]
    element(element(m, "x", ns: "jabber:x:oob"), "url", text: c["url"]) if c["url"]
  end

  def leave
    @again = false
    @stream&.close # which does not count as an exception
    tell("disconnected")
    exit!(0)
  end
end

app = App.new(JSON.parse($stdin.gets || exit(1)))
Thread.new do
  Thread.current.abort_on_exception = true
  $stdin.each_line { |line| app.carry_out(JSON.parse(line)) }
  app.leave
end
app.run
