package wsbridge

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"strings"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/presence/errno"
)

// identify verifies the assertion, attaches the device and answers. The answer comes before whatever waits
// for the device: the session's writer needs wmu.
func (c *conn) identify(r *request) error {
	if c.app != nil {
		return c.app.identify(r)
	}
	a := presence.Attach{Email: r.email, Device: r.device, Ticket: r.ticket, Ready: c.b.ready, Tag: c}
	if a.Device == "" {
		a.Device = presence.DefaultDevice
	}
	if err := c.b.checkPush(r); err != nil {
		return err
	}
	err := error(presence.ErrTicket)
	if r.ticket != "" {
		err = c.attach(r, a)
	}
	if !errors.Is(err, presence.ErrTicket) || r.assertion == "" {
		return err
	}
	id, e := c.verify(a.Email, a.Device, r.assertion)
	if e != nil {
		return e
	}
	a.Ticket, a.Credential, a.Expires = "", id.Credential, id.Expires
	return c.attach(r, a)
}

// attach makes the conn the device's, and answers.
func (c *conn) attach(r *request, a presence.Attach) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.ended { // Shutdown was faster
		return &Error{Errno: errno.GoingAway}
	}
	older := c.b.cfg.Hub.Attached(a.Email, a.Device)
	s, err := c.b.cfg.Hub.Attach(a)
	if err != nil {
		return coreError(err)
	}
	c.session.Store(s)
	if a.Ticket == "" {
		c.proof = c.b.hash(r.assertion)
	}
	c.b.noteDeaf(c, older)
	c.b.stats.devices.Add(1)
	c.SetReadDeadline(time.Time{})
	c.b.table.watch(c, c.b.startBeat(c.place(), r))
	return c.carryOutLocked(r)
}

// verify asks who the assertion speaks for, and wants it to be this e-mail on this device. A token of
// another device is as good as none. From an address from which too much was refused lately, only what is quick to
// check is heard.
func (c *conn) verify(email, device, assertion string) (identity.Identity, *Error) {
	verifier, wait := c.b.cfg.Attempts.Ask(c.from.addr(), c.b.cfg.Verifier)
	ctx, cancel := context.WithTimeout(c.b.ctx, c.b.cfg.IdentifyTimeout)
	defer cancel()
	id, err := verifier.Verify(ctx, email, assertion)
	switch {
	case err != nil:
	case id.Email != email:
		err = &identity.Error{Kind: identity.Email}
	case id.Device != "" && id.Device != device:
		err = &identity.Error{Kind: identity.Invalid, Cause: errors.New("the token is of another device")}
	default:
		return id, nil
	}
	if wait > 0 {
		return identity.Identity{}, c.tooMany(wait)
	}
	c.b.cfg.Attempts.Refused(c.from.addr(), err)
	return id, identityError(err)
}

// tooMany refuses an address to wait; where it is not identified, that ends the socket, so that waiting costs
// us nothing.
func (c *conn) tooMany(wait time.Duration) *Error {
	e := &Error{Errno: errno.SlowDown, Retry: wait, Cause: errors.New("too many failed attempts from this address")}
	if c.session.Load() == nil {
		e.Close = closeSlowDown
	}
	return e
}

// hash is what is kept of an assertion to know it again. 32 bits are enough: a device that found another
// with the same hash would only be taken for itself.
func (b *Bridge) hash(assertion string) uint32 { return uint32(maphash.String(b.seed, assertion)) }

// reverify checks that a frame comes from the socket's identity. The assertion that was verified last is
// free; a new one is verified and takes its place.
func (c *conn) reverify(r *request) error {
	s := c.session.Load()
	if r.email != "" && r.email != s.Email() || r.device != "" && r.device != s.Device() {
		return &Error{Errno: errno.OtherIdentity}
	}
	if r.assertion == "" {
		return nil
	}
	proof := c.b.hash(r.assertion)
	if proof == c.proof {
		return nil
	}
	id, e := c.verify(s.Email(), s.Device(), r.assertion)
	if e != nil {
		return e
	}
	if err := s.Renew(id.Credential, id.Expires); err != nil {
		return coreError(err)
	}
	c.proof = proof
	return nil
}

// addresses fills in the device's tokens at those of the apps that the user allows, if any are asked for.
func (c *conn) addresses(g *greeting, apps []string) error {
	if apps == nil {
		return nil
	}
	s := c.session.Load()
	all, err := c.b.cfg.Hub.Addresses(s.Email(), s.Device())
	if err != nil {
		return coreError(err)
	}
	g.addresses = make(map[string]string)
	for _, app := range apps {
		if token, ok := all[app]; ok {
			g.addresses[app] = token
		}
	}
	return nil
}

func (c *conn) greeting(resumable bool) *greeting {
	g := &greeting{
		session:   c.b.sessionID(c.serial),
		device:    c.session.Load().Device(),
		heartbeat: c.b.seconds(c.pulse.load()),
		time:      c.b.cfg.Now(),
		pushKey:   c.b.pushKey(),
	}
	if resumable {
		g.ticket = c.session.Load().Ticket()
	}
	return g
}

// sessionID names a socket, the same at every hello. It is derived because there is no room to keep it.
func (b *Bridge) sessionID(serial uint32) string {
	h := sha256.Sum256(binary.BigEndian.AppendUint32(b.key[:], serial))
	return strings.ToLower(base32.StdEncoding.EncodeToString(h[:10]))
}
