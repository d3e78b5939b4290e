package wsbridge_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"presenced/identity"
	"presenced/wsbridge"
)

// An ack is free where a notification was sent for it, and only in ack mode; all others use up the socket's patience.
func TestAcksThatAreNotOwed(t *testing.T) {
	for _, c := range []struct {
		ack  bool
		sent int
		free int
	}{{true, 0, 50}, {true, 1, 51}, {false, 1, 50}} {
		t.Run(fmt.Sprintf("ack %v, %d sent", c.ack, c.sent), func(t *testing.T) {
			f := newFixture(t, func(c *wsbridge.Config) { c.Rate, c.Burst = 0.001, 1 })
			chat := f.app("chat")
			d := f.dial()
			d.say(fmt.Sprintf(`{"type":"hello","email":"ann@example.org","assertion":"dev","ack":%v}`, c.ack))
			d.hear()
			for range c.sent {
				chat.notify("n", "x")
				d.notifications()
			}
			done, refused := 0, ""
			for refused == "" && done <= c.free {
				d.say(`{"type":"ack","ids":["1"]}`)
				if frame := d.hear(); frame == `{"result":"OK","type":"ack"}` {
					done++
				} else {
					refused = frame
				}
			}
			if done != c.free || !strings.HasPrefix(refused, `{"result":"KO","errno":40,`) {
				t.Fatalf("%d were taken, want %d; then %s", done, c.free, refused)
			}
			d.ends(4029)
		})
	}
}

// Who changes to acks confirms by acks: a pong to a ping of the time before confirms nothing any more.
func TestPongBehindTheChangeToAcks(t *testing.T) {
	f := newFixture(t)
	chat := f.app("chat")
	d := f.dial(silent)
	d.say(`{"type":"hello","email":"ann@example.org","assertion":"dev","status":"online"}`)
	d.hear()
	chat.expect("online")
	chat.notify("n", "read me")
	d.notifications()
	payload := <-d.pings
	d.say(`{"type":"hello","email":"ann@example.org","assertion":"dev","ack":true}`)
	d.hear()
	f.must(d.ws.WriteControl(websocket.PongMessage, []byte(payload), time.Now().Add(patience)))
	d.say(`{}`)
	d.expect(`{}`) // behind the pong
	d.drop()
	again := f.dial()
	again.say(`{"type":"hello","email":"ann@example.org","assertion":"dev","ack":true}`)
	again.hear()
	if got := again.texts(1); got[0] != "read me" {
		t.Errorf("came again: %q", got)
	}
}

// believer is a verifier that takes everything, for one e-mail or for the one that is claimed.
type believer struct {
	as    string
	asked atomic.Int32
}

func (b *believer) Verify(_ context.Context, claimed, _ string) (identity.Identity, error) {
	b.asked.Add(1)
	id := identity.Identity{Email: b.as}
	if b.as == "" {
		id.Email = claimed
	}
	return id, nil
}

// An assertion speaks for the e-mail that it confirms, whatever its verifier let pass.
func TestAssertionOfAnother(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.Verifier = &believer{as: "eve@example.org"} })
	d := f.dial()
	d.say(`{"email":"ann@example.org","assertion":"good","status":"online"}`)
	d.expect(`{"result":"KO","errno":35,"error":"e-mail not confirmed by the assertion"}`)
	d.ends(4534)
}

// The assertion that was verified last is free, also when it is not the first.
func TestRepeatedAssertionIsFree(t *testing.T) {
	b := new(believer)
	f := newFixture(t, func(c *wsbridge.Config) { c.Verifier = b })
	d := f.dial()
	for i, assertion := range []string{"one", "one", "two", "two", "two", "one"} {
		d.say(`{"email":"ann@example.org","assertion":"` + assertion + `","status":"online"}`)
		d.expect(okay)
		if want := []int32{1, 1, 2, 2, 2, 3}[i]; b.asked.Load() != want {
			t.Errorf("after frame %d: verified %d times, want %d", i, b.asked.Load(), want)
		}
	}
}
