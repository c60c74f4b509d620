package main

import (
	"fmt"
	"strings"
)

// promise is a limit that labelstream is held to, and what was measured.
type promise struct {
	what            string
	limit, measured float64
	unit            string // "" for a ratio
	// least says that the limit is the least that is promised, not the most.
	least bool
}

func (p promise) kept() bool {
	if p.least {
		return p.measured >= p.limit
	}
	return p.measured <= p.limit
}

// promisedPods is the size that the promises about processor time and the daemon
// are about.
const promisedPods = 1_000_000

// The promised limits of a backfill: processor time by client-go's list, and
// memory in MiB.
const (
	promisedCPU            = 0.25
	promisedAnnotationsCPU = 0.35
	promisedRSS            = 36
	promisedHardRSS        = 48
)

// promises are those that the results can tell of.
func promises(all results) []promise {
	made := memoryPromises(all.scenarios)
	for _, r := range all.scenarios {
		if r.scenario.maxCPU > 0 && len(r.product) > 0 {
			made = append(made, promise{what: "processor time of a backfill by client-go's list: " + r.scenario.name, limit: r.scenario.maxCPU, measured: ratio(r)})
		}
	}
	if all.daemon != nil && all.daemon.pods == promisedPods {
		made = append(made, promise{what: "resident memory of the daemon, " + thousands(promisedPods) + " pods", limit: 72, measured: mebibytes(all.daemon.resident()), unit: " MiB"})
	}
	if all.webhook != nil {
		made = append(made,
			promise{what: "webhook by a bare server: reviews a second", limit: 0.8, measured: all.webhook.ratio(loadFlatOut, loadUsage.rate), least: true},
			promise{what: "webhook by a bare server: processor time a review", limit: 1.3, measured: all.webhook.ratio(loadFlatOut, loadUsage.each)},
			promise{what: "webhook by a bare server: p99 at 1,000 a second", limit: 1.3, measured: all.webhook.ratio(loadPaced, loadUsage.p99)},
		)
	}
	return made
}

// memoryPromises take the scenario with the highest peak for each limit.
func memoryPromises(scenarios []result) []promise {
	var made []promise
	for _, limit := range []float64{promisedRSS, promisedHardRSS} {
		worst := promise{limit: limit, unit: " MiB"}
		for _, r := range scenarios {
			if peak := mebibytes(peakRSS(r.product)); r.scenario.maxRSS == limit && peak > worst.measured {
				worst.what, worst.measured = "peak memory of a backfill, the highest: "+r.scenario.name, peak
			}
		}
		if worst.measured > 0 {
			made = append(made, worst)
		}
	}
	if least, most, found := leastAndMost(scenarios); found {
		made = append(made, promise{
			what:  fmt.Sprintf("peak memory at %s pods by that at %s", thousands(most.scenario.pods), thousands(least.scenario.pods)),
			limit: 1.1, measured: memoryGrowth(least, most),
		})
	}
	return made
}

// promiseReport is the table at the head of the report.
func promiseReport(made []promise) string {
	if len(made) == 0 {
		return ""
	}
	var text strings.Builder
	text.WriteString("\n| promise | limit | measured | |\n|---|--:|--:|---|\n")
	for _, p := range made {
		bound, verdict, digits := "at most", "kept", 3
		if p.least {
			bound = "at least"
		}
		if !p.kept() {
			verdict = "**missed**"
		}
		if p.unit != "" {
			digits = 1
		}
		fmt.Fprintf(&text, "| %s | %s %g%s | %.*f%s | %s |\n", p.what, bound, p.limit, p.unit, digits, p.measured, p.unit, verdict)
	}
	return text.String()
}
