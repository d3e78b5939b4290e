package web

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"presenced/identity"
	"presenced/presence"
)

const (
	deviceLoginPath   = "/login/device"
	deviceTokenName   = "signed in by itself"
	tokensEachDevice  = 5 // made by /login/device; one more, and the oldest goes
	defaultDeviceName = "default"
)

// Tokens is what signing in a device and signing out everywhere need of the disk.
type Tokens interface {
	PutTokens([]presence.Token) error
	TokensOf(email string) ([]presence.Token, error)
	RevokeToken(hash [32]byte) (presence.Token, bool, error)
	RevokeTokens(email, device string) ([]presence.Token, error) // device "": all
}

// deviceToken is the answer of /login/device.
type deviceToken struct {
	Email   string    `json:"email"`
	Device  string    `json:"device"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// postDevice exchanges an assertion, or the session of a page of ours, for the token of one device, so that the device need not
// ask an issuer for each connection.
func (s *Site) postDevice(w http.ResponseWriter, r *http.Request) {
	c, err := readCredentials(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if c.Device == "" {
		c.Device = defaultDeviceName
	}
	t, secret, good, err := s.deviceTokenFor(r, c)
	if err == nil {
		err = s.keepDeviceToken(t, good)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.reply(w, deviceToken{t.Email, t.Device, secret, t.Expires})
}

// deviceTokenFor makes a token for who asks. What was made with a token that expires does not outlive it, so that
// a token cannot prolong itself. good tells whether what it was made with is good still.
func (s *Site) deviceTokenFor(r *http.Request, c credentials) (t presence.Token, secret string, good func() bool, err error) {
	if presence.CheckDevice(c.Device) != nil {
		return t, "", nil, bad("A device is 1 to 64 characters of A-Z a-z 0-9 . _ -")
	}
	now := s.cfg.Now().UTC()
	t = presence.Token{Device: c.Device, Name: deviceTokenName, Created: now, Expires: now.Add(s.cfg.DeviceLife)}
	var limit time.Time
	if c.Assertion == "" {
		t.Email, limit, err = s.sessionOwner(r, c.Email)
		good = func() bool { return s.holds(r, t.Email) }
	} else {
		t.Email, limit, good, err = s.assertionOwner(r, c)
	}
	if err != nil {
		return t, "", nil, err
	}
	if !limit.IsZero() && limit.Before(t.Expires) {
		t.Expires = limit.UTC()
	}
	secret = identity.NewSecret()
	t.Hash = identity.HashSecret(secret)
	return t, secret, good, nil
}

// sessionOwner is who is signed in, and when her token expires, if she signed in with one.
func (s *Site) sessionOwner(r *http.Request, claimed string) (email string, limit time.Time, err error) {
	email, err = s.user(r)
	if err == nil && email == "" {
		err = errSignedOut
	}
	if err != nil {
		return "", limit, err
	}
	if claimed != "" {
		if c, err := presence.NormalEmail(claimed); err != nil || c != email {
			return "", limit, &identity.Error{Kind: identity.Email}
		}
	}
	limit, err = s.tokenLimit(r)
	return email, limit, err
}

// assertionOwner is whom an assertion names. One for another device is refused.
func (s *Site) assertionOwner(r *http.Request, c credentials) (email string, limit time.Time, good func() bool, err error) {
	id, err := s.verify(r, c)
	if err != nil {
		return "", limit, nil, err
	}
	if id.Device != "" && id.Device != c.Device {
		return "", limit, nil, errDeviceToken
	}
	if err := s.checkEnabled(id.Email); err != nil {
		return "", limit, nil, err
	}
	good = func() bool { return true }
	if id.By == "token" {
		limit = id.Expires
		good = func() bool {
			_, _, _, ok, err := s.cfg.Store.LookupToken(identity.HashSecret(c.Assertion))
			return err == nil && ok
		}
	}
	return id.Email, limit, good, nil
}

// keepDeviceToken stores a token and ends the oldest of that device that were made like it, if there are too many.
func (s *Site) keepDeviceToken(t presence.Token, good func() bool) error {
	err := s.cfg.Store.PutTokens([]presence.Token{t})
	if err != nil {
		return storageError(err)
	}
	// Who signs out everywhere ends sessions first and revokes tokens then: what came behind that is seen here.
	if !good() {
		_, _, err := s.cfg.Store.RevokeToken(t.Hash)
		return errors.Join(errSignedOut, storageError(err))
	}
	all, err := s.cfg.Store.TokensOf(t.Email)
	if err != nil {
		return storageError(err)
	}
	all = slices.DeleteFunc(all, func(o presence.Token) bool {
		return o.Device != t.Device || o.Name != deviceTokenName || o.ForAPI()
	})
	slices.SortFunc(all, func(a, b presence.Token) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return bytes.Compare(a.Hash[:], b.Hash[:])
	})
	for i := tokensEachDevice; i < len(all); i++ {
		if all[i].Hash == t.Hash { // made in the same moment as many others
			continue
		}
		if _, _, err := s.cfg.Store.RevokeToken(all[i].Hash); err != nil {
			return storageError(err)
		}
		s.cfg.Hub.EndCredential(t.Email, identity.CredentialOf(all[i].Hash))
	}
	return nil
}

// storageError marks an error of the disk that came past the hub.
func storageError(err error) error {
	if err == nil || errors.Is(err, presence.ErrExists) || errors.Is(err, presence.ErrFull) {
		return err
	}
	return fmt.Errorf("%w: %w", presence.ErrStorage, err)
}
