package presence_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"presenced/presence"
)

// The size of the queue that an app is told is the same for a hidden user whose device takes what comes, now and
// then, as for one who has no device there: whatever expires, replaces another or is too much.
func TestHiddenTakerLooksLikeNobodyThere(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := newFixture(t)
			defer f.close()
			f.app("chat")
			rnd := rand.New(rand.NewPCG(seed, 4))
			peers := map[string][]presence.Peer{}
			for _, email := range []string{"ann@example.org", "bob@example.org"} {
				puid := f.allow(email, "chat").PUID
				f.must(f.hub.SetPaused(email, "chat", true, presence.ByUser))
				f.attach(email, "desk").Close() // it takes nothing
				tokens, err := f.hub.Addresses(email, "desk")
				f.must(err)
				_, tag, _ := strings.Cut(tokens["chat"], "/")
				peers[email] = []presence.Peer{{PUID: puid}, {PUID: puid, Tag: tag}}
			}
			chat, phone := f.link("chat"), f.online("ann@example.org", "phone")
			for i := range 150 {
				m := presence.Message{Message: fmt.Sprint(i), TTL: []time.Duration{-1, -1, -1, 0, time.Second, time.Minute}[rnd.IntN(6)]}
				if rnd.IntN(3) == 0 {
					m.Collapse = fmt.Sprint(rnd.IntN(7))
				}
				size, whom := map[string]int{}, rnd.IntN(5)/4
				for email, peer := range peers {
					d, err := chat.Notify(peer[whom], m)
					f.must(err)
					f.must(d.Wait())
					size[email], err = d.Waiting()
					f.must(err)
				}
				if size["ann@example.org"] != size["bob@example.org"] {
					t.Fatalf("after %d (%+v): %d wait for who takes them, %d for who is not there", i, m, size["ann@example.org"], size["bob@example.org"])
				}
				if rnd.IntN(3) == 0 {
					o, err := phone.Next(1000)
					f.must(err)
					var seqs []uint64
					for _, n := range o.Notifications {
						seqs = append(seqs, n.Seq)
					}
					if len(seqs) > 0 {
						phone.Confirm(seqs)
					}
				}
				if rnd.IntN(5) == 0 {
					f.clock.add(time.Duration(rnd.IntN(3000)) * time.Millisecond)
					_, err := f.store.Sweep(f.clock.Now(), 1000)
					f.must(err)
				}
			}
		})
	}
}
