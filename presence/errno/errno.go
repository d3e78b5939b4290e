// Package errno is the table of errors of the contract: the number under which a device, an app or a program learns
// why something was refused or ended, and its text. The edges say what a number follows from and what it ends; here
// is only what is the same for all of them. Numbers and texts never change.
package errno

import "slices"

// Number is one row's number; 0 is none.
type Number uint8

// What was wrong with the frame or the request.
const (
	BadJSON      Number = 10
	UnknownFrame Number = 11
	MissingField Number = 12
	BadValue     Number = 13
	TooLarge     Number = 14
)

// Who somebody is.
const (
	NotIdentified Number = 30
	Expired       Number = 31
	WrongAudience Number = 32
	WrongIssuer   Number = 33
	Invalid       Number = 34
	NotConfirmed  Number = 35
	OtherIdentity Number = 36
)

// Bounds.
const (
	SlowDown    Number = 40
	TooMany     Number = 41
	PayloadSize Number = 42
)

// The end of a session.
const (
	Replaced  Number = 50
	GoingAway Number = 51
)

// Apps. NoApp never tells one that does not exist from one that has no grant.
const (
	NoApp   Number = 60
	AppFull Number = 61
)

// What is this side's fault.
const (
	Internal  Number = 90
	NoStorage Number = 91
)

type row struct {
	n    Number
	text string
}

// rows is the only place where a number gets its text, in the order of the numbers.
var rows = [...]row{
	{BadJSON, "malformed JSON"},
	{UnknownFrame, "unknown frame"},
	{MissingField, "missing field"},
	{BadValue, "bad value"},
	{TooLarge, "frame too large"},
	{NotIdentified, "not identified"},
	{Expired, "assertion expired"},
	{WrongAudience, "wrong audience"},
	{WrongIssuer, "issuer not trusted"},
	{Invalid, "Invalid assertion"},
	{NotConfirmed, "e-mail not confirmed by the assertion"},
	{OtherIdentity, "another identity on this socket"},
	{SlowDown, "slow down"},
	{TooMany, "too many connections"},
	{PayloadSize, "payload too large"},
	{Replaced, "replaced by a newer connection"},
	{GoingAway, "going away"},
	{NoApp, "no such app for this user"},
	{AppFull, "too much is waiting for this app"},
	{Internal, "internal error"},
	{NoStorage, "storage not available"},
}

// All returns the numbers of the table, in order.
func All() []Number {
	all := make([]Number, len(rows))
	for i, r := range rows {
		all[i] = r.n
	}
	return all
}

// String is the number's text; that of a number which is not in the table is Internal's.
func (n Number) String() string {
	if i := slices.IndexFunc(rows[:], func(r row) bool { return r.n == n }); i >= 0 {
		return rows[i].text
	}
	return Internal.String()
}

// Ours reports whether the fault is on this side, which sets the level in the log.
func (n Number) Ours() bool { return n == Internal || n == NoStorage }
