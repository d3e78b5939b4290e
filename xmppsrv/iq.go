package xmppsrv

import (
	"time"

	"presenced/xmppsrv/xmlstream"
)

// iq answers a get or set exactly once, and results and errors never (RFC 6120 §8.2.3). To users there is no
// iq: the answer is the same for each (promise 1).
func (s *session) iq(st *stanza) {
	if st.answers() {
		return
	}
	typ := string(st.typ)
	payload, one := st.Payload()
	switch {
	case len(st.id) == 0: // RFC 6120 §8.1.3
		s.refuseStanza(st, refuseID, nil)
	case typ != "get" && typ != "set" || !one:
		s.refuseStanza(st, refuseRequest, nil)
	case s.isCommand(st, payload):
		s.command(st, payload)
	case st.toAddr.local != nil || st.toAddr.resource != nil || typ == "set":
		s.refuseStanza(st, refuseService, nil)
	default:
		s.query(st, payload)
	}
}

// query answers a get to the gateway itself.
func (s *session) query(st *stanza, q xmlstream.Element) {
	switch {
	case q.Is("ping", nsPing): // XEP-0199 §4.2
		s.result(st, nil)
	case q.Is("query", nsInfo):
		s.disco(st, q, nsInfo, func(dst []byte) []byte { return s.appendInfo(dst, s.isAdmin(st)) })
	case q.Is("query", nsItems): // XEP-0030 §4: there are none to be seen
		s.disco(st, q, nsItems, func(dst []byte) []byte { return dst })
	case q.Is("query", nsVersion) && s.srv.cfg.ShowVersion: // XEP-0092 §2
		s.result(st, s.appendVersion)
	case q.Is("query", nsLast): // XEP-0012 §5: of a server, since it runs
		s.result(st, s.appendUptime)
	case q.Is("time", nsTime): // XEP-0202 §2
		s.result(st, s.appendTime)
	default:
		s.refuseStanza(st, refuseService, nil)
	}
}

// result answers with what inside appends, if it is not nil.
func (s *session) result(st *stanza, inside func([]byte) []byte) {
	s.srv.count.answers.Add(1)
	s.out.add(func(dst []byte) []byte {
		dst = append(xmlstream.AppendValue(append(dst, "<iq from='"...), st.to), "' to='"...)
		dst = appendID(append(xmlstream.AppendValue(dst, st.from), '\''), st.id)
		dst = append(dst, " type='result'"...)
		if inside == nil {
			return append(dst, "/>"...)
		}
		return append(inside(append(dst, '>')), "</iq>"...)
	})
}

// disco answers an XEP-0030 query. There are no nodes but those of commands, for administrators; the one that is asked
// for is mirrored, in an error too.
func (s *session) disco(st *stanza, q xmlstream.Element, space string, inside func([]byte) []byte) {
	open := "<query xmlns='" + space + "'"
	if node := q.Attr("node"); len(node) > 0 {
		open = string(append(xmlstream.AppendValue([]byte(open+" node='"), node), '\''))
		if inside = s.commandNode(st, space, string(node)); inside == nil {
			s.refuseStanza(st, refuseNode, []byte(open+"/>"))
			return
		}
	}
	s.result(st, func(dst []byte) []byte {
		return append(inside(append(append(dst, open...), '>')), "</query>"...)
	})
}

// features are what disco#info lists.
var features = []string{
	nsInfo, nsItems, nsPing, nsLast, nsTime, featEscape, featLater, nsReceipts, nsOOB, nsNick, nsJSON, nsHints, nsNotify, nsSM,
}

func (s *session) appendInfo(dst []byte, admin bool) []byte {
	dst = append(dst, "<identity category='server' type='im' name='Presenced'/>"...)
	for _, f := range features {
		dst = appendFeature(dst, f)
	}
	if s.srv.cfg.ShowVersion {
		dst = appendFeature(dst, nsVersion)
	}
	if admin { // XEP-0050 §2.1
		dst = appendFeature(dst, nsCommands)
	}
	return dst
}

func appendFeature(dst []byte, f string) []byte {
	return append(append(append(dst, "<feature var='"...), f...), "'/>"...)
}

func (s *session) appendVersion(dst []byte) []byte {
	dst = append(dst, "<query xmlns='"+nsVersion+"'><name>Presenced</name><version>"...)
	return append(xmlstream.AppendText(dst, s.srv.cfg.Version), "</version></query>"...)
}

func (s *session) appendUptime(dst []byte) []byte {
	dst = append(dst, "<query xmlns='"+nsLast+"' seconds='"...)
	return append(appendSeconds(dst, s.srv.cfg.Now().Sub(s.srv.started)), "'/>"...)
}

func (s *session) appendTime(dst []byte) []byte {
	dst = append(dst, "<time xmlns='"+nsTime+"'><tzo>+00:00</tzo><utc>"...)
	return append(s.srv.cfg.Now().UTC().AppendFormat(dst, time.RFC3339), "</utc></time>"...)
}
