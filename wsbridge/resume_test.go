package wsbridge_test

import (
	"encoding/json"
	"testing"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/presence/errno"
	"presenced/wsbridge"
)

// hello says hello as ann's phone, and returns the ticket of the answer.
func (d *device) hello(more string) (ticket string) {
	d.t.Helper()
	d.say(`{"type":"hello","email":"ann@example.org","device":"phone",` + more + `}`)
	var m struct{ Result, Resume string }
	if frame := d.hear(); json.Unmarshal([]byte(frame), &m) != nil || m.Result != "OK" {
		d.t.Fatalf("heard %s", frame)
	}
	return m.Resume
}

// A device that is on another network now, while we believe in its old socket, goes on without a new sign-in: the
// verifier is not asked, no app notices, and what was not confirmed comes again with the same id.
func TestResume(t *testing.T) {
	m := &moody{Verifier: identity.Dev{}}
	f := newFixture(t, func(c *wsbridge.Config) { c.Verifier = m })
	chat := f.app("chat")
	old := f.dial(silent)
	ticket := old.hello(`"assertion":"dev","status":"online","resume":true`)
	if len(ticket) < 26 {
		t.Fatalf("the ticket is %q", ticket)
	}
	chat.expect("online")
	chat.notify("m1", "one")
	first := old.notifications()[0]
	phone := f.dial()
	if again := phone.hello(`"status":"online","resume":"` + ticket + `"`); again != ticket {
		t.Errorf("the ticket has become %q", again)
	}
	if again := phone.notifications()[0]; again.ID != first.ID || again.Message != "one" {
		t.Errorf("came again as %+v, was %+v", again, first)
	}
	old.expect(`{"result":"KO","errno":50,"error":"replaced by a newer connection"}`)
	old.ends(4500)
	chat.expect("receipt m1")
	phone.drop()
	f.until("the loss is noticed", func() bool { return f.hub.Stats().Lingering == 1 })
	f.pass(linger - time.Second)
	phone = f.dial()
	phone.hello(`"status":"online","resume":"` + ticket + `"`)
	f.pass(2 * linger)
	chat.quiet()
	if n := m.asked.Load(); n != 1 {
		t.Errorf("the verifier was asked %d times", n)
	}
}

const cannotResume = `{"result":"KO","errno":31,"error":"assertion expired","type":"hello"}`

// Who comes too late may sign in on the same socket, in the time that there is to identify, or says both at once.
func TestResumeTooLate(t *testing.T) {
	f := newFixture(t)
	phone := f.dial()
	ticket := phone.hello(`"assertion":"dev","resume":true`)
	phone.drop()
	f.until("the loss is noticed", func() bool { return f.hub.Stats().Sessions == 0 })
	f.pass(linger)
	phone = f.dial()
	stale := `{"type":"hello","email":"ann@example.org","device":"phone","resume":"` + ticket + `"}`
	phone.say(stale)
	phone.expect(cannotResume)
	fresh := phone.hello(`"assertion":"dev","resume":true`)
	if fresh == ticket || fresh == "" {
		t.Errorf("the new ticket is %q", fresh)
	}
	phone.drop()
	phone = f.dial()
	if got := phone.hello(`"assertion":"dev","resume":"` + ticket + `"`); got == ticket || got == "" {
		t.Errorf("with both the ticket is %q", got)
	}
	phone.drop()
	phone = f.dial()
	phone.say(`{"type":"hello","email":"ann@example.org","device":"phone","assertion":"bad","resume":"` + ticket + `"}`)
	phone.expect(`{"result":"KO","errno":34,"error":"Invalid assertion","type":"hello"}`)
	phone.ends(4534)
	phone = f.dial()
	phone.say(`{"type":"hello","email":"ann@example.org","resume":7}`)
	phone.expect(`{"result":"KO","errno":13,"error":"bad value","detail":"resume","type":"hello"}`)
	phone.ends(4530)
}

// Failed attempts do not make the time to identify longer.
func TestResumeDoesNotHoldASocket(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.IdentifyTimeout = 200 * time.Millisecond })
	d := f.dial()
	for range 12 { // three times as long as there is
		err := d.ws.WriteJSON(map[string]string{"type": "hello", "email": ann, "resume": "aaaaaaaaaaaaaaaaaaaaaaaaaa"})
		if frame, ok := <-d.frames; err != nil || !ok || frame != cannotResume {
			break
		}
		time.Sleep(50 * time.Millisecond) // what the device does
	}
	if s := f.bridge.Stats(); s.Errors[errno.NotIdentified] != 1 {
		t.Errorf("it is still there: %+v", s.Errors)
	}
}

// A ticket ends with what it stands for.
func TestResumeEnds(t *testing.T) {
	f := newFixture(t)
	f.must(f.store.PutTokens([]presence.Token{{Hash: identity.HashSecret("secret"), Email: ann}}))
	for name, end := range map[string]func(){
		"revoked": func() { f.hub.EndCredential(ann, identity.CredentialOf(identity.HashSecret("secret"))) },
		"kicked":  func() { f.hub.Kick(ann, "phone") },
	} {
		phone := f.dial()
		assertion := "dev"
		if name == "revoked" {
			assertion = "secret"
		}
		ticket := phone.hello(`"assertion":"` + assertion + `","resume":true`)
		phone.drop()
		f.until("the loss is noticed", func() bool { return f.hub.Stats().Sessions == 0 })
		end()
		phone = f.dial()
		phone.say(`{"type":"hello","email":"ann@example.org","device":"phone","resume":"` + ticket + `"}`)
		phone.expect(cannotResume)
		phone.drop()
	}
}
