//go:build interop

package main

import (
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// scene is where a story of the browser plays: a gateway of its own, and the one Chromium.
type scene struct {
	t *testing.T
	*site
	gateway  *child
	browser  *browser
	origin   string
	pictures string // the folder of the documentation's pictures; "": none are kept
}

// sceneEnv makes what is waited for short. Nothing else differs from a gateway as people run it.
var sceneEnv = []string{"PRESENCED_DEVICE_LINGER=200ms", "PRESENCED_SHUTDOWN_DRAIN=200ms", "PRESENCED_ADMINS=root@example.org"}

// newScene starts a gateway; args are those of serve.
func newScene(t *testing.T, bin string, b *browser, args ...string) *scene {
	t.Helper()
	s := newSite(t, bin, sceneEnv...)
	w := &scene{t: t, site: s, browser: b}
	w.start(args...)
	return w
}

func (w *scene) start(args ...string) {
	w.t.Helper()
	w.gateway = w.serve(args...)
	w.origin = "http://" + w.gateway.http
}

// tab is somebody's browser; see browser.tab.
func (w *scene) tab(name string, options ...any) *tab {
	w.t.Helper()
	return w.browser.tab(w.t, name, options...)
}

// signIn is somebody with the e-mail on her dashboard. The gateway runs with --dev.
func (w *scene) signIn(email string, options ...any) *tab {
	w.t.Helper()
	p := w.tab(email, options...)
	p.open(w.origin+"/", 200)
	w.fillIn(p, email, "dev")
	p.at("/dashboard")
	return p
}

// fillIn fills in the form to sign in.
func (w *scene) fillIn(p *tab, email, token string) {
	w.t.Helper()
	p.fill("E-mail", email)
	p.fill("Token", token)
	p.press("Sign in")
}

// token is one of a user, made by the administrator.
func (w *scene) token(email string, more ...string) string {
	w.t.Helper()
	var made struct{ Token string }
	w.site.run("", &made, append([]string{"user", "token", email}, more...)...)
	return made.Token
}

// chat is an app: its own web site, on another origin than the gateway, and its component.
type chat struct {
	*scene
	server  *httptest.Server
	peer    *peer // the component
	appID   string
	landing string // the registered redirect
	secret  string
	puids   chan string // of those who came back
}

const chatDomain = "chat.example"

// newChat registers an app of that name and starts it, on xmpp.js or slixmpp. more are flags of app add.
func (w *scene) newChat(name string, lib library, more ...string) *chat {
	w.t.Helper()
	c := w.registerChat(name, more...)
	return c.connect(lib)
}

// registerChat registers an app that stays away for now.
func (w *scene) registerChat(name string, more ...string) *chat {
	w.t.Helper()
	c := &chat{scene: w, puids: make(chan string, 8)}
	c.server = httptest.NewServer(c.visited())
	w.t.Cleanup(c.server.Close)
	c.landing = c.server.URL + "/granted?lang=en"
	var app struct{ AppID, Secret string }
	w.site.run("", &app, append([]string{"app", "add", name, "--component", chatDomain, "--redirect", c.landing}, more...)...)
	c.appID, c.secret = app.AppID, app.Secret
	return c
}

// connect starts the app's component.
func (c *chat) connect(lib library) *chat {
	c.t.Helper()
	c.peer = startPeer(c.t, lib.name, lib.command(), componentConfig(c.gateway.xmpp, chatDomain, c.secret, true))
	c.peer.next(event{Event: "connected"})
	return c
}

var (
	slixmpp = libraries[0]
	xmppJS  = libraries[1]
)

// chatPages are those of the app, as its own users know it.
var chatPages = template.Must(template.New("").Parse(`<!doctype html><html lang="en"><title>Chat</title><link rel="icon" href="data:,"><h1>Chat</h1>
{{with .Door}}<a href="{{.}}">Authorize Chat to see your presence</a>{{end}}
{{with .PUID}}<p>You are connected as {{.}}</p>{{end}}
{{range .Contacts}}<form method="post" action="/ping"><button name="to" value="{{.}}">Ping {{.}}</button></form>{{end}}
<p>{{.Said}}</p>`))

// visited is what the app's web server does: its page, the way back from the gateway, and the bell beside a contact.
func (c *chat) visited() http.Handler {
	mux := http.NewServeMux()
	show := func(w http.ResponseWriter, data map[string]any) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := chatPages.Execute(w, data); err != nil {
			c.t.Error(err)
		}
	}
	var contacts []string // one request at a time
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		show(w, map[string]any{"Door": c.door(), "Contacts": contacts})
	})
	mux.HandleFunc("GET /granted", func(w http.ResponseWriter, r *http.Request) {
		puid := r.URL.Query().Get("Presence-UID")
		if puid != "" {
			contacts = append(contacts, puid)
			c.puids <- puid
		}
		show(w, map[string]any{"PUID": puid, "Said": "lang is " + r.URL.Query().Get("lang")})
	})
	mux.HandleFunc("POST /ping", func(w http.ResponseWriter, r *http.Request) {
		c.notify(r.PostFormValue("to"), "ping", "bob wants to talk with you")
		show(w, map[string]any{"Said": "pinged"})
	})
	return mux
}

// door is the address of the doorhanger, with the way back.
func (c *chat) door() string {
	return c.origin + "/grant/" + c.appID + "?redirect=" + url.QueryEscape(c.landing)
}

// address is how the component calls a user.
func (c *chat) address(puid string) string { return puid + "@localhost" }

// notify sends a notification from bob and asks for its receipt.
func (c *chat) notify(puid, id, text string) {
	c.peer.do(do("message", "to", c.address(puid), "from", "bob@"+chatDomain, "id", id, "body", text,
		"url", "https://chat.example/rooms/1", "receipt", true))
}

// asks sends a request to see somebody, by the e-mail that the app knows.
func (c *chat) asks(email, purpose string) {
	c.peer.do(do("presence", "type", "subscribe", "to", escaped(email), "id", "ask", "status", purpose))
}

// escaped is the address of who is known by e-mail (XEP-0106).
func escaped(email string) string { return strings.ReplaceAll(email, "@", `\40`) + "@localhost" }

// granted waits until somebody comes back from the doorhanger, and is her name for this app.
func (c *chat) granted(p *tab) string {
	c.t.Helper()
	p.run("await page.waitForURL(u => u.origin === args.origin)", "origin", c.server.URL)
	p.sees("You are connected as")
	p.sees("lang is en")
	return <-c.puids
}

// online waits until the component sees a device of hers come, and is its address.
func (c *chat) online(address string) string {
	c.t.Helper()
	return c.seen(address, "", "")
}

// seen waits until the component sees a device of hers in that state.
func (c *chat) seen(address, kind, show string) string {
	c.t.Helper()
	for {
		e := c.peer.wait(event{Event: "presence"})
		if strings.HasPrefix(e.From, address+"/") && e.Type == kind && e.Show == show {
			return e.From
		}
		if e.Type == "unsubscribed" {
			c.t.Fatalf("the app was to see %s %s%s, but %s", address, kind, show, brief(e))
		}
	}
}

// leaves wants the component to see her go for good: unavailable, and then unsubscribed.
func (c *chat) leaves(device string) {
	c.t.Helper()
	bare, _, _ := strings.Cut(device, "/")
	c.peer.next(event{Event: "presence", From: device, Type: "unavailable"})
	c.peer.next(event{Event: "presence", From: bare, Type: "unsubscribed"})
}

// allowed has somebody allow the app in the simplest way, and is her name for it.
func (c *chat) allowed(p *tab) string {
	c.t.Helper()
	p.open(c.door(), 200)
	p.press("Allow")
	puid := c.granted(p)
	p.open(c.origin+"/dashboard", 200)
	return puid
}

// here makes the dashboard's browser a device.
func here(p *tab, status string) {
	p.t.Helper()
	p.press(status)
	p.seesIn("#here-state", "Apps see it as "+strings.ToLower(status))
}

func (w *scene) String() string { return fmt.Sprint("gateway at ", w.origin) }
