package presence

import "time"

// Limits bounds everything that a stranger can grow. The zero value is useless; start from DefaultLimits.
type Limits struct {
	NotificationBytes  int           // of source + message + action + data
	QueuePerApp        int           // waiting for each (user, app)
	TTLDefault, TTLMax time.Duration // of a notification; the default is used where none is given
	CollapseKeys       int           // waiting keys for each (user, app)
	SocketsPerUser     int           // attached devices
	DevicesPerUser     int           // remembered devices
	UpstreamPerApp     int           // messages waiting for each (user, app), towards the app
	LinksPerApp        int           // component connections that share an app
	RequestsPerUser    int           // consent requests that wait for an answer
	LinkPending        int           // receipts and notices on a link; above, it ends with EndOverflow, one of CCS forgets
}

// DefaultLimits returns the documented defaults.
func DefaultLimits() Limits {
	return Limits{
		NotificationBytes: 4096,
		QueuePerApp:       100,
		TTLDefault:        672 * time.Hour,
		TTLMax:            672 * time.Hour,
		CollapseKeys:      4,
		SocketsPerUser:    20,
		DevicesPerUser:    64,
		UpstreamPerApp:    100,
		LinksPerApp:       16,
		RequestsPerUser:   100,
		LinkPending:       65536,
	}
}
