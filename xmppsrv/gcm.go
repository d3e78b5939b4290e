package xmppsrv

import (
	"presenced/xmppsrv/gcm"
	"presenced/xmppsrv/xmlstream"
)

// The payload of Google's Cloud Connection Server on a component stream: what goes to devices, and its ack or nack.
// Receipts and messages from devices are those of components, so an acknowledgement is not waited for.

// gcm takes a message for devices. It is for the token in it; where there is none it is for whom the stanza is. It
// reports whether the message is handled; else the settler says when.
func (s *session) gcm(st *stanza, json []byte) (handled bool) {
	c := gcm.Context{Domain: s.gw, Source: s.link.App().Name}
	if st.toAddr.local != nil {
		c.To = string(st.to)
	}
	sent, refused := c.Parse(json)
	switch {
	case refused == nil && sent.Ack:
		return true
	case refused != nil && refused.Unnamed:
		s.refuseStanza(st, refuseGCM, nil)
		return true
	case refused == nil && sent.Topic != nil:
		refused = gcm.NoTopics()
	}
	from, to := string(st.from), string(st.to)
	if refused != nil {
		s.nack(from, to, &sent, refused)
		return true
	}
	m := sent.Msg
	m.From = from
	m.Once = s.trail.Once([]byte(from + "\x00" + to + "\x00" + string(json)))
	d, err := sent.Notify(s.link, m)
	if err != nil {
		s.nack(from, to, &sent, gcm.Refused(err))
		return true
	}
	sent.Outcome = d.Outcome()
	s.srv.count.sent.Add(1)
	a := arrival{d: d, from: from, to: to, gcm: &sent}
	if s.led != nil {
		a.in, a.n = &s.led.in, s.led.in.fly()
	}
	s.inFlight <- a
	return false
}

// settled answers a message that the core has accepted, or failed to keep.
func (s *session) settled(a *arrival, err error) {
	if err != nil {
		s.nack(a.from, a.to, a.gcm, gcm.Refused(err))
		return
	}
	s.srv.count.answers.Add(1)
	s.tellGCM(a.from, a.to, gcm.AppendAck(nil, a.gcm))
}

func (s *session) nack(from, to string, sent *gcm.Sent, why *gcm.Error) {
	s.count(refuseGCM, why.Code.String()+" for", sent.Target())
	s.tellGCM(from, to, gcm.AppendNack(nil, sent, why))
}

// tellGCM answers who sent a message from and to these addresses.
func (s *session) tellGCM(from, to string, json []byte) {
	s.out.add(func(dst []byte) []byte {
		dst = xmlstream.AppendValue(append(dst, "<message from='"...), to)
		dst = xmlstream.AppendValue(append(dst, "' to='"...), from)
		dst = xmlstream.AppendText(append(dst, "'><gcm xmlns='"+gcm.Space+"'>"...), json)
		return append(dst, "</gcm></message>"...)
	})
}
