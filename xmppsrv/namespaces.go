package xmppsrv

// Namespaces that are spoken here, each with its document.
const (
	nsAccept   = "jabber:component:accept"               // XEP-0114
	nsStream   = "http://etherx.jabber.org/streams"      // RFC 6120 §4.8.1
	nsStreams  = "urn:ietf:params:xml:ns:xmpp-streams"   // RFC 6120 §4.9.2
	nsStanzas  = "urn:ietf:params:xml:ns:xmpp-stanzas"   // RFC 6120 §8.3.2
	nsInfo     = "http://jabber.org/protocol/disco#info" // XEP-0030
	nsItems    = "http://jabber.org/protocol/disco#items"
	nsPing     = "urn:xmpp:ping"                   // XEP-0199
	nsVersion  = "jabber:iq:version"               // XEP-0092
	nsLast     = "jabber:iq:last"                  // XEP-0012
	nsTime     = "urn:xmpp:time"                   // XEP-0202
	nsDelay    = "urn:xmpp:delay"                  // XEP-0203
	nsIdle     = "urn:xmpp:idle:1"                 // XEP-0319
	nsReceipts = "urn:xmpp:receipts"               // XEP-0184
	nsOOB      = "jabber:x:oob"                    // XEP-0066
	nsNick     = "http://jabber.org/protocol/nick" // XEP-0172
	nsJSON     = "urn:xmpp:json:0"                 // XEP-0335
	nsHints    = "urn:xmpp:hints"                  // XEP-0334
	nsSM       = "urn:xmpp:sm:3"                   // XEP-0198
	nsUpstream = "urn:presenced:upstream:0"        // ours: of a message from a device
	nsNotify   = "urn:presenced:notify:0"          // ours: options of a notification
	featEscape = `jid\20escaping`                  // XEP-0106
	featLater  = "msgoffline"                      // XEP-0160

	nsCommands = "http://jabber.org/protocol/commands" // XEP-0050
	nsForm     = "jabber:x:data"                       // XEP-0004
)

// isOtherContent reports whether this is a content namespace of XMPP that is not spoken here: stanzas in it are
// another mistake than elements that nobody knows (RFC 6120 §4.8.3).
func isOtherContent(space []byte) bool {
	switch string(space) {
	case "jabber:client", "jabber:server", "jabber:component:connect":
		return true
	}
	return false
}
