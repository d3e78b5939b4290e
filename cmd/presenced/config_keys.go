package main

import (
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strconv"
	"strings"
)

// configKey is one key of the configuration, as the struct declares it.
type configKey struct {
	Path   string        // http.listen
	Table  string        // http; "" at the top
	Name   string        // listen
	Value  reflect.Value // the field; settable if the Config was given by pointer
	Secret bool          // masked when printed
	Struct string        // type and field in config.go, to find the comment
	Field  string
}

// Env is the name of the environment variable that sets the key.
func (k configKey) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.Path, ".", "_"))
}

// Type names the key's type for people.
func (k configKey) Type() string {
	switch k.Value.Interface().(type) {
	case Duration:
		return "duration"
	case []string:
		return "list of strings"
	case []OIDCConfig:
		return "list of tables"
	}
	switch k.Value.Kind() {
	case reflect.Bool:
		return "boolean"
	case reflect.Int:
		return "integer"
	case reflect.Float64:
		return "number"
	}
	return "string"
}

// configKeys lists the keys of c, tables behind the keys of their parent, in the order of the struct.
func configKeys(c *Config) []configKey {
	return structKeys("", reflect.ValueOf(c).Elem())
}

func structKeys(table string, v reflect.Value) []configKey {
	var keys, below []configKey
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name := f.Tag.Get("toml")
		path := name
		if table != "" {
			path = table + "." + name
		}
		if isTable(f.Type) {
			below = append(below, structKeys(path, v.Field(i))...)
			continue
		}
		conf := f.Tag.Get("conf")
		keys = append(keys, configKey{
			Path: path, Table: table, Name: name, Value: v.Field(i),
			Secret: conf == "secret",
			Struct: v.Type().Name(), Field: f.Name,
		})
	}
	return append(keys, below...)
}

func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[Duration]()
}

// docTables lists the tables in the order of their keys with the comment that explains each.
func tableDocs(docs configDocs) map[string]string {
	m := map[string]string{}
	var walk func(table string, t reflect.Type)
	walk = func(table string, t reflect.Type) {
		for i := range t.NumField() {
			f := t.Field(i)
			if !isTable(f.Type) {
				continue
			}
			path := strings.TrimPrefix(table+"."+f.Tag.Get("toml"), ".")
			m[path] = docs[t.Name()+"."+f.Name]
			walk(path, f.Type)
		}
	}
	walk("", reflect.TypeFor[Config]())
	return m
}

// configDocs maps "Struct.Field" to the field's comment.
type configDocs map[string]string

//go:embed config.go
var configSource string

// readConfigDocs takes the comments out of config.go, so that each key is explained in one place.
func readConfigDocs() (configDocs, error) {
	f, err := parser.ParseFile(token.NewFileSet(), "config.go", configSource, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	docs := configDocs{}
	ast.Inspect(f, func(n ast.Node) bool {
		t, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		s, ok := t.Type.(*ast.StructType)
		if !ok {
			return false
		}
		for _, field := range s.Fields.List {
			for _, name := range field.Names {
				docs[t.Name.Name+"."+name.Name] = strings.TrimSpace(field.Doc.Text())
			}
		}
		return false
	})
	return docs, nil
}

// tomlValue writes a value as TOML.
func tomlValue(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Duration:
		return tomlString(x.String())
	case []string:
		quoted := make([]string, len(x))
		for i, s := range x {
			quoted[i] = tomlString(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	switch v.Kind() {
	case reflect.Bool:
		return strconv.FormatBool(v.Bool())
	case reflect.Int:
		return strconv.FormatInt(v.Int(), 10)
	case reflect.Float64:
		s := strconv.FormatFloat(v.Float(), 'g', -1, 64)
		if !strings.ContainsAny(s, ".en") {
			s += ".0"
		}
		return s
	}
	return tomlString(v.String())
}

// tomlString writes a basic string of TOML.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
