package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"presenced/store"
)

func backupCommand(c *cli) *cobra.Command {
	compact := false
	cmd := command("backup FILE", "Copy everything, also while the server runs", 1, 1, func(ctx context.Context, args []string) error {
		return c.backup(ctx, args[0], compact)
	})
	cmd.Long = `Copy the data file as it is at one moment, with queues, audit and history, to FILE with mode 0600.
The server goes on meanwhile. To restore it, put it in the data folder as presenced.db while no
server runs. It holds the apps' secrets: keep it like a key.`
	cmd.Example = `  presenced backup /backup/presenced.db
  presenced backup --compact smaller.db      without the room that was freed in it`
	cmd.Flags().BoolVar(&compact, "compact", false, "leave out the room that was freed: smaller, and takes longer")
	return cmd
}

// copied is the answer to a backup.
type copied struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

func (c *cli) backup(ctx context.Context, file string, compact bool) error {
	err := c.with(ctx, false, func(cl *client) error {
		body, err := cl.ask(ctx, http.MethodGet, "/backup", nil)
		if err != nil {
			return err
		}
		defer body.Close()
		p := c.newProgress(0)
		defer p.end()
		if !compact {
			return writeWhole(file, p.over(body))
		}
		return writeCompact(file, p.over(body))
	})
	if err != nil {
		return err
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(copied{file, info.Size()})
	}
	fmt.Fprintf(c.stdout, "%s: %s\n", file, bytesText(info.Size()))
	return nil
}

// writeCompact writes the data file that r is to a file of this name, compacted; both stand beside it until they are whole.
func writeCompact(name string, r io.Reader) error {
	dir, err := os.MkdirTemp(filepath.Dir(name), "."+filepath.Base(name)+".*") // mode 0700
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	whole, small := filepath.Join(dir, "whole"), filepath.Join(dir, "small")
	if err := writeWhole(whole, r); err != nil {
		return err
	}
	if err := store.Compact(small, whole); err != nil {
		return err
	}
	return os.Rename(small, name)
}
