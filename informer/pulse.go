package informer

import (
	"sync/atomic"
	"time"
)

const (
	// stepTime is far more than a loop needs from one sign of life to the next
	// where it waits for nobody.
	stepTime = 2 * time.Minute
	// reflectorPatience is far more than a reflector takes from one call of
	// ours to the next: it backs off for a minute at most.
	reflectorPatience = 5 * time.Minute
)

// pulse shows that a loop gets on. The zero value is at rest.
type pulse struct {
	// due is by when the loop must have said something again, in nanoseconds
	// of Unix time, or 0 where it waits for what may take any time.
	due atomic.Int64
}

// within promises that the loop says something again before so long.
func (p *pulse) within(limit time.Duration) { p.due.Store(time.Now().Add(limit).UnixNano()) }

// rest says that the loop has nothing to do, or waits for the destination.
func (p *pulse) rest() { p.due.Store(0) }

// late tells for how long the promise has been broken at the time now, 0 where
// it is not.
func (p *pulse) late(now time.Time) time.Duration {
	due := p.due.Load()
	if due == 0 {
		return 0
	}
	return max(0, time.Duration(now.UnixNano()-due))
}
