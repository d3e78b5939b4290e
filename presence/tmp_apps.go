package presence

// until apps' branch is here
type Addressed struct {
	To Peer
	Message
}

type AppStats struct{ Queue int }

func (h *Hub) AppStats(string) AppStats { return AppStats{} }

func (d *Delivery) Waiting() (int, error) {
	if d.hub == nil {
		return 0, nil
	}
	w, err := d.hub.cfg.Store.Waiting(d.n.Email)
	n := 0
	for _, c := range w {
		n += c
	}
	return n, err
}

func (l *Link) NotifyAll(all []Addressed) (d *Delivery, err error) {
	for i, a := range all {
		if d, err = l.Notify(a.To, a.Message); err != nil {
			return nil, err
		}
		if i < len(all)-1 {
			if err := d.Wait(); err != nil {
				return nil, err
			}
		}
	}
	return d, nil
}
