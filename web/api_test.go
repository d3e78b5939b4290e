package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/web/account"
)

const bob = "bob@example.org"

// program is a client of the API; every answer that it gets is held against openapi.json.
type program struct {
	t *testing.T
	k *contract
	b *browser
}

// program is one that comes with a bearer token; "": without.
func (h *house) program(t *testing.T, k *contract, secret string) *program {
	p := &program{t, k, h.browser()}
	if secret != "" {
		p.b.header.Set("Authorization", "Bearer "+secret)
	}
	return p
}

func (p *program) call(method, path, body string) *answer {
	p.t.Helper()
	kind := ""
	if body != "" {
		kind = "application/json"
	}
	a := p.b.do(method, apiRoot+path, kind, body)
	a.t = p.t
	p.k.check(p.t, method, apiRoot+path, body, a)
	return a
}

func (p *program) get(path string) *answer { p.t.Helper(); return p.call("GET", path, "") }

// json reads the answer into v.
func (a *answer) json(v any) *answer {
	a.t.Helper()
	if err := json.Unmarshal([]byte(a.body), v); err != nil {
		a.t.Fatalf("%v in %s", err, a.body)
	}
	return a
}

// refused checks a problem.
func (a *answer) refused(status, errno int, field string) *answer {
	a.t.Helper()
	var p problem
	if a.want(status).json(&p); int(p.Errno) != errno || p.Field != field || p.Status != status {
		a.t.Errorf("%s %s: %s, want errno %d and field %q", a.Request.Method, a.Request.URL, a.body, errno, field)
	}
	return a
}

// apiToken makes a token for the API with these scopes, or all.
func (h *house) apiToken(email string, scopes ...string) string {
	h.t.Helper()
	if len(scopes) == 0 {
		scopes = account.Scopes()
	}
	secret := identity.NewSecret()
	err := h.store.PutTokens([]presence.Token{{Hash: identity.HashSecret(secret), Email: email, Name: "test", Scopes: scopes, Created: h.now.Now()}})
	if err != nil {
		h.t.Fatal(err)
	}
	return secret
}

// app registers one whose key is its id and "-key".
func (h *house) app(id string) presence.App {
	h.t.Helper()
	a := presence.App{ID: id, Name: strings.ToUpper(id), Component: id + ".example.org", Secret: id + "-secret", APIKey: id + "-key",
		Redirects: []string{}, Conflict: presence.Replace}
	if err := h.hub.PutApp(a); err != nil {
		h.t.Fatal(err)
	}
	return a
}

// attach brings a device online.
func (h *house) device(email, device string, st presence.Status) *presence.Session {
	h.t.Helper()
	s, err := h.hub.Attach(presence.Attach{Email: email, Device: device, Ready: presence.NewReady()})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(s.Close)
	if err := s.Publish(st, time.Time{}); err != nil {
		h.t.Fatal(err)
	}
	return s
}

// TestAPI is all stories of the API, and that they have seen all of it.
func TestAPI(t *testing.T) {
	k := readContract(t)
	t.Run("Devices", k.devices)
	t.Run("Grants", k.grants)
	t.Run("Requests", k.requests)
	t.Run("Tokens", k.tokens)
	t.Run("Apps", k.apps)
	t.Run("History", k.history)
	t.Run("Me", k.me)
	t.Run("Notifications", k.notifications)
	t.Run("Seen", k.seen4app)
	t.Run("File", func(t *testing.T) { newHouse(t).program(t, k, "").get("/openapi.json").want(200) })
	if !t.Failed() {
		k.complete(t)
	}
}

func (k *contract) devices(t *testing.T) {
	h := newHouse(t)
	p := h.program(t, k, h.apiToken(ann))
	phone := h.device(ann, "phone", presence.Online)
	h.device(ann, "desk", presence.Unavailable)
	h.device(bob, "secret-phone", presence.Online)

	p.get("/devices").want(200).has(`"phone"`, `"desk"`, `"connected"`).hasNot("secret-phone", bob)
	p.call("PATCH", "/devices/phone", `{"name":"My phone"}`).want(200).has(`"name":"My phone"`)
	p.call("PATCH", "/devices/phone", `{"name":null}`).refused(422, 13, "name")
	p.call("PATCH", "/devices/phone", `{"name":"`+strings.Repeat("x", 65)+`"}`).refused(422, 13, "name")
	p.call("PATCH", "/devices/phone", `{}`).refused(422, 12, "name")
	p.call("PATCH", "/devices/secret-phone", `{"name":"mine now"}`).refused(404, 13, "")

	secret := identity.NewSecret()
	if err := h.store.PutTokens([]presence.Token{{Hash: identity.HashSecret(secret), Email: ann, Device: "phone"}}); err != nil {
		t.Fatal(err)
	}
	p.call("POST", "/devices/phone/sign-out", "").want(200).has(`"tokens":1`, `"sessions":1`)
	if phone.Ended() != presence.EndKicked {
		t.Errorf("the phone's session ended with %v", phone.Ended())
	}
	if _, _, _, ok, _ := h.store.LookupToken(identity.HashSecret(secret)); ok {
		t.Error("the phone's token is still good")
	}
	p.call("DELETE", "/devices/desk", "").want(204)
	p.call("DELETE", "/devices/desk", "").refused(404, 13, "")
	p.call("DELETE", "/devices/secret-phone", "").refused(404, 13, "")
	if list, _ := h.hub.Devices(bob); len(list) != 1 || list[0].State != "connected" {
		t.Errorf("bob has %+v", list)
	}
}

func (k *contract) grants(t *testing.T) {
	h := newHouse(t)
	h.app("chat")
	h.app("game")
	p := h.program(t, k, h.apiToken(ann))
	h.device(ann, "phone", presence.Online)
	link, err := h.hub.Link("chat", presence.SocketLink)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	sees := func(want presence.Status) {
		t.Helper()
		var u [4]presence.Update
		n := link.Take(u[:])
		for n > 0 && u[n-1].Kind != presence.Presence {
			n--
		}
		if n == 0 || u[n-1].Status != want {
			t.Errorf("the app is told %v, want %v", u[:n], want)
		}
	}

	p.call("PUT", "/grants/nothing", `{}`).refused(404, 60, "")
	var g account.Grant
	p.call("PUT", "/grants/chat", `{"tz":"Europe/Paris"}`).want(200).json(&g)
	if !g.Notify || g.Idle || !g.Shown || g.Email != ann || g.Address != g.PUID+"@push.example.org" {
		t.Errorf("granted %+v", g)
	}
	sees(presence.Online)
	p.get("/grants").want(200).has(`"chat"`)
	p.get("/grants/chat").want(200)
	p.get("/grants/game").refused(404, 60, "")

	p.call("PATCH", "/grants/chat", `{"paused":true}`).want(200).has(`"paused":true`, `"shown":false`)
	sees(presence.Offline)
	p.call("PATCH", "/grants/chat", `{"paused":false,"notify":false}`).want(200).has(`"paused":false`, `"notify":false`, `"tz":"Europe/Paris"`)
	sees(presence.Online)
	until := h.now.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	p.call("PATCH", "/grants/chat", `{"paused":true,"paused_until":"`+until+`"}`).want(200).has(`"paused_until":"` + until)
	p.call("PATCH", "/grants/chat", `{"paused":false,"until":"`+until+`"}`).want(200).has(`"until":"` + until)
	p.call("PATCH", "/grants/chat", `{"until":null}`).want(200).has(`"until":null`)
	p.call("PATCH", "/grants/chat", `{"windows":[{"days":["mon"],"from":"21:00","to":"23:00"}]}`).want(200).has(`"windows":[{`)

	for body, field := range map[string]string{
		`{"tz":"Mars/Phobos"}`:                         "tz",
		`{"until":"tomorrow"}`:                         "until",
		`{"until":"2001-01-01T00:00:00Z"}`:             "until",
		`{"windows":null}`:                             "windows",
		`{"windows":[{"from":"25:00","to":"26:00"}]}`:  "windows",
		`{"windows":[{"from":"21:00","too":"23:00"}]}`: "windows[0].too",
		`{"paused_until":"` + until + `"}`:             "paused_until",
		`{"notify":"yes"}`:                             "notify",
		`{"Notify":true}`:                              "Notify",
		`{"idle":true,"idle":false}`:                   "idle",
		`{"nonsense":1}`:                               "nonsense",
	} {
		p.call("PATCH", "/grants/chat", body).refused(422, 13, field)
	}
	p.call("PATCH", "/grants/chat", `[]`).refused(400, 10, "")
	p.call("PATCH", "/grants/chat", `{"notify":true}{}`).refused(400, 10, "")
	p.get("/grants/chat").has(`"notify":false`)

	p.call("DELETE", "/grants/chat", "").want(204)
	sees(presence.Offline)
	p.call("DELETE", "/grants/chat", "").refused(404, 60, "")
	p.call("PATCH", "/grants/chat", `{"paused":true}`).refused(404, 60, "")
}

func (k *contract) requests(t *testing.T) {
	h := newHouse(t)
	h.app("chat")
	h.app("game")
	p := h.program(t, k, h.apiToken(ann))
	chat, game := h.program(t, k, "chat-key"), h.program(t, k, "game-key")

	first := chat.call("POST", "/requests", `{"email":"Ann@Example.org","purpose":"to call you"}`).want(202)
	if other := chat.call("POST", "/requests", `{"email":"nobody@example.org"}`).want(202); other.body != first.body {
		t.Errorf("%s for who exists, %s for who does not", first.body, other.body)
	}
	game.call("POST", "/requests", `{"email":"ann@example.org"}`).want(202)
	chat.call("POST", "/requests", `{"email":"no address"}`).refused(422, 13, "email")
	chat.call("POST", "/requests", `{}`).refused(422, 12, "email")
	chat.call("GET", "/requests", "").refused(403, 30, "")

	p.get("/requests").want(200).has(`"to call you"`, `"game"`)
	p.call("POST", "/requests/nothing", `{"allow":true}`).refused(404, 60, "")
	p.call("POST", "/requests/chat", `{"windows":[]}`).refused(422, 12, "allow")
	p.call("POST", "/requests/chat", `{"allow":true,"idle":true,"tz":"Europe/Paris"}`).want(200).has(`"allowed":true`, `"idle":true`, `ann\\40example.org@push.example.org`)
	p.call("POST", "/requests/chat", `{"allow":true}`).refused(404, 60, "")
	p.call("POST", "/requests/game", `{"allow":false}`).want(200).has(`"allowed":false`)
	chat.get("/grants").want(200).has(`"uid":"ann@example.org"`)
	game.get("/grants").want(200).has(`"items":[]`)

	game.call("POST", "/requests", `{"email":"ann@example.org"}`).want(202)
	game.call("DELETE", "/requests/ann@example.org", "").want(204)
	game.call("DELETE", "/requests/nobody@example.org", "").want(204)
	game.call("DELETE", "/requests/nobody", "").refused(422, 13, "email")
	p.get("/requests").want(200).has(`"items":[]`)
}

func (k *contract) tokens(t *testing.T) {
	h := newHouse(t)
	p := h.program(t, k, h.apiToken(ann, account.TokensRead, account.TokensWrite, account.DevicesRead))
	var made account.MadeToken
	p.call("POST", "/tokens", `{"name":"backup","scopes":["devices:read","devices:read"]}`).want(201).json(&made)
	q := h.program(t, k, made.Secret)
	q.get("/devices").want(200)
	q.get("/grants").refused(403, 30, "")
	if got := q.get("/tokens").refused(403, 30, "").Header.Get("WWW-Authenticate"); !strings.Contains(got, `error="insufficient_scope", scope="tokens:read"`) {
		t.Errorf("WWW-Authenticate %q", got)
	}
	p.call("POST", "/tokens", `{"name":"more","scopes":["grants:write"]}`).refused(403, 30, "scopes")
	p.call("POST", "/tokens", `{"name":"more","scopes":["everything"]}`).refused(422, 13, "scopes")
	p.call("POST", "/tokens", `{"name":"more","scopes":[]}`).refused(422, 12, "scopes")
	p.call("POST", "/tokens", `{"scopes":["devices:read"]}`).refused(422, 12, "name")
	p.call("POST", "/tokens", `{"name":"old","scopes":["devices:read"],"expires":"2001-01-01T00:00:00Z"}`).refused(422, 13, "expires")
	p.call("POST", "/tokens", `{"name":"older","scopes":["devices:read"],"expires":"0001-01-01T00:00:00Z"}`).refused(422, 13, "expires") // Go's zero is no "never"
	p.get("/tokens").want(200).has(made.Hash, `"backup"`).hasNot(made.Secret)

	h.program(t, k, h.apiToken(bob)).call("DELETE", "/tokens/"+made.Hash, "").refused(404, 13, "")
	q.get("/devices").want(200)
	p.call("DELETE", "/tokens/"+made.Hash, "").want(204)
	q.get("/devices").refused(401, 34, "")
	p.call("DELETE", "/tokens/"+made.Hash, "").refused(404, 13, "")
	p.call("DELETE", "/tokens/zz"+strings.Repeat("0", 200), "").refused(404, 13, "")

	// A token that ends cannot make one that does not.
	soon := h.now.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	p.call("POST", "/tokens", `{"name":"short","scopes":["tokens:write","devices:read"],"expires":"`+soon+`"}`).want(201).json(&made)
	short := h.program(t, k, made.Secret)
	short.call("POST", "/tokens", `{"name":"long","scopes":["devices:read"]}`).want(201).has(`"expires":"` + soon)
	h.now.pass(2 * time.Hour)
	short.get("/devices").refused(401, 31, "")

	for i := 0; ; i++ {
		if a := p.call("POST", "/tokens", fmt.Sprintf(`{"name":"n%d","scopes":["devices:read"]}`, i)); a.StatusCode != 201 {
			a.refused(409, 13, "")
			break
		}
		h.now.pass(time.Second)
	}
}

func (k *contract) apps(t *testing.T) {
	h := newHouse(t)
	h.app("chat") // an administrator's
	p, other := h.program(t, k, h.apiToken(ann)), h.program(t, k, h.apiToken(bob))
	body := `{"name":"My App","site":"Example.org","component":"app.example.org","redirects":["https://example.org/back"],"description":"for friends"}`
	var made apiSecrets
	a := p.call("POST", "/apps", body).want(201).json(&made)
	if made.ID != "my-app" || made.Secret == "" || made.APIKey == "" || made.Proof == "" || !made.Disabled || a.Header.Get("Location") != apiRoot+"/apps/my-app" {
		t.Errorf("%s %v", a.body, a.Header)
	}
	p.call("POST", "/apps", body).refused(409, 13, "")
	for body, field := range map[string]string{
		`{"name":"x","site":"example.org","component":"example.com"}`:                          "",
		`{"name":"x","site":"example.org","component":"notexample.org"}`:                       "",
		`{"name":"x","site":"push.example.org"}`:                                               "",
		`{"name":"x","site":"192.0.2.1"}`:                                                      "",
		`{"name":"x","site":"e.org","url":"javascript:alert(1)"}`:                              "",
		`{"name":"x","site":"e.org","redirects":["https://e.org/ok","https://evil.example/"]}`: "",
		`{"name":"x","site":"e.org","secret":"mine"}`:                                          "secret",
		`{"name":"x","site":"e.org","owner":"bob@example.org","verified":true}`:                "owner",
		`{"name":"x","site":"e.org","conflict":"fight"}`:                                       "",
	} {
		p.call("POST", "/apps", body).refused(422, 13, field)
	}
	p.call("POST", "/apps", `{"name":"x"}`).refused(422, 12, "site")

	p.get("/apps").want(200).has("my-app").hasNot(made.Secret, made.APIKey, made.Proof, `"chat"`)
	p.get("/apps/my-app").want(200).hasNot(made.Secret, made.APIKey)
	for _, id := range []string{"my-app", "chat", "nothing"} { // of whoever else, or of nobody: the same
		first := other.get("/apps/nothing").refused(404, 60, "").body
		for _, a := range []*answer{other.get("/apps/" + id), other.call("PATCH", "/apps/"+id, `{"name":"mine"}`), other.call("POST", "/apps/"+id+"/rotate", "")} {
			if a.refused(404, 60, ""); a.body != first {
				t.Errorf("%s, %s", a.body, first)
			}
		}
	}
	p.call("PATCH", "/apps/my-app", `{"redirects":["https://example.org/new"],"conflict":"share","name":"Ours"}`).want(200).has("/new", `"share"`, `"Ours"`)
	p.call("PATCH", "/apps/my-app", `{"disabled":false}`).refused(403, 13, "")
	p.call("PATCH", "/apps/my-app", `{"name":null}`).refused(422, 13, "name")
	p.call("PATCH", "/apps/my-app", `{"component":"other.example.org"}`).refused(422, 13, "component")
	if _, err := h.hub.EditApp("my-app", func(a *presence.App) error { a.Verified = h.now.Now(); return nil }); err != nil {
		t.Fatal(err)
	}
	p.call("PATCH", "/apps/my-app", `{"disabled":false}`).want(200).has(`"disabled":false`)

	held := func(held bool) {
		if _, err := h.hub.EditApp("my-app", func(a *presence.App) error { a.Disabled, a.Held = held, held; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	held(true)
	p.call("PATCH", "/apps/my-app", `{"disabled":false}`).refused(403, 13, "")
	held(false)

	app := h.program(t, k, made.APIKey)
	app.get("/queue").want(200)
	var next apiSecrets
	p.call("POST", "/apps/my-app/rotate", `{"overlap":60}`).want(200).json(&next)
	app.get("/queue").want(200)
	h.program(t, k, next.APIKey).get("/queue").want(200)
	h.now.pass(2 * time.Minute)
	app.get("/queue").refused(401, 34, "")
	p.call("POST", "/apps/my-app/rotate", "").want(200)
	h.program(t, k, next.APIKey).get("/queue").refused(401, 34, "")
	p.call("POST", "/apps/my-app/rotate", `{"overlap":99999999999}`).refused(422, 13, "overlap")

	for i := 1; i < 20; i++ {
		p.call("POST", "/apps", fmt.Sprintf(`{"name":"n","site":"n%d.org","component":"n%d.org"}`, i, i)).want(201)
	}
	p.call("POST", "/apps", `{"name":"n","site":"n.org"}`).refused(422, 13, "")
}

func (k *contract) history(t *testing.T) {
	h := newHouse(t)
	p := h.program(t, k, h.apiToken(ann))
	var want []string
	for i := range 7 {
		h.app(fmt.Sprint("app", i))
		p.call("PUT", fmt.Sprint("/grants/app", i), `{}`).want(200)
		want = append([]string{fmt.Sprint("app", i)}, want...)
		if i%3 == 0 { // several of one moment
			h.now.pass(time.Minute)
		}
	}
	got := pages(p, "/audit", 2, func(e presence.AuditEntry) string { return e.App })
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("audit %v, want %v", got, want)
	}
	list := pages(p, "/grants", 3, func(g account.Grant) string { return g.App })
	if strings.Join(list, " ") != "app0 app1 app2 app3 app4 app5 app6" {
		t.Errorf("grants %v", list)
	}
	es := []presence.Event{{Time: h.now.Now(), Kind: presence.Notified, Email: ann, App: "app1", By: presence.ByApp}, {Time: h.now.Now(), Kind: presence.DeviceStatus, Email: ann, Device: "phone", Status: presence.Online}}
	if err := h.store.AppendActivity(es); err != nil {
		t.Fatal(err)
	}
	if kinds := pages(p, "/activity", 1, func(e presence.Event) string { return e.Kind.String() }); strings.Join(kinds, " ") != "status notified" {
		t.Errorf("activity %v", kinds)
	}
	p.get("/audit?limit=0").refused(422, 13, "limit")
	p.get("/audit?limit=201").refused(422, 13, "limit")
	p.get("/grants?limit=x").refused(422, 13, "limit")
	for _, c := range []string{"!", "eA", "LjE", "LjEuMi4z.", strings.Repeat("L", 4000)} {
		p.get("/audit?cursor="+c).refused(422, 13, "cursor")
	}
}

// pages reads a list to its end by the Link header and checks that next says the same.
func pages[T any](p *program, path string, limit int, name func(T) string) (all []string) {
	p.t.Helper()
	next := path + "?limit=" + fmt.Sprint(limit)
	for next != "" {
		var got page[T]
		a := p.get(next).want(200).json(&got)
		if len(got.Items) > limit {
			p.t.Errorf("%d items on a page of %d", len(got.Items), limit)
		}
		for _, item := range got.Items {
			all = append(all, name(item))
		}
		link, _, _ := strings.Cut(strings.TrimPrefix(a.Header.Get("Link"), "<"+apiRoot), `>; rel="next"`)
		u, err := url.Parse(link)
		if err != nil || u.Query().Get("cursor") != got.Next {
			p.t.Fatalf("Link %q, next %q", a.Header.Get("Link"), got.Next)
		}
		if len(all) > 1000 {
			p.t.Fatal("no end")
		}
		next = link
	}
	return all
}

func (k *contract) me(t *testing.T) {
	h := newHouse(t)
	h.app("chat")
	p := h.program(t, k, h.apiToken(ann, account.GrantsWrite, account.GrantsRead))
	h.device(ann, "phone", presence.Unavailable)
	p.get("/me").want(200).has(`"via":"token"`, `"status":"unavailable"`, `"scopes":["grants:write","grants:read"]`)
	p.call("PUT", "/grants/chat", `{}`).want(200)
	var seen page[seenGrant]
	chat := h.program(t, k, "chat-key")
	if chat.get("/grants").want(200).json(&seen); seen.Items[0].Status != "unavailable" {
		t.Errorf("the app sees %+v", seen)
	}
	p.call("PATCH", "/me", `{"invisible":true}`).want(200).has(`"invisible":true`)
	if chat.get("/grants").want(200).json(&seen); seen.Items[0].Status != "offline" {
		t.Errorf("the app sees %+v", seen)
	}
	p.call("PATCH", "/me", `{"invisible":false}`).want(200).has(`"invisible":false`)
	until := h.now.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	p.call("PATCH", "/me", `{"invisible":true,"invisible_until":"`+until+`"}`).want(200).has(`"invisible_until":"` + until)
	p.call("PATCH", "/me", `{"invisible_until":"`+until+`"}`).refused(422, 13, "invisible_until")
	p.call("PATCH", "/me", `{"invisible":null}`).refused(422, 13, "invisible")

	// On the pages: the same by her session, from the same origin only.
	b := h.signedIn(ann)
	page := &program{t, k, b}
	page.get("/me").want(200).has(`"via":"session"`, `"apps:write"`)
	page.call("PATCH", "/me", `{"invisible":false}`).want(200)
	b.header.Set("Sec-Fetch-Site", "cross-site")
	page.call("PATCH", "/me", `{"invisible":true}`).refused(403, 30, "")
	b.header.Del("Sec-Fetch-Site")
	b.header.Set("Origin", "https://evil.example")
	page.call("PATCH", "/me", `{"invisible":true}`).refused(403, 30, "")
	b.header.Del("Origin")
	page.get("/me").want(200).has(`"invisible":false`)

	// A token that is no good is not made up for by a session.
	b.header.Set("Authorization", "Bearer nonsense")
	page.get("/me").refused(401, 34, "")
	b.header.Set("Authorization", "Basic YTpi")
	page.get("/me").refused(401, 30, "")
	b.header.Del("Authorization")

	// Who is switched off gets in by no door.
	if err := h.hub.SetDisabled(ann, true, presence.ByAdmin); err != nil {
		t.Fatal(err)
	}
	for _, who := range []*program{p, page} {
		if a := who.get("/me"); a.StatusCode != 403 && a.StatusCode != 401 {
			t.Errorf("who is disabled gets %s", a.Status)
		}
	}
}

func (k *contract) notifications(t *testing.T) {
	h := newHouse(t)
	h.app("chat")
	h.app("game")
	p := h.program(t, k, h.apiToken(ann))
	var g account.Grant
	p.call("PUT", "/grants/chat", `{}`).want(200).json(&g)
	chat := h.program(t, k, "chat-key")
	waiting := func() (texts []string) {
		ns, err := h.store.Pending(ann, "", 0, 200)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range ns {
			texts = append(texts, n.Message)
		}
		return texts
	}
	one := `{"uid":"` + g.PUID + `","message":"hello","action":"https://chat.example.org/1","data":{"n":[1]},"ttl":600,"collapse_key":"k","priority":"high"}`
	chat.call("POST", "/notifications", one).want(202).has(`"accepted":1`, `"queue_size":1`)
	ns, err := h.store.Pending(ann, "", 0, 10)
	if err != nil || len(ns) != 1 || ns[0].Message != "hello" || ns[0].Source != "CHAT" || !ns[0].High || string(ns[0].Data) != `{"n":[1]}` || ns[0].Expires.Sub(ns[0].Time) != 10*time.Minute {
		t.Fatalf("%v %+v", err, ns)
	}
	chat.get("/queue").want(200).has(`"queue_size":1`)
	h.program(t, k, "game-key").get("/queue").want(200).has(`"queue_size":0`)

	// Several: all or none.
	two := `{"notifications":[{"uid":"` + g.PUID + `","message":"a"},{"uid":"` + g.PUID + `","message":"b"}]}`
	chat.call("POST", "/notifications", two).want(202).has(`"accepted":2`)
	var prob problem
	chat.call("POST", "/notifications", `{"notifications":[{"uid":"`+g.PUID+`","message":"c"},{"uid":"`+g.PUID+`","ttl":-1}]}`).refused(422, 13, "ttl").json(&prob)
	if prob.Index == nil || *prob.Index != 1 {
		t.Errorf("%+v", prob)
	}
	chat.call("POST", "/notifications", `{"notifications":[{"uid":"`+g.PUID+`","message":"d"},{"uid":"nobody","message":"d"}]}`).refused(404, 60, "")
	if got := strings.Join(waiting(), " "); got != "hello a b" {
		t.Errorf("%q wait", got)
	}

	for body, field := range map[string]string{
		`{"uid":"x","txt":"hello"}`:                                                  "txt",
		`{"notifications":[{"uid":"x"},{"uid":"x","Data":1}]}`:                       "notifications[1].Data",
		`{"notifications":[],"uid":"x"}`:                                             "uid",
		`{"notifications":[]}`:                                                       "notifications",
		`{"uid":"` + g.PUID + `","priority":"urgent"}`:                               "priority",
		`{"uid":"` + g.PUID + `","ttl":2419201}`:                                     "ttl",
		`{"uid":"` + g.PUID + `","ttl":99999999999}`:                                 "ttl",
		`{"uid":"` + g.PUID + `","message":7}`:                                       "message",
		`{"uid":"` + g.PUID + `","message":"a","message":"b"}`:                       "message",
		`{"uid":"` + g.PUID + `","collapse_key":"` + strings.Repeat("k", 300) + `"}`: "collapse_key",
	} {
		chat.call("POST", "/notifications", body).refused(422, 13, field)
	}
	chat.call("POST", "/notifications", `{"message":"for whom?"}`).refused(422, 12, "uid")
	chat.call("POST", "/notifications", `{"uid":"`+g.PUID+`","message":"`+strings.Repeat("x", 5000)+`"}`).refused(413, 42, "")
	chat.call("POST", "/notifications", `{"uid":"`+strings.Repeat("x", 1<<20)+`"}`).refused(413, 14, "")
	chat.call("POST", "/notifications", `{"uid":`).refused(400, 10, "")
	p.call("PATCH", "/grants/chat", `{"notify":`+strings.Repeat(" ", 70<<10)+`true}`).refused(413, 14, "")
	a := chat.b.do("POST", apiRoot+"/notifications", "text/plain", one)
	k.check(t, "POST", apiRoot+"/notifications", "", a)
	a.refused(415, 10, "")

	// With a key it is sent once, whatever happens to the answer.
	chat.b.header.Set("Idempotency-Key", "first")
	sent := chat.call("POST", "/notifications", two).want(202)
	if again := chat.call("POST", "/notifications", two).want(202); again.body != sent.body {
		t.Errorf("%s, then %s", sent.body, again.body)
	}
	chat.call("POST", "/notifications", one).refused(422, 13, "Idempotency-Key")
	chat.b.header.Set("Idempotency-Key", strings.Repeat("k", 256))
	chat.call("POST", "/notifications", one).refused(422, 13, "Idempotency-Key")
	if n := len(waiting()); n != 5 {
		t.Errorf("%d wait, want 5", n)
	}
	chat.b.header.Set("Idempotency-Key", "refused")
	chat.call("POST", "/notifications", `{"uid":"nobody"}`).refused(404, 60, "")
	chat.call("POST", "/notifications", two).want(202) // nothing was sent, so the key is free
	chat.b.header.Set("Idempotency-Key", "first")
	h.now.pass(25 * time.Hour)
	chat.call("POST", "/notifications", one).want(202)
	chat.b.header.Del("Idempotency-Key")

	p.call("PATCH", "/grants/chat", `{"notify":false}`).want(200)
	chat.call("POST", "/notifications", one).refused(403, 60, "")
	p.call("POST", "/notifications", one).refused(403, 30, "")

	// Wrong keys and apps that are switched off are the same.
	wrong := h.program(t, k, "wrong").get("/queue").refused(401, 34, "")
	game := h.app("game")
	game.Disabled = true
	if err := h.hub.PutApp(game); err != nil {
		t.Fatal(err)
	}
	if off := h.program(t, k, "game-key").get("/queue").refused(401, 34, ""); off.body != wrong.body {
		t.Errorf("%s, %s", wrong.body, off.body)
	}
}

// seen4app: to an app who does not exist, who never granted and who revoked are the same in every answer, and what is
// hidden is offline.
func (k *contract) seen4app(t *testing.T) {
	h := newHouse(t)
	h.app("chat")
	h.app("game")
	p := h.program(t, k, h.apiToken(ann))
	var g account.Grant
	p.call("PUT", "/grants/chat", `{"idle":true}`).want(200).json(&g)
	phone := h.device(ann, "phone", presence.Online)
	idle := h.now.Now().Add(-time.Minute)
	if err := phone.Publish(presence.Unavailable, idle); err != nil {
		t.Fatal(err)
	}
	chat, game := h.program(t, k, "chat-key"), h.program(t, k, "game-key")
	var seen seenGrant
	chat.get("/grants/" + g.PUID).want(200).json(&seen)
	if seen.UID != g.PUID || len(seen.Devices) != 1 || seen.Devices[0].Status != "unavailable" || seen.Devices[0].Device == "phone" || !seen.Devices[0].Idle.Equal(idle) {
		t.Errorf("%+v", seen)
	}
	chat.call("POST", "/notifications", `{"uid":"`+g.PUID+`","device":"`+seen.Devices[0].Device+`","message":"to the phone"}`).want(202)

	h.hub.Allow(presence.Grant{Email: bob, App: "chat", Notify: true}, presence.ByUser)
	var revoked presence.Grant
	revoked, err := h.hub.Allow(presence.Grant{Email: "cat@example.org", App: "chat", Notify: true}, presence.ByUser)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.hub.Revoke(revoked.Email, "chat", presence.ByUser); err != nil {
		t.Fatal(err)
	}
	strangers := []string{revoked.PUID, "nosuchpuid", g.PUID + "x", "cat@example.org", "dan@example.org", ann, bob, "no@address@at all", "phone"}
	for _, method := range []struct{ method, path, body string }{
		{"GET", "/grants/%s", ""}, {"DELETE", "/grants/%s", ""},
		{"POST", "/notifications", `{"uid":%q,"message":"x"}`}, {"POST", "/notifications", `{"uid":%q,"device":"` + seen.Devices[0].Device + `","message":"x"}`},
	} {
		first := ""
		for i, uid := range strangers {
			path, body := method.path, method.body
			if body == "" {
				path = fmt.Sprintf(path, url.PathEscape(uid))
			} else {
				body = fmt.Sprintf(body, uid)
			}
			got := fmt.Sprint(shape(chat.call(method.method, path, body)))
			if i == 0 {
				first = got
			} else if got != first {
				t.Errorf("%s %s: %s\nfor a stranger:  %s", method.method, path, got, first)
			}
		}
		// To another app the user is one too.
		path, body := method.path, method.body
		if body == "" {
			path = fmt.Sprintf(path, g.PUID)
		} else {
			body = fmt.Sprintf(body, g.PUID)
		}
		if got := fmt.Sprint(shape(game.call(method.method, path, body))); got != first {
			t.Errorf("to another app: %s\nfor a stranger: %s", got, first)
		}
	}

	// Hidden is as offline, tag and all.
	p.call("PATCH", "/grants/chat", `{"paused":true}`).want(200)
	h.now.pass(time.Minute)
	seen = seenGrant{}
	paused := chat.get("/grants/" + g.PUID).want(200).json(&seen)
	if seen.Status != "offline" || len(seen.Devices) != 1 || seen.Devices[0].Status != "offline" || !seen.Devices[0].Idle.IsZero() {
		t.Errorf("paused: %s", paused.body)
	}
	if err := phone.Publish(presence.Online, time.Time{}); err != nil {
		t.Fatal(err)
	}
	h.device(ann, "new-desk", presence.Online)
	if still := chat.get("/grants/" + g.PUID).want(200); still.body != paused.body {
		t.Errorf("what happens while she is hidden shows: %s, before %s", still.body, paused.body)
	}
	if uids := pages(chat, "/grants", 1, func(s seenGrant) string { return s.UID }); len(uids) != 2 {
		t.Errorf("the app sees %v", uids)
	}
	chat.call("DELETE", "/grants/"+g.PUID, "").want(204)
	if uids := pages(chat, "/grants", 1, func(s seenGrant) string { return s.UID }); len(uids) != 1 {
		t.Errorf("the app sees %v", uids)
	}
}

// shape is all of an answer that could tell something.
func shape(a *answer) (int, http.Header, string) {
	h := a.Header.Clone()
	h.Del("Date")
	return a.StatusCode, h, a.body
}

// TestAPILimit: a token that is used too much waits, others do not.
func TestAPILimit(t *testing.T) {
	h, k := newHouse(t), readContract(t)
	p := h.program(t, k, h.apiToken(ann))
	for range personBurst {
		p.get("/me").want(200)
	}
	if got := p.get("/me").refused(429, 40, "").Header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After %q", got)
	}
	h.program(t, k, h.apiToken(ann)).get("/me").want(200)
	h.now.pass(personEvery)
	p.get("/me").want(200)
	p.get("/me").refused(429, 40, "")
}

// TestWrongTokensAreCounted for the address that they come from.
func TestWrongTokensAreCounted(t *testing.T) {
	var attempts *identity.Attempts
	h := newHouse(t, func(c *Config) {
		attempts = identity.NewAttempts(c.Now)
		c.Attempts = attempts
	})
	k := readContract(t)
	p := h.program(t, k, "wrong")
	a := p.get("/me")
	for i := 0; a.StatusCode != http.StatusTooManyRequests; a = p.get("/me") {
		if a.refused(401, 34, ""); i > 1000 {
			t.Fatal("no end")
		}
		i++
	}
	a.refused(429, 40, "")
	h.program(t, k, h.apiToken(ann)).get("/me").want(200) // who has a good one need not wait for others there
}

// TestSameCallTwiceAtOnce: of two calls with one key that come together one sends.
func TestSameCallTwiceAtOnce(t *testing.T) {
	o := newOnce(time.Now)
	started, finish := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if v, err := o.do("chat", "k", []byte("b"), func() (any, error) { close(started); <-finish; return 1, nil }); v != 1 || err != nil {
			t.Error(v, err)
		}
	})
	<-started
	never := func() (any, error) { t.Error("sent twice"); return nil, nil }
	if _, err := o.do("chat", "k", []byte("b"), never); err != error(errInProgress) {
		t.Error(err)
	}
	if v, err := o.do("game", "k", []byte("b"), func() (any, error) { return 2, nil }); v != 2 || err != nil {
		t.Error("another app's key is another key:", v, err)
	}
	close(finish)
	wg.Wait()
	if v, err := o.do("chat", "k", []byte("b"), never); v != 1 || err != nil {
		t.Error(v, err)
	}
}

// TestOnceIsBounded for each app, and for all together at the cost of who has most.
func TestOnceIsBounded(t *testing.T) {
	o := newOnce(time.Now)
	sends := 0
	send := func() (any, error) { sends++; return sends, nil }
	o.do("small", "k", nil, send)
	for i := range onceApp + 10 {
		o.do("big", fmt.Sprint(i), nil, send)
	}
	if n := len(o.apps["big"].order); n != onceApp || len(o.apps["big"].byKey) != onceApp {
		t.Errorf("%d of one app", n)
	}
	for app := 0; o.total < onceAll; app++ {
		for i := range onceApp - 1 {
			o.do(fmt.Sprint("app", app), fmt.Sprint(i), nil, send)
		}
	}
	for i := range 100 {
		o.do("late", fmt.Sprint(i), nil, send)
	}
	if o.total > onceAll {
		t.Errorf("%d of all", o.total)
	}
	before := sends
	if o.do("small", "k", nil, send); sends != before {
		t.Error("the flood of others has cost the small one its key")
	}
}

// TestTokensAtTheAPI: what signs a person in to the pages may do here what she may do there; a token of one device may
// not.
func TestTokensAtTheAPI(t *testing.T) {
	h := newHouse(t)
	c := readContract(t)
	h.program(t, c, h.tokenFor(ann, "")).get("/me").want(200).has(`"apps:write"`, `"via":"token"`)
	h.program(t, c, h.tokenFor(ann, "phone")).get("/me").refused(401, 34, "").has("one device")
}
