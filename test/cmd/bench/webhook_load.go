package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// reviewedPods are created again and again, each time with another value of
	// a label: as many as claims can wait for a watch that tells of none.
	reviewedPods = 2000
	// slowBytes of a slow review come one by one, a slowInterval after the other.
	slowBytes    = 10
	slowInterval = time.Second
)

// load is the client of one server: its connections stay open from one load to
// the next.
type load struct {
	server      *reviewServer
	template    *reviewTemplate
	connections []*reviewConnection
	// slow is how many slow connections there are beside them under that load.
	slow int
	// reviews are how many have been begun.
	reviews atomic.Int64
}

func newLoad(server *reviewServer, template *reviewTemplate) *load {
	l := &load{server: server, template: template, slow: slowConnections}
	for range webhookConnections {
		l.connections = append(l.connections, newReviewConnection(server, template))
	}
	return l
}

func (l *load) close() {
	for _, c := range l.connections {
		c.close()
	}
}

// one sends the next review.
func (l *load) one(ctx context.Context, c *reviewConnection) error {
	number := int(l.reviews.Add(1))
	return c.review(ctx, number%reviewedPods, number)
}

// flatOut sends reviews over all connections for so long, each as soon as the
// one before is answered.
func (l *load) flatOut(ctx context.Context, duration time.Duration) error {
	until := time.Now().Add(duration)
	return together(ctx, len(l.connections), func(ctx context.Context, i int) error {
		for time.Now().Before(until) && ctx.Err() == nil {
			if err := l.one(ctx, l.connections[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// paced sends so many reviews, one at each interval, and returns how long each
// took from the time at which it was due: also what waited for a connection that
// was not free, which a client that waits would not notice.
func (l *load) paced(ctx context.Context, reviews int, interval time.Duration) ([]time.Duration, error) {
	due := make(chan time.Time, reviews)
	took := make([][]time.Duration, len(l.connections))
	pacer := len(l.connections)
	err := together(ctx, len(l.connections)+1, func(ctx context.Context, i int) error {
		if i == pacer {
			pace(ctx, due, reviews, interval)
			return nil
		}
		for at := range due {
			if err := l.one(ctx, l.connections[i]); err != nil {
				return err
			}
			took[i] = append(took[i], time.Since(at))
		}
		return nil
	})
	return slices.Concat(took...), err
}

// pace says when each review is due, and closes the channel after the last or
// when ctx ends.
func pace(ctx context.Context, due chan<- time.Time, reviews int, interval time.Duration) {
	// Timers of the runtime may be late by a millisecond, more than what is
	// measured. The kernel's are not.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(due)
	begun := time.Now()
	for i := range reviews {
		at := begun.Add(time.Duration(i) * interval)
		for wait := time.Until(at); wait > 0; wait = time.Until(at) {
			rest := syscall.NsecToTimespec(int64(wait))
			// Signals end it early, so it is asked again.
			_ = syscall.Nanosleep(&rest, nil)
		}
		if ctx.Err() != nil {
			return
		}
		due <- at
	}
}

// slow are connections that send reviews slowly, meanwhile.
type slow struct {
	ending chan struct{}
	done   chan error
}

// slowly opens so many further connections, on each of which reviews are sent
// whose last bytes come one by one. It returns when each has begun one.
func (l *load) slowly(ctx context.Context, connections int) (*slow, error) {
	s := &slow{ending: make(chan struct{}), done: make(chan error, 1)}
	var begun sync.WaitGroup
	begun.Add(connections)
	go func() {
		s.done <- together(ctx, connections, func(ctx context.Context, i int) error {
			c := newReviewConnection(l.server, l.template)
			defer c.close()
			// All bytes at a time would be a load of another kind.
			apart := time.Duration(i) * slowInterval / time.Duration(connections)
			return l.drip(ctx, s, c, reviewedPods+i, apart, sync.OnceFunc(begun.Done))
		})
	}()
	begun.Wait()
	select {
	case err := <-s.done:
		return nil, fmt.Errorf("open %d slow connections: %w", connections, err)
	default:
		return s, nil
	}
}

// drip sends reviews of a pod after a while, until the slow ones end. It tells
// that the first has begun, or that there will be none.
func (l *load) drip(ctx context.Context, s *slow, c *reviewConnection, pod int, after time.Duration, begun func()) error {
	defer begun()
	select {
	case <-time.After(after):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ticker := time.NewTicker(slowInterval)
	defer ticker.Stop()
	for {
		if err := c.begin(ctx, pod, int(l.reviews.Add(1)), slowBytes); err != nil {
			return err
		}
		begun()
		ending := false
		for rest := c.request[len(c.request)-slowBytes:]; len(rest) > 0; {
			part := rest[:1]
			select {
			case <-ticker.C:
			case <-s.ending:
				ending, part = true, rest
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := c.write(part); err != nil {
				return err
			}
			rest = rest[len(part):]
		}
		if err := c.end(); err != nil {
			return err
		}
		if ending {
			return nil
		}
	}
}

// end has the slow reviews end at once. Each must have been answered.
func (s *slow) end() error {
	close(s.ending)
	return <-s.done
}

// together runs n goroutines and waits for them. The first error ends the
// others.
func together(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			if err := do(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	running.Wait()
	return context.Cause(ctx)
}
