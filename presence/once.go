package presence

import "crypto/sha256"

// A message whose acceptance was lost on the way is sent again, over the app's next connection. So that it is accepted
// again and nothing else happens, the store remembers what each connection has sent until it is known that the app
// heard of it all: see [Trail].

// Mark stands for what is said and to whom, by one app.
type Mark [16]byte

// Once asks that a message is taken once: see [Trail.Once].
type Once struct {
	Trail uint64 // the connection; never 0
	Mark  Mark
	Again bool // another connection had sent it already; to be read after Delivery.Wait
}

// Trail is what one connection of an app has sent. It outlives the connection and the process, for a while and within
// bounds, unless Settle ends it. It is safe for concurrent use.
type Trail struct {
	hub *Hub
	app string
	id  uint64
}

// Trail begins the trail of one connection.
func (l *Link) Trail() *Trail {
	return &Trail{hub: l.hub, app: l.app.id, id: l.hub.trails.Add(1)}
}

// Once is for [Message.Once]: if another connection of the app has sent a message of the same content, and has not
// settled, this one is accepted and goes nowhere. What comes twice over the same connection was meant twice, because
// there an answer cannot be lost.
func (t *Trail) Once(content []byte) *Once {
	h := sha256.New()
	h.Write(t.hub.cfg.Key[:]) // so that a copy of the file does not tell what was said to who can guess it
	h.Write([]byte(t.app))
	h.Write([]byte{0})
	h.Write(content)
	var sum [sha256.Size]byte
	return &Once{Trail: t.id, Mark: Mark(h.Sum(sum[:0])[:len(Mark{})])}
}

// Settle forgets the trail, because the app is known to have heard of everything that was accepted. No message of it may
// be on its way to the disk. It does not wait for the disk.
func (t *Trail) Settle() { t.hub.cfg.Store.Settle(t.id) }

// said reports whether the message was sent already, and takes note of it in memory alone: it never touches the disk.
func (h *Hub) said(o *Once) bool {
	if o == nil {
		return false
	}
	o.Again = h.cfg.Store.Sent(o)
	h.cfg.Store.Note(o)
	return o.Again
}

// remember is said for what was sent already: to be told from what comes again, on disk where it is lasting.
func (h *Hub) remember(o *Once, lasting bool) error {
	switch {
	case o == nil:
		return nil
	case !lasting:
		h.cfg.Store.Note(o)
		return nil
	}
	return storage(h.cfg.Store.EnqueueAll(nil, o).Wait())
}
