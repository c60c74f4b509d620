// Package memory keeps the process small.
package memory

import (
	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/sirupsen/logrus"
)

// heapShare of the container's memory limit is where the garbage collector
// begins to work harder. The rest is for what it does not know: the ledger, the
// binary, and buffers of the kernel.
const heapShare = 0.7

// Save tells the garbage collector the limit of the container, and gives back
// what only the start needed. The operator's GOGC and GOMEMLIMIT have precedence.
func Save(log logrus.FieldLogger) {
	if limit, err := memlimit.Set(memlimit.WithRatio(heapShare)); err != nil {
		log.WithError(err).Debug("The container's memory limit is not known")
	} else {
		log.WithField("bytes", limit).Debug("The garbage collector knows the memory limit")
	}
	if err := releaseStartup(); err != nil {
		log.WithError(err).Debug("Pages of the binary that only the start needed stay in memory")
	}
}
