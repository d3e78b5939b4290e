package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func demoCommand(c *cli) *cobra.Command {
	var limit time.Duration
	var httpAddr, xmppAddr string
	cmd := command("demo", "Show the whole way with two apps and three devices", 0, 0, nil)
	cmd.Long = `Starts a gateway on a temporary folder, joins two apps as XMPP components over TCP and three
devices over WebSockets, and prints what each of them sends and receives. Everything is real
but the people. Exits with 0 only if every step happened.`
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if limit < 0 || cmd.Flags().Changed("for") && limit == 0 {
			return usagef("--for must be positive")
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		return c.demo(ctx, httpAddr, xmppAddr)
	}
	cmd.Flags().Var((*durationFlag)(&limit), "for", "end after this `DURATION` (default: at Ctrl-C)")
	cmd.Flags().StringVar(&httpAddr, "http", "127.0.0.1:0", "`ADDR` for devices; port 0 is a free one")
	cmd.Flags().StringVar(&xmppAddr, "xmpp", "127.0.0.1:0", "`ADDR` for components; port 0 is a free one")
	return cmd
}

const (
	demoPause  = 700 * time.Millisecond // between chapters, for the reader's eyes, at most; nothing waits by it
	demoLinger = time.Second            // instead of 10 s, so that a lost device is soon seen to go
	demoDrain  = 300 * time.Millisecond
	demoWait   = 30 * time.Second // for one expected step; a busy machine may take its time
)

// demo is one showing. Its fields are set up before the story begins; each actor guards its own.
type demo struct {
	c      *cli
	stage  *stage
	gate   *gateway
	dir    string
	steps  []step
	people map[string]string // tokens by e-mail

	chat, lunch          *demoComponent
	phone, laptop, bob   *demoDevice
	annPUID, annForLunch string
	bobPUID, bobForLunch string
}

// step is something that must happen for the demo to be a success.
type step struct {
	what string
	err  error
}

// demo runs the story, then lets the devices come and go until ctx ends.
func (c *cli) demo(ctx context.Context, httpAddr, xmppAddr string) (err error) {
	dir, err := os.MkdirTemp("", "presenced-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cfg := DefaultConfig()
	cfg.Data, cfg.HTTP.Listen, cfg.XMPP.Listen, cfg.Admin.Listen = dir, httpAddr, xmppAddr, ""
	cfg.Device.Linger.Duration, cfg.Shutdown.Drain.Duration = demoLinger, demoDrain
	if err := cfg.Validate(origins{}); err != nil {
		return err
	}
	gate, err := startGateway(cfg, slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		return err
	}
	d := &demo{c: c, stage: newStage(c.stdout, c.colored(c.stdout)), gate: gate, dir: dir, people: map[string]string{}}
	d.opening()
	told := d.tell(ctx)
	if told {
		d.carryOn(ctx)
	}
	d.ending()
	return d.verdict(told)
}

// chapter is a part of the story: a heading, why it is worth a look, and what happens.
type chapter struct {
	title, about string
	play         func(ctx context.Context)
}

func (d *demo) story() []chapter {
	return []chapter{
		{"Two apps register", "An administrator gives each app a domain and a secret.", d.register},
		{"The apps join", "Their servers connect as XMPP components (XEP-0114): any Jabber library does.", d.join},
		{"Ann and Bob decide who may see them",
			"Each app knows a person under another opaque name. Lunch may see them only at the times they chose.", d.consent},
		{"Ann's phone comes online", "It says so in JSON. Both apps hear it, each under its own name for Ann.", d.annComes},
		{"Bob's phone comes online", "Chat hears it. For Lunch, Bob's time window is closed: it hears nothing.", d.bobComes},
		{"Ann opens her laptop, but is away from it", "Apps see each device. This one acknowledges what it gets.", d.laptopComes},
		{"Chat notifies Ann", "One message, all her devices; the receipt comes when a device has it.", d.notify},
		{"Bob's phone loses its network", "After a moment of grace it counts as offline: exactly one 'unavailable'.", d.bobGoes},
		{"Chat notifies Bob, who is away", "Accepted means on disk: this one waits, and would survive a power cut.", d.notifyAway},
		{"Bob's phone is back", "What waited is there at once. Confirmed, it is gone from the queue.", d.bobReturns},
		{"Ann revokes Lunch", "Lunch sees her devices go, then learns that the consent has ended.", d.revoke},
	}
}

func (d *demo) opening() {
	addrs := d.gate.addrs()
	d.stage.title("Presenced demo")
	d.stage.note(fmt.Sprintf("A gateway on a temporary folder: devices at %s, components at %s.",
		wsOrigin(d.gate.origin)+"/presence", addrs["xmpp"]))
}

// tell plays the chapters; false: it was stopped before the end.
func (d *demo) tell(ctx context.Context) bool {
	story := d.story()
	for i, ch := range story {
		d.stage.chapter(i+1, ch.title, ch.about)
		ch.play(ctx)
		if left := len(story) - i - 1; !d.rest(ctx, pause(ctx, left)) {
			return left == 0
		}
		if n := len(d.steps); n > 0 && d.steps[n-1].err != nil {
			return false // what follows builds on it
		}
	}
	return true
}

// pause is how long the reader has before the next of so many chapters: less where the demo is to end soon, so that a
// busy machine leaves out pauses and no chapters.
func pause(ctx context.Context, chapters int) time.Duration {
	end, limited := ctx.Deadline()
	if !limited {
		return demoPause
	}
	return min(demoPause, time.Until(end)/time.Duration(4*chapters+4))
}

// rest lets the reader catch up; false: the demo is to end.
func (d *demo) rest(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

// expect notes whether a step happened.
func (d *demo) expect(what string, err error) {
	d.steps = append(d.steps, step{what, err})
	d.stage.check(what, err)
}

// admin runs a command of this program on the demo's folder, shows it, and reads its answer.
func (d *demo) admin(ctx context.Context, into any, args ...string) {
	d.stage.command("presenced " + quoted(args))
	var out, errs bytes.Buffer
	sub := &cli{stdin: strings.NewReader(""), stdout: &out, stderr: &errs}
	if run(ctx, append([]string{"--data", d.dir, "--json"}, args...), sub) != exitOK {
		d.expect("presenced "+quoted(args), errors.New(strings.TrimSpace(errs.String())))
		return
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		d.expect("presenced "+quoted(args), err)
	}
}

func quoted(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		if words[i] = a; strings.ContainsAny(a, " '") {
			words[i] = fmt.Sprintf("%q", a)
		}
	}
	return strings.Join(words, " ")
}

func (d *demo) register(ctx context.Context) {
	for _, app := range []struct {
		name, domain string
		to           **demoComponent
	}{{"Chat", "chat.example", &d.chat}, {"Lunch", "lunch.example", &d.lunch}} {
		var made struct{ Appid, Secret string }
		d.admin(ctx, &made, "app", "add", app.name, "--component", app.domain)
		*app.to = &demoComponent{actor: newActor(d.stage, app.name), domain: app.domain, secret: made.Secret}
	}
}

func (d *demo) join(ctx context.Context) {
	addr := d.gate.addrs()["xmpp"]
	d.expect("Chat is connected", d.chat.join(ctx, addr))
	d.expect("Lunch is connected", d.lunch.join(ctx, addr))
}

func (d *demo) consent(ctx context.Context) {
	for _, email := range []string{"ann@example.org", "bob@example.org"} {
		var made struct{ Token string }
		d.admin(ctx, &made, "user", "token", email)
		d.people[email] = made.Token
	}
	now := time.Now().UTC()
	hours := func(from, to int) string {
		at := func(h int) string { return now.Add(time.Duration(h)*time.Hour).Format("15") + ":00" }
		return at(from) + "-" + at(to)
	}
	for _, g := range []struct {
		puid *string
		args []string
	}{
		{&d.annPUID, []string{"ann@example.org", "chat"}},
		{&d.annForLunch, []string{"ann@example.org", "lunch", "--window", hours(-1, 3)}},
		{&d.bobPUID, []string{"bob@example.org", "chat"}},
		{&d.bobForLunch, []string{"bob@example.org", "lunch", "--window", hours(8, 12)}},
	} {
		var made struct{ PUID string }
		d.admin(ctx, &made, append([]string{"grant", "allow"}, g.args...)...)
		*g.puid = made.PUID
	}
}

func (d *demo) device(ctx context.Context, name, email, id, frame string) (*demoDevice, error) {
	dev := &demoDevice{actor: newActor(d.stage, name), email: email, id: id, token: d.people[email]}
	return dev, dev.open(ctx, wsOrigin(d.gate.origin)+"/presence", frame)
}

func (d *demo) annComes(ctx context.Context) {
	var err error
	d.phone, err = d.device(ctx, "Ann's phone", "ann@example.org", "phone", `"status":"online"`)
	d.expect("Ann's phone is signed in", err)
	d.expect("Chat sees Ann online", d.chat.await(ctx, d.annPUID, "<presence"))
	d.expect("Lunch sees Ann online under another name", d.lunch.await(ctx, d.annForLunch, "<presence"))
}

func (d *demo) bobComes(ctx context.Context) {
	var err error
	d.bob, err = d.device(ctx, "Bob's phone", "bob@example.org", "phone", `"status":"online"`)
	d.expect("Bob's phone is signed in", err)
	d.expect("Chat sees Bob online", d.chat.await(ctx, d.bobPUID, "<presence"))
	// An answer to a ping comes behind everything the gateway had to say before.
	d.lunch.send(`<iq type='get' id='p1' from='lunch.example' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>`)
	err = d.lunch.await(ctx, "'p1'", "<iq")
	d.expect("Lunch heard nothing of Bob", errors.Join(err, d.lunch.neverHeard(d.bobForLunch)))
}

func (d *demo) laptopComes(ctx context.Context) {
	var err error
	d.laptop, err = d.device(ctx, "Ann's laptop", "ann@example.org", "laptop", `"type":"hello","ack":true,"status":"unavailable"`)
	d.expect("Ann's laptop is signed in", err)
	d.expect("Chat sees the laptop away", d.chat.await(ctx, d.annPUID, "<show>away</show>"))
}

func (d *demo) notify(ctx context.Context) {
	d.chat.send(`<message from='bob@chat.example' to='` + d.annPUID + `@localhost' id='m1'>` +
		`<body>Coffee?</body><request xmlns='urn:xmpp:receipts'/></message>`)
	d.expect("Ann's phone got it", d.phone.await(ctx, "Coffee?"))
	frame, err := d.laptop.hear(ctx, "Coffee?")
	d.expect("Ann's laptop got it", err)
	if err == nil {
		d.laptop.ack(frame)
	}
	d.expect("Chat has the receipt", d.chat.await(ctx, "<received", "m1"))
}

func (d *demo) bobGoes(ctx context.Context) {
	d.bob.cut()
	d.expect("Chat sees Bob go", d.chat.await(ctx, d.bobPUID, "unavailable"))
}

func (d *demo) notifyAway(ctx context.Context) {
	d.chat.send(`<message from='ann@chat.example' to='` + d.bobPUID + `@localhost' id='m2'>` +
		`<body>Where are you?</body><request xmlns='urn:xmpp:receipts'/></message>`)
	var queue []struct{ Waiting int }
	deadline := time.Now().Add(demoWait)
	for len(queue) == 0 && time.Now().Before(deadline) && ctx.Err() == nil { // accepted is not answered: look until it is there
		queue = nil
		var out bytes.Buffer
		run(ctx, []string{"--data", d.dir, "--json", "queue", "list"}, &cli{stdout: &out, stderr: &out})
		_ = json.Unmarshal(out.Bytes(), &queue)
	}
	d.stage.command("presenced queue list")
	err := error(nil)
	if len(queue) != 1 || queue[0].Waiting != 1 {
		err = fmt.Errorf("the queue is %+v", queue)
	}
	d.expect("One notification waits for Bob on disk", err)
}

func (d *demo) bobReturns(ctx context.Context) {
	var err error
	d.bob, err = d.device(ctx, "Bob's phone", "bob@example.org", "phone", `"status":"online"`)
	d.expect("Bob's phone is signed in again", err)
	d.expect("Bob's phone got what waited", d.bob.await(ctx, "Where are you?"))
	d.expect("Chat has the receipt, now", d.chat.await(ctx, "<received", "m2"))
}

func (d *demo) revoke(ctx context.Context) {
	d.admin(ctx, nil, "grant", "revoke", "ann@example.org", "lunch")
	d.expect("Lunch sees Ann go", d.lunch.await(ctx, d.annForLunch, "unavailable"))
	d.expect("Lunch is told that it may no longer see her", d.lunch.await(ctx, d.annForLunch, "unsubscribed"))
	d.expect("Lunch never heard of Bob", d.lunch.neverHeard(d.bobForLunch))
}

// carryOn lets the devices change until the demo is to end.
func (d *demo) carryOn(ctx context.Context) {
	d.stage.chapter(0, "And so on", "Ann and Bob come and go. Ctrl-C ends it.")
	statuses := []string{"online", "unavailable", "offline"}
	last := map[*demoDevice]string{}
	for d.rest(ctx, 2*demoPause) {
		dev := []*demoDevice{d.phone, d.laptop, d.bob}[rand.IntN(3)]
		next := statuses[rand.IntN(len(statuses))]
		if next != last[dev] {
			last[dev] = next
			dev.say(`{"status":"` + next + `"}`)
		}
	}
}

// ending stops the gateway and sees that everybody was told.
func (d *demo) ending() {
	d.stage.chapter(0, "The gateway stops", "Devices are asked to come back later, apps are told why the stream ends.")
	var apps []*demoComponent
	for _, a := range []*demoComponent{d.chat, d.lunch} {
		if a != nil && a.joined() {
			apps = append(apps, a)
		}
	}
	var devices []*demoDevice
	for _, dev := range []*demoDevice{d.phone, d.laptop, d.bob} {
		if dev != nil && dev.joined() {
			devices = append(devices, dev)
		}
	}
	stopped := d.gate.Stop()
	for _, a := range apps {
		d.expect(a.name+" was told of the shutdown", a.await(context.Background(), "system-shutdown"))
		a.leave()
	}
	for _, dev := range devices {
		d.expect(dev.name+" was told to come back later", dev.await(context.Background(), "4001"))
		dev.leave()
	}
	d.expect("The gateway stopped cleanly", stopped)
}

func (d *demo) verdict(told bool) error {
	happened := 0
	for _, s := range d.steps {
		if s.err == nil {
			happened++
		}
	}
	d.stage.verdict(happened, len(d.steps), told)
	switch {
	case happened < len(d.steps):
		return toldError{}
	case !told:
		return errors.New("stopped before the end of the story")
	}
	return nil
}
