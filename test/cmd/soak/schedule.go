// SPDX-License-Identifier: Apache-2.0

package main

import "time"

// fault is a disturbance that begins at a time since the start of the run.
type fault struct {
	kind      faultKind
	at, lasts time.Duration
}

type faultKind string

const (
	receiverDown   faultKind = "receiver down"
	apiServerDown  faultKind = "API server down"
	watchesExpired faultKind = "watches expired"
	rotation       faultKind = "certificate rotated"
	leaderKilled   faultKind = "leader killed"
	leaderPaused   faultKind = "leader paused"
	followerKilled faultKind = "follower killed"
)

const (
	// longestCycle is after how long the faults begin again in a long run.
	longestCycle = 6 * time.Hour
	// A receiver's longest outage is this part of a cycle: 90 minutes of 6 hours.
	outagePart = 4
)

// cycle are the faults of one cycle: when they begin, in thousandths of it; and how
// long they last, in thousandths of the receiver's longest outage, or by the clock
// where labelstream's own clock matters, which is the Lease's.
var cycle = []struct {
	at    int
	kind  faultKind
	part  int
	lasts time.Duration
}{
	{30, leaderKilled, 0, 0},
	{60, receiverDown, 0, 0},
	{90, rotation, 0, 0},
	{120, receiverDown, 30, 0},
	{170, apiServerDown, 0, 5 * time.Second},
	{210, watchesExpired, 0, 0},
	{240, leaderPaused, 0, 30 * time.Second},
	{280, receiverDown, 120, 0},
	{290, rotation, 0, 0},
	{350, apiServerDown, 0, time.Minute},
	{400, followerKilled, 0, 0},
	{430, leaderKilled, 0, 0},
	{470, receiverDown, 1000, 0},
	{550, watchesExpired, 0, 0},
	{600, leaderKilled, 0, 0},
	{650, apiServerDown, 0, 5 * time.Second},
	{700, rotation, 0, 0},
	{770, receiverDown, 60, 0},
	{800, leaderPaused, 0, 5 * time.Second},
	{830, rotation, 0, 0},
	{860, watchesExpired, 0, 0},
	{862, apiServerDown, 0, 20 * time.Second},
}

// schedule lists the faults of a run, in the order of their begin. None lasts until
// the end.
func schedule(length time.Duration) (all []fault) {
	cycles := (length + longestCycle - 1) / longestCycle
	one := length / cycles
	for i := range cycles {
		for _, f := range cycle {
			all = append(all, fault{
				f.kind, i*one + one*time.Duration(f.at)/1000, max(f.lasts, one/outagePart*time.Duration(f.part)/1000),
			})
		}
	}
	return all
}
