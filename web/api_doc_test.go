package web

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// What the page needs of the file. Objects are read in their order.
type (
	apiDoc struct {
		Info       struct{ Description string }
		Servers    []struct{ URL string }
		Tags       []struct{ Name, Description string }
		Paths      ordered[ordered[docOp]]
		Components struct {
			Schemas         ordered[docSchema]
			Parameters      map[string]docParam
			SecuritySchemes ordered[struct{ Description string }]
			Responses       map[string]struct{ Description string }
		}
	}
	docOp struct {
		Summary, Description string
		Tags                 []string
		Security             []map[string][]string
		Parameters           []docRef
		RequestBody          docContent
		Responses            ordered[docContent]
	}
	docContent struct {
		Ref     string `json:"$ref"`
		Content map[string]struct{ Schema docSchema }
	}
	docRef struct {
		Ref string `json:"$ref"`
	}
	docParam struct {
		Name, In, Description string
		Schema                docSchema
	}
	docSchema struct {
		Ref         string `json:"$ref"`
		Type        any
		Description string
		Format      string
		Enum        []string
		Const       string
		Items       *docSchema
		AnyOf       []docSchema
		OneOf       []docSchema
		Required    []string
		Properties  ordered[docSchema]
		Minimum     *int64
		Maximum     *int64
		MaxLength   int
		Default     any
	}
	member[T any] struct {
		name  string
		value T
	}
	ordered[T any] []member[T]
)

// UnmarshalJSON keeps the order of an object's members.
func (o *ordered[T]) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var v T
		if err := d.Decode(&v); err != nil {
			return err
		}
		*o = append(*o, member[T]{name.(string), v})
	}
	return nil
}

func last(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// kind says what belongs there, in few words.
func (s *docSchema) kind() string {
	var words []string
	switch t := s.Type.(type) {
	case string:
		words = append(words, t)
	case []any:
		for _, w := range t {
			words = append(words, fmt.Sprint(w))
		}
	}
	text := strings.Join(words, " or ")
	switch {
	case s.Ref != "":
		return "[" + last(s.Ref) + "](#" + strings.ToLower(last(s.Ref)) + ")"
	case s.Const != "":
		return "`" + s.Const + "`"
	case s.Enum != nil:
		return "`" + strings.Join(s.Enum, "`, `") + "`"
	case s.Items != nil:
		return "list of " + s.Items.kind()
	case s.Format == "date-time":
		text = strings.Replace(text, "string", "time", 1)
	case text == "":
		text = "any JSON"
	}
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		text += fmt.Sprintf(", %d to %d", *s.Minimum, *s.Maximum)
	case s.MaxLength > 0:
		text += fmt.Sprintf(", at most %d characters", s.MaxLength)
	}
	return text
}

// names are those of the schemas that a body may have.
func (c *docContent) names() string {
	for _, v := range c.Content {
		var all []string
		for _, s := range append(v.Schema.AnyOf, append(v.Schema.OneOf, v.Schema)...) {
			if s.Ref != "" {
				all = append(all, s.kind())
			}
		}
		return strings.Join(all, " or ")
	}
	return ""
}

// examples are what a reader tries first.
const examples = `A person's program, with a token that may read and change her grants:

    presenced user token ann@example.org --name scripts --scope grants:read --scope grants:write
    curl -H "Authorization: Bearer $TOKEN" https://GATEWAY/api/v1/grants
    curl -H "Authorization: Bearer $TOKEN" -X PATCH -H "Content-Type: application/json" \
         -d '{"paused":true,"paused_until":"2030-01-31T18:00:00Z"}' https://GATEWAY/api/v1/grants/chat

An app, with its api_key; sent once, however often it is tried:

    curl -H "Authorization: Bearer $API_KEY" -H "Idempotency-Key: order-17" -H "Content-Type: application/json" \
         -d '{"uid":"PUID","message":"Your order is there."}' https://GATEWAY/api/v1/notifications

A token may call 100 times at once and then ten times a second, an app 1,000 times and then 200 times a second; more
get 429 and are told in Retry-After when to go on. Fifty wrong tokens from one network address are answered at once,
then one a second.

`

// page is docs/api.md.
func (d *apiDoc) page() string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# The HTTP API\n\nMade from `web/openapi.json`, which a gateway serves at `%s/openapi.json`; a test compares them.\n\n", d.Servers[0].URL)
	p("%s\n\nAll paths begin with `%s`.\n\n%s", d.Info.Description, d.Servers[0].URL, examples)
	p("| who calls | how |\n| --- | --- |\n")
	for _, s := range d.Components.SecuritySchemes {
		p("| %s | %s |\n", s.name, s.value.Description)
	}
	p("\n## Errors\n\nEvery error is a [Problem](#problem).\n\n| status | when |\n| --- | --- |\n")
	for _, s := range d.statuses() {
		p("| %s | %s |\n", s.name, s.value)
	}
	for _, t := range d.Tags {
		p("\n## %s\n\n%s\n", strings.ToUpper(t.Name[:1])+t.Name[1:], t.Description)
		for _, path := range d.Paths {
			for _, m := range path.value {
				if slices.Contains(m.value.Tags, t.Name) {
					d.operation(&b, strings.ToUpper(m.name), path.name, &m.value)
				}
			}
		}
	}
	p("\n## Objects\n")
	for _, s := range d.Components.Schemas {
		d.object(&b, s.name, &s.value)
	}
	return b.String()
}

// statuses are those of problems, with the words that the responses have for them.
func (d *apiDoc) statuses() (list []member[string]) {
	seen := map[string]bool{}
	for _, path := range d.Paths {
		for _, m := range path.value {
			for _, r := range m.value.Responses {
				if r.value.Ref != "" && !seen[r.name] {
					seen[r.name] = true
					list = append(list, member[string]{r.name, d.Components.Responses[last(r.value.Ref)].Description})
				}
			}
		}
	}
	slices.SortFunc(list, func(a, b member[string]) int { return cmp.Compare(a.name, b.name) })
	return list
}

func (d *apiDoc) operation(b *strings.Builder, method, path string, op *docOp) {
	fmt.Fprintf(b, "\n### `%s %s`\n\n%s\n\n", method, path, strings.TrimSpace(op.Summary+". "+op.Description))
	var who []string
	for _, s := range op.Security {
		for name, scopes := range s {
			if len(scopes) > 0 {
				name += " with `" + strings.Join(scopes, " ") + "`"
			}
			who = append(who, name)
		}
	}
	if len(who) == 0 {
		who = []string{"anybody"}
	}
	fmt.Fprintf(b, "- Callers: %s\n", strings.Join(who, ", "))
	for _, ref := range op.Parameters {
		v := d.Components.Parameters[last(ref.Ref)]
		text := fmt.Sprintf("- `%s` (%s; %s)", v.Name, v.In, v.Schema.kind())
		if v.Schema.Default != nil {
			text += fmt.Sprintf(", %v where left out", v.Schema.Default)
		}
		fmt.Fprintf(b, "%s: %s\n", text, v.Description)
	}
	if names := op.RequestBody.names(); names != "" {
		fmt.Fprintf(b, "- Body: %s\n", names)
	}
	var refused []string
	for _, r := range op.Responses {
		if r.value.Ref != "" {
			refused = append(refused, r.name)
			continue
		}
		text := "- Answer: " + r.name
		if names := r.value.names(); names != "" {
			text += ", " + names
		}
		fmt.Fprintln(b, text)
	}
	if len(refused) > 0 {
		fmt.Fprintf(b, "- Errors: %s\n", strings.Join(refused, ", "))
	}
}

func (d *apiDoc) object(b *strings.Builder, name string, s *docSchema) {
	fmt.Fprintf(b, "\n### %s\n\n", name)
	if s.Description != "" {
		fmt.Fprintf(b, "%s\n\n", s.Description)
	}
	if len(s.Properties) == 0 {
		fmt.Fprintf(b, "%s\n", s.kind())
		return
	}
	fmt.Fprintf(b, "| field | kind | meaning |\n| --- | --- | --- |\n")
	for _, f := range s.Properties {
		always := ""
		if slices.Contains(s.Required, f.name) {
			always = " (always)"
		}
		fmt.Fprintf(b, "| `%s`%s | %s | %s |\n", f.name, always, f.value.kind(), f.value.Description)
	}
}

// TestAPIPage: docs/api.md is what openapi.json says.
func TestAPIPage(t *testing.T) {
	var d apiDoc
	if err := json.Unmarshal(openAPI, &d); err != nil {
		t.Fatal(err)
	}
	const path = "../docs/api.md"
	want := d.page()
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what openapi.json says; write it anew: UPDATE=1 go test ./web -run TestAPIPage", path)
	}
}
