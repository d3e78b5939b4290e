package account

import (
	"fmt"
	"slices"

	"presenced/presence"
)

// What a token for the API may do, for its user.
const (
	DevicesRead   = "devices:read"
	DevicesWrite  = "devices:write"
	GrantsRead    = "grants:read"
	GrantsWrite   = "grants:write"
	RequestsRead  = "requests:read"
	RequestsWrite = "requests:write"
	TokensRead    = "tokens:read"
	TokensWrite   = "tokens:write"
	AuditRead     = "audit:read"
	AppsRead      = "apps:read"
	AppsWrite     = "apps:write"
)

// Scopes are all of them.
func Scopes() []string {
	return []string{DevicesRead, DevicesWrite, GrantsRead, GrantsWrite, RequestsRead, RequestsWrite,
		TokensRead, TokensWrite, AuditRead, AppsRead, AppsWrite}
}

// IsScope reports whether there is such a scope.
func IsScope(s string) bool { return slices.Contains(Scopes(), s) }

// FieldError is a presence.ErrBadValue of one field.
type FieldError struct {
	Field string // as in JSON
	Text  string // what is wrong with it
}

func (e *FieldError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Text) }
func (e *FieldError) Unwrap() error { return presence.ErrBadValue }

func badValue(field, text string) error { return &FieldError{field, text} }
