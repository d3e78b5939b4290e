package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

const (
	envPrefix  = "PRESENCED_"
	envConfig  = "PRESENCED_CONFIG" // the environment's form of --config
	maxEnvHint = 2                  // edits between an unknown name and the one it may have meant
)

// origins says where a key was set, for errors: "presenced.toml:3:1", "PRESENCED_HTTP_LISTEN", "--http". A key
// that is missing here has its default.
type origins map[string]string

// problem is one thing that is wrong with the configuration.
type problem struct {
	Where string `json:"where,omitempty"` // file:line:column, variable or flag
	Key   string `json:"key,omitempty"`
	Text  string `json:"error"`
	Hint  string `json:"hint,omitempty"` // what to do about it
}

func (p *problem) Error() string {
	var b strings.Builder
	if p.Where != "" {
		b.WriteString(p.Where + ": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Text)
	if p.Hint != "" {
		b.WriteString("\n  " + p.Hint)
	}
	return b.String()
}

// problemsOf takes a joined error apart, for output one by one. One that says more than its parts stays whole.
func problemsOf(err error) []*problem {
	if err == nil {
		return nil
	}
	if p, ok := err.(*problem); ok {
		return []*problem{p}
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok && errors.Join(j.Unwrap()...).Error() == err.Error() {
		var all []*problem
		for _, e := range j.Unwrap() {
			all = append(all, problemsOf(e)...)
		}
		return all
	}
	return []*problem{{Text: err.Error()}}
}

// loadConfig lays the file ("" for none) and then the environment over the defaults. It returns all errors it
// finds, joined, each a *problem; the Config is not checked beyond its syntax.
func loadConfig(file string, environ []string) (Config, origins, error) {
	c, from := DefaultConfig(), origins{}
	if file == "" {
		file = lookupEnv(environ, envConfig)
	}
	var errs []error
	if file != "" {
		errs = append(errs, readConfigFile(file, &c, from))
	}
	errs = append(errs, readConfigEnv(environ, &c, from))
	for i := range c.Identity.OIDC {
		if o := &c.Identity.OIDC[i]; o.Algorithms == nil {
			o.Algorithms = defaultAlgorithms()
		}
	}
	return c, from, errors.Join(errs...)
}

func readConfigFile(file string, c *Config, from origins) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return &problem{Text: "configuration: " + err.Error()}
	}
	d := toml.NewDecoder(bytes.NewReader(text))
	if err := d.DisallowUnknownFields().Decode(c); err != nil {
		return fileProblems(file, text, err)
	}
	for path, at := range keyPositions(text) {
		from[path] = fmt.Sprintf("%s:%d:%d", file, at.Line, at.Column)
	}
	return nil
}

// fileProblems gives each error of the decoder its place in the file.
func fileProblems(file string, text []byte, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var errs []error
		for _, e := range strict.Errors {
			row, col := e.Position()
			key := strings.Join(e.Key(), ".")
			errs = append(errs, &problem{
				Where: fmt.Sprintf("%s:%d:%d", file, row, col), Text: "unknown key " + key,
				Hint: didYouMean(key, knownPaths()),
			})
		}
		return errors.Join(errs...)
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, col := bad.Position()
		key := strings.Join(bad.Key(), ".")
		p := &problem{Where: fmt.Sprintf("%s:%d:%d", file, row, col), Key: key,
			Text: strings.TrimPrefix(bad.Error(), "toml: ")}
		if t := typeOfKey(key); t != "" && strings.HasPrefix(p.Text, "cannot decode") {
			p.Text = "not of type " + t
		}
		return p
	}
	if errs := durationProblems(file, text); errs != nil {
		return errs
	}
	return &problem{Where: file, Text: err.Error()}
}

// typeOfKey names the type of a key; "" of an unknown one.
func typeOfKey(path string) string {
	c := DefaultConfig()
	for _, k := range configKeys(&c) {
		if k.Path == path {
			return k.Type()
		}
	}
	return ""
}

// durationProblems finds the durations that are no text: the decoder refuses them without telling where they are.
func durationProblems(file string, text []byte) error {
	var doc map[string]any
	if toml.Unmarshal(text, &doc) != nil {
		return nil
	}
	at := keyPositions(text)
	c := DefaultConfig()
	var errs []error
	for _, k := range configKeys(&c) {
		var v any = doc
		for part := range strings.SplitSeq(k.Path, ".") {
			table, _ := v.(map[string]any)
			v = table[part]
		}
		if _, text := v.(string); v == nil || text || k.Type() != "duration" {
			continue
		}
		errs = append(errs, &problem{Where: fmt.Sprintf("%s:%d:%d", file, at[k.Path].Line, at[k.Path].Column), Key: k.Path,
			Text: fmt.Sprintf("%v is not a duration", v), Hint: `write it with its unit, as "10s" or "672h"`})
	}
	return errors.Join(errs...)
}

// keyPositions finds where each key of a valid document is set.
func keyPositions(text []byte) map[string]unstable.Position {
	at := map[string]unstable.Position{}
	tables := map[string]int{} // of each name, so far
	p := unstable.Parser{}
	p.Reset(text)
	var table string
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			path, pos := keyOf(&p, e)
			if _, seen := at[path]; !seen {
				at[path] = pos
			}
			if e.Kind == unstable.ArrayTable {
				tables[path]++
				path = tableKey(path, tables[path]-1)
				at[path] = pos
			}
			table = path + "."
		case unstable.KeyValue:
			path, pos := keyOf(&p, e)
			at[table+path] = pos
			inlinePositions(&p, table+path, e.Value(), at)
		}
	}
	return at
}

// tableKey names one of an array of tables.
func tableKey(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// inlinePositions looks into http = { listen = "..." }.
func inlinePositions(p *unstable.Parser, path string, v *unstable.Node, at map[string]unstable.Position) {
	if v.Kind != unstable.InlineTable {
		return
	}
	for it := v.Children(); it.Next(); {
		key, pos := keyOf(p, it.Node())
		at[path+"."+key] = pos
		inlinePositions(p, path+"."+key, it.Node().Value(), at)
	}
}

// keyOf joins the parts of a key and tells where the first one is.
func keyOf(p *unstable.Parser, n *unstable.Node) (string, unstable.Position) {
	var parts []string
	var pos unstable.Position
	for it := n.Key(); it.Next(); {
		if len(parts) == 0 {
			pos = p.Shape(it.Node().Raw).Start
		}
		parts = append(parts, string(it.Node().Data))
	}
	return strings.Join(parts, "."), pos
}

// readConfigEnv sets every key that has a PRESENCED_* variable. One that names no key is an error.
func readConfigEnv(environ []string, c *Config, from origins) error {
	byEnv := map[string]configKey{}
	for _, k := range configKeys(c) {
		byEnv[k.Env()] = k
	}
	var errs []error
	for _, kv := range slices.Sorted(slices.Values(environ)) {
		name, text, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || name == envConfig {
			continue
		}
		k, ok := byEnv[name]
		if !ok {
			errs = append(errs, &problem{Where: "environment", Text: "unknown variable " + name,
				Hint: didYouMean(name, keysOfMap(byEnv))})
			continue
		}
		if err := setFromText(k, text); err != nil {
			errs = append(errs, &problem{Where: name, Key: k.Path, Text: err.Error()})
			continue
		}
		from[k.Path] = name
	}
	return errors.Join(errs...)
}

// setFromText sets a key from one string: lists are separated by commas, or written as in TOML.
func setFromText(k configKey, text string) error {
	switch p := k.Value.Addr().Interface().(type) {
	case *string:
		*p = text
		return nil
	case *Duration:
		return p.UnmarshalText([]byte(text))
	case *bool:
		v, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		*p = v
		return nil
	case *int:
		v, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is not an integer", text)
		}
		*p = v
		return nil
	case *float64:
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		*p = v
		return nil
	case *[]string:
		if !strings.HasPrefix(strings.TrimSpace(text), "[") {
			*p = splitList(text)
			return nil
		}
	}
	return setFromTOML(k.Value, text)
}

// setFromTOML reads text as the right side of a key in TOML.
func setFromTOML(v reflect.Value, text string) error {
	box := reflect.New(reflect.StructOf([]reflect.StructField{
		{Name: "V", Type: v.Type(), Tag: `toml:"v"`},
	}))
	d := toml.NewDecoder(strings.NewReader("v = " + text))
	if err := d.DisallowUnknownFields().Decode(box.Interface()); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) && len(strict.Errors) > 0 {
			return fmt.Errorf("unknown key %s", strings.Join(strict.Errors[0].Key()[1:], "."))
		}
		return fmt.Errorf("not as in TOML: %s", strings.TrimPrefix(err.Error(), "toml: "))
	}
	v.Set(box.Elem().Field(0))
	return nil
}

func splitList(text string) []string {
	list := []string{}
	for s := range strings.SplitSeq(text, ",") {
		if s = strings.TrimSpace(s); s != "" {
			list = append(list, s)
		}
	}
	return list
}

func lookupEnv(environ []string, name string) string {
	value := ""
	for _, kv := range environ {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			value = v
		}
	}
	return value
}

func knownPaths() []string {
	c := DefaultConfig()
	var paths []string
	for _, k := range configKeys(&c) {
		paths = append(paths, k.Path)
	}
	return paths
}

func keysOfMap[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	return names
}

// didYouMean is a hint that names the known word closest to word, or where the words are listed.
func didYouMean(word string, known []string) string {
	best, at := "", maxEnvHint+1
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := editDistance(word, k); d < at {
			best, at = k, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return `"presenced config describe" lists every key`
}

// editDistance counts the letters to insert, remove or change between a and b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := diagonal
			if a[i-1] != b[j-1] {
				cost = 1 + min(diagonal, row[j], row[j-1])
			}
			diagonal, row[j] = row[j], cost
		}
	}
	return row[len(b)]
}
