package wsbridge

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func addressNo(i int) address {
	return addressOf(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
}

// Whatever comes, no more begin in any span of time than the burst and the rate allow, and nobody waits for longer than
// the room holds.
func TestDoorKeepsTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(1, 5000).Draw(t, "rate")
		d := newDoor(rate)
		var now int64
		var begins []int64
		for range rapid.IntRange(1, 300).Draw(t, "logins") {
			now += rapid.Int64Range(0, 2*d.every).Draw(t, "pause")
			wait, ok := d.ask(addressNo(rapid.IntRange(0, 5).Draw(t, "from")), now)
			if ok && wait > doorRoom || !ok && (wait <= 0 || wait > doorFarthest) {
				t.Fatalf("%v, %v", wait, ok)
			}
			if ok {
				begins = append(begins, now+int64(wait))
			}
		}
		for i := range begins {
			for j := i; j < len(begins); j++ {
				most := 2 + (int64(doorBurst)+begins[j]-begins[i])/d.every
				if n := int64(j - i + 1); n > most {
					t.Fatalf("%d begin in %v", n, time.Duration(begins[j]-begins[i]))
				}
			}
		}
	})
}

// A crowd that comes at once and does as it is told gets in at the rate: nobody is sent away more than once, and no
// second passes without as many as could be let in.
func TestDoorSpreadsACrowd(t *testing.T) {
	const rate, crowd = 100, 5000
	d := newDoor(rate)
	var seconds [crowd/rate + 10]int
	again := map[int][]int{} // by the second in which they come back
	come := func(i int, now int64, first bool) {
		wait, ok := d.ask(addressNo(i), now)
		switch {
		case ok:
			seconds[(now+int64(wait))/int64(time.Second)]++
		case !first:
			t.Fatalf("%d is sent away a second time, for %v", i, wait)
		default:
			back := int((wait + time.Second - 1) / time.Second)
			again[back] = append(again[back], i)
		}
	}
	for i := range crowd {
		come(i, 0, true)
	}
	for s := range seconds {
		for _, i := range again[s] {
			come(i, int64(s)*int64(time.Second), false)
		}
	}
	total := 0
	for s, n := range seconds {
		total += n
		if n > 2*rate || n == 0 && s < crowd/rate {
			t.Errorf("%d in second %d", n, s)
		}
	}
	if total != crowd {
		t.Errorf("%d of %d got in", total, crowd)
	}
}

// Who logs in all day long from one address does not keep others out, and has all there is where there are no others.
func TestDoorIsFair(t *testing.T) {
	const rate = 100
	d := newDoor(rate)
	greedy, patient := addressNo(1), 2
	in, out := 0, 0
	for ms := range int64(20_000) {
		now := ms * int64(time.Millisecond)
		if _, ok := d.ask(greedy, now); ok { // ten times the rate
			in++
		}
		if ms%100 == 0 {
			patient++
			if wait, ok := d.ask(addressNo(patient), now); !ok || wait > doorRoom/2 {
				out++
			}
		}
	}
	if out > 3 { // of 200; a few may share the greedy one's bucket
		t.Errorf("%d others were kept out, or long", out)
	}
	if whole := 20 * rate; in < whole*8/10 {
		t.Errorf("%d of %d logins were used", in, whole)
	}
}

// Nobody is told to come back in an hour, and those who come too late for a place are spread as well.
func TestDoorNamesNoFarTime(t *testing.T) {
	d := newDoor(1)
	last := map[time.Duration]bool{}
	for i := range 2000 {
		wait, ok := d.ask(addressNo(i), 0)
		if wait > doorFarthest {
			t.Fatal(wait)
		}
		if !ok && i > 1000 {
			last[wait.Truncate(time.Second)] = true
		}
	}
	if len(last) < 20 {
		t.Errorf("%d different times", len(last))
	}
}

// So many work at the same time and no more, but one that waits for somebody else does not count.
func TestDoorHasSoManyHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(1000)
		most := cap(d.hands)
		var working atomic.Int32
		finish := make(chan struct{})
		for range most + 3 {
			go func() {
				done, ok := d.pass(time.Second)
				if !ok {
					return
				}
				working.Add(1)
				<-finish
				working.Add(-1)
				done()
			}()
		}
		synctest.Wait()
		if n := working.Load(); n != 0 {
			t.Errorf("%d before their time", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if n := working.Load(); int(n) != most {
			t.Errorf("%d at work, want %d", n, most)
		}
		time.Sleep(doorPatience)
		synctest.Wait()
		if n := working.Load(); int(n) != most+3 {
			t.Errorf("%d at work, although the first ones take their time", n)
		}
		close(finish)
		synctest.Wait()
		if n := len(d.hands); n != 0 {
			t.Errorf("%d hands are not given back", n)
		}
		for range most {
			go d.pass(time.Hour)
		}
		synctest.Wait()
		d.close() // or the bubble would never end
	})
}

func TestDoorWithoutRate(t *testing.T) {
	d := newDoor(0)
	for range 10000 {
		if wait, ok := d.ask(addressNo(1), 0); wait != 0 || !ok {
			t.Fatal("limited")
		}
	}
	if done, ok := d.pass(0); !ok {
		t.Error("not let in")
	} else {
		done()
	}
}
