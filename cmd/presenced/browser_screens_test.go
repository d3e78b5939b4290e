//go:build interop

package main

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"slices"
)

// maxScreen is what a picture of the documentation may weigh, in bytes.
const maxScreen = 60 << 10

// screens takes the pictures of docs/screens: into the folder that PRESENCED_SCREENS names, else only to see that
// they can be taken, and are small.
func screens(w *scene) {
	w.env = append(w.env, "PRESENCED_ADMINS=ann@example.org")
	w.gateway.stop()
	w.start()
	c := w.newChat("Beer Chat", xmppJS, "--description", "To find out which of your friends are up for a beer tonight.")
	support := w.registerOther("Live Support", "support.example")
	w.registerOther("Evening Planner", "planner.example")
	token := w.token("ann@example.org")
	family := w.registerOther("Family", "family.example")
	w.site.run("", nil, "grant", "allow", "ann@example.org", support, "--window", "mon-fri 09:00-17:30", "--tz", "Europe/Paris", "--no-notify")
	w.site.run("", nil, "grant", "allow", "ann@example.org", c.appID, "--window", "thu-sat 20:00-01:00", "--window", "sun 14:00-18:00", "--tz", "Europe/Paris")
	w.site.run("", nil, "grant", "allow", "ann@example.org", family)
	desktop := map[string]any{"width": 900, "height": 1000}
	phone := map[string]any{"width": 360, "height": 720}
	shots := []struct {
		name, path, scheme string
		size               map[string]any
		sees, part         string // what it waits for, and what is at the top
	}{
		{"dashboard", "/dashboard", "light", desktop, "dinner?", ""},
		{"week-dark", "/dashboard?week=1", "dark", desktop, "Week before", "#week"},
		{"dashboard-phone", "/dashboard", "light", phone, "dinner?", ""},
		{"doorhanger", "/grant/evening-planner", "light", desktop, "May Evening Planner", ""},
		{"doorhanger-phone-dark", "/grant/evening-planner", "dark", phone, "May Evening Planner", ""},
		{"app", "/myapps/" + c.appID, "light", desktop, "How it does", ""},
		{"admin-dark", "/admin", "dark", map[string]any{"width": 900, "height": 800}, "What happens", ""},
	}
	stranger := w.tab("stranger", "viewport", map[string]any{"width": 900, "height": 640})
	stranger.open(w.origin+"/", 200)
	stranger.screen(w.pictures, "sign-in")
	for _, s := range shots {
		p := w.tab(s.name, "viewport", s.size, "colorScheme", s.scheme, "timezoneId", "Europe/Paris")
		p.open(w.origin+"/", 200)
		w.fillIn(p, "", token)
		p.at("/dashboard")
		if s.sees == "dinner?" {
			here(p, "Online")
			p.seesIn("[data-part=status]", "Online That is what Family")
			p.seesIn("#timeline", "online")
			c.peer.do(do("message", "to", c.addressOf("ann@example.org"), "from", "bob@"+chatDomain, "id", s.name, "body", "Are you up for "+s.sees,
				"nick", "Bob", "url", "https://chat.example/rooms/1"))
		}
		if s.path != "/dashboard" {
			p.open(w.origin+s.path, 200)
		}
		if s.path == "/admin" { // with something to see, once it is looking
			p.run("await Promise.all([page.waitForResponse(r => r.url().endsWith('/admin/events')), page.reload()])")
			w.site.run("", nil, "grant", "pause", "ann@example.org", family)
			w.site.run("", nil, "grant", "resume", "ann@example.org", family)
			c.peer.do(do("message", "to", c.addressOf("ann@example.org"), "id", s.name, "body", "Good night"))
			p.seesIn("#events", c.appID)
		}
		p.sees(s.sees)
		p.run(`await page.evaluate(part => {
			document.activeElement.blur()
			if (part) window.scrollTo(0, document.querySelector(part).getBoundingClientRect().top - 20)
		}, args.part)`, "part", s.part)
		p.screen(w.pictures, s.name)
		p.close()
	}
}

// registerOther registers an app that does nothing, and returns its id.
func (w *scene) registerOther(name, domain string) string {
	w.t.Helper()
	var app struct{ AppID string }
	w.site.run("", &app, "app", "add", name, "--component", domain, "--description", "To put your evenings beside those of the others.")
	return app.AppID
}

// addressOf is how the component calls who allowed the app by the command line.
func (c *chat) addressOf(email string) string {
	c.t.Helper()
	var grants []struct{ AppID, Address string }
	c.site.run("", &grants, "grant", "list", email)
	for _, g := range grants {
		if g.AppID == c.appID {
			return g.Address
		}
	}
	c.t.Fatalf("%s did not allow %s", email, c.appID)
	return ""
}

// screen takes a picture of what is seen of the page, in few colours.
func (p *tab) screen(dir, name string) {
	p.t.Helper()
	var shot string
	p.get(&shot, "return (await page.screenshot({animations: 'disabled', caret: 'hide'})).toString('base64')")
	data, err := base64.StdEncoding.DecodeString(shot)
	if err != nil {
		p.t.Fatal(err)
	}
	full, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		p.t.Fatal(err)
	}
	var out bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.BestCompression}
	if err := enc.Encode(&out, fewColours(full)); err != nil {
		p.t.Fatal(err)
	}
	if out.Len() > maxScreen {
		p.t.Errorf("the picture %s weighs %d bytes", name, out.Len())
	}
	if dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), out.Bytes(), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
}

// screenColours of a picture: enough for letters that are smooth on a few backgrounds.
const screenColours = 128

// fewColours is the picture in those colours that it has the most of.
func fewColours(full image.Image) image.Image {
	count := map[color.RGBA]int{}
	b := full.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			count[color.RGBAModel.Convert(full.At(x, y)).(color.RGBA)]++
		}
	}
	var colours []color.RGBA
	for c := range count {
		colours = append(colours, c)
	}
	slices.SortFunc(colours, func(x, y color.RGBA) int { return count[y] - count[x] })
	var palette color.Palette
	for _, c := range colours[:min(len(colours), screenColours)] {
		palette = append(palette, c)
	}
	few := image.NewPaletted(b, palette)
	draw.Draw(few, b, full, b.Min, draw.Src)
	return few
}
