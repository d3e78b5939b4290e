package push

import (
	"testing"
	"time"
)

// Pauses grow to the longest one, each within the half of itself, and are never shorter than was asked for.
func TestPauses(t *testing.T) {
	p := &Pusher{cfg: Config{RetryMin: time.Second, RetryMax: time.Minute}}
	var f failure
	for i, most := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		begun := time.Now()
		f = p.later(f, 0)
		if pause := f.until.Sub(begun); pause < most*time.Second/2 || pause > most*time.Second+time.Second {
			t.Errorf("pause %d is %v, want %d s at most and half of it at least", i, pause, most)
		}
	}
	for f.count < 1000 {
		f = p.later(f, 0)
	}
	begun := time.Now()
	if pause := p.later(f, time.Hour).until.Sub(begun); pause < time.Hour {
		t.Errorf("asked for an hour, %v", pause)
	}
	if pause := p.later(f, 1000*time.Hour).until.Sub(begun); pause > 25*time.Hour {
		t.Errorf("a push service can have us wait for %v", pause)
	}
}

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, " 5 ": 5 * time.Second, "-1": 0, "soon": 0, "99999999999999": 0,
		"Wed, 02 Jan 2030 03:05:05 GMT": time.Minute, "Wed, 02 Jan 2030 03:00:00 GMT": 0,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestContact(t *testing.T) {
	for origin, want := range map[string]string{"https://presence.example.org": "https://presence.example.org",
		"http://presence.lan:8080": "postmaster@presence.lan"} {
		c := Config{Origin: origin}
		if c.fill(); c.Contact != want {
			t.Errorf("%s: %s", origin, c.Contact)
		}
	}
}
