package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/gorilla/websocket"
)

// One address has so many connections and no more, until one of them is closed; a trusted proxy is not counted.
func TestCrowdIsBounded(t *testing.T) {
	for _, c := range []struct {
		trusted []netip.Prefix
		third   bool // whether a third one is let in
	}{{nil, false}, {[]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, true}} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := newCrowdListener(ln, 2, c.trusted)
		accepted := make(chan net.Conn)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				accepted <- conn
			}
		}()
		dial := func() net.Conn {
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		dial()
		first := <-accepted
		dial()
		second := <-accepted
		third := dial()
		if c.third {
			(<-accepted).Close()
		} else if _, err := third.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the third connection: %v", err)
		}
		first.Close()
		first.Close() // counts once
		dial()
		(<-accepted).Close()
		second.Close()
		l.Close()
		<-done
		if len(l.open) != 0 {
			t.Errorf("still counted: %v", l.open)
		}
	}
}

// Who is sent away while it still sends hears why: the connection is not reset behind the last words.
func TestLastWordsArrive(t *testing.T) {
	g := startTest(t, testConfig(t))
	for i := range 20 {
		d := dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", fmt.Sprint("phone", i), "dev")
		for range 1000 {
			if d.WriteMessage(websocket.TextMessage, []byte(`{"status":"online"}`)) != nil {
				break // it has heard
			}
		}
		d.wantEnd(40, 4029)
	}
}
