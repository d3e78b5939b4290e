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

// However many were lost before and never sent again, the last ones are remembered.
func TestLastLostAreRemembered(t *testing.T) {
	now := time.Now()
	srv := &Server{}
	srv.cfg.Now = func() time.Time { return now }
	send := &sender{srv: srv, wake: make(chan struct{}, 1), lost: make(map[print]time.Time)}
	named := func(n int) print { return print{byte(n), byte(n >> 8)} }
	for n := range maxLate + 10 {
		now = now.Add(time.Second)
		s := &session{srv: srv, send: send, out: newOutbox(nil, time.Second)}
		s.out.lost = []print{named(n)}
		send.leave(s)
	}
	if len(send.lost) > maxLate || !send.wasLost(named(maxLate+9)) || !send.wasLost(named(10)) || send.wasLost(named(9)) {
		t.Errorf("%d are remembered, not the last", len(send.lost))
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
				o.add(long, answer{place: true})
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
