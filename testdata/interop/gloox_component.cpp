// An app service on gloox 1.0, driven line by line: see README.md.
//
// What is good to know about gloox:
// - It answers pings by itself (XEP-0199), and other requests with an error.
// - It sets no from on what it makes by itself. For its answers to pings the gateway makes an exception; the questions
//   of Disco and xmppPing would end the stream (XEP-0114 §3), so they are built here.
// - A stream error is known by a number only, see stream_conditions; its text is streamErrorText().
// - A connection can only be made anew outside of its own callbacks.

#include <memory>
#include <string>

#include <gloox/component.h>
#include <gloox/connectionlistener.h>
#include <gloox/delayeddelivery.h>
#include <gloox/disco.h>
#include <gloox/error.h>
#include <gloox/iqhandler.h>
#include <gloox/loghandler.h>
#include <gloox/message.h>
#include <gloox/messagehandler.h>
#include <gloox/nickname.h>
#include <gloox/oob.h>
#include <gloox/presence.h>
#include <gloox/presencehandler.h>
#include <gloox/receipt.h>
#include <gloox/subscription.h>
#include <gloox/subscriptionhandler.h>

#include "lines.h"

using namespace gloox;

// In the order of gloox::StreamError.
static const char *stream_conditions[] = {
    "bad-format", "bad-namespace-prefix", "conflict", "connection-timeout", "host-gone", "host-unknown",
    "improper-addressing", "internal-server-error", "invalid-from", "invalid-id", "invalid-namespace", "invalid-xml",
    "not-authorized", "policy-violation", "remote-connection-failed", "resource-constraint", "restricted-xml",
    "see-other-host", "system-shutdown", "undefined-condition", "unsupported-encoding", "unsupported-stanza-type",
    "unsupported-version", "xml-not-well-formed", "",
};

static json_t *told(const char *event, const Stanza &s)
{
    return json_pack("{ss ss ss ss}", "event", event, "from", s.from().full().c_str(), "to", s.to().full().c_str(),
                     "id", s.id().c_str());
}

static void set(json_t *event, const char *name, const std::string &value)
{
    json_object_set_new(event, name, json_string(value.c_str()));
}

static void tell_error(const char *stanza, const Stanza &s)
{
    json_t *e = told("error", s);
    set(e, "stanza", stanza);
    if (const Error *error = s.error()) {
        std::unique_ptr<Tag> tag(error->tag());
        set(e, "type", tag->findAttribute("type"));
        for (const Tag *child : tag->children())
            if (child->xmlns() == XMLNS_XMPP_STANZAS && child->name() != "text")
                set(e, "condition", child->name());
    }
    tell(e);
}

// Question is the content of an iq to send.
class Question : public StanzaExtension {
public:
    Question(const std::string &name, const std::string &ns) : StanzaExtension(ExtUser + 1), name_(name), ns_(ns) {}
    const std::string &filterString() const override { return EmptyString; } // never made from what arrives
    StanzaExtension *newInstance(const Tag *) const override { return 0; }
    StanzaExtension *clone() const override { return new Question(name_, ns_); }
    Tag *tag() const override { return new Tag(name_, XMLNS, ns_); }

private:
    std::string name_, ns_;
};

class App : ConnectionListener, IqHandler, LogHandler, MessageHandler, PresenceHandler, SubscriptionHandler {
public:
    explicit App(json_t *cfg)
        : jid_(word(cfg, "jid")), again_(json_is_true(json_object_get(cfg, "reconnect"))),
          stream_(XMLNS_COMPONENT_ACCEPT, word(cfg, "host"), jid_, word(cfg, "secret"),
                  json_integer_value(json_object_get(cfg, "port")))
    {
        stream_.registerStanzaExtension(new DelayedDelivery(static_cast<const Tag *>(0)));
        stream_.registerStanzaExtension(new Receipt(static_cast<const Tag *>(0)));
        stream_.registerConnectionListener(this);
        stream_.logInstance().registerLogHandler(LogLevelDebug, LogAreaXmlIncoming, this);
        stream_.registerMessageHandler(this);
        stream_.registerPresenceHandler(this);
        stream_.registerSubscriptionHandler(this);
    }

    // run returns when the app has left.
    void run()
    {
        while (!leaving_ || up_) {
            if (!up_ && again_at_ && now_ms() >= again_at_)
                dial();
            if (up_)
                stream_.recv(10000); // microseconds
            else
                usleep(10000);
            bool end = false;
            while (json_t *c = next_command(&end)) {
                carry_out(c);
                json_decref(c);
            }
            if (end)
                leave();
        }
    }

private:
    void dial()
    {
        again_at_ = 0;
        up_ = true;
        if (!stream_.connect(false) && up_)
            onDisconnect(ConnConnectionRefused);
    }

    void leave()
    {
        leaving_ = true;
        if (up_)
            stream_.disconnect();
    }

    void onConnect() override
    {
        tries_ = 0;
        tell(json_pack("{ss}", "event", "connected"));
    }

    void onDisconnect(ConnectionError reason) override
    {
        up_ = false;
        if (reason == ConnStreamError)
            tell(json_pack("{ss ss}", "event", "stream-error", "condition", stream_conditions[stream_.streamError()]));
        tell(json_pack("{ss si}", "event", "disconnected", "reason", reason));
        if (again_)
            again_at_ = now_ms() + pause_ms(tries_++);
    }

    bool onTLSConnect(const CertInfo &) override { return false; }

    // handleLog hears of pings: who is registered for them is not asked any more once gloox has answered.
    void handleLog(LogLevel, LogArea, const std::string &xml) override
    {
        if (xml.compare(0, 4, "<iq ") == 0 && xml.find("<ping xmlns='" + XMLNS_XMPP_PING) != std::string::npos)
            tell(json_pack("{ss}", "event", "pinged"));
    }

    bool handleIq(const IQ &) override { return false; } // requests are left to gloox

    // handleIqID has the answers to what was asked.
    void handleIqID(const IQ &iq, int) override
    {
        if (iq.subtype() == IQ::Error)
            return tell_error("iq", iq);
        json_t *e = told("result", iq), *features = json_array();
        if (const Disco::Info *info = iq.findExtension<Disco::Info>(ExtDiscoInfo))
            for (const std::string &f : info->features())
                json_array_append_new(features, json_string(f.c_str()));
        json_object_set_new(e, "features", features);
        tell(e);
    }

    void handleMessage(const Message &m, MessageSession *) override
    {
        if (m.subtype() == Message::Error)
            return tell_error("message", m);
        const Receipt *receipt = m.findExtension<Receipt>(ExtReceipt);
        bool received = receipt && receipt->rcpt() == Receipt::Received;
        json_t *e = told(received ? "receipt" : "message", m);
        if (received)
            set(e, "id", receipt->id());
        else
            set(e, "body", m.body());
        tell(e);
    }

    void handlePresence(const Presence &p) override
    {
        if (p.subtype() == Presence::Error)
            return tell_error("presence", p);
        json_t *e = told("presence", p);
        switch (p.subtype()) {
        case Presence::Unavailable: set(e, "type", "unavailable"); break;
        case Presence::Probe: set(e, "type", "probe"); break;
        case Presence::Away: set(e, "show", "away"); break;
        case Presence::Chat: set(e, "show", "chat"); break;
        case Presence::DND: set(e, "show", "dnd"); break;
        case Presence::XA: set(e, "show", "xa"); break;
        default: break;
        }
        if (const DelayedDelivery *delay = p.findExtension<DelayedDelivery>(ExtDelay))
            set(e, "delay", delay->stamp());
        tell(e);
    }

    void handleSubscription(const Subscription &s) override
    {
        static const char *types[] = {"subscribe", "subscribed", "unsubscribe", "unsubscribed", ""};
        json_t *e = told("presence", s);
        set(e, "type", types[s.subtype()]);
        tell(e);
    }

    void carry_out(json_t *c)
    {
        const std::string what = word(c, "do");
        if (what == "crash")
            _exit(3);
        else if (what == "disconnect")
            leave();
        else if (what == "message")
            message(c);
        else if (what == "presence")
            presence(c);
        else if (what == "ping")
            ask(c, new Question("ping", XMLNS_XMPP_PING));
        else if (what == "disco")
            ask(c, new Question("query", XMLNS_DISCO_INFO));
    }

    void ask(json_t *c, Question *question)
    {
        IQ iq(IQ::Get, JID(word(c, "to")), word(c, "id"));
        iq.setFrom(JID(jid_));
        iq.addExtension(question);
        stream_.send(iq, this, 0);
    }

    // sender is who a stanza of the command is from.
    JID sender(json_t *c) const { return JID(word(c, "from") ? word(c, "from") : jid_); }

    void message(json_t *c)
    {
        Message m(Message::Normal, JID(word(c, "to")), word(c, "body") ? word(c, "body") : "");
        m.setFrom(sender(c));
        m.setID(word(c, "id"));
        if (json_is_true(json_object_get(c, "receipt")))
            m.addExtension(new Receipt(Receipt::Request));
        if (word(c, "nick"))
            m.addExtension(new Nickname(word(c, "nick")));
        if (word(c, "url"))
            m.addExtension(new OOB(word(c, "url"), EmptyString, false));
        stream_.send(m);
    }

    // presence sends what has no class of its own as gloox would: its Presence and Subscription take no id.
    void presence(json_t *c)
    {
        Tag *p = new Tag("presence");
        p->addAttribute("from", sender(c).full());
        p->addAttribute("to", word(c, "to"));
        p->addAttribute("id", word(c, "id") ? word(c, "id") : EmptyString); // an empty one is left out
        p->addAttribute("type", word(c, "type") ? word(c, "type") : EmptyString);
        if (word(c, "status"))
            new Tag(p, "status", word(c, "status"));
        stream_.send(p); // which owns it
    }

    const std::string jid_;
    const bool again_;
    Component stream_;
    bool up_ = false, leaving_ = false;
    int tries_ = 0;
    long long again_at_ = 1; // of now_ms; 0: no try is due
};

int main()
{
    json_t *cfg = first_command();
    if (!cfg)
        return 1;
    App(cfg).run();
    json_decref(cfg);
}
