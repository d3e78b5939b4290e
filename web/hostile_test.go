package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"presenced/presence"
)

// outside are values of next= that would lead out of the site, or into its headers.
func outside() []string {
	return []string{"//evil.example.org", `/\evil.example.org`, `\\evil.example.org`, "/\t/evil.example.org", "/\n/evil.example.org", "https://evil.example.org/",
		"https:evil.example.org", "javascript:alert(1)", "data:text/html,x", "/\r\nSet-Cookie: a=b", "//evil.example.org/%2f..", " //evil.example.org",
		"/%09/../" + strings.Repeat("x", maxNext), "evil.example.org", "", "/\u202e", "///evil.example.org", "/;@evil\x00.example.org", "http://127.0.0.1@evil.example.org/"}
}

// TestNoOpenRedirect: next= leads nowhere but to a path of ours, wherever it is taken.
func TestNoOpenRedirect(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	for _, next := range outside() {
		if next != "" {
			h.browser().post("/login", "email", ann, "assertion", "dev", "next", next).wantTo("/")
			form := formOf(h.browser().get("/?next=" + url.QueryEscape(next)).want(http.StatusOK).body)
			if got := form.Get("next"); got != "/" {
				t.Errorf("next=%q is %q in the form", next, got)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) { // whatever it is, a browser stays here
		next := rapid.StringOf(rapid.SampledFrom([]rune(`/\:@?#.%2fehtps`+"\t\n "))).Draw(t, "next")
		base, _ := url.Parse("https://presence.example.org/login")
		to, err := base.Parse(asBrowsersRead(localPath(next)))
		if err != nil || to.Host != base.Host || to.Scheme != base.Scheme {
			t.Fatalf("next %q leads to %v, %v", next, to, err)
		}
	})
}

// asBrowsersRead is an address after what the URL standard does to it before it is parsed.
func asBrowsersRead(s string) string {
	s = strings.Trim(s, "\x00\x01\x1f ")
	s = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(s)
	return strings.ReplaceAll(s, `\`, "/")
}

// TestRedirectMustBeRegistered: the same string, or nothing happens.
func TestRedirectMustBeRegistered(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat", func(a *presence.App) { a.Redirects = []string{landed, "https://chat.example.org/cb?keep=1"} })
	h.addApp("evil", func(a *presence.App) { a.Redirects = []string{"https://evil.example.org/"} })
	b := h.signedIn(ann)
	for _, redirect := range []string{
		"https://evil.example.org/", // another app's
		landed + "/", landed + "?", landed + "#", landed + "?x=1", landed + "/../evil", "HTTPS://chat.example.org/granted",
		"https://CHAT.example.org/granted", "https://chat.example.org:443/granted", "http://chat.example.org/granted",
		"https://chat.example.org@evil.example.org/granted", "https://chat.example.org\\@evil.example.org/granted",
		"https://chat.example.org/granted\r\nX: y", " " + landed, landed + " ", "//chat.example.org/granted", "javascript:alert(1)",
		"https://chat.example.org%2fgranted", "https://chat.example.org/%67ranted", "https://chat.example.org/cb", "/", "data:,x",
	} {
		a := b.get("/grant/chat?redirect=" + url.QueryEscape(redirect)).want(http.StatusBadRequest).has("not registered")
		if strings.Contains(a.Header.Get("Content-Security-Policy"), "evil") {
			t.Error("the policy names a stranger")
		}
		a = b.post("/grant/chat", "redirect", redirect, "allow", "yes").want(http.StatusBadRequest).has("not registered").hasNot("evil.example.org")
		if a.Header.Get("Location") != "" {
			t.Errorf("redirect %q leads to %s", redirect, a.Header.Get("Location"))
		}
		b.post("/grant/chat?redirect="+url.QueryEscape(landed), "redirect", redirect, "allow", "yes").want(http.StatusBadRequest)
		b.post("/grant/chat?redirect="+url.QueryEscape(redirect), "redirect", landed, "allow", "yes").want(http.StatusBadRequest)
	}
	h.wantNoGrant(ann, "chat")
}

// TestRegisteredButHarmful: what somebody registered is not gone to when that would do harm.
func TestRegisteredButHarmful(t *testing.T) {
	h := newHouse(t)
	harmful := []string{"javascript:alert(1)//", "data:text/html,<b>", "vbscript:x", "file:///etc/passwd", "blob:https://x/y", "/relative", "//x.example.org/",
		"https://user:pw@x.example.org/", "https:///x", "https:x", "http://x.example.org/\r\nSet-Cookie: a=b", "https://x.example.org/ü", `https://x.example.org\@y/`,
		"ftp://x.example.org/", "about:blank", "HTTPS://x.example.org/", "view-source:https://x", "https://x.example.org/<script>"}
	h.addApp("chat", func(a *presence.App) { a.Redirects = harmful })
	b := h.signedIn(ann)
	for _, redirect := range harmful {
		b.get("/grant/chat?redirect=" + url.QueryEscape(redirect)).want(http.StatusBadRequest)
		b.post("/grant/chat", "redirect", redirect, "allow", "yes").want(http.StatusBadRequest)
	}
	h.wantNoGrant(ann, "chat")
}

// TestWayBack: the name is added to the query and all else stays, and the policy lets the browser go there.
func TestWayBack(t *testing.T) {
	h := newHouse(t)
	ways := map[string]struct{ back, source string }{
		"https://a.example.org/cb":            {"https://a.example.org/cb?Presence-UID=P", "https://a.example.org"},
		"https://a.example.org:8443/cb?x=1":   {"https://a.example.org:8443/cb?x=1&Presence-UID=P", "https://a.example.org:8443"},
		"https://a.example.org/cb?":           {"https://a.example.org/cb?Presence-UID=P", "https://a.example.org"},
		"https://a.example.org/?a=b&":         {"https://a.example.org/?a=b&Presence-UID=P", "https://a.example.org"},
		"https://a.example.org/%2F;v=1?q=a+b": {"https://a.example.org/%2F;v=1?q=a+b&Presence-UID=P", "https://a.example.org"},
		"https://a.example.org/#/route?x=1":   {"https://a.example.org/?Presence-UID=P#/route?x=1", "https://a.example.org"},
		"http://localhost:3000":               {"http://localhost:3000?Presence-UID=P", "http://localhost:3000"},
		"http://[::1]:3000/cb":                {"http://[::1]:3000/cb?Presence-UID=P", "http:"},
		"https://a;b.example.org/":            {"https://a;b.example.org/?Presence-UID=P", "https:"},
		"org.example.chat:/granted":           {"org.example.chat:/granted?Presence-UID=P", "org.example.chat:"},
	}
	h.addApp("chat", func(a *presence.App) {
		a.Redirects = nil
		for way := range ways {
			a.Redirects = append(a.Redirects, way)
		}
	})
	b := h.signedIn(ann)
	for way, want := range ways {
		a := b.get("/grant/chat?redirect=" + url.QueryEscape(way)).want(http.StatusOK)
		if policy := a.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "; form-action 'self' "+want.source+"; frame-ancestors") {
			t.Errorf("%s: policy %s", way, policy)
		}
		a = b.post("/grant/chat", "redirect", way, "allow", "yes")
		a.wantTo(strings.ReplaceAll(want.back, "=P", "="+h.wantGrant(ann, "chat").PUID))
		b.post("/grant/chat", "redirect", way, "disallow", "yes").wantTo(way)
	}
}

// TestHostileAppIDs in addresses are unknown apps and nothing else.
func TestHostileAppIDs(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	for _, id := range []string{"..%2f..%2fetc", "%00", "chat%00", "chat%20", "CHAT", "chat%2f", "%3Cscript%3E", "%0d%0aX:y", strings.Repeat("a", 2000), "'%20or%201=1", "%ff", "*", "."} {
		for _, path := range []string{"/grant/", "/revoke/"} {
			a := b.post(path+id, "allow", "yes")
			if a.StatusCode != http.StatusNotFound && a.StatusCode != http.StatusMovedPermanently && a.StatusCode != http.StatusTemporaryRedirect &&
				a.StatusCode != http.StatusPermanentRedirect && a.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s%s: %s", path, id, a.Status)
			}
			a.hasNot("<script>")
		}
	}
	h.wantNoGrant(ann, "chat")
}

// TestNamesWithMarkup: what an app says of itself is text, in the direction of the page, on every page.
func TestNamesWithMarkup(t *testing.T) {
	h := newHouse(t)
	nasty := `</title><script>alert(1)</script>"'><img src=x onerror=alert(1)>{{.}}`
	h.addApp("chat", func(a *presence.App) {
		a.Name, a.Description = nasty+"\u202eevil\u2066\x00\n", nasty+"\u202e"
	})
	b := h.signedIn(`ann+<b>"x"@example.org`)
	for _, a := range []*answer{b.get("/grant/chat"), b.follow(b.post("/grant/chat", "allow", "")), b.get("/grant/chat"), b.get("/")} {
		a.want(http.StatusOK).hasNot("<script>alert", "<img src=x", "\u202e", "\u2066", "\x00", "<b>")
	}
	b.get("/getApps").has(`<script>`) // JSON is no page, and says so
	if a := b.get("/getApps"); a.Header.Get("Content-Type") != "application/json" || a.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", a.Header)
	}
}

// TestOversizedForms are refused, whatever they are for, and change nothing.
func TestOversizedForms(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	big := strings.Repeat("x", maxBody)
	for _, path := range []string{"/login", "/logout", "/grant/chat", "/revoke/chat", "/login/device"} {
		b.post(path, "allow", "yes", "pad", big).want(http.StatusRequestEntityTooLarge)
	}
	for _, path := range []string{"/login", "/login/device"} {
		b.postJSON(path, `{"email":"`+big+`"}`).want(http.StatusRequestEntityTooLarge).has(`"errno":42`)
	}
	h.wantNoGrant(ann, "chat")
	b.do("POST", "/grant/chat", "application/x-www-form-urlencoded", "allow=yes&%zz").want(http.StatusBadRequest)
	b.do("POST", "/grant/chat", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"allow\"\r\n\r\nyes\r\n--x--\r\n").want(http.StatusBadRequest)
	h.wantNoGrant(ann, "chat")
	form := url.Values{"allow": {"yes"}, "when": {"windows"}}
	for i := range 1000 { // more rows than a grant can have are not read
		form.Set("from-"+strings.Repeat("1", i%4+1), "10:00")
	}
	b.do("POST", "/grant/chat", "application/x-www-form-urlencoded", form.Encode()).want(http.StatusUnprocessableEntity)
}

// TestOtherSitesChangeNothing: a form that another site's page sends is refused, by each way that browsers tell.
func TestOtherSitesChangeNothing(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	b.post("/grant/chat", "allow", "yes").want(http.StatusSeeOther)
	for _, header := range []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}}, {"Origin": {"https://evil.example.org"}}, {"Origin": {"null"}},
		{"Origin": {"https://evil.example.org"}, "Sec-Fetch-Site": {"cross-site"}},
	} {
		b.header = header
		for _, path := range []string{"/grant/chat", "/revoke/chat", "/logout", "/login", "/login/device", "/nothing"} {
			b.post(path, "allow", "", "everywhere", "yes", "email", "evil@example.org", "assertion", "dev").want(http.StatusForbidden)
			b.postJSON(path, `{"email":"evil@example.org","assertion":"dev"}`).want(http.StatusForbidden)
		}
	}
	b.header = http.Header{}
	b.wantSignedIn(ann)
	h.wantGrant(ann, "chat")
	for _, header := range []http.Header{{"Sec-Fetch-Site": {"same-origin"}}, {"Sec-Fetch-Site": {"none"}}, {"Origin": {h.url}}} {
		b.header = header
		b.post("/grant/chat", "allow", "yes").want(http.StatusSeeOther)
	}
	// A GET changes nothing, whoever sends it.
	b.header = http.Header{}
	for _, path := range []string{"/grant/chat?allow=yes", "/grant/chat?disallow=yes", "/revoke/chat", "/logout", "/login?email=x&assertion=dev"} {
		b.get(path)
	}
	b.wantSignedIn(ann)
	h.wantGrant(ann, "chat")
}

// TestNobodyMayFrame: the buttons of the doorhanger cannot be laid under another page.
func TestNobodyMayFrame(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.Sidebar = "https://intranet.example.org" })
	h.addApp("chat")
	b := h.signedIn(ann)
	for _, path := range []string{"/", "/grant/chat", "/grant/chat?redirect=" + url.QueryEscape(landed), "/nothing", "/grant/nobody"} {
		a := b.get(path)
		if !strings.Contains(a.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") || a.Header.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s: %v", path, a.Header)
		}
	}
}

// TestHostHeader: links are made from the configured origin, whatever name a request is sent to; and in dev mode, where
// reaching loopback is all the authority there is, a foreign name is refused (DNS rebinding).
func TestHostHeader(t *testing.T) {
	h, _ := withIssuer(t, func(c *Config) { c.Dev = false })
	b := h.browser()
	b.header.Set("Host", "evil.example.org")
	b.get("/").want(http.StatusOK).hasNot("evil.example.org")
	if to := b.get("/login/oidc/work").Header.Get("Location"); strings.Contains(to, "evil") {
		t.Errorf("sent to %s", to)
	}
	b.get("//evil.example.org/%2e%2e").hasNot("href=\"//evil")

	dev := newHouse(t)
	for host, status := range map[string]int{"evil.example.org": 421, "evil.example.org:8080": 421, "localhost": 200, "localhost:8080": 200, "127.0.0.1": 200,
		"[::1]:8080": 200, "127.0.0.1.evil.example.org": 421, "localhost.evil.example.org": 421} {
		b := dev.browser()
		b.header.Set("Host", host)
		if a := b.get("/"); a.StatusCode != status {
			t.Errorf("Host %s: %s, want %d", host, a.Status, status)
		}
		if a := b.post("/login", "email", ann, "assertion", "dev"); (a.StatusCode == 421) != (status == 421) {
			t.Errorf("Host %s: sign-in %s", host, a.Status)
		}
	}
}

// TestNothingPersonalIsKept by caches: not pages, not answers, not failures.
func TestNothingPersonalIsKept(t *testing.T) {
	h := newHouse(t)
	h.addApp("chat")
	b := h.signedIn(ann)
	for _, a := range []*answer{b.get("/"), b.get("/grant/chat"), b.get("/getApps"), b.get("/nothing"), b.post("/grant/chat", "allow", ""),
		b.postJSON("/login/device", `{"device":"x"}`), b.post("/login", "email", ann, "assertion", "dev"), h.browser().get("/getApps")} {
		if !strings.Contains(a.Header.Get("Cache-Control"), "no-store") || !strings.Contains(a.Header.Get("Vary"), "Cookie") {
			t.Errorf("%s: Cache-Control %q, Vary %q", a.Request.URL, a.Header.Get("Cache-Control"), a.Header.Get("Vary"))
		}
	}
}

// TestStaticFiles are for every cache, under the address that pages use, and are looked up by name only.
func TestStaticFiles(t *testing.T) {
	h := newHouse(t)
	b := h.signedIn(ann)
	_, after, _ := strings.Cut(b.get("/").body, `rel="stylesheet" href="`)
	path, _, _ := strings.Cut(after, `"`)
	a := b.get(path).want(http.StatusOK)
	if !strings.Contains(a.Header.Get("Cache-Control"), "immutable") || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/css") || len(a.Cookies()) != 0 {
		t.Errorf("%s: %v", path, a.Header)
	}
	if a := b.get("/static/style.css?v=old").want(http.StatusOK); strings.Contains(a.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("an old version for ever: %v", a.Header)
	}
	b.header.Set("If-None-Match", a.Header.Get("ETag"))
	b.get("/static/style.css").want(http.StatusNotModified)
	b.header = http.Header{}
	for _, path := range []string{"/static/", "/static/..%2fpages%2ffront.html", "/static/%2e%2e/site.go", "/static/nothing.css"} {
		if a := b.get(path); a.StatusCode == http.StatusOK {
			t.Errorf("%s: %s", path, a.Status)
		}
	}
	b.post("/static/style.css").want(http.StatusMethodNotAllowed)
}
