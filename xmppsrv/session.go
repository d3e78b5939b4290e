package xmppsrv

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"

	"presenced/presence"
	"presenced/xmppsrv/gcm"
	"presenced/xmppsrv/xmlstream"
)

// session is a stream that has shown who it is. Its reader is the goroutine that runs it; see the package's
// documentation for the two others, and for what of it survives the connection.
type session struct {
	srv    *Server
	c      *conn
	r      *xmlstream.Reader // owned by the reader
	enc    *encoder
	out    *outbox
	gw     string // the gateway's domain; immutable
	app    string // the component's domain; immutable
	appID  string // immutable
	serial uint64 // which of the server's sessions it is; immutable

	began *presence.Link  // the connection's own; immutable
	trail *presence.Trail // what was sent with the payload of CCS; immutable
	link  *presence.Link  // owned by the reader; changes when an older stream is resumed
	led   *ledger         // owned by the reader; nil: no stream management

	going context.Context // what the reader does for the component ends with it; immutable
	halt  context.CancelFunc

	stopping  sync.Mutex // held by stop
	concluded bool       // guarded by stopping: nobody stops it any more

	first    chan struct{} // closed by the reader when the first element has been dealt with
	inFlight chan arrival  // from the reader to the settler, in order; closed by the reader
}

// arrival is a notification on its way to the disk, and what an error would be about; or without d an <r/> that
// waits for those before it.
type arrival struct {
	d            *presence.Delivery
	from, to, id string
	gcm          *gcm.Sent // what it is acknowledged by; nil: silence
	in           *incoming // where it is counted; nil: nowhere
	n            uint32    // its number there
}

func newSession(st *stream, l *presence.Link, serial uint64) *session {
	s := &session{
		srv: st.srv, c: st.c, r: st.r, began: l, link: l, trail: l.Trail(), serial: serial,
		gw: st.srv.cfg.Domain, app: l.App().Component, appID: l.App().ID,
		enc: newEncoder(st.srv.cfg.Domain, l.App().Component), out: newOutbox(),
		first:    make(chan struct{}),
		inFlight: make(chan arrival, maxInFlight),
	}
	s.going, s.halt = context.WithCancel(st.srv.running)
	s.r.Allow(st.srv.cfg.MaxStanza, 32<<10)
	s.c.identified.Store(true)
	s.c.live(st.srv.cfg.PingInterval, st.srv.pongWait, s.ping)
	return s
}

// run serves the session until it ends and returns why, with the cause where there is one.
func (s *session) run() (end, error) {
	w := newWriter(s.c, s.link, s.out, s.enc, s.srv.cfg.PingInterval, &s.srv.count)
	w.grace = s.srv.cfg.PingInterval + s.srv.pongWait
	w.snapshot = s.srv.snapshot
	if s.began.Held() { // who only listens shows that it is there, and the answer is the first element
		w.urges = []urge{{s.srv.holdWait, s.c.nudge}, {2 * s.srv.pongWait, s.unhold}}
	}
	defer s.halt()
	wrote := make(chan end, 1)
	go func() {
		why := w.run(s.first, s.srv.listeners.Closing())
		s.out.release()
		s.halt()
		s.c.kick()
		wrote <- why
	}()
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		s.settle()
	}()
	err := s.read()
	if endOf(err) == endSilent {
		s.c.cutWrites() // who does not answer may not read either
	}
	close(s.inFlight)
	<-settled // what failed is told before the stream ends
	s.out.finish(endOf(err))
	why := s.conclude(w, <-wrote, err)
	if why == endClosed { // as in package ccs
		s.trail.Settle()
	}
	if w.tellErr != nil {
		s.srv.cfg.Log.Warn("what an app was told is told again", "app", s.appID, "error", w.tellErr)
	}
	if endOf(err) != why { // the writer had a reason of its own
		err = w.cause
	}
	return why, err
}

// conclude says the last words, when the reader and the settler are done and the writer has only stopped. A session
// that can be resumed is let go of before, so that nobody who resumes it waits for a dead connection.
func (s *session) conclude(w *writer, why end, err error) end {
	w.collect()
	s.stopping.Lock()
	s.concluded = true
	s.stopping.Unlock()
	s.c.mendWrites()
	if high := (*streamError)(nil); errors.As(err, &high) && high.why == why {
		w.cause = high.cause
	}
	if s.resumable(why, err) {
		s.link.Detach() // before another session can have it
		if s.srv.roll.keep(s) {
			s.srv.cfg.Log.Info("session kept", "app", s.appID, "for", s.led.keep)
			return w.finish(why)
		}
	}
	s.srv.roll.leave(s)
	w.last()
	s.link.Close()
	return w.finish(why)
}

// resumable reports whether the session outlives this end, as far as its own two sides of it tell.
func (s *session) resumable(why end, err error) bool {
	return s.led != nil && s.led.id != "" && unclean[why] && (errors.Is(err, errKicked) || unclean[endOf(err)])
}

// stop ends the session from outside, even where its connection hangs. It does not wait.
func (s *session) stop(why end) {
	s.stopping.Lock()
	defer s.stopping.Unlock()
	if s.concluded {
		return
	}
	s.out.finish(why)
	s.halt()
	s.c.cutWrites()
	s.c.kick()
}

// settle waits for deliveries in the order of arrival, and tells those that failed. An <r/> among them is answered
// when all before it are settled.
func (s *session) settle() {
	for a := range s.inFlight {
		if a.d == nil {
			s.out.nonza(func(dst []byte) []byte { return appendAck(dst, a.in.answer()) })
			continue
		}
		if err := a.d.Wait(); a.gcm != nil {
			s.settled(&a, err)
		} else if err != nil {
			s.refuse("message", a.from, a.to, a.id, refusalOf(err), nil)
		}
		if a.in != nil {
			a.in.settle(a.n)
		}
	}
}

// ping asks a silent component for a sign of life (XEP-0199 §4.3). Any byte is one, so its answer is not waited for
// as such; iq results are never answered.
func (s *session) ping() {
	s.out.urge(func(dst []byte) []byte { return s.enc.ping(dst, rand.Text()) })
}

// read handles elements until the stream ends, and returns why; io.EOF is the closing tag.
func (s *session) read() error {
	e, err := s.r.Next()
	if err == nil {
		if err = s.handle(e); s.link == s.began {
			s.unhold()
		}
	}
	close(s.first)
	for err == nil {
		if e, err = s.r.Next(); err == nil {
			err = s.handle(e)
		}
	}
	return err
}

// unhold is for a connection that resumes nothing: the older sessions of its app end, and it gets all that there is. It
// is called by the reader behind the first element, or by the writer if that does not come though the peer is alive.
func (s *session) unhold() {
	s.srv.roll.supersede(s)
	s.began.Open()
}

// stanza is one of the three kinds with its addresses; all points into the reader's buffer.
type stanza struct {
	xmlstream.Element
	kind             string // presence, message, iq
	typ              []byte
	from, to, id     []byte
	toAddr, fromAddr address
}

// handle does what one element asks for. An error ends the stream.
func (s *session) handle(e xmlstream.Element) error {
	st := stanza{Element: e}
	switch {
	case e.Is("presence", nsAccept):
		st.kind = "presence"
	case e.Is("message", nsAccept):
		st.kind = "message"
	case e.Is("iq", nsAccept):
		st.kind = "iq"
	case string(e.Space()) == nsSM:
		return s.manage(e)
	case e.Is("error", nsStream):
		return &streamError{why: endPeerError}
	case isOtherContent(e.Space()):
		return &streamError{why: endOtherContent}
	default:
		return &streamError{why: endUnknownElement} // RFC 6120 §4.9.3.24
	}
	s.srv.count.stanzas.Add(1)
	if err := s.address(&st); err != nil {
		return err
	}
	if s.carryOut(&st) && s.led != nil {
		s.led.in.took()
	}
	return nil
}

// carryOut does what a stanza with good addresses asks for, and reports whether that was all: a notification is
// handled when it is settled.
func (s *session) carryOut(st *stanza) (handled bool) {
	toAddr, ok := parseAddress(st.to)
	st.toAddr = toAddr
	switch {
	case !ok:
		s.bounce(st, refuseAddress) // RFC 6120 §8.3.3.8
	case !toAddr.is(s.gw):
		s.bounce(st, refuseDomain) // RFC 6120 §8.3.3.16
	case st.kind == "presence":
		s.presence(st)
	case st.kind == "message":
		return s.message(st)
	default:
		s.iq(st)
	}
	return true
}

// address checks from and to (XEP-0114 §3; RFC 6120 §8.1.1, §8.1.2).
func (s *session) address(st *stanza) error {
	st.from, st.to, st.id, st.typ = st.Attr("from"), st.Attr("to"), st.Attr("id"), st.Attr("type")
	if len(st.from) == 0 && st.answers() {
		st.from = []byte(s.app)
	}
	if len(st.from) == 0 {
		return &streamError{why: endNoFrom}
	}
	if len(st.to) == 0 {
		return &streamError{why: endNoStanzaTo}
	}
	var ok bool
	st.fromAddr, ok = parseAddress(st.from)
	switch {
	case !ok: // RFC 6120 §8.1.2.2: not an address, before whose it is
		return &streamError{why: endBadFrom}
	case !st.fromAddr.is(s.app):
		return &streamError{why: endForeignFrom}
	}
	return nil
}

// answers reports whether st answers an iq. Of all stanzas such a one may be without from: gloox and libstrophe
// answer a ping so, by themselves, and an app on them would end two minutes after its last word. There is nothing
// to be had by it: whatever an answer says is ignored.
func (st *stanza) answers() bool {
	return st.kind == "iq" && (string(st.typ) == "result" || string(st.typ) == "error")
}

// bounce refuses a stanza that cannot get where it should, unless it is of a kind that gets no error: errors,
// results, and presence that only tells (RFC 6120 §8.3.1).
func (s *session) bounce(st *stanza, why refusal) {
	switch t := string(st.typ); {
	case t == "error", st.kind == "iq" && t == "result":
	case st.kind == "presence" && t != "subscribe" && t != "probe":
	default:
		s.refuseStanza(st, why, nil)
	}
}

// refuseStanza answers with a stanza error; inner is what of the payload is to be repeated.
func (s *session) refuseStanza(st *stanza, why refusal, inner []byte) {
	s.count(why, st.kind, string(st.to))
	s.out.add(func(dst []byte) []byte { return appendError(dst, st.kind, st.from, st.to, st.id, why, inner) })
}

// refuse is refuseStanza for one that is long gone from the reader.
func (s *session) refuse(kind, from, to, id string, why refusal, inner []byte) {
	s.count(why, kind, to)
	s.out.add(func(dst []byte) []byte { return appendError(dst, kind, from, to, id, why, inner) })
}

// count notes a refusal of a stanza to that address, for the administrator and for the app's developer.
func (s *session) count(why refusal, kind, to string) {
	s.srv.count.answers.Add(1)
	s.srv.count.refused[why].Add(1)
	s.began.Refused(refusals[why].cond, kind+" to "+to)
}

// presence handles what an app may send to a user. Being available or not is an app's own matter, answers to
// requests are for users, and errors get no answer: all that is ignored.
func (s *session) presence(st *stanza) {
	switch typ := string(st.typ); typ {
	case "probe": // RFC 6121 §4.3
		if st.toAddr.local != nil {
			s.srv.count.answers.Add(1)
			s.out.ask(&probe{peer: st.toAddr.peer(), from: string(st.from), to: string(st.to), id: string(st.id)})
		}
	case "subscribe", "unsubscribe": // RFC 6121 §3.1, §3.3
		if st.toAddr.local != nil {
			s.subscription(st, typ)
		}
	case "", "unavailable", "subscribed", "unsubscribed", "error":
	default:
		s.refuseStanza(st, refuseType, nil) // RFC 6121 §4.7.1
	}
}

// subscription takes an app's wish to see a user, or to see her no more. Both are between bare addresses, and
// what comes of them is told through the link, in its order with presence; who is a stranger hears nothing.
func (s *session) subscription(st *stanza, typ string) {
	p := st.toAddr.peer()
	p.Tag = ""
	var err error
	if typ == "subscribe" {
		purpose := ""
		if status, ok := st.Child("status", nsAccept); ok { // RFC 6121 §3.1.1
			purpose = string(status.Text())
		}
		err = s.link.Subscribe(p, bareOf(string(st.from)), purpose)
	} else {
		err = s.link.Unsubscribe(p)
	}
	if err != nil {
		s.refuseStanza(st, refusalOf(err), nil)
	}
}
