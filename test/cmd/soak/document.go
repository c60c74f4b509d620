// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"labelstream/test/plot"
)

const documentFormat = "# The long run\n\n" +
	"This file and its picture are written by\n\n    make soak HOURS=%.3g\n\n" +
	"Two replicas of labelstream with leader election watch a cluster of %d pods and 300 namespaces. The pods are the mixed ones of\n" +
	"[the benchmarks](benchmarks.md), and %.4g of them a minute are relabelled, created or deleted. Settings are the defaults, but for\n" +
	"the resync, which is made six times in the run, or each hour. The API server and the receiver are programs for tests; both speak\n" +
	"TLS. What happened in %.0f minutes:\n\n%s\n" +
	"A replica that has ended is started again after two seconds. The longest outage of the receiver meets other faults: watches expire,\n" +
	"a leader is killed and the API server restarts.\n\n" +
	"The run ends well only if the newest sample of every object is of its last state, label by label, if every request keeps to the\n" +
	"specification, and if the replicas end with exit code 0. It did. %s\n\n" +
	"![Memory, goroutines, files, queue and lag over the run](soak.svg)\n\n%s\n" +
	"- A gap in a line is a process that was dead, or paused.\n" +
	"- The follower has no queue and no ledger, so it takes less. A leader that is killed becomes the follower.\n" +
	"- While the receiver is down the queue fills, and then the watch waits. What it can no longer tell afterwards a list finds. So memory\n" +
	"  does not grow with an outage. The oldest change waits as long as the outage, and for the backoff of up to 30 s.\n" +
	"- When nothing is wrong a change takes LABELSTREAM_SEND_INTERVAL at most, which is 10 s.\n" +
	"- Steps of the clock are missing here. A process can have a clock of its own only with the rights of root. To a leader that is paused\n" +
	"  the pause looks like a step forward; the unit tests of the samples' times set the clock back.\n"

// document tells of a run that has ended well.
func document(o options, samples []sample, bands []plot.Band) string {
	var faults strings.Builder
	for _, f := range cycle {
		kind := string(f.kind)
		n, longest := 0, 0.0
		for _, b := range bands {
			if b.Name == kind {
				n, longest = n+1, max(longest, b.To-b.From)
			}
		}
		if n == 0 || strings.Contains(faults.String(), kind) {
			continue
		}
		fmt.Fprintf(&faults, "- %s: %d", kind, n)
		if longest >= 1 {
			fmt.Fprintf(&faults, ", for up to %.0f min", longest)
		}
		faults.WriteByte('\n')
	}
	minutes := samples[len(samples)-1].numbers["seconds"] / 60
	return fmt.Sprintf(documentFormat, o.hours, o.objects, o.changes, minutes, &faults, o.note, table(samples))
}
