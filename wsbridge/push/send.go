package push

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"

	"presenced/identity"
	"presenced/presence"
)

const (
	topic      = "presenced"    // a later push replaces one that was not delivered (RFC 8030 §5.4)
	recordSize = 512            // bytes of every push, padded (RFC 8188 §2)
	maxPayload = 409            // what fits into them
	maxTTL     = 28 * 86400     // seconds; no push service keeps longer
	maxWait    = 24 * time.Hour // however long a push service asks us to wait
)

// look wakes those devices of a user that are to be woken and were not yet.
func (p *Pusher) look(j *job) {
	begun := time.Now()
	subs, err := p.cfg.Store.PushOf(j.email)
	var missed []presence.Missed
	if err == nil && len(subs) > 0 {
		devices := make([]string, len(subs))
		for i := range subs {
			devices[i] = subs[i].Device
		}
		missed, err = p.cfg.Hub.Missed(j.email, devices)
	}
	if err != nil {
		p.cfg.Log.Error("looking who has to be woken", "error", err)
		f := p.later(j.fails[""], 0)
		j.prune(begun)
		j.fails[""] = f
		return
	}
	for i := range subs {
		for _, m := range missed {
			if m.Device == subs[i].Device {
				p.wakeSoon(j, &subs[i], m, begun)
			}
		}
	}
	j.prune(begun)
}

// prune forgets the failures that were due when a look began, and are not renewed by it.
func (j *job) prune(begun time.Time) {
	for device, f := range j.fails {
		if !f.until.After(begun) {
			delete(j.fails, device)
		}
	}
}

// wakeSoon wakes one device, or lines it up: a look that has taken long makes room for other users.
func (p *Pusher) wakeSoon(j *job, s *presence.PushSubscription, m presence.Missed, begun time.Time) {
	if time.Since(begun) < p.cfg.Timeout/2 {
		p.wake(j, s, m)
		return
	}
	if f, now := j.failureOf(s), time.Now(); !f.until.After(now) {
		f.until = now
		j.fails[s.Device] = f
	}
}

// failureOf is what is known of the device's failures at the endpoint that it has now.
func (j *job) failureOf(s *presence.PushSubscription) failure {
	if f := j.fails[s.Device]; f.endpoint == s.Endpoint {
		return f
	}
	return failure{endpoint: s.Endpoint}
}

// wake wakes one device, unless it was woken and has not been back, or its push service asked us to wait or answers
// nobody.
func (p *Pusher) wake(j *job, s *presence.PushSubscription, m presence.Missed) {
	f, now := j.failureOf(s), time.Now()
	if p.woken(s, m) || f.until.After(now) || p.ctx.Err() != nil {
		return
	}
	host := hostOf(s.Endpoint)
	if wait := p.hosts.ask(host, now); wait > 0 {
		f.until = now.Add(wait + rand.N(p.cfg.RetryMin)) // not all at once
		j.fails[s.Device] = f
		return
	}
	a := p.send(s, m)
	if p.ctx.Err() == nil && !errors.Is(a.err, errRefused) {
		p.hosts.note(host, a.status != 0, time.Now())
	}
	p.settle(j, s, m, f, a)
}

// woken reports whether the device was woken and has not been back since.
func (p *Pusher) woken(s *presence.PushSubscription, m presence.Missed) bool {
	return p.cfg.Now().Before(s.Woken.Until) && s.Woken.Seen.Equal(m.Seen)
}

// answer is what came of an attempt.
type answer struct {
	status int           // of the push service; 0: there was none
	wait   time.Duration // as it asked for
	keeps  time.Duration // how long it keeps the push; 0: it did not say
	err    error         // without an answer
}

// settle does what follows from an answer (RFC 8030 §5, §7.3, §8.4).
func (p *Pusher) settle(j *job, s *presence.PushSubscription, m presence.Missed, f failure, a answer) {
	c := &p.counters
	log := p.cfg.Log.With("push service", hostOf(s.Endpoint), "status", a.status, "error", a.err)
	var err error
	switch {
	case p.ctx.Err() != nil:
		return
	case a.status >= 200 && a.status < 300:
		c.woken.Add(1)
		j.fails[s.Device] = p.later(f, 0) // who comes, takes nothing and goes is not woken in a circle
		err = p.cfg.Store.MarkWoken(s.Email, s.Device, s.Endpoint, presence.Woken{Until: p.keptUntil(m.Until, a.keeps), Seen: m.Seen})
	case a.status == http.StatusNotFound, a.status == http.StatusGone, errors.Is(a.err, errRefused):
		c.dropped.Add(1)
		delete(j.fails, s.Device)
		log.Debug("a device can no longer be woken")
		err = p.cfg.Store.RemovePush(s.Email, s.Device, s.Endpoint)
	default:
		c.failed.Add(1)
		wait := a.wait
		if a.status >= 300 && a.status < 500 && a.status != http.StatusTooManyRequests {
			c.refused.Add(1) // repeating it soon would not help
			wait = max(wait, p.cfg.RetryMax)
		}
		log.Debug("a device could not be woken")
		j.fails[s.Device] = p.later(f, wait)
	}
	if err != nil { // it may be woken twice
		p.cfg.Log.Error("noting that a device was woken", "error", err)
	}
}

// later puts off the next attempt, for longer each time, and until wait is over.
func (p *Pusher) later(f failure, wait time.Duration) failure {
	f.count++
	most := p.cfg.RetryMax
	if shift := f.count - 1; shift < 20 {
		most = min(most, p.cfg.RetryMin<<shift)
	}
	pause := most/2 + rand.N(most/2+1)
	f.until = time.Now().Add(max(pause, min(wait, maxWait)))
	return f
}

// errRefused: we do not push to there.
var errRefused = errors.New("push: the endpoint is refused")

// send makes one attempt.
func (p *Pusher) send(s *presence.PushSubscription, m presence.Missed) answer {
	if _, err := p.out.Check(s.Endpoint); err != nil { // what is allowed may have changed
		return answer{err: errors.Join(errRefused, err)}
	}
	resp, err := webpush.SendNotificationWithContext(p.ctx, p.payload(s.Device),
		&webpush.Subscription{Endpoint: s.Endpoint, Keys: webpush.Keys{Auth: s.Auth, P256dh: s.P256DH}},
		&webpush.Options{
			HTTPClient: p.out, RecordSize: recordSize, Subscriber: p.cfg.Contact,
			VAPIDPublicKey: p.public, VAPIDPrivateKey: p.private,
			Topic: topic, TTL: p.ttl(m.Until), Urgency: webpush.UrgencyHigh,
		})
	switch {
	case errors.Is(err, identity.ErrNotPublic):
		return answer{err: errors.Join(errRefused, identity.ErrNotPublic)}
	case err != nil:
		return answer{err: bare(err)}
	}
	resp.Body.Close()                                             // nothing in it matters
	keeps, _ := strconv.ParseUint(resp.Header.Get("TTL"), 10, 31) // RFC 8030 §5.2: it may be less than was asked for
	return answer{status: resp.StatusCode, wait: retryAfter(resp.Header.Get("Retry-After"), p.cfg.Now()),
		keeps: time.Duration(keeps) * time.Second}
}

// payload says that something waits, not what; see the package.
func (p *Pusher) payload(device string) []byte {
	type payload struct {
		Waiting bool   `json:"waiting"`
		Origin  string `json:"origin,omitempty"`
		Device  string `json:"device"`
	}
	b, _ := json.Marshal(payload{true, p.cfg.Origin, device}) // cannot fail
	if len(b) > maxPayload {
		b, _ = json.Marshal(payload{Waiting: true, Device: device})
	}
	return b
}

// ttl is for how many seconds the push service should keep a push (RFC 8030 §5.2).
func (p *Pusher) ttl(until time.Time) int {
	seconds := (until.Sub(p.cfg.Now()) + time.Second - 1) / time.Second
	return int(min(max(seconds, 1), maxTTL))
}

// keptUntil is until when a push can still arrive.
func (p *Pusher) keptUntil(until time.Time, keeps time.Duration) time.Time {
	if keeps <= 0 {
		keeps = maxTTL * time.Second
	}
	if last := p.cfg.Now().Add(keeps); last.Before(until) {
		return last
	}
	return until
}

// retryAfter reads the header of that name (RFC 9110 §10.2.3): seconds, or a date.
func retryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// bare takes the URL out of an error: who has an endpoint can push to it.
func bare(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return u.Host
}
