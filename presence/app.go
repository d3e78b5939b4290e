package presence

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Conflict says what happens when an app that is connected connects again.
type Conflict string

const (
	Replace Conflict = "replace" // the older connection ends (default)
	Reject  Conflict = "reject"  // the newer one is refused
	Share   Conflict = "share"   // all stay; each user's stanzas go to one of them
)

// App is an AppService: it speaks for one XMPP domain and sees the users who granted it.
type App struct {
	ID          string    `json:"appid"`
	Name        string    `json:"name"`
	Component   string    `json:"component"` // its XMPP domain, lower case, unique
	Secret      string    `json:"secret"`    // XEP-0114 handshake; the digest needs it in clear
	APIKey      string    `json:"api_key"`   // app WebSocket and CCS
	Description string    `json:"description,omitempty"`
	URL         string    `json:"url,omitempty"`
	Redirects   []string  `json:"redirects"`
	Conflict    Conflict  `json:"conflict"`
	Disabled    bool      `json:"disabled,omitempty"`
	Created     time.Time `json:"created,omitzero"`

	// Of an app that a developer registered by herself: it is disabled until Site was proven to be hers.
	Owner    string    `json:"owner,omitempty"`   // her e-mail in key form; "": an administrator's app
	Site     string    `json:"site,omitempty"`    // a domain, maybe with a port; Component is that domain or beneath it
	Proof    string    `json:"proof,omitempty"`   // what Site has to show
	Verified time.Time `json:"verified,omitzero"` // since when Site is known to be hers
	Held     bool      `json:"held,omitempty"`    // an administrator disabled it, and she cannot enable it

	// What was Secret and APIKey before they were changed, good until then. See Rotate.
	OldSecret      string    `json:"old_secret,omitempty"`
	OldAPIKey      string    `json:"old_api_key,omitempty"`
	OldSecretUntil time.Time `json:"old_secret_until,omitzero"`
}

const (
	maxAppID       = 64
	maxAppName     = 128
	maxDomain      = 253
	maxDescription = 512
	maxRedirects   = 32
	maxSecret      = 1024
	maxRedirect    = 2048 // bytes
)

// Check tells why the app cannot be stored; it bounds every field that a stranger may choose.
func (a *App) Check() error {
	var errs []error
	if err := CheckAppID(a.ID); err != nil {
		errs = append(errs, err)
	}
	if a.Name == "" || len(a.Name) > maxAppName {
		errs = append(errs, fmt.Errorf("name must be 1 to %d bytes", maxAppName))
	}
	if err := checkDomain(a.Component); err != nil {
		errs = append(errs, err)
	}
	if a.Secret == "" || len(a.Secret) > maxSecret {
		errs = append(errs, fmt.Errorf("secret must be 1 to %d bytes", maxSecret))
	}
	if max(len(a.APIKey), len(a.OldSecret), len(a.OldAPIKey), len(a.Proof)) > maxSecret {
		errs = append(errs, fmt.Errorf("api key, old secrets and proof must be at most %d bytes", maxSecret))
	}
	if e, err := NormalEmail(a.Owner); a.Owner != "" && (err != nil || e != a.Owner) {
		errs = append(errs, fmt.Errorf("owner %q is not an e-mail address in lower case", a.Owner))
	}
	site, _, _ := strings.Cut(a.Site, ":")
	if err := checkDomain(site); a.Site != "" && err != nil || len(a.Site) > maxDomain {
		errs = append(errs, fmt.Errorf("site: %w", err))
	}
	if len(a.Description) > maxDescription {
		errs = append(errs, fmt.Errorf("description must be at most %d bytes", maxDescription))
	}
	if len(a.Redirects) > maxRedirects {
		errs = append(errs, fmt.Errorf("at most %d redirects", maxRedirects))
	}
	for _, r := range a.Redirects {
		if len(r) > maxRedirect {
			errs = append(errs, fmt.Errorf("a redirect must be at most %d bytes", maxRedirect))
		}
	}
	switch a.Conflict {
	case Replace, Reject, Share:
	default:
		errs = append(errs, fmt.Errorf("conflict %q is none of replace, reject, share", a.Conflict))
	}
	return errors.Join(errs...)
}

// CheckAppID tells why id is not an appid: 1-64 characters of A-Z a-z 0-9 . _ -
func CheckAppID(id string) error {
	if CheckDevice(id) != nil || len(id) > maxAppID {
		return fmt.Errorf("appid %q must be 1 to %d characters of A-Z a-z 0-9 . _ -", id, maxAppID)
	}
	return nil
}

func checkDomain(d string) error {
	if d == "" || len(d) > maxDomain || d[0] == '.' || d[0] == '-' {
		return fmt.Errorf("component %q is not a domain name", d)
	}
	for i := 0; i < len(d); i++ {
		c := d[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.' || c == '-') {
			return fmt.Errorf("component %q is not a domain name in lower case", d)
		}
	}
	return nil
}
