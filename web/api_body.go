package web

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"presenced/presence/errno"
)

// readBody reads the request's body, which has to be JSON and to say so.
func readBody(r *http.Request) ([]byte, error) {
	if !sendsJSON(r) {
		return nil, &Error{Status: http.StatusUnsupportedMediaType, Text: "The body has to be JSON, with Content-Type: application/json."}
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		if e := asError(err); e.Status == http.StatusRequestEntityTooLarge {
			return nil, &Error{Status: e.Status, Errno: errno.TooLarge, Text: "The body is too large.", Cause: err}
		}
		return nil, &Error{Status: http.StatusBadRequest, Errno: errno.BadJSON, Text: "The body could not be read.", Cause: err}
	}
	return b, nil
}

// decode reads the body of a request into *v.
func decode(r *http.Request, v any) error {
	b, err := readBody(r)
	if err != nil {
		return err
	}
	return strict(b, v)
}

// strict reads one JSON object into *v and refuses what v has no field for, to the letter, and what is there twice.
func strict(b []byte, v any) error {
	if !json.Valid(b) || !utf8.Valid(b) {
		return &Error{Status: http.StatusBadRequest, Errno: errno.BadJSON, Text: "The body is not JSON."}
	}
	if b = bytes.TrimSpace(b); b[0] != '{' {
		return &Error{Status: http.StatusBadRequest, Errno: errno.BadJSON, Text: "The body is not one JSON object."}
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := checkNames(d, reflect.TypeOf(v), ""); err != nil {
		return err
	}
	var wrong *json.UnmarshalTypeError // its Field has the names of embedded types too, of which there is one
	err := json.Unmarshal(b, v)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong) && wrong.Field != "":
		return badField(strings.TrimPrefix(wrong.Field, "apiTerms."), "is "+wrong.Value+" where something else belongs")
	}
	return &Error{Status: http.StatusUnprocessableEntity, Errno: errno.BadValue, Text: "A value is not of the kind that belongs there.", Cause: err}
}

// badField is a field with a wrong value; text goes on after its name.
func badField(name, text string) *Error {
	return &Error{Status: http.StatusUnprocessableEntity, Errno: errno.BadValue, Field: name, Text: name + " " + text + "."}
}

func missingField(name string) *Error {
	return &Error{Status: http.StatusUnprocessableEntity, Errno: errno.MissingField, Field: name, Text: name + " is missing."}
}

// checkNames walks through one valid JSON value along the type that it is for: names of a struct's fields count to the
// letter (encoding/json takes either case) and once.
func checkNames(d *json.Decoder, t reflect.Type, path string) error {
	t = inner(t)
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		return checkObject(d, t, path)
	case json.Delim('['):
		for i := 0; d.More(); i++ {
			if err := checkNames(d, elem(t), path+"["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
		_, err = d.Token()
	}
	return err
}

func checkObject(d *json.Decoder, t reflect.Type, path string) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name := token.(string)
		field := name
		if path != "" {
			field = path + "." + name
		}
		sub, known := fieldType(t, name)
		switch {
		case !known:
			return &Error{Status: http.StatusUnprocessableEntity, Kind: "unknown-field", Errno: errno.BadValue, Field: short(field), Text: "There is no field " + strconv.Quote(short(field)) + "."}
		case t != nil && seen[name]:
			return badField(short(field), "is there twice")
		}
		seen[name] = true
		if err := checkNames(d, sub, field); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// inner is the type that holds the names: nil where any name will do.
func inner(t reflect.Type) reflect.Type {
	for t != nil {
		if o, ok := reflect.Zero(t).Interface().(interface{ inner() reflect.Type }); ok && t.Kind() == reflect.Struct {
			t = o.inner()
			continue
		}
		if t.Kind() != reflect.Pointer {
			break
		}
		t = t.Elem()
	}
	if t == reflect.TypeFor[json.RawMessage]() || t != nil && t.Kind() != reflect.Struct && t.Kind() != reflect.Slice {
		return nil
	}
	return t
}

func elem(t reflect.Type) reflect.Type {
	if t == nil || t.Kind() != reflect.Slice {
		return nil
	}
	return t.Elem()
}

// fieldType is the type of the struct's field with that name in JSON; a type of nil takes every name.
func fieldType(t reflect.Type, name string) (reflect.Type, bool) {
	if t == nil || t.Kind() != reflect.Struct {
		return nil, true
	}
	for i := range t.NumField() {
		if t.Field(i).Anonymous {
			if sub, ok := fieldType(t.Field(i).Type, name); ok {
				return sub, true
			}
			continue
		}
		if tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); tag == name {
			return t.Field(i).Type, true
		}
	}
	return nil, false
}

// short is a name from outside, bounded.
func short(s string) string {
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}

// maybe is a field that may be left out, or null, which is something else.
type maybe[T any] struct {
	Set  bool // it is there
	Null bool
	V    T
}

// UnmarshalJSON is called only for what is there.
func (m *maybe[T]) UnmarshalJSON(b []byte) error {
	m.Set = true
	if string(b) == "null" {
		m.Null = true
		return nil
	}
	return json.Unmarshal(b, &m.V)
}

func (maybe[T]) inner() reflect.Type { return reflect.TypeFor[T]() }

// moment reads a time that may be left out or null: nil.
func moment(name string, m maybe[string]) (*time.Time, error) {
	if !m.Set || m.Null {
		return nil, nil
	}
	t, err := time.Parse(time.RFC3339, m.V)
	if err != nil || t.IsZero() { // which means never where it is stored
		return nil, badField(name, "is not a time such as 2030-01-31T18:00:00Z")
	}
	return &t, nil
}

const (
	defaultLimit = 50
	maxLimit     = 200
)

// page is one page of a list.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"` // cursor of the page behind it
}

// paging reads limit and cursor.
func paging(r *http.Request) (limit int, after string, err error) {
	limit = defaultLimit
	q := r.URL.Query()
	if q.Has("limit") {
		limit, err = strconv.Atoi(q.Get("limit"))
		if err != nil || limit < 1 || limit > maxLimit {
			return 0, "", badField("limit", fmt.Sprintf("is not a number from 1 to %d", maxLimit))
		}
	}
	if q.Get("cursor") == "" {
		return limit, "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(q.Get("cursor"))
	if err != nil || len(b) == 0 || b[0] != '.' || !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 {
		return 0, "", badField("cursor", "is not one that came with a list")
	}
	return limit, string(b[1:]), nil
}

// onwards fills in where the list goes on: behind last, and tells it in the Link header too (RFC 8288).
func onwards[T any](p *page[T], r *http.Request, answer http.Header, last string) {
	p.Next = base64.RawURLEncoding.EncodeToString([]byte("." + last))
	q := url.Values{"cursor": {p.Next}}
	if limit := r.URL.Query().Get("limit"); limit != "" {
		q.Set("limit", limit)
	}
	answer.Set("Link", "<"+r.URL.Path+"?"+q.Encode()+`>; rel="next"`)
}

// pageFrom is the page that the request asks for, of a list that is ordered by key.
func pageFrom[T any](all []T, key func(*T) string, r *http.Request, answer http.Header) (page[T], error) {
	limit, after, err := paging(r)
	p := page[T]{Items: []T{}}
	if err != nil {
		return p, err
	}
	for i := range all {
		switch {
		case key(&all[i]) <= after && after != "":
		case len(p.Items) == limit:
			onwards(&p, r, answer, key(&p.Items[limit-1]))
			return p, nil
		default:
			p.Items = append(p.Items, all[i])
		}
	}
	return p, nil
}

// pageBack is the page that the request asks for, of a list that begins with the newest. The cursor is a moment, and how
// many of that moment were on pages before.
func pageBack[T any](all []T, at func(*T) time.Time, r *http.Request, answer http.Header) (page[T], error) {
	limit, after, err := paging(r)
	p := page[T]{Items: []T{}}
	if err != nil {
		return p, err
	}
	var moment int64
	skip := 0
	if after != "" {
		if n, err := fmt.Sscanf(after, "%d.%d", &moment, &skip); err != nil || n != 2 {
			return p, badField("cursor", "is not one that came with this list")
		}
	}
	same, last := 0, int64(0) // of the moment of the item before
	for i := range all {
		t := at(&all[i]).UnixNano()
		if t != last {
			same, last = 0, t
		}
		if same++; after != "" && (t > moment || t == moment && same <= skip) {
			continue
		}
		if len(p.Items) == limit {
			prev := at(&p.Items[limit-1]).UnixNano()
			count := same - 1
			if prev != t {
				count = countAt(all[:i], at, prev)
			}
			onwards(&p, r, answer, fmt.Sprintf("%d.%d", prev, count))
			return p, nil
		}
		p.Items = append(p.Items, all[i])
	}
	return p, nil
}

func countAt[T any](all []T, at func(*T) time.Time, moment int64) (n int) {
	for i := range all {
		if at(&all[i]).UnixNano() == moment {
			n++
		}
	}
	return n
}
