//go:build interop

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestInteropPush wakes a device through a push service that speaks TLS; what arrives is decrypted and verified by
// other programs than those that made it. testdata/push/README.md says how to run it.
func TestInteropPush(t *testing.T) {
	bin := buildPresenced(t)
	for _, story := range []struct {
		name string
		tell func(*interop, *pushService)
	}{
		{"woken once, until it was back", wokenOnce},
		{"killed while the push service is down", wokenAfterCrash},
		{"signed out", wokenNoMore},
	} {
		t.Run(story.name, func(t *testing.T) {
			w, s := newInterop(t, bin, library{}), newPushService(t)
			w.restart(s.env()...)
			story.tell(w, s)
		})
	}
}

// pushService is one, with the only device that it serves.
type pushService struct {
	*httptest.Server
	t      *testing.T
	pushes chan pushRequest
	node   *bufio.Reader
	stdin  io.Writer
	keys   map[string]string
	status chan int // of the next answers; 201 where there is none
}

type pushRequest struct {
	header http.Header
	body   []byte
}

func newPushService(t *testing.T) *pushService {
	t.Helper()
	s := &pushService{t: t, pushes: make(chan pushRequest, 100), status: make(chan int, 100)}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.pushes <- pushRequest{r.Header, body}
		select {
		case code := <-s.status:
			w.WriteHeader(code)
		default:
			w.WriteHeader(http.StatusCreated)
		}
	}))
	t.Cleanup(s.Close)
	s.receiver()
	return s
}

// receiver starts the device's side of the encryption.
func (s *pushService) receiver() {
	cmd := exec.Command("node", "receive.js")
	cmd.Dir = filepath.Join("..", "..", "testdata", "push")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			s.t.Errorf("receive.js ended with %v\n%s", err, stderr.Bytes())
		}
	})
	s.stdin, s.node = stdin, bufio.NewReader(stdout)
	var first struct{ Keys map[string]string }
	s.read(&first)
	s.keys = first.Keys
}

func (s *pushService) read(into any) {
	s.t.Helper()
	line, err := s.node.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, into)
	}
	if err != nil {
		s.t.Fatalf("receive.js: %v", err)
	}
}

// env has a gateway push to here.
func (s *pushService) env() []string {
	file := filepath.Join(s.t.TempDir(), "push.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return []string{"PRESENCED_PUSH_ENABLED=true", "PRESENCED_PUSH_ALLOW_PRIVATE=true", "PRESENCED_PUSH_CONTACT=admin@example.org", "SSL_CERT_FILE=" + file}
}

func (s *pushService) subscription() map[string]any {
	return map[string]any{"endpoint": s.URL + "/wake/1", "expirationTime": nil, "keys": s.keys}
}

// take waits for a push.
func (s *pushService) take() pushRequest {
	s.t.Helper()
	select {
	case p := <-s.pushes:
		return p
	case <-time.After(2 * patience): // a retry may be on its way
		s.t.Fatal("nothing is pushed")
		return pushRequest{}
	}
}

// open decrypts a push, checks who sent it, and returns the payload.
func (s *pushService) open(p pushRequest, key string) string {
	s.t.Helper()
	line, err := json.Marshal(map[string]any{"body": p.body, "authorization": p.header.Get("Authorization"), "origin": s.URL, "key": key})
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.stdin.Write(append(line, '\n')); err != nil {
		s.t.Fatal(err)
	}
	var got struct {
		Payload json.RawMessage
		Claims  struct{ Sub string }
		Error   string
	}
	if s.read(&got); got.Error != "" || got.Claims.Sub != "mailto:admin@example.org" {
		s.t.Fatalf("receive.js: %+v", got)
	}
	return string(got.Payload)
}

// ring has the app send something urgent to friend.
func (a rawApp) ring(w *interop, id string) {
	fmt.Fprintf(a.conn, "<message from='%s' to='%s' id='%s'><body>the content of %s</body><notify xmlns='urn:presenced:notify:0' priority='high'/></message>",
		appDomain, w.address, id, id)
}

// wakeable connects friend's phone, which says where it can be woken, and has it leave. It returns the gateway's key.
func (w *interop) wakeable(s *pushService) string {
	w.t.Helper()
	d := w.start(w.hello("phone", "ack", true, "push", s.subscription()), false)
	key := d.next(event{Event: "frame", Frame: wsFrame{Result: "OK"}}).Frame.PushKey
	if key == "" {
		w.t.Fatal("no push_key")
	}
	d.kill()
	return key
}

func wokenOnce(w *interop, s *pushService) {
	key := w.wakeable(s)
	app := w.rawApp()
	app.ring(w, "first")
	want := `{"waiting":true,"origin":"http://` + w.gateway.http + `","device":"phone"}`
	if got := s.open(s.take(), key); got != want {
		w.t.Errorf("pushed %s, want %s", got, want)
	}
	app.ring(w, "second")
	d := w.start(w.hello("phone", "ack", true), false)
	d.do(send(map[string]any{"type": "ack", "ids": w.heard(d, "the content of first", "the content of second")}))
	d.wait(event{Event: "frame", Frame: wsFrame{Result: "OK", Type: "ack"}})
	if n := len(s.pushes); n != 0 {
		w.t.Errorf("%d pushes too many", n)
	}
	d.kill()
	app.ring(w, "third")
	s.open(s.take(), key)
}

// heard waits for notifications and returns their ids.
func (w *interop) heard(d *peer, messages ...string) (ids []string) {
	w.t.Helper()
	for len(ids) < len(messages) {
		for _, n := range d.wait(event{Event: "frame"}).Frame.Notifications {
			if n.Message != messages[len(ids)] {
				w.t.Fatalf("heard %q, want %q", n.Message, messages[len(ids)])
			}
			if ids = append(ids, n.ID); len(ids) == len(messages) {
				break
			}
		}
	}
	return ids
}

func wokenAfterCrash(w *interop, s *pushService) {
	key := w.wakeable(s)
	app := w.rawApp()
	s.status <- http.StatusServiceUnavailable
	app.ring(w, "first")
	s.take()
	w.gateway.kill()
	w.gateway = w.again(w.gateway)
	w.rawApp().ring(w, "second") // else it would give the device time to come by itself
	if got := s.open(s.take(), key); !strings.Contains(got, `"device":"phone"`) {
		w.t.Error(got)
	}
}

func wokenNoMore(w *interop, s *pushService) {
	w.wakeable(s)
	w.run("", nil, "user", "token", "revoke", friend)
	var token struct{ Token string }
	w.run("", &token, "user", "token", friend)
	w.token = token.Token
	app := w.rawApp()
	app.ring(w, "first")
	d := w.start(w.hello("phone", "ack", true), false)
	w.heard(d, "the content of first")
	if n := len(s.pushes); n != 0 {
		w.t.Errorf("%d pushes to who has signed out", n)
	}
}
