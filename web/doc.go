// Package web holds the pages that people see in a browser.
//
// It promises that a page works without scripts, loads nothing from elsewhere, cannot be framed, and that
// nothing a stranger wrote reaches it unescaped; that nothing is changed by a GET or by another site's page; and
// that nobody is sent anywhere but to a path of ours or to an address that an app registered, to the letter.
//
// # How a page is made
//
// [New] makes a [Site]. Each part of it has a file, and in it a function that names its routes. A page for somebody who is signed in is
// [Site.page]: a function from the request and her e-mail to the data of the template pages/NAME.html, which is
// rendered inside pages/layout.html. A form is [Site.act]: a function that does one thing and returns the local
// path to show next. Whatever fails is returned as an error and becomes a page, or problem+json for programs,
// in one place: [Site.fail].
//
// # Sessions
//
// A session is a random cookie whose hash is the key of a record in the store. Only signing in makes one, so strangers
// cannot fill the disk, and it always makes a new one, so nobody can plant one. It ends with the cookie, with its time,
// with the token it was made with, or when its user ends all of hers.
package web
