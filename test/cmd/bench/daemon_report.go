package main

import (
	"fmt"
	"slices"
	"strings"
)

const daemonIntroduction = "Without `--once`: one process lives through these stages, one after the other, with the ledger on and nothing else set. The watch\n" +
	"expires with 410, as it does when an API server was away. In each stage exactly the objects named must be read, and exactly the\n" +
	"samples named be sent. CPU is the whole process's during the stage; resident memory is that at its end, the highest of all runs,\n" +
	"and the peak that since the start.\n"

// report is the daemon's part of the report.
func (r *daemonResult) report() string {
	var text strings.Builder
	fmt.Fprintf(&text, "\n## Daemon, %s pods\n\n%s\n", thousands(r.pods), daemonIntroduction)
	text.WriteString("| stage | objects | samples sent | CPU s | CPU µs each | resident MiB | peak RSS MiB |\n|---|--:|--:|--:|--:|--:|--:|\n")
	for i, s := range r.stages {
		var cpu []float64
		var resident, peak int64
		for _, run := range r.runs {
			cpu = append(cpu, run[i].CPU.Seconds())
			resident, peak = max(resident, run[i].Resident), max(peak, run[i].PeakRSS)
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %.2f (%.2f–%.2f) | %.1f | %.1f | %.1f |\n",
			s.name, thousands(s.things), thousands(int(s.sent)), median(cpu), slices.Min(cpu), slices.Max(cpu),
			median(cpu)/float64(s.things)*1e6, mebibytes(resident), mebibytes(peak))
	}
	return text.String()
}

// peakRSS is the highest of all runs, in bytes.
func (r *daemonResult) peakRSS() int64 {
	peak := int64(0)
	for _, run := range r.runs {
		for _, u := range run {
			peak = max(peak, u.PeakRSS)
		}
	}
	return peak
}

// resident is the highest at the end of a stage of any run, in bytes.
func (r *daemonResult) resident() int64 {
	resident := int64(0)
	for _, run := range r.runs {
		for _, u := range run {
			resident = max(resident, u.Resident)
		}
	}
	return resident
}
