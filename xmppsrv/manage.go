package xmppsrv

import (
	"crypto/rand"
	"math"
	"strconv"
	"time"

	"presenced/xmppsrv/xmlstream"
)

// Stream management (XEP-0198), as far as it is the reader's.

// manage handles an element of nsSM.
func (s *session) manage(e xmlstream.Element) error {
	switch name := string(e.Local()); name {
	case "enable":
		return s.enable(e)
	case "resume":
		return s.resume(e)
	case "r", "a":
		if s.led == nil {
			s.failed("unexpected-request")
			return nil
		}
		if name == "r" {
			s.acknowledge()
			return nil
		}
		h, ok := parseCount(e.Attr("h"))
		if !ok {
			return &streamError{why: endBadAck}
		}
		s.out.acknowledge(h)
		return nil
	}
	return &streamError{why: endUnknownElement}
}

func (s *session) failed(cond string) {
	s.out.fail(func(dst []byte) []byte { return appendFailed(dst, cond) })
}

// enable begins stream management (XEP-0198 §3). A second one is refused (§6), and ends the stream (§3).
func (s *session) enable(e xmlstream.Element) error {
	if s.led != nil {
		s.failed("unexpected-request")
		return &streamError{why: endTwice}
	}
	led := &ledger{link: s.link, keep: s.srv.cfg.ResumeTimeout, free: make(chan struct{})}
	led.startAt(s.srv.countFrom)
	if want := string(e.Attr("resume")); want == "true" || want == "1" {
		if sec, ok := parseCount(e.Attr("max")); ok && sec > 0 {
			led.keep = min(led.keep, time.Duration(sec)*time.Second)
		}
		led.id = rand.Text()
		if !s.srv.roll.open(led, s) {
			led.id = ""
		}
	}
	s.led = led
	s.out.turn(&turn{led: led})
	return nil
}

// resume goes on with an older stream of the same app (XEP-0198 §5). If that cannot be, this stream stays what it is.
func (s *session) resume(e xmlstream.Element) error {
	if s.led != nil {
		s.failed("unexpected-request")
		return nil
	}
	id := e.Attr("previd")
	h, ok := parseCount(e.Attr("h"))
	if len(id) == 0 || !ok {
		s.failed("bad-request")
		return nil
	}
	led, err := s.srv.roll.claim(string(id), h, s)
	if err != nil {
		return &streamError{endTooHigh, err}
	}
	if led == nil {
		s.failed("item-not-found")
		return nil
	}
	s.srv.count.resumed.Add(1)
	s.srv.cfg.Log.Info("session resumed", "app", s.appID, "address", s.c.RemoteAddr().String())
	s.out.turn(&turn{led: led, resumed: true, h: h, ours: led.in.h()})
	led.link.SetAddress(s.c.RemoteAddr().String())
	s.led, s.link = led, led.link
	return nil
}

// acknowledge answers an <r/>: in its place, if all that came before it is handled, else when it is.
func (s *session) acknowledge() {
	h, now := s.led.in.ask()
	if now {
		s.out.nonza(func(dst []byte) []byte { return appendAck(dst, h) })
		return
	}
	s.inFlight <- arrival{in: &s.led.in}
	s.out.ring() // it may become overdue
}

// parseCount reads a number below 2^32.
func parseCount(s []byte) (uint32, bool) {
	n, err := strconv.ParseUint(string(s), 10, 32)
	return uint32(n), err == nil && n <= math.MaxUint32
}
