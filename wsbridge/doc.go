// Package wsbridge is the WebSocket edge: JSON frames on one side; on the other a [presence.Session] for each device,
// and a [presence.Link] for each app that comes without XMPP.
//
// It promises:
//
//  1. A notification is confirmed to the core only when the device is known to have it: by its ack, or by
//     the pong to a ping that was written behind it. Until then it stays in the queue.
//  2. What is refused says why, with one errno of one table ([presenced/presence/errno]), and nothing has changed.
//  3. The end of a socket, clean or not, ends its session, and only its own.
//  4. A peer that is slow, silent or hostile costs the others nothing. A frame, the time to identify, the
//     frames a second, the sockets of an address, what was sent and not confirmed, the time a write may
//     take: all have a bound.
//
// # Goroutines
//
// A device has one goroutine, its reader, and that one waits with the smallest stack there is: it reads one
// frame, handles it, answers, and starts its successor. Who has something to write tells the bridge (the
// session through [presence.Ready], the sweep for pings), which starts the device's writer; it ends when
// there is nothing left. There is no timer for each device: one goroutine sweeps over all of them once in a
// tick, comparing when each was last heard.
//
//	reader   → decodeFrame → Session.Publish, Confirm → answer
//	dispatch → writer → Session.Next → framer → frame, ping behind it
//	sweep    → writer → ping;  or the end with 4008
//
// A socket's lock (wmu) keeps answers and notifications whole and in order. The answer to the frame that
// identifies is written under the same hold of it that attaches the session, so nothing can come before it.
//
// An app's conn has a channel in place of a session. Everything is the same but that one more goroutine waits for its
// link and starts the writer, which puts many frames into one write, past the library. What devices sent waits in a
// mail until the app acknowledges it; a notice of the end of a grant until the pong to the ping behind it.
//
//	watch    → writer → Link.Take → frames, ping behind notices
//	reader   → decodeAppFrame → Link.NotifyAll, Delivered → answer
//
// # Storms
//
// A login is the one frame that waits for others: a door gives each of them its moment, evenly spaced, or says
// when to come back; and so many hands do the work. All that is behind the door has no part in this.
//
// # Batteries
//
// Between heartbeats nothing is written to an idle device. What may wait for a quiet one is the core's business (see
// [presence.Quiet]); here it is told when the device is awake anyway: with a ping, and when it says anything by itself.
// heartbeat.go finds the longest silence that a device's network allows, without a timer: the reader notes after how
// long it heard something. A ticket is the core's too: the verifier is not asked for who brings one.
//
// # Choices where the contract is silent
//
//   - The times in reconnect, and in the retry_after of 51, lie behind the drain: before it is over nobody gets in.
//   - All logins have one rate; above it errno 40, then 4029, whatever else is wrong with the assertion.
//   - null is the same as leaving a field out. A known field given twice makes the frame malformed.
//   - An object with members of which none is known is an unknown frame; only {} is a heartbeat.
//   - An ack is answered like any other request. Acks of an unknown id change nothing.
//   - heartbeat outside of its bounds is moved to the nearest, and the answer says which is in force.
//   - A token of another device is an invalid assertion (34).
//   - A frame that names another device than the socket's gets errno 36, as for another e-mail.
//   - Where storage fails while a device identifies, it gets 91 and may try again on the same socket.
//   - With 12 and 13 the reply has "detail", the name of the field, for people.
package wsbridge
