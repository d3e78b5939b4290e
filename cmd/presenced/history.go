package main

import (
	"context"
	"log/slog"
	"time"

	"presenced/presence"
)

// What happened to users is kept for them to look at: history takes it from a watch of everything to the store. It is no
// promise like the queue's: what comes faster than it is written is lost, and so is the last second before a crash.
const (
	historyEvery = time.Second
	historySlice = 256 // events written in one commit, so that nothing else in it waits long
	historyMost  = 16  // slices in a row, before it looks again a second later
)

// historyStore keeps events.
type historyStore interface {
	AppendActivity([]presence.Event) error
}

// history belongs to the one goroutine that runs it.
type history struct {
	watch *presence.Watch
	store historyStore
	log   *slog.Logger
	lost  uint64 // since it was last said
	quiet time.Time
	buf   [historySlice]presence.Event
}

// keepHistory writes what the watch shows until ctx ends, then what is left, and closes the watch.
func keepHistory(ctx context.Context, w *presence.Watch, st historyStore, log *slog.Logger) {
	h := &history{watch: w, store: st, log: log}
	defer w.Close()
	tick := time.NewTicker(historyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			for h.write() {
			}
			return
		case <-tick.C:
			for range historyMost {
				if !h.write() {
					break
				}
			}
		}
	}
}

// write keeps one slice and reports whether there may be more.
func (h *history) write() bool {
	n, lost := h.watch.Take(h.buf[:])
	h.tellLost(lost)
	if n == 0 {
		return false
	}
	if err := h.store.AppendActivity(h.buf[:n]); err != nil {
		h.tellLost(uint64(n)) // the store says itself why it fails
		return false
	}
	return n == len(h.buf)
}

// tellLost logs that events were lost, at most once a minute.
func (h *history) tellLost(n uint64) {
	h.lost += n
	if now := time.Now(); h.lost > 0 && now.Sub(h.quiet) > time.Minute {
		h.log.Warn("what happened was not all kept for the users to look at", "events", h.lost)
		h.lost, h.quiet = 0, now
	}
}
