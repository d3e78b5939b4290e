package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

//go:embed pages
var pages embed.FS

// Config is what the pages say of the gateway.
type Config struct {
	Origin    string // public origin, such as https://presence.example.org
	Domain    string // the gateway's own XMPP domain
	Component string // address for components; "": none without TLS
	Version   string
}

// Site serves the pages. It is immutable and safe for concurrent use.
type Site struct {
	mux   *http.ServeMux
	front []byte
	style string // its hash, for the policy
}

// New renders the pages that are the same for everybody. Its errors are mistakes in the templates.
func New(c Config) (*Site, error) {
	style, err := pages.ReadFile("pages/style.css")
	if err != nil {
		return nil, err
	}
	t, err := template.ParseFS(pages, "pages/front.html")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, struct {
		Config
		Socket string
		Style  template.CSS // our own file
	}{c, socketURL(c.Origin), template.CSS(style)})
	if err != nil {
		return nil, fmt.Errorf("front page: %w", err)
	}
	sum := sha256.Sum256(style)
	s := &Site{mux: http.NewServeMux(), front: b.Bytes(), style: base64.StdEncoding.EncodeToString(sum[:])}
	s.mux.HandleFunc("GET /{$}", s.getFront)
	return s, nil
}

// socketURL is where devices connect: ws for an origin of http, wss for https.
func socketURL(origin string) string { return "ws" + strings.TrimPrefix(origin, "http") + "/presence" }

// ServeHTTP answers with a page, or 404, or 405 for a method that changes something.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.protect(w.Header())
	s.mux.ServeHTTP(w, r)
}

// protect sets the headers that every answer has.
func (s *Site) protect(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'sha256-"+s.style+
		"'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

func (s *Site) getFront(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(s.front)))
	w.Header().Set("Cache-Control", "no-cache")
	w.Write(s.front)
}
