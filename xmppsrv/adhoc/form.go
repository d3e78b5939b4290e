package adhoc

import (
	"slices"
	"strings"
)

// Bounds of what a requester submits, and of what a command shows.
const (
	maxFields      = 64       // of a submitted form
	maxValues      = 256      // of all its fields
	maxSubmitBytes = 16 << 10 // of all their names and values

	MaxRows  = 200      // of a list or a table
	maxBytes = 40 << 10 // of all its values; what escapes and tags add stays below what peers take
)

// FieldType is the type of a field in a form (XEP-0004 §3.3).
type FieldType string

const (
	Boolean    FieldType = "boolean"
	Fixed      FieldType = "fixed"
	Hidden     FieldType = "hidden"
	JIDMulti   FieldType = "jid-multi"
	JIDSingle  FieldType = "jid-single"
	ListMulti  FieldType = "list-multi"
	ListSingle FieldType = "list-single"
	TextMulti  FieldType = "text-multi"
	TextSingle FieldType = "text-single"
)

// Field is one field: to be filled in, or with what there is to tell.
type Field struct {
	Var      string
	Label    string
	Type     FieldType
	Required bool
	Values   []string // the default, or what is told
	Options  []Option // of a list: nothing else is taken
}

// Option is one choice of a list.
type Option struct{ Label, Value string }

// Form is a form to be filled in, or a result.
type Form struct {
	Kind         string // its FORM_TYPE (XEP-0068)
	Title        string
	Instructions string
	Fields       []Field
	Table        *Table // of a result; nil: none
}

// Table is a result of many rows (XEP-0004 §3.4).
type Table struct {
	Columns []Column
	Rows    [][]string // as long as Columns, each
}

// Column is one field of every row.
type Column struct{ Var, Label string }

// Room bounds a list while it is made.
type Room struct{ rows, bytes int }

// NewRoom is room for max rows, at most MaxRows; with max 0 or less, for MaxRows.
func NewRoom(max int) *Room {
	if max <= 0 || max > MaxRows {
		max = MaxRows
	}
	return &Room{max, maxBytes}
}

// Take reports whether there is room for one more row with these values, and takes it.
func (r *Room) Take(values ...string) bool {
	n := 0
	for _, v := range values {
		n += len(v)
	}
	if r.rows < 1 || r.bytes < n {
		return false
	}
	r.rows--
	r.bytes -= n
	return true
}

// Values is what was filled in, by the name of the field. The engine lets through what the form's fields allow.
type Values map[string][]string

// One is the only value of a field, "" if there is none.
func (v Values) One(field string) string {
	if len(v[field]) == 0 {
		return ""
	}
	return v[field][0]
}

// Text is a text of several lines.
func (v Values) Text(field string) string { return strings.Join(v[field], "\n") }

// read checks what was submitted for the form, and returns what of it the form asks for. What it does not ask for
// is ignored.
func (f *Form) read(in Values) (Values, error) {
	if err := in.bound(); err != nil {
		return nil, err
	}
	if kind, ok := in["FORM_TYPE"]; ok && !slices.Equal(kind, []string{f.Kind}) { // XEP-0068 §3
		return nil, refuse(BadPayload, "This is another form")
	}
	out := Values{}
	for i := range f.Fields {
		field := &f.Fields[i]
		values, err := field.read(in[field.Var])
		if err != nil {
			return nil, err
		}
		if len(values) > 0 {
			out[field.Var] = values
		}
	}
	return out, nil
}

// bound refuses too much.
func (v Values) bound() error {
	values, size := 0, 0
	for field, list := range v {
		values += len(list)
		size += len(field)
		for _, s := range list {
			size += len(s)
		}
	}
	if len(v) > maxFields || values > maxValues || size > maxSubmitBytes {
		return refuse(BadPayload, "The form is too large")
	}
	return nil
}

// read checks the values of one field.
func (f *Field) read(in []string) ([]string, error) {
	if f.Type == Fixed || f.Type == Hidden {
		return nil, nil
	}
	values := f.clean(in)
	if len(values) == 0 {
		if f.Required {
			return nil, refuse(BadPayload, "%q is required", f.Var)
		}
		return nil, nil
	}
	if !f.multi() && len(values) > 1 {
		return nil, refuse(BadPayload, "%q takes one value", f.Var)
	}
	for i, v := range values {
		switch f.Type {
		case Boolean: // XEP-0004 §3.3
			b, ok := booleans[v]
			if !ok {
				return nil, refuse(BadPayload, "%q is yes (1) or no (0)", f.Var)
			}
			values[i] = b
		case ListSingle, ListMulti:
			if !slices.ContainsFunc(f.Options, func(o Option) bool { return o.Value == v }) {
				return nil, refuse(BadPayload, "%q is none of the choices of %q", short(v), f.Var)
			}
		case TextSingle:
			if strings.ContainsAny(v, "\r\n") {
				return nil, refuse(BadPayload, "%q takes one line", f.Var)
			}
		}
	}
	return values, nil
}

var booleans = map[string]string{"1": "1", "true": "1", "0": "0", "false": "0"}

func (f *Field) multi() bool { return f.Type == JIDMulti || f.Type == ListMulti || f.Type == TextMulti }

// clean takes blanks and repeats out, but leaves the lines of a text as they are.
func (f *Field) clean(in []string) (out []string) {
	if f.Type == TextMulti {
		if strings.TrimSpace(strings.Join(in, "")) == "" {
			return nil
		}
		return slices.Clone(in)
	}
	for _, v := range in {
		if v = strings.TrimSpace(v); v != "" && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// short is a value from outside for an error.
func short(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "..."
	}
	return s
}

// filled is the form with what was filled in before as its defaults.
func (f *Form) filled(v Values) *Form {
	g := *f
	g.Fields = slices.Clone(f.Fields)
	for i := range g.Fields {
		if old, ok := v[g.Fields[i].Var]; ok {
			g.Fields[i].Values = old
		}
	}
	return &g
}
