//go:build interop

package ccs_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/xml"
	"net"
	"sync"
	"testing"
	"time"

	"mellium.im/sasl"
	"mellium.im/xmlstream"
	"mellium.im/xmpp"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// melliumServer is an app server on mellium.im/xmpp.
type melliumServer struct {
	t      *testing.T
	addr   string
	events chan event
	ctx    context.Context

	mu      sync.Mutex
	session *xmpp.Session             // guarded by mu; nil: not connected
	order   []string                  // guarded by mu: ids of pending
	pending map[string]map[string]any // guarded by mu: sent and not answered
}

func startMellium(t *testing.T, addr string) *foreign {
	ctx, cancel := context.WithCancel(context.Background())
	m := &melliumServer{t: t, addr: addr, events: make(chan event, 4096), ctx: ctx, pending: map[string]map[string]any{}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			m.connect()
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		m.mu.Lock()
		if m.session != nil {
			m.session.Conn().Close()
		}
		m.mu.Unlock()
		<-done
	})
	return &foreign{t: t, events: m.events, do: m.do}
}

// connect serves one connection.
func (m *melliumServer) connect() {
	_, roots := certificate()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", m.addr, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err != nil {
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(m.ctx, patience)
	defer cancel()
	me := jid.MustParse("chat@gcm.googleapis.com")
	s, err := xmpp.NewClientSession(ctx, me, conn, xmpp.SASL("", apiKey, sasl.Plain), xmpp.BindResource())
	if err != nil {
		return
	}
	m.mu.Lock()
	m.session = s
	m.events <- event{Event: "connected"}
	for _, id := range m.order {
		if p, ok := m.pending[id]; ok {
			m.sendLocked(p)
		}
	}
	m.mu.Unlock()
	s.Serve(xmpp.HandlerFunc(m.handle))
	m.mu.Lock()
	m.session = nil
	m.mu.Unlock()
	m.events <- event{Event: "disconnected"}
}

func (m *melliumServer) do(c map[string]any) {
	p, ok := c["raw"].(map[string]any)
	if !ok {
		p = map[string]any{"to": c["to"], "message_id": c["id"]}
		for from, to := range map[string]string{"data": "data", "ttl": "time_to_live", "receipt": "delivery_receipt_requested", "dry": "dry_run"} {
			if v, ok := c[from]; ok {
				p[to] = v
			}
		}
		if body, ok := c["body"]; ok {
			p["notification"] = map[string]any{"title": "T", "body": body, "icon": "icon", "click_action": "https://e/"}
		}
	}
	id := c["id"].(string)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending[id] = p
	m.order = append(m.order, id)
	if m.session != nil {
		m.sendLocked(p)
	}
}

func (m *melliumServer) sendLocked(p map[string]any) {
	text, err := json.Marshal(p)
	if err != nil {
		m.t.Error(err)
		return
	}
	ctx, cancel := context.WithTimeout(m.ctx, patience)
	defer cancel()
	m.session.Send(ctx, stanza.Message{}.Wrap(xmlstream.Wrap(xmlstream.Token(xml.CharData(text)), // it may be cut: then it stays pending
		xml.StartElement{Name: xml.Name{Space: "google:mobile:data", Local: "gcm"}})))
}

func (m *melliumServer) handle(r xmlstream.TokenReadEncoder, start *xml.StartElement) error {
	if start.Name.Local != "message" {
		return nil
	}
	var msg struct {
		Type string `xml:"type,attr"`
		GCM  string `xml:"google:mobile:data gcm"`
		Err  struct {
			Text string `xml:"text"`
		} `xml:"error"`
	}
	if err := xml.NewTokenDecoder(xmlstream.MultiReader(xmlstream.Token(*start), r)).Decode(&msg); err != nil {
		return err
	}
	if msg.Type == "error" {
		m.events <- event{Event: "message-error", Text: msg.Err.Text}
		return nil
	}
	var p struct {
		Type         string          `json:"message_type"`
		ID           string          `json:"message_id"`
		From         string          `json:"from"`
		Registration string          `json:"registration_id"`
		Error        string          `json:"error"`
		Text         string          `json:"error_description"`
		Category     string          `json:"category"`
		Data         json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal([]byte(msg.GCM), &p); err != nil {
		return err
	}
	e := event{Event: p.Type, ID: p.ID, From: p.From, Registration: p.Registration, Error: p.Error, Text: p.Text, Category: p.Category, Data: p.Data}
	switch p.Type {
	case "control":
		e.Event = "draining"
	case "ack", "nack":
		if p.Error != "CONNECTION_DRAINING" {
			m.mu.Lock()
			delete(m.pending, p.ID)
			m.mu.Unlock()
		}
	default:
		if p.Type == "" {
			e.Event = "message"
		}
		m.mu.Lock()
		if m.session != nil {
			m.sendLocked(map[string]any{"to": p.From, "message_id": p.ID, "message_type": "ack"})
		}
		m.mu.Unlock()
	}
	m.events <- e
	return nil
}
