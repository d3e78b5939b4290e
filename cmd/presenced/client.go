package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"presenced/store"
)

const (
	lockWait  = 3 * time.Second        // for a data file in use by a server that starts or stops
	lockTry   = 200 * time.Millisecond // each time the socket is asked again
	hintNoDir = `start a server with "presenced serve", or register a first app with "presenced app add"`
)

// client is a command's way to the administration service: of the server that runs on the data folder, or of one
// made for this command alone. It belongs to one command, which closes it.
type client struct {
	http    *http.Client
	offline *offline // nil: a server runs
}

// connect finds the server on the data folder, or opens the data. A folder without data is an error unless create.
func (c *cli) connect(ctx context.Context, create bool) (*client, error) {
	cfg, err := c.config()
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(lockWait)
	for {
		cl, err := dial(ctx, cfg)
		if err == nil || !errors.Is(err, errNoServer) {
			return cl, err
		}
		o, err := openOffline(cfg, create, lockTry)
		if err == nil {
			return o.client(), nil
		}
		if !errors.Is(err, store.ErrInUse) {
			return nil, err
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, withHint(fmt.Errorf("%s is in use, but nothing answers on %s", dataFile(cfg), socketFile(cfg)),
				"another presenced is starting, stopping or stuck; try again, or stop it")
		}
	}
}

func dataFile(c Config) string   { return filepath.Join(c.Data, "presenced.db") }
func socketFile(c Config) string { return filepath.Join(c.Data, "admin.sock") }

// errNoServer: nobody listens on admin.sock.
var errNoServer = errors.New("no server runs on this data folder")

// dial reaches a running server.
func dial(ctx context.Context, cfg Config) (*client, error) {
	path := socketFile(cfg)
	conn, err := dialSocket(ctx, path)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			return nil, withHint(fmt.Errorf("%s: %w", path, fs.ErrPermission),
				"run this as the user that runs the server")
		}
		return nil, errNoServer
	}
	conn.Close()
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialSocket(ctx, path)
	}}
	return &client{http: &http.Client{Transport: t}}, nil
}

// close lets go of the server or of the data.
func (cl *client) close() error {
	cl.http.CloseIdleConnections()
	if cl.offline != nil {
		return cl.offline.close()
	}
	return nil
}

// with runs f on a client.
func (c *cli) with(ctx context.Context, create bool, f func(*client) error) (err error) {
	cl, err := c.connect(ctx, create)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cl.close()) }()
	return f(cl)
}

// ask sends in as JSON (nil: nothing) and returns the body of a good answer; the caller closes it.
func (cl *client) ask(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	return cl.send(ctx, method, path, body)
}

func (cl *client) send(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://presenced"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := cl.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the server: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	return nil, readError(resp)
}

// readError makes an error of an answer that is none of success.
func readError(resp *http.Response) error {
	var e apiError
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAdminBody))
	if err == nil {
		err = json.Unmarshal(b, &e)
	}
	if err != nil || e.Text == "" {
		return withHint(fmt.Errorf("the server answered %s", resp.Status),
			"is it the same version as this command? see presenced status")
	}
	if e.Hint != "" {
		return withHint(&e, e.Hint)
	}
	return &e
}

// call is ask with the answer read into out.
func (cl *client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := cl.ask(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// each reads an array element by element.
func each[T any](body io.Reader, f func(T) error) error {
	d := json.NewDecoder(body)
	if _, err := d.Token(); err != nil { // [
		return fmt.Errorf("reading the answer: %w", err)
	}
	for d.More() {
		var v T
		if err := d.Decode(&v); err != nil {
			return fmt.Errorf("reading the answer: %w", err)
		}
		if err := f(v); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil { // ]: without it the list is not whole
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// list prints an array that the service streams: as it is for programs, as a table for people.
func list[T any](ctx context.Context, c *cli, path string, t *table, row func(T) []string) error {
	return c.with(ctx, false, func(cl *client) error {
		body, err := cl.ask(ctx, http.MethodGet, path, nil)
		if err != nil {
			return err
		}
		defer body.Close()
		if c.json {
			_, err := io.Copy(c.stdout, body)
			return err
		}
		if err := each(body, func(v T) error { return t.add(row(v)...) }); err != nil {
			return err
		}
		return t.close()
	})
}

// maxSocketPath is the least that systems take as the path of a unix socket (macOS: 104 with the zero).
const maxSocketPath = 103

// dialSocket connects to a unix socket, whatever the length of its path.
func dialSocket(ctx context.Context, path string) (net.Conn, error) {
	short, done, err := shortPath(path)
	if err != nil {
		return nil, err
	}
	defer done()
	var d net.Dialer
	return d.DialContext(ctx, "unix", short)
}

// shortPath is a name for path that fits into a socket's address: a long one goes through its open folder.
func shortPath(path string) (short string, done func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && len(rel) <= maxSocketPath {
			return rel, func() {}, nil
		}
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	short = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	if _, err := os.Stat(filepath.Dir(short)); err != nil {
		dir.Close()
		return "", nil, fmt.Errorf("%s: the path is too long for a socket; use a shorter data folder", path)
	}
	return short, func() { dir.Close() }, nil
}

// query makes ?a=b of pairs, leaving out empty values.
func query(pairs ...string) string {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Add(pairs[i], pairs[i+1])
		}
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// pathOf joins path parts, each escaped.
func pathOf(parts ...string) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString("/" + url.PathEscape(p))
	}
	return b.String()
}
