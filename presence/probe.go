package presence

import "slices"

// Probe returns the last presence of each device of the user, or of the one named; one Offline update from
// the address that was asked if none is known. ErrStranger: there is nobody the app may see.
func (l *Link) Probe(p Peer) ([]Update, error) {
	g, release, err := l.hub.findGrant(l.app, p)
	if err != nil {
		return nil, err
	}
	defer release()
	pr := probe{hub: l.hub, g: g, tag: p.Tag}
	if g.NoStatus { // whatever it saw before that
		return []Update{pr.update(p.Tag, Offline, momentOf(g.Created))}, nil
	}
	if c := l.hub.lastGone.Load(); c != nil {
		_ = c.Wait() // who has just gone is on the way to the disk
	}
	kept, err := l.hub.cfg.Store.DevicesOf(g.Email)
	if err != nil {
		return nil, storage(err)
	}
	pr.present()
	for _, d := range kept {
		pr.gone(d)
	}
	if pr.last != 0 {
		pr.add("", Offline, pr.last, 0)
	}
	if len(pr.found) == 0 {
		pr.found = append(pr.found, pr.update(p.Tag, Offline, momentOf(g.Created)))
	}
	return pr.found, nil
}

// probe gathers the answer to one question about a user.
type probe struct {
	hub   *Hub
	g     Grant
	tag   string // only this device; "": all
	found []Update
	seen  []string // devices in memory; "": all of them as one
	last  moment   // when the last of the others went, where the app sees all as one
}

func (p *probe) update(tag string, st Status, since moment) Update {
	u := Update{Kind: Presence, Delayed: true, Tag: tag, Status: st, Since: since.time(), Local: p.g.PUID}
	if p.g.Address == ByEmail {
		u.ByEmail, u.Local = true, p.g.Email
	}
	return u
}

func (p *probe) add(device string, st Status, since moment, idle moment) {
	tag := p.hub.tagUnder(&p.g, device)
	if p.tag != "" && p.tag != tag {
		return
	}
	u := p.update(tag, st, since)
	if p.g.Idle && st != Offline {
		u.Idle = idle.time()
	}
	p.found = append(p.found, u)
}

// present adds the devices that are not offline, as the app may see them. Who came while she was hidden is as
// she was when she was seen last, which the store knows.
func (p *probe) present() {
	sh := p.hub.shard(p.g.Email)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	u := sh.users[p.g.Email]
	if u == nil {
		return
	}
	g := u.grant(p.g.App)
	if g == nil {
		return
	}
	for d := g.firstLocked(); d != nil; d = d.next {
		v := view{device: d, grant: g}
		st, since := v.visible()
		if d.status() == Offline || st == Offline && d.up >= moment(g.flipped.Load()) {
			continue
		}
		p.seen = append(p.seen, d.id)
		p.add(d.id, st, since, moment(d.idle.Load()))
	}
}

// gone adds a remembered device when it went, if this app saw it.
func (p *probe) gone(r DeviceRecord) {
	at := momentOf(r.Gone[p.g.App])
	switch {
	case at == 0 || at < momentOf(p.g.Created):
	case p.g.NoDevices:
		if len(p.seen) == 0 {
			p.last = max(p.last, at)
		}
	case !slices.Contains(p.seen, r.ID):
		p.add(r.ID, Offline, at, 0)
	}
}
