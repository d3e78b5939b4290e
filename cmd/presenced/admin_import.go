package main

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"presenced/identity"
	"presenced/presence"
	"presenced/web/account"
)

const (
	importBatch   = 1000    // lines that share a commit
	maxImportLine = 1 << 20 // bytes
)

// imported counts what an import has put on disk.
type imported struct {
	Lines  int `json:"lines"`
	Apps   int `json:"apps"`
	Tokens int `json:"tokens"`
	Grants int `json:"grants"`
	Users  int `json:"users,omitempty"`
	Groups int `json:"groups,omitempty"` // of devices
}

func (i *imported) add(n imported) {
	i.Lines += n.Lines
	i.Apps += n.Apps
	i.Tokens += n.Tokens
	i.Grants += n.Grants
	i.Users += n.Users
	i.Groups += n.Groups
}

// lineError is what is wrong with one line of an import; the lines before it are on disk.
type lineError struct {
	line int
	err  error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// importLines takes one JSON object a line. ?line= is the number of the first one, for errors. Every thousand
// lines are written together; after an error what came before it stays.
func (a *admin) importLines(r *http.Request) (any, error) {
	first, err := strconv.Atoi(r.URL.Query().Get("line"))
	if err != nil {
		first = 1
	}
	im := &importer{a: a, line: first - 1}
	if err := im.read(r.Body); err != nil {
		return nil, importError(err)
	}
	return im.done, nil
}

// importError gives an error of a line the status of its cause.
func importError(err error) error {
	var at *lineError
	if !errors.As(err, &at) {
		return err
	}
	status := http.StatusBadRequest
	if errors.Is(err, presence.ErrStorage) {
		status = http.StatusServiceUnavailable
	}
	return &apiError{Status: status, Text: plainText(at)}
}

// importer gathers lines until they are written. It belongs to one request.
type importer struct {
	a    *admin
	line int // the last one read
	done imported

	// the batch
	n      int
	apps   []at[presence.App]
	tokens []at[presence.Token]
	grants []at[presence.Grant]
	users  []at[presence.User]
	groups []at[presence.DeviceGroup]
	seen   map[string]bool // keys of this batch: a second record of the same thing starts a new one
}

// at is a record and the line it came from.
type at[T any] struct {
	line int
	v    T
}

func (im *importer) read(body io.Reader) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxImportLine)
	for lines.Scan() {
		im.line++
		if err := im.take(lines.Bytes()); err != nil {
			return errors.Join(im.flush(), &lineError{im.line, err})
		}
		if im.n >= importBatch {
			if err := im.flush(); err != nil {
				return err
			}
		}
	}
	if err := im.flush(); err != nil {
		return err
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return &lineError{im.line + 1, fmt.Errorf("longer than %d bytes", maxImportLine)}
	}
	return lines.Err()
}

// take adds one line to the batch.
func (im *importer) take(line []byte) error {
	im.n++
	if len(bytes.TrimSpace(line)) == 0 {
		return nil
	}
	kind, body, err := openRecord(line)
	if err != nil {
		return err
	}
	switch kind {
	case "app":
		return im.takeApp(body)
	case "token":
		return im.takeToken(body)
	case "grant":
		return im.takeGrant(body)
	case "user":
		return im.takeUser(body)
	case "group":
		return im.takeGroup(body)
	}
	return fmt.Errorf("unknown record %q; known are app, user, token, grant, group", kind)
}

// openRecord takes {"kind":{...}} apart.
func openRecord(line []byte) (string, json.RawMessage, error) {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(line, &m); err != nil {
		return "", nil, fmt.Errorf("not a JSON object: %v", err)
	}
	if len(m) != 1 {
		return "", nil, errors.New(`want one record a line, such as {"app":{...}}`)
	}
	for kind, body := range m {
		return kind, body, nil
	}
	return "", nil, nil
}

func strictly(body json.RawMessage, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// once starts a new batch if this one has a record of the same key already, so that the last one wins.
func (im *importer) once(key string) error {
	if im.seen[key] {
		if err := im.flush(); err != nil {
			return err
		}
	}
	if im.seen == nil {
		im.seen = map[string]bool{}
	}
	im.seen[key] = true
	return nil
}

func (im *importer) takeApp(body json.RawMessage) error {
	app := presence.App{Conflict: presence.Replace, Redirects: []string{}}
	if err := strictly(body, &app); err != nil {
		return err
	}
	app.Component = strings.ToLower(app.Component)
	if app.APIKey == "" {
		app.APIKey = identity.NewSecret()
	}
	if err := im.a.checkApp(&app); err != nil {
		return err
	}
	if err := im.once("app " + app.ID); err != nil {
		return err
	}
	im.apps = append(im.apps, at[presence.App]{im.line, app})
	return nil
}

// tokenRecord is a token in imports and exports: imported with its secret or its hash, exported with its hash.
type tokenRecord struct {
	Email   string     `json:"email"`
	Device  string     `json:"device"`
	Token   string     `json:"token,omitempty"`
	Hash    string     `json:"hash,omitempty"`
	Name    string     `json:"name,omitempty"`
	Scopes  []string   `json:"scopes,omitempty"` // of a token for the API
	Created time.Time  `json:"created,omitzero"`
	Expires *time.Time `json:"expires,omitempty"`
}

func (im *importer) takeToken(body json.RawMessage) error {
	var rec tokenRecord
	if err := strictly(body, &rec); err != nil {
		return err
	}
	t, err := rec.open()
	if err != nil {
		return err
	}
	if t.Created.IsZero() {
		t.Created = im.a.now().UTC()
	}
	im.tokens = append(im.tokens, at[presence.Token]{im.line, t})
	return nil
}

func (rec *tokenRecord) open() (presence.Token, error) {
	t := presence.Token{Device: rec.Device, Name: rec.Name, Scopes: rec.Scopes, Created: rec.Created}
	var err error
	if t.Email, err = presence.NormalEmail(rec.Email); err != nil {
		return t, fmt.Errorf("email %q: %v", rec.Email, err)
	}
	if rec.Device != "" {
		if err := presence.CheckDevice(rec.Device); err != nil {
			return t, err
		}
	}
	for _, scope := range rec.Scopes {
		if !account.IsScope(scope) {
			return t, fmt.Errorf("there is no scope %s", quoteShort(scope))
		}
	}
	if rec.Expires != nil {
		t.Expires = *rec.Expires
	}
	if (rec.Token == "") == (rec.Hash == "") {
		return t, errors.New("want token or hash, one of them")
	}
	if rec.Token != "" {
		t.Hash = identity.HashSecret(rec.Token)
		return t, nil
	}
	b, err := hex.DecodeString(rec.Hash)
	if err != nil || len(b) != len(t.Hash) {
		return t, errors.New("hash must be 64 hexadecimal digits")
	}
	copy(t.Hash[:], b)
	return t, nil
}

// takeUser reads a user who is disabled or invisible; others come with what they have.
func (im *importer) takeUser(body json.RawMessage) error {
	var u presence.User
	if err := strictly(body, &u); err != nil {
		return err
	}
	email, err := presence.NormalEmail(u.Email)
	if err != nil {
		return fmt.Errorf("email %q: %v", u.Email, err)
	}
	u.Email = email
	im.users = append(im.users, at[presence.User]{im.line, u})
	return nil
}

// putUser brings a user to the state that an import says.
func (a *admin) putUser(u presence.User) error {
	if _, known, err := a.store.User(u.Email); err != nil || !known {
		if u.Created.IsZero() {
			u.Created = a.now().UTC()
		}
		if err == nil {
			err = a.store.PutUser(presence.User{Email: u.Email, Created: u.Created})
		}
		if err != nil {
			return err
		}
	}
	if err := a.hub.SetDisabled(u.Email, u.Disabled, presence.ByAdmin); err != nil {
		return err
	}
	return a.hub.SetInvisible(u.Email, u.Hidden(a.now()), u.InvisibleUntil, presence.ByAdmin)
}

func (im *importer) takeGrant(body json.RawMessage) error {
	g := presence.Grant{Notify: true}
	if err := strictly(body, &g); err != nil {
		return err
	}
	email, err := presence.NormalEmail(g.Email)
	if err != nil {
		return fmt.Errorf("email %q: %v", g.Email, err)
	}
	g.Email = email
	if err := im.a.checkGrant(g); err != nil {
		return err
	}
	if err := im.once("grant " + g.Email + " " + g.App); err != nil {
		return err
	}
	if _, known := im.a.hub.App(g.App); !known && !im.seen["app "+g.App] {
		return fmt.Errorf("no app %s", quoteShort(g.App))
	}
	im.grants = append(im.grants, at[presence.Grant]{im.line, g})
	return nil
}

// checkGrant says what is wrong with a grant from which PUID and address may be missing: the hub fills them in.
func (a *admin) checkGrant(g presence.Grant) error {
	if g.PUID == "" {
		g.PUID = "new"
	}
	if g.Address == "" {
		g.Address = presence.ByPUID
	}
	if err := g.Check(); err != nil {
		return errors.New(plainText(err))
	}
	if g.Ended(a.now()) {
		return fmt.Errorf("until %s is over", timeTextOf(g.Until))
	}
	return nil
}

// flush writes the batch: apps before the grants that need them.
func (im *importer) flush() error {
	if err := im.flushApps(); err != nil {
		return err
	}
	for _, u := range im.users { // before the grants, through which they might be seen
		if err := im.a.putUser(u.v); err != nil {
			return &lineError{u.line, err}
		}
	}
	if err := together(im.tokens, im.a.store.PutTokens); err != nil {
		return err
	}
	err := together(im.grants, func(gs []presence.Grant) error { return im.a.hub.Import(gs, presence.ByAdmin) })
	if err != nil {
		return err
	}
	for _, g := range im.groups { // behind the grants
		if err := im.a.hub.PutDeviceGroup(g.v); err != nil {
			return &lineError{g.line, err}
		}
	}
	im.done.add(imported{Lines: im.n, Apps: len(im.apps), Tokens: len(im.tokens), Grants: len(im.grants), Users: len(im.users), Groups: len(im.groups)})
	im.n, im.apps, im.users, im.tokens, im.grants = 0, im.apps[:0], im.users[:0], im.tokens[:0], im.grants[:0]
	im.groups = im.groups[:0]
	clear(im.seen)
	return nil
}

func (im *importer) flushApps() error {
	for _, app := range im.apps {
		if err := im.a.putApp(app.v); err != nil {
			return &lineError{app.line, err}
		}
	}
	return nil
}

// together writes all records in one commit. If that is refused they go one by one, to find the line.
func together[T any](records []at[T], put func([]T) error) error {
	if len(records) == 0 {
		return nil
	}
	all := make([]T, len(records))
	for i, r := range records {
		all[i] = r.v
	}
	if put(all) == nil {
		return nil
	}
	for _, r := range records {
		if err := put([]T{r.v}); err != nil {
			return &lineError{r.line, err}
		}
	}
	return nil
}

// export writes apps, tokens, grants and device groups, and users who are disabled or invisible, in the form that import reads.
func (a *admin) export(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriterSize(w, 64<<10)
	err := a.exportAll(out)
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		a.log.Error("export broke off", "error", err)
		panic(http.ErrAbortHandler) // half an export must not look whole
	}
}

// backup writes the data file as it is at this moment.
func (a *admin) backup(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if _, err := a.store.WriteTo(w); err != nil {
		a.log.Error("backup broke off", "error", err)
		panic(http.ErrAbortHandler) // half a file must not look whole
	}
}

func (a *admin) exportAll(out *bufio.Writer) error {
	emit := func(kind string, v any) error {
		line, err := marshalLine(map[string]any{kind: v})
		if err != nil {
			return err
		}
		_, err = out.Write(append(line, '\n'))
		return err
	}
	for _, app := range a.hub.Apps() {
		if app.Redirects == nil {
			app.Redirects = []string{}
		}
		if err := emit("app", app); err != nil {
			return err
		}
	}
	err := a.store.EachUser(func(u presence.User) error {
		if v := a.userViewOf(u); v.Disabled || v.Invisible {
			return emit("user", v.User)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = a.store.EachToken(func(t presence.Token) error { return emit("token", tokenRecordOf(t)) })
	if err != nil {
		return err
	}
	err = a.store.EachGrant("", func(g presence.Grant) error {
		if g.Ended(a.now()) {
			return nil // as good as gone
		}
		if g.Windows == nil {
			g.Windows = []presence.Window{}
		}
		return emit("grant", g)
	})
	if err != nil {
		return err
	}
	return a.store.EachDeviceGroup("", func(g presence.DeviceGroup) error { return emit("group", groupViewOf(g)) })
}

func tokenRecordOf(t presence.Token) tokenRecord {
	v := account.TokenOf(t)
	return tokenRecord{Email: v.Email, Device: v.Device, Name: v.Name, Scopes: v.Scopes, Hash: v.Hash, Created: v.Created, Expires: v.Expires}
}
