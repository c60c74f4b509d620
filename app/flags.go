package app

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"labelstream/config"
)

// Flags is what the command line says; everything else is a setting.
type Flags struct {
	// Once reads and sends everything once. DryRun does too, but prints instead
	// of sending.
	Once, DryRun bool
	// Version asks for the version, Roles for the roles that a run needs.
	Version, Roles bool
	// Kubeconfig is a file, or "" for the usual places.
	Kubeconfig string
}

// once reports whether the run ends by itself.
func (f *Flags) once() bool { return f.Once || f.DryRun }

const help = `labelstream sends the labels and annotations of a cluster's objects as Prometheus remote_write.

Commands:
  rbac
    	print the roles that a run with the same settings and flags needs, for kubectl apply, and end

Flags:
`

// ParseFlags reads the arguments. Where they ask for help, it is written to
// stdout, and the error is [flag.ErrHelp].
func ParseFlags(args []string, stdout io.Writer) (Flags, error) {
	var f Flags
	set := flag.NewFlagSet("labelstream", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.BoolVar(&f.Once, "once", false, "read and send everything once, then end")
	set.BoolVar(&f.DryRun, "dry-run", false, "send nothing; print each series of one backfill on standard output")
	set.StringVar(&f.Kubeconfig, "kubeconfig", "", "`file` that says how to reach the API server; without it KUBECONFIG, the pod's service account, ~/.kube/config")
	set.BoolVar(&f.Version, "version", false, "print the version and end")
	err := set.Parse(args)
	if f.Roles = err == nil && set.Arg(0) == "rbac"; f.Roles {
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
		return f, fmt.Errorf("%q is neither a flag nor a command; --help lists the flags, commands and settings", set.Arg(0))
	}
	return f, nil
}
