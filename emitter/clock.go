// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// minStamp makes each timestamp a varint of six bytes, until the year 2109:
	// so a record's size is known before its time. It is in 1971.
	minStamp = 1 << 35
	// maxAhead is how far samples may be ahead of the clock, since their times
	// only rise. A clock that was set back by more is followed.
	maxAhead = time.Minute
)

// clock stamps the samples of one sender.
type clock struct {
	now func() time.Time
	log logrus.FieldLogger
	// last is the last time that was given, in milliseconds of Unix time.
	last int64
	// seen are the objects of a round.
	seen map[uint64]struct{}
}

func newClock(log logrus.FieldLogger) *clock {
	return &clock{now: time.Now, log: log, seen: make(map[uint64]struct{})}
}

// stamp gives the records their ticks, and returns the time of tick zero in
// milliseconds of Unix time. All have one time, except that an object that comes
// again begins a round, which is later than all samples of the round before: by a
// tick of a millisecond each. The last sample is now, and later than all that was
// stamped before.
func (c *clock) stamp(entries []entry) (first int64) {
	tick, next := int32(0), int32(0)
	clear(c.seen)
	for i := range entries {
		e := &entries[i]
		if _, again := c.seen[e.key]; again {
			tick = next
			clear(c.seen)
		}
		c.seen[e.key] = struct{}{}
		e.tick = tick
		next = max(next, tick+e.samples)
	}
	last := int64(next - 1)
	now := c.now().UnixMilli()
	if ahead := time.Duration(c.last-now) * time.Millisecond; ahead > maxAhead {
		c.log.WithField("by", ahead.Round(time.Second).String()).Warn("The clock was set back, samples follow it")
		c.last = 0
	}
	first = max(now-last, c.last+1, minStamp)
	c.last = first + last
	return first
}
