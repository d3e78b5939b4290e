package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	supportAge     = time.Hour   // how long a document is believed
	supportFailed  = time.Minute // how long a domain is not asked again after it had none
	supportFresh   = time.Minute // a document younger than this is not fetched again because a key is missing
	supportEntries = 1000        // domains remembered
	supportKeys    = 16          // of one document; more are not looked at
	delegations    = 5           // from one domain to the next
	maxHost        = 253         // characters of a name, RFC 1035
)

// support is a domain's support document: /.well-known/browserid. It is immutable.
type support struct {
	authority string // delegates to this domain; "": it has keys
	keys      []bidKey
}

// Problems of a domain that does not vouch for its e-mails.
var (
	errDisabled = errors.New("the domain has BrowserID disabled")
	errNoKeys   = errors.New("the support document has no key that is accepted")
	errCircle   = errors.New("the delegation goes in a circle, or on for too long")
)

// parseSupport reads a support document. The pages it names are for browsers; nothing here needs them.
func parseSupport(d Document) (*support, error) {
	if d.Type != "application/json" { // what users upload to a site is not its word
		return nil, fmt.Errorf("the support document's type is %q, not application/json", d.Type)
	}
	o, err := parseObject(d.Body)
	if err != nil {
		return nil, err
	}
	if string(o["disabled"]) == "true" {
		return nil, errDisabled
	}
	if _, ok := o["authority"]; ok {
		authority, err := o.text("authority")
		if err != nil {
			return nil, err
		}
		return &support{authority: strings.ToLower(authority)}, nil
	}
	s := &support{keys: supportedKeys(o)}
	if len(s.keys) == 0 {
		return nil, errNoKeys
	}
	return s, nil
}

// supportedKeys are all that may sign certificates: "public-key", and those of "keys" which are for signing. More than
// one is how keys are rotated.
func supportedKeys(o object) []bidKey {
	var list []json.RawMessage
	json.Unmarshal(o["keys"], &list) // what is no list has no keys
	if raw, ok := o["public-key"]; ok {
		list = append([]json.RawMessage{raw}, list...)
	}
	var keys []bidKey
	for _, raw := range list[:min(len(list), supportKeys)] {
		p, err := parseObject(raw)
		if err != nil {
			continue
		}
		if use, err := p.text("use"); err == nil && use != "sig" {
			continue
		}
		if k, err := parseBIDKey(raw); err == nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// supports fetches and remembers support documents. Safe for concurrent use.
type supports struct {
	fetch *Fetcher // immutable, as is now
	now   func() time.Time

	mu    sync.Mutex
	known map[string]supportEntry  // guarded by mu; by URL; at most supportEntries
	busy  map[string]chan struct{} // guarded by mu; by URL: closed when somebody's fetch is over
}

func newSupports(fetch *Fetcher, now func() time.Time) *supports {
	return &supports{fetch: fetch, now: now, known: make(map[string]supportEntry), busy: make(map[string]chan struct{})}
}

// supportEntry is what is known of one domain.
type supportEntry struct {
	doc     *support
	err     error // in place of doc
	fetched time.Time
}

func (e supportEntry) age(now time.Time) time.Duration { return now.Sub(e.fetched) }

func (e supportEntry) isStale(now time.Time) bool {
	if e.err != nil {
		return e.age(now) >= supportFailed
	}
	return e.age(now) >= supportAge
}

// authority follows the delegations of domain to whoever signs for it: its name and its document. known tells
// how old the oldest document on the way is; with fresh, none may be older than supportFresh.
func (s *supports) authority(ctx context.Context, domain string, fresh bool) (string, supportEntry, error) {
	host, oldest := domain, s.now()
	seen := []string{}
	for {
		seen = append(seen, host)
		e := s.get(ctx, host, domain, fresh)
		if e.err != nil {
			return "", supportEntry{}, e.err
		}
		if e.fetched.Before(oldest) {
			oldest = e.fetched
		}
		if e.doc.authority == "" {
			return host, supportEntry{doc: e.doc, fetched: oldest}, nil
		}
		if host = e.doc.authority; len(seen) > delegations || slices.Contains(seen, host) {
			return "", supportEntry{}, errCircle
		}
	}
}

// get returns the document of host for e-mails of domain. Who wants one that is being fetched waits for it.
func (s *supports) get(ctx context.Context, host, domain string, fresh bool) supportEntry {
	target, err := supportURL(host, domain)
	if err != nil {
		return supportEntry{err: err}
	}
	for {
		e, ok, busy := s.find(target, fresh)
		switch {
		case ok:
			return e
		case busy == nil:
			return s.load(ctx, target)
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return supportEntry{err: &FetchError{Reason: FetchUnreachable, Cause: ctx.Err()}}
		}
	}
}

// find returns what is known, or else whom to wait for; neither: the caller has to load it.
func (s *supports) find(target string, fresh bool) (e supportEntry, ok bool, busy chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	e, ok = s.known[target]
	if ok && !e.isStale(now) && !(fresh && e.age(now) >= supportFresh) {
		return e, true, nil
	}
	if busy = s.busy[target]; busy == nil {
		s.busy[target] = make(chan struct{})
	}
	return supportEntry{}, false, busy
}

func (s *supports) load(ctx context.Context, target string) supportEntry {
	e := supportEntry{fetched: s.now()}
	d, err := s.fetch.Get(ctx, target)
	if err == nil {
		e.doc, err = parseSupport(d)
	}
	e.err = err
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() == nil { // who went away has learned nothing about the domain
		s.putLocked(target, e)
	}
	close(s.busy[target])
	delete(s.busy, target)
	return e
}

func (s *supports) putLocked(target string, e supportEntry) {
	if _, known := s.known[target]; !known && len(s.known) >= supportEntries {
		for victim := range s.known { // any; it costs one fetch
			delete(s.known, victim)
			break
		}
	}
	s.known[target] = e
}

// supportURL is where the support document of host lies.
func supportURL(host, domain string) (string, error) {
	if !isHost(host) {
		return "", errors.New("not a domain")
	}
	u := url.URL{Scheme: "https", Host: host, Path: "/.well-known/browserid", RawQuery: "domain=" + url.QueryEscape(domain)}
	return u.String(), nil
}

// isHost reports whether s is a domain in lower case, or an address; with a port or without.
func isHost(s string) bool {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Zone() == ""
	}
	name, port, ok := strings.Cut(s, ":")
	if ok && (port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "") {
		return false
	}
	if name == "" || len(name) > maxHost || strings.Trim(name, ".-") != name || strings.Contains(name, "..") {
		return false
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") == "" && !strings.ContainsAny(name, "/?#@%")
}
