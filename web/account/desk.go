package account

import (
	"errors"
	"time"

	"presenced/identity"
	"presenced/presence"
)

// Store is what a Desk needs of the disk beside what the hub keeps.
type Store interface {
	GrantsOf(email string) ([]presence.Grant, error)
	Grant(email, app string) (presence.Grant, bool, error)
	TokensOf(email string) ([]presence.Token, error)
	PutTokens([]presence.Token) error
	RevokeToken(hash [32]byte) (presence.Token, bool, error)
	RevokeTokens(email, device string) ([]presence.Token, error)
	PushOf(email string) ([]presence.PushSubscription, error)
	EndSessions(email string) error // of the pages
	User(email string) (presence.User, bool, error)
	RemoveUser(email string) error
	RemoveDevice(email, device string) error
	PutGrants([]presence.Grant, []presence.AuditEntry) error
}

// Desk carries out what is asked. It is immutable and safe for concurrent use. E-mails are in key form.
type Desk struct {
	Hub    *presence.Hub
	Store  Store
	Domain string // the gateway's own, for addresses
	Now    func() time.Time
}

// User returns one. presence.ErrNoUser.
func (d *Desk) User(email string) (presence.User, error) {
	u, ok, err := d.Store.User(email)
	if err == nil && !ok {
		err = presence.ErrNoUser
	}
	return u, err
}

// Remove ends all that the user has, and forgets her. presence.ErrNoUser.
func (d *Desk) Remove(email string, by presence.Actor) error {
	if err := d.Store.EndSessions(email); err != nil { // first: a page that is a device makes itself a token
		return err
	}
	if _, err := d.EndTokens(email, ""); err != nil {
		return err
	}
	if err := d.Hub.RemoveUser(email, by); err != nil {
		return err
	}
	return d.Store.RemoveUser(email)
}

// Disconnect ends the connections of the user's devices, or of the one that is named, and returns how many those were.
// They are told not to come back by themselves; nothing keeps their people from it. Her audit says who did it.
func (d *Desk) Disconnect(email, device string, by presence.Actor) (int, error) {
	n := d.Hub.Kick(email, device)
	if n == 0 {
		return 0, nil
	}
	line := presence.AuditEntry{Time: d.Now().UTC(), Email: email, What: "disconnect", By: by, Detail: device}
	return n, d.Store.PutGrants(nil, []presence.AuditEntry{line})
}

// Ended counts what went with revoked tokens.
type Ended struct {
	Revoked  int // tokens
	Sessions int // of devices
}

// EndTokens revokes the user's tokens for the device ("": all, those for the API too) and ends the sessions that came
// with them.
func (d *Desk) EndTokens(email, device string) (e Ended, err error) {
	revoked, err := d.Store.RevokeTokens(email, device)
	for i := range revoked {
		e.Sessions += d.Hub.EndCredential(email, identity.CredentialOf(revoked[i].Hash))
	}
	e.Revoked = len(revoked)
	return e, err
}

// EndToken revokes one of the user's tokens and ends the sessions that came with it; false: she has no such token.
func (d *Desk) EndToken(email string, hash [32]byte) (bool, error) {
	tokens, err := d.Store.TokensOf(email)
	if err != nil {
		return false, err
	}
	for i := range tokens {
		if tokens[i].Hash == hash {
			_, ok, err := d.Store.RevokeToken(hash)
			d.Hub.EndCredential(email, identity.CredentialOf(hash))
			return ok, err
		}
	}
	return false, nil
}

// SignOut ends the device's connection and revokes the tokens that are for it alone. A token for any device stays:
// a device that has one can come back.
func (d *Desk) SignOut(email, device string) (e Ended, err error) {
	if device == "" {
		return e, errors.New("account: no device named")
	}
	revoked, err := d.Store.RevokeTokens(email, device) // first: who is ended must not come back
	if err != nil {
		return e, err
	}
	e.Revoked = len(revoked)
	e.Sessions = d.Hub.Kick(email, device) // before the tokens are told: it ends in words that mean to stay away
	for i := range revoked {
		e.Sessions += d.Hub.EndCredential(email, identity.CredentialOf(revoked[i].Hash))
	}
	return e, nil
}

// Forget signs the device out and forgets it.
func (d *Desk) Forget(email, device string) error {
	if _, err := d.SignOut(email, device); err != nil {
		return err
	}
	return d.Store.RemoveDevice(email, device)
}
