package main

import (
	"fmt"
	"strings"
)

const webhookIntroduction = "The daemon's webhook beside a bare Go TLS server (`test/cmd/bare`) that reads the body and answers a constant; both with the same\n" +
	"certificate, in turns of two seconds under each load, each with a client of its own. A review is of the creation\n" +
	"of a pod of 4 KB, as kube-apiserver writes it and over HTTP/1.1, as it calls every webhook that is not on its own host. The reviews\n" +
	"are of 2,000 pods in turn, each with another value of a label: every one must be answered, allowed with its uid, and must\n" +
	"arrive at the receiver, once. The client, the receiver and the API server share the machine. That API server has 1,000 pods, and\n" +
	"nothing comes of the reviews in it, so labelstream lists it every five seconds once claims are due.\n"

const webhookLegend = "The three loads: 32 connections with one review after the other; 1,000 reviews a second over the same; and that beside 1,000\n" +
	"further connections, on each of which reviews are begun whose last ten bytes come one a second, and whose memory is held until then.\n" +
	"A time is counted from when the review was due, so that what waits for a connection counts, too. All are medians of the runs;\n" +
	"RSS is the highest peak of all runs since the start of the process; CPU is the whole process's, for all reviews and what follows from them.\n"

// loadNames are what the loads are called in the tables.
var loadNames = [loadCount]string{"32 connections", "1,000 a second", "1,000 a second beside 1,000 slow connections"}

// report is the webhook's part of the report.
func (r *webhookResult) report() string {
	var text strings.Builder
	fmt.Fprintf(&text, "\n## Webhook\n\n%s\n%s\n", webhookIntroduction, webhookLegend)
	text.WriteString("| load | server | reviews/s | CPU µs each | p50 ms | p99 ms | p99.9 ms | slowest ms | peak RSS MiB |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for i, name := range loadNames {
		r.row(&text, name, "labelstream", func(p *webhookPair) loadUsage { return p[i].product })
		r.row(&text, name, "bare", func(p *webhookPair) loadUsage { return p[i].bare })
	}
	text.WriteString("\nlabelstream by the bare server, the medians over the pairs of runs:\n\n" +
		"| load | rate | CPU | p50 | p99 | p99.9 |\n|---|--:|--:|--:|--:|--:|\n")
	for i, name := range loadNames {
		fmt.Fprintf(&text, "| %s | %.2f | %.2f |", name, r.ratio(i, loadUsage.rate), r.ratio(i, loadUsage.each))
		for _, of := range []func(loadUsage) float64{loadUsage.p50, loadUsage.p99, loadUsage.p999} {
			if i == loadFlatOut {
				text.WriteString("  |")
				continue
			}
			fmt.Fprintf(&text, " %.2f |", r.ratio(i, of))
		}
		text.WriteString("\n")
	}
	return text.String()
}

// row is one server under one load.
func (r *webhookResult) row(text *strings.Builder, load, server string, pick func(*webhookPair) loadUsage) {
	of := func(figure func(loadUsage) float64) float64 {
		var all []float64
		for i := range r.runs {
			all = append(all, figure(pick(&r.runs[i])))
		}
		return median(all)
	}
	peak := int64(0)
	for i := range r.runs {
		peak = max(peak, pick(&r.runs[i]).PeakRSS)
	}
	times := "  |  |  |  "
	if of(loadUsage.p50) > 0 {
		times = fmt.Sprintf(" %.2f | %.2f | %.2f | %.2f ", of(loadUsage.p50)*1e3, of(loadUsage.p99)*1e3, of(loadUsage.p999)*1e3, of(loadUsage.worst)*1e3)
	}
	fmt.Fprintf(text, "| %s | %s | %s | %.1f |%s| %.1f |\n",
		load, server, thousands(int(of(loadUsage.rate)+0.5)), of(loadUsage.each)*1e6, times, mebibytes(peak))
}

// ratio compares labelstream with the bare server: the median over the pairs.
func (r *webhookResult) ratio(load int, of func(loadUsage) float64) float64 {
	var all []float64
	for i := range r.runs {
		all = append(all, r.runs[i].ratio(load, of))
	}
	return median(all)
}

// rate is in reviews a second, the others in seconds. each is the processor time
// of a review.
func (u loadUsage) rate() float64  { return float64(u.Reviews) / u.Wall.Seconds() }
func (u loadUsage) each() float64  { return u.CPU.Seconds() / float64(u.Reviews) }
func (u loadUsage) p50() float64   { return u.P50.Seconds() }
func (u loadUsage) p99() float64   { return u.P99.Seconds() }
func (u loadUsage) p999() float64  { return u.P999.Seconds() }
func (u loadUsage) worst() float64 { return u.Worst.Seconds() }
