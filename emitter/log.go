// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// maxNamed is how many refused records are named in a minute. More would fill the
// log, and their number says enough.
const maxNamed = 100

// refusalLog says which records the destination refuses. The others are counted by
// the metrics.
type refusalLog struct {
	log logrus.FieldLogger
	odd sync.Once

	mu sync.Mutex
	// since is when the minute began, named are the records named in it, and said
	// are the reasons told without a name. last is what [Status] shows.
	since time.Time
	named int
	said  map[string]bool
	last  []Refusal
}

func newRefusalLog(log logrus.FieldLogger) *refusalLog {
	return &refusalLog{log: log, said: make(map[string]bool)}
}

// acceptance records an answer that accepts all records. The first that says so with
// an error contradicts itself.
func (l *refusalLog) acceptance(err error) {
	if err != nil {
		l.odd.Do(func() { l.log.WithError(err).Warn("The destination contradicts itself, records count as accepted") })
	}
}

// add records refused records: one with its identity, or several, whose id is nil.
func (l *refusalLog) add(reason string, err error, records int, id logrus.Fields) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(reason, err, records, id)
	if time.Since(l.since) >= time.Minute {
		l.since, l.named = time.Now(), 0
		clear(l.said)
	}
	log := l.log.WithError(err).WithField("reason", reason)
	switch {
	case id != nil && l.named < maxNamed:
		l.named++
		log.WithFields(id).Error("The destination refused a record")
	case id == nil && !l.said[reason]:
		l.said[reason] = true
		log.WithField("records", records).Error("The destination refused records")
	}
}
