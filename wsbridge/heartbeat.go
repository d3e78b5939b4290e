package wsbridge

import (
	"hash/maphash"
	"math"
	"sync"
	"time"

	"presenced/presence"
)

// beat is the heartbeat of a conn: in 24 bits the ticks of silence after which the peer is pinged, before jitter; in 6
// how often it has held; in 2 whose choice it is.
type beat uint32

const (
	beatTicks beat = 1<<24 - 1
	beatHeld  beat = 1 << 24
	mostHeld       = 63
	beatMode  beat = 3 << 30

	beatFixed beat = 0 << 30 // the device's alone
	beatGiven beat = 1 << 30 // the gateway's when the device came, from then on it is as the device was told
	beatAdapt beat = 2 << 30 // the gateway's at any time; the device is told of changes
)

// A heartbeat has held when the peer was heard after three quarters of it in silence: it is pinged after seven
// eighths at the latest, and may be a little earlier by itself. It grows by half when it has held enoughHeld times, or
// mostHeld times where a longer one was once not survived, and is a third shorter after that.
const enoughHeld = 4

func (b beat) ticks() uint32 { return uint32(b & beatTicks) }
func (b beat) long() uint32  { return max(b.ticks()*3/4, 1) } // silence that says something
func (b beat) held() int     { return int(b / beatHeld & mostHeld) }

// withTicks is a heartbeat of the same choice that has not held yet.
func (b beat) withTicks(n uint32) beat { return b&beatMode | beat(min(n, uint32(beatTicks))) }

func fixedBeat(ticks uint32) beat { return beatFixed.withTicks(ticks) }

func (b *Bridge) seconds(every beat) int {
	return int(seconds(time.Duration(every.ticks()) * b.every))
}

// known remembers, for devices on networks, which heartbeats they survive: what ends an idle connection without a
// word is nearly always the network's own patience. It holds at most twice maxKnown; the older half is dropped
// when the newer is full, and all of it at the end of the process. The key is a hash: who shares one by chance gets a
// heartbeat that suits another.
type known struct {
	mu         sync.Mutex
	newer, old map[uint64]survived // guarded by mu
}

// survived is in ticks.
type survived struct {
	best uint32 // to begin with
	most uint32 // a longer one did not do; 0: not known
}

const maxKnown = 1 << 16

func (k *known) get(key uint64) survived {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s, ok := k.newer[key]; ok {
		return s
	}
	return k.old[key]
}

func (k *known) put(key uint64, s survived) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.newer) >= maxKnown {
		k.old, k.newer = k.newer, nil
	}
	if k.newer == nil {
		k.newer = make(map[uint64]survived)
	}
	k.newer[key] = s
}

// placeOf is the key of a device on the network from which it came.
func (c *conn) placeOf(email, device string) uint64 {
	var h maphash.Hash
	h.SetSeed(c.b.seed)
	h.WriteString(email)
	h.WriteByte(0)
	h.WriteString(device)
	h.Write(c.from[:])
	return h.Sum64()
}

func (c *conn) place() uint64 {
	s := c.session.Load()
	return c.placeOf(s.Email(), s.Device())
}

// startBeat chooses the heartbeat of a device that comes, or says hello again. What it asks for is in force within the
// limits. Without a wish it is the usual one, or less where that was not survived; where it lets us adapt it also what
// has been more.
func (b *Bridge) startBeat(place uint64, r *request) beat {
	least, usual, most := b.ticks(b.cfg.HeartbeatMin), b.ticks(b.cfg.Heartbeat), b.ticks(b.cfg.HeartbeatMax)
	if r.heartbeat > 0 {
		limit := min(r.heartbeat, math.MaxInt32) // seconds; far above any maximum
		usual = b.ticks(min(max(time.Duration(limit*float64(time.Second)), b.cfg.HeartbeatMin), b.cfg.HeartbeatMax))
	}
	learned := b.known.get(place).best
	switch {
	case r.adapt && learned != 0:
		return beatAdapt.withTicks(max(min(learned, most), least))
	case r.adapt:
		return beatAdapt.withTicks(usual)
	case r.heartbeat > 0:
		return fixedBeat(usual)
	case learned != 0:
		return beatGiven.withTicks(max(min(learned, usual), min(least, usual)))
	}
	return beatGiven.withTicks(usual)
}

// held is called by the reader after a sign of life that the device gave by itself or when it was asked: after a long
// silence it says that the connection holds for so long. What comes of it is the writer's, because this may run inside
// of a read, see onPing.
func (c *conn) held() {
	gap, every := uint32(c.gap), c.pulse.load()
	c.gap = 0
	if every&beatMode != beatFixed && gap >= every.long() {
		c.flags.Or(flagHeld)
		c.kick()
	}
}

// countHeld notes that the heartbeat has held once more, and returns it where it is longer now and the device has to
// be told. A hello meanwhile counts more.
func (c *conn) countHeld() (longer beat) {
	old := c.pulse.load()
	every := old + beatHeld
	if old&beatMode == beatFixed {
		return 0
	}
	if every.held() >= enoughHeld {
		every = c.b.longer(c.place(), every)
	}
	if c.pulse.beat.CompareAndSwap(uint32(old), uint32(every)) && every.ticks() != old.ticks() {
		return every
	}
	return 0
}

// longer is what comes after a heartbeat that has held several times.
func (b *Bridge) longer(place uint64, every beat) beat {
	limit := b.ticks(b.cfg.Heartbeat)
	if every&beatMode == beatAdapt {
		limit = b.ticks(b.cfg.HeartbeatMax)
	}
	n := every.ticks()
	s := b.known.get(place)
	next := min(n+max(n/2, 1), limit)
	switch {
	case next <= n:
		return every.withTicks(n)
	case s.most == 0:
	case n < s.most:
		next = min(next, s.most)
	case every.held() < mostHeld:
		return every
	default:
		s.most = 0 // it was something else, or it is over
	}
	s.best = next
	b.known.put(place, s)
	if every&beatMode != beatAdapt {
		return every.withTicks(n)
	}
	return every.withTicks(next)
}

// died notes that a device was not heard again after being silent for this heartbeat.
func (b *Bridge) died(c *conn, silent beat) {
	if silent&beatMode != beatFixed {
		b.known.put(c.place(), b.shorter(silent))
	}
}

// shorter is what is known after a heartbeat that did not do.
func (b *Bridge) shorter(silent beat) survived {
	less := max(silent.ticks()*2/3, min(silent.ticks(), b.ticks(b.cfg.HeartbeatMin)))
	return survived{best: less, most: less}
}

// noteDeaf looks whether a device that has come had an older socket, on the same network, that was silent for long: then the device has noticed before us that it is dead.
func (b *Bridge) noteDeaf(c *conn, older *presence.Session) {
	if older == nil {
		return
	}
	old, ours := older.Tag().(*conn)
	if !ours {
		return
	}
	every := old.pulse.load()
	if seen, ok := b.table.heard(old); ok && old.from == c.from && b.tick.Load()-seen >= every.long() {
		b.died(old, every)
	}
}
