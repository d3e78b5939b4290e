package wsbridge_test

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"presenced/wsbridge"
)

const hello = `{"type":"hello","id":1,"email":"bob@example.org","assertion":"dev"}`

// Devices above the rate are told when to come back and are let in then; those who are connected do not notice.
func TestLoginsHaveARate(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) { c.Logins = 0.02 }) // one in 50 seconds
	d := f.online("phone")
	late := f.dial()
	late.say(hello)
	var ko struct {
		Result     string
		Errno, ID  int
		Type       string
		RetryAfter int `json:"retry_after"`
	}
	f.must(json.Unmarshal([]byte(late.hear()), &ko))
	if ko.Result != "KO" || ko.Errno != 40 || ko.ID != 1 || ko.Type != "hello" || ko.RetryAfter < 50 || ko.RetryAfter > 300 {
		t.Errorf("%+v", ko)
	}
	late.ends(4029)
	d.say(`{"status":"unavailable"}`)
	d.expect(okay)
	garbage := f.dial() // is not told more than that
	garbage.say(`[]`)
	garbage.expect(`{"result":"KO","errno":30,"error":"not identified"}`)
	garbage.ends(4530)
	if n := f.bridge.Stats().SentAway; n != 2 {
		t.Errorf("%d were sent away", n)
	}

	f.clock.add(time.Duration(ko.RetryAfter) * time.Second)
	late = f.dial()
	late.say(hello)
	if answer := late.hear(); !strings.Contains(answer, `"OK"`) {
		t.Error(answer)
	}
}

// A bridge that is shut down does not wait for those who wait for their moment.
func TestShutdownDoesNotWaitForTheRoom(t *testing.T) {
	f := newFixture(t, func(c *wsbridge.Config) {
		c.Logins = 0.6 // one in 1.7 s
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	})
	f.online("phone")
	d := f.dial(header("X-Forwarded-For", "2001:db8::1"))
	d.say(hello)
	f.until("the frame is read or waits", func() bool { return f.bridge.Stats().Waiting == 1 })
	f.hub.Close()
	f.must(f.bridge.Shutdown(t.Context()))
	if answer := d.hear(); !strings.Contains(answer, `"errno":51`) { // to its frame, or before
		t.Error(answer)
	}
	d.ends(4001)
}

// Those who have to go are told different times, behind the end, and the end says them once more.
func TestDrainSpreads(t *testing.T) {
	f := newFixture(t)
	devices := map[string]*device{}
	for _, name := range []string{"a", "b", "c"} {
		devices[name] = f.online(name)
	}
	f.hub.Drain(10*time.Second, 1000*time.Second, "shutdown")
	told := func(frame string) int {
		t.Helper()
		var r struct {
			Reconnect struct{ After int }
			Errno     int
			After     int `json:"retry_after"`
		}
		f.must(json.Unmarshal([]byte(frame), &r))
		return max(r.Reconnect.After, r.After)
	}
	var first, last []int
	for _, d := range devices {
		first = append(first, told(d.hear()))
	}
	f.clock.add(10 * time.Second)
	f.hub.Close()
	for _, d := range devices {
		last = append(last, told(d.hear()))
		d.ends(4001)
	}
	slices.Sort(first)
	slices.Sort(last)
	if first[0] < 10 || first[2] > 1010 || last[2] > 1000 {
		t.Errorf("told %v, then %v", first, last)
	}
	if first[0] == first[2] || last[0] == last[2] {
		t.Errorf("all come back at the same time: %v, %v", first, last)
	}
}

// A device that floods is slowed, then closed, again and again; what the others wait for an answer stays what it was.
// The bound is wide: it is for a flood that is carried out, not for a busy machine.
func TestFloodIsNobodyElsesTrouble(t *testing.T) {
	const questions = 300
	f := newFixture(t, func(c *wsbridge.Config) { c.Rate, c.Burst, c.Now = 1, 20, time.Now })
	d := f.online("phone")
	median := func() time.Duration {
		var waits []time.Duration
		for range questions {
			begin := time.Now()
			d.say(`{}`)
			d.expect(`{}`)
			waits = append(waits, time.Since(begin))
		}
		slices.Sort(waits)
		return waits[questions/2]
	}
	idle := median()
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		floods := 0
		for {
			select {
			case <-stop:
				stopped <- floods
				return
			default:
				flood(t, f)
				floods++
			}
		}
	}()
	slow := median()
	close(stop)
	if floods := <-stopped; floods == 0 {
		t.Error("there was no flood")
	}
	if slow > 100*idle {
		t.Errorf("an answer takes %v during a flood, %v without", slow, idle)
	}
}

// flood says as much as it may and more, and checks that it was slowed, then closed.
func flood(t *testing.T, f *fixture) {
	d := f.dial()
	slowed := false
	for range 100 {
		if d.ws.WriteMessage(1, []byte(`{"email":"bob@example.org","assertion":"dev","status":"online"}`)) != nil {
			break // closed
		}
	}
	for frame := range d.frames {
		slowed = slowed || strings.Contains(frame, `"errno":40`) && strings.Contains(frame, `"retry_after"`)
	}
	if d.ends(4029); !slowed {
		t.Error("it was not slowed before")
	}
}
