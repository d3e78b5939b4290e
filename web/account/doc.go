// Package account is what can be done with a user's account: her devices, grants, tokens and queues, and the
// account as a whole.
//
// It promises that the command line, commands over XMPP, the HTTP API and the administrator's pages do the same thing
// under the same rules and show it in the same form, because all of them call it here. Who may do what is decided
// before: nothing here asks who is calling. What a user's audit says of it is told by an argument.
//
// Its errors are the core's (presence.ErrNoGrant, ErrNoUser, ErrBadValue, ErrStorage ...); each edge has its own words
// for them.
package account
