//go:build interop

package main

import (
	"os"
	"path/filepath"

	"presenced/identity/oidctest"
)

// signsIn with the assertion that --dev takes, is sent back to where she wanted to go, and signs out.
func signsIn(w *scene) {
	ann := w.tab("ann")
	ann.open(w.origin+"/dashboard?week=-1", 200)
	ann.at("/?next=%2Fdashboard%3Fweek%3D-1")
	w.fillIn(ann, "Ann@Example.org", "wrong")
	ann.sees("That is not a token this gateway knows.")
	ann.accessible()
	ann.complains("401")
	w.fillIn(ann, "ann@example.org", "dev")
	ann.at("/dashboard?week=-1")
	ann.sees("ann@example.org")
	here(ann, "Online")
	ann.press("Sign out")
	ann.at("/")
	ann.sees("Token")
	ann.run("await page.goBack(); await page.getByLabel('Token').waitFor()") // nothing of hers is shown again
	var kept int
	ann.get(&kept, "return await page.evaluate(() => localStorage.length)")
	if kept != 0 {
		w.t.Errorf("the browser keeps %d things of who has signed out", kept)
	}
	ann.quiet()
}

// signsInByToken, which the administrator made; without --dev.
func signsInByToken(w *scene) {
	token := w.token("ann@example.org")
	ann, mallory := w.tab("ann"), w.tab("mallory")
	ann.open(w.origin, 200)
	ann.misses("main", "the word dev")
	w.fillIn(ann, "", token) // it says whose it is
	ann.at("/dashboard")
	ann.sees("ann@example.org")

	mallory.open(w.origin, 200)
	w.fillIn(mallory, "ann@example.org", "dev")
	mallory.sees("That is not a token this gateway knows.")
	w.fillIn(mallory, "mallory@example.org", token)
	mallory.seesIn("[role=alert]", "") // it is Ann's
	mallory.at("/login")
	w.fillIn(mallory, "ann@example.org", w.token("ann@example.org", "--device", "phone"))
	mallory.sees("This token is for one device only.")
	mallory.complains("401")

	here(ann, "Online")
	ann.quiet()
	w.site.run("", nil, "user", "token", "revoke", "ann@example.org")
	ann.at("/?next=%2Fdashboard") // the sign-in ends with its token, and the page goes by itself
	ann.complains("401")
}

// signsInAtIssuer, by OpenID Connect with PKCE, over TLS.
func signsInAtIssuer(w *scene) {
	issuer := oidctest.Start(oidctest.Options{TLS: true, ClientSecret: "s3cret"})
	w.t.Cleanup(issuer.Close)
	dir := w.t.TempDir()
	w.write(filepath.Join(dir, "ca.pem"), string(issuer.CertPEM()))
	config := filepath.Join(dir, "presenced.toml")
	w.write(config, `[[identity.oidc]]
name = "work"
issuer = "`+issuer.URL+`"
client_id = "`+oidctest.DefaultClient+`"
client_secret = "s3cret"
domains = ["example.org"]
ca_file = "`+filepath.Join(dir, "ca.pem")+`"
`)
	w.gateway.stop()
	w.start("--config", config)

	ann := w.tab("ann", "ignoreHTTPSErrors", true) // the issuer's certificate is the test's
	ann.open(w.origin+"/dashboard", 200)
	ann.press("Sign in with work")
	ann.fill("E-mail", "ann@example.org")
	ann.press("Sign in")
	ann.at("/dashboard")
	ann.sees("ann@example.org")
	here(ann, "Online") // by a token of its own: the ID token is needed once
	ann.press("Sign out")
	ann.at("/")

	ann.press("Sign in with work")
	ann.press("Cancel")
	ann.sees("You were not signed in there.")
	ann.complains("401")
	ann.press("Sign in with work")
	ann.fill("E-mail", "eve@elsewhere.example")
	ann.press("Sign in")
	ann.seesIn("[role=alert]", "trust")
	ann.complains("401")

	// What an issuer answered to one browser is worth nothing in another one.
	issuer.SignIn("mallory@example.org")
	mallory := w.tab("mallory", "ignoreHTTPSErrors", true)
	mallory.open(w.origin, 200)
	var back string
	mallory.get(&back, `
		await context.route(u => u.pathname.endsWith('/callback'), r => r.abort())
		const callback = page.waitForRequest(r => r.url().includes('/callback'))
		await page.getByRole('link', {name: 'Sign in with work'}).click()
		return (await callback).url()`)
	ann.open(back, 400)
	ann.sees("This sign-in was not started here")
	ann.misses(".who", "mallory@example.org")
}

// signsOutEverywhere: a second browser is signed out too, and the device of the first one.
func signsOutEverywhere(w *scene) {
	home, work := w.signIn("ann@example.org"), w.tab("ann at work")
	work.open(w.origin, 200)
	w.fillIn(work, "ann@example.org", "dev")
	work.at("/dashboard")
	here(work, "Online")
	home.seesIn("[data-part=devices] h3", "Chrome on Linux web-")
	home.open(w.origin, 200)
	home.run("await page.getByText('Sign out everywhere').first().click()")
	home.check("My devices too")
	home.run("await page.locator('button[name=everywhere]').click()")
	home.at("/")
	home.sees("Token")
	work.at("/?next=%2Fdashboard") // by itself: what is hers is not left standing there
	work.sees("Token")
	home.open(w.origin+"/dashboard", 200)
	home.at("/?next=%2Fdashboard")
	home.quiet()
}

// fixesSessions: a cookie that somebody else planted is worth nothing after the sign-in.
func fixesSessions(w *scene) {
	mallory := w.signIn("mallory@example.org")
	var planted string
	mallory.get(&planted, "return (await context.cookies()).find(c => c.name === 'presenced').value")
	for name, value := range map[string]string{"mallory's own": planted, "made up": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"} {
		ann := w.tab("ann with " + name)
		ann.run("await context.addCookies([{name: 'presenced', value: args.value, url: args.url, httpOnly: true, sameSite: 'Lax'}])",
			"value", value, "url", w.origin)
		ann.open(w.origin+"/", 200)
		if name == "made up" {
			w.fillIn(ann, "ann@example.org", "dev")
			ann.at("/dashboard")
		} else {
			ann.run("await page.request.post(args.url, {form: {email: 'ann@example.org', assertion: 'dev'}})", "url", w.origin+"/login")
			ann.open(w.origin+"/dashboard", 200)
		}
		ann.seesIn(".who", "ann@example.org")
		var cookie struct {
			Value, SameSite string
			HTTPOnly        bool
		}
		ann.get(&cookie, "return (await context.cookies()).find(c => c.name === 'presenced')")
		if cookie.Value == value || !cookie.HTTPOnly || cookie.SameSite != "Lax" {
			w.t.Errorf("%s: the cookie after signing in: %+v", name, cookie)
		}
	}
	var seen bool // by the scripts of a page
	mallory.get(&seen, "return await page.evaluate(() => document.cookie.includes('presenced'))")
	if seen {
		w.t.Error("scripts can read the session's cookie")
	}
}

func (w *scene) write(file, text string) {
	w.t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}
