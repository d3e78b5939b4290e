// Package gate is what stands before a stream, whoever speaks on it: the listeners, the bound on connections that are
// nobody yet, and how a connection ends so that its last words arrive. It knows no XML.
package gate

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// Listeners are those of one server. All methods are safe for concurrent use.
type Listeners struct {
	shut chan struct{} // closed by Close, under mu

	mu  sync.Mutex
	all map[net.Listener]struct{} // guarded by mu
}

// NewListeners makes a server's listeners: none, until Serve.
func NewListeners() *Listeners {
	return &Listeners{shut: make(chan struct{}), all: make(map[net.Listener]struct{})}
}

// Serve accepts connections from l and gives them to take, which must not block, until Close, when it returns nil, or
// until l is closed by somebody else. It closes l. While a listener fails otherwise it waits, up to a second.
func (ls *Listeners) Serve(l net.Listener, log *slog.Logger, take func(net.Conn)) error {
	defer l.Close()
	if !ls.add(l) {
		return nil
	}
	defer ls.remove(l)
	var pause time.Duration
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			take(c)
		case ls.Closed():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // out of descriptors, most likely; it passes
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			log.Warn("accepting a connection failed", "listener", l.Addr().String(), "error", err, "pause", pause)
			select {
			case <-time.After(pause):
			case <-ls.shut:
				return nil
			}
		}
	}
}

func (ls *Listeners) add(l net.Listener) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.Closed() {
		return false
	}
	ls.all[l] = struct{}{}
	return true
}

func (ls *Listeners) remove(l net.Listener) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	delete(ls.all, l)
}

// Close closes all listeners, and those that are served later at once.
func (ls *Listeners) Close() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.Closed() {
		return
	}
	close(ls.shut)
	for l := range ls.all {
		l.Close()
	}
}

// Closed reports whether Close was called.
func (ls *Listeners) Closed() bool {
	select {
	case <-ls.shut:
		return true
	default:
		return false
	}
}

// Closing returns a channel that Close closes.
func (ls *Listeners) Closing() <-chan struct{} { return ls.shut }

// Bounds of the last words.
const (
	LastWords = time.Second // that a peer has to read them
	maxAfter  = 256 << 10   // bytes of the peer's that are read and thrown away meanwhile
)

// Linger ends our side of a connection and waits, at most LastWords, until the peer has ended its side: closing a
// socket with unread bytes would send a reset that overtakes what was written. The caller closes c behind it.
func Linger(c net.Conn) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok {
		return
	}
	c.SetDeadline(time.Now().Add(LastWords)) // TLS writes to close its side
	if half.CloseWrite() != nil {
		return
	}
	io.Copy(io.Discard, io.LimitReader(c, maxAfter))
}
