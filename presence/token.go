package presence

import "strings"

// String is the peer as one word, the app's registration token for a user or one of her devices: "PUID" or
// "PUID/TAG". Who is known by e-mail stands there in the escapes of XEP-0106, as in her address.
func (p Peer) String() string {
	local := p.PUID
	if local == "" {
		local = escapeLocal(p.Email)
	}
	if p.Tag == "" {
		return local
	}
	return local + "/" + p.Tag
}

// escapeLocal is XEP-0106 §4.2.
func escapeLocal(s string) string {
	const escaped, hex = ` "&'/:<>@`, "0123456789abcdef"
	var w strings.Builder
	for i := range len(s) {
		b := s[i]
		if strings.IndexByte(escaped, b) < 0 && !(b == '\\' && isEscape(s[i+1:])) {
			w.WriteByte(b)
			continue
		}
		w.Write([]byte{'\\', hex[b>>4], hex[b&15]})
	}
	return w.String()
}

// isEscape reports whether what follows a backslash makes it one of the ten escapes.
func isEscape(s string) bool {
	if len(s) < 2 {
		return false
	}
	switch strings.ToLower(s[:2]) {
	case "20", "22", "26", "27", "2f", "3a", "3c", "3e", "40", "5c":
		return true
	}
	return false
}

// Addresses returns the registration tokens of the user's device at the apps that she allows, by appid. With
// device "" they are hers, for all of her devices.
func (h *Hub) Addresses(email, device string) (map[string]string, error) {
	grants, err := h.cfg.Store.GrantsOf(email)
	if err != nil {
		return nil, storage(err)
	}
	now, list := h.cfg.Now(), make(map[string]string)
	for i := range grants {
		g := &grants[i]
		if g.Ended(now) {
			continue
		}
		p := Peer{PUID: g.PUID}
		if g.Address == ByEmail {
			p = Peer{Email: g.Email}
		}
		if device != "" {
			p.Tag = h.tagUnder(g, device)
		}
		list[g.App] = p.String()
	}
	return list, nil
}
