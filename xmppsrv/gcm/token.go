package gcm

import (
	"strings"

	"presenced/presence"
	"presenced/xmppsrv/xmlstream"
)

// ParseToken reads a registration token: PUID/TAG for one device, PUID for all of a user's. The same as an address, with
// the gateway's domain behind the local part and in either case, is understood too, and canonical is then what the
// server should use from now on. Whether the token is anybody's only the core can tell.
func ParseToken(s, domain string) (p presence.Peer, canonical string, ok bool) {
	local, tag, tagged := strings.Cut(s, "/")
	if l, d, at := strings.Cut(local, "@"); at {
		if !strings.EqualFold(d, domain) {
			return p, "", false
		}
		local = l
	}
	local, p.Tag = strings.ToLower(local), strings.ToLower(tag)
	if tagged && presence.CheckDevice(p.Tag) != nil {
		return p, "", false
	}
	if strings.IndexByte(local, '\\') < 0 {
		if presence.CheckDevice(local) != nil {
			return p, "", false
		}
		p.PUID = local
		return p, p.String(), true
	}
	email, err := presence.NormalEmail(string(xmlstream.UnescapeLocal([]byte(local))))
	if err != nil {
		return p, "", false
	}
	p.Email = email
	return p, p.String(), true
}

// Token is the token of the device that an update comes from.
func Token(u *presence.Update, tag string) string {
	if u.ByEmail {
		return presence.Peer{Email: u.Local, Tag: tag}.String()
	}
	return presence.Peer{PUID: u.Local, Tag: tag}.String()
}

const topicPrefix = "/topics/"
