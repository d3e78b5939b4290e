package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"presenced/presence"
)

const recordVersion = 1

// Flags of a record.
const (
	flagReceipt = 1 << iota
	flagHigh
	flagData
	flagsKnown = flagReceipt | flagHigh | flagData
)

const recordHead = 2 + 8 + 8 // version, flags, expires, time

var errDamaged = errors.New("store: a record of the queue is damaged")

// appendRecord appends n in the form that doc.go describes. Seq is the key and not part of it.
func appendRecord(b []byte, n *presence.Notification) []byte {
	var flags byte
	if n.Receipt {
		flags |= flagReceipt
	}
	if n.High {
		flags |= flagHigh
	}
	if n.Data != nil {
		flags |= flagData
	}
	b = append(b, recordVersion, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(nanos(n.Expires)))
	b = binary.BigEndian.AppendUint64(b, uint64(nanos(n.Time)))
	for _, s := range [...]string{n.Email, n.App, n.Device, n.Collapse, n.PUID, n.Ref, n.From, n.Source, n.Message, n.Action} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	return append(binary.AppendUvarint(b, uint64(len(n.Data))), n.Data...)
}

// recordSize is a bound for the length of n's record.
func recordSize(n *presence.Notification) int {
	return recordHead + 11*binary.MaxVarintLen32 + len(n.Email) + len(n.App) + len(n.Device) + len(n.Collapse) + len(n.PUID) +
		len(n.Ref) + len(n.From) + len(n.Source) + len(n.Message) + len(n.Action) + len(n.Data)
}

// recordView is a record whose strings are still inside b: what the index needs, and the rest unread.
type recordView struct {
	flags                        byte
	expires, time                int64 // Unix nanoseconds, 0: none
	email, app, device, collapse []byte
	rest                         []byte
}

// viewRecord reads the first half of a record without copying; the parts are valid as long as b is.
func viewRecord(b []byte) (v recordView, err error) {
	if len(b) < recordHead {
		return v, errDamaged
	}
	if b[0] != recordVersion {
		return v, fmt.Errorf("%w: version %d", errDamaged, b[0])
	}
	if v.flags = b[1]; v.flags&^flagsKnown != 0 {
		return v, fmt.Errorf("%w: flags %#x", errDamaged, v.flags)
	}
	v.expires = int64(binary.BigEndian.Uint64(b[2:]))
	v.time = int64(binary.BigEndian.Uint64(b[10:]))
	v.rest = b[recordHead:]
	for _, part := range [...]*[]byte{&v.email, &v.app, &v.device, &v.collapse} {
		if *part, v.rest, err = cut(v.rest); err != nil {
			return v, err
		}
	}
	return v, nil
}

// readRecord reads a whole record into memory of its own.
func readRecord(seq uint64, b []byte) (n presence.Notification, err error) {
	v, err := viewRecord(b)
	if err != nil {
		return n, err
	}
	n = presence.Notification{
		Seq: seq, Email: string(v.email), App: string(v.app), Device: string(v.device), Collapse: string(v.collapse),
		Receipt: v.flags&flagReceipt != 0, High: v.flags&flagHigh != 0, Time: moment(v.time), Expires: moment(v.expires),
	}
	var part []byte
	for _, s := range [...]*string{&n.PUID, &n.Ref, &n.From, &n.Source, &n.Message, &n.Action} {
		if part, v.rest, err = cut(v.rest); err != nil {
			return presence.Notification{}, err
		}
		*s = string(part)
	}
	if part, v.rest, err = cut(v.rest); err != nil || len(v.rest) > 0 || (v.flags&flagData == 0 && len(part) > 0) {
		return presence.Notification{}, errDamaged
	}
	if v.flags&flagData != 0 {
		n.Data = append([]byte{}, part...)
	}
	return n, nil
}

// readReceipt reads what a Confirmation tells of a record, and leaves the text alone. Device is filled too.
func readReceipt(seq uint64, b []byte) (n presence.Notification, err error) {
	v, err := viewRecord(b)
	if err != nil {
		return n, err
	}
	n = presence.Notification{Seq: seq, Email: string(v.email), App: string(v.app), Device: string(v.device),
		Receipt: v.flags&flagReceipt != 0}
	var part []byte
	for _, s := range [...]*string{&n.PUID, &n.Ref, &n.From} {
		if part, v.rest, err = cut(v.rest); err != nil {
			return presence.Notification{}, err
		}
		*s = string(part)
	}
	return n, nil
}

// cut takes one string off the front.
func cut(b []byte) (part, rest []byte, err error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, nil, errDamaged
	}
	return b[used : used+int(n)], b[used+int(n):], nil
}

// nanos and moment turn a time into Unix nanoseconds and back; the zero time is 0. Times beyond the year 2262 become
// the last moment that can be written.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Unix() > maxSeconds:
		return maxSeconds * int64(time.Second)
	}
	return t.UnixNano()
}

const maxSeconds = (1<<63 - 1) / int64(time.Second)

func moment(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
