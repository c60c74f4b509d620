package emitter

import (
	"context"
	"fmt"
	"sync"
	"time"

	"labelstream/record"
)

// sender has a share of the objects, each always the same, and sends their
// records one batch after the other. So a series never goes back in time.
type sender struct {
	*Emitter
	id       int
	size     queueSize
	interval time.Duration
	encoder  *encoder
	// pending is the memory of a delivery's.
	pending []part
	// batches are all there are; each is in free, open, in full, or being
	// sent. Both channels have room for all, so that writing never blocks.
	batches    []*batch
	free, full chan *batch
	closed     chan struct{}

	// mu guards what follows, and writing to full.
	mu   sync.Mutex
	open *batch
	// due fires when the open batch has waited for the interval, and now and
	// then without one.
	due *time.Timer
	// last is the time of the last record: the clock may be set back, a
	// series may not.
	last int64
}

func newSender(e *Emitter, id int, size queueSize, interval time.Duration) *sender {
	s := &sender{
		Emitter:  e,
		id:       id,
		size:     size,
		interval: interval,
		encoder:  newEncoder(size.bytes),
		free:     make(chan *batch, size.batches),
		full:     make(chan *batch, size.batches),
		closed:   make(chan struct{}),
		due:      time.NewTimer(interval),
	}
	for range size.batches {
		b := &batch{}
		s.batches = append(s.batches, b)
		s.free <- b
	}
	return s
}

// put adds the record to the open batch, waiting for a free one where needed.
// It waits without the lock, so that each of several waiters can leave.
func (s *sender) put(ctx context.Context, rec *record.Record) error {
	done, err := s.tryPut(rec)
	if done || err != nil {
		return err
	}
	s.blocked.enter()
	defer s.blocked.leave()
	for !done && err == nil {
		select {
		case b := <-s.free:
			s.offer(b)
		case <-s.closed:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("wait for room in the send queue: %w", context.Cause(ctx))
		}
		done, err = s.tryPut(rec)
	}
	return err
}

// tryPut returns false where there is no room.
func (s *sender) tryPut(rec *record.Record) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return false, ErrClosed
	}
	now := s.now()
	at := max(s.last, now.UnixMilli())
	size := recordSize(rec, at)
	if s.open != nil && !s.open.fits(size, s.size.records, s.limit.of(s.size.bytes, now)) {
		s.dispatch()
	}
	if s.open == nil {
		select {
		case s.open = <-s.free:
		default:
			return false, nil
		}
	}
	if len(s.open.items) == 0 {
		s.due.Reset(s.interval)
	}
	s.last = at
	s.open.add(rec, at, size, s.size)
	s.queued.Add(1)
	if len(s.open.items) == s.size.records {
		s.dispatch()
	}
	return true, nil
}

// offer makes b the open batch, unless there is one by now.
func (s *sender) offer(b *batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = b
		return
	}
	s.free <- b
}

func (s *sender) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// dispatch hands the open batch on, if there is one with records. The caller
// holds the lock.
func (s *sender) dispatch() {
	if s.open == nil || len(s.open.items) == 0 {
		return
	}
	s.full <- s.open
	s.open = nil
}

func (s *sender) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isClosed() {
		return
	}
	s.dispatch()
	close(s.closed)
	close(s.full)
}

// run sends until the sender is closed and empty. Once ctx has ended, which
// giving up does too, what is left is lost.
func (s *sender) run(ctx context.Context, giveUp context.CancelCauseFunc) {
	for b := s.next(ctx); b != nil; b = s.next(ctx) {
		s.deliver(ctx, b, giveUp)
		b.reset(s.size)
		s.free <- b
	}
}

// next waits for a batch to send; nil means that there will be none. The open
// batch is taken when it is due, which is noticed here and not before: while
// another batch is being sent it may as well fill.
func (s *sender) next(ctx context.Context) *batch {
	for {
		select {
		case b := <-s.full:
			return b
		case <-s.due.C:
			s.mu.Lock()
			s.dispatch()
			s.mu.Unlock()
		case <-ctx.Done():
			s.close()
			return <-s.full
		}
	}
}
