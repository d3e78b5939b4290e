// Package web holds the pages that people see in a browser.
//
// It promises that a page works without scripts, loads nothing from elsewhere, cannot be framed, and that
// nothing a stranger wrote reaches it unescaped. For now there is one page, GET /, which says what runs here
// and how to connect to it.
package web
