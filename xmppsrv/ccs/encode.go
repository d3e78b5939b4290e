package ccs

import "presenced/xmppsrv/xmlstream"

// What is written, quoted as Google's servers quoted it: some clients match text.

const (
	nsClient  = "jabber:client"
	nsStream  = "http://etherx.jabber.org/streams"
	nsStreams = "urn:ietf:params:xml:ns:xmpp-streams" // RFC 6120 §4.9.2
	nsStanzas = "urn:ietf:params:xml:ns:xmpp-stanzas" // RFC 6120 §8.3.2
	nsSASL    = "urn:ietf:params:xml:ns:xmpp-sasl"    // RFC 6120 §6
	nsBind    = "urn:ietf:params:xml:ns:xmpp-bind"    // RFC 6120 §7
	nsSession = "urn:ietf:params:xml:ns:xmpp-session" // RFC 3921 §3
	nsPing    = "urn:xmpp:ping"                       // XEP-0199

	mechanisms = `<stream:features><mechanisms xmlns="` + nsSASL + `"><mechanism>PLAIN</mechanism></mechanisms></stream:features>`
	features   = `<stream:features><bind xmlns="` + nsBind + `"/><session xmlns="` + nsSession + `"><optional/></session></stream:features>`
	success    = `<success xmlns="` + nsSASL + `"/>`
	challenge  = `<challenge xmlns="` + nsSASL + `"/>`
	closingTag = "</stream:stream>"
)

// appendHeader appends the header of our side of the stream (RFC 6120 §4.7), with what follows.
func appendHeader(dst []byte, from, id, rest string) []byte {
	dst = xmlstream.AppendValue(append(dst, `<stream:stream from="`...), from)
	dst = append(append(dst, `" id="`...), id...)
	return append(append(dst, `" version="1.0" xmlns:stream="`+nsStream+`" xmlns="`+nsClient+`">`...), rest...)
}

// appendEnd appends a stream error, if the end has one, and the closing tag (RFC 6120 §4.9.2, §4.4).
func appendEnd(dst []byte, why end) []byte {
	if row := why.row(); row.cond != "" {
		dst = append(append(append(dst, "<stream:error><"...), row.cond...), ` xmlns="`+nsStreams+`"/><text xmlns="`+nsStreams+`" xml:lang="en">`...)
		dst = append(xmlstream.AppendText(dst, row.text), "</text></stream:error>"...)
	}
	return append(dst, closingTag...)
}

// appendFailure appends that SASL failed (RFC 6120 §6.4.5).
func appendFailure(dst []byte, cond string) []byte {
	return append(append(append(dst, `<failure xmlns="`+nsSASL+`"><`...), cond...), "/></failure>"...)
}

// appendBound appends the address that a client got (RFC 6120 §7.6.1). It has no from: some clients take only that.
func appendBound(dst []byte, id []byte, jid string) []byte {
	dst = xmlstream.AppendValue(append(dst, `<iq type="result" id="`...), id)
	dst = xmlstream.AppendText(append(dst, `"><bind xmlns="`+nsBind+`"><jid>`...), jid)
	return append(dst, "</jid></bind></iq>"...)
}

// appendIQ begins an iq that answers one with this id to this address. An answer to who named nobody comes from nobody.
func appendIQ(dst []byte, kind string, id, to []byte, jid string) []byte {
	dst = append(append(append(dst, `<iq type="`...), kind...), '"')
	if len(to) > 0 {
		dst = xmlstream.AppendValue(append(dst, ` to="`...), jid)
		dst = xmlstream.AppendValue(append(dst, `" from="`...), to)
		dst = append(dst, '"')
	}
	return append(xmlstream.AppendValue(append(dst, ` id="`...), id), '"')
}

// appendIQError appends what an iq is refused for.
func appendIQError(dst []byte, id, to []byte, jid, kind, cond string) []byte {
	dst = append(append(appendIQ(dst, "error", id, to, jid), `><error type="`...), kind...)
	return append(append(append(dst, `"><`...), cond...), ` xmlns="`+nsStanzas+`"/></error></iq>`...)
}

// The beginnings of messages by what they bring. Acks and control have the prefix that Google's had, and no type; what
// comes from devices has the type normal. Clients tell them apart by it.
const (
	openAck     = `<message><data:gcm xmlns:data="google:mobile:data">`
	closeAck    = `</data:gcm></message>`
	openNack    = `<message><gcm xmlns="google:mobile:data">`
	openDevice  = `<message id="" type="normal"><gcm xmlns="google:mobile:data">`
	closePlain  = `</gcm></message>`
	openControl = openAck
)

// appendPayload appends JSON between the two.
func appendPayload(dst []byte, open string, json []byte, shut string) []byte {
	return append(xmlstream.AppendText(append(dst, open...), json), shut...)
}

// appendMessageError appends that a message could not even be refused by its id. What it said is repeated.
func appendMessageError(dst []byte, id, payload []byte, jid, code, kind, cond, text string) []byte {
	dst = xmlstream.AppendValue(append(dst, `<message id="`...), id)
	dst = xmlstream.AppendValue(append(dst, `" type="error" to="`...), jid)
	dst = append(dst, `">`...)
	if len(payload) <= maxEcho && payload != nil {
		dst = appendPayload(dst, `<gcm xmlns="google:mobile:data">`, payload, "</gcm>")
	}
	dst = append(append(append(dst, `<error code="`...), code...), `" type="`...)
	dst = append(append(append(append(dst, kind...), `"><`...), cond...), ` xmlns="`+nsStanzas+`"/>`...)
	if text != "" {
		dst = append(xmlstream.AppendText(append(dst, `<text xmlns="`+nsStanzas+`">`...), text), "</text>"...)
	}
	return append(dst, "</error></message>"...)
}
