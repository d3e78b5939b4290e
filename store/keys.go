package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"presenced/presence"
)

// Bucket is the name of a top-level bucket; doc.go has the layout of each.
type bucket string

const (
	inMeta            bucket = "meta"
	inApps            bucket = "apps"
	inAppsByComponent bucket = "apps_by_component"
	inUsers           bucket = "users"
	inGrants          bucket = "grants"
	inGrantsByApp     bucket = "grants_by_app"
	inGrantsByPUID    bucket = "grants_by_puid"
	inGrantsByUntil   bucket = "grants_by_until"
	inAudit           bucket = "audit"
	inTokens          bucket = "tokens"
	inTokensByEmail   bucket = "tokens_by_email"
	inDevices         bucket = "devices"
	inNotices         bucket = "notices"
	inNoticeSeq       bucket = "notice_seq"
	inRequests        bucket = "requests"
	inRequestsByApp   bucket = "requests_by_app"
	inUpstream        bucket = "upstream"
	inUpstreamByUser  bucket = "upstream_by_user"
	inUpstreamByUntil bucket = "upstream_by_until"
	inQueue           bucket = "queue"
	inDropped         bucket = "dropped"
	inPurged          bucket = "purged"
	inSessions        bucket = "sessions"
	inSessionsByEmail bucket = "sessions_by_email"
	inSessionsByUntil bucket = "sessions_by_until"
	inActivity        bucket = "activity"
	inTopics          bucket = "topics"
	inTopicsByUser    bucket = "topics_by_user"
	inTrails          bucket = "trails"

	inDeviceGroups       bucket = "device_groups"
	inDeviceGroupsByKey  bucket = "device_groups_by_key"
	inDeviceGroupMembers bucket = "device_group_members"
	inDeviceGroupCount   bucket = "device_group_count"

	inPush           bucket = "push"
	inPushByEndpoint bucket = "push_by_endpoint"
)

// allBuckets are made when the file is.
func allBuckets() []bucket {
	return []bucket{inMeta, inApps, inAppsByComponent, inUsers, inGrants, inGrantsByApp, inGrantsByPUID, inGrantsByUntil,
		inAudit, inTokens, inTokensByEmail, inDevices, inNotices, inNoticeSeq, inRequests, inRequestsByApp, inUpstream, inUpstreamByUser, inUpstreamByUntil,
		inQueue, inDropped, inPurged, inSessions, inSessionsByEmail, inSessionsByUntil, inActivity,
		inTopics, inTopicsByUser, inTrails, inPush, inPushByEndpoint,
		inDeviceGroups, inDeviceGroupsByKey, inDeviceGroupMembers, inDeviceGroupCount}
}

// of returns the bucket in tx; it exists since Open.
func (b bucket) of(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket([]byte(b)) }

// maxKeyPart bounds each part of a key, in bytes; the core's own bounds are below it.
const maxKeyPart = 1024

// checkKeys refuses what cannot be part of a key, naming it by what it is.
func checkKeys(what string, parts ...string) error {
	for _, p := range parts {
		if p == "" || len(p) > maxKeyPart || strings.IndexByte(p, 0) >= 0 {
			return fmt.Errorf("%w: %s must be 1 to %d bytes and none of them zero", presence.ErrBadValue, what, maxKeyPart)
		}
	}
	return nil
}

// prefixOf is where all keys of a begin, pair one of them.
func prefixOf(a string) []byte { return append(append(make([]byte, 0, len(a)+1), a...), 0) }
func pair(a, b string) []byte  { return append(prefixOf(a), b...) }
func splitPair(k []byte) (a, b string) {
	i := bytes.IndexByte(k, 0)
	if i < 0 {
		return string(k), ""
	}
	return string(k[:i]), string(k[i+1:])
}

// numbered is a key with a number at its end; number reads it.
func numbered(a string, n uint64) []byte { return binary.BigEndian.AppendUint64(prefixOf(a), n) }
func number(k []byte) uint64             { return binary.BigEndian.Uint64(k[len(k)-8:]) }

func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

const timeLen = 12

// appendTime writes t so that bytes sort as times do; any time.Time survives, the zero one too.
func appendTime(b []byte, t time.Time) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(t.Unix())^(1<<63))
	return binary.BigEndian.AppendUint32(b, uint32(t.Nanosecond()))
}

// readTime reads what appendTime wrote from the first timeLen bytes of b.
func readTime(b []byte) time.Time {
	sec := int64(binary.BigEndian.Uint64(b) ^ (1 << 63))
	return time.Unix(sec, int64(binary.BigEndian.Uint32(b[8:]))).UTC()
}

// firstOf and lastOf return the first and the last pair under prefix, which ends with its zero byte; nil: none.
func firstOf(c *bbolt.Cursor, prefix []byte) (k, v []byte) {
	if k, v = c.Seek(prefix); !bytes.HasPrefix(k, prefix) {
		return nil, nil
	}
	return k, v
}

func lastOf(c *bbolt.Cursor, prefix []byte) (k, v []byte) {
	behind := bytes.Clone(prefix)
	behind[len(behind)-1] = 1
	if k, _ = c.Seek(behind); k == nil {
		k, v = c.Last()
	} else {
		k, v = c.Prev()
	}
	if k == nil {
		// Before the first pair, or on a page that this transaction has emptied: there Prev stops (bbolt v1.5.0), Next does not.
		for nk, nv := firstOf(c, prefix); nk != nil; nk, nv = nextOf(c, prefix) {
			k, v = nk, nv
		}
	}
	if !bytes.HasPrefix(k, prefix) {
		return nil, nil
	}
	return k, v
}

// nextOf goes on from firstOf.
func nextOf(c *bbolt.Cursor, prefix []byte) (k, v []byte) {
	if k, v = c.Next(); !bytes.HasPrefix(k, prefix) {
		return nil, nil
	}
	return k, v
}

// keysOf collects at most max keys under prefix (0: all); they stay valid while tx is not changed further, so copies
// are returned.
func keysOf(b *bbolt.Bucket, prefix []byte, max int) [][]byte {
	var keys [][]byte
	c := b.Cursor()
	for k, _ := firstOf(c, prefix); k != nil && (max == 0 || len(keys) < max); k, _ = nextOf(c, prefix) {
		keys = append(keys, bytes.Clone(k))
	}
	return keys
}

// deleteKeys deletes them from b.
func deleteKeys(b *bbolt.Bucket, keys [][]byte) error {
	for _, k := range keys {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
