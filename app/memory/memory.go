// SPDX-License-Identifier: Apache-2.0

// Package memory keeps the process small.
package memory

import (
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/sirupsen/logrus"
)

// heapShare of the container's memory limit is where the garbage collector
// begins to work harder. The rest is for what it does not know: the ledger, the
// binary, and buffers of the kernel.
const heapShare = 0.7

// gcPercent is how much garbage there may be by the heap. A collection takes ten
// milliseconds of processor time, and a backfill of a million objects has some seventy.
const gcPercent = 50

// Limit tells the garbage collector the limit of the container, and to begin early.
// The operator's GOGC and GOMEMLIMIT have precedence.
func Limit(log logrus.FieldLogger) {
	if limit, err := memlimit.Set(memlimit.WithRatio(heapShare)); err != nil {
		log.WithError(err).Debug("The container's memory limit is not known")
	} else {
		log.WithField("bytes", limit).Debug("The garbage collector knows the memory limit")
	}
	if _, isSet := os.LookupEnv("GOGC"); !isSet {
		debug.SetGCPercent(gcPercent)
	}
}

// ReleaseBinary gives back the pages of the binary's code and constants: after a step
// that touches many of them and comes seldom. What is needed again is read from the
// page cache. An error says why the pages stay in memory, and nothing else is wrong then.
func ReleaseBinary() error { return releaseBinary() }
