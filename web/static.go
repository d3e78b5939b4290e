package web

import (
	"crypto/sha256"
	"encoding/hex"
	"mime"
	"net/http"
	"path"
	"strconv"
)

// asset is a static file, the same for everybody.
type asset struct {
	body []byte
	kind string // Content-Type
	hash string // of body; its version
}

func loadStatic() (map[string]asset, error) {
	entries, err := files.ReadDir("static")
	if err != nil {
		return nil, err
	}
	static := map[string]asset{}
	for _, e := range entries {
		body, err := files.ReadFile("static/" + e.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(body)
		static[e.Name()] = asset{body, kindOf(e.Name()), hex.EncodeToString(sum[:8])}
	}
	return static, nil
}

// kindOf does not depend on what the machine thinks of file names, where it matters.
func kindOf(name string) string {
	switch path.Ext(name) {
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// staticURL is the address of a static file, in this version of it.
func (s *Site) staticURL(name string) string { return "/static/" + name + "?v=" + s.static[name].hash }

// getStatic serves a file. Under its versioned address it never changes; under the plain one a browser asks each time
// and mostly hears that it has not changed. Any page anywhere may import the module presence.js, and
// any worker presence-sw.js.
func (s *Site) getStatic(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	a, ok := s.static[name]
	if !ok {
		s.fail(w, r, errNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("ETag", `"`+a.hash+`"`)
	h.Set("Cache-Control", "public, no-cache")
	if r.URL.Query().Get("v") == a.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	switch name {
	case "presence-sw.js": // also for the whole of this site, and for a worker of another
		h.Set("Service-Worker-Allowed", "/")
		fallthrough
	case "presence.js":
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	}
	if r.Header.Get("If-None-Match") == `"`+a.hash+`"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.Write(a.body)
}
