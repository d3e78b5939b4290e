package account

import (
	"net/url"
	"strings"
	"time"

	"mellium.im/xmpp/jid"

	"presenced/identity"
	"presenced/presence"
)

// Grant is a grant as lists show it to its user and to administrators. To no app.
type Grant struct {
	Email   string            `json:"email"`
	App     string            `json:"appid"`
	Name    string            `json:"name"` // of the app
	PUID    string            `json:"puid"`
	Address string            `json:"address"` // the whole XMPP address under which the app knows the user
	Windows []presence.Window `json:"windows"`
	TZ      string            `json:"tz,omitempty"`
	Until   *time.Time        `json:"until"`
	Notify  bool              `json:"notify"`
	Idle    bool              `json:"idle"`
	Paused  bool              `json:"paused"`
	// PausedUntil is when the pause ends by itself; nil: it does not.
	PausedUntil *time.Time `json:"paused_until,omitempty"`
	Shown       bool       `json:"shown"`                 // presence is visible now, if there is any
	Change      *time.Time `json:"next_change,omitempty"` // when that changes by itself; nil: never
	Schedule    string     `json:"schedule"`              // windows and zone as text
	State       string     `json:"state"`                 // shown, hidden, paused, invisible or no status, and until when, as text
	Created     time.Time  `json:"created,omitzero"`
	Status      bool       `json:"status"`  // false: it sees her offline, always
	Devices     bool       `json:"devices"` // false: it sees one in place of all
}

// GrantOf is the grant as it is now.
func (d *Desk) GrantOf(g presence.Grant) (Grant, error) {
	s, err := d.Hub.Sight(&g)
	app, _ := d.Hub.App(g.App)
	v := Grant{
		Email: g.Email, App: g.App, Name: app.Name, PUID: g.PUID, Address: d.Address(g),
		Windows: append([]presence.Window{}, g.Windows...), TZ: g.TZ, Until: g.Until,
		Notify: g.Notify, Idle: g.Idle, Status: !g.NoStatus, Devices: !g.NoDevices, Paused: g.Paused, PausedUntil: g.PausedUntil,
		Shown: s.Shown, Schedule: g.Schedule().String(), State: s.String(), Created: g.Created,
	}
	if !s.Change.IsZero() {
		change := s.Change.UTC()
		v.Change = &change
	}
	return v, err
}

// Address is PUID@DOMAIN, or the escaped e-mail in front of the domain (XEP-0106).
func (d *Desk) Address(g presence.Grant) string {
	if g.Address == presence.ByEmail {
		return jid.Escape.String(g.Email) + "@" + d.Domain
	}
	return g.PUID + "@" + d.Domain
}

// Terms are what a user, or an administrator for her, allows an app beyond that it may see her.
type Terms struct {
	Windows []presence.Window
	TZ      string
	Until   *time.Time
	Notify  bool
	Idle    bool
	// What is left out of presence: see presence.Grant.
	NoStatus, NoDevices bool
}

// Allow grants, or replaces the terms of a grant; a pause stays, it ends by resume only. Errors as of
// [presence.Hub.Allow].
func (d *Desk) Allow(email, app string, t Terms, by presence.Actor) (Grant, error) {
	g, err := d.Hub.Edit(email, app, by, func(g *presence.Grant, _ bool) error {
		g.Windows, g.TZ, g.Until, g.Notify, g.Idle = t.Windows, t.TZ, t.Until, t.Notify, t.Idle
		g.NoStatus, g.NoDevices = t.NoStatus, t.NoDevices
		return nil
	})
	if err != nil {
		return Grant{}, err
	}
	return d.GrantOf(g)
}

// Token is a token without its secret, which nobody knows.
type Token struct {
	Email   string     `json:"email"`
	Device  string     `json:"device"` // "": any
	Name    string     `json:"name,omitempty"`
	Scopes  []string   `json:"scopes,omitempty"` // none: it lets devices in; else it is for the API
	Hash    string     `json:"hash"`             // its name
	Created time.Time  `json:"created,omitzero"`
	Expires *time.Time `json:"expires,omitempty"`
}

// TokenOf is a token as lists show it.
func TokenOf(t presence.Token) Token {
	v := Token{Email: t.Email, Device: t.Device, Name: t.Name, Scopes: t.Scopes, Hash: identity.CredentialOf(t.Hash), Created: t.Created}
	if !t.Expires.IsZero() {
		v.Expires = &t.Expires
	}
	return v
}

// Wakeable is a device that can be woken, as an export shows it. The rest of the endpoint and the keys are secrets that
// the device shares with others, like the secret of a token.
type Wakeable struct {
	Device  string    `json:"device"`
	Service string    `json:"service"` // origin of the push service
	Created time.Time `json:"created,omitzero"`
	Until   time.Time `json:"woken_until,omitzero"` // how long the service keeps the last push
}

// Wakeable returns the user's, ordered by device.
func (d *Desk) Wakeable(email string) ([]Wakeable, error) {
	subs, err := d.Store.PushOf(email)
	all := make([]Wakeable, len(subs))
	for i, s := range subs {
		all[i] = Wakeable{Device: s.Device, Created: s.Created, Until: s.Woken.Until}
		if u, err := url.Parse(s.Endpoint); err == nil {
			all[i].Service = u.Scheme + "://" + u.Host
		}
	}
	return all, err
}

// MadeToken is a new token: the only time that its secret is seen.
type MadeToken struct {
	Token
	Secret string `json:"token"`
}

// NewToken describes a token to make.
type NewToken struct {
	Device  string   // "": any
	Name    string   //
	Scopes  []string // none: for devices
	Expires time.Time
}

// MakeToken makes one. presence.ErrBadValue: a scope that does not exist, an end that is past; and what the store says
// of too many.
func (d *Desk) MakeToken(email string, n NewToken) (MadeToken, error) {
	now := d.Now().UTC()
	if !n.Expires.IsZero() && !n.Expires.After(now) {
		return MadeToken{}, badValue("expires", "is past")
	}
	for _, s := range n.Scopes {
		if !IsScope(s) {
			return MadeToken{}, badValue("scopes", "there is no scope "+strings.ToValidUTF8(s[:min(len(s), 64)], "?"))
		}
	}
	m := MadeToken{Secret: identity.NewSecret()}
	t := presence.Token{Hash: identity.HashSecret(m.Secret), Email: email, Device: n.Device, Name: n.Name, Scopes: n.Scopes,
		Created: now, Expires: n.Expires.UTC()}
	if n.Expires.IsZero() {
		t.Expires = time.Time{}
	}
	m.Token = TokenOf(t)
	return m, d.Store.PutTokens([]presence.Token{t})
}

// Tokens lists the user's tokens, those for the device ("": all).
func (d *Desk) Tokens(email, device string) ([]Token, error) {
	tokens, err := d.Store.TokensOf(email)
	list := []Token{}
	for _, t := range tokens {
		if device == "" || t.Device == device {
			list = append(list, TokenOf(t))
		}
	}
	return list, err
}
