package push_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"presenced/presence"
	"presenced/wsbridge/push"
)

// A device that is not there is woken once for what is urgent, and told nothing of it.
func TestOnePush(t *testing.T) {
	f := newFixture(t, func(c *push.Config) { c.Contact = "mailto:admin@example.org" })
	phone := f.device(ann, "phone")
	m := urgent()
	m.TTL = time.Hour
	f.notify(ann, "", m)
	p := f.service.expect(phone)
	if got, want := phone.decrypt(p.body), `{"waiting":true,"origin":"`+origin+`","device":"phone"}`; got != want {
		t.Errorf("pushed %s, want %s", got, want)
	}
	for name, want := range map[string]string{"Urgency": "high", "Topic": "presenced", "Content-Encoding": "aes128gcm", "Ttl": "3600"} {
		if got := p.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if p.Method != http.MethodPost || len(p.body) != 512 {
		t.Errorf("%s of %d bytes", p.Method, len(p.body))
	}
	claims := p.checkVAPID(t, f.pusher.Key())
	if left := time.Until(time.Unix(claims.Exp, 0)); claims.Aud != f.service.URL || claims.Sub != "mailto:admin@example.org" ||
		left <= 0 || left > 24*time.Hour {
		t.Errorf("claims %+v", claims)
	}
	f.notify(ann, "", urgent()) // it was woken
	f.notify(ann, "phone", urgent())
	f.nothing()
	f.visit(ann, "phone") // it has taken nothing
	f.service.expect(phone)
	f.nothing()
	if s := f.pusher.Stats(); s.Failed != 0 || s.Woken != 4 || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
}

// Nobody is woken for what is not urgent, or does not wait; nor a device that is there, or may come back any moment.
func TestNoPush(t *testing.T) {
	f := newFixture(t)
	phone := f.device(ann, "phone")
	calm, fleeting := urgent(), urgent()
	calm.High, fleeting.TTL = false, 0
	f.notify(ann, "", calm)
	f.notify(ann, "", fleeting)
	f.nothing()

	s := f.attach(ann, "phone")
	f.must(s.Publish(presence.Online, time.Time{}))
	f.notify(ann, "", urgent())
	f.nothing()
	s.Close()
	f.nothing()
	f.pass(linger) // the socket was dead, it took nothing
	f.service.expect(phone)

	f.device("bob@example.org", "phone")
	f.must(f.hub.SetDisabled("bob@example.org", true, presence.ByAdmin))
	f.notify("bob@example.org", "", urgent())
	f.nothing()
}

// What is for any device wakes all that can be woken, but only while none is there; what is for one wakes that one.
func TestWhoIsWoken(t *testing.T) {
	f := newFixture(t)
	desk, phone, watch := f.device(ann, "desk"), f.device(ann, "phone"), f.attach(ann, "watch")
	f.notify(ann, "", urgent())
	f.nothing()
	f.notify(ann, "phone", urgent())
	f.service.expect(phone)
	f.nothing()
	watch.Close()
	f.service.expect(desk)
	f.nothing()
}

// A subscription ends with a word of its push service, of the device, or with the device, its tokens or its user.
func TestSubscriptionsEnd(t *testing.T) {
	for name, end := range map[string]func(f *fixture, d *device){
		"404":           func(f *fixture, d *device) { f.refuseOnce(d, http.StatusNotFound) },
		"410":           func(f *fixture, d *device) { f.refuseOnce(d, http.StatusGone) },
		"null":          func(f *fixture, d *device) { f.must(f.pusher.Register(d.email, d.name, 0, nil)) },
		"device":        func(f *fixture, d *device) { f.must(f.store.RemoveDevice(d.email, d.name)) },
		"user":          func(f *fixture, d *device) { f.must(f.store.RemoveUser(d.email)) },
		"signed out":    func(f *fixture, d *device) { _, err := f.store.RevokeTokens(d.email, d.name); f.must(err) },
		"everywhere":    func(f *fixture, d *device) { _, err := f.store.RevokeTokens(d.email, ""); f.must(err) },
		"its token":     func(f *fixture, d *device) { f.endToken(d) },
		"another's now": func(f *fixture, d *device) { f.must(f.another(d)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			phone := f.device(ann, "phone")
			end(f, phone)
			f.service.answers(created)
			f.nothing()
			if subs, err := f.store.PushOf(ann); len(subs) != 0 || err != nil {
				t.Errorf("%+v, %v", subs, err)
			}
			f.notify(ann, "", urgent())
			f.nothing()
		})
	}
}

// refuseOnce has the push service refuse a push for d, and waits until that was taken notice of.
func (f *fixture) refuseOnce(d *device, code int) {
	f.t.Helper()
	f.service.answers(status(code))
	f.notify(d.email, "", urgent())
	f.service.expect(d)
	f.until(func(s push.Stats) bool { return s.Dropped == 1 })
}

func (f *fixture) endToken(d *device) {
	one, other := presence.Token{Hash: [32]byte{1}, Email: d.email, Device: d.name}, presence.Token{Hash: [32]byte{2}, Email: d.email, Device: d.name}
	f.must(f.store.PutTokens([]presence.Token{one, other}))
	for left, t := range []presence.Token{one, other} {
		_, _, err := f.store.RevokeToken(t.Hash)
		f.must(err)
		if subs, _ := f.store.PushOf(d.email); len(subs) != 1-left {
			f.t.Errorf("%d subscriptions", len(subs))
		}
	}
}

// another has the same browser registered for another user.
func (f *fixture) another(d *device) error {
	s := f.attach("bob@example.org", "browser")
	defer s.Close()
	return f.pusher.Register("bob@example.org", "browser", 0, d.subscription())
}

// What fails is tried again, later each time, until the push service takes it.
func TestTriedAgain(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"500":      status(http.StatusInternalServerError),
		"503":      status(http.StatusServiceUnavailable),
		"429":      status(http.StatusTooManyRequests),
		"403":      status(http.StatusForbidden),
		"redirect": status(http.StatusTemporaryRedirect, "Location", "/elsewhere"),
		"timeout": func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // else there would be an answer after all
		},
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := http.NewResponseController(w).Hijack()
			c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(c *push.Config) { c.Timeout = 200 * time.Millisecond })
			phone := f.device(ann, "phone")
			f.service.answers(answer)
			f.notify(ann, "", urgent())
			for range 3 {
				f.service.expect(phone)
			}
			f.service.answers(created)
			f.until(func(s push.Stats) bool { return s.Woken == 1 })
			for len(f.service.pushes) > 0 {
				f.service.expect(phone)
			}
			f.nothing()
			if s := f.pusher.Stats(); s.Failed < 3 || s.Dropped != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// A push service that asks for time gets it.
func TestRetryAfter(t *testing.T) {
	f := newFixture(t)
	phone := f.device(ann, "phone")
	f.service.answers(status(http.StatusTooManyRequests, "Retry-After", "1"))
	f.notify(ann, "", urgent())
	first := f.service.expect(phone)
	f.service.answers(created)
	f.notify(ann, "", urgent()) // which is no reason to come sooner
	if waited := f.service.expect(phone).at.Sub(first.at); waited < time.Second {
		t.Errorf("it waited %v", waited)
	}
}

// One push service that answers nothing holds up nobody but its own user's.
func TestTarpit(t *testing.T) {
	f := newFixture(t, func(c *push.Config) { c.Workers, c.Timeout = 2, time.Hour })
	stuck := make(chan struct{})
	f.service.answers(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		close(stuck)
	})
	slow := f.device(ann, "phone")
	f.notify(ann, "", urgent())
	f.service.expect(slow)
	f.service.answers(created)
	for range 3 {
		f.notify(ann, "", urgent())
		f.nothing()
	}
	f.stop() // and Close does not wait for it
	<-stuck
}

// A push service that answers nobody has the workers for a few attempts, however many use it; then for one at a time.
// When it answers again, they are woken.
func TestSilentService(t *testing.T) {
	silent := newService(t)
	f := newFixture(t, func(c *push.Config) {
		c.Roots.AddCert(silent.Certificate())
		c.Timeout, c.RetryMin, c.RetryMax = 50*time.Millisecond, 500*time.Millisecond, time.Second
	})
	silent.answers(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	const users = 20
	for i := range users {
		email := fmt.Sprintf("user%d@example.org", i)
		f.deviceAt(silent, email, "phone")
		f.notify(email, "", urgent())
	}
	f.nothing() // who comes behind them in the line, and has another, has been woken
	if n := len(silent.pushes); n > users/2 {
		t.Errorf("%d attempts at the one that is silent", n)
	}
	silent.answers(created)
	f.until(func(s push.Stats) bool { return s.Woken == users+1 })
}

// A user whose devices take long has a worker for a while, not until all of them are through.
func TestManySlowDevices(t *testing.T) {
	const timeout = 2 * time.Second
	slow := newService(t)
	f := newFixture(t, func(c *push.Config) {
		c.Roots.AddCert(slow.Certificate())
		c.Timeout = timeout
	})
	answer := make(chan struct{})
	slow.answers(func(w http.ResponseWriter, _ *http.Request) {
		<-answer
		w.WriteHeader(http.StatusCreated)
	})
	for i := range 3 {
		f.deviceAt(slow, ann, fmt.Sprint("phone", i))
	}
	f.notify(ann, "", urgent())
	begun := (<-slow.pushes).at
	bob := f.device("bob@example.org", "phone")
	f.notify(bob.email, "", urgent())
	time.AfterFunc(time.Until(begun.Add(timeout/2)), func() { close(answer) })
	his := f.service.expect(bob).at
	f.until(func(s push.Stats) bool { return s.Woken == 4 })
	for range 2 {
		if (<-slow.pushes).at.Before(his) {
			t.Error("somebody had to wait for all of her devices")
		}
	}
}

// After a restart those are woken who were not, and nobody twice.
func TestRestart(t *testing.T) {
	f := newFixture(t)
	phone, desk := f.device(ann, "phone"), f.device("bob@example.org", "desk")
	key := f.pusher.Key()
	f.notify(ann, "", urgent())
	f.service.expect(phone)
	f.until(func(s push.Stats) bool { return s.Woken == 1 })
	f.nothing() // it is noted
	f.stop()
	f.notify("bob@example.org", "", urgent())
	f.restart()
	if f.pusher.Key() != key {
		t.Error("the key is another one")
	}
	f.service.expect(desk)
	f.nothing()
	f.stop()
	f.visit(ann, "phone")
	f.restart()
	f.service.expect(phone)
	f.nothing()
}

// At the start devices get time to come back by themselves; who is urgent then is woken all the same.
func TestGrace(t *testing.T) {
	f := newFixture(t, func(c *push.Config) { c.Grace = time.Hour })
	f.device(ann, "phone")
	desk := f.device("bob@example.org", "desk")
	f.stop()
	f.notify(ann, "", urgent())
	f.restart()
	f.notify("bob@example.org", "", urgent())
	f.service.expect(desk)
	f.nothing()
}

// Where a push service keeps a push for less time than something waits, the device is woken again.
func TestForgottenByTheService(t *testing.T) {
	f := newFixture(t, func(c *push.Config) { c.Every = 5 * time.Millisecond })
	phone := f.device(ann, "phone")
	f.service.answers(status(http.StatusCreated, "TTL", "60"))
	f.notify(ann, "", urgent())
	f.service.expect(phone)
	f.service.answers(created)
	f.nothing()
	f.clock.add(time.Minute)
	f.service.expect(phone)
}

// Nothing is pushed to what is not public, whoever allowed it before, and whatever a name means now.
func TestNotPublic(t *testing.T) {
	f := newFixture(t)
	f.device(ann, "phone")
	f.stop()
	f.notify(ann, "", urgent())
	f.config.AllowPrivate = false
	f.start()
	f.until(func(s push.Stats) bool { return s.Dropped == 1 })
	d := f.newDevice(ann, "phone")
	for _, endpoint := range []string{"https://127.0.0.1/", "https://localhost/", "http://push.example.org/", "https://push.example.org:8443/",
		"https://10.0.0.1/", "https://[::1]/", "https://user@push.example.org/", "https://intranet/", "", "x", "https://" + strings.Repeat("a", 2048) + ".example.org/"} {
		raw := strings.Replace(string(d.subscription()), f.service.URL, endpoint, 1)
		if err := f.pusher.Check([]byte(raw)); err == nil {
			t.Errorf("%q is taken", endpoint)
		}
	}
	f.stop()
	f.config.Resolver = privateNames(t)
	f.start()
	s := f.attach(ann, "phone")
	f.must(f.pusher.Register(ann, "phone", 0, []byte(strings.Replace(string(d.subscription()), f.service.URL, "https://push.example.org", 1))))
	s.Close()
	f.until(func(s push.Stats) bool { return s.Dropped == 1 })
	if len(f.service.pushes) != 0 {
		t.Error("a push came")
	}
}

// privateNames is a name server for which every name is 127.0.0.1.
func privateNames(t *testing.T) *net.Resolver {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			_, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			end := 12
			for buf[end] != 0 { // RFC 1035 §4.1.2
				end += int(buf[end]) + 1
			}
			question := buf[:end+5]
			answer := append([]byte(nil), question...)
			copy(answer[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
			if binary.BigEndian.Uint16(question[end+1:]) == 1 { // A
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1)
			}
			conn.WriteTo(answer, from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestBadSubscriptions(t *testing.T) {
	f := newFixture(t)
	d := f.device(ann, "phone")
	good := string(d.subscription())
	for name, bad := range map[string]string{
		"nothing": `{}`, "an array": `[]`, "no keys": `{"endpoint":"https://push.example.org/"}`,
		"a point that is not on the curve": strings.Replace(good, `"p256dh":"B`, `"p256dh":"C`, 1),
		"a short secret":                   strings.Replace(good, `"auth":"`, `"auth":"AA","x":"`, 1),
		"not base64":                       strings.Replace(good, `"auth":"`, `"auth":"!`, 1),
		"numbers":                          `{"endpoint":1,"keys":2}`,
	} {
		if err := f.pusher.Check([]byte(bad)); err == nil {
			t.Errorf("%s is taken: %s", name, bad)
		}
	}
	if err := f.pusher.Register(ann, "desk", 0, []byte(good)); err == nil {
		t.Error("a device that is not known can be woken")
	}
	padded := strings.NewReplacer("-", "+", "_", "/").Replace(good[strings.Index(good, `"p256dh"`):])
	padded = strings.Replace(padded, `","auth`, `=","auth`, 1)
	padded = strings.Replace(padded, `"}}`, `=="}}`, 1)
	f.must(f.pusher.Check([]byte(good[:strings.Index(good, `"p256dh"`)] + padded)))
}

// FuzzSubscription: whatever a device sends is taken or refused; what is taken can be used, and is taken again.
func FuzzSubscription(f *testing.F) {
	f.Add([]byte(`{"endpoint":"https://push.example.org/x","keys":{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := push.ForParsing()
		s, err := push.Parse(p, b)
		if err != nil {
			return
		}
		again, err := push.Parse(p, []byte(`{"endpoint":`+strconv.Quote(s.Endpoint)+`,"keys":{"p256dh":"`+s.P256DH+`","auth":"`+s.Auth+`"}}`))
		if err == nil && again != s {
			t.Errorf("%+v became %+v", s, again)
		}
	})
}
