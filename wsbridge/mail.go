package wsbridge

import (
	"slices"
	"sync"

	"presenced/presence"
)

// mail is what of the messages from devices an app has not acknowledged. It does so by the id that the device
// chose, and devices of two users may choose the same. So at each time the app has one message of an id, and
// others with that id wait until it is acknowledged: else an ack of the one could remove the other, unread.
type mail struct {
	mu    sync.Mutex
	open  map[string]uint64            // guarded by mu: by id, the Update.ID of the message that the app has
	held  map[string][]presence.Update // guarded by mu: by id, those behind it, oldest first
	free  []presence.Update            // guarded by mu: may go to the app
	fleet int                          // guarded by mu: messages in held that are kept nowhere else
}

// Bounds of a mail. Those that are kept on disk are bounded by the core.
const (
	maxFleet = 256  // messages with ttl 0 that wait for an ack of another; more are dropped
	maxLoose = 4096 // messages that the app has; beyond it those with ttl 0 are forgotten
)

// offer reports whether the message may go to the app now; else it is taken care of.
func (m *mail) offer(u *presence.Update) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open == nil {
		m.open, m.held = make(map[string]uint64), make(map[string][]presence.Update)
	}
	if _, busy := m.open[u.Ref]; !busy {
		m.open[u.Ref] = u.ID
		m.tidyLocked()
		return true
	}
	if u.ID == 0 {
		if m.fleet >= maxFleet {
			return false
		}
		m.fleet++
	}
	m.held[u.Ref] = append(m.held[u.Ref], *u)
	return false
}

// tidyLocked forgets messages that nobody keeps, where an app acknowledges none.
func (m *mail) tidyLocked() {
	if len(m.open) <= maxLoose {
		return
	}
	for ref, id := range m.open {
		if id == 0 && len(m.held[ref]) == 0 {
			delete(m.open, ref)
		}
	}
}

// ack returns the Update.IDs of the messages that the app has by these ids. freed: others may go now.
func (m *mail) ack(refs []string) (ids []uint64, freed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, ref := range refs {
		id, ok := m.open[ref]
		if !ok {
			continue
		}
		delete(m.open, ref)
		if id != 0 {
			ids = append(ids, id)
		}
		if next := m.held[ref]; len(next) > 0 {
			m.free, freed = append(m.free, next[0]), true
			m.keepLocked(ref, next[1:])
			m.leftLocked(&next[0])
		}
	}
	return ids, freed
}

func (m *mail) keepLocked(ref string, rest []presence.Update) {
	if m.held[ref] = rest; len(rest) == 0 {
		delete(m.held, ref)
	}
}

func (m *mail) leftLocked(u *presence.Update) {
	if u.ID == 0 {
		m.fleet--
	}
}

// released returns what may go now, and forgets it.
func (m *mail) released() []presence.Update {
	m.mu.Lock()
	defer m.mu.Unlock()
	free := m.free
	m.free = nil
	return free
}

// forget drops what waits from a user who ended her grant, and returns the Update.IDs.
func (m *mail) forget(local string) (ids []uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	hers := func(u presence.Update) bool {
		if u.Local == local && u.ID != 0 {
			ids = append(ids, u.ID)
		}
		return u.Local == local
	}
	m.free = slices.DeleteFunc(m.free, hers)
	for ref, list := range m.held {
		for i := range list {
			if list[i].Local == local {
				m.leftLocked(&list[i])
			}
		}
		m.keepLocked(ref, slices.DeleteFunc(list, hers))
	}
	return ids
}
