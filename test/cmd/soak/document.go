package main

import (
	"fmt"
	"strings"

	"labelstream/test/chart"
)

const documentFormat = "# The long run\n\n" +
	"This file and its picture are written by\n\n    make soak HOURS=%.3g\n\n" +
	"Two replicas of labelstream with leader election and otherwise the default settings (resyncs as often as the run is long for) watch\n" +
	"a cluster of %d pods of the [mixed](benchmarks.md) kind and their namespaces. %.4g pods a minute are relabelled, created or deleted.\n" +
	"The API server and the receiver are programs for tests, and both speak TLS. Meanwhile, in %.0f minutes:\n\n%s\n" +
	"A replica that has ended is started again after two seconds. Three of the longer faults meet others: a leader is killed, watches\n" +
	"expire and the API server restarts while the receiver is down.\n\n" +
	"The run ends well only if the newest sample of every object is of its last state, label by label, if every request keeps to the\n" +
	"specification, and if the replicas end with exit code 0. It did.\n\n" +
	"![Memory, goroutines, files, queue and lag over the run](soak.svg)\n\n%s\n" +
	"- A gap in a line is a process that was dead, or paused.\n" +
	"- The follower holds neither queue nor ledger: the lower lines are its. A leader that is killed becomes the follower.\n" +
	"- While the receiver is down, the queue fills and the list or watch behind it waits. What the watch can no longer tell then is found\n" +
	"  by a list. So the memory stays as it is, and the oldest change waits as long as the outage, and the backoff of up to 30 s after it.\n" +
	"- A change takes LABELSTREAM_SEND_INTERVAL at most, of 10 s, where nothing is wrong.\n" +
	"- Steps of the clock are missing: without the rights of root a test cannot make them for a process. A leader that is paused sees\n" +
	"  the same as by a step forward, and the clock's own tests make steps in both directions.\n"

// document tells of a run that has ended well.
func document(o options, samples []sample, bands []chart.Band) string {
	var faults strings.Builder
	for _, f := range cycle {
		kind := string(f.kind)
		if n := countBands(bands, kind); n > 0 && !strings.Contains(faults.String(), kind) {
			fmt.Fprintf(&faults, "- %s: %d times", kind, n)
			if longest := longestBand(bands, kind); longest > 1 {
				fmt.Fprintf(&faults, ", for %.0f minutes at the longest", longest)
			}
			faults.WriteByte('\n')
		}
	}
	minutes := samples[len(samples)-1].numbers["seconds"] / 60
	return fmt.Sprintf(documentFormat, o.hours, o.objects, o.changes, minutes, &faults, table(samples))
}

func countBands(bands []chart.Band, kind string) (n int) {
	for _, b := range bands {
		if b.Name == kind {
			n++
		}
	}
	return n
}

func longestBand(bands []chart.Band, kind string) (longest float64) {
	for _, b := range bands {
		if b.Name == kind {
			longest = max(longest, b.To-b.From)
		}
	}
	return longest
}
