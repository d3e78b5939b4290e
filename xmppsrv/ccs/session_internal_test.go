package ccs

import (
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
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

// Answers repeat what they answer, which may be long. Who sends much of that and reads nothing is not read from, though
// places are free: what waits for it is bounded in bytes too.
func TestLongAnswersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		o := newOutbox(&conn{Conn: ours, count: &counters{}}, time.Hour)
		go o.run(func() {})
		var added atomic.Int64
		go func() {
			for long := make([]byte, maxAnswers); o.place(); added.Add(1) {
				o.answer(long)
			}
		}()
		synctest.Wait()
		const most = 2 // one that is being written, one that waits
		if n := added.Load(); n > most {
			t.Errorf("%d answers of %d bytes wait", n, maxAnswers)
		}
		io.CopyN(io.Discard, theirs, 10*maxAnswers)
		synctest.Wait()
		if n := added.Load(); n < 10 || n > 10+most {
			t.Errorf("%d answers after 10 were read", n)
		}
		theirs.Close()
	})
}
