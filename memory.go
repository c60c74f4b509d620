package main

import (
	"os"
	"runtime/debug"

	"github.com/sirupsen/logrus"
)

// gcPercent is how much the heap may grow, in percent of what lives, before it
// is collected. What lives is a few MiB of buffers that are used again, and
// little garbage comes: half of Go's default saves memory where buffers are
// full of large annotations, and costs no processor time that can be measured.
const gcPercent = 50

// saveMemory keeps the process small. The operator's GOGC has precedence.
func saveMemory(log logrus.FieldLogger) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := releaseStartup(); err != nil {
		log.WithError(err).Debug("Pages of the binary that only the start needed stay in memory")
	}
}
