// SPDX-License-Identifier: Apache-2.0

// Command bench measures labelstream's processes from outside, in turns with what
// they are compared with: client-go's bare metadata list, a bare TLS server, its
// own defaults, or another binary. It writes docs/benchmarks.md. It fails if a run
// fails, does not deliver exactly what the server has, or leaves a review without
// its answer, and never because of a figure.
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
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"labelstream/test/loopback"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "launch" {
		loopback.Main("launch", func(context.Context) error { return runLaunched(os.Args[2:]) })
		return
	}
	loopback.Main("bench", func(ctx context.Context) error { return run(ctx, os.Args[1:]) })
}

type options struct {
	command  string // that writes the results again
	objects  []int
	huge     int
	runs     int
	only     *regexp.Regexp
	versus   string
	settings []string // of versus
	loadTime time.Duration
	timeout  time.Duration
	output   string // "" prints
}

func parseOptions(args []string) (options, error) {
	o := options{command: "make bench"}
	if len(args) > 0 {
		o.command += fmt.Sprintf(" BENCHARGS=%q", strings.Join(args, " "))
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	objects := flags.String("objects", "10000,100000,1000000", "numbers of objects, separated by commas; the largest bounds all scenarios")
	only := flags.String("only", "", "run the scenarios whose section and name match this `regexp`, and print instead of writing the file")
	flags.IntVar(&o.huge, "huge", 0, "a further number of objects for the backfills of labels, such as 3000000")
	flags.IntVar(&o.runs, "runs", 5, "counted runs of each scenario, after one that is not")
	flags.StringVar(&o.versus, "vs", "", "another `binary` of labelstream to compare with, instead of all other references; prints")
	flags.Func("vs-env", "a setting `NAME=VALUE` of that binary, or -NAME to leave one out; ${CERT_DIR} is the webhook's certificate directory; repeatable",
		func(text string) error { o.settings = append(o.settings, text); return nil })
	flags.DurationVar(&o.loadTime, "load-time", 5*time.Second, "how long each load of reviews takes")
	flags.DurationVar(&o.timeout, "timeout", 15*time.Minute, "fail if one step of a scenario takes longer")
	flags.StringVar(&o.output, "output", "../docs/benchmarks.md", "`file` to write; empty: print")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	for text := range strings.SplitSeq(*objects, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil || n < 1 {
			return o, fmt.Errorf("--objects %q: %q is not a number of objects", *objects, text)
		}
		o.objects = append(o.objects, n)
	}
	if o.runs < 1 || o.loadTime < reviewInterval {
		return o, fmt.Errorf("--runs %d and --load-time %s: give at least 1 and %s", o.runs, o.loadTime, reviewInterval)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("--only %q: %w", *only, err)
	}
	// A part of the results must not replace the file that holds them all.
	if *only != "" || o.versus != "" {
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
	programs, err := build(ctx, directory, o.versus)
	if err != nil {
		return err
	}
	var results []result
	for _, s := range scenarios(o.objects, o.huge) {
		if !o.only.MatchString(s.section + ": " + s.name) {
			continue
		}
		r, err := measure(ctx, s, programs, o)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", s.section, s.name, err)
		}
		results = append(results, r)
	}
	micro := ""
	if o.versus == "" && o.only.MatchString("Micro-benchmarks") {
		if micro, err = microBenchmarks(ctx); err != nil {
			return err
		}
	}
	text := report(readMachine(), o, results, micro)
	if o.output == "" {
		fmt.Print(text)
		return nil
	}
	return os.WriteFile(o.output, []byte(text), 0o644)
}

// microBenchmarks runs those of the product's packages, and gives what go test
// prints of them.
func microBenchmarks(ctx context.Context) (string, error) {
	output, err := goTool(ctx, "..", "test", "-run", "^$", "-bench", ".", "-benchmem", "./...")
	return strings.Join(regexp.MustCompile(`(?m)^(pkg: |Benchmark).*\n`).FindAllString(output, -1), ""), err
}

// goTool runs the go command in a directory, and gives what it prints.
func goTool(ctx context.Context, directory string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = directory
	output, err := command.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go %s (run this in the directory of the test module): %w\n%s", strings.Join(args, " "), err, output)
	}
	return string(output), nil
}
