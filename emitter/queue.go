// SPDX-License-Identifier: Apache-2.0

package emitter

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"labelstream/config"
	"labelstream/record"
)

const (
	// queueBytes bounds what all batches together hold, those in flight
	// included.
	queueBytes = 8 << 20
	// batchBytes closes a batch.
	batchBytes = 1 << 20
	// maxBatches is per sender. One batch fills while another is sent; two
	// more bridge an answer that is late.
	maxBatches = 4
)

// queueSize is how much one sender may hold: so many batches of so many records
// and bytes. Bytes are encoded as 1.0, not compressed; as 2.0 they are fewer.
type queueSize struct{ batches, records, bytes int }

// sizeQueue divides queueBytes among the batches of all senders, of which each
// needs two at least. Only a record that is larger than a batch by itself exceeds
// its share, for as long as it takes to send it.
func sizeQueue(cfg *config.Delivery) queueSize {
	bytes := min(batchBytes, queueBytes/(2*cfg.Senders))
	return queueSize{batches: min(maxBatches, queueBytes/(cfg.Senders*bytes)), records: cfg.BatchSize, bytes: bytes}
}

// queue holds the records of one sender. Its mutex is the order of an object's
// records.
type queue struct {
	size     queueSize
	interval time.Duration
	// markers is whether staleness markers are sent.
	markers bool
	// age is the time since the emitter was made, by its clock.
	age    func() time.Duration
	unsent *atomic.Int64
	// batches are all there are; each is in free, open, in full, or being
	// sent. Both channels have room for all, so that writing never blocks.
	batches    []*batch
	free, full chan *batch
	closed     chan struct{}
	// room wakes one Put that waits; that one wakes the next.
	room    chan struct{}
	waiting atomic.Int32

	// mu guards what follows, taking from free, and writing to full.
	mu   sync.Mutex
	open *batch
	// due fires when the open batch has waited for the interval, and now and
	// then without one.
	due    *time.Timer
	isDone bool
}

func newQueue(cfg *config.Delivery, age func() time.Duration, unsent *atomic.Int64) *queue {
	size := sizeQueue(cfg)
	q := &queue{
		size:     size,
		interval: cfg.SendInterval,
		markers:  cfg.StaleMarkers,
		age:      age,
		unsent:   unsent,
		free:     make(chan *batch, size.batches),
		full:     make(chan *batch, size.batches),
		closed:   make(chan struct{}),
		room:     make(chan struct{}, 1),
		due:      time.NewTimer(cfg.SendInterval),
	}
	for range size.batches {
		b := &batch{}
		q.batches = append(q.batches, b)
		q.free <- b
	}
	return q
}

// put waits without the lock, so that each of several that wait can leave. Each
// that has waited wakes the next.
func (q *queue) put(ctx context.Context, rec *record.Record, want func(*record.Record) bool) (bool, error) {
	sent, room, err := q.tryPut(rec, want)
	if room || err != nil {
		return sent, err
	}
	defer q.wakeNext()
	for !room && err == nil {
		if err = q.wait(ctx); err == nil {
			sent, room, err = q.tryPut(rec, want)
		}
	}
	return sent, err
}

// wait returns once there may be room.
func (q *queue) wait(ctx context.Context) error {
	q.waiting.Add(1)
	defer q.waiting.Add(-1)
	select {
	case <-q.room:
		return nil
	case <-q.closed:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("wait for room in the send queue: %w", context.Cause(ctx))
	}
}

func (q *queue) wakeNext() {
	select {
	case q.room <- struct{}{}:
	default:
	}
}

func (q *queue) tryPut(rec *record.Record, want func(*record.Record) bool) (sent, room bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var e entry
	isFull := len(q.free) == 0
	if isFull {
		e = newEntry(rec, q.markers)
	}
	switch {
	case q.isDone:
		return false, false, ErrClosed
	case isFull && !q.fits(int(e.size)):
		return false, false, nil
	case want != nil && !want(rec):
		return false, true, nil
	}
	if !isFull {
		// Most records are not wanted, and need no entry.
		e = newEntry(rec, q.markers)
	}
	q.append(rec, e)
	return true, true, nil
}

// fits tells whether the open batch takes a record of so many encoded bytes. What
// is larger than a batch goes alone.
func (q *queue) fits(size int) bool {
	return q.open != nil && q.open.size+size <= q.size.bytes
}

// append adds the record, for which there is room.
func (q *queue) append(rec *record.Record, e entry) {
	if !q.fits(int(e.size)) {
		q.dispatch()
		q.open = <-q.free
		q.due.Reset(q.interval)
	}
	q.open.add(rec, e, q.age(), q.size.bytes)
	q.unsent.Add(1)
	if len(q.open.entries) == q.size.records {
		q.dispatch()
	}
}

// dispatch hands the open batch on, if there is one. The caller holds the lock.
func (q *queue) dispatch() {
	if q.open != nil {
		q.full <- q.open
		q.open = nil
	}
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.isDone {
		q.isDone = true
		q.dispatch()
		close(q.closed)
		close(q.full)
	}
}

// next waits for a batch to send; nil means that there will be none. The open
// batch is taken when it is due, which is noticed here and not before: while
// another batch is being sent it may as well fill.
func (q *queue) next(ctx context.Context) (*batch, error) {
	for {
		select {
		case b := <-q.full:
			return b, nil
		case <-q.due.C:
			q.mu.Lock()
			q.dispatch()
			q.mu.Unlock()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// release takes back a batch that was sent.
func (q *queue) release(b *batch) {
	b.reset(q.size.bytes)
	q.free <- b
	q.wakeNext()
}

// oldest is how long the oldest record in the queue or in flight has waited, zero
// without any.
func (q *queue) oldest(now time.Duration) time.Duration {
	var oldest time.Duration
	for _, b := range q.batches {
		if since := time.Duration(b.since.Load()); since > 0 {
			oldest = max(oldest, now-since+1)
		}
	}
	return oldest
}
