package main

import (
	"time"

	"presenced/wsbridge/push"
)

// startPush begins to wake devices, if that is on.
func (g *gateway) startPush() (err error) {
	c := &g.cfg.Push
	if !c.Enabled {
		return nil
	}
	g.push, err = push.New(push.Config{
		Hub: g.hub, Store: g.store, Now: time.Now, Log: g.log,
		Origin: g.origin, Contact: c.Contact, AllowPrivate: c.AllowPrivate,
	})
	return err
}

// stopPush ends it, once; nobody is woken by a server that goes away.
func (g *gateway) stopPush() {
	if g.push != nil {
		g.push.Close()
	}
}

// pushStats are zero where it is off.
func (g *gateway) pushStats() push.Stats {
	if g.push == nil {
		return push.Stats{}
	}
	return g.push.Stats()
}

func pushMetrics() []metric {
	return []metric{
		counter("wakeups_sent", "Pushes that a push service took.",
			func(s *allStats) uint64 { return s.push.Woken }),
		counter("wakeups_failed", "Pushes that failed and are tried again.",
			func(s *allStats) uint64 { return s.push.Failed }),
		counter("wakeups_refused", "Of the pushes that failed, those that the push service would not have.",
			func(s *allStats) uint64 { return s.push.Refused }),
		counter("push_subscriptions_dropped", "Subscriptions forgotten because a push service said that they are no more.",
			func(s *allStats) uint64 { return s.push.Dropped }),
		gauge("wakeups_waiting", "Users with a device that waits to be woken once more.",
			func(s *allStats) int { return s.push.Trying }),
	}
}
