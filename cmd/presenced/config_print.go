package main

import (
	"fmt"
	"io"
	"reflect"
	"strings"
)

const mask = "********"

// masked returns c with its secrets replaced, for printing.
func masked(c Config) Config {
	c.Identity.OIDC = append([]OIDCConfig(nil), c.Identity.OIDC...)
	for i := range c.Identity.OIDC {
		maskStruct(reflect.ValueOf(&c.Identity.OIDC[i]).Elem())
	}
	maskStruct(reflect.ValueOf(&c).Elem())
	return c
}

func maskStruct(v reflect.Value) {
	for _, k := range structKeys("", v) {
		if k.Secret && k.Value.String() != "" {
			k.Value.SetString(mask)
		}
	}
}

// showConfig writes c as TOML that can be read again (but for its secrets).
func showConfig(w io.Writer, c Config) error {
	c = masked(c)
	p := &tomlPrinter{w: w}
	for _, k := range configKeys(&c) {
		if _, tables := k.Value.Interface().([]OIDCConfig); tables {
			continue // behind their parent's keys
		}
		p.table(k.Table, "")
		p.printf("%s = %s\n", k.Name, tomlValue(k.Value))
	}
	for i := range c.Identity.OIDC {
		p.printf("\n[[identity.oidc]]\n")
		for _, k := range structKeys("", reflect.ValueOf(&c.Identity.OIDC[i]).Elem()) {
			p.printf("%s = %s\n", k.Name, tomlValue(k.Value))
		}
	}
	return p.err
}

// configJSON is c, masked, as nested maps with the names of the file.
func configJSON(c Config) map[string]any {
	c = masked(c)
	return structJSON(reflect.ValueOf(&c).Elem())
}

func structJSON(v reflect.Value) map[string]any {
	m := map[string]any{}
	for i := range v.NumField() {
		f := v.Field(i)
		name := v.Type().Field(i).Tag.Get("toml")
		switch x := f.Interface().(type) {
		case []OIDCConfig:
			list := []any{}
			for i := range x {
				list = append(list, structJSON(reflect.ValueOf(&x[i]).Elem()))
			}
			m[name] = list
		case []string:
			m[name] = append([]string{}, x...)
		default:
			if isTable(f.Type()) {
				m[name] = structJSON(f)
			} else {
				m[name] = x
			}
		}
	}
	return m
}

// keyDescription is what `config describe --json` says of a key.
type keyDescription struct {
	Key     string `json:"key"`
	Type    string `json:"type"`
	Default any    `json:"default"`
	Value   any    `json:"value,omitempty"` // where it is not the default
	Env     string `json:"env"`
	Meaning string `json:"meaning"`
}

// describeConfig lists every key; a value of c that differs from the default is told too.
func describeConfig(c Config) ([]keyDescription, error) {
	docs, err := readConfigDocs()
	if err != nil {
		return nil, err
	}
	c = masked(c)
	plain := DefaultConfig()
	now := configKeys(&c)
	var all []keyDescription
	for i, k := range configKeys(&plain) {
		d := keyDescription{
			Key: k.Path, Type: k.Type(), Default: jsonValue(k.Value), Env: k.Env(),
			Meaning: docs[k.Struct+"."+k.Field],
		}
		if !sameValue(k.Value, now[i].Value) {
			d.Value = jsonValue(now[i].Value)
		}
		all = append(all, d)
		if k.Path == "identity.oidc" {
			all = append(all, describeOIDC(docs)...)
		}
	}
	return all, nil
}

func describeOIDC(docs configDocs) []keyDescription {
	var all []keyDescription
	o := OIDCConfig{Algorithms: defaultAlgorithms()}
	for _, k := range structKeys("identity.oidc", reflect.ValueOf(&o).Elem()) {
		all = append(all, keyDescription{Key: k.Path, Type: k.Type(), Default: jsonValue(k.Value),
			Meaning: docs[k.Struct+"."+k.Field]})
	}
	return all
}

func jsonValue(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case []string:
		return append([]string{}, x...)
	case []OIDCConfig:
		list := []any{}
		for i := range x {
			list = append(list, structJSON(reflect.ValueOf(&x[i]).Elem()))
		}
		return list
	}
	return v.Interface()
}

// printDescription writes the description as a configuration file: what it prints can be edited and used.
func printDescription(w io.Writer, c Config) error {
	docs, err := readConfigDocs()
	if err != nil {
		return err
	}
	c = masked(c)
	plain := DefaultConfig()
	now := configKeys(&c)
	tables := tableDocs(docs)
	p := &tomlPrinter{w: w}
	p.comment("Presenced: every key with its default. A variable of the environment goes before the file,")
	p.comment("a flag before both. Durations are written as 10s, 5m, 672h.")
	for i, k := range configKeys(&plain) {
		if k.Path == "identity.oidc" {
			continue
		}
		p.table(k.Table, tables[k.Table])
		p.key(k, now[i], docs[k.Struct+"."+k.Field])
	}
	p.printf("\n")
	p.comment(docs["IdentityConfig.OIDC"])
	p.comment("list of tables; " + envPrefix + "IDENTITY_OIDC")
	p.printf("# [[identity.oidc]]\n")
	o := OIDCConfig{Algorithms: defaultAlgorithms()}
	for _, k := range structKeys("", reflect.ValueOf(&o).Elem()) {
		p.comment(docs[k.Struct+"."+k.Field])
		p.printf("# %s = %s  # %s\n", k.Name, tomlValue(k.Value), k.Type())
	}
	return p.err
}

// tomlPrinter writes a file and keeps the first error.
type tomlPrinter struct {
	w   io.Writer
	in  string // the present table
	err error
}

func (p *tomlPrinter) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// table writes a header where another table begins.
func (p *tomlPrinter) table(name, doc string) {
	if name == p.in {
		return
	}
	p.in = name
	p.printf("\n")
	if doc != "" {
		p.comment(doc)
	}
	p.printf("[%s]\n", name)
}

// key writes the meaning, the type and the variable of a key, and its line.
func (p *tomlPrinter) key(def, now configKey, doc string) {
	p.printf("\n")
	p.comment(doc)
	p.comment(def.Type() + "; " + def.Env())
	if sameValue(def.Value, now.Value) {
		p.printf("%s = %s\n", def.Name, tomlValue(def.Value))
		return
	}
	p.comment("default: " + tomlValue(def.Value))
	p.printf("%s = %s\n", now.Name, tomlValue(now.Value))
}

const commentWidth = 98 // with the mark, lines stay within 100 columns

// comment writes text as comment lines, folded.
func (p *tomlPrinter) comment(text string) {
	for _, line := range fold(text, commentWidth) {
		p.printf("# %s\n", line)
	}
}

// fold breaks text at blanks into lines of at most width bytes, where words allow it.
func fold(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
