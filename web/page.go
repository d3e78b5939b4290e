package web

import (
	"bytes"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"presenced/presence/errno"
)

// maxPage bounds a rendered page, in bytes. What would be longer is a mistake in bounding a list.
const maxPage = 100 << 10

// frame is what pages/layout.html is rendered with; a page's own templates get Data.
type frame struct {
	Email   string // who is signed in; "": nobody
	Path    string // of the request
	Nav     []link
	Dev     bool
	Version string
	Data    any
}

// loadPages parses each pages/NAME.html together with the layout. A page defines "title" and "main", and may
// define "head" for its scripts; what several pages share is in pages/parts. Its functions: static NAME is the address of a static file.
func (s *Site) loadPages() (map[string]*template.Template, error) {
	layout, err := template.New("layout.html").Funcs(template.FuncMap{
		"static": s.staticURL,
	}).ParseFS(files, "pages/layout.html", "pages/parts/*.html")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "pages/*.html")
	if err != nil {
		return nil, err
	}
	pages := map[string]*template.Template{}
	for _, name := range names {
		t, err := layout.Clone()
		if err != nil {
			return nil, err
		}
		if t, err = t.ParseFS(files, name); err != nil {
			return nil, err
		}
		pages[strings.TrimSuffix(path.Base(name), ".html")] = t
	}
	delete(pages, "layout")
	return pages, nil
}

// page is a page for who is signed in: f returns the data of pages/NAME.html. Who is not signed in gets to the sign-in
// form and from there back.
func (s *Site) page(name string, f func(r *http.Request, email string) (any, error)) http.HandlerFunc {
	return s.signedIn(func(w http.ResponseWriter, r *http.Request, email string) {
		data, err := f(r, email)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		s.render(w, r, name, data)
	})
}

// act is a form of who is signed in. f does it and returns the local path to show next; programs that ask for JSON
// get {"result":"OK"} instead. The form was read already: use r.PostForm.
func (s *Site) act(f func(r *http.Request, email string) (next string, err error)) http.HandlerFunc {
	return s.signedIn(func(w http.ResponseWriter, r *http.Request, email string) {
		if err := readForm(r); err != nil {
			s.fail(w, r, err)
			return
		}
		next, err := f(r, email)
		switch {
		case err != nil:
			s.fail(w, r, err)
		case wantsJSON(r):
			s.reply(w, result{"OK"})
		default:
			s.see(w, r, next)
		}
	})
}

type result struct {
	Result string `json:"result"`
}

// signedIn runs f for who is signed in.
func (s *Site) signedIn(f func(w http.ResponseWriter, r *http.Request, email string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		email, err := s.user(r)
		switch {
		case err != nil:
			s.fail(w, r, err)
		case email != "":
			f(w, r, email)
		case (r.Method == http.MethodGet || r.Method == http.MethodHead) && !wantsJSON(r):
			s.see(w, r, "/?next="+url.QueryEscape(r.URL.RequestURI()))
		default:
			s.fail(w, r, errSignedOut)
		}
	}
}

// adminOnly is signedIn for admins. For everybody else there is nothing here; where there are no admins nobody is even
// asked to sign in.
func (s *Site) adminOnly(f func(w http.ResponseWriter, r *http.Request, email string)) http.HandlerFunc {
	asks := s.signedIn(func(w http.ResponseWriter, r *http.Request, email string) {
		if !s.isAdmin(email) {
			s.fail(w, r, errNotFound)
			return
		}
		f(w, r, email)
	})
	return func(w http.ResponseWriter, r *http.Request) {
		if len(s.cfg.Admins) == 0 {
			s.fail(w, r, errNotFound)
			return
		}
		asks(w, r)
	}
}

// see sends a browser to a path of ours, with GET. What is no such path becomes /.
func (s *Site) see(w http.ResponseWriter, r *http.Request, next string) {
	w.Header().Set("Location", localPath(next))
	w.WriteHeader(http.StatusSeeOther)
}

// localPath returns next if it is a path of this site, else "/". Browsers read \ as / and drop tabs and line ends, so
// nothing of the kind is a path.
func localPath(next string) string {
	if len(next) > maxNext || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") {
		return "/"
	}
	for _, c := range []byte(next) {
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return "/"
		}
	}
	u, err := url.Parse(next)
	if err != nil || u.IsAbs() || u.Host != "" || u.User != nil || strings.HasPrefix(path.Clean(u.Path), "//") {
		return "/"
	}
	return next
}

const maxNext = 2048 // bytes

// readForm parses a form that was posted; JSON is left for who expects it.
func readForm(r *http.Request) error {
	if sendsJSON(r) {
		r.PostForm, r.Form = url.Values{}, r.URL.Query()
		return nil
	}
	if err := r.ParseForm(); err != nil {
		return formError(err)
	}
	return nil
}

func formError(err error) error {
	if e := asError(err); e.Status == http.StatusRequestEntityTooLarge {
		return e
	}
	return &Error{Status: http.StatusBadRequest, Errno: errno.BadJSON, Text: "That form cannot be read.", Cause: err}
}

// render answers with pages/NAME.html inside the layout.
func (s *Site) render(w http.ResponseWriter, r *http.Request, name string, data any) {
	s.renderStatus(w, r, http.StatusOK, name, data)
}

func (s *Site) renderStatus(w http.ResponseWriter, r *http.Request, status int, name string, data any) {
	email, _ := s.user(r) // who cannot be looked up is shown as signed out
	f := frame{Email: email, Path: r.URL.Path, Dev: s.cfg.Dev, Version: s.cfg.Version, Data: data}
	for _, l := range s.nav {
		if email != "" && (!l.Admin || s.isAdmin(email)) {
			f.Nav = append(f.Nav, l)
		}
	}
	b, err := s.execute(name, f)
	if err != nil {
		s.cfg.Log.Error("rendering a page", "page", name, "error", err)
		http.Error(w, "Something went wrong here.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	w.Write(b)
}

// execute renders a page whole before anything is written, so that a failure is no half page.
func (s *Site) execute(name string, f frame) ([]byte, error) {
	t := s.pages[name]
	if t == nil {
		return nil, fmt.Errorf("there is no page %q", name)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, f); err != nil {
		return nil, err
	}
	if b.Len() > maxPage {
		return nil, fmt.Errorf("%d bytes, more than %d", b.Len(), maxPage)
	}
	return b.Bytes(), nil
}
