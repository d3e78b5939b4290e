package web

import (
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/html"

	"presenced/identity"
	"presenced/presence"
)

// formOf is what the first form in the main part of a page would send as it stands, without its buttons.
func formOf(page string) url.Values {
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		panic(err)
	}
	fields := url.Values{}
	main := find(doc, "main")
	if main == nil {
		return fields
	}
	if form := find(main, "form"); form != nil {
		walk(form, func(n *html.Node) {
			if n.Data != "input" {
				return
			}
			a := attributes(n)
			_, checked := a["checked"]
			if choice := a["type"] == "checkbox" || a["type"] == "radio"; choice && !checked {
				return
			}
			fields.Add(a["name"], a["value"])
		})
	}
	return fields
}

func walk(n *html.Node, f func(*html.Node)) {
	if n.Type == html.ElementNode {
		f(n)
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		walk(c, f)
	}
}

func find(n *html.Node, name string) (found *html.Node) {
	walk(n, func(c *html.Node) {
		if found == nil && c.Data == name {
			found = c
		}
	})
	return found
}

func attributes(n *html.Node) map[string]string {
	m := map[string]string{}
	for _, a := range n.Attr {
		m[a.Key] = a.Val
	}
	return m
}

// tokenFor makes a token as the command line does, for one device or for any ("").
func (h *house) tokenFor(email, device string) string {
	h.t.Helper()
	secret := identity.NewSecret()
	t := presence.Token{Hash: identity.HashSecret(secret), Email: email, Device: device, Created: h.now.Now()}
	if err := h.store.PutTokens([]presence.Token{t}); err != nil {
		h.t.Fatal(err)
	}
	return secret
}

// cookieOf is the session cookie that an answer sets; nil: none.
func cookieOf(a *answer) *http.Cookie {
	for _, c := range a.Cookies() {
		if strings.HasSuffix(c.Name, "presenced") {
			return c
		}
	}
	return nil
}
