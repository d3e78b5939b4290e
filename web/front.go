package web

import "net/http"

func (s *Site) frontRoutes(mux *http.ServeMux) { mux.HandleFunc("GET /{$}", s.getFront) }

// front is the data of pages/front.html.
type front struct {
	Domain, Component, Socket string
	SignedIn                  string // e-mail; "": the sign-in form is shown
	Login                     loginForm
}

func (s *Site) getFront(w http.ResponseWriter, r *http.Request) {
	email, err := s.user(r)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.render(w, r, "front", s.frontData(email, s.newLoginForm(r.URL.Query().Get("next"))))
}

func (s *Site) frontData(email string, form loginForm) front {
	return front{s.cfg.Domain, s.cfg.Component, s.socketURL(), email, form}
}
