package emitter

import (
	"fmt"
	"sync"
	"time"
)

// circuit keeps all senders from a destination that rejects the settings,
// except for one attempt an interval: nothing else would be accepted either.
// It is open while the destination does.
type circuit struct {
	interval    time.Duration
	giveUpAfter time.Duration

	mu sync.Mutex
	// err is nil while the circuit is closed.
	err   error
	since time.Time
	// next is when an attempt is admitted again.
	next time.Time
	// changed is closed when the circuit closes.
	changed chan struct{}
}

func newCircuit(interval, giveUpAfter time.Duration) *circuit {
	return &circuit{interval: interval, giveUpAfter: giveUpAfter}
}

// admit returns zero where an attempt may be made now; while the circuit is
// open that uses up the turn. Else it returns how long to wait before asking
// again, and a channel that is closed when that has become shorter. The error
// says that the circuit was open for too long.
func (c *circuit) admit() (wait time.Duration, changed <-chan struct{}, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		return 0, nil, nil
	}
	now := time.Now()
	wait = c.next.Sub(now)
	if c.giveUpAfter > 0 {
		left := c.giveUpAfter - now.Sub(c.since)
		if left <= 0 {
			return 0, nil, fmt.Errorf("gave up after %v: %w", c.giveUpAfter, c.err)
		}
		wait = min(wait, left)
	}
	if wait <= 0 {
		c.next = now.Add(c.interval)
		return 0, nil, nil
	}
	return wait, c.changed, nil
}

// open notes that the destination rejects the settings, as err says.
func (c *circuit) open(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.since = time.Now()
		c.next = c.since.Add(c.interval)
		c.changed = make(chan struct{})
	}
	c.err = err
}

// close notes that the destination does not reject them.
func (c *circuit) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		c.err = nil
		c.since = time.Time{}
		close(c.changed)
	}
}

// state returns the rejection and when it began, nil where there is none.
func (c *circuit) state() (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since, c.err
}
