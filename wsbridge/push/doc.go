// Package push wakes devices that hold no connection, through the push service that each of them named: Web Push
// (RFC 8030), encrypted for the device (RFC 8291), signed with the gateway's key (RFC 8292). What UnifiedPush gives an
// app is the same.
//
// It promises:
//
//  1. For whatever is of high priority and waits for a device that is not there, the device is woken, also if the
//     gateway or the push service was down meanwhile: late rather than never, until it has expired.
//  2. Once woken, a device is not woken again until it has been back, or the push service has forgotten it. (After a
//     crash between the two, it may be: the push service replaces the older one, RFC 8030 §5.4.)
//  3. A push service learns that somebody is wanted and nothing else. What is waiting never leaves by this way.
//  4. No request goes to an address that is not public, unless that is allowed; a slow, dead or hostile push service
//     costs its users a bounded time, then they wait longer and longer. One that answers nobody is asked by one of
//     them at a time, at most once a minute in the end, and a user whose devices take long makes room for others.
//
// # Why the content stays here
//
// A push says only that something is waiting. The device connects, takes it, and confirms, as always. Content in the
// push would lie with a third party, encrypted but for weeks, after a grant was revoked, after another device has
// confirmed it, and after it was replaced; it would come twice, in two orders, and with a receipt for neither; and it
// would have to be cut to what push services take. All pushes have the same size.
//
// # What is to be done, and who knows
//
// Nothing here is a queue that could lose a wake-up. [presence.Urgent] says whom to look at; what is the case is read
// each time: [presence.Hub.Missed], and the [presence.PushSubscription] with when it was woken last. Where the line has lost
// somebody, at the start, and once an hour everybody who can be woken is looked at.
//
//	hub ⇒ Urgent ⇒ dispatcher ⇒ workers (one user each) ⇒ push services
//	                  ↑ retries, by time; who was found in a look at everybody
//
// The dispatcher is one goroutine that owns all state; a worker owns the failures of its user while it has them.
package push
