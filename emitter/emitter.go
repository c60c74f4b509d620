// SPDX-License-Identifier: Apache-2.0

// Package emitter delivers records to the destination by remote_write: a
// bounded queue, batches, their encoding, and the attempts until each batch is
// accepted or refused.
package emitter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"labelstream/config"
	"labelstream/record"
)

// ErrClosed is what Put returns once the emitter takes no more records.
var ErrClosed = errors.New("emitter is closed")

// maxIdle is how long records may wait without an attempt before the emitter
// counts as stuck: far longer than any interval, timeout or backoff.
const maxIdle = 30 * time.Minute

// Options are what an Emitter needs beside its settings.
type Options struct {
	// UserAgent is a header of each request, such as "labelstream/1.2.3".
	UserAgent string
	// Registerer takes the metrics. Nil means that nobody reads them.
	Registerer prometheus.Registerer
	// Logger is required.
	Logger logrus.FieldLogger
	// AllowSend is asked right before each request. Its error ends Run as the
	// end of ctx does, and nothing more is sent; it must not block. Nil means
	// that requests are always allowed.
	AllowSend func() error
	// ProbeInterval is how often one batch is tried while the destination
	// rejects the settings or refuses every record. Zero means a minute.
	ProbeInterval time.Duration
	// GiveUpAfter ends Run when the destination has done so for so long. Zero
	// means never.
	GiveUpAfter time.Duration
}

// Emitter queues records and sends them in batches. Its methods are safe for
// concurrent use.
type Emitter struct {
	senders  []*sender
	client   *client
	stats    *stats
	refusals *refusalLog
	// capacity is how many records the queues hold at most.
	capacity int
	// start is what the durations in queues and senders count from.
	start time.Time
}

// New makes an emitter that sends nothing until Run is called. The settings
// are taken as validated, and must not change. The error says which file or
// setting of authentication or TLS cannot be used.
func New(cfg *config.Delivery, opts Options) (*Emitter, error) {
	client, err := newClient(cfg, opts.UserAgent)
	if err != nil {
		return nil, err
	}
	if opts.AllowSend == nil {
		opts.AllowSend = func() error { return nil }
	}
	if opts.ProbeInterval == 0 {
		opts.ProbeInterval = time.Minute
	}
	opts.Logger = opts.Logger.WithField("destination", client.name)
	e := &Emitter{client: client, refusals: newRefusalLog(opts.Logger), start: time.Now()}
	size := sizeQueue(cfg)
	e.capacity = cfg.Senders * size.batches * size.records
	e.stats = newStats(opts.Registerer, e)
	for id := range cfg.Senders {
		e.senders = append(e.senders, newSender(e, id, cfg, opts))
	}
	return e, nil
}

// Put waits for room in the queue, then asks want (nil: always) and copies the record
// into the queue, in one step: no other record of the object comes in between. want
// must not block. sent is whether the record is in the queue. The error is ErrClosed,
// or wraps the cause of ctx. Records of one object are sent in the order of Put.
func (e *Emitter) Put(ctx context.Context, rec *record.Record, want func(*record.Record) bool) (sent bool, err error) {
	return e.senderOf(rec).queue.put(ctx, rec, want)
}

// TryPut is Put for callers that must not wait. room is false where the queue is
// full or closed; want is not asked then.
func (e *Emitter) TryPut(rec *record.Record, want func(*record.Record) bool) (sent, room bool) {
	sent, room, _ = e.senderOf(rec).queue.tryPut(rec, want)
	return sent, room
}

func (e *Emitter) senderOf(rec *record.Record) *sender {
	return e.senders[rec.Key%uint64(len(e.senders))]
}

// Close ends the input: from now on Put returns ErrClosed, and Run returns once
// what the queue holds is accepted or refused. It does not block.
func (e *Emitter) Close() {
	for _, s := range e.senders {
		s.queue.close()
	}
}

// Run sends until the emitter is closed and every record is accepted or refused, or
// until ctx ends, Options.AllowSend fails, or the destination has rejected the
// settings or refused every record for Options.GiveUpAfter. It then closes the
// emitter. The error says how many records are unsent, and wraps the cause. Run is
// called once.
func (e *Emitter) Run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	for _, s := range e.senders {
		wg.Go(func() {
			if err := s.run(ctx); err != nil {
				stop(err)
			}
		})
	}
	wg.Wait()
	e.client.close()
	if n := e.Unsent(); n > 0 {
		return fmt.Errorf("%d records unsent: %w", n, e.why(context.Cause(ctx)))
	}
	return nil
}

// why adds to the cause for which Run ended the failure that kept records from
// being sent before.
func (e *Emitter) why(cause error) error {
	for _, s := range e.senders {
		_, err := s.outage.Err()
		// Each sender has an error of its own for what stopped them all.
		if err != nil && !strings.Contains(cause.Error(), err.Error()) {
			return fmt.Errorf("%w; before that: %w", cause, err)
		}
	}
	return cause
}

// Totals are numbers of records.
type Totals struct{ Accepted, Refused int64 }

// Totals returns what became of the records, by the resource of their kind.
// Where a destination says only how many it left out of a batch of several kinds,
// Refused counts them under "", and each kind's Accepted includes its own.
func (e *Emitter) Totals() map[string]Totals { return e.stats.snapshot() }

// Unsent is the number of records that are neither accepted nor refused yet: they
// are in the queue or in flight.
func (e *Emitter) Unsent() int64 { return e.stats.unsent.Load() }

// Full tells whether anyone waits for room in the queue.
func (e *Emitter) Full() bool {
	for _, s := range e.senders {
		if s.queue.waiting.Load() > 0 {
			return true
		}
	}
	return false
}

// Alive returns an error where records wait, and nothing has been attempted for
// half an hour.
func (e *Emitter) Alive(now time.Time) error {
	for _, s := range e.senders {
		if idle := s.idle(now.Sub(e.start)); idle > maxIdle {
			return fmt.Errorf("records wait, and nothing has been attempted for %v", idle.Round(time.Second))
		}
	}
	return nil
}

// oldest is how long the oldest record without an outcome has waited, zero
// without any.
func (e *Emitter) oldest() time.Duration {
	oldest, now := time.Duration(0), time.Since(e.start)
	for _, s := range e.senders {
		oldest = max(oldest, s.queue.oldest(now))
	}
	return oldest
}

// sendersUsing counts the senders that use the version.
func (e *Emitter) sendersUsing(v version) int {
	n := 0
	for _, s := range e.senders {
		if version(s.protocol.inUse.Load()) == v {
			n++
		}
	}
	return n
}
