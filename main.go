// Command labelstream reads the labels and annotations of a cluster's objects
// and sends them as Prometheus remote_write.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

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
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// flags are what is said on the command line; all else is in the environment.
type flags struct {
	once, dryRun, version bool
	kubeconfig            string
	// rbac is the command that prints roles.
	rbac bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags, err := parseFlags(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, err)
		return exitUsage
	case flags.version:
		fmt.Fprintf(stdout, "labelstream %s (commit %s, %s)\n", version, commit, date)
		return 0
	}
	cfg, err := config.Load(flags.dryRun || flags.rbac)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return exitUsage
	}
	cfg.Once = cfg.Once || flags.once || flags.dryRun
	log := newLogger(cfg, stderr)
	routeLibraries(log)
	saveMemory(log)
	registry := status.NewRegistry(status.Build{Version: version, Commit: commit, Date: date})
	switch {
	case flags.rbac:
		err = printRoles(ctx, cfg, flags.kubeconfig, stdout, log)
	case cfg.Once:
		b := &backfill{cfg: cfg, flags: flags, registry: registry, log: log, stdout: stdout, stderr: stderr}
		err = b.run(ctx)
	default:
		err = newDaemon(cfg, flags.kubeconfig, registry, log).run(ctx)
	}
	if err != nil {
		logErrors(log, err)
		return exitFailed
	}
	return 0
}

const help = `labelstream sends the labels and annotations of a cluster's objects as Prometheus remote_write.

Commands:
  rbac
    	print the roles that a run with the same settings and flags needs, for kubectl apply, and end

Flags:
`

func parseFlags(args []string, stdout io.Writer) (flags, error) {
	var f flags
	set := flag.NewFlagSet("labelstream", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.BoolVar(&f.once, "once", false, "read and send everything once, then end; the same as LABELSTREAM_ONCE=true")
	set.BoolVar(&f.dryRun, "dry-run", false, "send nothing; print each series of one backfill on standard output")
	set.StringVar(&f.kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server; without it KUBECONFIG, the pod's service account, ~/.kube/config")
	set.BoolVar(&f.version, "version", false, "print the version and end")
	err := set.Parse(args)
	if f.rbac = err == nil && set.Arg(0) == "rbac"; f.rbac {
		err = set.Parse(set.Args()[1:])
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, help)
		set.SetOutput(stdout)
		set.PrintDefaults()
		fmt.Fprintln(stdout)
		return f, errors.Join(flag.ErrHelp, config.Usage(stdout))
	case err != nil:
		return f, fmt.Errorf("%w; --help lists the flags, commands and settings", err)
	case set.NArg() > 0:
		return f, fmt.Errorf("%q is no flag and no command; --help lists the flags, commands and settings", set.Arg(0))
	}
	return f, nil
}
