package wsbridge

import "time"

// HeartbeatOf is what is in force for a device that is connected.
func (b *Bridge) HeartbeatOf(email, device string) time.Duration {
	c := b.cfg.Hub.Attached(email, device).Tag().(*conn)
	return time.Duration(c.pulse.load().ticks()) * b.every
}

// SilenceOf is for how long a device that is connected was not heard, by the clock of liveness.
func (b *Bridge) SilenceOf(email, device string) time.Duration {
	seen, _ := b.table.heard(b.cfg.Hub.Attached(email, device).Tag().(*conn))
	return time.Duration(b.tick.Load()-seen) * b.every
}
