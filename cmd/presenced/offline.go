package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"presenced/presence"
	"presenced/store"
)

// offline is the administration of a data folder on which no server runs: the same service, on the data file
// itself, over connections in memory.
type offline struct {
	hub    *presence.Hub
	store  *store.Store
	conns  *pipeListener
	server *http.Server
	served chan struct{} // closed when server has returned
}

// openOffline opens the data file, waiting at most wait for its lock.
func openOffline(cfg Config, create bool, wait time.Duration) (*offline, error) {
	if err := prepareData(cfg, create); err != nil {
		return nil, err
	}
	st, hub, err := openData(cfg, wait, nil)
	if err != nil {
		return nil, err
	}
	hub.Advance(time.Now()) // grants that ended meanwhile
	o := &offline{hub: hub, store: st, conns: newPipeListener(), served: make(chan struct{})}
	a := &admin{hub: hub, store: st, domain: cfg.Domain, now: time.Now, log: slog.New(slog.DiscardHandler),
		status: func() serverStatus { return baseStatus(cfg) }}
	o.server = &http.Server{Handler: a.handler(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() {
		defer close(o.served)
		o.server.Serve(o.conns) // always ErrServerClosed, after close
	}()
	return o, nil
}

// prepareData makes the data folder if create, else says that there is none.
func prepareData(cfg Config, create bool) error {
	if create {
		return makeDataDir(cfg.Data)
	}
	if _, err := os.Stat(dataFile(cfg)); errors.Is(err, fs.ErrNotExist) {
		return withHint(fmt.Errorf("no data in %s", cfg.Data), hintNoDir)
	} else if err != nil {
		return err
	}
	return nil
}

// makeDataDir makes the folder for its owner only.
func makeDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	return nil
}

// openData opens the data file and a hub on it.
func openData(cfg Config, wait time.Duration, log *slog.Logger) (*store.Store, *presence.Hub, error) {
	limits := cfg.hubLimits()
	st, err := store.Open(dataFile(cfg), store.Options{Now: time.Now, Limits: limits, Timeout: wait, Log: log})
	if err != nil {
		return nil, nil, err
	}
	hub, err := presence.New(presence.Config{
		Store: st, Now: time.Now, Key: st.Key(), Limits: limits, Linger: cfg.Device.Linger.Duration,
	})
	if err != nil {
		return nil, nil, errors.Join(err, st.Close())
	}
	return st, hub, nil
}

// hubLimits are the core's limits as configured.
func (c *Config) hubLimits() presence.Limits {
	l := presence.DefaultLimits()
	l.NotificationBytes = c.Limits.NotificationBytes
	l.QueuePerApp = c.Limits.QueuePerApp
	l.TTLDefault = c.Limits.TTLDefault.Duration
	l.TTLMax = c.Limits.TTLMax.Duration
	l.CollapseKeys = c.Limits.CollapseKeys
	l.SocketsPerUser = c.Limits.SocketsPerUser
	l.RequestsPerUser = c.Limits.RequestsPerUser
	return l
}

// baseStatus is what is true of a data folder with and without a server.
func baseStatus(cfg Config) serverStatus {
	data, err := filepath.Abs(cfg.Data)
	if err != nil {
		data = cfg.Data
	}
	return serverStatus{Version: programVersion().Version, Data: data, Domain: cfg.Domain}
}

func (o *offline) client() *client {
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return o.conns.dial(ctx)
	}}
	return &client{http: &http.Client{Transport: t}, offline: o}
}

// close ends the service and closes the data file.
func (o *offline) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := o.server.Shutdown(ctx) // lets a request end that nobody waits for any more
	if err != nil {
		err = o.server.Close()
	}
	<-o.served
	o.hub.Close()
	return errors.Join(err, o.store.Close())
}

// pipeListener hands out connections in memory.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, io.ErrClosedPipe
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
