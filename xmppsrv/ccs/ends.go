package ccs

import (
	"errors"
	"fmt"
	"io"

	"presenced/presence"
	"presenced/xmppsrv/xmlstream"
)

// end is why a stream ended: the word in the log, the label in the metrics, the stream error on the wire.
type end uint8

const (
	notEnded end = iota

	endClosed    // the peer closed the stream
	endGone      // the connection broke
	endStalled   // the peer does not read
	endPeerError // the peer sent a stream error
	endDrained   // the server went away, and had said so

	endSlow       // nothing bound in time
	endNamespace  // the header's namespaces
	endNoHeader   // the first element is no stream
	endEarly      // something else before SASL or bind
	endTries      // too many attempts at SASL
	endAttempts   // too many from this address have failed
	endTooMany    // connections of the sender
	endWaiting    // too many streams without a resource
	endWaitingOne // too many of them from one address

	endXML // and as many as there are kinds
)

const (
	endUnknownElement = endXML + end(xmlstream.Kinds) + iota
	endDisabled
	endRemoved
	endOverflow
	endInternal
	endCount
)

// endRow is what is known about an end.
type endRow struct {
	word string // log, metrics, tests
	cond string // RFC 6120 §4.9.3; "": nothing is said
	text string // for a person; never has anything of the peer's in it
}

// ends is the one table of how streams end, but for what the XML reader refuses, which has its own; see row.
var ends = [endCount]endRow{
	endClosed:    {"closed", "", ""},
	endGone:      {"gone", "", ""},
	endStalled:   {"stalled", "", ""},
	endPeerError: {"peer-error", "", ""},
	endDrained:   {"drained", "", ""},

	endSlow:       {"slow-login", "connection-timeout", "No login in time"},
	endNamespace:  {"wrong-namespace", "invalid-namespace", "This server speaks jabber:client"},
	endNoHeader:   {"no-header", "bad-format", "A stream header was expected"},
	endEarly:      {"early-stanza", "not-authorized", "SASL and then a resource must come first"},
	endTries:      {"too-many-tries", "policy-violation", "Too many attempts"},
	endAttempts:   {"too-many-failures", "policy-violation", "Too many attempts from this address have failed"},
	endTooMany:    {"too-many", "resource-constraint", "Too many connections of this sender"},
	endWaiting:    {"too-many-waiting", "resource-constraint", "Too many streams without a login"},
	endWaitingOne: {"too-many-waiting-from-address", "policy-violation", "Too many streams without a login from this address"},

	endUnknownElement: {"unknown-element", "unsupported-stanza-type", "Only presence, message and iq are understood"},
	endDisabled:       {"disabled", "not-authorized", "The app was disabled or its key changed"},
	endRemoved:        {"removed", "not-authorized", "The app was removed"},
	endOverflow:       {"overflow", "resource-constraint", "The sender did not take what it was given"},
	endInternal:       {"internal", "internal-server-error", "The server could not do its part"},
}

// row is how the end is told.
func (e end) row() endRow {
	if endXML <= e && e < endXML+end(xmlstream.Kinds) {
		kind := xmlstream.Kind(e - endXML)
		return endRow{kind.String(), kind.Condition(), kind.Text()}
	}
	return ends[e]
}

// String is the end's word.
func (e end) String() string { return e.row().word }

// linkEnds says how an end that the hub decides is told; others do not befall this kind of link.
var linkEnds = map[presence.End]end{
	presence.EndDisabled: endDisabled,
	presence.EndRemoved:  endRemoved,
	presence.EndShutdown: endDrained,
	presence.EndOverflow: endOverflow,
}

// streamError is the one error type of this edge that ends a stream.
type streamError struct {
	why   end
	cause error // may be nil; never has a key in it
}

func (e *streamError) Error() string {
	if e.cause == nil {
		return e.why.String()
	}
	return fmt.Sprintf("%s: %v", e.why, e.cause)
}

func (e *streamError) Unwrap() error { return e.cause }

// joinError says how a failed Hub.Link is told.
func joinError(err error) *streamError {
	switch {
	case errors.Is(err, presence.ErrNoApp):
		return &streamError{endRemoved, err}
	case errors.Is(err, presence.ErrDraining):
		return &streamError{endDrained, err}
	case errors.Is(err, presence.ErrTooMany):
		return &streamError{endTooMany, err}
	}
	return &streamError{endInternal, err}
}

// endOf is why a stream whose reading gave this error has ended.
func endOf(err error) end {
	var se *streamError
	var xe *xmlstream.Error
	switch {
	case errors.Is(err, io.EOF): // the closing tag; a connection that breaks is io.ErrUnexpectedEOF
		return endClosed
	case errors.Is(err, errKicked):
		return endDrained
	case errors.As(err, &se):
		return se.why
	case errors.As(err, &xe):
		return endXML + end(xe.Kind)
	}
	return endGone
}
