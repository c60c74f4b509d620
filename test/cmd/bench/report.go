// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// figure is what is told of a step, or compared.
type figure struct {
	name, unit string
	digits     int
	of         func(pairs) float64
}

// The figures that promises are about. A ratio is the median of the ratios of
// each pair, so what slows the machine for a while slows both sides of a pair.
var (
	cpuRatio    = figure{"processor time by that of the reference", "", 3, func(p pairs) float64 { return ratio(p, usage.each) }}
	rateRatio   = figure{"rate by that of the reference", "", 3, func(p pairs) float64 { return ratio(p, usage.rate) }}
	p99Ratio    = figure{"p99 by that of the reference", "", 3, func(p pairs) float64 { return ratio(p, func(u usage) float64 { return u.P99.Seconds() }) }}
	peakRSS     = figure{"peak memory", " MiB", 1, func(p pairs) float64 { return highest(p.product, func(u usage) int64 { return u.Peak }) }}
	residentRSS = figure{"resident memory", " MiB", 1, func(p pairs) float64 { return highest(p.product, func(u usage) int64 { return u.Resident }) }}
)

func (u usage) rate() float64 { return float64(u.Items) / u.Wall.Seconds() }
func (u usage) each() float64 { return u.CPU.Seconds() / float64(u.Items) }

func ratio(p pairs, of func(usage) float64) float64 {
	ratios := make([]float64, len(p.reference))
	for i, reference := range p.reference {
		ratios[i] = of(p.product[i]) / of(reference)
	}
	return median(ratios)
}

// median is the mean of the middle two where their number is even.
func median(numbers []float64) float64 {
	if len(numbers) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(numbers))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

func all(runs []usage, of func(usage) float64) []float64 {
	numbers := make([]float64, len(runs))
	for i, u := range runs {
		numbers[i] = of(u)
	}
	return numbers
}

// highest is in MiB, of bytes.
func highest(runs []usage, of func(usage) int64) float64 {
	return slices.Max(append(all(runs, func(u usage) float64 { return float64(of(u)) / (1 << 20) }), 0))
}

const introduction = "# Benchmarks\n\n" +
	"This file is written as a whole by\n\n    %s\n\n" +
	"and `make bench3m` writes it with backfills of 3 million objects, too. In `test/`, `go run ./cmd/bench --only` prints a part of it, and\n" +
	"`--vs` compares with another binary; all flags are in its `--help`.\n\n" +
	"Machine: %s.\n%d counted runs after one that is not.\n\n" +
	"Whole processes are measured from outside, in turns with what they are compared with, each with servers of its own:\n" +
	"`labelstream --once` with a program that lists the same objects with client-go's metadata client, 500 a page, and drops them; the\n" +
	"webhook with a Go TLS server that reads the body and answers a constant; and other settings with the defaults. No GOGC or GOMEMLIMIT\n" +
	"is set. The API server is synthetic (`test/synthetic`): it computes the objects while it writes them. Alike ones are the pods of\n" +
	"Deployments, with 8 to 10 labels; mixed ones are of operators, charts, workflows, Jobs and nobody, with 5 to 40 labels: neighbours\n" +
	"have hardly a key in common, and half of the values are unique. Each run must deliver each series exactly once, each review must be\n" +
	"allowed, and those at 1,000 a second must become one sample each.\n\n" +
	"CPU is user and system time, the median of the runs with the least and the most; rates are by wall time, and all but memory are\n" +
	"medians; memory is the highest of all runs. Ratios are labelstream's by the reference's, medians over the pairs.\n"

func report(machine string, o options, results []result, micro string) string {
	var text strings.Builder
	fmt.Fprintf(&text, introduction, o.command, machine, o.runs)
	text.WriteString(promiseTable(results))
	for len(results) > 0 {
		section := results[0].scenario.section
		n := slices.IndexFunc(results, func(r result) bool { return r.scenario.section != section })
		if n < 0 {
			n = len(results)
		}
		fmt.Fprintf(&text, "\n## %s\n\n%s", section, sectionTable(results[:n]))
		results = results[n:]
	}
	if micro != "" {
		fmt.Fprintf(&text, "\n## Micro-benchmarks\n\nThe parts by themselves: `go test -bench . -benchmem ./...`.\n\n```\n%s```\n", micro)
	}
	return text.String()
}

// columns are what a table can have; those that no row fills are left out.
var columns = []string{"scenario", "process", "CPU s", "CPU µs each", "each/s", "p50 ms", "p99 ms", "resident MiB", "peak RSS MiB", "CPU ratio", "rate ratio", "p99 ratio"}

func sectionTable(results []result) string {
	var rows [][]string
	for _, r := range results {
		for i, p := range r.steps {
			name := label(r.scenario, i)
			rows = append(rows, row(name, "labelstream", p.product, ratioCells(p)))
			if len(p.reference) > 0 {
				rows = append(rows, row(name, r.reference, p.reference, nil))
			}
		}
	}
	var used []int
	for i := range columns {
		if slices.ContainsFunc(rows, func(row []string) bool { return row[i] != "" }) {
			used = append(used, i)
		}
	}
	rows = append([][]string{columns, make([]string, len(columns))}, rows...)
	for i := range columns {
		rows[1][i] = "--:"
	}
	rows[1][0], rows[1][1] = "---", "---"
	var text strings.Builder
	for _, row := range rows {
		for _, i := range used {
			fmt.Fprintf(&text, "| %s ", row[i])
		}
		text.WriteString("|\n")
	}
	return text.String()
}

func label(s scenario, step int) string {
	return strings.Trim(s.name+": "+steps[s.mode][step], ": ")
}

func row(name, process string, runs []usage, ratios []string) []string {
	cpu := all(runs, func(u usage) float64 { return u.CPU.Seconds() })
	milliseconds := func(of func(usage) time.Duration) string {
		return unlessZero("%.2f", median(all(runs, func(u usage) float64 { return of(u).Seconds() * 1e3 })))
	}
	cells := []string{
		name, process,
		fmt.Sprintf("%.2f (%.2f–%.2f)", median(cpu), slices.Min(cpu), slices.Max(cpu)),
		fmt.Sprintf("%.1f", median(all(runs, usage.each))*1e6),
		thousands(int(math.Round(median(all(runs, usage.rate))))),
		milliseconds(func(u usage) time.Duration { return u.P50 }),
		milliseconds(func(u usage) time.Duration { return u.P99 }),
		unlessZero("%.1f", highest(runs, func(u usage) int64 { return u.Resident })),
		unlessZero("%.1f", highest(runs, func(u usage) int64 { return u.Peak })),
	}
	return append(append(cells, ratios...), make([]string, len(columns)-len(cells)-len(ratios))...)
}

func ratioCells(p pairs) []string {
	if len(p.reference) == 0 {
		return nil
	}
	cells := []string{fmt.Sprintf("**%.2f**", cpuRatio.of(p)), fmt.Sprintf("%.2f", rateRatio.of(p)), ""}
	if p.product[0].P99 > 0 {
		cells[2] = fmt.Sprintf("%.2f", p99Ratio.of(p))
	}
	return cells
}

func unlessZero(format string, number float64) string {
	if number == 0 {
		return ""
	}
	return fmt.Sprintf(format, number)
}

type verdict struct {
	promise
	measured float64
	where    string
}

func (v verdict) kept() bool { return v.measured == v.limit || v.measured < v.limit != v.least }

// promiseTable tells of each promise the scenario that comes closest to breaking
// it, or breaks it most.
func promiseTable(results []result) string {
	var worst []verdict
	for _, r := range results {
		for _, p := range r.scenario.promises {
			v := verdict{p, p.figure.of(r.steps[p.step]), r.scenario.section + ": " + label(r.scenario, p.step)}
			same := func(w verdict) bool { return w.figure.name == p.figure.name && w.limit == p.limit && w.step == p.step }
			i := slices.IndexFunc(worst, same)
			switch {
			case math.IsNaN(v.measured):
			case i < 0:
				worst = append(worst, v)
			case v.measured > worst[i].measured != p.least:
				worst[i] = v
			}
		}
	}
	worst = append(worst, growth(results)...)
	if len(worst) == 0 {
		return ""
	}
	var text strings.Builder
	text.WriteString("\n| promise | closest to its limit | limit | measured | |\n|---|---|--:|--:|---|\n")
	for _, v := range worst {
		bound, kept := "at most", "kept"
		if v.least {
			bound = "at least"
		}
		if !v.kept() {
			kept = "**missed**"
		}
		fmt.Fprintf(&text, "| %s | %s | %s %g%s | %.*f%s | %s |\n", v.figure.name, v.where, bound, v.limit, v.figure.unit, v.figure.digits, v.measured, v.figure.unit, kept)
	}
	return text.String()
}

// growth is the memory at the most objects by that at the fewest, for backfills
// of labels.
func growth(results []result) (all []verdict) {
	for _, profile := range []string{"alike", "mixed"} {
		var sized []result
		for _, r := range results {
			if r.scenario.section == "Labels" && r.scenario.profile == profile {
				sized = append(sized, r)
			}
		}
		if len(sized) < 2 {
			continue
		}
		fewest, most := sized[0], sized[len(sized)-1]
		all = append(all, verdict{
			promise{figure: figure{"growth of peak memory", "", 3, nil}, limit: 1.1},
			peakRSS.of(most.steps[0]) / peakRSS.of(fewest.steps[0]),
			fmt.Sprintf("Labels: %s by %s", most.scenario.name, thousands(fewest.scenario.objects)),
		})
	}
	return all
}
