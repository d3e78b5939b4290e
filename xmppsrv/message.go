package xmppsrv

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"presenced/presence"
	"presenced/xmppsrv/gcm"
	"presenced/xmppsrv/xmlstream"
)

// message takes a message for a notification, and refuses it or hands it to the core.
//
// A message with nothing to notify of (chat states, markers, an empty body) is ignored in silence: it is neither
// stored (XEP-0160 §3) nor worth an error, since the libraries that send one expect none, and an answer would
// have to be the same for all users anyway. A headline is for who is there now (RFC 6121 §5.2.2): ttl 0. A
// groupchat has no room here and is refused as from a stranger.
//
// It reports whether the message is handled; else the settler says when.
func (s *session) message(st *stanza) (handled bool) {
	m := presence.Message{TTL: -1}
	switch string(st.typ) {
	case "error":
		return true // RFC 6120 §8.3.1
	case "groupchat":
		s.refuseStanza(st, refuseService, nil) // RFC 6121 §8.5.2.1.1
		return true
	case "headline":
		m.TTL = 0
	}
	if payload, ok := st.Child("gcm", gcm.Space); ok {
		return s.gcm(st, payload.Text())
	}
	if why := notification(st, &m); why != accepted {
		s.refuseStanza(st, why, nil)
		return true
	}
	if m.Message == "" && m.Action == "" && m.Data == nil {
		return true
	}
	if st.toAddr.local == nil { // to the gateway itself
		s.refuseStanza(st, refuseService, nil)
		return true
	}
	return s.notify(st, m)
}

// notify hands the message on; the settler does the waiting.
func (s *session) notify(st *stanza, m presence.Message) (handled bool) {
	m.From = string(st.from)
	m.Ref = string(st.id)
	m.Receipt = m.Receipt && m.Ref != "" // XEP-0184 §5.1: a request needs an id
	if m.Source == "" {
		m.Source = bareOf(m.From)
	}
	d, err := s.link.Notify(st.toAddr.peer(), m)
	if err != nil {
		s.refuseStanza(st, refusalOf(err), nil)
		return true
	}
	s.srv.count.sent.Add(1)
	a := arrival{d: d, from: m.From, to: string(st.to), id: m.Ref}
	if s.led != nil {
		a.in, a.n = &s.led.in, s.led.in.fly()
	}
	s.inFlight <- a
	return false
}

// notification reads what the elements of a message say.
func notification(st *stanza, m *presence.Message) refusal {
	bodyLang, noStore := true, false
	for c, ok := st.First(); ok; c, ok = c.Next() {
		if c.IsText() {
			continue
		}
		switch space := string(c.Space()); {
		case space == nsAccept && string(c.Local()) == "body":
			if lang := c.Lang() != nil; m.Message == "" || bodyLang && !lang { // RFC 6121 §5.2.3: the one for all first
				m.Message, bodyLang = string(c.Text()), lang
			}
		case space == nsNick && string(c.Local()) == "nick": // XEP-0172
			m.Source = string(c.Text())
		case space == nsOOB && string(c.Local()) == "x": // XEP-0066 §3
			if url, ok := c.Child("url", nsOOB); ok && m.Action == "" {
				m.Action = string(url.Text())
			}
		case space == nsJSON && string(c.Local()) == "json": // XEP-0335
			data := bytes.TrimSpace(c.Text())
			if !json.Valid(data) || tooDeep(data) {
				return refuseJSON
			}
			m.Data = bytes.Clone(data)
		case space == nsReceipts && string(c.Local()) == "request": // XEP-0184 §5.1
			m.Receipt = true
		case space == nsHints && string(c.Local()) == "no-store": // XEP-0334 §4.2
			noStore = true
		case space == nsNotify && string(c.Local()) == "notify":
			if why := options(c, m); why != accepted {
				return why
			}
		}
	}
	if noStore {
		m.TTL = 0
	}
	return accepted
}

// maxJSONDepth is how deep data may be nested: devices have parsers with limits of their own.
const maxJSONDepth = 64

// tooDeep reports whether valid JSON is nested deeper than devices are asked to read.
func tooDeep(data []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case c == '\\' && inString:
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxJSONDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// options reads <notify ttl=” collapse=” priority=”/>. An empty option is one that is not given.
func options(e xmlstream.Element, m *presence.Message) refusal {
	if ttl := e.Attr("ttl"); len(ttl) > 0 {
		n, why := seconds(string(ttl))
		if why != accepted {
			return why
		}
		m.TTL = n
	}
	m.Collapse = string(e.Attr("collapse"))
	switch string(e.Attr("priority")) {
	case "high":
		m.High = true
	case "", "normal":
	default:
		return refuseOption
	}
	return accepted
}

// seconds reads a ttl; s is not empty. What no Duration can hold, and what is negative, is out of range.
func seconds(s string) (time.Duration, refusal) {
	const most = int64(1<<63-1) / int64(time.Second)
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case s[0] == '+':
		return 0, refuseOption
	case err != nil && n == 0:
		return 0, refuseOption
	case err != nil || n < 0 || n > most:
		return 0, refuseTTL
	}
	return time.Duration(n) * time.Second, accepted
}
