package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func importCommand(c *cli) *cobra.Command {
	cmd := command("import FILE|-", "Read apps, tokens and grants, one JSON object a line", 1, 1, c.importFile)
	cmd.Long = `Read apps, tokens and grants, one JSON object a line, as "presenced export" writes them.
What exists is changed. After an error, what came before the line that it names stays imported.`
	return cmd
}

func (c *cli) importFile(ctx context.Context, args []string) error {
	in, size := c.stdin, int64(0)
	if args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		in = f
	}
	return c.with(ctx, true, func(cl *client) error {
		done, err := cl.importAll(ctx, in, c.newProgress(size))
		if err != nil {
			if done.Lines > 0 && !c.json {
				fmt.Fprintf(c.stderr, "presenced: imported %s before that\n", plural(done.Lines, "line"))
			}
			return fmt.Errorf("import: %w", err)
		}
		return c.print(done, func(w io.Writer) {
			fmt.Fprintf(w, "imported %s, %s, %s", plural(done.Apps, "app"), plural(done.Tokens, "token"),
				plural(done.Grants, "grant"))
			if done.Groups > 0 {
				fmt.Fprintf(w, ", %s", plural(done.Groups, "device group"))
			}
			if done.Users > 0 {
				fmt.Fprintf(w, ", %s", plural(done.Users, "user"))
			}
			fmt.Fprintln(w)
		})
	})
}

// importAll sends the lines in batches, each a request of its own: what a batch answered is on disk, so that the
// progress shown is true, and neither side holds more than a batch.
func (cl *client) importAll(ctx context.Context, in io.Reader, p *progress) (imported, error) {
	defer p.end()
	var done imported
	r := bufio.NewReaderSize(in, 64<<10)
	for {
		batch, lines, err := readBatch(r)
		if err != nil {
			var at *lineError
			if errors.As(err, &at) {
				at.line += done.Lines
			}
			return done, err
		}
		if lines == 0 {
			return done, nil
		}
		body, err := cl.send(ctx, http.MethodPost, "/import"+query("line", strconv.Itoa(done.Lines+1)), bytes.NewReader(batch))
		if err != nil {
			return done, err
		}
		var got imported
		err = json.NewDecoder(body).Decode(&got)
		body.Close()
		if err != nil {
			return done, fmt.Errorf("reading the answer: %w", err)
		}
		done.add(got)
		p.tell(done.Lines, int64(len(batch)))
	}
}

// readBatch reads up to a batch of whole lines; the last one may lack its newline.
func readBatch(r *bufio.Reader) (batch []byte, lines int, err error) {
	for lines < importBatch && len(batch) < maxImportLine {
		line, err := readLine(r)
		if len(line) > 0 {
			batch = append(batch, line...)
			lines++
		}
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, 0, &lineError{lines, fmt.Errorf("longer than %d bytes", maxImportLine)}
		}
		if errors.Is(err, io.EOF) {
			return batch, lines, nil
		}
		if err != nil {
			return nil, 0, err
		}
	}
	return batch, lines, nil
}

// readLine reads a line with its newline, of bounded length.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxImportLine {
			return line, bufio.ErrTooLong
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

const progressEvery = 200 * time.Millisecond

// progress tells a person on a terminal how far a long work is; on anything else it is silent.
type progress struct {
	w       io.Writer // nil: silent
	size    int64     // bytes of all; 0: unknown
	read    int64
	started time.Time
	told    time.Time
}

func (c *cli) newProgress(size int64) *progress {
	p := &progress{size: size, started: time.Now()}
	if isTerminal(c.stderr) {
		p.w = c.stderr
	}
	return p
}

// tell notes that lines are done in all, and n more bytes.
func (p *progress) tell(lines int, n int64) {
	p.show(n, func() string { return progressText(lines, time.Since(p.started), p.read, p.size) })
}

// show notes that n more bytes are done, and what to say then.
func (p *progress) show(n int64, text func() string) {
	p.read += n
	if p.w == nil || time.Since(p.told) < progressEvery {
		return
	}
	p.told = time.Now()
	fmt.Fprintf(p.w, "\r\x1b[K%s", text())
}

// over tells how much was read of r.
func (p *progress) over(r io.Reader) io.Reader { return progressReader{r, p} }

type progressReader struct {
	io.Reader
	p *progress
}

func (r progressReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.p.show(int64(n), func() string { return bytesText(r.p.read) })
	return n, err
}

// progressText is "12,000 lines  45,000/s  37%".
func progressText(lines int, took time.Duration, read, size int64) string {
	s := plural(lines, "line")
	if took > 0 {
		s += "  " + thousands(int(float64(lines)/took.Seconds())) + "/s"
	}
	if size > 0 {
		s += fmt.Sprintf("  %d%%", min(100, read*100/size))
	}
	return s
}

// end wipes the line.
func (p *progress) end() {
	if p.w != nil && !p.told.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func exportCommand(c *cli) *cobra.Command {
	cmd := command("export [FILE]", "Write apps, tokens (as hashes) and grants, one JSON object a line", 0, 1, c.exportFile)
	cmd.Long = `Write apps, tokens (as hashes) and grants, one JSON object a line, to a file with mode 0600
or to standard output. It holds the apps' secrets: keep it like a key.`
	return cmd
}

func (c *cli) exportFile(ctx context.Context, args []string) error {
	return c.with(ctx, false, func(cl *client) error {
		body, err := cl.ask(ctx, http.MethodGet, "/export", nil)
		if err != nil {
			return err
		}
		defer body.Close()
		if len(args) == 0 || args[0] == "-" {
			_, err := io.Copy(c.stdout, body)
			return err
		}
		return writeWhole(args[0], body)
	})
}

// writeWhole writes r to a new file with mode 0600 and gives it its name only when it is whole.
func writeWhole(name string, r io.Reader) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = io.Copy(f, r)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
