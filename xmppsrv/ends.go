package xmppsrv

import (
	"errors"
	"fmt"

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

	endSlow       // no handshake in time
	endSilent     // no byte after a ping
	endUnanswered // <r/> brought no acknowledgement

	endNamespace  // the header's namespaces
	endNoHeader   // the first element is no stream
	endNoTo       // the header's to
	endEarly      // something else before the handshake
	endHandshake  // bad secret, unknown domain, disabled app: the same
	endAttempts   // too many from this address have failed
	endConflict   // connected already, and the app's policy is to refuse the newer one
	endTooMany    // too many connections share the app
	endWaiting    // too many streams without handshake
	endWaitingOne // too many of them from one address

	endXML // and as many as there are kinds of what the XML reader refuses
)

const (
	endNoFrom = endXML + end(xmlstream.Kinds) + iota
	endBadFrom
	endNoStanzaTo
	endForeignFrom
	endUnknownElement
	endOtherContent

	endTooHigh // an <a/> or <resume/> for more than was sent
	endBadAck
	endTwice   // a second <enable/>
	endUnacked // too much without acknowledgement

	endReplaced
	endDisabled
	endRemoved
	endShutdown
	endOverflow
	endChanged
	endInternal

	endCount
)

// unclean are the ends after which a stream can be resumed (XEP-0198 §7): who lost the connection keeps the session,
// who closed the stream or broke its rules has none any more.
var unclean = [endCount]bool{
	endGone: true, endStalled: true, endSilent: true, endUnanswered: true, endPeerError: true, endReplaced: true,
}

// ours are the ends of which the component is not the cause.
var ours = [endCount]bool{endReplaced: true, endDisabled: true, endRemoved: true, endChanged: true, endShutdown: true, endInternal: true}

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

	endSlow:       {"slow-handshake", "connection-timeout", "No handshake in time"},
	endSilent:     {"silent", "connection-timeout", "No answer to a ping"},
	endUnanswered: {"unanswered", "connection-timeout", "No acknowledgement in time"},

	endNamespace:  {"wrong-namespace", "invalid-namespace", "This server speaks jabber:component:accept (XEP-0114)"},
	endNoHeader:   {"no-header", "bad-format", "A stream header was expected"},
	endNoTo:       {"no-domain", "improper-addressing", "The stream header must name the component's domain in 'to'"},
	endEarly:      {"early-stanza", "not-authorized", "A handshake must come first"},
	endHandshake:  {"bad-handshake", "not-authorized", "The handshake was not accepted"},
	endAttempts:   {"too-many-failures", "policy-violation", "Too many attempts from this address have failed"},
	endConflict:   {"conflict", "conflict", "This component is connected already"},
	endTooMany:    {"too-many", "resource-constraint", "Too many connections of this component"},
	endWaiting:    {"too-many-waiting", "resource-constraint", "Too many streams without a handshake"},
	endWaitingOne: {"too-many-waiting-from-address", "policy-violation", "Too many streams without a handshake from this address"},

	endNoFrom:         {"no-from", "improper-addressing", "A stanza must have a 'from'"},
	endBadFrom:        {"bad-from", "improper-addressing", "A stanza's 'from' must be an address"},
	endNoStanzaTo:     {"no-to", "improper-addressing", "A stanza must have a 'to'"},
	endForeignFrom:    {"foreign-from", "invalid-from", "A stanza's 'from' must be at the component's own domain"},
	endUnknownElement: {"unknown-element", "unsupported-stanza-type", "Only presence, message and iq are understood"},
	endOtherContent:   {"other-content", "invalid-namespace", "Stanzas of this stream are in jabber:component:accept (XEP-0114)"},

	endTooHigh: {"too-high", "undefined-condition", "More stanzas were acknowledged than sent"},
	endBadAck:  {"bad-ack", "bad-format", "The 'h' must be a number below 2^32"},
	endTwice:   {"enabled-twice", "policy-violation", "Stream management is enabled already"},
	endUnacked: {"unacked", "resource-constraint", "Too much was not acknowledged"},

	endReplaced: {"replaced", "conflict", "Replaced by a new connection"},
	endDisabled: {"disabled", "not-authorized", "The app was disabled or its secret changed"},
	endRemoved:  {"removed", "not-authorized", "The app was removed"},
	endShutdown: {"shutdown", "system-shutdown", "The server is going away"},
	endOverflow: {"overflow", "resource-constraint", "The component did not take what it was given"},
	endChanged:  {"changed", "reset", "The policy for this app's connections was changed"},
	endInternal: {"internal", "internal-server-error", "The server could not do its part"},
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

// linkEnds says how an end that the hub decides is told.
var linkEnds = map[presence.End]end{
	presence.EndReplaced: endReplaced,
	presence.EndDisabled: endDisabled,
	presence.EndRemoved:  endRemoved,
	presence.EndShutdown: endShutdown,
	presence.EndOverflow: endOverflow,
	presence.EndChanged:  endChanged,
}

// linkError says how a failed Hub.Link is told.
func linkError(err error) error {
	switch {
	case errors.Is(err, presence.ErrConflict):
		return &streamError{endConflict, err}
	case errors.Is(err, presence.ErrTooMany):
		return &streamError{endTooMany, err}
	case errors.Is(err, presence.ErrNoApp):
		return &streamError{endHandshake, err}
	case errors.Is(err, presence.ErrDraining):
		return &streamError{endShutdown, err}
	}
	return &streamError{endInternal, err}
}

// streamError is the one error type of this edge that ends a stream. The peer gets the row of why, the log
// gets the cause, which never has a secret in it.
type streamError struct {
	why   end
	cause error // may be nil
}

func (e *streamError) Error() string {
	if e.cause == nil {
		return e.why.String()
	}
	return fmt.Sprintf("%s: %v", e.why, e.cause)
}

func (e *streamError) Unwrap() error { return e.cause }

// refusal is why a stanza came back.
type refusal uint8

const (
	accepted refusal = iota
	refuseStranger
	refuseNotAllowed
	refuseTooLarge
	refuseTTL
	refuseBadValue
	refuseStorage
	refuseEnded
	refuseJSON
	refuseOption
	refuseGCM
	refuseID
	refuseRequest
	refuseType
	refuseService
	refuseNode
	refuseDomain
	refuseAddress
	refuseForbidden
	refuseNoCommand
	refuseMalformedAction
	refuseBadAction
	refuseBadPayload
	refuseBadSession
	refuseExpired
	refuseBusy
	refusalCount
)

// refusalRow is a stanza error.
type refusalRow struct {
	word string // log, metrics, tests
	kind string // RFC 6120 §8.3.2: cancel, modify, wait
	cond string // RFC 6120 §8.3.3
	text string // for a person, constant, so that answers stay the same for all
}

// refusals is the one table of stanza errors. Whoever may not know whether a user exists gets the row of
// refuseStranger, and an iq to any user the same bytes.
var refusals = [refusalCount]refusalRow{
	refuseStranger:   {"stranger", "cancel", "service-unavailable", ""},
	refuseNotAllowed: {"not-allowed", "cancel", "not-allowed", "The user allows no notifications"},
	refuseTooLarge:   {"too-large", "modify", "policy-violation", "The notification is too large"},
	refuseTTL:        {"ttl", "modify", "not-acceptable", "The ttl is out of range"},
	refuseBadValue:   {"bad-value", "modify", "bad-request", "A value of the notification is not allowed"},
	refuseStorage:    {"storage", "wait", "resource-constraint", "The storage is not available"},
	refuseEnded:      {"ended", "wait", "recipient-unavailable", "This connection has ended"},
	refuseJSON:       {"json", "modify", "bad-request", "The content of json is not JSON, or nested too deep"},
	refuseOption:     {"option", "modify", "bad-request", "An option of notify is not understood"},
	refuseGCM:        {"gcm", "modify", "bad-request", "The JSON of gcm has no message_id"},
	refuseID:         {"no-id", "modify", "bad-request", "An iq must have an id"},
	refuseRequest:    {"bad-iq", "modify", "bad-request", "An iq must be get or set with one payload, result or error"},
	refuseType:       {"bad-type", "modify", "bad-request", "The type is not one of this kind of stanza"},
	refuseService:    {"no-service", "cancel", "service-unavailable", ""},
	refuseNode:       {"no-node", "cancel", "item-not-found", "There is no such node"},
	refuseDomain:     {"no-domain", "cancel", "remote-server-not-found", "There is nothing but this gateway's own domain here"},
	refuseAddress:    {"bad-address", "modify", "jid-malformed", "The 'to' is not an address"},

	refuseForbidden:       {"forbidden", "auth", "forbidden", "Commands are for administrators"},
	refuseNoCommand:       {"no-command", "cancel", "item-not-found", "There is no such command"},
	refuseMalformedAction: {"malformed-action", "modify", "bad-request", "The action is not understood"},
	refuseBadAction:       {"bad-action", "modify", "bad-request", "The action is not possible at this stage"},
	refuseBadPayload:      {"bad-payload", "modify", "bad-request", "The form cannot be accepted"},
	refuseBadSession:      {"bad-sessionid", "modify", "bad-request", "There was no such session"},
	refuseExpired:         {"session-expired", "cancel", "not-allowed", "The session is over"},
	refuseBusy:            {"busy", "wait", "unexpected-request", "The step before is still being carried out"},
}

// specifics is what some stanza errors have behind condition and text: the condition of an extension's own
// (RFC 6120 §8.3.4).
var specifics = [refusalCount]string{
	refuseMalformedAction: "<malformed-action xmlns='" + nsCommands + "'/>", // XEP-0050 §4.4
	refuseBadAction:       "<bad-action xmlns='" + nsCommands + "'/>",
	refuseBadPayload:      "<bad-payload xmlns='" + nsCommands + "'/>",
	refuseBadSession:      "<bad-sessionid xmlns='" + nsCommands + "'/>",
	refuseExpired:         "<session-expired xmlns='" + nsCommands + "'/>",
}

// String is the refusal's word.
func (r refusal) String() string { return refusals[r].word }

// coreErrors says how what the core refuses is told.
var coreErrors = []struct {
	err error
	why refusal
}{
	{presence.ErrStranger, refuseStranger},
	{presence.ErrNotAllowed, refuseNotAllowed},
	{presence.ErrTooLarge, refuseTooLarge},
	{presence.ErrTTL, refuseTTL},
	{presence.ErrBadValue, refuseBadValue},
	{presence.ErrEnded, refuseEnded},
	{presence.ErrStorage, refuseStorage},
}

// refusalOf finds the row of a core's error; what is not in the table counts as trouble with the storage.
func refusalOf(err error) refusal {
	for _, c := range coreErrors {
		if errors.Is(err, c.err) {
			return c.why
		}
	}
	return refuseStorage
}
