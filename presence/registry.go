package presence

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// registry holds the registered apps. Reading takes no lock that a writer holds over I/O.
type registry struct {
	mu       sync.RWMutex
	byID     map[string]*app // guarded by mu
	byDomain map[string]*app // guarded by mu
	changing sync.Mutex      // held over a whole change, the write to the store included
}

// app is a registered app and who is connected for it.
type app struct {
	id     string // immutable
	meta   atomic.Pointer[App]
	joined atomic.Pointer[[]*Link] // its open links, oldest first; replaced as a whole under linking
	// linking is held while links come and go, over the walk through the shards. Order: before shard.
	linking  sync.Mutex
	serials  uint64 // guarded by linking
	troubles troubles
	handed   handedOut
	mail     sync.Mutex // orders what links read of messages against what they remove. Order: after taking
	removing *Commit    // guarded by mail: the last removal of messages that the app has; nil: none
	// readUpTo is, for each kind, the ID of the last notice that was read from the store for links that share the app.
	readUpTo [linkKinds]atomic.Uint64
}

func (a *app) nextSerial() uint64 {
	a.serials++
	return a.serials
}

// pushNotice and pushLetter tell every link that is concerned.
func (g *grant) pushNotice(n *Notice) {
	for _, l := range g.app.links() {
		if n.ID != 0 && n.ID <= g.app.readUpTo[l.kind].Load() {
			continue // the first of the links that share the app has it from the store
		}
		if g.app.concerns(l, g.owner.email) && l.hears(n) {
			l.pushNotice(g, n)
		}
	}
}

func (g *grant) pushLetter(u Update) {
	for _, l := range g.app.links() {
		if l.kind == CCSLink || g.app.concerns(l, g.owner.email) {
			l.pushLetter(letter{g, u})
		}
	}
}

func (a *app) links() []*Link {
	if p := a.joined.Load(); p != nil {
		return *p
	}
	return nil
}

func (a *app) setLinks(ls []*Link) { a.joined.Store(&ls) }

func (a *app) removeLink(gone *Link) {
	a.setLinks(slices.DeleteFunc(slices.Clone(a.links()), func(l *Link) bool { return l == gone }))
}

func (r *registry) load(apps []App) {
	r.byID, r.byDomain = make(map[string]*app), make(map[string]*app)
	for i := range apps {
		r.put(apps[i])
	}
}

func (r *registry) get(id string) *app {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byID[id]
}

func (r *registry) all() []*app {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]*app, 0, len(r.byID))
	for _, a := range r.byID {
		list = append(list, a)
	}
	return list
}

func (r *registry) put(meta App) *app {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.byID[meta.ID]
	if a == nil {
		a = &app{id: meta.ID}
		r.byID[meta.ID] = a
	} else if old := a.meta.Load(); old.Component != meta.Component {
		delete(r.byDomain, old.Component)
	}
	a.meta.Store(&meta)
	r.byDomain[meta.Component] = a
	return a
}

func (r *registry) remove(a *app) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, a.id)
	delete(r.byDomain, a.meta.Load().Component)
}

// App returns a registered app.
func (h *Hub) App(id string) (App, bool) {
	if a := h.apps.get(id); a != nil {
		return *a.meta.Load(), true
	}
	return App{}, false
}

// AppByComponent returns the app that speaks for domain (lower case), also a disabled one.
func (h *Hub) AppByComponent(domain string) (App, bool) {
	h.apps.mu.RLock()
	defer h.apps.mu.RUnlock()
	if a := h.apps.byDomain[domain]; a != nil {
		return *a.meta.Load(), true
	}
	return App{}, false
}

// Apps returns all apps, ordered by id.
func (h *Hub) Apps() []App {
	var list []App
	for _, a := range h.apps.all() {
		list = append(list, *a.meta.Load())
	}
	slices.SortFunc(list, func(a, b App) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// PutApp adds or changes an app. ErrExists: another app has the component domain. Disabling one or changing
// its component ends its links (EndDisabled), changing its secret ends components and changing its API key the
// others, unless the old one is still good. Changing its policy ends all too (EndChanged).
func (h *Hub) PutApp(meta App) error {
	h.apps.changing.Lock()
	defer h.apps.changing.Unlock()
	_, err := h.putAppLocked(meta)
	return err
}

// putAppLocked is PutApp with changing held; it returns the app as it is stored.
func (h *Hub) putAppLocked(meta App) (App, error) {
	if meta.Created.IsZero() {
		meta.Created = h.cfg.Now().UTC()
	}
	if err := meta.Check(); err != nil {
		return App{}, fmt.Errorf("%w: %w", ErrBadValue, err)
	}
	if other, ok := h.AppByComponent(meta.Component); ok && other.ID != meta.ID {
		return App{}, fmt.Errorf("%w: component %s belongs to app %s", ErrExists, meta.Component, other.ID)
	}
	old, existed := h.App(meta.ID)
	if err := h.cfg.Store.PutApp(meta); err != nil {
		return App{}, storage(err)
	}
	a := h.apps.put(meta)
	if existed {
		h.endChanged(a, &old, &meta)
	}
	return meta, nil
}

// endChanged ends the links that may not go on as they are.
func (h *Hub) endChanged(a *app, old, meta *App) {
	now := h.cfg.Now()
	secrets, keys := meta.Secrets(now), meta.APIKeys(now)
	badSecret := old.Secret != "" && !slices.Contains(secrets[:], old.Secret)
	badKey := old.APIKey != "" && !slices.Contains(keys[:], old.APIKey)
	switch {
	case meta.Disabled || meta.Component != old.Component:
		h.endLinks(a, EndDisabled, nil)
	case meta.Conflict != old.Conflict:
		h.endLinks(a, EndChanged, func(l *Link) bool { return l.kind != CCSLink }) // each link goes by the policy under which it was made
	case badSecret || badKey:
		h.endLinks(a, EndDisabled, func(l *Link) bool { return badSecret && l.kind == ComponentLink || badKey && l.kind != ComponentLink })
	}
}

// RemoveApp revokes every grant of the app, then removes it. ErrNoApp.
func (h *Hub) RemoveApp(id string, by Actor) error {
	h.apps.changing.Lock()
	defer h.apps.changing.Unlock()
	a := h.apps.get(id)
	if a == nil {
		return ErrNoApp
	}
	h.endLinks(a, EndRemoved, nil)
	meta := *a.meta.Load()
	meta.Disabled = true // nobody links while its grants go
	a.meta.Store(&meta)
	var batch []Grant
	flush := func() error {
		_, err := h.endGrants(batch, ending{what: "app removed", by: by})
		batch = batch[:0]
		return err
	}
	err := h.cfg.Store.EachGrant(id, func(g Grant) error {
		if batch = append(batch, g); len(batch) == endBatch {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err == nil {
		err = h.cfg.Store.RemoveApp(id)
	}
	if err != nil {
		return storage(err)
	}
	h.apps.remove(a)
	return nil
}

// endLinks ends all links of an app, or those that match, after what changed it: who links meanwhile is either ended
// or goes by it.
func (h *Hub) endLinks(a *app, why End, match func(*Link) bool) {
	a.linking.Lock()
	defer a.linking.Unlock()
	for _, l := range a.links() {
		if match == nil || match(l) {
			h.endLinkLocked(l, why)
		}
	}
}
