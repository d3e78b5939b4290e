package web

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// puidParam is how an app hears of its user's name when she comes back to it.
const puidParam = "Presence-UID"

// returnTo is an address of an app that a browser may be sent back to. The zero value is none.
type returnTo struct {
	URL  string // as registered, to the letter; "": none
	Site string // host, or the scheme of an app's own, for people
}

// plainHost is a host with a port that can stand in a policy as it is.
var plainHost = regexp.MustCompile(`^[A-Za-z0-9.-]+(:[0-9]+)?$`)

// ownScheme is a scheme that an installed app claimed by its own domain name, turned around (RFC 8252 §7.1).
var ownScheme = regexp.MustCompile(`^[a-z][a-z0-9+-]*(\.[a-z0-9+-]+)+$`)

// chooseReturn takes the address that was asked for, which must be one of the registered ones, the same string.
// values are all that the request names: several that differ are nobody's wish.
func chooseReturn(values, registered []string) (returnTo, error) {
	asked := ""
	for i, v := range values {
		if i > 0 && v != asked {
			return returnTo{}, errRedirect
		}
		asked = v
	}
	if asked == "" {
		return returnTo{}, nil
	}
	if !slices.Contains(registered, asked) {
		return returnTo{}, errRedirect
	}
	return parseReturn(asked)
}

// parseReturn refuses what is registered but cannot be gone to without harm. A browser's idea of an address must be ours:
// it is printable ASCII, without backslashes, and names a host or an app's own scheme, no user.
func parseReturn(s string) (returnTo, error) {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\\\"<>`", c) >= 0 {
			return returnTo{}, errRedirect
		}
	}
	u, err := url.Parse(s)
	if err != nil || u.User != nil || !strings.HasPrefix(s, u.Scheme+":") { // in lower case, as registered
		return returnTo{}, errRedirect
	}
	switch {
	case (u.Scheme == "https" || u.Scheme == "http") && u.Opaque == "" && u.Hostname() != "":
		return returnTo{s, u.Host}, nil
	case ownScheme.MatchString(u.Scheme):
		return returnTo{s, u.Scheme}, nil
	}
	return returnTo{}, errRedirect
}

// withPUID is the address with the name added to its query, whatever else it has.
func (t returnTo) withPUID(puid string) string {
	before, fragment, hasFragment := strings.Cut(t.URL, "#")
	sep := "?"
	switch _, query, has := strings.Cut(before, "?"); {
	case has && (query == "" || strings.HasSuffix(query, "&")):
		sep = ""
	case has:
		sep = "&"
	}
	to := before + sep + puidParam + "=" + url.QueryEscape(puid)
	if hasFragment {
		to += "#" + fragment
	}
	return to
}

// source is the address as a source of form-action: browsers hold a redirect that answers a form against it too.
func (t returnTo) source() string {
	if t.URL == "" {
		return ""
	}
	scheme, _, _ := strings.Cut(t.URL, ":")
	if (scheme == "https" || scheme == "http") && plainHost.MatchString(t.Site) {
		return scheme + "://" + t.Site
	}
	return scheme + ":" // an app's own scheme; or a host that policies cannot name, such as [::1]
}
