package adhoc_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"presenced/xmppsrv/adhoc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	root  = "root@app.example"
	other = "other@app.example"
)

// clock is a time that only tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// bench is an engine with two commands: "now" runs at once, "greet" asks for a name, then for how, then runs.
type bench struct {
	*adhoc.Engine
	clock *clock
	runs  []string // what greet was run with
}

func newBench(change ...func(*adhoc.Config)) *bench {
	b := &bench{clock: &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	cfg := adhoc.Config{Admins: []string{root, other}, Now: b.clock.Now, Sessions: 3, Commands: []adhoc.Command{
		{Node: "now", Name: "Now", Run: func(context.Context, adhoc.Values) (*adhoc.Result, error) {
			return &adhoc.Result{Notes: []adhoc.Note{{Type: adhoc.Info, Text: "done"}}}, nil
		}},
		{Node: "greet", Name: "Greet", Forms: []func(context.Context, adhoc.Values) (*adhoc.Form, error){b.nameForm, b.howForm}, Run: b.greet},
	}}
	for _, f := range change {
		f(&cfg)
	}
	b.Engine = adhoc.New(cfg)
	return b
}

func (b *bench) nameForm(context.Context, adhoc.Values) (*adhoc.Form, error) {
	return &adhoc.Form{Kind: "k", Fields: []adhoc.Field{{Var: "name", Type: adhoc.TextSingle, Required: true}}}, nil
}

func (b *bench) howForm(_ context.Context, in adhoc.Values) (*adhoc.Form, error) {
	switch in.One("name") {
	case "nobody":
		return nil, adhoc.Invalid("nobody is not a name")
	case "gone":
		return nil, errors.New("she has left")
	}
	return &adhoc.Form{Kind: "k", Fields: []adhoc.Field{{Var: "how", Type: adhoc.ListSingle, Required: true,
		Options: []adhoc.Option{{Label: "Hello", Value: "hello"}, {Label: "Fail", Value: "fail"}, {Label: "Refuse", Value: "refuse"}}}}}, nil
}

func (b *bench) greet(_ context.Context, in adhoc.Values) (*adhoc.Result, error) {
	switch in.One("how") {
	case "fail":
		return nil, errors.New("no voice")
	case "refuse":
		return nil, adhoc.Invalid("not so")
	}
	b.runs = append(b.runs, in.One("how")+" "+in.One("name"))
	return &adhoc.Result{}, nil
}

// ask is a request from root's desk.
func ask(node, session, action string, form adhoc.Values) adhoc.Request {
	return adhoc.Request{From: root + "/desk", Bare: root, Node: node, Action: action, Session: session, Continues: session != "", Form: form}
}

func (b *bench) do(t testing.TB, r adhoc.Request) adhoc.Reply {
	t.Helper()
	reply, err := b.Do(context.Background(), r)
	if err != nil {
		t.Fatalf("%+v: %v", r, err)
	}
	return reply
}

func (b *bench) refused(t testing.TB, r adhoc.Request, why adhoc.Why) {
	t.Helper()
	reply, err := b.Do(context.Background(), r)
	var e *adhoc.Error
	if !errors.As(err, &e) || e.Why != why {
		t.Fatalf("%+v: got %+v, %v; want why %d", r, reply, err, why)
	}
}

func name(s string) adhoc.Values { return adhoc.Values{"name": {s}} }
func how(s string) adhoc.Values  { return adhoc.Values{"how": {s}} }

func TestThereAndBack(t *testing.T) {
	b := newBench()
	r := b.do(t, ask("greet", "", "", nil))
	if r.Status != adhoc.Executing || !slices.Equal(r.Actions, []adhoc.Action{adhoc.Next}) || r.Default != adhoc.Next || r.Form.Fields[0].Var != "name" {
		t.Fatalf("got %+v", r)
	}
	id := r.Session
	r = b.do(t, ask("greet", id, "next", name("ann")))
	if r.Session != id || !slices.Equal(r.Actions, []adhoc.Action{adhoc.Prev, adhoc.Complete}) || r.Default != adhoc.Complete {
		t.Fatalf("got %+v", r)
	}
	r = b.do(t, ask("greet", id, "prev", nil))
	if f := r.Form.Fields[0]; f.Var != "name" || !slices.Equal(f.Values, []string{"ann"}) {
		t.Fatalf("what was filled in is forgotten: %+v", f)
	}
	b.do(t, ask("greet", id, "", name("bob"))) // execute is the default action
	r = b.do(t, ask("greet", id, "execute", how("hello")))
	if r.Status != adhoc.Completed || r.Form != nil || !slices.Equal(b.runs, []string{"hello bob"}) {
		t.Fatalf("got %+v, ran %q", r, b.runs)
	}
	for _, action := range []string{"", "complete", "cancel", "prev"} {
		b.refused(t, ask("greet", id, action, how("hello")), adhoc.Expired)
	}
}

func TestAtOnce(t *testing.T) {
	b := newBench()
	r := b.do(t, ask("now", "", "execute", nil))
	if r.Status != adhoc.Completed || r.Session == "" || len(r.Actions) != 0 || len(r.Notes) != 1 {
		t.Errorf("got %+v", r)
	}
	b.refused(t, ask("now", r.Session, "", nil), adhoc.Expired)
}

func TestCancel(t *testing.T) {
	b := newBench()
	for _, stage := range []int{0, 1} {
		id := b.do(t, ask("greet", "", "", nil)).Session
		if stage == 1 {
			b.do(t, ask("greet", id, "next", name("ann")))
		}
		if r := b.do(t, ask("greet", id, "cancel", nil)); r.Status != adhoc.Canceled || r.Form != nil {
			t.Errorf("got %+v", r)
		}
		b.refused(t, ask("greet", id, "next", name("ann")), adhoc.Expired)
	}
	if b.runs != nil {
		t.Errorf("ran %q", b.runs)
	}
}

func TestRefusals(t *testing.T) {
	b := newBench()
	stranger := ask("greet", "", "", nil)
	stranger.From, stranger.Bare = "eve@app.example/x", "eve@app.example"
	b.refused(t, stranger, adhoc.Forbidden)
	b.refused(t, ask("none", "", "", nil), adhoc.NoCommand)
	b.refused(t, ask("none", "", "dance", nil), adhoc.NoCommand)
	b.refused(t, ask("greet", "", "dance", nil), adhoc.MalformedAction)
	for _, action := range []string{"next", "prev", "complete", "cancel"} {
		b.refused(t, ask("greet", "", action, nil), adhoc.BadAction)
	}
	id := b.do(t, ask("greet", "", "", nil)).Session
	b.refused(t, ask("greet", id, "prev", nil), adhoc.BadAction)
	b.refused(t, ask("greet", id, "complete", name("ann")), adhoc.BadAction)
	b.refused(t, ask("greet", id, "next", nil), adhoc.BadPayload)
	b.refused(t, ask("greet", id, "next", name(" ")), adhoc.BadPayload)
	b.refused(t, ask("greet", id, "next", name("nobody")), adhoc.BadPayload)
	b.do(t, ask("greet", id, "next", name("ann"))) // none of all that has harmed the session
	b.refused(t, ask("greet", id, "next", how("hello")), adhoc.BadAction)
	b.refused(t, ask("greet", id, "complete", how("loud")), adhoc.BadPayload)
	b.refused(t, ask("greet", id, "complete", how("refuse")), adhoc.BadPayload)
	b.do(t, ask("greet", id, "complete", how("hello")))
	if !slices.Equal(b.runs, []string{"hello ann"}) {
		t.Errorf("ran %q", b.runs)
	}
}

func TestSessionsBelongToOne(t *testing.T) {
	b := newBench()
	id := b.do(t, ask("greet", "", "", nil)).Session
	for _, change := range []func(*adhoc.Request){
		func(r *adhoc.Request) { r.From = root + "/phone" },
		func(r *adhoc.Request) { r.From, r.Bare = other+"/desk", other },
		func(r *adhoc.Request) { r.Node = "now" },
		func(r *adhoc.Request) { r.Session = id[:len(id)-1] + "?" },
		func(r *adhoc.Request) { r.Session = "A" + id },
		func(r *adhoc.Request) { r.Session = id[1:] },
		func(r *adhoc.Request) { r.Session = "x" },
		func(r *adhoc.Request) { r.Session = "" },
	} {
		r := ask("greet", id, "next", name("ann"))
		change(&r)
		b.refused(t, r, adhoc.BadSession)
	}
	b.do(t, ask("greet", id, "next", name("ann")))
	newBench().refused(t, ask("greet", id, "next", name("ann")), adhoc.BadSession)
}

func TestFailures(t *testing.T) {
	b := newBench()
	for _, c := range []struct{ name, how, text string }{{"gone", "", "she has left"}, {"ann", "fail", "no voice"}} {
		id := b.do(t, ask("greet", "", "", nil)).Session
		r := b.do(t, ask("greet", id, "next", name(c.name)))
		if c.how != "" {
			r = b.do(t, ask("greet", id, "complete", how(c.how)))
		}
		if r.Status != adhoc.Completed || !slices.Equal(r.Notes, []adhoc.Note{{Type: adhoc.Bad, Text: c.text}}) {
			t.Errorf("got %+v", r)
		}
		b.refused(t, ask("greet", id, "next", name("ann")), adhoc.Expired)
	}
}

func TestSessionsEnd(t *testing.T) {
	b := newBench()
	id := b.do(t, ask("greet", "", "", nil)).Session
	b.clock.pass(10*time.Minute - 1)
	b.do(t, ask("greet", id, "next", name("ann"))) // each step gives it the whole time again
	b.clock.pass(10*time.Minute - 1)
	b.refused(t, ask("greet", id, "complete", how("loud")), adhoc.BadPayload)
	b.clock.pass(10 * time.Minute)
	b.refused(t, ask("greet", id, "complete", how("hello")), adhoc.Expired)
}

func TestTheOldestSessionGoes(t *testing.T) {
	b := newBench()
	theirs := ask("greet", "", "", nil)
	theirs.From, theirs.Bare = other+"/desk", other
	theirs.Session = b.do(t, theirs).Session
	var ids []string
	for range 4 {
		b.clock.pass(time.Second)
		ids = append(ids, b.do(t, ask("greet", "", "", nil)).Session)
	}
	b.refused(t, ask("greet", ids[0], "next", name("ann")), adhoc.Expired)
	for _, id := range ids[1:] {
		b.do(t, ask("greet", id, "next", name("ann")))
	}
	theirs.Continues, theirs.Form = true, name("bob")
	b.do(t, theirs)
}

// A session that is in a step is for nobody else, and is not pushed out.
func TestBusy(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	b := newBench(func(c *adhoc.Config) {
		c.Sessions = 1
		c.Commands[1].Run = func(context.Context, adhoc.Values) (*adhoc.Result, error) {
			close(entered) // a second time would panic
			<-leave
			return &adhoc.Result{}, nil
		}
	})
	id := b.do(t, ask("greet", "", "", nil)).Session
	b.do(t, ask("greet", id, "next", name("ann")))
	done := make(chan adhoc.Reply)
	go func() {
		r, _ := b.Do(context.Background(), ask("greet", id, "complete", how("hello")))
		done <- r
	}()
	<-entered
	b.refused(t, ask("greet", id, "complete", how("hello")), adhoc.Busy)
	b.refused(t, ask("greet", id, "cancel", nil), adhoc.Busy)
	b.refused(t, ask("greet", "", "", nil), adhoc.Busy)
	close(leave)
	if r := <-done; r.Status != adhoc.Completed {
		t.Errorf("got %+v", r)
	}
	b.refused(t, ask("greet", id, "complete", how("hello")), adhoc.Expired)
	b.do(t, ask("greet", "", "", nil))
}

// A step has an end, and ends with the caller.
func TestStepsEnd(t *testing.T) {
	b := newBench(func(c *adhoc.Config) {
		c.StepTime = time.Nanosecond
		c.Commands[0].Run = func(ctx context.Context, _ adhoc.Values) (*adhoc.Result, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	})
	if r := b.do(t, ask("now", "", "", nil)); r.Status != adhoc.Completed || len(r.Notes) != 1 || r.Notes[0].Type != adhoc.Bad {
		t.Errorf("got %+v", r)
	}
}

func TestNilEngine(t *testing.T) {
	var e *adhoc.Engine
	if e.Allows(root) {
		t.Error("nobody administers nothing")
	}
}

var fields = []adhoc.Field{
	{Var: "b", Type: adhoc.Boolean}, {Var: "f", Type: adhoc.Fixed}, {Var: "h", Type: adhoc.Hidden},
	{Var: "js", Type: adhoc.JIDMulti}, {Var: "j", Type: adhoc.JIDSingle},
	{Var: "ls", Type: adhoc.ListMulti, Options: []adhoc.Option{{Value: "1"}, {Value: "2"}}},
	{Var: "l", Type: adhoc.ListSingle, Options: []adhoc.Option{{Value: "1"}, {Value: "2"}}},
	{Var: "ts", Type: adhoc.TextMulti}, {Var: "t", Type: adhoc.TextSingle},
}

func TestForms(t *testing.T) {
	var got adhoc.Values
	b := newBench(func(c *adhoc.Config) {
		c.Commands[0].Forms = []func(context.Context, adhoc.Values) (*adhoc.Form, error){
			func(context.Context, adhoc.Values) (*adhoc.Form, error) {
				return &adhoc.Form{Kind: "k", Fields: fields}, nil
			}}
		c.Commands[0].Run = func(_ context.Context, in adhoc.Values) (*adhoc.Result, error) {
			got = in
			return &adhoc.Result{}, nil
		}
	})
	many := func(n int, f func(i int) (string, []string)) adhoc.Values {
		v := adhoc.Values{}
		for i := range n {
			k, s := f(i)
			v[k] = append(v[k], s...)
		}
		return v
	}
	for _, c := range []struct {
		name string
		in   adhoc.Values
		want string // "": refused
	}{
		{"nothing", adhoc.Values{}, "map[]"},
		{"unknown", adhoc.Values{"x": {"1"}, "f": {"1"}, "h": {"1"}}, "map[]"},
		{"this kind", adhoc.Values{"FORM_TYPE": {"k"}}, "map[]"},
		{"another kind", adhoc.Values{"FORM_TYPE": {"l"}}, ""},
		{"true", adhoc.Values{"b": {"true"}}, "map[b:[1]]"},
		{"false", adhoc.Values{"b": {"0"}}, "map[b:[0]]"},
		{"maybe", adhoc.Values{"b": {"maybe"}}, ""},
		{"twice", adhoc.Values{"js": {" a@b ", "", "a@b", "c@d"}}, "map[js:[a@b c@d]]"},
		{"two for one", adhoc.Values{"j": {"a@b", "c@d"}}, ""},
		{"choices", adhoc.Values{"ls": {"2", "1"}, "l": {"1"}}, "map[l:[1] ls:[2 1]]"},
		{"no choice", adhoc.Values{"ls": {"2", "3"}}, ""},
		{"no such choice", adhoc.Values{"l": {"3"}}, ""},
		{"lines", adhoc.Values{"ts": {" a", "", "a"}}, "map[ts:[ a  a]]"},
		{"empty lines", adhoc.Values{"ts": {" ", ""}}, "map[]"},
		{"a line", adhoc.Values{"t": {" a b "}}, "map[t:[a b]]"},
		{"two lines", adhoc.Values{"t": {"a\nb"}}, ""},
		{"64 fields", many(64, func(i int) (string, []string) { return fmt.Sprint(i), []string{"1"} }), "map[]"},
		{"65 fields", many(65, func(i int) (string, []string) { return fmt.Sprint(i), []string{"1"} }), ""},
		{"256 values", many(256, func(i int) (string, []string) { return "x", []string{"1"} }), "map[]"},
		{"257 values", many(257, func(i int) (string, []string) { return "x", []string{"1"} }), ""},
		{"16 KiB", adhoc.Values{"x": {strings.Repeat("x", 16<<10-1)}}, "map[]"},
		{"more", adhoc.Values{"x": {strings.Repeat("x", 16<<10)}}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := b.do(t, ask("now", "", "", nil)).Session
			if c.want == "" {
				b.refused(t, ask("now", id, "complete", c.in), adhoc.BadPayload)
				return
			}
			b.do(t, ask("now", id, "complete", c.in))
			if s := fmt.Sprint(got); s != c.want {
				t.Errorf("got %s, want %s", s, c.want)
			}
		})
	}
}

func TestRoom(t *testing.T) {
	for _, c := range []struct{ max, want int }{{3, 3}, {0, 200}, {-1, 200}, {201, 200}} {
		r, n := adhoc.NewRoom(c.max), 0
		for r.Take("x") {
			n++
		}
		if n != c.want {
			t.Errorf("%d: %d rows", c.max, n)
		}
	}
	r, n := adhoc.NewRoom(0), 0
	for r.Take(strings.Repeat("x", 1<<10), strings.Repeat("y", 1<<10)) {
		n++
	}
	if n != 20 {
		t.Errorf("%d rows of 2 KiB in 40 KiB", n)
	}
}

// The engine against a few lines that say what must become of any request, in any order.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBench()
		at := map[string]int{}         // living sessions of root's desk: the stage
		last := map[string]time.Time{} // and their last step
		ids := []string{""}
		ran := 0
		alive := func(id string) bool { return b.clock.Now().Before(last[id].Add(10 * time.Minute)) }
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			b.clock.pass(time.Duration(rapid.IntRange(1, 300).Draw(t, "seconds")) * time.Second)
			id := ids[rapid.IntRange(0, len(ids)-1).Draw(t, "session")]
			action := rapid.SampledFrom([]string{"", "execute", "next", "prev", "complete", "cancel", "dance"}).Draw(t, "action")
			form := rapid.SampledFrom([]adhoc.Values{nil, {}, name("ann"), how("hello"), {"name": {"ann"}, "how": {"hello"}}}).Draw(t, "form")
			reply, err := b.Do(context.Background(), ask("greet", id, action, form))
			stage, living := at[id]
			living = living && alive(id)
			fits := form.One("name") != "" && stage == 0 || form.One("how") != "" && stage == 1
			goes := action == "" || action == "execute" || action == "next" && stage == 0 || action == "complete" && stage == 1
			var why adhoc.Why
			switch {
			case action == "dance":
				why = adhoc.MalformedAction
			case id == "" && action != "" && action != "execute":
				why = adhoc.BadAction
			case id == "":
				for o := range at {
					if !alive(o) {
						delete(at, o)
					}
				}
				if len(at) == 3 {
					oldest := ""
					for o := range at {
						if oldest == "" || last[o].Before(last[oldest]) {
							oldest = o
						}
					}
					delete(at, oldest)
				}
				if err == nil {
					ids = append(ids, reply.Session)
					at[reply.Session], last[reply.Session] = 0, b.clock.Now()
				}
			case !living:
				why = adhoc.Expired
			case action == "cancel":
				delete(at, id)
			case action == "prev" && stage == 1:
				at[id] = 0
			case !goes:
				why = adhoc.BadAction
			case !fits:
				why = adhoc.BadPayload
			case stage == 0:
				at[id] = 1
			default:
				delete(at, id)
				ran++
			}
			if living && action != "dance" {
				last[id] = b.clock.Now()
			}
			var e *adhoc.Error
			if errors.As(err, &e) && e.Why != why || err == nil && why != 0 {
				t.Fatalf("%q of %q at %d with %v: got %v, want why %d", action, id, stage, form, err, why)
			}
		}
		if len(b.runs) != ran {
			t.Fatalf("ran %d times, not %d", len(b.runs), ran)
		}
	})
}
