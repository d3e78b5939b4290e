package main

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// ccsServer is an app server on the CCS endpoint: it writes literal bytes and waits for others.
type ccsServer struct {
	t    *testing.T
	conn net.Conn
	came strings.Builder // not waited for yet
}

// dialCCS connects, logs in and binds.
func dialCCS(t *testing.T, addr, id, key string) *ccsServer {
	t.Helper()
	c := &ccsServer{t: t, conn: tls.Client(dialTCP(t, addr), &tls.Config{InsecureSkipVerify: true})}
	t.Cleanup(func() { c.conn.Close() })
	const open = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='gcm.googleapis.com' version='1.0'>"
	c.send(open)
	c.wait("PLAIN</mechanism></mechanisms></stream:features>")
	c.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + base64.StdEncoding.EncodeToString([]byte("\x00"+id+"@gcm.googleapis.com\x00"+key)) + "</auth>")
	c.wait(`<success xmlns="urn:ietf:params:xml:ns:xmpp-sasl"/>`)
	c.send(open)
	c.wait("</stream:features>")
	c.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
	c.wait("</jid></bind></iq>")
	return c
}

func (c *ccsServer) send(s string) {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(s)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *ccsServer) gcm(json string) {
	c.t.Helper()
	c.send(`<message id=""><gcm xmlns="google:mobile:data">` + json + `</gcm></message>`)
}

// wait reads until this has come, and returns what is before it.
func (c *ccsServer) wait(want string) string {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	for {
		if before, rest, ok := strings.Cut(c.came.String(), want); ok {
			c.came.Reset()
			c.came.WriteString(rest)
			return before
		}
		n, err := c.conn.Read(buf)
		if err != nil {
			c.t.Fatalf("waiting for %q: %v after %q", want, err, c.came.String())
		}
		c.came.Write(buf[:n])
	}
}

// TestCCS: an app server of Google's time, from the configuration to the end of the gateway, on both ports.
func TestCCS(t *testing.T) {
	cfg := testConfig(t)
	cfg.CCS.TLSCert, cfg.CCS.TLSKey = writeCertificate(t, t.TempDir(), "ccs")
	cfg.CCS.Listen, cfg.CCS.PreprodListen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.CCS.Burst, cfg.CCS.Rate = 2, 0.001
	g := startTest(t, cfg)
	var app credentials
	onData(t, cfg, &app, "app", "add", "Chat", "--component", "chat.example.org")
	onData(t, cfg, new(struct{}), "grant", "allow", "ann@example.org", app.AppID)
	d := dialDevice(t, websocket.Dialer{}, "ws://"+g.addrs()["http"], "ann@example.org", "phone", "dev")
	var devices []struct {
		Device    string
		Addresses map[string]string
	}
	onData(t, cfg, &devices, "device", "list", "ann@example.org")
	if len(devices) != 1 || !strings.Contains(devices[0].Addresses[app.AppID], "/") {
		t.Fatalf("%+v", devices)
	}
	token := devices[0].Addresses[app.AppID]
	if _, out, _ := cliTest(t, nil, "device", "list", "ann@example.org", "--data", cfg.Data); !strings.Contains(out, app.AppID+"="+token) {
		t.Errorf("the table has no addresses:\n%s", out)
	}
	var servers []*ccsServer
	for _, name := range []string{"ccs", "ccs_preprod"} {
		if _, ok := g.bound[name].(*goneListener); !ok {
			t.Errorf("%s does not notice app servers that are gone", name)
		}
	}
	for _, name := range []string{"ccs", "ccs_preprod"} {
		c := dialCCS(t, g.addrs()[name], app.AppID, app.APIKey)
		servers = append(servers, c)
		c.gcm(fmt.Sprintf(`{"to":"%s","message_id":"%s","notification":{"body":"hello"}}`, token, name))
		c.wait(`{"message_type":"ack","from":"` + token + `","message_id":"` + name + `"}`)
		for f := d.read(); len(f.Notifications) == 0 || f.Notifications[0].Message != "hello"; f = d.read() {
		}
	}
	servers[0].gcm(fmt.Sprintf(`{"to":"%s","message_id":"3","notification":{"body":"hello"}}`, token))
	servers[0].wait(`"error":"DEVICE_MESSAGE_RATE_EXCEEDED"`)
	stopped := make(chan error, 1)
	go func() { stopped <- g.Stop() }()
	for _, c := range servers {
		c.wait(`"control_type":"CONNECTION_DRAINING"`)
		c.gcm(`{"to":"` + token + `","message_id":"late"}`)
		c.wait(`"error":"CONNECTION_DRAINING"`)
		c.send("</stream:stream>")
		c.wait("</stream:stream>")
	}
	d.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
