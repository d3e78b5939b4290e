package store

import (
	"fmt"
	"sync"
	"testing"
)

// Whoever asks how much waits from an app, the committer's table of apps stays its own.
func TestAskingForNewAppsWhileOthersSend(t *testing.T) {
	b := newBed(t, Options{})
	const apps = 40
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for i := range apps {
				if _, err := b.WaitingFrom(fmt.Sprint("app", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range apps {
		b.put(b.note(ann, fmt.Sprint("app", i), "hello"))
	}
	asking.Wait()
	for i := range apps {
		if n, err := b.WaitingFrom(fmt.Sprint("app", i)); err != nil || n != 1 {
			t.Errorf("app%d: %d waiting, %v", i, n, err)
		}
	}
}
