package wsbridge

import (
	"errors"
	"fmt"

	"presenced/presence"
	"presenced/presence/errno"
)

// Push keeps where devices can be woken while they are not connected.
type Push interface {
	Key() string                     // that a device subscribes with
	Check(subscription []byte) error // what is wrong with it
	// Register keeps a subscription that was checked, made with a credential of this mark; nil: takes it back. Another
	// error than presence.ErrBadValue is the store's.
	Register(email, device string, by uint64, subscription []byte) error
}

// checkPush refuses a hello whose subscription cannot be used. Where devices cannot be woken, none is looked at.
func (b *Bridge) checkPush(r *request) error {
	if b.cfg.Push == nil || len(r.push) == 0 || r.push[0] != '{' {
		return nil
	}
	if err := b.cfg.Push.Check(r.push); err != nil {
		return &Error{Errno: errno.BadValue, Detail: fieldNames[fPush], Cause: err}
	}
	return nil
}

// keepPush does what a hello says about waking the device.
func (c *conn) keepPush(r *request) error {
	if c.b.cfg.Push == nil || len(r.push) == 0 {
		return nil
	}
	subscription := r.push
	if subscription[0] != '{' {
		subscription = nil
	}
	s := c.session.Load()
	err := c.b.cfg.Push.Register(s.Email(), s.Device(), s.Credential(), subscription)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, presence.ErrBadValue): // the device was forgotten this moment
		return coreError(err)
	}
	return coreError(fmt.Errorf("%w: %w", presence.ErrStorage, err))
}

// pushKey is told in the answer to a hello.
func (b *Bridge) pushKey() string {
	if b.cfg.Push == nil {
		return ""
	}
	return b.cfg.Push.Key()
}
