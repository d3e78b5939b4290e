package main

import (
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// Connections are taken at the rate, whoever comes, and nobody is lost.
func TestPacedListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, crowd = 100, 516
		m := newMemoryNet()
		l := paced(m, rate)
		for i := range crowd {
			go m.dial(stormAddress(10, i))
		}
		begin := time.Now()
		for range crowd {
			if _, err := l.Accept(); err != nil {
				t.Fatal(err)
			}
		}
		if took, want := time.Since(begin), (crowd-paceBurst)*time.Second/rate; took != want {
			t.Errorf("%d connections took %v, want %v", crowd, took, want)
		}
		l.Close()
		if _, err := l.Accept(); err == nil {
			t.Error("a connection of a closed listener")
		}
	})
	if l := net.Listener(newMemoryNet()); paced(l, 0) != l {
		t.Error("no rate, and yet a pace")
	}
}
