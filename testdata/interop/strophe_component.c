/* An app service on libstrophe 0.12, driven line by line: see README.md.
 *
 * What is good to know about libstrophe:
 * - 0.12.0 to 0.12.3 crash with the first stanza on any component stream, at any server: see with_sm_state.
 * - It answers nothing by itself, neither pings nor unknown iqs; a component does both here.
 * - It has no notion of an error: the condition is a child to be looked for.
 * - It never sets a from, which a component needs on every stanza (XEP-0114 §3). xmpp_stanza_reply and
 *   xmpp_stanza_reply_error even remove it; the gateway lets the answers to an iq pass without.
 * - It does not reconnect, and its handlers stay with the connection; so each try has a new connection. */

#include <stdlib.h>
#include <strophe.h>

#include "lines.h"

#define NS_DELAY "urn:xmpp:delay"
#define NS_NICK "http://jabber.org/protocol/nick"
#define NS_OOB "jabber:x:oob"
#define NS_PING "urn:xmpp:ping"
#define NS_RECEIPTS "urn:xmpp:receipts"

struct app {
    xmpp_ctx_t *ctx;
    xmpp_conn_t *conn; /* NULL between two tries */
    json_t *cfg;
    const char *jid;
    int tries;
    long long retry_at; /* of now_ms; 0: no try is due */
    bool lost;          /* conn has ended and is to be released */
    bool leaving;
};

static bool is(const char *a, const char *b) { return a && strcmp(a, b) == 0; }

/* condition is the name of the first child in ns that is not text. */
static const char *condition(xmpp_stanza_t *error, const char *ns)
{
    for (xmpp_stanza_t *c = error ? xmpp_stanza_get_children(error) : NULL; c; c = xmpp_stanza_get_next(c))
        if (is(xmpp_stanza_get_ns(c), ns) && !is(xmpp_stanza_get_name(c), "text"))
            return xmpp_stanza_get_name(c);
    return "";
}

static json_t *told(const char *event, xmpp_stanza_t *s)
{
    return json_pack("{ss ss* ss* ss*}", "event", event, "from", xmpp_stanza_get_from(s), "to", xmpp_stanza_get_to(s),
                     "id", xmpp_stanza_get_id(s));
}

static void set_text(json_t *event, const char *name, xmpp_stanza_t *parent, const char *child)
{
    xmpp_stanza_t *c = xmpp_stanza_get_child_by_name(parent, child);
    char *text = c ? xmpp_stanza_get_text(c) : NULL;
    if (text) {
        json_object_set_new(event, name, json_string(text));
        xmpp_free(xmpp_stanza_get_context(parent), text);
    }
}

static void heard_error(xmpp_stanza_t *s)
{
    xmpp_stanza_t *error = xmpp_stanza_get_child_by_name(s, "error");
    json_t *e = told("error", s);
    json_object_set_new(e, "stanza", json_string(xmpp_stanza_get_name(s)));
    json_object_set_new(e, "condition", json_string(condition(error, XMPP_NS_STANZAS_IETF)));
    if (error)
        json_object_set_new(e, "type", json_string(xmpp_stanza_get_type(error)));
    tell(e);
}

static void heard_presence(xmpp_stanza_t *s)
{
    json_t *e = told("presence", s);
    if (xmpp_stanza_get_type(s))
        json_object_set_new(e, "type", json_string(xmpp_stanza_get_type(s)));
    set_text(e, "show", s, "show");
    xmpp_stanza_t *delay = xmpp_stanza_get_child_by_ns(s, NS_DELAY);
    if (delay)
        json_object_set_new(e, "delay", json_string(xmpp_stanza_get_attribute(delay, "stamp")));
    tell(e);
}

static void heard_message(xmpp_stanza_t *s)
{
    xmpp_stanza_t *received = xmpp_stanza_get_child_by_name_and_ns(s, "received", NS_RECEIPTS);
    json_t *e = told(received ? "receipt" : "message", s);
    if (received)
        json_object_set_new(e, "id", json_string(xmpp_stanza_get_id(received)));
    else
        set_text(e, "body", s, "body");
    tell(e);
}

static void heard_result(xmpp_stanza_t *s)
{
    json_t *e = told("result", s), *features = json_array();
    xmpp_stanza_t *query = xmpp_stanza_get_child_by_ns(s, XMPP_NS_DISCO_INFO);
    for (xmpp_stanza_t *c = query ? xmpp_stanza_get_children(query) : NULL; c; c = xmpp_stanza_get_next(c))
        if (is(xmpp_stanza_get_name(c), "feature"))
            json_array_append_new(features, json_string(xmpp_stanza_get_attribute(c, "var")));
    json_object_set_new(e, "features", features);
    tell(e);
}

static void heard_request(xmpp_conn_t *conn, xmpp_stanza_t *s)
{
    xmpp_stanza_t *reply;
    if (xmpp_stanza_get_child_by_ns(s, NS_PING)) {
        reply = xmpp_stanza_reply(s);
        xmpp_stanza_set_type(reply, "result");
        tell(told("pinged", s));
    } else {
        reply = xmpp_stanza_reply_error(s, "cancel", "service-unavailable", NULL);
    }
    xmpp_send(conn, reply);
    xmpp_stanza_release(reply);
}

static int heard(xmpp_conn_t *conn, xmpp_stanza_t *s, void *data)
{
    const char *name = xmpp_stanza_get_name(s), *type = xmpp_stanza_get_type(s);
    (void)data;
    if (is(type, "error"))
        heard_error(s);
    else if (is(name, "presence"))
        heard_presence(s);
    else if (is(name, "message"))
        heard_message(s);
    else if (is(name, "iq") && is(type, "result"))
        heard_result(s);
    else if (is(name, "iq"))
        heard_request(conn, s);
    return 1; /* keep this handler */
}

static void on_conn(xmpp_conn_t *conn, xmpp_conn_event_t event, int error, xmpp_stream_error_t *ended, void *data)
{
    struct app *a = data;
    (void)error;
    if (event == XMPP_CONN_CONNECT) {
        a->tries = 0;
        xmpp_handler_add(conn, heard, NULL, NULL, NULL, a);
        tell(json_pack("{ss}", "event", "connected"));
        return;
    }
    if (ended)
        tell(json_pack("{ss ss}", "event", "stream-error", "condition", condition(ended->stanza, XMPP_NS_STREAMS_IETF)));
    tell(json_pack("{ss}", "event", "disconnected"));
    a->lost = true;
    if (json_is_true(json_object_get(a->cfg, "reconnect")) && !a->leaving)
        a->retry_at = now_ms() + pause_ms(a->tries++);
}

static int no_socket(xmpp_conn_t *conn, void *sock)
{
    (void)conn, (void)sock;
    return -1;
}

/* with_sm_state returns a new connection with the state of stream management, which libstrophe makes for client
 * connections only and reads on all of them. So a client connection that is refused its socket gives its own away. */
static xmpp_conn_t *with_sm_state(struct app *a)
{
    xmpp_conn_t *client = xmpp_conn_new(a->ctx), *conn = xmpp_conn_new(a->ctx);
    xmpp_conn_set_jid(client, a->jid);
    xmpp_conn_set_sockopt_callback(client, no_socket);
    xmpp_connect_client(client, "127.0.0.1", 1, NULL, NULL);
    xmpp_conn_set_sm_state(conn, xmpp_conn_get_sm_state(client));
    xmpp_conn_release(client);
    return conn;
}

static void dial(struct app *a)
{
    a->retry_at = 0;
    a->conn = with_sm_state(a);
    xmpp_conn_set_jid(a->conn, a->jid);
    xmpp_conn_set_pass(a->conn, word(a->cfg, "secret"));
    if (xmpp_connect_component(a->conn, word(a->cfg, "host"), json_integer_value(json_object_get(a->cfg, "port")),
                               on_conn, a) != XMPP_EOK)
        on_conn(a->conn, XMPP_CONN_FAIL, 0, NULL, a);
}

static xmpp_stanza_t *child(struct app *a, xmpp_stanza_t *parent, const char *name, const char *ns, const char *text)
{
    xmpp_stanza_t *c = xmpp_stanza_new(a->ctx);
    xmpp_stanza_set_name(c, name);
    if (ns)
        xmpp_stanza_set_ns(c, ns);
    if (text) {
        xmpp_stanza_t *t = xmpp_stanza_new(a->ctx);
        xmpp_stanza_set_text(t, text);
        xmpp_stanza_add_child_ex(c, t, 0);
    }
    xmpp_stanza_add_child_ex(parent, c, 0); /* the parent owns it now */
    return c;
}

static void message(struct app *a, json_t *c, xmpp_stanza_t *s)
{
    if (word(c, "body"))
        child(a, s, "body", NULL, word(c, "body"));
    if (json_is_true(json_object_get(c, "receipt")))
        child(a, s, "request", NS_RECEIPTS, NULL);
    if (word(c, "nick"))
        child(a, s, "nick", NS_NICK, word(c, "nick"));
    if (word(c, "url"))
        child(a, child(a, s, "x", NS_OOB, NULL), "url", NULL, word(c, "url"));
}

static void carry_out(struct app *a, json_t *c)
{
    const char *what = word(c, "do");
    if (is(what, "crash"))
        _exit(3);
    if (is(what, "disconnect")) {
        a->leaving = true;
        a->retry_at = 0;
        if (a->conn)
            xmpp_disconnect(a->conn);
        return;
    }
    xmpp_stanza_t *s = xmpp_stanza_new(a->ctx);
    bool asks = is(what, "ping") || is(what, "disco");
    xmpp_stanza_set_name(s, asks ? "iq" : what);
    xmpp_stanza_set_to(s, word(c, "to"));
    xmpp_stanza_set_from(s, word(c, "from") ? word(c, "from") : a->jid);
    xmpp_stanza_set_id(s, word(c, "id") ? word(c, "id") : "none");
    if (asks || word(c, "type"))
        xmpp_stanza_set_type(s, asks ? "get" : word(c, "type"));
    if (is(what, "message"))
        message(a, c, s);
    else if (is(what, "presence") && word(c, "status"))
        child(a, s, "status", NULL, word(c, "status"));
    else if (is(what, "ping"))
        child(a, s, "ping", NS_PING, NULL);
    else if (is(what, "disco"))
        child(a, s, "query", XMPP_NS_DISCO_INFO, NULL);
    if (a->conn)
        xmpp_send(a->conn, s);
    xmpp_stanza_release(s);
}

int main(void)
{
    struct app a = {.cfg = first_command()};
    bool end = false;
    if (!a.cfg)
        return 1;
    a.jid = word(a.cfg, "jid");
    xmpp_initialize();
    a.ctx = xmpp_ctx_new(NULL, xmpp_get_default_logger(XMPP_LEVEL_WARN));
    dial(&a);
    for (;;) {
        xmpp_run_once(a.ctx, 10);
        if (a.lost) {
            xmpp_conn_release(a.conn);
            a.conn = NULL;
            a.lost = false;
        }
        if (!a.conn && a.retry_at && now_ms() >= a.retry_at)
            dial(&a);
        if (!a.conn && (a.leaving || end))
            return 0;
        if (!a.conn)
            usleep(10000); /* xmpp_run_once does not wait when it has nothing to do */
        json_t *c;
        while (!end && (c = next_command(&end)))
            carry_out(&a, c), json_decref(c);
        if (end && !a.leaving)
            carry_out(&a, c = json_pack("{ss}", "do", "disconnect")), json_decref(c);
    }
}
