package gate

import (
	"net"
	"net/netip"
	"sync"
)

// maxRefusals are the connections of one gate that are being told that there are too many.
const maxRefusals = 64

// Verdict is what a gate says of a connection.
type Verdict uint8

const (
	In            Verdict = iota
	Full                  // too many are nobody yet
	FullOfAddress         // too many of them come from its address
)

// Gate bounds the connections that have not shown who they are. All methods are safe for concurrent use.
type Gate struct {
	max, maxEach int // immutable

	mu       sync.Mutex
	all      int                  // guarded by mu
	each     map[netip.Prefix]int // guarded by mu; no zeros
	refusing int                  // guarded by mu
}

// New makes a gate for max connections, each of them from one address; see network.
func New(max, each int) *Gate {
	return &Gate{max: max, maxEach: each, each: make(map[netip.Prefix]int)}
}

// Pass is a connection's place at a gate, which it must Leave: when it is somebody, when it is over, or when it was
// told that there are too many. It is for one goroutine at a time.
type Pass struct {
	Verdict Verdict
	gate    *Gate
	network netip.Prefix
}

// Enter counts a connection in, or says why not. ok is false where it is not even to be told, since too many are
// being told already; then there is nothing to leave.
func (g *Gate) Enter(from net.Addr) (p Pass, ok bool) {
	p = Pass{gate: g, network: network(from)}
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.all >= g.max:
		p.Verdict = Full
	case g.each[p.network] >= g.maxEach:
		p.Verdict = FullOfAddress
	default:
		g.all++
		g.each[p.network]++
		return p, true
	}
	if g.refusing >= maxRefusals {
		return p, false
	}
	g.refusing++
	return p, true
}

// Leave gives the place back. It must be called once.
func (p Pass) Leave() {
	g := p.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.Verdict != In {
		g.refusing--
		return
	}
	g.all--
	if g.each[p.network]--; g.each[p.network] == 0 {
		delete(g.each, p.network)
	}
}

// Waiting is how many are in.
func (g *Gate) Waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all
}

// network is whom a connection counts for: an IPv4 address, or an IPv6 network of 64 bits. Addresses that are not of
// TCP count as one.
func network(a net.Addr) netip.Prefix {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := t.AddrPort().Addr().Unmap()
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, _ := ip.WithZone("").Prefix(bits)
	return p
}
