package web

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// contract is openapi.json as a test reads it, and which of its answers were seen.
type contract struct {
	Paths map[string]map[string]operation
	c     *jsonschema.Compiler
	seen  map[string]map[string]bool // by "METHOD /path": statuses
}

type operation struct {
	Security    []map[string][]string
	RequestBody struct{ Content map[string]any }
	Responses   map[string]struct {
		Ref     string `json:"$ref"`
		Content map[string]any
	}
}

const specURL = "file:///openapi.json"

func readContract(t *testing.T) *contract {
	t.Helper()
	k := &contract{c: jsonschema.NewCompiler(), seen: map[string]map[string]bool{}}
	if err := json.Unmarshal(openAPI, k); err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPI))
	if err != nil {
		t.Fatal(err)
	}
	closeObjects(doc)
	k.c.AssertFormat()
	if err := k.c.AddResource(specURL, doc); err != nil {
		t.Fatal(err)
	}
	return k
}

// closeObjects makes every object refuse what it does not describe: the file leaves room for more, the server does not
// use it in silence.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		if _, has := v["properties"]; has && v["type"] == "object" {
			v["additionalProperties"] = false
		}
		for _, sub := range v {
			closeObjects(sub)
		}
	case []any:
		for _, sub := range v {
			closeObjects(sub)
		}
	}
}

// find is the operation that serves a path below apiRoot.
func (k *contract) find(method, path string) (name, template string, op operation, ok bool) {
	parts := strings.Split(path, "/")
	best := -1
	for t, ops := range k.Paths {
		o, has := ops[strings.ToLower(method)]
		want := strings.Split(t, "/")
		if !has || len(want) != len(parts) {
			continue
		}
		literal := 0
		for i := range want {
			if want[i] == parts[i] {
				literal++
			} else if !strings.HasPrefix(want[i], "{") {
				literal = -1
				break
			}
		}
		if literal > best {
			best, name, template, op, ok = literal, method+" "+t, t, o, true
		}
	}
	return name, template, op, ok
}

func escape(pointer ...string) string {
	for i, p := range pointer {
		pointer[i] = strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(p)
	}
	return strings.Join(pointer, "/")
}

// check holds an answer, and the request if it was taken, against the file.
func (k *contract) check(t *testing.T, method, path, body string, a *answer) {
	t.Helper()
	path, _, _ = strings.Cut(strings.TrimPrefix(path, apiRoot), "?")
	name, template, op, ok := k.find(method, path)
	if !ok {
		if a.StatusCode != http.StatusNotFound && a.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s %s is not documented and answers %s", method, path, a.Status)
		}
		k.valid(t, "components/schemas/Problem", a.body)
		return
	}
	status := strconv.Itoa(a.StatusCode)
	r, ok := op.Responses[status]
	if !ok {
		t.Errorf("%s answers %s, which is not documented\n%s", name, a.Status, a.body)
		return
	}
	if k.seen[name] == nil {
		k.seen[name] = map[string]bool{}
	}
	k.seen[name][status] = true
	where := escape("paths", template, strings.ToLower(method), "responses", status)
	kinds := r.Content
	if r.Ref != "" {
		where, kinds = strings.TrimPrefix(r.Ref, "#/"), map[string]any{"application/problem+json": nil}
	}
	kind := a.Header.Get("Content-Type")
	if len(kinds) == 0 {
		if a.body != "" {
			t.Errorf("%s answers %s with a body:\n%s", name, a.Status, a.body)
		}
		return
	}
	if _, ok := kinds[kind]; !ok {
		t.Errorf("%s answers %s as %q", name, a.Status, kind)
		return
	}
	k.valid(t, where+"/"+escape("content", kind, "schema"), a.body)
	if a.StatusCode < 300 && body != "" && op.RequestBody.Content != nil {
		k.valid(t, escape("paths", template, strings.ToLower(method), "requestBody", "content", "application/json", "schema"), body)
	}
}

// valid holds JSON against the schema at a place of the file.
func (k *contract) valid(t *testing.T, where, body string) {
	t.Helper()
	schema, err := k.c.Compile(specURL + "#/" + where)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if err := schema.Validate(v); err != nil {
		t.Errorf("%v\n%s", err, body)
	}
}

// complete: every operation has shown its success, so its schema was used.
func (k *contract) complete(t *testing.T) {
	t.Helper()
	for path, ops := range k.Paths {
		for method, op := range ops {
			name := strings.ToUpper(method) + " " + path
			for status := range op.Responses {
				if status < "300" && !k.seen[name][status] {
					t.Errorf("no test has seen %s answer %s, only %v", name, status, slices.Sorted(maps.Keys(k.seen[name])))
				}
			}
		}
	}
}

// TestOpenAPIIsTheRoutes: what is documented is there, with the callers and scopes that it says, and nothing else is.
func TestOpenAPIIsTheRoutes(t *testing.T) {
	k := readContract(t)
	routes := map[string]route{}
	for _, rt := range (&api{}).routes() {
		routes[rt.pattern] = rt
		method, path, _ := strings.Cut(rt.pattern, " ")
		op, ok := k.Paths[path][strings.ToLower(method)]
		if !ok {
			t.Errorf("%s is not documented", rt.pattern)
			continue
		}
		if _, ok := op.Responses[strconv.Itoa(rt.status)]; !ok {
			t.Errorf("%s answers %d, the file has %v", rt.pattern, rt.status, slices.Sorted(maps.Keys(op.Responses)))
		}
		who := map[string]string{}
		for _, s := range op.Security {
			for scheme, scopes := range s {
				who[scheme] = strings.Join(scopes, " ")
			}
		}
		scope, person := who["token"]
		_, session := who["session"]
		_, app := who["appKey"]
		if person != (rt.person != nil) || session != person || app != (rt.app != nil) || scope != rt.scope {
			t.Errorf("%s: the file says %v, the route has scope %q, person %t, app %t", rt.pattern, who, rt.scope, rt.person != nil, rt.app != nil)
		}
	}
	for path, ops := range k.Paths {
		for method := range ops {
			name := strings.ToUpper(method) + " " + path
			if _, ok := routes[name]; !ok && path != "/openapi.json" {
				t.Errorf("%s is documented and not there", name)
			}
		}
	}
}

// TestEveryOperationAsksWhoCalls: each documented path and method is answered, and to nobody in particular with 401.
func TestEveryOperationAsksWhoCalls(t *testing.T) {
	k := readContract(t)
	h := newHouse(t)
	for path, ops := range k.Paths {
		for method := range ops {
			p := apiRoot + strings.NewReplacer("{device}", "phone", "{party}", "chat", "{appid}", "chat", "{email}", "a@example.org", "{token}", "t").Replace(path)
			want := http.StatusUnauthorized
			if path == "/openapi.json" {
				want = http.StatusOK
			}
			a := h.browser().do(strings.ToUpper(method), p, "", "").want(want)
			if want == http.StatusUnauthorized && a.Header.Get("WWW-Authenticate") != `Bearer realm="presenced"` {
				t.Errorf("%s %s: WWW-Authenticate %q", method, path, a.Header.Get("WWW-Authenticate"))
			}
			k.check(t, strings.ToUpper(method), p, "", a)
		}
	}
}

// TestSchemasHold: every schema in the file is a schema.
func TestSchemasHold(t *testing.T) {
	k := readContract(t)
	var doc struct {
		Components struct {
			Schemas map[string]any
		}
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	for name := range doc.Components.Schemas {
		if _, err := k.c.Compile(specURL + "#/components/schemas/" + name); err != nil {
			t.Error(err)
		}
	}
}

// TestKindsAreInTheFile: every kind of problem that there is.
func TestKindsAreInTheFile(t *testing.T) {
	for _, k := range kinds() {
		if !strings.Contains(string(openAPI), `"urn:presenced:problem:`+k.name+`"`) {
			t.Errorf("openapi.json lacks the kind %s", k.name)
		}
		e := &Error{Status: k.status, Kind: k.name}
		if got := e.kind(); got != k {
			t.Errorf("%+v becomes %+v", k, got)
		}
	}
}
