package presence_test

import (
	"errors"
	"strings"
	"testing"

	"presenced/presence"
)

// A CCS link gets messages and receipts, and nothing that belongs to a component, which loses nothing by it.
func TestCCSLink(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	f.app("chat")
	g := f.allow("ann@example.org", "chat")
	phone := f.online("ann@example.org", "phone")
	ccs, err := f.hub.Link("chat", presence.CCSLink)
	f.must(err)
	tokens, err := f.hub.Addresses("ann@example.org", "phone")
	f.must(err)

	p := presence.Peer{PUID: g.PUID, Tag: strings.TrimPrefix(tokens["chat"], g.PUID+"/")}
	for _, m := range []presence.Message{{Ref: "dry", Message: "dry", TTL: -1, Dry: true}, {Ref: "1", Message: "hi", Receipt: true, TTL: -1}} {
		d, err := ccs.Notify(p, m)
		f.must(err)
		f.must(d.Wait())
	}
	phone.Confirm([]uint64{expectMail(t, f, phone, "hi")[0].Seq})
	<-ccs.Wake()
	var got []presence.Update
	for len(got) == 0 {
		if got = take(ccs); len(got) == 0 {
			<-ccs.Wake()
		}
	}
	if len(got) != 1 || got[0].Kind != presence.Receipt || got[0].Ref != "1" || (presence.Peer{PUID: got[0].Local, Tag: got[0].Device}).String() != tokens["chat"] {
		t.Fatalf("the CCS link was told %+v", got)
	}
	f.must(phone.Send("chat", "up", []byte(`{}`), -1))
	if got = take(ccs); len(got) != 1 || got[0].Ref != "up" {
		t.Errorf("the CCS link was told %+v", got)
	}
	chat := f.link("chat") // it is the one for messages now, and both stay
	f.must(phone.Send("chat", "up 2", []byte(`{}`), -1))
	if got := messages(chat); len(got) != 1 || got[0].Ref != "up 2" || ccs.Ended() != presence.Alive {
		t.Errorf("the component was told %+v", got)
	}
	chat.Detach()
	f.must(phone.Send("chat", "up 3", []byte(`{}`), -1))
	if got = take(ccs); len(got) != 1 || got[0].Ref != "up 3" {
		t.Errorf("without the component the CCS link was told %+v", got)
	}
	chat.Join()
	f.must(f.hub.Revoke("ann@example.org", "chat", presence.ByUser))
	if got := take(ccs); len(got) != 0 {
		t.Errorf("after the revoke the CCS link was told %+v", got)
	}
	if got := said(chat); len(got) != 2 || got[1] != "unsubscribed "+g.PUID {
		t.Errorf("after the revoke the component was told %q", got)
	}
	if _, err := ccs.Notify(p, presence.Message{Message: "x", Dry: true}); !errors.Is(err, presence.ErrStranger) {
		t.Errorf("after the revoke: %v", err)
	}
}

func TestPeerAsToken(t *testing.T) {
	for want, p := range map[string]presence.Peer{
		"p1":                       {PUID: "p1"},
		"p1/tag":                   {PUID: "p1", Tag: "tag"},
		`tarek\40mozilla.com/tag`:  {Email: "tarek@mozilla.com", Tag: "tag"},
		`d\27a\2fx\5c40\a\40x.org`: {Email: `d'a/x\40\a@x.org`},
	} {
		if got := p.String(); got != want {
			t.Errorf("%+v is %s, want %s", p, got, want)
		}
	}
}
