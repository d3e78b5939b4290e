// Package adhoc runs administrators' commands as XEP-0050 (Ad-Hoc Commands) has it, with forms as data: it knows no
// XML, no stream and nothing of what a command does.
//
// It promises:
//
//  1. Who is not on the list gets the same refusal whatever she asks, known commands and living sessions included.
//  2. A session belongs to one full address and one command. Its id cannot be guessed, and is of no use to others.
//  3. A command is carried out at most once for each session, and never with a form that was not valid.
//  4. Sessions are bounded in number for each administrator (the oldest goes) and in time; a step is bounded in time;
//     a submitted form and a result are bounded in fields, values and bytes.
//
// A [Command] is a list of forms and what to do when all are filled in. An [Engine] takes a [Request], which is one
// <command/> as it came, and gives the [Reply] or an [*Error]. It keeps a session from one to the next:
//
//	execute → form 1 → next → form 2 → complete → Run → completed
//	             ↑______prev______|       any: cancel → canceled
//
// A form that is not valid leaves the session where it was, so that it can be submitted again. What fails when a
// command is carried out completes it, with a note of type error.
package adhoc
