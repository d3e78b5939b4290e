package wsbridge

import "time"

// HeartbeatOf is what is in force for a device that is connected.
func (b *Bridge) HeartbeatOf(email, device string) time.Duration {
	c := b.cfg.Hub.Attached(email, device).Tag().(*conn)
	return time.Duration(c.pulse.load().ticks()) * b.every
}

// IsSilent reports whether nothing was heard of a device in this tick.
func (b *Bridge) IsSilent(email, device string) bool {
	seen, ok := b.table.heard(b.cfg.Hub.Attached(email, device).Tag().(*conn))
	return ok && seen < b.tick.Load()
}
