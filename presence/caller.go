package presence

import "crypto/subtle"

// Caller speaks for an app without a connection of its own: whoever has the app's key and asks now and then. It has the
// rights of a [Link] and the same answers, but is told nothing by itself: what the app is to be told goes to its links.
// It needs no end and is safe for concurrent use.
type Caller struct {
	link *Link // of no list: nothing finds it
}

// Caller returns one for the app. ErrNoApp: there is none, or it is disabled.
func (h *Hub) Caller(id string) (*Caller, error) {
	a := h.apps.get(id)
	if a == nil {
		return nil, ErrNoApp
	}
	meta := a.meta.Load()
	if meta.Disabled {
		return nil, ErrNoApp
	}
	return &Caller{&Link{hub: h, app: a, kind: SocketLink, meta: meta, wake: make(chan struct{}, 1)}}, nil
}

// Notify is [Link.Notify].
func (c *Caller) Notify(p Peer, m Message) (*Delivery, error) { return c.link.Notify(p, m) }

// Probe is [Link.Probe].
func (c *Caller) Probe(p Peer) ([]Update, error) { return c.link.Probe(p) }

// Ask is [Link.Subscribe]. The answer goes to from, an address at the app, when the app is connected.
func (c *Caller) Ask(p Peer, from, purpose string) error { return c.link.Subscribe(p, from, purpose) }

// GiveBack is [Link.Unsubscribe].
func (c *Caller) GiveBack(p Peer) error { return c.link.Unsubscribe(p) }

// AppByKey returns the app that has this API key, unless it is disabled. It takes a walk through all apps, and how long
// does not depend on the key.
func (h *Hub) AppByKey(key string) (App, bool) {
	if key == "" {
		return App{}, false
	}
	h.apps.mu.RLock()
	defer h.apps.mu.RUnlock()
	var found *App
	now := h.cfg.Now()
	for _, a := range h.apps.byID {
		meta := a.meta.Load()
		for _, k := range meta.APIKeys(now) {
			if subtle.ConstantTimeCompare([]byte(k), []byte(key)) == 1 && !meta.Disabled {
				found = meta
			}
		}
	}
	if found == nil {
		return App{}, false
	}
	return *found, true
}

// NotifyAll is [Link.NotifyAll].
func (c *Caller) NotifyAll(all []Addressed) (*Delivery, error) { return c.link.NotifyAll(all) }
