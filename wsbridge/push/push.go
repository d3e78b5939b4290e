package push

import (
	"context"
	"crypto/ecdh"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"presenced/identity"
	"presenced/presence"
)

// Store keeps the gateway's key, and where devices can be woken.
type Store interface {
	PushKey() ([32]byte, error)
	PutPush(presence.PushSubscription) error
	PushOf(email string) ([]presence.PushSubscription, error)
	EachPush(func(presence.PushSubscription) error) error
	MarkWoken(email, device, endpoint string, w presence.Woken) error
	RemovePush(email, device, endpoint string) error
}

// Config is what a Pusher is made of. Hub, Store, Now and Origin are needed; zero values of the others mean the
// defaults.
type Config struct {
	Hub    *presence.Hub
	Store  Store
	Now    func() time.Time
	Log    *slog.Logger
	Origin string // the gateway's own, for devices that know several
	// Contact is how the operator of a push service reaches ours (RFC 8292 §2.1): a mailto: or https: URL, or an
	// e-mail. "": the origin, if it is https.
	Contact      string
	AllowPrivate bool           // see identity.OutboundConfig
	Roots        *x509.CertPool // nil: the system's
	Resolver     *net.Resolver  // nil: the system's

	Workers            int           // users at once (16)
	Timeout            time.Duration // for a push service to answer (10 s)
	RetryMin, RetryMax time.Duration // between attempts that fail (5 s, 1 h); never sooner than the push service asks
	Grace              time.Duration // after the start, for devices to come back by themselves (45 s); negative: none
	Every              time.Duration // between looks at everybody (1 h)
}

func (c *Config) fill() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Workers <= 0 {
		c.Workers = 16
	}
	for _, d := range []struct {
		value *time.Duration
		usual time.Duration
	}{
		{&c.Timeout, 10 * time.Second},
		{&c.RetryMin, 5 * time.Second},
		{&c.RetryMax, time.Hour},
		{&c.Grace, 45 * time.Second},
		{&c.Every, time.Hour},
	} {
		if *d.value == 0 {
			*d.value = d.usual
		}
	}
	if c.Contact == "" {
		c.Contact = contactOf(c.Origin)
	}
	c.Contact = strings.TrimPrefix(c.Contact, "mailto:")
}

// contactOf makes the best of an origin.
func contactOf(origin string) string {
	u, err := url.Parse(origin)
	switch {
	case err != nil:
		return "postmaster@localhost"
	case u.Scheme == "https":
		return origin
	}
	return "postmaster@" + u.Hostname()
}

// Pusher wakes devices. Its methods are safe for concurrent use.
type Pusher struct {
	cfg             Config // immutable, as are the next four
	private, public string // the gateway's key, base64url
	out             *identity.Outbound
	line            *presence.Urgent
	hosts           hosts

	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	owner    sync.WaitGroup // the dispatcher
	workers  sync.WaitGroup // those and the looks at everybody; added to by the dispatcher only
	done     chan *job      // from workers, which all fit in
	found    chan string    // from a look at everybody
	scanned  chan struct{}  // at its end
	counters counters
}

// New reads the key and begins to wake devices. Close ends it; that must come before the hub closes, which would
// make every device look as if it had gone.
func New(c Config) (*Pusher, error) {
	c.fill()
	key, err := c.Store.PushKey()
	if err != nil {
		return nil, fmt.Errorf("push: the key: %w", err)
	}
	private, err := ecdh.P256().NewPrivateKey(key[:])
	if err != nil {
		return nil, fmt.Errorf("push: the key: %w", err)
	}
	p := &Pusher{
		cfg: c, private: encode(key[:]), public: encode(private.PublicKey().Bytes()),
		out:   identity.NewOutbound(identity.OutboundConfig{AllowPrivate: c.AllowPrivate, Roots: c.Roots, Resolver: c.Resolver, Timeout: c.Timeout}),
		line:  c.Hub.Urgent(),
		done:  make(chan *job, c.Workers),
		found: make(chan string), scanned: make(chan struct{}, 1),
		hosts: hosts{first: c.RetryMin, timeout: c.Timeout, silent: map[string]silence{}},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.owner.Add(1)
	go p.dispatch()
	return p, nil
}

// Close breaks off what is under way and waits for every goroutine.
func (p *Pusher) Close() {
	p.line.Close()
	p.cancel()
	p.owner.Wait()
}

// Key is the public key that a device subscribes with (applicationServerKey): base64url of a point of P-256.
func (p *Pusher) Key() string { return p.public }

// Check tells whether Register would take the subscription: ErrSubscription.
func (p *Pusher) Check(subscription []byte) error {
	_, err := p.parse(subscription)
	return err
}

// Register keeps where a device can be woken, as a browser writes it, and the mark of the credential by which it says
// so; nil: nowhere any more. Errors: ErrSubscription, presence.ErrBadValue (there is no such device), and those of the
// store.
func (p *Pusher) Register(email, device string, by uint64, subscription []byte) error {
	if subscription == nil {
		return p.cfg.Store.RemovePush(email, device, "")
	}
	s, err := p.parse(subscription)
	if err != nil {
		return err
	}
	s.Email, s.Device, s.By, s.Created = email, device, by, p.cfg.Now().UTC()
	return p.cfg.Store.PutPush(s)
}

// counters are since start, but for trying, a gauge.
type counters struct {
	woken, failed, refused, dropped atomic.Uint64
	trying                          atomic.Int64
}

// Stats are counts for the metrics.
type Stats struct {
	Trying int // users with a device that could not be woken yet
	// Counters since start.
	Woken   uint64 // pushes that a push service took
	Failed  uint64 // attempts that are repeated
	Refused uint64 // of these, where the push service said that it is our fault
	Dropped uint64 // subscriptions forgotten because they are no more
}

// Stats takes no lock.
func (p *Pusher) Stats() Stats {
	c := &p.counters
	return Stats{Trying: int(c.trying.Load()), Woken: c.woken.Load(), Failed: c.failed.Load(), Refused: c.refused.Load(), Dropped: c.dropped.Load()}
}
