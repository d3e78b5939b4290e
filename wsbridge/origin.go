package wsbridge

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// checkOrigin decides which web pages may open a socket. Any may: a socket has no authority of its own. It
// carries no cookie and no other credential of the browser, and until its first frame brings an assertion
// nothing is done for it. So a page of another site can do here what it could do from its own server, and
// pages of apps may use the channel from where they are.
//
// With the verifier for development that is not so: the assertion is known to all, and reaching loopback is
// the authority, which a browser lends to every page it shows. There (LocalOnly) a page must come from our
// own Origin or from loopback. Programs that send no Origin are let in.
func (b *Bridge) checkOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if !b.cfg.LocalOnly || origin == "" || strings.EqualFold(origin, b.cfg.Origin) {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	if u.Hostname() == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(u.Hostname())
	return err == nil && addr.IsLoopback()
}
