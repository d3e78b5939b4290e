package web

import (
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"presenced/presence"
	"presenced/presence/errno"
	"presenced/web/account"
)

const maxHistory = 1000 // lines of audit and activity; what the store keeps

// whoami is the answer to GET /me.
type whoami struct {
	Email          string    `json:"email"`
	Via            string    `json:"via"`
	Scopes         []string  `json:"scopes"`
	Status         string    `json:"status"`
	Invisible      bool      `json:"invisible"`
	InvisibleUntil time.Time `json:"invisible_until,omitzero"`
}

func (c *call) getMe() (any, error) {
	m := whoami{Email: c.email, Via: "session", Scopes: c.scopes, Status: presence.Offline.String()}
	if c.token != nil {
		m.Via = "token"
	}
	u, _, err := c.site.cfg.Store.User(c.email)
	if err != nil {
		return nil, storageError(err)
	}
	if m.Invisible = u.Hidden(c.now()); m.Invisible {
		m.InvisibleUntil = u.InvisibleUntil
	}
	devices, err := c.hub().Devices(c.email)
	best := presence.Offline
	for _, d := range devices {
		if st, err := presence.ParseStatus(d.Status); err == nil && st > best {
			best = st
		}
	}
	m.Status = best.String()
	return m, err
}

func (c *call) hub() *presence.Hub { return c.site.cfg.Hub }
func (a *api) now() time.Time      { return a.site.cfg.Now() }

func (c *call) changeMe() (any, error) {
	var b struct {
		Invisible maybe[bool]   `json:"invisible"`
		Until     maybe[string] `json:"invisible_until"`
	}
	if err := decode(c.r, &b); err != nil {
		return nil, err
	}
	until, err := moment("invisible_until", b.Until)
	switch {
	case err != nil:
		return nil, err
	case b.Invisible.Null:
		return nil, badField("invisible", "is neither true nor false")
	case until != nil && !(b.Invisible.Set && b.Invisible.V):
		return nil, badField("invisible_until", "needs invisible: true")
	}
	if b.Invisible.Set {
		if err := c.hub().SetInvisible(c.email, b.Invisible.V, orZero(until), presence.ByUser); err != nil {
			return nil, err
		}
	}
	return c.getMe()
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func (c *call) listDevices() (any, error) {
	all, err := c.hub().Devices(c.email)
	if err != nil {
		return nil, err
	}
	return pageFrom(all, func(d *presence.DeviceInfo) string { return d.Device }, c.r, c.header)
}

var errNotHers = &Error{Status: http.StatusNotFound, Errno: errno.BadValue, Text: "You have no such device."}

// device is the device that the path names.
func (c *call) device() (presence.DeviceInfo, error) {
	all, err := c.hub().Devices(c.email)
	if err != nil {
		return presence.DeviceInfo{}, err
	}
	id := c.r.PathValue("device")
	if i := slices.IndexFunc(all, func(d presence.DeviceInfo) bool { return d.Device == id }); i >= 0 {
		return all[i], nil
	}
	return presence.DeviceInfo{}, errNotHers
}

const maxDeviceName = 64 // characters

func (c *call) renameDevice() (any, error) {
	var b struct {
		Name maybe[string] `json:"name"`
	}
	if err := decode(c.r, &b); err != nil {
		return nil, err
	}
	switch {
	case !b.Name.Set:
		return nil, missingField("name")
	case b.Name.Null, utf8.RuneCountInString(b.Name.V) > maxDeviceName:
		return nil, badField("name", "is not a text of at most 64 characters")
	}
	d, err := c.device()
	if err != nil {
		return nil, err
	}
	if err := c.site.cfg.Store.RenameDevice(c.email, d.Device, b.Name.V); err != nil {
		return nil, err
	}
	return c.device()
}

// signedOut is the answer to a sign-out.
type signedOut struct {
	Device   string `json:"device"`
	Tokens   int    `json:"tokens"`
	Sessions int    `json:"sessions"`
}

func (c *call) signOutDevice() (any, error) {
	d, err := c.device()
	if err != nil {
		return nil, err
	}
	e, err := c.desk.SignOut(c.email, d.Device)
	return signedOut{d.Device, e.Revoked, e.Sessions}, err
}

func (c *call) removeDevice() (any, error) {
	d, err := c.device()
	if err != nil {
		return nil, err
	}
	return nil, c.desk.Forget(c.email, d.Device)
}

func (c *call) listGrants() (any, error) {
	stored, err := c.site.cfg.Store.GrantsOf(c.email)
	if err != nil {
		return nil, storageError(err)
	}
	all := []account.Grant{}
	for _, g := range stored {
		if g.Ended(c.now()) {
			continue
		}
		v, err := c.desk.GrantOf(g)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return pageFrom(all, func(g *account.Grant) string { return g.App }, c.r, c.header)
}

// grant is the grant to the app that the path names.
func (c *call) grant() (presence.Grant, error) {
	g, ok, err := c.site.cfg.Store.Grant(c.email, c.r.PathValue("party"))
	switch {
	case err != nil && presence.CheckAppID(c.r.PathValue("party")) == nil:
		return g, storageError(err)
	case !ok || g.Ended(c.now()):
		return g, presence.ErrNoGrant
	}
	return g, nil
}

func (c *call) getGrant() (any, error) {
	g, err := c.grant()
	if err != nil {
		return nil, err
	}
	return c.desk.GrantOf(g)
}

// apiTerms are what a body may say of a grant.
type apiTerms struct {
	Windows maybe[[]presence.Window] `json:"windows"`
	TZ      maybe[string]            `json:"tz"`
	Until   maybe[string]            `json:"until"`
	Notify  maybe[bool]              `json:"notify"`
	Idle    maybe[bool]              `json:"idle"`
	Status  maybe[bool]              `json:"status"`
	Devices maybe[bool]              `json:"devices"`
}

// check tells what is wrong with the apiTerms by themselves, by name, and returns the end.
func (t *apiTerms) check(now time.Time) (until *time.Time, err error) {
	until, err = moment("until", t.Until)
	switch {
	case err != nil:
		return nil, err
	case until != nil && !until.After(now):
		return nil, badField("until", "is past")
	case t.Windows.Null:
		return nil, badField("windows", "is not a list")
	case t.TZ.Null || !isZone(t.TZ.V):
		return nil, badField("tz", "is not the name of a time zone")
	case t.Notify.Null:
		return nil, badField("notify", "is neither true nor false")
	case t.Idle.Null:
		return nil, badField("idle", "is neither true nor false")
	case t.Status.Null:
		return nil, badField("status", "is neither true nor false")
	case t.Devices.Null:
		return nil, badField("devices", "is neither true nor false")
	}
	for i := range t.Windows.V {
		if err := t.Windows.V[i].Check(); err != nil {
			return nil, badField("windows", "has one that is none: "+coreText(err))
		}
	}
	return until, nil
}

func isZone(name string) bool {
	_, err := time.LoadLocation(name)
	return err == nil && name != "Local"
}

// coreText is an error of the core without the name of its package.
func coreText(err error) string {
	return strings.NewReplacer("presence: ", "", "\n", "; ").Replace(err.Error())
}

// any reports whether the apiTerms name anything.
func (t *apiTerms) any() bool {
	return t.Windows.Set || t.TZ.Set || t.Until.Set || t.Notify.Set || t.Idle.Set || t.Status.Set || t.Devices.Set
}

// lay changes in the grant what the apiTerms name.
func (t *apiTerms) lay(g *presence.Grant, until *time.Time) {
	if t.Windows.Set {
		g.Windows = t.Windows.V
	}
	if t.TZ.Set {
		g.TZ = t.TZ.V
	}
	if t.Until.Set {
		g.Until = until
	}
	if t.Notify.Set {
		g.Notify = t.Notify.V
	}
	if t.Idle.Set {
		g.Idle = t.Idle.V
	}
	if t.Status.Set {
		g.NoStatus = !t.Status.V
	}
	if t.Devices.Set {
		g.NoDevices = !t.Devices.V
	}
}

func (c *call) allow() (any, error) {
	var b apiTerms
	if err := decode(c.r, &b); err != nil {
		return nil, err
	}
	until, err := b.check(c.now())
	if err != nil {
		return nil, err
	}
	id := c.r.PathValue("party")
	if app, ok := c.hub().App(id); !ok || app.Disabled {
		return nil, presence.ErrNoApp
	}
	t := account.Terms{Windows: b.Windows.V, TZ: b.TZ.V, Until: until, Notify: !b.Notify.Set || b.Notify.V, Idle: b.Idle.V,
		NoStatus: b.Status.Set && !b.Status.V, NoDevices: b.Devices.Set && !b.Devices.V}
	g, err := c.desk.Allow(c.email, id, t, presence.ByUser)
	return g, err
}

// grantChange is the body of PATCH /grants/{party}.
type grantChange struct {
	apiTerms
	Paused      maybe[bool]   `json:"paused"`
	PausedUntil maybe[string] `json:"paused_until"`
}

func (c *call) changeGrant() (any, error) {
	var b grantChange
	if err := decode(c.r, &b); err != nil {
		return nil, err
	}
	until, err := b.check(c.now())
	if err != nil {
		return nil, err
	}
	pause, err := moment("paused_until", b.PausedUntil)
	switch {
	case err != nil:
		return nil, err
	case b.Paused.Null:
		return nil, badField("paused", "is neither true nor false")
	case pause != nil && !b.Paused.V:
		return nil, badField("paused_until", "needs paused: true")
	case pause != nil && !pause.After(c.now()):
		return nil, badField("paused_until", "is past")
	}
	g, err := c.grant()
	if err != nil {
		return nil, err
	}
	if err := c.carryOut(&b, g.App, until, orZero(pause)); err != nil {
		return nil, err
	}
	return c.getGrant()
}

// carryOut hides first and shows last, so that no moment shows more than both what was and what will be.
func (c *call) carryOut(b *grantChange, app string, until *time.Time, pause time.Time) error {
	if b.Paused.V {
		if err := c.hub().Pause(c.email, app, pause, presence.ByUser); err != nil {
			return err
		}
	}
	if b.any() {
		_, err := c.hub().Edit(c.email, app, presence.ByUser, func(g *presence.Grant, exists bool) error {
			if !exists {
				return presence.ErrNoGrant // revoked meanwhile
			}
			b.lay(g, until)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if b.Paused.Set && !b.Paused.V {
		return c.hub().SetPaused(c.email, app, false, presence.ByUser)
	}
	return nil
}

func (c *call) revoke() (any, error) {
	g, err := c.grant()
	if err != nil {
		return nil, err
	}
	return nil, c.hub().Revoke(c.email, g.App, presence.ByUser)
}

func (c *call) listRequests() (any, error) {
	all, err := c.hub().RequestsOf(c.email)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b presence.Request) int { return strings.Compare(a.App, b.App) })
	return pageFrom(all, func(r *presence.Request) string { return r.App }, c.r, c.header)
}

// answered is the answer to POST /requests/{appid}.
type answered struct {
	App     string         `json:"appid"`
	Allowed bool           `json:"allowed"`
	Grant   *account.Grant `json:"grant,omitempty"`
}

var errNoRequest = &Error{Status: http.StatusNotFound, Errno: errno.NoApp, Text: "No such app waits for an answer."}

func (c *call) answerRequest() (any, error) {
	var b struct {
		apiTerms
		Allow maybe[bool] `json:"allow"`
	}
	if err := decode(c.r, &b); err != nil {
		return nil, err
	}
	until, err := b.check(c.now())
	switch {
	case err != nil:
		return nil, err
	case !b.Allow.Set:
		return nil, missingField("allow")
	case b.Allow.Null:
		return nil, badField("allow", "is neither true nor false")
	}
	app := c.r.PathValue("appid")
	waiting, err := c.hub().RequestsOf(c.email)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(waiting, func(r presence.Request) bool { return r.App == app }) {
		return nil, errNoRequest
	}
	a := presence.Answer{Email: c.email, App: app, Allow: b.Allow.V, Windows: b.Windows.V, TZ: b.TZ.V, Until: until}
	if b.Notify.Set {
		a.Notify = &b.Notify.V
	}
	if b.Idle.Set {
		a.Idle = &b.Idle.V
	}
	if b.Status.Set {
		a.Status = &b.Status.V
	}
	if b.Devices.Set {
		a.Devices = &b.Devices.V
	}
	if err := c.hub().Answer(a, presence.ByUser); err != nil {
		return nil, err
	}
	return c.answered(app, b.Allow.V)
}

func (c *call) answered(app string, allowed bool) (any, error) {
	v := answered{App: app, Allowed: allowed}
	if !allowed {
		return v, nil
	}
	g, ok, err := c.site.cfg.Store.Grant(c.email, app)
	if err != nil {
		return nil, storageError(err)
	}
	if ok {
		view, err := c.desk.GrantOf(g)
		if err != nil {
			return nil, err
		}
		v.Grant = &view
	}
	return v, nil
}

func (c *call) listTokens() (any, error) {
	all, err := c.desk.Tokens(c.email, "")
	if err != nil {
		return nil, storageError(err)
	}
	return pageFrom(all, func(t *account.Token) string { return t.Hash }, c.r, c.header)
}

func (c *call) makeToken() (any, error) {
	var b struct {
		Name    string        `json:"name"`
		Scopes  []string      `json:"scopes"`
		Expires maybe[string] `json:"expires"`
	}
	if err := decode(c.r, &b); err != nil {
		return nil, err
	}
	until, err := moment("expires", b.Expires)
	switch {
	case err != nil:
		return nil, err
	case b.Name == "":
		return nil, missingField("name")
	case utf8.RuneCountInString(b.Name) > maxDeviceName:
		return nil, badField("name", "has more than 64 characters")
	case len(b.Scopes) == 0:
		return nil, missingField("scopes")
	}
	n := account.NewToken{Name: b.Name, Scopes: compact(b.Scopes), Expires: orZero(until)}
	if err := c.mayHandOn(&n); err != nil {
		return nil, err
	}
	made, err := c.site.makeToken(c.email, n, c.holds, errBadToken)
	if err != nil {
		return nil, err
	}
	c.header.Set("Location", apiRoot+"/tokens/"+made.Hash)
	return made, nil
}

// holds looks again at what the caller came with.
func (c *call) holds() bool {
	if c.token == nil {
		return c.site.holds(c.r, c.email)
	}
	_, ok, err := c.site.cfg.Store.LookupAPIToken(c.token.Hash)
	return err == nil && ok
}

var errTokens = &Error{Status: http.StatusConflict, Kind: "too-many", Text: "You have as many tokens as anybody may have. Revoke some."}

func compact(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// mayHandOn: who came with a token cannot make one that may do more, or lives longer.
func (c *call) mayHandOn(n *account.NewToken) error {
	for _, scope := range n.Scopes {
		if account.IsScope(scope) && !slices.Contains(c.scopes, scope) {
			return &Error{Status: http.StatusForbidden, Kind: "missing-scope", Field: "scopes", scope: scope,
				Text: "A token cannot make one that may do more than it may: " + scope + "."}
		}
	}
	if c.token == nil {
		return c.site.limitToken(c.r, n)
	}
	if c.token.Expires.IsZero() {
		return nil
	}
	if n.Expires.IsZero() || n.Expires.After(c.token.Expires) {
		n.Expires = c.token.Expires
	}
	return nil
}

var errNoSuchToken = &Error{Status: http.StatusNotFound, Errno: errno.BadValue, Text: "You have no such token."}

func (c *call) revokeToken() (any, error) {
	hash, ok := tokenHash(c.r.PathValue("token"))
	if !ok {
		return nil, errNoSuchToken
	}
	ok, err := c.desk.EndToken(c.email, hash)
	if err == nil && !ok {
		err = errNoSuchToken
	}
	return nil, err
}

func (c *call) listAudit() (any, error) {
	all, err := c.site.cfg.Store.AuditOf(c.email, maxHistory)
	if err != nil {
		return nil, storageError(err)
	}
	return pageBack(all, func(e *presence.AuditEntry) time.Time { return e.Time }, c.r, c.header)
}

func (c *call) listActivity() (any, error) {
	all, err := c.site.cfg.Store.ActivityOf(c.email, time.Time{}, maxHistory)
	if err != nil {
		return nil, storageError(err)
	}
	return pageBack(all, func(e *presence.Event) time.Time { return e.Time }, c.r, c.header)
}
