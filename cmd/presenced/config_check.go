package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"mellium.im/xmpp/jid"

	"presenced/identity"
	"presenced/presence"
)

const (
	minStanza    = 10000 // RFC 6120 §13.12
	minFrame     = 1024
	maxDomainLen = 253
)

// Validate returns everything that keeps a server from running with c, joined, each a *problem; from says
// where each key was set. It reads the certificates, and nothing else outside of c.
func (c *Config) Validate(from origins) error {
	k := &checker{c: c, from: from}
	k.basics()
	k.listeners()
	k.http()
	k.xmpp()
	k.ccs()
	k.device()
	k.push()
	k.limits()
	k.identity()
	k.log()
	return errors.Join(k.errs...)
}

// ValidateOffline checks only what the commands need that work on the data folder.
func (c *Config) ValidateOffline(from origins) error {
	k := &checker{c: c, from: from}
	k.basics()
	k.limits()
	return errors.Join(k.errs...)
}

// Warnings are what does not keep a server from running and is hardly meant, for a valid c.
func (c *Config) Warnings(from origins) (ws []*problem) {
	if len(c.HTTP.TrustedProxies) == 0 && c.isBehindProxy() {
		ws = append(ws, &problem{Where: from["origin"], Key: "http.trusted_proxies",
			Text: "nobody is trusted, but to " + c.Origin + " one gets only through something in front of this server: " +
				"all have its address, and limits.sockets_per_address and failed attempts count for all together",
			Hint: `have it set X-Forwarded-For and name it, such as trusted_proxies = ["127.0.0.1"]`})
	}
	return ws
}

// isBehindProxy reports whether the public origin cannot be this server itself: it is on another machine's side of
// loopback, or has TLS that is not done here.
func (c *Config) isBehindProxy() bool {
	u, err := url.Parse(c.Origin)
	if err != nil || c.Origin == "" || isLoopback(u.Hostname()) {
		return false
	}
	host, _, err := splitListen(c.HTTP.Listen)
	return err == nil && isLoopback(host) || u.Scheme == "https" && !c.HTTP.tls()
}

// expired names each certificate whose time is over at now: a server runs with it, and nobody connects.
func (c *Config) expired(from origins, now time.Time) []*problem {
	var over []*problem
	for table, files := range map[string][2]string{
		"http": {c.HTTP.TLSCert, c.HTTP.TLSKey}, "xmpp": {c.XMPP.TLSCert, c.XMPP.TLSKey}, "ccs": {c.CCS.TLSCert, c.CCS.TLSKey},
	} {
		key := table + ".tls_cert"
		if pair, err := tls.LoadX509KeyPair(files[0], files[1]); err == nil && now.After(pair.Leaf.NotAfter) {
			over = append(over, &problem{Where: from[key], Key: key, Text: files[0] + " has expired on " + timeText(pair.Leaf.NotAfter)})
		}
	}
	slices.SortFunc(over, func(a, b *problem) int { return strings.Compare(a.Key, b.Key) })
	return over
}

// checker collects what is wrong with c.
type checker struct {
	c    *Config
	from origins
	errs []error
}

// fail notes that the value of key is wrong; hint says what to do, or is empty.
func (k *checker) fail(key, text, hint string) {
	k.errs = append(k.errs, &problem{Where: k.from[key], Key: key, Text: text, Hint: hint})
}

func (k *checker) basics() {
	if err := checkDomainName(k.c.Domain); err != nil {
		k.fail("domain", err.Error(), "")
	}
	if k.c.Data == "" {
		k.fail("data", "must name a folder", "")
	}
	if k.c.Origin != "" {
		if err := checkOrigin(k.c.Origin); err != nil {
			k.fail("origin", err.Error(), "write it as a browser shows it: https://presence.example.org")
		}
	}
	if k.c.Shutdown.Drain.Duration < 0 {
		k.fail("shutdown.drain", "must not be negative", "")
	}
	if k.c.Shutdown.Spread.Duration < 0 {
		k.fail("shutdown.spread", "must not be negative", "")
	}
	for _, e := range k.c.Admins {
		if _, err := presence.NormalEmail(e); err != nil {
			k.fail("admins", fmt.Sprintf("%q is not an e-mail address", e), "")
		}
	}
	if _, err := parseBareJIDs(k.c.AdminJIDs); err != nil {
		k.fail("admin_jids", err.Error(), "write root@chat.example.org")
	}
}

// parseBareJIDs returns addresses in their normal form. What stands there must be one without resource.
func parseBareJIDs(list []string) ([]string, error) {
	var bare []string
	for _, s := range list {
		j, err := jid.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not a JID", s)
		}
		if j.Resourcepart() != "" {
			return nil, fmt.Errorf("%q has a resource", s)
		}
		bare = append(bare, j.String())
	}
	return bare, nil
}

func checkDomainName(d string) error {
	if d == "" || len(d) > maxDomainLen || strings.Trim(d, ".-") != d || strings.Contains(d, "..") {
		return fmt.Errorf("%q is not a domain name", d)
	}
	for i := range len(d) {
		c := d[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-') {
			return fmt.Errorf("%q is not a domain name in lower case", d)
		}
	}
	return nil
}

func checkOrigin(s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%q is not an origin", s)
	}
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("%q has more than scheme, host and port", s)
	}
	return nil
}

// listener is one address that the server listens on, for the rules they share.
type listener struct {
	key, addr string
	tls       bool
	required  bool
	hint      string // how to make it safe off loopback
}

func (k *checker) listeners() {
	all := []listener{
		{key: "http.listen", addr: k.c.HTTP.Listen, tls: k.c.HTTP.tls(), required: true,
			hint: "set http.tls_cert and http.tls_key, or http.acme_hosts, or insecure = true if something in front of it does TLS"},
		{key: "admin.listen", addr: k.c.Admin.Listen,
			hint: `listen on 127.0.0.1, turn it off with "", or set insecure = true`},
		{key: "xmpp.listen", addr: k.c.XMPP.Listen,
			hint: "use xmpp.tls_listen with xmpp.tls_cert and xmpp.tls_key, or set insecure = true on a private network"},
		{key: "xmpp.tls_listen", addr: k.c.XMPP.TLSListen, tls: true},
		{key: "ccs.listen", addr: k.c.CCS.Listen, tls: true},
		{key: "ccs.preprod_listen", addr: k.c.CCS.PreprodListen, tls: true},
	}
	taken := map[string]string{}
	for _, l := range all {
		k.listener(l, taken)
	}
}

// listener checks one address; taken maps the addresses before it to their keys.
func (k *checker) listener(l listener, taken map[string]string) {
	if l.addr == "" {
		if l.required {
			k.fail(l.key, "must not be empty", "")
		}
		return
	}
	host, port, err := splitListen(l.addr)
	if err != nil {
		k.fail(l.key, err.Error(), "write host:port, such as 127.0.0.1:8080")
		return
	}
	if other, ok := taken[l.addr]; ok && port != 0 {
		k.fail(l.key, l.addr+" is the address of "+other+" too", "")
	}
	taken[l.addr] = l.key
	if isLoopback(host) {
		return
	}
	if k.c.Dev {
		k.fail(l.key, l.addr+" is not on loopback, and dev lets anybody be anybody",
			"listen on 127.0.0.1, or turn dev off")
		return
	}
	if !l.tls && !k.c.Insecure {
		k.fail(l.key, l.addr+" is reachable from other machines and has no TLS", l.hint)
	}
}

func splitListen(addr string) (host string, port uint16, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", addr)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q has no port between 0 and 65535", addr)
	}
	return host, uint16(n), nil
}

// isLoopback reports whether host can be reached from this machine only. Names other than localhost are not
// looked up: what they mean may change.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// pair checks that a certificate and its key are there together and fit.
func (k *checker) pair(table, cert, key string) {
	switch {
	case cert == "" && key == "":
	case cert == "":
		k.fail(table+".tls_key", "is set without "+table+".tls_cert", "")
	case key == "":
		k.fail(table+".tls_cert", "is set without "+table+".tls_key", "")
	default:
		if _, err := tls.LoadX509KeyPair(cert, key); err != nil {
			k.fail(table+".tls_cert", err.Error(), "")
		}
	}
}

func (k *checker) http() {
	k.pair("http", k.c.HTTP.TLSCert, k.c.HTTP.TLSKey)
	if _, err := parsePrefixes(k.c.HTTP.TrustedProxies); err != nil {
		k.fail("http.trusted_proxies", err.Error(), "write addresses or networks, such as 10.0.0.0/8")
	}
	for _, origin := range k.c.HTTP.SidebarFrames {
		err := checkOrigin(origin)
		if err == nil && strings.ContainsAny(origin, ";,*'") { // it becomes part of a policy
			err = fmt.Errorf("%q is not one origin", origin)
		}
		if err != nil {
			k.fail("http.sidebar_frames", err.Error(), "write them as a browser shows them: https://intranet.example.org")
		}
	}
	k.acme()
}

// acme checks what certificates by ACME need; whether the authority agrees is seen when the server runs.
func (k *checker) acme() {
	c := &k.c.HTTP
	for _, h := range c.ACMEHosts {
		switch _, err := netip.ParseAddr(h); {
		case checkDomainName(h) != nil:
			k.fail("http.acme_hosts", checkDomainName(h).Error(), "")
		case err == nil || !strings.Contains(h, "."):
			k.fail("http.acme_hosts", fmt.Sprintf("no authority knows the name %q", h), "write it whole: presence.example.org")
		}
	}
	if len(c.ACMEHosts) > 0 && (c.TLSCert != "" || c.TLSKey != "") {
		k.fail("http.acme_hosts", "there is http.tls_cert too, and one of them would be ignored", "leave one out")
	}
	if u, err := url.Parse(c.ACMEDirectory); c.ACMEDirectory != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		k.fail("http.acme_directory", fmt.Sprintf("%q is not an https URL", c.ACMEDirectory), "")
	}
	if c.ACMECAFile != "" {
		if _, _, err := loadAuthorities(c.ACMECAFile); err != nil {
			k.fail("http.acme_ca_file", err.Error(), "")
		}
	}
	for key, value := range map[string]string{"directory": c.ACMEDirectory, "email": c.ACMEEmail, "ca_file": c.ACMECAFile} {
		if value != "" && len(c.ACMEHosts) == 0 {
			k.fail("http.acme_"+key, "is used for http.acme_hosts only, and there are none", "")
		}
	}
}

// parsePrefixes reads addresses and networks.
func parsePrefixes(list []string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network", s)
		}
		prefixes = append(prefixes, p)
	}
	return prefixes, nil
}

func (k *checker) xmpp() {
	x := &k.c.XMPP
	k.pair("xmpp", x.TLSCert, x.TLSKey)
	if x.TLSListen != "" && x.TLSCert == "" && x.TLSKey == "" && len(k.c.HTTP.ACMEHosts) == 0 {
		k.fail("xmpp.tls_listen", "needs a certificate", "set xmpp.tls_cert and xmpp.tls_key, or http.acme_hosts")
	}
	if x.TLSListen == "" && x.TLSCert != "" {
		k.fail("xmpp.tls_cert", "is used by xmpp.tls_listen only, which is off",
			"set xmpp.tls_listen, such as 127.0.0.1:5270")
	}
	k.clientCA()
	k.atLeast("xmpp.max_stanza", x.MaxStanza, minStanza)
	k.positive("xmpp.handshake_timeout", x.HandshakeTimeout)
	k.positive("xmpp.resume_timeout", x.ResumeTimeout)
	k.positive("xmpp.ping_interval", x.PingInterval)
}

func (k *checker) ccs() {
	c := &k.c.CCS
	k.pair("ccs", c.TLSCert, c.TLSKey)
	for key, addr := range map[string]string{"ccs.listen": c.Listen, "ccs.preprod_listen": c.PreprodListen} {
		if addr != "" && c.TLSCert == "" && c.TLSKey == "" && len(k.c.HTTP.ACMEHosts) == 0 {
			k.fail(key, "needs a certificate: this wire has no form without TLS", "set ccs.tls_cert and ccs.tls_key, or http.acme_hosts")
		}
	}
	k.atLeast("ccs.burst", c.Burst, 1)
	k.rate("ccs.rate", c.Rate)
	if c.Listen == "" && c.PreprodListen == "" && c.TLSCert != "" {
		k.fail("ccs.tls_cert", "is used by ccs.listen and ccs.preprod_listen only, which are off", "set ccs.listen, such as 127.0.0.1:5235")
	}
}

// clientCA checks that the authorities are there and used.
func (k *checker) clientCA() {
	file := k.c.XMPP.ClientCA
	if file == "" {
		return
	}
	if k.c.XMPP.TLSListen == "" {
		k.fail("xmpp.client_ca", "is used by xmpp.tls_listen only, which is off",
			"set xmpp.tls_listen, such as 127.0.0.1:5270")
	}
	if _, _, err := loadAuthorities(file); err != nil {
		k.fail("xmpp.client_ca", err.Error(), "")
	}
}

func (k *checker) device() {
	d := &k.c.Device
	k.positive("device.identify_timeout", d.IdentifyTimeout)
	if d.Linger.Duration < 0 {
		k.fail("device.linger", "must not be negative", "")
	}
	k.positive("device.heartbeat_min", d.HeartbeatMin)
	if d.HeartbeatMax.Duration < d.HeartbeatMin.Duration {
		k.fail("device.heartbeat_max", fmt.Sprintf("%s is less than device.heartbeat_min (%s)", d.HeartbeatMax, d.HeartbeatMin), "")
	} else if d.Heartbeat.Duration < d.HeartbeatMin.Duration || d.Heartbeat.Duration > d.HeartbeatMax.Duration {
		k.fail("device.heartbeat", fmt.Sprintf("%s is not between device.heartbeat_min and _max (%s to %s)",
			d.Heartbeat, d.HeartbeatMin, d.HeartbeatMax), "")
	}
	k.positive("device.pong_timeout", d.PongTimeout)
	k.atLeast("device.max_frame", d.MaxFrame, minFrame)
	k.atLeast("device.burst", d.Burst, 1)
	k.rate("device.rate", d.Rate)
	k.rate("device.logins", d.Logins)
}

// rate checks something a second.
func (k *checker) rate(key string, r float64) {
	if !(r >= 0 && r < 1e9) {
		k.fail(key, "must not be negative", "0 turns the limit off")
	}
}

func (k *checker) limits() {
	l := &k.c.Limits
	k.atLeast("limits.notification_bytes", l.NotificationBytes, 1)
	k.atLeast("limits.queue_per_app", l.QueuePerApp, 1)
	k.positive("limits.ttl_max", l.TTLMax)
	if l.TTLDefault.Duration < 0 || l.TTLDefault.Duration > l.TTLMax.Duration {
		k.fail("limits.ttl_default", fmt.Sprintf("%s is not between 0s and limits.ttl_max (%s)", l.TTLDefault, l.TTLMax), "")
	}
	k.atLeast("limits.collapse_keys", l.CollapseKeys, 1)
	k.atLeast("limits.sockets_per_user", l.SocketsPerUser, 1)
	k.atLeast("limits.sockets_per_address", l.SocketsPerAddress, 1)
	k.atLeast("limits.requests_per_user", l.RequestsPerUser, 1)
}

func (k *checker) push() {
	contact := strings.TrimPrefix(k.c.Push.Contact, "mailto:")
	if contact == "" || checkOrigin(contact) == nil && strings.HasPrefix(contact, "https:") {
		return
	}
	if _, err := presence.NormalEmail(contact); err != nil {
		k.fail("push.contact", fmt.Sprintf("%q is neither an e-mail address nor an https URL", k.c.Push.Contact), "write admin@example.org")
	}
}

func (k *checker) identity() {
	names := map[string]bool{}
	for i := range k.c.Identity.OIDC {
		k.oidc(&k.c.Identity.OIDC[i], tableKey("identity.oidc", i), names)
	}
	k.browserID()
}

// oidc checks one issuer; names are those of the ones before it.
func (k *checker) oidc(o *OIDCConfig, table string, names map[string]bool) {
	fail := func(key, text, hint string) { k.failIn(table, key, text, hint) }
	if !isIssuerName(o.Name) {
		fail("name", fmt.Sprintf("%q is not a name", o.Name), "write 1 to 64 letters, digits, dots, hyphens or underscores; a letter or digit first")
	} else if names[o.Name] {
		fail("name", fmt.Sprintf("%q is the name of another issuer too", o.Name), "")
	}
	names[o.Name] = true
	if err := identity.CheckIssuer(o.Issuer); err != nil {
		fail("issuer", err.Error(), `write it as the issuer's tokens have it in "iss", such as https://login.example.org`)
	}
	if o.ClientID == "" {
		fail("client_id", "is missing", "the issuer gives it to you when you register the gateway there")
	}
	for _, d := range o.Domains {
		if err := checkDomainName(strings.ToLower(d)); err != nil {
			fail("domains", err.Error(), "write the part behind the @: example.org")
		}
	}
	for _, a := range o.Algorithms {
		if !slices.Contains(knownAlgorithms(), a) {
			fail("algorithms", fmt.Sprintf("%q is none of %s", a, strings.Join(knownAlgorithms(), ", ")), "")
		}
	}
	if err := checkAuthorities(o.CAFile); err != nil {
		fail("ca_file", err.Error(), "")
	}
}

// failIn is fail for a key of one of several tables; where the key is not written, the table stands for it.
func (k *checker) failIn(table, key, text, hint string) {
	key = table + "." + key
	if k.from[key] == "" {
		where := k.from[table]
		if where == "" { // all of them from one variable
			where = k.from[strings.TrimRight(table, "[0123456789]")]
		}
		k.errs = append(k.errs, &problem{Where: where, Key: key, Text: text, Hint: hint})
		return
	}
	k.fail(key, text, hint)
}

// isIssuerName: it is a part of an address, and of a file's name maybe.
func isIssuerName(s string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return s != "" && len(s) <= 64 && strings.Trim(s, letters+".-_") == "" && strings.Contains(letters, s[:1])
}

func knownAlgorithms() []string {
	return []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA"}
}

func (k *checker) browserID() {
	b := &k.c.Identity.BrowserID
	for _, i := range b.TrustedIssuers {
		host, port, hasPort := strings.Cut(i, ":")
		if err := checkDomainName(strings.ToLower(host)); err != nil {
			k.fail("identity.browserid.trusted_issuers", err.Error(), "write domains, such as login.example.org")
		} else if n, err := strconv.ParseUint(port, 10, 16); hasPort && (err != nil || n == 0) {
			k.fail("identity.browserid.trusted_issuers", fmt.Sprintf("%q has no port between 1 and 65535", i), "")
		} else if hasPort && n != 443 && !b.AllowPrivate {
			k.fail("identity.browserid.trusted_issuers", fmt.Sprintf("%q has another port than 443", i),
				"nothing is fetched from there unless identity.browserid.allow_private = true")
		}
	}
	if err := checkAuthorities(b.CAFile); err != nil {
		k.fail("identity.browserid.ca_file", err.Error(), "")
	}
}

// checkAuthorities: a ca_file is empty, or has certificates.
func checkAuthorities(file string) error {
	if file == "" {
		return nil
	}
	_, _, err := loadAuthorities(file)
	return err
}

func (k *checker) log() {
	if _, err := parseLevel(k.c.Log.Level); err != nil {
		k.fail("log.level", err.Error(), "")
	}
	if f := k.c.Log.Format; f != "text" && f != "json" {
		k.fail("log.format", fmt.Sprintf("%q is neither text nor json", f), "")
	}
}

// sameValue compares two keys; a list that is empty is the same as none, 2m the same as 120s.
func sameValue(a, b reflect.Value) bool {
	if d, ok := a.Interface().(Duration); ok {
		return d.Duration == b.Interface().(Duration).Duration
	}
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func (k *checker) positive(key string, d Duration) {
	if d.Duration < time.Millisecond {
		k.fail(key, d.String()+" is too short", "")
	}
}

func (k *checker) atLeast(key string, n, least int) {
	if n < least {
		k.fail(key, fmt.Sprintf("%d is less than %d", n, least), "")
	}
}
