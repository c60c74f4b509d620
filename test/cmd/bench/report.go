package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

const introduction = "# Benchmarks\n\n" +
	"This file is written as a whole by\n\n" +
	"    %s\n\n" +
	"and `make bench3m` writes it with a backfill of 3 million pods, too. In `test/`, `go run ./cmd/bench --only` prints a part of it;\n" +
	"`--sizes`, `--runs` and more are in its `--help`.\n\n" +
	"Machine: %s.\n%d counted runs after one that is not.\n"

const backfillIntroduction = "\n## Backfills\n\n" +
	"The whole process is measured from outside, one after the other against the same running servers: `labelstream --once` from the\n" +
	"start of the process to its end, and beside it a program that lists the same objects with client-go's metadata client, 500 a page,\n" +
	"and drops them. No GOGC or GOMEMLIMIT is set for either. The API server is synthetic: it computes the pods, 1.3 KB of metadata\n" +
	"each, while it writes them (`test/synthetic`). Every run of labelstream must end with exit code 0 and deliver each series exactly once.\n\n"

const legend = "CPU is user and system time in seconds, the median of the runs with the least and the most; objects/s is by wall time, the median;\n" +
	"RSS is the highest peak of all runs; the ratio is labelstream's CPU by client-go's, the median over the pairs of runs, and among the\n" +
	"settings by that with all settings as they are.\n"

// report writes the results in Markdown.
func report(m machine, o options, all results) string {
	var text strings.Builder
	fmt.Fprintf(&text, introduction, o.command, m, o.runs)
	text.WriteString(promiseReport(promises(all)))
	if len(all.scenarios) > 0 {
		text.WriteString(backfillReport(all.scenarios))
	}
	if all.daemon != nil {
		text.WriteString(all.daemon.report())
	}
	if all.webhook != nil {
		text.WriteString(all.webhook.report())
	}
	if all.micro != nil {
		text.WriteString(microReport(all.micro))
	}
	if all.profile != nil {
		text.WriteString(all.profile.report())
	}
	return text.String()
}

// backfillReport has a table for each group of scenarios.
func backfillReport(scenarios []result) string {
	var text strings.Builder
	text.WriteString(backfillIntroduction + legend)
	var first result
	for _, r := range scenarios {
		if r.scenario.group != first.scenario.group {
			first = r
			fmt.Fprintf(&text, "\n### %s\n\n", r.scenario.group)
			text.WriteString("| scenario | pods | process | CPU s | objects/s | peak RSS MiB | CPU ratio |\n|---|--:|---|--:|--:|--:|--:|\n")
		}
		if len(r.product) > 0 {
			row(&text, r.scenario, "labelstream", r.product, ratioText(r, first))
		}
		if len(r.reference) > 0 {
			row(&text, r.scenario, "client-go list", r.reference, "")
		}
	}
	return text.String()
}

// ratioText is a result's ratio; first is that of its group.
func ratioText(r, first result) string {
	switch {
	case len(r.reference) > 0:
		return fmt.Sprintf("**%.2f**", ratio(r))
	case r.scenario.group == groupSettings:
		return fmt.Sprintf("%.2f", medianCPU(r.product)/medianCPU(first.product))
	}
	return ""
}

func medianCPU(runs []usage) float64 {
	cpu := make([]float64, len(runs))
	for i, u := range runs {
		cpu[i] = u.CPU.Seconds()
	}
	return median(cpu)
}

func row(text *strings.Builder, s scenario, process string, runs []usage, ratio string) {
	cpu, rate := make([]float64, len(runs)), make([]float64, len(runs))
	for i, u := range runs {
		cpu[i], rate[i] = u.CPU.Seconds(), float64(s.pods)/u.Wall.Seconds()
	}
	fmt.Fprintf(text, "| %s | %s | %s | %.2f (%.2f–%.2f) | %s | %.1f | %s |\n",
		s.name, thousands(s.pods), process, median(cpu), slices.Min(cpu), slices.Max(cpu),
		thousands(int(math.Round(median(rate)))), mebibytes(peakRSS(runs)), ratio)
}

// ratio is the median of the ratios of each pair, so that what slows the
// machine for a while slows both sides of a pair.
func ratio(r result) float64 {
	ratios := make([]float64, len(r.product))
	for i := range r.product {
		ratios[i] = r.product[i].CPU.Seconds() / r.reference[i].CPU.Seconds()
	}
	return median(ratios)
}

// median is the mean of the middle two where their number is even.
func median(numbers []float64) float64 {
	sorted := slices.Sorted(slices.Values(numbers))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func peakRSS(runs []usage) int64 {
	peak := int64(0)
	for _, u := range runs {
		peak = max(peak, u.PeakRSS)
	}
	return peak
}

func mebibytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// leastAndMost are the results of labelstream at the fewest and at the most pods,
// labels only, where there are two.
func leastAndMost(results []result) (least, most result, found bool) {
	var sized []result
	for _, r := range results {
		if r.scenario.group == groupLabels && len(r.product) > 0 {
			sized = append(sized, r)
		}
	}
	if len(sized) < 2 {
		return least, most, false
	}
	byPods := func(a, b result) int { return cmp.Compare(a.scenario.pods, b.scenario.pods) }
	return slices.MinFunc(sized, byPods), slices.MaxFunc(sized, byPods), true
}

// memoryGrowth is labelstream's memory at the most pods by that at the fewest.
func memoryGrowth(least, most result) float64 {
	return float64(peakRSS(most.product)) / float64(peakRSS(least.product))
}
