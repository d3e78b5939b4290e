package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// importText imports text on the data folder with the program and returns exit code and both outputs.
func importText(t *testing.T, data, text string) (int, string, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "in.ndjson")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return cliTest(t, nil, "import", file, "--data", data, "--json")
}

func exportText(t *testing.T, data string) string {
	t.Helper()
	code, out, errs := cliTest(t, nil, "export", "--data", data)
	if code != 0 {
		t.Fatal(errs)
	}
	return out
}

const chatLine = `{"app":{"appid":"chat","name":"Chat","component":"chat.example.org","secret":"s","api_key":"k"}}` + "\n"

// manyLines is an app, then n users with a token and a grant each: 2n+1 lines.
func manyLines(n int) string {
	var b strings.Builder
	b.WriteString(chatLine)
	for i := range n {
		fmt.Fprintf(&b, `{"token":{"email":"user%d@example.org","device":"phone","token":"t%d"}}`+"\n", i, i)
		fmt.Fprintf(&b, `{"grant":{"email":"user%d@example.org","appid":"chat","address":"email","tz":"Europe/Paris",`+
			`"windows":[{"days":["mon"],"from":"21:00","to":"23:00"}],"until":"2099-01-01T00:00:00Z","idle":true}}`+"\n", i)
	}
	return b.String()
}

// TestImportManyAndBack: ten thousand lines come in, and an export imports elsewhere to the same export.
func TestImportManyAndBack(t *testing.T) {
	const users = 5000
	first, second := t.TempDir(), t.TempDir()
	code, out, errs := importText(t, first, manyLines(users))
	var done imported
	if err := json.Unmarshal([]byte(out), &done); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v\n%s", code, err, errs)
	}
	if want := (imported{Lines: 2*users + 1, Apps: 1, Tokens: users, Grants: users}); done != want {
		t.Errorf("imported %+v, want %+v", done, want)
	}
	once := exportText(t, first)
	if n := strings.Count(once, "\n"); n != 2*users+1 {
		t.Fatalf("exported %d lines", n)
	}
	if code, _, errs := importText(t, second, once); code != 0 {
		t.Fatal(errs)
	}
	if exportText(t, second) != once {
		t.Error("an export imports to something else")
	}
}

// TestImportStopsAtABadLine, far behind the first batch: its number is right and all before it is there.
func TestImportStopsAtABadLine(t *testing.T) {
	const good = 2300 // lines; the third batch is cut short
	data := t.TempDir()
	lines := strings.SplitAfter(manyLines(2000), "\n")
	lines[good] = `{"grant":{"email":"nobody","appid":"chat"}}` + "\n"
	code, out, errs := importText(t, data, strings.Join(lines, ""))
	if code != exitFailed || out != "" || !strings.Contains(errs, fmt.Sprintf("line %d: email", good+1)) {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if got := strings.Count(exportText(t, data), "\n"); got != good {
		t.Errorf("%d lines are there, want %d", got, good)
	}
}

// TestImportFindsTheLine of a batch that the store refuses as a whole.
func TestImportFindsTheLine(t *testing.T) {
	const most = 100 // tokens of a user
	data := t.TempDir()
	var b strings.Builder
	for i := range most + 10 {
		fmt.Fprintf(&b, `{"token":{"email":"a@example.org","token":"t%d"}}`+"\n", i)
	}
	code, _, errs := importText(t, data, b.String())
	if code != exitFailed || !strings.Contains(errs, fmt.Sprintf("line %d: ", most+1)) {
		t.Errorf("exit code %d\n%s", code, errs)
	}
	if got := strings.Count(exportText(t, data), "\n"); got != most {
		t.Errorf("%d tokens are there, want %d", got, most)
	}
	code, _, errs = cliTest(t, nil, "user", "token", "a@example.org", "--data", data)
	if code != exitFailed || !strings.Contains(errs, "presenced user token revoke a@example.org") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

// TestImportLastOneWins: two records of one thing in a batch are two changes, in order.
func TestImportLastOneWins(t *testing.T) {
	data := t.TempDir()
	text := chatLine + `{"grant":{"email":"a@example.org","appid":"chat","puid":"p","idle":true}}` + "\n" +
		`{"grant":{"email":"a@example.org","appid":"chat","puid":"p","notify":false}}` + "\n" +
		strings.Replace(chatLine, `"Chat"`, `"Chatter"`, 1)
	if code, _, errs := importText(t, data, text); code != 0 {
		t.Fatal(errs)
	}
	out := exportText(t, data)
	if !strings.Contains(out, `"notify":false,"idle":false`) || !strings.Contains(out, `"name":"Chatter"`) {
		t.Error(out)
	}
}

// TestImportRefusesALongLine instead of holding it in memory.
func TestImportRefusesALongLine(t *testing.T) {
	text := chatLine + `{"app":{"description":"` + strings.Repeat("x", maxImportLine) + `"}}`
	code, _, errs := importText(t, t.TempDir(), text)
	if code != exitFailed || !strings.Contains(errs, "line 2: longer than") {
		t.Errorf("exit code %d\n%s", code, errs)
	}
}

func TestProgressText(t *testing.T) {
	for _, tt := range []struct {
		lines      int
		took       time.Duration
		read, size int64
		want       string
	}{
		{12000, 2 * time.Second, 37, 100, "12,000 lines  6,000/s  37%"},
		{1, 0, 0, 0, "1 line"},
		{1234567, time.Second, 5, 0, "1,234,567 lines  1,234,567/s"},
		{10, time.Second, 200, 100, "10 lines  10/s  100%"},
	} {
		if got := progressText(tt.lines, tt.took, tt.read, tt.size); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// TestProgressIsForTerminals: a person sees it come and go, a file gets nothing.
func TestProgressIsForTerminals(t *testing.T) {
	var b strings.Builder
	if p := (&cli{stderr: &b}).newProgress(10); p.w != nil {
		t.Error("a pipe was taken for a terminal")
	}
	p := &progress{w: &b, size: 10, started: time.Now()}
	p.tell(5, 5)
	p.tell(6, 1) // too soon for another look
	p.end()
	if s := b.String(); !strings.Contains(s, "5 lines") || strings.Contains(s, "6 lines") || !strings.HasSuffix(s, "\r\x1b[K") {
		t.Errorf("got %q", s)
	}
}

// FuzzReadBatch: batches are the whole of what was read, in whole lines.
func FuzzReadBatch(f *testing.F) {
	f.Add([]byte("{}\n\n{}"))
	f.Add(bytes.Repeat([]byte("x\n"), importBatch+1))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(in), 16)
		var all []byte
		for {
			batch, lines, err := readBatch(r)
			if err != nil {
				t.Fatal(err) // no input is long enough to be refused
			}
			if lines == 0 {
				break
			}
			if n := bytes.Count(bytes.TrimSuffix(batch, []byte("\n")), []byte("\n")); n != lines-1 || lines > importBatch {
				t.Fatalf("%d lines with %d ends", lines, n)
			}
			all = append(all, batch...)
		}
		if !bytes.Equal(all, in) {
			t.Fatalf("read %q of %q", all, in)
		}
	})
}
