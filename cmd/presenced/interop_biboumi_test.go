//go:build interop

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// These stories have a complete component of somebody else's: biboumi 9, which brings IRC to XMPP. It knows nothing of
// the tests, so they read its log; and it wants more of a server than Presenced does, for it would serve whole chats.

const biboumi = "/usr/bin/biboumi"

func TestInteropBiboumi(t *testing.T) {
	needPeers(t)
	bin := buildPresenced(t)
	for _, story := range []struct {
		name string
		tell func(*interop)
	}{
		{"lives on through restarts", biboumiStays},
		{"answers, and reaches a device", biboumiTalks},
	} {
		t.Run(story.name, func(t *testing.T) {
			t.Parallel()
			story.tell(newInterop(t, bin, library{}))
		})
	}
}

// biboumi starts it as the app's component at the gateway, or whatever listens on xmpp.
func (w *interop) biboumi(xmpp string) *running {
	w.t.Helper()
	dir := w.t.TempDir()
	host, port, _ := net.SplitHostPort(xmpp)
	config := fmt.Sprintf("hostname=%s\npassword=%s\nxmpp_server_ip=%s\nport=%s\ndb_name=%s\nlog_level=0\nidentd_port=0\n",
		appDomain, w.secret, host, port, filepath.Join(dir, "biboumi.sqlite"))
	file := filepath.Join(dir, "biboumi.cfg")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return launch(w.t, "biboumi", exec.Command(biboumi, file))
}

// joined waits until biboumi is connected and has been told of friend's device, under this address if it is known.
func (w *interop) joined(irc *running, tag string) string {
	w.t.Helper()
	irc.want("Authenticated with the XMPP server")
	line := irc.want("RECEIVING: <presence from='"+w.address+"/"+tag, "to='"+appDomain+"'")
	irc.want("SENDING: <presence from='" + appDomain + "' to='" + w.address + "'") // it greets whoever is there
	return attr(line, " from='"+w.address+"/")
}

// attr is what stands in line between mark and the next quote.
func attr(line, mark string) string {
	_, rest, _ := strings.Cut(line, mark)
	value, _, _ := strings.Cut(rest, "'")
	return value
}

// pong waits for a ping of the gateway and biboumi's answer.
func pong(irc *running) {
	irc.t.Helper()
	ping := irc.want("RECEIVING: <iq", "from='localhost'", "<ping xmlns='urn:xmpp:ping'/>")
	irc.want("SENDING: <iq from='"+appDomain+"'", "id='"+attr(ping, " id='")+"'", "type='result'")
}

func biboumiStays(w *interop) {
	w.restart(pingsOften)
	d := w.device("phone")
	irc := w.biboumi(w.gateway.xmpp)
	tag := w.joined(irc, "")
	d.do(status("unavailable"))
	irc.want("RECEIVING: <presence", w.address+"/"+tag, ">away</show>")
	pong(irc)
	pong(irc) // the stream outlived the first

	w.gateway.kill()
	irc.want("XMPP server closed connection")
	w.gateway = w.again(w.gateway)
	w.joined(irc, tag)
	pong(irc)

	w.gateway.stop()
	irc.want("Stream error received", "The server is going away")
	w.gateway = w.again(w.gateway)
	w.joined(irc, tag)

	irc.interrupt()
	if err := irc.ended(); err != nil {
		w.t.Errorf("biboumi ended with %v", err)
	}
	complaints(w.t, irc)
	w.joined(w.biboumi(w.gateway.xmpp), tag)
}

// complaints fails on what biboumi had to say against the gateway. It may notice that nobody is there.
func complaints(t *testing.T, irc *running) {
	t.Helper()
	expected := []string{"The server is going away", "connection attempts failed", "Failed to connect", "Connection reset by peer"}
lines:
	for _, line := range irc.seen {
		if !strings.HasPrefix(line, "[ERROR]") && !strings.HasPrefix(line, "[WARNING]") {
			continue
		}
		for _, e := range expected {
			if strings.Contains(line, e) {
				continue lines
			}
		}
		t.Errorf("biboumi complains: %s", line)
	}
}

// biboumiTalks puts two stanzas on the wire in the gateway's name, as a server would that has clients: Presenced asks
// no questions and its users join no rooms. What comes of them goes the whole way.
func biboumiTalks(w *interop) {
	w.restart(pingsOften)
	d := w.device("phone")
	wire := newWire(w.t, w.gateway.xmpp)
	irc := w.biboumi(wire.addr)
	user := w.address + "/" + w.joined(irc, "")
	d.do(send(map[string]any{"type": "send", "app": "chat", "id": "u1", "data": map[string]string{"text": "hello, biboumi"}}))
	irc.want("RECEIVING: <message from='"+user+"'", ">hello, biboumi</body>")
	d.wait(event{Event: "frame", Frame: wsFrame{Result: "OK"}})

	wire.say <- fmt.Sprintf("<iq type='get' id='q1' from='%s' to='%s'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>", user, appDomain)
	irc.want("SENDING: <iq", "id='q1'", "to='"+user+"'", "type='result'", "category='conference'", "type='irc'", "var='urn:xmpp:ping'")

	// There is no IRC server; biboumi tells the one who would join how it goes.
	wire.say <- fmt.Sprintf("<presence from='%s' to='#room%%127.0.0.1@%s/ann'><x xmlns='http://jabber.org/protocol/muc'/></presence>", user, appDomain)
	for {
		e := d.wait(event{Event: "frame"})
		if n := e.Frame.Notifications; len(n) > 0 {
			if n[0].Source != "127.0.0.1@"+appDomain || !strings.Contains(n[0].Message, "Connecting to 127.0.0.1:") {
				w.t.Errorf("the device got %s", brief(e))
			}
			break
		}
	}
	pong(irc)
	complaints(w.t, irc)
}

// wire is a connection from a component to the gateway on which something can be said in the gateway's name.
type wire struct {
	addr string
	say  chan string // is sent behind the next ping, where a stanza has ended
}

func newWire(t *testing.T, gateway string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{addr: l.Addr().String(), say: make(chan string, 1)}
	server, err := net.Dial("tcp", gateway)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		defer server.Close()
		component, err := l.Accept()
		if err != nil {
			return
		}
		running.Go(func() {
			io.Copy(server, component)
			server.Close()
		})
		w.down(component, server)
	})
	t.Cleanup(func() {
		l.Close()
		server.Close()
		running.Wait()
	})
	return w
}

// down copies from the gateway to the component until either ends.
func (w *wire) down(component net.Conn, server io.Reader) {
	defer component.Close()
	buf := make([]byte, 1<<16)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		component.Write(buf[:n]) // if it is gone, the other direction ends, and the server's side with it
		if bytes.HasSuffix(buf[:n], []byte("</ping></iq>")) || bytes.HasSuffix(buf[:n], []byte("<ping xmlns='urn:xmpp:ping'/></iq>")) {
			select {
			case what := <-w.say:
				io.WriteString(component, what)
			default:
			}
		}
	}
}
