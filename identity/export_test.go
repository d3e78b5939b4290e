package identity

import (
	"net/netip"
)

// Remembered counts the domains whose documents are remembered.
func Remembered(b *BrowserID) int {
	b.supports.mu.Lock()
	defer b.supports.mu.Unlock()
	return len(b.supports.known)
}

// ParseSupport is what becomes of a support document.
func ParseSupport(body []byte) (keys int, authority string, err error) {
	s, err := parseSupport(Document{Type: "application/json", Body: body})
	if err != nil {
		return 0, "", err
	}
	return len(s.keys), s.authority, nil
}

// IsPublicAddr is the guard's judgement.
func IsPublicAddr(a netip.Addr) bool { return isPublicAddr(a) }

// RememberedAttempts counts the addresses that are remembered.
func RememberedAttempts(a *Attempts) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.full)
}
