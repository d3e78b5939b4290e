// Package presence is the core of Presenced: who is there, who may know, and what waits for whom.
//
// It promises:
//
//  1. Nothing about a user reaches an app outside an active [Grant], while it is paused or its windows are closed,
//     or while she is invisible.
//  2. Every end of a device's session, clean or not, ends in exactly one [Offline] for each app that saw it.
//  3. One slow, dead or hostile peer costs the others nothing: the hub never waits for a connection.
//
// It has no socket, no XML, no JSON, no disk and no clock of its own: time comes from [Config.Now] and
// [Hub.Advance], what must survive goes through the small interfaces of [Store].
//
// # Handles, not callbacks
//
// An edge asks the [Hub] for a handle and takes from it; the hub never calls an edge.
//
//	device edge   Hub.Attach → *Session   Publish, Next, Confirm, Close   woken through a Ready queue
//	app edge      Hub.Link   → *Link      Take, Notify, Probe, Close      woken by Link.Wake, one slot
//	waking        Hub.Urgent → *Urgent    Next, Lost, Close               woken by Urgent.Wake, one slot
//
// # How a change travels
//
// [Session.Publish] runs [Step], a pure function, on the device's [State]. If what apps see has changed,
// the device's one word of state is stored, and each view of it is pushed on its link's list if it is not
// there yet. A view is the pair of a present device and a linked app that may see it. The app's writer
// pops views in [Link.Take] and reads what is true at that moment: a device stands in the list once, the
// last state wins, arrival order is kept, the list is bounded by what is visible, nothing is allocated and
// nobody waits.
//
// A view exists if and only if its device has told a status at least once, its grant is active and its link
// is open. Where the grant leaves devices out, one that stands for all of them has the views: see whole.go. [Hub.Link] makes the views of those already there, shard by shard under the shard's lock, and so
// misses none and doubles none.
//
// # Whom a notification is for
//
// One user, or one of her devices ([Link.Notify]); several at once ([Link.NotifyAll]); who subscribed to topics
// ([Link.NotifyTopic]); the members of a [DeviceGroup] ([Link.NotifyGroup]). However it came, each one goes through a
// grant that is looked up with the user's stripe held, and what several get together is one commit.
//
// A notification that comes again because its acceptance was lost is known by its [Mark]: what each connection has sent,
// its [Trail], is remembered in the commit that accepts it.
//
// # Who looks
//
// [Hub.Watch] shows what happens as [Event]s: with an e-mail that user's own and nobody else's, for her eyes, with ""
// everything. It is a second way beside the links, with other rules: the core writes into a bounded ring and never
// waits, and what is not taken in time is lost and counted.
//
// # Ownership and locks
//
// Users live in 64 shards by hash of the e-mail, one mutex each. A user is in memory while a device is
// attached or lingering, or while a link still has to be told about one. Lock order:
//
//	grant stripe (RW, by user)  >  shard  >  link, ready queue  >  watchers, a watcher's ring
//
// A link's taking (held in [Link.Take]) comes before shards, an app's linking before that: see share.go, where links
// come, go, are away and move users, and where nobody takes meanwhile.
//
// There is no I/O under a shard or link lock. Under a grant stripe there is: changing a grant writes to the
// store and then to memory, and nobody can notify through the grant in between.
package presence
