package web

import (
	"net/http"
	"strings"
)

// policy is what a page may do beyond what all may.
type policy struct {
	formAction string // a source beside 'self'
	ancestors  string // who may frame it; "": nobody
}

// protect sets the headers that every answer has.
func (s *Site) protect(h http.Header) {
	s.setPolicy(h, policy{})
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin") // not no-referrer: browsers would send Origin: null with our own forms
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	if s.secure() {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// setPolicy replaces the Content-Security-Policy of a page before it is written.
func (s *Site) setPolicy(h http.Header, p policy) {
	ancestors := "'none'"
	if p.ancestors != "" {
		ancestors = p.ancestors
		h.Del("X-Frame-Options")
	} else {
		h.Set("X-Frame-Options", "DENY")
	}
	form := "'self'"
	if p.formAction != "" {
		form += " " + p.formAction
	}
	h.Set("Content-Security-Policy", strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "manifest-src 'self'",
		"connect-src 'self' " + strings.TrimSuffix(s.socketURL(), "/presence"),
		"base-uri 'none'", "form-action " + form, "frame-ancestors " + ancestors,
	}, "; "))
}
