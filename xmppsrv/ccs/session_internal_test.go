package ccs

import (
	"runtime"
	"testing"
	"time"

	"presenced/presence"
)

// What a session took it gives up when it goes, however close the two are: nothing stays with it.
func TestSessionThatGoesKeepsNothing(t *testing.T) {
	for range 1000 {
		s := &session{srv: &Server{}, send: &sender{app: "chat"}, out: newOutbox(nil, time.Second)}
		s.out.over = true // nobody reads what is written
		taken := make(chan int)
		go func() {
			n := 0
			for s.offer(&presence.Update{Kind: presence.FromDevice, Local: "p1", Tag: "t1", Ref: "m", ID: 1, Data: []byte("{}")}) {
				n++
			}
			taken <- n
		}()
		for begun := false; !begun; runtime.Gosched() {
			s.mu.Lock()
			begun = len(s.unacked) > 2
			s.mu.Unlock()
		}
		list := s.giveUp()
		if n := <-taken; n != len(list) {
			t.Fatalf("it took %d messages and gave up %d", n, len(list))
		}
	}
}
