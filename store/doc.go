// Package store keeps on disk what Presenced must not forget, in one bbolt file.
//
// It promises:
//
//  1. A notification that was accepted is on disk: kill -9 or loss of power at any moment loses none. Accepted
//     means that the [presence.Commit] which [Store.Enqueue] returned has ended without an error.
//  2. What was confirmed, purged or revoked, and the commit of that has ended, never comes back.
//  3. Memory never runs ahead of the disk: the index of the queue changes only after a commit returned nil.
//     A commit that fails changes nothing for anybody who shared it.
//  4. A notification keeps its number for ever, and a number is never given twice.
//
// # Group commit
//
// One goroutine owns every write. Callers append their work to a bounded backlog and get the [presence.Commit]
// that all of the next group share; while one group is being written the next one gathers. There is no timer:
// who is alone is written at once, and under load the groups grow by themselves, the more because the goroutine lets
// those it has just woken run before it looks again. Work is carried out in the order of the calls.
//
// Inside a group, decisions (is the queue full, does a collapse key replace something) are taken on the index as
// it is on disk plus an overlay of what the group has staged so far. After bbolt's commit the overlay is applied
// to the index, then everybody is woken. An answer that depends on what is stored (a name that is taken) is given
// by a check before the work writes anything, so that one refusal never hurts the others of its group.
//
// If bbolt reports an error after its meta page may have reached the disk, nobody can say what is stored. Then the
// store takes no more writes until the file is opened again; [Store.Stats] and every call say so.
//
// # The queue
//
// One growing number is the key of all queues together, because what counts for the speed of a B+tree is how many
// pages a commit touches: new notifications fill the last page, whoever they are for. Which numbers wait for whom
// is in memory ([index]): 40 bytes and no pointer for each notification, 32 for each user, rebuilt at the start.
// A user for whom nothing waits costs no disk access.
//
// A purge takes effect at once, whatever its size: its commit writes one mark (see purged), and the records behind
// it go in slices of 1,000 with the commits that follow. Expired ones are neither returned nor counted from the
// moment they expire; [Store.Sweep] removes them, in slices too.
//
// # Key layout
//
// Format version 4; a file of version 1, which has neither sessions nor activity, 2, which has no subscriptions, or 3,
// which has neither trails nor device groups, is brought up when it is opened. 00 is one zero byte; no e-mail, appid, puid or device id contains one (what would is refused).
// be64 is big-endian, so that bytes sort as numbers do. A time in a key is be64(Unix seconds, sign bit flipped)
// be32(nanoseconds).
//
//	bucket             key                         value
//	meta               "version"                   be64 format version
//	                   "key"                       32 random bytes, made once (Store.Key)
//	                   "push_key"                  private key of P-256, made when it is asked for (Store.PushKey)
//	apps               appid                       JSON presence.App
//	apps_by_component  component                   appid
//	users              email                       JSON presence.User
//	grants             email 00 appid              JSON presence.Grant
//	grants_by_app      appid 00 email              nothing
//	grants_by_puid     appid 00 puid               email
//	grants_by_until    time email 00 appid         nothing; only grants that end
//	audit              email 00 be64 n             JSON presence.AuditEntry; n counts up without a gap, 1,000 are kept
//	tokens             SHA-256 of the secret       JSON presence.Token without Hash
//	tokens_by_email    email 00 SHA-256            nothing
//	sessions           SHA-256 of the cookie       JSON session; 100 are kept for a user, 10,000 of nobody
//	sessions_by_email  email 00 SHA-256            nothing; not of sessions that were ended
//	sessions_by_until  time SHA-256                nothing
//	activity           email 00 be64 n             JSON presence.Event; n counts up without a gap, 1,000 and 35 days are kept
//	topics             appid 00 topic 00 email 00 device    puid of the grant under which the device subscribed
//	topics_by_user     email 00 appid 00 topic 00 device    the same
//	devices            email 00 device             JSON presence.DeviceRecord
//	trails             be64 n                      what one connection of an app sent in one commit: be64 Unix nanoseconds, then
//	                                               16 bytes for each message; n counts up
//	device_groups         appid 00 name            JSON presence.DeviceGroup; never without members
//	device_groups_by_key  appid 00 key             name
//	device_group_members  local 00 appid 00 name   nothing; local is the PUID or the e-mail of a member
//	device_group_count    appid                    be64 how many the app has, if any
//	push               email 00 device             JSON presence.PushSubscription; only of devices that are remembered
//	push_by_endpoint   SHA-256 of the endpoint     email 00 device
//	notices            appid 00 be64 id            JSON presence.Notice; 100,000 and 90 days are kept for an app
//	notice_seq         appid                       be64 last id; ids of an app count up without a gap
//	requests           email 00 appid              JSON presence.Request
//	requests_by_app    appid 00 email              nothing
//	upstream           appid 00 be64 seq           JSON presence.Upstream; the bucket's sequence is the last number given
//	upstream_by_user   email 00 appid 00 be64 seq  time it expires
//	upstream_by_until  time appid 00 be64 seq      nothing
//	queue              be64 seq                    record, see below; the bucket's sequence is the last number given
//	dropped            email 00 appid              be64 how many were discarded because the queue was full
//	purged             email 00 appid              be64 seq: records of this user and app (no appid: any app) up to
//	                                               here are dead and about to be deleted
//
// A record of the queue is binary; a string is its length as uvarint and its bytes:
//
//	version 1, flags (1 receipt, 2 high, 4 has data), be64 expires, be64 time (Unix nanoseconds, 0: none),
//	email, appid, device, collapse, puid, ref, from, source, message, action, data
package store
