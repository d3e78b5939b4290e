package gate

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func from(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1000} }

// Places are counted in all and for each address; who leaves makes room.
func TestGate(t *testing.T) {
	g := New(3, 2)
	enter := func(ip string, want Verdict) Pass {
		t.Helper()
		p, ok := g.Enter(from(ip))
		if p.Verdict != want || !ok {
			t.Fatalf("%s: verdict %d, %v, want %d", ip, p.Verdict, ok, want)
		}
		return p
	}
	first := enter("192.0.2.1", In)
	enter("::ffff:192.0.2.1", In) // the same
	enter("192.0.2.1", FullOfAddress).Leave()
	second := enter("2001:db8::1", In)
	enter("192.0.2.3", Full).Leave()
	if g.Waiting() != 3 {
		t.Errorf("%d wait, want 3", g.Waiting())
	}
	first.Leave()
	enter("2001:db8::ffff:ffff:ffff:ffff", In) // its network's second
	second.Leave()
	enter("2001:db8:0:1::1", In) // another network
	enter("2001:db8:0:2::1", Full)
	if len(g.each) != 3 {
		t.Errorf("addresses that are counted: %v", g.each)
	}
}

// So many are told that there are too many; the others are not.
func TestGateRefusals(t *testing.T) {
	g := New(0, 0)
	var last Pass
	for range maxRefusals {
		p, ok := g.Enter(from("192.0.2.1"))
		if !ok {
			t.Fatal("not to be told")
		}
		last = p
	}
	if _, ok := g.Enter(from("192.0.2.1")); ok {
		t.Error("one more is to be told")
	}
	last.Leave()
	if _, ok := g.Enter(from("192.0.2.1")); !ok {
		t.Error("there is room again, and it is not to be told")
	}
}

// broken is a listener whose Accept fails until it is closed.
type broken struct {
	net.Listener
	fail  error
	tries int
}

func (b *broken) Accept() (net.Conn, error) { b.tries++; return nil, b.fail }
func (b *broken) Close() error              { return nil }
func (b *broken) Addr() net.Addr            { return from("192.0.2.1") }

// A listener that fails is tried again, slower and slower, until the server closes.
func TestFailingListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ls := NewListeners()
		l := &broken{fail: errors.New("too many open files")}
		done := make(chan error, 1)
		go func() { done <- ls.Serve(l, slog.New(slog.DiscardHandler), nil) }()
		time.Sleep(time.Minute) // of the bubble's clock
		synctest.Wait()
		if l.tries < 60 || l.tries > 70 {
			t.Errorf("%d tries in a minute, want about one a second", l.tries)
		}
		closing := time.Now()
		ls.Close()
		if err := <-done; err != nil || time.Since(closing) != 0 {
			t.Errorf("Serve returned %v after %v, want nil at once", err, time.Since(closing))
		}
	})
}

// A listener that somebody else closed is an error; one that comes after Close is closed.
func TestListenersEnd(t *testing.T) {
	ls := NewListeners()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := ls.Serve(l, slog.New(slog.DiscardHandler), nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve returned %v, want net.ErrClosed", err)
	}
	ls.Close()
	ls.Close() // again is nothing
	select {
	case <-ls.Closing():
	default:
		t.Error("Closing is open")
	}
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if err := ls.Serve(l, slog.New(slog.DiscardHandler), nil); err != nil {
		t.Errorf("Serve returned %v, want nil", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v; the listener is open", err)
	}
}

// The last words arrive at a peer that is still sending, and who never stops is not waited for.
func TestLinger(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	peer.Write(make([]byte, 1000)) // is never read but by Linger
	c.Write([]byte("last words"))
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.Close()
		Linger(c)
	}()
	heard, err := io.ReadAll(peer)
	if string(heard) != "last words" || err != nil {
		t.Errorf("heard %q, %v", heard, err)
	}
	go func() { // until it is closed
		for {
			if _, err := peer.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}()
	<-done
}
