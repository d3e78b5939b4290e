//go:build interop

package main

import (
	"slices"
	"testing"
)

// TestInteropCommands: an administrator disconnects a device with slixmpp's own workflow of commands, there and back.
func TestInteropCommands(t *testing.T) {
	needPeers(t)
	bin := buildPresenced(t)
	t.Setenv("PRESENCED_ADMIN_JIDS", "root@"+appDomain)
	admin := library{name: "slixmpp", run: []string{python, "-u", "slixmpp_admin.py"}}
	w := newInterop(t, bin, admin)
	phone, watch := w.device("phone"), w.device("watch")
	app := w.app()

	app.do(do("commands", "to", "localhost", "id", "list"))
	if e := app.wait(event{Event: "result", ID: "list"}); !slices.Contains(e.Features, ourKind+"#disconnect") ||
		!slices.Contains(e.Features, adminKind+"#announce") {
		t.Errorf("the list of commands: %s", brief(e))
	}
	app.do(do("start", "to", "localhost", "id", "d", "node", ourKind+"#disconnect"))
	app.wait(event{Event: "command", ID: "d", Type: "executing", Features: []string{"next"}})
	fill := func(action string, fields map[string]any) {
		app.do(do("step", "id", "d", "action", action, "fields", fields))
	}
	fill("complete", map[string]any{"user": friend})
	app.wait(event{Event: "error", ID: "d", Condition: "bad-request"})
	fill("next", map[string]any{"user": friend})
	e := app.wait(event{Event: "command", ID: "d", Type: "executing", Features: []string{"complete", "prev"}})
	if !slices.Equal(e.Form["devices"], []string{"phone", "watch"}) {
		t.Errorf("the form for devices: %s", brief(e))
	}
	app.do(do("step", "id", "d", "action", "prev"))
	if e = app.wait(event{Event: "command", ID: "d", Type: "executing"}); !slices.Equal(e.Form["user"], []string{friend}) {
		t.Errorf("back at the first form: %s", brief(e))
	}
	fill("next", map[string]any{"user": friend})
	app.wait(event{Event: "command", ID: "d", Type: "executing"})
	fill("complete", map[string]any{"devices": []string{"watch"}})
	app.wait(event{Event: "command", ID: "d", Type: "completed", Notes: []string{"info: Devices disconnected: 1"}})
	watch.wait(event{Event: "close", Code: 4500})

	app.do(do("start", "to", "localhost", "id", "a", "node", adminKind+"#announce"))
	app.wait(event{Event: "command", ID: "a", Type: "executing"})
	app.do(do("step", "id", "a", "action", "cancel"))
	app.wait(event{Event: "command", ID: "a", Type: "canceled"})
	app.do(do("start", "to", "localhost", "id", "b", "node", adminKind+"#announce"))
	app.wait(event{Event: "command", ID: "b", Type: "executing"})
	app.do(do("step", "id", "b", "action", "complete", "fields", map[string]any{"announcement": []string{"Back", "at nine"}}))
	app.wait(event{Event: "command", ID: "b", Type: "completed"})
	notified(phone, "Back\nat nine")
}
