package emitter

import (
	"sync"
	"time"
)

// blocked measures the time in which anyone waits for room in the queue. The
// queue's length does not tell: large records fill it sooner.
type blocked struct {
	mu      sync.Mutex
	waiting int
	// since is when the first of those that wait began to, total the time
	// before that.
	since time.Time
	total time.Duration
}

func (b *blocked) enter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting++; b.waiting == 1 {
		b.since = time.Now()
	}
}

func (b *blocked) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting--; b.waiting == 0 {
		b.total += time.Since(b.since)
	}
}

// time is that up to now, a wait that has not ended included: with a
// destination that hangs there may be no other.
func (b *blocked) time() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == 0 {
		return b.total
	}
	return b.total + time.Since(b.since)
}
