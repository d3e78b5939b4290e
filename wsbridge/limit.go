package wsbridge

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// patienceFactor says how many free frames (heartbeats, acks, WebSocket control frames) weigh as much as a
// refused one, and how many more of them than of paid ones a socket may send.
const patienceFactor = 50

// bucket is the state of a socket's limits: two moments, in the form of the generic cell rate algorithm.
// A moment is when the bucket would be full again, in nanoseconds of the bridge's clock. It belongs to the
// socket's reader.
//
//	paid      burst frames, then rate a second; above: errno 40
//	patience  burst × 50 free frames, then rate × 50 a second; a refused frame costs as much as 50 free
//	          ones, so a whole second burst while being refused is the end; above: close 4029
type bucket struct {
	paid, patience int64
}

// rates are the limits of all sockets; immutable. The zero value does not limit.
type rates struct {
	every int64 // nanoseconds of one paid frame; 0: no limit
	burst int64
}

func newRates(perSecond float64, burst int) rates {
	if perSecond <= 0 {
		return rates{}
	}
	return rates{every: int64(float64(time.Second) / perSecond), burst: int64(max(burst, 1))}
}

// pay takes one frame from the bucket at now. ok: it was there; else wait says when it will be.
func (r *rates) pay(b *bucket, now int64) (wait time.Duration, ok bool) {
	if r.every == 0 {
		return 0, true
	}
	full := max(b.paid, now)
	if early := full - now - (r.burst-1)*r.every; early > 0 {
		return time.Duration(early), false
	}
	b.paid = full + r.every
	return 0, true
}

// bear takes from the patience at now: for a free frame, or for a refused one. ok is false when it is used up.
func (r *rates) bear(b *bucket, now int64, refused bool) (ok bool) {
	if r.every == 0 {
		return true
	}
	cost := r.every
	if !refused {
		cost = max(r.every/patienceFactor, 1)
	}
	full := max(b.patience, now) + cost
	if full-now > r.burst*r.every {
		return false
	}
	b.patience = full
	return true
}

// address is what sockets are counted by: an IPv4 address, or the /64 of an IPv6 address, because one
// customer has all of a /64.
type address [16]byte

func addressOf(a netip.Addr) address {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		p, _ := a.Prefix(64)
		a = p.Addr()
	}
	return a.As16()
}

// addr is the address that stands for all that are counted together.
func (a address) addr() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// addresses counts the sockets of each address. Safe for concurrent use.
type addresses struct {
	max int // 0: no limit

	mu    sync.Mutex
	count map[address]int32
}

// enter counts a socket, or refuses it.
func (a *addresses) enter(from address) bool {
	if a.max <= 0 {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if int(a.count[from]) >= a.max {
		return false
	}
	a.count[from]++
	return true
}

// leave is the end of one that entered.
func (a *addresses) leave(from address) {
	if a.max <= 0 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count[from]--; a.count[from] <= 0 {
		delete(a.count, from)
	}
}

// clientAddr is the address a request came from. X-Forwarded-For counts only as far as trusted proxies
// wrote it: from the right, the first that is not one of them.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.IPv6Unspecified()
	}
	addr := peer.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && isTrusted(addr, trusted); i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		addr = hop.Unmap()
	}
	return addr
}

func isTrusted(a netip.Addr, trusted []netip.Prefix) bool {
	for _, p := range trusted {
		if p.Contains(a.WithZone("")) {
			return true
		}
	}
	return false
}
