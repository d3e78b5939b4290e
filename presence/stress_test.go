package presence_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"presenced/presence"
)

// Devices come, change and go while apps connect, read and are replaced, all at once. When it is quiet,
// each app's last connection knows exactly what is true.
func TestEverythingAtOnce(t *testing.T) {
	f := newFixture(t)
	defer f.close()
	const users, apps, rounds = 20, 3, 200
	puids := map[string]string{}
	for a := range apps {
		f.app(fmt.Sprint("app", a))
		for u := range users {
			g := f.allow(fmt.Sprintf("u%d@example.org", u), fmt.Sprint("app", a))
			puids[g.PUID] = g.Email
		}
	}
	var work sync.WaitGroup
	for u := range users {
		work.Go(func() {
			r := rand.New(rand.NewPCG(uint64(u), 1))
			email := fmt.Sprintf("u%d@example.org", u)
			for range rounds {
				s := f.attach(email, fmt.Sprint("d", r.IntN(2)))
				_ = s.Publish(presence.Status(r.IntN(3)), time.Time{})
				if r.IntN(8) == 0 {
					app := fmt.Sprint("app", r.IntN(apps))
					f.must(f.hub.SetPaused(email, app, true, presence.ByUser))
					f.must(f.hub.SetPaused(email, app, false, presence.ByUser))
				}
				if r.IntN(4) == 0 {
					s.Close()
				}
			}
			f.hub.Kick(email, "")
			f.must(f.attach(email, "last").Publish(presence.Online, time.Time{}))
		})
	}
	links := make([]*presence.Link, apps)
	known := make([]map[string]presence.Status, apps)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for a := range apps {
		readers.Go(func() {
			for {
				l := f.link(fmt.Sprint("app", a))
				links[a], known[a] = l, map[string]presence.Status{}
				for range 50 {
					hearAll(t, l, known[a])
					select {
					case <-stop:
						return
					case <-l.Wake():
					}
				}
			}
		})
	}
	work.Wait()
	close(stop)
	readers.Wait()
	f.pass(time.Hour) // who lingers is gone
	for a := range apps {
		hearAll(t, links[a], known[a])
		seen := map[string]int{}
		for key, st := range known[a] {
			if st != presence.Offline {
				seen[puids[key[:26]]]++
			}
		}
		for u := range users {
			if n := seen[fmt.Sprintf("u%d@example.org", u)]; n != 1 {
				t.Errorf("app%d sees %d devices of user %d, want the last one", a, n, u)
			}
		}
	}
}

func hearAll(t *testing.T, l *presence.Link, known map[string]presence.Status) {
	buf := make([]presence.Update, 7)
	for n := l.Take(buf); n > 0; n = l.Take(buf) {
		for _, u := range buf[:n] {
			key := u.Local + "/" + u.Tag
			if known[key] == u.Status {
				t.Errorf("told twice that %s is %v", key, u.Status)
			}
			known[key] = u.Status
		}
	}
}
