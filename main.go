// SPDX-License-Identifier: Apache-2.0

// Command labelstream sends the labels and annotations of a cluster's objects as
// Prometheus remote_write.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"labelstream/app"
	"labelstream/app/memory"
	"labelstream/config"
	"labelstream/status"
)

// Set at build time.
var (
	version = "dev"
	commit  = "unknown"
	date    = "unknown"
)

// The exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	// The start registers every type of the Kubernetes API. Without an answer, the
	// pages of that stay in memory.
	_ = memory.ReleaseBinary()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	flags, err := app.ParseFlags(args, stdout)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, err)
		return exitUsage
	case flags.Version:
		fmt.Fprintf(stdout, "labelstream %s (commit %s, %s)\n", version, commit, date)
		return 0
	}
	cfg, err := config.Load(flags.SendsNothing(), flags.Settings...)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	log := app.NewLogger(cfg, stderr)
	err = app.Run(ctx, cfg, app.Options{
		Flags:  flags,
		Build:  status.Build{Version: version, Commit: commit, Date: date},
		Log:    log,
		Stdout: stdout,
		Stderr: stderr,
	})
	if err != nil {
		app.LogErrors(log, err)
		return exitFailed
	}
	return 0
}
