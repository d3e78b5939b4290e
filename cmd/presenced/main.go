package main

import (
	"context"
	"os"
	_ "time/tzdata" // windows are in people's zones, on machines without zone files too
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], &cli{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, environ: os.Environ(),
	}))
}
