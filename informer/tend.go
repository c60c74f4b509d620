package informer

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// healInterval is how often it is looked whether something was lost.
	healInterval = 10 * time.Second
	// healAnyway is how long after a loss a list is tried although nothing has
	// been accepted since: there may have been nothing to send.
	healAnyway = time.Minute
)

// tend lists everything again when it is time to, and what was lost when
// sending works again, until ctx ends. It begins when the first list is
// complete.
func (s *source) tend(ctx context.Context) {
	begun := time.Now()
	select {
	case <-s.listed:
	case <-ctx.Done():
		return
	}
	resync := time.NewTimer(s.untilResync(begun))
	defer resync.Stop()
	if s.options.ResyncInterval == 0 {
		resync.Stop()
	}
	heal := time.NewTicker(healInterval)
	defer heal.Stop()
	for ctx.Err() == nil {
		s.tendPulse.within(healInterval + stepTime)
		select {
		case <-resync.C:
			begun := time.Now()
			s.again(ctx, reasonResync)
			resync.Reset(s.untilResync(begun))
		case <-heal.C:
			if s.table.NeedsHealing() && s.delivery.works(time.Now()) {
				s.again(ctx, reasonHeal)
			}
		case <-ctx.Done():
		}
	}
	s.tendPulse.rest()
}

// complete tells whether the first list is.
func (s *source) complete() bool {
	select {
	case <-s.listed:
		return true
	default:
		return false
	}
}

// again lists beside the watch.
func (s *source) again(ctx context.Context, why reason) {
	s.tendPulse.rest()
	// The error is the context's, which tend looks at.
	_, _ = s.list(ctx, why)
}

// untilResync is the time from now to the next resync, if the last began at
// that time. It is up to a tenth shorter than the interval, so that kinds
// spread out, and never longer: receivers let series go stale after a fixed
// time.
func (s *source) untilResync(begun time.Time) time.Duration {
	interval := s.options.ResyncInterval
	interval -= rand.N(interval/10 + 1)
	if s.options.unconfirmed() {
		// It begins so long before it is read.
		interval -= s.options.ReviewTime
	}
	return max(0, time.Until(begun.Add(interval)))
}

// delivery is what is known of the way to the destination.
type delivery struct {
	mu sync.Mutex
	// lost is when records were lost last, zero where some were accepted since.
	lost time.Time
}

func (d *delivery) accepted() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = time.Time{}
}

func (d *delivery) failed(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost = now
}

// works tells whether it is worth trying to send again what was lost.
func (d *delivery) works(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost.IsZero() || now.Sub(d.lost) >= healAnyway
}
