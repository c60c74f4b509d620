package main

import (
	"fmt"
	"math"
	"time"

	"github.com/sirupsen/logrus"

	"labelstream/emitter"
	"labelstream/informer"
)

// summarize logs a line for each kind, over all its namespaces.
func (b *backfill) summarize(statuses []informer.Status, tally *tally) {
	for _, s := range informer.ByKind(statuses) {
		counts := tally.counts(s.Resource)
		fields := logrus.Fields{
			"kind":    s.Resource,
			"read":    s.Read,
			"sent":    counts[emitter.Accepted],
			"seconds": math.Round(s.Took.Seconds()*100) / 100,
		}
		if s.Took > 0 {
			fields["objects_per_second"] = int64(float64(s.Read) / s.Took.Seconds())
		}
		for name, n := range map[string]int64{
			"refused":     counts[emitter.Refused],
			"lost":        counts[emitter.Lost],
			"excluded":    s.Excluded,
			"tags_empty":  int64(s.Drops.Empty),
			"tags_unsafe": int64(s.Drops.Unsafe),
			"tags_cut":    int64(s.Drops.Cut),
		} {
			if n > 0 {
				fields[name] = n
			}
		}
		if s.Synced && counts[emitter.Accepted] == s.Read-s.Excluded {
			b.log.WithFields(fields).Info("Backfilled")
		} else {
			b.log.WithFields(fields).Error("Not backfilled")
		}
	}
}

// missing says what was not read or not accepted, an error each. Where the
// whole run was ended, that is the one reason for what was not finished.
func missing(statuses []informer.Status, tally *tally, ended bool) []error {
	var errs []error
	for _, s := range statuses {
		switch {
		case s.Synced:
		case s.Err != nil:
			errs = append(errs, s.Err)
		case !ended:
			errs = append(errs, fmt.Errorf("list %s: not finished", s.Resource))
		}
	}
	for _, s := range informer.ByKind(statuses) {
		counts := tally.counts(s.Resource)
		if n := counts[emitter.Refused]; n > 0 {
			errs = append(errs, fmt.Errorf("send %s: records that the destination refused: %d", s.Resource, n))
		}
		if n := counts[emitter.Lost]; n > 0 && !ended {
			errs = append(errs, fmt.Errorf("send %s: records that could not be delivered: %d", s.Resource, n))
		}
	}
	return errs
}

// progress is how much of everything has been read and sent.
type progress struct {
	read, total, sent int64
	elapsed           time.Duration
}

// measure adds up the statuses. total is -1 while a kind's is not known.
func measure(statuses []informer.Status, tally *tally, since time.Time) progress {
	p := progress{sent: tally.accepted(), elapsed: time.Since(since)}
	for _, s := range statuses {
		p.read += s.Read
		switch {
		case s.Total < 0:
			p.total = -1
		case p.total >= 0:
			p.total += s.Total
		}
	}
	return p
}

// rate is the objects read a second, since the beginning.
func (p progress) rate() int64 {
	return int64(float64(p.read) / max(p.elapsed, time.Millisecond).Seconds())
}
