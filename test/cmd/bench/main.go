// Command bench measures labelstream beside a bare client-go metadata list of
// the same synthetic API server, and its webhook beside a bare TLS server, and
// writes docs/benchmarks.md. It measures whole processes from outside: processor
// time, wall time, peak memory. It fails if a run fails, does not deliver exactly
// what the server has, or leaves a review without its answer, and never because
// of a time. It also runs the product's own benchmarks, and profiles it.
//
// Run it in the directory of the test module. LABELSTREAM_BINARY names the
// binary to measure; without it the one of the parent directory is built.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == launchCommand {
		os.Exit(launch(os.Args[2:]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line chooses.
type options struct {
	// command is how the results are had again.
	command       string
	sizes         []int
	huge          int
	runs          int
	only          *regexp.Regexp
	referenceOnly bool
	maxRSS        int
	maxDaemonRSS  int
	webhookTime   time.Duration
	timeout       time.Duration
	output        string
}

func parseOptions(args []string) (options, error) {
	o := options{command: "make bench"}
	if len(args) > 0 {
		o.command += fmt.Sprintf(" BENCHARGS=%q", strings.Join(args, " "))
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	sizes := flags.String("sizes", "10000,100000,1000000", "numbers of pods, separated by commas")
	only := flags.String("only", "", "run the scenarios whose names match this `regexp`, and print instead of writing the file")
	flags.IntVar(&o.huge, "huge", 0, "a further number of pods, labels only, such as 3000000")
	flags.IntVar(&o.runs, "runs", 5, "counted runs of each scenario")
	flags.BoolVar(&o.referenceOnly, "reference-only", false, "measure client-go's list alone, and print")
	flags.IntVar(&o.maxRSS, "max-rss", 0, "fail if labelstream's peak memory exceeds so many `MiB`; 0: do not")
	flags.IntVar(&o.maxDaemonRSS, "max-daemon-rss", 0, "fail if the daemon's peak memory exceeds so many `MiB`; 0: do not")
	flags.DurationVar(&o.webhookTime, "webhook-time", 10*time.Second, "how long each load of the webhook takes, at most 20s")
	flags.DurationVar(&o.timeout, "timeout", 15*time.Minute, "kill a run that takes longer")
	flags.StringVar(&o.output, "output", "../docs/benchmarks.md", "file to write; empty: print")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		size, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || size < 1 {
			return o, fmt.Errorf("--sizes %q: %q is not a number of pods", *sizes, text)
		}
		o.sizes = append(o.sizes, size)
	}
	if o.runs < 1 {
		return o, fmt.Errorf("--runs %d: give at least one", o.runs)
	}
	// Claims that wait for an event to confirm them are due after a minute, and a
	// server without its load waits twice as long as it has it.
	if o.webhookTime < time.Second || o.webhookTime > 20*time.Second {
		return o, fmt.Errorf("--webhook-time %s: give 1s to 20s", o.webhookTime)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("--only %q: %w", *only, err)
	}
	// A part of the results must not replace the file that holds them all.
	if *only != "" || o.referenceOnly {
		o.output = ""
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parseOptions(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	directory, err := os.MkdirTemp("", "labelstream-bench-")
	if err != nil {
		return fmt.Errorf("make a directory for the binaries: %w", err)
	}
	defer os.RemoveAll(directory)
	programs, err := build(ctx, directory, o.referenceOnly)
	if err != nil {
		return err
	}
	results, err := measureAll(ctx, programs, o)
	if err != nil {
		return err
	}
	if err := write(o, results); err != nil {
		return err
	}
	return errors.Join(checkMemory(results.scenarios, o.maxRSS), checkDaemonMemory(results.daemon, o.maxDaemonRSS))
}

// results are all that was measured. What the options left out is nil.
type results struct {
	scenarios []result
	daemon    *daemonResult
	webhook   *webhookResult
	micro     []microBenchmark
	profile   *profileResult
}

// measureAll measures what the options choose, one after the other.
func measureAll(ctx context.Context, p programs, o options) (all results, err error) {
	parts := []part{}
	for _, s := range scenarios(o.sizes, o.huge) {
		if o.referenceOnly && s.alone {
			continue
		}
		parts = append(parts, part{s.name, func() error {
			r, err := measure(ctx, s, p, o)
			all.scenarios = append(all.scenarios, r)
			return err
		}})
	}
	if !o.referenceOnly {
		pods := slices.Max(o.sizes)
		parts = append(parts,
			part{daemonName(pods), func() (err error) { all.daemon, err = measureDaemon(ctx, pods, p, o); return err }},
			part{webhookName, func() (err error) { all.webhook, err = measureWebhook(ctx, p, o); return err }},
			part{microName, func() (err error) { all.micro, err = measureMicro(ctx, o); return err }},
			part{profileName, func() (err error) { all.profile, err = measureProfile(ctx, p, o); return err }},
		)
	}
	parts = slices.DeleteFunc(parts, func(p part) bool { return !o.only.MatchString(p.name) })
	if len(parts) == 0 {
		return all, fmt.Errorf("no scenario matches %q", o.only)
	}
	for _, part := range parts {
		fmt.Fprintln(os.Stderr, part.name)
		if err := part.measure(); err != nil {
			return all, fmt.Errorf("scenario %q: %w", part.name, err)
		}
	}
	return all, nil
}

// part is what --only chooses by its name.
type part struct {
	name    string
	measure func() error
}

// write puts the report where the options say.
func write(o options, all results) error {
	text := report(readMachine(), o, all)
	if o.output == "" {
		fmt.Print(text)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(o.output), 0o755); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	if err := os.WriteFile(o.output, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// checkMemory holds labelstream to a limit in MiB.
func checkMemory(results []result, limit int) error {
	if limit == 0 {
		return nil
	}
	var errs []error
	for _, r := range results {
		if peak := peakRSS(r.product); peak > int64(limit)<<20 {
			errs = append(errs, fmt.Errorf("scenario %q: peak memory %.1f MiB, the limit is %d", r.scenario.name, mebibytes(peak), limit))
		}
	}
	return errors.Join(errs...)
}

// checkDaemonMemory holds the daemon to a limit in MiB.
func checkDaemonMemory(r *daemonResult, limit int) error {
	if r == nil || limit == 0 {
		return nil
	}
	if peak := r.peakRSS(); peak > int64(limit)<<20 {
		return fmt.Errorf("scenario %q: peak memory %.1f MiB, the limit is %d", daemonName(r.pods), mebibytes(peak), limit)
	}
	return nil
}
