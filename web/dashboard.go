package web

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"presenced/presence"
)

// Mine is what the dashboard needs of the store beside what the hub gives.
type Mine interface {
	User(email string) (presence.User, bool, error)
	PutUser(presence.User) error
	RemoveUser(email string) error
	AuditOf(email string, max int) ([]presence.AuditEntry, error)
	ActivityOf(email string, since time.Time, max int) ([]presence.Event, error)
	RenameDevice(email, device, name string) error
	RemoveDevice(email, device string) error
	Pending(email, device string, after uint64, max int) ([]presence.Notification, error)
}

func (s *Site) dashboardRoutes(mux *http.ServeMux) {
	s.nav = append(s.nav, link{Path: dashboardPath, Text: "Dashboard"})
	mux.HandleFunc("GET /dashboard", s.getDashboard)
	mux.HandleFunc("GET /sidebar", s.getSidebar)
	mux.HandleFunc("GET /events", s.signedIn(s.getEvents))
	mux.HandleFunc("GET /dashboard/export", s.signedIn(s.getExport))
	mux.HandleFunc("GET /dashboard/apps/{app}", s.page("seen", s.appPage))
	s.dashboardActs(mux)
	s.connectRoutes(mux)
}

const (
	dashboardPath = "/dashboard"
	sidebarPath   = "/sidebar"
)

// What the dashboard shows at once.
const (
	appsShown     = 15
	requestsShown = 8
	devicesShown  = 12
	linesShown    = 25
	windowsShown  = 5        // of an app, in words
	nameShown     = 50       // characters of an app's name
	textShown     = 120      // the same, of what others wrote
	weekBytes     = 14 << 10 // of pictures, and of the words for them
	weeksAway     = 5        // back or ahead: activity is not kept for longer
)

// dashboardParts are the parts of the page that can be asked for alone, with ?part=, and what fills each in.
var dashboardParts = map[string]func(*board) error{
	"status": (*board).loadStatus, "requests": (*board).loadRequests, "apps": (*board).loadApps,
	"devices": (*board).loadDevices, "week": (*board).loadWeek, "timeline": (*board).loadTimeline,
}

// sidebarParts are those of the small form.
var sidebarParts = []string{"status", "requests", "apps"}

// board is the data of pages/dashboard.html: one user's, for one request.
type board struct {
	site  *Site
	query url.Values
	zone  *time.Location
	now   time.Time
	hist  *history         // loaded when first asked for
	own   []presence.Grant // the same

	Email string
	Small bool // the sidebar
	Next  string

	Status   statusPart
	Requests []requestView
	Waiting  int // requests, shown or not
	Apps     appsPart
	Devices  devicesPart
	Week     weekPart
	Timeline timelinePart
}

func (s *Site) newBoard(r *http.Request, email string) (*board, error) {
	b := &board{site: s, query: r.URL.Query(), now: s.cfg.Now(), Email: email, Small: r.URL.Path == sidebarPath, Next: r.URL.Path}
	grants, err := s.cfg.Store.GrantsOf(email)
	if err != nil {
		return nil, err
	}
	b.own = slices.DeleteFunc(grants, func(g presence.Grant) bool { return g.Ended(b.now) })
	b.zone = browserZone(r, b.own)
	return b, nil
}

// browserZone is where the person is: as the browser says in a cookie, else as her grants say, else UTC.
func browserZone(r *http.Request, grants []presence.Grant) *time.Location {
	names := []string{}
	if c, err := r.Cookie("tz"); err == nil {
		name, _ := url.QueryUnescape(c.Value)
		names = append(names, name)
	}
	for i := range grants {
		names = append(names, grants[i].TZ)
	}
	for _, name := range names {
		if name == "" || name == "Local" || len(name) > 64 {
			continue
		}
		if z, err := time.LoadLocation(name); err == nil {
			return z
		}
	}
	return time.UTC
}

// history is what happened, read once for each request.
func (b *board) history() (*history, error) {
	if b.hist == nil {
		var err error
		if b.hist, err = b.site.history(b.Email); err != nil {
			return nil, err
		}
	}
	return b.hist, nil
}

// appName is what people call an app.
func (s *Site) appName(id string) string {
	if a, ok := s.cfg.Hub.App(id); ok {
		return shorten(plain(a.Name), nameShown)
	}
	return id
}

func (s *Site) getDashboard(w http.ResponseWriter, r *http.Request) {
	part := r.URL.Query().Get("part")
	if part == "" {
		s.page("dashboard", s.board)(w, r)
		return
	}
	load := dashboardParts[part]
	if load == nil {
		s.fail(w, r, errNotFound)
		return
	}
	s.signedIn(func(w http.ResponseWriter, r *http.Request, email string) {
		b, err := s.newBoard(r, email)
		if err == nil {
			b.Small, b.Next = b.query.Get("small") != "", dashboardPath
			if b.Small {
				b.Next = sidebarPath
			}
			err = load(b)
		}
		if err == nil {
			err = s.renderPart(w, "part-"+part, b)
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})(w, r)
}

// renderPart answers with one part of the dashboard, without the frame of the page.
func (s *Site) renderPart(w http.ResponseWriter, name string, b *board) error {
	var out bytes.Buffer
	if err := s.pages["dashboard"].ExecuteTemplate(&out, name, b); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(out.Len()))
	w.Write(out.Bytes())
	return nil
}

func (s *Site) getSidebar(w http.ResponseWriter, r *http.Request) {
	s.setPolicy(w.Header(), policy{ancestors: s.cfg.Sidebar})
	s.page("dashboard", s.board)(w, r)
}

// board fills in all that the dashboard, or the sidebar, shows.
func (s *Site) board(r *http.Request, email string) (any, error) {
	b, err := s.newBoard(r, email)
	if err != nil {
		return nil, err
	}
	for part, load := range dashboardParts {
		if b.Small && !slices.Contains(sidebarParts, part) {
			continue
		}
		if err := load(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// statusPart is how she is seen.
type statusPart struct {
	Status    string   // of her best device
	Invisible bool     // to all
	Until     string   // when that ends; "": when she says so
	Seers     []string // apps that can see her now
	More      int      // of them, not named
}

func (b *board) loadStatus() error {
	u, _, err := b.site.cfg.Store.User(b.Email)
	if err != nil {
		return err
	}
	devices, err := b.site.cfg.Hub.Devices(b.Email)
	if err != nil {
		return err
	}
	best := presence.Offline
	for _, d := range devices {
		if st, err := presence.ParseStatus(d.Status); err == nil {
			best = max(best, st)
		}
	}
	b.Status = statusPart{Status: best.String(), Invisible: u.Hidden(b.now)}
	if b.Status.Invisible && !u.InvisibleUntil.IsZero() {
		b.Status.Until = b.at(u.InvisibleUntil)
	}
	for i := range b.own {
		sight, err := b.site.cfg.Hub.Sight(&b.own[i])
		if err != nil {
			return err
		}
		if !sight.Shown {
			continue
		}
		if len(b.Status.Seers) == maxSeers {
			b.Status.More++
			continue
		}
		b.Status.Seers = append(b.Status.Seers, b.site.appName(b.own[i].App))
	}
	return nil
}

// requestView is an app that waits for an answer.
type requestView struct {
	App, Name, Purpose, Since, Next string
}

func (b *board) loadRequests() error {
	list, err := b.site.cfg.Hub.RequestsOf(b.Email)
	if err != nil {
		return err
	}
	b.Waiting = len(list)
	for _, r := range list[:min(len(list), requestsShown)] {
		b.Requests = append(b.Requests, requestView{r.App, shorten(plain(r.Name), nameShown), shorten(plain(r.Purpose), textShown), b.at(r.Time), b.Next})
	}
	return nil
}

// appsPart is who may see her.
type appsPart struct {
	List  []appView
	Total int
	After int // ?apps= of the next page; 0: there is none
}

// appView is a grant, for people.
type appView struct {
	App, Name, Site     string
	Shown, Paused       bool
	State               string   // why not, or until when
	When                []string // its windows
	Until               string   // when the grant ends
	Notify, Idle        bool
	NoStatus, NoDevices bool // left out
	Tomorrow, Next      string
}

func (b *board) loadApps() error {
	list := slices.Clone(b.own)
	slices.SortFunc(list, func(x, y presence.Grant) int {
		return strings.Compare(strings.ToLower(b.site.appName(x.App))+x.App, strings.ToLower(b.site.appName(y.App))+y.App)
	})
	b.Apps.Total = len(list)
	list, b.Apps.After = pageOf(list, b.query.Get("apps"), appsShown)
	for i := range list {
		v, err := b.appView(&list[i])
		if err != nil {
			return err
		}
		b.Apps.List = append(b.Apps.List, v)
	}
	return nil
}

// pageOf is the page of a list that begins at from, and where the next one does; 0: there is none.
func pageOf[T any](list []T, from string, most int) (page []T, after int) {
	first, _ := strconv.Atoi(from)
	if first < 0 || first >= len(list) {
		first = 0
	}
	if page = list[first:]; len(page) > most {
		return page[:most], first + most
	}
	return page, 0
}

func (b *board) appView(g *presence.Grant) (appView, error) {
	sight, err := b.site.cfg.Hub.Sight(g)
	if err != nil {
		return appView{}, err
	}
	v := appView{App: g.App, Name: g.App, Shown: sight.Shown, Paused: sight.Paused, Notify: g.Notify, Idle: g.Idle,
		NoStatus: g.NoStatus, NoDevices: g.NoDevices, Tomorrow: b.at(tomorrow(b.now, b.zone)), Next: b.Next}
	if a, ok := b.site.cfg.Hub.App(g.App); ok {
		v.Name, v.Site = shorten(plain(a.Name), nameShown), a.Component
	}
	for i, w := range g.Windows {
		if i == windowsShown {
			v.When = append(v.When, fmt.Sprintf("and %d times more", len(g.Windows)-i))
			break
		}
		v.When = append(v.When, windowWords(w))
	}
	if g.Until != nil {
		v.Until = b.at(*g.Until)
	}
	v.State = b.state(g, sight)
	return v, nil
}

// state says in words how a grant stands.
func (b *board) state(g *presence.Grant, sight presence.Sight) string {
	switch {
	case sight.NoStatus:
		return "does not see you"
	case sight.Paused && g.PausedUntil != nil:
		return "paused until " + b.at(*g.PausedUntil)
	case sight.Paused:
		return "paused"
	case sight.Invisible:
		return "you are invisible"
	case sight.Shown && !sight.Change.IsZero():
		return "can see you until " + b.at(sight.Change)
	case sight.Shown:
		return "can see you"
	case sight.Change.IsZero():
		return "cannot see you"
	}
	return "cannot see you until " + b.at(sight.Change)
}

// windowWords is a window for people: "Mon, Tue 21:00–23:00".
func windowWords(w presence.Window) string {
	days := "every day"
	if len(w.Days) > 0 && len(w.Days) < 7 {
		names := make([]string, len(w.Days))
		for i, d := range w.Days {
			names[i] = strings.ToUpper(d[:1]) + d[1:]
		}
		days = strings.Join(names, ", ")
	}
	return days + " " + w.From + "–" + w.To
}

// at tells a moment as shortly as it is clear now.
func (b *board) at(t time.Time) string {
	local, now := t.In(b.zone), b.now.In(b.zone)
	switch days := t.Sub(b.now).Hours() / 24; {
	case local.Format(time.DateOnly) == now.Format(time.DateOnly):
		return local.Format("15:04")
	case days > -6 && days < 6:
		return local.Format("Mon 15:04")
	case local.Year() == now.Year():
		return local.Format("2 January, 15:04")
	}
	return local.Format("2 January 2006, 15:04")
}

// devicesPart is what she has connected, and what may connect.
type devicesPart struct {
	List   []deviceView
	Tokens []tokenView
	After  int // ?devices= of the next page; 0: there is none
}

type deviceView struct {
	ID, Name, Status, Since, Next string
	Connected                     bool
}

// tokenView is a secret that is good for every device, or for programs.
type tokenView struct {
	Hash, Name, Kind, Since, Until string
}

func (b *board) loadDevices() error {
	devices, err := b.site.cfg.Hub.Devices(b.Email)
	if err != nil {
		return err
	}
	tokens, err := b.site.cfg.Store.TokensOf(b.Email)
	if err != nil {
		return err
	}
	for _, d := range devices {
		v := deviceView{ID: d.Device, Name: d.Name, Status: d.Status, Connected: d.State == "connected", Next: b.Next}
		if !d.Since.IsZero() {
			v.Since = b.at(d.Since)
		}
		b.Devices.List = append(b.Devices.List, v)
	}
	for i := range tokens {
		b.addToken(&tokens[i])
	}
	slices.SortStableFunc(b.Devices.List, func(x, y deviceView) int { return rank(x) - rank(y) })
	b.Devices.List, b.Devices.After = pageOf(b.Devices.List, b.query.Get("devices"), devicesShown)
	b.Devices.Tokens, _ = pageOf(b.Devices.Tokens, "", devicesShown) // when some are taken back, the rest is shown
	return nil
}

// rank puts those that are there first.
func rank(d deviceView) int {
	if d.Connected {
		return 0
	}
	return 1
}

// addToken shows a token as the device that it is for, if that has not come yet, else by itself.
func (b *board) addToken(t *presence.Token) {
	if t.Expired(b.now) {
		return
	}
	if t.Device != "" {
		if !slices.ContainsFunc(b.Devices.List, func(d deviceView) bool { return d.ID == t.Device }) {
			b.Devices.List = append(b.Devices.List, deviceView{ID: t.Device, Name: t.Name, Status: "offline", Next: b.Next})
		}
		return
	}
	v := tokenView{Hash: fmt.Sprintf("%x", t.Hash), Name: t.Name, Kind: "any device", Since: b.at(t.Created)}
	if t.ForAPI() {
		v.Kind = "programs: " + strings.Join(t.Scopes, " ")
	}
	if !t.Expires.IsZero() {
		v.Until = b.at(t.Expires)
	}
	b.Devices.Tokens = append(b.Devices.Tokens, v)
}

// weekPart is who could see her when.
type weekPart struct {
	Title      string
	Zone       string
	Away       int
	Prev, Next string // addresses; "": there is none
	Days       []string
	Rows       []weekRow
	More       int // apps without a row
}

type weekRow struct {
	App, Name  string
	Linked     bool // there is a page about it
	Strip      template.HTML
	Could, Saw []string
}

func (b *board) loadWeek() error {
	h, err := b.history()
	if err != nil {
		return err
	}
	b.Week = b.weekPart(h, b.appsSeen(h), dashboardPath)
	return nil
}

// weekPart is the picture of the week that ?week= asks for, with a row for each of the apps; path is the page's.
func (b *board) weekPart(h *history, apps []string, path string) weekPart {
	away, _ := strconv.Atoi(b.query.Get("week"))
	away = min(max(away, -weeksAway), weeksAway)
	w := weekAt(b.now, b.zone, away)
	p := weekPart{Zone: b.zone.String(), Away: away,
		Title: w.start().Format("2 January") + " – " + w.Days[6].In(b.zone).Format("2 January 2006")}
	for i, to := range []*string{&p.Prev, &p.Next} {
		if n := away + 2*i - 1; n >= -weeksAway && n <= weeksAway {
			*to = path + "?week=" + strconv.Itoa(n) + "#week"
		}
	}
	for _, d := range w.Days[:7] {
		p.Days = append(p.Days, d.Add(12*time.Hour).In(b.zone).Format("Mon 2"))
	}
	size := 0
	for _, app := range apps {
		row := b.weekRow(h, &w, app)
		if row == nil {
			continue
		}
		size += len(row.Strip) + 40*(len(row.Could)+len(row.Saw))
		if size > weekBytes {
			p.More++
			continue
		}
		p.Rows = append(p.Rows, *row)
	}
	return p
}

// grant is her grant for an app; nil: there is none.
func (b *board) grant(app string) *presence.Grant {
	i := slices.IndexFunc(b.own, func(g presence.Grant) bool { return g.App == app })
	if i < 0 {
		return nil
	}
	return &b.own[i]
}

// appsSeen are the apps that she granted now, and those that she once did, by name.
func (b *board) appsSeen(h *history) (apps []string) {
	for i := range b.own {
		apps = append(apps, b.own[i].App)
	}
	for _, e := range h.audit {
		if e.App != "" && !slices.Contains(apps, e.App) {
			apps = append(apps, e.App)
		}
	}
	slices.SortFunc(apps, func(x, y string) int {
		return strings.Compare(strings.ToLower(b.site.appName(x))+x, strings.ToLower(b.site.appName(y))+y)
	})
	return apps
}

// weekRow is an app's row; nil: it has no grant and could not see her in that week.
func (b *board) weekRow(h *history, w *weekFrame, app string) *weekRow {
	g := b.grant(app)
	could := h.could(app, g, w)
	if g == nil && len(could) == 0 {
		return nil
	}
	saw := h.saw(could)
	row := weekRow{App: app, Name: b.site.appName(app), Linked: g != nil, Could: w.words(could), Saw: w.words(saw)}
	title := fmt.Sprintf("%s: may see you for %s of this week, has seen you there for %s", row.Name, hours(length(could)), hours(length(saw)))
	desc := "Never."
	if len(row.Could) > 0 {
		desc = "May see you: " + strings.Join(row.Could, ", ") + "."
	}
	row.Strip = w.strip("week-"+app, title, desc, could, saw)
	return &row
}

// timelinePart is what happened, newest first.
type timelinePart struct {
	Days  []timelineDay
	Older string // address of what was before; "": there is nothing
}

type timelineDay struct {
	Title string
	Lines []timelineLine
}

type timelineLine struct{ At, Stamp, Text, Note string }

func (b *board) loadTimeline() error {
	h, err := b.history()
	if err != nil {
		return err
	}
	b.Timeline = b.timeline(h, "")
	return nil
}

// timeline is a page of it: of one app, or of all.
func (b *board) timeline(h *history, app string) (p timelinePart) {
	before, err := strconv.ParseInt(b.query.Get("before"), 10, 64)
	if err != nil {
		before = h.far().UnixMilli()
	}
	shown, last := 0, int64(0)
	for _, l := range h.lines(b.site.appName, b.everCould(h, app), app) {
		ms := l.Time.UnixMilli()
		if ms >= before {
			continue
		}
		// What happened at one moment stays together, unless it is very much: then the export has the rest.
		if shown++; shown > linesShown && ms != last || shown > 3*linesShown {
			p.Older = "?before=" + strconv.FormatInt(last, 10) + "#timeline"
			return p
		}
		last = ms
		title := b.day(l.Time)
		if n := len(p.Days); n == 0 || p.Days[n-1].Title != title {
			p.Days = append(p.Days, timelineDay{Title: title})
		}
		day := &p.Days[len(p.Days)-1]
		day.Lines = append(day.Lines, timelineLine{l.Time.In(b.zone).Format("15:04"), l.Time.UTC().Format(time.RFC3339), l.Text, b.note(l.Note)})
	}
	return p
}

// note is a line's note, with the moment that an audit may name in the person's own time.
func (b *board) note(text string) string {
	if stamp, ok := strings.CutPrefix(text, "until "); ok {
		if t, err := time.Parse(time.RFC3339, stamp); err == nil {
			return "until " + b.at(t)
		}
	}
	return shorten(plain(text), textShown)
}

func shorten(text string, most int) string {
	if c := []rune(text); len(c) > most {
		return string(c[:most-1]) + "…"
	}
	return text
}

// everCould is when each app, or this one, could see her, since the oldest activity that is kept.
func (b *board) everCould(h *history, app string) map[string][]span {
	could := map[string][]span{}
	if len(h.activity) == 0 {
		return could
	}
	ever := weekFrame{Zone: b.zone, Now: b.now}
	ever.Days[0], ever.Days[7] = h.activity[0].Time, b.now.Add(time.Minute)
	apps := b.appsSeen(h)
	if app != "" {
		apps = []string{app}
	}
	for _, a := range apps {
		could[a] = h.could(a, b.grant(a), &ever)
	}
	return could
}

func (b *board) day(t time.Time) string {
	local, now := t.In(b.zone), b.now.In(b.zone)
	switch local.Format(time.DateOnly) {
	case now.Format(time.DateOnly):
		return "Today"
	case now.AddDate(0, 0, -1).Format(time.DateOnly):
		return "Yesterday"
	}
	return local.Format("Monday 2 January")
}

// seenPage is the data of pages/seen.html: what one app saw and sent.
type seenPage struct {
	App      appView
	Granted  bool
	Week     weekPart
	Timeline timelinePart
}

// appPage is for an app that she grants, or once did.
func (s *Site) appPage(r *http.Request, email string) (any, error) {
	b, err := s.newBoard(r, email)
	if err != nil {
		return nil, err
	}
	b.Next = dashboardPath
	h, err := b.history()
	if err != nil {
		return nil, err
	}
	app := r.PathValue("app")
	if !slices.Contains(b.appsSeen(h), app) {
		return nil, errNotFound
	}
	p := &seenPage{App: appView{App: app, Name: s.appName(app)}, Timeline: b.timeline(h, app)}
	if g := b.grant(app); g != nil {
		p.Granted = true
		if p.App, err = b.appView(g); err != nil {
			return nil, err
		}
	}
	p.Week = b.weekPart(h, []string{app}, r.URL.Path)
	return p, nil
}
