package adhoc

import "fmt"

// Why is why a request was refused (XEP-0050 §4.4).
type Why uint8

const (
	Forbidden       Why = iota + 1 // not an administrator
	NoCommand                      // no such node
	MalformedAction                // not an action at all
	BadAction                      // not an action for this stage
	BadPayload                     // the form is not valid, or missing
	BadSession                     // never given to this address for this command
	Expired                        // completed, canceled, timed out, or pushed out by newer ones
	Busy                           // another step of this session is being carried out
)

// Error is a refusal. Nothing was done.
type Error struct {
	Why  Why
	Text string // for a person; "": the Why says it all
}

func (e *Error) Error() string { return fmt.Sprintf("adhoc: refused (%d): %s", e.Why, e.Text) }

func refuse(why Why, format string, args ...any) error {
	return &Error{why, fmt.Sprintf(format, args...)}
}

// invalid is a value that a command cannot take.
type invalid string

func (e invalid) Error() string { return string(e) }

// Invalid is an error for a command whose values are at fault: the form is refused and can be submitted again. text
// is for a person.
func Invalid(format string, args ...any) error { return invalid(fmt.Sprintf(format, args...)) }
