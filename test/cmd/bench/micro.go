package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
)

// microPackages of the product have benchmarks of what is done for each object:
// whatever they are called, all are run.
var microPackages = []string{"./config", "./record", "./informer", "./emitter", "./webhook"}

// microName is by which --only chooses them.
const microName = "micro-benchmarks"

// microBenchmark is one that was run as often as asked for.
type microBenchmark struct {
	pkg, name string
	// units in the order in which the first run has them, and the figures of
	// each, one a run.
	units   []string
	figures map[string][]float64
}

// measureMicro runs the benchmarks of the product's packages.
func measureMicro(ctx context.Context, o options) ([]microBenchmark, error) {
	args := append([]string{"test", "-run", "^$", "-bench", ".", "-benchmem", "-count", strconv.Itoa(o.runs)}, microPackages...)
	command := exec.CommandContext(ctx, "go", args...)
	command.Dir = ".."
	var errs tail
	command.Stderr = &errs
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s (run this in the directory of the test module): %w\n%s%s", strings.Join(args, " "), err, output, &errs)
	}
	return parseBenchmarks(output)
}

// parseBenchmarks reads what go test prints: "pkg:" and a path, then lines of a
// name, how often it ran, and pairs of figure and unit.
func parseBenchmarks(text []byte) ([]microBenchmark, error) {
	var all []microBenchmark
	pkg := ""
	for line := range bytes.Lines(text) {
		if rest, found := bytes.CutPrefix(line, []byte("pkg: ")); found {
			pkg = path.Base(strings.TrimSpace(string(rest)))
			continue
		}
		fields := strings.Fields(string(line))
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := cutProcs(strings.TrimPrefix(fields[0], "Benchmark"))
		same := func(b microBenchmark) bool { return b.pkg == pkg && b.name == name }
		at := slices.IndexFunc(all, same)
		if at < 0 {
			at = len(all)
			all = append(all, microBenchmark{pkg: pkg, name: name, figures: map[string][]float64{}})
		}
		if err := all[at].add(fields[2:]); err != nil {
			return nil, fmt.Errorf("read the benchmark %q: %w", line, err)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no benchmark was run in %v", microPackages)
	}
	return all, nil
}

// cutProcs cuts the number of processors off a name.
func cutProcs(name string) string {
	at := strings.LastIndexByte(name, '-')
	if at < 0 {
		return name
	}
	if _, err := strconv.Atoi(name[at+1:]); err != nil {
		return name
	}
	return name[:at]
}

// add takes a run's pairs of figure and unit.
func (b *microBenchmark) add(pairs []string) error {
	for pair := range slices.Chunk(pairs, 2) {
		figure, err := strconv.ParseFloat(pair[0], 64)
		if err != nil || len(pair) < 2 {
			return fmt.Errorf("%q is no figure with its unit", pair)
		}
		if _, known := b.figures[pair[1]]; !known {
			b.units = append(b.units, pair[1])
		}
		b.figures[pair[1]] = append(b.figures[pair[1]], figure)
	}
	return nil
}

// rate is what the benchmark counts a second, or its operations.
func (b *microBenchmark) rate() string {
	for _, unit := range b.units {
		if what, found := strings.CutSuffix(unit, "/s"); found && what != "MB" {
			return thousands(int(median(b.figures[unit])+0.5)) + " " + what
		}
	}
	return thousands(int(1e9/median(b.figures["ns/op"])+0.5)) + " operations"
}

const microIntroduction = "The parts by themselves, on one processor: `go test -bench . -benchmem` of the packages named, medians of the runs. An operation of\n" +
	"the decoder is a page of 500 objects, of the encoders a batch of 500 records, of the webhook a review of a 4 KB pod, and of all others an object or key.\n"

// microReport is their part of the report.
func microReport(all []microBenchmark) string {
	var text strings.Builder
	fmt.Fprintf(&text, "\n## Parts\n\n%s\n| package | benchmark | a second | ns/op | B/op | allocs/op |\n|---|---|--:|--:|--:|--:|\n", microIntroduction)
	for _, b := range all {
		fmt.Fprintf(&text, "| %s | %s | %s |", b.pkg, b.name, b.rate())
		for _, unit := range []string{"ns/op", "B/op", "allocs/op"} {
			fmt.Fprintf(&text, " %s |", strconv.FormatFloat(median(b.figures[unit]), 'f', -1, 64))
		}
		text.WriteString("\n")
	}
	return text.String()
}
