package ccs

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"presenced/presence"
	"presenced/xmppsrv/gcm"
	"presenced/xmppsrv/xmlstream"
)

// session is a stream of a sender. Its reader is the goroutine that runs it.
type session struct {
	srv    *Server
	c      *conn
	r      *xmlstream.Reader // owned by the reader
	out    *outbox
	jid    string          // the client's; immutable
	send   *sender         // immutable once joined
	serial uint64          // which of the server's sessions it is; immutable once joined
	trail  *presence.Trail // what it has sent; immutable once joined

	inFlight chan arrival  // from the reader to the settler, in order; closed by the reader
	stopped  atomic.Uint32 // the end for which it is ended from outside, once

	mu       sync.Mutex
	unacked  []flight // guarded by mu: messages from devices, at most window
	receipts []flight // guarded by mu: at most maxReceipts, then the oldest is forgotten
	draining bool     // guarded by mu
	left     bool     // guarded by mu: what is unacknowledged was given back
}

// flight is an update that was written and not acknowledged.
type flight struct {
	u    presence.Update
	sent time.Time
}

// arrival is a message on its way to the disk.
type arrival struct {
	wait func() error
	sent gcm.Sent
	once *presence.Once
}

func newSession(st *stream, jid string) *session {
	return &session{srv: st.srv, c: st.c, r: st.r, jid: jid, out: newOutbox(st.c, st.srv.cfg.WriteTimeout),
		inFlight: make(chan arrival, window)}
}

// run serves the session until it ends and returns why, with the cause where there is one.
func (s *session) run() (end, error) {
	s.r.Allow(s.srv.cfg.MaxStanza, 32<<10)
	wrote := make(chan end, 1)
	go func() {
		why := s.out.run(s.send.ring)
		s.c.kick()
		wrote <- why
	}()
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		s.settle()
	}()
	err := s.read()
	close(s.inFlight)
	<-settled // what was sent is answered before the stream ends
	s.out.finish(s.why(err))
	why := <-wrote
	s.send.leave(s)
	if why == endClosed { // the peer read all up to our closing tag, or needs none of it (RFC 6120 §4.4)
		s.trail.Settle()
	}
	if endOf(err) != why { // the writer, or who stopped it, had a reason of its own
		err = nil
	}
	return why, err
}

// why is for what a session ends whose reading ended with this error.
func (s *session) why(err error) end {
	if errors.Is(err, errKicked) {
		if why := end(s.stopped.Load()); why != notEnded {
			return why
		}
	}
	return endOf(err)
}

// stop ends the session from outside, behind the answers that are due. It does not wait.
func (s *session) stop(why end) {
	s.stopped.CompareAndSwap(uint32(notEnded), uint32(why))
	s.out.hurry()
	s.c.kick()
}

// drain tells the server to go elsewhere, once.
func (s *session) drain() {
	s.mu.Lock()
	was := s.draining
	s.draining = true
	s.mu.Unlock()
	if !was {
		s.out.add(appendPayload(nil, openControl, []byte(gcm.Control), closeAck))
	}
}

func (s *session) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// read handles elements until the stream ends, and returns why; io.EOF is the closing tag.
func (s *session) read() error {
	for {
		e, err := s.r.Next()
		if err == nil {
			err = s.handle(e)
		}
		if err != nil {
			return err
		}
	}
}

// handle does what one element asks for. An error ends the stream.
func (s *session) handle(e xmlstream.Element) error {
	switch {
	case e.Is("message", nsClient):
		return s.message(e)
	case e.Is("iq", nsClient):
		return s.iq(e)
	case e.Is("presence", nsClient): // some clients send it; nobody is told
		return nil
	case e.Is("error", nsStream):
		return &streamError{why: endPeerError}
	}
	return &streamError{why: endUnknownElement} // RFC 6120 §4.9.3.24
}

// iq answers a get or set exactly once (RFC 6120 §8.2.3): pings, the session that older clients ask for, and nothing
// else.
func (s *session) iq(e xmlstream.Element) error {
	typ, id, to := string(e.Attr("type")), e.Attr("id"), e.Attr("to")
	if typ != "get" && typ != "set" {
		return nil
	}
	if !s.out.place() {
		return errKicked
	}
	payload, one := e.Payload()
	switch {
	case one && typ == "get" && payload.Is("ping", nsPing), // XEP-0199 §4.2
		one && typ == "set" && payload.Is("session", nsSession): // RFC 3921 §3
		s.out.answer(append(appendIQ(nil, "result", id, to, s.jid), "/>"...))
	case len(id) == 0 || !one: // RFC 6120 §8.1.3
		s.out.answer(appendIQError(nil, id, to, s.jid, "modify", "bad-request"))
	default:
		s.out.answer(appendIQError(nil, id, to, s.jid, "cancel", "service-unavailable"))
	}
	return nil
}

// message takes what the server sends. An acknowledgement needs no place: it goes on whatever waits.
func (s *session) message(e xmlstream.Element) error {
	if string(e.Attr("type")) == "error" {
		return nil // RFC 6120 §8.3.1
	}
	payload, ok := e.Child("gcm", gcm.Space)
	var json []byte
	var sent gcm.Sent
	var refused *gcm.Error
	if ok {
		json = payload.Text()
		sent, refused = s.send.context().Parse(json)
		if sent.Ack && refused == nil {
			s.acknowledged(sent.To, sent.MessageID)
			return nil
		}
	}
	if !s.out.place() {
		return errKicked
	}
	switch {
	case !ok:
		s.out.answer(appendMessageError(nil, e.Attr("id"), nil, s.jid, "503", "cancel", "service-unavailable", ""))
	case refused != nil && refused.Unnamed:
		s.srv.count.malformed.Add(1)
		s.out.answer(appendMessageError(nil, e.Attr("id"), json, s.jid, "400", "modify", "bad-request", refused.Description))
	case s.isDraining():
		s.refuse(&sent, gcm.Draining())
	case refused != nil:
		s.refuse(&sent, refused)
	default:
		s.notify(&sent, json)
	}
	return nil
}

func (s *session) refuse(sent *gcm.Sent, why *gcm.Error) {
	s.srv.count.nacked[why.Code].Add(1)
	s.send.link.Refused(why.Code.String(), "message to "+sent.Target())
	s.out.answer(appendPayload(nil, openNack, gcm.AppendNack(nil, sent, why), closePlain))
}

func (s *session) accept(a *arrival) {
	s.srv.count.acked.Add(1)
	if a.once.Again {
		s.srv.count.again.Add(1)
	}
	s.out.answer(appendPayload(nil, openAck, gcm.AppendAck(nil, &a.sent), closeAck))
}

// notify hands a message to the core; the settler does the waiting.
func (s *session) notify(sent *gcm.Sent, json []byte) {
	if !s.send.mayReach(cmp.Or(sent.Canonical, sent.Target())) { // however it is spelt
		s.refuse(sent, gcm.TooOften())
		return
	}
	sent.Msg.Once = s.trail.Once(json) // the target and the id are in it
	a := arrival{sent: *sent, once: sent.Msg.Once}
	if sent.Topic != nil {
		s.publish(sent, a)
		return
	}
	d, err := sent.Notify(s.send.link, sent.Msg)
	if err != nil {
		s.refuse(sent, gcm.Refused(err))
		return
	}
	a.wait, a.sent.Outcome = d.Wait, d.Outcome()
	s.inFlight <- a // there is room: it has a place
}

// publish hands a message to the subscribers of topics. It is accepted when it is for all of them.
func (s *session) publish(sent *gcm.Sent, a arrival) {
	if !s.send.beginFanout() {
		s.refuse(sent, gcm.TopicsTooOften())
		return
	}
	done := make(chan error, 1)
	a.wait = func() error { return <-done } // the settler waits for it, so it does not outlive the session
	topic, m := sent.Topic, sent.Msg
	go func() {
		_, err := s.send.link.NotifyTopic(topic, m)
		s.send.endFanout()
		done <- err
	}()
	s.inFlight <- a
}

// settle waits for messages in the order of arrival, and answers.
func (s *session) settle() {
	for a := range s.inFlight {
		if err := a.wait(); err != nil {
			s.refuse(&a.sent, gcm.Refused(err))
			continue
		}
		s.accept(&a)
	}
}

// room reports whether the session takes one more update: messages up to the window, and all as long as the peer reads.
func (s *session) room(k presence.Kind) bool {
	s.mu.Lock()
	ok := !s.left && (k == presence.Receipt || !s.draining && len(s.unacked) < window)
	s.mu.Unlock()
	return ok && s.out.spacious()
}

// offer writes an update; false: the session is over.
func (s *session) offer(u *presence.Update) bool {
	f := flight{*u, time.Now()}
	s.mu.Lock()
	switch {
	case s.left:
		s.mu.Unlock()
		return false
	case u.Kind == presence.Receipt:
		if len(s.receipts) == maxReceipts {
			s.receipts = slices.Delete(s.receipts, 0, 1)
		}
		s.receipts = append(s.receipts, f)
	case u.ID != 0: // with TTL 0 it is now or never, acknowledged or not
		s.unacked = append(s.unacked, f)
	}
	s.mu.Unlock()
	var json []byte
	if u.Kind == presence.Receipt {
		s.srv.count.receipts.Add(1)
		json = gcm.AppendReceipt(nil, u, s.send.app)
	} else {
		s.srv.count.upstream.Add(1)
		json = gcm.AppendUpstream(nil, u, s.send.app)
	}
	s.out.add(appendPayload(nil, openDevice, json, closePlain))
	return true
}

// acknowledged takes note that the server has something. What it acknowledges twice, or had on another connection, it
// need not: nothing is said of that.
func (s *session) acknowledged(to, id string) {
	s.mu.Lock()
	full := len(s.unacked) >= window
	var done uint64
	if i := s.findLocked(to, id); i >= 0 {
		done = s.unacked[i].u.ID
		s.unacked = slices.Delete(s.unacked, i, i+1)
	} else if i := s.receiptLocked(id); i >= 0 {
		s.receipts = slices.Delete(s.receipts, i, i+1)
	}
	s.mu.Unlock()
	if done != 0 {
		s.send.link.Delivered([]uint64{done})
		if full {
			s.send.ring()
		}
	}
}

// findLocked finds the message of this id from this device, however its token is spelled. Devices choose the ids, so
// that of another may be the same.
func (s *session) findLocked(to, id string) int {
	_, token, ok := gcm.ParseToken(to, s.srv.cfg.Domain)
	if !ok {
		return -1
	}
	return slices.IndexFunc(s.unacked, func(f flight) bool {
		return gcm.UpstreamID(&f.u) == id && gcm.Token(&f.u, f.u.Tag) == token
	})
}

// receiptLocked finds the receipt that is acknowledged by this id; some clients leave out its prefix.
func (s *session) receiptLocked(id string) int {
	return slices.IndexFunc(s.receipts, func(f flight) bool {
		return gcm.ReceiptPrefix+f.u.Ref == id || f.u.Ref == id
	})
}

// giveUp returns all that was not acknowledged; the session takes no more.
func (s *session) giveUp() (list []presence.Update) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list = s.giveBackLocked(-1)
	for _, f := range s.receipts {
		list = append(list, f.u)
	}
	s.receipts, s.left = nil, true // with the same lock, so that none is taken in between
	return list
}

// giveBack returns the messages that were not acknowledged for longer than this.
func (s *session) giveBack(older time.Duration) []presence.Update {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.giveBackLocked(older)
}

func (s *session) giveBackLocked(older time.Duration) (list []presence.Update) {
	now := time.Now()
	s.unacked = slices.DeleteFunc(s.unacked, func(f flight) bool {
		old := now.Sub(f.sent) > older
		if old {
			list = append(list, f.u)
		}
		return old
	})
	return list
}
