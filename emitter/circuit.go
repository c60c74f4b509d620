package emitter

import (
	"fmt"
	"sync"
	"time"
)

// maxRefusals is how many batches in a row the destination may refuse whole
// before it is taken to refuse all.
const maxRefusals = 2

// circuit keeps all senders from a destination that rejects the settings or
// refuses whatever it is sent, except for one attempt an interval: nothing else
// would be accepted either. It is open while the destination does.
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
	// refusals are the batches refused whole since any record was taken.
	refusals int
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

// answered notes what came of an attempt. It returns whether the circuit is
// open.
func (c *circuit) answered(a answer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case a.verdict == rejected:
		c.open(a.err)
	case a.taken():
		c.refusals = 0
		c.close()
	case c.refusals < maxRefusals:
		// Any other answer, even a failure, says that the rejection is not what
		// is wrong now.
		c.close()
	}
	return c.err != nil
}

// refusedWhole notes that nothing of a batch was taken. It returns the error
// that the circuit is open for, nil where it is closed.
func (c *circuit) refusedWhole(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refusals++
	if c.refusals >= maxRefusals {
		c.open(fmt.Errorf("%d batches in a row were refused whole, the last: %w", c.refusals, err))
	}
	return c.err
}

// open and close are called with the lock held.
func (c *circuit) open(err error) {
	if c.err == nil {
		c.since = time.Now()
		c.next = c.since.Add(c.interval)
		c.changed = make(chan struct{})
	}
	c.err = err
}

func (c *circuit) close() {
	if c.err != nil {
		c.err = nil
		c.since = time.Time{}
		close(c.changed)
	}
}

// state returns why the circuit is open and since when, nil where it is closed.
func (c *circuit) state() (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since, c.err
}
