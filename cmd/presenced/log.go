package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

func parseLevel(s string) (slog.Level, error) {
	switch s {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("%q is none of debug, info, warn, error", s)
}

// newLogger writes to w in the checked format and level of c. What is our own fault does not flood it, see calm.
func newLogger(w io.Writer, c LogConfig) *slog.Logger {
	level, err := parseLevel(c.Level)
	if err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if c.Format == "json" {
		h = slog.NewJSONHandler(w, o)
	}
	return slog.New(calm{h, &repeats{times: make(map[string]int)}})
}

const (
	calmFor   = time.Minute // in which an error is one line, and at its end another with how often it came again
	calmKinds = 64          // errors that are told apart; of more, only the messages
)

// calm is a handler that lets an error through when it comes first, and then its number once in calmFor until it
// comes no more: a disk that is full fails every call, and says nothing new. Errors are the same when message and
// cause are. What is below the level of errors passes.
type calm struct {
	slog.Handler
	repeats *repeats
}

// repeats counts errors that were told already. Safe for concurrent use.
type repeats struct {
	mu    sync.Mutex
	times map[string]int // guarded by mu; by error: how often it came again in its calmFor
}

// Handle passes a record on, or counts it.
func (c calm) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelError {
		return c.Handler.Handle(ctx, r)
	}
	key, fresh := c.repeats.count(&r)
	if !fresh {
		return nil
	}
	first := r.Clone()
	time.AfterFunc(calmFor, func() { c.sum(key, first) })
	return c.Handler.Handle(ctx, r)
}

// sum tells how often an error came again, and goes on as long as it does.
func (c calm) sum(key string, first slog.Record) {
	times := c.repeats.take(key)
	if times == 0 {
		return
	}
	time.AfterFunc(calmFor, func() { c.sum(key, first) })
	r := first.Clone()
	r.Time = time.Now()
	r.AddAttrs(slog.Int("times", times), slog.Duration("in", calmFor))
	_ = c.Handler.Handle(context.Background(), r) // as with any line, there is nobody to tell
}

// WithAttrs and WithGroup keep the count.
func (c calm) WithAttrs(as []slog.Attr) slog.Handler { return calm{c.Handler.WithAttrs(as), c.repeats} }
func (c calm) WithGroup(name string) slog.Handler    { return calm{c.Handler.WithGroup(name), c.repeats} }

// count takes note of an error. fresh: it was not there in the last calmFor.
func (p *repeats) count(r *slog.Record) (key string, fresh bool) {
	cause := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			cause = a.Value.String()
		}
		return true
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	key = r.Message + "\x00" + cause
	if _, known := p.times[key]; !known && len(p.times) >= calmKinds {
		key = r.Message
	}
	if _, known := p.times[key]; known {
		p.times[key]++
		return key, false
	}
	p.times[key] = 0
	return key, true
}

// take returns how often the error came again, and begins anew; 0: it is over.
func (p *repeats) take(key string) (times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if times = p.times[key]; times == 0 {
		delete(p.times, key)
		return 0
	}
	p.times[key] = 0
	return times
}
