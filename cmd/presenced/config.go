package main

import (
	"fmt"
	"time"
)

// Config is everything that can be set. The comments of its fields are what `presenced config describe`
// prints: write them for an administrator, and nowhere else a second time. The tag conf says more of a key:
// "secret" is masked when printed.
//
// A Config is a value: it is loaded, checked, and then only read.
type Config struct {
	// The gateway's own XMPP domain: users' addresses are PUID@domain.
	Domain string `toml:"domain"`
	// The folder that holds presenced.db and, while a server runs, admin.sock. Made with mode 0700 when it is missing; a relative one starts at the working directory.
	Data string `toml:"data"`
	// The public origin, such as https://presence.example.org, by which browsers and assertions name the gateway. Empty: made from http.listen.
	Origin string `toml:"origin"`
	// Allow listening off loopback without TLS. For networks that are private in truth, or behind something that does TLS.
	Insecure bool `toml:"insecure"`
	// Let anybody be anybody with the assertion "dev". Only for trying things out, only with every listener on loopback.
	Dev bool `toml:"dev"`
	// E-mails of those who may open the pages under /admin: live events, counts, apps and users. Nobody else can tell that they exist.
	Admins []string `toml:"admins"`
	// Bare JIDs, such as root@chat.example.org, of those who may administer with XMPP commands (XEP-0050). The component at such a domain says who is there, so it may do all that they may. None: there are no commands.
	AdminJIDs []string `toml:"admin_jids"`

	// Devices, pages and the HTTP API.
	HTTP HTTPConfig `toml:"http"`
	// Health, metrics and profiles, for the machine's own administrators.
	Admin AdminConfig `toml:"admin"`
	// App services that join as XMPP components (XEP-0114).
	XMPP XMPPConfig `toml:"xmpp"`
	// App services that speak the wire of Google's Cloud Connection Server.
	CCS CCSConfig `toml:"ccs"`
	// The device channel, wss://HOST/presence.
	Device DeviceConfig `toml:"device"`
	// Waking devices that are not connected, by Web Push or UnifiedPush.
	Push PushConfig `toml:"push"`
	// What a stranger may grow, and how far.
	Limits LimitsConfig `toml:"limits"`
	// How the server stops.
	Shutdown ShutdownConfig `toml:"shutdown"`
	// Who confirms that a device belongs to an e-mail.
	Identity IdentityConfig `toml:"identity"`
	// The log, on standard error.
	Log LogConfig `toml:"log"`
}

// HTTPConfig is the table [http].
type HTTPConfig struct {
	// Address to listen on; port 0 takes a free one.
	Listen string `toml:"listen"`
	// Certificate chain in PEM; with tls_key it turns on HTTPS. Read again when the file changes.
	TLSCert string `toml:"tls_cert"`
	// Private key of tls_cert, in PEM.
	TLSKey string `toml:"tls_key"`
	// Host names to get certificates for by ACME, in place of tls_cert: they turn on HTTPS, and serve the TLS of [xmpp] and [ccs] too where these have no files. The authority looks at port 443 of each name, which must lead to listen. Using it accepts the authority's terms. They are kept in DATA/acme.
	ACMEHosts []string `toml:"acme_hosts"`
	// The directory of the authority (RFC 8555); empty: Let's Encrypt.
	ACMEDirectory string `toml:"acme_directory"`
	// Where the authority may write to about certificates; empty: nowhere.
	ACMEEmail string `toml:"acme_email"`
	// Authorities in PEM by which acme_directory itself is trusted, for one of your own; empty: the system's.
	ACMECAFile string `toml:"acme_ca_file"`
	// Addresses or networks (10.0.0.0/8) of the proxies in front, whose X-Forwarded-For is believed.
	TrustedProxies []string `toml:"trusted_proxies"`
	// Origins, such as https://intranet.example.org, whose pages may show /sidebar in a frame; none: nobody may.
	SidebarFrames []string `toml:"sidebar_frames"`
}

// tls reports whether devices, pages and the HTTP API have TLS.
func (h *HTTPConfig) tls() bool { return h.TLSCert != "" || len(h.ACMEHosts) > 0 }

// AdminConfig is the table [admin].
type AdminConfig struct {
	// Address of /livez, /readyz, /metrics and /debug/pprof, on loopback; empty: off.
	Listen string `toml:"listen"`
}

// XMPPConfig is the table [xmpp].
type XMPPConfig struct {
	// Address for components without TLS; empty: off.
	Listen string `toml:"listen"`
	// Address for components with TLS from the first byte; empty: off.
	TLSListen string `toml:"tls_listen"`
	// Certificate chain in PEM for tls_listen. Read again when the file changes.
	TLSCert string `toml:"tls_cert"`
	// Private key of tls_cert, in PEM.
	TLSKey string `toml:"tls_key"`
	// Authorities in PEM; with them a component on tls_listen must show a client certificate that one of them
	// signed, besides its secret. Read again when the file changes. On listen nobody shows one.
	ClientCA string `toml:"client_ca"`
	// Largest stanza in bytes, at least 10000.
	MaxStanza int `toml:"max_stanza"`
	// How long a component may take from connecting to the end of its handshake.
	HandshakeTimeout Duration `toml:"handshake_timeout"`
	// How long a lost stream can be resumed (XEP-0198).
	ResumeTimeout Duration `toml:"resume_timeout"`
	// A component that is silent for this long is pinged, and dropped if it stays silent.
	PingInterval Duration `toml:"ping_interval"`
	// Tell components the version when they ask (XEP-0092).
	ShowVersion bool `toml:"show_version"`
}

// CCSConfig is the table [ccs].
type CCSConfig struct {
	// Address of the CCS endpoint, with TLS from the first byte; empty: off. Google's port was 5235.
	Listen string `toml:"listen"`
	// Address of a second one, which is the same; Google's port for pre-production was 5236. Empty: off.
	PreprodListen string `toml:"preprod_listen"`
	// Certificate chain in PEM for both. Read again when the file changes.
	TLSCert string `toml:"tls_cert"`
	// Private key of tls_cert, in PEM.
	TLSKey string `toml:"tls_key"`
	// Messages that an app may send to one registration token at once before rate counts; of more it is told DEVICE_MESSAGE_RATE_EXCEEDED.
	Burst int `toml:"burst"`
	// Messages a second that an app may send to one registration token; 0: no limit.
	Rate float64 `toml:"rate"`
}

// DeviceConfig is the table [device].
type DeviceConfig struct {
	// How long a new socket may take to identify itself.
	IdentifyTimeout Duration `toml:"identify_timeout"`
	// How long a device whose socket broke still counts as there, so that a change of network does not flap.
	Linger Duration `toml:"linger"`
	// A socket that is silent for about this long is pinged.
	Heartbeat Duration `toml:"heartbeat"`
	// The shortest heartbeat a device may ask for.
	HeartbeatMin Duration `toml:"heartbeat_min"`
	// The longest heartbeat a device may ask for.
	HeartbeatMax Duration `toml:"heartbeat_max"`
	// How long a device may take to answer a ping.
	PongTimeout Duration `toml:"pong_timeout"`
	// Largest frame in bytes, at least 1024.
	MaxFrame int `toml:"max_frame"`
	// Frames that a socket may send at once before rate counts.
	Burst int `toml:"burst"`
	// Frames a second that a socket may send; 0: no limit.
	Rate float64 `toml:"rate"`
	// Devices that may identify themselves in a second, all together; 0: no limit. Of more, some wait for two seconds and the others are told when to come back, so that those who are connected do not wait. New connections are taken at twice this rate.
	Logins float64 `toml:"logins"`
}

// PushConfig is the table [push].
type PushConfig struct {
	// Wake devices for notifications of high priority, through the push services that they name. These learn that somebody is wanted, and nothing else. Through HTTPS_PROXY where that is set.
	Enabled bool `toml:"enabled"`
	// Push to private and loopback addresses, addresses without a name, and ports other than 443 too, for a push service of your own.
	AllowPrivate bool `toml:"allow_private"`
	// An e-mail or https URL by which operators of push services reach you; they are told with each push. Empty: the origin.
	Contact string `toml:"contact"`
}

// LimitsConfig is the table [limits].
type LimitsConfig struct {
	// Largest notification: bytes of source, message, action and data together.
	NotificationBytes int `toml:"notification_bytes"`
	// Notifications that wait for one user from one app; one more, and the oldest goes.
	QueuePerApp int `toml:"queue_per_app"`
	// How long a notification waits where the app does not say.
	TTLDefault Duration `toml:"ttl_default"`
	// The longest an app may ask for.
	TTLMax Duration `toml:"ttl_max"`
	// Collapse keys that wait for one user from one app; one more, and the oldest goes.
	CollapseKeys int `toml:"collapse_keys"`
	// Connected devices of one user.
	SocketsPerUser int `toml:"sockets_per_user"`
	// Device sockets from one network address.
	SocketsPerAddress int `toml:"sockets_per_address"`
	// Consent requests that wait for one user's answer.
	RequestsPerUser int `toml:"requests_per_user"`
}

// ShutdownConfig is the table [shutdown].
type ShutdownConfig struct {
	// After asking devices to come back later, serve this long before closing; shorter once they all left.
	Drain Duration `toml:"drain"`
	// Devices are asked to come back within this time, from 2 seconds behind the drain on, each at another moment; longer where device.logins needs longer to let them all in.
	Spread Duration `toml:"spread"`
}

// IdentityConfig is the table [identity].
type IdentityConfig struct {
	// Accept the secrets made by "presenced user token".
	Token bool `toml:"token"`
	// Issuers of OpenID Connect: people sign in there on the pages, and devices may identify themselves with its ID tokens.
	OIDC []OIDCConfig `toml:"oidc"`
	// Persona/BrowserID assertions, certificate~assertion, made for this origin and verified here.
	BrowserID BrowserIDConfig `toml:"browserid"`
}

// OIDCConfig is one table of [[identity.oidc]].
type OIDCConfig struct {
	// Short name, part of the login page's address, /login/oidc/NAME: letters, digits, dot, hyphen, underscore.
	Name string `toml:"name"`
	// The issuer's https URL exactly as its tokens have it in "iss"; its discovery document lies under it. Asked when first needed. http is for loopback only.
	Issuer string `toml:"issuer"`
	// The gateway's client id at the issuer. ID tokens must have it as audience.
	ClientID string `toml:"client_id"`
	// The gateway's secret at the issuer; empty: a public client, which PKCE protects alone.
	ClientSecret string `toml:"client_secret" conf:"secret"`
	// E-mail domains that this issuer may confirm; none: any. Name them wherever others than the domains' owners can get accounts.
	Domains []string `toml:"domains"`
	// Signature algorithms accepted; none: RS256, ES256, EdDSA.
	Algorithms []string `toml:"algorithms"`
	// Authorities in PEM for the connection to the issuer, instead of the system's. Read at the start.
	CAFile string `toml:"ca_file"`
}

// BrowserIDConfig is the table [identity.browserid].
type BrowserIDConfig struct {
	// Accept BrowserID bundles. Who may sign for an e-mail is read from its domain's /.well-known/browserid, through HTTPS_PROXY where that is set.
	Enabled bool `toml:"enabled"`
	// Domains of issuers believed for any e-mail; none: only the e-mail's own domain, and whom that delegates to.
	TrustedIssuers []string `toml:"trusted_issuers"`
	// Fetch support documents, and what proves the domains of apps, from private and loopback addresses, addresses without a name, and ports other than 443 too.
	AllowPrivate bool `toml:"allow_private"`
	// Authorities in PEM for fetching both, instead of the system's. Read at the start.
	CAFile string `toml:"ca_file"`
}

// LogConfig is the table [log].
type LogConfig struct {
	// debug, info, warn or error.
	Level string `toml:"level"`
	// text or json.
	Format string `toml:"format"`
}

// DefaultConfig runs without a file: everything on loopback, data in the working directory.
func DefaultConfig() Config {
	return Config{
		Domain: "localhost",
		Data:   "./presenced-data",
		HTTP:   HTTPConfig{Listen: "127.0.0.1:8080"},
		Admin:  AdminConfig{Listen: "127.0.0.1:8081"},
		XMPP: XMPPConfig{
			Listen:           "127.0.0.1:5347",
			MaxStanza:        65536,
			HandshakeTimeout: duration("10s"),
			ResumeTimeout:    duration("300s"),
			PingInterval:     duration("120s"),
			ShowVersion:      true,
		},
		CCS: CCSConfig{Burst: 5000, Rate: 100},
		Device: DeviceConfig{
			IdentifyTimeout: duration("10s"),
			Linger:          duration("10s"),
			Heartbeat:       duration("120s"),
			HeartbeatMin:    duration("30s"),
			HeartbeatMax:    duration("30m"),
			PongTimeout:     duration("10s"),
			MaxFrame:        8192,
			Burst:           20,
			Rate:            1.0,
			Logins:          2000,
		},
		Limits: LimitsConfig{
			NotificationBytes: 4096,
			QueuePerApp:       100,
			TTLDefault:        duration("672h"),
			TTLMax:            duration("672h"),
			CollapseKeys:      4,
			SocketsPerUser:    20,
			SocketsPerAddress: 1000,
			RequestsPerUser:   100,
		},
		Shutdown: ShutdownConfig{Drain: duration("10s"), Spread: duration("10s")},
		Identity: IdentityConfig{Token: true},
		Log:      LogConfig{Level: "info", Format: "text"},
	}
}

// defaultAlgorithms are those of an [[identity.oidc]] table that names none.
func defaultAlgorithms() []string { return []string{"RS256", "ES256", "EdDSA"} }

// Duration is a time.Duration that is written as in Go ("10s", "672h") and printed as it was written. It is a
// struct so that a bare number, which has no unit, is refused.
type Duration struct {
	time.Duration
	written string
}

// duration reads a default.
func duration(s string) Duration {
	var d Duration
	if err := d.UnmarshalText([]byte(s)); err != nil {
		panic(err) // a mistake in this file
	}
	return d
}

// UnmarshalText reads Go's form.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 10s, 5m or 672h", b)
	}
	d.Duration, d.written = v, string(b)
	return nil
}

// MarshalText writes what was read.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

func (d Duration) String() string {
	if d.written != "" {
		return d.written
	}
	return d.Duration.String()
}
