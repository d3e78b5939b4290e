package adhoc

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Command is something that administrators may do. All of its functions may be called at the same time for several
// sessions; they must return soon after ctx ends. An error that Invalid made refuses the form that was submitted
// last; any other error completes the command, with the error's text as a note.
type Command struct {
	Node, Name string
	// Forms are to be filled in one after the other; each is made when its turn comes, with what was filled in before.
	// None: the command runs at once.
	Forms []func(ctx context.Context, in Values) (*Form, error)
	// Run carries it out, with what was filled in.
	Run func(ctx context.Context, in Values) (*Result, error)
}

// Result is what came of a command.
type Result struct {
	Form  *Form // nil: none
	Notes []Note
}

// Severity of a note (XEP-0050 §4.3).
type Severity string

const (
	Info Severity = "info"
	Warn Severity = "warn"
	Bad  Severity = "error"
)

// Note is a text for a person.
type Note struct {
	Type Severity
	Text string
}

// Status of a command (XEP-0050 §4.1).
type Status string

const (
	Executing Status = "executing"
	Completed Status = "completed"
	Canceled  Status = "canceled"
)

// Action is what a requester wants of a command (XEP-0050 §4.1).
type Action string

const (
	Execute  Action = "execute"
	Cancel   Action = "cancel"
	Prev     Action = "prev"
	Next     Action = "next"
	Complete Action = "complete"
)

// Request is one <command/> as it came.
type Request struct {
	From      string // the full address, in its normal form
	Bare      string // the same without resource
	Node      string
	Action    string // "": execute
	Session   string // the id, if Continues
	Continues bool   // there was an id
	Form      Values // what was submitted; nil: nothing was
}

// Reply is what becomes of it.
type Reply struct {
	Node, Session string
	Status        Status
	Actions       []Action // beside cancel and execute; only while executing
	Default       Action   // what execute means among them
	Notes         []Note
	Form          *Form // nil: none
}

// Config is what an Engine is made of. Zero values are the defaults in parentheses.
type Config struct {
	Admins   []string  // bare addresses, in their normal form
	Commands []Command // in the order in which they are listed; each with a node of its own
	Now      func() time.Time
	Log      *slog.Logger

	Sessions    int           // of each administrator (8); a newer one ends the oldest
	SessionTime time.Duration // since the last step (10 m)
	StepTime    time.Duration // that a step may take (10 s)
}

// Engine runs commands. It has no goroutine and nothing to close. A nil one has no commands and no administrators.
// All methods are safe for concurrent use.
type Engine struct {
	cfg    Config // immutable, like the next three
	admins map[string]bool
	nodes  map[string]*Command
	key    [32]byte // that session ids are made with

	mu       sync.Mutex
	sessions map[string]*session // guarded by mu; by id; those that wait for their next step, and those that are in one
}

// New makes an engine.
func New(c Config) *Engine {
	c.Sessions = cmp.Or(c.Sessions, 8)
	c.SessionTime = cmp.Or(c.SessionTime, 10*time.Minute)
	c.StepTime = cmp.Or(c.StepTime, 10*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{cfg: c, admins: map[string]bool{}, nodes: map[string]*Command{}, sessions: map[string]*session{}}
	for _, a := range c.Admins {
		e.admins[a] = true
	}
	for i := range c.Commands {
		e.nodes[c.Commands[i].Node] = &c.Commands[i]
	}
	rand.Read(e.key[:])
	return e
}

// Allows reports whether who has this bare address is an administrator.
func (e *Engine) Allows(bare string) bool { return e != nil && e.admins[bare] }

// List is all commands. It must not be changed.
func (e *Engine) List() []Command { return e.cfg.Commands }

// Name is the name of a command; false: there is none with this node.
func (e *Engine) Name(node string) (string, bool) {
	c, ok := e.nodes[node]
	if !ok {
		return "", false
	}
	return c.Name, true
}

// Do answers a request. The error is an [*Error]: nothing was done. It blocks while the command is carried out, at
// most for the time that a step may take or until ctx ends, if the command heeds it.
func (e *Engine) Do(ctx context.Context, r Request) (Reply, error) {
	if !e.Allows(r.Bare) {
		return Reply{}, refuse(Forbidden, "")
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.StepTime)
	defer cancel()
	reply, err := e.step(ctx, &r)
	if err != nil {
		e.cfg.Log.Info("command refused", "from", r.From, "node", short(r.Node), "error", err)
		return Reply{}, err
	}
	e.cfg.Log.Info("command", "from", r.From, "node", r.Node, "status", string(reply.Status), "failed", reply.failed())
	return reply, nil
}

func (r *Reply) failed() bool {
	for _, n := range r.Notes {
		if n.Type == Bad {
			return true
		}
	}
	return false
}

func (e *Engine) step(ctx context.Context, r *Request) (Reply, error) {
	c, ok := e.nodes[r.Node]
	if !ok {
		return Reply{}, refuse(NoCommand, "")
	}
	act := cmp.Or(Action(r.Action), Execute)
	switch act {
	case Execute, Cancel, Prev, Next, Complete:
	default:
		return Reply{}, refuse(MalformedAction, "")
	}
	if r.Continues {
		s, err := e.take(r)
		if err != nil {
			return Reply{}, err
		}
		reply, err := e.proceed(ctx, s, act, r.Form)
		e.put(s, err != nil || reply.Status == Executing)
		return reply, err
	}
	if act != Execute {
		return Reply{}, refuse(BadAction, "There is no session to do this with")
	}
	s := &session{id: e.newID(r), from: r.From, bare: r.Bare, cmd: c, busy: true}
	reply, err := e.show(ctx, s)
	if err == nil && reply.Status == Executing {
		err = e.add(s)
	}
	return reply, err
}

// proceed takes a session that this step has for itself further. After an error it goes on as if the step had not
// been.
func (e *Engine) proceed(ctx context.Context, s *session, act Action, form Values) (Reply, error) {
	last := s.at == len(s.cmd.Forms)-1
	switch {
	case act == Cancel:
		return s.reply(Canceled), nil
	case act == Prev && s.at > 0:
		return e.back(ctx, s)
	case act == Prev, act == Next && last, act == Complete && !last:
		return Reply{}, refuse(BadAction, "%q is not possible at this stage", string(act))
	case form == nil:
		return Reply{}, refuse(BadPayload, "The form is missing")
	}
	in, err := s.form.read(form)
	if err != nil {
		return Reply{}, err
	}
	at, before := s.at, s.filled
	s.at, s.filled = at+1, append(before[:at:at], in)
	reply, err := e.show(ctx, s)
	if err != nil {
		s.at, s.filled = at, before
	}
	return reply, err
}

// back shows the form before, as it was filled in.
func (e *Engine) back(ctx context.Context, s *session) (Reply, error) {
	s.at--
	reply, err := e.show(ctx, s)
	if err != nil {
		s.at++
	}
	return reply, err
}

// show makes the form that the session is at, or carries the command out if there is none left.
func (e *Engine) show(ctx context.Context, s *session) (Reply, error) {
	if s.at == len(s.cmd.Forms) {
		return s.finish(ctx)
	}
	form, err := s.cmd.Forms[s.at](ctx, s.values())
	if err != nil {
		return s.failure(err)
	}
	if s.at < len(s.filled) { // been there
		form = form.filled(s.filled[s.at])
	}
	s.form = form
	reply := s.reply(Executing)
	reply.Form = form
	reply.Default = Next
	if s.at == len(s.cmd.Forms)-1 {
		reply.Default = Complete
	}
	if s.at > 0 {
		reply.Actions = append(reply.Actions, Prev)
	}
	reply.Actions = append(reply.Actions, reply.Default)
	return reply, nil
}

// finish carries the command out.
func (s *session) finish(ctx context.Context) (Reply, error) {
	result, err := s.cmd.Run(ctx, s.values())
	if err != nil {
		return s.failure(err)
	}
	reply := s.reply(Completed)
	reply.Form, reply.Notes = result.Form, result.Notes
	return reply, nil
}

// failure is a refused form, or the end of the command (XEP-0050 §3.6).
func (s *session) failure(err error) (Reply, error) {
	var bad invalid
	if errors.As(err, &bad) && s.at > 0 {
		return Reply{}, refuse(BadPayload, "%s", string(bad))
	}
	reply := s.reply(Completed)
	reply.Notes = []Note{{Bad, err.Error()}}
	return reply, nil
}

func (s *session) reply(st Status) Reply {
	return Reply{Node: s.cmd.Node, Session: s.id, Status: st}
}
