package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// protocolDefaults is the configuration as the wire contract lists it (§7): every key with its default. Of ours are
// http.sidebar_frames, ccs.burst, ccs.rate and the table push.
func protocolDefaults() map[string]any {
	return map[string]any{
		"domain": "localhost", "data": "./presenced-data", "origin": "", "insecure": false, "dev": false,
		"admins": []any{}, "admin_jids": []any{},
		"http.listen": "127.0.0.1:8080", "http.tls_cert": "", "http.tls_key": "", "http.acme_hosts": []any{},
		"http.acme_directory": "", "http.acme_email": "", "http.acme_ca_file": "",
		"http.trusted_proxies": []any{}, "http.sidebar_frames": []any{},
		"admin.listen": "127.0.0.1:8081",
		"xmpp.listen":  "127.0.0.1:5347", "xmpp.tls_listen": "", "xmpp.tls_cert": "", "xmpp.tls_key": "",
		"xmpp.client_ca": "", "xmpp.max_stanza": 65536.0, "xmpp.handshake_timeout": "10s",
		"xmpp.resume_timeout": "300s", "xmpp.ping_interval": "120s", "xmpp.show_version": true,
		"ccs.listen": "", "ccs.preprod_listen": "", "ccs.tls_cert": "", "ccs.tls_key": "",
		"ccs.burst": 5000.0, "ccs.rate": 100.0,
		"device.identify_timeout": "10s", "device.linger": "10s", "device.heartbeat": "120s",
		"device.heartbeat_min": "30s", "device.heartbeat_max": "30m", "device.pong_timeout": "10s",
		"device.max_frame": 8192.0, "device.burst": 20.0, "device.rate": 1.0, "device.logins": 2000.0,
		"limits.notification_bytes": 4096.0, "limits.queue_per_app": 100.0, "limits.ttl_default": "672h",
		"limits.ttl_max": "672h", "limits.collapse_keys": 4.0, "limits.sockets_per_user": 20.0,
		"limits.sockets_per_address": 1000.0, "limits.requests_per_user": 100.0,
		"push.enabled": false, "push.allow_private": false, "push.contact": "",
		"shutdown.drain": "10s", "shutdown.spread": "10s",
		"identity.token": true, "identity.oidc": []any{},
		"identity.oidc.name": "", "identity.oidc.issuer": "", "identity.oidc.client_id": "",
		"identity.oidc.client_secret": "", "identity.oidc.domains": []any{},
		"identity.oidc.algorithms": []any{"RS256", "ES256", "EdDSA"}, "identity.oidc.ca_file": "",
		"identity.browserid.enabled": false, "identity.browserid.trusted_issuers": []any{},
		"identity.browserid.allow_private": false, "identity.browserid.ca_file": "",
		"log.level": "info", "log.format": "text",
	}
}

// cliTest runs the program in this process and returns its exit code, standard output and standard error.
func cliTest(t *testing.T, environ []string, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, &cli{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, environ: environ})
	return code, out.String(), errs.String()
}

func TestDescribeListsEveryKeyOfTheContract(t *testing.T) {
	code, out, _ := cliTest(t, nil, "config", "describe", "--json")
	if code != 0 {
		t.Fatal("exit code", code)
	}
	var all []keyDescription
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]any{}
	for _, d := range all {
		got[d.Key] = d.Default
		if len(d.Meaning) < 10 || d.Type == "" {
			t.Errorf("%s is not explained: %+v", d.Key, d)
		}
	}
	if diff := cmp.Diff(protocolDefaults(), got); diff != "" {
		t.Errorf("defaults are not those of the contract (-contract +program):\n%s", diff)
	}
}

// TestDescriptionIsAFile: what describe prints can be used as it is, and changes nothing.
func TestDescriptionIsAFile(t *testing.T) {
	for _, command := range []string{"describe", "show"} {
		_, out, _ := cliTest(t, nil, "config", command)
		file := filepath.Join(t.TempDir(), "presenced.toml")
		os.WriteFile(file, []byte(out), 0o600)
		cfg, from, err := loadConfig(file, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(configJSON(DefaultConfig()), configJSON(cfg), cmp.Comparer(func(a, b Duration) bool { return a == b })); diff != "" {
			t.Errorf("config %s | serve: %s", command, diff)
		}
		for path := range protocolDefaults() {
			if !strings.HasPrefix(path, "identity.oidc") && from[path] == "" {
				t.Errorf("config %s leaves out %s", command, path)
			}
		}
	}
}

// TestEveryKeyFromTheEnvironment sets each key by its variable to something else than its default.
func TestEveryKeyFromTheEnvironment(t *testing.T) {
	plain := DefaultConfig()
	for _, k := range configKeys(&plain) {
		text := map[string]string{
			"string": "other", "boolean": fmt.Sprint(!(k.Value.Kind() == reflect.Bool && k.Value.Bool())),
			"integer": "77", "number": "7.5", "duration": "77s", "list of strings": "a, b",
			"list of tables": `[{name = "x", issuer = "https://id.example.org"}]`,
		}[k.Type()]
		cfg, from, err := loadConfig("", []string{k.Env() + "=" + text, "HOME=/"})
		if err != nil {
			t.Errorf("%s: %v", k.Env(), err)
			continue
		}
		changed := []string{}
		before, after := configKeys(&plain), configKeys(&cfg)
		for i := range before {
			if !sameValue(before[i].Value, after[i].Value) {
				changed = append(changed, before[i].Path)
			}
		}
		if !slices.Equal(changed, []string{k.Path}) || from[k.Path] != k.Env() {
			t.Errorf("%s=%s changed %v", k.Env(), text, changed)
		}
	}
}

func TestConfigErrorsSayWhere(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		env        []string
		want       []string // each a part of standard error
	}{
		{name: "unknown key", file: "domain = \"a.example\"\n\n[http]\n  listn = \"127.0.0.1:1\"\n",
			want: []string{":4:3: unknown key http.listn", "did you mean http.listen?"}},
		{name: "unknown table", file: "[htp]\nlisten = \"x\"\n", want: []string{":1:2: unknown key htp"}},
		{name: "two unknown keys", file: "a = 1\nb = 2\n", want: []string{":1:1: unknown key a", ":2:1: unknown key b"}},
		{name: "no TOML", file: "domain = \n", want: []string{":1:10: "}},
		{name: "wrong type", file: "domain = 5\n", want: []string{":1:10: domain: not of type string"}},
		{name: "wrong boolean", file: "dev = \"yes\"\n", want: []string{":1:7: dev: not of type boolean"}},
		{name: "number for a duration", file: "[shutdown]\ndrain = 10\n",
			want: []string{":2:1: shutdown.drain: 10 is not a duration", `"10s"`}},
		{name: "no duration", file: "[shutdown]\ndrain = \"10\"\n", want: []string{":2:9: shutdown.drain: \"10\" is not a duration"}},
		{name: "bad value", file: "[log]\nlevel = \"loud\"\n", want: []string{":2:1: log.level: \"loud\" is none of"}},
		{name: "bad value in an inline table", file: "log = {level = \"loud\"}\n", want: []string{":1:8: log.level"}},
		{name: "bad value by dots", file: "log.level = \"loud\"\n", want: []string{":1:1: log.level"}},
		{name: "a name without a domain", file: "[http]\nacme_hosts = [\"gateway\"]\n", want: []string{":2:1: http.acme_hosts: no authority knows the name \"gateway\""}},
		{name: "no certificate", file: "[ccs]\nlisten = \"127.0.0.1:5235\"\n", want: []string{":2:1: ccs.listen: needs a certificate", "ccs.tls_cert"}},
		{name: "oidc", file: "[[identity.oidc]]\nname = \"x\"\nissuer = \"https://x\"\nclient_id = \"c\"\n\n" +
			"[[identity.oidc]]\nname = \"x\"\nissuer = \"http://x\"\nalgorithms = [\"none\", \"HS256\"]\n",
			want: []string{":7:1: identity.oidc[1].name: \"x\" is the name of another", ":8:1: identity.oidc[1].issuer: \"http://x\" is not an https URL",
				":6:3: identity.oidc[1].client_id: is missing", ":9:1: identity.oidc[1].algorithms: \"none\" is none of", ":9:1: identity.oidc[1].algorithms: \"HS256\""}},
		{name: "oidc of a variable", env: []string{`PRESENCED_IDENTITY_OIDC=[{name = "x", issuer = "https://x"}]`},
			want: []string{"PRESENCED_IDENTITY_OIDC: identity.oidc[0].client_id: is missing"}},
		{name: "unknown variable", env: []string{"PRESENCED_HTTP_LISTN=x"},
			want: []string{"environment: unknown variable PRESENCED_HTTP_LISTN", "did you mean PRESENCED_HTTP_LISTEN?"}},
		{name: "bad variable", env: []string{"PRESENCED_DEVICE_BURST=many"},
			want: []string{"PRESENCED_DEVICE_BURST: device.burst: \"many\" is not an integer"}},
		{name: "bad value of a variable", env: []string{"PRESENCED_DEVICE_BURST=0"},
			want: []string{"PRESENCED_DEVICE_BURST: device.burst: 0 is less than 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "p.toml")
			os.WriteFile(file, []byte(tt.file), 0o600)
			code, out, errs := cliTest(t, tt.env, "config", "check", file)
			if code != exitFailed || out != "" {
				t.Errorf("exit code %d, output %q", code, out)
			}
			for _, want := range tt.want {
				if strings.HasPrefix(want, ":") {
					want = file + want
				}
				if !strings.Contains(errs, want) {
					t.Errorf("standard error lacks %q:\n%s", want, errs)
				}
			}
		})
	}
}

// oidc sets one good issuer, changed.
func oidc(change func(*OIDCConfig)) func(*Config) {
	return func(c *Config) {
		o := OIDCConfig{Name: "corp", Issuer: "https://login.example.org", ClientID: "presenced"}
		change(&o)
		c.Identity.OIDC = []OIDCConfig{o}
	}
}

// TestValidateRules: each rule refuses what it is there for and names the key.
func TestValidateRules(t *testing.T) {
	for _, tt := range []struct {
		key string
		set func(*Config)
	}{
		{"domain", func(c *Config) { c.Domain = "not a domain" }},
		{"domain", func(c *Config) { c.Domain = "Upper.example" }},
		{"data", func(c *Config) { c.Data = "" }},
		{"origin", func(c *Config) { c.Origin = "presence.example.org" }},
		{"origin", func(c *Config) { c.Origin = "https://presence.example.org/path" }},
		{"http.listen", func(c *Config) { c.HTTP.Listen = "" }},
		{"http.listen", func(c *Config) { c.HTTP.Listen = "127.0.0.1" }},
		{"http.listen", func(c *Config) { c.HTTP.Listen = "127.0.0.1:99999" }},
		{"http.listen", func(c *Config) { c.HTTP.Listen = "0.0.0.0:8080" }},
		{"http.listen", func(c *Config) { c.HTTP.Listen = ":8080" }},
		{"http.listen", func(c *Config) { c.HTTP.Listen = "[::]:8080" }},
		{"xmpp.listen", func(c *Config) { c.XMPP.Listen = "192.0.2.1:5347" }},
		{"xmpp.listen", func(c *Config) { c.XMPP.Listen = c.HTTP.Listen }},
		{"admin.listen", func(c *Config) { c.Admin.Listen = "gateway.example.org:8081" }},
		{"http.listen", func(c *Config) { c.Dev, c.Insecure, c.HTTP.Listen = true, true, "0.0.0.0:8080" }},
		{"xmpp.tls_listen", func(c *Config) { c.Dev, c.XMPP.TLSListen = true, "0.0.0.0:5270" }},
		{"xmpp.tls_listen", func(c *Config) { c.XMPP.TLSListen = "127.0.0.1:5270" }},
		{"xmpp.tls_cert", func(c *Config) { c.XMPP.TLSCert, c.XMPP.TLSKey = "/none", "/none" }},
		{"http.tls_cert", func(c *Config) { c.HTTP.TLSCert = "/none" }},
		{"http.tls_key", func(c *Config) { c.HTTP.TLSKey = "/none" }},
		{"http.trusted_proxies", func(c *Config) { c.HTTP.TrustedProxies = []string{"proxy"} }},
		{"http.sidebar_frames", func(c *Config) { c.HTTP.SidebarFrames = []string{"*"} }},
		{"http.sidebar_frames", func(c *Config) { c.HTTP.SidebarFrames = []string{"https://a.example.org;script-src"} }},
		{"http.sidebar_frames", func(c *Config) { c.HTTP.SidebarFrames = []string{"https://*.example.org"} }},
		{"http.acme_hosts", func(c *Config) { c.HTTP.ACMEHosts = []string{"Presence.example.org"} }},
		{"http.acme_hosts", func(c *Config) { c.HTTP.ACMEHosts = []string{"192.0.2.1"} }},
		{"http.acme_hosts", func(c *Config) { c.HTTP.ACMEHosts, c.HTTP.TLSCert = []string{"presence.example.org"}, "cert.pem" }},
		{"http.acme_directory", func(c *Config) { c.HTTP.ACMEDirectory = "https://ca.example.org/directory" }},
		{"http.acme_directory", func(c *Config) {
			c.HTTP.ACMEHosts, c.HTTP.ACMEDirectory = []string{"a.example.org"}, "http://ca.example.org"
		}},
		{"http.acme_email", func(c *Config) { c.HTTP.ACMEEmail = "root@example.org" }},
		{"http.acme_ca_file", func(c *Config) { c.HTTP.ACMEHosts, c.HTTP.ACMECAFile = []string{"a.example.org"}, "/none" }},
		{"xmpp.max_stanza", func(c *Config) { c.XMPP.MaxStanza = 9999 }},
		{"xmpp.client_ca", func(c *Config) { c.XMPP.ClientCA = "ca.pem" }},
		{"xmpp.handshake_timeout", func(c *Config) { c.XMPP.HandshakeTimeout = duration("0s") }},
		{"device.linger", func(c *Config) { c.Device.Linger = duration("-1s") }},
		{"device.heartbeat", func(c *Config) { c.Device.Heartbeat = duration("1h") }},
		{"device.heartbeat_max", func(c *Config) { c.Device.HeartbeatMax = duration("1s") }},
		{"device.max_frame", func(c *Config) { c.Device.MaxFrame = 10 }},
		{"device.rate", func(c *Config) { c.Device.Rate = -1 }},
		{"limits.queue_per_app", func(c *Config) { c.Limits.QueuePerApp = 0 }},
		{"limits.ttl_default", func(c *Config) { c.Limits.TTLDefault = duration("673h") }},
		{"shutdown.drain", func(c *Config) { c.Shutdown.Drain = duration("-1s") }},
		{"admins", func(c *Config) { c.Admins = []string{"root"} }},
		{"admin_jids", func(c *Config) { c.AdminJIDs = []string{"root@example.org", "root@example.org/desk"} }},
		{"admin_jids", func(c *Config) { c.AdminJIDs = []string{"@example.org"} }},
		{"identity.oidc[0].client_id", oidc(func(o *OIDCConfig) { o.ClientID = "" })},
		{"identity.oidc[0].name", oidc(func(o *OIDCConfig) { o.Name = "" })},
		{"identity.oidc[0].name", oidc(func(o *OIDCConfig) { o.Name = "a/b" })},
		{"identity.oidc[0].name", oidc(func(o *OIDCConfig) { o.Name = ".." })},
		{"identity.oidc[0].issuer", oidc(func(o *OIDCConfig) { o.Issuer = "" })},
		{"identity.oidc[0].issuer", oidc(func(o *OIDCConfig) { o.Issuer = "http://login.example.org" })},
		{"identity.oidc[0].domains", oidc(func(o *OIDCConfig) { o.Domains = []string{"@example.org"} })},
		{"identity.oidc[0].domains", oidc(func(o *OIDCConfig) { o.Domains = []string{"*"} })},
		{"identity.oidc[0].algorithms", oidc(func(o *OIDCConfig) { o.Algorithms = []string{"HS256"} })},
		{"identity.oidc[0].ca_file", oidc(func(o *OIDCConfig) { o.CAFile = "/none" })},
		{"identity.oidc[1].name", func(c *Config) { c.Identity.OIDC = make([]OIDCConfig, 2) }},
		{"push.contact", func(c *Config) { c.Push.Contact = "not an address" }},
		{"push.contact", func(c *Config) { c.Push.Contact = "http://example.org" }},
		{"identity.browserid.ca_file", func(c *Config) { c.Identity.BrowserID.CAFile = "config.go" }},
		{"identity.browserid.trusted_issuers", func(c *Config) { c.Identity.BrowserID.TrustedIssuers = []string{"*"} }},
		{"identity.browserid.trusted_issuers", func(c *Config) { c.Identity.BrowserID.TrustedIssuers = []string{"https://login.example.org"} }},
		{"identity.browserid.trusted_issuers", func(c *Config) { c.Identity.BrowserID.TrustedIssuers = []string{"login.example.org:8443"} }},
		{"ccs.preprod_listen", func(c *Config) { c.CCS.PreprodListen = "127.0.0.1:1" }},
		{"ccs.listen", func(c *Config) { c.CCS.Listen = "5235" }},
		{"ccs.tls_key", func(c *Config) { c.CCS.Listen, c.CCS.TLSKey = "127.0.0.1:1", "key.pem" }},
		{"ccs.tls_cert", func(c *Config) { c.CCS.TLSCert, c.CCS.TLSKey = "cert.pem", "key.pem" }},
		{"ccs.burst", func(c *Config) { c.CCS.Burst = 0 }},
		{"ccs.rate", func(c *Config) { c.CCS.Rate = -1 }},
		{"log.level", func(c *Config) { c.Log.Level = "verbose" }},
		{"log.format", func(c *Config) { c.Log.Format = "xml" }},
	} {
		c := DefaultConfig()
		tt.set(&c)
		var keys []string
		for _, p := range problemsOf(c.Validate(nil)) {
			keys = append(keys, p.Key)
		}
		if !slices.Contains(keys, tt.key) {
			t.Errorf("%s: refused %v", tt.key, keys)
		}
	}
}

// TestValidateAllows what must not be refused.
func TestValidateAllows(t *testing.T) {
	for name, set := range map[string]func(*Config){
		"the defaults":     func(*Config) {},
		"IPv6 loopback":    func(c *Config) { c.HTTP.Listen = "[::1]:0" },
		"another loopback": func(c *Config) { c.HTTP.Listen = "127.8.8.8:80" },
		"localhost":        func(c *Config) { c.XMPP.Listen = "localhost:5347" },
		"no plain XMPP":    func(c *Config) { c.XMPP.Listen = "" },
		"no admin":         func(c *Config) { c.Admin.Listen = "" },
		"free ports": func(c *Config) {
			c.HTTP.Listen, c.XMPP.Listen, c.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
		},
		"insecure":          func(c *Config) { c.Insecure, c.HTTP.Listen, c.XMPP.Listen = true, ":80", ":5347" },
		"dev on loopback":   func(c *Config) { c.Dev = true },
		"no rate limit":     func(c *Config) { c.Device.Rate = 0 },
		"no drain":          func(c *Config) { c.Shutdown.Drain = duration("0s") },
		"the same duration": func(c *Config) { c.Device.Heartbeat = duration("2m") },
		"an issuer":         oidc(func(o *OIDCConfig) { o.Domains, o.Algorithms = []string{"Example.org"}, []string{"ES256"} }),
		"a local issuer":    oidc(func(o *OIDCConfig) { o.Issuer = "http://127.0.0.1:9000/realms/x" }),
		"BrowserID": func(c *Config) {
			c.Identity.BrowserID = BrowserIDConfig{Enabled: true, TrustedIssuers: []string{"x.example"}}
		},
		"a local BrowserID": func(c *Config) {
			c.Identity.BrowserID = BrowserIDConfig{TrustedIssuers: []string{"localhost:8443"}, AllowPrivate: true}
		},
		"a trusted proxy": func(c *Config) { c.HTTP.TrustedProxies = []string{"10.0.0.0/8", "192.0.2.7", "::1"} },
	} {
		c := DefaultConfig()
		set(&c)
		if err := c.Validate(nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A warning is about what can be known: an origin that is not this server itself.
func TestWarnsOfOneAddressForAll(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*Config)
		want bool
	}{
		{"default", func(*Config) {}, false},
		{"loopback by a name", func(c *Config) { c.Origin = "https://localhost:8443" }, false},
		{"from outside to loopback", func(c *Config) { c.Origin = "http://presence.example.org" }, true},
		{"TLS by something else", func(c *Config) { c.Origin, c.HTTP.Listen = "https://presence.example.org", ":80" }, true},
		{"no TLS", func(c *Config) { c.Origin, c.HTTP.Listen = "http://presence.example.org", ":80" }, false},
		{"TLS here", func(c *Config) {
			c.Origin, c.HTTP.Listen, c.HTTP.TLSCert = "https://presence.example.org", ":443", "cert.pem"
		}, false},
		{"TLS by ACME", func(c *Config) {
			c.Origin, c.HTTP.Listen, c.HTTP.ACMEHosts = "https://presence.example.org", ":443", []string{"presence.example.org"}
		}, false},
		{"named", func(c *Config) {
			c.Origin, c.HTTP.TrustedProxies = "https://presence.example.org", []string{"127.0.0.1"}
		}, false},
	} {
		c := DefaultConfig()
		tt.set(&c)
		if got := c.Warnings(nil); (len(got) > 0) != tt.want {
			t.Errorf("%s: %v, want a warning: %v", tt.name, got, tt.want)
		}
	}
}

// TestLayers: defaults, file, environment, flags; the later one counts.
func TestLayers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.toml")
	os.WriteFile(file, []byte("domain = \"file.example\"\ndata = \"file\"\n[device]\nburst = 5\n"), 0o600)
	_, out, _ := cliTest(t, []string{"PRESENCED_DOMAIN=env.example", "PRESENCED_DATA=env", "PRESENCED_CONFIG=" + file},
		"config", "show", "--json", "--domain", "flag.example")
	var got struct {
		Domain, Data string
		Device       struct{ Burst, Max_frame int }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.Domain != "flag.example" || got.Data != "env" || got.Device.Burst != 5 || got.Device.Max_frame != 8192 {
		t.Errorf("got %+v", got)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.toml")
	os.WriteFile(file, []byte("[[identity.oidc]]\nname = \"x\"\nclient_secret = \"hunter2\"\n"), 0o600)
	for _, args := range [][]string{
		{"config", "show", file}, {"config", "show", file, "--json"},
		{"config", "describe", file}, {"config", "describe", file, "--json"},
		{"config", "check", file}, {"config", "check", file, "--json"},
	} {
		_, out, errs := cliTest(t, nil, args...)
		if strings.Contains(out+errs, "hunter2") {
			t.Errorf("%v shows a secret:\n%s%s", args, out, errs)
		}
	}
	if _, out, _ := cliTest(t, nil, "config", "show", file); !strings.Contains(out, mask) {
		t.Errorf("nothing masked:\n%s", out)
	}
}
